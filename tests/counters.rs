//! Counters add up: nothing gets lost between them.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use vswitch_testing::api::view::{PortCounters, PortState, PortView};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::{Lab, Station, Wire, run, transfer, wait_for};

/// Waits until no frame is under way: two looks give the same counters.
fn settled(lab: &Lab) -> Vec<PortView> {
    let mut before = lab.ports();
    wait_for("the counters to stand still", || {
        let now = lab.ports();
        let still = now.iter().zip(&before).all(|(a, b)| a.counters == b.counters);
        before = now;
        still.then(|| before.clone())
    })
}

fn total(ports: &[PortView], of: impl Fn(&PortCounters) -> u64) -> u64 {
    ports.iter().map(|port| of(&port.counters)).sum()
}

fn sum(drops: &std::collections::BTreeMap<String, u64>) -> u64 {
    drops.values().sum()
}

#[test]
fn frames_in_are_frames_out_and_drops_over_a_mixed_load() {
    frames_add_up(|_| {});
}

#[test]
fn with_mirrors_the_copies_add_up_too() {
    frames_add_up(|lab| {
        lab.ok("add-port mon --type tap");
        lab.ok("add-port mon2 --mtu 600");
        lab.ok("mirror add all --to mon");
        lab.ok("mirror add some --from veth,plain --to mon2");
    });
}

fn frames_add_up(more: impl FnOnce(&Lab)) {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    let jumbo = Station::add_with(&lab, "jumbo", PortKind::Tap, 9, "--mtu 9000");
    let plain = Station::add_with(&lab, "plain", PortKind::Veth, 10, "--no-offload");
    more(&lab);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        transfer::tcp(&stations[a], &stations[b], a % 2 == 0, 8);
    }
    transfer::tcp(&stations[1], &plain, false, 8);
    let _ = jumbo
        .place
        .output(&format!("ping -n -c 5 -i 0.01 -W 1 -M do -s 4000 {}", plain.v4));
    let mut wire = Wire::tap(&stations);
    let frames: Vec<_> = (0..500)
        .map(|n| {
            let dst = [
                Mac::BROADCAST,
                mac(1, n % 7),
                mac(9, n),
                Mac([0x01, 0x80, 0xc2, 0, 0, 0]),
            ][n as usize % 4];
            let src = if n % 50 == 0 {
                Mac([0x03, 0, 0, 0, 0, 1])
            } else {
                mac(1, n % 11)
            };
            probe(dst, src, n)
        })
        .collect();
    for station in &stations {
        wire.send(&station.port, &frames);
    }
    let ports = settled(&lab);
    for port in &ports {
        let c = &port.counters;
        assert_eq!(
            c.rx_frames,
            c.rx_forwarded + c.rx_flooded + sum(&c.rx_drops),
            "{}: {c:?}",
            port.port.name
        );
    }
    assert_eq!(
        total(&ports, |c| c.rx_forwarded + c.flood_copies + c.mirror_copies + c.probes),
        total(&ports, |c| c.tx_frames + sum(&c.tx_drops)),
        "over the switch: {ports:#?}"
    );
    assert!(
        total(&ports, |c| sum(&c.rx_drops)) > 0 && total(&ports, |c| sum(&c.tx_drops)) > 0,
        "no drop was tried"
    );
}

/// Whatever carries frames to the daemon: a queue that is full does not lose them in silence.
#[test]
fn frames_that_come_while_the_daemon_does_not_run_are_overruns() {
    const FRAMES: u32 = 80_000;
    let mut lab = Lab::new();
    let stations: Vec<_> = [("red", 1), ("blue", 2)]
        .map(|(name, n)| Station::add(&lab, name, PortKind::Veth, n))
        .into();
    stations.iter().for_each(Station::silence);
    let raw = stations[0].raw(false);
    let before = settled(&lab);
    lab.daemon().signal(Signal::SIGSTOP);
    for id in 0..FRAMES {
        raw.send(&probe(mac(9, 9), mac(1, 1), id));
        if id % 256 == 0 {
            // The kernel's own queue between the two ends of a pair is short.
            thread::sleep(Duration::from_micros(200));
        }
    }
    lab.daemon().signal(Signal::SIGCONT);
    wait_for("all frames to be counted", || {
        lab.port("red").counters.rx_frames == before_of(&before, "red").rx_frames + u64::from(FRAMES)
    });
    let c = lab.port("red").counters;
    assert!(c.rx_drops["overrun"] > 1000, "{c:?}");
    assert_eq!(c.rx_frames, c.rx_forwarded + c.rx_flooded + sum(&c.rx_drops), "{c:?}");
    assert!(!lab.port("blue").counters.rx_drops.contains_key("overrun"));
    // What the daemon before lost is not the next one's.
    lab.kill_daemon();
    lab.start();
    assert!(!lab.port("red").counters.rx_drops.contains_key("overrun"));
}

