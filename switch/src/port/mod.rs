//! The back ends that the daemon has for ports. Each has the same rooms: open, receive a batch, send a list, close.

mod engine;
mod packet;
mod shadow;
mod tap;
mod xdp;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use vswitch_api::view::XdpMode;
use vswitch_datapath::batch::Batch;
use vswitch_datapath::offload::Offload;
use vswitch_datapath::port::{Frames, PortIo, SendError, Sent};

pub use engine::{Calls, Engine};
pub use packet::PacketPort;
pub use shadow::Shadow;
pub use tap::{QUEUE_FRAMES, Service, Tap};
pub use xdp::{XdpDevice, XdpPort};

use crate::fastpath::FastPort;

/// How a port is connected to the kernel.
#[derive(Debug)]
pub enum BackEnd {
    /// A TAP device in a namespace (port kinds `tap` and `internal`).
    Tap(Tap),
    /// The shadow TAP beside an interface (port kinds `veth` and `device`).
    Shadow(Shadow),
    /// An AF_PACKET socket on an interface (the same kinds, where no shadow can be had).
    Packet(PacketPort),
    /// AF_XDP sockets on an interface (port kind `device`, where it is asked for and can be had).
    Xdp(XdpPort),
}

impl BackEnd {
    /// Its part of the kernel fast path, if it has it.
    pub fn fast(&self) -> Option<&FastPort> {
        self.shadow()?.fast.as_ref()
    }

    /// Its queues once more, and the socket that it sends by, for the next daemon; none of what can't be handed over: packet sockets that receive, and
    /// AF_XDP.
    ///
    /// # Errors
    /// Want of descriptors.
    pub fn keep(&self) -> io::Result<Vec<OwnedFd>> {
        match self {
            Self::Tap(tap) => tap.keep(),
            Self::Shadow(shadow) => shadow.keep(),
            Self::Packet(_) | Self::Xdp(_) => Ok(Vec::new()),
        }
    }

    /// Queues that it has with so many workers.
    pub fn queues(&self, workers: usize) -> usize {
        match self {
            Self::Tap(_) | Self::Shadow(_) => workers,
            Self::Packet(_) => 1,
            Self::Xdp(xdp) => xdp.queues(),
        }
    }

    /// How it has AF_XDP, if it has.
    pub fn xdp_mode(&self) -> Option<XdpMode> {
        match self {
            Self::Xdp(xdp) => Some(xdp.mode()),
            _ => None,
        }
    }

    /// The shadow TAP, if it has one.
    pub fn shadow(&self) -> Option<&Shadow> {
        match self {
            Self::Shadow(shadow) => Some(shadow),
            Self::Tap(_) | Self::Packet(_) | Self::Xdp(_) => None,
        }
    }
}

impl PortIo for BackEnd {
    fn receive_fds(&self, worker: usize, workers: usize, port: usize) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Tap(tap) => Vec::from_iter(tap.receive_fd(worker)),
            Self::Shadow(shadow) => Vec::from_iter(shadow.tap.receive_fd(worker)),
            Self::Packet(packet) => Vec::from_iter((port % workers == worker).then(|| packet.receive_fd())),
            Self::Xdp(xdp) => xdp.receive_fds(worker),
        }
    }

    fn receive(&self, worker: usize, batch: &mut Batch) -> io::Result<()> {
        match self {
            Self::Tap(tap) => tap.receive(worker, batch),
            Self::Shadow(shadow) => shadow.tap.receive(worker, batch),
            Self::Packet(packet) => packet.receive(batch),
            Self::Xdp(xdp) => {
                xdp.receive(worker, batch);
                Ok(())
            }
        }
    }

    fn send(&self, worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        match self {
            Self::Tap(tap) => tap.send(worker, frames.iter(), sent),
            Self::Shadow(shadow) => shadow.send(worker, frames, sent),
            Self::Packet(packet) => packet.send(frames, sent),
            Self::Xdp(xdp) => xdp.send(worker, frames, sent),
        }
    }

    fn takes_offloads(&self) -> bool {
        !matches!(self, Self::Xdp(_))
    }

    fn offload(&self) -> Option<&dyn Offload> {
        self.fast().map(|fast| fast as &dyn Offload)
    }

    fn overruns(&self) -> u64 {
        match self {
            // The TAP device counts them itself, as its own tx_dropped, before they are the switch's.
            Self::Tap(_) => 0,
            Self::Shadow(shadow) => shadow.overruns(),
            Self::Packet(packet) => packet.overruns(),
            Self::Xdp(xdp) => xdp.overruns(),
        }
    }
}

/// What an error of the kernel says of a frame that was to be sent.
fn send_error(error: &io::Error) -> SendError {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => SendError::Full,
        // EIO: the TAP device is down. EBADFD: it is gone. ENXIO: the packet socket lost its interface.
        Some(libc::EIO | libc::EBADFD | libc::ENETDOWN | libc::ENODEV | libc::ENXIO) => SendError::Down,
        _ => SendError::Rejected,
    }
}
