//! What a port lets in and out: learning, flooding, isolation, pinning.

use std::io::{Read, Write};

use vswitch_testing::api::Mac;
use vswitch_testing::api::view::PortState;
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::netns::run;
use vswitch_testing::{Lab, Observer, Place, http, wait_for};

fn drops(lab: &Lab, port: &str, reason: &str) -> u64 {
    lab.port(port).counters.rx_drops.get(reason).copied().unwrap_or(0)
}

fn is_known(lab: &Lab, station: Mac) -> bool {
    lab.fdb("main").iter().any(|entry| entry.mac == station)
}

#[test]
fn a_port_that_does_not_learn_passes_frames_all_the_same() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", "--learning off"), ("b", ""), ("c", "")], &[None]);
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.check("a", &frame, &[("b", frame.clone()), ("c", frame.clone())]);
    assert!(!is_known(&lab, mac(1, 1)));
    lab.ok("set port a --learning on");
    net.send("a", &[frame]);
    assert!(is_known(&lab, mac(1, 1)));
}

#[test]
fn a_sticky_station_does_not_move() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", "--sticky on"), ("b", ""), ("c", "")], &[None]);
    net.send("a", &[probe(Mac::BROADCAST, mac(1, 1), 1)]);
    net.send("b", &[probe(Mac::BROADCAST, mac(1, 1), 2)]);
    let to = probe(mac(1, 1), mac(1, 2), 3);
    net.check("c", &to, &[("a", to.clone())]);
    assert!(
        lab.fdb("main")
            .iter()
            .any(|entry| entry.mac == mac(1, 1) && entry.sticky)
    );
    assert!(lab.ok("fdb").contains("sticky"));
}

#[test]
fn stations_are_bound_and_let_go_as_it_is_set() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", ""), ("b", ""), ("c", "")], &[None]);
    let from = probe(Mac::BROADCAST, mac(1, 1), 1);
    let to = probe(mac(1, 1), mac(1, 2), 3);
    net.send("a", std::slice::from_ref(&from));
    // One that was known before is bound as soon as it is heard of.
    lab.ok("set port a --sticky on");
    net.send("a", std::slice::from_ref(&from));
    net.send("b", std::slice::from_ref(&from));
    net.check("c", &to, &[("a", to.clone())]);
    lab.ok("set port a --sticky off");
    net.send("b", std::slice::from_ref(&from));
    net.check("c", &to, &[("b", to.clone())]);
}

#[test]
fn a_locked_port_lets_known_stations_in_only() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", "--locked on"), ("b", "")], &[None]);
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.check("a", &frame, &[]);
    // What the stack of the namespace says of itself is none of a known station either.
    assert!(drops(&lab, "a", "locked") >= 1);
    lab.ok(&format!("fdb add {} a", mac(1, 1)));
    net.check("a", &frame, &[("b", frame.clone())]);
}

#[test]
fn a_limit_of_stations_floods_drops_or_shuts() {
    let lab = Lab::with_one_worker();
    let ports = [
        ("f", "--mac-limit 1"),
        ("d", "--mac-limit 1 --beyond-limit drop"),
        ("s", "--mac-limit 1 --beyond-limit shut"),
        ("c", ""),
    ];
    let mut net = Observer::new(&lab, &ports, &[None]);
    for port in ["f", "d", "s"] {
        let first = mac(1, port.as_bytes()[0].into());
        let known = net.send(port, &[probe(Mac::BROADCAST, first, 1)]);
        assert!(known.contains_key("c"), "{known:?}");
        assert!(is_known(&lab, first));
    }
    let second = probe(Mac::BROADCAST, mac(1, 2), 2);
    assert!(
        net.send("f", std::slice::from_ref(&second)).contains_key("c"),
        "flooded"
    );
    assert!(!is_known(&lab, mac(1, 2)));
    net.check("d", &second, &[]);
    assert_eq!(drops(&lab, "d", "mac-limit"), 1);
    // The sentinel can't reach a shut port: this one is looked at by its counters.
    net.shoot("s", &second);
    wait_for("the port to be shut", || lab.port("s").state == PortState::Shut);
    assert!(lab.ok("show").contains("more than 1 stations behind it"));
    lab.ok("set port s --up");
    assert_eq!(lab.port("s").state, PortState::Up);
}

