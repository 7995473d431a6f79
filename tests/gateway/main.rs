//! Addresses without thinking: subnets of a switch, its gateway, and the way out by NAT.

mod firewalls;
mod kept;
mod settled;
mod udp;
mod uplinks;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use vswitch_testing::api::view::Changes;
use vswitch_testing::api::{Event, EventKind};
use vswitch_testing::require::kernel_lacks;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Events, Lab, Place, run, wait_for};

fn addresses(lab: &Lab, port: &str) -> Vec<String> {
    lab.port(port).port.addresses.iter().map(ToString::to_string).collect()
}

fn routes(lab: &Lab, port: &str) -> Vec<String> {
    let routes = lab.port(port).port.routes;
    routes
        .iter()
        .map(|route| format!("{} {:?}", route.to, route.via))
        .collect()
}

#[track_caller]
fn pings(from: &str, to: &str) {
    wait_for(&format!("{from} to reach {to}"), || {
        let output = Place::named(from).output(&format!("ping -n -c 1 -W 2 {to}"));
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stdout).into_owned()),
        }
    });
}

#[track_caller]
fn never_pings(from: &str, to: &str) {
    let output = Place::named(from).output(&format!("ping -n -c 2 -i 0.2 -W 1 {to}"));
    assert!(!output.status.success(), "{from} reaches {to}");
}

/// A host beyond an interface of the machine, which knows no way back to any subnet.
fn world() {
    run("ip netns add world");
    run("ip link add up0 type veth peer name eth0 netns world");
    run("ip addr add 203.0.113.1/24 dev up0");
    run("ip addr add 2001:db8::1/64 dev up0 nodad");
    run("ip link set up0 up");
    let world = Place::named("world");
    world.run_ok("ip addr add 203.0.113.2/24 dev eth0");
    world.run_ok("ip addr add 2001:db8::2/64 dev eth0 nodad");
    world.run_ok("ip link set eth0 up");
    world.run_ok("ip link set lo up");
    run("ip route add default via 203.0.113.2");
    run("ip -6 route add default via 2001:db8::2");
}

fn forwards(name: &str) -> bool {
    run(&format!("sysctl -n net.ipv4.conf.{name}.forwarding")).trim() == "1"
}

const LAB: &str = "switch add lab --subnet 10.10.0.0/24 --subnet fd10::/64 --gateway";

