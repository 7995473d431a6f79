//! Many reads or writes by one system call, where the kernel has io_uring (io_uring(7)).
//!
//! A call hands its requests to the kernel and returns when all of them are done, so nothing is ever under way between two calls:
//! there is nothing to cancel when a descriptor is closed or a thread ends, and no buffer that the kernel may still write to. No
//! request waits for its file: one that can't go on is done with EAGAIN (`RWF_NOWAIT`).

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, squeue, types};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::Mode;

/// Most requests of one call.
pub const MAX_REQUESTS: usize = 64;

/// The ring of one thread.
pub struct Ring {
    ring: IoUring,
    entries: Vec<squeue::Entry>,
    results: [i32; MAX_REQUESTS],
    /// The kernel did not take some requests: they are still in the ring, and must stay there.
    broken: bool,
}

enum Slot {
    Unasked,
    There(Box<Ring>),
    /// It can't be had, or broke.
    Absent,
}

thread_local! {
    static RING: RefCell<Slot> = const { RefCell::new(Slot::Unasked) };
}

/// Lends the calling thread its ring, which is made when it is first asked for; none if it can't be had.
pub fn with_ring<T>(call: impl FnOnce(Option<&mut Ring>) -> T) -> T {
    RING.with(|slot| {
        // Lent already, to a caller of this one.
        let Ok(mut slot) = slot.try_borrow_mut() else {
            return call(None);
        };
        if let Slot::Unasked = *slot {
            *slot = match Ring::new() {
                Ok(ring) => Slot::There(Box::new(ring)),
                Err(error) => {
                    tracing::warn!("a thread goes on without io_uring, by a system call for each frame: {error}");
                    Slot::Absent
                }
            };
        }
        let Slot::There(ring) = &mut *slot else {
            return call(None);
        };
        let result = call(Some(ring));
        if ring.broken {
            *slot = Slot::Absent;
        }
        result
    })
}

/// Whether rings can be had, and do what is needed of them.
///
/// # Errors
/// What the kernel says: ENOSYS or EINVAL before Linux 6.1, EOPNOTSUPP before 6.4, EPERM where it is forbidden (`kernel.io_uring_disabled`, seccomp).
pub fn probe() -> io::Result<()> {
    let mut ring = Ring::new()?;
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let event = EventFd::from_value_and_flags(1, flags)?;
    let mut arena = [0; 16];
    let mut results = ring.read(event.as_fd(), &mut arena, 8, 2, |i| i * 8);
    // The event is there once.
    match (results.next(), results.next()) {
        (Some(Ok(8)), Some(Err(Errno::EAGAIN))) => {}
        (Some(Err(error)), _) => return Err(error.into()),
        _ => return Err(Errno::EOPNOTSUPP.into()),
    }
    // TAP devices say that they never wait since Linux 6.4 (FMODE_NOWAIT in drivers/net/tun.c); before, each request is refused.
    let options = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let Ok(tun) = nix::fcntl::open("/dev/net/tun", options, Mode::empty()) else {
        // Then there are no TAP devices either.
        return Ok(());
    };
    let result = ring.read(tun.as_fd(), &mut arena, 8, 1, |_| 0).next();
    match result {
        Some(Err(error @ (Errno::EOPNOTSUPP | Errno::EINVAL))) => Err(error.into()),
        // EBADFD: it belongs to no device yet.
        _ => Ok(()),
    }
}

