//! Why does red not reach blue? Each lab of the tables is broken by one thing that people do, the doctor has to name it, and what it says
//! mends it has to do so.

mod across;
mod installation;

use serde_json::Value;
use vswitch_testing::api::PortKind;
use vswitch_testing::require::kernel_lacks;
use vswitch_testing::{Lab, Place, Station, linux, run, wait_for};

/// How one asks where no answer is to come.
const BROKEN: &str = "--json doctor red blue --wait 1";
const WELL: &str = "red reaches blue (v4, v6)\n";

fn pair(options: &str) -> Lab {
    let lab = Lab::new();
    lab.ok("switch add sw2");
    Station::add(&lab, "red", PortKind::Veth, 1);
    Station::add_with(&lab, "blue", PortKind::Veth, 2, options);
    lab
}

/// Nothing is wrong, and that is all that is said.
#[track_caller]
fn is_well(lab: &Lab, says: &str) {
    let reply = lab.ctl("doctor red blue");
    assert_eq!(
        (reply.code, reply.stdout.as_str(), reply.stderr.as_str()),
        (0, says, ""),
        "{reply}"
    );
}

/// As a shell parts them.
fn words_of(line: &str) -> Vec<&str> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(n, part)| match n % 2 {
        0 => part.split_whitespace().collect(),
        _ => vec![part],
    });
    words.collect()
}

/// Runs a command line of the host, or of the control tool.
#[track_caller]
fn play(lab: &Lab, line: &str) {
    for line in line.split(" && ") {
        match line.strip_prefix("vswitchctl ") {
            Some(words) => drop(lab.ctl_words(&words_of(words)).ok()),
            None => drop(run(line)),
        }
    }
}

/// One thing is broken: its cause is named first, and the commands that are named mend it.
#[track_caller]
fn mended(lab: &Lab, breaks: &[&str], cause: &str) {
    breaks.iter().for_each(|line| play(lab, line));
    let mut told = Vec::new();
    // A thing may have two sides, such as a route each way.
    for round in 0..4 {
        if round > 0 {
            let reply = lab.ctl("doctor red blue");
            if reply.code == 0 {
                assert_eq!((reply.stdout.as_str(), reply.stderr.as_str()), (WELL, ""), "{reply}");
                return;
            }
        }
        // What is broken answers nobody, however long it is waited for.
        let reply = lab.ctl(BROKEN);
        let report: Value = reply.json();
        assert!(round > 0 || reply.code != 0, "{breaks:?}: nothing is found: {reply}");
        if reply.code == 0 {
            // Only now it is.
            continue;
        }
        assert_eq!(reply.code, 1, "{breaks:?}: {reply}");
        let finding = &report["finding"];
        let text = finding["cause"].as_str().unwrap();
        assert!(round > 0 || text.contains(cause), "{breaks:?}: not {cause:?}: {reply}");
        assert!(!finding["evidence"].as_str().unwrap().is_empty(), "{reply}");
        let mend = finding["mend"]
            .as_str()
            .unwrap_or_else(|| panic!("{breaks:?}: no mend: {reply}"));
        told.push(format!("{text} / {mend}"));
        play(lab, mend);
    }
    panic!("{breaks:?}: it is not mended by {told:#?}");
}

#[test]
fn ports_and_interfaces() {
    let lab = pair("");
    is_well(&lab, WELL);
    for (breaks, cause) in [
        (&["vswitchctl set port blue --down"][..], "port blue is set down"),
        (&["ip -n blue link set eth0 down"], "eth0 of port blue is down"),
        (&["ip -n blue link set eth0 arp off"], "does no ARP"),
        (&["ip -n blue link set eth0 mtu 1400"], "MTU"),
        (
            &[
                "ip -n blue link add b0 type bridge",
                "ip -n blue link set eth0 master b0",
            ],
            "eth0 of port blue is a port of bridge b0",
        ),
        (&["vswitchctl impair red --loss 100%"], "loses 100%"),
        (&["vswitchctl impair blue --loss 20% --direction in"], "loses 20%"),
        (&["ip netns del blue"], "namespace blue is gone"),
        (
            &["vswitchctl impair red --delay 3s"],
            "red is impaired on the way out: delay 3s",
        ),
        (
            &["vswitchctl set port red --trunk 10"],
            "red and blue are not in the same VLAN",
        ),
    ] {
        mended(&lab, breaks, cause);
    }
    for (arguments, code, word) in [
        ("doctor red nosuch", 4, "nosuch"),
        ("doctor red red", 2, "both ends"),
        ("doctor red", 2, "TO"),
    ] {
        let reply = lab.ctl(arguments);
        assert!(reply.code == code && reply.stderr.contains(word), "{reply}");
    }
}

