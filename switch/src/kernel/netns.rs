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
    ///
    /// # Errors
    /// ENOENT if there is no such file, EINVAL if it is no network namespace.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self::open_as(path, format!("namespace {}", name.to_string_lossy()))
    }

    /// The namespace of a process.
    ///
    /// # Errors
    /// ENOENT: it has ended. EACCES: it is somebody else's.
    pub fn of_process(pid: u32) -> Result<Self, KernelError> {
        Self::open_as(Path::new(&process_file(pid)), format!("the namespace of process {pid}"))
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
pub fn with_processes() -> BTreeMap<NetNsId, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let with_namespace = |pid| {
        let meta = fs::metadata(process_file(pid)).ok()?;
        let id = NetNsId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        Some((id, pid))
    };
    pids.filter_map(with_namespace).collect()
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

/// Binds the calling thread's network namespace to the file at `path`.
fn bind_thread_netns(path: &Path) -> nix::Result<()> {
    mount(Some(THREAD_NETNS), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

/// The named namespaces in a directory, the way `ip netns` keeps them in /run/netns.
#[derive(Clone, Debug)]
pub struct NamedNamespaces {
    dir: PathBuf,
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
        self.all().into_keys().collect()
    }

    /// All that can be opened, by name.
    pub fn all(&self) -> BTreeMap<String, NetNs> {
        let opened = self.names().into_iter();
        opened
            .filter_map(|name| Some((name.clone(), NetNs::open(&self.dir.join(name)).ok()?)))
            .collect()
    }

    /// What is in the directory.
    pub(super) fn names(&self) -> Vec<String> {
        // No directory is the same as an empty one; nothing was ever made.
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Where they are.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens a namespace; none if there is none of that name.
    ///
    /// # Errors
    /// The file is there but can't be opened or is no network namespace.
    pub fn open(&self, name: &NsName) -> Result<Option<NetNs>, KernelError> {
        match NetNs::open(&self.path(name)) {
            Ok(netns) => Ok(Some(netns)),
            Err(e) if e.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a namespace with its `lo` up, as `ip netns add` does.
    ///
    /// # Errors
    /// EEXIST if the name is taken, EPERM without CAP_SYS_ADMIN. Nothing is left behind.
    pub async fn create(&self, name: &NsName) -> Result<NetNs, KernelError> {
        let step = format!("create namespace {name}");
        let (dir, path) = (self.dir.clone(), self.path(name));
        let netns = on_new_thread(&step.clone(), move || {
            let failed = |what: &str, source: io::Error| KernelError::new(format!("{step}: {what}"), source);
            prepare_dir(&dir).map_err(|e| failed(&format!("prepare {}", dir.display()), e))?;
            create_file(&path, true).map_err(|e| failed(&format!("create {}", path.display()), e))?;
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| failed("unshare", e.into()))
                .and_then(|()| bind_thread_netns(&path).map_err(|e| failed("bind mount", e.into())))
                .and_then(|()| NetNs::open(&path))
                .inspect_err(|_| drop(remove(&path)))
        })
        .await?;
        if let Err(error) = netns.set_loopback_up().await {
            // The first error tells more than one of the clean-up.
            let _ = self.delete(name);
            return Err(error);
        }
        Ok(netns)
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
    match umount2(path, MntFlags::MNT_DETACH) {
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
/// EPERM without the right to make a network namespace.
pub async fn hold_own(path: &Path) -> Result<(NetNs, Option<String>), KernelError> {
    const LABEL: &str = "the switch's own namespace";
    let step = format!("create {LABEL}");
    let path = path.to_owned();
    let (netns, reason) = on_new_thread(&step.clone(), move || {
        if let Ok(netns) = NetNs::open_as(&path, LABEL.into()) {
            return Ok((netns, None));
        }
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| KernelError::new(step, e))?;
        let netns = NetNs::open_as(Path::new(THREAD_NETNS), LABEL.into())?;
        let held = create_file(&path, false).and_then(|_| Ok(bind_thread_netns(&path)?));
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
