//! The forwarding database: (VLAN, MAC) -> port and the time of the last frame from there.
//!
//! A table of fixed capacity. Readers take no lock and write nothing: each 64-byte bucket is a sequence lock over three
//! entries, so a look-up costs one cache line. Writers (a new station, a move, control) take a mutex; the one thing that
//! a known station changes, its time, is a compare-and-swap at most once a second.
//!
//! An entry lies in its home bucket or in one of the next `WINDOW` - 1; the home bucket counts those that lie
//! further on, so a miss usually costs one cache line too. The hash is keyed at random: nobody outside can aim
//! addresses at one bucket. `docs/decisions.md` has the figures against DashMap and others.
//!
//! A [`Replica`] is told of every change, in order, before the next one can be made.

mod bucket;
mod counts;
mod entry;

use std::alloc::{Layout, handle_alloc_error};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::allocation::try_zeroed_slice_box;

use super::PortId;
use super::replica::Replica;
use super::snapshot::PortSet;
use bucket::{Bucket, WAYS};
use counts::Counts;
use entry::Place;
pub use entry::{EntryKind, FdbFilter, FdbFull, FdbKey, FdbRecord, LearnRule, Learned};

/// Buckets in which an entry may lie, counted from its home. With 4, a table filled to its capacity had lost 3 of 65,536
/// entries on average for want of room; with 8, one in 200 tables would lose one.
const WINDOW: usize = 12;

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
    moves: AtomicU64,
    writer: Mutex<Counts>,
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
            // Without memory the daemon ends, and says so.
            buckets: try_zeroed_slice_box(buckets).unwrap_or_else(|()| {
                handle_alloc_error(Layout::array::<Bucket>(buckets).unwrap_or(Layout::new::<Bucket>()))
            }),
            multiplier: RandomState::new().build_hasher().finish() | 1,
            capacity,
            len: AtomicU32::new(0),
            full: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            writer: Mutex::default(),
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

    /// How often a station was seen on another port than before.
    pub fn move_count(&self) -> u64 {
        self.moves.load(Ordering::Relaxed)
    }

    /// The port behind which the station is, which is somebody: for 00:00:00:00:00:00 it may be any.
    #[inline]
    pub fn lookup(&self, key: FdbKey) -> Option<PortId> {
        self.find(key).map(|(_, place)| place.port())
    }

    /// Notes that a frame from the station came in at `port` at `now` (seconds of a monotonic clock).
    #[inline(always)]
    pub fn learn(&self, key: FdbKey, port: PortId, now: u32, rule: LearnRule) -> Learned {
        let Some((at, place)) = self.find(key) else {
            return self.insert_new(key, port, now, rule);
        };
        // Nearly every frame's: here, of whatever kind, and seen in this second.
        if place.0 & !Place::KIND == Place::new(port, now, EntryKind::Learned).0 {
            return Learned::Known;
        }
        self.seen_otherwise(key, at, place, port, now, rule)
    }

    /// The rest of [`Fdb::learn`] for a station that is known, but elsewhere or for longer.
    #[inline(never)]
    fn seen_otherwise(&self, key: FdbKey, at: At, place: Place, port: PortId, now: u32, rule: LearnRule) -> Learned {
        if key.is_nobody() || place.is_fixed() && (place.port() != port || place.kind() == EntryKind::Static) {
            return Learned::Known;
        }
        if place.port() != port {
            return self.insert(key, port, now, rule);
        }
        if place.seen() != now {
            // Should the slot be another station's by now, on the same port and seen in the same second, this makes
            // that one a second younger: harmless.
            let refreshed = Place::new(port, now, place.kind());
            self.buckets[at.bucket].refresh(at.way, place.0, refreshed.0);
        }
        Learned::Known
    }

    /// What [`Fdb::learn`] would do, without doing it.
    pub fn would_learn(&self, key: FdbKey, port: PortId, rule: LearnRule) -> Learned {
        let counts = self.write();
        match self.entry(key) {
            _ if key.is_nobody() => Learned::Known,
            Some((_, place)) if place.is_fixed() || place.port() == port => Learned::Known,
            _ if counts.learned_at(port) >= rule.port_limit => Learned::Limited,
            Some((_, place)) => Learned::Moved(place.port()),
            None if counts.learned_in(key.vlan()) >= rule.vlan_limit => Learned::Limited,
            None if self.len() >= self.capacity => Learned::Full,
            None => Learned::New,
        }
    }

    /// The entry of a station, as it is at `now`.
    pub fn record(&self, key: FdbKey, now: u32) -> Option<FdbRecord> {
        self.entry(key).map(|(_, place)| FdbRecord {
            mac: key.mac(),
            vlan: key.vlan(),
            port: place.port(),
            age_secs: (place.kind() != EntryKind::Static).then(|| age_at(now, place)),
            kind: place.kind(),
        })
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
        match self.find_in(home, key) {
            (None, strayed) if strayed > 0 => self.find_strayed(home, key),
            (hit, _) => hit,
        }
    }

    /// The same for any key: there is none of nobody, whose key a free slot has.
    fn entry(&self, key: FdbKey) -> Option<(At, Place)> {
        self.find(key).filter(|_| !key.is_nobody())
    }

    /// An entry whose home bucket was full when it came.
    #[inline(never)]
    fn find_strayed(&self, home: usize, key: FdbKey) -> Option<(At, Place)> {
        (1..WINDOW).find_map(|step| self.find_in((home + step) & (self.buckets.len() - 1), key).0)
    }

    /// What a bucket has under the key, and how many entries of its own lie further on.
    #[inline]
    fn find_in(&self, index: usize, key: FdbKey) -> (Option<(At, Place)>, u32) {
        let (hit, strayed) = self.buckets[index].find(key.0);
        let hit = hit.map(|(way, place)| (At { bucket: index, way }, Place(place)));
        (hit, strayed)
    }

    fn write(&self) -> MutexGuard<'_, Counts> {
        // Nothing that runs under the guard can panic half-way.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one slot so that no reader sees half of it. The caller holds the writer lock.
    fn set(&self, _writer: &MutexGuard<'_, Counts>, at: At, key: u64, place: u64) {
        self.buckets[at.bucket].set(at.way, key, place);
        if let Some(replica) = self.replica.as_ref().filter(|_| key != 0) {
            replica.set(FdbKey(key), Place(place).port(), Place(place).seen());
        }
    }

    /// [`Fdb::insert`] of a station that was not found. Where there is no room that is known without the lock, or whoever sends from ever new
    /// addresses would keep all workers waiting for it.
    #[cold]
    fn insert_new(&self, key: FdbKey, port: PortId, now: u32, rule: LearnRule) -> Learned {
        if self.len() >= self.capacity && rule.is_unlimited() && !key.is_nobody() {
            self.full.fetch_add(1, Ordering::Relaxed);
            return Learned::Full;
        }
        self.insert(key, port, now, rule)
    }

    #[cold]
    fn insert(&self, key: FdbKey, port: PortId, now: u32, rule: LearnRule) -> Learned {
        let mut writer = self.write();
        let new = Place::new(port, now, rule.kind);
        match self.find(key) {
            _ if key.is_nobody() => Learned::Known,
            Some((_, place)) if place.is_fixed() || place.port() == port => Learned::Known,
            _ if writer.learned_at(port) >= rule.port_limit => Learned::Limited,
            Some((at, place)) => {
                self.set(&writer, at, key.0, new.0);
                count(&mut writer, key, place, -1);
                count(&mut writer, key, new, 1);
                self.moves.fetch_add(1, Ordering::Relaxed);
                Learned::Moved(place.port())
            }
            None if writer.learned_in(key.vlan()) >= rule.vlan_limit => Learned::Limited,
            None => match self.place_new(&mut writer, key, new) {
                Ok(()) => Learned::New,
                Err(FdbFull) => {
                    self.full.fetch_add(1, Ordering::Relaxed);
                    Learned::Full
                }
            },
        }
    }

    fn place_new(&self, writer: &mut MutexGuard<'_, Counts>, key: FdbKey, place: Place) -> Result<(), FdbFull> {
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
                count(writer, key, place, 1);
                return Ok(());
            }
        }
        Err(FdbFull)
    }

    fn remove_at(&self, writer: &mut MutexGuard<'_, Counts>, at: At) {
        let key = FdbKey(self.buckets[at.bucket].keys[at.way].load(Ordering::Relaxed));
        let place = Place(self.buckets[at.bucket].places[at.way].load(Ordering::Relaxed));
        count(writer, key, place, -1);
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

    /// Sets an entry by hand: it neither ages nor moves. Replaces a learned one, and where there is no room takes that of one. For 00:00:00:00:00:00, which is nobody's address, nothing is set.
    ///
    /// # Errors
    /// The table is full of such entries.
    pub fn add_static(&self, key: FdbKey, port: PortId) -> Result<(), FdbFull> {
        let mut writer = self.write();
        let place = Place::new(port, 0, EntryKind::Static);
        match self.entry(key) {
            None if key.is_nobody() => Ok(()),
            Some((at, before)) => {
                self.set(&writer, at, key.0, place.0);
                count(&mut writer, key, before, -1);
                count(&mut writer, key, place, 1);
                Ok(())
            }
            None => match self.place_new(&mut writer, key, place) {
                Err(FdbFull) if self.make_way(&mut writer, key) => self.place_new(&mut writer, key, place),
                placed => placed,
            },
        }
    }

    /// Forgets a station that was learned, the nearest to the key's home, so that one that is set by hand has room: else whoever sends from
    /// ever new addresses would keep it out. False: all were set by hand.
    #[cold]
    fn make_way(&self, writer: &mut MutexGuard<'_, Counts>, key: FdbKey) -> bool {
        let (home, mask) = (self.home(key), self.buckets.len() - 1);
        let learned = |at: &At| {
            let bucket = &self.buckets[at.bucket];
            let taken = bucket.keys[at.way].load(Ordering::Relaxed) != 0;
            taken && Place(bucket.places[at.way].load(Ordering::Relaxed)).kind() != EntryKind::Static
        };
        let mut all = (0..=mask).flat_map(|step| {
            (0..WAYS).map(move |way| At {
                bucket: (home + step) & mask,
                way,
            })
        });
        let found = all.find(learned);
        found.inspect(|at| self.remove_at(writer, *at)).is_some()
    }

    /// Takes over what the replica knew before this table was made; false if the table knows the station already, or is full,
    /// or if it is nobody.
    pub fn adopt(&self, key: FdbKey, port: PortId, seen: u32, kind: EntryKind) -> bool {
        let mut writer = self.write();
        let place = Place::new(port, seen, kind);
        !key.is_nobody() && self.entry(key).is_none() && self.place_new(&mut writer, key, place).is_ok()
    }

    /// Removes an entry of either kind; false if there is none.
    pub fn remove(&self, key: FdbKey) -> bool {
        let mut writer = self.write();
        match self.entry(key) {
            Some((at, _)) => {
                self.remove_at(&mut writer, at);
                true
            }
            None => false,
        }
    }

    /// Removes an entry that was learned, if it is behind this port; of none, behind any.
    pub fn remove_learned(&self, key: FdbKey, port: Option<PortId>) -> bool {
        let mut writer = self.write();
        match self.entry(key) {
            Some((at, place)) if place.kind() != EntryKind::Static && port.is_none_or(|port| place.port() == port) => {
                self.remove_at(&mut writer, at);
                true
            }
            _ => false,
        }
    }

    /// Removes an entry that was set by hand, if it is behind this port.
    pub fn remove_static(&self, key: FdbKey, port: PortId) {
        let mut writer = self.write();
        if let Some((at, place)) = self.entry(key)
            && place.kind() == EntryKind::Static
            && place.port() == port
        {
            self.remove_at(&mut writer, at);
        }
    }

    /// Removes the learned entries that the filter names; returns how many.
    pub fn flush(&self, filter: FdbFilter) -> u32 {
        self.remove_where(|key, place| {
            let kind = place.kind() == EntryKind::Learned || filter.sticky && place.kind() == EntryKind::Sticky;
            kind && filter.port.is_none_or(|port| place.port() == port) && filter.vlan.is_none_or(|id| key.vlan() == id)
        })
    }

    /// Removes all entries of ports that are going away, static ones too.
    pub fn forget_ports(&self, ports: &PortSet) -> u32 {
        self.remove_where(|_, place| ports.contains(place.port()))
    }

    /// Removes the learned entries that were not seen for `ageing` seconds before `now`; returns how many.
    pub fn age(&self, now: u32, ageing: u32) -> u32 {
        let old = |place: Place| !place.is_fixed() && age_at(now, place) >= ageing;
        if self.replica.is_some() {
            self.ask_replica(old);
        }
        self.remove_where(|_, place| old(place))
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
                let refreshed = Place::new(place.port(), seen, place.kind());
                // If the entry has changed meanwhile it is not old any more: as in `learn`.
                bucket.refresh(at.way, place.0, refreshed.0);
            }
        }
    }

    fn remove_where(&self, gone: impl Fn(FdbKey, Place) -> bool) -> u32 {
        if self.is_empty() {
            return 0;
        }
        let mut count = 0;
        for at in self.taken() {
            let place = || Place(self.buckets[at.bucket].places[at.way].load(Ordering::Relaxed));
            let key = || FdbKey(self.buckets[at.bucket].keys[at.way].load(Ordering::Relaxed));
            if gone(key(), place()) {
                // Looked at again under the lock, which is held for one entry only: workers learn meanwhile.
                let mut writer = self.write();
                if key().0 != 0 && gone(key(), place()) {
                    self.remove_at(&mut writer, at);
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
            self.ask_replica(|place| place.kind() != EntryKind::Static);
        }
        self.taken()
            .filter_map(|at| {
                let key = FdbKey(self.buckets[at.bucket].keys[at.way].load(Ordering::Relaxed));
                // Read as a worker does: key and place may have changed between the two loads.
                self.record(key, now)
            })
            .collect()
    }

    /// Number of entries of each port, by its index; ports after the last that has one are left out.
    pub fn counts(&self) -> Vec<u32> {
        self.write().ports.clone()
    }

    /// VLANs in which entries were learned, with their number; 0 is that of frames without one.
    pub fn learned_by_vlan(&self) -> Vec<(u16, u32)> {
        self.write().by_vlan()
    }
}

/// Counts an entry more, or less.
fn count(counts: &mut Counts, key: FdbKey, place: Place, n: i32) {
    counts.add(place.port(), key.vlan(), place.kind() == EntryKind::Static, n);
}

/// A worker's clock may be a tick ahead of `now`: that is no age of 136 years.
fn age_at(now: u32, place: Place) -> u32 {
    now.saturating_sub(place.seen())
}

#[cfg(test)]
mod tests;
