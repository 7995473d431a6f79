//! A frame generator over AF_PACKET: one thread, batches of frames, past the queueing discipline.
//!
//! The frames are UDP in IPv4 between the addresses that RFC 2544 sets aside for benchmarks, to the discard port.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::setsockopt_impl;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg, setsockopt, socket,
};
use serde::Serialize;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Frames given to the kernel by one system call.
const BATCH: usize = 64;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
/// Ethernet header and the largest payload of an untagged frame, without frame check sequence.
const LONGEST: usize = 14 + 1500;

/// `PACKET_QDISC_BYPASS`, see packet(7).
#[derive(Clone, Copy, Debug)]
struct PacketQdiscBypass;
setsockopt_impl!(
    PacketQdiscBypass,
    libc::SOL_PACKET,
    libc::PACKET_QDISC_BYPASS,
    bool,
    nix::sys::socket::sockopt::SetBool
);

/// A socket bound to one interface, and the frame that goes out of it.
pub struct Generator {
    socket: OwnedFd,
    frame: Vec<u8>,
}

/// What became of the frames that were offered.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sent {
    /// How long it took.
    pub seconds: f64,
    /// Frames that the interface took.
    pub sent: u64,
    /// Frames that the interface refused, as its queue was full.
    pub refused: u64,
}

impl Generator {
    /// `size` counts the whole frame without its frame check sequence. The interface is looked up in the namespace
    /// of the calling thread.
    ///
    /// # Errors
    /// For a size outside 42 to 1,514, an interface that is not there, and without CAP_NET_RAW.
    pub fn open(interface: &str, destination: [u8; 6], size: usize) -> Result<Self> {
        anyhow::ensure!(
            (HEADERS..=LONGEST).contains(&size),
            "frame size {size}: not within {HEADERS} to {LONGEST}"
        );
        let address = link_address(interface)?;
        let source = address
            .addr()
            .with_context(|| format!("{interface} has no MAC address"))?;
        // Protocol 0: the socket receives nothing.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .context("no AF_PACKET socket (needs CAP_NET_RAW)")?;
        setsockopt(&socket, PacketQdiscBypass, &true).context("PACKET_QDISC_BYPASS")?;
        bind(socket.as_raw_fd(), &address).with_context(|| format!("the generator can't use {interface}"))?;
        Ok(Self {
            socket,
            frame: udp_frame(source, destination, size),
        })
    }

    /// Sends as fast as the interface takes frames.
    ///
    /// # Errors
    /// If the interface goes down or away.
    pub fn run(&self, duration: Duration) -> Result<Sent> {
        let frame = [IoSlice::new(&self.frame)];
        let batch = [&frame; BATCH];
        let addresses = [None::<LinkAddr>; BATCH];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let mut result = Sent::default();
        let start = Instant::now();
        while start.elapsed() < duration {
            let fd = self.socket.as_raw_fd();
            match sendmmsg(fd, &mut headers, batch, addresses, [], MsgFlags::empty()) {
                Ok(sent) => {
                    let sent = sent.count();
                    result.sent += sent as u64;
                    // The call stops at a frame that is refused, and that frame is lost.
                    result.refused += u64::from(sent < BATCH);
                }
                Err(Errno::ENOBUFS) => result.refused += 1,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("the generator can't send"),
            }
        }
        result.seconds = start.elapsed().as_secs_f64();
        Ok(result)
    }
}

fn link_address(interface: &str) -> Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface} here"))
}

fn udp_frame(source: [u8; 6], destination: [u8; 6], size: usize) -> Vec<u8> {
    let ip_length = (size - 14) as u16;
    let udp_length = ip_length - 20;
    let mut ip = [0_u8; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&ip_length.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&[198, 18, 0, 1]);
    ip[16..20].copy_from_slice(&[198, 18, 0, 2]);
    let checksum = internet_checksum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    let mut frame = Vec::with_capacity(size);
    frame.extend(destination);
    frame.extend(source);
    frame.extend([0x08, 0x00]);
    frame.extend(ip);
    frame.extend(9_u16.to_be_bytes());
    frame.extend(9_u16.to_be_bytes());
    frame.extend(udp_length.to_be_bytes());
    frame.extend([0, 0]); // No checksum, as RFC 768 allows over IPv4.
    frame.resize(size, 0);
    frame
}

/// RFC 1071, for an even number of octets.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::{internet_checksum, udp_frame};

    #[test]
    fn frames_have_the_size_asked_for_and_a_right_header() {
        for size in [42, 60, 1500, 1514] {
            let frame = udp_frame([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], size);
            assert_eq!(frame.len(), size);
            assert_eq!(frame[..12], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1]);
            assert_eq!(usize::from(u16::from_be_bytes([frame[16], frame[17]])), size - 14);
            assert_eq!(usize::from(u16::from_be_bytes([frame[38], frame[39]])), size - 34);
            // A header sums to zero over itself, its checksum included.
            assert_eq!(internet_checksum(&frame[14..34]), 0);
        }
    }
}
