//! The frames that one worker holds back, of all its impaired ports, and the one timer that wakes it for them.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::agenda::Agenda;
use super::line::Line;
use crate::clock::Clock;
use crate::lock;

/// Most nanoseconds that the timer is set early, so that the worker is awake when a frame is due.
const MOST_LEAD: u64 = 200_000;
/// No frame waits.
const NEVER: u64 = u64::MAX;

/// A frame that waits, or the turn of a line to send the next.
#[derive(Debug)]
pub struct Held {
    /// The line that it is on.
    pub line: Arc<Line>,
    /// Virtio-net header and frame.
    pub wire: Box<[u8]>,
    /// Frames that it takes of what may wait on the line; none if it was due as it came.
    pub room: u32,
    /// When it has left by the rate of the line, in nanoseconds; what delays it comes on top.
    pub passed: u64,
}

impl Held {
    /// A frame that waits.
    pub fn frame(line: Arc<Line>, wire: Box<[u8]>, room: u32, passed: u64) -> Self {
        Self {
            line,
            wire,
            room,
            passed,
        }
    }

    /// The moment at which a line may send its next frame, as the one before has left.
    pub fn turn(line: Arc<Line>, passed: u64) -> Self {
        Self::frame(line, Box::default(), 0, passed)
    }

    /// No frame, but [`Held::turn`].
    pub fn is_turn(&self) -> bool {
        self.wire.is_empty()
    }
}

/// The held frames of one worker. Any worker may put frames in; only the one that it belongs to takes them out.
#[derive(Debug)]
pub struct Schedule {
    queue: Mutex<Queue>,
    /// When the first frame is due, so that a worker without held frames pays no more than this look.
    first: AtomicU64,
    timer: TimerFd,
    clock: Clock,
}

#[derive(Debug)]
struct Queue {
    agenda: Agenda<Held>,
    /// What the timer is set to.
    armed: u64,
    /// Nanoseconds by which a worker wakes up late, on average: an idle processor takes its time. So much earlier it is
    /// woken, and looks for the rest.
    lead: u64,
}

impl Schedule {
    /// An empty one, by this clock.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub(crate) fn new(clock: Clock) -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Self {
            queue: Mutex::new(Queue {
                agenda: Agenda::default(),
                armed: NEVER,
                lead: 0,
            }),
            first: AtomicU64::new(NEVER),
            timer: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            clock,
        })
    }

    /// Readable when a frame is due.
    pub fn timer(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// When the first frame is due.
    pub fn first_due(&self) -> Option<u64> {
        Some(self.first.load(Ordering::Relaxed)).filter(|first| *first != NEVER)
    }

    /// Holds frames until each is due; `frames` is empty then. `wake`: another worker asks, so the one that this belongs
    /// to may be asleep.
    pub fn hold(&self, frames: &mut Vec<(u64, Held)>, wake: bool) {
        let queue = &mut *lock(&self.queue);
        for (due, held) in frames.drain(..) {
            queue.agenda.push(due, held);
        }
        self.first.store(queue.first(), Ordering::Relaxed);
        if wake {
            self.set_timer(queue);
        }
    }

    /// Takes up to `most` frames that are due, in order. The clock is asked only if there are any.
    pub fn take(&self, clock: impl FnOnce() -> u64, most: usize, into: &mut Vec<Held>) {
        let first = self.first.load(Ordering::Relaxed);
        if first == NEVER {
            return;
        }
        let now = clock();
        if first > now {
            return;
        }
        let queue = &mut *lock(&self.queue);
        into.extend(std::iter::from_fn(|| queue.agenda.pop(now)).take(most));
        self.first.store(queue.first(), Ordering::Relaxed);
    }

    /// The timer went off, or another worker set it anew meanwhile.
    pub fn fired(&self) {
        let queue = &mut *lock(&self.queue);
        // Empty if it was set anew; what is set below counts then.
        let _ = self.timer.wait();
        if queue.armed != NEVER {
            let late = self.clock.nanoseconds().saturating_sub(queue.armed).min(MOST_LEAD);
            queue.lead = (7 * queue.lead + late) / 8;
            queue.armed = NEVER;
        }
    }

    /// Before the worker sleeps: the timer is to wake it for the first frame. True: that is so soon that it had better
    /// stay awake.
    pub fn arm(&self) -> bool {
        if self.first.load(Ordering::Relaxed) == NEVER {
            return false;
        }
        let queue = &mut *lock(&self.queue);
        let first = queue.first();
        let near = first != NEVER && first.saturating_sub(queue.lead) <= self.clock.nanoseconds();
        if !near {
            self.set_timer(queue);
        }
        near
    }

    /// Takes all frames out whose line is gone; `dropped` is called for each, without the lock: a line takes it while it
    /// holds its own.
    pub fn flush_closed(&self, dropped: impl FnMut(&Held)) {
        if self.first.load(Ordering::Relaxed) == NEVER {
            return;
        }
        let closed = {
            let queue = &mut *lock(&self.queue);
            let closed = queue.agenda.take_if(|held| held.line.is_closed());
            self.first.store(queue.first(), Ordering::Relaxed);
            closed
        };
        closed.iter().map(|(_, held)| held).for_each(dropped);
    }

    /// Has `anew` say when those of a line are due, which it gets in their order and leaves in that in which those of the same time are
    /// to be. Called under the lock of the line.
    pub fn retime(&self, line: &Line, anew: impl FnOnce(&mut Vec<(u64, Held)>)) {
        let queue = &mut *lock(&self.queue);
        let mut held = queue.agenda.take_if(|held| std::ptr::eq(&*held.line, line));
        anew(&mut held);
        for (due, held) in held {
            queue.agenda.push(due, held);
        }
        self.first.store(queue.first(), Ordering::Relaxed);
        self.set_timer(queue);
    }

    fn set_timer(&self, queue: &mut Queue) {
        let first = queue.first();
        // Nobody but who sets it knows when a virtual time has come.
        if first == NEVER || self.clock.is_virtual() {
            return;
        }
        let first = first.saturating_sub(queue.lead);
        if first < queue.armed {
            // A time that has passed sets the timer off at once. Nothing can fail here: the descriptor is ours and
            // the time is one.
            let at = TimeSpec::from_duration(Duration::from_nanos(first.max(1)));
            let _ = self
                .timer
                .set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
            queue.armed = first;
        }
    }
}

