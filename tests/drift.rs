//! What is only called otherwise, or lies elsewhere, is followed, and what was taken away or changed behind the daemon's back is told of
//! and made again: interfaces that are renamed, moved, deleted or set otherwise.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::{Duration, Instant};

use vswitch_api::PortKind;
use vswitch_api::view::{Changes, NamespaceView, PortState};
use vswitch_tests::lab::Lab;
use vswitch_tests::netns::{Place, run};
use vswitch_tests::station::{Station, make_device};
use vswitch_tests::wait::wait_for;

/// `ip` with words that are no text.
#[track_caller]
fn ip(place: &Place, words: &[&[u8]]) {
    let status = place.run(|| {
        Command::new("ip")
            .args(words.iter().map(|word| OsStr::from_bytes(word)))
            .status()
    });
    assert!(status.unwrap().success(), "{words:?}");
}

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

/// faults F6: a device that was taken over is given back as it was, whatever it is called by then.
#[test]
fn a_renamed_device_is_shown_and_given_back() {
    let mut lab = Lab::new();
    for restart in [false, true] {
        make_device("v0");
        run("ip link set v0 mtu 1400");
        let look = |name: &str| {
            let link = run(&format!("ip -d -o link show {name}"));
            let promiscuous = link.contains("promiscuity 1");
            let filters = run(&format!("tc filter show dev {name} ingress"));
            (
                run(&format!("tc qdisc show dev {name}")),
                promiscuous,
                link.contains("mtu 1400"),
                filters,
            )
        };
        let before = look("v0");
        lab.ok("add-port v0 --type device --mtu 1300");
        run("ip link set v0 down");
        run("ip link set v0 name wan0");
        run("ip link set wan0 up");
        lab.wait_for_port("v0", "the new name", |port| {
            port.port.ifname.as_ref().is_some_and(|name| name.as_str() == "wan0") && port.state == PortState::Up
        });
        if restart {
            lab.kill_daemon();
            lab.start();
            lab.wait_for_port("v0", "the device to be known", |port| {
                port.port.ifname.as_ref().is_some_and(|name| name.as_str() == "wan0") && port.state == PortState::Up
            });
        }
        lab.ok("del-port v0");
        wait_for("the device to be as before", || look("wan0") == before);
        run("ip link del wan0");
    }
}

/// faults D12: whoever is behind a device sees that the port is down.
#[test]
fn a_device_that_is_set_down_takes_the_carrier_from_its_far_end() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let device = Station::add(&lab, "device", PortKind::Device, 2);
    let carrier = || device.place.run_ok("ip link show eth0").contains("LOWER_UP");
    red.ping_soon(device.v4);
    lab.ok("set port device --down");
    wait_for("the carrier to go", || !carrier());
    lab.stop_daemon();
    lab.start();
    assert_eq!(lab.port("device").state, PortState::Down);
    assert!(!carrier());
    lab.ok("set port device --up");
    lab.wait_for_state("device", PortState::Up);
    wait_for("the carrier to be back", carrier);
    red.ping_soon(device.v4);
    lab.ok("set port device --down");
    lab.ok("del-port device");
    wait_for("the device to be up as it was", carrier);
}

