//! Network namespaces: open handles, the named ones of `ip netns`, and the daemon's own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};
use tokio::sync::oneshot;
use vswitch_api::name::NsName;

use super::error::KernelError;
use super::presence::Presence;

/// asm-generic/socket.h, which all architectures follow that Rust's standard library knows but SPARC and PA-RISC.
const SO_NETNS_COOKIE: libc::c_int = 71;
/// The calling thread's own network namespace. (`/proc/self` would be that of the main thread.)
const THREAD_NETNS: &str = "/proc/thread-self/ns/net";

mod ioctl {
    // Type of the namespace behind an nsfs file, ioctl_ns(2).
    nix::ioctl_none!(ns_get_nstype, 0xb7, 0x3);
}

/// What tells one namespace from another while both exist: device and inode of its nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetNsId {
    /// Device number of nsfs.
    pub dev: u64,
    /// Inode number; the kernel may use it again once the namespace is gone.
    pub ino: u64,
}

/// An open handle to a network namespace, cheap to clone. It keeps the namespace alive.
#[derive(Clone)]
pub struct NetNs(Arc<Inner>);

struct Inner {
    file: File,
    id: NetNsId,
    /// How messages call it: `namespace red`.
    label: String,
}

impl NetNs {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn current() -> Result<Self, KernelError> {
        Self::open_as(Path::new(THREAD_NETNS), "the host's namespace".into())
    }

    /// Opens a namespace by the file that it is bound to.
    pub fn open(path: &Path) -> Presence<Self> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        let opened = Self::open_as(path, format!("namespace {}", name.to_string_lossy()));
        Presence::of(opened, is_no_namespace)
    }

    /// Makes a namespace with its `lo` up. It has no file, so that it goes with its last user; `name` is for messages.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN.
    pub async fn make(name: &NsName) -> Result<Self, KernelError> {
        let (step, label) = (format!("create namespace {name}"), format!("namespace {name}"));
        let netns = on_new_thread(&step.clone(), move || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| KernelError::new(step, error))?;
            Self::open_as(Path::new(THREAD_NETNS), label)
        })
        .await?;
        netns.set_loopback_up().await?;
        Ok(netns)
    }

    /// Binds the namespace to a file, which then keeps it alive.
    fn bind(&self, path: &Path) -> io::Result<()> {
        let open_file = format!("/proc/self/fd/{}", self.0.file.as_raw_fd());
        Ok(mount(
            Some(open_file.as_str()),
            path,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?)
    }

    /// The namespace of a process, unless it has ended.
    pub fn of_process(pid: u32) -> Presence<Self> {
        let opened = Self::open_as(Path::new(&process_file(pid)), format!("the namespace of process {pid}"));
        Presence::of(opened, is_no_namespace)
    }

    /// The namespace behind an open nsfs file.
    ///
    /// # Errors
    /// It can't be told from others.
    pub fn from_fd(file: OwnedFd, label: impl Into<String>) -> Result<Self, KernelError> {
        let label = label.into();
        Self::of_file(File::from(file), label.clone())
            .map_err(|source| KernelError::new(format!("look at {label}"), source))
    }

    fn of_file(file: File, label: String) -> io::Result<Self> {
        let meta = file.metadata()?;
        let id = NetNsId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        Ok(Self(Arc::new(Inner { file, id, label })))
    }

    fn open_as(path: &Path, label: String) -> Result<Self, KernelError> {
        let failed = |source: io::Error| KernelError::new(format!("open {label} at {}", path.display()), source);
        // Without O_NONBLOCK a FIFO of that name would block the daemon.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(failed)?;
        if !is_netns(&file).map_err(|e| failed(e.into()))? {
            return Err(KernelError::new(
                format!("open {label}: {} is no network namespace", path.display()),
                Errno::EINVAL,
            ));
        }
        Self::of_file(file, label.clone())
            .map_err(|source| KernelError::new(format!("open {label} at {}", path.display()), source))
    }

    /// Identity of the namespace.
    pub fn id(&self) -> NetNsId {
        self.0.id
    }

    /// By which mount it was opened (proc_pid_fdinfo(5)).
    ///
    /// # Errors
    /// It can't be told, for want of a descriptor, say.
    fn mount_id(&self) -> io::Result<u64> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.as_fd().as_raw_fd()))?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        let id = id.and_then(|id| id.trim().parse().ok());
        id.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// A number that no other namespace gets until the next boot (SO_NETNS_COOKIE, Linux 5.14); none if the kernel has none.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN over the namespace; EAGAIN if no thread can be made.
    pub fn cookie(&self) -> Result<Option<u64>, KernelError> {
        let read = || {
            setns(self, CloneFlags::CLONE_NEWNET)?;
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
            // SAFETY: the pointers are valid for the call, and `length` is the size of `cookie`.
            let result = unsafe {
                let value = ptr::from_mut(&mut cookie).cast();
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    SO_NETNS_COOKIE,
                    value,
                    &mut length,
                )
            };
            match Errno::result(result) {
                Ok(_) => Ok(Some(cookie)),
                Err(Errno::ENOPROTOOPT) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        // A thread can't reliably return to where it was.
        let cookie = thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, read)?;
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        });
        cookie.map_err(|error| KernelError::new(format!("tell {self} from others"), error))
    }

    /// Runs `f` on a thread of its own that has entered the namespace.
    ///
    /// A thread can't reliably return to where it was, so it is a new one each time, never one of tokio's.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN over the namespace; EAGAIN if no thread can be made.
    pub async fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Result<T, KernelError> {
        let netns = self.clone();
        let step = format!("enter {self}");
        on_new_thread(&step.clone(), move || {
            setns(&netns, CloneFlags::CLONE_NEWNET).map_err(|e| KernelError::new(step, e))?;
            Ok(f())
        })
        .await
    }
}

