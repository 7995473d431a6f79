//! Intent before deed: nothing is lost on a bad day. What can't be written, read or told of changes nothing.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use nix::sys::stat::Mode;
use nix::unistd::{gettid, mkfifo};
use vswitch_tests::api::view::PortState;
use vswitch_tests::api::{DEFAULT_SOCKET, PortKind};
use vswitch_tests::daemon::{Daemon, program};
use vswitch_tests::lab::fastpath_wanted;
use vswitch_tests::station::make_device;
use vswitch_tests::{Lab, Place, Station, run, wait_for};

const STATE_DIR: &str = "/var/lib/vswitch";
const STATE: &str = "/var/lib/vswitch/state.json";

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

/// What a user has in a namespace, with what tells it from another one.
fn content(namespace: &str) -> (u64, String) {
    let inode = fs::metadata(format!("/run/netns/{namespace}")).unwrap().ino();
    let addresses = Place::named(namespace).run_ok("ip -o addr");
    // The kernel changes its own words for these while it looks for duplicates.
    let lasting: Vec<_> = addresses.lines().filter(|line| !line.contains("scope link")).collect();
    (inode, lasting.join("\n"))
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
        "reset --yes",
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
    empty_disk();
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
        for line in ["add-port green", "del-port red", "reset --yes"] {
            lab.ctl(line).failed(1, &["state"]);
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
    lab.stop_daemon();
    let whole = fs::read_to_string(STATE).unwrap();
    let cut = &whole[..whole.len() / 2];
    fs::write(STATE, cut).unwrap();
    let mut command = lab.daemon_command();
    command.arg("--recover");
    lab.start_with(command, |_| {});
    assert!(lab.ports().is_empty());
    let aside = || -> Vec<_> {
        let entries = fs::read_dir(STATE_DIR).unwrap().map(|entry| entry.unwrap().path());
        entries
            .filter(|path| path.to_str().unwrap().contains("state.json.aside-"))
            .collect()
    };
    assert_eq!(aside().len(), 1, "{:?}", aside());
    assert_eq!(fs::read_to_string(&aside()[0]).unwrap(), cut);
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

/// Connections that use up the descriptors, and then a change among the namespaces: no port is taken for gone.
#[test]
fn without_a_descriptor_to_spare_no_port_is_lost() {
    const LIMIT: usize = 200;
    let mut lab = Lab::without_daemon();
    let daemon = lab.daemon_command();
    let mut command = Command::new("prlimit");
    command
        .arg(format!("--nofile={LIMIT}"))
        .arg(daemon.get_program())
        .args(daemon.get_args());
    lab.start_with(command, |_| {});
    let ports: Vec<_> = (0..12).map(|n| format!("p{n}")).collect();
    for (n, port) in ports.iter().enumerate() {
        let kind = if n % 2 == 0 { "veth" } else { "tap" };
        lab.ok(&format!("add-port {port} --type {kind}"));
        Place::named(port).run_ok("ip addr add 192.0.2.1/24 dev eth0");
    }
    let inside = || {
        ports
            .iter()
            // The search for others with the same address may still be under way.
            .map(|port| {
                Place::named(port)
                    .run_ok("ip -o addr show eth0")
                    .replace(" tentative", "")
            })
            .collect::<Vec<_>>()
    };
    wait_for("all to be up", || {
        lab.ports().iter().all(|port| port.state == PortState::Up)
    });
    let before = inside();
    let connections: Vec<_> = (0..250).map(|_| UnixStream::connect(DEFAULT_SOCKET).unwrap()).collect();
    wait_for("the descriptors to be used up", || {
        let open = lab.daemon().open_files();
        if open >= LIMIT - 1 {
            Ok(())
        } else {
            Err(open.to_string())
        }
    });
    run("ip netns add other");
    run("ip netns del other");
    run("ip netns add foo");
    drop(connections);
    wait_for("the daemon to serve again", || lab.ctl("status").code == 0);
    // By what has really gone it is seen that it has looked meanwhile.
    lab.ok("add-port foo");
    run("ip netns del foo");
    wait_for("it to have looked", || lab.port("foo").state == PortState::Missing);
    for port in lab.ports().iter().filter(|port| port.port.name.as_str() != "foo") {
        assert_eq!(port.state, PortState::Up, "{port:#?}");
    }
    assert_eq!(inside(), before);
    let log = lab.daemon().log();
    let lost: Vec<_> = log
        .lines()
        .filter(|line| line.contains("its namespace is gone"))
        .collect();
    assert!(lost.iter().all(|line| line.contains("port foo")), "{lost:#?}");
}

/// A name that leads to the daemon's own namespace, or to the one of its near ends: with a process number that was used again an
/// interface and its address would come up in the host.
#[test]
fn a_name_that_leads_to_the_host_gets_no_port() {
    let mut lab = Lab::new();
    let hosts = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
    let lead = |to: &str| {
        let _ = fs::remove_file("/run/netns/web");
        symlink(to, "/run/netns/web").unwrap();
    };
    run("ip netns add first");
    let links = || run("ip -br link");
    let before = links();
    for to in [hosts.as_str(), "/run/vswitch/netns"] {
        lead(to);
        for line in [
            "add-port web --addr 10.7.0.1/24",
            "add-port web --type tap",
            "cable web first",
        ] {
            lab.ctl(line).failed(5, &["web", "leads to"]);
        }
        assert_eq!(links(), before);
    }
    // And at a restart.
    fs::remove_file("/run/netns/web").unwrap();
    run("ip netns add web");
    lab.ok("add-port web --type tap --addr 10.7.0.1/24");
    lab.kill_daemon();
    run("ip netns del web");
    lead(&hosts);
    lab.start();
    let web = lab.port("web");
    assert_eq!(web.state, PortState::Missing);
    assert!(
        web.reason.as_ref().is_some_and(|reason| reason.contains("leads to")),
        "{web:#?}"
    );
    assert_eq!(links(), before);
    lab.ok("del-port web");
    assert_eq!(links(), before);
    assert!(Path::new("/run/netns/web").exists(), "what others made stays");
}

/// Everything in the run directory is removed under traffic, and the mounts in it: frames go on, and all of it comes back.
#[test]
fn an_emptied_run_directory_is_put_back_and_frames_go_on() {
    let mut lab = Lab::new();
    let a = Station::add(&lab, "red", PortKind::Veth, 1);
    let b = Station::add(&lab, "blue", PortKind::Veth, 2);
    let c = Station::add(&lab, "green", PortKind::Tap, 3);
    let d = Station::add(&lab, "device", PortKind::Device, 4);
    let stations = [&a, &b, &c, &d];
    let ping_all = || {
        stations.iter().for_each(|to| {
            stations
                .iter()
                .filter(|from| from.v4 != to.v4)
                .for_each(|from| from.ping(to.v4))
        })
    };
    ping_all();
    let files = || {
        let list = Command::new("find")
            .args(["/run/vswitch", "-not", "-name", "*.debug"])
            .output()
            .unwrap();
        let mut list: Vec<_> = String::from_utf8(list.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        list.sort();
        list
    };
    let before = files();
    let shell = |line: &str| Command::new("sh").args(["-c", line]).output().unwrap();
    for line in [
        "rm -rf /run/vswitch/*",
        "umount -l /run/vswitch/bpf; umount -l /run/vswitch/netns; rm -rf /run/vswitch",
        "rm /run/vswitch/control.sock",
        "rm /run/vswitch/lock",
    ] {
        let counted = || lab.ports().iter().map(|port| port.counters.rx_fastpath).sum::<u64>();
        let fast = counted();
        shell(line);
        ping_all();
        wait_for("all to be back", || {
            let now = files();
            if now == before {
                Ok(())
            } else {
                Err(format!("{line}: {now:#?}"))
            }
        });
        if fastpath_wanted() && lab.port("red").fastpath {
            assert!(counted() > fast, "{line}: the kernel does not forward any more");
        }
        let mut second = Daemon::spawn(Command::new(program("vswitchd")));
        assert!(!second.wait().success());
        assert!(
            second.log().contains(&lab.daemon().pid().to_string()),
            "{}",
            second.log()
        );
    }
    assert!(lab.daemon().log().contains("was gone and is back"));
    // The next daemon finds what it needs.
    lab.kill_daemon();
    if fastpath_wanted() {
        a.ping(b.v4);
    }
    lab.start();
    ping_all();
    lab.ok("reset --yes");
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

/// What happens while there is no descriptor to look at it is looked at afterwards: it is not told again.
#[test]
fn an_interface_deleted_while_nothing_can_be_looked_at_is_made_again() {
    let mut lab = Lab::new();
    for (name, kind) in [("red", PortKind::Veth), ("blue", PortKind::Tap)] {
        Station::add(&lab, name, kind, if name == "red" { 1 } else { 2 });
    }
    let pid = lab.daemon().pid();
    let limit = |files: usize| run(&format!("prlimit --pid {pid} --nofile={files}:4096"));
    // Those that are open stay so.
    limit(8);
    for name in ["red", "blue"] {
        Place::named(name).run_ok("ip link del eth0");
    }
    wait_for("it to have been looked at in vain", || {
        lab.daemon().log().contains("can't look")
    });
    limit(4096);
    wait_for("the interfaces to be there again", || {
        ["red", "blue"].iter().all(|name| {
            Place::named(name).output("ip link show eth0").status.success() && lab.port(name).state == PortState::Up
        })
    });
    lab.ok("reset --yes");
}
