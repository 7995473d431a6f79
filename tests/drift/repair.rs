//! What `apply` and other commands make again.

use vswitch_api::PortKind;
use vswitch_api::view::{Changes, PortState};
use vswitch_testing::http::request;
use vswitch_testing::lab::Lab;
use vswitch_testing::netns::{Place, run};
use vswitch_testing::station::{Station, make_device};
use vswitch_testing::wait::wait_for;

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
    run("ip -n empty link set eth0 mtu 1300");
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

/// What is asked for by name is there afterwards: to have been given it once is not enough.
#[test]
fn what_was_taken_away_inside_is_given_back_when_it_is_asked_for() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --gateway 10.7.0.2");
    let lose = || run("ip -n red addr del 10.7.0.1/24 dev eth0");
    let address = "repaired: gave port red back its address 10.7.0.1/24";
    let route = "repaired: gave port red back its route to 0.0.0.0/0";
    for (command, line) in [
        ("addr add red 10.7.0.1/24 --if-not-exists", address),
        ("addr add red 10.7.0.1/24", address),
        ("route add red default --via 10.7.0.2 --if-not-exists", route),
        ("route add red default --via 10.7.0.2", route),
        ("set port red --gateway 10.7.0.2", route),
        ("set port red addresses=10.7.0.1/24", address),
    ] {
        lose();
        let planned: Changes = lab.json(&format!("{command} --dry-run"));
        assert!(planned.done.iter().any(|done| done == line), "{command}: {planned:?}");
        assert!(!run("ip -n red addr show eth0").contains("10.7.0.1"), "{command}");
        let done: Changes = lab.json(command);
        assert_eq!(done.done, planned.done, "{command}");
        assert!(run("ip -n red addr show eth0").contains("10.7.0.1/24"), "{command}");
        assert!(run("ip -n red route").contains("default via 10.7.0.2"), "{command}");
    }
    assert_eq!(
        lab.json::<Changes>("set port red addresses=10.7.0.1/24"),
        Changes::default()
    );
    let refused = lab.ctl("addr add red 10.7.0.1/24");
    assert!(refused.stderr.contains("has address 10.7.0.1 already"), "{refused}");
}

/// Lists say what is not there any more.
#[test]
fn what_was_taken_away_inside_is_marked_in_lists() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --gateway 10.7.0.2");
    lab.ok("add-port blue --addr 10.7.0.2/24");
    assert!(!lab.ok("addr list").contains("missing") && !lab.ok("route list").contains("missing"));
    run("ip -n red addr del 10.7.0.1/24 dev eth0");
    wait_for("the mark", || lab.ok("addr list").contains("10.7.0.1/24 (missing)"));
    assert_eq!(request("GET", "/v1/addresses", "").json()[0]["missing"], true);
    assert!(lab.ok("route list").contains("default (missing)"));
    let list: serde_json::Value = lab.json("addr list");
    assert_eq!(
        (&list[0]["missing"], &list[1]["missing"]),
        (&true.into(), &serde_json::Value::Null)
    );
}

/// A route that somebody had made before it was asked for goes as one that was made for it.
#[test]
fn a_route_that_was_found_there_is_removed() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24 --addr fd07::1/64");
    for (to, via) in [("10.8.0.0/16", "10.7.0.2"), ("fd08::/64", "fd07::2")] {
        run(&format!("ip -n red route add {to} via {via}"));
        lab.ok(&format!("route add red {to} --via {via}"));
        lab.ok(&format!("route del red {to}"));
        let left = run("ip -n red route") + &run("ip -n red -6 route");
        assert!(!left.contains(to), "{left}");
    }
    // That of the network itself is the kernel's.
    lab.ok("route add red 10.7.0.0/24");
    lab.ok("route del red 10.7.0.0/24");
    assert!(run("ip -n red route").contains("10.7.0.0/24"));
}

/// faults, small: `set port --up` does not say that all is well while it is not.
#[test]
fn a_port_that_stays_missing_is_not_set_up_in_silence() {
    let lab = Lab::new();
    make_device("device");
    lab.ok("add-port device --type device");
    run("ip link del device");
    lab.wait_for_state("device", PortState::Missing);
    for way in ["", "-n"] {
        lab.ctl(&format!("set port device --up {way}"))
            .failed(4, &["no interface device"]);
    }
    make_device("device");
    lab.wait_for_state("device", PortState::Up);
    lab.ok("set port device --up");
}

/// What was repaired before an edit that is refused was told to nobody.
#[test]
fn a_repair_before_a_refused_edit_is_told() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    run("ip -n red addr del 10.7.0.1/24 dev eth0");
    lab.ctl("set port red --up switch=nope").failed(
        4,
        &[
            "nope",
            "what was done before stays: repaired: gave port red back its address",
        ],
    );
    assert!(run("ip -n red addr").contains("10.7.0.1/24"));
    assert!(!lab.ctl("set port red --up switch=nope").stderr.contains("done before"));
}

