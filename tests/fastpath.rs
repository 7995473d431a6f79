//! The kernel fast path: known unicast between veth ports is forwarded by the kernel, with the daemon and without.
//! Where the machine can't have it, or the tests are run without it, there is nothing to promise here.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::view::FdbEntry;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::fastpath::{counters, lab_with, sum};
use vswitch_testing::frame::{mac, probe, probe_id, probe_of_len, tagged};
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::transfer::{self, TcpPair};
use vswitch_testing::{DEADLINE, Lab, Place, Station, Wire, run, wait_for};

#[test]
fn the_kernel_forwards_what_is_known_byte_for_byte() {
    let Some((lab, stations)) = lab_with(2) else { return };
    stations[0].ping(stations[1].v4);
    for v6 in [false, true] {
        transfer::tcp(&stations[0], &stations[1], v6, 200);
        transfer::udp(&stations[0], &stations[1], v6);
        transfer::udp_gso(&stations[0], &stations[1], v6);
    }
    for station in &stations {
        let c = counters(&lab, station);
        assert!(
            c.rx_fastpath > 100 && c.rx_fastpath <= c.rx_forwarded + c.rx_flooded,
            "{c:?}"
        );
        assert!(c.rx_fastpath * 10 > c.rx_frames * 9, "most pass the daemon: {c:?}");
        assert!(c.rx_bytes > 200 * 65_536, "{c:?}");
    }
    lab.wait_for_sums();
}

#[test]
fn ports_of_other_kinds_reach_and_are_reached() {
    let Some((lab, mut stations)) = lab_with(2) else { return };
    stations.push(Station::add(&lab, "tap", PortKind::Tap, 8));
    stations.push(Station::add_with(&lab, "plain", PortKind::Veth, 9, "--no-offload"));
    for a in 0..stations.len() {
        for b in 0..a {
            transfer::tcp(&stations[a], &stations[b], a % 2 == 0, 16);
            transfer::udp(&stations[b], &stations[a], a % 2 == 1);
        }
    }
    assert_eq!(
        counters(&lab, &stations[3]).rx_fastpath,
        0,
        "a port that needs the daemon"
    );
    assert!(counters(&lab, &stations[0]).rx_fastpath > 0);
}

