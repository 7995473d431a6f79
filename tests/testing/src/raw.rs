//! Frames in and out of an interface as they are (packet(7)), with the virtio-net header if wanted.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::netns::Place;

/// The longest GSO frame with its headers, and some.
const LONGEST: usize = 70_000;

/// `struct virtio_net_hdr` (virtio 1.2, 5.1.6), little-endian as on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct VnetHeader {
    /// 1: the checksum is partial, to be finished from `csum_start` on; 2: it was found right.
    pub flags: u8,
    /// 0 none, 1 TCPv4, 4 TCPv6, 5 UDP; bit 7: ECN.
    pub gso_type: u8,
    /// Length of the headers of a GSO frame.
    pub hdr_len: u16,
    /// Payload of one segment.
    pub gso_size: u16,
    /// Where summing starts.
    pub csum_start: u16,
    /// Where the sum goes, from `csum_start` on.
    pub csum_offset: u16,
}

/// A frame as it came, its outermost tag (which the kernel keeps aside) put back in.
#[derive(Clone, Debug)]
pub struct Frame {
    /// From the destination address on.
    pub bytes: Vec<u8>,
    /// The virtio-net header; all zero on a socket opened without.
    pub vnet: VnetHeader,
}

/// An AF_PACKET socket bound to one interface. It does not see what is sent on this side.
pub struct RawSocket {
    fd: OwnedFd,
    vnet: bool,
}

impl RawSocket {
    /// Opens a socket on an interface; with `vnet`, frames carry the virtio-net header both ways.
    pub fn open(place: &Place, ifname: &str, vnet: bool) -> Self {
        place
            .run(|| Self::open_here(ifname, vnet))
            .unwrap_or_else(|e| panic!("raw socket on {ifname}: {e}"))
    }

