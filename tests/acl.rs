//! Access control lists: what a port lets in and out by rules.

use std::time::Instant;

use vswitch_testing::api::mirror::MirrorView;
use vswitch_testing::api::view::PortAclView;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::{DEADLINE, Lab, Observer, Place, Station, Wire, wait_for};

fn two(lab: &Lab) -> (Place, Place) {
    for (name, n) in [("red", 1), ("blue", 2)] {
        lab.ok(&format!("add-port {name} --addr 10.7.0.{n}/24 --addr fd07::{n}/64"));
    }
    (Place::named("red"), Place::named("blue"))
}

fn pings(from: &Place, to: &str) -> bool {
    from.output(&format!("ping -n -c 1 -W 1 {to}")).status.success()
}

#[test]
fn rules_let_in_and_out_what_they_say_and_count() {
    let lab = Lab::new();
    let (red, blue) = two(&lab);
    lab.ok("acl add red in count icmp");
    lab.ok("acl add red in deny icmp to 10.7.0.2 type 8");
    assert!(!pings(&red, "10.7.0.2"));
    assert!(pings(&red, "fd07::2"));
    assert!(pings(&blue, "10.7.0.1"), "an answer is of another type");
    let hits = |lab: &Lab| {
        let acl: PortAclView = lab.json("acl show red");
        acl.ingress.iter().map(|rule| rule.hits).collect::<Vec<_>>()
    };
    assert_eq!(hits(&lab), [2, 1]);
    assert_eq!(lab.port("red").counters.rx_drops["acl-in"], 1);
    // A setting of something else leaves the hits alone.
    lab.ok("set port red --flood all");
    assert_eq!(hits(&lab), [2, 1]);
    lab.ok("acl del red in 2");
    assert!(pings(&red, "10.7.0.2"));
}

#[test]
fn lists_are_replaced_as_a_whole_and_kept() {
    let mut lab = Lab::new();
    let (red, blue) = two(&lab);
    let file = lab.scratch().join("rules");
    std::fs::write(
        &file,
        "# neighbours may be found\npermit icmp6 type 135\npermit icmp6 type 136\ndeny ipv6   # the rest\n",
    )
    .unwrap();
    lab.ok(&format!("acl set red --out-file {}", file.display()));
    assert!(!pings(&blue, "fd07::1"));
    assert!(pings(&blue, "10.7.0.1"));
    assert!(lab.port("red").counters.tx_drops["acl-out"] > 0);
    lab.kill_daemon();
    lab.start();
    assert_eq!(lab.port("red").port.acl.egress.len(), 3);
    assert!(!pings(&blue, "fd07::1"));
    std::fs::write(&file, "deny ipv6\nallow ipv4\n").unwrap();
    lab.ctl(&format!("acl set red --out-file {}", file.display()))
        .failed(2, &["line 2", "permit, deny, count"]);
    assert_eq!(lab.port("red").port.acl.egress.len(), 3, "nothing was changed");
    lab.ok("acl clear red");
    assert!(pings(&red, "fd07::2"));
}

/// What is told of a change is the change, however long the list is.
#[test]
fn of_a_long_list_what_came_and_went_is_told() {
    let lab = Lab::new();
    lab.ok("add-port red --type tap");
    let file = lab.scratch().join("rules");
    let rules: Vec<_> = (1..=300)
        .map(|number| format!("deny udp to any port {number}\n"))
        .collect();
    std::fs::write(&file, rules.concat()).unwrap();
    let all = lab.ok(&format!("acl set red --in-file {}", file.display()));
    assert!(all.ends_with("deny udp to any port 8 and 292 more\n"), "{all}");
    assert_eq!(
        lab.ok("acl add red in --at 5 permit icmp"),
        "added to acl.in of port red: 5 permit icmp\n"
    );
    assert_eq!(
        lab.ctl("acl del -n red in 300").ok().stdout,
        "would take from acl.in of port red: 300 deny udp to any port 299\n"
    );
}

