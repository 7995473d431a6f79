//! One direction of an impaired port: a bad or slow wire.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vswitch_api::traffic::{CLASSES, ClassCounters};
use vswitch_api::{Impairment, Share};

use super::chance::Chance;
use super::classes::{Classes, Waiting, class_of};
use super::meter::Meter;
use super::schedule::{Held, Schedule};
use crate::counters::{DropReason, WorkerCounters};
use crate::frame::{Checked, Gso, MAX_FRAME, Segments, VNET_HDR_LEN, VnetHeader, complete, complete_known};
use crate::lock;
use crate::{Direction, PortRef};

/// Nanoseconds of a microsecond.
const MICROSECOND: u64 = 1000;
/// Most frames beyond the limit that may be due at once: the owner takes them as fast as it can.
const MOST_AT_ONCE: u64 = 16_384;

/// A line: decides what becomes of each frame, and when it arrives.
#[derive(Debug)]
pub struct Line {
    /// The port that it leads from or to.
    pub port: PortRef,
    /// Which way.
    pub direction: Direction,
    /// The worker that holds its frames: one for all, so that they stay in order.
    pub owner: usize,
    /// Those of the port.
    counters: Arc<[WorkerCounters]>,
    state: Mutex<State>,
    /// Frames on it, a GSO frame as one.
    waiting: AtomicU64,
    /// Those of them that were not due as they came, a GSO frame as many as it is on a wire.
    held: AtomicU32,
    closed: AtomicBool,
}

#[derive(Debug)]
struct State {
    settings: Impairment,
    chance: Chance,
    pace: Pace,
    /// Those that wait for their turn, with strict priority.
    classes: Classes,
}

/// What is used up of a line.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    bits: Option<Meter>,
    frames: Option<Meter>,
    /// When the last frame arrives that was not to overtake another.
    last: u64,
}

impl Pace {
    /// When a frame of `len` bytes that is sent at `now` has left.
    fn pass(&mut self, now: u64, len: usize) -> u64 {
        let bits = 8 * (len - VNET_HDR_LEN.min(len)) as u64;
        let passed = self.bits.as_mut().map_or(now, |meter| meter.take(now, bits));
        self.frames
            .as_mut()
            .map_or(passed, |meter| meter.take(now, 1).max(passed))
    }
}

impl State {
    /// When a frame arrives that has left at `passed`.
    fn arrival(&mut self, passed: u64) -> u64 {
        let due = passed + self.chance.delay(&self.settings);
        self.in_order(due)
    }

    /// When a frame arrives that would by itself at `due`.
    fn in_order(&mut self, due: u64) -> u64 {
        if self.settings.jitter_us != 0 {
            return due;
        }
        self.pace.last = due.max(self.pace.last);
        self.pace.last
    }

    /// Changes the settings. True: the rate is another one, of which nothing has been used.
    fn configure(&mut self, settings: &Impairment) -> bool {
        let old = std::mem::replace(&mut self.settings, settings.clone());
        if settings.seed.is_some() {
            // The same command is the start of the same run.
            self.chance = Chance::new(settings.seed);
        }
        let rate = |settings: &Impairment| (settings.rate_bps, settings.burst_bytes, settings.rate_pps);
        let another = rate(&old) != rate(settings);
        if another {
            let burst = 8 * u64::from(settings.burst_bytes);
            self.pace.bits = settings.rate_bps.map(|bps| Meter::new(bps, burst));
            self.pace.frames = settings.rate_pps.map(|pps| Meter::new(pps, 0));
        }
        another
    }

    /// Has frames arrive as they would have under the settings of now, where that is earlier; `another`: these have another rate.
    fn hasten(&mut self, now: u64, another: bool, held: &mut [(u64, Held)]) {
        // As they were sent; a turn comes behind the frame that it waits for.
        held.sort_by_key(|(_, held)| (held.passed, held.is_turn()));
        let most = MICROSECOND * (u64::from(self.settings.delay_us) + u64::from(self.settings.jitter_us));
        self.pace.last = now;
        let mut left = now;
        for (due, held) in held {
            let delay = due.saturating_sub(held.passed).min(most);
            if held.is_turn() {
                held.passed = held.passed.min(left);
                *due = held.passed;
                self.classes.busy_until = Some(held.passed);
                continue;
            }
            if another && held.passed > now {
                let before = self.pace;
                let passed = self.pace.pass(now, held.wire.len());
                if passed < held.passed {
                    held.passed = passed;
                } else {
                    self.pace = before;
                }
            }
            left = held.passed.max(now);
            *due = self.in_order(held.passed + delay);
        }
    }
}

