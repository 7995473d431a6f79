//! Addresses and routes that somebody takes away inside: they are told of, given back where that is meant, and no reason to lose a port.

use vswitch_api::view::{Lack, PortState};
use vswitch_testing::Events;
use vswitch_testing::lab::Lab;
use vswitch_testing::netns::{Place, run};
use vswitch_testing::station::make_device;
use vswitch_testing::wait::wait_for;

fn reason(lab: &Lab, port: &str) -> String {
    lab.port(port).reason.unwrap_or_default()
}

/// A route that leads elsewhere by now, or whose next hop is not reached any more, kept the port away after a restart for good.
#[test]
fn a_port_whose_routes_somebody_changed_is_there_after_a_restart() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --gateway 10.7.0.254");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24 --gateway 10.7.0.254");
    for name in ["red", "blue"] {
        run(&format!("ip -n {name} route replace default via 10.7.0.253"));
    }
    let is_there = |lab: &Lab| {
        run("ip netns exec red ping -n -c 1 -W 10 10.7.0.2");
        for name in ["red", "blue"] {
            assert_eq!(lab.port(name).state, PortState::Up);
            assert!(run(&format!("ip -n {name} route")).contains("default via 10.7.0.253"));
            let reason = reason(lab, name);
            assert!(reason.contains("lacks its route to 0.0.0.0/0"), "{reason}");
            // Other settings can be changed, too.
            lab.ok(&format!("set port {name} --mtu 1450"));
            lab.ok(&format!("set port {name} --mtu 1500"));
        }
    };
    lab.ok("restart");
    is_there(&lab);
    lab.kill_daemon();
    lab.start();
    is_there(&lab);
    for name in ["red", "blue"] {
        run(&format!("ip -n {name} route del default"));
        lab.ok(&format!("set port {name} --up"));
        assert!(run(&format!("ip -n {name} route")).contains("default via 10.7.0.254"));
        assert_eq!(reason(&lab, name), "");
        // Now what leads to the neighbours too: the kernel's own, which goes with no address.
        run(&format!("ip -n {name} route flush table main"));
    }
    lab.ok("restart");
    run("ip netns exec red ping -n -c 1 -W 10 10.7.0.2");
    assert!(run("ip -n red route").contains("default via 10.7.0.254"));
}

/// What is taken away stays away, and is told until it is given back.
#[test]
fn what_a_port_lacks_is_shown_and_told() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --addr fd07::1/64");
    assert_eq!(reason(&lab, "red"), "");
    run("ip -n red addr del 10.7.0.1/24 dev eth0");
    wait_for("the address to be missed", || {
        reason(&lab, "red").contains("eth0 lacks its address 10.7.0.1/24; `vswitchctl set port red --up`")
    });
    let address = "10.7.0.1/24".parse().unwrap();
    assert_eq!(lab.port("red").lacks, [Lack::Address { address }]);
    assert!(lab.ok("addr list").contains("10.7.0.1/24 (missing)"));
    run("ip -n red addr add 10.7.0.1/24 dev eth0");
    wait_for("it to be seen", || reason(&lab, "red").is_empty());
    run("ip -n red -6 route del fd07::/64 dev eth0");
    wait_for("the network to be missed", || {
        reason(&lab, "red").contains("lacks its route to fd07::/64")
    });
    let to = "fd07::/64".parse().unwrap();
    assert_eq!(lab.port("red").lacks, [Lack::Route { to }]);
    lab.ok("set port red --up");
    assert_eq!((reason(&lab, "red").as_str(), lab.port("red").lacks), ("", Vec::new()));
    assert!(run("ip -n red -6 route").contains("fd07::/64"));
}

/// With an address taken and given all went that others have on the interface, on the host's leg of a switch without anybody asking.
#[test]
fn the_route_to_a_network_comes_back_and_what_others_have_stays() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.8.0.1/24 --addr 10.8.0.2/24");
    lab.ok("switch add lan --subnet 10.7.0.0/24 --gateway");
    let red = Place::named("red");
    for (place, net, ifname) in [(&red, "10.8.0", "eth0"), (&Place::Home, "10.7.0", "lan-gw")] {
        let network = format!("{net}.0/24");
        place.run_ok(&format!("ip addr add {net}.77/24 dev {ifname}"));
        for to in ["10.50.0.0/16", "10.51.0.0/16"] {
            place.run_ok(&format!("ip route add {to} via {net}.9"));
        }
        let has = || place.run_ok(&format!("ip addr show dev {ifname}")) + &place.run_ok("ip route");
        let before = place.run_ok("ip route");
        place.run_ok(&format!("ip route del {network} dev {ifname}"));
        if ifname == "eth0" {
            let lack = Lack::Route {
                to: network.parse().unwrap(),
            };
            lab.wait_for_port("red", "the network to be missed once", |port| port.lacks == [lack]);
            let told = lab.ok("set port red --up");
            assert_eq!(told.matches("10.8.0.0/24").count(), 1, "{told}");
        }
        wait_for("the network to be back", || {
            place.run_ok("ip route").contains(&format!("{network} dev {ifname}"))
        });
        let now = has();
        for theirs in [&format!("{net}.77/24"), "10.50.0.0/16", "10.51.0.0/16"] {
            assert!(now.contains(theirs), "{theirs} in {now}");
        }
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&place.run_ok("ip route")), sorted(&before));
        place.run_ok("ip route del 10.50.0.0/16");
        place.run_ok("ip route del 10.51.0.0/16");
    }
}

