//! AF_PACKET sockets with the virtio-net header: whole batches in and out by `recvmmsg` and `sendmmsg` (packet(7)).

use std::cell::RefCell;
use std::io;
use std::mem::{self, size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

mod ioctl {
    // SIOCGSKNS of linux/sockios.h: the network namespace of a socket.
    nix::ioctl_none_bad!(socket_netns, 0x894c);
}

/// Bytes of frames that may wait in the socket. A burst of GSO frames is charged with 64 KiB and more a frame.
const RECEIVE_BUFFER: libc::c_int = 16 << 20;
/// Bytes of frames that may be on their way out.
pub(super) const SEND_BUFFER: libc::c_int = 16 << 20;
/// Most frames that one call moves.
pub const MAX_MESSAGES: usize = 64;
/// Room for one `tpacket_auxdata` control message.
const CONTROL_LEN: usize = 64;

/// A raw packet socket bound to one interface. Frames that the interface sends itself are not seen.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Opens a socket on the interface `ifindex` in the network namespace of the calling thread.
    ///
    /// What it sends goes by the interface's queueing discipline: past it (PACKET_QDISC_BYPASS) the kernel drops each frame that it
    /// would have to cut up for the interface (`__dev_direct_xmit`).
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW over the namespace, ENODEV if there is no such interface.
    pub fn open(ifindex: u32, promiscuous: bool) -> io::Result<Self> {
        // Nothing is received before everything is set and the socket is bound.
        let socket = Self::unbound()?;
        let on: libc::c_int = 1;
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &on)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on)?;
        socket
            .set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER)
            .or_else(|_| socket.set(libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BUFFER))?;
        socket.set_send_buffer()?;
        if promiscuous {
            socket.set_promiscuous(ifindex)?;
        }
        socket.bind(ifindex, libc::ETH_P_ALL as u16)?;
        Ok(socket)
    }

    /// Opens a socket that only sends, by the interface `ifindex` in the network namespace of the calling thread, and past its
    /// queueing discipline and filters: for frames that nothing is left to be done to but a checksum. One that the kernel would have
    /// to cut up is lost.
    ///
    /// # Errors
    /// Those of [`PacketSocket::open`].
    pub fn sender(ifindex: u32) -> io::Result<Self> {
        let socket = Self::unbound()?;
        let on: libc::c_int = 1;
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &on)?;
        socket.set(libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &on)?;
        socket.set_send_buffer()?;
        socket.bind(ifindex, 0)?;
        Ok(socket)
    }

    /// The same socket once more, for the next daemon. To close the last of them takes the kernel a grace period (`packet_release`), some
    /// 10 ms.
    ///
    /// # Errors
    /// Want of descriptors.
    pub fn keep(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// A sender that was kept: see [`sends_by`].
    pub fn kept(socket: OwnedFd) -> Self {
        Self(socket)
    }

    fn set_send_buffer(&self) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)
            .or_else(|_| self.set(libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER))
    }

    /// `protocol`: of the frames that come to it; 0: none do.
    fn bind(&self, ifindex: u32, protocol: u16) -> io::Result<()> {
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = ifindex as libc::c_int;
        // SAFETY: the pointer and length describe `address`, which outlives the call.
        let result = unsafe {
            libc::bind(
                self.0.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// With protocol 0: nothing comes to it.
    fn unbound() -> io::Result<Self> {
        // SAFETY: plain call without pointers; the result is checked.
        let fd = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open and owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn set_promiscuous(&self, ifindex: u32) -> io::Result<()> {
        // SAFETY: all-zero is a valid packet_mreq.
        let mut membership: libc::packet_mreq = unsafe { mem::zeroed() };
        membership.mr_ifindex = ifindex as libc::c_int;
        membership.mr_type = libc::PACKET_MR_PROMISC as libc::c_ushort;
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        // SAFETY: the pointer and length describe `value`, which outlives the call.
        let result = unsafe {
            let len = size_of_val(value) as libc::socklen_t;
            libc::setsockopt(self.0.as_raw_fd(), level, option, ptr::from_ref(value).cast(), len)
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Frames that the kernel dropped since the last call because the socket's queue was full.
    pub fn take_overruns(&self) -> io::Result<u32> {
        // SAFETY: all-zero is a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { mem::zeroed() };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the pointers are valid for the call, and `len` is the size of `stats`.
        let result = unsafe {
            let value = ptr::from_mut(&mut stats).cast();
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                value,
                &mut len,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(stats.tp_drops)
        }
    }
}

/// What a [`PacketSocket::sender`] sends by: a file of its network namespace, and the index of the interface there.
///
/// # Errors
/// It is none, or its interface is gone. ENOSPC, EMFILE.
pub fn sends_by(socket: &OwnedFd) -> io::Result<(OwnedFd, u32)> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the kernel writes no more than `length` bytes, which are those of `address`. What another family writes there is not looked at.
    let result = unsafe { libc::getsockname(socket.as_raw_fd(), ptr::from_mut(&mut address).cast(), &raw mut length) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let index = u32::try_from(address.sll_ifindex).unwrap_or_default();
    if i32::from(address.sll_family) != libc::AF_PACKET || address.sll_protocol != 0 || index == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no argument; the kernel returns a new descriptor or an error.
    let netns = unsafe { ioctl::socket_netns(socket.as_raw_fd()) }?;
    // SAFETY: the kernel has just opened it for us, and nobody else knows it.
    Ok((unsafe { OwnedFd::from_raw_fd(netns) }, index))
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes an interface take all frames as long as the value lives.
#[derive(Debug)]
pub struct Promiscuous {
    _socket: PacketSocket,
}

impl Promiscuous {
    /// Of the interface `ifindex` in the network namespace of the calling thread.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW over the namespace, ENODEV if there is no such interface.
    pub fn set(ifindex: u32) -> io::Result<Self> {
        let socket = PacketSocket::unbound()?;
        socket.set_promiscuous(ifindex)?;
        Ok(Self { _socket: socket })
    }
}

/// What came with one received message.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Bytes written into the buffer: virtio-net header and frame. A frame that did not fit fills the buffer.
    pub len: usize,
    /// A tag that the kernel carries beside the frame: TPID and TCI (IEEE 802.1Q-2022 clause 9).
    pub tag: Option<(u16, u16)>,
}

thread_local! {
    static MESSAGES: RefCell<Messages> = RefCell::new(Messages::new());
}

/// Lends the calling thread its message headers. It must not ask for them again meanwhile: that panics.
pub fn with_messages<T>(call: impl FnOnce(&mut Messages) -> T) -> T {
    MESSAGES.with_borrow_mut(call)
}

/// Message headers of one thread, kept so that a batch needs no allocation.
pub struct Messages {
    headers: Box<[libc::mmsghdr; MAX_MESSAGES]>,
    iovecs: Box<[libc::iovec; MAX_MESSAGES]>,
    control: Box<[Control; MAX_MESSAGES]>,
}

// SAFETY: the pointers inside are only read by the kernel during a call, which sets them anew first.
unsafe impl Send for Messages {}

#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL_LEN]);

impl Messages {
    /// Empty headers.
    pub fn new() -> Self {
        // SAFETY: all-zero is a valid value of these C structs: null pointers with length zero.
        let (headers, iovecs) = unsafe { (mem::zeroed(), mem::zeroed()) };
        Self {
            headers: Box::new(headers),
            iovecs: Box::new(iovecs),
            control: Box::new([Control([0; CONTROL_LEN]); MAX_MESSAGES]),
        }
    }

    /// Receives up to `count` frames, the i-th into `arena[start(i)..][..room]`.
    /// Returns how many came; [`Messages::received`] tells about each.
    ///
    /// # Errors
    /// EAGAIN when nothing waits, ENETDOWN when the interface went down (said once), ENODEV when it is gone.
    pub fn receive(
        &mut self,
        socket: &PacketSocket,
        arena: &mut [u8],
        room: usize,
        count: usize,
        start: impl Fn(usize) -> usize,
    ) -> io::Result<usize> {
        let count = count.min(MAX_MESSAGES);
        let base = arena.as_mut_ptr();
        for i in 0..count {
            // Asked once: what was checked is what is used.
            let start = start(i);
            assert!(
                start.checked_add(room).is_some_and(|end| end <= arena.len()),
                "buffer {i} is outside the arena"
            );
            // SAFETY: the assertion keeps the buffer within the arena.
            let buffer = unsafe { base.add(start) };
            self.iovecs[i] = libc::iovec {
                iov_base: buffer.cast(),
                iov_len: room,
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_iov = &mut self.iovecs[i];
            header.msg_iovlen = 1;
            header.msg_control = self.control[i].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL_LEN;
            header.msg_flags = 0;
        }
        // SAFETY: the first `count` headers point to buffers inside `arena` and to control buffers of `self`,
        // both borrowed mutably for the call; overlapping buffers would only mix up frames, not memory.
        let result = unsafe {
            let (headers, count) = (self.headers.as_mut_ptr(), count as libc::c_uint);
            libc::recvmmsg(
                socket.0.as_raw_fd(),
                headers,
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result as usize)
        }
    }

    /// What the i-th message of the last [`Messages::receive`] was.
    pub fn received(&self, i: usize) -> Received {
        let message = &self.headers[i];
        Received {
            len: (message.msg_len as usize).min(self.iovecs[i].iov_len),
            tag: self.tag(i),
        }
    }

    fn tag(&self, i: usize) -> Option<(u16, u16)> {
        let header = &self.headers[i].msg_hdr;
        // SAFETY: the kernel filled in the control buffer and its length; the CMSG macros stay within them,
        // and the payload is copied out unaligned after its type and length were checked.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(header);
            if message.is_null()
                || (*message).cmsg_level != libc::SOL_PACKET
                || (*message).cmsg_type != libc::PACKET_AUXDATA
                || (*message).cmsg_len < libc::CMSG_LEN(size_of::<libc::tpacket_auxdata>() as u32) as usize
            {
                return None;
            }
            let auxdata: libc::tpacket_auxdata = ptr::read_unaligned(libc::CMSG_DATA(message).cast());
            let valid = auxdata.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            let tpid = if auxdata.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                auxdata.tp_vlan_tpid
            } else {
                0x8100
            };
            valid.then_some((tpid, auxdata.tp_vlan_tci))
        }
    }

    /// Sends `buffers` in order, each virtio-net header and frame. Returns how many were sent before the first
    /// that was not; call again from there on to learn why.
    ///
    /// # Errors
    /// That of the first buffer: EAGAIN or ENOBUFS when a queue is full, ENETDOWN, EINVAL for a header that the
    /// kernel does not take.
    pub fn send<'a>(&mut self, socket: &PacketSocket, buffers: impl Iterator<Item = &'a [u8]>) -> io::Result<usize> {
        let mut count = 0;
        for (i, buffer) in buffers.take(MAX_MESSAGES).enumerate() {
            self.iovecs[i] = libc::iovec {
                iov_base: buffer.as_ptr().cast_mut().cast(),
                iov_len: buffer.len(),
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_iov = &mut self.iovecs[i];
            header.msg_iovlen = 1;
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            count += 1;
        }
        // SAFETY: the first `count` headers point to buffers that are borrowed for 'a, which outlasts the call;
        // the kernel only reads them.
        let result = unsafe {
            libc::sendmmsg(
                socket.0.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result as usize)
        }
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self::new()
    }
}