/// faults D12: a driver that keeps its carrier is told of.
#[test]
fn a_device_that_keeps_its_carrier_is_told_of() {
    let lab = Lab::new();
    run("ip tuntap add dev guest mode tap");
    run("ip link set guest up");
    lab.ok("add-port guest --type device");
    let changes: Changes = lab.json("set port guest --down");
    let kept = run("cat /sys/class/net/guest/operstate");
    assert_eq!(
        changes.warnings.iter().any(|line| line.contains("carrier")),
        kept.trim() != "down",
        "{changes:?} {kept}"
    );
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

/// faults A7: what `apply` says is there afterwards is there, and what it mended is told.
#[test]
fn apply_repairs_what_drifted_and_tells_of_it() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --gateway 10.7.0.2");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24");
    lab.ok("ns add empty");
    lab.ok("cable red empty");
    let export = lab.ok("export");
    let file = lab.lab_file(&export);
    let apply = || lab.json::<Changes>(&format!("apply {file}"));
    assert_eq!(apply(), Changes::default(), "nothing has drifted");

    run("ip -n red addr del 10.7.0.1/24 dev eth0");
    run("ip -n blue link set eth0 down");
    run("ip -n empty link del eth0");
    let planned: Changes = lab.json(&format!("apply --dry-run {file}"));
    let done = apply().done;
    assert_eq!(planned.done, done);
    for word in ["10.7.0.1/24", "route to 0.0.0.0/0", "blue", "cable"] {
        assert!(
            done.iter()
                .any(|line| line.starts_with("repaired: ") && line.contains(word)),
            "{word}: {done:?}"
        );
    }
    run("ip netns exec red ping -n -c 1 -W 10 10.7.0.2");
    assert!(run("ip -n red route").contains("default via 10.7.0.2"));
    assert_eq!(apply(), Changes::default());

    for name in ["red", "empty"] {
        run(&format!("ip netns del {name}"));
    }
    lab.wait_for_state("red", PortState::Missing);
    let done = apply().done;
    assert!(
        done.iter().any(|line| line == "repaired: created namespace red again"),
        "{done:?}"
    );
    assert_eq!(lab.port("red").state, PortState::Up);
    run("ip netns exec red ping -n -c 1 -W 10 10.7.0.2");
    assert!(run("ip netns list").contains("empty"));
    assert_eq!(apply(), Changes::default());
    assert_eq!(lab.ok("export"), export);
}

/// faults, small: `set port --up` does not say that all is well while it is not.
#[test]
fn a_port_that_stays_missing_is_not_set_up_in_silence() {
    let lab = Lab::new();
    make_device("device");
    lab.ok("add-port device --type device");
    run("ip link del device");
    lab.wait_for_state("device", PortState::Missing);
    let failed = lab.ctl("set port device --up");
    assert_ne!(failed.code, 0, "{failed}");
    make_device("device");
    lab.wait_for_state("device", PortState::Up);
    lab.ok("set port device --up");
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

/// What a cable has is looked at as closely as what a port has.
#[test]
fn apply_gives_a_cable_back_what_it_lost() {
    let lab = Lab::new();
    lab.ok("cable red blue --mtu 1400 --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24 --route-a 10.8.0.0/16,10.9.0.2");
    let file = lab.lab_file(&lab.ok("export"));
    let apply = || lab.json::<Changes>(&format!("apply {file}"));
    assert_eq!(apply(), Changes::default(), "nothing has drifted");
    run("ip -n red link set eth0 mtu 1300");
    run("ip -n red addr del 10.9.0.1/24 dev eth0");
    run("ip -n blue link set eth0 down");
    let planned: Changes = lab.json(&format!("apply --dry-run {file}"));
    let done = apply().done;
    assert_eq!(planned.done, done);
    for word in [
        "MTU of 1400 in namespace red",
        "10.9.0.1/24",
        "route to 10.8.0.0/16",
        "up in namespace blue",
    ] {
        assert!(done.iter().any(|line| line.contains(word)), "{word}: {done:?}");
    }
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
    assert_eq!(apply(), Changes::default());
}

/// A cable that could not be laid, here for want of descriptors, is laid by itself as soon as that can be.
#[test]
fn a_cable_that_could_not_be_laid_is_tried_again() {
    let mut lab = Lab::new();
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    let pid = lab.daemon().pid();
    let limit = |files: usize| run(&format!("prlimit --pid {pid} --nofile={files}:1024"));
    let open = lab.daemon().open_files();
    run("ip netns del blue");
    limit(open + 2);
    run("ip netns add blue");
    // With so few descriptors it says that it tried in vain, or can't even look, of which it says nothing: its next looks are within 3 s.
    let end = Instant::now() + Duration::from_secs(3);
    while !lab.daemon().log().contains("a cable is still missing") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!run("ip -n blue -br link").contains("eth0"));
    limit(1024);
    wait_for("the cable to be laid", || run("ip -n blue -br link").contains("eth0"));
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
}

/// An end of a cable is known by what it is too.
#[test]
fn a_cable_whose_ends_were_renamed_is_adopted_and_taken_away() {
    let mut lab = Lab::new();
    for name in ["red", "blue"] {
        lab.ok(&format!("ns add {name}"));
    }
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    for name in ["red", "blue"] {
        run(&format!("ip -n {name} link set eth0 down"));
        run(&format!("ip -n {name} link set eth0 name lan0"));
        run(&format!("ip -n {name} link set lan0 up"));
    }
    lab.kill_daemon();
    lab.start();
    assert!(!run("ip -n red -br link").contains("eth0"));
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
    lab.ok("cable del red blue");
    for name in ["red", "blue"] {
        assert!(!run(&format!("ip -n {name} -br link")).contains("lan0"));
    }
}

