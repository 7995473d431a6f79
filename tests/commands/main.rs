//! Commands of labs: they run in their namespaces, are started again and ended, and nothing of them is left, whatever becomes of the daemon.

mod killed;
mod waits;

use std::fs;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vswitch_testing::api::{ProcessState, ProcessView};
use vswitch_testing::ctl::tool;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Events, Lab, Place, run, wait_for};

/// What is there on a machine on which `ip netns` was used before.
fn before(lab: &Lab) -> Snapshot {
    Snapshot::of_used_machine();
    Snapshot::of(lab)
}

fn up(lab: &Lab, text: &str) -> String {
    let path = lab.lab_file(text);
    lab.ok(&format!("lab up --yes {path}"))
}

fn command(lab: &Lab, name: &str) -> ProcessView {
    lab.json(&format!("command show {name}"))
}

#[track_caller]
fn wait_for_state(lab: &Lab, name: &str, state: ProcessState) -> ProcessView {
    wait_for(&format!("command {name} to be {state}"), || {
        let view = command(lab, name);
        if view.state == state {
            Ok(view)
        } else {
            Err(format!("{view:?}"))
        }
    })
}

/// Processes that have this text in their command line, as they can be seen by all.
fn processes(mark: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(mark)
    };
    pids.filter(has_mark).collect()
}

