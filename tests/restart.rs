//! A restart that nobody notices: no frame is lost, no connection breaks, what was counted and learned is still known.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::view::{PortCounters, PortState, PortView};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::ctl::tool;
use vswitch_testing::daemon::{Daemon, program};
use vswitch_testing::frame::{mac, probe, probe_id};
use vswitch_testing::http::request;
use vswitch_testing::raw::RawSocket;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::transfer::TcpPair;
use vswitch_testing::{DEADLINE, Lab, Station, run, wait_for};

/// Fewer than wait in the queue of a TAP device, however long a restart takes (`txqueuelen`).
const FRAMES: u32 = 900;

fn counters(lab: &Lab) -> Vec<(String, PortCounters)> {
    let counters = |port: PortView| (port.port.name.to_string(), port.counters);
    lab.ports().into_iter().map(counters).collect()
}

/// Nothing of what is counted is less than it was.
#[track_caller]
fn have_not_gone_back(before: &[(String, PortCounters)], after: &[(String, PortCounters)]) {
    let numbers = |counters: &PortCounters| {
        let mut all = serde_json::to_value(counters).unwrap();
        all.as_object_mut().unwrap().remove("impair");
        let drops = [all["rx_drops"].take(), all["tx_drops"].take()];
        let flat = all.as_object().unwrap().clone().into_iter();
        let drops = drops.into_iter().zip(["in ", "out "]).flat_map(|(drops, way)| {
            let drops = drops.as_object().unwrap().clone().into_iter();
            drops.map(move |(reason, count)| (format!("{way}{reason}"), count))
        });
        let all: std::collections::BTreeMap<_, _> = flat.chain(drops).collect();
        all
    };
    for ((port, before), (also, after)) in before.iter().zip(after) {
        assert_eq!(port, also);
        let (was, is) = (numbers(before), numbers(after));
        for (what, count) in was.iter().filter(|(_, count)| count.is_u64()) {
            let now = is.get(what).and_then(serde_json::Value::as_u64).unwrap_or(0);
            assert!(
                now >= count.as_u64().unwrap(),
                "{port}: {what} was {count} and is {now}"
            );
        }
    }
}

fn known(lab: &Lab) -> BTreeSet<(Mac, String)> {
    let entries = lab.fdb("main").into_iter();
    entries.map(|entry| (entry.mac, entry.port.to_string())).collect()
}

/// Sends a probe each millisecond until it is told to stop, or so many that a queue may be full.
fn send(socket: &RawSocket, to: Mac, from: Mac, stop: &AtomicBool) -> u32 {
    for id in 0..FRAMES {
        if stop.load(Ordering::Relaxed) {
            return id;
        }
        socket.send(&probe(to, from, id));
        thread::sleep(Duration::from_millis(1));
    }
    FRAMES
}

/// All frames of a sender that come until the one of this number.
fn receive(socket: &RawSocket, from: Mac, last: u32) -> Vec<u32> {
    let end = Instant::now() + DEADLINE;
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let frame = socket.recv(end);
        let frame = frame.unwrap_or_else(|| panic!("{last} never came; {} did", seen.len()));
        seen.extend(probe_id(&frame.bytes).filter(|_| frame.bytes[6..12] == from.0));
    }
    seen
}

