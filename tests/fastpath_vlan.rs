//! The kernel fast path between ports that show a VLAN in different ways: what is tagged and untagged there is the same as what
//! the daemon makes of it, GSO frames of all sizes included. (`tests/differential.rs` compares the two frame by frame.)

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::fastpath::{counters, lab_with, sum};
use vswitch_testing::frame::{SERVICE_VLAN_ETHERTYPE, VLAN_ETHERTYPE, mac, probe, probe_id, tagged};
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::transfer::{self, TcpPair};
use vswitch_testing::{Lab, Observer, Station, trunk, wait_for};

/// The longest TCP frame without BIG TCP.
const USUAL: usize = 65_535 + 14;

/// Stations v1 of VLAN 10 and v2 of a trunk.
fn access_and_trunk() -> Option<(Lab, Vec<Station>)> {
    let (lab, stations) = lab_with(2)?;
    lab.ok("set port v1 --vlan 10");
    lab.ok("set port v2 --trunk 10,20");
    trunk::tag(&lab, &stations[1]);
    Some((lab, stations))
}

#[test]
fn tcp_and_udp_cross_from_a_trunk_to_an_access_port_and_back() {
    let Some((lab, stations)) = access_and_trunk() else {
        return;
    };
    stations[0].ping(stations[1].v4);
    let before: Vec<_> = stations.iter().map(|station| counters(&lab, station)).collect();
    // Partial checksums, then complete ones; the second also makes the kernel cut TCP frames at the sender.
    for features in ["tx on", "tx off", "tx on tso off gso off"] {
        stations.iter().for_each(|station| station.ethtool(features));
        for v6 in [false, true] {
            for (from, to) in [(0, 1), (1, 0)] {
                transfer::tcp(&stations[from], &stations[to], v6, 50);
                transfer::udp(&stations[from], &stations[to], v6);
                transfer::udp_gso(&stations[from], &stations[to], v6);
            }
        }
    }
    for (station, before) in stations.iter().zip(before) {
        let c = counters(&lab, station);
        let (fast, all) = (c.rx_fastpath - before.rx_fastpath, c.rx_frames - before.rx_frames);
        assert!(fast * 10 > all * 9, "most pass the daemon: {c:?}");
    }
}

#[test]
fn big_tcp_crosses_a_trunk_whole() {
    let Some((lab, stations)) = access_and_trunk() else {
        return;
    };
    for port in ["v1", "v2"] {
        wait_for("TCP frames above 64 KiB", || lab.port(port).big_tcp);
    }
    for (from, to) in [(0, 1), (1, 0)] {
        // Over IPv6 there is none.
        let pair = TcpPair::connect(&stations[from], &stations[to], false);
        let longest = pair.longest(&stations[to], 200);
        assert!(longest > USUAL, "from v{}: {longest}", from + 1);
    }
    // Those have another MTU than the sender.
    let small = Station::add_with(&lab, "small", PortKind::Veth, 9, "--mtu 1300 --vlan 10");
    for v6 in [false, true] {
        transfer::tcp(&stations[1], &small, v6, 50);
    }
    assert_eq!(counters(&lab, &small).tx_drops.values().sum::<u64>(), 0);
    // Service tags are the daemon's.
    lab.ok("add-port core --trunk 10 --tag service");
    wait_for("the usual size", || !lab.port("v1").big_tcp);
}

#[test]
fn connections_over_a_trunk_go_on_without_the_daemon() {
    let Some((mut lab, stations)) = access_and_trunk() else {
        return;
    };
    let pair = TcpPair::connect(&stations[0], &stations[1], false);
    pair.exchange(20);
    lab.kill_daemon();
    pair.exchange(100);
    lab.start();
    let known = lab.fdb("main");
    for station in &stations {
        let entry = known.iter().find(|entry| entry.mac == station.mac());
        let vlan = entry.and_then(|entry| entry.vlan).map(|vlan| vlan.get());
        assert_eq!(vlan, Some(10), "{known:?}");
    }
    let before = counters(&lab, &stations[0]);
    pair.exchange(50);
    let after = counters(&lab, &stations[0]);
    assert!(
        after.rx_frames - before.rx_frames <= after.rx_fastpath - before.rx_fastpath + 20,
        "{after:?}"
    );
}

