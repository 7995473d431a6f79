//! Start, stop, crash, reboot, reset: what was made stays, and what is to go goes without a trace.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use vswitch_testing::api::view::{PortState, PortView};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::daemon::{Daemon, program};
use vswitch_testing::lab::bind_file;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::transfer::{self, TcpPair};
use vswitch_testing::{Lab, Station, run, wait_for};

/// What has to be the same after any kind of restart.
fn lasting(lab: &Lab) -> Vec<(String, Option<Mac>, Vec<String>)> {
    let last = |port: &PortView| {
        let addresses = port.port.addresses.iter().map(ToString::to_string).collect();
        (port.port.name.to_string(), port.port.mac, addresses)
    };
    lab.ports().iter().map(last).collect()
}

fn all_up(lab: &Lab) {
    wait_for("all ports to be up", || {
        let down: Vec<_> = lab
            .ports()
            .into_iter()
            .filter(|port| port.state != PortState::Up)
            .collect();
        if down.is_empty() {
            Ok(())
        } else {
            Err(format!("{down:#?}"))
        }
    });
}

#[test]
fn a_stop_leaves_everything_in_place_and_a_start_takes_it_over() {
    let mut lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    let (before, macs) = (lasting(&lab), stations.iter().map(Station::mac).collect::<Vec<_>>());
    let exported = lab.ok("export");
    let log = lab.stop_daemon();
    assert!(!log.contains("panicked"), "{log}");
    assert!(
        !Path::new("/run/vswitch/control.sock").exists(),
        "the socket is gone after a clean stop"
    );
    for station in &stations {
        let addresses = station.place.run_ok(&format!("ip -br addr show {}", station.ifname));
        assert!(addresses.contains(&station.v4.to_string()), "{addresses}");
    }
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
    lab.start();
    assert_eq!(lasting(&lab), before);
    assert_eq!(lab.ok("export"), exported);
    assert_eq!(stations.iter().map(Station::mac).collect::<Vec<_>>(), macs);
    all_up(&lab);
    for station in &stations[1..] {
        station.ping_soon(stations[0].v4);
        transfer::tcp(&stations[0], station, true, 4);
    }
}

#[test]
fn a_killed_daemon_comes_back_and_connections_go_on() {
    let mut lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    let before = (lasting(&lab), lab.ok("export"));
    let pairs: Vec<_> = [(0, 1), (1, 2), (2, 3), (3, 0)]
        .map(|(a, b)| TcpPair::connect(&stations[a], &stations[b], false))
        .into();
    thread::scope(|scope| {
        let transfers: Vec<_> = pairs.iter().map(|pair| scope.spawn(|| pair.exchange(800))).collect();
        // Under load each time: frames are under way on all ports.
        for _ in 0..3 {
            let seen = lab.ports().iter().map(|port| port.counters.rx_frames).sum::<u64>();
            wait_for("frames to flow", || {
                lab.ports().iter().map(|p| p.counters.rx_frames).sum::<u64>() > seen
            });
            lab.kill_daemon();
            lab.start();
        }
        transfers.into_iter().for_each(|transfer| transfer.join().unwrap());
    });
    assert_eq!((lasting(&lab), lab.ok("export")), before);
}

#[test]
fn while_the_daemon_is_dead_what_needs_no_switch_goes_on() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    lab.kill_daemon();
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
    run("ip netns exec red ping -n -c 1 -W 10 10.7.0.1");
    lab.ctl("show").failed(3, &["/run/vswitch/control.sock"]);
    lab.ok("ns exec red -- true");
    lab.start();
}

#[test]
fn after_a_reboot_the_lab_is_made_again() {
    let mut lab = Lab::new();
    let ports = [
        ("red", PortKind::Veth),
        ("blue", PortKind::Tap),
        ("host", PortKind::Internal),
    ];
    let stations: Vec<_> = ports
        .iter()
        .zip(1..)
        .map(|(&(name, kind), n)| Station::add_with(&lab, name, kind, n, "--mtu 1400"))
        .collect();
    lab.ok("switch add other --ageing 77");
    lab.ok("ns add empty");
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    lab.ok("route add red default --via 10.7.0.3");
    let macs = stations.iter().map(Station::mac).collect::<Vec<_>>();
    let before = (lasting(&lab), lab.ok("export"));
    lab.kill_daemon();
    reboot(&lab);
    assert_eq!(run("ip netns list"), "");
    lab.start();
    assert_eq!((lasting(&lab), lab.ok("export")), before);
    assert_eq!(stations.iter().map(Station::mac).collect::<Vec<_>>(), macs);
    all_up(&lab);
    stations[0].ping_soon(stations[1].v4);
    stations[1].ping(stations[2].v6);
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
    assert!(run("ip netns list").contains("empty"));
    assert!(run("ip -n red route").contains("default via 10.7.0.3"));
    // Made again by us: ours to remove.
    lab.ok("reset --yes");
    assert_eq!(run("ip netns list"), "");
}

