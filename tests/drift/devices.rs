//! Devices that were taken over.

use vswitch_api::PortKind;
use vswitch_api::view::{Changes, PortState};
use vswitch_testing::lab::Lab;
use vswitch_testing::netns::run;
use vswitch_testing::station::{Station, make_device};
use vswitch_testing::wait::wait_for;

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

/// Bare IP packets are no frames: the first 14 bytes of each would be taken for addresses.
#[test]
fn what_carries_no_ethernet_is_not_taken_over() {
    let lab = Lab::new();
    run("ip tuntap add tun9 mode tun");
    lab.ctl("add-port vpn --type device --name tun9")
        .failed(2, &["interface tun9 carries no Ethernet frames", "--type internal"]);
    lab.ctl("add-port vpn --type device --name tun9 --dry-run")
        .failed(2, &["carries no Ethernet frames"]);
    assert!(lab.ports().is_empty());
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

/// What is known of a device is of that device: a port that takes another one gives the first back, and the other in the end, also
/// after a start and under another name.
#[test]
fn a_port_that_takes_another_device_gives_both_back() {
    let mut lab = Lab::new();
    for name in ["va", "vb"] {
        make_device(name);
    }
    let look = |name: &str| {
        let link = run(&format!("ip -d -o link show {name}"));
        let link = ["mtu 1500", "promiscuity 0", "UP"].map(|word| link.contains(word));
        (link, run(&format!("tc filter show dev {name} ingress")))
    };
    let before = ["va", "vb"].map(look);
    for restart in [false, true] {
        let again = |lab: &mut Lab| {
            if restart {
                lab.stop_daemon();
                lab.start();
            }
        };
        lab.ok("add-port p --type device --name va --mtu 1400");
        lab.ok("set port p --name vb");
        again(&mut lab);
        lab.wait_for_port("p", "the other device", |port| {
            port.port.ifname.as_ref().is_some_and(|name| name.as_str() == "vb") && port.state == PortState::Up
        });
        assert_eq!(look("va"), before[0]);
        assert_ne!(look("vb"), before[1]);
        // The same device under another name of the port.
        let file = lab.lab_file("[[ports]]\nname = \"q\"\nkind = \"device\"\nifname = \"vb\"\n");
        lab.ok(&format!("apply --yes {file}"));
        again(&mut lab);
        lab.wait_for_state("q", PortState::Up);
        lab.ok("del-port q");
        assert_eq!(["va", "vb"].map(look), before);
    }
    // Two that swap theirs.
    lab.ok("add-port p --type device --name va --mtu 1400");
    lab.ok("add-port q --type device --name vb --mtu 1300");
    let swapped = lab.ok("export").replace("\"va\"", "\"x\"").replace("\"vb\"", "\"va\"");
    let file = lab.lab_file(&swapped.replace("\"x\"", "\"vb\""));
    lab.ok(&format!("apply --yes {file}"));
    lab.ok("reset --yes");
    assert_eq!(["va", "vb"].map(look), before);
}

/// It was set as the one before it had been, and lost the host's routes with that.
#[test]
fn a_device_in_the_place_of_one_that_went_is_given_back_nothing() {
    let mut lab = Lab::new();
    let look = || {
        let link = run("ip -d -o link show wan");
        let is = |word: &str| link.contains(word);
        (
            is("mtu 9000") && is(",UP") && !is("promiscuity 1"),
            run("ip -br addr show wan").contains("192.0.2.1/24"),
            run("tc qdisc show dev wan").contains("ingress"),
        )
    };
    for way in ["seen", "at once", "offline"] {
        make_device("wan");
        run("ip link set wan down mtu 1400");
        lab.ok("add-port wan --type device");
        if way == "offline" {
            lab.stop_daemon();
        }
        run("ip link add other mtu 9000 type veth peer name wanp");
        run("ip addr add 192.0.2.1/24 dev other");
        run("tc qdisc add dev other ingress");
        run("ip link del wan");
        run("ip link set other name wan");
        run("ip link set wanp up");
        run("ip link set wan up");
        assert_eq!(look(), (true, true, true));
        if way == "seen" {
            let reason = || lab.port("wan").reason.unwrap_or_default();
            wait_for("it to be looked at", || reason().contains("192.0.2.1/24"));
        }
        match way {
            "offline" => lab.ok("reset --offline --yes"),
            _ => lab.ok("del-port wan"),
        };
        assert_eq!(look(), (true, true, true), "{way}");
        run("ip link del wan");
    }
}
