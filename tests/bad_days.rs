//! What a daemon meets in years: it is stopped for a while, told too much at once, short of memory, its worker hangs; and it makes and
//! removes things all the time. `docs/reliability.md` has the list, and where the others of it are tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sys::signal::Signal;
use vswitch_testing::api::PortKind;
use vswitch_testing::api::view::PortState;
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::netns::Place;
use vswitch_testing::require::missing;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, Station, run, wait_for};

/// Of an interface that is nobody's, told in between. (What becomes of more than the queue has room for is tried in `vswitch-linux`.)
const LINK_CHANGES: usize = 600;
/// Times that a lab is made and removed, unless `VSWITCH_CYCLES` says more.
const CYCLES: usize = 3;

/// Stopped for as long as the machine was asleep, it finds out by itself what became of its ports.
#[test]
fn what_happened_while_it_was_stopped_is_found_out() {
    let mut lab = Lab::new();
    let stations: Vec<_> = [
        ("red", PortKind::Veth),
        ("blue", PortKind::Tap),
        ("green", PortKind::Veth),
    ]
    .iter()
    .zip(1..)
    .map(|(&(name, kind), n)| Station::add(&lab, name, kind, n))
    .collect();
    stations[0].ping(stations[1].v4);
    run("ip link add noise type veth peer name silence");
    lab.daemon().signal(Signal::SIGSTOP);
    let batch = lab.scratch().join("changes");
    let changes = (0..LINK_CHANGES).map(|n| format!("link set noise mtu {}\n", 1000 + n % 2));
    fs::write(&batch, changes.collect::<String>()).unwrap();
    run("ip netns exec green ip link del eth0");
    run(&format!("ip -batch {}", batch.display()));
    run("ip netns del green");
    run("ip -n red link set eth0 name lan0");
    run(&format!("ip -batch {}", batch.display()));
    lab.daemon().signal(Signal::SIGCONT);
    lab.wait_for_state("green", PortState::Missing);
    lab.wait_for_port("red", "the new name of its interface", |port| {
        port.port.ifname.as_ref().is_some_and(|name| name.as_str() == "lan0")
    });
    stations[0].ping(stations[1].v4);
    run("ip netns add green");
    lab.wait_for_state("green", PortState::Up);
}

/// Threads, descriptors and resident memory in KiB of a process.
fn held(pid: u32) -> (usize, usize, usize) {
    let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = memory.trim().trim_end_matches(" kB").parse().unwrap();
    (count("task"), count("fd"), memory)
}