/// Who is shut out is let in by nothing that he does to his interface, nor by a restart, nor by an edit that comes to nothing.
#[test]
fn a_shut_port_stays_shut_until_somebody_opens_it() {
    let mut lab = Lab::with_one_worker();
    let ports = [("s", "--mac-limit 1 --beyond-limit shut"), ("c", "")];
    let mut net = Observer::new(&lab, &ports, &[None]);
    net.send("s", &[probe(Mac::BROADCAST, mac(1, 1), 1)]);
    net.shoot("s", &probe(Mac::BROADCAST, mac(1, 2), 2));
    let state = || lab.port("s").state;
    wait_for("the port to be shut", || state() == PortState::Shut);

    let interface = || {
        let links = run("ip -n s -o link show");
        let eth0 = links.lines().find(|line| line.contains(" eth0"));
        eth0.and_then(|line| line.split(' ').next()).map(str::to_owned)
    };
    let before = interface();
    run("ip -n s link del eth0");
    wait_for("its interface to be made again", || {
        interface().is_some_and(|now| Some(now) != before)
    });
    wait_for("its port to be there", || state() != PortState::Missing);
    assert_eq!(state(), PortState::Shut);

    run("ip -n c link add taken type veth peer name other");
    let wanted = lab.ok("export").replace("name = \"s\"\n", "name = \"s\"\nup = false\n");
    let more = "\n[[ports]]\nname = \"new\"\nnamespace = \"c\"\nifname = \"taken\"\n";
    let file = lab.lab_file(&(wanted + more));
    lab.ctl(&format!("apply {file}")).failed(5, &["taken"]);
    assert_eq!(state(), PortState::Shut);

    lab.ok("restart");
    assert_eq!(state(), PortState::Shut);
    lab.kill_daemon();
    lab.start();
    assert_eq!(lab.port("s").state, PortState::Shut);
    let told = lab.ok("show");
    assert!(told.contains("`vswitchctl set port s --up` opens it"), "{told}");
    lab.ok("set port s --down");
    lab.ok("set port s --up");
    assert_eq!(lab.port("s").state, PortState::Up);
}

/// Guards F5: static stations are no part of a limit.
#[test]
fn static_stations_do_not_count_against_a_limit() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", "--mac-limit 1 --beyond-limit drop"), ("b", "")], &[None]);
    lab.ok(&format!("fdb add {} a", mac(1, 9)));
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.check("a", &frame, &[("b", frame.clone())]);
    net.check("a", &probe(Mac::BROADCAST, mac(1, 2), 2), &[]);
    let by_hand = probe(Mac::BROADCAST, mac(1, 9), 3);
    net.check("a", &by_hand, &[("b", by_hand.clone())]);
}

#[test]
fn a_limit_of_stations_a_vlan() {
    let lab = Lab::with_one_worker();
    lab.ok("set switch main --vlan-limit 3");
    // One of them is the sentinel.
    let mut net = Observer::new(&lab, &[("a", ""), ("b", "")], &[None]);
    let frames: Vec<_> = (0..10).map(|n| probe(Mac::BROADCAST, mac(1, n), n)).collect();
    let seen = net.send("a", &frames);
    assert_eq!(seen["b"], frames, "they pass all the same");
    assert_eq!(lab.fdb("main").len(), 3);
    lab.ok("set switch main --vlan-limit 0");
    net.send("a", &frames);
    assert_eq!(lab.fdb("main").len(), 11);
}

#[test]
fn each_class_of_flood_can_be_kept_from_a_port() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", ""), ("b", ""), ("quiet", "--flood broadcast")], &[None]);
    let classes = [mac(9, 9), Mac([0x01, 0, 0x5e, 0, 0, 0xfb]), Mac::BROADCAST];
    for (keep, n) in [("unknown-unicast", 0), ("multicast", 1), ("broadcast", 2)] {
        lab.ok(&format!("set port quiet --flood {keep},broadcast"));
        for (dst, m) in classes.into_iter().zip(0..) {
            let frame = probe(dst, mac(1, 1), 1);
            let mut expected = vec![("b", frame.clone())];
            // Broadcast stays on, as the sentinel needs it.
            if m == n || m == 2 {
                expected.push(("quiet", frame.clone()));
            }
            net.check("a", &frame, &expected);
        }
    }
}

#[test]
fn a_hairpin_sends_back() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("a", "--hairpin on"), ("b", "")], &[None]);
    let frame = probe(Mac::BROADCAST, mac(1, 1), 1);
    net.check("a", &frame, &[("a", frame.clone()), ("b", frame.clone())]);
    let frame = probe(mac(1, 1), mac(1, 2), 2);
    net.check("a", &frame, &[("a", frame.clone())]);
}

