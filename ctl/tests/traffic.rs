//! Impairment, policer and storm control: what is asked for and what is shown.
#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod common;

use common::Replies;
use serde_json::{Value, json};

/// Runs a command and compares the body of the one request that it makes.
fn patches(arguments: &str, body: Value) {
    let daemon = Replies::default().start();
    let ran = daemon.run(arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments}");
    let asked = daemon.asked();
    assert_eq!(asked.len(), 1, "{arguments}");
    assert_eq!(
        (asked[0].method.as_str(), asked[0].uri.as_str()),
        ("PATCH", "/v1/ports/red"),
        "{arguments}"
    );
    // Of a setting that takes the place of the one before, null is what it leaves out.
    assert_eq!(without_nulls(&asked[0].body), body, "{arguments}");
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        other => other.clone(),
    }
}

/// What a command takes away, or leaves out of a setting that it replaces, is null in its patch.
#[test]
fn what_is_taken_away_is_null() {
    for (arguments, pointer) in [
        ("impair clear red", "/impair/in"),
        ("impair clear red", "/impair/out"),
        ("police clear red", "/police"),
        ("storm clear red", "/storm"),
        ("police red --rate 1mbit", "/police/rate_pps"),
        ("impair red --delay 1ms", "/impair/out/loss"),
        ("storm red --broadcast 1mbit", "/storm/broadcast/rate_pps"),
    ] {
        let daemon = Replies::default().start();
        assert_eq!(daemon.run(arguments).code, 0, "{arguments}");
        let asked = daemon.asked();
        assert_eq!(
            asked[0].body.pointer(pointer),
            Some(&Value::Null),
            "{arguments}: {:?}",
            asked[0].body
        );
    }
}

#[test]
fn each_command_changes_its_own_setting() {
    patches(
        "impair red --delay 20ms --loss 1%",
        json!({"impair": {"out": {"delay_us": 20_000, "loss": 0.01}}}),
    );
    patches(
        "impair set red --delay 1s --jitter 2.5ms --distribution pareto --loss 1% --loss-burst 5 --duplicate 0.5% \
         --reorder 2% --corrupt 0.1% --rate 100mbit --pps 9000 --burst 3k --limit 50 --seed 7 --direction in",
        json!({"impair": {"in": {
            "delay_us": 1_000_000, "jitter_us": 2500, "distribution": "pareto", "loss": 0.01, "loss_burst": 5,
            "duplicate": 0.005, "reorder": 0.02, "corrupt": 0.001, "rate_bps": 100_000_000, "rate_pps": 9000,
            "burst_bytes": 3072, "limit": 50, "seed": 7
        }}}),
    );
    patches(
        "impair red --rate 10mbit --priority",
        json!({"impair": {"out": {"rate_bps": 10_000_000, "priority": true}}}),
    );
    patches(
        "impair red --rate 64kbit --direction both",
        json!({"impair": {"in": {"rate_bps": 64_000}, "out": {"rate_bps": 64_000}}}),
    );
    patches(
        "police red --rate 1gbit --burst 64k --pps 1000 --burst-frames 20",
        json!({"police": {"rate_bps": 1_000_000_000, "burst_bytes": 65_536, "rate_pps": 1000, "burst_frames": 20}}),
    );
    patches(
        "storm red --broadcast 100pps --unknown-unicast 1mbit",
        json!({"storm": {"broadcast": {"rate_pps": 100}, "unknown_unicast": {"rate_bps": 1_000_000}}}),
    );
}

