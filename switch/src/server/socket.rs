//! The control socket as a file: made without a moment of wrong permissions, removed at a clean stop. One that systemd made for the daemon
//! (`vswitchd.socket`) is taken over and left to it: whoever connects while no daemon runs waits for the next. So it is with the daemon's own
//! while it restarts.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::iter;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as PassedListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;

use nix::sys::socket::sockopt::AcceptConn;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket};
use nix::unistd::{Gid, Group, chown, getegid, geteuid};
use tokio::net::{UnixListener, UnixStream as Accepted};
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::number::whole;
use vswitch_linux::inherit;

use super::roles::Gate;
use crate::config::Daemon;
use crate::handover;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Longest path of the socket: 108 bytes less the closing NUL and the end of the temporary name.
const MAX_PATH: usize = 103;

/// The listening control socket.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    /// Those of systemd's that are elsewhere: whoever connects there would wait for nobody.
    others: Vec<UnixListener>,
    /// Who may do what by it.
    pub(super) gate: Arc<Gate>,
    config: Daemon,
    path: PathBuf,
    /// Device and inode, to remove no file but the own one; none: it is systemd's.
    id: Option<(u64, u64)>,
}

/// A step of making the socket that the system refused.
fn failed(path: &Path, step: &str, errno: nix::Error) -> ApiError {
    let denied = matches!(errno, nix::Error::EACCES | nix::Error::EPERM);
    let code = if denied {
        ErrorCode::NotPermitted
    } else {
        ErrorCode::Internal
    };
    ApiError::new(code, object(path), format!("{step}: {}", errno.desc()))
}

fn io_failed(path: &Path, step: &str, error: &std::io::Error) -> ApiError {
    failed(path, step, nix::Error::from_raw(error.raw_os_error().unwrap_or(0)))
}

fn object(path: &Path) -> String {
    format!("control socket {}", path.display())
}

/// The group that the socket is for, and the one that may only read.
fn groups(config: &Daemon, path: &Path) -> Result<[Option<Gid>; 2], ApiError> {
    let find = |name| find_group(name).map_err(|cause| ApiError::new(ErrorCode::Invalid, object(path), cause));
    Ok([find(&config.socket_group)?, find(&config.read_group)?])
}

