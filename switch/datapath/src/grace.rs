//! Grace periods: control publishes a new snapshot, and waits until all workers have left the old ones before it frees what only
//! those had.

use crate::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering, PoisonError};

/// Counts the snapshots, and which of them each worker has taken over.
pub struct Grace {
    generation: AtomicU64,
    seen: Mutex<Vec<u64>>,
    all_seen: Condvar,
}

impl Grace {
    /// Of so many workers, before the first snapshot.
    pub fn new(workers: usize) -> Self {
        Self {
            generation: AtomicU64::new(0),
            seen: Mutex::new(vec![0; workers]),
            all_seen: Condvar::new(),
        }
    }

    /// A new snapshot is there to be loaded: who hears of this generation finds it, or a newer one.
    pub fn publish(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The newest generation. A worker asks before it loads the snapshot, never after.
    #[inline]
    pub fn newest(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A worker has loaded the snapshot of this generation, and will not look at an older one again.
    pub fn acknowledge(&self, worker: usize, generation: u64) {
        self.seen()[worker] = generation;
        self.all_seen.notify_all();
    }

    /// Returns when all workers have acknowledged this generation, or a newer one.
    pub fn wait_for(&self, generation: u64) {
        let mut seen = self.seen();
        while seen.iter().any(|seen| *seen < generation) {
            seen = self.all_seen.wait(seen).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<u64>> {
        // A number is replaced as a whole, so a panic elsewhere leaves nothing half-done.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
