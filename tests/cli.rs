//! The control tool itself: help, JSON, completions, manual pages, events.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use vswitch_testing::daemon::program;
use vswitch_testing::{Events, Lab, Reply, Station};

use vswitch_testing::ctl::all_commands;

fn ctl(line: &str) -> Reply {
    Lab::call(line)
}

#[test]
fn every_command_has_help_with_an_example() {
    let commands = all_commands();
    for name in [
        "add-port",
        "del-port",
        "show",
        "fdb add",
        "switch add",
        "ns exec",
        "addr flush",
        "route add",
        "reset",
    ] {
        assert!(commands.contains(name), "{name} is not among {commands:?}");
    }
    for command in &commands {
        let help = ctl(&format!("{command} --help")).ok().stdout;
        let (_, examples) = help
            .split_once("Example")
            .unwrap_or_else(|| panic!("no example for `{command}`:\n{help}"));
        assert!(
            examples.contains(&format!("vswitchctl {}", command.split(' ').next().unwrap())),
            "{command}:\n{help}"
        );
        for option in ["--json", "--socket"] {
            assert!(help.contains(option), "{option} is not in the help of `{command}`");
        }
    }
}

#[test]
fn every_answer_can_be_had_as_json() {
    let lab = Lab::new();
    Station::one_of_each(&lab);
    lab.ok("cable red blue");
    for line in [
        "show",
        "port list",
        "vlan list",
        "vlan show 10",
        "route list",
        "acl list",
        "addr list veth",
        "port show veth",
        "fdb",
        "fdb show",
        "switch list",
        "switch show main",
        "ns list",
        "ns show veth",
        "addr list",
        "cable list",
        "status",
        "export",
        "add-port p",
        "set port p --mtu 1400",
        "addr add p 10.7.0.99/24",
        "addr flush p",
        "switch add s",
        "set switch s --ageing 5",
        "switch del s",
        "ns add n",
        "ns del n",
        "fdb add 02:00:00:00:00:01 p",
        "fdb del 02:00:00:00:00:01",
        "fdb flush",
        "del-port p",
        "cable del red blue",
        "trace veth --arp 10.7.0.2",
        "mirror add m --to veth",
        "mirror list",
        "mirror show m",
        "mirror del m",
        "reset -n",
        "reset --yes",
    ] {
        let value: Value = lab.json(line);
        assert!(value.is_object() || value.is_array(), "`{line}` gave {value}");
    }
    lab.ok("add-port red --addr 10.6.0.1/24");
    lab.ok("add-port blue --addr 10.6.0.2/24");
    let ping: Value = lab.json("ping red blue");
    assert_eq!(
        (&ping["to"], &ping["address"], &ping["ok"]),
        (&"blue".into(), &"10.6.0.2".into(), &true.into())
    );
    let lost = lab.ctl("--json ping red 10.6.0.9");
    assert_eq!((lost.code, &lost.json::<Value>()["ok"]), (1, &false.into()), "{lost}");
}

#[test]
fn output_into_a_pipe_has_no_colours_unless_asked_for() {
    let lab = Lab::new();
    Station::one_of_each(&lab);
    assert!(!lab.ok("show").contains('\x1b'));
    assert!(lab.ok("--color always show").contains('\x1b'));
}

#[test]
fn completions_and_manual_pages_are_made() {
    for (shell, word) in [
        ("bash", "complete "),
        ("zsh", "#compdef"),
        ("fish", "complete "),
        ("elvish", "add-port"),
    ] {
        let script = ctl(&format!("completions {shell}")).ok().stdout;
        assert!(script.contains(word) && script.contains("vswitchctl"), "{shell}");
    }
    let page = ctl("man").ok().stdout;
    assert!(page.contains(".TH") && page.contains("add\\-port"), "{page}");
}

#[test]
fn both_programs_tell_their_version() {
    for name in ["vswitchd", "vswitchctl"] {
        let output = Command::new(program(name)).arg("--version").output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap().trim(),
            format!("{name} {}", env!("CARGO_PKG_VERSION"))
        );
    }
}

#[test]
fn wrong_usage_ends_with_two() {
    for line in ["", "nosuch", "add-port", "add-port red --nosuch", "fdb add", "set port"] {
        assert_eq!(ctl(line).code, 2, "`{line}`");
    }
}

#[test]
fn events_tell_what_happens_as_it_happens() {
    let lab = Lab::new();
    let events = Events::follow(&lab, &["--json"]);
    let red = Station::add(&lab, "red", vswitch_testing::api::PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", vswitch_testing::api::PortKind::Tap, 2);
    red.ping(blue.v4);
    lab.ok("set port red --down");
    lab.ok("del-port red");
    let mut expected = BTreeSet::from([
        "port-added",
        "namespace-added",
        "address-added",
        "fdb-learned",
        "port-state",
        "port-removed",
        "namespace-removed",
    ]);
    while !expected.is_empty() {
        let event: Value = serde_json::from_str(&events.next(&format!("{expected:?}"))).unwrap();
        assert!(event["time_ms"].is_u64(), "{event}");
        expected.remove(event["kind"].as_str().unwrap());
    }
}