impl Queue {
    fn first(&self) -> u64 {
        self.agenda.next_due().unwrap_or(NEVER)
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use vswitch_api::Impairment;

    use super::*;
    use crate::clock::nanoseconds;
    use crate::counters::WorkerCounters;
    use crate::{Direction, PortId, PortRef};

    fn line() -> Arc<Line> {
        let settings = Impairment {
            delay_us: 1,
            ..Impairment::default()
        };
        let counters: Arc<[WorkerCounters]> = [WorkerCounters::default()].into();
        let port = PortRef {
            id: PortId(0),
            serial: 1,
        };
        Arc::new(Line::new(port, Direction::Out, 0, counters, &settings))
    }

    fn frame(line: &Arc<Line>, mark: u8) -> Held {
        Held::frame(line.clone(), Box::new([mark]), 1, 0)
    }

    fn goes_off(schedule: &Schedule, within_ms: u16) -> bool {
        let mut polled = [PollFd::new(schedule.timer(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::from(within_ms)).unwrap() > 0
    }

    #[test]
    fn another_worker_s_frame_wakes_the_owner_when_it_is_due() {
        let (schedule, line) = (Schedule::new(Clock::Monotonic).unwrap(), line());
        let due = nanoseconds() + 5_000_000;
        schedule.hold(&mut vec![(due, frame(&line, 1))], true);
        assert!(goes_off(&schedule, 20_000));
        assert!(nanoseconds() >= due);
        schedule.fired();
        assert!(!goes_off(&schedule, 0), "once is enough");
        let mut taken = Vec::new();
        schedule.take(nanoseconds, 9, &mut taken);
        assert_eq!(taken.len(), 1);
        assert!(
            !schedule.arm() && !goes_off(&schedule, 0),
            "nothing is left to wait for"
        );
    }

    #[test]
    fn an_earlier_frame_sets_the_timer_anew() {
        let (schedule, line) = (Schedule::new(Clock::Monotonic).unwrap(), line());
        let now = nanoseconds();
        schedule.hold(&mut vec![(now + 3_600_000_000_000, frame(&line, 1))], true);
        schedule.hold(&mut vec![(now, frame(&line, 2))], true);
        assert!(goes_off(&schedule, 20_000));
        schedule.fired();
        let mut taken = Vec::new();
        schedule.take(nanoseconds, 9, &mut taken);
        assert_eq!(taken.iter().map(|held| held.wire[0]).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn frames_of_a_closed_line_are_taken_out_and_no_others() {
        let (schedule, open, closed) = (Schedule::new(Clock::Monotonic).unwrap(), line(), line());
        let frames = (0..10u8).map(|n| (u64::from(n), frame(if n % 2 == 0 { &open } else { &closed }, n)));
        schedule.hold(&mut frames.collect(), false);
        closed.close();
        let mut dropped = Vec::new();
        schedule.flush_closed(|held| dropped.push(held.wire[0]));
        dropped.sort_unstable();
        assert_eq!(dropped, [1, 3, 5, 7, 9]);
        let mut taken = Vec::new();
        schedule.take(|| 100, 3, &mut taken);
        schedule.take(|| 100, 9, &mut taken);
        assert_eq!(
            taken.iter().map(|held| held.wire[0]).collect::<Vec<_>>(),
            [0, 2, 4, 6, 8]
        );
        assert!(schedule.first.load(Ordering::Relaxed) == NEVER);
    }
}
