//! Sniffers: copies of the frames of a port for a capture.
//!
//! A port without a sniffer pays one look at a pointer for each batch. A sniffer copies what its filter wants into a ring of
//! bounded size and never waits: what finds no room is counted as lost, and the port carries on. The sniffers of a capture of several
//! ports share one ring.

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
    /// The sniffer that saw it, of those that share the ring.
    pub number: u32,
    /// Nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// Which way it goes: in, seen as it came, before any check; or out, seen just before it is handed to the port.
    pub direction: Direction,
    /// Frames that this sniffer lost since the one before.
    pub lost_before: u64,
    /// Virtio-net header and frame.
    pub wire: Box<[u8]>,
}

/// What a sniffer is to see; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct SnifferSetup {
    /// Frames from the port.
    pub ingress: bool,
    /// Frames to the port.
    pub egress: bool,
    /// Only frames that this program wants; none: all.
    pub filter: Option<Program>,
}

/// What one reader has on one port. Several of one reader share their ring, so that frames of all ports come in order.
#[derive(Debug)]
pub struct Sniffer {
    /// Which of them it is.
    number: u32,
    /// Lost since the last frame that found room.
    lost: AtomicU64,
    lost_total: AtomicU64,
    /// The port is gone.
    closed: AtomicBool,
    ring: Arc<Ring>,
}

/// What waits for a reader.
#[derive(Debug)]
struct Ring {
    setup: SnifferSetup,
    frames: ArrayQueue<Seen>,
    /// Bytes in it.
    bytes: AtomicUsize,
    /// Sniffers whose ports are not gone.
    open: AtomicUsize,
    /// Enough was seen: nothing more will come.
    ended: AtomicBool,
    pending: AtomicBool,
    ready: EventFd,
}

impl Sniffer {
    /// A sniffer that is on no port yet.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn new(setup: SnifferSetup) -> io::Result<Self> {
        let ring = Ring {
            setup,
            frames: ArrayQueue::new(MAX_FRAMES),
            bytes: AtomicUsize::new(0),
            open: AtomicUsize::new(1),
            ended: AtomicBool::new(false),
            pending: AtomicBool::new(false),
            ready: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        };
        Ok(Self::numbered(0, Arc::new(ring)))
    }

    fn numbered(number: u32, ring: Arc<Ring>) -> Self {
        Self {
            number,
            lost: AtomicU64::new(0),
            lost_total: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            ring,
        }
    }

    /// Another one for the same reader: it wants the same, and what it sees is read from this one.
    #[must_use]
    pub fn beside(&self, number: u32) -> Self {
        self.ring.open.fetch_add(1, Ordering::AcqRel);
        Self::numbered(number, self.ring.clone())
    }

    /// Shows the sniffer a frame with its virtio-net header in front.
    fn see(&self, direction: Direction, wire: &[u8]) {
        let ring = &self.ring;
        let wanted = match direction {
            Direction::In => ring.setup.ingress,
            Direction::Out => ring.setup.egress,
        };
        let frame = wire.get(VNET_HDR_LEN..).unwrap_or_default();
        if !wanted || ring.setup.filter.as_ref().is_some_and(|filter| !filter.matches(frame)) {
            return;
        }
        // First taken, then given back: workers that come at the same time can't exceed the bounds together.
        let own = ring.bytes.fetch_add(wire.len(), Ordering::Relaxed) + wire.len();
        let all = WAITING.fetch_add(wire.len(), Ordering::Relaxed) + wire.len();
        if own > MAX_BYTES || (all > ALL_BYTES && own > OWN_BYTES) || ring.frames.is_full() {
            self.lose(wire.len(), 0);
        } else {
            let lost_before = self.lost.swap(0, Ordering::Relaxed);
            let seen = Seen {
                number: self.number,
                time_ns: now_ns(),
                direction,
                lost_before,
                wire: wire.into(),
            };
            if ring.frames.push(seen).is_err() {
                self.lose(wire.len(), lost_before);
            }
        }
        ring.wake();
    }

    fn lose(&self, bytes: usize, before: u64) {
        self.ring.give_back(bytes);
        self.lost.fetch_add(1 + before, Ordering::Relaxed);
        self.lost_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells the reader that nothing more will come from this port.
    pub fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.ring.open.fetch_sub(1, Ordering::AcqRel);
        }
        self.ring.wake();
    }

    /// Tells the reader that it is to end.
    pub fn end(&self) {
        self.ring.ended.store(true, Ordering::Release);
        self.ring.wake();
    }

    /// Readable when frames wait, or when the ports are gone.
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.ring.ready.as_fd()
    }

    /// Takes note that the reader is about to look: what comes from here on makes the sniffer ready again.
    pub fn acknowledge(&self) {
        let _ = self.ring.ready.read();
        self.ring.pending.store(false, Ordering::Release);
    }

    /// The next frame that waits.
    pub fn take(&self) -> Option<Seen> {
        let seen = self.ring.frames.pop()?;
        self.ring.give_back(seen.wire.len());
        Some(seen)
    }

    /// Frames of this port that found no room so far.
    pub fn lost(&self) -> u64 {
        self.lost_total.load(Ordering::Relaxed)
    }

    /// Whether it is to end, or all ports are gone. Frames may still wait.
    pub fn is_closed(&self) -> bool {
        self.ring.ended.load(Ordering::Acquire) || self.ring.open.load(Ordering::Acquire) == 0
    }
}

