//! Sniffers: copies of the frames of a port for a capture.
//!
//! A port without a sniffer pays one look at a pointer for each batch. A sniffer copies what its filter wants into a ring of
//! bounded size and never waits: what finds no room is counted as lost, and the port carries on.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::time::{ClockId, clock_gettime};

use super::handle::Datapath;
use super::snapshot::PortEntry;
use super::{Direction, PortRef};
use crate::filter::Program;
use crate::frame::VNET_HDR_LEN;

/// Frames that may wait for the reader of a sniffer.
const MAX_FRAMES: usize = 8192;
/// Bytes of frames that may wait.
const MAX_BYTES: usize = 16 << 20;
/// Bytes of frames that may wait at all sniffers together.
const ALL_BYTES: usize = 64 << 20;
/// Bytes that each sniffer has for itself, however much waits at others.
const OWN_BYTES: usize = 256 << 10;
/// Bytes of frames that wait at all sniffers of the process.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A frame in the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Which way it goes: in, seen as it came, before any check; or out, seen just before it is handed to the port.
    pub direction: Direction,
    /// Frames lost since the one before.
    pub lost_before: u64,
    /// Virtio-net header and frame.
    pub wire: Box<[u8]>,
}

/// What a sniffer is to see.
#[derive(Clone, Debug, Default)]
pub struct SnifferSetup {
    /// Frames from the port.
    pub ingress: bool,
    /// Frames to the port.
    pub egress: bool,
    /// Only frames that this program wants; none: all.
    pub filter: Option<Program>,
}

/// One reader's sniffer on a port.
#[derive(Debug)]
pub struct Sniffer {
    setup: SnifferSetup,
    ring: ArrayQueue<Seen>,
    /// Bytes in the ring.
    bytes: AtomicUsize,
    /// Lost since the last frame that found room.
    lost: AtomicU64,
    lost_total: AtomicU64,
    /// The port is gone, or enough was seen: nothing more will come.
    closed: AtomicBool,
    pending: AtomicBool,
    ready: EventFd,
}

impl Sniffer {
    /// A sniffer that is on no port yet.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn new(setup: SnifferSetup) -> io::Result<Self> {
        Ok(Self {
            setup,
            ring: ArrayQueue::new(MAX_FRAMES),
            bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            lost_total: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            pending: AtomicBool::new(false),
            ready: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        })
    }

    /// Shows the sniffer a frame with its virtio-net header in front.
    fn see(&self, direction: Direction, wire: &[u8]) {
        let wanted = match direction {
            Direction::In => self.setup.ingress,
            Direction::Out => self.setup.egress,
        };
        let frame = wire.get(VNET_HDR_LEN..).unwrap_or_default();
        if !wanted || self.setup.filter.as_ref().is_some_and(|filter| !filter.matches(frame)) {
            return;
        }
        // First taken, then given back: workers that come at the same time can't exceed the bounds together.
        let own = self.bytes.fetch_add(wire.len(), Ordering::Relaxed) + wire.len();
        let all = WAITING.fetch_add(wire.len(), Ordering::Relaxed) + wire.len();
        if own > MAX_BYTES || (all > ALL_BYTES && own > OWN_BYTES) || self.ring.is_full() {
            self.lose(wire.len(), 0);
        } else {
            let lost_before = self.lost.swap(0, Ordering::Relaxed);
            let seen = Seen {
                time_ns: now_ns(),
                direction,
                lost_before,
                wire: wire.into(),
            };
            if self.ring.push(seen).is_err() {
                self.lose(wire.len(), lost_before);
            }
        }
        self.wake();
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        WAITING.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lose(&self, bytes: usize, before: u64) {
        self.give_back(bytes);
        self.lost.fetch_add(1 + before, Ordering::Relaxed);
        self.lost_total.fetch_add(1, Ordering::Relaxed);
    }

    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let _ = self.ready.write(1);
        }
    }

    /// Tells the reader that nothing more will come.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    /// Readable when frames wait, or when the port is gone.
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Takes note that the reader is about to look: what comes from here on makes the sniffer ready again.
    pub fn acknowledge(&self) {
        let _ = self.ready.read();
        self.pending.store(false, Ordering::Release);
    }

    /// The next frame that waits.
    pub fn take(&self) -> Option<Seen> {
        let seen = self.ring.pop()?;
        self.give_back(seen.wire.len());
        Some(seen)
    }

    /// Frames that found no room so far.
    pub fn lost(&self) -> u64 {
        self.lost_total.load(Ordering::Relaxed)
    }

    /// Whether it was closed. Frames may still wait.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.give_back(self.bytes.load(Ordering::Relaxed));
    }
}

/// The sniffers of a port.
pub type Sniffers = Arc<[Arc<Sniffer>]>;

