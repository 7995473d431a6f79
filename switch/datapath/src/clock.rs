//! The time by which stations age, frames wait and rates are measured: the kernel's, or one that somebody advances by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

const SECOND: u64 = 1_000_000_000;

/// A time that stands still until it is set: see [`crate::Datapath::in_virtual_time`]. Clones are the same time.
#[derive(Clone, Debug, Default)]
pub struct VirtualTime(Arc<AtomicU64>);

impl VirtualTime {
    /// Its end: what is due later can still be reckoned with, and ages are 32 bits of seconds.
    pub(crate) const END: Duration = Duration::from_secs(u32::MAX as u64);

    /// One that has just begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long it has run.
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds())
    }

    /// It is so late from now on, unless it is later already: time never goes back. After 136 years it stands still.
    pub fn set(&self, now: Duration) {
        // Its end is within 64 bits of nanoseconds.
        let now = now.min(Self::END).as_nanos() as u64;
        self.0.fetch_max(now, Ordering::Relaxed);
    }

    fn nanoseconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where the datapath's time comes from.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    /// The kernel's clock, which no step of the wall clock moves.
    #[default]
    Monotonic,
    /// One that is advanced by hand.
    Virtual(VirtualTime),
}

impl Clock {
    /// Seconds, by which the FDB ages.
    pub fn seconds(&self) -> u32 {
        match self {
            Self::Monotonic => clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |time| time.tv_sec() as u32),
            Self::Virtual(time) => (time.nanoseconds() / SECOND) as u32,
        }
    }

    /// Nanoseconds, by which frames are due and rates are measured.
    pub fn nanoseconds(&self) -> u64 {
        match self {
            Self::Monotonic => nanoseconds(),
            Self::Virtual(time) => time.nanoseconds(),
        }
    }

    /// Whether no timer of the kernel tells when it is late enough.
    pub fn is_virtual(&self) -> bool {
        matches!(self, Self::Virtual(_))
    }
}

/// Nanoseconds of the kernel's clock.
pub(crate) fn nanoseconds() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() as u64 * SECOND + time.tv_nsec() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_time_stands_still_and_never_goes_back() {
        let time = VirtualTime::new();
        let clock = Clock::Virtual(time.clone());
        assert_eq!((clock.seconds(), clock.nanoseconds()), (0, 0));
        time.set(Duration::from_millis(2500));
        time.set(Duration::from_millis(100));
        assert_eq!((clock.seconds(), clock.nanoseconds()), (2, 2_500_000_000));
        assert_eq!(time.now(), Duration::from_millis(2500));
        time.set(Duration::MAX);
        assert_eq!((clock.seconds(), time.now()), (u32::MAX, VirtualTime::END));
    }
}