fn process_file(pid: u32) -> String {
    format!("/proc/{pid}/ns/net")
}

/// The namespaces in which processes live, and for each one of these. Those of other users may be left out.
///
/// # Errors
/// The processes can't be listed.
pub fn with_processes() -> Result<BTreeMap<NetNsId, u32>, KernelError> {
    let entries = fs::read_dir("/proc")
        .map_err(|error| KernelError::new("list the processes", error))?
        .flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let with_namespace = |pid| {
        let meta = fs::metadata(process_file(pid)).ok()?;
        let id = NetNsId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        Some((id, pid))
    };
    Ok(pids.filter_map(with_namespace).collect())
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }
}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.label)
    }
}

impl fmt::Debug for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NetNs({}, {:?})", self.0.label, self.0.id)
    }
}

/// Runs `f` on a fresh thread and waits for it without blocking the runtime.
async fn on_new_thread<T: Send + 'static>(
    step: &str,
    f: impl FnOnce() -> Result<T, KernelError> + Send + 'static,
) -> Result<T, KernelError> {
    let (send, receive) = oneshot::channel();
    thread::Builder::new()
        .name("netns".into())
        .spawn(move || {
            // The receiver is gone when the caller was cancelled: nobody wants the result then.
            let _ = send.send(f());
        })
        .map_err(|e| KernelError::new(step, e))?;
    receive
        .await
        .unwrap_or_else(|_| Err(KernelError::new(step, io::Error::other("the thread panicked"))))
}

fn is_netns(file: &File) -> nix::Result<bool> {
    // The ioctl's number may mean something else to another kind of file, so the file system comes first.
    if fstatfs(file)?.filesystem_type() != NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours; the descriptor is open.
    let kind = unsafe { ioctl::ns_get_nstype(file.as_raw_fd()) }?;
    Ok(kind == libc::CLONE_NEWNET)
}

/// Whether an error of opening a namespace says that there is none. Others say nothing of it.
///
/// EINVAL: the file is none; ENXIO: nor can it be, it is a socket; ESRCH: its process has ended.
pub(super) fn is_no_namespace(error: &KernelError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ENXIO | Errno::EINVAL | Errno::ESRCH)
    )
}

