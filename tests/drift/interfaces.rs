//! Interfaces inside namespaces: renamed, moved, deleted, with another MTU.

use vswitch_api::PortKind;
use vswitch_api::view::{NamespaceView, PortState};
use vswitch_testing::http::request;
use vswitch_testing::lab::Lab;
use vswitch_testing::netns::{Place, run};
use vswitch_testing::station::Station;
use vswitch_testing::wait::wait_for;

use super::*;

/// faults D3: an interface is known by what it is, not by its name; so nothing of it is lost over a restart, and nothing stays at the end.
#[test]
fn an_interface_renamed_inside_is_adopted_under_its_new_name() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    for (name, kind) in [("v", "veth"), ("t", "tap")] {
        lab.ok(&format!("add-port {name} --type {kind} --addr 10.7.0.5/24"));
        run(&format!("ip -n {name} link set eth0 down"));
        run(&format!("ip -n {name} link set eth0 name lan0"));
        run(&format!("ip -n {name} link set lan0 up"));
        run(&format!("ip -n {name} route add 10.99.0.0/16 via 10.7.0.77"));
        lab.wait_for_port(name, "the new name", |port| {
            port.port.ifname.as_ref().is_some_and(|name| name.as_str() == "lan0")
        });
        for kill in [false, true] {
            if kill {
                lab.kill_daemon();
            } else {
                lab.stop_daemon();
            }
            lab.start();
            lab.wait_for_state(name, PortState::Up);
            let port = lab.port(name);
            assert_eq!(port.port.ifname.unwrap().as_str(), "lan0");
            let links = run(&format!("ip -n {name} -br link"));
            assert!(!links.contains("eth0") && links.contains("lan0"), "{links}");
            assert!(run(&format!("ip -n {name} route")).contains("10.99.0.0/16"));
            red.ping_soon("10.7.0.5".parse::<std::net::Ipv4Addr>().unwrap());
        }
        let view: NamespaceView = lab.json(&format!("ns show {name}"));
        let link = view.links.iter().find(|link| link.name == "lan0").unwrap();
        assert_eq!(link.port.as_ref().unwrap().as_str(), name);
        lab.ok(&format!("del-port {name}"));
    }
    lab.ok("reset --yes");
    let left = Place::daemons_own().run_ok("ip -br link");
    assert!(left.lines().all(|line| line.starts_with("lo")), "{left}");
}

/// The same where the new name appeared while no daemon was there to hear of it.
#[test]
fn an_interface_renamed_while_the_daemon_is_dead_is_adopted_too() {
    let mut lab = Lab::new();
    for (name, kind) in [("v", "veth"), ("t", "tap")] {
        lab.ok(&format!("add-port {name} --type {kind}"));
    }
    lab.kill_daemon();
    let mac_of = |name: &str| {
        let line = run(&format!("ip -n {name} -br link show lan0"));
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    let macs = ["v", "t"].map(|name| {
        run(&format!("ip -n {name} link set eth0 down"));
        run(&format!("ip -n {name} link set eth0 name lan0"));
        run(&format!("ip -n {name} link set lan0 up"));
        mac_of(name)
    });
    lab.start();
    for (name, before) in ["v", "t"].into_iter().zip(macs) {
        lab.wait_for_state(name, PortState::Up);
        assert_eq!(mac_of(name), before);
        assert!(!run(&format!("ip -n {name} -br link")).contains("eth0"));
    }
}

/// faults D4, D15: an MTU that others changed counts, is shown with the one that was set, and told.
#[test]
fn an_mtu_changed_inside_is_shown_and_agreed_on() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    for (name, kind) in [("v", "veth"), ("t", "tap")] {
        lab.ok(&format!("add-port {name} --type {kind} --addr 10.7.0.5/24"));
        for mtu in [1300, 9000] {
            run(&format!("ip -n {name} link set eth0 mtu {mtu}"));
            lab.wait_for_port(name, "the MTU to be shown", |port| {
                port.port.mtu == Some(mtu) && port.mtu_wanted == Some(1500)
            });
            assert!(
                lab.ok("port list").contains(&format!("MTU of {mtu}")),
                "{}",
                lab.ok("port list")
            );
            assert!(lab.ok(&format!("port show {name}")).contains("1500"));
        }
        lab.ok("ns exec red -- ip link set eth0 mtu 9000");
        lab.wait_for_port("red", "the MTU to be shown", |port| port.port.mtu == Some(9000));
        run(&format!(
            "ip netns exec {name} ping -n -M do -s 8000 -c 1 -W 10 10.7.0.1"
        ));
        lab.ok("ns exec red -- ip link set eth0 mtu 1500");
        lab.wait_for_port("red", "the MTU to be shown", |port| port.mtu_wanted.is_none());
        // What is said again is made so again.
        lab.ok(&format!("set port {name} --up"));
        let port = lab.port(name);
        assert_eq!((port.port.mtu, port.mtu_wanted), (Some(1500), None));
        assert!(run(&format!("ip -n {name} link show eth0")).contains("mtu 1500"));
        run(&format!("ip -n {name} link set eth0 mtu 1300"));
        lab.wait_for_port(name, "the MTU to be shown", |port| port.port.mtu == Some(1300));
        lab.stop_daemon();
        lab.start();
        let mtu = lab.port(name).port.mtu.unwrap();
        let shown = run(&format!("ip -n {name} link show eth0"));
        assert!(shown.contains(&format!("mtu {mtu} ")), "{mtu}, {shown}");
        run(&format!(
            "ip netns exec {name} ping -n -M do -s {} -c 1 -W 10 10.7.0.1",
            mtu - 28
        ));
        lab.ok(&format!("del-port {name}"));
    }
}