/// Of each kind of port, over a restart: nothing is lost, in order, on the way to each other kind.
#[test]
fn frames_wait_while_the_daemon_restarts() {
    let mut lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for station in &stations {
        station.ping_soon(stations[0].v4);
        station.silence();
    }
    let sockets: Vec<_> = stations.iter().map(|station| station.raw(false)).collect();
    // A station that says nothing more.
    let silent = mac(7, 1);
    sockets[1].send(&probe(stations[0].mac(), silent, FRAMES + 1));
    wait_for("the silent station to be learned", || {
        known(&lab).iter().any(|(mac, _)| *mac == silent)
    });
    let macs: Vec<_> = stations.iter().map(Station::mac).collect();
    let (before, stations_before) = (counters(&lab), known(&lab));
    let (status, stop) = (lab.status(), AtomicBool::new(false));
    thread::scope(|scope| {
        // veth -> tap -> device -> internal -> veth
        let senders: Vec<_> = (0..4)
            .map(|n| {
                let (socket, to, from, stop) = (&sockets[n], macs[(n + 1) % 4], macs[n], &stop);
                scope.spawn(move || send(socket, to, from, stop))
            })
            .collect();
        let flows = |port: PortView| port.counters.rx_frames > 20;
        wait_for("frames to flow", || lab.ports().into_iter().all(flows));
        lab.ok("restart");
        stop.store(true, Ordering::Relaxed);
        for (n, sender) in senders.into_iter().enumerate() {
            let sent = sender.join().unwrap();
            let port = &stations[n].port;
            let came = receive(&sockets[(n + 1) % 4], macs[n], sent - 1);
            assert_eq!(came.len(), sent as usize, "from {port}: {:?}", missing(&came, sent));
            assert!(came.is_sorted(), "from {port}: they are in another order");
        }
    });
    let after = lab.status();
    assert_eq!(after.pid, status.pid, "it is the same process");
    assert_ne!(after.run, status.run);
    have_not_gone_back(&before, &counters(&lab));
    let gone: Vec<_> = stations_before.difference(&known(&lab)).cloned().collect();
    assert!(gone.is_empty(), "{gone:?} were known");
    assert!(lab.ports().iter().all(|port| port.state == PortState::Up));
    assert!(!Path::new("/run/vswitch/handover.json").exists());
    let log = lab.stop_daemon();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

fn missing(came: &[u32], sent: u32) -> Vec<u32> {
    let came: BTreeSet<_> = came.iter().collect();
    (0..sent).filter(|id| !came.contains(id)).collect()
}

#[test]
fn connections_go_on_over_restarts() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    let pairs: Vec<_> = [(0, 1), (1, 2), (2, 3), (3, 0)]
        .map(|(a, b)| TcpPair::connect(&stations[a], &stations[b], false))
        .into();
    thread::scope(|scope| {
        let transfers: Vec<_> = pairs.iter().map(|pair| scope.spawn(|| pair.exchange(300))).collect();
        let mut before = counters(&lab);
        for _ in 0..3 {
            lab.ok("restart");
            let after = counters(&lab);
            have_not_gone_back(&before, &after);
            before = after;
        }
        transfers.into_iter().for_each(|transfer| transfer.join().unwrap());
    });
    lab.wait_for_sums();
}

/// Without systemd, which keeps queues, frames are lost; what was counted and learned is not.
#[test]
fn what_was_counted_and_learned_is_there_after_a_stop_too() {
    let mut lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    lab.ok("mirror add m --from tap --to internal");
    lab.ok("acl add veth in permit any");
    stations[0].ping(stations[1].v4);
    stations[0].ping(stations[2].v4);
    let seen = |lab: &Lab| {
        let acl: serde_json::Value = lab.json("acl show veth");
        let mirror: serde_json::Value = lab.json("mirror show m");
        (
            acl["in"][0]["hits"].as_u64().unwrap(),
            mirror["frames"].as_u64().unwrap(),
        )
    };
    let (before, stations_before, (hits, frames)) = (counters(&lab), known(&lab), seen(&lab));
    assert!(hits > 0 && frames > 0, "{hits} hits, {frames} frames");
    lab.stop_daemon();
    assert!(Path::new("/run/vswitch/handover.json").exists());
    lab.start();
    have_not_gone_back(&before, &counters(&lab));
    assert!(
        known(&lab).is_superset(&stations_before),
        "{stations_before:?} were known"
    );
    let after = seen(&lab);
    assert!(
        after.0 >= hits && after.1 >= frames,
        "{after:?}, before {hits} hits, {frames} frames"
    );
    // Those of a port that is missing meanwhile stay too.
    run("ip netns del veth");
    lab.wait_for_state("veth", PortState::Missing);
    let before = counters(&lab);
    lab.stop_daemon();
    lab.start();
    // With its namespace it is made anew.
    lab.wait_for_state("veth", PortState::Up);
    have_not_gone_back(&before, &counters(&lab));
    // It goes with the lab.
    lab.ok("reset --yes");
    lab.stop_daemon();
    assert!(!Path::new("/run/vswitch").exists());
}

