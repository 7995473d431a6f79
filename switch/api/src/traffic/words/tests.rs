//! What is taken, and what may mean anything.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::traffic::{MAX_RATE, StormControl};

fn error<T: de::DeserializeOwned + fmt::Debug>(value: serde_json::Value) -> String {
    serde_json::from_value::<T>(value).unwrap_err().to_string()
}

/// Files and the API take what the command line takes (faults A9).
#[test]
fn the_strings_of_the_command_line_are_taken() {
    let said: Impairment = serde_json::from_value(json!({
        "delay": "20ms", "jitter": "500us", "loss": "1%", "loss_burst": "5", "duplicate": "0.1%", "rate": "10mbit",
        "pps": "100pps", "burst": "64k", "limit": "50"
    }))
    .unwrap();
    let shown: Impairment = serde_json::from_value(json!({
        "delay_us": 20_000, "jitter_us": 500, "loss": 0.01, "loss_burst": 5, "duplicate": 0.001,
        "rate_bps": 10_000_000, "rate_pps": 100, "burst_bytes": 65_536, "limit": 50
    }))
    .unwrap();
    assert_eq!(said, shown);
    // With the unit in the string it does not matter which of the two keys it is.
    let mixed: Impairment = serde_json::from_value(json!({"delay_us": "20ms", "rate_bps": "10mbit"})).unwrap();
    assert_eq!((mixed.delay_us, mixed.rate_bps), (20_000, Some(10_000_000)));

    let storm: StormControl = serde_json::from_value(json!({
        "broadcast": "100pps", "multicast": "10mbit burst 64k", "unknown_unicast": {"rate": "1mbit", "pps": 10}
    }))
    .unwrap();
    assert_eq!(storm.broadcast.unwrap().rate_pps, Some(100));
    assert_eq!(storm.multicast.unwrap().burst_bytes, Some(65_536));
    let unknown = storm.unknown_unicast.unwrap();
    assert_eq!((unknown.rate_bps, unknown.rate_pps), (Some(1_000_000), Some(10)));
}

#[test]
fn a_number_that_may_mean_anything_is_refused() {
    for (value, parts) in [
        (json!({"loss": 1}), ["\"1%\"", "percentage"]),
        (json!({"corrupt": 50}), ["\"50%\"", "percentage"]),
        (json!({"loss": "1"}), ["no percent sign", "1%"]),
        (json!({"loss": 1.5}), ["1.5", "0.0 to 1.0"]),
        (json!({"loss": -1}), ["-1", "\"1%\""]),
        (json!({"delay": 20}), ["20", "20ms"]),
        (json!({"delay": "20"}), ["\"20\"", "20ms"]),
        (json!({"delay_us": "20"}), ["\"20\"", "20ms"]),
        (json!({"rate": 10}), ["10", "10mbit"]),
        (json!({"rate": "10"}), ["\"10\"", "100mbit"]),
        (json!({"jitter": "+5ms"}), ["+5ms", "20ms"]),
        (json!({"delay": "1ms", "delay_us": 1}), ["duplicate", "delay_us"]),
        (json!({"dealy": "1ms"}), ["unknown field", "dealy"]),
    ] {
        let error = error::<Impairment>(value.clone());
        assert!(parts.iter().all(|part| error.contains(part)), "{value}: {error}");
    }
    for (value, part) in [
        (json!("100"), "100pps"),
        (json!(100), "100pps"),
        (json!({"rate": 100}), "10mbit"),
        (json!("1mbit, 2mbit"), "two rates"),
        (json!("1mbit burst"), "burst 64k"),
    ] {
        let error = error::<RateLimit>(value.clone());
        assert!(error.contains(part), "{value}: {error}");
    }
}

/// What older versions wrote is read as it was meant.
#[test]
fn a_fraction_stays_a_fraction() {
    for (text, ppm) in [("0.01", 10_000), ("1.0", 1_000_000), ("0", 0), ("0.0", 0)] {
        assert_eq!(serde_json::from_str::<Share>(text).unwrap().ppm(), ppm, "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        bps in proptest::option::of(1..=MAX_RATE), pps in proptest::option::of(1..=MAX_RATE), size: u32, ppm in 0..=1_000_000u32
    ) {
        let limit = RateLimit { rate_bps: bps, rate_pps: pps, burst_bytes: bps.map(|_| size), burst_frames: pps.map(|_| size) };
        let text = serde_json::to_string(&limit).unwrap();
        prop_assert_eq!(serde_json::from_str::<RateLimit>(&text).unwrap(), limit);
        if !limit.is_noop() {
            prop_assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        let share = Share::from_ppm(ppm).unwrap();
        let text = serde_json::to_string(&share).unwrap();
        prop_assert_eq!(serde_json::from_str::<Share>(&text).unwrap(), share);
    }
}
