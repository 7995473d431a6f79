//! `ns exec`, in a mount and network namespace of the test's own with a /run of its own.
#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

use std::process::{Command, Output};

/// Runs a script as root of a private machine with the namespace `red`; none where that is not allowed.
fn privately(script: &str) -> Option<Output> {
    let prepare = "mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add red";
    let unshare = |script: &str| {
        let user = if nix::unistd::geteuid().is_root() {
            "-mn"
        } else {
            "-rmn"
        };
        Command::new("unshare")
            .args([user, "sh", "-c", script])
            .env("CTL", env!("CARGO_BIN_EXE_vswitchctl"))
            .output()
            .unwrap()
    };
    if !unshare(prepare).status.success() {
        eprintln!("skipped: no right to make namespaces here");
        return None;
    }
    Some(unshare(&format!("{prepare}; {script}")))
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_command_is_inside_and_the_namespace_is_as_ip_netns_has_it() {
    let own = "readlink /proc/self/ns/net";
    let Some(output) = privately(&format!("$CTL ns exec red {own}; ip netns exec red {own}; {own}")) else {
        return;
    };
    let lines = stdout(&output);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3, "{output:?}");
    assert_eq!(lines[0], lines[1]);
    assert_ne!(lines[0], lines[2]);
}

#[test]
fn sys_and_etc_are_those_of_the_namespace() {
    let script = "mount -t sysfs sysfs /sys; ip link add outside type veth; mount -t tmpfs tmpfs /etc; echo outer > /etc/resolv.conf; \
                  mkdir -p /etc/netns/red; echo inner > /etc/netns/red/resolv.conf; \
                  $CTL ns exec red -- sh -c 'cat /etc/resolv.conf; ls /sys/class/net'; ls /sys/class/net; cat /etc/resolv.conf";
    let Some(output) = privately(script) else { return };
    let lines = stdout(&output);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        (lines.first(), lines.last()),
        (Some(&"inner"), Some(&"outer")),
        "{output:?}"
    );
    if nix::unistd::geteuid().is_root() {
        // Once outside, where it is, and not inside.
        assert_eq!(lines.iter().filter(|line| **line == "outside").count(), 1, "{output:?}");
    }
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    for (command, code, text) in [
        ("red -- sh -c 'exit 42'", 42, ""),
        ("red true --json", 0, ""),
        (
            "red no-such-command",
            127,
            "vswitchctl: command no-such-command: it can't be run in namespace red",
        ),
        (
            "red /etc",
            126,
            "vswitchctl: command /etc: it can't be run in namespace red",
        ),
        (
            "green true",
            4,
            "vswitchctl: namespace \"green\": it does not exist; `vswitchctl ns list` shows",
        ),
    ] {
        let Some(output) = privately(&format!("$CTL ns exec {command}")) else {
            return;
        };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{command}: {stderr}");
        assert!(stderr.contains(text), "{command}: {stderr}");
    }
}

#[test]
fn a_file_that_is_no_namespace_is_told_so() {
    let Some(output) = privately("touch /run/netns/stale; $CTL ns exec stale true") else {
        return;
    };
    assert_eq!(output.status.code(), Some(5));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("/run/netns/stale is no namespace"),
        "{output:?}"
    );
}
