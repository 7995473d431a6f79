//! The policer of a port, and storm control: what is above the rate is dropped by name, the rest passes untouched.

use std::time::Instant;

use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::{Lab, Station, Wire, transfer, wait_for};

/// Sends `count` frames from `red` and gives how many passed and how many were dropped for this reason.
fn offered(lab: &Lab, wire: &Wire, reason: &str, dst: Mac, count: u32) -> (u64, u64) {
    let seen = || {
        let counters = lab.port("red").counters;
        let dropped = counters.rx_drops.get(reason).copied().unwrap_or(0);
        (counters.rx_forwarded + counters.rx_flooded, dropped, counters.rx_frames)
    };
    let before = seen();
    (0..count).for_each(|id| wire.at("red").send(&probe(dst, mac(1, 1), id)));
    let after = wait_for("the frames to be in", || {
        let now = seen();
        (now.2 - before.2 == u64::from(count)).then_some(now)
    });
    (after.0 - before.0, after.1 - before.1)
}

fn silent_lab() -> (Lab, Wire) {
    let lab = Lab::new();
    let stations = [
        Station::add(&lab, "red", PortKind::Veth, 1),
        Station::add(&lab, "blue", PortKind::Tap, 2),
    ];
    stations.iter().for_each(Station::silence);
    let wire = Wire::tap(&stations);
    (lab, wire)
}

/// What passed is the burst and what the rate allowed meanwhile.
#[track_caller]
fn check(passed: u64, dropped: u64, count: u64, burst: u64, per_second: f64, since: Instant) {
    let most = burst + (since.elapsed().as_secs_f64() * per_second) as u64 + 1;
    assert_eq!(passed + dropped, count);
    assert!(
        (burst..=most).contains(&passed),
        "{passed} passed, {burst} to {most} were to"
    );
}

#[test]
fn a_policer_passes_its_burst_and_its_rate() {
    let (lab, mut wire) = silent_lab();
    wire.send("blue", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    lab.ok("police red --pps 2 --burst-frames 20");
    let start = Instant::now();
    let (passed, dropped) = offered(&lab, &wire, "policed", mac(1, 2), 200);
    check(passed, dropped, 200, 20, 2.0, start);
    // 60 bytes each: the burst takes 33 of them.
    lab.ok("police red --rate 1kbit --burst 2000b");
    let start = Instant::now();
    let (passed, dropped) = offered(&lab, &wire, "policed", mac(1, 2), 200);
    check(passed, dropped, 200, 33, 1000.0 / 480.0, start);
    lab.ok("police clear red");
    assert_eq!(offered(&lab, &wire, "policed", mac(1, 2), 200), (200, 0));
}

#[test]
fn a_policer_leaves_what_the_port_gets_alone_and_counts_gso_by_the_wire() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    red.ping(blue.v4);
    lab.ok("police red --rate 80mbit --burst 64k");
    let start = Instant::now();
    let before = lab.port("red").counters;
    transfer::tcp(&red, &blue, false, 16);
    let after = lab.port("red").counters;
    // One GSO frame may be owed beyond the burst.
    let most = 64.0 * 1024.0 + 65_536.0 + start.elapsed().as_secs_f64() * 10e6;
    let dropped = after.rx_drops.get("policed").copied().unwrap_or(0);
    assert!(dropped > 0, "TCP never went above the rate");
    assert!((after.rx_bytes - before.rx_bytes) as f64 >= 16.0 * 65_536.0);
    let passed = lab.port("blue").counters.tx_bytes as f64;
    // Bytes of a GSO frame are fewer than on the wire, never more.
    assert!(passed <= most + 4096.0, "{passed} bytes passed, {most} were to");
}

#[test]
fn storm_control_limits_each_class_by_itself() {
    let (lab, mut wire) = silent_lab();
    wire.send("blue", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    let classes = [
        ("broadcast", Mac::BROADCAST),
        ("multicast", Mac([0x01, 0x00, 0x5e, 0, 0, 0xfb])),
        ("unknown-unicast", mac(9, 9)),
    ];
    for (class, limited) in classes {
        // What is not named stays.
        lab.ok("storm clear red");
        lab.ok(&format!("storm red --{class} 2pps"));
        for (other, dst) in classes {
            let start = Instant::now();
            let (passed, dropped) = offered(&lab, &wire, "storm", dst, 100);
            if other == class {
                assert_eq!(dst, limited);
                check(passed, dropped, 100, 16, 2.0, start);
            } else {
                assert_eq!((passed, dropped), (100, 0), "{other} while {class} is limited");
            }
        }
        assert_eq!(offered(&lab, &wire, "storm", mac(1, 2), 100), (100, 0), "known unicast");
    }
    lab.ok("storm clear red");
    assert_eq!(offered(&lab, &wire, "storm", Mac::BROADCAST, 100), (100, 0));
}