#[test]
fn addresses_and_routes() {
    let lab = pair("");
    let v6 = [
        "vswitchctl addr del blue fd07::2/64",
        "vswitchctl addr del red fd07::1/64",
    ];
    for (breaks, cause) in [
        (
            &["ip -n blue addr del 10.7.0.2/24 dev eth0"][..],
            "lacks its address 10.7.0.2",
        ),
        (
            &["ip netns exec blue sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"],
            "IPv6 is disabled",
        ),
        (
            &[
                "vswitchctl addr del blue 10.7.0.2/24",
                "vswitchctl addr add blue 10.7.0.200/25",
            ],
            "prefix of blue",
        ),
        (
            &[
                "vswitchctl addr del red 10.7.0.1/24",
                "vswitchctl addr add red 10.7.0.1/32",
            ],
            "prefix of red",
        ),
        (
            &["vswitchctl add-port green", "ip -n green addr add 10.7.0.1/24 dev eth0"],
            "address of two ports",
        ),
        (
            &["ip -n red route add blackhole 10.7.0.200/32"],
            "stops what is for 10.7.0.200: blackhole",
        ),
        (
            &["ip -n red route del 10.7.0.0/24 dev eth0"],
            "lacks the route to its own subnet",
        ),
    ] {
        mended(&lab, breaks, cause);
    }
    is_well(&lab, WELL);
    v6.iter().for_each(|line| play(&lab, line));
    is_well(&lab, "red reaches blue (v4)\n");
    let find = |cause: &str, mends: &str| {
        let reply = lab.ctl(BROKEN);
        let report: Value = reply.json();
        assert!(
            reply.code == 1 && report["finding"]["cause"].as_str().unwrap().contains(cause),
            "{reply}"
        );
        let mend = report["finding"]["mend"].as_str().unwrap();
        assert!(mend.contains(mends), "{reply}");
        play(&lab, mend);
    };
    lab.ok("addr flush blue");
    find("blue has no address", "addr add blue 10.7.0.");
    is_well(&lab, "red reaches blue (v4)\n");
    lab.ok("addr flush blue");
    lab.ok("addr add blue fd07::2/64");
    find("same IP version", "addr add blue 10.7.0.");
    is_well(&lab, "red reaches blue (v4)\n");
    lab.ok("addr flush blue");
    lab.ok("addr add blue 10.8.0.2/24");
    find("different subnets", "addr add blue 10.7.0.");
    is_well(&lab, "red reaches blue (v4)\n");
}

/// What `ip route get` alone does not show the reason of.
#[test]
fn rules_and_other_tables() {
    let lab = pair("");
    for (breaks, cause) in [
        (
            &["ip -n blue rule add to 10.7.0.1 blackhole"][..],
            "a rule of blue stops what is for 10.7.0.1: from all to 10.7.0.1 blackhole",
        ),
        (
            &[
                "ip -n blue -6 rule add from fd07::2 lookup 7",
                "ip -n blue -6 route add prohibit default table 7",
            ],
            "a route of blue stops what is for fd07::1: prohibit default",
        ),
        (
            &[
                "ip -n red rule add to 10.7.0.2 lookup 100",
                "ip -n red route add default via 10.7.0.77 table 100",
            ],
            "leads over 10.7.0.77, which is nobody's address",
        ),
        (
            &["ip -n red route add local 10.7.0.2 dev lo"],
            "red takes 10.7.0.2 for an address of its own",
        ),
        (
            &["ip -n blue addr add fd07::1/128 dev lo"],
            "blue takes fd07::1 for an address of its own",
        ),
    ] {
        mended(&lab, breaks, cause);
    }
}