    fn open_here(ifname: &str, vnet: bool) -> io::Result<Self> {
        let ifindex = if_nametoindex(ifname)?;
        // SAFETY: a plain system call; the new descriptor is checked and owned by nobody else.
        let fd = unsafe {
            let fd = libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            );
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let socket = Self { fd, vnet };
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
        socket.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 32 << 20)?;
        if vnet {
            socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        }
        // SAFETY: all zeros is a valid sockaddr_ll, and the kernel only reads it.
        unsafe {
            let mut address: libc::sockaddr_ll = zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
            address.sll_ifindex = ifindex as i32;
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            check(libc::bind(socket.fd.as_raw_fd(), (&raw const address).cast(), length) as isize)?;
        }
        Ok(socket)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel reads one int.
        let result = unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const value).cast(), length) };
        check(result as isize).map(drop)
    }

    /// Sends a frame as it is.
    pub fn send(&self, frame: &[u8]) {
        self.try_send(VnetHeader::default(), frame)
            .unwrap_or_else(|e| panic!("send {} bytes: {e}", frame.len()));
    }

    /// Sends a frame with a virtio-net header.
    pub fn send_vnet(&self, header: VnetHeader, frame: &[u8]) {
        self.try_send(header, frame)
            .unwrap_or_else(|e| panic!("send {} bytes, {header:?}: {e}", frame.len()));
    }

    /// The same where the kernel may refuse what it is given.
    pub fn try_send(&self, header: VnetHeader, frame: &[u8]) -> io::Result<()> {
        self.write(header, frame, |error| {
            error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
        })
    }

    /// The same where the kernel may drop it, of which it says no more than of a full queue (ENOBUFS).
    pub fn offer(&self, header: VnetHeader, frame: &[u8]) -> io::Result<()> {
        self.write(header, frame, |error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn write(&self, mut header: VnetHeader, frame: &[u8], passes: fn(&io::Error) -> bool) -> io::Result<()> {
        let mut parts = [
            libc::iovec {
                iov_base: (&raw mut header).cast(),
                iov_len: size_of::<VnetHeader>(),
            },
            libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            },
        ];
        let parts = if self.vnet { &mut parts[..] } else { &mut parts[1..] };
        loop {
            // SAFETY: both parts are live and of the stated length; writev only reads them.
            let result = unsafe { libc::writev(self.fd.as_raw_fd(), parts.as_ptr(), parts.len() as libc::c_int) };
            match check(result) {
                Err(error) if passes(&error) => self.poll(PollFlags::POLLOUT, PollTimeout::from(10u8))?,
                other => return other.map(drop),
            }
        }
    }

    /// Bytes of the next frame that comes in until `end`, however long it is; it is not kept.
    pub fn recv_len(&self, end: Instant) -> Option<usize> {
        self.wait(end, || {
            // SAFETY: no bytes are written; with MSG_TRUNC the kernel gives the length of the frame all the same.
            check(unsafe { libc::recv(self.fd.as_raw_fd(), std::ptr::null_mut(), 0, libc::MSG_TRUNC) })
        })
    }

    /// The next frame that comes in until `end`.
    pub fn recv(&self, end: Instant) -> Option<Frame> {
        self.wait(end, || self.try_recv())
    }

    fn wait<T>(&self, end: Instant, mut receive: impl FnMut() -> io::Result<T>) -> Option<T> {
        loop {
            match receive() {
                Ok(frame) => return Some(frame),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.poll(PollFlags::POLLIN, PollTimeout::try_from(left).unwrap())
                        .unwrap();
                }
                // The interface went down: what comes when it is up again is still ours.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(error) => panic!("receive: {error}"),
            }
        }
    }

    /// A frame that is there already.
    pub fn try_recv(&self) -> io::Result<Frame> {
        let mut vnet = VnetHeader::default();
        let mut bytes = vec![0u8; LONGEST];
        let mut control = [0u64; 16];
        let mut parts = [
            libc::iovec {
                iov_base: (&raw mut vnet).cast(),
                iov_len: size_of::<VnetHeader>(),
            },
            libc::iovec {
                iov_base: bytes.as_mut_ptr().cast(),
                iov_len: bytes.len(),
            },
        ];
        let parts = if self.vnet { &mut parts[..] } else { &mut parts[1..] };
        // SAFETY: all zeros is a valid msghdr; the buffers it names outlive the call.
        let (length, tag) = unsafe {
            let mut message: libc::msghdr = zeroed();
            message.msg_iov = parts.as_mut_ptr();
            message.msg_iovlen = parts.len() as _;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            let length = check(libc::recvmsg(self.fd.as_raw_fd(), &mut message, 0))?;
            assert!(
                message.msg_flags & libc::MSG_TRUNC == 0,
                "a frame of more than {LONGEST} bytes"
            );
            (length, tag_of(&message))
        };
        bytes.truncate(if self.vnet {
            length - size_of::<VnetHeader>()
        } else {
            length
        });
        if let Some((tpid, tci)) = tag {
            let [a, b] = tpid.to_be_bytes();
            let [c, d] = tci.to_be_bytes();
            bytes.splice(12..12, [a, b, c, d]);
        }
        Ok(Frame { bytes, vnet })
    }

    fn poll(&self, events: PollFlags, timeout: PollTimeout) -> io::Result<()> {
        poll(&mut [PollFd::new(self.fd.as_fd(), events)], timeout)
            .map(drop)
            .map_err(Into::into)
    }
}

/// TPID and TCI that the kernel took out of the frame.
///
/// # Safety
/// `message` was filled in by recvmsg and its control buffer is still there.
unsafe fn tag_of(message: &libc::msghdr) -> Option<(u16, u16)> {
    // SAFETY: by the contract above; a PACKET_AUXDATA message holds one tpacket_auxdata, which is read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if ((*header).cmsg_level, (*header).cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA) {
                let aux = libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
                let tpid = if aux.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                    aux.tp_vlan_tpid
                } else {
                    0x8100
                };
                return (aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some((tpid, aux.tp_vlan_tci));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
        None
    }
}

fn check(result: isize) -> io::Result<usize> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as usize)
    }
}
