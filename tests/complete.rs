//! Completion of what is there, in real shells.

use std::path::Path;
use std::process::{Command, Stdio};

use vswitch_tests::daemon::program;
use vswitch_tests::{Lab, wait_for};

fn furnished() -> Lab {
    let lab = Lab::new();
    lab.ok("add-port red rover blue");
    lab.ok("switch add backbone");
    lab.ok("mirror add watch --from red --to blue");
    lab
}

/// The environment in which the shells find the program.
fn path() -> String {
    let ctl = program("vswitchctl");
    format!("{}:{}", ctl.parent().unwrap().display(), std::env::var("PATH").unwrap())
}

const LINES: [(&str, &[&str]); 10] = [
    ("vswitchctl port show r", &["red", "rover"]),
    ("vswitchctl del-port red b", &["blue"]),
    ("vswitchctl switch show b", &["backbone"]),
    ("vswitchctl add-port x --switch ba", &["backbone"]),
    ("vswitchctl ns show ro", &["rover"]),
    ("vswitchctl mirror del w", &["watch"]),
    ("vswitchctl ping red bl", &["blue"]),
    (
        "vswitchctl set port red learning.l",
        &["learning.limit=", "learning.locked="],
    ),
    ("vswitchctl set switch main flap_m", &["flap_moves="]),
    ("vswitchctl set po", &["port"]),
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

fn there(shell: &str) -> bool {
    Command::new(shell)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
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

/// A terminal, in which keys are pressed.
struct Terminal<'a> {
    socket: &'a Path,
}

impl Terminal<'_> {
    fn tmux(&self, arguments: &[&str]) -> String {
        let socket = self.socket.to_str().unwrap();
        let output = Command::new("tmux")
            .args(["-S", socket])
            .args(arguments)
            .env("PATH", path())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
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
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("tmux");
        let terminal = Terminal { socket: &socket };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "30", shell]);
        terminal.tmux(&["send-keys", "-l", &format!("{load}; echo rea''dy")]);
        terminal.tmux(&["send-keys", "Enter"]);
        wait_for("the shell", || {
            terminal.screen().lines().any(|line| line.trim() == "ready")
        });
        terminal.tmux(&["send-keys", "-l", "vswitchctl port show bl"]);
        terminal.tmux(&["send-keys", "Tab"]);
        wait_for("the name", || terminal.screen().contains("vswitchctl port show blue"));
        terminal.tmux(&["send-keys", "-l", " ; vswitchctl set port red learning.lo"]);
        terminal.tmux(&["send-keys", "Tab"]);
        wait_for("the key", || terminal.screen().contains("learning.locked="));
        terminal.tmux(&["send-keys", "-l", "of"]);
        terminal.tmux(&["send-keys", "Tab"]);
        wait_for("the value", || terminal.screen().contains("learning.locked=off"));
    }
}