/// A device could not be given back, and was forgotten as soon as another port had the name.
#[test]
fn what_could_not_be_given_back_is_not_forgotten_for_another_port_of_its_name() {
    let mut lab = Lab::new();
    make_device("below");
    run("ip link add name mac0 link below up type macvlan");
    lab.ok("add-port mac0 --type device --mtu 1200");
    run("ip link set below mtu 1300");
    let has_mtu = |mtu: u32| run("ip link show mac0").contains(&format!(" mtu {mtu} "));
    let told = lab.ctl("del-port mac0");
    assert!(told.stderr.contains("the next command tries it again"), "{told}");
    lab.ok("add-port mac0 --addr 10.7.0.1/24");
    lab.ok("add-port more");
    lab.kill_daemon();
    lab.start();
    let limits = |lab: &Lab| lab.ok("status");
    assert!(
        limits(&lab).contains("interface mac0 could not be given back"),
        "{}",
        limits(&lab)
    );
    assert!(
        lab.ctl("doctor")
            .stdout
            .contains("interface mac0 could not be given back")
    );
    assert!(has_mtu(1200));
    run("ip link set below mtu 1500");
    let near = || {
        Place::daemons_own()
            .run_ok("ip -o link show mac0")
            .split(':')
            .next()
            .map(str::to_owned)
    };
    let before = near();
    lab.ok("del-port more");
    assert!(has_mtu(1500));
    assert!(!limits(&lab).contains("given back"), "{}", limits(&lab));
    // Nothing of the other was touched.
    assert_eq!(near(), before);
    lab.wait_for_state("mac0", PortState::Up);
}

/// A dry run promised what could not be.
#[test]
fn what_is_in_a_namespace_that_others_have_taken_away_is_not_promised() {
    let lab = Lab::new();
    run("ip netns add theirs");
    lab.ok("add-port red");
    lab.ok("add-port guest --netns theirs");
    run("ip netns del theirs");
    lab.wait_for_state("guest", PortState::Missing);
    let path = lab.lab_file(&lab.ok("export"));
    for line in ["set port guest --up".to_owned(), format!("apply {path}")] {
        // A dry run ended well.
        let [foretold, told] = [" -n", ""].map(|way| lab.ctl(&format!("{line}{way}")));
        let told = told.failed(4, &["theirs"]);
        assert_eq!((foretold.code, &foretold.stderr), (4, &told.stderr), "{line}");
    }
    let found = lab.ctl("doctor").stdout;
    assert!(!found.contains("could not be repaired"), "the port is told of: {found}");
    let path = lab.lab_file(&lab.ok("export").replace("name = \"red\"", "name = \"blue\""));
    let [foretold, told] = ["-n ", ""].map(|way| lab.ctl(&format!("apply --yes {way}{path}")));
    assert!(
        told.code == 0 && told.stderr.contains("could not be repaired"),
        "{told}"
    );
    assert_eq!(foretold.stderr, told.stderr);
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
    if vswitch_testing::lab::fastpath_wanted() {
        cases.push((&Place::Home, format!("ip link set {beside} down"), "beside it"));
    }
    for (place, harm, word) in cases {
        place.run_ok(&harm);
        let done = apply();
        assert!(done.iter().any(|line| line.contains(word)), "{harm}: {done:?}");
        red.place.run_ok(&format!("ping -n -c 1 -W 10 -s 1400 {}", dev.v4));
        assert_eq!(apply(), Vec::<String>::new(), "after {harm}");
    }
    if vswitch_testing::lab::fastpath_wanted() {
        // By itself, as nothing passes without it.
        run(&format!("ip link del {beside}"));
        wait_for("the way to the device to be laid again", || red.reaches(dev.v4));
        lab.wait_for_state("wan", PortState::Up);
    }
    lab.ok("del-port wan");
    assert!(!run("ip -br link").contains("vs-"));
}