#[test]
fn ports_take_the_next_address_and_the_gateway_the_first() {
    let mut lab = Lab::new();
    Snapshot::of_used_machine();
    let before = Snapshot::of(&lab);
    lab.ok(LAB);
    lab.ok("add-port red blue --switch lab --addr auto");
    assert_eq!(addresses(&lab, "lab-gw"), ["10.10.0.1/24", "fd10::1/64"]);
    assert_eq!(addresses(&lab, "red"), ["10.10.0.2/24", "fd10::2/64"]);
    assert_eq!(addresses(&lab, "blue"), ["10.10.0.3/24", "fd10::3/64"]);
    assert_eq!(routes(&lab, "red").len(), 2);
    run("ip addr add 192.0.2.1/32 dev lo");
    for to in ["10.10.0.1", "fd10::3", "192.0.2.1"] {
        pings("red", to);
    }
    // Said once more, it is what is there.
    lab.ok("add-port red --switch lab --addr auto --if-not-exists");
    lab.kill_daemon();
    lab.start();
    assert_eq!(addresses(&lab, "red"), ["10.10.0.2/24", "fd10::2/64"]);
    // One that is free again is given again, and what others have stays.
    lab.ok("del-port red");
    lab.ok("add-port green --switch lab --addr auto");
    assert_eq!(addresses(&lab, "green"), ["10.10.0.2/24", "fd10::2/64"]);
    // The gateway moves, and all follow.
    lab.ok("set switch lab gateway=10.10.0.254");
    assert_eq!(addresses(&lab, "lab-gw"), ["fd10::1/64", "10.10.0.254/24"]);
    assert!(routes(&lab, "blue").contains(&"0.0.0.0/0 Some(10.10.0.254)".to_owned()));
    pings("blue", "192.0.2.1");
    // What is taken away by hand does not come back by itself.
    lab.ok("addr del green 10.10.0.2/24");
    assert_eq!(addresses(&lab, "green"), ["fd10::2/64"]);
    lab.ctl("del-port lab-gw")
        .failed(5, &["gateway of switch", "gateway=off"]);
    lab.ok("set switch lab gateway=off");
    assert!(routes(&lab, "blue").is_empty());
    assert!(!run("ip -o link").contains("lab-gw"));
    lab.ok("set switch lab gateway=on");
    lab.ok("del-port blue green");
    lab.ok("switch del lab");
    run("ip addr del 192.0.2.1/32 dev lo");
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn a_gateway_outside_of_the_subnet_is_on_the_link() {
    let lab = Lab::new();
    lab.ok("switch add lab --subnet 10.10.0.0/24 --gateway=169.254.1.1");
    lab.ok("add-port red --switch lab --addr auto");
    assert_eq!(addresses(&lab, "lab-gw"), ["169.254.1.1/32"]);
    assert_eq!(addresses(&lab, "red"), ["10.10.0.1/24"]);
    run("ip addr add 192.0.2.1/32 dev lo");
    pings("red", "192.0.2.1");
    let file = lab.scratch().join("export.toml");
    std::fs::write(&file, lab.ok("export")).unwrap();
    let changes: Changes = lab.json(&format!("apply -n {}", file.display()));
    assert!(changes.done.is_empty(), "{changes:?}");
}

#[test]
fn what_can_not_be_is_refused_by_name() {
    let lab = Lab::new();
    lab.ctl("switch add lab --subnet 10.10.0.1/24")
        .failed(2, &["10.10.0.0/24"]);
    lab.ctl("switch add lab --gateway").failed(2, &["--subnet"]);
    lab.ctl("set switch main gateway=on").failed(2, &["subnet"]);
    lab.ctl("set switch main nat=on").failed(2, &["nat", "gateway"]);
    lab.ctl("set switch main subnets=10.0.0.0/31")
        .failed(2, &["10.0.0.0/31", "no room"]);
    lab.ctl("set switch main subnets=10.0.0.0/8,10.1.0.0/16")
        .failed(2, &["overlap"]);
    for (subnet, words) in [
        ("0.0.0.0/0", "this network"),
        ("224.0.0.0/24", "groups"),
        ("127.0.0.0/8", "loopback"),
        ("fe80::/64", "link-local"),
    ] {
        lab.ctl(&format!("set switch main subnets={subnet}"))
            .failed(2, &[subnet, words]);
    }
    lab.ok(LAB);
    lab.ok("switch add other");
    lab.ctl("set switch other subnets=10.10.0.128/25 gateway=on")
        .failed(5, &["overlaps", "lab"]);
    lab.ok("add-port red --switch lab --addr auto");
    lab.ctl("publish red 8080:80")
        .failed(5, &["NAT", "set switch lab nat=on", "publish=none"]);
    lab.ctl("publish red 80:0").failed(2, &["80:0", "8080:80"]);
    lab.ctl("add-port lab-gw --switch lab").failed(5, &["lab-gw"]);
    lab.ok("set switch main subnets=10.20.0.0/30");
    lab.ok("add-port a --addr auto");
    lab.ok("add-port b --addr auto");
    lab.ctl("add-port c --addr auto")
        .failed(5, &["10.20.0.0/30", "no free address"]);
}

/// Such as that of sshd, by which somebody is logged in.
#[test]
fn a_number_that_the_host_listens_on_is_published_by_force_only() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    let _listener = TcpListener::bind("0.0.0.0:2222").unwrap();
    let words = ["listens on tcp 2222 (0.0.0.0:2222)", "publish red 2222:22 --force"];
    lab.ctl("publish red 2222:22").failed(5, &words);
    lab.ctl("publish red 2222:22 -n").failed(5, &words);
    lab.ctl("set port red publish=2222:22").failed(5, &words);
    lab.ok("publish red 2222:22/udp");
    lab.ok("publish red 2222:22 --force");
    // It is so already.
    lab.ok("set port red mtu=1400");
}

