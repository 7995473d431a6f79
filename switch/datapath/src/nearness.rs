//! A worker that carries single frames of a talk comes to the core on which both ends of it are.
//!
//! There the ends and the worker take turns without one waking up the other's core, which is what most of a round trip is made of. It
//! comes only where it looks for frames (see [`super::patience`]), so that it notes when somebody does not let it have the core, and only if
//! frames come from that core again and again; it goes as soon as many frames come at once, or turn after turn, when there is work for
//! two cores.

use std::time::{Duration, Instant};

use super::setup::SenderCore;

/// Frames of a turn that are still a talk: one there and one back.
const SINGLE: usize = 2;
/// So many turns one after another, with nothing between them, are no talk any more.
const IN_A_ROW: u32 = 4;
/// After so many turns it looks where the frames come from. Odd, so that it sees both ends by turns.
const TURNS: u32 = 33;
/// How long it stays away from a core where it was kept waiting, the first time. Twice as long each time.
const AWAY: Duration = Duration::from_secs(1);
/// And at most.
const LONGEST_AWAY: Duration = Duration::from_secs(64);

/// Where a worker is to run from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// On this core alone.
    To(usize),
    /// Wherever the kernel puts it.
    Anywhere,
}

/// What a worker knows of where its frames come from.
pub(super) struct Nearness {
    worker: usize,
    sender_core: SenderCore,
    /// Where it is.
    core: Option<usize>,
    /// Where frames came from when it looked last.
    seen: Option<usize>,
    /// Turns with single frames since then.
    turns: u32,
    /// Turns with frames since it looked in vain.
    in_a_row: u32,
    /// It goes nowhere before.
    away_until: Option<Instant>,
    away: Duration,
}

impl Nearness {
    /// Of a worker that runs wherever the kernel puts it.
    pub fn new(worker: usize, sender_core: SenderCore) -> Self {
        Self {
            worker,
            sender_core,
            core: None,
            seen: None,
            turns: 0,
            in_a_row: 0,
            away_until: None,
            away: AWAY,
        }
    }

    /// So many frames came in a turn.
    pub fn took(&mut self, frames: usize, now: Instant) -> Option<Move> {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if frames > SINGLE || self.in_a_row > IN_A_ROW {
            return self.no_talk();
        }
        self.turns += 1;
        if self.turns < TURNS {
            return None;
        }
        self.turns = 0;
        let core = self.sender_core.ask(self.worker);
        let before = std::mem::replace(&mut self.seen, core);
        if core.is_none() || core != before {
            return self.leave();
        }
        if core == self.core || self.away_until.is_some_and(|until| now < until) {
            return None;
        }
        self.core = core;
        core.map(Move::To)
    }

    /// There was nothing.
    pub fn looked_in_vain(&mut self) {
        self.in_a_row = 0;
    }

    /// It is about to sleep: whatever comes then may have another core do it.
    pub fn sleeps(&mut self) -> Option<Move> {
        self.in_a_row = 0;
        self.no_talk()
    }

    /// Others did not let it have the core.
    pub fn kept_waiting(&mut self, now: Instant) -> Option<Move> {
        let left = self.leave()?;
        self.away_until = Some(now + self.away);
        self.away = (self.away * 2).min(LONGEST_AWAY);
        Some(left)
    }

    fn no_talk(&mut self) -> Option<Move> {
        self.turns = 0;
        self.seen = None;
        self.leave()
    }

    fn leave(&mut self) -> Option<Move> {
        self.core.take().map(|_| Move::Anywhere)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Of a worker whose frames come from the core that the number says.
    fn nearness() -> (Nearness, Arc<AtomicUsize>) {
        let core = Arc::new(AtomicUsize::new(3));
        let asked = core.clone();
        let sender_core = SenderCore::with(move |_| Some(asked.load(Ordering::Relaxed)));
        (Nearness::new(0, sender_core), core)
    }

    /// A look in vain, and a frame.
    fn talk(nearness: &mut Nearness, now: Instant) -> Option<Move> {
        nearness.looked_in_vain();
        nearness.took(1, now)
    }

    fn turns(nearness: &mut Nearness, count: u32, now: Instant) -> Vec<Move> {
        (0..count).filter_map(|_| talk(nearness, now)).collect()
    }

    #[test]
    fn a_talk_on_one_core_is_come_to_and_left_when_much_comes() {
        let (mut nearness, _) = nearness();
        let now = Instant::now();
        assert_eq!(turns(&mut nearness, 2 * TURNS - 1, now), []);
        assert_eq!(turns(&mut nearness, 5 * TURNS, now), [Move::To(3)], "and once");
        assert_eq!(nearness.took(SINGLE + 1, now), Some(Move::Anywhere));
        assert_eq!(nearness.took(64, now), None);
        assert_eq!(turns(&mut nearness, 2 * TURNS, now), [Move::To(3)]);
        assert_eq!(nearness.sleeps(), Some(Move::Anywhere));
        assert_eq!(turns(&mut nearness, TURNS, now), []);
        assert_eq!(nearness.sleeps(), None);
        assert_eq!(turns(&mut nearness, 2 * TURNS - 1, now), [], "from the beginning");
        assert_eq!(nearness.sleeps(), None);
        assert_eq!(turns(&mut nearness, 2 * TURNS, now), [Move::To(3)]);
        let rows: Vec<_> = (0..5).map(|_| nearness.took(1, now)).collect();
        assert_eq!(rows, [None, None, None, Some(Move::Anywhere), None]);
    }

    #[test]
    fn ends_on_two_cores_are_not_followed() {
        let (mut nearness, core) = nearness();
        let now = Instant::now();
        for turn in 0..20 * TURNS {
            core.store(turn as usize % 2, Ordering::Relaxed);
            assert_eq!(talk(&mut nearness, now), None);
        }
        // Both go to one, and then elsewhere.
        core.store(1, Ordering::Relaxed);
        assert_eq!(turns(&mut nearness, 3 * TURNS, now), [Move::To(1)]);
        core.store(0, Ordering::Relaxed);
        assert_eq!(turns(&mut nearness, 3 * TURNS, now), [Move::Anywhere, Move::To(0)]);
    }

    #[test]
    fn who_is_kept_waiting_stays_away_ever_longer() {
        let (mut nearness, _) = nearness();
        let mut now = Instant::now();
        assert_eq!(nearness.kept_waiting(now), None, "it is not there");
        for away in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert_eq!(turns(&mut nearness, 3 * TURNS, now), [Move::To(3)]);
            assert_eq!(nearness.kept_waiting(now), Some(Move::Anywhere));
            now += Duration::from_secs(away) - Duration::from_millis(1);
            assert_eq!(turns(&mut nearness, 3 * TURNS, now), [], "{away} s");
            now += Duration::from_millis(1);
        }
    }

    #[test]
    fn who_knows_no_cores_goes_nowhere() {
        let mut nearness = Nearness::new(0, SenderCore::default());
        assert_eq!(turns(&mut nearness, 10 * TURNS, Instant::now()), []);
    }
}
