//! A loop is found and cut, and what is no loop is left alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::view::PortState;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{DEADLINE, Lab, Station, run, wait_for};

/// Two switches, joined by two cables. The first broadcast would go round for ever.
#[test]
fn two_cables_between_two_switches_do_no_harm() {
    let lab = Lab::new();
    lab.ok("switch add far");
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add_with(&lab, "blue", PortKind::Veth, 2, "--switch far");
    for n in [1, 2] {
        run(&format!("ip link add near{n} up type veth peer name far{n}"));
        run(&format!("ip link set far{n} up"));
        lab.ok(&format!("add-port near{n} --type device"));
        lab.ok(&format!("add-port far{n} --type device --switch far"));
    }
    let socket = red.raw(false);
    socket.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    let younger = ["near2", "far2"];
    wait_for("one of the younger ports to be shut", || {
        younger.iter().any(|port| lab.port(port).state == PortState::Shut)
    });
    red.ping_soon(blue.v4);
    for port in ["red", "blue", "near1", "far1"] {
        assert_eq!(lab.port(port).state, PortState::Up, "{port}");
    }
    let shut = younger
        .into_iter()
        .find(|port| lab.port(port).state == PortState::Shut)
        .unwrap();
    assert!(
        lab.port(shut)
            .reason
            .unwrap()
            .contains("a loop: it leads to the same place")
    );
    // Cut the second cable: the port is opened again by itself, and stays open.
    run("ip link set near2 down");
    wait_for("the port to be opened again", || {
        lab.port(shut).state != PortState::Shut
    });
}

/// The same with cables that carry tagged frames only: an untagged probe would be dropped at the far end.
#[test]
fn a_loop_of_trunks_without_a_native_vlan_is_proven_by_a_probe() {
    let lab = Lab::new();
    lab.ok("switch add far");
    let red = Station::add_with(&lab, "red", PortKind::Veth, 1, "--vlan 20");
    let blue = Station::add_with(&lab, "blue", PortKind::Veth, 2, "--switch far --vlan 20");
    for n in [1, 2] {
        run(&format!("ip link add near{n} up type veth peer name far{n}"));
        run(&format!("ip link set far{n} up"));
        lab.ok(&format!("add-port near{n} --type device --trunk 10,20"));
        lab.ok(&format!("add-port far{n} --type device --switch far --trunk 10,20"));
    }
    red.raw(false).send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    let reason = wait_for("one of the younger ports to be shut", || {
        let shut = ["near2", "far2"].map(|port| lab.port(port));
        shut.into_iter()
            .find_map(|port| port.reason.filter(|_| port.state == PortState::Shut))
    });
    assert!(reason.contains("a loop: it leads to the same place"), "{reason}");
    red.ping_soon(blue.v4);
}

#[test]
fn a_station_that_moves_now_and_then_is_no_loop() {
    let lab = Lab::new();
    let stations: Vec<_> = (1..=2)
        .map(|n| Station::add(&lab, &format!("p{n}"), PortKind::Veth, n))
        .collect();
    for n in 0..40 {
        let from = &stations[n % 2];
        from.raw(false).send(&probe(Mac::BROADCAST, mac(1, 1), n as u32));
        wait_for("the move to be seen", || {
            let fdb = lab.fdb("main");
            fdb.iter()
                .any(|entry| entry.mac == mac(1, 1) && entry.port.as_str() == from.port)
        });
    }
    for station in &stations {
        assert_eq!(lab.port(&station.port).state, PortState::Up);
    }
    assert!(lab.switch("main").fdb_moves >= 39);
}

/// Sockets behind two ports, a and b.
fn behind_two_ports(lab: &Lab) -> [RawSocket; 2] {
    [("a", 1), ("b", 2)].map(|(name, n)| Station::add(lab, name, PortKind::Veth, n).raw(false))
}

#[test]
fn the_guard_can_be_turned_off() {
    let lab = Lab::new();
    lab.ok("set switch main --loop-guard off");
    let [from_a, from_b] = behind_two_ports(&lab);
    let moves = || lab.switch("main").fdb_moves;
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    while moves() < 2000 {
        for _ in 0..100 {
            from_a.send(&frame);
            from_b.send(&frame);
        }
    }
    assert_eq!([lab.port("a").state, lab.port("b").state], [PortState::Up; 2]);
}

#[test]
fn when_a_station_flaps_is_a_setting() {
    let lab = Lab::new();
    lab.ok("set switch main --flap-moves 20 --flap-secs 1");
    let [from_a, from_b] = behind_two_ports(&lab);
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    let shut = AtomicBool::new(false);
    thread::scope(|scope| {
        // Some fifty moves a second, however long a look at the port takes.
        scope.spawn(|| {
            let end = Instant::now() + DEADLINE;
            while !shut.load(Ordering::Relaxed) && Instant::now() < end {
                for raw in [&from_a, &from_b] {
                    raw.send(&frame);
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        wait_for("the younger port to be shut", || lab.port("b").state == PortState::Shut);
        shut.store(true, Ordering::Relaxed);
    });
    assert_eq!(lab.port("a").state, PortState::Up);
    assert!(lab.switch("main").fdb_moves < 500);
    lab.ctl("set switch main --flap-moves 1")
        .failed(2, &["1 moves a second", "usual are 500 and 3"]);
}
