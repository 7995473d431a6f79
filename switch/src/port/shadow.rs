//! A veth port with the kernel fast path: what the kernel does not forward by itself comes to the daemon by a TAP device
//! of the port's own, beside the near end, and what the daemon writes to it goes out of the near end.

use super::Tap;
use crate::fastpath::FastPort;

/// The shadow TAP and the port's part of the fast path.
#[derive(Debug)]
pub struct Shadow {
    pub(super) tap: Tap,
    pub(super) fast: FastPort,
}

impl Shadow {
    /// Of the two, which belong together.
    pub fn new(tap: Tap, fast: FastPort) -> Self {
        Self { tap, fast }
    }
}

impl Drop for Shadow {
    /// The device goes with its queues, unless the daemon leaves it to the next one.
    fn drop(&mut self) {
        if !self.fast.is_frozen()
            && let Err(error) = self.tap.unpersist()
            // The device has gone before, with the near end.
            && error.raw_os_error() != Some(libc::EBADFD)
        {
            tracing::warn!("a shadow TAP stays behind: {error}");
        }
    }
}