#[test]
fn what_is_missing_or_wrong_is_told_in_one_line() {
    let daemon = Replies::default().start();
    for (arguments, part) in [
        ("impair red", "vswitchctl impair clear"),
        ("impair red --direction in", "it is not said what is to be impaired"),
        ("impair red --delay 20", "20ms, 500us or 1s"),
        ("impair red --loss 101%", "from 0% to 100%"),
        ("police red", "give a --rate or --pps"),
        ("police red --rate 100", "100mbit"),
        ("storm red", "--unknown-unicast"),
        ("storm red --broadcast 5", "100pps or 1mbit"),
    ] {
        let ran = daemon.run(arguments);
        assert_eq!(ran.code, 2, "{arguments}");
        assert_eq!(ran.stderr.lines().count(), 1, "{arguments}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{arguments}: {}", ran.stderr);
    }
    for arguments in [
        "impair",
        "police",
        "storm",
        "impair red --distribution normal --delay 1ms",
    ] {
        assert_eq!(daemon.run(arguments).code, 2, "{arguments}");
    }
    assert!(daemon.asked().is_empty());
}

fn port(name: &str, settings: Value) -> Value {
    let mut port = json!({
        "name": name, "switch": "main", "kind": "veth", "namespace": name, "ifname": "eth0", "mtu": 1500,
        "mac": "02:76:73:00:00:01", "state": "up", "state_secs": 9, "queues": 1, "fdb_entries": 1,
        "counters": {
            "rx_frames": 20, "rx_bytes": 2000, "rx_forwarded": 5, "rx_flooded": 0, "flood_copies": 0,
            "tx_frames": 9, "tx_bytes": 900, "rx_drops": {"policed": 8, "storm": 7},
            "tx_drops": {"impair-loss": 3, "impair-queue": 4, "mtu": 1},
            "impair": {"tx_waiting": 12, "tx_duplicates": 2}
        }
    });
    let (port_fields, settings) = (port.as_object_mut().unwrap(), settings.as_object().unwrap());
    port_fields.extend(settings.clone());
    port
}

fn red() -> Value {
    port(
        "red",
        json!({
            "impair": {"out": {"delay_us": 20_000, "loss": 0.01}, "in": {"rate_bps": 100_000_000}},
            "police": {"rate_bps": 1_000_000, "burst_bytes": 65_536, "rate_pps": 1000},
            "storm": {"broadcast": {"rate_pps": 100}, "unknown_unicast": {"rate_bps": 1_000_000}}
        }),
    )
}

#[test]
fn settings_are_shown_in_the_units_of_the_command() {
    let daemon = Replies::default()
        .json("GET /v1/ports", json!([red(), port("blue", json!({}))]))
        .json("GET /v1/ports/red", red())
        .json("GET /v1/ports/blue", port("blue", json!({})))
        .start();
    let text = |arguments: &str| {
        let ran = daemon.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments}");
        ran.stdout
    };
    assert_eq!(
        text("impair show"),
        "\
PORT  DIRECTION  WAITING  LOST  SETTINGS
red   in               0     0  rate=100mbit
red   out             12     7  delay=20ms,loss=1%
"
    );
    assert_eq!(text("impair show red"), text("impair show"));
    assert_eq!(text("impair show blue"), "PORT  DIRECTION  WAITING  LOST  SETTINGS\n");
    assert_eq!(
        text("police show"),
        "\
PORT  DROPPED  LIMIT
red         8  1mbit/64k,1000pps
"
    );
    assert_eq!(
        text("storm show"),
        "\
PORT  DROPPED  CLASS            LIMIT
red         7  broadcast        100pps
red         7  unknown-unicast  1mbit
"
    );
    let page = text("port show red");
    for line in [
        "impairment in: rate 100mbit",
        "out: delay 20ms, loss 1%",
        "policer 1mbit burst 64k, 1000pps",
        "storm control broadcast: 100pps",
        "waiting 12",
        "doubled 2",
    ] {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            page.lines().any(|shown| words(shown) == line),
            "{line:?} is not in\n{page}"
        );
    }
    let shown: Value = serde_json::from_str(&text("impair show --json")).unwrap();
    assert_eq!(shown[0]["port"], "red");
    assert_eq!(shown[0]["impair"]["out"]["loss"], 0.01);
    assert_eq!(shown[0]["counters"]["impair"]["tx_waiting"], 12);
    assert_eq!(shown.as_array().unwrap().len(), 1);
}
