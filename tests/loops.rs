//! Loops over several switches, and probes of the loop guard in the hands of somebody who means harm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use vswitch_testing::api::view::PortState;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{PROBE_ETHERTYPE, mac, probe};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{DEADLINE, Events, Lab, Place, Station, run, wait_for};

/// Where the guard's probes go.
const PROBE_DST: [u8; 6] = [0x03, 0x76, 0x73, 0x77, 0, 1];

fn drops(lab: &Lab, port: &str, reason: &str) -> u64 {
    lab.port(port).counters.rx_drops.get(reason).copied().unwrap_or(0)
}

fn shut(lab: &Lab) -> Vec<String> {
    let ports = lab.ports().into_iter();
    let shut = ports.filter(|port| port.state == PortState::Shut);
    shut.map(|port| port.port.name.to_string()).collect()
}

/// A station of the attacker's own goes to and fro between two ports of his until the guard looks for a loop: the probe that
/// he hears behind the first.
fn provoke(behind: [&RawSocket; 2], n: u32) -> Vec<u8> {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        for raw in behind {
            raw.send(&probe(Mac::BROADCAST, mac(6, n), n));
        }
        while let Ok(frame) = behind[0].try_recv() {
            if frame.bytes[..6] == PROBE_DST {
                return frame.bytes;
            }
        }
    }
    panic!("no probe was sent");
}

/// Fault B2: who reads a probe off the wire knows how one looks. Whatever he makes of it, from ports with and without pins and
/// from another switch, at most the two ports that he is behind are shut.
#[test]
fn forged_replayed_and_foreign_probes_shut_nobody() {
    let lab = Lab::new();
    lab.ok("switch add far");
    lab.ok("set switch main --flap-moves 20 --flap-secs 60");
    let port = |name: &str, n, options: &str| Station::add_with(&lab, name, PortKind::Veth, n, options).raw(false);
    let (a, b) = (port("a", 1, ""), port("b", 2, ""));
    let pinned = port("pinned", 3, "--pin-mac own");
    let listed = port("listed", 4, "");
    lab.ok(&format!("acl add listed in deny ethertype {PROBE_ETHERTYPE:#x}"));
    let far = port("far", 5, "--switch far");
    // Younger than all from which the attacker sends: of two ports in a loop the younger is shut.
    let victims = ["v1", "v2"];
    for (victim, n) in victims.into_iter().zip(6..) {
        port(victim, n, "");
    }
    port("v3", 9, "--switch far");
    let last = port("last", 10, "--mac-limit 1 --beyond-limit shut");

    let heard = provoke([&a, &b], 1);
    assert_eq!(heard[12..14], PROBE_ETHERTYPE.to_be_bytes());
    let with_id = |id: u16| {
        let mut forged = heard.clone();
        forged[22..24].copy_from_slice(&id.to_be_bytes());
        forged
    };
    let own = |heard: &[u8], station: &Mac| {
        let mut forged = heard.to_vec();
        forged[6..12].copy_from_slice(&station.0);
        forged
    };
    let received = |port: &str| lab.port(port).counters.rx_frames;
    let before = ["a", "b", "far"].map(received);
    for raw in [&pinned, &listed, &far] {
        raw.send(&heard);
        (0..16).for_each(|id| raw.send(&with_id(id)));
    }
    // By the pin's own address it is not a probe.
    let address: Mac = lab.port("pinned").port.mac.unwrap();
    (0..16).for_each(|id| pinned.send(&own(&with_id(id), &address)));
    // The ports of which he has not heard a probe; then what proves a loop, but of his own.
    for id in 0..16 {
        a.send(&with_id(id));
        b.send(&with_id(id));
    }
    wait_for("all of them to come in", || {
        let now = ["a", "b", "far"].map(received);
        now.iter().zip(before).all(|(now, before)| now - before >= 16)
            && drops(&lab, "pinned", "pin-mac") == 17
            && drops(&lab, "listed", "acl-in") == 17
    });
    // What the datapath told before is done when this is.
    (1..4).for_each(|n| last.send(&probe(Mac::BROADCAST, mac(7, n), n)));
    wait_for("the last word of the datapath", || {
        lab.port("last").state == PortState::Shut
    });
    let shut = shut(&lab);
    assert!(
        shut.iter().all(|port| ["a", "b", "last"].contains(&port.as_str())),
        "{shut:?}"
    );
    assert_eq!(
        [drops(&lab, "pinned", "loop-probe"), drops(&lab, "listed", "loop-probe")],
        [0; 2]
    );
}