#[test]
fn isolated_ports_reach_promiscuous_ones_only() {
    let lab = Lab::with_one_worker();
    let ports = [
        ("up", ""),
        ("i1", "--isolation isolated"),
        ("i2", "--isolation isolated"),
        ("c1", "--isolation 7"),
        ("c2", "--isolation 7"),
        ("d1", "--isolation 8"),
    ];
    let mut net = Observer::new(&lab, &ports, &[None]);
    let flood = |n| probe(Mac::BROADCAST, mac(1, n), n);
    net.check("i1", &flood(1), &[("up", flood(1))]);
    net.check("c1", &flood(2), &[("up", flood(2)), ("c2", flood(2))]);
    net.check(
        "up",
        &flood(3),
        &["i1", "i2", "c1", "c2", "d1"].map(|port| (port, flood(3))),
    );
    // Known stations are no way around.
    let to = probe(mac(1, 1), mac(1, 4), 4);
    net.check("i2", &to, &[]);
    assert_eq!(drops(&lab, "i2", "isolated"), 1);
    net.check("up", &to, &[("i1", to.clone())]);
}

#[test]
fn a_pinned_port_sends_from_its_own_addresses_only() {
    let lab = Lab::with_one_worker();
    for (name, n) in [("red", 1), ("blue", 2)] {
        lab.ok(&format!("add-port {name} --addr 10.7.0.{n}/24 --addr fd07::{n}/64"));
    }
    lab.ok("set port red --pin-mac own --pin-ip own");
    let (red, blue) = (Place::named("red"), Place::named("blue"));
    for (place, to) in [(&red, "10.7.0.2"), (&red, "fd07::2"), (&blue, "10.7.0.1")] {
        place.run_ok(&format!("ping -n -c 1 -W 10 {to}"));
    }
    // Another IP address, first in ARP, then in IP.
    red.run_ok("ip addr add 10.7.0.66/24 dev eth0");
    let spoofed = "ping -n -c 1 -W 1 -I 10.7.0.66 10.7.0.2";
    assert!(!red.output(spoofed).status.success());
    let by_ip = drops(&lab, "red", "pin-ip") + drops(&lab, "red", "pin-arp");
    assert!(by_ip > 0);
    red.run_ok("ip addr add fd07::66/64 dev eth0 nodad");
    assert!(!red.output("ping -n -c 1 -W 1 -I fd07::66 fd07::2").status.success());
    // Another MAC address.
    red.run_ok("ip link set eth0 address 0a:00:00:00:00:66");
    assert!(!red.output("ping -n -c 1 -W 1 10.7.0.2").status.success());
    assert!(drops(&lab, "red", "pin-mac") > 0);
    lab.ok("set port red --pin-mac any --pin-ip any");
    // An address is that of one host, whoever says it.
    lab.ok("set port red pin.ip=10.7.0.1");
    assert!(lab.ok("export").contains("ip = [\"10.7.0.1/32\"]"));
    lab.ctl("set port red pin.ip=bogus")
        .failed(2, &["\"bogus\" is no IP address or network"]);
    lab.ok("set port red --pin-ip any");
    wait_for("an answer", || red.output(spoofed).status.success());
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let lab = Lab::new();
    lab.ok("add-port red");
    for (line, code, words) in [
        ("set port red --pin-ip own", 2, "no address that vswitch gave it"),
        ("set port red --pin-mac 01:00:5e:00:00:01", 2, "group address"),
        ("set port red --pin-ip 10.0.0.300", 2, "no IP address"),
        ("set port red --isolation neighbours", 2, "promiscuous, isolated"),
        ("set port red --flood everything", 2, "unknown-unicast"),
        ("set port nobody --sticky on", 4, "no such port"),
    ] {
        lab.ctl(line).failed(code, &[words]);
    }
    assert_eq!(lab.port("red").port.pin, Default::default());
}

#[test]
fn a_shut_port_is_told_of() {
    let lab = Lab::with_one_worker();
    let mut net = Observer::new(&lab, &[("s", "--mac-limit 1 --beyond-limit shut"), ("c", "")], &[None]);
    let mut stream = http::connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    read_until(&mut stream, &mut text, "\r\n\r\n");
    net.send("s", &[probe(Mac::BROADCAST, mac(1, 1), 1)]);
    net.shoot("s", &probe(Mac::BROADCAST, mac(1, 2), 2));
    read_until(&mut stream, &mut text, "more than 1 stations behind it");
    assert!(text.contains("\"kind\":\"port-shut\",\"port\":\"s\""), "{text}");
}

fn read_until(stream: &mut impl Read, text: &mut String, word: &str) {
    let mut buffer = [0; 4096];
    while !text.contains(word) {
        let len = stream
            .read(&mut buffer)
            .unwrap_or_else(|e| panic!("{word} never came: {e}: {text}"));
        assert!(len > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
}
