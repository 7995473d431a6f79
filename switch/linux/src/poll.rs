//! Descriptors on tokio's poller.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
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

/// Waits until a file is made, or moved, beside this one.
///
/// # Errors
/// There is no such directory, or the process is out of descriptors.
pub async fn made_beside(file: &Path) -> io::Result<()> {
    let dir = file.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let new = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_ONLYDIR;
    inotify.add_watch(dir, new)?;
    readable(inotify.into())?.readable().await.map(drop)
}
