//! Ports come and go without disturbing others.

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use vswitch_testing::api::view::{Changes, PortState};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe, probe_id};
use vswitch_testing::station::ALL_KINDS;
use vswitch_testing::{DEADLINE, Lab, Place, Station, run, wait_for};

#[test]
fn the_three_commands_of_the_readme_make_a_lab_that_talks() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 192.168.15.1/24");
    lab.ok("add-port blue --addr 192.168.15.2/24");
    lab.ok("add-port green --addr 192.168.15.3/24 --type tap");
    run("ip netns exec red ping -c2 192.168.15.2");
    run("ip netns exec green ping -c2 192.168.15.1");
    for line in ["show", "fdb", "ns show red"] {
        assert!(lab.ok(line).contains("red") || line.starts_with("ns"), "`{line}`");
    }
}

/// Sends numbered frames from `from` to `to` with at most a few under way, so that nothing can overflow: a frame
/// that does not arrive was lost by the switch. Stops at the first call after `done` says so.
fn flow_without_loss(from: &Station, to: &Station, done: impl Fn() -> bool) -> u32 {
    const UNDER_WAY: u32 = 64;
    let (sender, receiver) = (from.raw(false), to.raw(false));
    let (src, dst) = (mac(7, 1), mac(7, 2));
    receiver.send(&probe(Mac::BROADCAST, dst, u32::MAX));
    let (mut sent, mut got) = (0, 0);
    loop {
        let finish = done();
        while !finish && sent < got + UNDER_WAY {
            sender.send(&probe(dst, src, sent));
            sent += 1;
        }
        if sent == got {
            return sent;
        }
        let end = Instant::now() + DEADLINE;
        let Some(frame) = receiver.recv(end) else {
            panic!("only {got} of {sent} frames came")
        };
        if probe_id(&frame.bytes).is_some_and(|id| id < sent) {
            got += 1;
        }
    }
}

#[test]
fn adding_and_removing_ports_costs_other_ports_no_frame() {
    let lab = Lab::new();
    let a = Station::add(&lab, "a", PortKind::Veth, 1);
    let b = Station::add(&lab, "b", PortKind::Tap, 2);
    thread::scope(|scope| {
        let flow = scope.spawn(|| {
            let changes = scope.spawn(|| {
                for n in 0..10 {
                    let kind = [PortKind::Veth, PortKind::Tap, PortKind::Internal][n % 3];
                    Station::add(&lab, "extra", kind, 10);
                    lab.ok("del-port extra");
                }
            });
            flow_without_loss(&a, &b, || changes.is_finished())
        });
        let frames = flow.join().unwrap();
        assert!(frames > 1000, "only {frames} frames were sent");
    });
    let [a, b] = ["a", "b"].map(|port| lab.port(port).counters);
    assert!(a.rx_drops.is_empty() && b.tx_drops.is_empty(), "{a:?}\n{b:?}");
}

#[test]
fn a_tcp_connection_survives_ports_that_come_and_go() {
    let lab = Lab::new();
    let a = Station::add(&lab, "a", PortKind::Tap, 1);
    let b = Station::add(&lab, "b", PortKind::Veth, 2);
    let pair = vswitch_testing::transfer::TcpPair::connect(&a, &b, false);
    thread::scope(|scope| {
        let transfer = scope.spawn(|| pair.exchange(1024));
        let mut rounds = 0;
        while !transfer.is_finished() || rounds < 3 {
            lab.ok("add-port extra");
            lab.ok("del-port extra");
            rounds += 1;
        }
    });
}

#[test]
fn the_mtu_is_set_on_both_ends() {
    let lab = Lab::new();
    lab.ok("add-port red --mtu 2000");
    lab.ok("add-port blue --type tap --mtu 2000");
    let inside = |ns: &str| Place::named(ns).run_ok("ip -o link show eth0");
    let near = || Place::daemons_own().run_ok("ip -o link show red");
    assert!(inside("red").contains("mtu 2000") && near().contains("mtu 2000"));
    assert!(inside("blue").contains("mtu 2000"));
    for port in ["red", "blue"] {
        lab.ok(&format!("set port {port} --mtu 9000"));
        assert!(inside(port).contains("mtu 9000"), "{port}");
        assert_eq!(lab.port(port).port.mtu, Some(9000));
    }
    assert!(near().contains("mtu 9000"), "{}", near());
}

#[test]
fn no_port_has_a_queueing_discipline_in_front_of_the_switch() {
    let lab = Lab::new();
    for kind in [PortKind::Veth, PortKind::Tap] {
        let name = kind.word();
        lab.ok(&format!("add-port {name} --type {name}"));
        let disciplines = run(&format!("ip netns exec {name} tc qdisc show dev eth0"));
        // One for each of 256 possible queues would be megabytes.
        assert_eq!(disciplines.lines().count(), 1, "{name}: {disciplines}");
        assert!(disciplines.starts_with("qdisc noqueue "), "{name}: {disciplines}");
    }
}

#[test]
fn a_port_can_be_set_down_and_up() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for station in &stations {
        let other = stations.iter().find(|other| other.port != station.port).unwrap();
        lab.ok(&format!("set port {} --down", station.port));
        assert_eq!(lab.port(&station.port).state, PortState::Down);
        assert!(!other.reaches(station.v4), "{} is down and answers", station.port);
        lab.ok(&format!("set port {} --up", station.port));
        wait_for("the port to be up", || lab.port(&station.port).state == PortState::Up);
        other.ping_soon(station.v4);
    }
}