/// Shows frames (with their virtio-net headers) to all sniffers of a port. Only called where there are some.
#[cold]
pub(super) fn see<'a>(sniffers: &Sniffers, direction: Direction, frames: impl Iterator<Item = &'a [u8]>) {
    for wire in frames {
        sniffers.iter().for_each(|sniffer| sniffer.see(direction, wire));
    }
}

/// Nanoseconds since the Unix epoch.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_REALTIME);
    time.map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

impl Datapath {
    /// Publishes what `change` makes of a port; false: there is no such port.
    fn edit_port(&self, port: PortRef, change: impl FnOnce(&mut PortEntry)) -> bool {
        self.revise(|snapshot| snapshot.change_port(port, change))
    }

    /// Puts a sniffer on a port; false: there is no such port.
    pub fn add_sniffer(&self, port: PortRef, sniffer: Arc<Sniffer>) -> bool {
        self.edit_port(port, |port| {
            let sniffers = port.sniffers.iter().flat_map(|sniffers| sniffers.iter().cloned());
            port.sniffers = Some(sniffers.chain([sniffer]).collect());
        })
    }

    /// Takes a sniffer off a port. It may still see the batch that a worker is busy with.
    pub fn remove_sniffer(&self, port: PortRef, sniffer: &Arc<Sniffer>) {
        self.edit_port(port, |port| {
            let sniffers = port.sniffers.iter().flat_map(|sniffers| sniffers.iter());
            let left: Vec<_> = sniffers.filter(|other| !Arc::ptr_eq(other, sniffer)).cloned().collect();
            port.sniffers = (!left.is_empty()).then(|| left.into());
        });
    }
}

/// Tells the readers of a port's sniffers that it is gone.
pub(super) fn close_all(port: &PortEntry) {
    port.sniffers
        .iter()
        .flat_map(|sniffers| sniffers.iter())
        .for_each(|sniffer| sniffer.close());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sniffer(ingress: bool, egress: bool, filter: Option<&str>) -> Sniffer {
        let filter = filter.map(|text| text.parse().unwrap());
        Sniffer::new(SnifferSetup {
            ingress,
            egress,
            filter,
        })
        .unwrap()
    }

    #[test]
    fn only_the_wanted_way_and_what_the_filter_wants_is_seen() {
        // First byte of the frame is 7.
        let sniffer = sniffer(true, false, Some("4,48 0 0 0,21 0 1 7,6 0 0 1,6 0 0 0"));
        let wire = |byte| [[0; VNET_HDR_LEN].as_slice(), &[byte; 20]].concat();
        sniffer.see(Direction::Out, &wire(7));
        sniffer.see(Direction::In, &wire(8));
        sniffer.see(Direction::In, &wire(7));
        assert_eq!(sniffer.take().map(|seen| seen.wire.to_vec()), Some(wire(7)));
        assert_eq!((sniffer.take(), sniffer.lost()), (None, 0));
    }

    #[test]
    fn a_slow_reader_loses_frames_and_each_is_counted() {
        let sniffer = sniffer(true, true, None);
        let wire = [0; 60_000];
        let fits = MAX_BYTES / wire.len();
        (0..fits + 5).for_each(|_| sniffer.see(Direction::In, &wire));
        assert_eq!(sniffer.lost(), 5);
        assert_eq!(sniffer.take().map(|seen| seen.lost_before), Some(0));
        sniffer.see(Direction::Out, &wire);
        let rest: Vec<_> = std::iter::from_fn(|| sniffer.take()).collect();
        assert_eq!((rest.len(), rest[fits - 1].lost_before), (fits, 5));
        assert_eq!(sniffer.bytes.load(Ordering::Relaxed), 0);

        (0..MAX_FRAMES + 3).for_each(|_| sniffer.see(Direction::In, &[0; 30]));
        assert_eq!(sniffer.lost(), 8);
    }

    /// 50 captures that nobody read had held 870 MB.
    #[test]
    fn the_taps_together_hold_no_more_than_their_bound_and_give_it_back() {
        let wire = [0; 60_000];
        let stalled: Vec<_> = (0..50).map(|_| sniffer(true, true, None)).collect();
        for sniffer in &stalled {
            (0..400).for_each(|_| sniffer.see(Direction::In, &wire));
        }
        let own = |sniffer: &Sniffer| sniffer.bytes.load(Ordering::Relaxed);
        let held: usize = stalled.iter().map(own).sum();
        assert!((ALL_BYTES / 2..=ALL_BYTES + 50 * OWN_BYTES).contains(&held), "{held}");
        assert!(
            stalled.iter().all(|sniffer| own(sniffer) > OWN_BYTES - wire.len()),
            "each has a part"
        );
        drop(stalled);
        let sniffer = sniffer(true, true, None);
        (0..400).for_each(|_| sniffer.see(Direction::In, &wire));
        assert!(own(&sniffer) > MAX_BYTES - wire.len(), "there is room again");
    }
}
