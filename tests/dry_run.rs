//! `-n`: each command that changes something says what it would do, and does nothing.

use std::fs;

use serde_json::Value;
use vswitch_testing::Lab;
use vswitch_testing::ctl::all_commands;
use vswitch_testing::run;
use vswitch_testing::snapshot::Snapshot;

/// A call for each command that has `--dry-run`, in a lab as [`furnished`] makes it. FILE is a lab file, RULES one with rules.
const CALLS: [&str; 88] = [
    "restart",
    "log-level warn",
    "add-port green --addr 10.0.0.9/24",
    "del-port red",
    "port add green",
    "port del red",
    "port set red --mtu 1400",
    "set port red learning.limit=5",
    "set port core --trunk +40",
    "set switch main --ageing 60",
    "set link main-sw2 --mtu 9000",
    "set ns red net.ipv4.ip_forward=1",
    "set cable red blue mtu=9000",
    "set mirror m --from blue",
    "set acl red --in-file RULES",
    "switch add lab",
    "switch del spare",
    "switch set main ageing_secs=60",
    "ns add extra",
    "ns del spare",
    "ns set red net.ipv4.ip_forward=1",
    "addr add red 10.0.0.7/24",
    "addr del red 10.0.0.1/24",
    "addr flush red",
    "route add red 10.5.0.0/16 --via 10.0.0.254",
    "route del blue default",
    "publish web 8080:80",
    "publish add web 8080:80",
    "publish del web 9090:90",
    "link add main sw2",
    "link del main-sw2",
    "link set main-sw2 --mtu 9000",
    "cable red blue",
    "cable add red blue",
    "cable del red blue",
    "cable set red blue mtu=9000",
    "cable del red blue --name-a eth1",
    "fdb add 02:00:00:00:00:78 red",
    "fdb del 02:00:00:00:00:77",
    "fdb flush",
    "acl set red --in-file RULES",
    "acl add red in --at 1 deny tcp to any port 22",
    "acl del red in 1",
    "acl clear red",
    "mirror add m2 --from blue --to core",
    "command add new --ns red -- sleep 100000",
    "command del web",
    "command restart web",
    "mirror set m --from blue",
    "mirror del m",
    "impair blue --delay 1ms",
    "impair set blue --delay 1ms",
    "impair clear red",
    "police blue --rate 10mbit",
    "police set blue --rate 10mbit",
    "police clear red",
    "storm blue --broadcast 100pps",
    "storm set blue --broadcast 100pps",
    "storm clear red",
    "apply FILE",
    "lab up FILE",
    "lab down one",
    "bugreport",
    "install-service --daemon /bin/true --units /nowhere",
    "ovs add-br lab",
    "ovs del-br spare",
    "ovs add-port main free0 tag=10",
    "ovs del-port red",
    "ovs set port red tag=10",
    "ovs clear port core trunks",
    "ovs add port core trunks 30",
    "ovs remove port core trunks 20",
    "ovs appctl fdb/flush main",
    "ovs appctl fdb/add main red 0 02:00:00:00:00:78",
    "ovs appctl fdb/del main 0 02:00:00:00:00:77",
    "bridge addbr lab",
    "bridge delbr spare",
    "bridge addif main free0",
    "bridge delif main red",
    "bridge setageing main 60",
    "bridge hairpin main red on",
    "bridge link set dev red learning off",
    "bridge fdb add 02:00:00:00:00:78 dev red master static",
    "bridge fdb replace 02:00:00:00:00:77 dev blue master static",
    "bridge fdb del 02:00:00:00:00:77 dev red master",
    "bridge vlan add dev blue vid 10 pvid untagged",
    "bridge vlan del dev core vid 20",
    "reset",
];

