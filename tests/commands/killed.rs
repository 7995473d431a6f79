//! Commands of labs of which the daemon, the supervisor or the namespace goes.

use std::process::Command;

use super::*;

#[test]
fn a_killed_daemon_has_a_successor_that_takes_over() {
    let mut lab = Lab::new();
    let before = before(&lab);
    let mark = sleeps(4);
    let once = lab.scratch().join("once");
    up(
        &lab,
        &format!(
            "{}[[commands]]\nname = \"once\"\nnamespace = \"red\"\nrun = \"echo x >> {}\"\nready = {{ done = true }}\n",
            lab_of(&format!("run = \"exec sleep {mark}\"\nrestart = \"always\"")),
            once.display()
        ),
    );
    let pid = command(&lab, "web").pid;
    lab.kill_daemon();
    wait_until_only(&mark, &[pid.unwrap()]);
    lab.start();
    assert_eq!(command(&lab, "web").pid, pid, "it runs on");
    // What was done is not done again.
    assert_eq!(command(&lab, "once").state, ProcessState::Ended);
    assert_eq!(fs::read_to_string(&once).unwrap(), "x\n");
    // What ends while there is no daemon is started again all the same.
    lab.kill_daemon();
    kill(Pid::from_raw(pid.unwrap() as i32), Signal::SIGKILL).unwrap();
    wait_for("another process", || {
        processes(&mark).iter().any(|other| Some(*other) != pid)
    });
    lab.start();
    let view = wait_for_state(&lab, "web", ProcessState::Running);
    assert_ne!(view.pid, pid);
    assert_eq!((view.restarts, view.signal), (1, None));
    // SIGTERM is no end either.
    lab.stop_daemon();
    wait_until_only(&mark, &[view.pid.unwrap()]);
    lab.start();
    lab.ok("reset --yes");
    assert_eq!(processes(&mark), [0; 0]);
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn reset_without_a_daemon_ends_what_runs_and_starts_nothing() {
    let mut lab = Lab::new();
    let mark = sleeps(5);
    let started = lab.scratch().join("started");
    up(
        &lab,
        &lab_of(&format!("run = \"echo x >> {}; exec sleep {mark}\"", started.display())),
    );
    wait_for("its start", || started.exists());
    lab.kill_daemon();
    assert!(lab.ok("reset --offline -n").contains("would stop command web"));
    lab.ok("reset --offline --yes");
    assert_eq!(processes(&mark), [0; 0]);
    assert!(!Path::new("/run/vswitch/processes").exists());
    assert_eq!(fs::read_to_string(&started).unwrap(), "x\n");
}

/// Other tests have supervisors too.
fn kill_supervisor_of(pid: u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap();
    kill(Pid::from_raw(parent.parse().unwrap()), Signal::SIGKILL).unwrap();
}

/// Somebody kills the supervisor: what it started goes with it, and all is started again.
#[test]
fn a_supervisor_that_is_killed_leaves_nothing() {
    let mut lab = Lab::new();
    let mark = sleeps(6);
    up(
        &lab,
        &lab_of(&format!("run = \"setsid sleep {mark} & exec sleep {mark}\"")),
    );
    wait_for("both", || processes(&mark).len() == 2);
    let old = processes(&mark);
    kill_supervisor_of(command(&lab, "web").pid.unwrap());
    wait_for("others in their place", || {
        let now = processes(&mark);
        now.len() == 2 && now.iter().all(|pid| !old.contains(pid))
    });
    wait_for_state(&lab, "web", ProcessState::Running);
    // The same while there is no daemon.
    let old = processes(&mark);
    let pid = command(&lab, "web").pid.unwrap();
    lab.kill_daemon();
    kill_supervisor_of(pid);
    lab.start();
    wait_for("others in their place", || {
        let now = processes(&mark);
        now.len() == 2 && now.iter().all(|pid| !old.contains(pid))
    });
    lab.ok("reset --yes");
    assert_eq!(processes(&mark), [0; 0]);
}

#[test]
fn a_command_goes_with_its_namespace_and_comes_back_with_it() {
    let lab = Lab::new();
    let mark = sleeps(7);
    run("ip netns add theirs");
    up(
        &lab,
        &format!("name = \"t\"\n[[commands]]\nname = \"web\"\nnamespace = \"theirs\"\nrun = \"exec sleep {mark}\"\n"),
    );
    wait_until_only(&mark, &[command(&lab, "web").pid.unwrap()]);
    run("ip netns del theirs");
    wait_for_state(&lab, "web", ProcessState::Missing);
    wait_until_gone(&mark);
    assert!(lab.ok("status").contains("namespace"));
    run("ip netns add theirs");
    let pid = wait_for_state(&lab, "web", ProcessState::Running).pid.unwrap();
    let here = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let theirs = Place::named("theirs").run_ok("readlink /proc/self/ns/net");
    assert_eq!(here.to_str().unwrap(), theirs.trim());
    lab.ok("reset --yes");
    assert_eq!(processes(&mark), [0; 0]);
    run("ip netns del theirs");
}

/// Its end takes as long as it may, and nobody waits for that.
#[test]
fn a_command_that_does_not_end_holds_nobody_up() {
    let lab = Lab::new();
    let mark = sleeps(12);
    run("ip netns add theirs");
    up(
        &lab,
        &format!(
            "name = \"t\"\n[[commands]]\nname = \"web\"\nnamespace = \"theirs\"\nstop_secs = 60\n\
             run = \"trap '' TERM; while :; do sleep {mark}; done\"\n"
        ),
    );
    wait_for("it to run", || !processes(&mark).is_empty());
    let shell = command(&lab, "web").pid.unwrap();
    run("ip netns del theirs");
    wait_for_state(&lab, "web", ProcessState::Missing);
    lab.ok("add-port red");
    assert!(processes(&mark).contains(&shell), "it has ended by now");
    // Nor is another begun beside it.
    run("ip netns add theirs");
    lab.ok("add-port blue");
    assert_eq!(command(&lab, "web").state, ProcessState::Missing);
    let all = processes(&mark);
    all.iter()
        .for_each(|pid| _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL));
    wait_for("another in its place", || {
        let view = command(&lab, "web");
        view.state == ProcessState::Running && view.pid.is_some_and(|pid| pid != shell)
    });
    let all = processes(&mark);
    all.iter()
        .for_each(|pid| _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL));
    lab.ok("reset --yes");
    wait_until_gone(&mark);
    run("ip netns del theirs");
}

