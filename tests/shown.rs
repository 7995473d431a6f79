//! What is shown, in which form; who reaches whom; and names that were meant.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;
use vswitch_testing::ctl::tool;
use vswitch_testing::{Lab, run, wait_for};

fn json(lab: &Lab, line: &str) -> Value {
    serde_json::from_str(&lab.ctl(line).stdout).unwrap()
}

#[test]
fn a_list_has_several_forms() {
    let lab = Lab::new();
    lab.ok("add-port red blue --subnet 10.0.0.0/24");
    assert_eq!(lab.ok("port list -o name"), "red\nblue\n");
    assert_eq!(lab.ok("show -o name"), "red\nblue\n");
    assert_eq!(lab.ok("-o name switch list"), "main\n");
    assert_eq!(lab.ok("port show red -o name"), "red\n");
    assert_eq!(lab.ok("addr list -o name"), "10.0.0.1/24\n10.0.0.2/24\n");
    lab.ok("cable red blue");
    assert_eq!(lab.ok("cable list -o name"), "red blue\n");
    assert_eq!(json(&lab, "addr list -o json"), json(&lab, "addr list --json"));
    let yaml = lab.ok("addr list -o yaml");
    assert!(yaml.contains("- port: red") || yaml.contains("port: red"), "{yaml}");
    assert!(yaml.contains("address: 10.0.0.1/24"), "{yaml}");
    assert!(lab.ok("switch list -o wide").contains("main"));
    let both = lab.ctl("port list -o yaml --json");
    assert_eq!(both.code, 2, "{both:?}");
    let error = lab.ctl("port show nobody -o json");
    let told: Value = serde_json::from_str(&error.stderr).unwrap();
    assert_eq!(told["code"], "not-found");
}

/// What comes line by line has no other form than JSON.
#[test]
fn streams_refuse_forms_that_they_do_not_have() {
    let lab = Lab::new();
    for form in ["yaml", "name"] {
        for line in ["events", "logs web"] {
            lab.ctl(&format!("{line} -o {form}")).failed(2, &["--output", "json"]);
        }
    }
}

/// A variable that is empty says nothing.
#[test]
fn empty_variables_are_none() {
    let _lab = Lab::without_daemon();
    let mut command = tool();
    command
        .args(["status"])
        .env("VSWITCH_TIMEOUT", "")
        .env("VSWITCH_SOCKET", "");
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(3) && told.contains("/run/vswitch/control.sock"),
        "{told}"
    );
}

#[test]
fn vlans_show_where_there_are_some() {
    let lab = Lab::new();
    lab.ok("add-port red blue");
    assert!(!lab.ok("show").contains("VLAN"));
    lab.ok("port set red vlan.access=10");
    let shown = lab.ok("show");
    assert!(shown.contains("VLAN") && shown.contains("access:10"), "{shown}");
}

#[test]
fn the_fdb_is_filtered() {
    let lab = Lab::new();
    lab.ok("add-port red blue");
    for (mac, rest) in [
        ("02:00:00:00:00:01", "red"),
        ("02:00:00:00:00:02", "blue"),
        ("02:00:00:00:00:03", "red --vlan 7"),
    ] {
        lab.ok(&format!("fdb add {mac} {rest}"));
    }
    let macs = |line: &str| {
        let list = json(&lab, &format!("--json {line}"));
        let set_by_hand = list.as_array().unwrap().iter().filter(|entry| entry["static"] == true);
        let macs = set_by_hand.map(|entry| {
            assert_eq!(entry["switch"], "main");
            entry["mac"].as_str().unwrap()[15..].to_owned()
        });
        let mut macs: Vec<_> = macs.collect();
        macs.sort();
        macs.join(" ")
    };
    assert_eq!(macs("fdb list"), "01 02 03");
    assert_eq!(macs("fdb list --port red"), "01 03");
    assert_eq!(macs("fdb --port red --vlan 7"), "03");
    assert_eq!(macs("fdb show --mac 02:00:00:00:00:02"), "02");
    assert_eq!(macs("fdb list --switch main --port blue"), "02");
    let misplaced = lab.ctl("fdb --port red flush");
    assert_eq!(misplaced.code, 2, "{misplaced:?}");
}