/// What a reboot does: no namespace, no interface, an empty /run, another boot id.
fn reboot(lab: &Lab) {
    for line in run("ip netns list").lines() {
        run(&format!("ip netns del {}", line.split(' ').next().unwrap()));
    }
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    for path in mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|path| path.starts_with("/run/"))
    {
        run(&format!("umount -l {path}"));
    }
    for entry in fs::read_dir("/run").unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
    }
    let links: serde_json::Value = serde_json::from_str(&run("ip -j link")).unwrap();
    for link in links.as_array().unwrap().iter().filter(|link| link["ifname"] != "lo") {
        run(&format!("ip link del {}", link["ifname"].as_str().unwrap()));
    }
    let boot_id = lab.scratch().join("boot_id");
    fs::write(&boot_id, "01234567-89ab-4def-8123-456789abcdef\n").unwrap();
    bind_file(&boot_id, "/proc/sys/kernel/random/boot_id");
}

#[test]
fn reset_leaves_everything_as_before() {
    let mut lab = Lab::new();
    run("ip netns add theirs");
    run("ip link add theirs0 type veth peer name theirs1");
    for name in ["device", "other"] {
        vswitch_testing::station::make_device(name);
    }
    let (before, files) = (Snapshot::of(&lab), lab.daemon().open_files());
    make_a_full_lab(&lab);
    lab.ok("reset -n");
    assert_eq!(lab.ports().len(), 6, "a dry run removes nothing");
    lab.ok("reset --yes");
    before.wait_until_same(|| Snapshot::of(&lab));
    wait_for("the daemon to hold no more files than before", || {
        let now = lab.daemon().open_files();
        if now <= files {
            Ok(())
        } else {
            Err(format!("{now}, before {files}"))
        }
    });
    // And again, as if nothing had been.
    make_a_full_lab(&lab);
    lab.ok("reset --yes");
    before.wait_until_same(|| Snapshot::of(&lab));
}

fn make_a_full_lab(lab: &Lab) {
    lab.ok("switch add second --ageing 7");
    lab.ok("add-port red --addr 10.7.0.1/24 --gateway 10.7.0.254");
    lab.ok("add-port blue --type tap --addr 10.7.0.2/24");
    lab.ok("add-port host --type internal --addr 10.7.0.254/24");
    lab.ok("add-port device --type device");
    lab.ok("add-port other --type device --switch second");
    lab.ok("add-port guest --netns theirs --name vs0 --addr 10.7.0.9/24");
    lab.ok("ns add empty");
    lab.ok("cable red theirs");
    lab.ok("fdb add 02:00:00:00:00:01 red");
    lab.ok("set switch main --ageing 9 --reserved-multicast all");
    lab.ok("ns exec red -- ping -n -c 1 -W 10 10.7.0.9");
}

/// With a capacity of its own and a port on it nothing could be removed: none can be changed while ports are there.
#[test]
fn a_reset_takes_back_all_that_main_is_set_to() {
    let lab = Lab::new();
    let main = || serde_json::to_value(lab.switch("main").switch).unwrap();
    let before = main();
    let settings = [
        "description=mine",
        "ageing_secs=9",
        "fdb_capacity=1024",
        "reserved_multicast=all",
        "vlan_limit=5",
        "rspan_vlans=30",
        "loop_guard=off",
        "flap_moves=9",
        "flap_secs=9",
        "subnets=10.7.0.0/24",
        "gateway=on",
        "dhcp=on",
        "dns=on",
        "nat=on",
        "uplinks=up0",
    ];
    let set = settings.map(|setting| setting.split_once('=').unwrap().0);
    let all = [&set[..], &["name"]].concat();
    let known = serde_json::to_value(lab.switch("main").switch).unwrap();
    for key in known.as_object().unwrap().keys() {
        assert!(all.contains(&key.as_str()), "{key} is set by no line");
    }
    vswitch_testing::station::make_device("up0");
    for setting in settings {
        lab.ok(&format!("set switch main {setting}"));
    }
    lab.ok("add-port red");
    lab.ok("add-port blue --addr auto");
    for way in ["-n", "--yes"] {
        let told = lab.ok(&format!("reset {way}"));
        assert!(told.contains("remove") && told.contains("port red"), "{told}");
    }
    assert_eq!(main(), before);
    assert!(lab.ports().is_empty());
}

