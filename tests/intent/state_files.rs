//! State that is damaged, of another version, not there, or of another daemon: what the kernel carries is left alone.

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use vswitch_testing::api::PortKind;
use vswitch_testing::api::lab::Lab as Wanted;
use vswitch_testing::api::view::{PortState, PortView};
use vswitch_testing::daemon::{Daemon, program};
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::rich::wanted;
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, Place, Station, run, wait_for};

use super::*;

/// A daemon that ends at once; gives what it said.
fn failing_start(lab: &Lab) -> String {
    let mut daemon = Daemon::spawn(lab.daemon_command());
    let status = daemon.wait();
    assert!(!status.success(), "it was to fail: {status}\n{}", daemon.log());
    daemon.log()
}

/// State that is damaged, of a newer version, has an unknown field or is no file at all: the start fails with a way to go on, and
/// all that the kernel carries is left alone.
#[test]
fn a_start_that_can_not_read_the_state_leaves_all_as_it_is() {
    let mut lab = Lab::new();
    make_device("device");
    let a = Station::add(&lab, "red", PortKind::Veth, 1);
    let b = Station::add(&lab, "blue", PortKind::Veth, 2);
    lab.ok("add-port device --type device");
    lab.ok("add-port host --type internal");
    a.ping(b.v4);
    lab.kill_daemon();
    let whole = fs::read_to_string(STATE).unwrap();
    let pins = || {
        let mut pins: Vec<_> = fs::read_dir("/run/vswitch/bpf/v4")
            .into_iter()
            .flatten()
            .map(|pin| pin.unwrap().file_name())
            .collect();
        pins.sort();
        pins
    };
    let kernel = || {
        // The kernel tells up to a second later that nobody holds a TAP device any more.
        let settled = |links: String| links.replace("NO-CARRIER,", "").replace("state UNKNOWN", "state DOWN");
        let near_ends = settled(Place::daemons_own().run_ok("ip -o -d link"));
        let inside = [content("red"), content("blue")];
        (
            near_ends,
            inside,
            settled(run("ip -o -d link")),
            run("tc filter show dev device ingress"),
            pins(),
        )
    };
    let before = kernel();
    if fastpath_wanted() {
        a.ping(b.v4);
    }
    let newer = whole.replace("\"version\": 1", "\"version\": 99");
    let unknown = whole.replace("\"salt\"", "\"later\": true, \"salt\"");
    assert!(newer != whole && unknown != whole);
    let half = &whole[..whole.len() / 2];
    let check = |word: &str| {
        let log = failing_start(&lab);
        assert!(
            log.contains(word) && log.contains("--recover") && log.contains(STATE),
            "{log}"
        );
        assert_eq!(kernel(), before, "{word}");
        if fastpath_wanted() {
            a.ping(b.v4);
        }
    };
    for (content, word) in [
        (newer.as_str(), "version 99"),
        (unknown.as_str(), "later"),
        (half, "damaged"),
        ("", "damaged"),
    ] {
        fs::write(STATE, content).unwrap();
        check(word);
        assert_eq!(fs::read_to_string(STATE).unwrap(), content);
    }
    fs::rename(STATE, "/var/lib/vswitch/mine").unwrap();
    symlink("/var/lib/vswitch/mine", STATE).unwrap();
    check("symbolic link");
    fs::remove_file(STATE).unwrap();
    mkfifo(STATE, Mode::S_IRWXU).unwrap();
    check("no regular file");
    fs::remove_file(STATE).unwrap();
    // Put right, it goes on as if nothing had been.
    fs::write(STATE, &whole).unwrap();
    lab.start();
    a.ping_soon(b.v4);
    assert_eq!(lab.ports().len(), 4);
}

