//! An interface reached by an AF_PACKET socket: the near end of a veth pair, or a device taken over, where no shadow TAP can be had.
//!
//! Less crosses so: no frame with two tags, or a service tag, that is as long as the MTU allows (`packet_snd`), and no GSO frame
//! inside a tunnel, of which the virtio-net header can't tell.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use vswitch_datapath::batch::{Batch, MAX_BATCH};
use vswitch_datapath::frame::{MAX_FRAME, VNET_HDR_LEN};
use vswitch_datapath::port::{Frames, Sent};
use vswitch_linux::packet::{MAX_MESSAGES, PacketSocket, with_messages};

use super::send_error;

const _: () = assert!(MAX_BATCH <= MAX_MESSAGES);

/// The socket of one interface.
#[derive(Debug)]
pub struct PacketPort {
    socket: PacketSocket,
    /// Sum of what the kernel reported and forgot.
    overruns: AtomicU64,
}

impl PacketPort {
    /// Opens the interface `ifindex` of the network namespace of the calling thread.
    ///
    /// # Errors
    /// See [`PacketSocket::open`].
    pub fn open(ifindex: u32, promiscuous: bool) -> io::Result<Self> {
        Ok(Self {
            socket: PacketSocket::open(ifindex, promiscuous)?,
            overruns: AtomicU64::new(0),
        })
    }

    pub(super) fn receive_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        let room = VNET_HDR_LEN + MAX_FRAME;
        with_messages(|messages| {
            let count = match messages.receive(&self.socket, batch.arena_mut(), room, MAX_BATCH, Batch::start_of) {
                Ok(count) => count,
                // ENETDOWN: the interface went down; its link event tells control.
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN) => 0,
                    // The frame is gone: its kind of GSO has no name in the header. UDP segments have one since Linux 6.2.
                    Some(libc::EINVAL) => {
                        batch.push_undescribed();
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            };
            for i in 0..count {
                let received = messages.received(i);
                batch.push_fixed(i, received.len, received.tag);
            }
            Ok(())
        })
    }

    pub(super) fn send(&self, frames: Frames<'_>, sent: &mut Sent) {
        with_messages(|messages| {
            let mut rest = frames.iter();
            while rest.len() > 0 {
                match messages.send(&self.socket, rest.clone()) {
                    Ok(count) => rest.by_ref().take(count).for_each(|wire| sent.note(wire, Ok(()))),
                    Err(error) => {
                        let Some(wire) = rest.next() else { return };
                        sent.note(wire, Err(send_error(&error)));
                    }
                }
            }
        });
    }

    pub(super) fn overruns(&self) -> u64 {
        let new = self.socket.take_overruns().map_or(0, u64::from);
        self.overruns.fetch_add(new, Ordering::Relaxed) + new
    }
}
