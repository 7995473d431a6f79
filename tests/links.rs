//! Links join two switches, with no interface in the host to show for it.

use std::process::Stdio;

use serde_json::Value;
use vswitch_api::link::LinkView;
use vswitch_api::view::{PortState, PortView};
use vswitch_api::{Lab as Document, Mac, PortKind};
use vswitch_testing::ctl::tool;
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::transfer;
use vswitch_testing::{Lab, Place, Station, run, wait_for};

fn joined(options: &str) -> Lab {
    let lab = Lab::new();
    lab.ok("switch add sw2");
    lab.ok(&format!("link add main sw2 {options}"));
    lab
}

fn ends(link: &LinkView) -> [(&str, &str); 2] {
    [&link.a, &link.b].map(|end| (end.switch.as_str(), end.port.as_str()))
}

#[test]
fn stations_of_two_switches_reach_each_other_and_the_host_sees_nothing() {
    let lab = Lab::new();
    let before = run("ip -o link");
    lab.ok("switch add sw2");
    // Probes are no frames of the switch that sends them, and count where they come in.
    for switch in ["main", "sw2"] {
        lab.ok(&format!("set switch {switch} --loop-guard off"));
    }
    lab.ok("link add main sw2");
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add_with(&lab, "blue", PortKind::Veth, 2, "--switch sw2");
    let tap = Station::add_with(&lab, "tap", PortKind::Tap, 3, "--switch sw2");
    for to in [&blue, &tap] {
        red.ping(to.v4);
        red.ping(to.v6);
        transfer::tcp(&red, to, false, 200);
        transfer::udp_gso(&red, to, true);
    }
    assert_eq!(run("ip -o link"), before);
    let links: Vec<LinkView> = lab.json("link list");
    assert_eq!(links.len(), 1);
    assert_eq!(ends(&links[0]), [("main", "main-sw2"), ("sw2", "sw2-main")]);
    // What goes out of the one end comes in at the other.
    wait_for("the counters of both ends to agree", || {
        let [a, b] = ["main-sw2", "sw2-main"].map(|name| lab.port(name).counters);
        a.tx_frames > 200 && (a.tx_frames, a.rx_frames) == (b.rx_frames, b.tx_frames)
    });
    lab.wait_for_sums();
    let pages: Vec<Value> = lab.json("link show sw2-main");
    assert_eq!(
        (&pages[0]["name"], &pages[1]["name"]),
        (&"main-sw2".into(), &"sw2-main".into())
    );
}

#[test]
fn a_trunk_keeps_vlans_apart_and_an_impairment_counts_each_way() {
    let lab = joined("--trunk 10,20 --impair delay=30ms --name-a up --name-b down");
    let add = |name, n, options: &str| Station::add_with(&lab, name, PortKind::Veth, n, options);
    let ten = add("ten", 1, "--vlan 10");
    let twenty = add("twenty", 3, "--vlan 20");
    let far_ten = add("farten", 2, "--vlan 10 --switch sw2");
    ten.ping(far_ten.v4);
    assert!(!twenty.reaches(far_ten.v4));
    let reply = ten.place.run_ok(&format!("ping -n -c 1 {}", far_ten.v4));
    let time = reply.split("time=").nth(1).and_then(|rest| rest.split(' ').next());
    let time: f64 = time.unwrap().parse().unwrap();
    assert!(time >= 60.0, "it was delayed on one way only: {reply}");
    // A setting of one end is one of that port.
    lab.ok("impair clear up");
    lab.ok("impair clear down");
    assert!(lab.port("up").port.impair.is_none());
    transfer::tcp(&ten, &far_ten, true, 50);
}