#[test]
fn an_interface_set_down_inside_shows_as_no_carrier() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    for station in [&red, &blue] {
        station.place.run_ok("ip link set eth0 down");
        wait_for("no-carrier", || {
            let state = lab.port(&station.port).state;
            if state == PortState::NoCarrier {
                Ok(())
            } else {
                Err(format!("{}: {state:?}", station.port))
            }
        });
        station.place.run_ok("ip link set eth0 up");
        wait_for("up", || lab.port(&station.port).state == PortState::Up);
    }
    red.ping_soon(blue.v4);
}

#[test]
fn generated_macs_differ_and_are_locally_administered() {
    let lab = Lab::new();
    let macs: BTreeSet<_> = (1..=10)
        .map(|n| {
            let kind = [PortKind::Veth, PortKind::Tap][n % 2];
            let station = Station::add(&lab, &format!("p{n}"), kind, n as u8);
            let mac = station.mac();
            assert_eq!(
                lab.port(&station.port).port.mac,
                Some(mac),
                "what is shown is what the interface has"
            );
            assert_eq!(mac.0[..3], [0x02, 0x76, 0x73]);
            mac
        })
        .collect();
    assert_eq!(macs.len(), 10);
}

#[test]
fn adding_again_is_an_error_unless_asked_for() {
    let lab = Lab::new();
    for (kind, n) in ALL_KINDS.into_iter().zip(1..) {
        Station::add(&lab, kind.word(), kind, n);
    }
    lab.ctl("add-port veth --addr 10.7.0.1/24 --addr fd07::1/64")
        .failed(5, &["veth"]);
    let changes: Changes = lab.json("add-port veth --if-not-exists --addr 10.7.0.1/24 --addr fd07::1/64");
    assert!(changes.done.is_empty(), "{changes:?}");
    lab.ctl("add-port veth --if-not-exists --mtu 1400").failed(5, &["veth"]);
    // What is not said may be as it is.
    lab.ok("set port veth mtu=1300 description=tried");
    lab.ok("add-port veth --if-not-exists");
    lab.ctl("add-port veth --if-not-exists --mtu 1500")
        .failed(5, &["veth", "other mtu;"]);
    lab.ctl("add-port veth --if-not-exists --addr 10.7.0.99/24")
        .failed(5, &["veth", "other addresses;"]);
    lab.ok("del-port --if-exists nobody");
    lab.ctl("del-port nobody").failed(4, &["nobody"]);
    lab.ok("del-port veth veth");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let lab = Lab::new();
    let before = lab.ok("export");
    let planned: Changes = lab.json("add-port -n red --addr 10.7.0.1/24");
    assert_eq!(lab.ok("export"), before);
    assert_eq!(run("ip netns list"), "");
    let done: Changes = lab.json("add-port red --addr 10.7.0.1/24");
    assert!(planned.dry_run && !done.dry_run);
    assert_eq!(planned.done, done.done, "what was announced is what is done");
    let planned: Changes = lab.json("del-port -n red");
    assert_eq!(lab.ports().len(), 1);
    let done: Changes = lab.json("del-port red");
    assert_eq!((planned.done, planned.removed), (done.done, done.removed));
}

#[test]
fn apply_makes_the_lab_what_the_file_says() {
    let lab = Lab::new();
    lab.ok("add-port old");
    let file = lab.lab_file(
        r#"
        [[ports]]
        name = "red"
        namespace = "red"
        addresses = ["10.7.0.1/24"]

        [[ports]]
        name = "blue"
        kind = "tap"
        namespace = "blue"
        addresses = ["10.7.0.2/24"]

        [[cables]]
        a = { namespace = "red", addresses = ["10.8.0.1/24"] }
        b = { namespace = "blue", addresses = ["10.8.0.2/24"] }
        "#,
    );
    let plan = lab.ctl(&format!("apply {file}"));
    plan.failed(5, &["port old", "namespace old", "--yes"]);
    lab.ok(&format!("apply --yes {file}"));
    let mut ports: Vec<_> = lab.ports().iter().map(|port| port.port.name.to_string()).collect();
    ports.sort();
    assert_eq!(ports, ["blue", "red"]);
    assert!(!run("ip netns list").contains("old"));
    lab.ok("ns exec red -- ping -n -c 1 -W 10 10.7.0.2");
    lab.ok("ns exec red -- ping -n -c 1 -W 10 10.8.0.2");
    let again: Changes = lab.json(&format!("apply {file}"));
    assert!(
        again.done.is_empty(),
        "the second time there is nothing to do: {again:?}"
    );
    // What export prints makes the same lab again.
    let exported = lab.ok("export");
    lab.ok("reset --yes");
    lab.ok(&format!("apply {}", lab.lab_file(&exported)));
    assert_eq!(lab.ok("export"), exported);
    lab.ok("ns exec red -- ping -n -c 1 -W 10 10.7.0.2");
}

/// Of a veth whose other end has the same index the kernel takes the carrier for not urgent: it would show NO-CARRIER for up to a
/// second. Each namespace counts by itself, and without care the first port of a lab is such a one.
#[test]
fn an_interface_never_has_the_index_of_its_other_end_and_is_up_when_it_was_added() {
    let lab = Lab::new();
    let check = |place: &Place| {
        let link = || -> serde_json::Value {
            let links: serde_json::Value = serde_json::from_str(&place.run_ok("ip -j link show eth0")).unwrap();
            links[0].clone()
        };
        assert!(link()["link_index"].is_u64(), "{}", link());
        assert_ne!(link()["ifindex"], link()["link_index"], "{}", link());
        wait_for("its carrier", || link()["operstate"] == "UP");
    };
    for n in 0..6 {
        lab.ok(&format!("add-port p{n}"));
        check(&Place::named(&format!("p{n}")));
    }
    lab.ok("cable left right");
    for end in ["left", "right"] {
        check(&Place::named(end));
    }
}