/// What the daemon tells the neighbours of a port as it attaches it comes from the station of that.
#[test]
fn stations_keep_their_age() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for (station, id) in stations.iter().zip(1..) {
        station.silence();
        station.raw(false).send(&probe(stations[0].mac(), station.mac(), id));
    }
    let macs: BTreeSet<_> = stations.iter().map(Station::mac).collect();
    let have_aged = || {
        let entries = lab.fdb("main").into_iter();
        let ages = entries
            .filter(|entry| macs.contains(&entry.mac))
            .map(|entry| entry.age_secs);
        let ages: Vec<_> = ages.collect();
        (ages.len() == macs.len() && ages.iter().all(|age| *age >= Some(3)), ages)
    };
    wait_for("the stations to be of some age", || have_aged().0);
    lab.ok("restart");
    let (have_aged, ages) = have_aged();
    assert!(have_aged, "{ages:?}");
}

#[test]
fn frames_that_impairment_holds_back_are_dropped_and_counted() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let _blue = Station::add(&lab, "blue", PortKind::Tap, 2);
    red.silence();
    lab.ok("impair blue --delay 60s --direction out");
    let socket = red.raw(false);
    (0..10).for_each(|id| socket.send(&probe(Mac::BROADCAST, mac(1, 1), id)));
    wait_for("frames to wait", || lab.port("blue").counters.impair.tx_waiting >= 10);
    lab.ok("restart");
    let counters = lab.port("blue").counters;
    assert!(counters.tx_drops["impair-flushed"] >= 10, "{counters:#?}");
    // What the stacks say since waits again.
    assert!(counters.impair.tx_waiting < 10, "{counters:#?}");
    lab.wait_for_sums();
}

/// Its socket stays open over the restart: who connects meanwhile waits. Who was let in before is answered by the daemon that was asked.
#[test]
fn nobody_is_refused_while_it_restarts() {
    let lab = Lab::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let ask = || {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                assert_eq!(request("GET", "/v1/switches", "").status, 200);
                count += 1;
            }
            count
        };
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for _ in 0..5 {
            lab.ok("restart");
            lab.status();
        }
        done.store(true, Ordering::Relaxed);
        for asking in asking {
            assert!(asking.join().unwrap() > 0);
        }
    });
}

/// A daemon whose program is a file of its own, to be replaced.
fn with_own_program() -> (Lab, PathBuf) {
    let mut lab = Lab::without_daemon();
    let own = lab.scratch().join("vswitchd");
    fs::copy(program("vswitchd"), &own).unwrap();
    let usual = lab.daemon_command();
    let mut command = Command::new(&own);
    command.args(usual.get_args());
    lab.start_with(command, |_: &Daemon| {});
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24");
    (lab, own)
}

/// Puts another program in the place of the one that runs, as an upgrade does.
fn replace(program: &Path, script: &str) {
    let beside = program.with_extension("new");
    fs::write(&beside, script).unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&beside, program).unwrap();
}

#[test]
fn a_program_that_would_not_start_does_not_take_over() {
    let (lab, own) = with_own_program();
    let run = lab.status().run;
    replace(
        &own,
        "#!/bin/sh\necho 'vswitchd: the stars are not right' >&2\nexit 4\n",
    );
    for line in ["restart -n", "restart"] {
        lab.ctl(line)
            .failed(2, &["the stars are not right", "goes on as it was"]);
    }
    fs::remove_file(&own).unwrap();
    lab.ctl("restart").failed(2, &["No such file"]);
    assert_eq!(lab.status().run, run);
    let reaches = vswitch_testing::netns::Place::named("red").output("ping -n -c 1 -W 10 10.7.0.2");
    assert!(reaches.status.success());
}

/// A program that does not answer is waited for no longer than the daemon lives.
#[test]
fn a_program_that_does_not_answer_holds_nobody_up() {
    let (mut lab, own) = with_own_program();
    replace(&own, "#!/bin/sh\necho $$ > \"$0.pid\"\nexec sleep 1000\n");
    let asked = thread::spawn(|| Lab::call("restart"));
    let pid = own.with_extension("pid");
    let pid = || fs::read_to_string(&pid).ok().filter(|pid| pid.ends_with('\n'));
    wait_for("the program to be asked", || pid().is_some());
    let program = Path::new("/proc").join(pid().unwrap().trim()).join("exe");
    assert!(program.exists());
    lab.stop_daemon();
    assert!(!program.exists());
    assert_ne!(asked.join().unwrap().code, 0);
}

