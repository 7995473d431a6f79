//! What the control tool refuses, asks about and tells, so that nobody loses a lab or a connection by a slip.

use std::io::Write;
use std::process::Stdio;

use vswitch_testing::api::trace::{TraceOutcome, TraceReport};
use vswitch_testing::api::view::{Changes, PortState};
use vswitch_testing::api::{Lab as Wanted, PortKind};
use vswitch_testing::ctl::tool;
use vswitch_testing::{Lab, Place, Station, run, wait_for};

/// `apply -` with this on its standard input.
fn apply(options: &str, text: &str) -> (i32, String) {
    let mut child = tool()
        .args(["apply", "-"])
        .args(options.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A2: what stands behind a pipe whose left side failed, and a file that names less than is there, remove nothing.
#[test]
fn a_lab_is_not_lost_by_a_slip() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --addr 10.7.0.2/24");
    lab.ok("cable red green");
    lab.ok("switch add second");
    let before: Wanted = lab.json("export");
    let text_before = lab.ok("export");

    let (code, text) = apply("", "");
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("it is empty, so nothing was changed"), "{text}");
    let (code, text) = apply("", "[[ports]]\nname = \"red\"\naddresses = [\"10.7.0.1/24\"]\n");
    assert_eq!(code, 5, "{text}");
    for gone in [
        "port blue",
        "namespace green",
        "namespace blue",
        "the cable red",
        "switch second",
    ] {
        assert!(text.contains(gone), "{gone}: {text}");
    }
    assert!(!text.contains("port red"), "{text}");
    assert_eq!(lab.json::<Wanted>("export"), before);

    // What only adds or changes needs no answer, and neither does the lab as it is.
    let file = lab.lab_file(&lab.ok("export"));
    lab.ok(&format!("apply {file}"));
    let more = format!("{}\n[[ports]]\nname = \"more\"\n", lab.ok("export"));
    lab.ok(&format!("apply {}", lab.lab_file(&more)));
    assert_eq!(lab.ports().len(), 3);

    let plan: Changes = lab.json(&format!("apply -n {}", lab.lab_file(&text_before)));
    assert_eq!(
        plan.removed,
        ["removed port more from switch main", "removed namespace more"]
    );
    lab.ok(&format!("apply --yes {}", lab.lab_file(&text_before)));
    assert_eq!(lab.json::<Wanted>("export"), before);
    let (code, text) = apply("--yes", "ports = []\n");
    assert_eq!(code, 0, "{text}");
    assert!(lab.ports().is_empty());
}

/// A4: an interface by which the host, and perhaps the user, is connected is not taken over by the way.
#[test]
fn an_interface_that_the_host_uses_is_taken_over_by_force_only() {
    let mut lab = Lab::new();
    let make = |name: &str| {
        run(&format!("ip netns add far-{name}"));
        run(&format!(
            "ip link add {name} up type veth peer name eth0 netns far-{name}"
        ));
        run(&format!("ip -n far-{name} link set eth0 up"));
    };
    ["addressed", "routed", "member", "lower", "free"]
        .into_iter()
        .for_each(make);
    run("ip addr add 192.0.2.5/24 dev addressed");
    run("ip route add default via 192.0.2.1 dev addressed");
    run("ip route add 198.51.100.0/24 dev routed table 77");
    run("ip link add br7 up type bridge");
    run("ip link set member master br7");
    run("ip link add link lower name over up type macvlan mode bridge");
    for (name, uses) in [
        (
            "addressed",
            &["address 192.0.2.5/24", "the default route via 192.0.2.1"][..],
        ),
        ("routed", &["the route to 198.51.100.0/24"]),
        ("member", &["member of br7"]),
        ("lower", &["over stands on it"]),
    ] {
        let words: Vec<_> = [uses, &["port \"p\"", name, "--force"]].concat();
        for dry in ["", "-n"] {
            lab.ctl(&format!("add-port p --type device --name {name} {dry}"))
                .failed(5, &words);
        }
        let file = lab.lab_file(&format!(
            "[[ports]]\nname = \"p\"\nkind = \"device\"\nifname = \"{name}\"\n"
        ));
        lab.ctl(&format!("apply {file}")).failed(5, &words);
        lab.ctl(&format!("apply --yes {file}")).failed(5, &words);
        assert!(lab.ports().is_empty());
        let said: Changes = lab.json(&format!("add-port p --type device --name {name} -n --force"));
        assert!(
            said.warnings.iter().any(|warning| warning.contains(uses[0])),
            "{said:?}"
        );
    }
    // The kernel knows it by this name too.
    run("ip link property add dev addressed altname nick");
    lab.ctl("add-port p --type device --name nick")
        .failed(2, &["nick is an altname of interface addressed", "--name addressed"]);
    let long = "a-name-of-more-than-fifteen-bytes";
    run(&format!("ip link property add dev addressed altname {long}"));
    lab.ctl(&format!("add-port p --type device --name {long}"))
        .failed(2, &["for an altname the name that `ip link` shows first"]);
    // One that is only up has its link-local address and its route.
    lab.ok("add-port free --type device");
    lab.ok("add-port p --type device --name addressed --force");
    lab.ok("add-port p --type device --name addressed --if-not-exists");
    // What is in the lab already stays, whatever the host has on it.
    let file = lab.lab_file(&lab.ok("export"));
    lab.ok(&format!("apply {file}"));
    lab.ok("set port p --mtu 1400");
    lab.stop_daemon();
    lab.start();
    assert_eq!(lab.port("p").state, PortState::Up);
}

