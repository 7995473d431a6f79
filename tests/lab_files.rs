//! Labs as files: brought up side by side, compared, tested and taken down.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use vswitch_api::link::LinkView;
use vswitch_testing::ctl::tool;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Lab, run, wait_for};

/// Writes a file of this name and gives its path.
fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.scratch().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// What is there on a machine on which `ip netns` was used before.
fn before(lab: &Lab) -> Snapshot {
    Snapshot::of_used_machine();
    Snapshot::of(lab)
}

fn ports(lab: &Lab) -> Vec<String> {
    let mut names: Vec<_> = lab.ports().iter().map(|port| port.port.name.to_string()).collect();
    names.sort();
    names
}

const A: &str = "[[switches]]\nname = \"sa\"\n\n[[ports]]\nname = \"a1\"\nswitch = \"sa\"\naddresses = [\"10.1.0.1/24\"]\n\n\
                 [[ports]]\nname = \"a2\"\nswitch = \"sa\"\naddresses = [\"10.1.0.2/24\"]\n";
const B: &str = "name = \"second\"\nnamespaces = [\"extra\"]\n\n[[ports]]\nname = \"b{1..3}\"\naddresses = [\"10.2.0.{n}/24\"]\n\n\
                 [[cables]]\na = { namespace = \"b1\" }\nb = { namespace = \"b2\" }\n";

const CHAIN: &str = "[[switches]]\nname = \"s{1..4}\"\n\n[[links]]\na = \"s{1..3}\"\nb = \"s{n+1}\"\nvlan = { trunk = { allowed = \"10\" } }\n\n\
                     [[ports]]\nname = \"h{1..4}\"\nswitch = \"s{n}\"\naddresses = [\"10.4.0.{n}/24\"]\nvlan = { access = 10 }\n";

/// A link of a file is its lab's, with both ports.
#[test]
fn links_of_a_file_come_and_go_with_its_lab() {
    let lab = Lab::new();
    lab.ok("switch add s1");
    lab.ok("switch add other");
    let before = before(&lab);
    // A port that has the name which the link would get.
    lab.ok("link add s1 other --name-a s1-s2");
    let path = file(
        &lab,
        "chain.toml",
        &CHAIN.replace("{1..4}\"\n\n[[links]]", "{2..4}\"\n\n[[links]]"),
    );
    let reply = lab.ctl(&format!("lab check {path}"));
    assert_eq!(
        (reply.code, reply.stdout.contains("no switch \"s1\"")),
        (1, true),
        "{reply}"
    );
    let path = file(&lab, "chain.toml", CHAIN);
    let reply = lab.ctl(&format!("lab diff {path}"));
    assert_eq!((reply.code, reply.stdout.contains("s2-s3")), (1, true), "{reply}");
    lab.ok(&format!("lab up {path}"));
    assert_eq!(lab.ctl(&format!("lab diff {path}")).code, 0);
    assert_eq!(lab.json::<Vec<LinkView>>("link list").len(), 4);
    let labs: Value = lab.ctl("--json lab list").json();
    let owned = labs[0]["ports"].as_array().unwrap();
    for port in ["s1-s2-2", "s2-s1", "s4-s3"] {
        assert!(owned.contains(&port.into()), "{owned:?}");
    }
    assert!(
        lab.ok(&format!("lab test --wait 2 {path}"))
            .ends_with("12 of 12 as expected\n")
    );
    for (format, part) in [
        ("mermaid", "===|\"link, trunk 10\"| s"),
        ("dot", "[label=\"link, trunk 10\", style=bold]"),
        ("svg", ">link, trunk 10</text>"),
    ] {
        for from in [&path, "--live"] {
            let drawn = lab.ok(&format!("lab graph {from} --format {format}"));
            assert_eq!(drawn.matches(part).count(), 3, "{drawn}");
        }
    }
    // The name is free now; the link keeps what it has.
    lab.ok("link del s1-s2");
    assert_eq!(lab.ctl(&format!("lab diff {path}")).code, 0);
    // What the file does not name any more goes, as a whole.
    let shorter = file(&lab, "chain.toml", &CHAIN.replace("{1..3}", "{1..2}"));
    lab.ctl(&format!("lab up {shorter}"))
        .failed(5, &["s3-s4", "s4-s3", "--yes"]);
    lab.ok(&format!("lab up --yes {shorter}"));
    assert_eq!(lab.json::<Vec<LinkView>>("link list").len(), 2);
    lab.ok("lab down chain");
    before.wait_until_same(|| Snapshot::of(&lab));
    // By `apply` it is no lab's, and goes by what the file names.
    lab.ok("reset --yes");
    lab.ok(&format!("apply {path}"));
    lab.ok("add-port red");
    lab.ok(&format!("lab down {path}"));
    assert_eq!(ports(&lab), ["red"]);
}

