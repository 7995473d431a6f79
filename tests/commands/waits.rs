//! Waits: until a command is ready, or has ended to be started again. Others go on meanwhile.

use std::fs;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vswitch_testing::api::ProcessState;
use vswitch_testing::ctl::tool;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Lab, Place, wait_for};

use super::{before, lab_of, processes, sleeps, up, wait_for_state, wait_until_gone};

/// The control tool, which goes on by itself.
fn spawned(words: &[&str]) -> Child {
    let mut tool = tool();
    tool.args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    tool.spawn().unwrap()
}

/// A command that is ready when there is a file `ready`, and fails when there is one `fail`.
fn waiting(lab: &Lab, mark: &str) -> String {
    let at = lab.scratch().display();
    lab_of(&format!(
        "run = \"while ! test -e {at}/fail; do sleep 0.05; : {mark}; done; exit 3\"\nready = {{ run = \"test -e {at}/ready\", within_secs = 600 }}"
    ))
}

/// Edits waited as long as a command did, up to ten minutes.
#[test]
fn others_go_on_while_a_command_is_waited_for() {
    let lab = Lab::new();
    let mark = sleeps(15);
    let file = lab.lab_file(&waiting(&lab, &mark));
    let begin = || {
        let tool = spawned(&["lab", "up", &file]);
        wait_for("the command to run", || !processes(&mark).is_empty());
        tool
    };
    let ends = |tool: Child, words: &[&str]| {
        let output = tool.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{told}");
        words
            .iter()
            .for_each(|word| assert!(told.contains(word), "{word}: {told}"));
    };
    let tool = begin();
    lab.ok("add-port other");
    fs::write(lab.scratch().join("ready"), "").unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    lab.ok("lab down t --yes");
    fs::remove_file(lab.scratch().join("ready")).unwrap();
    // It fails: what it made goes, but for what somebody has changed since.
    let tool = begin();
    lab.ok("set port red --mtu 1400");
    lab.ok("add-port more");
    fs::write(lab.scratch().join("fail"), "").unwrap();
    ends(
        tool,
        &[
            "exit code 3",
            "what another edit has changed meanwhile stays: port \"red\"",
        ],
    );
    assert_eq!(lab.ok("command list -o name"), "");
    assert_eq!(lab.ok("port list -o name"), "other\nred\nmore\n");
    lab.ok("del-port red");
    fs::remove_file(lab.scratch().join("fail")).unwrap();
    // Somebody else decides what becomes of it.
    let tool = begin();
    lab.ok("command del web");
    ends(
        tool,
        &["ended by another edit before it was ready; what else was done stays"],
    );
    assert_eq!(lab.ok("port list -o name"), "other\nmore\nred\n");
    lab.ok("lab down t --yes");
    let tool = begin();
    up(&lab, &lab_of(&format!("run = \"exec sleep {mark}\"")));
    ends(tool, &["by another edit before it was ready"]);
    wait_for_state(&lab, "web", ProcessState::Running);
}

/// What can't be taken back goes only when all is ready.
#[test]
fn nothing_has_gone_when_a_command_is_not_ready() {
    let lab = Lab::new();
    let mark = sleeps(16);
    let port = "[[ports]]\nname = \"blue\"\n";
    up(&lab, &format!("name = \"t\"\n{port}"));
    let inode = || Place::named("blue").run_ok("readlink /proc/self/ns/net");
    let before = inode();
    let failing = lab_of(&format!(
        "run = \"exec sleep {mark}\"\nready = {{ run = \"false\", within_secs = 1 }}"
    ));
    let path = lab.lab_file(&failing);
    lab.ctl(&format!("lab up --yes {path}"))
        .failed(5, &["not ready after 1 s"]);
    assert_eq!((lab.ok("port list -o name"), inode()), ("blue\n".to_owned(), before));
    wait_until_gone(&mark);
}