#[test]
fn a_link_is_one_thing_with_two_ends() {
    let lab = joined("");
    let before = lab.ok("export");
    lab.ctl("del-port main-sw2").failed(
        5,
        &[
            "port \"main-sw2\"",
            "port \"sw2-main\" the other",
            "vswitchctl link del main-sw2",
        ],
    );
    lab.ctl("link set main-sw2 kind=veth")
        .failed(2, &["main-sw2", "a veth port is no end of a link", "kind=link"]);
    lab.ctl("link add main main").failed(2, &["both ends", "main"]);
    lab.ctl("link add main nosuch").failed(4, &["nosuch"]);
    lab.ctl("link add main sw2 --name-a main-sw2")
        .failed(5, &["main-sw2", "already"]);
    lab.ctl("link del nosuch").failed(4, &["nosuch", "link list"]);
    lab.ctl("switch del sw2")
        .failed(5, &["sw2", "remove them first: vswitchctl link del sw2-main"]);
    lab.ctl("addr add main-sw2 10.9.0.1/24")
        .failed(2, &["main-sw2", "address"]);
    lab.ctl("set port main-sw2 --switch sw2").failed(2, &[]);
    lab.ok("add-port red");
    lab.ctl("link del red").failed(2, &["red", "no end of a link"]);
    lab.ok("del-port red");
    lab.ok("link add main sw2 --if-not-exists");
    lab.ok("link add sw2 main --mtu 1500 --if-not-exists");
    let other = lab.ctl("link add main sw2 --trunk 20 --mtu 9000 --impair loss=50% --if-not-exists");
    other.failed(
        5,
        &[
            "link \"main\" - \"sw2\"",
            "already, with other impair, mtu, vlan",
            "vswitchctl link set main-sw2",
        ],
    );
    lab.ok("link del --if-exists nosuch");
    lab.ok("link add -n main sw2");
    lab.ok("link del -n main-sw2");
    assert_eq!(lab.ok("export"), before);
    // One more between the same two has names of its own, and goes by either of them.
    lab.ok("link add main sw2");
    assert_eq!(lab.json::<Vec<LinkView>>("link list").len(), 2);
    lab.ctl("link del main sw2")
        .failed(5, &["2 links", "main-sw2, main-sw2-2"]);
    lab.ok("link del sw2-main-2");
    assert_eq!(lab.ok("export"), before);
    // Where there is but one, by the switches that it joins.
    assert_eq!(
        lab.ok("link show sw2 main -o name"),
        lab.ok("link show sw2-main -o name")
    );
    assert_eq!(lab.ok("link list -o name"), "main-sw2\n");
    lab.ctl("link del main main").failed(4, &["main", "link list"]);
    lab.ok("link del --if-exists main nosuch");
    lab.ok("link del --yes sw2 main");
    assert_eq!(lab.json::<Vec<LinkView>>("link list").len(), 0);
    lab.ok("link add main sw2");
    assert_eq!(lab.ok("export"), before);
    // The other end notices when one is down.
    lab.ok("set port main-sw2 --down");
    lab.wait_for_state("sw2-main", PortState::NoCarrier);
    let reason = lab.port("sw2-main").reason.unwrap();
    assert!(reason.contains("main-sw2"), "{reason}");
    lab.ok("set port main-sw2 --up");
    lab.wait_for_state("sw2-main", PortState::Up);
}

/// What is set of a link is set at both of its ports, or at none.
#[test]
fn settings_of_a_link_are_those_of_both_ends() {
    let lab = joined("");
    let of_both = || {
        let ports: Vec<PortView> = lab.json("link show main-sw2");
        let [a, b] = ports.try_into().unwrap();
        (a.port, b.port)
    };
    lab.ok("link set main-sw2 --trunk 10,20 --impair delay=20ms mtu=9000");
    let (a, b) = of_both();
    assert!(
        a.vlan == b.vlan && a.impair == b.impair && a.mtu == b.mtu,
        "{a:?} {b:?}"
    );
    assert_eq!((a.mtu, a.impair.outward.unwrap().delay_us), (Some(9000), 20_000));
    // By either end; each keeps what is not said.
    lab.ok("link set sw2-main --trunk +30 --impair none");
    let (a, b) = of_both();
    assert!(
        a.impair.is_none() && b.impair.is_none() && a.mtu == b.mtu,
        "{a:?} {b:?}"
    );
    assert!(a.vlan == b.vlan && serde_json::to_string(&a.vlan).unwrap().contains("10,20,30"));
    lab.ok("link set main-sw2 --down");
    assert!(!of_both().1.up);
    lab.ok("link set main-sw2 --up");
    wait_for("the link to be up", || {
        let links: Vec<LinkView> = lab.json("link list");
        [&links[0].a, &links[0].b].iter().all(|end| end.state == PortState::Up)
    });
    lab.ok("add-port red");
    lab.ctl("link set red --mtu 9000")
        .failed(2, &["red", "no end of a link"]);
    lab.ctl("link set blue --mtu 9000").failed(4, &["blue"]);
    lab.ctl("link set main-sw2 switch=sw2").failed(2, &["both ends"]);
    lab.ctl("link set main-sw2 --impair dely=1ms")
        .failed(2, &["--impair", "dely"]);
}

