//! What `lab check` finds in a lab file, with a daemon and without.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use vswitch_testing::{Lab, http};

/// Writes a file of this name and gives its path.
fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.scratch().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What is found in a file is these, in this order, each with the beginning of its line.
#[track_caller]
fn finds(lab: &Lab, path: &str, problems: &[&str]) {
    let reply = lab.ctl(&format!("lab check {path}"));
    assert_eq!(reply.code, 1, "{reply}");
    let told: Vec<_> = reply
        .stdout
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("{path}:")))
        .collect();
    assert_eq!(told.len(), problems.len(), "{reply}");
    for (told, problem) in told.iter().zip(problems) {
        assert!(told.starts_with(problem), "{problem}: {told}");
    }
}

#[test]
fn check_tells_all_that_is_wrong_without_a_daemon() {
    let lab = Lab::without_daemon();
    let bad = file(
        &lab,
        "bad.toml",
        "[[ports]]\nname = \"red\"\nadresses = [\"10.0.0.1/24\"]\n\n[[ports]]\nname = \"red\"\nswitch = \"mian\"\n\tmtu = 5\n",
    );
    let reply = lab.ctl(&format!("lab check {bad}"));
    assert_eq!(reply.code, 1, "{reply}");
    let expected = format!(
        "{bad}:3:1: unknown key `adresses`; did you mean `addresses`?
    adresses = [\"10.0.0.1/24\"]
    ^^^^^^^^
{bad}:6:8: \"red\" is named twice in `ports`; give each its own name
    name = \"red\"
           ^^^^^
{bad}:7:10: there is no switch \"mian\" in the file; did you mean \"main\"?
    switch = \"mian\"
             ^^^^^^
{bad}:8:8: MTU 5 is out of range; choose 68 to 65517 bytes
    \tmtu = 5
    \t      ^
"
    );
    assert_eq!(reply.stdout, expected);
    let report: Value = lab.ctl(&format!("--json lab check {bad}")).json();
    assert_eq!(
        (&report["ok"], &report["problems"][3]["column"]),
        (&false.into(), &8.into())
    );
    let good = file(
        &lab,
        "good.toml",
        "name = \"second\"\n\n[[ports]]\nname = \"b{1..3}\"\naddresses = [\"10.2.0.{n}/24\"]\n",
    );
    assert!(lab.ok(&format!("lab check {good}")).contains("nothing is wrong"));
    let reply = lab.ctl(&format!("lab up {bad}"));
    assert_eq!((reply.code, reply.stderr.lines().count()), (2, 4), "{reply}");
    assert!(reply.stderr.starts_with(&format!("vswitchctl: {bad}:3:1: ")), "{reply}");
}

/// Each of these was said to be right, and `lab up` refused it.
#[test]
fn check_tells_what_is_refused_of_any_lab() {
    let lab = Lab::without_daemon();
    let text = r#"[[switches]]
name = "s"
subnets = ["224.0.0.0/8", "0.0.0.0/0"]

[[switches]]
name = "n"

[[ports]]
name = "p"
switch = "n"
mac = "02:00:00:00:00:07"
addresses = ["10.0.0.1/24"]
routes = [{ to = "10.5.0.0/16", via = "10.0.0.2" }, { to = "10.5.0.0/16", via = "10.0.0.3" }]
publish = ["8080:80"]
stations = [{ mac = "02:00:00:00:00:01" }, { mac = "02:00:00:00:00:01" }]

[[ports]]
name = "q"
switch = "n"
mac = "02:00:00:00:00:07"
publish = ["8080:81"]

[[ports]]
name = "r"
switch = "s"

[[mirrors]]
name = "m"
switch = "n"
ports = ["r", "q"]
to = "q"

[[mirrors]]
name = "v"
switch = "n"
ports = ["p"]
to_vlan = 5

[[namespaces]]
name = "p"
files = { a = "x", "a/b" = "y" }
"#;
    let path = file(&lab, "bad.toml", text);
    let problems = [
        "3:12: subnet 224.0.0.0/8 has addresses that no station can have",
        "3:27: subnet 0.0.0.0/0 has addresses",
        "13:60: there is a route to 10.5.0.0/16 already",
        "14:11: it is published by NAT, which is off on switch \"n\"",
        "15:44: station 02:00:00:00:00:01 is behind port \"p\" already",
        "20:7: port \"p\" has the MAC address 02:00:00:00:00:07 already",
        "21:11: it is published by NAT",
        "21:12: tcp 8080 of the host is published for port \"p\" already",
        "30:10: port \"r\" is on switch \"s\", and the mirror on \"n\"",
        "30:15: port \"q\" is the destination of mirror \"m\"",
        "37:11: VLAN 5 is not one of those of switch \"n\" for copies",
        "41:20: \"a\" is a file of the namespace",
    ];
    finds(&lab, &path, &problems);
    // What only the daemon can tell, and that it was not asked.
    let good = file(
        &lab,
        "good.toml",
        "[[switches]]\nname = \"s\"\ndns = true\ngateway = true\nsubnets = [\"10.1.0.0/24\"]\n\
        [[ports]]\nname = \"Red\"\n[[ports]]\nname = \"red\"\n",
    );
    let reply = lab.ctl(&format!("lab check {good}"));
    assert_eq!(reply.code, 0, "{reply}");
    assert!(
        reply.stdout.contains("as far as can be told without vswitchd"),
        "{reply}"
    );
    assert!(
        reply.stderr.contains("\"Red\" and \"red\" have one name to DNS"),
        "{reply}"
    );
    if Command::new("tcpdump").arg("--version").output().is_ok() {
        let path = file(
            &lab,
            "filter.toml",
            "[[ports]]\nname = \"p\"\n[[ports]]\nname = \"q\"\n[[mirrors]]\nname = \"m\"\n\
            ports = [\"p\"]\nto = \"q\"\nfilter = \"tcp and (\"\n",
        );
        let reply = lab.ctl(&format!("lab check {path}"));
        assert!(
            reply.code == 1 && reply.stdout.contains(":9:10: filter \"tcp and (\": "),
            "{reply}"
        );
    }
}

/// What the daemon takes is not refused for a rule of its own by whoever reads the file, nor is what is exported then.
#[test]
fn what_the_daemon_takes_passes_the_check() {
    let trunks = r#"
        [[ports]]
        name = "a"
        addresses = ["10.0.0.1/24"]
        vlan = { trunk = { allowed = "10,20" } }
        [[ports]]
        name = "b"
        addresses = ["10.0.0.1/24"]
        vlan = { trunk = { allowed = "10,20" } }"#;
    let chosen = r#"
        [[switches]]
        name = "main"
        subnets = ["192.168.15.0/24"]
        [[ports]]
        name = "c"
        auto_addresses = true
        addresses = ["10.9.0.1/24"]
        routes = [{ to = "10.50.0.0/16", via = "192.168.15.9" }]"#;
    let of_hosts = r#"
        [[ports]]
        name = "d"
        addresses = ["10.9.0.1/32", "fd00::1/64"]
        routes = [{ to = "0.0.0.0/0", via = "10.1.1.1" }, { to = "::/0", via = "fe80::1" }]"#;
    let repeated = r#"
        namespaces = ["n", { name = "m", files = { hosts = "x" } }, "n", "m"]
        [[ports]]
        name = "e"
        addresses = ["10.9.0.1/24"]
        routes = [{ to = "10.50.0.0/16", via = "10.9.0.9" }, { to = "10.50.0.0/16", via = "10.9.0.9" }]"#;
    let macs = r#"
        [[ports]]
        name = "f"
        mac = "02:00:00:00:00:05"
        vlan = { access = 10 }
        [[ports]]
        name = "g"
        mac = "02:00:00:00:00:05"
        vlan = { trunk = { allowed = "20", native = 30 } }"#;
    let lab = Lab::new();
    for text in [trunks, chosen, of_hosts, repeated, macs] {
        let wanted: Value = toml::from_str(text).unwrap();
        let reply = http::request("PUT", "/v1/lab", &wanted.to_string());
        assert_eq!(reply.status, 200, "{text}: {reply:?}");
        lab.ok(&format!("lab check {}", file(&lab, "said.toml", text)));
        let exported = file(&lab, "exported.toml", &lab.ok("export"));
        lab.ok(&format!("lab check {exported}"));
        for path in [exported, file(&lab, "said.toml", text)] {
            let told: Value = lab.ctl(&format!("--json apply -n {path}")).json();
            assert_eq!(told["done"], json!([]), "{text}");
        }
    }
    let refused: Value = toml::from_str(&macs.replace("\"20\"", "\"1-20\"")).unwrap();
    assert_eq!(http::request("PUT", "/v1/lab", &refused.to_string()).status, 409);
}

/// What follows from the file alone is told of what the daemon refuses; what follows from what is there is not.
#[test]
fn check_tells_of_conflicts_within_the_file() {
    let lab = Lab::new();
    let both = "[[switches]]\nname = \"s{1..2}\"\ngateway = true\nsubnets = [\"10.1.0.0/24\"]\n";
    let path = file(&lab, "x.toml", both);
    let reply = lab.ctl(&format!("lab check {path}"));
    assert!(
        reply.code == 1 && reply.stdout.contains("overlaps with 10.1.0.0/24 of switch"),
        "{reply}"
    );
    lab.ok("switch add s1 --subnet 10.1.0.0/24 --gateway");
    let path = file(&lab, "y.toml", &both.replace("s{1..2}", "other"));
    lab.ok(&format!("lab check {path}"));
}

/// What only the daemon knows is told with its place too.
#[test]
fn check_asks_the_daemon_where_one_runs() {
    let lab = Lab::new();
    let path = file(
        &lab,
        "x.toml",
        "[[ports]]\nname = \"red\"\nkind = \"internal\"\nnamespace = \"red\"\n",
    );
    let reply = lab.ctl(&format!("lab check {path}"));
    assert_eq!(reply.code, 1, "{reply}");
    assert!(reply.stdout.starts_with(&format!("{path}:2:8: ")), "{reply}");
    lab.ctl(&format!("lab up {path}")).failed(2, &["x.toml:2:8: ", "red"]);
}

/// Names of switches, of ports and the way of ranges hold for links too.
#[test]
fn check_tells_what_is_wrong_with_links() {
    let lab = Lab::without_daemon();
    let bad = file(
        &lab,
        "bad.toml",
        "[[switches]]\nname = \"s{1..3}\"\n[[links]]\na = \"s1\"\nb = \"s22\"\nmtu = 5\n[[links]]\na = \"s1\"\nb = \"s1\"\nname_b = \"red\"\n\
         [[ports]]\nname = \"red\"\n[[mirrors]]\nname = \"m\"\nswitch = \"s1\"\nports = [\"s1-s2\"]\nto = \"red\"\n\
         [[links]]\na = \"s{1..3}\"\nb = \"s{n+1}\"\ntrunk = \"10\"\n",
    );
    let problems = [
        "5:5: there is no switch \"s22\" in the file; did you mean \"s2\"?",
        "6:7: MTU 5 is out of range",
        "9:5: both ends are on the same switch",
        "10:10: another port is called \"red\" already",
        "17:6: port \"red\" is on switch \"main\", and the mirror on \"s1\"",
        "20:5: there is no switch \"s4\" in the file; add [[switches]]",
        "21:1: unknown key `trunk`",
    ];
    finds(&lab, &bad, &problems);
}

/// What is there now is not the file's fault, but whoever is about to bring it up is told.
#[test]
fn check_warns_of_what_stands_in_the_way_now() {
    let lab = Lab::new();
    let path = file(&lab, "x.toml", "[[ports]]\nname = \"red\"\n");
    let reply = lab.ctl(&format!("lab check {path}"));
    assert_eq!((reply.code, reply.stderr.as_str()), (0, ""), "{reply}");
    lab.ok("add-port red");
    let reply = lab.ctl(&format!("lab check {path}"));
    assert!(
        reply.code == 0 && reply.stderr.contains("`lab up` refuses it: port \"red\""),
        "{reply}"
    );
    assert_ne!(lab.ctl(&format!("lab up {path}")).code, 0);
}

/// They were said to be right, and no test of them could be as expected.
#[test]
fn what_can_not_be_reached_by_a_packet_is_not_expected() {
    let lab = Lab::without_daemon();
    let text = "reach = [\"a -> a\", \"!a <-> d\", \"* -> *\", \"a -> b\"]\n\n\
        [[ports]]\nname = \"a\"\naddresses = [\"10.3.0.1/24\"]\n\n\
        [[ports]]\nname = \"b\"\naddresses = [\"10.3.0.2/24\"]\n\n\
        [[ports]]\nname = \"d\"\nnamespace = \"a\"\nifname = \"eth1\"\naddresses = [\"10.3.0.4/24\"]\n";
    let path = file(&lab, "reach.toml", text);
    finds(
        &lab,
        &path,
        &[
            "1:10: it is about \"a\" alone",
            "1:20: \"a\" and \"d\" are in one namespace",
        ],
    );
}