/// What else may stop a start: nothing of it takes the kernel's path away.
#[test]
fn a_start_that_fails_elsewhere_leaves_all_as_it_is() {
    let mut lab = Lab::new();
    let a = Station::add(&lab, "red", PortKind::Veth, 1);
    let b = Station::add(&lab, "blue", PortKind::Veth, 2);
    a.ping(b.v4);
    lab.kill_daemon();
    // The kernel tells a little later that nobody reads the shadows any more.
    let before = wait_for("the shadows to have no carrier", || {
        let links = Place::daemons_own().run_ok("ip -o -d link");
        let mut shadows = links.lines().filter(|line| line.contains(": ~"));
        shadows
            .all(|line| line.contains("NO-CARRIER") && line.contains("state DOWN"))
            .then_some(links)
    });
    for options in [["--socket", "/proc/none/sock"], ["--socket", "/run/netns/red"]] {
        let mut command = lab.daemon_command();
        command.args(options);
        let mut daemon = Daemon::spawn(command);
        assert!(!daemon.wait().success(), "{}", daemon.log());
        assert_eq!(Place::daemons_own().run_ok("ip -o -d link"), before);
        if fastpath_wanted() {
            a.ping(b.v4);
        }
    }
    // The note of a command that can't be read now.
    fs::create_dir("/run/vswitch/in-flight.json").unwrap();
    lab.start();
    a.ping_soon(b.v4);
}

#[test]
fn with_recover_the_lab_begins_empty_and_the_file_is_kept() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("set port red --mtu 1400");
    lab.stop_daemon();
    let backup = fs::read_to_string(format!("{STATE}.bak")).unwrap();
    let whole = fs::read_to_string(STATE).unwrap();
    let cut = &whole[..whole.len() / 2];
    fs::write(STATE, cut).unwrap();
    let mut command = lab.daemon_command();
    command.arg("--recover");
    lab.start_with(command, |_| {});
    assert!(lab.ports().is_empty());
    let aside = || -> Vec<_> {
        let entries = fs::read_dir(STATE_DIR).unwrap().map(|entry| entry.unwrap().path());
        let aside = entries.filter(|path| path.to_str().unwrap().contains("state.json.aside-"));
        aside
            .filter(|path| path.extension().is_none_or(|end| end != "bak"))
            .collect()
    };
    assert_eq!(aside().len(), 1, "{:?}", aside());
    assert_eq!(fs::read_to_string(&aside()[0]).unwrap(), cut);
    let good = format!("{}.bak", aside()[0].display());
    assert_eq!(fs::read_to_string(&good).unwrap(), backup);
    assert!(lab.daemon().log().contains("state.json.aside-"));
    assert!(lab.status().limits.join("\n").contains("state.json.aside-"));
    lab.ok("add-port blue");
    lab.stop_daemon();
    // A state that can be used is used: the option may be left in a unit.
    let mut command = lab.daemon_command();
    command.arg("--recover");
    lab.start_with(command, |_| {});
    assert_eq!(lab.ports().len(), 1);
    assert_eq!(aside().len(), 1);
}

#[test]
fn what_the_lab_before_had_made_is_still_ours_after_recover() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port gw --type internal --addr 10.7.0.9/24");
    lab.stop_daemon();
    // Of a daemon that is newer.
    let state = fs::read_to_string(STATE).unwrap();
    fs::write(STATE, state.replacen("\"version\": 1", "\"version\": 9", 1)).unwrap();
    let mut command = lab.daemon_command();
    command.arg("--recover");
    lab.start_with(command, |_| {});
    let limits = lab.status().limits.join("\n");
    assert!(
        limits.contains("1 namespaces") && limits.contains("vswitchctl reset"),
        "{limits}"
    );
    lab.ok("add-port gw --type internal --addr 10.7.0.9/24");
    lab.ok("reset --yes");
    assert!(
        !Path::new("/run/netns/red").exists(),
        "it was made by vswitch, and is to be removed by it"
    );
}

#[test]
fn the_last_good_state_stays_beside_the_one_that_counts() {
    let mut lab = Lab::new();
    lab.ok("add-port red");
    lab.ok("add-port blue");
    lab.stop_daemon();
    lab.start();
    lab.kill_daemon();
    fs::write(STATE, "damaged").unwrap();
    let log = failing_start(&lab);
    let backup = format!("{STATE}.bak");
    assert!(log.contains(&format!("cp {backup} {STATE}")), "{log}");
    fs::copy(&backup, STATE).unwrap();
    lab.start();
    let names: Vec<_> = lab.ports().into_iter().map(|port| port.port.name.to_string()).collect();
    assert_eq!(names, ["red"]);
    for path in [STATE, &backup] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{path}"
        );
    }
}

