//! The law of conservation, by chance. `PIPELINE_CASES` says how many cases are played. The fuzz target `pipeline` plays the same
//! with bytes that a fuzzer chooses.

use std::cell::Cell;
use std::env;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::law::{Outcome, check};

/// As many as take about a second.
const CASES: u32 = 300;

#[test]
fn what_is_counted_adds_up_whatever_is_sent_and_changed() {
    let cases = env::var("PIPELINE_CASES").map_or(CASES, |text| text.parse().expect("PIPELINE_CASES"));
    let seen = Cell::new(Outcome::default());
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    });
    let played = runner.run(&prop::collection::vec(any::<u8>(), 50..1200), |bytes| {
        let outcome = check(&bytes);
        let sum = seen.get();
        seen.set(Outcome {
            received: sum.received + outcome.received,
            sent: sum.sent + outcome.sent,
            dropped: sum.dropped + outcome.dropped,
            traced: sum.traced + outcome.traced,
        });
        Ok(())
    });
    played.unwrap_or_else(|error| panic!("{error}"));
    let seen = seen.get();
    println!("{cases} cases: {seen:?}");
    // It was no idle talk: much was let through, much was not.
    let enough = u64::from(cases);
    assert!(
        seen.received > enough && seen.sent > enough && seen.dropped > enough && seen.traced > enough,
        "{seen:?}"
    );
}