#[test]
fn what_a_port_lets_through() {
    let lab = pair("");
    lab.ok("add-port mon");
    for (breaks, cause) in [
        (
            &[
                "vswitchctl set port red --vlan 10",
                "vswitchctl set port blue --vlan 20",
            ][..],
            "not in the same VLAN",
        ),
        (&["vswitchctl set port blue --vlan 30"], "not in the same VLAN"),
        (&["vswitchctl set port blue --trunk 10,20"], "not in the same VLAN"),
        (
            &[
                "vswitchctl set port blue --trunk 10,20 --native 10",
                "vswitchctl set port blue --accept tagged",
            ],
            "accepts tagged frames only",
        ),
        (
            &[
                "vswitchctl set port red --isolation isolated",
                "vswitchctl set port blue --isolation isolated",
            ],
            "isolated",
        ),
        (&["vswitchctl set port red --pin-ip 10.9.0.1"], "pinned"),
        (&["vswitchctl set port blue --pin-mac 02:00:00:00:00:99"], "MAC"),
        (&["vswitchctl acl add red in deny icmp"], "ACL"),
        (
            &[
                "vswitchctl acl add blue out deny udp",
                "vswitchctl acl add blue out deny from 10.7.0.1",
            ],
            "rule 2",
        ),
        (
            &[
                "ip -n red neigh flush all",
                "ip -n blue neigh flush all",
                "vswitchctl acl add blue in deny arp",
            ],
            "ACL",
        ),
    ] {
        mended(&lab, breaks, cause);
        lab.ok("acl clear blue");
    }
    let mac = Station {
        port: "blue".into(),
        place: Place::named("blue"),
        ifname: "eth0".into(),
        v4: [10, 7, 0, 2].into(),
        v6: std::net::Ipv6Addr::LOCALHOST,
    }
    .mac();
    let fdb = format!("vswitchctl fdb add {mac} mon --vlan 10");
    mended(&lab, &[&fdb], "static FDB entry");
    mended(&lab, &["vswitchctl mirror add m --from mon --to blue"], "mirror");
    let flush = ["ip -n red neigh flush all", "ip -n blue neigh flush all"];
    mended(
        &lab,
        &[&["vswitchctl set port blue --flood none"][..], &flush].concat(),
        "floods",
    );
    mended(
        &lab,
        &["vswitchctl fdb flush", "vswitchctl set port red --locked on"],
        "locked",
    );
}

#[test]
fn the_stacks_in_the_namespaces() {
    let lab = pair("");
    let flush = ["ip -n red neigh flush all", "ip -n blue neigh flush all"];
    for (breaks, cause) in [
        (
            &["ip netns exec blue iptables -A INPUT -p icmp -j DROP"][..],
            "firewall in namespace blue",
        ),
        (
            &["ip netns exec red iptables -P OUTPUT DROP"],
            "firewall in namespace red",
        ),
        (
            &["ip netns exec blue sysctl -qw net.ipv4.icmp_echo_ignore_all=1"],
            "answers no pings",
        ),
        (
            &[
                flush[0],
                flush[1],
                "ip netns exec blue sysctl -qw net.ipv4.conf.eth0.arp_ignore=8",
            ],
            "arp_ignore",
        ),
        (
            &["ip -n red neigh replace 10.7.0.2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent"],
            "wrong MAC address",
        ),
        (
            &[
                "ip netns exec blue nft add table inet f",
                "ip netns exec blue nft add chain inet f in { type filter hook input priority 0 ; policy drop ; }",
                "ip netns exec blue nft add rule inet f in icmp type echo-request drop",
            ],
            "firewall in namespace blue",
        ),
    ] {
        mended(&lab, breaks, cause);
    }
}

#[test]
fn two_switches() {
    let lab = pair("--switch sw2");
    mended(&lab, &[], "main and sw2 are not joined");
    mended(&lab, &["vswitchctl set port main-sw2 --down"], "main-sw2 is set down");
    mended(&lab, &["vswitchctl impair sw2-main --loss 50%"], "sw2-main loses 50%");
    for line in ["set port red --vlan 10", "set port blue --vlan 10"] {
        lab.ok(line);
    }
    is_well(&lab, WELL);
    mended(
        &lab,
        &["vswitchctl set port main-sw2 --trunk 20,30"],
        "does not carry VLAN 10",
    );
    mended(
        &lab,
        &["vswitchctl set port sw2-main --trunk 20"],
        "does not carry VLAN 10",
    );
    mended(&lab, &["vswitchctl set port blue --vlan 20"], "not in the same VLAN");
    mended(
        &lab,
        &[
            "vswitchctl acl add blue in deny icmp",
            "vswitchctl acl add blue in deny icmp6",
        ],
        "ACL",
    );
}

