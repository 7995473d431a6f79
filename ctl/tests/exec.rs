//! `ns exec`, in a mount and network namespace of the test's own with a /run of its own.

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
    let Some(output) =
        privately("$CTL ns exec red ip link add inside type dummy; ip netns exec red ip -br link; ip -br link")
    else {
        return;
    };
    assert_eq!(stdout(&output).matches("inside").count(), 1, "{output:?}");
}

#[test]
fn sys_and_etc_are_those_of_the_namespace() {
    let script = "ip link add outside type dummy; mount -t tmpfs tmpfs /etc; echo outer > /etc/resolv.conf; \
                  mkdir -p /etc/netns/red; echo inner > /etc/netns/red/resolv.conf; \
                  $CTL ns exec red -- sh -c 'cat /etc/resolv.conf; ls /sys/class/net'; cat /etc/resolv.conf";
    let Some(output) = privately(script) else { return };
    let lines = stdout(&output);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        (lines.first(), lines.last()),
        (Some(&"inner"), Some(&"outer")),
        "{output:?}"
    );
    if nix::unistd::geteuid().is_root() {
        assert!(!lines.contains(&"outside"), "{output:?}");
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
