//! What stands for the program that chooses queues in a daemon that is built without it (feature `fastpath`).

use std::io;
use std::os::fd::BorrowedFd;

use super::error::KernelError;

/// Never made.
#[derive(Debug)]
pub enum Steering {}

impl Steering {
    /// # Errors
    /// Always.
    pub fn load(_: usize) -> Result<Self, KernelError> {
        Err(KernelError::new(
            "load the program that chooses queues",
            io::Error::other("feature `fastpath` is off"),
        ))
    }

    /// None: there is no such value.
    pub fn sender_core(&self, _: usize) -> Option<usize> {
        match *self {}
    }

    /// # Errors
    /// None: there is no such value.
    pub fn apply(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }
}