/// A MAC that others changed is shown with the one that was set, and told, as an MTU is.
#[test]
fn a_mac_changed_inside_is_shown_and_told() {
    const OTHER: &str = "02:00:00:00:00:77";
    let lab = Lab::new();
    for (name, kind) in [("v", "veth"), ("t", "tap")] {
        lab.ok(&format!("add-port {name} --type {kind} --addr 10.7.0.5/24"));
        let wanted = lab.port(name).port.mac.unwrap();
        run(&format!("ip -n {name} link set eth0 address {OTHER}"));
        lab.wait_for_port(name, "the MAC to be shown", |port| {
            port.port.mac.is_some_and(|mac| mac.to_string() == OTHER)
        });
        let told = format!("interface eth0 has the MAC {OTHER}, but was set to {wanted}");
        for shown in [
            lab.ok("port list"),
            lab.ok(&format!("port show {name}")),
            lab.ctl("doctor").stdout,
        ] {
            assert!(shown.contains(&told), "{shown}");
        }
        lab.ok(&format!("set port {name} --up"));
        let port = lab.port(name);
        assert_eq!((port.port.mac, port.reason), (Some(wanted), None));
        lab.ok(&format!("del-port {name}"));
    }
}

/// With a link that goes down the kernel takes its IPv6 addresses and its routes. What was taken away while it stayed up stays away.
#[test]
fn an_interface_that_was_down_gets_back_what_went_with_it() {
    let lab = Lab::new();
    for kind in ["veth", "tap", "internal"] {
        let place = match kind {
            "internal" => Place::Home,
            _ => Place::named("p"),
        };
        let ifname = if kind == "internal" { "p" } else { "eth0" };
        lab.ok(&format!(
            "add-port p --type {kind} --addr 10.7.0.1/24 --addr 10.7.1.1/24 --addr fd07::1/64"
        ));
        lab.ok("route add p 10.9.0.0/16 --via 10.7.0.9");
        lab.ok("route add p fd09::/64 --via fd07::9");
        for (to, via) in [("10.10.0.0/16", "10.7.0.9"), ("fd0a::/64", "fd07::9")] {
            lab.ok(&format!("route add p {to} --via {via}"));
        }
        let has = |what: &str| {
            let all = ["address show", "route show", "-6 route show"]
                .map(|list| place.run_ok(&format!("ip {list} dev {ifname}")));
            all.concat().contains(what)
        };
        place.run_ok(&format!("ip addr del 10.7.1.1/24 dev {ifname}"));
        for to in ["10.10.0.0/16", "fd0a::/64"] {
            place.run_ok(&format!("ip route del {to}"));
        }
        lab.wait_for_port("p", "what was taken away to be missed", |port| port.lacks.len() == 3);
        for _ in 0..2 {
            place.run_ok(&format!("ip link set {ifname} down"));
            lab.wait_for_state("p", PortState::NoCarrier);
            lab.wait_for_port("p", "what went with it to be shown", |port| {
                ["fd07::1/64", "10.9.0.0/16", "fd09::/64"]
                    .iter()
                    .all(|what| port.lacks.iter().any(|lack| lack.to_string().contains(what)))
            });
            assert!(lab.ok("route list").contains("10.9.0.0/16 (missing)"), "{kind}");
            place.run_ok(&format!("ip link set {ifname} up"));
            wait_for("what the interface had", || {
                ["fd07::1/64", "10.9.0.0/16 via 10.7.0.9", "fd09::/64 via fd07::9"]
                    .iter()
                    .all(|what| has(what))
            });
            for taken in ["10.7.1.1", "10.10.0.0/16", "fd0a::/64"] {
                assert!(!has(taken), "{kind}: {taken} was taken away by itself");
            }
        }
        // Nor is one given back that was taken away while the interface stayed up.
        place.run_ok(&format!("ip addr del fd07::1/64 dev {ifname}"));
        place.run_ok(&format!("ip link set {ifname} mtu 1400"));
        lab.wait_for_port("p", "the MTU to be shown", |port| port.port.mtu == Some(1400));
        assert!(!has("fd07::1/64"), "{kind}");
        lab.ok("set port p --up");
        for back in ["fd07::1/64", "10.7.1.1", "10.10.0.0/16", "fd0a::/64"] {
            assert!(has(back), "{kind}: {back}");
        }
        // What somebody gives back himself is not left to him for ever.
        for line in [
            "route del 10.10.0.0/16",
            "route add 10.10.0.0/16 via 10.7.0.9",
            "link set {} down",
            "link set {} up",
        ] {
            place.run_ok(&format!("ip {}", line.replace("{}", ifname)));
        }
        wait_for("the route to be back", || has("10.10.0.0/16"));
        lab.ok("del-port p");
    }
}

