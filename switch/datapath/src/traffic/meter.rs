//! How long things take at a rate.

/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// A rate with a burst: a token bucket, kept as the moment at which all that was taken so far has passed at the rate
/// (the virtual scheduling form of ITU-T I.371's GCRA). Integer arithmetic with the rest carried along: over any time
/// exactly the rate passes.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    /// Units per second.
    rate: u64,
    /// Nanoseconds that what passes may be ahead of the rate.
    burst: u64,
    /// Nanoseconds at which all that was taken has passed.
    clear: u64,
    /// What division left over, in units times nanoseconds.
    rest: u64,
}

impl Meter {
    /// A rate in units per second, of which `burst` units pass at once after a pause.
    pub fn new(rate: u64, burst: u64) -> Self {
        let rate = rate.max(1);
        let burst = u128::from(burst) * u128::from(SECOND) / u128::from(rate);
        Self {
            rate,
            // A century is for ever.
            burst: u64::try_from(burst).unwrap_or(u64::MAX).min(u64::MAX / 4),
            clear: 0,
            rest: 0,
        }
    }

    /// When all has passed if `units` more are taken at `now`, and what is left over.
    fn after(&self, now: u64, units: u64) -> (u64, u64) {
        let (start, rest) = if self.clear < now {
            (now, 0)
        } else {
            (self.clear, self.rest)
        };
        let work = units.saturating_mul(SECOND).saturating_add(rest);
        (start.saturating_add(work / self.rate), work % self.rate)
    }

    /// Whether `units` may pass at `now` without a wait.
    pub fn allows(&self, now: u64, units: u64) -> bool {
        self.after(now, units).0 <= now.saturating_add(self.burst)
    }

    /// Takes `units` at `now`. Returns when they have passed: at `now` if they are within the burst.
    pub fn take(&mut self, now: u64, units: u64) -> u64 {
        (self.clear, self.rest) = self.after(now, units);
        self.clear.saturating_sub(self.burst).max(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_takes_the_time_that_the_wire_needs() {
        let mut meter = Meter::new(100_000_000, 0);
        // 1250 bytes at 100 Mbit/s: 100 us.
        assert_eq!(meter.take(1000, 10_000), 101_000);
        assert_eq!(meter.take(1000, 10_000), 201_000);
        assert_eq!(meter.take(500_000, 10_000), 600_000);
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate_holds() {
        let mut meter = Meter::new(1000, 10);
        let passed = (0..100).filter(|_| {
            let allowed = meter.allows(0, 1);
            if allowed {
                meter.take(0, 1);
            }
            allowed
        });
        assert_eq!(passed.count(), 10);
        assert!(!meter.allows(999_999, 1) && meter.allows(1_000_000, 1));
    }

    proptest! {
        #[test]
        fn over_time_exactly_the_rate_passes(
            rate in 1u64..1_000_000_000_000,
            frames in prop::collection::vec(1u64..600_000, 1..200),
        ) {
            let mut meter = Meter::new(rate, 0);
            let mut last = 0;
            for units in &frames {
                let at = meter.take(0, *units);
                prop_assert!(at >= last);
                last = at;
            }
            let total: u128 = frames.iter().map(|units| u128::from(*units)).sum();
            prop_assert_eq!(u128::from(last), total * u128::from(SECOND) / u128::from(rate));
        }

        #[test]
        fn no_more_than_rate_and_burst_passes(
            rate in 1u64..1_000_000,
            burst in 0u64..10_000,
            steps in prop::collection::vec((0u64..10_000_000, 1u64..5000), 1..200),
        ) {
            let mut meter = Meter::new(rate, burst);
            let (mut now, mut passed) = (0u64, 0u64);
            for (pause, units) in steps {
                now += pause;
                if meter.allows(now, units) {
                    meter.take(now, units);
                    passed += units;
                }
                let most = u128::from(burst) + u128::from(now) * u128::from(rate) / u128::from(SECOND) + 1;
                prop_assert!(u128::from(passed) <= most);
            }
        }
    }
}