#[test]
fn show_watches() {
    let lab = Lab::new();
    let mut watch = tool().args(["show", "--watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("no ports")));
    lab.ok("add-port red");
    assert!(lines.any(|line| line.starts_with("red")));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn everybody_is_pinged_from_everybody() {
    let lab = Lab::new();
    lab.ok("add-port red blue green --subnet 10.0.0.0/24 --subnet fd00::/64");
    let all = lab.ok("pingall");
    assert!(all.contains("12 of 12 answered") && all.contains("IPv6"), "{all}");
    let one = lab.ok("ping red blue -c1");
    assert!(one.contains("10.0.0.1") || one.contains("10.0.0.2"), "{one}");
    assert!(lab.ok("ping red blue -6 -c1").contains("fd00::"));
    lab.ok("ping red 10.0.0.3 -c1");

    // Of several addresses the one that can be reached.
    lab.ok("add-port grey --addr 10.1.0.1/24 --addr 10.0.0.9/24 --addr fd01::9/64");
    assert!(lab.ok("ping red grey -c1").contains("10.0.0.9"));
    lab.ok("pingall -4");
    lab.ok("del-port grey");

    lab.ok("port set green --down");
    let failed = lab.ctl("pingall -4 --wait 1 --json");
    assert_eq!(failed.code, 1, "{failed:?}");
    let pings: Value = serde_json::from_str(&failed.stdout).unwrap();
    for ping in pings.as_array().unwrap() {
        let with_green = ping["from"] == "green" || ping["to"] == "green";
        assert_eq!(ping["ok"] != true, with_green, "{ping}");
    }
    assert!(lab.ctl("pingall -4 --wait 1").stdout.contains("FAIL"));
    assert_eq!(lab.ctl("ping red nobody -c1").code, 4);

    // Nobody is in a namespace that is gone, and the others are asked all the same.
    lab.ok("port set green --up");
    run("ip netns del blue");
    let is_as_expected = |ping: &Value| (ping["ok"] != true) == (ping["from"] == "blue" || ping["to"] == "blue");
    wait_for("all but blue to be reached", || {
        let rest: Value = lab.ctl("pingall -4 --wait 1 --json").json();
        rest.as_array().unwrap().iter().all(is_as_expected)
    });
}

/// Stations of different VLANs may have one address: whoever has it too answers for nobody else, and nobody for himself.
#[test]
fn who_answers_for_an_address_of_two_vlans_is_told_apart() {
    let lab = Lab::new();
    let file = lab.lab_file(
        "name = \"twice\"\nreach = [\"* -> *\", \"!guest* -> *\", \"!* -> guest*\", \"guest1 <-> guest2\"]\n\
         [[ports]]\nname = \"srv{1..2}\"\nvlan = { access = 10 }\naddresses = [\"10.0.0.{n}/24\"]\n\
         [[ports]]\nname = \"guest{1..2}\"\nvlan = { access = 20 }\naddresses = [\"10.0.0.{n}/24\"]\n\
         [[ports]]\nname = \"peer\"\nvlan = { access = 10 }\naddresses = [\"10.0.0.9/24\"]\n",
    );
    lab.ok(&format!("lab up {file}"));
    let tested = lab.ctl(&format!("lab test --wait 2 {file}"));
    assert!(
        tested.code == 0 && tested.stdout.contains("20 of 20 as expected"),
        "{tested}"
    );
    let all: Value = lab.ctl("pingall --wait 1 --json").json();
    for ping in all.as_array().unwrap() {
        let is_guest = |end: &str| ping[end].as_str().unwrap().starts_with("guest");
        assert_eq!(ping["ok"] == true, is_guest("from") == is_guest("to"), "{ping}");
    }
    for (from, cause) in [
        ("srv2", "srv2 and guest1 are not in the same VLAN"),
        ("srv1", "srv1 and guest1 have the same address, 10.0.0.1"),
    ] {
        let told = lab.ctl(&format!("doctor {from} guest1 --wait 1"));
        assert!(told.code == 1 && told.stdout.contains(cause), "{told}");
    }
}

#[test]
fn a_shell_is_in_the_namespace() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    let mut shell = tool()
        .args(["shell", "red", "sh"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    use std::io::Write;
    let mut stdin = shell.stdin.take().unwrap();
    writeln!(stdin, "ip -br addr show eth0; echo \"$PS1\"; exit 7").unwrap();
    drop(stdin);
    let output = shell.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("10.0.0.1/24") && text.contains("(red)"), "{text}");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_name_that_was_meant_is_told() {
    let lab = Lab::new();
    lab.ok("add-port server1");
    lab.ok("switch add backbone");
    for (line, meant) in [
        ("port show sever1", "did you mean \"server1\"?"),
        ("del-port server2", "did you mean \"server1\"?"),
        ("switch show bakcbone", "did you mean \"backbone\"?"),
        ("ns show serverl", "did you mean \"server1\"?"),
        ("ns exec serverl true", "did you mean \"server1\"?"),
        ("addr add Server1 10.0.0.1/24", "did you mean \"server1\"?"),
    ] {
        let refused = lab.ctl(line);
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains(meant), "{refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
    }
    assert!(!lab.ctl("port show nothing").stderr.contains("did you mean"));
}
