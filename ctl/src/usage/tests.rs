use std::collections::BTreeSet;

use clap::{Arg, ArgAction};

use super::*;

/// No name, number, address, word or rule.
const BAD: &str = "!?";

/// What takes any text.
const FREE: [&str; 54] = [
    "log-level LEVEL",
    "acl add RULE",
    "acl set --in-file",
    "acl set --out-file",
    "add-port --description",
    "apply FILE",
    "bugreport --config",
    "bugreport --log",
    "bugreport FILE",
    "bridge fdb add WORD",
    "bridge fdb del WORD",
    "bridge fdb replace WORD",
    "bridge fdb show WORD",
    "bridge link set WORD",
    "bridge link show WORD",
    "bridge vlan add WORD",
    "bridge vlan del WORD",
    "bridge vlan show WORD",
    "capture --filter",
    "capture --write",
    "capture EXPRESSION",
    "command add --description",
    "command add --dir",
    "export --into",
    "install-service --daemon",
    "install-service --units",
    "lab check FILE",
    "lab diff FILE",
    "lab down LAB|FILE",
    "lab export --into",
    "lab graph FILE",
    "lab import FILE",
    "lab new FILE",
    "lab test --junit",
    "lab test --svg",
    "lab test FILE",
    "lab up FILE",
    "link add --description",
    "man COMMAND|DIR",
    "mirror add --filter",
    "mirror set --filter",
    "ns exec COMMAND",
    "set acl --in-file",
    "set acl --out-file",
    "set mirror --filter",
    "port add --description",
    "reset --config",
    "reset --run-dir",
    "reset --state-dir",
    "shell SHELL",
    "switch add --description",
    "trace --filter",
    "trace --hex",
    "--socket",
];

fn every_command<'a>(command: &'a Command, path: &str, all: &mut Vec<(String, &'a Command)>) {
    all.push((path.to_owned(), command));
    for below in command.get_subcommands() {
        every_command(below, format!("{path} {}", below.get_name()).trim(), all);
    }
}

/// The words of a call in which `arg` has a bad value. Values before it are good enough to be read.
fn call(path: &str, command: &Command, arg: &Arg) -> Vec<String> {
    let mut words = vec!["vswitchctl".to_owned()];
    words.extend(path.split_whitespace().map(str::to_owned));
    match (arg.get_long(), arg.get_index()) {
        (Some(long), _) => words.push(format!("--{long}={BAD}")),
        (None, index) => {
            let before = command.get_positionals().filter(|other| other.get_index() < index);
            // A name, a MAC address and a direction would all do somewhere; each argument takes one of them.
            for other in before {
                let good = match other.get_id().as_str() {
                    "mac" => "02:00:00:00:00:01",
                    "direction" => "in",
                    "table" => "port",
                    "column" => "tag",
                    "vlan" => "0",
                    "switched" => "on",
                    _ => "red",
                };
                words.push(good.to_owned());
            }
            words.push(BAD.to_owned());
        }
    }
    words
}

fn error_of(line: &str) -> clap::Error {
    let words = format!("vswitchctl {line}");
    Cli::command().try_get_matches_from(words.split(' ')).unwrap_err()
}

/// Each line is answered by that, and nothing else.
fn are_told(lines: &[(&str, &str)]) {
    for (line, told_so) in lines {
        let error = error_of(line);
        let told = told(&error).unwrap_or_else(|| panic!("{line}: {error}"));
        assert_eq!(told.to_string(), *told_so, "{line}: {error}");
    }
}

/// Each value that can't be is told in one line with its option and itself (faults C). A new option is among them by itself.
#[test]
fn a_bad_value_is_named_with_its_option() {
    let mut tool = Cli::command();
    tool.build();
    let mut all = Vec::new();
    every_command(&tool, "", &mut all);
    let (mut free, mut seen) = (BTreeSet::new(), 0);
    for (path, command) in all
        .iter()
        .filter(|(path, _)| !path.split(' ').any(|word| word == "help"))
    {
        // What stands behind -- is a command of its own.
        let takes_value =
            |arg: &&Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_last_set();
        for arg in command.get_arguments().filter(takes_value) {
            let words = call(path, command, arg);
            let line = words.join(" ");
            let value_name = arg.get_value_names().and_then(|names| names.first());
            let name = match arg.get_long() {
                Some(long) => format!("--{long}"),
                None => value_name.map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string),
            };
            // A copy of what is built: to build it anew for each takes most of the time.
            let error = tool.clone().try_get_matches_from(&words).err();
            // That another argument is missing says nothing of this one.
            let is_missing = [ErrorKind::MissingRequiredArgument, ErrorKind::MissingSubcommand];
            let about = |error: &&clap::Error| !is_missing.contains(&error.kind());
            let told = error.as_ref().filter(about).and_then(told);
            match told {
                Some(error) => {
                    let text = error.to_string();
                    assert!(error.object.contains(&name), "{line}: {text} does not name {name}");
                    assert!(text.contains(BAD), "{line}: {text} does not name the value");
                    assert!(!text.contains('\n'), "{line}: {text}");
                    assert!(!text.contains("invalid digit"), "{line}: {text}");
                    seen += 1;
                }
                None => {
                    let place = if arg.is_global_set() { "" } else { path };
                    free.insert(format!("{place} {name}").trim().to_owned());
                }
            }
        }
    }
    let expected: BTreeSet<_> = FREE.iter().map(ToString::to_string).collect();
    assert_eq!(free, expected);
    assert!(seen > 150, "{seen}");
}

