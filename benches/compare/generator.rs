//! A frame generator over AF_PACKET: one thread, batches of frames, past the queueing discipline.
//!
//! The frames are UDP in IPv4 between the addresses that RFC 2544 sets aside for benchmarks, to the discard port.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::setsockopt_impl;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, send, sendmmsg, setsockopt, socket,
};
use serde::Serialize;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Frames given to the kernel by one system call.
const BATCH: usize = 64;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
/// Ethernet header and the largest payload of an untagged frame, without frame check sequence.
const LONGEST: usize = 14 + 1500;

/// linux/if_packet.h
const PACKET_VNET_HDR: libc::c_int = 15;

/// A virtio-net header stands before each frame.
#[derive(Clone, Copy, Debug)]
struct PacketVnetHdr;
setsockopt_impl!(
    PacketVnetHdr,
    libc::SOL_PACKET,
    PACKET_VNET_HDR,
    bool,
    nix::sys::socket::sockopt::SetBool
);

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

/// Less than this before the next frame is due, the generator looks at the clock all the time.
const SPIN: Duration = Duration::from_micros(200);
/// Length of the virtio-net header without the number of buffers.
const VNET_HDR: usize = 10;
/// Payload of a segment of a GSO frame.
const MSS: u16 = 1448;

/// A socket bound to one interface, and what goes out of it.
pub struct Generator {
    socket: OwnedFd,
    load: Load,
}

/// What goes out.
enum Load {
    /// These in turn.
    Frames(Vec<Vec<u8>>),
    /// The frames of a range in turn.
    Range(Range),
}

/// The same frame from or to many stations. It is written into the same few buffers for each batch, so that what the generator
/// itself would pay for so many frames, which are not in the processor's cache, is in no figure of a switch.
pub struct Range {
    /// How it looks but for the address.
    pub frame: Vec<u8>,
    /// Where the address is: 0, the destination's, or 6, the source's.
    pub at: usize,
    /// Number of the first station; see [`address`].
    pub first: u32,
    /// How many stations there are.
    pub count: u32,
}

impl Range {
    /// The frames from the `offered`th on.
    fn write(&self, buffers: &mut [Vec<u8>], offered: u64) {
        let start = (offered % u64::from(self.count)) as u32;
        for (i, buffer) in (start..).zip(buffers) {
            buffer[self.at..self.at + 6].copy_from_slice(&address(self.first + i % self.count));
        }
    }
}

/// A locally administered address.
fn address(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.to_be_bytes();
    [0x0a, 0x2e, a, b, c, d]
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
        let (socket, source) = bound(interface)?;
        Ok(Self {
            socket,
            load: Load::Frames(vec![udp_frame(source, destination, size)]),
        })
    }

    /// Frames of the caller's, which go out in turn. With `vnet` each begins with a virtio-net header.
    ///
    /// # Errors
    /// As [`Generator::open`].
    pub fn with_frames(interface: &str, frames: Vec<Vec<u8>>, vnet: bool) -> Result<Self> {
        anyhow::ensure!(!frames.is_empty(), "no frame to send");
        let (socket, _) = bound(interface)?;
        if vnet {
            setsockopt(&socket, PacketVnetHdr, &true).context("PACKET_VNET_HDR")?;
        }
        let load = Load::Frames(frames);
        Ok(Self { socket, load })
    }

    /// Frames of many stations.
    ///
    /// # Errors
    /// As [`Generator::open`], and if there are none.
    pub fn with_range(interface: &str, range: Range) -> Result<Self> {
        anyhow::ensure!(range.count > 0, "no station");
        anyhow::ensure!(
            range.frame.len() >= range.at + 6,
            "no room for the address of a station"
        );
        let (socket, _) = bound(interface)?;
        let load = Load::Range(range);
        Ok(Self { socket, load })
    }

    /// Sends as fast as the interface takes frames.
    ///
    /// # Errors
    /// If the interface goes down or away.
    pub fn run(&self, duration: Duration) -> Result<Sent> {
        self.send(u64::MAX, None, duration)
    }

    /// Sends `count` frames evenly at `rate` frames a second, or as fast as the interface takes them, but no longer than
    /// `limit`.
    ///
    /// # Errors
    /// As [`Generator::run`].
    pub fn send(&self, count: u64, rate: Option<f64>, limit: Duration) -> Result<Sent> {
        let (frames, range) = match &self.load {
            Load::Frames(frames) => (&frames[..], None),
            Load::Range(range) => (&[][..], Some(range)),
        };
        let frames: Vec<_> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
        let mut buffers = range.map_or_else(Vec::new, |range| vec![range.frame.clone(); BATCH]);
        // At a rate no more at once than are due in 100 us.
        let most = rate.map_or(BATCH, |rate| ((rate / 1e4) as usize).clamp(1, BATCH)) as u64;
        let addresses = [None::<LinkAddr>; BATCH];
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let mut result = Sent::default();
        let start = Instant::now();
        while start.elapsed() < limit && result.offered() < count {
            if let Some(rate) = rate {
                wait_until(start + Duration::from_secs_f64(result.offered() as f64 / rate));
            }
            let batch = most.min(count - result.offered()) as usize;
            let fd = self.socket.as_raw_fd();
            let addresses = &addresses[..batch];
            let outcome = if let Some(range) = range {
                range.write(&mut buffers[..batch], result.offered());
                let next: Vec<_> = buffers[..batch].iter().map(|frame| [IoSlice::new(frame)]).collect();
                sendmmsg(fd, &mut headers, &next, addresses, [], MsgFlags::empty()).map(|sent| sent.count())
            } else {
                let first = (result.offered() % frames.len() as u64) as usize;
                let next = frames[first..].iter().chain(frames.iter().cycle()).take(batch);
                sendmmsg(fd, &mut headers, next, addresses, [], MsgFlags::empty()).map(|sent| sent.count())
            };
            match outcome {
                Ok(sent) => {
                    result.sent += sent as u64;
                    // The call stops at a frame that is refused, and that frame is lost.
                    result.refused += u64::from(sent < batch);
                }
                Err(Errno::ENOBUFS) => result.refused += 1,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("the generator can't send"),
            }
        }
        result.seconds = start.elapsed().as_secs_f64();
        Ok(result)
    }

    /// Sends one frame of the caller's at once; false if it is refused.
    ///
    /// # Errors
    /// As [`Generator::run`].
    pub fn send_now(&self, frame: &[u8]) -> Result<bool> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::ENOBUFS) => Ok(false),
            Err(error) => Err(error).context("the generator can't send"),
        }
    }
}