/// The switch's own side of a port, where root can reach it.
#[test]
fn apply_repairs_the_switchs_side_of_a_port() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let dev = Station::add(&lab, "wan", PortKind::Device, 2);
    let file = lab.lab_file(&lab.ok("export"));
    let apply = || lab.json::<Changes>(&format!("apply {file}")).done;
    let own = Place::daemons_own();
    let index = run("cat /sys/class/net/wan/ifindex");
    let beside = format!("vs-{}", index.trim());
    red.ping(dev.v4);
    assert_eq!(apply(), Vec::<String>::new(), "nothing has drifted");
    let mut cases: Vec<(&Place, String, &str)> = vec![
        (&own, "ip link set red down".to_owned(), "a near end that is up"),
        (&own, "ip link set red mtu 1000".to_owned(), "the MTU of its near end"),
        (
            &Place::Home,
            "ip link set wan down".to_owned(),
            "an interface that is up",
        ),
    ];
    if vswitch_tests::lab::fastpath_wanted() {
        cases.push((&Place::Home, format!("ip link set {beside} down"), "beside it"));
        cases.push((
            &Place::Home,
            "ip link set wan promisc off".to_owned(),
            "takes all frames",
        ));
    }
    for (place, harm, word) in cases {
        place.run_ok(&harm);
        let done = apply();
        assert!(done.iter().any(|line| line.contains(word)), "{harm}: {done:?}");
        red.place.run_ok(&format!("ping -n -c 1 -W 10 -s 1400 {}", dev.v4));
        assert_eq!(apply(), Vec::<String>::new(), "after {harm}");
    }
    if vswitch_tests::lab::fastpath_wanted() {
        // By itself, as nothing passes without it.
        run(&format!("ip link del {beside}"));
        wait_for("the way to the device to be laid again", || red.reaches(dev.v4));
        lab.wait_for_state("wan", PortState::Up);
    }
    lab.ok("del-port wan");
    assert!(!run("ip -br link").contains("vs-"));
}

/// A device that comes back as another, and has the host's address by now, is not taken from the host again.
#[test]
fn a_device_that_the_host_uses_when_it_comes_back_is_left_to_the_host() {
    let mut lab = Lab::new();
    make_device("wan");
    lab.ok("add-port wan --type device");
    let come_back = || {
        // It has its address when it is first seen by this name.
        run("ip link add other type veth peer name wanp");
        run("ip addr add 192.0.2.1/24 dev other");
        run("ip link set other name wan");
        run("ip link set wanp up");
        run("ip link set wan up");
    };
    run("ip link del wan");
    lab.wait_for_state("wan", PortState::Missing);
    come_back();
    let reason = || lab.port("wan").reason.unwrap_or_default();
    wait_for("it to be looked at", || reason().contains("192.0.2.1/24"));
    assert!(!run("ip -d link show wan").contains("promiscuity 1"));
    lab.stop_daemon();
    lab.start();
    let port = lab.port("wan");
    assert_eq!(port.state, PortState::Missing);
    assert!(port.reason.unwrap().contains("192.0.2.1/24"));
    run("ip addr del 192.0.2.1/24 dev wan");
    lab.ok("set port wan --up");
    wait_for("it to be taken", || {
        lab.ctl("add-port wan --type device --if-not-exists").code == 0 && lab.port("wan").state == PortState::Up
    });
    // Taken over by force it may come back so.
    lab.ok("del-port wan");
    run("ip link del wan");
    come_back();
    lab.ok("add-port wan --type device --force");
    run("ip link del wan");
    lab.wait_for_state("wan", PortState::Missing);
    come_back();
    lab.wait_for_state("wan", PortState::Up);
}

/// A device that somebody has moved to another namespace gets back there what the switch had set.
#[test]
fn a_device_that_was_moved_away_is_given_back_where_it_is() {
    let lab = Lab::new();
    make_device("wan");
    run("ip netns add elsewhere");
    lab.ok("add-port wan --type device");
    run("ip link set wan netns elsewhere");
    lab.wait_for_state("wan", PortState::Missing);
    lab.ok("del-port wan");
    assert!(run("ip -n elsewhere -d link show wan").contains("promiscuity 0"));
}