#[test]
fn labs_stand_side_by_side_and_each_removes_its_own() {
    let mut lab = Lab::new();
    lab.ok("add-port old --addr 10.9.0.1/24");
    let before = before(&lab);
    let (a, b) = (file(&lab, "first.toml", A), file(&lab, "b.toml", B));
    lab.ok(&format!("lab up {a}"));
    lab.ok(&format!("lab up {b}"));
    assert_eq!(ports(&lab), ["a1", "a2", "b1", "b2", "b3", "old"]);
    assert_eq!(lab.ok(&format!("lab up {b}")), "", "a second time changes nothing");
    let labs: Value = lab.ctl("--json lab list").json();
    assert_eq!(labs[0]["name"], "first");
    assert_eq!(labs[1]["ports"], serde_json::json!(["b1", "b2", "b3"]));
    assert_eq!(labs[1]["cables"].as_array().unwrap().len(), 1);
    // It is kept, and part of what is exported.
    lab.kill_daemon();
    lab.start();
    let exported = lab.ok("export");
    assert_eq!(lab.ok(&format!("apply {}", lab.lab_file(&exported))), "", "{exported}");
    // A smaller file takes away what is its lab's alone, and needs a word.
    let smaller = B.replace("{1..3}", "{1..2}");
    let b = file(&lab, "b.toml", &smaller);
    lab.ctl(&format!("lab up {b}")).failed(5, &["b3", "--yes"]);
    lab.ok(&format!("lab up --yes {b}"));
    assert_eq!(ports(&lab), ["a1", "a2", "b1", "b2", "old"]);
    // What another made is not taken.
    let thief = file(&lab, "thief.toml", "[[ports]]\nname = \"a1\"\n");
    lab.ctl(&format!("lab up {thief}")).failed(5, &["a1", "lab first"]);
    // `apply` of a file with a name is one of the labs too.
    assert_eq!(lab.ok(&format!("apply {b}")), "");
    // What went by other ways is no more the lab's.
    lab.ok("del-port b2");
    let would = lab.ok("lab down -n second");
    assert!(
        would.contains("would remove port b1") && !would.contains("b2 from"),
        "{would}"
    );
    lab.ok("lab down second");
    assert_eq!(ports(&lab), ["a1", "a2", "old"]);
    lab.ok(&format!("lab down {a}"));
    before.wait_until_same(|| Snapshot::of(&lab));
    lab.ctl("lab down frist").failed(4, &["frist"]);
    assert_eq!(lab.ctl("--json lab list").json::<Value>(), serde_json::json!([]));
}

/// It says what is to be there, not whose it is.
#[test]
fn a_file_without_a_name_leaves_things_to_their_labs() {
    let lab = Lab::new();
    let (a, b) = (file(&lab, "first.toml", A), file(&lab, "b.toml", B));
    lab.ok(&format!("lab up {a}"));
    lab.ok(&format!("lab up {b}"));
    let labs = |lab: &Lab| lab.ctl("--json lab list").json::<Value>();
    let before = labs(&lab);
    let exported = lab.ok("export");
    let (unowned, _) = exported
        .split_once("[[labs]]")
        .expect("what is exported tells of labs last");
    assert_eq!(lab.ok(&format!("apply {}", file(&lab, "all.toml", unowned))), "");
    assert_eq!(labs(&lab), before);
    // What it adds is nobody's; what it takes away was.
    let more = format!(
        "{}\n[[ports]]\nname = \"mine\"\n",
        unowned.replace("name = \"a1\"", "name = \"a9\"")
    );
    lab.ok(&format!("apply --yes {}", file(&lab, "more.toml", &more)));
    let after = labs(&lab);
    assert_eq!(after[0]["ports"], serde_json::json!(["a2"]), "{after}");
    assert_eq!(after[1], before[1]);
    lab.ok("lab down second");
    assert_eq!(ports(&lab), ["a2", "a9", "mine"]);
    // The switch that is always there stays as it always is, and is nobody's then.
    lab.ok("del-port a9 a2 mine");
    lab.ok("lab down first");
    let main = file(
        &lab,
        "main.toml",
        "name = \"m\"\n[[switches]]\nname = \"main\"\nageing_secs = 60\n",
    );
    lab.ok(&format!("lab up {main}"));
    assert_eq!(labs(&lab)[0]["switches"], serde_json::json!(["main"]));
    lab.ok("lab down m");
    assert_eq!(labs(&lab), serde_json::json!([]));
}

