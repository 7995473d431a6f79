//! How much work comes to a worker at once.

use super::counters::Counter;
use crate::batch::MAX_BATCH;

/// Batches of a worker that were of one frame, of two, and so on: one addition a batch, and all sums follow from them.
#[derive(Debug)]
// Lines of the cache of its own, since others write beside it.
#[repr(align(128))]
pub(super) struct Load {
    batches: [Counter; MAX_BATCH],
}

impl Load {
    pub fn new() -> Self {
        Self {
            batches: std::array::from_fn(|_| Counter::default()),
        }
    }

    /// A batch of so many frames came from a port; only its worker may tell.
    #[inline]
    pub fn took(&self, frames: usize) {
        if let Some(count) = self.batches.get(frames.wrapping_sub(1)) {
            count.add(1);
        }
    }

    /// How many batches there were of one frame, of two, and so on.
    pub fn batches(&self) -> Vec<u64> {
        self.batches.iter().map(Counter::get).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_counted_by_their_size() {
        let load = Load::new();
        for frames in [0, 1, 64, 64, 65] {
            load.took(frames);
        }
        let batches = load.batches();
        assert_eq!((batches[0], batches[63], batches.iter().sum()), (1, 2, 3u64));
    }
}
