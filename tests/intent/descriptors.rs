//! No descriptor to spare, names that lead elsewhere, a run directory that somebody empties.

use nix::unistd::gettid;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use vswitch_testing::api::view::PortState;
use vswitch_testing::api::{DEFAULT_SOCKET, PortKind};
use vswitch_testing::daemon::{Daemon, program};
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::{Lab, Place, Station, run, wait_for};

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

/// What could not be removed is not said to be gone.
#[test]
fn a_reset_without_descriptors_tells_what_it_has_done() {
    const COUNT: usize = 60;
    let mut lab = Lab::new();
    let there = || {
        run("ip netns list")
            .lines()
            .filter(|line| line.starts_with("many"))
            .count()
    };
    for n in 0..COUNT {
        lab.ok(&format!("ns add many{n}"));
    }
    let limit =
        |lab: &mut Lab, count: usize| run(&format!("prlimit --pid {} --nofile={count}:4096", lab.daemon().pid()));
    let few = lab.daemon().open_files() + COUNT / 2;
    limit(&mut lab, few);
    let reply = lab.ctl("reset --yes");
    assert_eq!(reply.code, 1, "{reply}");
    let told = reply.stdout.matches("removed namespace many").count();
    assert_eq!(told, COUNT - there(), "{reply}");
    assert!(
        there() > 0 && reply.stderr.contains("the next command tries it again"),
        "{reply}"
    );
    limit(&mut lab, 4096);
    lab.ok("reset --yes");
    assert_eq!(there(), 0);
}