/// What a daemon before has noted may be a number that is somebody else's by now, whose session has no leader any more: as each daemon's
/// that forks twice.
#[test]
fn a_session_of_strangers_is_not_taken_for_that_of_a_supervisor() {
    let mut lab = Lab::new();
    let mark = sleeps(13);
    let leader = lab.scratch().join("leader");
    let line = format!("sleep {mark} & echo $$ > {}", leader.display());
    let made = Command::new("setsid")
        .args(["sh", "-c", &line])
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let stranger = wait_for("the stranger", || processes(&mark).first().copied());
    let leader = wait_for("its leader's number", || fs::read_to_string(&leader).ok());
    wait_for("its leader's end", || !Path::new("/proc").join(leader.trim()).exists());
    lab.kill_daemon();
    let folder = Path::new("/run/vswitch/processes/web");
    fs::create_dir_all(folder).unwrap();
    let note = format!(
        "{{\"id\":\"0123456789abcdef\",\"supervisor\":[{},12345],\"state\":\"running\",\"reason\":null,\"was_ready\":true,\
         \"overdue\":false,\"pid\":null,\"since_ms\":0,\"restarts\":0,\"exit_code\":null,\"signal\":null}}",
        leader.trim()
    );
    fs::write(folder.join("note.json"), note).unwrap();
    lab.start();
    wait_for("the end of what was noted", || !folder.exists());
    assert_eq!(processes(&mark), [stranger]);
    kill(Pid::from_raw(stranger as i32), Signal::SIGKILL).unwrap();
}