/// A namespace in which a bridge joins the interfaces of two ports, added with `options`. Its own stack says nothing.
fn bridged(lab: &Lab, name: &str, ports: [&str; 2], options: &str) -> Place {
    lab.ok(&format!("netns add {name}"));
    let place = Place::named(name);
    for sysctl in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{sysctl}/disable_ipv6");
        place.run(|| fs::write(&path, "1")).unwrap();
    }
    for (port, n) in ports.into_iter().zip(0..) {
        lab.ok(&format!("add-port {port} --netns {name} --name eth{n} {options}"));
    }
    place.run_ok("ip link add br0 up type bridge");
    for n in [0, 1] {
        place.run_ok(&format!("ip link set eth{n} master br0"));
    }
    place
}

/// What comes in by a loop is not the pinned port's own, and is dropped there: two such ports make no loop. With one of them frames
/// go round in one direction, though the pinned port never sees a station move.
#[test]
fn a_loop_of_pinned_ports_is_none_and_with_one_it_is_found() {
    let lab = Lab::new();
    lab.ok("set switch main --flap-moves 20 --flap-secs 60");
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    red.silence();
    // Pinned from the first: what goes round before would be dropped, and counted, too.
    bridged(&lab, "looped", ["one", "two"], "--pin-mac own");
    let dropped = || ["one", "two"].map(|port| drops(&lab, port, "pin-mac"));
    let raw = red.raw(false);
    wait_for("frames to come back at both", || {
        (0..10).for_each(|n| raw.send(&probe(Mac::BROADCAST, mac(1, 1), n)));
        dropped().iter().all(|dropped| *dropped >= 100)
    });
    // Each once at the most; the announcements of red's addresses are among them.
    let (dropped, sent) = (dropped(), lab.port("red").counters.rx_frames);
    assert!(dropped.iter().all(|dropped| *dropped <= sent), "{dropped:?} of {sent}");
    assert_eq!(shut(&lab), [""; 0]);

    lab.ok("set port one --pin-mac any");
    let found = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let end = Instant::now() + DEADLINE;
            while !found.load(Ordering::Relaxed) && Instant::now() < end {
                raw.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
                thread::sleep(Duration::from_millis(1));
            }
        });
        wait_for("the loop to be found", || !shut(&lab).is_empty());
        found.store(true, Ordering::Relaxed);
    });
    assert_eq!(shut(&lab), ["two"]);
    let reason = lab.port("two").reason.unwrap();
    assert!(reason.contains("leads to the same place as port \"one\""), "{reason}");
}

/// Through a bridge that forwards one way only no station goes to and fro. And what the loop has taught is forgotten: who sent last before it was
/// found is reached again.
#[test]
fn a_loop_that_leads_one_way_only_is_found() {
    let lab = Lab::new();
    let stations = [("red", 1), ("blue", 2)].map(|(name, n)| Station::add(&lab, name, PortKind::Veth, n));
    stations.iter().for_each(Station::silence);
    let looped = bridged(&lab, "looped", ["one", "two"], "");
    looped.run_ok("bridge link set dev eth1 flood off mcast_flood off bcast_flood off");
    let [red, blue] = stations.each_ref().map(|station| station.raw(false));
    (0..3).for_each(|n| red.send(&probe(Mac::BROADCAST, mac(1, 1), n)));
    wait_for("the loop to be found", || !shut(&lab).is_empty());
    assert_eq!(shut(&lab), ["two"]);
    wait_for("red to be reached", || {
        blue.send(&probe(mac(1, 1), mac(1, 2), 4));
        let mut came = std::iter::from_fn(|| red.try_recv().ok());
        came.any(|frame| frame.bytes[..6] == mac(1, 1).0)
    });
}