/// A bit of all that can be made, and back.
fn cycle(lab: &Lab) {
    let file = lab.lab_file(
        "
        [[switches]]
        name = \"main\"
        [[switches]]
        name = \"side\"
        [[ports]]
        name = \"red\"
        addresses = [\"10.0.0.1/24\"]
        acl = { in = [\"permit any\"] }
        [[ports]]
        name = \"blue\"
        kind = \"tap\"
        vlan = { access = 7 }
        impair = { out = { delay = \"1ms\" } }
        [[ports]]
        name = \"host\"
        kind = \"internal\"
        switch = \"side\"
        [[ports]]
        name = \"device\"
        kind = \"device\"
        [[cables]]
        a = { namespace = \"red\" }
        b = { namespace = \"blue\" }
        [[mirrors]]
        name = \"m\"
        ports = [\"red\"]
        to = \"blue\"
        ",
    );
    lab.ok(&format!("apply --yes {file}"));
    lab.ok("link add main side");
    lab.ok("reset --yes");
}

/// With `VSWITCH_CYCLES=1000` the memory is looked at too: what the allocator keeps for later is told from what grows only by many.
#[test]
fn what_is_made_and_removed_again_and_again_leaves_nothing() {
    let cycles = std::env::var("VSWITCH_CYCLES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(CYCLES);
    let mut lab = Lab::new();
    make_device("device");
    cycle(&lab);
    let (machine, before) = (Snapshot::of(&lab), held(lab.daemon().pid()));
    (0..cycles).for_each(|_| cycle(&lab));
    machine.wait_until_same(|| Snapshot::of(&lab));
    // Threads that wait for something to do go after a while.
    let after = wait_for("no thread or descriptor more than before", || {
        let after = held(lab.daemon().pid());
        let grown = after.1 > before.1;
        if grown {
            Err(format!("{after:?}, before {before:?}"))
        } else {
            Ok(after)
        }
    });
    println!("{cycles} cycles: (threads, descriptors, KiB) {before:?} before, {after:?} after");
    if cycles >= 500 {
        assert!(after.2 < before.2 + 8192, "{} KiB, before {}", after.2, before.2);
        wait_for("idle threads to end", || held(lab.daemon().pid()).0 <= before.0);
    }
}

/// A thread that does not run, whatever it was about to do.
struct Stuck(libc::pid_t);

impl Stuck {
    fn hold(thread: libc::pid_t) -> std::io::Result<Self> {
        // SAFETY: requests of ptrace(2) by number; no memory of ours is named.
        let held = unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, thread, 0, 0) == 0
                && libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0) == 0
        };
        if !held {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(thread, std::ptr::null_mut(), libc::__WALL) };
        Ok(Self(thread))
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

/// Questions are answered and the kernel forwards; what was asked for meanwhile is done when the worker is back.
#[test]
fn a_worker_that_hangs_holds_up_no_answer_and_nothing_of_the_kernels() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Veth, 2);
    red.ping(blue.v4);
    let tasks = format!("/proc/{}/task", lab.daemon().pid());
    let names = fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path());
    let worker = names.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "worker-0\n"));
    let worker: libc::pid_t = worker
        .last()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let stuck = match Stuck::hold(worker) {
        Ok(stuck) => stuck,
        Err(error) => return missing("ptrace", error),
    };
    thread::scope(|scope| {
        let edit = scope.spawn(|| lab.ctl("--timeout 60 set port red --mtu 1400").ok());
        wait_for("the edit to be under way", || lab.ctl("--json status").code == 0);
        for question in ["status", "show", "port show red", "fdb show", "export", "ns show red"] {
            lab.ok(question);
        }
        if fastpath_wanted() {
            red.ping(blue.v4);
        }
        drop(stuck);
        edit.join().unwrap();
    });
    assert_eq!(lab.port("red").port.mtu, Some(1400));
    red.ping(blue.v4);
}

/// Memory that is not to be had is the end, told in one line; what was acknowledged is there after the next start, and the kernel's path all the time.
#[test]
fn without_memory_it_ends_clearly_and_comes_back_whole() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Veth, 2);
    red.ping(blue.v4);
    let before = lab.ok("export");
    let pid = lab.daemon().pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    // Room for 8 MiB more, and a table of 16 million stations does not fit.
    let limit = Command::new("prlimit")
        .args([format!("--pid={pid}"), format!("--as={}", (size + 8192) * 1024)])
        .status()
        .unwrap();
    assert!(limit.success());
    let refused = lab.ctl("switch add big --fdb-capacity 4000000");
    assert_ne!(refused.code, 0);
    // It says that it can't, or that was the end.
    if refused.code != 3 {
        assert!(refused.stderr.contains("memory"), "{refused:?}");
    } else {
        lab.daemon().wait();
        let log = lab.daemon().log();
        assert!(log.contains("memory allocation of"), "{log}");
        if fastpath_wanted() {
            red.ping(blue.v4);
        }
        lab.kill_daemon();
        lab.start();
    }
    assert_eq!(lab.ok("export"), before);
    red.ping_soon(blue.v4);
    assert_eq!(
        Place::named("red")
            .run_ok("ip -br link show eth0")
            .split_whitespace()
            .nth(1),
        Some("UP")
    );
}

/// A control group of this test's own that holds the memory of a daemon. It goes with all that is in it.
struct MemoryGroup {
    folder: PathBuf,
    limit: &'static str,
    used: &'static str,
}

impl MemoryGroup {
    /// In the hierarchy that this machine has for memory, which is mounted into the lab's own /sys.
    fn make() -> Result<Self, String> {
        let at = Path::new("/sys/fs/cgroup");
        let mounted = |kind: &str, options: &str| {
            let mount = Command::new("mount")
                .args(["-t", kind, "-o", options, "vswitch-test"])
                .arg(at)
                .output();
            mount.is_ok_and(|output| output.status.success())
        };
        let (limit, used) = match mounted("cgroup", "memory") {
            true => ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            false if mounted("cgroup2", "rw") => ("memory.max", "memory.current"),
            false => return Err("no hierarchy of control groups can be mounted".into()),
        };
        let folder = at.join(format!("vswitch-memory-{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let group = Self { folder, limit, used };
        match group.folder.join(limit).exists() {
            true => Ok(group),
            false => Err("the hierarchy has no controller for memory".into()),
        }
    }

    fn write(&self, file: &str, value: impl ToString) -> std::io::Result<()> {
        fs::write(self.folder.join(file), value.to_string())
    }

    fn used(&self) -> u64 {
        let used = fs::read_to_string(self.folder.join(self.used)).unwrap();
        used.trim().parse().unwrap()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // What ended a moment ago may still be counted.
        let gone = || fs::remove_dir(&self.folder).is_ok() || !self.folder.exists();
        let _ = (0..500).any(|_| {
            gone() || {
                thread::sleep(std::time::Duration::from_millis(10));
                false
            }
        });
    }
}

/// What would not fit into the memory of its control group is refused. When the kernel ends it nevertheless the kernel's path stays, and the next start has
/// what was acknowledged.
#[test]
fn the_limit_of_its_control_group_is_told_and_outlived() {
    let mut lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let blue = Station::add(&lab, "blue", PortKind::Veth, 2);
    red.ping(blue.v4);
    let group = match MemoryGroup::make() {
        Ok(group) => group,
        Err(cause) => return missing("a control group for memory", cause),
    };
    group.write("cgroup.procs", lab.daemon().pid()).unwrap();
    group.write(group.limit, group.used() + (24 << 20)).unwrap();
    let refused = lab.ctl("switch add big --fdb-capacity 2000000");
    assert_eq!(refused.code, 5, "{}", refused.stderr);
    let of = format!("control group /{}", group.folder.file_name().unwrap().display());
    assert!(refused.stderr.contains(&of), "{}", refused.stderr);
    // What fits is made, and captures that nobody reads are within their bounds.
    lab.ok("switch add small --fdb-capacity 1000");
    red.ping(blue.v4);

    let before = lab.ok("export");
    // No page more than it has. On a loaded machine the kernel may give some back first, so it is asked for more until that was the end.
    wait_for("the limit to take hold", || {
        group.write(group.limit, group.used()).is_ok()
    });
    wait_for("the kernel to end it", || {
        let _ = lab.ctl("switch add more --fdb-capacity 60000");
        let _ = lab.ctl("switch del more");
        group
            .write(group.limit, group.used())
            .map_err(|error| error.to_string())
            .and_then(|()| lab.daemon().ended().ok_or_else(|| "it lives".to_owned()))
    });
    if fastpath_wanted() {
        red.ping(blue.v4);
    }
    lab.kill_daemon();
    lab.start();
    let after = lab.ok("export");
    assert!(after == before || after.contains("name = \"more\""), "{after}");
    red.ping_soon(blue.v4);
    lab.ok("reset --yes");
}

/// As in a container to which /proc/sys is read-only: no internal port could be made, and so no gateway.
#[test]
fn gateways_are_made_where_no_setting_can_be_changed() {
    let mut lab = Lab::without_daemon();
    run("mount --bind /proc/sys /proc/sys");
    run("mount -o remount,bind,ro /proc/sys");
    lab.start();
    lab.ok("switch add lan --subnet 10.7.0.0/24 --gateway");
    lab.ok("add-port red --switch lan --addr auto");
    run("ip netns exec red ping -n -c 1 -W 10 10.7.0.1");
    let log = lab.stop_daemon();
    assert!(
        log.contains("/proc/sys/net/ipv6/conf/lan-gw/accept_ra can't be set to 0"),
        "{log}"
    );
}