/// In another place the next daemon would not find what runs.
#[test]
fn a_configuration_with_other_places_is_for_a_stop_and_a_start() {
    let mut lab = Lab::without_daemon();
    let config = lab.scratch().join("own.toml");
    let say = |text: &str| fs::write(&config, text).unwrap();
    say("");
    let mut command = lab.daemon_command();
    command.args(["--config", config.to_str().unwrap()]);
    lab.start_with(command, |_: &Daemon| {});
    lab.ok("add-port red");
    let run = lab.status().run;
    for (key, place) in [("state_dir", "/var/lib/other"), ("run_dir", "/run/other")] {
        say(&format!("[daemon]\n{key} = \"{place}\"\n"));
        lab.ctl("restart")
            .failed(5, &[key, place, "stop the daemon and start it"]);
        assert_eq!(lab.status().run, run);
    }
    say("");
    lab.ok("restart");
    assert_ne!(lab.status().run, run);
}

/// Somebody emptied the state directory: it is in memory still.
#[test]
fn a_state_file_that_was_removed_is_written_again() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let path = Path::new("/var/lib/vswitch/state.json");
    fs::remove_file(path).unwrap();
    wait_for("the state to be written again", || path.exists());
    lab.ok("restart");
    assert_eq!(lab.port("red").state, PortState::Up);
}

/// One that says it could, and then can't be run: the old program begins anew with what it has left itself.
#[test]
fn a_program_that_can_not_be_run_after_all_leaves_the_old_one_serving() {
    let (mut lab, own) = with_own_program();
    let run = lab.status().run;
    let before = counters(&lab);
    replace(&own, "#!/bin/sh\nchmod 000 \"$0\"\necho OK\n");
    lab.ok("restart");
    assert_ne!(lab.status().run, run);
    have_not_gone_back(&before, &counters(&lab));
    vswitch_testing::netns::Place::named("red").run_ok("ping -n -c 1 -W 10 10.7.0.2");
    let log = lab.stop_daemon();
    assert!(log.contains("can't be run, this program goes on"), "{log}");
}

#[test]
fn a_program_that_does_not_know_the_state_does_not_take_over() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let run = lab.status().run;
    let path = "/var/lib/vswitch/state.json";
    let state = fs::read_to_string(path).unwrap();
    let version: serde_json::Value = serde_json::from_str(&state).unwrap();
    let newer = state.replacen(&format!("\"version\":{}", version["version"]), "\"version\":4711", 1);
    let newer = newer.replacen(&format!("\"version\": {}", version["version"]), "\"version\": 4711", 1);
    assert_ne!(newer, state);
    fs::write(path, newer).unwrap();
    lab.ctl("restart").failed(2, &["version 4711"]);
    assert_eq!(lab.status().run, run);
    fs::write(path, state).unwrap();
    lab.ok("restart -n");
    assert_eq!(lab.status().run, run);
}

/// Commands of labs are children of the process that stays: they are taken over, and none is left as a zombie.
#[test]
fn commands_of_the_lab_are_taken_over() {
    let mut lab = Lab::new();
    lab.ok("add-port red");
    lab.ctl_words(&[
        "command",
        "add",
        "web",
        "--ns",
        "red",
        "--",
        "sh",
        "-c",
        "echo hello; exec sleep 100000",
    ])
    .ok();
    let pid = |lab: &Lab| lab.json::<serde_json::Value>("process show web")["pid"].clone();
    let before = pid(&lab);
    let mut follow = tool();
    let mut follow = follow
        .args(["logs", "web", "-f"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(follow.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("--- started"), "{line}");
    lab.ok("restart");
    assert_eq!(follow.wait().unwrap().code(), Some(3), "the log has more to come");
    assert_eq!(pid(&lab), before);
    lab.ok("command del web");
    let daemon = lab.daemon().pid();
    wait_for("no zombie to be left", || {
        let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap();
        if children.is_empty() { Ok(()) } else { Err(children) }
    });
}

/// Whenever it is killed on its way, the next start has the lab, and no more than that.
#[test]
fn killed_while_it_restarts_it_comes_back_whole() {
    let mut lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    lab.ok("restart");
    let before = Snapshot::of(&lab);
    for wait in [0, 5, 15, 40, 80, 150] {
        assert_eq!(request("POST", "/v1/restart", "").status, 200);
        thread::sleep(Duration::from_millis(wait));
        lab.kill_daemon();
        lab.start();
        before.wait_until_same(|| Snapshot::of(&lab));
        stations[0].ping_soon(stations[1].v4);
        stations[2].ping_soon(stations[3].v4);
    }
}
