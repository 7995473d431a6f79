//! The forwarding database: (VLAN, MAC) -> port and the time of the last frame from there.
//!
//! A table of fixed capacity. Readers take no lock and write nothing: each 64-byte bucket is a sequence lock over three
//! entries, so a look-up costs one cache line. Writers (a new station, a move, control) take a mutex; the one thing that
//! a known station changes, its time, is a compare-and-swap at most once a second.
//!
//! An entry lies in its home bucket or in one of the next [`WINDOW`] - 1; the home bucket counts those that lie
//! further on, so a miss usually costs one cache line too. The hash is keyed at random: nobody outside can aim
//! addresses at one bucket. `docs/decisions.md` has the figures against DashMap and others.
//!
//! A [`Replica`] is told of every change, in order, before the next one can be made.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Zeroable;
use vswitch_api::Mac;

use super::PortId;
use super::replica::Replica;

/// Entries of a bucket: as many as fill a cache line.
const WAYS: usize = 3;
/// Buckets in which an entry may lie, counted from its home. With 4, a table filled to its capacity had lost 3 of 65,536
/// entries on average for want of room; with 8, one in 200 tables would lose one.
const WINDOW: usize = 12;

/// What is looked up: VLAN id (0 while the switch has none) and station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdbKey(u64);

impl FdbKey {
    /// The key of a station that is not 00:00:00:00:00:00.
    #[inline]
    pub fn new(vlan: u16, mac: u64) -> Self {
        Self(u64::from(vlan) << 48 | mac)
    }

    /// The VLAN id.
    pub fn vlan(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The station.
    pub fn mac(self) -> Mac {
        let [_, _, mac @ ..] = self.0.to_be_bytes();
        Mac(mac)
    }
}

/// Where a station is, packed into the word that readers load at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u64);

impl Place {
    const STATIC: u64 = 1 << 32;

    fn new(port: PortId, seen: u32, is_static: bool) -> Self {
        Self(u64::from(port.0) << 48 | if is_static { Self::STATIC } else { 0 } | u64::from(seen))
    }

    fn port(self) -> PortId {
        PortId((self.0 >> 48) as u16)
    }

    fn is_static(self) -> bool {
        self.0 & Self::STATIC != 0
    }

    fn seen(self) -> u32 {
        self.0 as u32
    }
}

/// What learning a source address did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Nothing new.
    Known,
    /// The station was not known before.
    New,
    /// It was behind this port before.
    Moved(PortId),
    /// It is not known, and the table is full.
    Full,
}

/// The table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbFull;

/// An entry as control sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbRecord {
    /// The station.
    pub mac: Mac,
    /// The port behind which it is.
    pub port: PortId,
    /// Seconds since it was last seen; none for an entry set by hand.
    pub age_secs: Option<u32>,
}

#[derive(Zeroable)]
#[repr(C, align(64))]
struct Bucket {
    /// Odd while a writer is inside.
    version: AtomicU32,
    /// Entries whose home is here and that lie in a later bucket of the window.
    strayed: AtomicU32,
    /// 0 = free.
    keys: [AtomicU64; WAYS],
    places: [AtomicU64; WAYS],
}

/// A slot of the table.
#[derive(Clone, Copy)]
struct At {
    bucket: usize,
    way: usize,
}

/// The forwarding database of one switch.
pub struct Fdb {
    buckets: Box<[Bucket]>,
    multiplier: u64,
    capacity: u32,
    len: AtomicU32,
    full: AtomicU64,
    writer: Mutex<()>,
    replica: Option<Box<dyn Replica>>,
}

impl Fdb {
    /// An empty table for `capacity` entries. Memory is about 64 bytes an entry, touched as it is used.
    pub fn new(capacity: u32) -> Self {
        // At most half of the slots are ever taken, so that a window has room with all but certainty.
        let buckets = (capacity as usize * 2)
            .div_ceil(WAYS)
            .next_power_of_two()
            .max(WINDOW * 2);
        Self {
            buckets: bytemuck::zeroed_slice_box(buckets),
            multiplier: RandomState::new().build_hasher().finish() | 1,
            capacity,
            len: AtomicU32::new(0),
            full: AtomicU64::new(0),
            writer: Mutex::new(()),
            replica: None,
        }
    }