/// As by DHCP, with a metric, where the kernel says nothing.
#[test]
fn the_host_keeps_its_default_route_unless_it_is_forced() {
    let lab = Lab::new();
    lab.ok("add-port first --type internal --addr 10.1.0.1/24 --gateway 10.1.0.254");
    run("ip link add up0 up type veth peer name up1");
    run("ip link set up1 up");
    run("ip addr add 192.0.2.5/24 dev up0");
    run("ip route add default via 192.0.2.1 metric 100");
    let words = [
        "port \"gw\"",
        "via 192.0.2.1 by interface up0",
        "--via 10.0.0.254 --force",
    ];
    let reply = lab
        .ctl("add-port gw --type internal --addr 10.0.0.1/24 --gateway 10.0.0.254")
        .failed(5, &[words[0], words[1], "--force"]);
    assert!(!reply.stderr.contains("route add"), "it is not there: {reply}");
    lab.ok("add-port gw --type internal --addr 10.0.0.1/24 --addr fd00::1/64");
    for to in ["default", "0.0.0.0/1"] {
        for dry in ["", "-n"] {
            lab.ctl(&format!("route add gw {to} --via 10.0.0.254 {dry}"))
                .failed(5, &words);
        }
    }
    lab.ctl("set port gw --gateway 10.0.0.254").failed(5, &words);
    // What is no way of the host's goes on as ever.
    lab.ok("route add gw 10.9.0.0/16 --via 10.0.0.254");
    lab.ok("route add gw default --via fd00::fe");
    lab.ok("add-port red --addr 10.0.0.2/24 --gateway 10.0.0.254");
    lab.ok("route add gw 0.0.0.0/1 --via 10.0.0.254 --force");
    lab.ok("set port gw --mtu 1400");
}

/// C: `cable red blue` gave eth0 away, and the message named a port that was not there.
#[test]
fn a_port_comes_beside_a_cable() {
    let lab = Lab::new();
    lab.ok("cable red blue");
    lab.ok("add-port red --addr 10.7.0.1/24");
    assert_eq!(lab.port("red").port.ifname.unwrap().as_str(), "eth1");
    lab.ok("add-port red --addr 10.7.0.1/24 --if-not-exists");
    lab.ok("add-port peer --addr 10.7.0.2/24");
    Place::named("red").run_ok("ping -n -c 1 -W 10 10.7.0.2");
    lab.ok(&format!("apply {}", lab.lab_file(&lab.ok("export"))));
    lab.ctl("add-port blue --name eth0")
        .failed(5, &["port \"blue\"", "eth0", "cable \"red\" - \"blue\""]);
}