impl Ring {
    /// Of the calling thread: the kernel takes requests from no other.
    fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            // Linux 6.0 and 6.1. A request that is refused is one result among the others (5.18).
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            // Until it is said what for.
            .setup_r_disabled()
            // A child that is forked has nothing to do with it.
            .dontfork()
            .build(MAX_REQUESTS as u32)?;
        // A ring opens files and sockets past the system calls that a worker is held to (`syscalls`), unless it can't either, for ever.
        let mut allowed = [opcode::Read::CODE, opcode::Write::CODE].map(Restriction::sqe_op);
        ring.submitter().register_restrictions(&mut allowed)?;
        ring.submitter().register_enable_rings()?;
        Ok(Self {
            ring,
            entries: Vec::with_capacity(MAX_REQUESTS),
            results: [0; MAX_REQUESTS],
            broken: false,
        })
    }

    /// Reads `count` times, [`MAX_REQUESTS`] at most, the i-th into `arena[start(i)..][..room]`; what came of each, in this order.
    /// Fewer are told of if the kernel took no more.
    pub fn read(
        &mut self,
        from: BorrowedFd<'_>,
        arena: &mut [u8],
        room: usize,
        count: usize,
        start: impl Fn(usize) -> usize,
    ) -> Results<'_> {
        self.entries.clear();
        let base = arena.as_mut_ptr();
        let (fd, len) = (types::Fd(from.as_raw_fd()), room as u32);
        for i in 0..count.min(MAX_REQUESTS) {
            // Asked once: what was checked is what is used.
            let start = start(i);
            assert!(
                start.checked_add(len as usize).is_some_and(|end| end <= arena.len()),
                "buffer {i} is outside the arena"
            );
            // SAFETY: the assertion keeps the buffer within the arena.
            let buffer = unsafe { base.add(start) };
            let entry = opcode::Read::new(fd, buffer, len).rw_flags(libc::RWF_NOWAIT);
            self.entries.push(entry.build().user_data(i as u64));
        }
        // SAFETY: the descriptor and the arena, in which all buffers lie, are borrowed for this call, the arena mutably; buffers
        // that overlap would only mix up bytes.
        unsafe { self.perform() }
    }

    /// Writes `buffers` in their order, [`MAX_REQUESTS`] at most; what came of each. Fewer are told of if the kernel took no more.
    pub fn write<'a>(&mut self, to: BorrowedFd<'_>, buffers: impl Iterator<Item = &'a [u8]>) -> Results<'_> {
        self.entries.clear();
        let fd = types::Fd(to.as_raw_fd());
        for (i, buffer) in buffers.take(MAX_REQUESTS).enumerate() {
            let entry = opcode::Write::new(fd, buffer.as_ptr(), buffer.len() as u32).rw_flags(libc::RWF_NOWAIT);
            self.entries.push(entry.build().user_data(i as u64));
        }
        // SAFETY: the descriptor is borrowed for this call, and the buffers for 'a, which outlasts it; the kernel only reads them.
        unsafe { self.perform() }
    }

    /// Hands over all entries, which are numbered from 0, and returns when they are done.
    ///
    /// # Safety
    /// What they name and point to must be valid, and nobody else's, until this returns. It does not unwind.
    unsafe fn perform(&mut self) -> Results<'_> {
        let count = self.entries.len();
        // SAFETY: the caller's promise holds until all are done, which is when this returns. In a broken ring there are entries
        // left for which that is not so; it is not used.
        if self.broken || unsafe { self.ring.submission().push_multiple(&self.entries) }.is_err() {
            self.broken = true;
            return Results(self.results[..0].iter());
        }
        let mut done = 0;
        while done < count {
            let entered = self.ring.submit_and_wait(count - done);
            for completion in self.ring.completion() {
                if let Some(result) = self.results.get_mut(completion.user_data() as usize) {
                    *result = completion.result();
                }
                done += 1;
            }
            match entered {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => {
                    let untaken = self.ring.submission().len();
                    if done + untaken < count {
                        // The kernel has memory that is about to be used otherwise, and won't say when it is done with it.
                        tracing::error!("io_uring failed with requests under way: {error}");
                        std::process::abort();
                    }
                    tracing::warn!("a thread goes on without io_uring, by a system call for each frame: {error}");
                    self.broken = true;
                    break;
                }
            }
        }
        // They are taken in their order.
        Results(self.results[..done.min(count)].iter())
    }
}

