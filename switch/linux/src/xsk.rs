//! AF_XDP sockets: one queue of an interface, received from and sent to by rings in memory that is shared with the kernel
//! (linux Documentation/networking/af_xdp.rst).
//!
//! The memory of frames (umem) is cut into chunks. Those of the first part go round between the fill ring and the receive
//! ring, those of the second between a list of free ones, the send ring and the completion ring.

use std::io;
use std::marker::PhantomData;
use std::mem::{self, size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use super::lock;
use super::mapping::Mapping;
use super::packet::SEND_BUFFER;

/// Bytes of a chunk.
const CHUNK: usize = 4096;
/// Chunks to receive into: entries of the fill and the receive ring.
const RECEIVE_CHUNKS: u32 = 2048;
/// Chunks to send from: entries of the send and the completion ring.
const SEND_CHUNKS: u32 = 1024;
/// Bytes that the kernel leaves free before a received frame (linux XDP_PACKET_HEADROOM).
const HEADROOM: usize = 256;
/// Longest frame that can be received, in bytes.
pub const MAX_RECEIVED: usize = CHUNK - HEADROOM;
/// Bytes before a received frame in which a program may have left word.
pub const META: usize = 8;
/// How often the kernel is asked again to send what it had no room for.
const TRIES: u32 = 8;

/// Whether the kernel copies frames between the driver's memory and ours.
#[derive(Clone, Copy, Debug)]
pub enum Copies {
    /// Not where the driver can do without.
    IfNeeded,
    /// The driver learns nothing of the socket.
    Always,
}

/// A socket on one queue. One thread at a time receives, and one sends.
#[derive(Debug)]
pub struct Xsk {
    receiver: Mutex<Receiver>,
    sender: Mutex<Sender>,
    umem: Mapping,
    fd: OwnedFd,
    zero_copy: bool,
}

#[derive(Debug)]
struct Receiver {
    fill: Ring<u64>,
    received: Ring<libc::xdp_desc>,
}

#[derive(Debug)]
struct Sender {
    to_send: Ring<libc::xdp_desc>,
    completed: Ring<u64>,
    /// Chunks that nothing is in.
    free: Vec<u64>,
    /// The kernel took nothing of what lay in the ring when it was last asked.
    stuck: bool,
    /// Frames that the interface did not take, since the last [`Xsk::flush`].
    refused: usize,
}

impl Xsk {
    /// Opens a socket on a queue of the interface `ifindex` in the network namespace of the calling thread. Nothing is received before a program leads frames to it.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; EBUSY: the queue has a socket already; EINVAL: there is no such queue; ENOBUFS: the limit
    /// of locked memory.
    pub fn open(ifindex: u32, queue: u32, copies: Copies) -> io::Result<Self> {
        // SAFETY: plain call without pointers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let umem = Mapping::anonymous((RECEIVE_CHUNKS + SEND_CHUNKS) as usize * CHUNK)?;
        let registration = libc::xdp_umem_reg {
            addr: umem.base.as_ptr() as u64,
            len: umem.len as u64,
            chunk_size: CHUNK as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(&fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &registration)?;
        set(&fd, libc::SOL_XDP, libc::XDP_UMEM_FILL_RING, &RECEIVE_CHUNKS)?;
        set(&fd, libc::SOL_XDP, libc::XDP_RX_RING, &RECEIVE_CHUNKS)?;
        set(&fd, libc::SOL_XDP, libc::XDP_TX_RING, &SEND_CHUNKS)?;
        set(&fd, libc::SOL_XDP, libc::XDP_UMEM_COMPLETION_RING, &SEND_CHUNKS)?;
        // A copied frame counts as under way until whoever gets it has freed it.
        set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER)
            .or_else(|_| set(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER))?;
        let offsets: libc::xdp_mmap_offsets = get(&fd, libc::XDP_MMAP_OFFSETS)?;
        let mut fill = Ring::map(&fd, libc::XDP_UMEM_PGOFF_FILL_RING as i64, &offsets.fr, RECEIVE_CHUNKS)?;
        let received = Ring::map(&fd, libc::XDP_PGOFF_RX_RING, &offsets.rx, RECEIVE_CHUNKS)?;
        let to_send = Ring::map(&fd, libc::XDP_PGOFF_TX_RING, &offsets.tx, SEND_CHUNKS)?;
        let pgoff = libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64;
        let completed = Ring::map(&fd, pgoff, &offsets.cr, SEND_CHUNKS)?;
        for chunk in 0..RECEIVE_CHUNKS {
            fill.put(u64::from(chunk) * CHUNK as u64);
        }
        fill.publish();
        bind(&fd, ifindex, queue, copies)?;
        let options: libc::xdp_options = get(&fd, libc::XDP_OPTIONS)?;
        let last = RECEIVE_CHUNKS + SEND_CHUNKS;
        let free = (RECEIVE_CHUNKS..last).map(|chunk| u64::from(chunk) * CHUNK as u64);
        Ok(Self {
            receiver: Mutex::new(Receiver { fill, received }),
            sender: Mutex::new(Sender {
                to_send,
                completed,
                free: free.collect(),
                stuck: false,
                refused: 0,
            }),
            umem,
            zero_copy: options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0,
            fd,
        })
    }

    /// Whether the driver reads and writes frames where they lie.
    pub fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Takes up to `most` frames that wait: `each` gets the bytes that a program left before a frame, and the frame.
    pub fn receive(&self, most: usize, mut each: impl FnMut(&[u8; META], &[u8])) -> usize {
        let Receiver { fill, received } = &mut *lock(&self.receiver);
        let count = received.waiting().min(most as u32).min(fill.room());
        for _ in 0..count {
            let desc = received.take();
            // SAFETY: the chunk of a received frame is ours until it is back in the fill ring.
            let bytes = unsafe {
                self.umem
                    .bytes(desc.addr.wrapping_sub(META as u64), META + desc.len as usize)
            };
            if let Some((meta, frame)) = bytes.and_then(|bytes| bytes.split_first_chunk()) {
                each(meta, frame);
            }
            fill.put(desc.addr - desc.addr % CHUNK as u64);
        }
        if count > 0 {
            received.release();
            fill.publish();
            if fill.needs_wakeup() {
                // SAFETY: no bytes are written. It only wakes the driver, and what is wrong the next call will tell.
                unsafe { libc::recv(self.fd.as_raw_fd(), ptr::null_mut(), 0, libc::MSG_DONTWAIT) };
            }
        }
        count as usize
    }

    /// Puts copies of frames into the send ring; they leave with [`Xsk::flush`] at the latest. `sent` is called for each.
    ///
    /// # Errors
    /// For a frame: EMSGSIZE if it is longer than a chunk, ENOBUFS if the ring is full, ENETDOWN, ENXIO.
    pub fn send<'a>(&self, frames: impl Iterator<Item = &'a [u8]>, mut sent: impl FnMut(usize, io::Result<()>)) {
        let sender = &mut *lock(&self.sender);
        sender.reap();
        // Of an interface that is down nothing may wait in the ring until it is up.
        let down = match sender.stuck {
            true => sender.kick(&self.fd).err().and_then(|error| error.raw_os_error()),
            false => None,
        };
        for (i, frame) in frames.enumerate() {
            if let Some(errno) = down {
                sent(i, Err(io::Error::from_raw_os_error(errno)));
                continue;
            }
            if frame.len() > CHUNK {
                sent(i, Err(io::Error::from_raw_os_error(libc::EMSGSIZE)));
                continue;
            }
            if sender.free.is_empty() {
                // What is wrong, if it can't send, is that the ring is full.
                let _ = sender.kick(&self.fd);
                sender.reap();
            }
            let Some(chunk) = sender.free.pop() else {
                sent(i, Err(io::Error::from_raw_os_error(libc::ENOBUFS)));
                continue;
            };
            // SAFETY: a chunk from the free list is ours until the send ring has it, and `frame` lies outside the umem.
            if let Some(place) = unsafe { self.umem.bytes_mut(chunk, frame.len()) } {
                place.copy_from_slice(frame);
            }
            sender.to_send.put(libc::xdp_desc {
                addr: chunk,
                len: frame.len() as u32,
                options: 0,
            });
            sent(i, Ok(()));
        }
    }

    /// Makes the kernel send what is in the ring, if it has to be told. How many frames an interface did not take to which they are copied, as
    /// a veth those that are too long for its other end.
    pub fn flush(&self) -> usize {
        let sender = &mut *lock(&self.sender);
        // The next to send is told.
        let _ = sender.kick(&self.fd);
        mem::take(&mut sender.refused)
    }

    /// Frames for this queue that found no room since it was opened.
    ///
    /// # Errors
    /// None is known.
    pub fn overruns(&self) -> io::Result<u64> {
        let statistics: libc::xdp_statistics = get(&self.fd, libc::XDP_STATISTICS)?;
        Ok(statistics.rx_dropped + statistics.rx_ring_full)
    }
}