/// To end it took as long as it took, and edits waited.
#[test]
fn others_go_on_while_a_command_is_restarted() {
    let lab = Lab::new();
    let mark = sleeps(17);
    let go = lab.scratch().join("go");
    let line = format!(
        "trap 'while ! test -e {}; do sleep 0.05; done; exit 0' TERM; sleep {mark} & wait",
        go.display()
    );
    lab.ctl_words(&[
        "command", "add", "web", "--ns", "red", "--stop", "60", "--", "sh", "-c", &line,
    ])
    .ok();
    let begin = || {
        let before = wait_for_state(&lab, "web", ProcessState::Running).pid;
        wait_for("its trap", || processes(&mark).len() >= 2);
        let tool = spawned(&["command", "restart", "web"]);
        wait_for_state(&lab, "web", ProcessState::Starting);
        (before, tool)
    };
    let (before, tool) = begin();
    lab.ok("add-port other");
    // Two at once are one.
    let second = spawned(&["command", "restart", "web"]);
    fs::write(&go, "").unwrap();
    for tool in [tool, second] {
        let output = tool.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_ne!(wait_for_state(&lab, "web", ProcessState::Running).pid, before);
    fs::remove_file(&go).unwrap();
    let (_, tool) = begin();
    let removal = spawned(&["command", "del", "web"]);
    wait_for("it to be removed", || {
        processes(&mark).is_empty() || !lab.ctl("command show web").stdout.contains("starting")
    });
    fs::write(&go, "").unwrap();
    assert!(removal.wait_with_output().unwrap().status.success());
    let output = tool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(5) && told.contains("removed by another edit before it was started again"),
        "{told}"
    );
    wait_until_gone(&mark);
    assert_eq!(lab.ok("command list -o name"), "");
}

/// The daemon does not wait for a command that nobody waits for any more, nor for one that is to go with all the rest.
#[test]
fn a_wait_ends_with_its_client_and_with_a_reset() {
    let lab = Lab::new();
    let before = before(&lab);
    let mark = sleeps(10);
    let file = lab.lab_file(&lab_of(&format!(
        "run = \"exec sleep {mark}\"\nready = {{ tcp = 9, within_secs = 600 }}"
    )));
    let begin_as = |words: &[&str]| {
        let tool = spawned(words);
        wait_for("the command to run", || !processes(&mark).is_empty());
        tool
    };
    let begin = || begin_as(&["lab", "up", &file]);
    let interrupt = |tool: Child| {
        kill(Pid::from_raw(tool.id() as i32), Signal::SIGINT).unwrap();
        let output = tool.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{told}");
        assert!(told.contains("all is as it was before"), "{told}");
        before.wait_until_same(|| Snapshot::of(&lab));
    };
    // A file without a name is all that is there.
    let nameless = fs::read_to_string(&file).unwrap().replace("name = \"t\"\n", "");
    let tool = begin_as(&["apply", "--yes", &lab.lab_file(&nameless)]);
    interrupt(tool);
    let tool = begin();
    // What is waited for is not what somebody has left.
    let told = lab.ctl("doctor").to_string();
    assert!(!told.contains("used by nobody"), "{told}");
    interrupt(tool);
    // What others did meanwhile is theirs.
    let tool = begin();
    lab.ok("add-port other");
    kill(Pid::from_raw(tool.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(tool.wait_with_output().unwrap().status.code(), Some(130));
    wait_until_gone(&mark);
    assert_eq!(lab.ok("port list -o name"), "other\n");
    // Without a word to anybody.
    let mut tool = begin();
    tool.kill().unwrap();
    tool.wait().unwrap();
    wait_until_gone(&mark);
    wait_for("the rest to be taken back", || lab.ok("port list -o name") == "other\n");
    let tool = begin();
    lab.ok("reset --yes");
    let output = tool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && told.contains("it was ended by another edit before it was ready"),
        "{told}"
    );
    wait_until_gone(&mark);
    before.wait_until_same(|| Snapshot::of(&lab));
}