/// What a worker needs to put frames on a line, kept so that only the frames themselves are allocated.
pub struct Loader {
    /// A wire frame of a GSO frame: virtio-net header (all zero: nothing is left to do) and frame.
    segment: Box<[u8]>,
    /// What is to be held, and until when.
    pub frames: Vec<(u64, Held)>,
}

impl Default for Loader {
    fn default() -> Self {
        Self {
            segment: vec![0; VNET_HDR_LEN + MAX_FRAME].into(),
            frames: Vec::new(),
        }
    }
}

impl Line {
    /// A line without frames on it.
    pub fn new(
        port: PortRef,
        direction: Direction,
        owner: usize,
        counters: Arc<[WorkerCounters]>,
        settings: &Impairment,
    ) -> Self {
        let mut state = State {
            settings: Impairment::default(),
            chance: Chance::new(settings.seed),
            pace: Pace::default(),
            classes: Classes::default(),
        };
        state.configure(settings);
        Self {
            port,
            direction,
            owner,
            counters,
            state: Mutex::new(state),
            waiting: AtomicU64::new(0),
            held: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// Changes what happens from now on, in nanoseconds. Frames on the line, in the schedule of its owner, arrive as they were to, or
    /// earlier where they would by now: else one that was made much too slow would carry nothing until they have arrived.
    pub fn configure(&self, settings: &Impairment, now: u64, schedule: &Schedule) {
        let state = &mut *lock(&self.state);
        if state.settings != *settings {
            let another = state.configure(settings);
            schedule.retime(self, |held| state.hasten(now, another, held));
        }
    }

    /// Begins the random numbers anew.
    pub fn restart(&self) {
        let state = &mut *lock(&self.state);
        state.chance = Chance::new(state.settings.seed);
    }

    /// The reason by which all frames are lost, if they are.
    pub fn loses_all(&self) -> Option<DropReason> {
        let loses = lock(&self.state).settings.loss == Share::ALL;
        loses.then(|| self.reason(Fate::Lost))
    }

    /// Takes the line away: what is still put on it is dropped, and its worker drops what is on it.
    pub fn close(&self) {
        // Under the lock: who has it when this returns was done before, who gets it later sees that it is closed.
        let _state = lock(&self.state);
        self.closed.store(true, Ordering::Release);
    }

    /// Whether it was taken away.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Frames on it, a GSO frame as one.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What became of the frames of each class, if the highest goes first.
    pub fn classes(&self) -> Option<[ClassCounters; CLASSES]> {
        let state = lock(&self.state);
        state.settings.priority.then(|| state.classes.counters())
    }

    /// Puts frames (each with its virtio-net header, and with the priority of a tag that it may not have any more) on the line at `now`,
    /// in nanoseconds. `hold` gets those that arrive, while no other worker can put any on: so frames that are due at the same time stay
    /// in order.
    pub fn load<'a>(
        self: &Arc<Self>,
        worker: usize,
        now: u64,
        frames: impl Iterator<Item = (&'a [u8], u8)>,
        loader: &mut Loader,
        hold: impl FnOnce(&mut Vec<(u64, Held)>),
    ) {
        let state = &mut *lock(&self.state);
        let Loader { segment, frames: held } = loader;
        let counters = &self.counters[worker];
        for (wire, priority) in frames {
            let class = if state.settings.priority {
                class_of(&wire[VNET_HDR_LEN.min(wire.len())..], priority)
            } else {
                0
            };
            let frame = match self.direction {
                Direction::In => Checked::new(wire).ok(),
                Direction::Out => Checked::known(wire),
            };
            let is_gso = frame.as_ref().is_some_and(|frame| frame.header().gso != Gso::None);
            if !is_gso || !state.settings.needs_wire_frames() {
                let segments = frame.map_or(1, |frame| frame.wire_size().segments);
                self.put(state, counters, now, (wire, class, segments as u32), held);
                continue;
            }
            let Some(mut segments) = frame.and_then(|frame| Segments::of(&frame).ok()) else {
                // One of a tunnel, which is no frame of a wire and can't be cut into such. To lose a bit whole would leave it one that no port takes.
                self.drop_frame(counters, wire.len(), Fate::Refused);
                continue;
            };
            let mut count = 0;
            // The buffer has room for the longest frame, so an error can't come here.
            while let Ok(Some(len)) = segments.write_next(&mut segment[VNET_HDR_LEN..]) {
                let wire = &segment[..VNET_HDR_LEN + len];
                self.put(state, counters, now, (wire, class, 1), held);
                count += 1;
            }
            if self.direction == Direction::Out {
                counters.tx_segments.add(u64::max(count, 1) - 1);
            }
        }
        hold(held);
    }

    /// Puts one frame on it, of a class and so many frames of a wire.
    fn put(
        self: &Arc<Self>,
        state: &mut State,
        counters: &WorkerCounters,
        now: u64,
        (wire, class, segments): (&[u8], u8, u32),
        held: &mut Vec<(u64, Held)>,
    ) {
        if self.is_closed() {
            self.drop_frame(counters, wire.len(), Fate::Flushed);
            return;
        }
        let settings = &state.settings;
        if state.chance.loses(settings) {
            self.drop_frame(counters, wire.len(), Fate::Lost);
            return;
        }
        let doubled = state.chance.hits(settings.duplicate);
        let (duplicates, corrupted, reordered) = match self.direction {
            Direction::In => (&counters.rx_duplicates, &counters.rx_corrupted, &counters.rx_reordered),
            Direction::Out => (&counters.tx_duplicates, &counters.tx_corrupted, &counters.tx_reordered),
        };
        if doubled {
            duplicates.add(1);
        }
        // Frames that wait for their turn when priority is switched off go first.
        let queued = settings.priority || state.classes.busy_until.is_some();
        for _ in 0..1 + u32::from(doubled) {
            let settings = &state.settings;
            let corrupts = state.chance.hits(settings.corrupt);
            let reorders = state.chance.hits(settings.reorder);
            let before = state.pace;
            // When it has left, and when it arrives; not known yet if it waits for its turn.
            let times = if reorders {
                Some((now, now))
            } else if queued {
                None
            } else {
                let passed = state.pace.pass(now, wire.len());
                Some((passed, state.arrival(passed)))
            };
            let room = if times.is_some_and(|(_, due)| due <= now) {
                0
            } else {
                segments
            };
            if !self.make_room(state, counters, class, room) {
                state.pace = before;
                self.drop_frame(counters, wire.len(), Fate::NoRoom);
                state.classes.dropped(class);
                continue;
            }
            let mut wire: Box<[u8]> = wire.into();
            if corrupts {
                corrupt(&mut wire, self.direction, &mut state.chance);
                corrupted.add(1);
            }
            if reorders {
                reordered.add(1);
            }
            self.waiting.fetch_add(1, Ordering::Relaxed);
            self.held.fetch_add(room, Ordering::Relaxed);
            let Some((passed, due)) = times else {
                state.classes.push(class, Waiting { wire, segments });
                if state.classes.busy_until.is_none() {
                    self.send_next(state, now, now, held);
                }
                continue;
            };
            held.push((due, Held::frame(self.clone(), wire, room, passed)));
        }
    }

    /// Whether there is room for a frame of `class`, at the cost of those of lower ones that wait for their turn. A line that holds
    /// nothing takes any, also a GSO frame of more frames than may wait.
    fn make_room(&self, state: &mut State, counters: &WorkerCounters, class: u8, room: u32) -> bool {
        let limit = state.settings.limit();
        if room == 0 {
            return self.waiting() < u64::from(limit) + MOST_AT_ONCE;
        }
        // The limit is exact: only who holds the lock adds to it.
        loop {
            let held = self.held.load(Ordering::Relaxed);
            if held == 0 || held + room <= limit {
                return true;
            }
            let Some(lost) = state.classes.give_up(class) else {
                return false;
            };
            self.left(lost.segments);
            self.drop_frame(counters, lost.wire.len(), Fate::NoRoom);
        }
    }

    /// Sends those whose turn it is from `at` on. If one has not left by `now`, a turn of the schedule is taken for the
    /// moment at which it has.
    fn send_next(self: &Arc<Self>, state: &mut State, mut at: u64, now: u64, held: &mut Vec<(u64, Held)>) {
        state.classes.busy_until = None;
        while let Some(Waiting { wire, segments }) = state.classes.next() {
            at = state.pace.pass(at, wire.len());
            let due = state.arrival(at);
            let room = if due > now { segments } else { 0 };
            self.held.fetch_sub(segments - room, Ordering::Relaxed);
            held.push((due, Held::frame(self.clone(), wire, room, at)));
            if at > now {
                held.push((at, Held::turn(self.clone(), at)));
                state.classes.busy_until = Some(at);
                break;
            }
        }
    }

    /// The frame that was being sent has left: the next ones have their turn. Called by the owner, as of the frame
    /// itself; `hold` as for [`Line::load`].
    pub fn take_turn(self: &Arc<Self>, now: u64, loader: &mut Loader, hold: impl FnOnce(&mut Vec<(u64, Held)>)) {
        let state = &mut *lock(&self.state);
        if self.is_closed() {
            self.flush_waiting(state);
            return;
        }
        // From when it had left, not from when the worker woke up: so the rate is kept.
        let at = state.classes.busy_until.unwrap_or(now);
        self.send_next(state, at, now, &mut loader.frames);
        hold(&mut loader.frames);
    }

    /// Drops those that wait for their turn, as the line is gone. Called by the owner.
    fn flush_waiting(&self, state: &mut State) {
        for frame in state.classes.drain() {
            self.left(frame.segments);
            self.drop_frame(&self.counters[self.owner], frame.wire.len(), Fate::Flushed);
        }
    }

    fn left(&self, room: u32) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.held.fetch_sub(room, Ordering::Relaxed);
    }

    /// A frame has arrived; the worker that took it from the schedule says so.
    pub fn arrived(&self, held: &Held) {
        self.left(held.room);
    }

    /// A held frame is dropped as the line is gone.
    pub fn flush(&self, worker: usize, held: &Held) {
        if held.is_turn() {
            self.flush_waiting(&mut lock(&self.state));
            return;
        }
        self.arrived(held);
        self.drop_frame(&self.counters[worker], held.wire.len(), Fate::Flushed);
    }

    fn reason(&self, fate: Fate) -> DropReason {
        match (self.direction, fate) {
            (Direction::In, Fate::Lost) => DropReason::ImpairLossIn,
            (Direction::In, Fate::NoRoom) => DropReason::ImpairQueueIn,
            (Direction::In, Fate::Flushed) => DropReason::ImpairFlushedIn,
            (Direction::Out, Fate::Lost) => DropReason::ImpairLossOut,
            (Direction::Out, Fate::NoRoom) => DropReason::ImpairQueueOut,
            (Direction::Out, Fate::Flushed) => DropReason::ImpairFlushedOut,
            (Direction::In, Fate::Refused) => DropReason::Malformed,
            (Direction::Out, Fate::Refused) => DropReason::Rejected,
        }
    }

    /// A frame on its way in has not been counted as received yet.
    fn drop_frame(&self, counters: &WorkerCounters, len: usize, fate: Fate) {
        counters.drop_frame(self.reason(fate));
        if self.direction == Direction::In {
            counters.rx_frames.add(1);
            counters.rx_bytes.add((len - VNET_HDR_LEN.min(len)) as u64);
        }
    }
}

/// Why a frame does not arrive.
#[derive(Clone, Copy)]
enum Fate {
    Lost,
    NoRoom,
    Flushed,
    /// It can't be on a line.
    Refused,
}

/// Flips a bit as on a wire, where checksums are complete and stay what they are.
fn corrupt(wire: &mut [u8], direction: Direction, chance: &mut Chance) {
    let Some((place, frame)) = wire.split_first_chunk_mut::<VNET_HDR_LEN>() else {
        return;
    };
    if let Ok(mut header) = VnetHeader::parse(place) {
        let completed = match direction {
            // What does not fit is refused when it arrives.
            Direction::In => complete(frame, &mut header),
            Direction::Out => complete_known(frame, &mut header),
        };
        if completed.is_ok() {
            header.write(place);
        }
    }
    chance.flip(frame);
}

#[cfg(test)]
mod tests;
