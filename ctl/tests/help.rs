//! Help, completions and man pages.
#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod common;

use std::path::Path;

use common::{Replies, run};

fn text(arguments: &str) -> String {
    let ran = run(Path::new("/nowhere"), arguments, "");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments}");
    ran.stdout
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let lines = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("    "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Walks all commands and gives the number of those seen.
fn every_help_has_an_example(path: &str) -> usize {
    let help = text(&format!("{path} --help"));
    let example = format!("  vswitchctl{path}");
    assert!(
        help.lines().any(|line| line.starts_with(&example)),
        "no example in:\n{help}"
    );
    for option in ["--socket <PATH>", "--json", "--color <WHEN>"] {
        assert!(help.contains(option), "{path}: no {option}");
    }
    1 + commands(&help)
        .iter()
        .map(|name| every_help_has_an_example(&format!("{path} {name}")))
        .sum::<usize>()
}

#[test]
fn every_command_has_an_example() {
    assert!(every_help_has_an_example("") > 40);
}

#[test]
fn the_examples_can_be_said() {
    // Each is run against a server that takes everything: only exit code 2 would be wrong.
    let daemon = Replies::default().start();
    let lab = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(lab.path(), "ports = []\n").unwrap();
    let lab_file = lab.path().display().to_string();
    let mut seen = 0;
    let mut paths = vec![String::new()];
    while let Some(path) = paths.pop() {
        let help = text(&format!("{path} --help"));
        paths.extend(commands(&help).iter().map(|name| format!("{path} {name}")));
        let examples = help.lines().filter_map(|line| line.strip_prefix("  vswitchctl "));
        for example in examples {
            let example = example.split(['#', '|', '>']).next().unwrap();
            // `lab diff` ends as diff does, with 2 for any trouble; `reset --offline` is about this very machine; `top` needs a terminal.
            if !["ns exec", "man", "lab diff", "reset --offline", "top"]
                .iter()
                .any(|own| example.starts_with(own))
            {
                let example = example
                    .replace("lab.toml", &lab_file)
                    .replace("rules.txt", "/dev/null")
                    // A line is cut at its spaces here, as no shell would.
                    .replace("'second floor'", "upstairs")
                    .replace("'10.0.0.2 blue'", "blue")
                    .replace("red.pcapng", "/dev/null")
                    .replace("both.pcapng", "/dev/null")
                    // It is there, and so it stays as it is.
                    .replace("report.tar.gz", "/dev/null");
                assert_ne!(daemon.run(&example).code, 2, "{example}");
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn the_exit_codes_are_told() {
    let help = text("--help");
    for line in [
        "  0  done",
        "  3  the daemon can't be reached",
        "  6  not permitted, or the kernel lacks a feature",
    ] {
        assert!(help.contains(line), "{line}");
    }
}

/// `vswitchctl man add-port` once made a directory of this name with 70 files (faults C).
#[test]
fn man_takes_a_command_or_a_directory() {
    assert!(text("man add-port").contains(".TH vswitchctl-add-port 1"));
    assert!(text("man ns exec").contains(".TH vswitchctl-ns-exec 1"));
    let dir = tempfile::tempdir().unwrap();
    for mistaken in ["add-prt", "man1", "ns exce"] {
        let output = common::tool(Path::new("/nowhere"))
            .current_dir(dir.path())
            .arg("man")
            .args(mistaken.split(' '))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{mistaken}: {output:?}");
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "{mistaken}");
    }
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            text(&format!("completions {shell}")).contains("VSWITCHCTL_COMPLETE"),
            "{shell}"
        );
    }
    assert!(text("man").contains(".TH vswitchctl 1"));
    let dir = tempfile::tempdir().unwrap();
    text(&format!("man {}", dir.path().join("man1").display()));
    for page in ["vswitchctl.1", "vswitchctl-add-port.1", "vswitchctl-ns-exec.1"] {
        assert!(dir.path().join("man1").join(page).is_file(), "{page}");
    }
}

/// What bash offers behind this line.
fn bash_offers(line: &str) -> Vec<String> {
    const ASK: &str = r#"
        source "$SCRIPT"
        COMP_LINE=$LINE COMP_POINT=${#LINE}
        _vswitchctl vswitchctl
        printf '%s\n' "${COMPREPLY[@]}""#;
    let script = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(script.path(), text("completions bash")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_vswitchctl")).parent().unwrap().display();
    let path = format!("{program}:{}", std::env::var("PATH").unwrap());
    let output = std::process::Command::new("bash")
        .args(["-c", ASK])
        .env("SCRIPT", script.path())
        .env("LINE", line)
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{line}: {output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    words.lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_keys_and_values() {
    for (line, offered) in [
        (
            "vswitchctl set port red learning.l",
            &["learning.limit=", "learning.locked="][..],
        ),
        ("vswitchctl set port red learning.enabled=", &["on", "off"]),
        ("vswitchctl set port red mtu=9000 learning.beyond=d", &["drop"]),
        ("vswitchctl --socket /x set switch main reserved_multicast=l", &["lldp"]),
        ("vswitchctl set switch main flap", &["flap_moves=", "flap_secs="]),
        ("vswitchctl set port red --offload o", &["on", "off"]),
        ("vswitchctl set po", &["port"]),
    ] {
        let found = bash_offers(line);
        assert!(
            offered.iter().all(|word| found.contains(&(*word).to_owned())),
            "{line}: {found:?}"
        );
        assert!(offered.len() == found.len() || line.contains("--"), "{line}: {found:?}");
    }
}