/// With more ways most frames of a storm are lost, and too few stations are seen to move to tell of it: each loop is found as it is closed.
#[test]
fn of_many_links_between_two_switches_one_stays_open() {
    const LINKS: usize = 6;
    let lab = Lab::new();
    lab.ok("switch add far");
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add_with(&lab, "blue", PortKind::Veth, 2, "--switch far");
    let all_but_one = || shut(&lab).len() == LINKS - 1;
    for _ in 0..LINKS {
        lab.ok("link add main far");
    }
    wait_for("all links but one to be shut", all_but_one);
    assert_eq!(
        [&red, &blue].map(|station| lab.port(&station.port).state),
        [PortState::Up; 2]
    );
    red.ping_soon(blue.v4);
}

/// Switches whose guard is off, until there is a storm: many frames of several ports are flooded.
fn storm(lab: &Lab, switches: &[&str], from: &RawSocket) {
    let flooded = || -> u64 {
        let ports = lab.ports().into_iter();
        let ports = ports.filter(|port| switches.contains(&port.port.switch.as_str()));
        ports.map(|port| port.counters.rx_flooded).sum()
    };
    from.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    wait_for("a storm", || flooded() > 200_000);
    for switch in switches {
        lab.ok(&format!("set switch {switch} --loop-guard on"));
    }
}

/// In a storm of many ways the daemon sees next to nothing of a station that moves, and probes had no room in queues: the switches flood
/// nothing for a moment, in which all loops are found.
#[test]
fn a_storm_of_many_links_that_was_there_before_the_guard_ends() {
    const LINKS: usize = 6;
    let lab = Lab::new();
    lab.ok("switch add far");
    for switch in ["main", "far"] {
        lab.ok(&format!("set switch {switch} --loop-guard off"));
    }
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add_with(&lab, "blue", PortKind::Veth, 2, "--switch far");
    for _ in 0..LINKS {
        lab.ok("link add main far");
    }
    storm(&lab, &["main", "far"], &red.raw(false));
    wait_for("all links but one to be shut", || shut(&lab).len() == LINKS - 1);
    red.ping_soon(blue.v4);
    assert_eq!(
        [&red, &blue].map(|station| lab.port(&station.port).state),
        [PortState::Up; 2]
    );
    assert_eq!(shut(&lab).len(), LINKS - 1);
}

/// The same in a ring of three, two of whose ways are links and one is a cable between devices.
#[test]
fn a_storm_in_a_ring_that_was_there_before_the_guard_is_cut_at_one_place() {
    const SWITCHES: [&str; 3] = ["s1", "s2", "s3"];
    let lab = Lab::new();
    for switch in SWITCHES {
        lab.ok(&format!("switch add {switch}"));
        lab.ok(&format!("set switch {switch} --loop-guard off"));
    }
    let stations: Vec<_> = (1..=3)
        .map(|n| Station::add_with(&lab, &format!("p{n}"), PortKind::Veth, n, &format!("--switch s{n}")))
        .collect();
    lab.ok("link add s1 s2");
    lab.ok("link add s2 s3");
    run("ip link add c31 up type veth peer name c13");
    run("ip link set c13 up");
    lab.ok("add-port c31 --type device --switch s3");
    lab.ok("add-port c13 --type device --switch s1");
    let events = Events::follow(&lab, &["--kind", "port-shut,switch-added,switch-removed"]);
    storm(&lab, &SWITCHES, &stations[0].raw(false));
    let (port, reason) = the_shut_one(&lab, &[]);
    assert!(reason.contains("a loop: "), "{reason}");
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        stations[from].ping_soon(stations[to].v4);
    }
    assert_eq!(shut(&lab), [port.as_str()]);
    lab.ok("switch add last");
    // Those of the switch that was to show that events come are before them.
    let told = std::iter::from_fn(|| Some(events.next("the last event")).filter(|line| !line.contains("last")));
    let all: Vec<_> = told.collect();
    let told: Vec<_> = all.iter().filter(|line| line.contains("shut")).collect();
    assert!(
        told.len() == 1 && told[0].contains(&port),
        "{all:?}, and {port} is shut"
    );
}

/// A port that was shut since a loop was found, and why.
type Shut = (String, String);

