//! Network namespaces: open handles, new ones, and the daemon's own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::thread;

use futures::future::try_join_all;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
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
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
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
    /// See [`NetNs::cookie`]; once it is known.
    cookie: OnceLock<Option<u64>>,
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

    /// Makes a namespace for each of these names, with its `lo` up. They have no files, so that each goes with its last user; the names
    /// are for messages.
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN. None is left then.
    pub async fn make(names: &[NsName]) -> Result<Vec<Self>, KernelError> {
        let making = on_all_processors(names).map(|names| {
            on_new_thread("create namespaces", move || {
                names.iter().map(Self::make_here).collect::<Result<Vec<_>, _>>()
            })
        });
        Ok(try_join_all(making).await?.concat())
    }

    /// Makes one, in which the calling thread is then.
    fn make_here(name: &NsName) -> Result<Self, KernelError> {
        let failed = |error: io::Error| KernelError::new(format!("create namespace {name}"), error);
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.into()))?;
        let netns = Self::open_as(Path::new(THREAD_NETNS), format!("namespace {name}"))?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
        set_loopback_up(&socket).map_err(failed)?;
        // Nobody has to enter it again to ask.
        let _ = netns.0.cookie.set(cookie_of(&socket).map_err(failed)?);
        Ok(netns)
    }

    /// Binds the namespace to a file, which then keeps it alive.
    pub(super) fn bind(&self, path: &Path) -> io::Result<()> {
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
        let cookie = OnceLock::new();
        Ok(Self(Arc::new(Inner {
            file,
            id,
            label,
            cookie,
        })))
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
    pub(super) fn mount_id(&self) -> io::Result<u64> {
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
        if let Some(cookie) = self.0.cookie.get() {
            return Ok(*cookie);
        }
        let read = || {
            setns(self, CloneFlags::CLONE_NEWNET)?;
            cookie_of(&UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)
        };
        // A thread can't reliably return to where it was.
        let cookie = thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, read)?;
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        });
        let cookie = cookie.map_err(|error| KernelError::new(format!("tell {self} from others"), error))?;
        Ok(*self.0.cookie.get_or_init(|| cookie))
    }

    /// Asks for the cookies of many namespaces on few threads, so that [`NetNs::cookie`] knows them. What can't be told here is asked
    /// for, and told, there.
    ///
    /// # Errors
    /// EAGAIN if no thread can be made.
    pub async fn learn_cookies(namespaces: &[Self]) -> Result<(), KernelError> {
        let asking = on_all_processors(namespaces).map(|namespaces| {
            on_new_thread("enter namespaces", move || {
                for netns in &namespaces {
                    let asked = || {
                        setns(netns, CloneFlags::CLONE_NEWNET)?;
                        cookie_of(&UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)
                    };
                    if netns.0.cookie.get().is_none()
                        && let Ok(cookie) = asked()
                    {
                        let _ = netns.0.cookie.set(cookie);
                    }
                }
                Ok(())
            })
        });
        try_join_all(asking).await.map(drop)
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

/// Shares things out among as many threads as there are processors.
fn on_all_processors<T: Clone>(things: &[T]) -> impl Iterator<Item = Vec<T>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    things.chunks(things.len().div_ceil(threads).max(1)).map(<[T]>::to_vec)
}

/// The cookie of the namespace of a socket; none if the kernel has none.
fn cookie_of(socket: &UdpSocket) -> io::Result<Option<u64>> {
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
}

/// Sets `lo` up in the namespace of a socket.
fn set_loopback_up(socket: &UdpSocket) -> io::Result<()> {
    let mut ifr_name = [0; libc::IFNAMSIZ];
    (ifr_name[0], ifr_name[1]) = (b'l' as libc::c_char, b'o' as libc::c_char);
    let request = libc::ifreq {
        ifr_name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: libc::IFF_UP as libc::c_short,
        },
    };
    // SAFETY: `request` is a valid ifreq that outlives the call; the kernel only reads it.
    unsafe { ioctl::set_flags(socket.as_raw_fd(), &request) }?;
    Ok(())
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
pub(super) async fn on_new_thread<T: Send + 'static>(
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

pub(super) fn create_file(path: &Path, must_be_new: bool) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .create_new(must_be_new)
        .mode(0o600)
        .open(path)
}
