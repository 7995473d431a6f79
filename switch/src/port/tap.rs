//! A TAP device, its queues held by the daemon: one queue a worker, so that no two share one.
//!
//! With io_uring as many frames as lately waited are read by one system call, and what goes out is written by one. A read that finds
//! nothing costs more than half a frame, so what a queue is expected to have falls at once and grows slowly.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::{read, write};

use vswitch_datapath::batch::{Batch, MAX_BATCH};
use vswitch_datapath::frame::{MAX_FRAME, VNET_HDR_LEN};
use vswitch_datapath::port::Sent;
use vswitch_linux::steer::Steering;
use vswitch_linux::tap;
use vswitch_linux::uring::{Ring, with_ring};

use super::{Calls, send_error};

const _: () = assert!(VNET_HDR_LEN == tap::VNET_HDR_LEN);

/// So many frames are worth a ring's own cost: measured, docs/decisions.md has the figures.
const READS: usize = 9;
const WRITES: usize = 4;

/// Frames that may wait for the daemon in each queue (`txqueuelen`): enough for a burst while the worker is late, as a packet socket has.
pub const QUEUE_FRAMES: u32 = 4096;

/// How the queues of all TAP devices are served.
#[derive(Clone, Debug)]
pub struct Service {
    /// How they are read and written.
    pub calls: Calls,
    /// What chooses the queue of a frame; none: the kernel does.
    pub steering: Option<Arc<Steering>>,
}

/// The queues of one TAP device.
#[derive(Debug)]
pub struct Tap {
    queues: Vec<Queue>,
    calls: Calls,
}

/// A queue and what its worker knows of it, on a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Queue {
    fd: OwnedFd,
    /// How many frames to ask for at once.
    expected: AtomicUsize,
}

impl Tap {
    /// Creates the TAP device `name` with `queues` queues in the network namespace of the calling thread, or takes
    /// over the one that an earlier daemon left there. A new one goes with its queues until [`Tap::persist`].
    /// The link is left down.
    ///
    /// # Errors
    /// See [`tap::open_queue`]. What was created is gone again.
    ///
    /// `kept`: queues of it that the daemon before has left open, with the frames that wait in them.
    pub fn open(name: &str, queues: usize, service: &Service, kept: Vec<OwnedFd>) -> io::Result<Self> {
        let mut kept = kept.into_iter();
        let open = |_| {
            let fd = match kept.next() {
                Some(fd) => {
                    tap::set_up(fd.as_fd())?;
                    fd
                }
                None => tap::open_queue(name)?,
            };
            let expected = AtomicUsize::new(0);
            Ok(Queue { fd, expected })
        };
        let queues = (0..queues.max(1)).map(open).collect::<io::Result<Vec<_>>>()?;
        let device = queues[0].fd.as_fd();
        match &service.steering {
            Some(steering) => steering.apply(device)?,
            // One that was taken over may have that of the daemon before.
            None => tap::set_steering(device, None)?,
        }
        Ok(Self {
            queues,
            calls: service.calls,
        })
    }

    /// Its queues once more: as long as one of them is open, the device has frames wait in it.
    ///
    /// # Errors
    /// Want of descriptors.
    pub fn keep(&self) -> io::Result<Vec<OwnedFd>> {
        self.queues.iter().map(|queue| queue.fd.try_clone()).collect()
    }

    /// Lets the device outlive its queues, until [`Tap::unpersist`]: when it can be told whose it is.
    pub fn persist(&self) -> io::Result<()> {
        tap::set_persistent(&self.queues[0].fd, true)
    }

    /// Where the device is by now: a file of its network namespace, and its name there.
    ///
    /// # Errors
    /// See [`tap::place`].
    pub fn place(&self) -> io::Result<(OwnedFd, String)> {
        tap::place(&self.queues[0].fd)
    }

    /// Lets the device go as soon as the queues are closed.
    pub fn unpersist(&self) -> io::Result<()> {
        tap::set_persistent(&self.queues[0].fd, false)
    }