#[test]
fn what_the_kernel_does_not_know_passes_the_daemon() {
    let Some((lab, stations)) = lab_with(3) else { return };
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    wire.send("v1", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    wire.send("v2", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    let before = sum(&lab, |c| c.rx_fastpath);
    let own = [probe(mac(1, 1), mac(1, 1), 2)];
    wire.check("v1", &own, &[], &[]);
    let unknown = [probe(mac(9, 9), mac(1, 1), 3), probe(Mac::BROADCAST, mac(1, 1), 4)];
    wire.check("v1", &unknown, &["v2", "v3"], &unknown);
    assert_eq!(sum(&lab, |c| c.rx_fastpath), before + 2, "floods from a known station");
    let before = before + 2;
    let known: Vec<_> = (0..50).map(|id| probe(mac(1, 2), mac(1, 1), 100 + id)).collect();
    wire.check("v1", &known, &["v2"], &known);
    assert_eq!(sum(&lab, |c| c.rx_fastpath), before + 50);
    // Where no port has a VLAN a tag is payload, and else a reason to look closer.
    let tags = known[..2].iter().zip([(0x8100, 100), (0x88a8, 7)]);
    let tags: Vec<_> = tags.map(|(frame, (kind, tci))| tagged(frame, kind, tci)).collect();
    wire.check("v1", &tags, &["v2"], &tags);
    assert_eq!(sum(&lab, |c| c.rx_fastpath), before + 52);
    // Of v1 alone from here on: `other` says what each new station says.
    lab.ok("add-port other --vlan 10");
    let by_kernel = || counters(&lab, &stations[0]).rx_fastpath;
    let before = by_kernel();
    wire.send("v2", &[tagged(&probe(Mac::BROADCAST, mac(1, 2), 0), 0x8100, 100)]);
    wire.check("v1", &tags[..1], &["v2"], &tags[..1]);
    assert_eq!(by_kernel(), before, "the station is another one in that VLAN");
    wire.check("v1", &tags[1..], &["v2"], &tags[1..]);
    assert_eq!(by_kernel(), before, "no customer's tag");
}

#[test]
fn access_ports_of_one_vlan_have_it_with_each_other() {
    let Some((mut lab, stations)) = lab_with(4) else { return };
    for (port, vlan) in [("v1", "10"), ("v2", "10"), ("v3", "20"), ("v4", "10")] {
        lab.ok(&format!("set port {port} --vlan {vlan}"));
    }
    stations[0].ping(stations[1].v4);
    for v6 in [false, true] {
        transfer::tcp(&stations[0], &stations[1], v6, 100);
    }
    assert!(!stations[0].reaches(stations[2].v4), "another VLAN");
    let c = counters(&lab, &stations[0]);
    assert!(c.rx_fastpath * 10 > c.rx_frames * 9, "most pass the daemon: {c:?}");
    // The next daemon knows who is in which VLAN.
    let pair = TcpPair::connect(&stations[0], &stations[1], false);
    lab.kill_daemon();
    pair.exchange(20);
    lab.start();
    let is_two = |entry: &FdbEntry| entry.mac == stations[1].mac() && entry.vlan.is_some_and(|vlan| vlan.get() == 10);
    assert!(lab.fdb("main").iter().any(is_two));
    // Its VLAN is another one from here on, at once.
    pair.exchange(20);
    let (one, two) = (stations[0].raw(false), stations[1].raw(false));
    lab.ok("set port v2 --vlan 20");
    (0..50).for_each(|id| one.send(&probe(stations[1].mac(), stations[0].mac(), 1000 + id)));
    let end = Instant::now() + Duration::from_millis(300);
    while let Some(frame) = two.recv(end) {
        assert!(probe_id(&frame.bytes).is_none(), "a frame crossed from VLAN 10 to 20");
    }
    stations[1].ping_soon(stations[2].v4);
}

#[test]
fn a_frame_too_long_for_the_port_is_dropped_by_name() {
    let Some((lab, stations)) = lab_with(2) else { return };
    let small = Station::add_with(&lab, "small", PortKind::Veth, 9, "--mtu 1300");
    stations[0].ping(small.v4);
    stations[0].ping(small.v4);
    let raw = stations[0].raw(false);
    for id in 0..5 {
        raw.send(&probe_of_len(small.mac(), stations[0].mac(), id, 1400));
    }
    wait_for("the drops", || counters(&lab, &small).tx_drops.get("mtu") == Some(&5));
    let far = small.raw(false);
    raw.send(&probe_of_len(small.mac(), stations[0].mac(), 9, 1314));
    let end = Instant::now() + DEADLINE;
    while far
        .recv(end)
        .map(|frame| probe_id(&frame.bytes))
        .expect("the longest that fits")
        != Some(9)
    {}
    transfer::tcp(&small, &stations[1], false, 16);
}

#[test]
fn connections_go_on_while_the_daemon_is_dead_and_the_next_one_takes_over() {
    let Some((mut lab, stations)) = lab_with(2) else { return };
    let pair = TcpPair::connect(&stations[0], &stations[1], false);
    pair.exchange(20);
    for end in [true, false] {
        if end {
            lab.kill_daemon();
        } else {
            lab.stop_daemon();
        }
        // Nobody is there but the kernel.
        let begin = Instant::now();
        pair.exchange(400);
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "it took {:?}",
            begin.elapsed()
        );
        let flowing = AtomicBool::new(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                while flowing.load(Ordering::Relaxed) {
                    pair.exchange(20);
                }
            });
            lab.start();
            flowing.store(false, Ordering::Relaxed);
        });
        // The stations are known as before: nothing had to be learned anew.
        let fdb = lab.fdb("main");
        for station in &stations {
            let entry = fdb.iter().find(|entry| entry.mac == station.mac());
            assert!(
                entry.is_some_and(|entry| entry.port.as_str() == station.port),
                "{fdb:?}"
            );
        }
        let before = counters(&lab, &stations[0]);
        pair.exchange(50);
        let after = counters(&lab, &stations[0]);
        assert!(after.rx_fastpath > before.rx_fastpath, "{after:?}");
        assert!(after.rx_frames - before.rx_frames <= after.rx_fastpath - before.rx_fastpath + 20);
    }
}

#[test]
fn a_daemon_without_the_fast_path_removes_it_and_one_with_it_has_it_again() {
    let Some((mut lab, stations)) = lab_with(2) else { return };
    let pair = TcpPair::connect(&stations[0], &stations[1], false);
    for on in [false, true, false] {
        lab.kill_daemon();
        lab.set_datapath("fastpath", on);
        lab.start();
        assert!(lab.ports().iter().all(|port| port.fastpath == on));
        pair.exchange(50);
        assert_eq!(sum(&lab, |c| c.rx_fastpath) > 0, on);
        assert_eq!(Path::new("/run/vswitch/bpf").exists(), on);
        // Frames for the daemon come by them either way.
        let shadows = Place::daemons_own().run_ok("ip -br link").matches('~').count();
        assert_eq!(shadows, 2);
    }
}

