//! Whoever is gone is gone: namespaces that end are let go, whatever is in them, and what they had is back when they are.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use vswitch_api::view::{Changes, PortState};
use vswitch_api::{CableView, PortKind};
use vswitch_testing::container::{Canary, Container};
use vswitch_testing::lab::Lab;
use vswitch_testing::netns::{Place, run};
use vswitch_testing::station::Station;
use vswitch_testing::wait::wait_for;

fn make_netns_folder() {
    run("ip netns add first");
    run("ip netns del first");
}

/// faults D1, D2: a namespace by way of a link to a process ends with the process, whatever kind of port is in it, and the port comes back
/// when the link leads to another process.
#[test]
fn a_namespace_whose_process_ended_is_let_go_and_its_port_is_back_with_the_next_process() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    make_netns_folder();
    for (kind, restart) in [("tap", false), ("veth", false), ("tap", true), ("veth", true)] {
        let link = Path::new("/run/netns/web");
        let container = Container::start();
        symlink(container.file(), link).unwrap();
        lab.ok(&format!("add-port web --type {kind} --addr 10.7.0.9/24"));
        let web: std::net::Ipv4Addr = "10.7.0.9".parse().unwrap();
        red.ping_soon(web);
        let mac = lab.port("web").port.mac;
        if restart {
            lab.stop_daemon();
            lab.start();
            red.ping_soon(web);
        }
        let canary = Canary::put_into(&container, "canary-far");
        drop(container);
        lab.wait_for_state("web", PortState::Missing);
        canary.wait_until_gone();
        assert!(!red.reaches(web));
        // What is asked of a port that is not there is told so.
        let changes: Changes = lab.json("addr add web 10.7.0.10/24");
        assert!(
            changes.warnings.iter().any(|line| line.contains("missing")),
            "{changes:?}"
        );
        lab.ctl("set port web --up").failed(4, &["web"]);

        let container = Container::start();
        fs::remove_file(link).unwrap();
        symlink(container.file(), link).unwrap();
        lab.wait_for_state("web", PortState::Up);
        red.ping_soon(web);
        red.ping_soon("10.7.0.10".parse::<std::net::Ipv4Addr>().unwrap());
        assert_eq!(lab.port("web").port.mac, mac);
        lab.ok("del-port web");
        fs::remove_file(link).unwrap();
    }
    assert!(!lab.daemon().log().contains("can't undo"), "{}", lab.daemon().log());
}

/// faults D1: the same by way of a file elsewhere that the namespace is mounted on, as Docker has it.
#[test]
fn a_namespace_mounted_elsewhere_is_let_go_with_its_mount() {
    let lab = Lab::new();
    make_netns_folder();
    let file = "/run/container-netns";
    fs::write(file, "").unwrap();
    symlink(file, "/run/netns/web").unwrap();
    for kind in ["tap", "veth"] {
        let container = Container::start();
        run(&format!("mount --bind {} {file}", container.file()));
        lab.ok(&format!("add-port web --type {kind} --addr 10.7.0.9/24"));
        let canary = Canary::put_into(&container, "canary-far");
        drop(container);
        assert_eq!(lab.port("web").state, PortState::Up, "the mount keeps it");
        run(&format!("umount {file}"));
        lab.wait_for_state("web", PortState::Missing);
        canary.wait_until_gone();
        let container = Container::start();
        run(&format!("mount --bind {} {file}", container.file()));
        lab.wait_for_state("web", PortState::Up);
        lab.ok("del-port web");
        run(&format!("umount {file}"));
    }
}