/// The last writer would win.
#[test]
fn two_daemons_can_not_share_a_state_directory() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let mut second = Command::new(program("vswitchd"));
    second.args(["--run-dir", "/run/second"]);
    let mut second = Daemon::spawn(second);
    assert!(!second.wait().success());
    let log = second.log();
    assert!(log.contains(STATE_DIR) && log.contains("--state-dir"), "{log}");
    lab.ok("add-port blue");
    assert_eq!(lab.ports().len(), 2);
}

/// A state file that is not there though a lab is: a directory that is not mounted yet, or the wrong one. The links of the lab went.
#[test]
fn without_its_state_file_a_lab_is_left_alone() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Veth, 2);
    red.ping(blue.v4);
    lab.stop_daemon();
    let goes_on = || {
        if fastpath_wanted() {
            red.ping(blue.v4);
        }
        Place::daemons_own().run_ok("ip link show red");
    };
    let refused = |lab: &Lab, words: &[&str]| {
        let mut daemon = Daemon::spawn(lab.daemon_command());
        assert!(!daemon.wait().success());
        let log = daemon.log();
        for word in words {
            assert!(log.contains(word), "{word}: {log}");
        }
        goes_on();
    };
    fs::rename(STATE, "/var/lib/vswitch/away").unwrap();
    let backup = "/var/lib/vswitch/state.json.bak";
    assert!(fs::exists(backup).unwrap());
    refused(&lab, &[STATE, backup, "--recover"]);
    fs::remove_file(backup).unwrap();
    refused(&lab, &[STATE, "interfaces of a lab", "--state-dir", "--recover"]);
    fs::rename("/var/lib/vswitch/away", STATE).unwrap();
    lab.start();
    red.ping(blue.v4);
    // On request it begins anew.
    lab.stop_daemon();
    fs::remove_file(STATE).unwrap();
    let _ = fs::remove_file(backup);
    let mut command = lab.daemon_command();
    command.arg("--recover");
    lab.start_with(command, |_| {});
    assert!(lab.ports().is_empty());
    assert!(lab.status().limits.iter().any(|limit| limit.contains("began empty")));
}

/// What daemons of earlier days have written (`tests/states`, named by the day and by what was new then), after a boot: all of it is there again, as it
/// was asked for, and stays so.
#[test]
fn the_state_of_an_earlier_daemon_comes_back_whole() {
    let states = concat!(env!("CARGO_MANIFEST_DIR"), "/states");
    let mut files: Vec<_> = fs::read_dir(states).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let state: Value = serde_json::from_str(&text).unwrap();
        let mut lab = Lab::without_daemon();
        make_device("ext");
        fs::create_dir_all(Path::new(STATE).parent().unwrap()).unwrap();
        fs::write(STATE, &text).unwrap();
        lab.start();
        wait_for("all ports to be as they are to be", || {
            let is_so = |port: &PortView| match port.port.up {
                true => port.state == PortState::Up,
                false => port.state == PortState::Down,
            };
            let ports = lab.ports();
            let other = ports.iter().find(|port| !is_so(port));
            other.map_or(Ok(()), |port| Err(format!("{}: {port:#?}", file.display())))
        });
        let mut before: Wanted = serde_json::from_value(state["lab"].clone()).unwrap();
        // Static entries were once kept beside the lab.
        for entry in state["fdb"].as_array().into_iter().flatten() {
            let station = serde_json::from_value(json!({"mac": entry["mac"], "vlan": entry["vlan"]})).unwrap();
            let port = before.ports.iter_mut().find(|port| entry["port"] == port.name.as_str());
            port.unwrap().stations.push(station);
        }
        let there = wanted();
        assert_eq!(there, before, "{}", file.display());
        lab.stop_daemon();
        let written: Value = serde_json::from_str(&fs::read_to_string(STATE).unwrap()).unwrap();
        assert_eq!(written["version"], state["version"]);
        assert_eq!(
            written["salt"], state["salt"],
            "names and addresses would be made of another"
        );
        lab.start();
        assert_eq!(wanted(), there, "{}", file.display());
        lab.ok("reset --yes");
    }
}