/// Clap's text of it has five lines.
#[test]
fn what_is_missing_is_told_in_one_line() {
    are_told(&[
        ("add-port", "add-port: it needs NAME; see `vswitchctl add-port --help`"),
        (
            "link add main",
            "link add: it needs B; see `vswitchctl link add --help`",
        ),
        (
            "capture -c 3",
            "capture: it needs PORT; see `vswitchctl capture --help`",
        ),
        (
            "mirror add m",
            "mirror add: it needs --to PORT; see `vswitchctl mirror add --help`",
        ),
        (
            "set port red",
            "set port: it needs KEY=VALUE or an option; see `vswitchctl set port --help`",
        ),
    ]);
}

/// Clap's text of these has up to seven lines.
#[test]
fn what_is_not_known_is_told_in_one_line_with_what_was_meant() {
    are_told(&[
        (
            "prot list",
            "command line: there is no command \"prot\"; did you mean port? see `vswitchctl --help`",
        ),
        (
            "exec red ls",
            "command line: there is no command \"exec\"; did you mean ns exec? see `vswitchctl --help`",
        ),
        (
            "diff lab.toml",
            "command line: there is no command \"diff\"; did you mean lab diff? see `vswitchctl --help`",
        ),
        (
            "port lst",
            "port: there is no command \"lst\"; did you mean list? see `vswitchctl port --help`",
        ),
        (
            "link frob",
            "link: there is no command \"frob\"; choose one of add, del, set, list, show",
        ),
        (
            "vlan del 10",
            "vlan: there is no command \"del\"; ports are put into VLANs by `vswitchctl set port NAME vlan.access=10`; choose one of \
             list, show",
        ),
        (
            "add-port red --adr 10.0.0.1/24",
            "add-port: there is no option --adr; did you mean --addr? see `vswitchctl add-port --help`",
        ),
        (
            "add-port red --qqq",
            "add-port: there is no option --qqq; see `vswitchctl add-port --help`",
        ),
        (
            "add-port red --pid -5",
            "add-port: there is no option -5, and no value that is less than zero; see `vswitchctl add-port --help`",
        ),
        (
            "link show a b c",
            "link show: \"c\" is a word too many; see `vswitchctl link show --help`",
        ),
        (
            "set switch main --gateway",
            "set switch: there is no option --gateway; did you mean gateway=on|off|TEXT,...? see `vswitchctl set switch --help`",
        ),
        (
            "route add red 10.0.0.0/8 via 10.0.0.1",
            "route add: \"via\" is a word too many; did you mean --via? see `vswitchctl route add --help`",
        ),
        (
            "command add web --ns red sleep",
            "command add: \"sleep\" is a word too many; did you mean -- PROGRAM? see `vswitchctl command add --help`",
        ),
        (
            "impair red delay=20ms",
            "impair: \"delay=20ms\" is a word too many; did you mean --delay 20ms? see `vswitchctl impair --help`",
        ),
        (
            "link add a b --vlan 1 --trunk 2",
            "link add: --vlan can't be said together with --trunk; see `vswitchctl link add --help`",
        ),
        (
            "link add a b --vlan 1 --vlan 2",
            "link add: --vlan is said twice; see `vswitchctl link add --help`",
        ),
    ]);
}

#[test]
fn an_option_without_its_value_is_named() {
    for (line, name) in [
        ("set switch main --rspan-vlans", "--rspan-vlans"),
        ("set port red --mtu", "--mtu"),
        ("set port red --trunk", "--trunk"),
    ] {
        let error = error_of(line);
        let told = told(&error).unwrap_or_else(|| panic!("{line}: {error}"));
        assert_eq!(told.to_string(), format!("{name}: it needs a value"));
    }
}
