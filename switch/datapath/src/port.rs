//! What a port is to the datapath: something that frames come from in batches and go to in lists.
//!
//! All carry the virtio-net header in front of each frame, so that TCP crosses as GSO frames of up to 64 KiB with a
//! partial checksum and is cut into wire-sized frames only where a port can't take it as it is.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;

use super::counters::DropReason;
use super::offload::Offload;
use crate::batch::Batch;
use crate::frame::VNET_HDR_LEN;

/// The back end of a port. It is called once for a batch or a list, not once for a frame.
///
/// A worker calls it while other ports wait, and so does control: no method may block, least of all for another thread that uses the
/// datapath. Nor may one change the datapath that it is called by, or wait for it (that panics); a frame may be given to a
/// [`crate::memory::MemoryStation`] and is taken later.
///
/// If it panics in [`PortIo::receive`] or [`PortIo::send`] the frames of that turn are lost and the port has failed
/// ([`crate::DatapathEvent::PortFailed`]): the worker receives no more from it, and the others go on. It is still sent to until it is removed. Of a
/// datapath that is turned by hand the panic comes out of [`crate::Datapath::turn`] as well.
pub trait PortIo: Any + Send + Sync + Debug {
    /// The descriptors that become readable when frames wait for worker `worker` of `workers`; none if others receive.
    /// `port`: the index of the port, by which ports that have one descriptor can be dealt out. They are the same whenever it is asked, and
    /// no other port's.
    fn receive_fds(&self, worker: usize, workers: usize, port: usize) -> Vec<BorrowedFd<'_>>;

    /// Takes the frames that wait for a worker, up to a batch; `batch` is empty. It is called again and again as long as the descriptor
    /// is readable: at the end of a stream, say, that is an error, or the worker never sleeps.
    ///
    /// # Errors
    /// The device is gone: the port has failed and is not asked again. Frames that it has put into `batch` go their way all the same. That nothing waits
    /// is no failure ([`io::ErrorKind::WouldBlock`], [`io::ErrorKind::Interrupted`]), nor is it if the device is down: it is `Ok` then.
    fn receive(&self, worker: usize, batch: &mut Batch) -> io::Result<()>;

    /// Sends all of `frames` in their order, and tells of each, once, what became of it. One of which it tells nothing counts as
    /// [`SendError::Rejected`].
    fn send(&self, worker: usize, frames: Frames<'_>, sent: &mut Sent);

    /// Whether it takes GSO frames and partial checksums.
    fn takes_offloads(&self) -> bool {
        true
    }

    /// What forwards frames of the port by itself, if anything does.
    fn offload(&self) -> Option<&dyn Offload> {
        None
    }

    /// Frames that were for the datapath and were dropped before it came to take them.
    fn overruns(&self) -> u64 {
        0
    }
}

/// Why a port did not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// Its queue is full.
    Full,
    /// The interface is down or gone.
    Down,
    /// It does not take the frame as it is.
    Rejected,
}

impl From<SendError> for DropReason {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Full => Self::QueueFull,
            SendError::Down => Self::LinkDown,
            SendError::Rejected => Self::Rejected,
        }
    }
}

/// Frames to be sent, each with its virtio-net header in front.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Frames<'a> {
    /// Those of a batch that are on a list.
    Of(&'a Batch, &'a [u8]),
    /// One.
    One(&'a [u8]),
}

impl<'a> Frames<'a> {
    /// All of a batch.
    pub fn all(batch: &'a Batch) -> Self {
        Self::Of(batch, batch.all())
    }

    /// How many they are.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Of(_, list) => list.len(),
            Self::One(_) => 1,
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In their order.
    #[inline]
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        (0..self.len()).map(move |i| match self {
            Self::Of(batch, list) => batch.wire(list[i].into()),
            Self::One(wire) => wire,
        })
    }

    /// The same, each with the priority of the tag that it came with. `in_vlans`: of a switch that tells VLANs apart; else a frame has
    /// its tag still.
    pub(super) fn with_priorities(self, in_vlans: bool) -> impl Iterator<Item = (&'a [u8], u8)> {
        let priority = move |i: usize| match self {
            Self::Of(batch, list) if in_vlans => batch.vlan(list[i].into()).priority(),
            _ => 0,
        };
        self.iter().enumerate().map(move |(i, wire)| (wire, priority(i)))
    }
}

/// What became of the frames that a port was given.
#[derive(Debug, Default)]
pub struct Sent {
    pub(super) frames: u64,
    /// Without virtio-net headers.
    pub(super) bytes: u64,
    /// By their [`SendError`].
    failed: [u64; 3],
}

impl Sent {
    /// With nothing sent.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many frames that nobody is there for.
    #[cold]
    pub(super) fn down(frames: usize) -> Self {
        let mut sent = Self::new();
        sent.failed[SendError::Down as usize] = frames as u64;
        sent
    }

    /// What became of a frame.
    #[inline]
    pub fn note(&mut self, wire: &[u8], result: Result<(), SendError>) {
        match result {
            Ok(()) => {
                self.frames += 1;
                self.bytes += wire.len().saturating_sub(VNET_HDR_LEN) as u64;
            }
            Err(error) => self.failed[error as usize] += 1,
        }
    }

    /// How many were not sent, by the reason; of `given` frames those that the port did not tell of too.
    pub(super) fn failures(&self, given: usize) -> impl Iterator<Item = (SendError, u64)> {
        let told = self.frames + self.failed.iter().sum::<u64>();
        let [full, down, rejected] = self.failed;
        let rejected = rejected + (given as u64).saturating_sub(told);
        [
            (SendError::Full, full),
            (SendError::Down, down),
            (SendError::Rejected, rejected),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
    }
}