#[test]
fn a_reset_after_a_crash_removes_what_the_crash_left() {
    let mut lab = Lab::new();
    run("ip netns add theirs");
    let before = Snapshot::of(&lab);
    for (name, kind) in [("red", "veth"), ("blue", "tap"), ("host", "internal")] {
        lab.ok(&format!("add-port {name} --type {kind}"));
    }
    lab.kill_daemon();
    lab.start();
    lab.ok("reset --yes");
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn after_reset_and_stop_not_even_the_daemon_can_be_seen() {
    let mut lab = Lab::without_daemon();
    // The first namespace makes /run/netns itself, whoever makes it; `ip netns` leaves it there too.
    let before = Snapshot::of_used_machine();
    lab.start();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port host --type internal");
    lab.ok("reset --yes");
    lab.stop_daemon();
    before.wait_until_same(Snapshot::of_machine);
}

#[test]
fn reset_asks_first_and_needs_yes_without_a_terminal() {
    let lab = Lab::new();
    lab.ok("add-port red");
    lab.ctl("reset").failed(2, &["--yes"]);
    assert_eq!(lab.ports().len(), 1);
}

#[test]
fn a_second_daemon_is_refused() {
    let mut lab = Lab::new();
    lab.ok("add-port red");
    let mut second = Daemon::spawn(Command::new(program("vswitchd")));
    let status = second.wait();
    assert!(!status.success());
    let pid = lab.daemon().pid().to_string();
    assert!(
        second.log().contains(&pid),
        "it names the one that runs: {}",
        second.log()
    );
    // Neither on the same socket from another run directory.
    let mut third = Command::new(program("vswitchd"));
    third.args([
        "--socket",
        "/run/vswitch/control.sock",
        "--run-dir",
        "/run/third",
        "--state-dir",
        "/run/third",
    ]);
    let mut third = Daemon::spawn(third);
    assert!(!third.wait().success());
    assert!(third.log().contains("control.sock"), "{}", third.log());
    assert_eq!(lab.ports().len(), 1, "the first one is not disturbed");
}

#[test]
fn two_daemons_with_folders_of_their_own_live_side_by_side() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    let mut second = Command::new(program("vswitchd"));
    second.args(["--run-dir", "/run/second", "--state-dir", "/run/second/state"]);
    let _second = Daemon::spawn(second);
    let socket = "--socket /run/second/control.sock";
    wait_for("the second daemon to serve", || {
        lab.ctl(&format!("{socket} status")).code == 0
    });
    lab.ok(&format!("{socket} add-port red --netns blue --addr 10.7.0.1/24"));
    lab.ok(&format!("{socket} add-port green --addr 10.7.0.2/24"));
    run("ip netns exec blue ping -n -c 1 -W 10 10.7.0.2");
    lab.ok(&format!("{socket} reset --yes"));
    assert_eq!(lab.ports().len(), 1);
    assert!(run("ip netns list").contains("red"));
}

#[test]
fn the_log_has_no_errors_over_a_whole_life() {
    let mut lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    stations[0].ping(stations[1].v4);
    lab.ok("del-port veth");
    lab.ok("reset --yes");
    let log = lab.stop_daemon();
    for word in ["ERROR", "WARN", "panicked"] {
        assert!(!log.contains(word), "{log}");
    }
}

