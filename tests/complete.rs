//! Completion of what is there, in real shells.

use std::process::Command;

use vswitch_testing::Lab;
use vswitch_testing::terminal::{Terminal, path, there};

fn furnished() -> Lab {
    let lab = Lab::new();
    lab.ok("add-port red rover blue");
    lab.ok("addr add red 10.0.0.1/24");
    lab.ok("route add red 10.9.0.0/16 --via 10.0.0.9");
    lab.ok("switch add backbone");
    lab.ok("switch add xray");
    lab.ok("link add xray main");
    lab.ok("mirror add watch --from red --to blue");
    lab.ok("command add web --ns red -- sleep 100020");
    let file = lab.lab_file("name = \"zlab\"\nnamespaces = [\"alone\"]\n");
    lab.ok(&format!("lab up {file}"));
    lab
}

const LINES: [(&str, &[&str]); 27] = [
    ("vswitchctl addr del red 10.0.", &["10.0.0.1/24"]),
    ("vswitchctl route del red 10.9", &["10.9.0.0/16"]),
    ("vswitchctl lab down zl", &["zlab"]),
    ("vswitchctl lab export zl", &["zlab"]),
    ("vswitchctl set li", &["link"]),
    ("vswitchctl capture --any red bl", &["blue"]),
    ("vswitchctl command restart w", &["web"]),
    ("vswitchctl command add x --ns ro", &["rover"]),
    ("vswitchctl port show r", &["red", "rover"]),
    ("vswitchctl del-port red b", &["blue"]),
    ("vswitchctl switch show b", &["backbone"]),
    ("vswitchctl add-port x --switch ba", &["backbone"]),
    ("vswitchctl ns show ro", &["rover"]),
    ("vswitchctl mirror del w", &["watch"]),
    ("vswitchctl ping red bl", &["blue"]),
    ("vswitchctl ovs del-port b", &["blue"]),
    ("vswitchctl ovs list-ports ba", &["backbone"]),
    ("vswitchctl bridge link show dev ro", &["rover"]),
    (
        "vswitchctl set port red learning.l",
        &["learning.limit=", "learning.locked="],
    ),
    ("vswitchctl set switch main flap_m", &["flap_moves="]),
    ("vswitchctl set cable red blue routes", &["routes_a=", "routes_b="]),
    ("vswitchctl set po", &["port"]),
    ("vswitchctl mirror add m --from red,b", &["red,blue"]),
    ("vswitchctl trace red --dst bl", &["blue"]),
    ("vswitchctl bridge fdb show br b", &["backbone"]),
    ("vswitchctl ovs get bridge b", &["backbone"]),
    ("vswitchctl link set x", &["xray-main"]),
];

/// What bash has to offer behind a line, as its completion function is called.
fn bash(line: &str) -> Vec<String> {
    const ASK: &str = r#"
        source <(vswitchctl completions bash)
        COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_CWORD=9
        _vswitchctl vswitchctl
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash")
        .args(["-c", ASK])
        .env("LINE", line)
        .env("PATH", path())
        .output()
        .unwrap();
    lines(&output.stdout)
}

/// What fish has to offer, without the descriptions.
fn fish(line: &str) -> Vec<String> {
    const ASK: &str = "vswitchctl completions fish | source; complete --do-complete $LINE";
    let output = Command::new("fish")
        .args(["-c", ASK])
        .env("LINE", line)
        .env("PATH", path())
        .output()
        .unwrap();
    lines(&output.stdout)
        .iter()
        .map(|line| line.split('\t').next().unwrap().to_owned())
        .collect()
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

#[test]
fn bash_and_fish_know_what_is_there() {
    let _lab = furnished();
    let has_fish = there("fish");
    for (line, offered) in LINES {
        let mut found = bash(line);
        found.sort();
        assert_eq!(found, offered, "bash: {line}");
        if has_fish {
            let mut found = fish(line);
            found.sort();
            assert_eq!(found, offered, "fish: {line}");
        }
    }
    // bash has parted the word at = and wants what stands behind.
    assert_eq!(
        bash("vswitchctl set port red mtu=9000 learning.enabled="),
        ["on", "off"]
    );
    assert_eq!(bash("vswitchctl set switch main reserved_multicast=l"), ["lldp"]);
    // Names that are to be new are not offered.
    assert!(!bash("vswitchctl add-port r").contains(&"red".to_owned()));
}

#[test]
fn without_a_daemon_the_words_are_offered_all_the_same() {
    let _lab = Lab::without_daemon();
    assert_eq!(bash("vswitchctl set sw"), ["switch"]);
    assert!(!bash("vswitchctl port show r").contains(&"red".to_owned()));
}

#[test]
fn a_tab_completes_in_a_terminal() {
    if !there("tmux") {
        return;
    }
    let _lab = furnished();
    for (shell, load) in [
        ("bash --norc --noprofile", "source <(vswitchctl completions bash)"),
        (
            "zsh -f",
            "autoload -U compinit; compinit -u -D; source <(vswitchctl completions zsh)",
        ),
        ("fish --no-config", "vswitchctl completions fish | source"),
    ] {
        if !there(shell.split(' ').next().unwrap()) {
            continue;
        }
        let terminal = Terminal::start(shell, 120, 30);
        terminal.type_text(&format!("{load}; echo rea''dy"));
        terminal.press("Enter");
        terminal.wait("the shell", |screen| screen.lines().any(|line| line.trim() == "ready"));
        terminal.type_text("vswitchctl port show bl");
        terminal.press("Tab");
        terminal.wait_for("vswitchctl port show blue");
        terminal.type_text(" ; vswitchctl set port red learning.lo");
        terminal.press("Tab");
        terminal.wait_for("learning.locked=");
        terminal.type_text("of");
        terminal.press("Tab");
        terminal.wait_for("learning.locked=off");
    }
}
