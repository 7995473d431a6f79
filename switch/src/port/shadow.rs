//! A TAP device of the daemon's beside the interface that frames come from and go to, in the namespace of that interface: what arrives
//! at the interface is led out of the TAP device, and what the daemon writes to that goes out of the interface. The kernel makes of
//! each frame what the one to send it can do: it cuts up, finishes checksums and keeps the outermost tag beside the frame.
//!
//! With the kernel fast path its programs lead the frames, and forward most by themselves; without, filters of tc do.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Tap;
use crate::fastpath::FastPort;

/// The shadow TAP and, if it has it, the port's part of the fast path.
#[derive(Debug)]
pub struct Shadow {
    pub(super) tap: Tap,
    pub(super) fast: Option<FastPort>,
    /// Frames that the TAP device dropped: before the port came, and as far as is known.
    dropped: (u64, AtomicU64),
}

impl Shadow {
    /// Of those that belong together. `dropped`: frames that the TAP device has dropped so far.
    pub fn new(tap: Tap, fast: Option<FastPort>, dropped: u64) -> Self {
        Self {
            tap,
            fast,
            dropped: (dropped, AtomicU64::new(dropped)),
        }
    }

    /// How many frames the TAP device has dropped by now.
    pub fn note_dropped(&self, frames: u64) {
        self.dropped.1.store(frames, Ordering::Relaxed);
    }

    /// Frames for the daemon that the queue of the TAP device had no room for, as far as was noted.
    pub(super) fn overruns(&self) -> u64 {
        self.dropped.1.load(Ordering::Relaxed).saturating_sub(self.dropped.0)
    }
}

impl Drop for Shadow {
    /// The device goes with its queues, unless the daemon leaves it to the next one.
    fn drop(&mut self) {
        if !self.fast.as_ref().is_some_and(FastPort::is_frozen)
            && let Err(error) = self.tap.unpersist()
            // The device has gone before, with the near end.
            && error.raw_os_error() != Some(libc::EBADFD)
        {
            tracing::warn!("a shadow TAP stays behind: {error}");
        }
    }
}
