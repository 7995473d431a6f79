//! Sockets that were passed to this process by whoever started it, as systemd does for a socket unit (sd_listen_fds(3)).

use std::io::{self, ErrorKind};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::sys::socket::{SockType, getsockopt, sockopt};

/// The unix socket that was passed under this number, and listens already. The descriptor of that number stays what it is: this is
/// another one of the same socket, which no program gets that this process starts.
///
/// # Errors
/// Nothing is there, or something else.
pub fn listener(number: RawFd) -> io::Result<UnixListener> {
    // SAFETY: with whatever number, nothing but the table of descriptors is touched, and that by an entry more.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(copy) };
    let listens = getsockopt(&socket, sockopt::AcceptConn)?;
    if getsockopt(&socket, sockopt::SockType)? != SockType::Stream || !listens {
        let cause = "it is no stream socket that listens";
        return Err(io::Error::new(ErrorKind::InvalidInput, cause));
    }
    let listener = UnixListener::from(socket);
    // It fails for sockets of other families.
    listener.local_addr()?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_listening_unix_socket_is_taken_over_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let first = UnixListener::bind(&path).unwrap();
        let second = listener(first.as_raw_fd()).unwrap();
        assert_eq!(second.local_addr().unwrap().as_pathname(), Some(&*path));
        drop(first);
        UnixStream::connect(&path).unwrap();
        second.accept().unwrap();

        let (pair, _other) = UnixStream::pair().unwrap();
        assert!(listener(pair.as_raw_fd()).is_err());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listener(tcp.as_raw_fd()).is_err());
        let file = std::fs::File::open(dir.path()).unwrap();
        assert!(listener(file.as_raw_fd()).is_err());
        assert!(listener(-1).is_err());
    }
}