#[test]
fn rules_on_stations_and_vlans() {
    let lab = Lab::with_one_worker();
    let ports = [("a", "--vlan 10"), ("b", "--vlan 10"), ("c", "--trunk 10,20")];
    let mut net = Observer::new(&lab, &ports, &[Some(10), Some(20)]);
    lab.ok(&format!("acl add a in deny from {}", mac(1, 1)));
    lab.ok("acl add c in deny vlan 20 ethertype 0x88b5 from 0a:01:00:00:00:03");
    net.check("a", &probe(Mac::BROADCAST, mac(1, 1), 1), &[]);
    let frame = probe(Mac::BROADCAST, mac(1, 2), 2);
    let tagged =
        |vlan, frame: &[u8]| vswitch_testing::frame::tagged(frame, vswitch_testing::frame::VLAN_ETHERTYPE, vlan);
    net.check("a", &frame, &[("b", frame.clone()), ("c", tagged(10, &frame))]);
    let frame = probe(Mac::BROADCAST, mac(1, 3), 3);
    net.check("c", &tagged(10, &frame), &[("a", frame.clone()), ("b", frame.clone())]);
    net.check("c", &tagged(20, &frame), &[]);
    assert_eq!(lab.port("c").counters.rx_drops["acl-in"], 1);
}

#[test]
fn what_is_no_rule_is_refused() {
    let lab = Lab::new();
    lab.ok("add-port red");
    for (line, words) in [
        ("acl add red in deny http", &["not understood"][..]),
        ("acl add red in --at 5 deny arp", &["0 rules"]),
        ("acl add red up deny arp", &["in, out"]),
    ] {
        lab.ctl(line).failed(2, words);
    }
    lab.ctl("acl del red out 1").failed(4, &["0 rules", "acl show red"]);
    lab.ok("acl del red out 1 --if-exists");
    lab.ctl("acl show nobody").failed(4, &["no such port"]);
}

#[test]
fn rules_copy_to_a_mirror_whatever_becomes_of_the_frame() {
    let lab = Lab::new();
    let stations = [("red", 1), ("blue", 2), ("mon", 3)].map(|(name, n)| Station::add(&lab, name, PortKind::Tap, n));
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    wire.send("blue", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    let early = lab.ctl(&format!("acl add red in mirror span from {}", mac(1, 1)));
    assert!(early.stderr.contains("vswitchctl mirror add span"), "{early:?}");
    lab.ok("mirror add span --to mon --rules-only");
    lab.ok(&format!("acl add red in deny to {}", mac(1, 9)));
    lab.ok("acl add blue out mirror span ipv4");
    let send = |frame: &[u8], at: &[&str]| {
        wire.at("red").send(frame);
        for port in at {
            let got = wire.at(port).recv(Instant::now() + DEADLINE).expect("it comes");
            assert_eq!(got.bytes, frame, "{port}");
        }
    };
    for id in 0..5 {
        send(&probe(mac(1, 2), mac(1, 1), id), &["blue", "mon"]);
        send(&probe(mac(1, 9), mac(1, 1), id), &["mon"]);
        send(&probe(mac(1, 2), mac(1, 7), id), &["blue"]);
    }
    let mut ip = probe(mac(1, 2), mac(1, 7), 9);
    ip[12..14].copy_from_slice(&[8, 0]);
    send(&ip, &["blue", "mon"]);
    let acl: PortAclView = lab.json("acl show red");
    assert_eq!(acl.ingress.iter().map(|rule| rule.hits).collect::<Vec<_>>(), [10, 5]);
    let span: MirrorView = lab.json("mirror show span");
    assert_eq!(span.frames, 11);
    assert_eq!(lab.port("red").counters.mirror_copies, 11);
}

#[test]
fn a_rule_holds_what_it_matches_to_a_rate() {
    let lab = Lab::new();
    let stations = [("red", 1), ("blue", 2)].map(|(name, n)| Station::add(&lab, name, PortKind::Tap, n));
    stations.iter().for_each(Station::silence);
    let mut wire = Wire::tap(&stations);
    wire.send("blue", &[probe(Mac::BROADCAST, mac(1, 2), 0)]);
    for (port, way) in [("red", "in"), ("blue", "out")] {
        lab.ok(&format!("acl add {port} {way} police 1pps burst 20 to {}", mac(1, 2)));
        let dropped = || {
            let counters = lab.port(port).counters;
            let drops = if way == "in" {
                counters.rx_drops
            } else {
                counters.tx_drops
            };
            drops.get("acl-policed").copied().unwrap_or(0)
        };
        let before = lab.port("blue").counters.tx_frames;
        let start = Instant::now();
        for id in 0..200 {
            wire.at("red").send(&probe(mac(1, 2), mac(1, 1), id));
        }
        let passed = wait_for("all frames to be counted", || {
            let passed = lab.port("blue").counters.tx_frames - before;
            (passed + dropped() == 200).then_some(passed)
        });
        let most = 21 + start.elapsed().as_secs();
        assert!((20..=most).contains(&passed), "{way}: {passed} passed");
        lab.ok(&format!("acl clear {port}"));
    }
}
