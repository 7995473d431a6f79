//! One grammar: nouns with verbs, other words for them, lists of everything.

use serde_json::{Value, json};
use vswitch_testing::Lab;

/// Everything of each kind.
fn furnished() -> Lab {
    let lab = Lab::new();
    lab.ok("port add red --addr 10.0.0.1/24 --vlan 10");
    lab.ok("port create blue --addr 10.0.0.2/24 --vlan 10 --gateway 10.0.0.254");
    lab.ok("port new core --address 10.0.0.3/24 --trunk 10,20-29 --native 5");
    lab.ok("add-port plain --ip 10.9.0.1/24");
    lab.ok("mirror create m --from red --to plain --direction in");
    lab.ok("acl create red in deny udp to any port 53");
    lab.ok("cable create red blue");
    lab.ok("fdb create 02:00:00:00:00:77 red --vlan 10");
    lab
}

#[test]
fn the_same_is_said_in_several_words() {
    let lab = furnished();
    for (words, other) in [
        ("port list", "port ls"),
        ("port list", "ports ls"),
        ("switch list", "switches ls"),
        ("ns list", "namespace ls"),
        ("ns show red", "netns show red"),
        ("cable list", "cable ls"),
        ("addr list", "addr show"),
        ("addr list red", "address ls red"),
        ("route list", "routes show"),
        ("fdb list", "fdb show"),
        ("vlan list", "vlan ls"),
        ("acl list", "acl ls"),
        ("mirror list", "mirrors ls"),
        ("switch show main", "sw show main"),
        ("link list", "links ls"),
        ("lab list", "labs ls"),
        ("addr list", "addrs list"),
        ("fdb list", "fdbs list"),
    ] {
        let said = |words: &str| {
            let reply = lab.ctl(&format!("--json {words}")).ok().stdout;
            let mut value: Value = serde_json::from_str(&reply).unwrap();
            without_what_moves(&mut value);
            value
        };
        assert_eq!(said(words), said(other), "{words} | {other}");
    }
    for (set, shown, value) in [
        ("port set red mtu=1400", "port show red", "1400"),
        ("switch set main --ageing 77", "switch show main", "77"),
        ("set cable red blue mtu=1300", "cable list", "1300"),
        ("set mirror m --direction out", "mirror show m", "out"),
        ("set netns red net.ipv4.ip_forward=1", "export", "ip_forward"),
    ] {
        lab.ok(set);
        let page = lab.ok(shown);
        assert!(page.contains(value), "{page}");
    }
    for gone in [
        "fdb rm 02:00:00:00:00:77 --vlan 10",
        "cable remove red blue",
        "mirror delete m",
        "acl rm red in 1",
        "addr rm red 10.0.0.1/24 --yes",
        "route delete blue default",
        "port rm red core",
        "port delete plain",
    ] {
        lab.ok(gone);
    }
    let left: Value = serde_json::from_str(&lab.ok("--json port list")).unwrap();
    assert_eq!(left.as_array().unwrap().len(), 1, "{left}");
}

/// Ages, and counters that neighbours' chatter moves.
fn without_what_moves(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(without_what_moves),
        Value::Object(fields) => {
            let moves = |key: &String| {
                [
                    "state_secs",
                    "counters",
                    "age_secs",
                    "fdb_entries",
                    "neighbours",
                    "frames",
                    "bytes",
                ]
                .contains(&key.as_str())
            };
            fields.retain(|key, _| !moves(key));
            fields.values_mut().for_each(without_what_moves);
        }
        _ => {}
    }
}

