//! A TAP device in each end, and a thread for each direction that reads the one and writes to the other, in batches where many frames
//! wait: what a switch in user space can't be better than. It looks at no frame and does not spin.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::{read, write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use vswitch_linux::tap::{self, VNET_HDR_LEN};
use vswitch_linux::uring::{MAX_REQUESTS, with_ring};

use super::Running;
use crate::command::run;
use crate::lab::{A, B, INTERFACE, configure, in_namespace};

/// Room for a GSO frame.
const BUFFER: usize = VNET_HDR_LEN + (64 << 10);
/// From so many frames on a batch is cheaper than calls one by one.
const WORTHWHILE: usize = 8;
/// How long a thread waits before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(20);

/// The threads; they end as it is dropped.
pub struct Loop {
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("compare: a thread of tap-loop panicked");
            }
        }
    }
}

pub fn set_up() -> Result<Running> {
    let mut queues = Vec::new();
    for end in [&A, &B] {
        queues.push(Arc::new(in_namespace(end.ns, || Ok(tap::open_queue(INTERFACE)?))?));
        // As this switch has it.
        run(&format!("tc -n {} qdisc add dev {INTERFACE} root noqueue", end.ns))?;
        configure(end)?;
    }
    let done = Arc::new(AtomicBool::new(false));
    let threads = [(0, 1), (1, 0)]
        .into_iter()
        .map(|(from, to)| {
            let (from, to, done) = (queues[from].clone(), queues[to].clone(), done.clone());
            thread::spawn(move || {
                if let Err(error) = carry(&from, &to, &done) {
                    eprintln!("compare: tap-loop: {error:#}");
                }
            })
        })
        .collect();
    let mut running = Running::default();
    running.loops = Some(Loop { done, threads });
    Ok(running)
}

fn carry(from: &OwnedFd, to: &OwnedFd, done: &AtomicBool) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(from, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
    let mut arena = vec![0; MAX_REQUESTS * BUFFER];
    let mut lengths = Vec::with_capacity(MAX_REQUESTS);
    while !done.load(Ordering::Relaxed) {
        match epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::try_from(PATIENCE)?) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        // As many as came last.
        let expected = lengths.len();
        lengths.clear();
        if expected >= WORTHWHILE {
            with_ring(|ring| {
                let ring = ring.context("no io_uring here")?;
                let results = ring.read(from.as_fd(), &mut arena, BUFFER, expected, |i| i * BUFFER);
                // Frames lie where they were read: those behind the first that did not come are left out.
                lengths.extend(results.map_while(Result::ok));
                anyhow::Ok(())
            })?;
        }
        while lengths.len() < MAX_REQUESTS {
            match read(from, &mut arena[lengths.len() * BUFFER..][..BUFFER]) {
                Ok(length) => lengths.push(length),
                Err(_) => break,
            }
        }
        let frames = lengths
            .iter()
            .enumerate()
            .map(|(i, length)| &arena[i * BUFFER..][..*length]);
        // A queue that is full loses them.
        if lengths.len() < WORTHWHILE {
            for frame in frames {
                let _ = write(to, frame);
            }
        } else {
            with_ring(|ring| ring.map(|ring| ring.write(to.as_fd(), frames).len())).context("no io_uring here")?;
        }
    }
    Ok(())
}
