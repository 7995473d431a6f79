//! Back ends that frames come from and go to. Each has the same rooms: open, receive a batch, send a batch, close.
//!
//! All carry the virtio-net header in front of each frame, so that TCP crosses as GSO frames of up to 64 KiB with a
//! partial checksum and is cut into wire-sized frames only where a port can't take it as it is.

pub mod batch;
mod packet;
mod shadow;
mod tap;
mod xdp;

use std::io;
use std::os::fd::BorrowedFd;

pub use batch::{Batch, FrameVlan};
pub use packet::PacketPort;
pub use shadow::Shadow;
pub use tap::Tap;
pub use xdp::{XdpDevice, XdpPort};

use crate::fastpath::FastPort;
use crate::kernel::packet::Messages;

/// How a port is connected to the kernel.
#[derive(Debug)]
pub enum PortIo {
    /// A TAP device in a namespace (port kinds `tap` and `internal`).
    Tap(Tap),
    /// The shadow TAP beside an interface (port kinds `veth` and `device`).
    Shadow(Shadow),
    /// An AF_PACKET socket on an interface (the same kinds, where no shadow can be had).
    Packet(PacketPort),
    /// AF_XDP sockets on an interface (port kind `device`, where it is asked for and can be had).
    Xdp(XdpPort),
}

/// Why a port did not take a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// Its queue is full.
    Full,
    /// The interface is down or gone.
    Down,
    /// The kernel does not take the frame as it is.
    Rejected,
}

impl SendError {
    fn from_io(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Self::Full,
            // EIO: the TAP device is down. EBADFD: it is gone. ENXIO: the packet socket lost its interface.
            Some(libc::EIO | libc::EBADFD | libc::ENETDOWN | libc::ENODEV | libc::ENXIO) => Self::Down,
            _ => Self::Rejected,
        }
    }
}

impl PortIo {
    /// The descriptors by which worker `worker` of `workers` receives from this port; none if others do.
    pub fn receive_fds(&self, worker: usize, workers: usize, port: usize) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Tap(tap) => Vec::from_iter(tap.receive_fd(worker)),
            Self::Shadow(shadow) => Vec::from_iter(shadow.tap.receive_fd(worker)),
            Self::Packet(packet) => Vec::from_iter((port % workers == worker).then(|| packet.receive_fd())),
            Self::Xdp(xdp) => xdp.receive_fds(worker),
        }
    }

    /// Whether it takes GSO frames and partial checksums.
    pub fn takes_offloads(&self) -> bool {
        !matches!(self, Self::Xdp(_))
    }

    /// Takes the frames that wait, up to a batch; `batch` must be empty.
    ///
    /// # Errors
    /// The device is gone (EBADFD, ENODEV, ENXIO). That nothing waits or the device is down is no error.
    pub fn receive(&self, worker: usize, batch: &mut Batch, messages: &mut Messages) -> io::Result<()> {
        match self {
            Self::Tap(tap) => tap.receive(worker, batch),
            Self::Packet(packet) => packet.receive(batch, messages),
            Self::Shadow(shadow) => shadow.tap.receive(worker, batch),
            Self::Xdp(xdp) => {
                xdp.receive(worker, batch);
                Ok(())
            }
        }
    }

    /// Sends `buffers` (virtio-net header and frame) in order and calls `sent(i, result)` once for each.
    pub fn send<'a>(
        &self,
        worker: usize,
        buffers: impl Iterator<Item = &'a [u8]> + Clone,
        messages: &mut Messages,
        sent: impl FnMut(usize, Result<(), SendError>),
    ) {
        match self {
            Self::Tap(tap) => tap.send(worker, buffers, sent),
            Self::Packet(packet) => packet.send(buffers, messages, sent),
            Self::Shadow(shadow) => shadow.tap.send(worker, buffers, sent),
            Self::Xdp(xdp) => xdp.send(worker, buffers, sent),
        }
    }

    /// Its part of the kernel fast path, if it has it.
    pub fn fast(&self) -> Option<&FastPort> {
        match self {
            Self::Shadow(shadow) => shadow.fast.as_ref(),
            Self::Tap(_) | Self::Packet(_) | Self::Xdp(_) => None,
        }
    }

    /// The shadow TAP, if it has one.
    pub fn shadow(&self) -> Option<&Shadow> {
        match self {
            Self::Shadow(shadow) => Some(shadow),
            Self::Tap(_) | Self::Packet(_) | Self::Xdp(_) => None,
        }
    }

    /// Frames that the kernel had for this port and dropped because the daemon was too slow.
    pub fn overruns(&self) -> u64 {
        match self {
            // The TAP device counts them itself, as its own tx_dropped, before they are the switch's.
            Self::Tap(_) => 0,
            Self::Shadow(shadow) => shadow.overruns(),
            Self::Packet(packet) => packet.overruns(),
            Self::Xdp(xdp) => xdp.overruns(),
        }
    }
}
