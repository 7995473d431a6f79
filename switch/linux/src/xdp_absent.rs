//! What stands for the XDP programs in a daemon that is built without them (feature `fastpath`).

use std::io;
use std::os::fd::BorrowedFd;

use super::error::KernelError;

/// See `xdp.rs`.
pub const MAX_QUEUES: u32 = 32;

/// See `xdp.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// In the frame.
    Inside,
    /// Beside it.
    Beside,
}

/// Never made.
#[derive(Debug)]
pub enum XdpLink {}

impl XdpLink {
    /// # Errors
    /// Always.
    pub fn attach<'a>(_: u32, _: Tags, _: impl Iterator<Item = BorrowedFd<'a>>) -> Result<Self, KernelError> {
        Err(KernelError::new(
            "this daemon was built without the XDP programs",
            io::Error::other("feature `fastpath` is off"),
        ))
    }

    /// # Errors
    /// None: there is no such value.
    pub fn add(&self, _: u32, _: BorrowedFd<'_>) -> Result<(), KernelError> {
        match *self {}
    }
}
