//! The law of conservation, by chance. `FUZZ_SECONDS` says for how long more than a few cases are played. The fuzz target `pipeline` plays the same
//! with bytes that a fuzzer chooses.

use std::cell::Cell;
use std::env;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::law::{Outcome, check};

/// As many as take about a second.
const CASES: u32 = 300;

#[test]
fn what_is_counted_adds_up_whatever_is_sent_and_changed() {
    let seconds = env::var("FUZZ_SECONDS").map_or(0, |text| text.parse().expect("FUZZ_SECONDS"));
    let end = Instant::now() + Duration::from_secs(seconds);
    let seen = Cell::new(Outcome::default());
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    let mut cases = 0;
    loop {
        let played = TestRunner::new(config.clone()).run(&prop::collection::vec(any::<u8>(), 50..1200), |bytes| {
            let outcome = check(&bytes);
            let sum = seen.get();
            seen.set(Outcome {
                received: sum.received + outcome.received,
                sent: sum.sent + outcome.sent,
                dropped: sum.dropped + outcome.dropped,
                traced: sum.traced + outcome.traced,
                captured: sum.captured + outcome.captured,
            });
            Ok(())
        });
        played.unwrap_or_else(|error| panic!("{error}"));
        cases += u64::from(CASES);
        if Instant::now() >= end {
            break;
        }
    }
    let seen = seen.get();
    println!("{cases} cases: {seen:?}");
    // It was no idle talk: much was let through, much was not.
    assert!(
        seen.received > cases && seen.sent > cases && seen.dropped > cases && seen.traced > cases && seen.captured > 0,
        "{seen:?}"
    );
}