    /// Shows the user of the device a carrier or none.
    pub fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        tap::set_carrier(&self.queues[0].fd, carrier)
    }

    pub(super) fn receive_fd(&self, worker: usize) -> Option<BorrowedFd<'_>> {
        self.queues.get(worker).map(|queue| queue.fd.as_fd())
    }

    pub(super) fn receive(&self, worker: usize, batch: &mut Batch) -> io::Result<()> {
        let queue = &self.queues[worker];
        if self.calls == Calls::Single {
            return queue.read_singly(batch);
        }
        let expected = queue.expected.load(Ordering::Relaxed);
        let all_there = if expected < READS {
            true
        } else {
            with_ring(|ring| ring.map_or(Ok(true), |ring| queue.read_together(ring, expected, batch)))?
        };
        if all_there {
            queue.read_singly(batch)?;
        }
        queue.learn(expected, batch);
        Ok(())
    }

    pub(super) fn send<'a>(
        &self,
        worker: usize,
        frames: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
        sent: &mut Sent,
    ) {
        let queue = &self.queues[worker % self.queues.len()];
        let mut rest = frames.clone();
        if self.calls == Calls::Batched && frames.len() >= WRITES {
            with_ring(|ring| {
                let Some(ring) = ring else { return };
                for result in ring.write(queue.fd.as_fd(), frames) {
                    if let Some(wire) = rest.next() {
                        sent.note(wire, result.map(drop).map_err(|error| send_error(&error.into())));
                    }
                }
            });
        }
        for wire in rest {
            let result = write(&queue.fd, wire).map(drop);
            sent.note(wire, result.map_err(|error| send_error(&error.into())));
        }
    }
}

impl Queue {
    /// Until there is nothing more, or no room.
    fn read_singly(&self, batch: &mut Batch) -> io::Result<()> {
        while batch.has_room() {
            match read(&self.fd, batch.tail()) {
                Ok(len) => batch.push(len),
                Err(error) => return nothing_more(error),
            }
        }
        Ok(())
    }

    /// So many by one system call; false: they were not all there.
    fn read_together(&self, ring: &mut Ring, count: usize, batch: &mut Batch) -> io::Result<bool> {
        let first = batch.free_slot();
        let count = count.min(MAX_BATCH - first);
        let place = |i| Batch::start_of(first + i);
        let results = ring.read(
            self.fd.as_fd(),
            batch.arena_mut(),
            VNET_HDR_LEN + MAX_FRAME,
            count,
            place,
        );
        let mut all_there = true;
        for (i, result) in results.enumerate() {
            match result {
                Ok(len) => batch.push_fixed(first + i, len, None),
                Err(error) => {
                    nothing_more(error)?;
                    all_there = false;
                }
            }
        }
        Ok(all_there)
    }

    fn learn(&self, expected: usize, batch: &Batch) {
        let next = expect(expected, batch.len(), batch.affordable());
        if next != expected {
            self.expected.store(next, Ordering::Relaxed);
        }
    }
}

/// How many frames to ask for after `came` came where `expected` were expected, of which so many would fit into the cache.
fn expect(expected: usize, came: usize, affordable: usize) -> usize {
    let grown = expected + came.saturating_sub(expected).div_ceil(4);
    grown.min(came).min(affordable)
}

/// EIO: the device is being taken down or away; the poller tells when it is gone.
fn nothing_more(error: nix::Error) -> io::Result<()> {
    match error {
        nix::Error::EAGAIN | nix::Error::EINTR | nix::Error::EIO => Ok(()),
        error => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_falls_at_once_and_grows_slowly() {
        assert_eq!(expect(0, 64, 64), 16);
        assert_eq!(expect(16, 64, 64), 28);
        assert_eq!(expect(63, 64, 64), 64);
        assert_eq!(expect(64, 3, 64), 3);
        assert_eq!(expect(3, 0, 64), 0);
        assert_eq!(expect(20, 20, 64), 20);
    }

    /// Reading many of them at once would push them out of the cache before they are sent.
    #[test]
    fn no_more_long_frames_are_expected_than_fit_into_the_cache() {
        assert_eq!(expect(64, 64, 3), 3);
    }
}
