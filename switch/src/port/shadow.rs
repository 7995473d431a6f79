//! A TAP device of the daemon's beside the interface that frames come from and go to, in the namespace of that interface: what arrives
//! at the interface is led out of the TAP device, and what the daemon writes to that goes out of the interface. The kernel makes of
//! each frame what the one to send it can do: it cuts up, finishes checksums and keeps the outermost tag beside the frame.
//!
//! With the kernel fast path its programs lead the frames, and forward most by themselves; without, filters of tc do. Without it
//! frames that the kernel has nothing to do for go to a near end by a packet socket too, which is the shorter way: past the stack's
//! way in, the filter, and the near end's way out. Either way a frame is with the station's side when the call returns, so a flow
//! whose frames go now by the one and now by the other keeps its order.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use vswitch_datapath::frame::{Gso, Tag, VNET_HDR_LEN, VnetHeader};
use vswitch_datapath::port::{Frames, Sent};
use vswitch_linux::packet::{PacketSocket, with_messages};

use super::Tap;
use crate::fastpath::FastPort;

/// The shadow TAP and, if it has it, the port's part of the fast path.
#[derive(Debug)]
pub struct Shadow {
    pub(super) tap: Tap,
    pub(super) fast: Option<FastPort>,
    /// Sends out of the interface past the TAP device.
    direct: Option<PacketSocket>,
    /// Frames that the TAP device dropped: before the port came, and as far as is known.
    dropped: (u64, AtomicU64),
}

impl Shadow {
    /// Of those that belong together. `dropped`: frames that the TAP device has dropped so far.
    pub fn new(tap: Tap, fast: Option<FastPort>, dropped: u64) -> Self {
        Self {
            tap,
            fast,
            direct: None,
            dropped: (dropped, AtomicU64::new(dropped)),
        }
    }

    /// The same, with a socket that sends out of the interface what is plain.
    pub fn with_direct(mut self, direct: PacketSocket) -> Self {
        self.direct = Some(direct);
        self
    }

    /// Its queues once more, and the socket if there is a descriptor to spare: without it a restart takes longer, and loses nothing.
    pub(super) fn keep(&self) -> io::Result<Vec<OwnedFd>> {
        let mut kept = self.tap.keep()?;
        kept.extend(self.direct.as_ref().and_then(|direct| direct.keep().ok()));
        Ok(kept)
    }

    /// How many frames the TAP device has dropped by now.
    pub fn note_dropped(&self, frames: u64) {
        self.dropped.1.store(frames, Ordering::Relaxed);
    }

    /// Sends each frame by the shorter of the ways that it can go.
    pub(super) fn send(&self, worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        let mut rest = frames.iter();
        let Some(direct) = &self.direct else {
            self.tap.send(worker, rest, sent);
            return;
        };
        while rest.len() > 0 {
            let plain = rest.clone().take_while(|wire| is_plain(wire)).count();
            self.send_plain(direct, worker, rest.clone().take(plain), sent);
            rest.by_ref().take(plain).for_each(drop);
            let others = rest.clone().take_while(|wire| !is_plain(wire)).count();
            self.tap.send(worker, rest.clone().take(others), sent);
            rest.by_ref().take(others).for_each(drop);
        }
    }

    fn send_plain<'a>(
        &self,
        direct: &PacketSocket,
        worker: usize,
        mut frames: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
        sent: &mut Sent,
    ) {
        with_messages(|messages| {
            while frames.len() > 0 {
                match messages.send(direct, frames.clone()) {
                    Ok(count) => frames.by_ref().take(count).for_each(|wire| sent.note(wire, Ok(()))),
                    // Whatever it is, the TAP device tells of it as it does without the socket, or takes the frame.
                    Err(_) => {
                        self.tap.send(worker, frames.clone().take(1), sent);
                        frames.by_ref().take(1).for_each(drop);
                    }
                }
            }
        });
    }

    /// How many frames the TAP device had dropped in all when that was noted last.
    pub fn noted_dropped(&self) -> u64 {
        self.dropped.1.load(Ordering::Relaxed)
    }

    /// Frames for the daemon that the queue of the TAP device had no room for, as far as was noted.
    pub(super) fn overruns(&self) -> u64 {
        self.dropped.1.load(Ordering::Relaxed).saturating_sub(self.dropped.0)
    }
}

/// Whether the kernel has nothing to do for a frame but to finish its checksum: it needs not be cut, and no tag has to be taken out.
fn is_plain(wire: &[u8]) -> bool {
    wire.split_first_chunk::<VNET_HDR_LEN>().is_some_and(|(header, frame)| {
        VnetHeader::parse(header).is_ok_and(|header| header.gso == Gso::None) && !Tag::begins(frame, 0)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_what_needs_not_be_cut_and_has_no_tag() {
        let wire = |gso: Gso, ethertype: [u8; 2]| {
            let mut wire = vec![0; VNET_HDR_LEN + 60];
            let header = VnetHeader {
                gso,
                gso_size: 1448,
                ..VnetHeader::default()
            };
            header.write(wire.first_chunk_mut().unwrap());
            wire[VNET_HDR_LEN + 12..][..2].copy_from_slice(&ethertype);
            wire
        };
        assert!(is_plain(&wire(Gso::None, [0x08, 0x00])));
        assert!(!is_plain(&wire(Gso::TcpV4, [0x08, 0x00])));
        assert!(!is_plain(&wire(Gso::None, [0x81, 0x00])));
        assert!(!is_plain(&wire(Gso::None, [0x88, 0xa8])));
        assert!(!is_plain(&[0; VNET_HDR_LEN - 1]));
    }
}
