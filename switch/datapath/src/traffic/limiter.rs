//! Rates above which frames are dropped: the policer of a port and its storm control.

use std::sync::{Arc, Mutex};

use vswitch_api::{Mac, RateLimit, StormControl};

use super::meter::Meter;
use crate::frame::WireSize;
use crate::lock;

/// A rate limit and what has been used of it.
#[derive(Debug)]
pub struct Limiter {
    /// What it was made of.
    pub limit: RateLimit,
    meters: Mutex<Meters>,
}

#[derive(Debug)]
struct Meters {
    bits: Option<Meter>,
    frames: Option<Meter>,
}

impl Meters {
    fn allow(&self, now: u64, size: WireSize) -> bool {
        self.bits.is_none_or(|bits| bits.allows(now, 8 * size.largest as u64))
            && self.frames.is_none_or(|frames| frames.allows(now, 1))
    }

    /// What a GSO frame has beyond its first wire frame is charged too, but needs not be there yet: else none longer than the burst
    /// would ever pass.
    fn charge(&mut self, now: u64, size: WireSize) {
        let (total, segments) = (8 * size.total as u64, size.segments as u64);
        for (meter, units) in [(&mut self.bits, total), (&mut self.frames, segments)] {
            if let Some(meter) = meter {
                meter.take(now, units);
            }
        }
    }
}

impl Limiter {
    /// A limiter of which nothing has been used.
    pub fn new(limit: RateLimit) -> Self {
        let bits = limit.rate_bps.map(|bps| Meter::new(bps, 8 * limit.burst_bytes(bps)));
        let frames = limit.rate_pps.map(|pps| Meter::new(pps, limit.burst_frames(pps)));
        Self {
            limit,
            meters: Mutex::new(Meters { bits, frames }),
        }
    }

    /// Whether a frame of this size would pass at `now`, in nanoseconds.
    pub fn would_admit(&self, now: u64, size: WireSize) -> bool {
        lock(&self.meters).allow(now, size)
    }

    /// Whether a frame of this size may pass at `now`, in nanoseconds; if so it is charged.
    pub fn admits(&self, now: u64, size: WireSize) -> bool {
        let meters = &mut *lock(&self.meters);
        let passes = meters.allow(now, size);
        if passes {
            meters.charge(now, size);
        }
        passes
    }

    /// Charges a frame that passes at `now`, in nanoseconds, whatever is left.
    pub fn charge(&self, now: u64, size: WireSize) {
        lock(&self.meters).charge(now, size);
    }
}

/// The limits of what a port may have flooded.
#[derive(Debug)]
pub struct Storm {
    /// What it was made of.
    pub control: StormControl,
    broadcast: Option<Arc<Limiter>>,
    multicast: Option<Arc<Limiter>>,
    unknown: Option<Arc<Limiter>>,
}

impl Storm {
    /// Limits of which nothing has been used, but those that are as they were: they go on.
    pub fn new(control: StormControl, old: Option<&Self>) -> Self {
        type Setting = fn(&StormControl) -> Option<RateLimit>;
        type Place = fn(&Storm) -> &Option<Arc<Limiter>>;
        let limiter = |setting: Setting, place: Place| {
            let limit = setting(&control)?;
            let same = old.filter(|old| setting(&old.control) == Some(limit));
            let same = same.and_then(|old| place(old).clone());
            Some(same.unwrap_or_else(|| Arc::new(Limiter::new(limit.of_floods()))))
        };
        Self {
            control,
            broadcast: limiter(|of| of.broadcast, |of| &of.broadcast),
            multicast: limiter(|of| of.multicast, |of| &of.multicast),
            unknown: limiter(|of| of.unknown_unicast, |of| &of.unknown),
        }
    }

    /// The limit for frames to `dst`.
    pub fn limiter(&self, dst: Mac) -> Option<&Limiter> {
        if dst == Mac::BROADCAST {
            self.broadcast.as_deref()
        } else if dst.is_multicast() {
            self.multicast.as_deref()
        } else {
            self.unknown.as_deref()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(largest: usize, segments: usize) -> WireSize {
        WireSize {
            segments,
            largest,
            total: largest * segments,
        }
    }

    #[test]
    fn both_rates_have_to_hold() {
        let limiter = Limiter::new(RateLimit {
            rate_bps: Some(8_000_000),
            burst_bytes: Some(3000),
            rate_pps: Some(1000),
            burst_frames: Some(5),
        });
        assert!((0..5).all(|_| limiter.admits(0, size(100, 1))));
        assert!(!limiter.admits(0, size(100, 1)), "the sixth frame");
        // 5 ms: all frames again, and all of the bytes.
        assert!(limiter.admits(5_000_000, size(1500, 1)) && limiter.admits(5_000_000, size(1500, 1)));
        assert!(!limiter.admits(5_000_000, size(1500, 1)), "the third 1500 bytes");
    }

    #[test]
    fn storm_control_of_one_class_goes_on_as_another_changes() {
        let limit = |pps| {
            Some(RateLimit {
                rate_pps: Some(pps),
                burst_frames: Some(2),
                ..RateLimit::default()
            })
        };
        let control = |broadcast, multicast| StormControl {
            broadcast: limit(broadcast),
            multicast: limit(multicast),
            ..StormControl::default()
        };
        let used = Storm::new(control(1, 1), None);
        let (broadcast, multicast) = (Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1]));
        let pass = |storm: &Storm, dst| {
            let limiter = storm.limiter(dst).unwrap();
            (0..5).filter(|_| limiter.admits(0, size(100, 1))).count()
        };
        assert_eq!([pass(&used, broadcast), pass(&used, multicast)], [2, 2]);
        let changed = Storm::new(control(1, 5), Some(&used));
        assert_eq!([pass(&changed, broadcast), pass(&changed, multicast)], [0, 2]);
    }

    /// TCP had 6 % of a rate in frames: of its bursts a few frames passed.
    #[test]
    fn without_a_burst_some_gso_frames_pass_at_once_but_few_floods() {
        let limit = RateLimit {
            rate_pps: Some(100),
            ..RateLimit::default()
        };
        let passed = |limiter: &Limiter, segments| {
            let admitted = (0..1000).filter(|_| limiter.admits(0, size(1514, segments)));
            segments * admitted.count()
        };
        assert_eq!(passed(&Limiter::new(limit), 45), 45 * 12);
        let control = StormControl {
            broadcast: Some(limit),
            ..StormControl::default()
        };
        let storm = Storm::new(control, None);
        assert_eq!(passed(storm.limiter(Mac::BROADCAST).unwrap(), 1), 16);
    }

    #[test]
    fn a_gso_frame_longer_than_the_burst_passes_and_is_paid_for() {
        let limiter = Limiter::new(RateLimit {
            rate_bps: Some(8_000_000),
            burst_bytes: Some(2000),
            ..RateLimit::default()
        });
        assert!(limiter.admits(0, size(1500, 40)));
        // 60,000 bytes take 60 ms; with a burst of 2000 the next 1500 fit at 59.5 ms.
        assert!(!limiter.admits(59_000_000, size(1500, 1)));
        assert!(limiter.admits(59_500_000, size(1500, 1)));
    }
}
