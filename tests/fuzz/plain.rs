//! What a fuzz target checks, played without a fuzzer: its seeds as they are, seeds that were changed here and there, and bytes by
//! chance. `FUZZ_CASES` says how many, `FUZZ_SECONDS` for how long more are played after them; the number that all is made from is
//! printed, and `FUZZ_SEED` plays the same again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

/// As many as take about a second.
const CASES: u64 = 2_000;
/// Longest bytes by chance alone.
const LONGEST: usize = 600;
/// Values at the edges of fields.
const EDGES: [u8; 10] = [0, 1, 2, 3, 4, 0x7f, 0x80, 0xfe, 0xff, b'"'];

/// SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect(name))
}

/// The seeds of a target, in the order of their names.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|dir| dir.join("tests/fuzz/seeds"))
        .find(|dir| dir.is_dir())
        .expect("tests/fuzz/seeds")
        .join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Plays the check of a target.
///
/// # Panics
/// It fails: the bytes are printed.
pub fn play(target: &str, check: impl Fn(&[u8])) {
    let seeds = seeds(target);
    let guarded = |bytes: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(bytes))) {
            eprintln!("{target} fails for these {} bytes:\n{bytes:02x?}", bytes.len());
            resume_unwind(panic);
        }
    };
    seeds.iter().for_each(|seed| guarded(seed));
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number("FUZZ_SEED").unwrap_or(clock.map_or(1, |time| time.as_nanos() as u64));
    let cases = number("FUZZ_CASES").unwrap_or(if cfg!(miri) { 4 } else { CASES });
    eprintln!("{target}: {} seeds, FUZZ_SEED={seed}", seeds.len());
    let mut numbers = Numbers(seed);
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(0));
    let mut played = 0;
    // The clock is asked now and then only.
    while played < cases || Instant::now() < end {
        for _ in 0..cases.clamp(1, CASES) {
            guarded(&bytes(&mut numbers, &seeds));
            played += 1;
        }
    }
    eprintln!("{target}: {played} cases");
}

/// A seed, changed up to eight times; now and then chance alone.
fn bytes(numbers: &mut Numbers, seeds: &[Vec<u8>]) -> Vec<u8> {
    if numbers.below(8) == 0 {
        return (0..numbers.below(LONGEST)).map(|_| numbers.next() as u8).collect();
    }
    let mut bytes = seeds[numbers.below(seeds.len())].clone();
    for _ in 0..1 + numbers.below(8) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(7) {
            0 => bytes.truncate(at),
            1 => {
                let other = &seeds[numbers.below(seeds.len())];
                bytes.truncate(at);
                bytes.extend(&other[numbers.below(other.len() + 1)..]);
            }
            2 => bytes.insert(at, EDGES[numbers.below(EDGES.len())]),
            3 => {
                let part = bytes[at..]
                    .iter()
                    .take(1 + numbers.below(16))
                    .copied()
                    .collect::<Vec<_>>();
                bytes.splice(at..at, part);
            }
            4 if at < bytes.len() => drop(bytes.drain(at..(at + 1 + numbers.below(8)).min(bytes.len()))),
            5 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            6 if at < bytes.len() => bytes[at] = EDGES[numbers.below(EDGES.len())],
            _ => {}
        }
    }
    bytes
}
