//! Floods in the kernel: what a known station sends to a group or to nobody known goes to all ports of its switch, with the daemon
//! and without, as long as all of them leave their frames to the kernel.

use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::view::{PortCounters, PortState};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::fastpath::{counters, lab_with, sum};
use vswitch_testing::frame::{mac, probe, probe_id, probe_of_len};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::transfer;
use vswitch_testing::{Lab, Place, Station, Wire, run, wait_for};

fn fast(lab: &Lab) -> u64 {
    sum(lab, |c| c.rx_fastpath)
}

/// A frame of each class.
fn floods(src: Mac) -> [Vec<u8>; 3] {
    [Mac::BROADCAST, Mac([0x01, 0, 0x5e, 0, 0, 7]), mac(9, 9)]
        .into_iter()
        .zip(1..)
        .map(|(dst, id)| probe(dst, src, id))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap()
}

#[test]
fn what_a_known_station_floods_the_kernel_sends_to_all_others() {
    let Some((lab, stations)) = lab_with(4) else { return };
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    wire.send("v1", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    let total = |lab: &Lab, of: fn(&PortCounters) -> u64| sum(lab, of);
    let before = counters(&lab, &stations[0]);
    let sent = total(&lab, |c| c.tx_frames);
    let frames: Vec<_> = floods(mac(1, 1)).into_iter().cycle().take(60).collect();
    let begin = fast(&lab);
    wire.check("v1", &frames, &["v2", "v3", "v4"], &frames);
    assert_eq!(fast(&lab), begin + 60);
    let after = counters(&lab, &stations[0]);
    // Two sentinels on top, one of which v1 sent.
    assert_eq!(after.rx_frames - before.rx_frames, 61);
    assert_eq!(after.rx_flooded - before.rx_flooded, 61);
    assert_eq!(after.rx_forwarded, before.rx_forwarded);
    assert_eq!(after.flood_copies - before.flood_copies, 61 * 3);
    assert_eq!(after.rx_bytes - before.rx_bytes, 61 * 60);
    assert_eq!(total(&lab, |c| c.tx_frames) - sent, 62 * 3);
    // For bridges: the daemon knows which of them to drop.
    let reserved = [probe(Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]), mac(1, 1), 4)];
    wire.check("v1", &reserved, &[], &[]);
    let other = [probe(Mac([0x01, 0x80, 0xc2, 0, 0, 0x21]), mac(1, 1), 5)];
    wire.check("v1", &other, &["v2", "v3", "v4"], &other);
    assert_eq!(fast(&lab), begin + 60);
    lab.ok("set switch main --reserved-multicast all");
    wire.check("v1", &reserved, &["v2", "v3", "v4"], &reserved);
}