#[test]
fn stations_get_out_and_nobody_gets_in() {
    let mut lab = Lab::new();
    Snapshot::of_used_machine();
    let before = Snapshot::of(&lab);
    world();
    assert!(!forwards("up0"));
    let told = lab.ok(&format!("{LAB} --nat -n"));
    assert!(
        told.contains("would set net.ipv4.conf.up0.forwarding to 1 (was 0)"),
        "{told}"
    );
    assert!(!forwards("up0"));
    let told = lab.ok(&format!("{LAB} --nat"));
    assert!(told.contains("set net.ipv4.conf.up0.forwarding to 1 (was 0)"), "{told}");
    assert!(
        told.contains("added NAT of switch lab (10.10.0.0/24, fd10::/64)"),
        "{told}"
    );
    assert!(forwards("up0") && forwards("lab-gw") && !forwards("lo"));
    lab.ok("add-port red blue --switch lab --addr auto");
    pings("red", "203.0.113.2");
    pings("red", "2001:db8::2");
    // Also if it knows the way.
    let world = Place::named("world");
    world.run_ok("ip route add 10.10.0.0/24 via 203.0.113.1");
    world.run_ok("ip route add fd10::/64 via 2001:db8::1");
    never_pings("world", "10.10.0.2");
    never_pings("world", "fd10::2");
    // Nor one switch from another.
    lab.ok("switch add other --subnet 10.20.0.0/24 --gateway --nat");
    lab.ok("add-port green --switch other --addr auto");
    pings("green", "203.0.113.2");
    never_pings("green", "10.10.0.2");
    never_pings("red", "10.20.0.2");
    // And what comes in at the uplink goes nowhere else.
    run("ip link add dummy0 type veth peer name dummy1");
    run("ip addr add 198.51.100.1/24 dev dummy0");
    run("ip link set dummy0 up");
    // With an address that is none of the subnet nothing gets out.
    Place::named("red").run_ok("ip addr add 10.66.0.1/32 dev eth0");
    let spoofed = Place::named("red").output("ping -n -c 2 -i 0.2 -W 1 -I 10.66.0.1 203.0.113.2");
    assert!(!spoofed.status.success());
    // What somebody has flushed is back with a restart, by apply, and the table, which keeps switches apart, by itself.
    lab.kill_daemon();
    run("nft flush ruleset");
    run("sysctl -qw net.ipv4.conf.up0.forwarding=0");
    lab.start();
    pings("red", "203.0.113.2");
    run("nft flush ruleset");
    wait_for("the table to come back", || run("nft list tables").contains("vswitch"));
    never_pings("world", "10.10.0.2");
    // As is the interface of a gateway that somebody has removed.
    run("ip link del lab-gw");
    pings("red", "203.0.113.2");
    lab.ok("del-port green");
    lab.ok("switch del other");
    assert!(forwards("up0"));
    lab.kill_daemon();
    let told = Lab::call("reset --offline --yes").ok().stdout;
    assert!(told.contains("removed NAT of switch lab"), "{told}");
    assert!(!forwards("up0"));
    assert_eq!(run("nft list tables"), "");
    run("ip link del dummy0");
    run("ip link del up0");
    run("ip netns del world");
    lab.start();
    before.wait_until_same(|| Snapshot::of(&lab));
}