/// What came of each request.
pub struct Results<'a>(std::slice::Iter<'a, i32>);

impl Iterator for Results<'_> {
    /// How many bytes, or the error.
    type Item = Result<usize, Errno>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|result| match usize::try_from(*result) {
            Ok(len) => Ok(len),
            Err(_) => Err(Errno::from_raw(result.wrapping_neg())),
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Results<'_> {}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// None where this kernel or its rules have no rings.
    fn pair() -> Option<(UnixDatagram, UnixDatagram)> {
        probe().ok()?;
        let (a, b) = UnixDatagram::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        b.set_nonblocking(true).unwrap();
        Some((a, b))
    }

    #[test]
    fn what_is_written_in_one_call_is_read_in_another_in_its_order() {
        let Some((a, b)) = pair() else { return };
        let sent: Vec<_> = (0..5u8).map(|i| vec![i; 1 + usize::from(i)]).collect();
        let mut arena = [0xff; 8 * 16];
        with_ring(|ring| {
            let ring = ring.unwrap();
            let written: Vec<_> = ring.write(a.as_fd(), sent.iter().map(Vec::as_slice)).collect();
            assert_eq!(written, [Ok(1), Ok(2), Ok(3), Ok(4), Ok(5)]);
            let read: Vec<_> = ring.read(b.as_fd(), &mut arena, 16, 8, |i| i * 16).collect();
            let nothing = Err(Errno::EAGAIN);
            assert_eq!(read, [Ok(1), Ok(2), Ok(3), Ok(4), Ok(5), nothing, nothing, nothing]);
        });
        for (i, frame) in sent.iter().enumerate() {
            assert_eq!(arena[i * 16..][..frame.len()], frame[..]);
        }
    }

    #[test]
    fn each_request_has_a_result_of_its_own() {
        let Some((a, b)) = pair() else { return };
        drop(b);
        let results: Vec<_> =
            with_ring(|ring| ring.unwrap().write(a.as_fd(), [&b"x"[..], b"yy"].into_iter()).collect());
        assert_eq!(results.len(), 2);
        assert!(results.iter().all(Result::is_err), "{results:?}");
    }

    #[test]
    fn more_than_fit_are_left_to_the_caller() {
        let Some((a, _b)) = pair() else { return };
        let frames = [&b"x"[..]; MAX_REQUESTS + 3];
        assert_eq!(
            with_ring(|ring| ring.unwrap().write(a.as_fd(), frames.into_iter()).len()),
            MAX_REQUESTS
        );
    }

    #[test]
    #[should_panic = "outside the arena"]
    fn a_buffer_outside_the_arena_is_refused() {
        let Some((a, _b)) = pair() else {
            panic!("outside the arena: not tried")
        };
        with_ring(|ring| {
            let mut arena = [0; 16];
            ring.unwrap().read(a.as_fd(), &mut arena, 9, 2, |i| i * 8);
        });
    }

    #[test]
    fn a_ring_does_nothing_but_read_and_write() {
        if probe().is_err() {
            return;
        }
        with_ring(|ring| {
            let ring = ring.unwrap();
            let root = types::Fd(libc::AT_FDCWD);
            let open = opcode::OpenAt::new(root, c"/".as_ptr()).build();
            let socket = opcode::Socket::new(libc::AF_INET, libc::SOCK_DGRAM, 0).build();
            ring.entries.clear();
            ring.entries.extend([open.user_data(0), socket.user_data(1)]);
            // SAFETY: the name outlives everything.
            let results: Vec<_> = unsafe { ring.perform() }.collect();
            assert_eq!(results, [Err(Errno::EACCES); 2]);
            assert!(
                ring.ring.submitter().register_restrictions(&mut []).is_err(),
                "once is for ever"
            );
        });
    }

    #[test]
    fn who_has_the_ring_does_not_get_it_twice() {
        with_ring(|_| with_ring(|ring| assert!(ring.is_none())));
    }
}