/// The one port that is shut besides those that were before, and why.
fn the_shut_one(lab: &Lab, before: &[Shut]) -> Shut {
    let is_new = |port: &str| before.iter().all(|(name, _)| name != port);
    let (port, reason) = wait_for("a port to be shut", || {
        let mut ports = lab.ports().into_iter();
        let port = ports.find(|port| port.state == PortState::Shut && is_new(port.port.name.as_str()))?;
        Some((port.port.name.to_string(), port.reason?))
    });
    let others = shut(lab).into_iter().filter(|port| is_new(port));
    assert_eq!(others.collect::<Vec<_>>(), [port.as_str()]);
    (port, reason)
}

/// The shut ports are put on trial and stay shut for longer, and no others meanwhile. Nothing that `stir` sends goes round.
fn stay_the_only_ones(lab: &Lab, first: &[Shut], stir: impl Fn()) {
    let moves = || -> u64 {
        let switches = ["upper", "lower", "s1", "s2", "s3"];
        switches.map(|switch| lab.switch(switch).fdb_moves).iter().sum()
    };
    let before = moves();
    wait_for("the ports to be put on trial and shut for longer", || {
        stir();
        let shut = shut(lab);
        let is_one = |port: &String| first.iter().any(|(name, _)| name == port);
        assert!(shut.iter().all(is_one), "{shut:?}, at first {first:?}");
        let is_longer = |(port, reason): &Shut| lab.port(port).reason.is_some_and(|now| now != *reason);
        first.iter().all(is_longer)
    });
    // The stations may have been left in a wrong place by the loops: once for each of them and switch. A frame that goes round
    // makes hundreds.
    let moved = moves() - before;
    assert!(moved <= 10, "{moved} moves");
}

/// Fault D5: each of the switches of a loop can cut it, and one does: of two that are joined by two bridges, and of a ring of three. Both
/// stand side by side, since the trial after which a port is shut for longer is waited for.
#[test]
fn a_loop_of_switches_is_cut_at_one_place() {
    let lab = Lab::new();
    for line in ["upper", "lower"] {
        lab.ok(&format!("switch add {line}"));
        lab.ok(&format!("set switch {line} --flap-moves 50"));
    }
    let ends = ["left", "right"];
    for (end, n) in ends.into_iter().zip(1..) {
        for (line, eth) in [("upper", 0), ("lower", 1)] {
            lab.ok(&format!(
                "add-port {end}-{line} --switch {line} --netns {end} --name eth{eth}"
            ));
        }
        let place = Place::named(end);
        place.run_ok("ip link add br0 up type bridge");
        place.run_ok(&format!("ip addr add 10.77.0.{n}/24 dev br0"));
    }
    let join = |eth| ends.map(|end| Place::named(end).run_ok(&format!("ip link set eth{eth} master br0")));
    join(0);
    join(1);
    let left = Place::named("left");
    let reaches = || left.output("ping -n -c 1 -W 1 10.77.0.2").status.success();
    let raw = RawSocket::open(&left, "br0", false);
    raw.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    let of_two = the_shut_one(&lab, &[]);
    wait_for("a way through", reaches);
    left.run_ok("ping -n -c 20 -i 0.05 -W 5 10.77.0.2");
    assert_eq!(shut(&lab), [of_two.0.as_str()]);

    let stations: Vec<_> = (1..=3)
        .map(|n| {
            lab.ok(&format!("switch add s{n}"));
            lab.ok(&format!("set switch s{n} --flap-moves 50"));
            Station::add_with(&lab, &format!("p{n}"), PortKind::Veth, n, &format!("--switch s{n}"))
        })
        .collect();
    for (a, b) in [(1, 2), (2, 3), (3, 1)] {
        run(&format!("ip link add c{a}{b} up type veth peer name c{b}{a}"));
        run(&format!("ip link set c{b}{a} up"));
        for (here, there) in [(a, b), (b, a)] {
            lab.ok(&format!("add-port c{here}{there} --type device --switch s{here}"));
        }
    }
    stations[0].raw(false).send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    let of_ring = the_shut_one(&lab, std::slice::from_ref(&of_two));
    let all_reach = || {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            stations[from].ping_soon(stations[to].v4);
        }
    };
    all_reach();
    let of_station = stations[0].raw(false);
    stay_the_only_ones(&lab, &[of_two, of_ring], || {
        raw.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
        of_station.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    });
    wait_for("a way through", reaches);
    all_reach();
}