impl ControlSocket {
    /// Takes over the socket that systemd has passed for the configured path, or that this daemon has left itself ([`Self::leave`]) and is
    /// among what is `left`; without one, makes it. Has to be called inside the runtime.
    ///
    /// # Errors
    /// Those of [`ControlSocket::bind`].
    pub fn open(config: &Daemon, left: &mut Vec<OwnedFd>) -> Result<Self, ApiError> {
        let path = config.socket();
        let mut own = None;
        let mut others = Vec::new();
        let left = take_listener(left).and_then(|listener| {
            // Somebody may have removed its file meanwhile.
            let file = std::fs::symlink_metadata(&path).ok();
            let file = file.filter(|file| file.file_type().is_socket())?;
            Some((listener, (file.dev(), file.ino())))
        });
        for number in handover::sockets() {
            match inherit::listener(number) {
                Ok(listener) if is_at(&listener, &path) => own = Some(listener),
                Ok(listener) => {
                    tracing::warn!(
                        "systemd listens at {}, and the daemon is configured for {}: it serves both; to have one set ListenStream= in a \
                         drop-in of vswitchd.socket (systemctl edit vswitchd.socket), or disable that",
                        described(&listener),
                        path.display()
                    );
                    others.push(polled(listener).map_err(|error| io_failed(&path, "poll", &error))?);
                }
                Err(error) => {
                    tracing::warn!("what was passed to the daemon as descriptor {number} is of no use: {error}")
                }
            }
        }
        let mut socket = match (own, left) {
            (Some(listener), _) => Self::adopt(config, listener, None)?,
            (None, Some((listener, id))) => Self::adopt(config, listener, Some(id))?,
            (None, None) => Self::bind(config)?,
        };
        socket.others = others;
        Ok(socket)
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> std::io::Result<Accepted> {
        let accepted = poll_fn(|context| {
            let mut listeners = iter::once(&self.listener).chain(&self.others);
            let ready = listeners.find_map(|listener| match listener.poll_accept(context) {
                Poll::Ready(accepted) => Some(accepted),
                Poll::Pending => None,
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        accepted.await.map(|(stream, _)| stream)
    }

    /// Makes owner, group and mode of a socket that is there what they are to be, and serves it. `id`: its file, which is the daemon's own; none: it
    /// is systemd's.
    fn adopt(config: &Daemon, listener: PassedListener, id: Option<(u64, u64)>) -> Result<Self, ApiError> {
        let path = config.socket();
        let [group, readers] = groups(config, &path)?;
        let (uid, gid) = (geteuid(), group.unwrap_or_else(getegid));
        let file = std::fs::symlink_metadata(&path).map_err(|error| io_failed(&path, "read its inode", &error))?;
        let mode = config.socket_permissions();
        // First what takes rights away.
        let set_mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        let modes = [file.mode() & mode & 0o777, mode];
        set_mode(modes[0]).map_err(|error| io_failed(&path, "set its mode", &error))?;
        if (file.uid(), file.gid()) != (uid.as_raw(), gid.as_raw()) {
            chown(&path, Some(uid), Some(gid)).map_err(|error| failed(&path, "set its owner and group", error))?;
        }
        set_mode(modes[1]).map_err(|error| io_failed(&path, "set its mode", &error))?;
        Ok(Self {
            listener: polled(listener).map_err(|error| io_failed(&path, "poll", &error))?,
            others: Vec::new(),
            config: config.clone(),
            gate: Arc::new(Gate::new(gid.as_raw(), readers.map(Gid::as_raw), config.commands)),
            path,
            id,
        })
    }

    /// Leaves the socket open for the program that this process becomes: who connects meanwhile waits for that. None: it is systemd's, which
    /// does the same, or is not where clients look for it.
    pub fn leave(mut self) -> Option<OwnedFd> {
        if !self.is_own_file() {
            return None;
        }
        let left = self.listener.as_fd().try_clone_to_owned().ok()?;
        // The file stays with it.
        self.id = None;
        Some(left)
    }

    /// Whether its file is its own, and where clients look for it.
    fn is_own_file(&self) -> bool {
        std::fs::symlink_metadata(&self.path).is_ok_and(|file| Some((file.dev(), file.ino())) == self.id)
    }

    /// Makes the socket; one that a killed daemon left is replaced. Has to be called inside the runtime.
    ///
    /// # Errors
    /// `Conflict` if something else is there, `Invalid` for a path or group that can't be,
    /// `NotPermitted` or `Internal` if the system refuses a step.
    pub fn bind(config: &Daemon) -> Result<Self, ApiError> {
        let path = config.socket();
        let failed = |step: &str, errno| failed(&path, step, errno);
        let io_failed = |step: &str, error: std::io::Error| io_failed(&path, step, &error);

        check_free(&path).map_err(|cause| ApiError::new(ErrorCode::Conflict, object(&path), cause))?;
        let [gid, readers] = groups(config, &path)?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| io_failed("make its directory", error))?;
        }

        // Under a temporary name, so that a stale socket is replaced in one step, and not listening before owner and
        // permissions are right: until then connecting is refused, whatever the umask.
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let too_long = |cause| ApiError::new(ErrorCode::Invalid, object(&path), cause);
        check_path(&path).map_err(too_long)?;
        let address = UnixAddr::new(&temporary).map_err(|e| failed("open", e))?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(|e| failed("open", e))?;
        let _ = std::fs::remove_file(&temporary);
        bind(fd.as_raw_fd(), &address).map_err(|e| failed("bind", e))?;
        let publish = || {
            if gid.is_some() {
                chown(&temporary, None, gid).map_err(|e| failed("set its group", e))?;
            }
            let mode = std::fs::Permissions::from_mode(config.socket_permissions());
            std::fs::set_permissions(&temporary, mode).map_err(|e| io_failed("set its mode", e))?;
            listen(&fd, Backlog::new(BACKLOG).map_err(|e| failed("listen", e))?).map_err(|e| failed("listen", e))?;
            let file = std::fs::symlink_metadata(&temporary).map_err(|e| io_failed("read its inode", e))?;
            std::fs::rename(&temporary, &path).map_err(|e| io_failed("move it into place", e))?;
            Ok((file.dev(), file.ino(), file.gid()))
        };
        let (dev, ino, admins) = publish().inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })?;
        let listener = UnixListener::from_std(fd.into()).map_err(|e| io_failed("poll", e))?;
        Ok(Self {
            listener,
            others: Vec::new(),
            config: config.clone(),
            gate: Arc::new(Gate::new(admins, readers.map(Gid::as_raw), config.commands)),
            path,
            id: Some((dev, ino)),
        })
    }

    /// Removes the socket that a killed daemon left, if nobody listens on it.
    pub fn remove_left(config: &Daemon) {
        let path = config.socket();
        // To connect would have systemd start a daemon.
        if !listens(&path) && check_free(&path).is_ok() {
            let _ = std::fs::remove_file(&path);
        }
    }

    /// Makes the socket again if somebody removed it: else nobody could talk to the daemon any more. None if the path has something.
    ///
    /// # Errors
    /// Those of [`ControlSocket::bind`].
    pub fn put_back(&mut self) -> Option<Result<(), ApiError>> {
        let found = std::fs::symlink_metadata(&self.path);
        if !found.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return None;
        }
        Some(Self::bind(&self.config).map(|mut socket| {
            socket.others = std::mem::take(&mut self.others);
            *self = socket;
        }))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if self.is_own_file() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A socket that was passed, for this runtime.
fn polled(listener: PassedListener) -> std::io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// The socket among what was left, if there is one: the rest are queues.
fn take_listener(left: &mut Vec<OwnedFd>) -> Option<PassedListener> {
    let listens = |fd: &OwnedFd| getsockopt(fd, AcceptConn).unwrap_or(false);
    let at = left.iter().position(listens)?;
    Some(PassedListener::from(left.swap_remove(at)))
}

/// Whether a socket that was passed is the one at this path.
fn is_at(listener: &PassedListener, path: &Path) -> bool {
    let is_socket = || std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    listener
        .local_addr()
        .is_ok_and(|address| address.as_pathname() == Some(path))
        && is_socket()
}

/// Where a socket listens, in words.
fn described(listener: &PassedListener) -> String {
    let address = listener.local_addr().ok();
    let path = address.as_ref().and_then(|address| address.as_pathname());
    path.map_or_else(|| "another socket".to_owned(), |path| path.display().to_string())
}

/// Whether somebody listens at this path, as the kernel lists it (`/proc/net/unix`, `net/unix/af_unix.c`): number, references, protocol,
/// flags, type, state, inode and path. What it does not list is not known.
fn listens(path: &Path) -> bool {
    /// `__SO_ACCEPTCON`.
    const ACCEPTS: &str = "00010000";
    let Some(path) = path.to_str() else { return false };
    let sockets = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    sockets.lines().any(|line| {
        let words: Vec<_> = line.splitn(8, ' ').collect();
        words.get(3) == Some(&ACCEPTS) && line.ends_with(&format!(" {path}"))
    })
}

/// Whether a socket can have this path, as far as its length goes (unix(7)) and the temporary name has room.
///
/// # Errors
/// It is too long.
pub fn check_path(path: &Path) -> Result<(), String> {
    match path.as_os_str().len() {
        0..=MAX_PATH => Ok(()),
        length => Err(format!(
            "the path has {length} bytes, at most {MAX_PATH} are possible; choose a shorter one with --socket"
        )),
    }
}

/// Only a socket of which it is certain that nobody listens on it any more may be replaced.
fn check_free(path: &Path) -> Result<(), String> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("it can't be told what is there: {error}")),
        Ok(file) if !file.file_type().is_socket() => {
            return Err("something that is no socket is there; remove it, or choose another --socket".into());
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        // EAGAIN: so many wait already.
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(format!(
            "it can't be told whether another daemon listens on it: {error}"
        )),
        _ => Err(
            "another daemon listens on it, or systemd for one (vswitchd.socket); stop that, or choose another --socket"
                .into(),
        ),
    }
}

/// The group of this name or number; none for the daemon's own.
///
/// # Errors
/// There is none, or it can't be told.
pub fn find_group(name: &str) -> Result<Option<Gid>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Some(gid) = whole(name) {
        return Ok(Some(Gid::from_raw(gid)));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid)),
        Ok(None) => Err(format!(
            "there is no group {name:?}; make it with: groupadd --system {name}"
        )),
        Err(errno) => Err(format!("group {name:?} can't be looked up: {}", errno.desc())),
    }
}

#[cfg(test)]
mod tests;