/// It was said to be set up, and stayed down.
#[test]
fn a_link_that_is_set_up_has_back_what_was_taken_from_it() {
    let lab = joined("");
    for change in ["down", "mtu 1300"] {
        Place::daemons_own().run_ok(&format!("ip link set sw2-main {change}"));
        let [foretold, told] = ["-n", ""].map(|way| lab.ok(&format!("link set main-sw2 --up {way}")));
        assert!(told.contains("repaired: gave port sw2-main back"), "{change}: {told}");
        assert_eq!(foretold, told.replace("repaired: gave", "would repair: give"));
        lab.wait_for_state("main-sw2", PortState::Up);
        assert_eq!(lab.ok("link set main-sw2 --up"), "");
    }
}

#[test]
fn a_lab_file_says_links_in_short_or_in_full() {
    let lab = Lab::new();
    let file = "\
[[switches]]
name = \"sw2\"
[[links]]
a = \"main\"
b = \"sw2\"
name_b = \"up\"
vlan = { trunk = { allowed = \"10,20\" } }
impair = { delay = \"5ms\" }
[[ports]]
name = \"red\"
";
    let path = lab.lab_file(file);
    let told = lab.ok(&format!("apply {path}"));
    assert!(told.contains("main-sw2") && told.contains("up"), "{told}");
    assert_eq!(lab.ok(&format!("apply {path}")), "", "nothing is left to do");
    let exported = lab.ok("export");
    let document: Document = toml::from_str(&exported).unwrap();
    assert_eq!(
        document.ports.iter().filter(|port| port.kind == PortKind::Link).count(),
        2
    );
    lab.ok("reset --yes");
    assert_eq!(lab.json::<Vec<LinkView>>("link list").len(), 0);
    lab.ok(&format!("apply {}", lab.lab_file(&exported)));
    assert_eq!(lab.ok("export"), exported);
    // An end without the other is refused.
    let half = "[[ports]]\nname = \"a\"\nkind = \"link\"\npeer = \"b\"\n";
    lab.ctl(&format!("apply --yes {}", lab.lab_file(half)))
        .failed(5, &["port \"a\"", "port \"b\"", "not there"]);
    assert_eq!(lab.ok("export"), exported);
}

#[test]
fn a_link_outlives_the_daemon() {
    let mut lab = joined("");
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add_with(&lab, "blue", PortKind::Veth, 2, "--switch sw2");
    red.ping(blue.v4);
    lab.kill_daemon();
    if vswitch_testing::lab::fastpath_wanted() {
        red.ping(blue.v4);
    }
    lab.start();
    for end in ["main-sw2", "sw2-main"] {
        lab.wait_for_state(end, PortState::Up);
    }
    red.ping_soon(blue.v4);
    red.ping_soon(blue.v6);
    // Somebody tears it out of the daemon's hands: it is laid again.
    vswitch_testing::netns::Place::daemons_own().run_ok("ip link del main-sw2");
    wait_for("the link to be laid again", || red.reaches(blue.v4));
    lab.ok("reset --yes");
}

/// Three switches in a ring, by links alone.
#[test]
fn a_ring_of_links_is_cut_at_one_place() {
    let lab = Lab::new();
    let stations: Vec<_> = (1..=3)
        .map(|n| {
            lab.ok(&format!("switch add s{n}"));
            lab.ok(&format!("set switch s{n} --flap-moves 50"));
            Station::add_with(&lab, &format!("p{n}"), PortKind::Veth, n, &format!("--switch s{n}"))
        })
        .collect();
    for (a, b) in [(1, 2), (2, 3), (3, 1)] {
        lab.ok(&format!("link add s{a} s{b}"));
    }
    stations[0].raw(false).send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    let shut = || {
        let ports = lab.ports().into_iter();
        let shut = ports.filter(|port| port.state == PortState::Shut);
        shut.map(|port| port.port.name.to_string()).collect::<Vec<_>>()
    };
    wait_for("the loop guard to shut one", || shut().len() == 1);
    assert!(shut()[0].starts_with('s'), "a station's port was shut: {:?}", shut());
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        stations[from].ping_soon(stations[to].v4);
    }
}

/// Two switches, a trunk of two VLANs, four hosts, delay and loss, and what passes on the trunk seen: that took 37 commands of ip and tc.
const IN_COMMANDS: [&str; 7] = [
    "switch add sw2",
    "link add main sw2 --trunk 10,20 --impair delay=20ms,loss=1%",
    "add-port r1 --vlan 10 --addr 10.0.0.1/24",
    "add-port b1 --vlan 20 --addr 10.0.0.1/24",
    "add-port r2 --vlan 10 --addr 10.0.0.2/24 --switch sw2",
    "add-port b2 --vlan 20 --addr 10.0.0.2/24 --switch sw2",
    "capture main-sw2 -c 4 vlan and icmp",
];

const IN_A_FILE: &str = r#"
switches = [{ name = "sw2" }]
[[links]]
a = "main"
b = "sw2"
vlan = { trunk = { allowed = "10,20" } }
impair = { delay = "20ms", loss = "1%" }
[[ports]]
name = "r1"
vlan = { access = 10 }
addresses = ["10.0.0.1/24"]
[[ports]]
name = "b1"
vlan = { access = 20 }
addresses = ["10.0.0.1/24"]
[[ports]]
name = "r2"
switch = "sw2"
vlan = { access = 10 }
addresses = ["10.0.0.2/24"]
[[ports]]
name = "b2"
switch = "sw2"
vlan = { access = 20 }
addresses = ["10.0.0.2/24"]
"#;

#[test]
fn the_lab_of_the_comparison_takes_eight_commands_or_25_lines() {
    assert!(IN_COMMANDS.len() <= 8);
    assert!(IN_A_FILE.trim().lines().count() <= 25);
    let lab = Lab::new();
    let (capture, commands) = IN_COMMANDS.split_last().unwrap();
    let works = || {
        let mut capturing = tool()
            .args(["--json"])
            .args(capture.split(' '))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("both pairs to reach each other, and to be seen", || {
            for host in ["r1", "b1"] {
                let ping = Place::named(host).output("ping -n -c 1 -W 1 10.0.0.2");
                let text = String::from_utf8_lossy(&ping.stdout);
                let time = text.split("time=").nth(1).and_then(|rest| rest.split(' ').next());
                let time: Option<f64> = time.and_then(|time| time.parse().ok());
                assert!(time.is_none_or(|time| time >= 40.0), "{text}");
                if time.is_none() {
                    return false;
                }
            }
            capturing.try_wait().unwrap().is_some()
        });
        let seen = capturing.wait_with_output().unwrap();
        assert!(seen.status.success());
        let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        assert!(seen.contains("10.0.0.2"), "{seen}");
        let impair = lab.port("main-sw2").port.impair;
        assert!(format!("{impair:?}").contains("loss"), "{impair:?}");
    };
    commands.iter().for_each(|line| drop(lab.ok(line)));
    works();
    let made = lab.ok("export");
    lab.ok("reset --yes");
    lab.ok(&format!("lab up {}", lab.lab_file(IN_A_FILE)));
    works();
    for host in ["r1", "b1", "r2", "b2", "sw2"] {
        assert!(made.contains(&format!("\"{host}\"")), "{made}");
    }
}
