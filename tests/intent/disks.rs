//! Disks that are full, or can not be written.

use std::fs;
use std::io::Write;
use std::path::Path;
use vswitch_testing::api::PortKind;
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, Place, Station, run, wait_for};

use super::*;

/// A private machine whose state directory is a small disk.
fn with_small_disk() -> Lab {
    let lab = Lab::without_daemon();
    fs::create_dir(STATE_DIR).unwrap();
    run(&format!("mount -t tmpfs -o size=128k small {STATE_DIR}"));
    lab
}

fn fill_disk() {
    let mut filler = fs::File::create(format!("{STATE_DIR}/filler")).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
}

fn empty_disk() {
    fs::remove_file(format!("{STATE_DIR}/filler")).unwrap();
}

/// Edits that want something irreversible, with a disk that has no room: refused, and what was in the namespaces is there still.
#[test]
fn on_a_full_disk_an_edit_is_refused_and_nothing_is_gone() {
    let mut lab = with_small_disk();
    lab.start();
    make_device("device");
    run("ip netns add theirs");
    for line in [
        "add-port red --addr 10.7.0.1/24",
        "add-port blue --type tap --addr 10.7.0.2/24",
        "add-port host --type internal",
        "add-port device --type device",
        "add-port theirs",
        "ns add empty",
        "cable red blue",
        "fdb add 02:00:00:00:00:01 red",
    ] {
        lab.ok(line);
    }
    for namespace in ["red", "blue", "theirs", "empty"] {
        Place::named(namespace).run_ok("ip link add mine type veth peer name mine2");
        Place::named(namespace).run_ok("ip addr add 192.0.2.1/32 dev lo");
    }
    let all = || {
        let namespaces: Vec<_> = ["red", "blue", "theirs", "empty"].map(content).into();
        let mut stations = lab.fdb("main");
        stations.retain(|station| station.is_static);
        (namespaces, run("ip -o -d link"), lab.ok("export"), stations)
    };
    let before = all();
    fill_disk();
    let lab_file = lab.lab_file("[[ports]]\nname = \"green\"\nswitch = \"main\"\nkind = \"veth\"\n");
    for line in [
        "del-port red",
        "del-port blue",
        "del-port host",
        "del-port device",
        "del-port theirs",
        "ns del empty",
        "cable del red blue",
        &format!("apply {lab_file} --yes"),
        "add-port green",
        "set port red --mtu 1400",
        "addr add red 10.7.0.9/24",
        "switch add second",
        "fdb del 02:00:00:00:00:01",
    ] {
        let reply = lab.ctl(line);
        assert_ne!(reply.code, 0, "{reply}");
        assert!(reply.stderr.contains("state"), "{reply}");
        assert_eq!(all(), before, "{line}");
    }
    // The way out.
    lab.ok("reset --yes");
    assert_eq!(
        run("ip netns list")
            .lines()
            .filter(|name| name.starts_with("red"))
            .count(),
        0
    );
}

/// A daemon that can't write its state takes the lab over all the same, says so, and refuses edits until it can.
#[test]
fn a_start_that_can_not_write_the_state_goes_on_and_says_so() {
    for read_only in [false, true] {
        let mut lab = with_small_disk();
        lab.start();
        let a = Station::add(&lab, "red", PortKind::Veth, 1);
        let b = Station::add(&lab, "blue", PortKind::Tap, 2);
        let inode = content("red").0;
        lab.kill_daemon();
        // A namespace that has to be made again: the file can't tell what it is now.
        let forbid = || match read_only {
            true => drop(run(&format!("mount -o remount,ro {STATE_DIR}"))),
            false => fill_disk(),
        };
        forbid();
        lab.start();
        a.ping_soon(b.v4);
        assert_eq!(content("red").0, inode);
        let limits = lab.status().limits.join("\n");
        assert!(limits.contains("nothing can be changed"), "{limits}");
        assert!(lab.daemon().log().contains("nothing can be changed"));
        for line in ["add-port green", "del-port red"] {
            let reply = lab.ctl(line).failed(1, &["state", "nothing was changed"]);
            assert!(!reply.stderr.contains("could be taken back"), "{reply}");
        }
        if read_only {
            lab.ctl("reset --yes").failed(1, &["state"]);
        }
        assert_eq!(content("red").0, inode);
        match read_only {
            true => drop(run(&format!("mount -o remount,rw {STATE_DIR}"))),
            false => empty_disk(),
        }
        lab.ok("add-port green");
        let limits = lab.status().limits.join("\n");
        assert!(!limits.contains("nothing can be changed"), "{limits}");
        lab.stop_daemon();
        run(&format!("umount -l {STATE_DIR}"));
    }
}

/// The same where there never was a state.
#[test]
fn a_first_start_on_a_read_only_disk_serves() {
    let mut lab = Lab::without_daemon();
    run("mount -o remount,ro /var/lib");
    lab.start();
    assert!(lab.status().limits.join("\n").contains("nothing can be changed"));
    lab.ctl("add-port red").failed(1, &["state"]);
    assert_eq!(run("ip netns list"), "");
    run("mount -o remount,rw /var/lib");
    wait_for("the state to be written by itself", || Path::new(STATE).exists());
    lab.ok("add-port red");
}
