//! `reset --offline`: what a daemon made goes without one.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vswitch_testing::Lab;
use vswitch_testing::daemon::program;
use vswitch_testing::snapshot::Snapshot;

#[test]
fn what_a_killed_daemon_left_goes_without_one() {
    let mut lab = Lab::without_daemon();
    let before = Snapshot::of_used_machine();
    lab.start();
    for line in [
        "switch add sw2",
        "link add main sw2",
        "add-port red --addr 10.0.0.1/24",
        "add-port blue --addr 10.0.0.2/24",
        "add-port green --type tap --addr 10.0.0.3/24",
        "add-port gw --type internal --addr 10.0.0.4/24",
        "cable red blue --addr-a 10.1.0.1/30",
        "ns add spare",
        "mirror add m --from red --to blue",
    ] {
        lab.ok(line);
    }
    lab.kill_daemon();
    lab.ctl("reset --yes").failed(3, &["vswitchctl reset --offline"]);
    lab.ctl("reset --offline").failed(2, &["--yes"]);
    let would = lab.ok("reset --offline -n");
    for part in [
        "would remove port red",
        "would remove namespace spare",
        "would remove switch sw2",
    ] {
        assert!(would.contains(part), "{part}: {would}");
    }
    let changes: Value = lab.json("reset --offline -n");
    assert_eq!(changes["dry_run"], true);
    let direct = Command::new(program("vswitchd"))
        .args(["--reset", "-n"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&direct.stdout), would);
    assert!(Path::new("/run/netns/red").exists());
    let done = lab.ok("reset --offline --yes");
    for part in ["removed port red", "removed namespace spare", "removed switch sw2"] {
        assert!(done.contains(part), "{part}: {done}");
    }
    before.wait_until_same(Snapshot::of_machine);
    assert_eq!(lab.ok("reset --offline --yes"), "", "nothing is left to remove");
    before.wait_until_same(Snapshot::of_machine);
    lab.start();
    assert!(lab.ports().is_empty());
}

#[test]
fn while_a_daemon_runs_it_is_refused() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let before = Snapshot::of(&lab);
    for line in ["reset --offline --yes", "reset --offline -n"] {
        let words = ["/run/vswitch", "another vswitchd (pid", "`vswitchctl reset`"];
        lab.ctl(line).failed(5, &words);
    }
    let reply = lab.ctl("--json reset --offline --yes");
    let error: Value = serde_json::from_str(&reply.stderr).unwrap();
    assert_eq!((reply.code, &error["code"]), (5, &"conflict".into()), "{reply}");
    // With directories of its own it is about another daemon's.
    let (run, state) = (lab.scratch().join("run"), lab.scratch().join("state"));
    let dirs = format!("--run-dir {} --state-dir {}", run.display(), state.display());
    assert_eq!(lab.ok(&format!("reset --offline --yes {dirs}")), "");
    assert!(!run.exists());
    let reply = lab.ctl("reset --run-dir /run/vswitch");
    assert!(reply.code == 2 && reply.stderr.contains("--offline"), "{reply}");
    before.assert_same(&Snapshot::of(&lab));
}
