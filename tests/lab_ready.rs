//! The ready labs in `configs/labs` come up, do what their comments promise, and leave nothing.

use std::path::{Path, PathBuf};

use vswitch_api::view::PortState;
use vswitch_testing::require::{kernel_lacks, missing};
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Lab, linux, wait_for};

fn path(name: &str) -> String {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "configs", "labs"].iter().collect();
    folder.join(format!("{name}.toml")).to_str().unwrap().to_owned()
}

/// What is there on a machine on which `ip netns` was used before.
fn before(lab: &Lab) -> Snapshot {
    Snapshot::of_used_machine();
    Snapshot::of(lab)
}

/// Brings a lab up, types these commands of its comment, and has all pairs held against what its file expects.
fn keeps_its_promise(name: &str, commands: &[&str]) {
    keeps_its_promise_in(&Lab::new(), name, commands);
}

fn keeps_its_promise_in(lab: &Lab, name: &str, commands: &[&str]) {
    let before = before(lab);
    let path = path(name);
    let comment = std::fs::read_to_string(&path).unwrap();
    lab.ok(&format!("lab up {path}"));
    for command in commands {
        assert!(
            comment.contains(&format!("vswitchctl {command}")),
            "{command} is not in the comment"
        );
        lab.ok(command);
    }
    let reply = lab.ctl(&format!("lab test --wait 2 {path}"));
    assert_eq!(reply.code, 0, "{reply}");
    lab.ok(&format!("lab down {name}"));
    before.wait_until_same(|| Snapshot::of(lab));
}

#[test]
fn every_ready_lab_is_right_and_tested_here() {
    let this = include_str!("lab_ready.rs");
    for entry in std::fs::read_dir(PathBuf::from(path("x")).parent().unwrap()).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        assert!(this.contains(&format!("\"{name}\"")), "{name} has no test");
        let reply = Lab::call(&format!("lab check {}", file.display()));
        assert_eq!(reply.code, 0, "{reply}");
    }
}

#[test]
fn cable() {
    keeps_its_promise("cable", &[]);
}

#[test]
fn three_namespaces() {
    keeps_its_promise("three-namespaces", &[]);
}

#[test]
fn gateway() {
    keeps_its_promise("gateway", &["ns exec red -- ping -c2 blue", "publish list"]);
}

/// Addresses, routes and the gateway's port are chosen by the daemon: the file stays as short as it is, and is tested all the same.
#[test]
fn what_the_gateways_lab_leaves_open_stays_open() {
    let lab = Lab::with_own_etc();
    let path = lab.lab_file(&std::fs::read_to_string(path("gateway")).unwrap());
    lab.ok(&format!("lab up {path}"));
    let tested = lab.ok(&format!("lab test {path}"));
    assert!(tested.contains("4 of 4 as expected"), "{tested}");
    let name = lab.ok("lab list -o name");
    let told = lab.ok(&format!("lab export {} --into {path}", name.trim()));
    assert!(told.contains("says all that already"), "{told}");
}

#[test]
fn vlans() {
    keeps_its_promise("vlans", &[]);
}

#[test]
fn vlan_trunk() {
    keeps_its_promise("vlan-trunk", &["link show main-far"]);
}

/// It is cut at one place, and nobody is cut off.
#[test]
fn ring() {
    let lab = Lab::new();
    let before = before(&lab);
    let path = path("ring");
    lab.ok(&format!("lab up {path}"));
    let shut = || {
        let ports = lab.ports().into_iter();
        let shut = ports.filter(|port| port.state == PortState::Shut);
        shut.map(|port| port.port.name.to_string()).collect::<Vec<_>>()
    };
    // What hosts say of themselves when they come is the first broadcast.
    wait_for("the loop guard to shut one port", || shut().len() == 1);
    assert!(shut()[0].starts_with('s'), "a host's port was shut: {:?}", shut());
    let reply = lab.ctl(&format!("lab test --wait 5 {path}"));
    assert_eq!(reply.code, 0, "{reply}");
    assert_eq!(shut().len(), 1);
    lab.ok("lab down ring");
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn two_zones() {
    keeps_its_promise("two-zones", &[]);
}

#[test]
fn two_switches() {
    keeps_its_promise("two-switches", &[]);
}

#[test]
fn wan_link() {
    keeps_its_promise("wan-link", &["impair show"]);
}

/// What an editor says of the examples, by the schema that it is given.
#[test]
fn all_are_as_the_schema_says() {
    let schema: serde_json::Value = serde_json::from_str(&Lab::without_daemon().ok("lab schema")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/labs")).unwrap();
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        let document: serde_json::Value = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        count += 1;
    }
    assert!(count >= 8);
}

#[test]
fn router_on_a_stick() {
    let lab = Lab::new();
    if let Err(why) = linux::vlan_devices() {
        // What the file asks for is refused by name, and nothing stays.
        let before = before(&lab);
        let reply = lab.ctl(&format!("lab up {}", path("router-on-a-stick")));
        assert!(reply.code == 5 && reply.stderr.contains("router-vlans"), "{reply}");
        before.wait_until_same(|| Snapshot::of(&lab));
        return kernel_lacks("VLAN devices", why);
    }
    keeps_its_promise_in(
        &lab,
        "router-on-a-stick",
        &["ns exec router -- ip -br addr", "doctor red blue"],
    );
}

/// All pairs would be ten thousand.
#[test]
fn hundred_hosts() {
    let lab = Lab::new();
    let before = before(&lab);
    lab.ok(&format!("lab up {}", path("hundred-hosts")));
    assert_eq!(lab.ports().len(), 100);
    for to in ["10.0.0.100", "fd00::64", "10.0.0.50"] {
        lab.ok(&format!("ns exec h1 ping -n -q -c1 -w5 {to}"));
    }
    lab.ok("lab down hundred-hosts");
    before.wait_until_same(|| Snapshot::of(&lab));
}

fn between_routers(name: &str) {
    if !Path::new("/usr/lib/frr/zebra").exists() {
        return missing("FRR", "there is no /usr/lib/frr/zebra (apt install frr)");
    }
    // Both labs have the same files, and their daemons keep their sockets here.
    let lab = Lab::with_own_etc();
    std::fs::create_dir_all("/run/frr").unwrap();
    keeps_its_promise_in(
        &lab,
        name,
        &[
            "command list",
            "ns exec r1 -- ip route",
            "ns exec left -- ping -c 2 10.3.0.2",
        ],
    );
}

/// Nobody wrote a route from left to right: that a ping comes through two routers is theirs.
#[test]
fn ospf() {
    between_routers("ospf");
}

#[test]
fn bgp() {
    between_routers("bgp");
}
