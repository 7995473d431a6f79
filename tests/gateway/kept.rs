//! What the host does for gateways stays, whatever others take away.

use std::fs;

use etherparse::PacketBuilder;
use vswitch_testing::raw::RawSocket;

use super::*;

const TABLE: &str = "nft list table inet vswitch";

/// The rules keep switches and stations apart from the world: without them all that forwards would forward for everybody.
#[test]
fn rules_that_somebody_flushes_are_back_soon() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    Place::named("world").run_ok("ip route add 10.10.0.0/24 via 203.0.113.1");
    let whole = run(TABLE);
    for line in [
        "flush table inet vswitch",
        "flush chain inet vswitch pass",
        "insert rule inet vswitch pass accept",
        "delete chain inet vswitch publish",
    ] {
        run(&format!("nft {line}"));
        assert_ne!(run(TABLE), whole, "{line}");
        wait_for(line, || match run(TABLE) {
            now if now == whole => Ok(()),
            now => Err(now),
        });
    }
    never_pings("world", "10.10.0.2");
    pings("red", "203.0.113.2");
    // Who does not want to wait is told by apply.
    let file = lab.scratch().join("export.toml");
    fs::write(&file, lab.ok("export")).unwrap();
    wait_for("apply to tell of it", || {
        run("nft flush table inet vswitch");
        let told = lab.ok(&format!("apply -n {}", file.display()));
        match told.contains("the table inet vswitch of nftables") {
            true => Ok(()),
            false => Err(told),
        }
    });
    lab.ok(&format!("apply --yes {}", file.display()));
    assert_eq!(run(TABLE), whole);
}

/// The note of what forwarding was says what the table has to narrow down, and what comes back.
#[test]
fn what_forwarding_was_is_known_without_the_run_directory() {
    const NOTE: &str = "/run/vswitch/forwarding.json";
    let mut lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    let narrowed = || run(TABLE).contains("iifname \"up0\" oifgroup");
    assert!(narrowed());
    // Of one that runs...
    let note = fs::read(NOTE).unwrap();
    fs::remove_file(NOTE).unwrap();
    wait_for("the note to come back", || fs::read(NOTE).is_ok_and(|now| now == note));
    fs::remove_file(NOTE).unwrap();
    lab.ok("switch add other --subnet 10.20.0.0/24 --gateway --nat");
    assert!(narrowed(), "{}", run(TABLE));
    // ...and of one that is killed.
    lab.kill_daemon();
    fs::remove_file(NOTE).unwrap();
    lab.start();
    assert!(narrowed(), "{}", run(TABLE));
    lab.ok("reset --yes");
    assert!(!forwards("up0"));
    for left in [NOTE, "/var/lib/vswitch/forwarding.json"] {
        assert!(!fs::exists(left).unwrap(), "{left}");
    }
}

/// Its forwarding was noted by the name that it had, and stayed on for everybody.
#[test]
fn an_uplink_that_is_renamed_while_no_daemon_runs_gets_back_what_it_had() {
    let mut lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.kill_daemon();
    for line in ["down", "name wan0", "up"] {
        let name = if line == "up" { "wan0" } else { "up0" };
        run(&format!("ip link set {name} {line}"));
    }
    run("ip route add default via 203.0.113.2");
    lab.start();
    wait_for("the uplink to be narrowed down", || match run(TABLE) {
        table if table.contains("iifname \"wan0\" oifgroup") => Ok(()),
        table => Err(table),
    });
    lab.ok("reset --yes");
    assert!(!forwards("wan0"));
}

/// What the host is told by router advertisements goes in the kernel when one of its interfaces begins to forward.
#[test]
fn the_host_keeps_the_default_route_that_a_router_told_it() {
    let lab = Lab::new();
    world();
    run("ip -6 route del default");
    run("sysctl -qw net.ipv6.conf.up0.accept_ra=1");
    let socket = RawSocket::open(&Place::named("world"), "eth0", false);
    let mut advertisement = Vec::new();
    // Hop limit, flags, half an hour; times that are not said (RFC 4861 section 4.2).
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1])
        .ipv6(
            "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            "ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets(),
            255,
        )
        .icmpv6_raw(134, 0, [64, 0, 7, 8])
        .write(&mut advertisement, &[0; 8])
        .unwrap();
    let has_route = || run("ip -6 route show default").contains("proto ra");
    wait_for("the route by the advertisement", || {
        socket.send(&advertisement);
        has_route()
    });
    let accepts = || run("sysctl -n net.ipv6.conf.up0.accept_ra");
    lab.ok(&format!("{LAB} --nat"));
    assert!(has_route());
    // Made again, and turned off and on.
    run("ip link del lab-gw");
    let forwards = || Place::Home.output("sysctl -n net.ipv6.conf.lab-gw.forwarding").stdout == b"1\n";
    wait_for("the gateway to forward again", forwards);
    run("sysctl -qw net.ipv6.conf.lab-gw.forwarding=0");
    wait_for("the gateway to forward again", forwards);
    assert!(has_route());
    lab.ok("set switch lab nat=off");
    lab.ok("set switch lab nat=on");
    assert!(has_route());
    assert_eq!(accepts().trim(), "1");
    // Nor is one that comes later refused.
    run("ip -6 route flush proto ra");
    wait_for("the route by the next advertisement", || {
        socket.send(&advertisement);
        has_route()
    });
}

/// Its leg was in another namespace, nobody got anywhere, and all reports said OK.
#[test]
fn a_gateway_that_was_moved_away_is_told_with_what_brings_it_back() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    pings("red", "203.0.113.2");
    run("ip netns add lxc");
    run("ip link set lab-gw netns lxc");
    let words = "the gateway of switch \"lab\" is in namespace lxc";
    let limits = || lab.json::<Value>("status")["limits"].to_string();
    wait_for("the status to tell of it", || match limits() {
        told if told.contains("is in namespace lxc") => Ok(()),
        told => Err(told),
    });
    let items: Vec<Value> = lab.ctl("--json doctor").json();
    let told = |item: &&Value| item["what"] == "host" && item["detail"].to_string().contains("in namespace lxc");
    let item = items.iter().find(told).unwrap_or_else(|| panic!("{items:?}"));
    assert!(item["detail"].as_str().unwrap().starts_with(words), "{item}");
    lab.ok(item["mend"].as_str().unwrap().strip_prefix("vswitchctl ").unwrap());
    pings("red", "203.0.113.2");
    wait_for("nothing to be told", || match limits() {
        told if told.contains("in namespace lxc") => Err(told),
        _ => Ok(()),
    });
}
