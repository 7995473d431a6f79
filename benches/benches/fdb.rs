//! Which table for the FDB: look-up and learning with 10, 1,000 and 100,000 addresses, on one and on two threads.
//!
//! A worker handles frames by the batch, so the tables are asked by the batch too; it lets a table enter its
//! read-side section once for all. All use the same hash function. To add a table: implement [`Table`] and name it
//! in [`main`].

use criterion::{BenchmarkId, Criterion, Throughput};
use dashmap::DashMap;
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Barrier, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};
use vswitch_datapath::PortId;
use vswitch_datapath::fdb::{Fdb, FdbKey, LearnRule};
use vswitch_datapath::frame::mac_to_u64;

/// A MAC address.
type Mac = [u8; 6];

/// Frames in a batch.
const BATCH: usize = 64;
const SIZES: [usize; 3] = [10, 1_000, 100_000];
const THREADS: [usize; 2] = [1, 2];
/// The second in which addresses are learned and seen again: `last seen` is kept in seconds.
const NOW: u32 = 1_000;

/// What the data path asks of an FDB.
trait Table: Sync {
    const NAME: &'static str;

    /// An empty table with room for `entries`.
    fn with_capacity(entries: usize) -> Self;

    /// Sums up the ports of those addresses that are known.
    fn look_up(&self, batch: &[Mac]) -> u64;

    /// Notes that the addresses were seen behind `port` at second `now`. One that is known there already and was
    /// seen in the same second must not be written to: that is nearly every frame.
    fn learn(&self, batch: &[Mac], port: u16, now: u32);
}

struct Entry {
    port: u16,
    last_seen: AtomicU32,
}

impl Entry {
    fn new(port: u16, now: u32) -> Self {
        Self {
            port,
            last_seen: AtomicU32::new(now),
        }
    }

    /// Whether the entry says this already; notes that it was seen.
    fn seen(&self, port: u16, now: u32) -> bool {
        if self.port == port && self.last_seen.load(Relaxed) != now {
            self.last_seen.store(now, Relaxed);
        }
        self.port == port
    }
}

impl Table for DashMap<Mac, Entry, RandomState> {
    const NAME: &'static str = "dashmap";

    fn with_capacity(entries: usize) -> Self {
        DashMap::with_capacity_and_hasher(entries, RandomState::default())
    }

    fn look_up(&self, batch: &[Mac]) -> u64 {
        batch
            .iter()
            .filter_map(|mac| self.get(mac))
            .map(|entry| u64::from(entry.port))
            .sum()
    }

    fn learn(&self, batch: &[Mac], port: u16, now: u32) {
        for mac in batch {
            if !self.get(mac).is_some_and(|entry| entry.seen(port, now)) {
                self.insert(*mac, Entry::new(port, now));
            }
        }
    }
}

/// The standard library's lock and map, split up so that writers seldom meet.
struct Sharded {
    shards: Vec<Shard>,
    hasher: RandomState,
}

/// A cache line of its own for each lock.
#[repr(align(64))]
struct Shard(RwLock<HashMap<Mac, Entry, RandomState>>);

impl Sharded {
    const SHARDS: usize = 64;

    fn shard(&self, mac: &Mac) -> &RwLock<HashMap<Mac, Entry, RandomState>> {
        // The map takes its bucket from the low bits and its tag from the highest seven: neither chooses the shard.
        let index = (self.hasher.hash_one(mac) >> 32) as usize % Self::SHARDS;
        &self.shards[index].0
    }
}

impl Table for Sharded {
    const NAME: &'static str = "sharded-rwlock";

    fn with_capacity(entries: usize) -> Self {
        let hasher = RandomState::default();
        let map = || HashMap::with_capacity_and_hasher(entries.div_ceil(Self::SHARDS), hasher.clone());
        let shards = (0..Self::SHARDS).map(|_| Shard(RwLock::new(map()))).collect();
        Self { shards, hasher }
    }

    fn look_up(&self, batch: &[Mac]) -> u64 {
        let port = |mac: &Mac| {
            let map = self.shard(mac).read().unwrap_or_else(PoisonError::into_inner);
            map.get(mac).map_or(0, |entry| u64::from(entry.port))
        };
        batch.iter().map(port).sum()
    }

    fn learn(&self, batch: &[Mac], port: u16, now: u32) {
        for mac in batch {
            let shard = self.shard(mac);
            let map = shard.read().unwrap_or_else(PoisonError::into_inner);
            let known = map.get(mac).is_some_and(|entry| entry.seen(port, now));
            drop(map);
            if !known {
                shard
                    .write()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(*mac, Entry::new(port, now));
            }
        }
    }
}

impl Table for papaya::HashMap<Mac, Entry, RandomState> {
    const NAME: &'static str = "papaya";

    fn with_capacity(entries: usize) -> Self {
        papaya::HashMap::builder()
            .capacity(entries)
            .hasher(RandomState::default())
            .build()
    }

    fn look_up(&self, batch: &[Mac]) -> u64 {
        let map = self.pin();
        batch
            .iter()
            .filter_map(|mac| map.get(mac))
            .map(|entry| u64::from(entry.port))
            .sum()
    }

    fn learn(&self, batch: &[Mac], port: u16, now: u32) {
        let map = self.pin();
        for mac in batch {
            if !map.get(mac).is_some_and(|entry| entry.seen(port, now)) {
                map.insert(*mac, Entry::new(port, now));
            }
        }
    }
}