#[test]
fn whatever_asks_for_the_daemon_has_all_floods_of_its_switch() {
    let Some((lab, stations)) = lab_with(3) else { return };
    stations.iter().for_each(Station::silence);
    lab.ok("switch add second");
    lab.ok("add-port other --switch second");
    let mut wire = Wire::tap(&stations);
    wire.send("v1", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    let frames = [probe(Mac::BROADCAST, mac(1, 1), 1)];
    let mut check = |fast_ones: u64, at: &[&str]| {
        // What the others say by themselves does not count.
        let by_kernel = || counters(&lab, &stations[0]).rx_fastpath;
        let before = by_kernel();
        wire.check("v1", &frames, at, &frames);
        assert_eq!(by_kernel() - before, fast_ones);
    };
    check(1, &["v2", "v3"]);
    lab.ok("add-port monitor");
    for (on, off) in [
        ("add-port tap --type tap", "del-port tap"),
        ("set port v3 --flood broadcast,multicast", "set port v3 --flood all"),
        ("set port v2 --offload off", "set port v2 --offload on"),
        ("storm v1 --broadcast 1000pps", "storm clear v1"),
        ("set port v3 --hairpin on", "set port v3 --hairpin off"),
        ("mirror add m --from v2 --to monitor", "mirror del m"),
        ("acl add v2 in permit udp", "acl clear v2"),
    ] {
        lab.ok(on);
        check(0, &["v2", "v3"]);
        lab.ok(off);
        check(1, &["v2", "v3"]);
    }
    // What is down needs no daemon.
    lab.ok("set port monitor --down --offload off");
    check(1, &["v2", "v3"]);
}

#[test]
fn a_flood_too_long_for_one_port_is_the_daemons() {
    let Some((lab, stations)) = lab_with(3) else { return };
    let small = Station::add_with(&lab, "small", PortKind::Veth, 9, "--mtu 1300");
    stations.iter().chain([&small]).for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    wire.send("v1", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    for (len, fast_ones) in [(1314, 1), (1315, 0)] {
        let before = fast(&lab);
        let frames = [probe_of_len(Mac::BROADCAST, mac(1, 1), len as u32, len)];
        wire.check("v1", &frames, &["v2", "v3"], &frames);
        assert_eq!(fast(&lab) - before, fast_ones, "{len} bytes");
    }
    assert_eq!(counters(&lab, &small).tx_drops["mtu"], 1);
}

#[test]
fn stations_that_the_kernel_has_no_room_for_are_the_daemons() {
    // The kernel has room for 131,072 (`bpf/maps.h`).
    const STATIONS: u32 = 135_000;
    const AT_ONCE: u32 = 3_000;
    let Some((lab, _)) = lab_with(0) else { return };
    lab.ok("switch add big --fdb-capacity 200000");
    let add = |n| Station::add_with(&lab, &format!("v{n}"), PortKind::Veth, n, "--switch big");
    let stations: Vec<_> = (1..=3).map(add).collect();
    stations.iter().for_each(Station::silence);
    let entries = || lab.switch("big").fdb_entries;
    let (socket, here) = (stations[0].raw(false), mac(1, 1));
    lab.ok("fdb flush --switch big");
    socket.send(&probe(Mac::BROADCAST, here, 0));
    wait_for("the first to be learned", || entries() == 1);
    for first in (0..STATIONS).step_by(AT_ONCE as usize) {
        let some = first..first + AT_ONCE;
        wait_for("them to be learned", || {
            // To a station behind the same port: they go nowhere.
            let frames = some.clone().map(|n| probe(here, mac(9, n), n));
            frames.for_each(|frame| socket.send(&frame));
            entries() == 1 + some.end
        });
    }
    let mut wire = Wire::tap(&stations);
    for (to, id) in [(mac(9, 0), 1), (mac(9, STATIONS - 1), 2)] {
        let frames = [probe(to, mac(3, 1), id)];
        wire.check("v3", &frames, &["v1"], &frames);
    }
    // From one that the kernel knows to one that it doesn't: it must not take that for a flood.
    wire.send("v2", &[probe(Mac::BROADCAST, mac(2, 1), 0)]);
    let frames = [probe(mac(2, 1), here, 4)];
    wire.check("v1", &frames, &["v2"], &frames);
    let frames = floods(mac(3, 1));
    let unknown = probe(mac(9, STATIONS), mac(3, 1), 3);
    let frames: Vec<_> = frames[..2].iter().cloned().chain([unknown]).collect();
    wire.check("v3", &frames, &["v1", "v2"], &frames);
}

#[test]
fn stations_find_each_other_while_the_daemon_is_dead() {
    let Some((mut lab, stations)) = lab_with(3) else { return };
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        stations[a].ping(stations[b].v4);
        stations[a].ping(stations[b].v6);
    }
    for end in [true, false] {
        if end {
            lab.kill_daemon();
        } else {
            lab.stop_daemon();
        }
        for station in &stations {
            station.place.run_ok("ip neigh flush dev eth0");
        }
        // Each has to ask by ARP and by neighbour discovery.
        for (a, b) in [(0, 1), (1, 2), (2, 0)] {
            stations[a].ping(stations[b].v4);
            stations[a].ping(stations[b].v6);
            transfer::tcp(&stations[a], &stations[b], end, 4);
        }
        lab.start();
        let before = fast(&lab);
        stations[0].place.run_ok("ip neigh flush dev eth0");
        stations[0].ping(stations[1].v4);
        assert!(fast(&lab) > before);
    }
    // What went while nobody looked does not keep the others from flooding, nor does it come back as a port of the list.
    lab.kill_daemon();
    run("ip netns del v3");
    lab.start();
    lab.ok("add-port v4 --addr 10.7.0.4/24");
    let raw = stations[0].raw(false);
    let new = RawSocket::open(&Place::named("v4"), "eth0", false);
    wait_for("the kernel to flood to the new port", || {
        let before = fast(&lab);
        raw.send(&probe(Mac::BROADCAST, stations[0].mac(), 77));
        let end = Instant::now() + Duration::from_secs(1);
        while let Some(frame) = new.recv(end) {
            if probe_id(&frame.bytes) == Some(77) {
                return fast(&lab) > before;
            }
        }
        false
    });
}

#[test]
fn a_switch_with_very_many_ports_floods_by_the_daemon() {
    let Some((lab, stations)) = lab_with(1) else { return };
    let raw = stations[0].raw(false);
    raw.send(&probe(Mac::BROADCAST, mac(1, 1), 0));
    for n in 2..=64 {
        lab.ok(&format!("add-port p{n}"));
    }
    let flooded = |count: u64| {
        let before = counters(&lab, &stations[0]);
        raw.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
        wait_for("the flood to be counted", || {
            let now = counters(&lab, &stations[0]);
            (now.flood_copies >= before.flood_copies + count).then_some(now.rx_fastpath > before.rx_fastpath)
        })
    };
    // Whether what the new stations say by themselves is over does not matter: it is not counted there.
    stations[0].silence();
    thread::sleep(Duration::from_millis(100));
    assert!(flooded(63), "64 ports");
    lab.ok("add-port p65");
    assert!(!flooded(64), "65 ports");
}

#[test]
fn the_loop_guard_still_sees_a_loop() {
    let Some((lab, stations)) = lab_with(1) else { return };
    for port in ["loop1", "loop2"] {
        lab.ok(&format!("add-port {port} --netns looped --name {port}"));
    }
    let raw = stations[0].raw(false);
    raw.send(&probe(Mac::BROADCAST, mac(1, 1), 0));
    let looped = Place::named("looped");
    looped.run_ok("ip link add br0 up type bridge");
    for port in ["loop1", "loop2"] {
        looped.run_ok(&format!("ip link set {port} master br0"));
    }
    wait_for("the loop to be cut", || {
        raw.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
        lab.ports().iter().any(|port| port.state == PortState::Shut)
    });
}
