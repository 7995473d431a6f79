//! How far a longer edit is, to be seen while it goes on: as events, and as a bar on a terminal.

use std::process::{Command, Stdio};

use vswitch_testing::api::{Event, EventKind};
use vswitch_testing::daemon::program;
use vswitch_testing::{Events, Lab, wait_for};

/// So many ports take longer than the third of a second in which nothing is told.
const PORTS: usize = 250;

/// A lab file of many ports.
fn file(lab: &Lab) -> String {
    let ports: Vec<_> = (0..PORTS)
        .map(|n| format!("[[ports]]\nname = \"p{n}\"\nkind = \"veth\"\nnamespace = \"n{n}\"\n"))
        .collect();
    lab.lab_file(&ports.join(""))
}

#[test]
fn a_longer_edit_tells_how_far_it_is() {
    let lab = Lab::new();
    let (events, words) = (Events::follow(&lab, &["--json"]), Events::follow(&lab, &[]));
    // What goes into a file has no bar.
    let reply = lab.ctl(&format!("apply {}", file(&lab))).ok();
    assert_eq!(reply.stderr, "");

    let mut last = 0;
    let mut told = 0;
    let all = loop {
        let line = events.next("the last progress");
        let event: Event = serde_json::from_str(&line).unwrap();
        let EventKind::Progress { what, done, of, over } = event.kind else {
            continue;
        };
        assert_eq!(what, "a change");
        assert!(done >= last && done <= of, "{done} after {last}, of {of}");
        told += 1;
        last = done;
        if over {
            assert_eq!(done, of, "it succeeded");
            break of;
        }
    };
    // A namespace and a port each.
    assert_eq!(all as usize, 2 * PORTS);
    assert!(told > 1, "once on its way, and at the end");

    let last = format!("a change: all {all} steps done");
    wait_for("the same in words", || {
        let line = words.next("the last progress");
        line.contains("  progress  ") && line.ends_with(&last)
    });
    lab.ok("reset --yes");
}

#[test]
fn a_short_edit_tells_nothing() {
    let lab = Lab::new();
    let events = Events::follow(&lab, &["--json"]);
    lab.ok("switch add short");
    lab.ok("switch add last");
    loop {
        let line = events.next("the event of the last switch");
        let event: Event = serde_json::from_str(&line).unwrap();
        assert!(!matches!(event.kind, EventKind::Progress { .. }), "{line}");
        if matches!(event.kind, EventKind::SwitchAdded { switch } if switch.as_str() == "last") {
            return;
        }
    }
}

/// Runs the tool on a terminal of its own, and gives all that is drawn there.
fn on_a_terminal(line: &str) -> String {
    let tool = program("vswitchctl");
    let output = Command::new("script")
        .args([
            "-qec",
            &format!("stty cols 100; {} {line}", tool.display()),
            "/dev/null",
        ])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let drawn = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{drawn}");
    drawn
}

/// A long `apply` was silent until it was over.
#[test]
fn a_terminal_shows_a_bar() {
    let lab = Lab::new();
    let file = file(&lab);
    let steps = format!("of {} steps", 2 * PORTS);
    let drawn = on_a_terminal(&format!("apply {file}"));
    let bars = drawn.matches(&steps).count();
    assert!(bars > 1 && drawn.contains("a change ["), "{bars} bars in {drawn:?}");
    // The last thing that happens to it is that its line is cleared; what was done comes after.
    let (_, after) = drawn.rsplit_once(&steps).unwrap();
    assert!(
        after.contains("\u{1b}[2K") && after.contains("added port p0"),
        "{after:?}"
    );
    // JSON is for programs.
    let drawn = on_a_terminal("--json reset --yes");
    assert!(!drawn.contains(" steps"), "{drawn}");
}