#[test]
fn each_frame_gets_the_tag_of_the_port_that_it_leaves() {
    if !fastpath_wanted() {
        return;
    }
    let lab = Lab::with_one_worker();
    let ports = [
        ("a10", "--vlan 10"),
        ("native", "--trunk 10,20-29 --native 20"),
        ("trunk", "--trunk 10,20"),
        ("tags", "--trunk 10 --native 10 --accept tagged"),
        ("plain", ""),
    ];
    let mut net = Observer::new(&lab, &ports, &[Some(10), Some(20), None]);
    if lab.status().limits.iter().any(|limit| limit.contains("fast path")) {
        return;
    }
    let c_tag = |frame: &[u8], tci: u16| tagged(frame, VLAN_ETHERTYPE, tci);
    for (port, n, tag) in [
        ("a10", 1, None),
        ("native", 2, Some(10)),
        ("trunk", 3, Some(10)),
        ("tags", 4, Some(10)),
        ("plain", 5, Some(10)),
        ("native", 6, None),
        ("trunk", 7, Some(20)),
    ] {
        let frame = probe(Mac::BROADCAST, mac(1, n), 0);
        net.send(port, &[tag.map_or(frame.clone(), |tci| c_tag(&frame, tci))]);
    }
    let fast = || sum(&lab, |c| c.rx_fastpath);
    let to = |dst: u32, src: u32| probe(mac(1, dst), mac(1, src), 1);
    for (from, sent, at, came) in [
        ("a10", to(2, 1), "native", c_tag(&to(2, 1), 10)),
        ("a10", to(4, 1), "tags", to(4, 1)),
        ("a10", to(5, 1), "plain", c_tag(&to(5, 1), 10)),
        // Of its own VLAN, and with a priority only, which is kept where there is a tag to tell it.
        ("a10", c_tag(&to(3, 1), 10), "trunk", c_tag(&to(3, 1), 10)),
        (
            "a10",
            c_tag(&to(3, 1), 5 << 13),
            "trunk",
            c_tag(&to(3, 1), 5 << 13 | 10),
        ),
        ("a10", c_tag(&to(4, 1), 5 << 13), "tags", to(4, 1)),
        ("trunk", c_tag(&to(1, 3), 3 << 13 | 10), "a10", to(1, 3)),
        (
            "trunk",
            c_tag(&to(5, 3), 3 << 13 | 1 << 12 | 10),
            "plain",
            c_tag(&to(5, 3), 3 << 13 | 1 << 12 | 10),
        ),
        ("trunk", c_tag(&to(6, 7), 20), "native", to(6, 7)),
        ("native", to(7, 6), "trunk", c_tag(&to(7, 6), 20)),
        (
            "native",
            c_tag(&to(7, 6), 6 << 13),
            "trunk",
            c_tag(&to(7, 6), 6 << 13 | 20),
        ),
    ] {
        let before = fast();
        net.check(from, &sent, &[(at, came)]);
        assert_eq!(fast(), before + 1, "{from} to {at}: by the daemon");
    }
    // More than one tag, and those that are not customers': by the daemon, and right.
    let double = c_tag(&c_tag(&to(1, 3), 7), 10);
    let before = fast();
    net.check("trunk", &double, &[("a10", c_tag(&to(1, 3), 7))]);
    net.send("trunk", &[tagged(&to(1, 3), SERVICE_VLAN_ETHERTYPE, 10)]);
    assert_eq!(fast(), before);
    let drops = |port: &str, reason: &str| lab.port(port).counters.rx_drops.get(reason).copied().unwrap_or(0);
    net.check("trunk", &c_tag(&to(1, 3), 30), &[]);
    let untagged = drops("tags", "vlan-untagged");
    net.check("tags", &to(1, 4), &[]);
    assert_eq!(
        (drops("trunk", "vlan-filtered"), drops("tags", "vlan-untagged")),
        (1, untagged + 1)
    );
}

/// Frames in VLANs 10 and 20 by turns on one trunk, whose VLANs change: nothing leaves its VLAN.
#[test]
fn in_a_storm_of_trunk_changes_nothing_leaves_its_vlan() {
    let Some((lab, stations)) = lab_with(4) else { return };
    // Its probes, where so much is flooded, go to all.
    lab.ok("set switch main --loop-guard off");
    let [ten, twenty, trunk, away] = [0, 1, 2, 3].map(|n| stations[n].raw(false));
    for (port, vlan) in [
        ("v1", "--vlan 10"),
        ("v2", "--vlan 20"),
        ("v3", "--trunk 10,20"),
        ("v4", "--trunk 10,20"),
    ] {
        lab.ok(&format!("set port {port} {vlan}"));
    }
    let nomad = mac(1, 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (talk, source, vlan) in [(&ten, mac(1, 10), 10), (&twenty, mac(1, 20), 20)] {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..8 {
                        talk.send(&probe(nomad, source, vlan));
                        talk.send(&probe(Mac::BROADCAST, source, vlan));
                    }
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for home in [&trunk, &away] {
                    for vlan in [10, 20] {
                        home.send(&tagged(
                            &probe(Mac::BROADCAST, nomad, vlan.into()),
                            VLAN_ETHERTYPE,
                            vlan,
                        ));
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                lab.ok("add-port tmp --trunk 10,20");
                lab.ok("del-port tmp");
            }
        });
        for round in 0..30 {
            let (vlan, other) = if round % 2 == 0 { (20, 10) } else { (10, 20) };
            lab.ok(&format!("set port v3 --trunk {vlan}"));
            // What was on its way to the socket when the command ended.
            thread::sleep(Duration::from_millis(5));
            while trunk.try_recv().is_ok() {}
            let end = Instant::now() + Duration::from_millis(30);
            while let Some(frame) = trunk.recv(end) {
                assert_ne!(probe_id(&frame.bytes), Some(other), "round {round}: of the VLAN before");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (home, own) in [(&ten, 10), (&twenty, 20)] {
        let mut came = 0;
        while let Ok(frame) = home.try_recv() {
            let id = probe_id(&frame.bytes);
            assert!(id.is_none_or(|id| id == own), "{id:?} came to VLAN {own}");
            came += u32::from(id.is_some());
        }
        assert!(came > 0, "nothing came");
    }
    let mut came = [0; 2];
    while let Ok(frame) = away.try_recv() {
        let Some(id) = probe_id(&frame.bytes) else { continue };
        let [a, b] = frame.bytes[14..16] else { unreachable!() };
        assert_eq!(
            u32::from(u16::from_be_bytes([a, b]) & 0xfff),
            id,
            "with the tag of another VLAN"
        );
        came[usize::from(id == 20)] += 1;
    }
    assert!(came[0] > 0 && came[1] > 0, "{came:?}");
    assert!(counters(&lab, &stations[0]).rx_fastpath > 0, "nothing was tried");
}
