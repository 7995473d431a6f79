//! A port of one's own: a frame is a datagram of a Unix socket, as QEMU's `-netdev dgram` has it.
//!
//! A port says which descriptors become readable when frames wait, takes them in batches, and tells what became of those that it was to
//! send. Whatever else a switch does, VLANs, lists, impairment, counters, it does for this port too.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use vswitch_datapath::PortSettings;
use vswitch_datapath::batch::Batch;
use vswitch_datapath::frame::VNET_HDR_LEN;
use vswitch_datapath::port::{Frames, PortIo, SendError, Sent};
use vswitch_datapath::testing::Switch;

/// The switch's end of a pair of sockets.
#[derive(Debug)]
struct DatagramPort(UnixDatagram);

impl PortIo for DatagramPort {
    fn receive_fds(&self, worker: usize, workers: usize, port: usize) -> Vec<BorrowedFd<'_>> {
        // There is one descriptor: one worker has it, and ports are dealt out among workers.
        Vec::from_iter((port % workers == worker).then(|| self.0.as_fd()))
    }

    fn receive(&self, _worker: usize, batch: &mut Batch) -> io::Result<()> {
        while batch.has_room() {
            // The frame lies behind its virtio-net header, which says that nothing is left to be done. An error but that nothing waits
            // makes the port fail, which is not asked again then.
            let len = self.0.recv(&mut batch.tail()[VNET_HDR_LEN..])?;
            batch.push(VNET_HDR_LEN + len);
        }
        Ok(())
    }

    fn send(&self, _worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        for wire in frames.iter() {
            let result = match self.0.send(&wire[VNET_HDR_LEN..]) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Err(SendError::Full),
                Err(_) => Err(SendError::Down),
            };
            sent.note(wire, result);
        }
    }

    fn takes_offloads(&self) -> bool {
        // No datagram has a virtio-net header: frames come cut, and with complete checksums.
        false
    }
}

/// Runs it: a frame from a guest's socket comes to a station in memory, and one goes back.
pub fn main() -> Result<(), Box<dyn Error>> {
    let switch = Switch::new()?;
    let red = switch.add_port()?;
    let (guest, ours) = UnixDatagram::pair()?;
    ours.set_nonblocking(true)?;
    guest.set_nonblocking(true)?;
    let port = switch.add_custom_port(Arc::new(DatagramPort(ours)), PortSettings::default())?;

    let hello = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 7, 0x88, 0xb5], b"hello red"].concat();
    guest.send(&hello)?;
    switch.run();
    assert_eq!(red.receive(), Some(hello));

    let answer = [&[2, 0, 0, 0, 0, 7][..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], b"hello guest"].concat();
    red.send(&answer);
    let mut got = [0; 2048];
    let len = guest.recv(&mut got)?;
    assert_eq!(&got[..len], answer);

    // When the guest ends, frames for it are dropped, and counted as such.
    drop(guest);
    red.send(&answer);
    let counters = switch.datapath().counters(port);
    assert_eq!(counters.tx_drops["link-down"], 1);
    Ok(())
}
