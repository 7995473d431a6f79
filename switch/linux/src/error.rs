//! What failed, and why the kernel refused it.

use std::io;

use nix::errno::Errno;

/// A step that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct KernelError {
    /// What was tried, such as `create veth pair red in namespace red`.
    pub step: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl KernelError {
    /// What the kernel said to a step.
    pub fn new(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            step: step.into(),
            source: source.into(),
        }
    }

    /// The kernel's error number, if it came from the kernel.
    pub fn errno(&self) -> Option<Errno> {
        self.source.raw_os_error().map(Errno::from_raw)
    }

    /// The object is not there (any more): for a removal as good as done.
    ///
    /// ENODEV for a link, EADDRNOTAVAIL for an address, ESRCH for a route, ENOENT for the rest.
    pub fn is_gone(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::ENODEV | Errno::EADDRNOTAVAIL | Errno::ESRCH | Errno::ENOENT)
        )
    }

    /// The object is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }

    /// The object can't have it, such as an IPv6 address where IPv6 is disabled.
    pub fn is_unsupported(&self) -> bool {
        self.source.kind() == io::ErrorKind::Unsupported
    }

    /// A next hop is on no network that is reached (ENETUNREACH, EHOSTUNREACH; EINVAL of some kernels for IPv6).
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.errno(),
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL)
        )
    }
}