/// What is flooded to a station whose interface is down was told as sent, by the daemon (before it knows the sender) and by the kernel.
#[test]
fn what_is_flooded_to_an_interface_that_is_down_is_dropped() {
    const FRAMES: u32 = 20;
    let lab = Lab::new();
    let [red, blue] = [("red", 1), ("blue", 2)].map(|(name, n)| Station::add(&lab, name, PortKind::Veth, n));
    red.silence();
    run("ip link add cable up type veth peer name far");
    lab.ok("add-port cable --type device");
    blue.place.run_ok("ip link set eth0 down");
    let deaf = ["blue", "cable"];
    wait_for("the ports to have no carrier", || {
        deaf.iter().all(|port| lab.port(port).state == PortState::NoCarrier)
    });
    let raw = red.raw(false);
    // At first the daemon's, in the end the kernel's, if it may.
    for of_the_kernel in [false, fastpath_wanted()] {
        if of_the_kernel {
            wait_for("the sender to be the kernel's", || {
                let before = lab.port("red").counters.rx_fastpath;
                raw.send(&probe(Mac::BROADCAST, mac(1, 1), 0));
                lab.port("red").counters.rx_fastpath > before
            });
        }
        let before = settled(&lab);
        (0..FRAMES).for_each(|id| raw.send(&probe(Mac::BROADCAST, mac(1, 1), id)));
        wait_for("all frames to be counted", || {
            lab.port("red").counters.rx_flooded == before_of(&before, "red").rx_flooded + u64::from(FRAMES)
        });
        let after = settled(&lab);
        for port in deaf {
            let [before, after] = [&before, &after].map(|ports| before_of(ports, port));
            let down = |counters: &PortCounters| counters.tx_drops.get("link-down").copied().unwrap_or(0);
            assert_eq!(down(after) - down(before), u64::from(FRAMES), "{port}: {after:?}");
            assert_eq!(after.tx_frames, before.tx_frames, "{port}");
        }
        let [before, after] = [&before, &after].map(|ports| before_of(ports, "red").rx_fastpath);
        assert!(
            !of_the_kernel || after - before == u64::from(FRAMES),
            "{before} to {after}"
        );
    }
}

fn before_of<'a>(ports: &'a [PortView], name: &str) -> &'a PortCounters {
    let port = ports.iter().find(|port| port.port.name.as_str() == name);
    &port.expect("the port is there").counters
}

#[test]
fn each_frame_counts_once_with_its_bytes() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    let before = settled(&lab);
    let frames: Vec<_> = (0..100).map(|id| probe(mac(9, 9), mac(1, 1), id)).collect();
    wire.send("veth", &frames);
    let after = settled(&lab);
    for (before, after) in before.iter().zip(&after) {
        let (name, before, after) = (before.port.name.as_str(), &before.counters, &after.counters);
        // Two broadcasts of the wire come on top, one of them from `device` (the first of the others by name).
        let (sent, got) = match name {
            "veth" => (101, 1),
            "device" => (1, 101),
            _ => (0, 102),
        };
        assert_eq!(after.rx_frames - before.rx_frames, sent, "{name} rx");
        assert_eq!(after.tx_frames - before.tx_frames, got, "{name} tx");
        assert_eq!(after.rx_bytes - before.rx_bytes, sent * 60, "{name} rx bytes");
        assert_eq!(after.tx_bytes - before.tx_bytes, got * 60, "{name} tx bytes");
        assert_eq!(after.rx_flooded - before.rx_flooded, sent, "{name} flooded");
        assert_eq!(after.flood_copies - before.flood_copies, sent * 3, "{name} copies");
    }
}

#[test]
fn a_port_that_is_made_anew_by_an_edit_counts_on() {
    let lab = Lab::new();
    let [red, blue] =
        ["red", "blue"].map(|name| Station::add(&lab, name, PortKind::Veth, u8::from(name == "blue") + 1));
    lab.ok("switch add other");
    (0..3).for_each(|_| red.ping(blue.v4));
    for edit in ["--mac 02:00:00:00:00:99", "switch=other", "switch=main mac=none"] {
        let before = settled(&lab);
        lab.ok(&format!("set port red {edit}"));
        let (was, is) = (before_of(&before, "red").clone(), lab.port("red").counters);
        assert!(was.rx_frames >= 3 && was.tx_frames >= 3, "{was:?}");
        assert!(
            is.rx_frames >= was.rx_frames && is.rx_bytes >= was.rx_bytes && is.tx_frames >= was.tx_frames,
            "{edit}: {was:?}, and then {is:?}"
        );
    }
    let before = settled(&lab);
    lab.ok("del-port red");
    lab.ok("add-port red --type tap");
    let (was, is) = (before_of(&before, "red").tx_frames, lab.port("red").counters.tx_frames);
    assert!(is < was, "it is another one, and has sent {is}, after {was}");
}
