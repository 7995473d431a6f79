//! The control socket as a file: made without a moment of wrong permissions, removed at a clean stop.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::unistd::{Gid, Group, chown};
use tokio::net::UnixListener;
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_api::number::whole;

use super::roles::Gate;
use crate::config::Daemon;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;
/// Longest path of the socket: 108 bytes less the closing NUL and the end of the temporary name.
const MAX_PATH: usize = 103;

/// The listening control socket.
#[derive(Debug)]
pub struct ControlSocket {
    pub(super) listener: UnixListener,
    /// Who may do what by it.
    pub(super) gate: Arc<Gate>,
    config: Daemon,
    path: PathBuf,
    /// Device and inode, to remove no file but the own one.
    id: (u64, u64),
}

impl ControlSocket {
    /// Makes the socket; one that a killed daemon left is replaced. Has to be called inside the runtime.
    ///
    /// # Errors
    /// `Conflict` if something else is there, `Invalid` for a path or group that can't be,
    /// `NotPermitted` or `Internal` if the system refuses a step.
    pub fn bind(config: &Daemon) -> Result<Self, ApiError> {
        let path = config.socket();
        let object = || format!("control socket {}", path.display());
        let failed = |step: &str, errno: nix::Error| {
            let denied = matches!(errno, nix::Error::EACCES | nix::Error::EPERM);
            let code = if denied {
                ErrorCode::NotPermitted
            } else {
                ErrorCode::Internal
            };
            ApiError::new(code, object(), format!("{step}: {}", errno.desc()))
        };
        let io_failed =
            |step: &str, error: std::io::Error| failed(step, nix::Error::from_raw(error.raw_os_error().unwrap_or(0)));

        check_free(&path).map_err(|cause| ApiError::new(ErrorCode::Conflict, object(), cause))?;
        let gid =
            find_group(&config.socket_group).map_err(|cause| ApiError::new(ErrorCode::Invalid, object(), cause))?;
        let readers =
            find_group(&config.read_group).map_err(|cause| ApiError::new(ErrorCode::Invalid, object(), cause))?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| io_failed("make its directory", error))?;
        }

        // Under a temporary name, so that a stale socket is replaced in one step, and not listening before owner and
        // permissions are right: until then connecting is refused, whatever the umask.
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let too_long = |cause| ApiError::new(ErrorCode::Invalid, object(), cause);
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
            config: config.clone(),
            gate: Arc::new(Gate::new(admins, readers.map(Gid::as_raw), config.commands)),
            path,
            id: (dev, ino),
        })
    }

    /// Removes the socket that a killed daemon left, if nobody listens on it.
    pub fn remove_left(config: &Daemon) {
        let path = config.socket();
        if check_free(&path).is_ok() {
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
        Some(Self::bind(&self.config).map(|socket| *self = socket))
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.id) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
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
        _ => Err("another daemon listens on it; stop that one, or choose another --socket".into()),
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
mod tests {
    use super::*;
    use crate::config::Mode;

    fn config(dir: &Path) -> Daemon {
        Daemon {
            run_dir: dir.to_owned(),
            ..Daemon::default()
        }
    }

    #[tokio::test]
    async fn the_socket_has_the_mode_asked_for_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        for mode in [0o660, 0o600, 0o666] {
            let socket = ControlSocket::bind(&Daemon {
                socket_mode: Mode(mode),
                ..config(dir.path())
            })
            .unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, mode);
            UnixStream::connect(&path).unwrap();
            drop(socket);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let socket = ControlSocket::bind(&config(dir.path())).unwrap();
        let error = ControlSocket::bind(&config(dir.path())).unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(error.cause.starts_with("another daemon listens"), "{error}");
        UnixStream::connect(&path).unwrap();
        // Whoever took the name meanwhile keeps it.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_socket_that_somebody_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let mut socket = ControlSocket::bind(&config(&dir.path().join("run"))).unwrap();
        assert!(socket.put_back().is_none());
        std::fs::remove_dir_all(dir.path().join("run")).unwrap();
        socket.put_back().unwrap().unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(
            ControlSocket::bind(&config(dir.path())).unwrap_err().code,
            ErrorCode::Conflict
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn what_can_not_be_is_an_error_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let group = Daemon {
            socket_group: "no-such-group".into(),
            ..config(dir.path())
        };
        assert!(ControlSocket::bind(&group).unwrap_err().cause.contains("groupadd"));
        let long = Daemon {
            socket: Some(dir.path().join("x".repeat(100))),
            ..config(dir.path())
        };
        assert!(ControlSocket::bind(&long).unwrap_err().cause.contains("at most 103"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