#[test]
fn vlans_are_listed_with_their_ports_and_stations() {
    let lab = furnished();
    lab.ok("mirror del m");
    let list: Value = serde_json::from_str(&lab.ok("--json vlan list")).unwrap();
    let rows = list.as_array().unwrap();
    let row = |first: u16| {
        let found = rows.iter().find(|row| row["first"] == first);
        found.unwrap_or_else(|| panic!("no VLAN {first} in {list}"))
    };
    assert_eq!(
        row(10)["ports"],
        json!([
            {"port": "blue", "mode": "access", "tagged": false, "native": false},
            {"port": "core", "mode": "trunk", "tagged": true, "native": false},
            {"port": "red", "mode": "access", "tagged": false, "native": false},
        ])
    );
    assert_eq!(row(20)["last"], 29);
    assert_eq!(
        row(5)["ports"],
        json!([{"port": "core", "mode": "trunk", "tagged": false, "native": true}])
    );
    // The static one at least.
    assert!(row(10)["stations"].as_u64().unwrap() >= 1, "{list}");
    let text = lab.ok("vlan list");
    assert!(
        text.lines().any(|line| line.contains("20-29") && line.contains("core")),
        "{text}"
    );
    assert!(text.contains("core(native)"), "{text}");
    assert!(text.contains("in every VLAN, as nothing is set: plain"), "{text}");

    let shown = lab.ok("vlan show 20");
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("core") && line.ends_with("tagged")),
        "{shown}"
    );
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("plain") && line.contains("all")),
        "{shown}"
    );
    lab.ok("port del plain");
    let nowhere = lab.ctl("vlan show 4000");
    assert_eq!(nowhere.code, 4, "{nowhere:?}");
    assert!(nowhere.stderr.contains("VLAN 4000: no port is in it"), "{nowhere:?}");
}

#[test]
fn routes_and_lists_of_rules_are_listed() {
    let lab = furnished();
    let routes: Value = serde_json::from_str(&lab.ok("--json route list")).unwrap();
    assert_eq!(
        routes,
        json!([{"port": "blue", "switch": "main", "to": "0.0.0.0/0", "via": "10.0.0.254"}])
    );
    assert!(lab.ok("route list blue").contains("default"));
    assert!(!lab.ok("route list red").contains("default"));
    assert_eq!(lab.ctl("route list nobody").code, 4);
    assert_eq!(lab.ctl("addr list nobody").code, 4);
    let lists: Value = serde_json::from_str(&lab.ok("--json acl list")).unwrap();
    assert_eq!(
        lists,
        json!([{"port": "red", "switch": "main", "in": ["deny udp to any port 53"]}])
    );
    assert!(lab.ok("acl list").lines().any(|line| line.contains("red")));
}

/// A setting is taken back by a word, and what a port was added with can be changed.
/// It was "expected map with a single key".
#[test]
fn alternatives_are_taken_back_by_their_keys() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let port = || lab.port("red").port;
    for (set, back) in [
        ("vlan.access=10", "vlan.access=none"),
        ("vlan.access=10", "vlan.access="),
        ("vlan.tunnel=10", "vlan.tunnel=default"),
        ("vlan.trunk.allowed=10,20", "vlan.trunk=none"),
        ("vlan.trunk.allowed=10,20", "vlan.trunk.allowed=none"),
        ("isolation.community=7", "isolation.community=none"),
    ] {
        let before = port();
        lab.ok(&format!("set port red {set}"));
        assert_ne!(port(), before, "{set}");
        lab.ok(&format!("set port red {back}"));
        assert_eq!(port(), before, "{back}");
    }
    lab.ctl("set port red vlan.trunk.native=5")
        .failed(2, &["port \"red\"", "vlan.trunk.allowed"]);
    let both = lab.ctl("set port red vlan.access=20 vlan.trunk.allowed=30");
    both.failed(2, &["port \"red\"", "access or trunk, not both"]);
    lab.ctl("set port red down").failed(2, &["up=off"]);
}