/// What can't be repaired does not make what was done a failure, nor keep the rest from being repaired.
#[test]
fn an_edit_that_is_done_is_no_failure_for_what_can_not_be_repaired() {
    let mut lab = Lab::new();
    run("ip netns add theirs");
    lab.ok("add-port stuck --netns theirs");
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.stop_daemon();
    run("ip -n theirs link del eth0");
    run("ip -n theirs link add eth0 type veth peer name other");
    lab.start();
    lab.wait_for_state("stuck", PortState::Missing);
    lab.wait_for_state("red", PortState::Up);
    run("ip -n red addr flush dev eth0");
    let more = format!("{}\n[[ports]]\nname = \"new\"\n", lab.ok("export"));
    let file = lab.lab_file(&more);
    let changes: Changes = lab.json(&format!("apply {file}"));
    let told = |lines: &[String], word: &str| lines.iter().any(|line| line.contains(word));
    assert!(told(&changes.done, "added port new"), "{changes:?}");
    assert!(told(&changes.done, "gave port red back its address"), "{changes:?}");
    assert!(
        told(&changes.warnings, "port \"stuck\" could not be repaired"),
        "{changes:?}"
    );
    // Where that is all, it is one.
    for way in ["", "-n"] {
        lab.ctl(&format!("apply {way} {file}")).failed(5, &["stuck", "eth0"]);
    }
    let changes: Changes = lab.json("port add stuck more --netns theirs --if-not-exists");
    assert!(
        told(&changes.warnings, "port \"stuck\" could not be repaired"),
        "{changes:?}"
    );
}

/// A lab that comes, changes or goes leaves others to themselves.
#[test]
fn a_lab_repairs_what_is_its_own() {
    let lab = Lab::new();
    let file = |name: &str, more: &str| {
        let path = lab.scratch().join(format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\n[[switches]]\nname = \"s{name}\"\n[[ports]]\nname = \"{name}1\"\nswitch = \"s{name}\"\n\
             addresses = [\"10.7.0.1/24\"]\n[[cables]]\na = {{ namespace = \"{name}2\" }}\nb = {{ namespace = \"{name}3\" }}\n{more}"
        );
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (a, b) = (file("a", ""), file("b", ""));
    for path in [&a, &b] {
        lab.ok(&format!("lab up {path}"));
    }
    let drift = |names: &[&str]| {
        for name in names {
            run(&format!("ip -n {name}1 addr flush dev eth0"));
            run(&format!("ip -n {name}2 link set eth0 mtu 1300"));
        }
    };
    drift(&["a", "b"]);
    let of_a =
        |done: &[String]| !done.is_empty() && done.iter().all(|line| !line.contains("b1") && !line.contains("b2"));
    let planned: Changes = lab.json(&format!("lab up -n {a}"));
    let changes: Changes = lab.json(&format!("lab up {a}"));
    assert_eq!(planned.done, changes.done);
    assert_eq!(changes.done.len(), 2, "{changes:?}");
    assert!(of_a(&changes.done), "{changes:?}");
    drift(&["a"]);
    let changes: Changes = lab.json("lab down a");
    assert!(of_a(&changes.done), "{changes:?}");
    assert!(!run("ip -n b1 addr").contains("10.7.0.1"));
    // A document without a name is about all.
    let all = lab.lab_file(&lab.ok("export"));
    lab.ok(&format!("apply {all}"));
    assert!(run("ip -n b1 addr").contains("10.7.0.1"));
}

/// A plan tells of what has drifted beside all else that it would do.
#[test]
fn a_plan_has_what_drifted_and_what_differs() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --addr 10.7.0.2/24");
    lab.ok("add-port green --addr 10.7.0.3/24");
    for name in ["red", "blue", "green"] {
        run(&format!("ip -n {name} addr flush dev eth0"));
        run(&format!("ip -n {name} link set eth0 mtu 1300"));
    }
    // The near ends have it too by then.
    for name in ["red", "blue", "green"] {
        lab.wait_for_port(name, "the MTU to be shown", |port| port.port.mtu == Some(1300));
    }
    let planned: Changes = lab.json("set port green --up -n");
    let done: Changes = lab.json("set port green --up");
    assert_eq!(planned.done, done.done);
    assert!(done.done.iter().any(|line| line.contains("10.7.0.3/24")), "{done:?}");
    let mut wanted: serde_json::Value = lab.json("export");
    let ports = wanted["ports"].as_array_mut().unwrap();
    ports.retain(|port| port["name"] != "blue");
    ports[0]["mtu"] = 1400.into();
    ports.push(serde_json::json!({ "name": "new" }));
    let told = |path: &str| {
        let changes: Changes = serde_json::from_value(request("PUT", path, &wanted.to_string()).json()).unwrap();
        changes.done
    };
    let planned = told("/v1/lab?dry_run");
    let done = told("/v1/lab");
    let of = |done: &[String], word: &str| Vec::from_iter(done.iter().filter(|line| line.contains(word)).cloned());
    for word in ["new", "blue", "MTU"] {
        assert_eq!(of(&planned, word), of(&done, word), "{word}");
    }
    // The address comes back with the MTU or by the repair, but it comes back.
    assert!(
        planned
            .iter()
            .any(|line| line.contains("gave port red back its address")),
        "{planned:?}"
    );
    assert!(run("ip -n red addr").contains("10.7.0.1"));
}
