//! What `vswitch-testing` promises to those who test with it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::{env, thread};

use vswitch_testing::api::PortKind;
use vswitch_testing::{Lab, Place, Station, Wire};

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

#[test]
fn a_wire_needs_two_stations() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Veth, 1);
    let said = panics(|| drop(Wire::tap(&[red])));
    assert!(said.contains("two stations at least"), "{said}");
}
