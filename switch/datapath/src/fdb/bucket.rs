//! A bucket: a sequence lock over as many entries as fill a cache line.

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};

/// Entries of a bucket.
pub const WAYS: usize = 3;

/// Many readers take no lock; one writer at a time, which holds a lock elsewhere.
#[cfg_attr(not(loom), derive(bytemuck::Zeroable))]
#[repr(C, align(64))]
pub struct Bucket {
    /// Odd while a writer is inside.
    version: AtomicU32,
    /// Entries whose home is here and that lie in a later bucket of the window.
    pub strayed: AtomicU32,
    /// 0 = free.
    pub keys: [AtomicU64; WAYS],
    /// Where the station of the key is, by the words of [`super::entry::Place`].
    pub places: [AtomicU64; WAYS],
}

impl Bucket {
    /// Loom's atomics have to be made one by one.
    #[cfg(loom)]
    pub fn empty() -> Self {
        Self {
            version: AtomicU32::new(0),
            strayed: AtomicU32::new(0),
            keys: std::array::from_fn(|_| AtomicU64::new(0)),
            places: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The way that holds the key, with its place, and how many entries of its own lie further on. The three are of one moment.
    #[inline]
    pub fn find(&self, key: u64) -> (Option<(usize, u64)>, u32) {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let way = self.keys.iter().position(|k| k.load(Ordering::Relaxed) == key);
            let hit = way.map(|way| (way, self.places[way].load(Ordering::Relaxed)));
            let strayed = self.strayed.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if before & 1 == 0 && self.version.load(Ordering::Relaxed) == before {
                return (hit, strayed);
            }
            spin_loop();
        }
    }

    /// Changes one entry so that no reader sees half of it. The caller holds the writer's lock.
    pub fn set(&self, way: usize, key: u64, place: u64) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.keys[way].store(key, Ordering::Relaxed);
        self.places[way].store(place, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// Puts `place` where `seen` still is; without a lock, by any reader.
    #[inline]
    pub fn refresh(&self, way: usize, seen: u64, place: u64) {
        let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.places[way].compare_exchange(seen, place, order, failed);
    }
}