/// faults D6: a port whose interface was moved to another namespace goes on there, and is taken away wherever it is.
#[test]
fn an_interface_that_is_moved_is_followed_and_taken_away() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let gw: std::net::Ipv4Addr = "10.7.0.9".parse().unwrap();
    let home_file = format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid());
    let there = |place: &Place, name: &str| place.output(&format!("ip link show {name}")).status.success();
    for (kind, from, ifname) in [
        ("internal", None, "gw"),
        ("tap", Some("gw"), "eth0"),
        ("veth", Some("gw"), "eth0"),
    ] {
        run("ip netns add lxc");
        lab.ok(&format!("add-port gw --type {kind} --addr {gw}/24"));
        let home = from.map_or(Place::Home, Place::named);
        let lxc = Place::named("lxc");
        for restart in [false, true] {
            home.run_ok(&format!("ip link set {ifname} netns lxc"));
            lab.wait_for_port("gw", "the port to be shown where it is", |port| {
                port.port.named_namespace().is_some_and(|name| name.as_str() == "lxc") && port.state == PortState::Up
            });
            red.ping_soon(gw);
            assert!(there(&lxc, ifname));
            let way = request("GET", &format!("/v1/ports/gw/way?to={}", red.v4), "").json();
            assert_eq!(way["way"], "here", "{way}");
            assert!(lab.ok("port list").contains("lxc"));
            if restart {
                lab.kill_daemon();
                lab.start();
                lab.wait_for_state("gw", PortState::Up);
                red.ping_soon(gw);
                assert!(!there(&home, ifname), "there is one of it");
            }
            let back = from.map_or(home_file.clone(), str::to_owned);
            lxc.run_ok(&format!("ip link set {ifname} netns {back}"));
            lab.wait_for_port("gw", "the port to be back", |port| {
                port.moved_to.is_none() && port.state == PortState::Up
            });
            red.ping_soon(gw);
        }
        home.run_ok(&format!("ip link set {ifname} netns lxc"));
        lab.wait_for_port("gw", "the port to be shown where it is", |port| port.moved_to.is_some());
        lab.ok("del-port gw");
        assert!(!there(&lxc, ifname), "it is taken away from where it is");
        run("ip netns del lxc");
    }
}