/// A name that goes does not take a namespace away from the processes in it; the port goes with the last of them.
#[test]
fn a_namespace_without_a_name_is_served_as_long_as_a_process_lives_in_it() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    make_netns_folder();
    for kind in ["tap", "veth"] {
        let (first, web) = (Container::start(), "10.7.0.9".parse::<std::net::Ipv4Addr>().unwrap());
        symlink(first.file(), "/run/netns/web").unwrap();
        lab.ok(&format!("add-port web --type {kind} --addr {web}/24"));
        let id = first.inode();
        let second = Command::new("nsenter")
            .args(["--net=/run/netns/web", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn();
        let second = Container::of(second.unwrap());
        wait_for("the second process to be there", || second.inode() == id);
        let canary = Canary::put_into(&first, "canary-far");
        drop(first);
        fs::remove_file("/run/netns/web").unwrap();
        for _ in 0..3 {
            red.ping_soon(web);
        }
        drop(second);
        lab.wait_for_state("web", PortState::Missing);
        canary.wait_until_gone();
        lab.ok("del-port web");
    }
}

/// At once, whether the daemon has noticed or not; and into a namespace that has no name.
#[test]
fn what_was_moved_is_taken_away_though_nobody_has_noticed_yet() {
    let lab = Lab::new();
    let container = Container::start();
    let pid = container.pid();
    for kind in ["internal", "tap"] {
        lab.ok(&format!("add-port gw --type {kind} --name gw0"));
        let home = if kind == "tap" { Place::named("gw") } else { Place::Home };
        home.run_ok(&format!("ip link set gw0 netns {pid}"));
        lab.ok("del-port gw");
        let links = run(&format!("nsenter --net={} ip -br link", container.file()));
        assert!(!links.contains("gw0"), "{links}");
    }
}

/// faults A7: a namespace that was deleted elsewhere is made again when it is asked for.
#[test]
fn a_namespace_deleted_elsewhere_is_made_again_when_it_is_asked_for() {
    let lab = Lab::new();
    lab.ok("ns add blue");
    lab.ok("add-port red");
    for name in ["blue", "red"] {
        run(&format!("ip netns del {name}"));
        let changes: Changes = lab.json(&format!("ns add {name}"));
        assert!(changes.done.iter().any(|line| line.contains(name)), "{changes:?}");
        assert!(run("ip netns list").contains(name));
    }
    // Its port is back by then.
    for _ in 0..5 {
        assert_eq!(lab.port("red").state, PortState::Up);
        run("ip netns del red");
        lab.wait_for_state("red", PortState::Missing);
        lab.ok("ns add red");
    }
    assert_eq!(lab.port("red").state, PortState::Up);
    lab.ok("reset --yes");
    assert_eq!(run("ip netns list"), "");
}

/// A container that ends takes what was moved into it along; the port is made again where it was made before, also if the daemon that moved
/// it has ended in between.
#[test]
fn what_was_moved_into_a_container_is_back_when_the_container_ends() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    for (kind, restart) in [("internal", false), ("internal", true), ("tap", true), ("veth", false)] {
        lab.ok(&format!("add-port gw --type {kind} --name gw0 --addr 10.7.0.9/24"));
        let home = if kind == "internal" {
            Place::Home
        } else {
            Place::named("gw")
        };
        let container = Container::start();
        let canary = Canary::put_into(&container, "canary-far");
        home.run_ok(&format!("ip link set gw0 netns {}", container.pid()));
        let gw: std::net::Ipv4Addr = "10.7.0.9".parse().unwrap();
        lab.wait_for_port("gw", "the port to be shown where it is", |port| port.moved_to.is_some());
        if restart {
            lab.kill_daemon();
            lab.start();
            assert!(lab.port("gw").moved_to.is_some(), "{:?}", lab.port("gw"));
        }
        red.ping_soon(gw);
        drop(container);
        canary.wait_until_gone();
        lab.wait_for_port("gw", "the port to be back", |port| {
            port.moved_to.is_none() && port.state == PortState::Up
        });
        red.ping_soon(gw);
        home.run_ok("ip link show gw0");
        lab.ok("del-port gw");
    }
}

/// A name that leads to another namespace by now: nothing of the port stays in the one of before.
#[test]
fn a_port_whose_name_leads_elsewhere_leaves_nothing_behind() {
    let lab = Lab::new();
    make_netns_folder();
    for kind in ["tap", "veth"] {
        let (first, second) = (Container::start(), Container::start());
        let link = Path::new("/run/netns/web");
        symlink(first.file(), link).unwrap();
        lab.ok(&format!("add-port web --type {kind} --addr 10.7.0.9/24"));
        let links = |container: &Container| run(&format!("nsenter --net={} ip -br link", container.file()));
        assert!(links(&first).contains("eth0"));
        fs::remove_file(link).unwrap();
        symlink(second.file(), link).unwrap();
        wait_for("the port to be where the name leads", || {
            links(&second).contains("eth0")
        });
        wait_for("nothing to be left", || !links(&first).contains("eth0"));
        lab.ok("del-port web");
        assert!(!links(&second).contains("eth0"));
        fs::remove_file(link).unwrap();
    }
}

/// A cable of which half was gone looked as ever, and its namespace was listed and not known.
#[test]
fn a_cable_without_one_of_its_namespaces_is_shown_as_missing() {
    let lab = Lab::new();
    make_netns_folder();
    let container = Container::start();
    symlink(container.file(), "/run/netns/web").unwrap();
    lab.ok("cable web blue");
    let state = || {
        let cables: Vec<CableView> = lab.json("cable list");
        (cables[0].state, cables[0].reason.clone().unwrap_or_default())
    };
    assert_eq!(state(), (PortState::Up, String::new()));
    run("ip -n blue link set eth0 down");
    assert_eq!(state().0, PortState::NoCarrier);
    drop(container);
    wait_for("the cable to be missing", || match state() {
        (PortState::Missing, why) if why.contains("gone") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let list = lab.ok("cable list");
    assert!(list.contains("STATE") && list.contains("missing"), "{list}");
    let one = lab.ok("ns show web");
    assert!(one.contains("namespace web") && one.contains("missing"), "{one}");
}
