//! Many ports: what other switches stop at (a Linux bridge at 1,024) or slow down with.

use std::fs;
use std::thread;

use vswitch_testing::api::view::PortState;
use vswitch_testing::{Lab, Place, run, wait_for};

/// A lab file with `count` ports, in namespaces of their own or all in one.
fn many(count: usize, kind: &str, shared_namespace: bool) -> String {
    (0..count)
        .map(|n| {
            let (ns, ifname) = if shared_namespace { ("many".into(), format!("eth{n}")) } else { (format!("p{n}"), "eth0".into()) };
            let (high, low) = (n / 250, n % 250 + 1);
            let addresses = if shared_namespace { String::new() } else { format!("addresses = [\"10.7.{high}.{low}/16\"]\n") };
            format!("[[ports]]\nname = \"p{n}\"\nkind = \"{kind}\"\nnamespace = \"{ns}\"\nifname = \"{ifname}\"\n{addresses}\n")
        })
        .collect()
}

#[test]
fn a_hundred_ports_added_one_by_one_all_reach_the_host() {
    let lab = Lab::new();
    lab.ok("add-port gw --type internal --addr 10.7.99.99/16");
    for n in 0..100 {
        let kind = if n % 2 == 0 { "veth" } else { "tap" };
        lab.ok(&format!("add-port p{n} --type {kind} --addr 10.7.0.{}/16", n + 1));
    }
    ping_all(100, |_| "10.7.99.99".into());
    assert_eq!(lab.switch("main").ports.len(), 101);
    for n in 0..100 {
        lab.ok(&format!("del-port p{n}"));
    }
    assert_eq!(run("ip netns list"), "");
}

#[test]
fn two_hundred_ports_all_reach_their_neighbour() {
    let lab = Lab::new();
    lab.ok(&format!("apply {}", lab.lab_file(&many(200, "veth", false))));
    ping_all(200, |n| format!("10.7.0.{}", (n + 1) % 200 + 1));
}

/// In each of the namespaces p0, p1, ... one ping to the address for it; a few at a time.
fn ping_all(count: usize, to: impl Fn(usize) -> String + Sync) {
    const AT_A_TIME: usize = 8;
    thread::scope(|scope| {
        for first in 0..AT_A_TIME {
            let to = &to;
            scope.spawn(move || {
                for n in (first..count).step_by(AT_A_TIME) {
                    Place::named(&format!("p{n}")).run_ok(&format!("ping -n -c 1 -W 10 {}", to(n)));
                }
            });
        }
    });
}

#[test]
fn more_than_1024_ports_on_one_switch() {
    let lab = Lab::new();
    // 1,100 interfaces that all look for IPv6 routers at once, flooded to 1,100 ports, are ten million frames:
    // a test of patience, not of the number of ports.
    run("ip netns add many");
    let quiet = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    Place::named("many").run(|| fs::write(quiet, "1")).unwrap();
    lab.ok(&format!("apply {}", lab.lab_file(&many(1100, "tap", true))));
    lab.ok("add-port left --addr 10.9.0.1/24");
    lab.ok("add-port right --addr 10.9.0.2/24");
    lab.ok("ns exec left -- ping -n -c 1 -W 10 10.9.0.2");
    wait_for("all ports to be up", || {
        let ports = lab.ports();
        let up = ports.iter().filter(|port| port.state == PortState::Up).count();
        if up == 1102 {
            Ok(())
        } else {
            Err(format!("{up} of {} ports are up", ports.len()))
        }
    });
    // A broadcast (the ARP request of the ping) reached the last of them as well.
    assert!(lab.port("p1099").counters.tx_frames > 0);
}
