//! How long edits take, and other numbers, counted into buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in seconds. What takes longer is in one more.
const BOUNDS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0];

/// How long something took, so far.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// The same at one moment; also of what has another unit than seconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// Upper bound of each bucket, and how many are in it and in none below.
    pub buckets: Vec<(f64, u64)>,
    /// Sum of all.
    pub sum: f64,
}

impl Durations {
    /// Counts one.
    pub fn note(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
        self.buckets[bucket.unwrap_or(BOUNDS.len())].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted.
    pub fn counted(&self) -> Counted {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let counts = self.buckets.iter().map(|count| count.load(Ordering::Relaxed));
        Counted {
            buckets: bounds.zip(counts).collect(),
            sum: self.micros.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

impl Counted {
    /// Of sizes of which it is known how many were 1, how many 2, and so on: buckets up to each power of two.
    pub fn of_sizes(counts: &[u64]) -> Self {
        let mut counted = Self::default();
        let (mut bound, mut in_bucket) = (1, 0);
        for (size, count) in (1..).zip(counts) {
            in_bucket += count;
            counted.sum += f64::from(size) * *count as f64;
            if size == bound {
                counted.buckets.push((f64::from(bound), std::mem::take(&mut in_bucket)));
                bound *= 2;
            }
        }
        counted.buckets.push((f64::INFINITY, in_bucket));
        counted
    }

    /// How many there are in all.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_first_bucket_that_takes_it() {
        let durations = Durations::default();
        for millis in [1, 2, 100, 90_000] {
            durations.note(Duration::from_millis(millis));
        }
        let counted = durations.counted();
        let full: Vec<_> = counted.buckets.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(full, [&(0.001, 1), &(0.005, 1), &(0.1, 1), &(f64::INFINITY, 1)]);
        assert_eq!((counted.count(), counted.sum), (4, 90.103));
    }

    #[test]
    fn sizes_are_in_the_bucket_of_the_next_power_of_two() {
        let counted = Counted::of_sizes(&[5, 1, 2, 3]);
        assert_eq!(counted.buckets, [(1.0, 5), (2.0, 1), (4.0, 5), (f64::INFINITY, 0)]);
        assert_eq!((counted.count(), counted.sum), (11, 25.0));
        assert_eq!(Counted::of_sizes(&[]).buckets, [(f64::INFINITY, 0)]);
    }
}