#[test]
fn settings_are_changed_and_taken_back_by_words() {
    let lab = furnished();
    lab.ok("add-port box --addr 10.5.0.1/24");
    let port = || lab.port("box").port;
    let before = port();
    lab.ok("set port box --mtu 1400 --mac 02:00:00:00:05:01 --name lan0 --gateway 10.5.0.254 --vlan 7");
    let now = port();
    assert_eq!(
        (now.mtu, now.mac.unwrap().to_string(), now.ifname.unwrap().to_string()),
        (Some(1400), "02:00:00:00:05:01".to_owned(), "lan0".to_owned())
    );
    assert_eq!(now.routes.len(), 1);
    assert!(
        lab.ok("ns exec box ip route")
            .contains("default via 10.5.0.254 dev lan0")
    );
    lab.ok("set port box --gateway 10.5.0.253");
    assert_eq!(port().routes[0].via.unwrap().to_string(), "10.5.0.253");
    lab.ok("set port box --mtu default --name default --gateway none --vlan none");
    let now = port();
    assert_eq!(
        (now.mtu, now.vlan, now.routes.len()),
        (before.mtu, before.vlan.clone(), 0)
    );
    for (key, value) in [("mtu", "1400"), ("police", "10mbit"), ("ageing_secs", "60")] {
        let what = if key == "ageing_secs" {
            "switch main"
        } else {
            "port box"
        };
        let set = |value: &str| lab.ok(&format!("set {what} {key}={value}"));
        for word in ["none", "default"] {
            assert!(!set(value).is_empty(), "{key}");
            assert!(!set(word).is_empty(), "{key}={word} is nothing");
            assert_eq!(set(""), "", "{key}={word} has not taken it back");
        }
    }
    // By options as by keys; of `--flood` none is a value.
    for (what, options) in [
        (
            "port box",
            &[
                "--learning off",
                "--sticky on",
                "--locked on",
                "--mac-limit 3",
                "--beyond-limit drop",
                "--hairpin on",
            ][..],
        ),
        (
            "port box",
            &[
                "--flood multicast",
                "--isolation 7",
                "--pin-mac own",
                "--pin-ip own",
                "--allow-ra on",
                "--offload off",
            ],
        ),
        ("port box", &["--vlan 7", "--trunk 10,20", "--tunnel 5"]),
        (
            "switch main",
            &[
                "--ageing 60",
                "--flap-moves 7",
                "--flap-secs 7",
                "--loop-guard off",
                "--vlan-limit 9",
            ],
        ),
        ("switch main", &["--reserved-multicast all", "--rspan-vlans 99"]),
    ] {
        let settings = || (lab.port("box").port, lab.switch("main").switch);
        for said in options {
            let option = said.split(' ').next().unwrap();
            let before = settings();
            for word in ["default", "none"] {
                if (option, word) == ("--flood", "none") {
                    continue;
                }
                assert!(!lab.ok(&format!("set {what} {said}")).is_empty(), "{said}");
                lab.ok(&format!("set {what} {option} {word}"));
                assert_eq!(settings(), before, "{option} {word}");
            }
        }
    }
    lab.ok("set port box --trunk 10,20 --native 10 --tag service");
    lab.ok("set port box --trunk +30 --native none --tag default");
    assert_eq!(
        lab.json::<Value>("port show box")["vlan"],
        json!({"trunk": {"allowed": "10,20,30"}})
    );
    lab.ok("set port box --accept tagged");
    lab.ok("set port box --accept default --trunk none");
    assert_eq!(port().vlan, before.vlan);
    assert_eq!(lab.port("box").port.description.to_string(), "");
    lab.ok("set port box description=none");
    assert_eq!(lab.port("box").port.description.to_string(), "none");
    // What is listed can be listed of one.
    lab.ok("acl add box in deny arp");
    assert_eq!(lab.ok("acl list box").lines().count(), 2);
    lab.ok("cable add box other");
    lab.ok("cable add box other --if-not-exists");
    lab.ok("cable add box other --mtu 1500 --if-not-exists");
    lab.ok("cable box third --addr-a 10.5.0.1/30 --addr-b 10.5.0.2/30");
    for said in ["", "--addr-a 10.5.0.1/30", "--addr-b 10.5.0.2/30 --mtu 1500"] {
        lab.ok(&format!("cable box third {said} --if-not-exists"));
    }
    lab.ctl("cable box third --addr-a 10.5.0.9/30 --if-not-exists")
        .failed(5, &["other addresses_a"]);
    lab.ok("cable del box third");
    lab.ctl("cable add box other --mtu 9000 --if-not-exists")
        .failed(5, &["other mtu", "vswitchctl set cable"]);
    assert_eq!(lab.ok("cable show box other"), lab.ok("cable list box"));
    lab.ctl("cable list box nowhere").failed(4, &["cable", "nowhere"]);
    lab.ctl("lab rm nosuch").failed(4, &["nosuch"]);
    assert_eq!(lab.ok("lab rm nosuch --if-exists"), "");
}
