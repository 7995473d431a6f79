//! The forwarding database: learning, ageing, static entries, its bound.

use vswitch_testing::api::view::PortState;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, Observer, Station, Wire, http, run, wait_for};

fn two_ports(lab: &Lab, switch: &str) -> Vec<Station> {
    let options = format!("--switch {switch}");
    vec![
        Station::add_with(lab, &format!("{switch}-a"), PortKind::Tap, 1, &options),
        Station::add_with(lab, &format!("{switch}-b"), PortKind::Veth, 2, &options),
    ]
}

fn knows(lab: &Lab, switch: &str, mac: Mac) -> bool {
    lab.fdb(switch).iter().any(|entry| entry.mac == mac)
}

#[test]
fn addresses_age_by_the_switchs_own_time() {
    let lab = Lab::new();
    lab.ok("switch add short --ageing 1");
    lab.ok("switch add never --ageing 0");
    for switch in ["never", "short"] {
        let mut wire = Wire::tap(&two_ports(&lab, switch));
        wire.send(&format!("{switch}-a"), &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
        lab.ok(&format!("fdb add 0a:02:00:00:00:01 {switch}-b --switch {switch}"));
    }
    wait_for("the address to age", || !knows(&lab, "short", mac(1, 1)));
    assert!(knows(&lab, "never", mac(1, 1)), "it aged though the ageing time is 0");
    assert!(knows(&lab, "short", mac(2, 1)), "a static entry aged");
}

#[test]
fn the_default_ageing_time_is_300_seconds_and_can_be_set() {
    let lab = Lab::new();
    assert_eq!(lab.switch("main").switch.ageing_secs, 300);
    let mut wire = Wire::tap(&two_ports(&lab, "main"));
    wire.send("main-a", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    assert!(knows(&lab, "main", mac(1, 1)));
    lab.ok("set switch main --ageing 1");
    wait_for("the address to age", || !knows(&lab, "main", mac(1, 1)));
}

#[test]
fn a_station_that_talks_does_not_age() {
    let lab = Lab::new();
    lab.ok("set switch main --ageing 3");
    let mut wire = Wire::tap(&two_ports(&lab, "main"));
    wire.send(
        "main-a",
        &[probe(Mac::BROADCAST, mac(1, 1), 0), probe(Mac::BROADCAST, mac(1, 2), 0)],
    );
    wait_for("the silent station to age", || {
        wire.send("main-a", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
        assert!(knows(&lab, "main", mac(1, 1)), "the station that talks was forgotten");
        !knows(&lab, "main", mac(1, 2))
    });
}

#[test]
fn a_full_fdb_floods_and_counts_and_never_fails() {
    let lab = Lab::new();
    lab.ok("switch add tiny --fdb-capacity 8");
    let stations = two_ports(&lab, "tiny");
    let mut wire = Wire::tap(&stations);
    let frames: Vec<_> = (0..500).map(|n| probe(Mac::BROADCAST, mac(1, n), n)).collect();
    wire.check("tiny-a", &frames, &["tiny-b"], &frames);
    let switch = lab.switch("tiny");
    assert!(switch.fdb_entries <= 8, "{} entries", switch.fdb_entries);
    assert_eq!(lab.fdb("tiny").len(), switch.fdb_entries as usize);
    assert!(
        switch.fdb_full >= 492,
        "{} addresses that found no room were counted",
        switch.fdb_full
    );
    // Known or unknown by now: all are reached.
    let frames: Vec<_> = (0..500).map(|n| probe(mac(1, n), mac(2, 1), n)).collect();
    wire.check("tiny-b", &frames, &["tiny-a"], &frames);
    stations[0].ping(stations[1].v4);
    lab.ok("fdb flush --switch tiny");
    wire.send("tiny-a", &[probe(Mac::BROADCAST, mac(3, 1), 0)]);
    assert!(knows(&lab, "tiny", mac(3, 1)), "there is room again after a flush");
}

/// What a neighbour's flood had filled took no entry that was set by hand, and a port that was made anew lost its own without a word.
#[test]
fn entries_set_by_hand_have_room_in_a_table_that_is_flooded() {
    let lab = Lab::new();
    lab.ok("switch add tiny --fdb-capacity 8");
    let stations = two_ports(&lab, "tiny");
    make_device("device");
    lab.ok("add-port device --type device --switch tiny");
    lab.ok(&format!("fdb add {} device --switch tiny", mac(2, 1)));
    let mut wire = Wire::tap(&stations);
    run("ip link del device");
    lab.wait_for_state("device", PortState::Missing);
    let flood: Vec<_> = (0..500).map(|n| probe(Mac::BROADCAST, mac(1, n), n)).collect();
    wire.send("tiny-a", &flood);
    assert_eq!(lab.switch("tiny").fdb_entries, 8);
    let behind = |port: &str, station: Mac| {
        let entry = lab.fdb("tiny").into_iter().find(|entry| entry.mac == station);
        entry.is_some_and(|entry| entry.is_static && entry.port.as_str() == port)
    };

    make_device("device");
    lab.wait_for_state("device", PortState::Up);
    assert!(behind("device", mac(2, 1)), "{:?}", lab.fdb("tiny"));
    wire.send("tiny-a", &flood);
    lab.ok(&format!("fdb add {} tiny-b --switch tiny", mac(2, 2)));
    assert!(behind("tiny-b", mac(2, 2)), "{:?}", lab.fdb("tiny"));
    wire.send("tiny-a", &flood);
    let new = format!(
        "[[ports]]\nname = \"new\"\nswitch = \"tiny\"\nstations = [{{ mac = \"{}\" }}]\n",
        mac(2, 3)
    );
    lab.ok(&format!(
        "apply {} --yes",
        lab.lab_file(&format!("{}\n{new}", lab.ok("export")))
    ));
    assert!(behind("new", mac(2, 3)), "{:?}", lab.fdb("tiny"));
    lab.ok("set port new namespace=elsewhere");
    for (port, n) in [("device", 1), ("tiny-b", 2), ("new", 3)] {
        assert!(behind(port, mac(2, n)), "{port}: {:?}", lab.fdb("tiny"));
    }
    assert!(lab.switch("tiny").fdb_entries <= 8);

    // More than it holds are not taken, and what is there stays.
    (4..=8).for_each(|n| drop(lab.ok(&format!("fdb add {} new --switch tiny", mac(2, n)))));
    let refused = lab.ctl(&format!("fdb add {} new --switch tiny", mac(2, 9)));
    assert!(
        refused.code != 0 && refused.stderr.contains("its FDB holds 8"),
        "{refused:?}"
    );
    assert_eq!(lab.fdb("tiny").iter().filter(|entry| entry.is_static).count(), 8);
}

#[test]
fn a_static_entry_stays_where_it_was_put() {
    let lab = Lab::new();
    let mut wire = Wire::tap(&Station::one_of_each(&lab));
    lab.ok("fdb add 0a:02:00:00:00:01 veth");
    let frames = [probe(mac(2, 1), mac(1, 1), 1)];
    wire.check("tap", &frames, &["veth"], &frames);
    // A frame from that address at another port does not move it.
    wire.send("device", &[probe(Mac::BROADCAST, mac(2, 1), 2)]);
    wire.check("tap", &frames, &["veth"], &frames);
    lab.ok("fdb flush");
    let fdb = lab.fdb("main");
    let entry = fdb
        .iter()
        .find(|entry| entry.mac == mac(2, 1))
        .expect("a flush leaves static entries");
    assert!(entry.is_static && entry.age_secs.is_none(), "{entry:?}");
    lab.ok("fdb del 0a:02:00:00:00:01");
    assert!(!knows(&lab, "main", mac(2, 1)));
    wire.check("tap", &frames, &["veth", "device", "internal"], &frames);
}

/// No entry has the address of all zeros: of a switch that was to forget it nothing was learned any more.
#[test]
fn what_is_no_station_can_be_forgotten_as_little_as_put_somewhere() {
    let lab = Lab::new();
    let stations = two_ports(&lab, "main");
    for mac in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"] {
        let path = "/v1/switches/main/fdb";
        let entry = format!(r#"{{"mac":"{mac}","port":"{}"}}"#, stations[0].port);
        for refused in [
            http::request("PUT", path, &entry),
            http::request("DELETE", &format!("{path}?mac={mac}"), ""),
        ] {
            assert_eq!(refused.status, 400, "{mac}: {refused:?}");
            assert!(refused.body.contains("not the address of a station"), "{refused:?}");
        }
    }
    stations[0].ping(stations[1].v4);
    assert!(stations.iter().all(|station| knows(&lab, "main", station.mac())));
}

#[test]
fn flush_takes_all_or_one_ports_addresses() {
    let lab = Lab::new();
    let mut wire = Wire::tap(&two_ports(&lab, "main"));
    wire.send("main-a", &[probe(Mac::BROADCAST, mac(1, 1), 0)]);
    wire.send("main-b", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    lab.ok("fdb flush --port main-a");
    assert!(!knows(&lab, "main", mac(1, 1)));
    assert!(knows(&lab, "main", mac(1, 2)));
    lab.ok("fdb flush");
    assert!(!knows(&lab, "main", mac(1, 2)));
    // Of none it is no change.
    lab.ok("set port main-a learning.enabled=off");
    lab.ok("set port main-b learning.enabled=off");
    lab.ok("fdb flush");
    assert_eq!(lab.ok("fdb flush"), "");
}

#[test]
fn learned_addresses_go_with_their_port() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    let mut wire = Wire::tap(&stations);
    for (n, station) in stations.iter().enumerate() {
        wire.send(&station.port, &[probe(Mac::BROADCAST, mac(1, n as u32), 0)]);
        assert!(lab.port(&station.port).fdb_entries > 0);
    }
    for (n, station) in stations.iter().enumerate() {
        // Down for two of them, removed for the others.
        let line = if n % 2 == 0 {
            format!("set port {} --down", station.port)
        } else {
            format!("del-port {}", station.port)
        };
        lab.ok(&line);
        assert!(
            !knows(&lab, "main", mac(1, n as u32)),
            "after `{line}` the address is still there"
        );
    }
}

/// A station is set by hand at one port; another is asked to forget it.
#[test]
fn what_is_asked_of_one_port_does_not_touch_anothers_station() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", ""), ("b", ""), ("c", "")], &[None]);
    let to = probe(mac(1, 9), mac(1, 2), 1);
    let forget = format!("/v1/switches/main/fdb?mac={}&port=b&idempotent=true", mac(1, 9));
    for learned in [false, true] {
        if learned {
            lab.ok(&format!("fdb del {}", mac(1, 9)));
            net.send("a", &[probe(Mac::BROADCAST, mac(1, 9), 2)]);
        } else {
            lab.ok(&format!("fdb add {} a", mac(1, 9)));
        }
        let told = http::request("DELETE", &forget, "").json();
        assert_eq!(told["done"], serde_json::json!([]), "{told}");
        net.check("c", &to, &[("a", to.clone())]);
    }
    let forget = forget.replace("port=b", "port=a");
    let told = http::request("DELETE", &forget, "").json();
    assert_eq!(told["done"][0], format!("removed FDB entry {}", mac(1, 9)), "{told}");
    net.check("c", &to, &[("a", to.clone()), ("b", to.clone())]);
}

/// A port that carries what has no tag in a VLAN has its stations in that, and none in others.
#[test]
fn a_static_entry_is_in_a_vlan_of_its_port() {
    let lab = Lab::new();
    lab.ok("add-port a --type tap --vlan 10");
    lab.ok("add-port t --type tap --trunk 20,30");
    let vlans = |n: u32| {
        let fdb = lab.fdb("main");
        let own = fdb.iter().filter(|entry| entry.mac == mac(1, n));
        own.map(|entry| entry.vlan.map(|vlan| vlan.get())).collect::<Vec<_>>()
    };
    lab.ok(&format!("fdb add {} a", mac(1, 1)));
    assert_eq!(vlans(1), [Some(10)]);
    lab.ok(&format!("bridge fdb add {} dev a master static", mac(1, 2)));
    assert_eq!(vlans(2), [Some(10)]);
    for (line, word) in [
        (format!("fdb add {} a --vlan 20", mac(1, 3)), "it is in VLAN 10"),
        (format!("fdb add {} t", mac(1, 3)), "20,30"),
        (format!("fdb add {} t --vlan 10", mac(1, 3)), "20,30"),
    ] {
        lab.ctl(&line).failed(2, &[word]);
    }
    let path = lab.lab_file(&format!(
        "[[ports]]\nname = \"a\"\nkind = \"tap\"\nvlan = {{ access = 10 }}\nstations = [{{ mac = \"{}\" }}]\n",
        mac(1, 4)
    ));
    let told = lab.ctl(&format!("apply -n --yes {path}"));
    for word in ["has no effect", "carries nothing that is in no VLAN", "vlan = 10"] {
        assert!(told.code == 0 && told.stderr.contains(word), "{told}");
    }
    // As it was added, and where it is.
    lab.ok(&format!("fdb del {}", mac(1, 1)));
    assert_eq!(vlans(1), []);
    lab.ok(&format!("fdb add {} t --vlan 20", mac(1, 1)));
    lab.ctl(&format!("fdb del {}", mac(1, 1)))
        .failed(4, &["knows it in VLAN 20", "--vlan 20"]);
    let told = lab.ctl(&format!("fdb del {} --if-exists", mac(1, 1)));
    assert!(told.code == 0 && told.stderr.contains("--vlan 20"), "{told}");
    lab.ok(&format!("fdb del {} --vlan 20", mac(1, 1)));
    // It is told when a port leaves it.
    let told = lab.ctl("set port a --vlan 40");
    assert!(told.code == 0 && told.stderr.contains("no effect any more"), "{told}");
    assert_eq!(vlans(2), [], "frames for it would be dropped");
    // What was accepted is accepted anew.
    let path = lab.lab_file(&lab.ok("export"));
    lab.ok("reset --yes");
    let told = lab.ctl(&format!("apply --yes {path}"));
    assert!(told.code == 0 && told.stderr.contains("has no effect"), "{told}");
    assert_eq!(vlans(2), []);
    lab.ok("set port a --mtu 1400");
    lab.ok("set port a --vlan 10");
    assert_eq!(vlans(2), [Some(10)], "it is there again with its VLAN");
}

#[test]
fn an_entry_that_is_there_is_not_moved_unasked() {
    let lab = Lab::new();
    let _ports = two_ports(&lab, "main");
    let add = format!("fdb add {} ", mac(1, 1));
    lab.ok(&format!("{add} main-a"));
    lab.ok(&format!("{add} main-a --if-not-exists"));
    lab.ctl(&format!("{add} main-b --if-not-exists"))
        .failed(5, &["behind port \"main-a\"", "--if-not-exists"]);
    let at = || {
        lab.fdb("main")
            .into_iter()
            .find(|entry| entry.mac == mac(1, 1))
            .unwrap()
            .port
    };
    assert_eq!(at().as_str(), "main-a");
    lab.ok(&format!("{add} main-b"));
    assert_eq!(at().as_str(), "main-b");
}

#[test]
fn the_switch_is_that_of_the_port_or_of_the_entry() {
    let lab = Lab::new();
    let station = mac(1, 1);
    let there = |switch: &str| lab.fdb(switch).iter().any(|entry| entry.mac == station);
    lab.ok("switch add br0");
    lab.ok("add-port far --switch br0");
    lab.ok(&format!("fdb add {station} far"));
    assert!(there("br0"));
    lab.ok(&format!("fdb del {station}"));
    lab.ok("add-port near");
    for port in ["near", "far"] {
        lab.ok(&format!("fdb add {station} {port}"));
    }
    lab.ctl(&format!("fdb del {station}"))
        .failed(2, &["br0", "main", "--switch"]);
    lab.ok(&format!("fdb del {station} --switch main"));
    lab.ok(&format!("fdb del {station}"));
    assert!(!there("br0") && !there("main"));
}
