//! How long a worker goes on looking for frames before it sleeps.
//!
//! After traffic the next frame is often near, and to wake up a processor takes longer than a look: tens of microseconds in a virtual
//! machine, which makes each end's answer late, so that the worker falls asleep over it the next time as well. So a worker that is woken
//! up again and again soon after it fell asleep looks longer the next time, as the kernel's haltpoll governor does, until looking is in
//! vain. Between two looks whoever wants the core has it (`sched_yield`). If, nearly each time, that takes as long as only somebody does
//! who has work without end, the worker sleeps at once for a while: the scheduler wakes it up on another core, or at least sooner
//! than it lets it go on.

use std::time::{Duration, Instant};

/// Longest look.
const LONGEST: Duration = Duration::from_micros(100);
/// So many times in a row a sleep has to be a short one.
const IN_A_ROW: u32 = 4;
/// Longer than any who only answers a frame keeps the core.
const HOGGED: Duration = Duration::from_micros(500);
/// So few turns after the last time it counts as the rule.
const OFTEN: u32 = 4;
/// How long the core counts as one that others need.
const CROWDED: Duration = Duration::from_millis(20);

/// What a worker knows of the gaps between its frames.
pub(super) struct Patience {
    /// As it was set; zero: there is no looking.
    least: Duration,
    /// As it was learned.
    spin: Duration,
    /// When frames came last.
    came: Option<Instant>,
    asleep: bool,
    /// Sleeps in a row that a somewhat longer look would have spared.
    short_sleeps: u32,
    /// When it looked in vain, if that was the last that it did.
    in_vain: Option<Instant>,
    /// Turns since somebody else kept the core, while it looked.
    since_hogged: u32,
    /// Since when the core is one that others need.
    crowded: Option<Instant>,
}

impl Patience {
    /// Of a worker that looks for so long at least.
    pub fn new(least: Duration) -> Self {
        Self {
            least,
            spin: least,
            came: None,
            asleep: false,
            short_sleeps: 0,
            in_vain: None,
            since_hogged: u32::MAX,
            crowded: None,
        }
    }

    /// Whether to look, not sleep.
    pub fn looks(&mut self, now: Instant) -> bool {
        if let Some(before) = self.in_vain.take()
            && now.duration_since(before) > HOGGED
            && std::mem::take(&mut self.since_hogged) < OFTEN
        {
            self.crowded = Some(now);
        }
        let since = |when: Option<Instant>| when.map(|when| now.duration_since(when));
        let looks = !self.is_crowded(now) && since(self.came).is_some_and(|since| since < self.spin);
        self.asleep = !looks;
        looks
    }

    /// Others need the core.
    pub fn is_crowded(&self, now: Instant) -> bool {
        self.crowded.is_some_and(|since| now.duration_since(since) < CROWDED)
    }

    /// There was nothing, and others have the core for a moment.
    pub fn looked_in_vain(&mut self, now: Instant) {
        self.in_vain = Some(now);
    }

    /// Frames came.
    pub fn came(&mut self, now: Instant) {
        if self.least.is_zero() {
            return;
        }
        let gap = self.came.replace(now).map(|before| now.duration_since(before));
        if !self.asleep {
            self.since_hogged = self.since_hogged.saturating_add(1);
            return;
        }
        match gap.filter(|gap| *gap <= LONGEST) {
            Some(gap) => {
                self.short_sleeps += 1;
                if self.short_sleeps >= IN_A_ROW {
                    self.spin = (gap * 3 / 2).min(LONGEST).max(self.least);
                }
            }
            None => {
                self.short_sleeps = 0;
                self.spin = self.least;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_micros(20);

    fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// Frames with a gap of so many microseconds; whether the worker was asleep as the last came.
    fn gaps(patience: &mut Patience, now: &mut Instant, gaps: &[u64]) -> bool {
        let mut asleep = false;
        for gap in gaps {
            *now += micros(*gap);
            asleep = !patience.looks(*now);
            patience.came(*now);
        }
        asleep
    }

    #[test]
    fn who_wakes_up_soon_again_and_again_looks_longer() {
        let (mut patience, mut now) = (Patience::new(LEAST), Instant::now());
        assert!(gaps(&mut patience, &mut now, &[1_000_000, 50, 50, 50]));
        assert!(gaps(&mut patience, &mut now, &[50]), "four in a row");
        assert!(!gaps(&mut patience, &mut now, &[50, 70]));
    }

    #[test]
    fn one_long_gap_ends_it() {
        let (mut patience, mut now) = (Patience::new(LEAST), Instant::now());
        gaps(&mut patience, &mut now, &[1_000_000, 50, 50, 50, 50]);
        assert!(gaps(&mut patience, &mut now, &[150]));
        assert!(gaps(&mut patience, &mut now, &[50]));
        assert!(!gaps(&mut patience, &mut now, &[10]));
    }

    #[test]
    fn never_longer_than_the_longest_nor_shorter_than_was_set() {
        let (mut patience, mut now) = (Patience::new(LEAST), Instant::now());
        gaps(&mut patience, &mut now, &[1_000_000, 99, 99, 99, 99]);
        assert_eq!(patience.spin, LONGEST);
        let mut patience = Patience::new(micros(300));
        gaps(&mut patience, &mut now, &[1_000_000, 99]);
        assert!(!gaps(&mut patience, &mut now, &[250]));
    }

    #[test]
    fn who_does_not_spin_never_does() {
        let (mut patience, mut now) = (Patience::new(Duration::ZERO), Instant::now());
        assert!(gaps(&mut patience, &mut now, &[1; 100]));
    }

    /// A turn, a look in vain, and so many microseconds in which somebody else has the core; whether to look after that.
    fn yields(patience: &mut Patience, now: &mut Instant, micros: u64) -> bool {
        patience.came(*now);
        patience.looked_in_vain(*now);
        *now += self::micros(micros);
        patience.looks(*now)
    }

    #[test]
    fn who_shares_a_core_with_somebody_busy_sleeps() {
        let (mut patience, mut now) = (Patience::new(micros(10_000)), Instant::now());
        gaps(&mut patience, &mut now, &[1_000_000, 5]);
        assert!(yields(&mut patience, &mut now, 4000), "once is none");
        assert!(!yields(&mut patience, &mut now, 4000));
        assert!(gaps(&mut patience, &mut now, &[5; 100]), "for a while");
        assert!(!gaps(&mut patience, &mut now, &[20_000, 5]));
        assert!(!yields(&mut patience, &mut now, 4000), "then once is enough");
    }

    #[test]
    fn somebody_busy_now_and_then_is_no_crowd() {
        let (mut patience, mut now) = (Patience::new(micros(10_000)), Instant::now());
        gaps(&mut patience, &mut now, &[1_000_000, 5]);
        for _ in 0..10 {
            assert!(yields(&mut patience, &mut now, 4000));
            assert!(!gaps(&mut patience, &mut now, &[5; 10]));
        }
    }

    #[test]
    fn an_end_that_answers_is_no_crowd() {
        let (mut patience, mut now) = (Patience::new(LEAST), Instant::now());
        gaps(&mut patience, &mut now, &[1_000_000, 5]);
        patience.looked_in_vain(now);
        now += micros(15);
        assert!(patience.looks(now));
    }
}