/// Two that configured the leg had all of a processor, the log and the events.
#[test]
fn what_is_taken_away_again_and_again_is_given_back_ever_later() {
    let lab = Lab::new();
    lab.ok("switch add lan --subnet 10.7.0.0/24 --gateway");
    let events = Events::follow(&lab, &[]);
    let has = || run("ip addr show dev lan-gw").contains("10.7.0.1/24");
    let take = || run("ip addr del 10.7.0.1/24 dev lan-gw");
    take();
    wait_for("the address to be back", has);
    take();
    // Not at once any more: until then it is shown as missing.
    lab.wait_for_port("lan-gw", "the address to be missed", |port| !port.lacks.is_empty());
    wait_for("the address to be back once more", has);
    lab.wait_for_port("lan-gw", "nothing to be missed", |port| port.lacks.is_empty());
    take();
    lab.wait_for_port("lan-gw", "the address to be missed", |port| !port.lacks.is_empty());
    lab.ok("switch add last");
    let lines = std::iter::from_fn(|| Some(events.next("all of them")).filter(|line| !line.contains("last")));
    let lines: Vec<_> = lines.collect();
    for once in ["which somebody had taken away", "ever later"] {
        let told = lines.iter().filter(|line| line.contains(once));
        assert_eq!(told.count(), 1, "{lines:?}");
    }
}

/// A router has tens of thousands of them, and each that went had all listed anew.
#[test]
fn routes_of_others_are_no_reason_to_look() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --gateway 10.7.0.254");
    // What is looked for again is told of when it is found missing.
    run("ip -n red route add 10.9.0.0/16 via 10.7.0.9");
    run("ip -n red route del 10.9.0.0/16");
    run("ip -n red route del default");
    wait_for("the route to be missed", || reason(&lab, "red").contains("0.0.0.0/0"));
    // One that comes again is seen, whoever gives it.
    run("ip -n red route add default via 10.7.0.254");
    wait_for("the route to be seen", || reason(&lab, "red").is_empty());
}

/// It is there still, by another next hop.
#[test]
fn a_route_that_somebody_leads_another_way_is_missed_and_left_to_him() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --gateway 10.7.0.254");
    run("ip -n red route replace default via 10.7.0.253");
    wait_for("the route to be missed", || reason(&lab, "red").contains("0.0.0.0/0"));
    for is in ["down", "up"] {
        run(&format!("ip -n red link set eth0 {is}"));
    }
    // By then the link was looked into.
    run("ip -n red addr del 10.7.0.1/24 dev eth0");
    wait_for("the address to be missed", || {
        reason(&lab, "red").contains("10.7.0.1/24")
    });
    assert_eq!(run("ip -n red route show default"), "");
}

/// It came back, for the link had been down before; and the port was shown to be without carrier.
#[test]
fn what_is_taken_away_right_after_a_repair_stays_away() {
    let lab = Lab::new();
    for (name, kind, n) in [("red", "veth", 1), ("blue", "tap", 2)] {
        lab.ok(&format!(
            "add-port {name} --type {kind} --addr 10.7.0.{n}/24 --addr fd07::{n}/64 --gateway 10.7.0.254"
        ));
        let events = Events::follow(&lab, &[]);
        run(&format!("ip -n {name} link set eth0 down"));
        lab.wait_for_state(name, PortState::NoCarrier);
        lab.ok(&format!("set port {name} --up"));
        assert_eq!(lab.port(name).state, PortState::Up);
        run(&format!("ip -n {name} route del default"));
        wait_for("the route to be missed", || reason(&lab, name).contains("0.0.0.0/0"));
        assert_eq!(run(&format!("ip -n {name} route show default")), "");
        lab.ok(&format!("switch add {name}-end"));
        let mut told = std::iter::from_fn(|| Some(events.next("all of them")).filter(|line| !line.contains("-end")));
        assert!(!told.any(|line| line.contains("got back")), "{name}");
    }
}

