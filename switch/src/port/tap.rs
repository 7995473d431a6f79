//! A TAP device, its queues held by the daemon: one queue a worker, so that no two share one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::unistd::{read, write};

use vswitch_datapath::batch::Batch;
use vswitch_datapath::frame::VNET_HDR_LEN;
use vswitch_datapath::port::{Frames, Sent};
use vswitch_linux::tap;

use super::send_error;

const _: () = assert!(VNET_HDR_LEN == tap::VNET_HDR_LEN);

/// The queues of one TAP device.
#[derive(Debug)]
pub struct Tap {
    queues: Vec<OwnedFd>,
}

impl Tap {
    /// Creates the TAP device `name` with `queues` queues in the network namespace of the calling thread, or takes
    /// over the one that an earlier daemon left there. A new one goes with its queues until [`Tap::persist`].
    /// The link is left down.
    ///
    /// # Errors
    /// See [`tap::open_queue`]. What was created is gone again.
    pub fn open(name: &str, queues: usize) -> io::Result<Self> {
        let queues = (0..queues.max(1))
            .map(|_| tap::open_queue(name))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { queues })
    }

    /// Lets the device outlive its queues, until [`Tap::unpersist`]: when it can be told whose it is.
    pub fn persist(&self) -> io::Result<()> {
        tap::set_persistent(&self.queues[0], true)
    }

    /// Where the device is by now: a file of its network namespace, and its name there.
    ///
    /// # Errors
    /// See [`tap::place`].
    pub fn place(&self) -> io::Result<(OwnedFd, String)> {
        tap::place(&self.queues[0])
    }

    /// Lets the device go as soon as the queues are closed.
    pub fn unpersist(&self) -> io::Result<()> {
        tap::set_persistent(&self.queues[0], false)
    }

    /// Shows the user of the device a carrier or none.
    pub fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        tap::set_carrier(&self.queues[0], carrier)
    }

    pub(super) fn receive_fd(&self, worker: usize) -> Option<BorrowedFd<'_>> {
        self.queues.get(worker).map(AsFd::as_fd)
    }

    pub(super) fn receive(&self, worker: usize, batch: &mut Batch) -> io::Result<()> {
        let queue = &self.queues[worker];
        while batch.has_room() {
            match read(queue, batch.tail()) {
                Ok(len) => batch.push(len),
                // EIO: the device is being taken down or away; the poller tells when it is gone.
                Err(nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::EIO) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(super) fn send(&self, worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        // The kernel sends a flow back through the queue that it last came by: to the same worker.
        let queue = &self.queues[worker % self.queues.len()];
        for wire in frames.iter() {
            let result = write(queue, wire).map(drop);
            sent.note(wire, result.map_err(|error| send_error(&error.into())));
        }
    }
}
