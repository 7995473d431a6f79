//! What `vswitch-testing` promises to those who test with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::{env, fs, thread};

use vswitch_testing::api::PortKind;
use vswitch_testing::{Lab, Place, Station, Wire, wait_for};

/// What a panic says.
fn panics(f: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(f)).expect_err("it goes on");
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| {
        let text = panic.downcast_ref::<&str>();
        text.map_or_else(String::new, |text| (*text).to_owned())
    })
}

/// A developer who works with a daemon of his own may have it in the environment.
#[test]
fn a_lab_has_nothing_to_do_with_the_daemon_that_the_environment_names() {
    const SOCKET: &str = "VSWITCH_SOCKET";
    if env::var_os(SOCKET).is_none() {
        let name = "a_lab_has_nothing_to_do_with_the_daemon_that_the_environment_names";
        let mut again = Command::new(env::current_exe().unwrap());
        again.args(["--exact", name]).env(SOCKET, "/nowhere");
        let again = again.env("VSWITCH_TIMEOUT", "no number").output().unwrap();
        assert!(again.status.success(), "{again:?}");
        return;
    }
    let lab = Lab::new();
    lab.ok("add-port red");
    assert_eq!(lab.ports().len(), 1);
    let seen = Place::named("red").run_ok("env");
    assert!(!seen.contains(SOCKET), "{seen}");
}

#[test]
fn a_thread_has_one_lab_at_a_time() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let said = panics(|| drop(Lab::new()));
    assert!(said.contains("this thread has a lab already"), "{said}");
    thread::spawn(|| assert!(Lab::new().ports().is_empty())).join().unwrap();
    assert_eq!(lab.ports().len(), 1);
    drop(lab);
    assert!(Lab::new().ports().is_empty());
}

/// As by who stops a run of all tests.
#[test]
fn of_a_test_that_is_killed_no_command_goes_on() {
    const SECONDS: &str = "98765.4321";
    if env::var_os("VSWITCH_TEST_KILLED").is_some() {
        let lab = Lab::new();
        lab.ok("add-port red");
        lab.ok(&format!("command add nap --ns red -- sleep {SECONDS}"));
        loop {
            thread::park();
        }
    }
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", "of_a_test_that_is_killed_no_command_goes_on"]);
    let again = again.env("VSWITCH_TEST_KILLED", "1").stdout(Stdio::null());
    let mut again = again.spawn().unwrap();
    let runs = || {
        fs::read_dir("/proc").unwrap().flatten().any(|process| {
            fs::read(process.path().join("cmdline")).is_ok_and(|line| line == format!("sleep\0{SECONDS}\0").as_bytes())
        })
    };
    wait_for("the command to run", runs);
    again.kill().unwrap();
    again.wait().unwrap();
    wait_for("the command to end", || !runs());
}

#[test]
fn a_wire_needs_two_stations() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let said = panics(|| drop(Wire::tap(&[red])));
    assert!(said.contains("two stations at least"), "{said}");
}