/// Others rename interfaces, and have the host forward for containers: gateways get along with that.
#[test]
fn a_gateway_gets_along_with_what_others_do_on_the_host() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red --switch lab --addr auto");
    pings("red", "203.0.113.2");
    let table = || run("nft list table inet vswitch");
    assert!(table().contains("iifname \"up0\" oifgroup"), "{}", table());

    run("ip link set lab-gw down");
    run("ip link set lab-gw name gwx");
    run("ip link set gwx up");
    pings("red", "203.0.113.2");
    lab.ok("switch add other --subnet 10.20.0.0/24 --gateway --nat");
    lab.ok("add-port green --switch other --addr auto");
    pings("green", "203.0.113.2");
    never_pings("green", "10.10.0.2");
    // Nor is there a way to a switch without NAT by the host's own leg.
    lab.ok("add-port host0 --type internal --addr 10.9.0.1/24");
    lab.ok("add-port blue --addr 10.9.0.2/24 --gateway 10.9.0.1");
    never_pings("red", "10.9.0.2");

    run("ip netns add container");
    run("ip link add dk0 type veth peer name eth0 netns container");
    run("ip addr add 172.18.0.1/24 dev dk0");
    run("ip link set dk0 up");
    let container = Place::named("container");
    container.run_ok("ip addr add 172.18.0.2/24 dev eth0");
    container.run_ok("ip link set eth0 up");
    container.run_ok("ip route add default via 172.18.0.1");
    Place::named("world").run_ok("ip route add 172.18.0.0/24 via 203.0.113.1");
    run("sysctl -qw net.ipv4.ip_forward=1");
    pings("container", "203.0.113.2");
    never_pings("red", "10.9.0.2");
    lab.ok("reset --yes");
    assert!(forwards("up0"));
    pings("container", "203.0.113.2");
    for line in [
        "ip link del up0",
        "ip link del dk0",
        "ip netns del world",
        "ip netns del container",
    ] {
        run(line);
    }
}

/// By one router advertisement a station could have all that the host sends.
#[test]
fn the_host_takes_no_routes_from_a_station() {
    let lab = Lab::new();
    lab.ok(LAB);
    lab.ok("add-port host0 --type internal");
    for leg in ["lab-gw", "host0"] {
        for setting in [
            "ipv6.conf.{}.accept_ra",
            "ipv6.conf.{}.autoconf",
            "ipv4.conf.{}.accept_redirects",
        ] {
            let setting = setting.replace("{}", leg);
            assert_eq!(run(&format!("sysctl -n net.{setting}")).trim(), "0", "{setting}");
        }
    }
    // What is an end of its own goes on to.
    lab.ok("add-port red");
    let red = Place::named("red");
    assert_eq!(red.run_ok("sysctl -n net.ipv6.conf.eth0.accept_ra").trim(), "1");
}

/// One that answers each connection with the address that it comes from.
fn serve(place: &Place, address: &str) {
    let listener = place.run(|| TcpListener::bind(address).unwrap());
    thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let _ = stream.write_all(from.ip().to_string().as_bytes());
        }
    });
}

fn ask(place: &Place, address: &str) -> Option<IpAddr> {
    let address: SocketAddr = address.parse().unwrap();
    place.run(|| {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    })
}

#[track_caller]
fn answered(place: &Place, address: &str) -> IpAddr {
    wait_for(&format!("{place:?} to reach {address}"), || {
        ask(place, address).ok_or_else(|| "no answer".to_owned())
    })
}

#[test]
fn what_is_published_is_reached_from_everywhere() {
    let lab = Lab::new();
    world();
    lab.ok(&format!("{LAB} --nat"));
    lab.ok("add-port red blue --switch lab --addr auto");
    let red = Place::named("red");
    serve(&red, "[::]:80");
    let told = lab.ok("publish red 8080:80");
    assert!(told.contains("8080:80"), "{told}");
    let world = Place::named("world");
    for address in ["203.0.113.1:8080", "[2001:db8::1]:8080"] {
        let from = answered(&world, address);
        assert!(!from.to_canonical().is_loopback(), "{from}");
        answered(&Place::Home, address);
        // Back to where it came from.
        answered(&Place::named("blue"), address);
    }
    // The client's own address is what is seen inside.
    assert_eq!(
        answered(&world, "203.0.113.1:8080").to_canonical(),
        "203.0.113.2".parse::<IpAddr>().unwrap()
    );
    let list: Value = lab.json("publish list");
    assert_eq!(list[0]["outside"], 8080);
    lab.ctl("publish blue 8080:1").failed(5, &["8080", "red"]);
    lab.ctl("publish add red 8080:80").failed(5, &["published already"]);
    lab.ok("publish add red 8080:80 --if-not-exists");
    lab.ctl("publish del red 1:1").failed(4, &["1:1"]);
    lab.ok("publish del red 8080:80");
    assert_eq!(ask(&world, "203.0.113.1:8080"), None);
    lab.ok("publish red 8080:80");
    lab.ok("del-port red");
    assert!(!run("nft list ruleset").contains("8080"));
}