/// The named namespaces in a directory, the way `ip netns` keeps them in /run/netns.
#[derive(Clone, Debug)]
pub struct NamedNamespaces {
    dir: PathBuf,
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
        Self { dir: dir.into() }
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

    /// Gives a namespace a name, as `ip netns add` does.
    ///
    /// # Errors
    /// EEXIST if the name is taken, EPERM without CAP_SYS_ADMIN. Nothing is left behind.
    pub async fn add(&self, name: &NsName, netns: &NetNs) -> Result<(), KernelError> {
        let step = format!("create namespace {name}");
        let (dir, path, netns) = (self.dir.clone(), self.path(name), netns.clone());
        // It waits for the lock of the directory.
        on_new_thread(&step.clone(), move || {
            let failed = |what: &str, source: io::Error| KernelError::new(format!("{step}: {what}"), source);
            prepare_dir(&dir).map_err(|e| failed(&format!("prepare {}", dir.display()), e))?;
            create_file(&path, true).map_err(|e| failed(&format!("create {}", path.display()), e))?;
            netns
                .bind(&path)
                .map_err(|e| failed("bind mount", e))
                .inspect_err(|_| drop(remove(&path)))
        })
        .await
    }

    /// Makes a name free that was given to nothing yet, or no more: a file that is empty and no mount point.
    ///
    /// # Errors
    /// EBUSY: something is mounted there. What is no empty file is left alone, which is no error.
    pub fn remove_unbound(&self, name: &NsName) -> Result<(), KernelError> {
        let path = self.path(name);
        if !fs::symlink_metadata(&path).is_ok_and(|file| file.is_file() && file.len() == 0) {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|e| KernelError::new(format!("remove the empty file {}", path.display()), e))
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

fn create_file(path: &Path, must_be_new: bool) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .create_new(must_be_new)
        .mode(0o600)
        .open(path)
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

/// The daemon's own namespace: adopts the one bound to `path`, else makes one and binds it there.
///
/// The near ends of veth ports live in it, out of reach of the host's firewall and of its network
/// managers. IPv6 is off in it. The second value says why the namespace is not held by a bind mount
/// (it then ends with the daemon), none if it is.
///
/// # Errors
/// EPERM without the right to make a network namespace. The one bound there can't be opened: another in its place would part the
/// daemon from what the kernel carries.
pub async fn hold_own(path: &Path) -> Result<(NetNs, Option<String>), KernelError> {
    const LABEL: &str = "the switch's own namespace";
    let step = format!("create {LABEL}");
    let path = path.to_owned();
    let (netns, reason) = on_new_thread(&step.clone(), move || {
        let bound = Presence::of(NetNs::open_as(&path, LABEL.into()), is_no_namespace);
        if let Some(netns) = bound.known()? {
            return Ok((netns, None));
        }
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| KernelError::new(step, e))?;
        let netns = NetNs::open_as(Path::new(THREAD_NETNS), LABEL.into())?;
        let held = hold(&netns, &path);
        Ok((
            netns,
            held.err()
                .map(|e| format!("{LABEL} can't be bound to {}: {e}", path.display())),
        ))
    })
    .await?;
    // Only keeps the kernel from making addresses and solicitations on the near ends, which the
    // switch would have to swallow: no reason to fail.
    for scope in ["all", "default"] {
        let file = format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6");
        if let Err(error) = netns.run(move || fs::write(file, "1")).await? {
            tracing::debug!(%error, scope, "IPv6 stays on in the switch's own namespace");
        }
    }
    Ok((netns, reason))
}

/// Binds the daemon's own namespace to `path`, so that it outlives the daemon.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN; the file can't be made.
pub fn hold(netns: &NetNs, path: &Path) -> io::Result<()> {
    create_file(path, false)?;
    netns.bind(path)
}