/// The kernel takes IPv6 away with it, and nobody but us can give it back.
#[test]
fn ipv6_comes_back_as_it_was_when_it_can_be_had_again() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --addr fd07::1/64");
    lab.ok("route add red fd09::/64 --via fd07::9");
    let has =
        || run("ip -n red -6 route").contains("fd09::/64 via fd07::9") && run("ip -n red addr").contains("fd07::1");
    run("ip -n red link set eth0 mtu 1000");
    lab.wait_for_port("red", "the MTU to be shown", |port| port.port.mtu == Some(1000));
    lab.wait_for_port("red", "IPv6 to be missed", |port| !port.lacks.is_empty());
    assert!(!has());
    run("ip -n red link set eth0 mtu 1500");
    wait_for("IPv6 to be back after the MTU was", has);
    let off = |off: &str| Place::named("red").run_ok(&format!("sysctl -qw net.ipv6.conf.eth0.disable_ipv6={off}"));
    off("1");
    wait_for("IPv6 to be missed", || !has());
    off("0");
    wait_for("IPv6 to be back after it was off", has);
    wait_for("all to be well", || reason(&lab, "red").is_empty());
    // Nobody took it away: it is no reason not to give it back after another outage.
    for is in ["down", "up"] {
        run(&format!("ip -n red link set eth0 {is}"));
    }
    wait_for("IPv6 to be back after the link was", has);
}

/// An address of the link alone is no word of IPv6 being on again, be it the stack's own or anybody's.
#[test]
fn an_address_of_the_link_gives_nothing_back_that_somebody_took_away() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --addr 10.7.1.1/24 --addr fd07::1/64");
    lab.ok("route add red 10.9.0.0/16 --via 10.7.0.9");
    // The stack's own address is there as it is found to be nobody else's, a while after the port.
    run("ip -n red route del 10.9.0.0/16");
    wait_for("the address of the link", || {
        let own = run("ip -n red -6 addr show dev eth0 scope link");
        own.contains("fe80:") && !own.contains("tentative")
    });
    run("ip -n red addr del fd07::1/64 dev eth0");
    let lacks = |what: &str| reason(&lab, "red").contains(what);
    wait_for("both to be missed", || lacks("10.9.0.0/16") && lacks("fd07::1/64"));
    run("ip -n red addr add fe80::99/64 dev eth0 nodad");
    // By then that was heard of.
    run("ip -n red addr del 10.7.1.1/24 dev eth0");
    wait_for("the last to be missed", || lacks("10.7.1.1/24"));
    assert!(lacks("10.9.0.0/16") && lacks("fd07::1/64"), "{}", reason(&lab, "red"));
    let all = run("ip -n red route") + &run("ip -n red addr");
    assert!(!all.contains("10.9.0.0") && !all.contains("fd07::1"), "{all}");
}

/// All stations get out by it, and it is nobody's but the switch's.
#[test]
fn the_hosts_leg_of_a_switch_gets_its_addresses_back() {
    let lab = Lab::new();
    lab.ok("switch add lan --subnet 10.7.0.0/24 --gateway");
    lab.ok("add-port red --switch lan --addr auto");
    run("ip addr flush dev lan-gw");
    wait_for("the address to be back", || {
        run("ip addr show dev lan-gw").contains("10.7.0.1/24")
    });
    run("ip netns exec red ping -n -c 1 -W 10 10.7.0.1");
}

#[test]
fn a_device_that_was_told_to_take_its_own_frames_only_takes_all_again() {
    let lab = Lab::new();
    make_device("device");
    lab.ok("add-port device --type device");
    if !vswitch_testing::lab::fastpath_wanted() {
        // The packet socket sees to that.
        return;
    }
    let is_promiscuous = || run("ip link show device").contains("PROMISC");
    assert!(is_promiscuous());
    run("ip link set device promisc off");
    wait_for("the device to take all frames", is_promiscuous);
}

/// What was counted is not forgotten when an interface or a namespace goes and comes.
#[test]
fn counters_go_on_when_an_interface_is_made_again() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24");
    run("ip netns exec red ping -n -c 3 -i 0.01 -W 10 10.7.0.2");
    let counted = |port: &str| {
        let counters = lab.port(port).counters;
        (counters.rx_frames, counters.tx_frames)
    };
    for port in ["red", "blue"] {
        let before = counted(port);
        assert!(before.0 >= 3 && before.1 >= 3, "{before:?}");
        run(&format!("ip -n {port} link del eth0"));
        lab.wait_for_state(port, PortState::Up);
        wait_for("it to be made again", || {
            run(&format!("ip -n {port} -br link")).contains("eth0")
        });
        lab.wait_for_state(port, PortState::Up);
        let after = counted(port);
        assert!(after.0 >= before.0 && after.1 >= before.1, "{before:?} {after:?}");
        run(&format!("ip netns del {port}"));
        lab.wait_for_state(port, PortState::Missing);
        let missing = counted(port);
        assert!(missing.0 >= after.0 && missing.1 >= after.1, "{after:?} {missing:?}");
        run(&format!("ip netns add {port}"));
        lab.wait_for_state(port, PortState::Up);
        let back = counted(port);
        assert!(back.0 >= missing.0 && back.1 >= missing.1, "{missing:?} {back:?}");
        lab.wait_for_sums();
    }
}