#[test]
fn workers_stay_on_the_cores_that_the_configuration_names() {
    let mut lab = Lab::without_daemon();
    let path = lab.scratch().join("cores.toml");
    let start = |cores: &str| {
        fs::write(&path, format!("[datapath]\nworkers = 2\ncpus = {cores}\n")).unwrap();
        let mut command = Command::new(program("vswitchd"));
        command.arg("--config").arg(&path);
        command
    };
    lab.start_with(start("[0]"), |_| {});
    let tasks = fs::read_dir(format!("/proc/{}/task", lab.daemon().pid())).unwrap();
    let cores: Vec<_> = tasks
        .map(|task| task.unwrap().path())
        .filter(|task| fs::read_to_string(task.join("comm")).unwrap().starts_with("worker-"))
        .map(|task| fs::read_to_string(task.join("status")).unwrap())
        .map(|status| {
            status
                .lines()
                .find(|l| l.starts_with("Cpus_allowed_list:"))
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(cores, ["Cpus_allowed_list:\t0"; 2]);
    lab.stop_daemon();
    let mut daemon = Daemon::spawn(start("[0, 1023]"));
    assert!(!daemon.wait().success());
    let log = daemon.log();
    assert!(log.contains("core 1023 is not one of those"), "{log}");
}

/// Whoever starts it by `subprocess.Popen(stderr=PIPE)` and never reads: the first edit that found the pipe full was never answered, nor
/// was SIGTERM obeyed.
#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let mut lab = Lab::without_daemon();
    let fifo = lab.scratch().join("log");
    run(&format!("mkfifo {}", fifo.display()));
    // Read and write: nobody has to be at the other end.
    let mut options = fs::OpenOptions::new();
    let mut pipe = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo)
        .unwrap();
    while pipe.write(&[b'.'; 4096]).is_ok() {}
    let daemon = lab.daemon_command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "log=$1; shift; exec \"$@\" 2>>\"$log\"", "sh"])
        .arg(&fifo);
    command.arg(daemon.get_program()).args(daemon.get_args());
    lab.start_with(command, |_| ());
    lab.ok("add-port red --addr 10.0.0.1/24");
    lab.ok("restart");
    lab.ok("add-port blue --addr 10.0.0.2/24");
    // It is read at last: what waited is there, and the last words are.
    let mut said = Vec::new();
    let mut read = || {
        let _ = pipe.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    };
    wait_for("what was told of the second port", || {
        read().contains("added port blue")
    });
    assert_eq!(lab.stop_daemon(), "");
    assert!(read().contains("stopping; "));
}

/// What the daemon makes was as open as whoever started it let new files be.
#[test]
fn folders_are_as_they_are_to_be_whoever_starts_it() {
    for umask in ["077", "000"] {
        let mut lab = Lab::without_daemon();
        let daemon = lab.daemon_command();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]);
        command.arg(daemon.get_program()).args(daemon.get_args());
        lab.start_with(command, |_| ());
        lab.ok("ns add red");
        lab.ok("ns set red files.hosts=10.0.0.1");
        for (folder, wanted) in [
            ("/run/vswitch", "755"),
            ("/var/lib/vswitch", "700"),
            ("/etc/netns/red", "755"),
        ] {
            assert_eq!(
                run(&format!("stat -c %a {folder}")).trim(),
                wanted,
                "{folder}, umask {umask}"
            );
        }
        lab.ok("reset --yes");
        lab.stop_daemon();
    }
}

/// With another `run_dir` the daemon found none of what it had made: all ports were missing, with a reason that led nowhere.
#[test]
fn a_lab_in_another_run_directory_is_not_begun_anew() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    lab.stop_daemon();
    let start = |words: &[&str]| {
        let mut command = lab.daemon_command();
        command.args(["--run-dir", "/run/other", "--socket", "/run/vswitch/control.sock"]);
        command.args(words);
        command
    };
    let said = start(&["--check-start"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(2), "{stderr}");
    let hint = "vswitchd --reset --keep-lab --run-dir /run/vswitch";
    assert!(stderr.contains(hint), "{stderr}");
    let command = start(&[]);
    let said = Command::new(program("vswitchd"))
        .args(hint.split(' ').skip(1))
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    lab.start_with(command, |_| ());
    lab.wait_for_state("red", PortState::Up);
}

/// A daemon did not start on its own lab when its run directory was called by a symbolic link, as `/var/run` is one.
#[test]
fn a_run_directory_is_the_same_whatever_it_is_called() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    std::os::unix::fs::symlink("/run", "/run/link").unwrap();
    for name in ["/run/link/vswitch", "/run/link/../run/vswitch", "/run/vswitch"] {
        lab.stop_daemon();
        let mut command = lab.daemon_command();
        command.args(["--run-dir", name, "--socket", "/run/vswitch/control.sock"]);
        lab.start_with(command, |_| ());
        lab.wait_for_state("red", PortState::Up);
        lab.ok("restart");
        lab.wait_for_state("red", PortState::Up);
    }
}
