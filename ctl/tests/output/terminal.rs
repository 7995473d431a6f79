//! What is otherwise on a terminal.

use std::process::{Command, Stdio};

use serde_json::json;

use super::common::{Daemon, Replies};
use super::daemon;

/// Runs the tool on a terminal of 80 columns.
fn on_a_terminal(daemon: &Daemon, arguments: &str, env: &[(&str, &str)], input: &str) -> (i32, String) {
    let tool = env!("CARGO_BIN_EXE_vswitchctl");
    let mut command = Command::new("script");
    command
        .args(["-qec", &format!("stty cols 80; {tool} {arguments}"), "/dev/null"])
        .env("VSWITCH_SOCKET", daemon.socket())
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout).replace('\r', ""),
    )
}

#[test]
fn colours_are_for_terminals_and_those_who_ask() {
    let daemon = daemon();
    let coloured = |text: &str| text.contains("\u{1b}[");
    assert!(!coloured(&daemon.run("show").stdout));
    assert!(coloured(&daemon.run("show --color always").stdout));
    assert!(coloured(&on_a_terminal(&daemon, "show", &[], "").1));
    assert!(!coloured(&on_a_terminal(&daemon, "show", &[("NO_COLOR", "1")], "").1));
    assert!(coloured(&on_a_terminal(&daemon, "show", &[("NO_COLOR", "")], "").1));
    assert!(!coloured(&on_a_terminal(&daemon, "show", &[("TERM", "dumb")], "").1));
    assert!(!coloured(&on_a_terminal(&daemon, "show --color never", &[], "").1));
}

#[test]
fn a_narrow_terminal_gets_a_narrow_table() {
    let text = on_a_terminal(&daemon(), "show --color never", &[], "").1;
    let rows: Vec<&str> = text.lines().skip(1).take(4).collect();
    assert_eq!(
        rows,
        [
            "PORT  TYPE    NAMESPACE/IF  STATE    ADDRESSES                 RX     TX  DROPS",
            "blue  device  -             missing  -                        0/0    0/0      0",
            "red   veth    red/eth0      up       192.168.15.1/24  1.24k/1.23M  5/410      3",
            "                                     fd00:15::1/64",
        ],
        "{text}"
    );
}

/// What `apply` would remove is shown and asked about (faults A2).
#[test]
fn apply_asks_on_a_terminal() {
    let removed = json!(["removed port red from switch main"]);
    let daemon = Replies::default()
        .json("GET /v1/lab", json!({}))
        .json("PUT /v1/lab", json!({"done": removed, "removed": removed}))
        .start();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "ports = []\n").unwrap();
    let line = format!("apply {}", file.path().display());
    let (code, text) = on_a_terminal(&daemon, &line, &[], "n\n");
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("would remove port red from switch main"), "{text}");
    assert!(text.contains("apply: not confirmed, nothing was done"), "{text}");
    let asked = || daemon.asked().into_iter().map(|asked| asked.method).collect::<Vec<_>>();
    assert_eq!(asked(), ["GET", "PUT"]);
    let (code, text) = on_a_terminal(&daemon, &line, &[], "y\n");
    assert_eq!(code, 0, "{text}");
    assert_eq!(asked(), ["GET", "PUT", "PUT"]);
}

#[test]
fn reset_asks_on_a_terminal() {
    let daemon = Replies::default().start();
    let (code, text) = on_a_terminal(&daemon, "reset", &[], "n\n");
    assert_eq!(code, 5, "{text}");
    assert!(
        text.contains("would: did it\nDo it? [y/N]") && text.contains("nothing was done"),
        "{text}"
    );
    assert_eq!(daemon.asked().len(), 1, "the dry run alone");

    let (code, text) = on_a_terminal(&daemon, "reset", &[], "y\n");
    assert_eq!(code, 0, "{text}");
    let uris: Vec<String> = daemon.asked().into_iter().map(|a| a.uri).collect();
    assert_eq!(uris, ["/v1/reset?dry_run=true&idempotent=false", "/v1/reset"]);
}