/// The table of the datapath.
impl Table for Fdb {
    const NAME: &'static str = "vswitch";

    fn with_capacity(entries: usize) -> Self {
        Fdb::new(entries as u32)
    }

    fn look_up(&self, batch: &[Mac]) -> u64 {
        let found = batch.iter().filter_map(|mac| self.lookup(key(mac)));
        found.map(|port| u64::from(port.0)).sum()
    }

    fn learn(&self, batch: &[Mac], port: u16, now: u32) {
        for mac in batch {
            Fdb::learn(self, key(mac), PortId(port), now, LearnRule::PLAIN);
        }
    }
}

fn key(mac: &Mac) -> FdbKey {
    FdbKey::new(0, mac_to_u64(vswitch_api::Mac(*mac)))
}

/// Addresses that differ in all of their bits, as those of many makers do: `count` of them, always the same.
fn addresses(count: usize) -> Vec<Mac> {
    (0..count as u64).map(|number| mac(mix(number))).collect()
}

fn mac(bits: u64) -> Mac {
    let [first, a, b, c, d, e, _, _] = bits.to_le_bytes();
    // Locally administered and unicast.
    [first & 0xfc | 0x02, a, b, c, d, e]
}

/// The output function of SplitMix64: a bijection that looks random.
fn mix(number: u64) -> u64 {
    let mut bits = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Batches in which each of `macs` comes about as often as the others, in an order that no prefetcher guesses.
fn batches(macs: &[Mac], seed: usize) -> Vec<[Mac; BATCH]> {
    let pick = |number: usize| macs[mix((seed << 32 | number) as u64) as usize % macs.len()];
    (0..macs.len().max(BATCH * 16) / BATCH)
        .map(|batch| std::array::from_fn(|i| pick(batch * BATCH + i)))
        .collect()
}

/// Runs `work` on each thread with its own number, all from the same moment; the time until the last is done.
fn on_threads(threads: usize, work: impl Fn(usize) + Sync) -> Duration {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let timed = |number| {
            barrier.wait();
            let start = Instant::now();
            work(number);
            start.elapsed()
        };
        let running: Vec<_> = (0..threads).map(|number| scope.spawn(move || timed(number))).collect();
        let times = running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        times.max().unwrap_or_default()
    })
}

/// Gives `handle` batches of known addresses, `iterations` of them on each thread.
fn known<T: Table>(c: &mut Criterion, name: &str, handle: impl Fn(&T, &[Mac]) + Sync) {
    let mut group = c.benchmark_group(name);
    for entries in SIZES {
        let macs = addresses(entries);
        let table = T::with_capacity(entries);
        table.learn(&macs, 1, NOW);
        for threads in THREADS {
            let work: Vec<_> = (0..threads).map(|number| batches(&macs, number + 1)).collect();
            group.throughput(Throughput::Elements((BATCH * threads) as u64));
            group.bench_function(BenchmarkId::new(T::NAME, format!("{entries}/{threads}")), |bencher| {
                bencher.iter_custom(|iterations| {
                    on_threads(threads, |number| {
                        let endless = work[number].iter().cycle();
                        for batch in endless.take(iterations as usize) {
                            handle(&table, batch);
                        }
                    })
                });
            });
        }
    }
}

/// Fills an empty table, each thread with its share of the addresses.
fn learn_new<T: Table>(c: &mut Criterion) {
    let mut group = c.benchmark_group("learn-new");
    for entries in SIZES {
        let macs = addresses(entries);
        for threads in THREADS {
            let shares: Vec<_> = macs.chunks(entries.div_ceil(threads)).collect();
            group.throughput(Throughput::Elements(entries as u64));
            group.bench_function(BenchmarkId::new(T::NAME, format!("{entries}/{threads}")), |bencher| {
                bencher.iter_custom(|iterations| {
                    let fill = |_| {
                        let table = T::with_capacity(entries);
                        on_threads(threads, |number| {
                            for batch in shares[number].chunks(BATCH) {
                                table.learn(batch, 1, NOW);
                            }
                        })
                    };
                    (0..iterations).map(fill).sum()
                });
            });
        }
    }
}

fn all<T: Table>(c: &mut Criterion) {
    known::<T>(c, "look-up", |table, batch| {
        black_box(table.look_up(batch));
    });
    known::<T>(c, "learn-known", |table, batch| table.learn(batch, 1, NOW));
    learn_new::<T>(c);
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    all::<DashMap<Mac, Entry, RandomState>>(&mut criterion);
    all::<Sharded>(&mut criterion);
    all::<papaya::HashMap<Mac, Entry, RandomState>>(&mut criterion);
    all::<Fdb>(&mut criterion);
    criterion.final_summary();
    if std::env::args().any(|argument| argument == "--bench") {
        learning_rate();
    }
}

/// New stations a second that one worker takes into the datapath's table, which is what the project promises.
fn learning_rate() {
    const COUNT: usize = 100_000;
    let macs = addresses(COUNT);
    let mut times: Vec<_> = (0..15)
        .map(|_| {
            let table = Fdb::with_capacity(COUNT);
            let start = Instant::now();
            Table::learn(&table, &macs, 1, NOW);
            let time = start.elapsed().as_secs_f64();
            assert_eq!(table.len() as usize, COUNT);
            time
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let rate = COUNT as f64 / times[times.len() / 2] / 1e6;
    eprintln!("\nlearning {COUNT} new stations into a fresh table: {rate:.2} million a second and worker (aim: 1)");
}
