//! Lines on standard error, which nobody may read: a pipe that is full would hold up whoever logs, and in the end all edits and the stop.
//!
//! So they wait in a queue for the one thread that writes. What the queue has no room for is left out, counted, and told when there is
//! room again. A regular file holds nobody up and is written to at once.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::write;

/// Bytes of lines that wait at most.
const BYTES: usize = 1 << 20;
/// How long the end of the program waits for somebody to read its last lines.
const PATIENCE: Duration = Duration::from_secs(1);
/// So much goes into a pipe that has room, and is not waited for (pipe(7), `PIPE_BUF`).
const ROOM: usize = 4096;

static QUEUE: Queue = Queue::new();

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug)]
struct Waiting {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// One is being written.
    writes: bool,
    /// There is a thread that writes.
    has_writer: bool,
    /// So many found no room.
    lost: u64,
}

impl Queue {
    const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: VecDeque::new(),
                bytes: 0,
                writes: false,
                has_writer: false,
                lost: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Each change is one step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > BYTES {
            waiting.lost += 1;
            return;
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.to_owned());
        self.changed.notify_all();
    }

    /// How many lines were lost, if there is room to tell it, and from then on none.
    fn take_lost(&self) -> u64 {
        let mut waiting = self.lock();
        match waiting.bytes > BYTES / 2 {
            true => 0,
            false => std::mem::take(&mut waiting.lost),
        }
    }

    /// Writes lines as they come, for ever.
    fn write_all(&self, mut out: impl io::Write) {
        let mut waiting = self.lock();
        loop {
            let Some(line) = waiting.lines.pop_front() else {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            waiting.bytes -= line.len();
            waiting.writes = true;
            drop(waiting);
            // Whoever read it is gone: there is nobody to tell.
            let _ = out.write_all(&line);
            waiting = self.lock();
            waiting.writes = false;
            self.changed.notify_all();
        }
    }

    /// Waits until all is written, but not for long.
    fn flush(&self) {
        let is_at_work = |waiting: &mut Waiting| waiting.writes || !waiting.lines.is_empty();
        let _ = self.changed.wait_timeout_while(self.lock(), PATIENCE, is_at_work);
    }
}

/// Whether lines can be written to standard error at once.
pub(super) fn is_file() -> bool {
    fstat(io::stderr()).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
}

/// Takes lines for the queue.
pub(super) struct Lines;

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has the lines of the queue written from here on, by a thread with the rights of this one.
pub fn write_lines() {
    let mut waiting = QUEUE.lock();
    if waiting.has_writer {
        return;
    }
    let writer = std::thread::Builder::new().name("log".to_owned());
    // Without it nothing is logged, which is no reason not to switch.
    waiting.has_writer = writer
        .spawn(|| {
            QUEUE.write_all(Stderr {
                patience: PollTimeout::NONE,
            })
        })
        .is_ok();
}

/// The program ends, or becomes another one: what was logged is written, if somebody reads it.
pub fn flush() {
    tell_lost();
    if !QUEUE.lock().lines.is_empty() {
        write_lines();
    }
    QUEUE.flush();
}

pub(super) fn tell_lost() {
    let lost = QUEUE.take_lost();
    if lost > 0 {
        tracing::warn!("{lost} lines are left out, nobody read standard error meanwhile");
    }
}

/// Standard error, waited for so long at a time. Without the lock of `std`, which another thread may hold for ever.
#[derive(Debug)]
pub struct Stderr {
    patience: PollTimeout,
}

impl Stderr {
    /// For the last words of the program, which ends whether they are read or not. Nothing is allocated.
    pub fn last_words() -> Self {
        // It fits.
        let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::ZERO);
        Self { patience }
    }
}

impl io::Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        let mut wanted = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut wanted, self.patience) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => Ok(write(&stderr, &bytes[..bytes.len().min(ROOM)])?),
            Err(error) => Err(error.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    /// Gives what is written to whoever reads, and waits for it.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_nobody_reads_holds_nobody_up_and_is_counted() {
        let queue = Arc::new(Queue::new());
        let (pipe, reader) = mpsc::sync_channel(0);
        std::thread::spawn({
            let queue = queue.clone();
            move || queue.write_all(Pipe(pipe))
        });
        let line = [b'x'; 1 << 10];
        for _ in 0..2 * BYTES / line.len() {
            queue.push(&line);
        }
        assert_eq!(queue.take_lost(), 0, "there is no room to tell it");
        let waiting = queue.lock().lines.len();
        assert!(waiting <= BYTES / line.len());
        for _ in 0..waiting {
            assert_eq!(reader.recv().unwrap(), line);
        }
        let lost = queue.take_lost();
        assert!(lost > 0 && lost as usize <= BYTES / line.len(), "{lost}");
        assert_eq!(queue.take_lost(), 0);
        // What is left, and what comes now.
        queue.push(b"the last");
        let reader = std::thread::spawn(move || reader.iter().find(|line| line == b"the last"));
        queue.flush();
        assert!(reader.join().unwrap().is_some());
        assert!(queue.lock().lines.is_empty());
    }
}