impl Sent {
    /// Frames that there were.
    pub fn offered(&self) -> u64 {
        self.sent + self.refused
    }
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > SPIN {
            sleep(left - SPIN);
        }
    }
}

/// A socket that sends out of the interface, and the interface's own address.
fn bound(interface: &str) -> Result<(OwnedFd, [u8; 6])> {
    let address = link_address(interface)?;
    let source = address
        .addr()
        .with_context(|| format!("{interface} has no MAC address"))?;
    // Protocol 0: the socket receives nothing.
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .context("no AF_PACKET socket (needs CAP_NET_RAW)")?;
    setsockopt(&socket, PacketQdiscBypass, &true).context("PACKET_QDISC_BYPASS")?;
    bind(socket.as_raw_fd(), &address).with_context(|| format!("the generator can't use {interface}"))?;
    Ok((socket, source))
}

/// A frame of no protocol: IEEE 802 Local Experimental EtherType 1, which no stack takes.
pub fn plain_frame(destination: [u8; 6], source: [u8; 6], size: usize) -> Vec<u8> {
    let mut frame = [&destination[..], &source[..], &[0x88, 0xb5]].concat();
    frame.resize(size, 0);
    frame
}

/// A TCP frame over IPv4 of up to 65,549 bytes behind the virtio-net header that lets the kernel carry it whole (GSO).
pub fn gso_frame(destination: [u8; 6], source: [u8; 6], size: usize) -> Vec<u8> {
    let mut wire = udp_frame(source, destination, size);
    // TCP in place of UDP: 32 bytes of header, an acknowledgement, options of no meaning.
    wire[23] = 6;
    wire[24..26].fill(0);
    let checksum = internet_checksum(&wire[14..34]);
    wire[24..26].copy_from_slice(&checksum.to_be_bytes());
    wire[34..66].fill(0);
    wire[34..38].copy_from_slice(&[0, 9, 0, 9]);
    wire[46..50].copy_from_slice(&[0x80, 0x10, 0xff, 0xff]);
    wire[54..66].fill(1);
    // The sum of the pseudo header stands where the checksum is to go.
    let pseudo = [&wire[26..34], &[0, 6], &((size - 34) as u16).to_be_bytes()].concat();
    wire[50..52].copy_from_slice(&(!internet_checksum(&pseudo)).to_be_bytes());

    // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4.
    let mut frame = vec![1, 1];
    // Headers, segment, where summing begins, where the sum goes from there.
    for value in [66, MSS, 34, 16] {
        frame.extend(value.to_le_bytes());
    }
    debug_assert_eq!(frame.len(), VNET_HDR);
    frame.extend(wire);
    frame
}

/// The interface as an address for AF_PACKET, looked up in the namespace of the calling thread.
///
/// # Errors
/// If it is not there.
pub fn link_address(interface: &str) -> Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .find_map(|entry| entry.address?.as_link_addr().copied())
        .with_context(|| format!("no interface {interface} here"))
}

/// UDP over IPv4 to the discard port, without checksum.
pub fn udp_frame(source: [u8; 6], destination: [u8; 6], size: usize) -> Vec<u8> {
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
    use super::{Range, address, internet_checksum, plain_frame, udp_frame};

    #[test]
    fn stations_take_turns_over_the_ends_of_batches() {
        let range = Range {
            frame: plain_frame([0xff; 6], [0; 6], 60),
            at: 6,
            first: 1000,
            count: 5,
        };
        let mut buffers = vec![range.frame.clone(); 4];
        for offered in [0, 4, 8] {
            range.write(&mut buffers, offered);
            for (buffer, i) in buffers.iter().zip(offered..) {
                assert_eq!(buffer[..6], [0xff; 6]);
                assert_eq!(buffer[6..12], address(1000 + i as u32 % 5));
            }
        }
    }

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
