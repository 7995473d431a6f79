//! How a worker reads and writes TAP devices: plain system calls behind epoll, as the daemon does, against io_uring with
//! batches and registered files and buffers. Nothing else is done with a frame.

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use vswitch_linux::tap;

use crate::command::run;
use crate::generator::{Generator, plain_frame};
use crate::lab::{Lab, SWITCH, in_namespace};
use crate::report::median;

/// Frames on their way at once.
const BATCH: usize = 64;
/// Header and the longest frame here.
const BUFFER: usize = 2048;
/// How long an engine that has nothing to do waits before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(20);
const FRAME: usize = 60;

/// Medians of the rounds.
#[derive(Serialize)]
pub struct Engines {
    syscalls: Engine,
    io_uring: Engine,
}

#[derive(Serialize, Default)]
struct Engine {
    /// Frames that came out, with as many offered as the generator can.
    mframes_per_second: f64,
    /// Processor time of the whole process but for the generator's thread, for a frame that came out.
    ns_per_frame: f64,
}

/// Both engines in turn, `rounds` times `seconds`.
///
/// # Errors
/// If a TAP device can't be made, or the kernel has no io_uring.
pub fn engines(rounds: u32, seconds: u64) -> Result<Engines> {
    let _lab = Lab::new()?;
    let (mut plain, mut ring) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        plain.push(try_engine(by_syscalls, true, seconds)?);
        ring.push(try_engine(by_ring, false, seconds)?);
    }
    Ok(Engines {
        syscalls: middle(&plain)?,
        io_uring: middle(&ring)?,
    })
}

fn middle(tries: &[Engine]) -> Result<Engine> {
    let of = |field: fn(&Engine) -> f64| median(&mut tries.iter().map(field).collect::<Vec<_>>()).context("no round");
    Ok(Engine {
        mframes_per_second: of(|engine| engine.mframes_per_second)?,
        ns_per_frame: of(|engine| engine.ns_per_frame)?,
    })
}

/// From the TAP device of the first to that of the second, until told to end.
type Run = fn(&OwnedFd, &OwnedFd, &AtomicBool) -> Result<()>;

fn try_engine(engine: Run, nonblocking: bool, seconds: u64) -> Result<Engine> {
    let (from, to, generator) = in_namespace(SWITCH, || {
        let queues = [tap::open_queue("ea")?, tap::open_queue("eb")?];
        for name in ["ea", "eb"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")?;
            run(&format!("ip link set dev {name} up"))?;
        }
        let frame = plain_frame([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], FRAME);
        let [from, to] = queues;
        Ok((from, to, Generator::with_frames("ea", vec![frame], false)?))
    })?;
    if !nonblocking {
        // The ring itself waits until there is a frame.
        for queue in [&from, &to] {
            fcntl(queue, FcntlArg::F_SETFL(OFlag::O_RDWR))?;
        }
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let worker = scope.spawn(|| engine(&from, &to, &done));
        let before = (process_time()?, received()?);
        let source = scope.spawn(|| -> Result<(f64, f64)> {
            let sent = generator.run(Duration::from_secs(seconds))?;
            Ok((sent.seconds, clock(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
        });
        let (elapsed, own) = source.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (used, came) = (process_time()? - before.0 - own, received()? - before.1);
        done.store(true, Ordering::Relaxed);
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ensure!(came > 0, "no frame came");
        Ok(Engine {
            mframes_per_second: came as f64 / elapsed / 1e6,
            ns_per_frame: used / came as f64 * 1e9,
        })
    })
}

fn process_time() -> Result<f64> {
    clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock(id: ClockId) -> Result<f64> {
    let time = clock_gettime(id)?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

fn received() -> Result<u64> {
    in_namespace(SWITCH, || {
        let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
        let line = devices.lines().find_map(|line| line.trim().strip_prefix("eb:"));
        let count = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        count.context("/proc/net/dev has no eb")
    })
}

fn by_syscalls(from: &OwnedFd, to: &OwnedFd, done: &AtomicBool) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(from, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let mut batch = vec![[0u8; BUFFER]; BATCH];
    let mut lengths = [0; BATCH];
    while !done.load(Ordering::Relaxed) {
        let mut events = [EpollEvent::empty()];
        epoll.wait(&mut events, EpollTimeout::try_from(PATIENCE)?)?;
        loop {
            let mut count = 0;
            while count < BATCH {
                match nix::unistd::read(from, &mut batch[count]) {
                    Ok(length) => lengths[count] = length,
                    Err(_) => break,
                }
                count += 1;
            }
            for (frame, length) in batch.iter().zip(lengths).take(count) {
                // A queue that is full loses it.
                let _ = nix::unistd::write(to, &frame[..length]);
            }
            if count < BATCH {
                break;
            }
        }
    }
    Ok(())
}

/// All buffers are being read into or written from; each becomes the other when it is done.
fn by_ring(from: &OwnedFd, to: &OwnedFd, done: &AtomicBool) -> Result<()> {
    const WRITE: u64 = 1 << 32;
    let mut buffers = vec![[0u8; BUFFER]; BATCH];
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .build(BATCH as u32 * 2)
        .context("no io_uring here")?;
    ring.submitter().register_files(&[from.as_raw_fd(), to.as_raw_fd()])?;
    let pieces: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: BUFFER,
        })
        .collect();
    // SAFETY: the buffers stay where they are until the ring is gone: both are of this function, and the ring goes first.
    unsafe { ring.submitter().register_buffers(&pieces)? };
    let read = |i: usize| {
        let (at, len) = (pieces[i].iov_base.cast(), BUFFER as u32);
        opcode::ReadFixed::new(types::Fixed(0), at, len, i as u16)
            .build()
            .user_data(i as u64)
    };
    let write = |i: usize, len: u32| {
        opcode::WriteFixed::new(types::Fixed(1), pieces[i].iov_base.cast(), len, i as u16)
            .build()
            .user_data(i as u64 | WRITE)
    };
    let mut next: Vec<_> = (0..BATCH).map(read).collect();
    while !done.load(Ordering::Relaxed) {
        for entry in next.drain(..) {
            // SAFETY: it names a registered buffer that no other entry names, as each has one at a time.
            unsafe { ring.submission().push(&entry)? };
        }
        let wait = types::Timespec::from(PATIENCE);
        match ring
            .submitter()
            .submit_with_args(1, &types::SubmitArgs::new().timespec(&wait))
        {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR)) => {}
            Err(error) => return Err(error).context("io_uring_enter"),
        }
        for done in ring.completion() {
            let i = (done.user_data() & !WRITE) as usize;
            let was_read = done.user_data() & WRITE == 0;
            next.push(match u32::try_from(done.result()) {
                Ok(length) if was_read => write(i, length),
                _ => read(i),
            });
        }
    }
    drop(ring);
    drop(buffers);
    Ok(())
}
