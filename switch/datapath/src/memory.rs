//! A port without a kernel: its frames lie in memory. With it the whole way of a frame is run by whoever has the other end,
//! in tests, benches and fuzz targets, and by programs that bring frames of their own.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::batch::Batch;
use crate::frame::{MAX_FRAME, VNET_HDR_LEN, VnetHeader};
use crate::lock;
use crate::port::{Frames, PortIo, SendError, Sent};

/// Frames that wait on either side of a [`MemoryPort`] by default.
const CAPACITY: usize = 1024;

/// The switch's end: give it to [`crate::PortSetup`].
#[derive(Debug)]
pub struct MemoryPort(Arc<Between>);

/// The other end: what a station would hold.
#[derive(Clone, Debug)]
pub struct MemoryStation(Arc<Between>);

/// What both ends hold.
#[derive(Debug)]
struct Between {
    offloads: bool,
    capacity: usize,
    /// On their way to the switch, with virtio-net headers.
    inward: Mutex<VecDeque<Vec<u8>>>,
    /// Readable as long as some are.
    waiting: EventFd,
    outward: Mutex<VecDeque<Vec<u8>>>,
    sent: Condvar,
    overruns: AtomicU64,
    down: AtomicBool,
    gone: AtomicBool,
}

impl MemoryPort {
    /// Both ends of a new port. `offloads`: it takes GSO frames and partial checksums.
    ///
    /// # Errors
    /// No descriptors are to be had.
    pub fn new(offloads: bool) -> io::Result<(Arc<Self>, MemoryStation)> {
        Self::with_capacity(offloads, CAPACITY)
    }

    /// The same; `capacity` frames may wait on either side.
    ///
    /// # Errors
    /// No descriptors are to be had.
    pub fn with_capacity(offloads: bool, capacity: usize) -> io::Result<(Arc<Self>, MemoryStation)> {
        let between = Arc::new(Between {
            offloads,
            capacity,
            inward: Mutex::default(),
            waiting: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
            outward: Mutex::default(),
            sent: Condvar::new(),
            overruns: AtomicU64::new(0),
            down: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        });
        Ok((Arc::new(Self(between.clone())), MemoryStation(between)))
    }
}

impl MemoryStation {
    /// Sends a frame as it is, without anything left to be offloaded; false: the switch has not yet taken those before.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.send_with(&VnetHeader::default(), frame)
    }

    /// Sends a frame with what its virtio-net header says.
    pub fn send_with(&self, header: &VnetHeader, frame: &[u8]) -> bool {
        let mut wire = vec![0; VNET_HDR_LEN + frame.len()];
        if let Some((place, rest)) = wire.split_first_chunk_mut() {
            header.write(place);
            rest.copy_from_slice(frame);
        }
        self.send_wire(wire)
    }

    /// Sends a frame with its virtio-net header in front, whatever either says.
    pub fn send_wire(&self, wire: Vec<u8>) -> bool {
        let mut inward = lock(&self.0.inward);
        if inward.len() >= self.0.capacity {
            self.0.overruns.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        inward.push_back(wire);
        if inward.len() == 1 {
            // Nobody but the port resets it, under the same lock.
            let _ = self.0.waiting.write(1);
        }
        true
    }

    /// Frames that came out of the switch and were not received yet.
    pub fn waiting(&self) -> usize {
        lock(&self.0.outward).len()
    }

    /// The next frame that came out of the switch, with its virtio-net header in front.
    pub fn receive(&self) -> Option<Vec<u8>> {
        lock(&self.0.outward).pop_front()
    }

    /// The same; it waits for one until `timeout` is over.
    pub fn wait(&self, timeout: Duration) -> Option<Vec<u8>> {
        /// Longer than anybody waits.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let end = Instant::now() + timeout.min(YEAR);
        let mut outward = lock(&self.0.outward);
        loop {
            if let Some(wire) = outward.pop_front() {
                return Some(wire);
            }
            let left = end.checked_duration_since(Instant::now())?;
            let woken = self.0.sent.wait_timeout(outward, left);
            outward = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the port's link down or up: one that is down takes no frames. What is sent all the same comes in.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::Relaxed);
    }

    /// Whether the link was taken down.
    pub fn is_down(&self) -> bool {
        self.0.down.load(Ordering::Relaxed)
    }

    /// From now on the port fails, as one does whose device was deleted.
    pub fn go_away(&self) {
        self.0.gone.store(true, Ordering::Relaxed);
        let _ = self.0.waiting.write(1);
    }
}

impl PortIo for MemoryPort {
    fn receive_fds(&self, worker: usize, workers: usize, port: usize) -> Vec<BorrowedFd<'_>> {
        Vec::from_iter((port % workers == worker).then(|| self.0.waiting.as_fd()))
    }

    fn receive(&self, _worker: usize, batch: &mut Batch) -> io::Result<()> {
        if self.0.gone.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let mut inward = lock(&self.0.inward);
        while batch.has_room()
            && let Some(wire) = inward.pop_front()
        {
            // One that fills the buffer is told to be too long, as one of a device is.
            batch.push_copy(&wire[..wire.len().min(VNET_HDR_LEN + MAX_FRAME)]);
        }
        if inward.is_empty() {
            let _ = self.0.waiting.read();
        }
        Ok(())
    }

    fn send(&self, _worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        let mut outward = lock(&self.0.outward);
        for wire in frames.iter() {
            let result = if self.0.down.load(Ordering::Relaxed) {
                Err(SendError::Down)
            } else if outward.len() >= self.0.capacity {
                Err(SendError::Full)
            } else {
                outward.push_back(wire.to_vec());
                Ok(())
            };
            sent.note(wire, result);
        }
        self.0.sent.notify_all();
    }

    fn takes_offloads(&self) -> bool {
        self.0.offloads
    }

    fn overruns(&self) -> u64 {
        self.0.overruns.load(Ordering::Relaxed)
    }
}