#[test]
fn down_of_a_file_that_was_applied_removes_what_it_names() {
    let lab = Lab::new();
    let before = before(&lab);
    let a = file(&lab, "a.toml", A);
    lab.ok(&format!("apply {a}"));
    lab.ok("add-port other");
    lab.ok(&format!("lab down {a}"));
    assert_eq!(ports(&lab), ["other"]);
    lab.ok("del-port other");
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn diff_has_the_exit_codes_of_diff() {
    let lab = Lab::new();
    let a = file(&lab, "a.toml", A);
    let reply = lab.ctl(&format!("lab diff {a}"));
    assert_eq!(reply.code, 1, "{reply}");
    assert!(reply.stdout.contains("would add port a1"), "{reply}");
    assert_eq!(ports(&lab), [""; 0]);
    lab.ok(&format!("lab up {a}"));
    let reply = lab.ctl(&format!("lab diff {a}"));
    assert_eq!((reply.code, reply.stdout.as_str()), (0, ""), "{reply}");
    let other = file(&lab, "a.toml", &A.replace("10.1.0.2", "10.1.0.3"));
    let reply = lab.ctl(&format!("lab diff {other}"));
    assert_eq!(reply.code, 1, "{reply}");
    assert!(
        reply.stdout.contains("would give port a2 address 10.1.0.3/24"),
        "{reply}"
    );
    lab.ctl("lab diff /nowhere.toml").failed(2, &["/nowhere.toml"]);
    let bad = file(&lab, "bad.toml", "prots = []");
    assert_eq!(lab.ctl(&format!("lab diff {bad}")).code, 2);
}

#[test]
fn a_new_file_is_a_lab_and_nothing_is_overwritten() {
    let lab = Lab::new();
    let path = lab.scratch().join("mine.toml");
    let path = path.to_str().unwrap();
    lab.ok(&format!("lab new {path}"));
    lab.ctl(&format!("lab new {path}")).failed(5, &["not overwritten"]);
    lab.ok(&format!("lab check {path}"));
    lab.ok(&format!("lab up {path}"));
    assert!(lab.ok(&format!("lab test {path}")).ends_with("12 of 12 as expected\n"));
}

#[test]
fn a_test_holds_pings_against_what_the_file_expects() {
    let lab = Lab::new();
    let text = "reach = [\"h1 <-> h2\", \"!h* -> guest\"]\n\n\
                [[ports]]\nname = \"h{1..2}\"\naddresses = [\"10.3.0.{n}/24\", \"fd03::{n}/64\"]\nvlan = { access = 10 }\n\n\
                [[ports]]\nname = \"guest\"\naddresses = [\"10.3.0.9/24\"]\nvlan = { access = 20 }\n";
    let path = file(&lab, "t.toml", text);
    lab.ctl(&format!("lab test {path}")).failed(4, &["h1", "lab up"]);
    lab.ok(&format!("lab up {path}"));
    let junit = lab.scratch().join("report.xml");
    let said = lab.ok(&format!("lab test --wait 1 --junit {} {path}", junit.display()));
    assert!(said.ends_with("6 of 6 as expected\n"), "{said}");
    assert!(
        fs::read_to_string(&junit)
            .unwrap()
            .contains("tests=\"6\" failures=\"0\"")
    );
    lab.ok("set port guest vlan.access=10");
    // What the stacks of before still look for they may give up just then.
    let reply = wait_for("the guest to be reached", || {
        let reply = lab.ctl(&format!("lab test --wait 1 --junit {} {path}", junit.display()));
        (reply.stdout.matches("was not to be reached").count() == 2).then_some(reply)
    });
    assert_eq!(reply.code, 1, "{reply}");
    let line = "h1 -> guest (ipv4): 10.3.0.9 answers, and was not to be reached\n";
    assert!(reply.stdout.contains(line), "{reply}");
    assert!(fs::read_to_string(&junit).unwrap().contains("failures=\"2\""));
    let report: Value = lab.ctl(&format!("--json lab test --wait 1 {path}")).json();
    assert_eq!(report["ok"], false);
    run("ip netns del guest");
    let reply = lab.ctl(&format!("lab test --wait 1 {path}"));
    assert!(
        reply.code == 0 && reply.stdout.ends_with("6 of 6 as expected\n"),
        "{reply}"
    );
    let bad = file(&lab, "bad.toml", &text.replace("!h*", "!x*"));
    let reply = lab.ctl(&format!("lab check {bad}"));
    assert!(reply.code == 1 && reply.stdout.contains(":1:23: "), "{reply}");
}

/// They were left out in silence, and the rest was as expected.
#[test]
fn what_is_expected_of_a_port_without_an_address_is_not_as_expected() {
    let lab = Lab::new();
    let text = "reach = [\"a -> b\", \"a -> c\", \"!c -> b\"]\n\n[[ports]]\nname = \"{a,b,c,d}\"\n";
    let bare = text.replace("{a,b,c,d}", "b") + "\n[[ports]]\nname = \"e\"\n";
    let with = |name: &str, n: u8, more: &str| {
        format!("\n[[ports]]\nname = \"{name}\"\naddresses = [\"10.3.0.{n}/24\"]\n{more}")
    };
    let text = [bare, with("a", 1, ""), with("c", 3, "")].concat();
    let path = file(&lab, "t.toml", &text);
    lab.ok(&format!("lab check {path}"));
    lab.ok(&format!("lab up {path}"));
    let reply = lab.ctl(&format!("lab test --wait 2 {path}"));
    assert_eq!(reply.code, 1, "{reply}");
    for part in [
        "a -> b: b has no address\n",
        "c -> b: b has no address\n",
        "left out, as they have no address: e\n",
        "mend      vswitchctl addr add b 10.3.0.2/24\n",
        "1 of 3 as expected\n",
    ] {
        assert!(reply.stdout.contains(part), "no {part:?} in {reply}");
    }
    lab.ok("addr add b 10.3.0.2/24");
    lab.ok("set port b --isolation isolated");
    lab.ok("set port c --isolation isolated");
    let reply = lab.ctl(&format!("lab test --wait 2 {path}"));
    assert!(reply.stdout.contains("3 of 3 as expected"), "{reply}");
}

/// Ports of the same names are another lab's or nobody's, and are not what the file is about.
#[test]
fn a_test_is_about_the_ports_of_its_lab_alone() {
    let lab = Lab::new();
    let text = "[[ports]]\nname = \"h{1..2}\"\naddresses = [\"10.3.0.{n}/24\"]\n";
    let (mine, other) = (file(&lab, "mine.toml", text), file(&lab, "other.toml", text));
    lab.ok(&format!("lab up {other}"));
    lab.ctl(&format!("lab test {mine}")).failed(4, &["h1", "of lab other"]);
    lab.ok(&format!("lab test {other}"));
    lab.ok("lab down other");
    // What was made one by one is the file's where it is as the file says.
    lab.ok("add-port h1 --addr 10.3.0.1/24");
    lab.ok("add-port h2 --addr 10.3.0.7/24");
    lab.ctl(&format!("lab test {mine}")).failed(4, &["h2", "of no lab"]);
    lab.ok("addr add h2 10.3.0.2/24");
    assert!(lab.ok(&format!("lab test {mine}")).ends_with("2 of 2 as expected\n"));
}

/// For each thing that is not as expected there is what `doctor` finds.
#[test]
fn a_test_that_fails_tells_why() {
    let lab = Lab::new();
    let text = "reach = [\"h1 -> h2\", \"h1 -> guest\", \"!guest -> h1\"]\n\n[[ports]]\nname = \"h{1..2}\"\naddresses = [\"10.3.0.{n}/24\"]\n\n\
                [[ports]]\nname = \"guest\"\naddresses = [\"10.3.0.9/24\"]\n";
    let path = file(&lab, "t.toml", text);
    lab.ok(&format!("lab up {path}"));
    lab.ok("set port h2 vlan.access=20");
    let (junit, svg) = (lab.scratch().join("report.xml"), lab.scratch().join("map.svg"));
    let line = format!(
        "lab test --wait 1 --junit {} --svg {} {path}",
        junit.display(),
        svg.display()
    );
    let reply = wait_for("the guest to reach h1, and nobody h2", || {
        let reply = lab.ctl(&line);
        reply.stdout.ends_with("1 of 3 as expected\n").then_some(reply)
    });
    assert_eq!(reply.code, 1, "{reply}");
    assert_eq!(reply.stdout.matches("  cause     ").count(), 2, "{reply}");
    for part in [
        "h1 -> h2 (ipv4): 10.3.0.2 does not answer\n  cause     ",
        "VLAN",
        "  mend      vswitchctl set port h1 --vlan 20",
        "guest -> h1 (ipv4): 10.3.0.1 answers, and was not to be reached\n  cause     no VLAN",
        "port guest hands it to port h1 (10.3.0.1)",
    ] {
        assert!(reply.stdout.contains(part), "no {part:?} in {reply}");
    }
    let junit = fs::read_to_string(&junit).unwrap();
    assert_eq!(junit.matches("cause: ").count(), 2, "{junit}");
    let svg = fs::read_to_string(&svg).unwrap();
    assert_eq!(
        (svg.matches("\"bad\"").count(), svg.matches("\"yes\"").count()),
        (2, 1),
        "{svg}"
    );
    let report: Value = lab.ctl(&format!("--json lab test --wait 1 {path}")).json();
    let pairs = report["pairs"].as_array().unwrap();
    assert_eq!(
        pairs.iter().filter(|pair| pair["cause"]["cause"].is_string()).count(),
        2,
        "{report}"
    );
}

#[test]
fn the_speed_between_pairs_is_measured_and_drawn() {
    let lab = Lab::new();
    let text = "reach = [\"* -> *\", \"!h* <-> alone\"]\n\n[[ports]]\nname = \"h{1..3}\"\naddresses = [\"10.3.0.{n}/24\", \"fd03::{n}/64\"]\n\n\
                [[ports]]\nname = \"alone\"\naddresses = [\"10.3.0.9/24\"]\nvlan = { access = 20 }\n";
    let path = file(&lab, "t.toml", &text.replace("64\"]", "64\"]\nvlan = { access = 10 }"));
    lab.ok(&format!("lab up {path}"));
    let svg = lab.scratch().join("map.svg");
    let report: Value = lab
        .ctl(&format!(
            "--json lab test --speed --speed-time 3 --svg {} {path}",
            svg.display()
        ))
        .json();
    let measured = |pair: &&Value| pair["bits_per_second"].as_u64().is_some_and(|bits| bits > 0);
    let speeds: Vec<_> = report["pairs"].as_array().unwrap().iter().filter(measured).collect();
    // Once for each way, and none where nobody is reached.
    assert_eq!(speeds.len(), 6, "{report}");
    assert!(
        speeds
            .iter()
            .all(|pair| pair["family"] == "ipv4" && pair["reached"] == true),
        "{report}"
    );
    let svg = fs::read_to_string(&svg).unwrap();
    for part in ["TCP, bit/s", "IPv6", "bit/s</title>"] {
        assert!(svg.contains(part), "no {part:?} in {svg}");
    }
    let text = lab.ok(&format!("lab test --speed --speed-time 1 {path}"));
    assert!(text.contains("\nbit/s") && text.contains("TCP from "), "{text}");
    lab.ctl(&format!("lab test --speed-time 3 {path}"))
        .failed(2, &["--speed"]);
}

#[test]
fn a_graph_of_a_file_and_of_what_is_there() {
    let lab = Lab::new();
    let b = file(&lab, "b.toml", B);
    let mermaid = lab.ok(&format!("lab graph {b}"));
    assert!(
        mermaid.starts_with("flowchart LR\n") && mermaid.contains("b3"),
        "{mermaid}"
    );
    lab.ok(&format!("lab up {b}"));
    for (format, part) in [("mermaid", "===|cable|"), ("dot", "graph lab {"), ("svg", "<svg ")] {
        let drawn = lab.ok(&format!("lab graph --live --format {format}"));
        assert!(drawn.contains(part) && drawn.contains("extra"), "{drawn}");
    }
}

/// The daemon ends what it has begun; the tool takes it back.
#[test]
fn ctrl_c_takes_back_what_was_made() {
    let lab = Lab::new();
    lab.ok("add-port old");
    let before = before(&lab);
    let many = file(&lab, "many.toml", "[[ports]]\nname = \"h{1..150}\"\n");
    let mut tool = tool()
        .args(["lab", "up", &many])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("the change to be under way", || {
        match lab.status().progress.is_some() || Path::new("/run/netns/h1").exists() {
            true => Ok(()),
            false => Err("it is not".to_owned()),
        }
    });
    kill(Pid::from_raw(tool.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let status = tool.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!(ports(&lab), ["old"]);
    before.wait_until_same(|| Snapshot::of(&lab));
}