#[test]
fn a_port_that_goes_down_or_wants_no_offloads_is_obeyed_at_once() {
    let Some((lab, stations)) = lab_with(2) else { return };
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    let (one, two) = (stations[0].raw(false), stations[1].raw(false));
    wire.send("v1", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    wire.send("v2", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    lab.ok("set port v2 --offload off");
    let before = sum(&lab, |c| c.rx_fastpath);
    let frames = [probe(mac(1, 2), mac(1, 1), 5)];
    wire.check("v1", &frames, &["v2"], &frames);
    assert_eq!(sum(&lab, |c| c.rx_fastpath), before);
    lab.ok("set port v2 --offload on");
    wire.check("v1", &frames, &["v2"], &frames);
    assert_eq!(sum(&lab, |c| c.rx_fastpath), before + 1);
    lab.ok("set port v2 --down");
    (0..20).for_each(|id| one.send(&probe(mac(1, 2), mac(1, 1), 1000 + id)));
    let end = Instant::now() + Duration::from_millis(300);
    while let Some(frame) = two.recv(end) {
        let id = probe_id(&frame.bytes);
        assert!(
            id.is_none_or(|id| !(1000..2000).contains(&id)),
            "a port that is down got {id:?}"
        );
    }
}

#[test]
fn a_station_that_talks_by_the_fast_path_does_not_age() {
    let Some((lab, stations)) = lab_with(2) else { return };
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    wire.send(
        "v1",
        &[probe(Mac::BROADCAST, mac(1, 1), 0), probe(Mac::BROADCAST, mac(1, 3), 0)],
    );
    wire.send("v2", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    lab.ok("set switch main --ageing 3");
    let knows = |mac: Mac| lab.fdb("main").iter().any(|entry| entry.mac == mac);
    let before = counters(&lab, &stations[0]);
    let begin = Instant::now();
    let mut sent = 0;
    while begin.elapsed() < Duration::from_secs(6) {
        sent += 1;
        stations[0].raw(false).send(&probe(mac(1, 2), mac(1, 1), 7));
        stations[1].raw(false).send(&probe(mac(1, 1), mac(1, 2), 7));
        assert!(
            knows(mac(1, 1)) && knows(mac(1, 2)),
            "a station that talks was forgotten"
        );
        thread::sleep(Duration::from_millis(200));
    }
    let after = counters(&lab, &stations[0]);
    assert!(
        after.rx_fastpath >= before.rx_fastpath + sent,
        "it talked past the daemon: {after:?}"
    );
    assert!(!knows(mac(1, 3)), "the silent one stayed");
    wait_for("the others to age too", || !knows(mac(1, 1)) && !knows(mac(1, 2)));
}

#[test]
fn a_flush_takes_stations_from_the_kernel_too() {
    let Some((lab, stations)) = lab_with(3) else { return };
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    wire.send("v1", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    wire.send("v2", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    let to_two = [probe(mac(1, 2), mac(1, 1), 1)];
    wire.check("v1", &to_two, &["v2"], &to_two);
    lab.ok("fdb flush");
    wire.check("v1", &to_two, &["v2", "v3"], &to_two);
    // Set by hand: not where it was seen, but where it is said to be.
    lab.ok("fdb add 0a:01:00:00:00:02 v3");
    wire.check("v1", &to_two, &["v3"], &to_two);
    lab.ok("fdb del 0a:01:00:00:00:02");
    wire.check("v1", &to_two, &["v2", "v3"], &to_two);
}

#[test]
fn the_same_address_on_two_switches_is_two_stations() {
    let Some((lab, stations)) = lab_with(2) else { return };
    lab.ok("switch add second");
    let others: Vec<_> = (3..5)
        .map(|n| Station::add_with(&lab, &format!("w{n}"), PortKind::Veth, n, "--switch second"))
        .collect();
    let all: Vec<_> = stations
        .iter()
        .chain(&others)
        .inspect(|station| station.silence())
        .map(|station| station.raw(false))
        .collect();
    for pair in all.chunks(2) {
        pair[0].send(&probe(Mac::BROADCAST, mac(1, 1), 0));
        pair[1].send(&probe(Mac::BROADCAST, mac(1, 2), 0));
    }
    wait_for("both to be known on both", || {
        ["main", "second"].iter().all(|switch| {
            let fdb = lab.fdb(switch);
            [1, 2].iter().all(|n| fdb.iter().any(|entry| entry.mac == mac(1, *n)))
        })
    });
    let before = sum(&lab, |c| c.rx_fastpath);
    (0..50).for_each(|id| all[0].send(&probe(mac(1, 2), mac(1, 1), 100 + id)));
    (0..50).for_each(|id| all[2].send(&probe(mac(1, 2), mac(1, 1), 200 + id)));
    for (raw, first) in [(&all[1], 100), (&all[3], 200)] {
        let mut ids = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while ids.len() < 50 {
            let frame = raw.recv(end).unwrap_or_else(|| panic!("only {ids:?}"));
            ids.extend(probe_id(&frame.bytes).filter(|id| *id >= 100));
        }
        assert_eq!(ids, (first..first + 50).collect::<Vec<_>>());
    }
    assert_eq!(sum(&lab, |c| c.rx_fastpath), before + 100);
}

#[test]
fn nothing_is_left_of_it() {
    if !fastpath_wanted() {
        return;
    }
    let mut lab = Lab::without_daemon();
    let before = Snapshot::of_used_machine();
    lab.start();
    for name in ["red", "blue"] {
        lab.ok(&format!("add-port {name}"));
    }
    lab.kill_daemon();
    // A namespace that goes while nobody looks takes both ends of the pair along.
    run("ip netns del red");
    lab.start();
    lab.ok("del-port blue");
    lab.ok("reset --yes");
    let own = Place::daemons_own().run_ok("ip -br link");
    assert!(!own.contains('~'), "{own}");
    lab.stop_daemon();
    before.wait_until_same(Snapshot::of_machine);
}