impl AsFd for Xsk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Sender {
    /// Takes back the chunks of frames that have left.
    fn reap(&mut self) {
        for _ in 0..self.completed.waiting() {
            let chunk = self.completed.take();
            self.free.push(chunk - chunk % CHUNK as u64);
        }
        self.completed.release();
    }

    /// Hands over what is in the ring. A copying kernel sends so many frames a call (32 by default) and says EAGAIN.
    fn kick(&mut self, fd: &OwnedFd) -> io::Result<()> {
        self.to_send.publish();
        let mut tries = 0;
        self.stuck = false;
        while self.to_send.needs_wakeup() && self.to_send.room() < SEND_CHUNKS {
            let before = self.to_send.room();
            // SAFETY: no bytes are read, and no address.
            let result = unsafe {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                libc::sendto(fd.as_raw_fd(), ptr::null(), 0, flags, ptr::null(), 0)
            };
            if result >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                // What a copying kernel says of a frame that is gone (NET_XMIT_DROP in `xsk_generic_xmit`), and then stops.
                Some(libc::EBUSY) if self.to_send.room() != before => self.refused += 1,
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS | libc::EINTR) => {}
                _ => {
                    self.stuck = true;
                    return Err(error);
                }
            }
            if self.to_send.room() == before {
                tries += 1;
                if tries == TRIES {
                    // The driver's queue is full: what is left goes with the next call.
                    return Ok(());
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

/// One of the four rings. The kernel is at its other end, so its index may move at any time.
#[derive(Debug)]
struct Ring<T> {
    mapping: Mapping,
    producer: u64,
    consumer: u64,
    flags: u64,
    entries: u64,
    size: u32,
    /// Our index: of the producer where we put in, of the consumer where we take out.
    own: u32,
    of: PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    fn map(fd: &OwnedFd, page_offset: i64, offsets: &libc::xdp_ring_offset, size: u32) -> io::Result<Self> {
        let len = offsets.desc as usize + size as usize * size_of::<T>();
        let mapping = Mapping::new(len, Some((fd, page_offset)))?;
        let inside = |at: u64| at as usize + size_of::<u32>() <= len && at.is_multiple_of(4);
        let aligned = (offsets.desc as usize).is_multiple_of(mem::align_of::<T>());
        if !(inside(offsets.producer) && inside(offsets.consumer) && inside(offsets.flags) && aligned) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self {
            mapping,
            producer: offsets.producer,
            consumer: offsets.consumer,
            flags: offsets.flags,
            entries: offsets.desc,
            size,
            own: 0,
            of: PhantomData,
        })
    }

    fn word(&self, at: u64) -> &AtomicU32 {
        // SAFETY: `at` is inside the mapping and aligned (checked in `map`); the kernel uses it atomically as well.
        unsafe { AtomicU32::from_ptr(self.mapping.base.as_ptr().add(at as usize).cast()) }
    }

    fn entry(&self, index: u32) -> *mut T {
        let slot = (index & (self.size - 1)) as usize;
        // SAFETY: the mapping has room for `size` entries, a power of two, from `entries` on.
        unsafe {
            self.mapping
                .base
                .as_ptr()
                .add(self.entries as usize)
                .cast::<T>()
                .add(slot)
        }
    }

    /// Entries that can be taken out.
    fn waiting(&self) -> u32 {
        self.word(self.producer)
            .load(Ordering::Acquire)
            .wrapping_sub(self.own)
            .min(self.size)
    }

    /// Takes one out; there must be one [`Ring::waiting`].
    fn take(&mut self) -> T {
        let entry = self.entry(self.own);
        self.own = self.own.wrapping_add(1);
        // SAFETY: aligned and inside (see `entry`); any bytes are a value of the two types that there are.
        unsafe { entry.read() }
    }

    /// Gives the places of what was taken out back to the kernel.
    fn release(&self) {
        self.word(self.consumer).store(self.own, Ordering::Release);
    }

    /// Entries that can be put in.
    fn room(&self) -> u32 {
        let consumer = self.word(self.consumer).load(Ordering::Acquire);
        self.size.saturating_sub(self.own.wrapping_sub(consumer))
    }

    /// Puts one in; there must be [`Ring::room`]. The kernel sees it after [`Ring::publish`].
    fn put(&mut self, entry: T) {
        let place = self.entry(self.own);
        self.own = self.own.wrapping_add(1);
        // SAFETY: aligned and inside (see `entry`), and not the kernel's before it is published.
        unsafe { place.write(entry) };
    }

    fn publish(&self) {
        self.word(self.producer).store(self.own, Ordering::Release);
    }

    /// Whether the kernel only looks at the ring when it is called.
    fn needs_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

fn bind(fd: &OwnedFd, ifindex: u32, queue: u32, copies: Copies) -> io::Result<()> {
    let mode = match copies {
        Copies::IfNeeded => 0,
        Copies::Always => libc::XDP_COPY,
    };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP | mode,
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: pointer and length describe `address`, which outlives the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })
}

fn set<T>(fd: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, ptr::from_ref(value).cast(), len) })
}

/// Reads an option whose value is one of the plain structs of linux/if_xdp.h.
fn get<T: Plain>(fd: &OwnedFd, option: libc::c_int) -> io::Result<T> {
    // SAFETY: all-zero is a value of every such struct.
    let mut value: T = unsafe { mem::zeroed() };
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`, which outlives the call.
    check(unsafe {
        let value = ptr::from_mut(&mut value).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, option, value, &mut len)
    })?;
    if len as usize != size_of::<T>() {
        // An old kernel's shorter form.
        return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
    }
    Ok(value)
}

/// Structs of integers.
trait Plain {}
impl Plain for libc::xdp_mmap_offsets {}
impl Plain for libc::xdp_options {}
impl Plain for libc::xdp_statistics {}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