/// Something of each kind.
fn furnished() -> Lab {
    let lab = Lab::new();
    run("ip link add name free0 type veth peer name free1");
    for line in [
        "switch add sw2",
        "switch add spare",
        "ns add spare",
        "add-port red --addr 10.0.0.1/24",
        "add-port blue --addr 10.0.0.2/24 --gateway 10.0.0.254",
        "add-port core --trunk 10,20",
        "switch add out --subnet 10.99.0.0/24 --gateway --nat",
        "add-port web --switch out --addr auto",
        "publish web 9090:90",
        "link add main sw2",
        "cable add red blue",
        "mirror add m --from red --to core",
        "command add web --ns red -- sleep 100000",
        "acl add red in deny udp to any port 53",
        "fdb add 02:00:00:00:00:77 red",
        "impair red --loss 0.01%",
        "police red --rate 10gbit",
        "storm red --broadcast 10000pps",
        "ns exec red ping -n -q -c1 -w5 10.0.0.2",
    ] {
        lab.ok(line);
    }
    let path = lab.scratch().join("one.toml");
    fs::write(&path, "[[ports]]\nname = \"one\"\n").unwrap();
    lab.ok(&format!("lab up {}", path.display()));
    lab
}

fn fdb(lab: &Lab) -> Vec<String> {
    let entries: Vec<Value> = lab.json("fdb");
    let mut entries: Vec<_> = entries
        .iter()
        .map(|entry| format!("{} {}", entry["mac"], entry["port"]))
        .collect();
    entries.sort();
    entries
}

#[test]
fn each_command_that_changes_something_is_tried_here() {
    let is_called = |command: &str| {
        let call = |call: &&str| {
            call.strip_prefix(command)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        CALLS.iter().any(call)
    };
    for command in all_commands() {
        let help = Lab::call(&format!("{command} --help")).ok().stdout;
        if help.contains("--dry-run") {
            assert!(
                is_called(&command),
                "{command} has --dry-run, and no call of it is tried"
            );
        }
    }
}

#[test]
fn a_dry_run_tells_what_it_would_do_and_does_nothing() {
    let lab = furnished();
    let (there, known) = (Snapshot::of(&lab), fdb(&lab));
    let (file, rules) = (lab.scratch().join("two.toml"), lab.scratch().join("rules"));
    fs::write(&file, "name = \"one\"\n[[ports]]\nname = \"two\"\n").unwrap();
    fs::write(&rules, "permit any\n").unwrap();
    for call in CALLS {
        let line = call
            .replace("FILE", file.to_str().unwrap())
            .replace("RULES", rules.to_str().unwrap());
        // What stands behind -- belongs to another program.
        let with = |option: &str| match line.split_once(" -- ") {
            Some((before, after)) => format!("{before} {option} -- {after}"),
            None => format!("{line} {option}"),
        };
        let said = lab.ok(&with("-n"));
        assert!(!said.is_empty(), "{call} -n says nothing");
        for said in said.lines() {
            assert!(said.starts_with("would "), "{call}: {said}");
        }
        let changes: Value = lab.json(&with("--dry-run"));
        assert_eq!(changes["dry_run"], true, "{call}: {changes}");
        there.assert_same(&Snapshot::of(&lab));
        let now = fdb(&lab);
        for entry in &known {
            assert!(now.contains(entry), "{call}: {entry} is gone");
        }
    }
}

/// Both words do what they say on addresses, routes, entries and rules too.
#[test]
fn what_is_there_already_and_what_is_not_is_no_error_if_so_asked() {
    let lab = furnished();
    for line in [
        "addr add red 10.0.0.1/24 --if-not-exists",
        "addr del red 10.0.0.99/24 --if-exists",
        "route add blue default --via 10.0.0.254 --if-not-exists",
        "route del blue 10.99.0.0/16 --if-exists",
        "fdb add 02:00:00:00:00:77 red --if-not-exists",
        "fdb del 02:00:00:00:00:99 --if-exists",
        "acl add red in deny udp to any port 53 --if-not-exists",
        "acl del red in 7 --if-exists",
    ] {
        assert_eq!(lab.ok(line), "", "{line}");
        if !line.starts_with("acl add") && !line.starts_with("fdb add") {
            let plain = line.rsplit_once(' ').unwrap().0;
            assert_ne!(lab.ctl(plain).code, 0, "{plain}");
        }
    }
}
