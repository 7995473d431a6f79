//! What is said at the start when something is wrong.

use std::process::{Command, Output};

use crate::daemon::{BINARY, Daemon, Place};

fn vswitchd(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).output().unwrap()
}

/// (exit code, the one line on stderr)
fn refused(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.matches('\n').count(), 1, "not one line: {text}");
    (output.status.code(), text.trim_end().to_owned())
}

#[test]
fn check_config_says_ok_or_where_the_error_is() {
    let place = Place::new();
    let path = place.path("x.toml");
    let path = path.to_str().unwrap();
    std::fs::write(path, "[datapath]\nworkers = 1\n").unwrap();
    let output = vswitchd(&["--check-config", "--config", path]);
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(0), b"OK\n".as_slice())
    );

    std::fs::write(path, "[datapath]\nworkers = 1\nwrokers = 2\n").unwrap();
    let (code, line) = refused(&vswitchd(&["--check-config", "--config", path]));
    assert_eq!(code, Some(2));
    assert!(
        line.starts_with(&format!("vswitchd: {path}:3: key \"wrokers\": unknown field")),
        "{line}"
    );
}

#[test]
fn a_bad_option_is_an_error() {
    assert_eq!(vswitchd(&["--sokcet", "/x"]).status.code(), Some(2));
    let (code, line) = refused(&vswitchd(&["--log-level", "loud"]));
    assert_eq!(code, Some(2));
    assert!(
        line.starts_with("vswitchd: option --log-level: \"loud\" is not a level"),
        "{line}"
    );
}

#[test]
fn without_rights_it_says_which_one_is_missing() {
    let place = Place::new();
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all", BINARY]);
        command
    } else {
        Command::new(BINARY)
    };
    let output = command
        .arg("--run-dir")
        .arg(place.path("run"))
        .arg("--state-dir")
        .arg(place.path("state"))
        .output()
        .unwrap();
    let (code, line) = refused(&output);
    assert_eq!(code, Some(6));
    assert!(
        line.contains("CAP_NET_ADMIN is missing") && line.contains("run it as root"),
        "{line}"
    );
    assert!(
        !place.path("run").exists() && !place.path("state").exists(),
        "something was made"
    );
}

#[test]
fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let daemon = Daemon::start();
    let output = daemon
        .place
        .command()
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    let (code, line) = refused(&output);
    assert_eq!(code, Some(5));
    assert!(
        line.contains("another vswitchd (pid ") && line.contains("runs on it"),
        "{line}"
    );
    daemon.get("/v1/status");
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_too() {
    let daemon = Daemon::start();
    let other = Place::new();
    let output = other
        .command()
        .arg("--socket")
        .arg(daemon.place.socket())
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(5));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("another daemon listens on it"), "{text}");
    daemon.get("/v1/status");
    assert!(!other.path("run/lock").exists());
}