/// C: a trace begins where the packet does: at the routes and the neighbours of the sender.
#[test]
fn a_trace_looks_at_the_sender() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    let host = Station::add(&lab, "host", PortKind::Internal, 3);
    lab.ok("add-port far --addr 10.9.0.1/24");
    let trace = |options: &str| -> TraceReport { lab.json(&format!("trace {options}")) };
    let names = |report: &TraceReport| -> Vec<String> { report.ports.iter().map(ToString::to_string).collect() };
    let never = |options: &str, reason: &str, parts: &[&str]| {
        let report = trace(options);
        let ends = (report.outcome, report.reason.as_deref());
        assert_eq!(ends, (TraceOutcome::Dropped, Some(reason)), "{options}: {report:?}");
        let detail = &report.steps[0].detail;
        assert!(parts.iter().all(|part| detail.contains(part)), "{options}: {detail}");
    };

    // Before any of them has spoken to another, and by each kind of sender.
    for (options, part) in [
        (format!("red --ip {}", blue.v4), "port blue answers"),
        (format!("red --ip {} --proto tcp", blue.v6), "port blue answers"),
        (format!("host --ip {}", blue.v4), "port blue answers"),
        (format!("blue --ip {}", host.v6), "port host answers"),
    ] {
        let report = trace(&options);
        assert!(report.steps[0].detail.contains(part), "{options}: {report:?}");
        assert_ne!(report.outcome, TraceOutcome::Dropped, "{options}: {report:?}");
    }
    // Where there is no frame at all.
    let none = |options: &str, words: &[&str]| {
        let words = [words, &["--dst"]].concat();
        lab.ctl(&format!("trace {options}")).failed(2, &words);
    };
    none("red --ip 10.9.0.1", &["port \"red\"", "no route to 10.9.0.1"]);
    none("host --ip 10.9.0.1", &["port \"host\"", "no route to 10.9.0.1"]);
    none(&format!("red --ip {}", red.v4), &["own stack"]);
    none("red --ip 10.7.0.77", &["no port has that"]);
    lab.ok("cable red green --addr-a 10.8.0.1/24");
    none("red --ip 10.8.0.2", &["out of eth1"]);

    // A router is the neighbour then.
    lab.ok(&format!("route add red 10.9.0.0/24 --via {}", blue.v4));
    let report = trace("red --ip 10.9.0.1");
    assert!(
        report.steps[0].detail.contains(&format!("leads over {}", blue.v4)),
        "{report:?}"
    );
    assert!(names(&report).contains(&"blue".to_owned()), "{report:?}");

    // Where the question, or the answer, does not come through.
    lab.ok("acl add blue in deny arp");
    never(
        &format!("red --ip {}", blue.v4),
        "no-neighbour",
        &["port blue has", "its answer", "denies"],
    );
    lab.ok("acl clear blue");
    lab.ok("set port red --isolation isolated");
    lab.ok("set port blue --isolation isolated");
    never(
        &format!("red --ip {}", blue.v4),
        "no-neighbour",
        &["the sender's question"],
    );
    lab.ok("set port red --isolation promiscuous");

    lab.ok("set port blue --down");
    never(
        &format!("red --ip {}", blue.v4),
        "no-neighbour",
        &["port blue", "is down"],
    );
    lab.ok("set port blue --up");
    // The stack sends to a neighbour that it knows, though nobody is there now; the trace says who.
    red.ping_soon(blue.v4);
    lab.ok("set port blue --down");
    wait_for("the state of the port", || lab.port("blue").state == PortState::Down);
    let report = trace(&format!("red --ip {}", blue.v4));
    assert!(
        report.steps[0].detail.contains("port blue, which has it, is down"),
        "{report:?}"
    );
    assert!(!names(&report).contains(&"blue".to_owned()), "{report:?}");
    lab.ok("set port blue --up");
    // Where it is is known from here on.
    red.ping_soon(blue.v4);

    // By address, by name, by MAC address: the same.
    let own = format!("red --dst {}", blue.mac());
    let by_mac = trace(&own);
    for dst in [blue.v4.to_string(), blue.v6.to_string(), "blue".to_owned()] {
        assert_eq!(trace(&format!("red --dst {dst}")).ports, by_mac.ports, "{dst}");
    }
    lab.ctl("trace red --dst 10.7.0.77")
        .failed(2, &["10.7.0.77", "no port has that", "--dst MAC"]);
}

/// A9: files and the API take the strings of the command line, and refuse what may mean anything.
#[test]
fn a_lab_file_says_quantities_as_the_command_line_does() {
    let lab = Lab::new();
    let with = |settings: &str| format!("[[ports]]\nname = \"red\"\n{settings}\n");
    let file = lab.lab_file(&with(
        "impair = { out = { loss = \"1%\", delay = \"20ms\", jitter = \"500us\", rate = \"10mbit\", burst = \"64k\" } }\n\
         police = \"100mbit burst 64k\"\nstorm = { broadcast = \"100pps\", multicast = { rate = \"1mbit\" } }",
    ));
    lab.ok(&format!("apply {file}"));
    let from_file = lab.port("red").port;
    lab.ok("del-port red");
    lab.ok("add-port red");
    lab.ok("impair red --loss 1% --delay 20ms --jitter 500us --rate 10mbit --burst 64k");
    lab.ok("police red --rate 100mbit --burst 64k");
    lab.ok("storm red --broadcast 100pps --multicast 1mbit");
    assert_eq!(lab.port("red").port, from_file);
    let exported = lab.ok("export");
    assert_eq!(lab.ok(&format!("apply {}", lab.lab_file(&exported))), "", "{exported}");
    for (settings, words) in [
        ("impair = { out = { loss = 1 } }", &["lab.toml:3:", "\"1%\""][..]),
        ("impair = { out = { delay = 20 } }", &["lab.toml:3:", "20ms"]),
        ("impair = { out = { delay_us = \"20\" } }", &["lab.toml:3:", "20ms"]),
        ("impair = { out = { rate = 10 } }", &["lab.toml:3:", "10mbit"]),
        ("storm = { broadcast = 100 }", &["lab.toml:3:", "100pps"]),
        ("vlan = { trunk = { allowed = \"+30\" } }", &["lab.toml:3:", "+30"]),
        ("acl = { in = [\"deny tcp to any port +22\"] }", &["lab.toml:3:", "+22"]),
    ] {
        lab.ctl(&format!("apply {}", lab.lab_file(&with(settings))))
            .failed(2, words);
    }
    assert_eq!(lab.port("red").port, from_file);
}

/// What can't be done is refused as well where it is only to be said what would be done.
#[test]
fn a_dry_run_refuses_a_device_that_is_not_there() {
    let lab = Lab::new();
    for options in ["-n", ""] {
        let reply = lab.ctl(&format!("add-port up --type device --name nodev {options}"));
        assert_eq!(reply.code, 4, "{reply}");
        assert!(reply.stderr.contains("nodev"), "{reply}");
    }
}
