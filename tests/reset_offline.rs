//! `reset --offline`: what a daemon made goes without one.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use vswitch_testing::daemon::program;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Lab, run};

#[test]
fn what_a_killed_daemon_left_goes_without_one() {
    let mut lab = Lab::without_daemon();
    let before = Snapshot::of_used_machine();
    lab.start();
    for line in [
        "set switch main fdb_capacity=1024",
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

/// The scripts of the packages guessed where the state is: with another `state_dir` nothing was removed, and the notes by which it could be
/// were; with a full disk an empty file took the place of the lab.
#[test]
fn a_package_that_goes_takes_all_along_but_the_lab() {
    let mut lab = Lab::with_own_etc();
    lab.stop_daemon();
    let state = lab.scratch().join("state");
    fs::create_dir_all("/etc/vswitch").unwrap();
    fs::create_dir(&state).unwrap();
    run(&format!("mount -t tmpfs -o size=64k small {}", state.display()));
    fs::write(
        "/etc/vswitch/vswitchd.toml",
        format!("[daemon]\nstate_dir = \"{}\"\n", state.display()),
    )
    .unwrap();
    let before = Snapshot::of_used_machine();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let manifest = fs::read_to_string(folder.join("switch/Cargo.toml")).unwrap();
    let of_rpm = |key: &str| {
        let (_, text) = manifest.split_once(&format!("\n{key} = \"\"\"\n")).unwrap();
        // There is no systemd here.
        text.split_once("\"\"\"").unwrap().0.replace("systemctl", "true")
    };
    let of_deb = |name: &str| fs::read_to_string(folder.join("configs/package").join(name)).unwrap();
    let scripts = [
        ([of_deb("prerm"), of_deb("postrm")], "remove"),
        (["pre_uninstall_script", "post_uninstall_script"].map(of_rpm), "0"),
    ];
    for (scripts, word) in scripts {
        lab.start();
        lab.ok("set switch main fdb_capacity=1024");
        lab.ok("add-port red --addr 10.0.0.1/24");
        lab.ok("add-port blue --addr 10.0.0.2/24");
        lab.stop_daemon();
        let kept = fs::read(state.join("state.json")).unwrap();
        let mut filler = fs::File::create(state.join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        drop(filler);
        for script in scripts {
            let mut command = Command::new("sh");
            let folder = program("vswitchd").parent().unwrap().to_owned();
            let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
            let said = command.args(["-c", &script, "script", word]).env("PATH", path).output();
            let said = said.unwrap();
            let stderr = String::from_utf8_lossy(&said.stderr);
            assert!(said.status.success() && !stderr.contains("still there"), "{stderr}");
        }
        before.wait_until_same(Snapshot::of_machine);
        assert!(!Path::new("/run/vswitch").exists());
        assert!(
            fs::read(state.join("state.json")).unwrap() == kept,
            "the lab is another"
        );
        fs::remove_file(state.join("filler")).unwrap();
        lab.start();
        run("ip netns exec red ping -n -c 1 -W 5 10.0.0.2");
        lab.ok("reset --yes");
        lab.stop_daemon();
    }
    run(&format!("umount {}", state.display()));
}

#[test]
fn a_script_that_can_not_remove_leaves_the_notes() {
    let mut lab = Lab::with_own_etc();
    lab.ok("add-port red");
    lab.kill_daemon();
    fs::create_dir_all("/etc/vswitch").unwrap();
    fs::write("/etc/vswitch/vswitchd.toml", "a slip").unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/package");
    let path = program("vswitchd").parent().unwrap().to_owned();
    for script in ["prerm", "postrm"] {
        let mut command = Command::new("sh");
        let path = format!("{}:{}", path.display(), std::env::var("PATH").unwrap());
        let said = command
            .arg(folder.join(script))
            .arg("remove")
            .env("PATH", path)
            .output();
        assert!(said.as_ref().unwrap().status.success(), "{said:?}");
    }
    assert!(Path::new("/run/vswitch/netns").exists());
    fs::remove_file("/etc/vswitch/vswitchd.toml").unwrap();
    lab.ok("reset --offline --yes");
    assert!(!Path::new("/run/netns/red").exists());
}
