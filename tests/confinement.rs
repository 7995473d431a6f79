//! What the daemon takes from itself: rights that it does not need, and from its workers nearly all that the kernel offers.

use std::fs;

use vswitch_testing::http::request;
use vswitch_testing::{Lab, wait_for};

/// CAP_BPF (capability.h).
const MAPS: u64 = 1 << 39;
/// CAP_SYS_MODULE, CAP_SYS_RAWIO, CAP_SYS_BOOT, CAP_SYS_TIME, CAP_MKNOD, CAP_SYS_CHROOT, CAP_SYS_NICE: of no use for a switch.
const USELESS: u64 = 1 << 16 | 1 << 17 | 1 << 22 | 1 << 25 | 1 << 27 | 1 << 18 | 1 << 23;
/// CAP_IPC_LOCK: of no use where memory may be locked without a limit.
const LOCK: u64 = 1 << 14;

/// A line of a file like /proc/PID/status.
fn field(status: &str, key: &str) -> u64 {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    u64::from_str_radix(line.unwrap().trim(), 16).unwrap()
}

/// That of the daemon as a whole, and those of its workers.
fn threads(lab: &mut Lab) -> (String, Vec<String>) {
    let tasks = format!("/proc/{}/task", lab.daemon().pid());
    let tasks = fs::read_dir(tasks).unwrap().map(|task| task.unwrap().path());
    let all = tasks.filter_map(|task| fs::read_to_string(task.join("status")).ok());
    let is_worker = |status: &String| status.starts_with("Name:\tworker-");
    let (workers, others): (Vec<_>, Vec<_>) = all.partition(is_worker);
    (others.into_iter().next().unwrap(), workers)
}

#[test]
fn it_keeps_the_rights_that_it_needs_and_its_workers_none() {
    let mut lab = Lab::new();
    wait_for("all workers to be confined", || {
        let status = lab.status();
        let of = &status.confinement;
        of.rights_kept && of.forbidden && [of.workers_without_rights, of.workers_filtered] == [status.workers; 2]
    });
    assert_eq!(lab.status().limits, Vec::<String>::new());
    let (daemon, workers) = threads(&mut lab);
    assert_eq!(field(&daemon, "CapBnd") & USELESS, 0);
    assert_eq!(field(&daemon, "CapPrm") & USELESS, 0);
    assert_eq!((field(&daemon, "CapInh"), field(&daemon, "CapAmb")), (0, 0));
    assert_eq!(field(&daemon, "NoNewPrivs"), 1);
    assert!(!workers.is_empty());
    for worker in &workers {
        assert_eq!(field(worker, "CapPrm") & !MAPS, 0, "{worker}");
        assert_eq!(field(worker, "Seccomp"), 2, "{worker}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", lab.daemon().pid())).unwrap();
    let locked = limits
        .lines()
        .find(|line| line.starts_with("Max locked memory"))
        .unwrap();
    assert_eq!(
        field(&daemon, "CapPrm") & LOCK == 0,
        locked.contains("unlimited"),
        "{locked}"
    );
    // All of its threads, and what it starts, are refused what harms the machine.
    assert_eq!(field(&daemon, "Seccomp"), 2);
    // What commands get is what the daemon has.
    let lab_with_command = r#"{"namespaces": ["red"], "commands": [{"name": "rights", "namespace": "red",
        "argv": ["grep", "Cap", "/proc/self/status"]}]}"#;
    assert_eq!(request("PUT", "/v1/lab", lab_with_command).status, 200);
    let rights = wait_for("its rights", || {
        let log = lab.ctl("logs rights").ok().stdout;
        log.contains("CapAmb").then_some(log)
    });
    let of_command = |key: &str| {
        let line = rights.lines().find_map(|line| line.split_once(key));
        u64::from_str_radix(line.unwrap().1.trim_start_matches(':').trim(), 16).unwrap()
    };
    assert_eq!(of_command("CapBnd"), field(&daemon, "CapBnd"));
    assert_eq!(of_command("CapPrm"), field(&daemon, "CapPrm"));
}

#[test]
fn all_of_it_can_be_turned_off() {
    let mut lab = Lab::without_daemon();
    lab.add_config("[security]\ndrop_rights = false\nseccomp = false\n");
    lab.start();
    let of = lab.status().confinement;
    assert!(!of.rights_kept && !of.forbidden && of.workers_without_rights == 0 && of.workers_filtered == 0);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let (daemon, workers) = threads(&mut lab);
    assert_eq!(field(&daemon, "CapPrm"), field(&own, "CapPrm"));
    for worker in &workers {
        assert_eq!(field(worker, "CapPrm"), field(&own, "CapPrm"));
        assert_eq!(field(worker, "Seccomp"), field(&own, "Seccomp"));
    }
}
