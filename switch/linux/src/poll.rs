//! Descriptors on tokio's poller.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Puts a descriptor on the poller of the current runtime, to be told when it is readable.
///
/// # Errors
/// The descriptor can't be polled.
pub fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the value owns its descriptor, which stays the same and open until the AsyncFd drops it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// The same, to be told when whoever is at the other end of a unix socket has closed it: a hang-up (EPOLLHUP) is told whatever one
/// waits for, and nothing on such a socket is urgent.
///
/// # Errors
/// The descriptor can't be polled.
pub fn hung_up(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: as in `readable`.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::PRIORITY) }?)
}
