//! Pins and lists against a second opinion: an independent, slow reading of frames as a Linux receiver does it.
//!
//! `FUZZ_SECONDS` says for how long more than a few cases are played; the seed is printed, and `FUZZ_SEED` plays the same again. The
//! fuzz target `policy` plays the same with bytes that a fuzzer chooses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod opinion;

use std::collections::BTreeSet;
use std::env;
use std::time::{Duration, Instant};

use opinion::{Outcome, Violation, check};

/// As many as take some seconds.
const CASES: u64 = 30_000;
/// Bytes of chance for one case.
const CHANCE: usize = 96;

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
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect(name))
}

/// Guards B1, E1, E2, E3: what passes the rules is what the rules allow, as the receiver will read it.
#[test]
fn what_passes_the_rules_is_what_they_allow_as_the_receiver_reads_it() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = number("FUZZ_SEED").unwrap_or(clock.map_or(1, |time| time.as_nanos() as u64));
    println!("FUZZ_SEED={seed}");
    let mut numbers = Numbers(seed);
    let (mut sent, mut passed, mut honest) = (0, 0, 0);
    let mut seen = BTreeSet::new();
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(0));
    let mut cases = 0;
    // The clock is asked now and then only.
    while cases < CASES || cases % 1024 != 0 || Instant::now() < end {
        cases += 1;
        let chance: Vec<u8> = (0..CHANCE / 8).flat_map(|_| numbers.next().to_le_bytes()).collect();
        let outcome: Outcome = check(&chance);
        sent += outcome.sent;
        passed += outcome.passed;
        honest += u64::from(outcome.delivered);
        seen.extend(outcome.violations);
    }
    println!("{cases} cases, {sent} frames, {passed} passed, {honest} cases delivered something, hostile: {seen:?}");
    // It was no idle talk: all kinds of what is forbidden were sent, and enough of what is allowed came through.
    assert_eq!(seen, BTreeSet::from(Violation::ALL), "what was tried");
    assert!(
        passed * 10 > sent && honest * 10 > cases,
        "{passed} of {sent}, {honest} of {cases}"
    );
}