/// The default route of the host moves to another interface, goes, and comes later: the gateway follows.
#[test]
fn a_gateway_follows_the_default_route() {
    let lab = Lab::new();
    for line in [format!("{LAB} --nat -n"), format!("{LAB} --nat")] {
        let changes: Changes = lab.json(&line);
        let mut warnings = changes.warnings.iter();
        assert!(warnings.any(|line| line.contains("no default route")), "{changes:?}");
    }
    lab.ok("add-port red --switch lab --addr auto");
    let events = Events::follow(&lab, &["--json"]);
    let moved = |before: &[&str], now: &[&str]| {
        let kind = wait_for("the event", || {
            let event: Event = serde_json::from_str(&events.next("the way out to change")).unwrap();
            matches!(event.kind, EventKind::UplinksChanged { .. }).then_some(event.kind)
        });
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let (before, now) = (names(before), names(now));
        assert_eq!(kind, EventKind::UplinksChanged { before, now });
    };
    world();
    moved(&[], &["up0"]);
    assert!(forwards("up0"));
    pings("red", "203.0.113.2");
    // Another way, on which the world has the same address.
    run("ip link add up1 type veth peer name eth1 netns world");
    run("ip addr add 198.51.100.1/24 dev up1");
    run("ip link set up1 up");
    let world = Place::named("world");
    world.run_ok("ip addr add 198.51.100.2/24 dev eth1");
    world.run_ok("ip link set eth1 up");
    run("ip -6 route del default");
    run("ip route replace default via 198.51.100.2");
    wait_for("the other one to forward, and the first no more", || {
        forwards("up1") && !forwards("up0")
    });
    pings("red", "198.51.100.2");
    // It goes with its interface, of which the kernel tells no route.
    while events.try_next().is_some() {}
    run("ip link set up1 down");
    moved(&["up1"], &[]);
    assert!(!forwards("up1"));
    lab.ok("switch show lab");
    run("ip link del up0");
    run("ip link del up1");
    run("ip netns del world");
}

/// The host would look for its own neighbours in the switch.
#[test]
fn a_subnet_that_the_host_reaches_elsewhere_is_warned_of() {
    let lab = Lab::new();
    world();
    run("ip route add 172.31.0.0/16 via 203.0.113.2");
    let warned = |line: &str, words: &[&str]| {
        let changes: Changes = lab.json(line);
        let told = changes.warnings.join("\n");
        assert_eq!(told.is_empty(), words.is_empty(), "{line}: {told}");
        for word in words {
            assert!(told.contains(word), "{line}: no {word:?}: {told}");
        }
    };
    let gateway = "switch add lab --gateway -n --subnet";
    warned(
        &format!("{gateway} 203.0.113.128/25"),
        &["203.0.113.0/24", "up0", "another subnet"],
    );
    warned(&format!("{gateway} 172.31.7.0/24"), &["172.31.0.0/16", "up0"]);
    warned(&format!("{gateway} 2001:db8::/64 --force"), &["2001:db8::/64", "up0"]);
    warned(&format!("{gateway} 10.10.0.0/24"), &[]);
    // What only stations have is none of the host's business.
    warned("switch add lab --subnet 203.0.113.0/24 -n", &[]);
    warned("add-port red --addr 203.0.113.9/24 -n", &[]);
    warned(
        "add-port leg --type internal --addr 203.0.113.9/24 --force",
        &["port \"leg\"", "up0"],
    );
    // It was said, and of what we have made ourselves nothing is.
    warned("set port leg --mtu 1400", &[]);
    warned("switch add other --gateway --subnet 10.10.0.0/24", &[]);
    warned("set switch other gateway=10.10.0.254", &[]);
    lab.ok("del-port leg");
    let overlapping = || {
        let items: Vec<Value> = lab.ctl("--json doctor").json();
        let told = |item: &&Value| item["ok"] == false && item["what"] == "host";
        let told = items.iter().filter(told).map(|item| item["detail"].to_string());
        told.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(overlapping(), "");
    // The host gets the other way later.
    run("ip route add 10.10.0.0/16 via 203.0.113.2");
    let told = overlapping();
    assert!(told.contains("10.10.0.0/16") && told.contains("up0"), "{told}");
}