    /// The same, with a copy that is kept in step.
    pub fn with_replica(capacity: u32, replica: Box<dyn Replica>) -> Self {
        Self {
            replica: Some(replica),
            ..Self::new(capacity)
        }
    }

    /// Number of entries.
    pub fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// No entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a station could not be learned since there was no room.
    pub fn full_count(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    /// The port behind which the station is.
    #[inline]
    pub fn lookup(&self, key: FdbKey) -> Option<PortId> {
        self.find(key).map(|(_, place)| place.port())
    }

    /// Notes that a frame from the station came in at `port` at `now` (seconds of a monotonic clock).
    #[inline]
    pub fn learn(&self, key: FdbKey, port: PortId, now: u32) -> Learned {
        let Some((at, place)) = self.find(key) else {
            return self.insert(key, port, now);
        };
        if place.is_static() {
            return Learned::Known;
        }
        if place.port() != port {
            return self.insert(key, port, now);
        }
        if place.seen() != now {
            // Should the slot be another station's by now, on the same port and seen in the same second, this makes
            // that one a second younger: harmless.
            let refreshed = Place::new(port, now, false);
            let _ = self.buckets[at.bucket].places[at.way].compare_exchange(
                place.0,
                refreshed.0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        Learned::Known
    }

    #[inline]
    fn home(&self, key: FdbKey) -> usize {
        let mixed = key.0.wrapping_mul(self.multiplier);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.buckets.len() - 1)
    }

    #[inline]
    fn find(&self, key: FdbKey) -> Option<(At, Place)> {
        let home = self.home(key);
        for step in 0..WINDOW {
            let index = (home + step) & (self.buckets.len() - 1);
            let bucket = &self.buckets[index];
            let (hit, strayed) = loop {
                let before = bucket.version.load(Ordering::Acquire);
                let way = bucket.keys.iter().position(|k| k.load(Ordering::Relaxed) == key.0);
                let hit = way.map(|way| (way, bucket.places[way].load(Ordering::Relaxed)));
                let strayed = bucket.strayed.load(Ordering::Relaxed);
                fence(Ordering::Acquire);
                if before & 1 == 0 && bucket.version.load(Ordering::Relaxed) == before {
                    break (hit, strayed);
                }
                std::hint::spin_loop();
            };
            if let Some((way, place)) = hit {
                return Some((At { bucket: index, way }, Place(place)));
            }
            if step == 0 && strayed == 0 {
                return None;
            }
        }
        None
    }

    fn write(&self) -> MutexGuard<'_, ()> {
        // The guard protects no data of its own, so a panicking writer leaves nothing poisoned behind.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one slot so that no reader sees half of it. The caller holds the writer lock.
    fn set(&self, _writer: &MutexGuard<'_, ()>, at: At, key: u64, place: u64) {
        let bucket = &self.buckets[at.bucket];
        let version = bucket.version.load(Ordering::Relaxed);
        bucket.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        bucket.keys[at.way].store(key, Ordering::Relaxed);
        bucket.places[at.way].store(place, Ordering::Relaxed);
        bucket.version.store(version.wrapping_add(2), Ordering::Release);
        if let Some(replica) = self.replica.as_ref().filter(|_| key != 0) {
            replica.set(FdbKey(key), Place(place).port(), Place(place).seen());
        }
    }

    #[cold]
    fn insert(&self, key: FdbKey, port: PortId, now: u32) -> Learned {
        let writer = self.write();
        match self.find(key) {
            Some((_, place)) if place.is_static() || place.port() == port => Learned::Known,
            Some((at, place)) => {
                self.set(&writer, at, key.0, Place::new(port, now, false).0);
                Learned::Moved(place.port())
            }
            None => match self.place_new(&writer, key, Place::new(port, now, false)) {
                Ok(()) => Learned::New,
                Err(FdbFull) => {
                    self.full.fetch_add(1, Ordering::Relaxed);
                    Learned::Full
                }
            },
        }
    }

    fn place_new(&self, writer: &MutexGuard<'_, ()>, key: FdbKey, place: Place) -> Result<(), FdbFull> {
        if self.len() >= self.capacity {
            return Err(FdbFull);
        }
        let home = self.home(key);
        for step in 0..WINDOW {
            let index = (home + step) & (self.buckets.len() - 1);
            let free = self.buckets[index]
                .keys
                .iter()
                .position(|k| k.load(Ordering::Relaxed) == 0);
            if let Some(way) = free {
                self.set(writer, At { bucket: index, way }, key.0, place.0);
                if step > 0 {
                    self.buckets[home].strayed.fetch_add(1, Ordering::Relaxed);
                }
                self.len.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        Err(FdbFull)
    }

    fn remove_at(&self, writer: &MutexGuard<'_, ()>, at: At) {
        let key = FdbKey(self.buckets[at.bucket].keys[at.way].load(Ordering::Relaxed));
        self.set(writer, at, 0, 0);
        if let Some(replica) = &self.replica {
            replica.remove(key);
        }
        let home = self.home(key);
        if home != at.bucket {
            self.buckets[home].strayed.fetch_sub(1, Ordering::Relaxed);
        }
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets an entry by hand: it neither ages nor moves. Replaces a learned one.
    ///
    /// # Errors
    /// The table is full.
    pub fn add_static(&self, key: FdbKey, port: PortId) -> Result<(), FdbFull> {
        let writer = self.write();
        let place = Place::new(port, 0, true);
        match self.find(key) {
            Some((at, _)) => {
                self.set(&writer, at, key.0, place.0);
                Ok(())
            }
            None => self.place_new(&writer, key, place),
        }
    }

    /// Takes over what the replica knew before this table was made; false if the table knows the station already, or is full.
    pub fn adopt(&self, key: FdbKey, port: PortId, seen: u32) -> bool {
        let writer = self.write();
        self.find(key).is_none() && self.place_new(&writer, key, Place::new(port, seen, false)).is_ok()
    }

    /// Removes an entry of either kind; false if there is none.
    pub fn remove(&self, key: FdbKey) -> bool {
        let writer = self.write();
        match self.find(key) {
            Some((at, _)) => {
                self.remove_at(&writer, at);
                true
            }
            None => false,
        }
    }

    /// Removes the learned entries, of one port or of all; returns how many.
    pub fn flush(&self, port: Option<PortId>) -> u32 {
        self.remove_where(|place| !place.is_static() && port.is_none_or(|port| place.port() == port))
    }

    /// Removes all entries of a port that is going away, static ones too.
    pub fn forget_port(&self, port: PortId) -> u32 {
        self.remove_where(|place| place.port() == port)
    }

    /// Removes the learned entries that were not seen for `ageing` seconds before `now`; returns how many.
    pub fn age(&self, now: u32, ageing: u32) -> u32 {
        let old = |place: Place| !place.is_static() && age_at(now, place) >= ageing;
        if self.replica.is_some() {
            self.ask_replica(old);
        }
        self.remove_where(old)
    }

    /// Takes over from the replica when the stations of these entries were last seen.
    fn ask_replica(&self, which: impl Fn(Place) -> bool) {
        for at in self.taken() {
            let bucket = &self.buckets[at.bucket];
            let key = FdbKey(bucket.keys[at.way].load(Ordering::Relaxed));
            let place = Place(bucket.places[at.way].load(Ordering::Relaxed));
            if !which(place) {
                continue;
            }
            let seen = self.replica.as_ref().and_then(|replica| replica.seen(key));
            if let Some(seen) = seen.filter(|seen| *seen > place.seen()) {
                let refreshed = Place::new(place.port(), seen, false);
                // If the entry has changed meanwhile it is not old any more: as in `learn`.
                let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
                let _ = bucket.places[at.way].compare_exchange(place.0, refreshed.0, order, failed);
            }
        }
    }

    fn remove_where(&self, gone: impl Fn(Place) -> bool) -> u32 {
        if self.is_empty() {
            return 0;
        }
        let mut count = 0;
        for at in self.taken() {
            let place = || Place(self.buckets[at.bucket].places[at.way].load(Ordering::Relaxed));
            if gone(place()) {
                // Looked at again under the lock, which is held for one entry only: workers learn meanwhile.
                let writer = self.write();
                if self.buckets[at.bucket].keys[at.way].load(Ordering::Relaxed) != 0 && gone(place()) {
                    self.remove_at(&writer, at);
                    count += 1;
                }
            }
        }
        count
    }

    /// Slots that hold an entry, as they are passed by.
    fn taken(&self) -> impl Iterator<Item = At> {
        let slots = (0..self.buckets.len()).flat_map(|bucket| (0..WAYS).map(move |way| At { bucket, way }));
        slots.filter(|at| self.buckets[at.bucket].keys[at.way].load(Ordering::Relaxed) != 0)
    }

    /// All entries, in no order. Each is right in itself; together they are no picture of one moment.
    pub fn records(&self, now: u32) -> Vec<FdbRecord> {
        if self.replica.is_some() {
            self.ask_replica(|place| !place.is_static());
        }
        self.taken()
            .filter_map(|at| {
                let key = FdbKey(self.buckets[at.bucket].keys[at.way].load(Ordering::Relaxed));
                // Read as a worker does: key and place may have changed between the two loads.
                let (_, place) = self.find(key)?;
                let age_secs = (!place.is_static()).then(|| age_at(now, place));
                Some(FdbRecord {
                    mac: key.mac(),
                    port: place.port(),
                    age_secs,
                })
            })
            .collect()
    }

    /// Number of entries of each port, by its index; ports after the last that has one are left out.
    pub fn counts(&self) -> Vec<u32> {
        let mut counts = Vec::new();
        for at in self.taken() {
            let place = Place(self.buckets[at.bucket].places[at.way].load(Ordering::Relaxed));
            let index = place.port().index();
            if index >= counts.len() {
                counts.resize(index + 1, 0);
            }
            counts[index] += 1;
        }
        counts
    }
}

/// A worker's clock may be a tick ahead of `now`: that is no age of 136 years.
fn age_at(now: u32, place: Place) -> u32 {
    now.saturating_sub(place.seen())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    const P1: PortId = PortId(1);
    const P2: PortId = PortId(2);

    fn key(n: u64) -> FdbKey {
        FdbKey::new(0, 0x0200_0000_0000 + n)
    }

    #[test]
    fn a_station_is_found_where_it_was_last_seen() {
        let fdb = Fdb::new(16);
        assert_eq!(fdb.learn(key(1), P1, 10), Learned::New);
        assert_eq!(fdb.learn(key(1), P1, 11), Learned::Known);
        assert_eq!(fdb.lookup(key(1)), Some(P1));
        assert_eq!(fdb.learn(key(1), P2, 12), Learned::Moved(P1));
        assert_eq!(fdb.lookup(key(1)), Some(P2));
        assert_eq!(fdb.lookup(key(2)), None);
        assert_eq!(
            fdb.records(15),
            [FdbRecord {
                mac: key(1).mac(),
                port: P2,
                age_secs: Some(3)
            }]
        );
    }

    #[test]
    fn only_learned_entries_age() {
        let fdb = Fdb::new(16);
        fdb.learn(key(1), P1, 10);
        fdb.learn(key(2), P1, 20);
        fdb.add_static(key(3), P1).unwrap();
        assert_eq!(fdb.age(310, 300), 1);
        assert_eq!(
            (fdb.lookup(key(1)), fdb.lookup(key(2)), fdb.lookup(key(3))),
            (None, Some(P1), Some(P1))
        );
        assert_eq!(fdb.age(9, 300), 0, "a clock behind the entry's is no great age");
    }

    #[test]
    fn a_static_entry_does_not_move() {
        let fdb = Fdb::new(16);
        fdb.learn(key(1), P2, 1);
        fdb.add_static(key(1), P1).unwrap();
        assert_eq!(fdb.learn(key(1), P2, 2), Learned::Known);
        assert_eq!(fdb.lookup(key(1)), Some(P1));
        assert_eq!(fdb.flush(None), 0);
        assert!(fdb.remove(key(1)) && !fdb.remove(key(1)));
        assert!(fdb.is_empty());
    }

    #[test]
    fn a_full_table_refuses_and_counts() {
        let fdb = Fdb::new(100);
        for n in 0..100 {
            assert_eq!(fdb.learn(key(n), P1, 1), Learned::New);
        }
        assert_eq!(fdb.learn(key(100), P1, 1), Learned::Full);
        assert_eq!(
            fdb.learn(key(5), P2, 1),
            Learned::Moved(P1),
            "known stations still move"
        );
        assert_eq!((fdb.len(), fdb.full_count()), (100, 1));
        assert_eq!(fdb.add_static(key(100), P1), Err(FdbFull));
        assert_eq!(fdb.forget_port(P2), 1);
        assert_eq!(fdb.learn(key(100), P1, 1), Learned::New);
    }

    #[test]
    fn the_default_capacity_can_be_filled() {
        let fdb = Fdb::new(65_536);
        assert!((0..65_536).all(|n| fdb.learn(key(n * 7919), P1, 1) == Learned::New));
        assert!((0..65_536).all(|n| fdb.lookup(key(n * 7919)) == Some(P1)));
        assert_eq!(fdb.flush(Some(P1)), 65_536);
        assert!(fdb.is_empty() && fdb.buckets.iter().all(|b| b.strayed.load(Ordering::Relaxed) == 0));
    }

    /// A reader that mixed up two entries would see a station behind a port where it never was.
    #[test]
    fn readers_never_see_half_a_change() {
        let fdb = Fdb::new(8);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut hits = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    for n in 0..64 {
                        if let Some(port) = fdb.lookup(key(n)) {
                            assert_eq!(port, PortId(n as u16));
                            hits += 1;
                        }
                    }
                }
                hits
            });
            for round in 0..20_000u64 {
                let n = round * 31 % 64;
                fdb.learn(key(n), PortId(n as u16), 1);
                if round % 3 == 0 {
                    fdb.flush(None);
                }
            }
            stop.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in prop::collection::vec((0u8..6, 0u64..40, 0u16..4), 1..300)) {
            let fdb = Fdb::new(32);
            let mut map: HashMap<u64, (u16, bool)> = HashMap::new();
            for (step, n, port) in steps {
                match step {
                    0..3 => {
                        let room = map.len() < 32;
                        let expected = match map.get_mut(&n) {
                            Some((_, true)) => Learned::Known,
                            Some((p, _)) if *p == port => Learned::Known,
                            Some((p, _)) => Learned::Moved(PortId(std::mem::replace(p, port))),
                            None if room => { map.insert(n, (port, false)); Learned::New }
                            None => Learned::Full,
                        };
                        prop_assert_eq!(fdb.learn(key(n), PortId(port), 1), expected);
                    }
                    3 => {
                        let fits = map.contains_key(&n) || map.len() < 32;
                        prop_assert_eq!(fdb.add_static(key(n), PortId(port)).is_ok(), fits);
                        if fits { map.insert(n, (port, true)); }
                    }
                    4 => prop_assert_eq!(fdb.remove(key(n)), map.remove(&n).is_some()),
                    _ => {
                        let before = map.len();
                        map.retain(|_, (p, is_static)| *is_static || *p != port);
                        prop_assert_eq!(fdb.flush(Some(PortId(port))) as usize, before - map.len());
                    }
                }
                prop_assert_eq!(fdb.len() as usize, map.len());
                for n in 0..40 {
                    prop_assert_eq!(fdb.lookup(key(n)), map.get(&n).map(|(p, _)| PortId(*p)));
                }
            }
        }
    }
}