impl Ring {
    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        WAITING.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            let _ = self.ready.write(1);
        }
    }
}

impl Drop for Ring {
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
    /// Puts sniffers on ports, all at once. One whose port is not there is closed; gives which are on their ports. Each has one port, with
    /// which it closes: for several there is [`Sniffer::beside`].
    pub fn add_sniffers(&self, all: &[(PortRef, Arc<Sniffer>)]) -> Vec<bool> {
        let on = self.revise(|snapshot| {
            let add = |(port, sniffer): &(PortRef, Arc<Sniffer>)| {
                snapshot.change_port(*port, |port| {
                    let sniffers = port.sniffers.iter().flat_map(|sniffers| sniffers.iter().cloned());
                    port.sniffers = Some(sniffers.chain([sniffer.clone()]).collect());
                })
            };
            all.iter().map(add).collect::<Vec<_>>()
        });
        for ((_, sniffer), _) in all.iter().zip(&on).filter(|(_, on)| !**on) {
            sniffer.close();
        }
        on
    }

    /// Takes sniffers off their ports. They may still see the batches that workers are busy with.
    pub fn remove_sniffers(&self, all: &[(PortRef, Arc<Sniffer>)]) {
        self.revise(|snapshot| {
            for (port, sniffer) in all {
                snapshot.change_port(*port, |port| {
                    let sniffers = port.sniffers.iter().flat_map(|sniffers| sniffers.iter());
                    let left: Vec<_> = sniffers.filter(|other| !Arc::ptr_eq(other, sniffer)).cloned().collect();
                    port.sniffers = (!left.is_empty()).then(|| left.into());
                });
            }
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
        assert_eq!(sniffer.ring.bytes.load(Ordering::Relaxed), 0);

        (0..MAX_FRAMES + 3).for_each(|_| sniffer.see(Direction::In, &[0; 30]));
        assert_eq!(sniffer.lost(), 8);
    }

    #[test]
    fn the_bound_may_be_reached() {
        let sniffer = sniffer(true, true, None);
        let wire = vec![0; MAX_BYTES / 256];
        (0..256).for_each(|_| sniffer.see(Direction::In, &wire));
        assert_eq!(sniffer.lost(), 0);
        sniffer.see(Direction::In, &wire);
        assert_eq!(sniffer.lost(), 1);
    }

    /// A capture of several ports at once.
    #[test]
    fn several_share_a_ring_and_each_counts_what_it_lost() {
        let one = sniffer(true, false, None);
        let other = one.beside(1);
        for (sniffer, byte) in [(&other, 1), (&one, 2), (&other, 3)] {
            sniffer.see(Direction::In, &[byte; 30]);
        }
        let seen: Vec<_> = std::iter::from_fn(|| one.take())
            .map(|seen| (seen.number, seen.wire[0]))
            .collect();
        assert_eq!(seen, [(1, 1), (0, 2), (1, 3)]);
        (0..MAX_FRAMES + 2).for_each(|_| other.see(Direction::In, &[0; 30]));
        assert_eq!((one.lost(), other.lost()), (0, 2));
        // It goes on while a port is left.
        other.close();
        other.close();
        assert!(!one.is_closed());
        one.close();
        assert!(one.is_closed() && other.is_closed());
        let third = sniffer(true, true, None);
        third.beside(7).end();
        assert!(third.is_closed());
    }

    /// 50 captures that nobody read had held 870 MB.
    #[test]
    fn the_taps_together_hold_no_more_than_their_bound_and_give_it_back() {
        let wire = [0; 60_000];
        let stalled: Vec<_> = (0..50).map(|_| sniffer(true, true, None)).collect();
        for sniffer in &stalled {
            (0..400).for_each(|_| sniffer.see(Direction::In, &wire));
        }
        let own = |sniffer: &Sniffer| sniffer.ring.bytes.load(Ordering::Relaxed);
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