/// faults A7: an interface that only was deleted is made again by itself, with all that it had.
#[test]
fn an_interface_that_was_deleted_comes_back_by_itself() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    for kind in [PortKind::Veth, PortKind::Tap, PortKind::Internal] {
        let station = Station::add(&lab, "other", kind, 2);
        let mac = station.mac();
        red.ping_soon(station.v4);
        for _ in 0..2 {
            station.place.run_ok(&format!("ip link del {}", station.ifname));
            wait_for("the interface to be back", || {
                station
                    .place
                    .output(&format!("ip link show {}", station.ifname))
                    .status
                    .success()
            });
            lab.wait_for_state("other", PortState::Up);
            red.ping_soon(station.v4);
            assert_eq!(station.mac(), mac);
        }
        lab.ok("del-port other");
    }
}

/// One that somebody deletes again and again is made ever later: the reason says when.
#[test]
fn when_a_port_is_tried_again_is_told() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let red = Place::named("red");
    // At once, then after 1, 2 and 4 s.
    for _ in 0..4 {
        wait_for("an interface to be deleted", || {
            red.output("ip link del eth0").status.success()
        });
    }
    lab.wait_for_port("red", "when it is tried again", |port| {
        port.reason
            .as_ref()
            .is_some_and(|reason| reason.contains("it is tried again in "))
    });
    lab.wait_for_state("red", PortState::Up);
}

/// faults, small: names and aliases that a namespace's own root chose neither steer the terminal nor hide an interface, nor hang the daemon.
#[test]
fn hostile_interface_names_are_shown_and_do_no_harm() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    // What `ip` would not do: the names and aliases as bytes.
    for (name, bytes) in [("esc", &b"\x1b[31mred"[..]), ("bad", b"a\xff\xfeb")] {
        red.place
            .run_ok(&format!("ip link add {name} type veth peer name {name}-peer"));
        ip(&red.place, &[b"link", b"set", name.as_bytes(), b"name", bytes]);
    }
    for station in [&red, &blue] {
        ip(
            &station.place,
            &[b"link", b"set", b"eth0", b"alias", b"\xff\xfe\x1b[2J"],
        );
    }
    let shown = lab.ok("ns show red");
    assert!(!shown.contains('\x1b') && shown.contains("\\u{1b}[31mred"), "{shown}");
    assert!(shown.contains("a\\xff\\xfeb"), "{shown}");
    let view: NamespaceView = lab.json("ns show red");
    assert!(view.links.iter().any(|link| link.name == "\x1b[31mred"));
    assert!(view.links.iter().any(|link| link.name == "a\\xff\\xfeb"));
    // And the ports are what they were, over a restart too.
    lab.ok("set port red --mtu 1400");
    lab.ok("set port blue --mtu 1400");
    lab.stop_daemon();
    lab.start();
    red.ping_soon(blue.v4);
    for name in ["red", "blue"] {
        let place = Place::named(name);
        ip(&place, &[b"link", b"set", b"eth0", b"down"]);
        ip(&place, &[b"link", b"set", b"eth0", b"name", b"\x1b[2J\xff"]);
        lab.ok(&format!("set port {name} --mtu 1500"));
        let list = lab.ok("port list") + &lab.ok(&format!("port show {name}"));
        assert!(!list.contains('\x1b'), "{list}");
        lab.ok(&format!("del-port {name}"));
    }
    lab.ok("reset --yes");
    assert_eq!(run("ip netns list"), "");
}

/// It got the port's addresses, and went with the port.
#[test]
fn a_tap_device_that_only_has_the_name_is_left_alone() {
    let mut lab = Lab::new();
    let red = Place::named("red");
    run("ip netns add red");
    lab.ok("add-port red --type tap --addr 10.7.0.2/24");
    lab.kill_daemon();
    red.run_ok("ip link del eth0");
    red.run_ok("ip tuntap add dev eth0 mode tap multi_queue");
    red.run_ok("ip addr add 192.0.2.1/24 dev eth0");
    let look = || red.run_ok("ip -d -o link show eth0") + &red.run_ok("ip -br addr show eth0");
    let before = look();
    lab.start();
    lab.wait_for_port("red", "the other one to be seen", |port| {
        let reason = port.reason.as_deref().unwrap_or_default();
        port.state == PortState::Missing && reason.contains("has an interface eth0 already")
    });
    assert_eq!(look(), before);
    lab.ok("del-port red");
    assert_eq!(look(), before);
}