/// Waits until exactly `pids` have the mark: a command counts as running from its fork on, and has its own words
/// in /proc only after its exec.
#[track_caller]
fn wait_until_only(mark: &str, pids: &[u32]) {
    wait_for(&format!("no process of {mark} but {pids:?}"), || {
        let left = processes(mark);
        if left == pids { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[track_caller]
fn wait_until_gone(mark: &str) {
    wait_until_only(mark, &[]);
}

/// A number of seconds that no other test sleeps.
fn sleeps(n: u32) -> String {
    format!("{}{n:02}", 700_000 + std::process::id() % 90_000)
}

fn lab_of(command: &str) -> String {
    format!(
        "name = \"t\"\n[[ports]]\nname = \"red\"\naddresses = [\"10.0.0.1/24\"]\n[[commands]]\nname = \"web\"\nnamespace = \"red\"\n{command}\n"
    )
}

#[test]
fn a_command_runs_in_its_namespace_and_ends_with_its_lab() {
    let lab = Lab::new();
    let before = before(&lab);
    let mark = sleeps(0);
    let told = up(
        &lab,
        &lab_of(&format!(
            "run = \"ip -br addr show eth0; echo $GREETING in $PWD >&2; exec sleep {mark}\"\ndir = \"/tmp\"\nenv = {{ GREETING = \"hello\" }}"
        )),
    );
    assert!(told.contains("started command web in namespace red"), "{told}");
    let view = command(&lab, "web");
    assert_eq!(view.state, ProcessState::Running);
    let pid = view.pid.unwrap();
    let here = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let red = Place::named("red").run_ok("readlink /proc/self/ns/net");
    assert_eq!(here.to_str().unwrap(), red.trim());
    let log = wait_for("the log", || {
        Some(lab.ok("logs web")).filter(|log| log.contains("hello"))
    });
    for part in ["10.0.0.1/24", "hello in /tmp", "--- started, process"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert_eq!(lab.ok("logs web -n 1").lines().count(), 1);
    assert!(lab.ok("command list").contains("running"));
    lab.ctl("logs wbe").failed(4, &["command list"]);
    lab.ctl("ns del red").failed(5, &["in use"]);
    assert_eq!(
        up(
            &lab,
            &lab_of(&format!(
                "run = \"ip -br addr show eth0; echo $GREETING in $PWD >&2; exec sleep {mark}\"\ndir = \"/tmp\"\nenv = {{ GREETING = \"hello\" }}"
            ))
        ),
        ""
    );
    assert_eq!(command(&lab, "web").pid, Some(pid), "what is as it was runs on");
    let told = lab.ok("lab down t");
    assert!(told.contains("stopped command web"), "{told}");
    wait_until_gone(&mark);
    assert!(!Path::new("/run/vswitch/processes").exists());
    before.wait_until_same(|| Snapshot::of(&lab));
}

#[test]
fn what_forks_and_what_ignores_sigterm_is_ended_whole() {
    let lab = Lab::new();
    let mark = sleeps(1);
    // Children, one in a session of its own, one whose parent is gone; none of them listens to SIGTERM.
    up(
        &lab,
        &lab_of(&format!(
            "stop_secs = 1\nrun = \"trap '' TERM; sleep {mark} & setsid sleep {mark} & (setsid sh -c 'trap \\\"\\\" TERM; sleep {mark}; sleep {mark}' &) ; echo up; while :; do sleep {mark}; done\""
        )),
    );
    wait_for("its children", || processes(&mark).len() >= 5);
    lab.ok("lab down t");
    assert_eq!(processes(&mark), [0; 0]);
}

#[test]
fn children_do_not_outlive_a_command_that_ends() {
    let lab = Lab::new();
    let mark = sleeps(2);
    up(&lab, &lab_of(&format!("run = \"setsid sleep {mark} & exit 3\"")));
    let view = wait_for_state(&lab, "web", ProcessState::Failed);
    assert_eq!((view.exit_code, view.restarts), (Some(3), 0));
    wait_until_gone(&mark);
    assert!(lab.ok("status").contains("exit code 3"));
}

#[test]
fn a_command_that_fails_its_ready_check_takes_all_back() {
    let lab = Lab::new();
    let before = before(&lab);
    let mark = sleeps(3);
    for (text, words) in [
        (
            format!("run = \"echo no licence; exec sleep {mark}\"\nready = {{ run = \"false\", within_secs = 1 }}"),
            ["not ready after 1 s", "exit code 1", "no licence"],
        ),
        (
            format!("run = \"echo no licence; exec sleep {mark}\"\nready = {{ tcp = 7, within_secs = 1 }}"),
            ["not ready after 1 s", "port 7", "no licence"],
        ),
        (
            "run = \"echo no licence; exit 9\"\nready = { done = true }".to_owned(),
            ["command", "exit code 9", "no licence"],
        ),
        (
            "argv = [\"/no/such/program\"]".to_owned(),
            ["command", "/no/such/program can't be run", "No such file"],
        ),
        (
            "argv = [\"true\"]\ndir = \"/no/such/folder\"".to_owned(),
            ["command", "no folder", "/no/such/folder"],
        ),
    ] {
        let path = lab.lab_file(&lab_of(&text));
        let reply = lab.ctl(&format!("lab up {path}"));
        assert_ne!(reply.code, 0, "{reply}");
        for word in words {
            assert!(reply.stderr.contains(word), "{word}: {reply}");
        }
        wait_until_gone(&mark);
        before.wait_until_same(|| Snapshot::of(&lab));
        assert!(!Path::new("/run/vswitch/processes").exists());
    }
}

#[test]
fn ready_is_waited_for() {
    let lab = Lab::new();
    let flag = lab.scratch().join("flag");
    let flag = flag.display();
    up(
        &lab,
        &lab_of(&format!(
            "run = \"sleep 1; touch {flag}; exec sleep 1000\"\nready = {{ run = \"test -e {flag}\" }}"
        )),
    );
    assert!(Path::new(&flag.to_string()).exists());
    assert_eq!(command(&lab, "web").state, ProcessState::Running);
    lab.ok("lab down t");
    up(&lab, &lab_of("run = \"exit 0\"\nready = { done = true }"));
    assert_eq!(command(&lab, "web").state, ProcessState::Ended);
}

#[test]
fn what_ends_is_started_again_as_it_says() {
    let lab = Lab::new();
    let count = lab.scratch().join("count");
    let text = |restart: &str, exit: u32| {
        lab_of(&format!(
            "restart = \"{restart}\"\nrun = \"echo x >> {}; sleep 0.2; exit {exit}\"\nready = {{ run = \"true\" }}",
            count.display()
        ))
    };
    let runs = || fs::read_to_string(&count).unwrap_or_default().lines().count();
    for (restart, exit) in [("always", 0), ("on-failure", 1)] {
        let _ = fs::remove_file(&count);
        up(&lab, &text(restart, exit));
        wait_for("a third run", || runs() >= 3);
        assert!(command(&lab, "web").restarts >= 2);
        lab.ok("lab down t");
    }
    let _ = fs::remove_file(&count);
    up(&lab, &text("on-failure", 0));
    wait_for_state(&lab, "web", ProcessState::Ended);
    assert_eq!(runs(), 1);
}

#[test]
fn a_flood_of_output_is_bounded() {
    let lab = Lab::new();
    up(
        &lab,
        &lab_of("run = \"yes flood | head -c 6000000; echo end; exec sleep 1000\""),
    );
    wait_for("the end of the flood", || lab.ok("logs web -n 1") == "end\n");
    let size = |file: &str| fs::metadata(format!("/run/vswitch/processes/web/{file}")).map_or(0, |meta| meta.len());
    assert!(size("log") <= 512 * 1024 && size("log.older") <= 512 * 1024);
    assert_eq!(lab.ok("logs web -n 3"), "flood\nflood\nend\n");
}

#[test]
fn a_log_is_followed_to_its_end() {
    let lab = Lab::new();
    let go = lab.scratch().join("go");
    up(
        &lab,
        &lab_of(&format!(
            "run = \"echo one; while ! test -e {}; do sleep 0.05; done; echo two; exec sleep 1000\"",
            go.display()
        )),
    );
    wait_for("its first line", || lab.ok("logs web").contains("one\n"));
    let mut follow = tool();
    follow
        .args(["logs", "web", "-f"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let follow = follow.spawn().unwrap();
    fs::write(&go, "").unwrap();
    wait_for("its second line", || lab.ok("logs web").contains("two\n"));
    lab.ok("lab down t");
    let output = follow.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("one\ntwo\n"), "{text}");
}

#[test]
fn what_can_not_be_is_refused_before_anything_is_done() {
    let lab = Lab::new();
    for (text, words) in [
        ("run = \"a\"\nargv = [\"b\"]", "either `run` or `argv`"),
        ("run = \"a\"\nrestart = \"sometimes\"", "on-failure"),
        (
            "run = \"a\"\nready = { tcp = 80, done = true }",
            "one of `run`, `tcp` and `done`",
        ),
        ("run = \"a\"\ndir = \"here\"", "not a whole path"),
    ] {
        let path = lab.lab_file(&lab_of(text));
        let reply = lab.ctl(&format!("lab check {path}"));
        assert_eq!(reply.code, 1, "{reply}");
        assert!(reply.to_string().contains(words), "{words}: {reply}");
    }
}

#[test]
fn a_command_is_added_restarted_and_removed_by_hand() {
    let mut lab = Lab::new();
    let before = before(&lab);
    let mark = sleeps(8);
    let events = Events::follow(&lab, &[]);
    let line = format!("echo $GREETING in $PWD; exec sleep {mark}");
    let add = [
        "command",
        "add",
        "web",
        "--ns",
        "red",
        "--dir",
        "/tmp",
        "--env",
        "GREETING=hello",
        "--ready",
        "run=true",
    ];
    let add = |options: &[&str]| lab.ctl_words(&[&add[..], options, &["--", "sh", "-c", &line]].concat());
    let told = add(&[]).ok().stdout;
    assert!(told.contains("started command web in namespace red"), "{told}");
    let found = lab.ctl("doctor").stdout;
    assert!(!found.contains("used by nobody"), "its namespace: {found}");
    wait_for("the event", || events.next("web to run").contains("web running"));
    add(&[]).failed(5, &["command \"web\"", "--if-not-exists"]);
    add(&["--if-not-exists"]).ok();
    let other = add(&["--if-not-exists", "--restart", "always"]);
    other.failed(
        5,
        &["web", "other restart", "remove it first: vswitchctl command del web"],
    );
    let first = wait_for_state(&lab, "web", ProcessState::Running).pid;
    let told = lab.ok("command restart web");
    assert_eq!(told, "restarted command web in namespace red\n");
    let second = wait_for_state(&lab, "web", ProcessState::Running).pid;
    assert_ne!(second, first);
    wait_until_only(&mark, &[second.unwrap()]);
    let log = wait_for("both runs", || {
        Some(lab.ok("logs web")).filter(|log| log.matches("hello in /tmp").count() == 2)
    });
    assert!(log.contains("--- started, process"), "{log}");
    // It outlives the daemon, and is in the lab like one of a file.
    lab.kill_daemon();
    lab.start();
    assert_eq!(wait_for_state(&lab, "web", ProcessState::Running).pid, second);
    let exported = lab.ok("export");
    assert!(exported.contains("GREETING"), "{exported}");
    lab.ctl("ns del red")
        .failed(5, &["commands run in it: web", "command del web"]);
    lab.ctl("command restart wbe")
        .failed(4, &["command \"wbe\"", "did you mean \"web\"?"]);
    lab.ok("command add second --ns red -- sleep 100000");
    lab.ctl("ns del red").failed(5, &["vswitchctl command del web second"]);
    lab.ok("command del second");
    lab.ctl("command del wbe").failed(4, &["command \"wbe\""]);
    lab.ok("command del wbe --if-exists");
    assert!(lab.ok("command del web").contains("stopped command web"));
    assert_eq!(processes(&mark), [0; 0]);
    // One that fails before it is ready is not there.
    lab.ctl("command add bad --ns red --ready tcp=80 -- false").failed(
        5,
        &["bad", "exit code 1", "run it by hand: vswitchctl ns exec red false"],
    );
    lab.ctl("command add bad --ns red --dir /nope -- true")
        .failed(5, &["bad", "no folder /nope", "--dir"]);
    lab.ctl("command show bad").failed(4, &["bad"]);
    for (options, words) in [
        ("--ready tcp=0", "tcp=80"),
        ("--ready soon", "done"),
        ("--env GREETING", "NAME=VALUE"),
        ("--restart sometimes", "on-failure"),
        ("--stop 61", "61"),
    ] {
        let refused = lab.ctl(&format!("command add bad --ns red {options} -- true"));
        refused.failed(2, &[words]);
    }
    assert_eq!(lab.ok("command list -o name"), "");
    before.wait_until_same(|| Snapshot::of(&lab));
}

/// A plan that ends what runs is asked about, as one that removes a port is; what has ended by itself is not.
#[test]
fn what_runs_is_not_stopped_unasked() {
    let lab = Lab::new();
    let mark = sleeps(9);
    let one = lab_of(&format!("run = \"exec sleep {mark}\""));
    up(&lab, &one);
    let path = lab.lab_file(&one.replace("exec", "sleep 0; exec"));
    lab.ctl(&format!("lab up {path}"))
        .failed(5, &["stop commands that run: web", "--yes"]);
    let none = lab.lab_file(one.split("[[commands]]").next().unwrap());
    lab.ctl(&format!("lab up {none}"))
        .failed(5, &["commands that run: web"]);
    lab.ctl(&format!("apply {none}")).failed(5, &["commands that run: web"]);
    wait_until_only(&mark, &[command(&lab, "web").pid.unwrap()]);
    lab.ok(&format!("lab up --yes {none}"));
    assert_eq!(processes(&mark), [0; 0]);
    up(&lab, &lab_of("run = \"true\"\nready = { done = true }"));
    wait_for_state(&lab, "web", ProcessState::Ended);
    let none = lab.lab_file(one.split("[[commands]]").next().unwrap());
    lab.ok(&format!("lab up {none}"));
}

/// Settings of those that look after a command are no reason to end it.
#[test]
fn a_command_runs_on_as_what_is_said_of_it_changes() {
    let lab = Lab::new();
    let mark = sleeps(11);
    let text = |more: &str| lab_of(&format!("run = \"exec sleep {mark}\"\n{more}"));
    up(&lab, &text(""));
    let pid = command(&lab, "web").pid.unwrap();
    let path = lab.lab_file(&text(
        "description = \"as it is\"\nrestart = \"always\"\nstop_secs = 9\nready = { run = \"false\" }",
    ));
    // It asks nothing, as nothing ends.
    let told = lab.ok(&format!("lab up {path}"));
    assert!(told.contains("set stop_secs of command web to 9"), "{told}");
    assert_eq!(command(&lab, "web").pid, Some(pid));
    assert!(lab.ok("export").contains("as it is"));
    assert_eq!(lab.ctl(&format!("lab diff {path}")).code, 0);
    wait_until_only(&mark, &[pid]);
    up(&lab, &text("restart = \"always\""));
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    wait_for("another process", || processes(&mark).iter().any(|other| *other != pid));
    // What has ended for good begins anew if that is wanted now.
    up(&lab, &text("restart = \"no\""));
    let pid = wait_for_state(&lab, "web", ProcessState::Running).pid.unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    wait_for_state(&lab, "web", ProcessState::Failed);
    // Not by an edit that is refused.
    let bad = "\n[[commands]]\nname = \"bad\"\nnamespace = \"red\"\nargv = [\"/nonexistent\"]\n";
    let refused = lab.lab_file(&(text("restart = \"always\"") + bad));
    assert_ne!(lab.ctl(&format!("lab up {refused}")).code, 0);
    assert_eq!(command(&lab, "web").state, ProcessState::Failed);
    up(&lab, &text("restart = \"always\""));
    wait_for_state(&lab, "web", ProcessState::Running);
    lab.ok("lab down t --yes");
    wait_until_gone(&mark);
}

/// The namespace alone was told of.
#[test]
fn a_command_starts_again_with_its_namespace_which_is_told() {
    let lab = Lab::new();
    let mark = sleeps(14);
    lab.ok(&format!("command add web --ns red -- sleep {mark}"));
    wait_for_state(&lab, "web", ProcessState::Running);
    let path = lab.lab_file(&lab.ok("export"));
    run("ip netns del red");
    wait_for_state(&lab, "web", ProcessState::Missing);
    for way in ["-n", ""] {
        let told = lab.ok(&format!("apply {way} {path}"));
        assert!(told.contains("command web again in namespace red"), "{told}");
    }
    wait_for_state(&lab, "web", ProcessState::Running);
}

/// A lab with a command that has failed was said to be up.
#[test]
fn what_has_failed_is_started_again_with_its_lab() {
    let lab = Lab::new();
    let mark = sleeps(15);
    let path = lab.lab_file(&lab_of(&format!("run = \"exec sleep {mark}\"")));
    lab.ok(&format!("lab up --yes {path}"));
    let pid = wait_for_state(&lab, "web", ProcessState::Running).pid.unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
    wait_for_state(&lab, "web", ProcessState::Failed);
    assert_eq!(lab.ctl(&format!("lab diff {path}")).code, 1);
    for way in ["-n", "--yes"] {
        let told = lab.ok(&format!("lab up {way} {path}"));
        assert!(told.contains("command web again in namespace red"), "{told}");
    }
    wait_for_state(&lab, "web", ProcessState::Running);
    // One that has done its work stays as it is.
    lab.ok("command add once --ns red -- true");
    wait_for_state(&lab, "once", ProcessState::Ended);
    let path = lab.lab_file(&lab.ok("export"));
    assert_eq!(lab.ok(&format!("apply {path}")), "");
}
