//! The named namespaces of `ip netns`.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use vswitch_api::name::NsName;

use super::error::KernelError;
use super::netns::{NetNs, create_file, on_new_thread};
use super::presence::Presence;

/// Names that are removed at the same time: most of what one takes is a wait.
const DELETED_AT_ONCE: usize = 8;

/// The named namespaces in a directory, the way `ip netns` keeps them in /run/netns.
#[derive(Clone, Debug)]
pub struct NamedNamespaces {
    dir: PathBuf,
    /// The one file in it that counts; none: all.
    only: Option<String>,
}

/// The named namespaces, as far as they could be opened.
#[derive(Debug, Default)]
pub struct Found {
    /// By name.
    pub netns: BTreeMap<String, NetNs>,
    /// Why there may be others.
    pub unsure: Option<KernelError>,
}

impl Default for NamedNamespaces {
    /// Where `ip netns` keeps them.
    fn default() -> Self {
        Self::new("/run/netns")
    }
}

impl NamedNamespaces {
    /// The namespaces whose files are in `dir`; it is made when it is needed.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            only: None,
        }
    }

    /// The namespace of one file alone, to watch it.
    ///
    /// # Errors
    /// The path is no file's.
    pub fn of_file(path: &Path) -> Result<Self, KernelError> {
        let name = path.file_name().and_then(|name| name.to_str());
        match (path.parent(), name) {
            (Some(dir), Some(name)) => Ok(Self {
                dir: dir.to_owned(),
                only: Some(name.to_owned()),
            }),
            _ => Err(KernelError::new(format!("watch {}", path.display()), Errno::EINVAL)),
        }
    }

    /// File of a namespace.
    pub fn path(&self, name: &NsName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    /// Names that can be opened, sorted. Files that are no namespaces (any more) are left out.
    pub fn list(&self) -> Vec<String> {
        self.all().netns.into_keys().collect()
    }

    /// All that can be opened, by name.
    pub fn all(&self) -> Found {
        let mut found = Found::default();
        let names = self.names().unwrap_or_else(|error| {
            found.unsure = Some(error);
            Vec::new()
        });
        for name in names {
            match NetNs::open(&self.dir.join(&name)) {
                Presence::Here(netns) => drop(found.netns.insert(name, netns)),
                Presence::Gone => {}
                Presence::Unknown(error) => found.unsure = Some(error),
            }
        }
        found
    }

    /// What is in the directory.
    ///
    /// # Errors
    /// It can't be told.
    pub(super) fn names(&self) -> Result<Vec<String>, KernelError> {
        if let Some(only) = &self.only {
            // Whether it is there is seen when it is opened.
            return Ok(vec![only.clone()]);
        }
        let failed = |error: io::Error| KernelError::new(format!("list {}", self.dir.display()), error);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            // The same as an empty one; nothing was ever made.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }

    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens a namespace. A file that is no network namespace is none.
    pub fn open(&self, name: &NsName) -> Presence<NetNs> {
        NetNs::open(&self.path(name))
    }

    /// Gives namespaces names, as `ip netns add` does, all or none.
    ///
    /// # Errors
    /// EEXIST if a name is taken, EPERM without CAP_SYS_ADMIN. Nothing is left behind.
    pub async fn add(&self, namespaces: Vec<(NsName, NetNs)>) -> Result<(), KernelError> {
        let names = self.clone();
        // It waits for the lock of the directory.
        on_new_thread("name namespaces", move || {
            prepare_dir(&names.dir).map_err(|e| KernelError::new(format!("prepare {}", names.dir.display()), e))?;
            for (index, (name, netns)) in namespaces.iter().enumerate() {
                names.bind(name, netns).inspect_err(|_| {
                    let before = namespaces[..index].iter();
                    before.for_each(|(name, _)| drop(remove(&names.path(name))));
                })?;
            }
            Ok(())
        })
        .await
    }

    fn bind(&self, name: &NsName, netns: &NetNs) -> Result<(), KernelError> {
        let path = self.path(name);
        let failed = |what: String, source| KernelError::new(format!("create namespace {name}: {what}"), source);
        create_file(&path, true).map_err(|e| failed(format!("create {}", path.display()), e))?;
        let bound = netns.bind(&path).map_err(|e| failed("bind mount".to_owned(), e));
        bound.inspect_err(|_| drop(remove(&path)))
    }

    /// Makes a name free that was given to nothing yet, or no more: a file that is empty and no mount point. All else is left alone, which
    /// is no error: what was mounted there meanwhile, too.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn remove_unbound(&self, name: &NsName) -> Result<(), KernelError> {
        let path = self.path(name);
        if !fs::symlink_metadata(&path).is_ok_and(|file| file.is_file() && file.len() == 0) {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound) => Ok(()),
            removed => removed.map_err(|e| KernelError::new(format!("remove the empty file {}", path.display()), e)),
        }
    }

    /// Removes a name from this very namespace, which was opened by it; the namespace itself goes with its last user. Fine if it is
    /// already gone. A namespace that has the name by now keeps it.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN.
    pub fn delete_this(&self, name: &NsName, netns: &NetNs) -> Result<(), KernelError> {
        let failed = |error: io::Error| KernelError::new(format!("delete namespace {name}"), error);
        // The descriptor leads to the mount that it was opened by, whatever has the name since; but a mount on top would be
        // unmounted in its place.
        let Some(top) = NetNs::open(&self.path(name)).known()? else {
            return Ok(());
        };
        if top.mount_id().map_err(failed)? != netns.mount_id().map_err(failed)? {
            return Ok(());
        }
        let mount = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
        match umount2(mount.as_str(), MntFlags::MNT_DETACH) {
            Ok(()) => {}
            // It was unmounted before, by somebody who may have made another since.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(failed(error.into())),
        }
        match fs::remove_file(self.path(name)) {
            // Something is mounted there: another namespace.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(failed),
        }
    }

    /// [`NamedNamespaces::delete_this`] for many: for each unmount the kernel waits until nobody looks a path up any more, which is one
    /// wait for those that are unmounted at the same time. What became of each, in their order.
    pub async fn delete_many(&self, namespaces: &[(NsName, NetNs)]) -> Vec<Result<(), KernelError>> {
        let mut deleting = Vec::new();
        for some in namespaces.chunks(namespaces.len().div_ceil(DELETED_AT_ONCE).max(1)) {
            deleting.push(self.clone().delete_in_turn(some.to_vec()));
        }
        join_all(deleting).await.into_iter().flatten().collect()
    }

    async fn delete_in_turn(self, namespaces: Vec<(NsName, NetNs)>) -> Vec<Result<(), KernelError>> {
        let names: Vec<_> = namespaces.iter().map(|(name, _)| name.clone()).collect();
        let deleted = on_new_thread("delete namespaces", move || {
            let deleted = namespaces.iter().map(|(name, netns)| self.delete_this(name, netns));
            Ok(deleted.collect::<Vec<_>>())
        });
        deleted.await.unwrap_or_else(|error| {
            let failed =
                |name| KernelError::new(format!("delete namespace {name}"), io::Error::other(error.to_string()));
            names.into_iter().map(|name| Err(failed(name))).collect()
        })
    }

    /// Removes a name; the namespace itself goes with its last user. Fine if it is already gone.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN, EBUSY if something else is mounted there.
    pub fn delete(&self, name: &NsName) -> Result<(), KernelError> {
        remove(&self.path(name)).map_err(|e| KernelError::new(format!("delete namespace {name}"), e))
    }
}

/// Makes the directory a shared mount point, so that namespaces added here are seen in other mount
/// namespaces and can be removed from them.
fn prepare_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    // `ip netns add` takes the same lock; two at once would stack two mounts.
    let _lock = Flock::lock(File::open(dir)?, FlockArg::LockExclusive).map_err(|(_, e)| e)?;
    let make_shared = || {
        mount(
            None::<&str>,
            dir,
            None::<&str>,
            MsFlags::MS_SHARED | MsFlags::MS_REC,
            None::<&str>,
        )
    };
    match make_shared() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(
                Some(dir),
                dir,
                None::<&str>,
                MsFlags::MS_BIND | MsFlags::MS_REC,
                None::<&str>,
            )?;
            make_shared()?;
        }
        result => result?,
    }
    Ok(())
}

/// Unmounts and unlinks; what is not there is not missed.
fn remove(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