#[test]
fn nothing_is_said_of_healthy_labs() {
    let lab = Lab::new();
    lab.ok("switch add sw2");
    lab.ok("add-port red --type tap --addr 10.7.0.1/24 --addr fd07::1/64 --pin-ip own --pin-mac own");
    lab.ok("add-port blue --addr 10.7.0.2/24 --addr fd07::2/64");
    lab.ok("add-port other --addr 10.7.0.3/24 --vlan 99");
    lab.ok("acl add blue in deny udp to any port 53");
    lab.ok("ns exec blue iptables -A INPUT -p tcp -j DROP");
    is_well(&lab, WELL);
    lab.ok("set port red --vlan 10");
    lab.ok("set port blue --trunk 10,20 --native 10");
    is_well(&lab, WELL);
    lab.ok("impair red --delay 20ms");
    lab.ok("police red --rate 10mbit");
    is_well(&lab, WELL);
    lab.ok("set port red --isolation isolated");
    is_well(&lab, WELL);
    lab.ok("addr del blue 10.7.0.2/24");
    is_well(&lab, "red reaches blue (v6)\n");
    lab.ok("del-port blue");
    lab.ok("add-port blue --type internal --vlan 10 --addr 10.7.0.2/24");
    is_well(&lab, "red reaches blue (v4)\n");
    lab.ok("del-port blue");
    // The same address in another VLAN is another station.
    lab.ok("add-port blue --vlan 10 --addr 10.7.0.3/24");
    is_well(&lab, "red reaches blue (v4)\n");
}

/// A bridge in the namespace has the port's address, as in many labs of containers; and what somebody moved is nowhere to be looked for.
#[test]
fn nothing_is_said_of_what_speaks_through_an_interface_or_was_moved() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --addr 10.7.0.2/24");
    run("ip -n red link add br0 type bridge");
    run("ip -n red addr flush dev eth0");
    run("ip -n red link set eth0 master br0");
    run("ip -n red addr add 10.7.0.1/24 dev br0");
    run("ip -n red link set br0 up");
    is_well(&lab, "red reaches blue (v4)\n");
    lab.ok("del-port blue");
    lab.ok("add-port blue --type internal --addr 10.7.0.2/24");
    run("ip netns add elsewhere");
    run("ip link set blue netns elsewhere");
    wait_for("it is followed", || lab.port("blue").moved_to.is_some());
    is_well(
        &lab,
        "nothing is wrong with the switch between red and blue; what is behind blue can't be looked into\n",
    );
}

#[test]
fn the_installation() {
    let mut lab = pair("");
    let items = |lab: &Lab| lab.ctl("--json doctor").json::<Vec<Value>>();
    let wrong = |lab: &Lab| {
        let bad = items(lab)
            .into_iter()
            .filter(|item| item["ok"] == false && item["what"] != "limits");
        bad.map(|item| format!("{}: {} / {}", item["what"], item["detail"], item["mend"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(wrong(&lab), Vec::<String>::new());
    let text = lab.ctl("doctor").stdout;
    for what in [
        "daemon",
        "kernel",
        "tun",
        "rights",
        "ping",
        "ports",
        "namespaces",
        "drift",
        "leftovers",
        "drops",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with("OK") && line.contains(what)),
            "{what}: {text}"
        );
    }
    // That is as somebody wants it.
    lab.ok("set port blue --down");
    run("ip link add vs-4711 type veth peer name other");
    let found = wrong(&lab);
    assert_eq!(lab.ctl("doctor").code, 1);
    assert!(
        found.len() == 1 && found[0].contains("ip link del vs-4711"),
        "{found:?}"
    );
    run("ip link del vs-4711");
    lab.ok("set port blue --up");
    wait_for("nothing to be wrong", || wrong(&lab).is_empty());
    lab.stop_daemon();
    let reply = lab.ctl("doctor");
    assert!(
        reply.code == 3 && reply.stdout.contains("systemctl start vswitchd"),
        "{reply}"
    );
}
