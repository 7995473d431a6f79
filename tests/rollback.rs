//! A port is added whole or not at all: each kernel step of `add-port` is made to fail in turn.

use vswitch_testing::faults::Faults;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, Place, run, wait_for};

/// More steps than adding a port takes; to reach it means that the count never ends.
const MOST_STEPS: u32 = 200;

/// Lets `line` fail at its first, second, ... kernel step until it gets through, and looks for leftovers each time.
/// Gives the steps that failed.
fn fail_each_step_of(lab: &mut Lab, faults: &Faults, line: &str, undo: &str) -> Vec<String> {
    // Once without faults, so that what is made only once (the daemon's own namespace) is there.
    lab.ok(line);
    lab.ok(undo);
    let before = Snapshot::of(lab);
    let files = lab.daemon().open_files();
    let mut failed = Vec::new();
    let mut survived = 0;
    for step in 1..MOST_STEPS {
        faults.fail_step(step);
        let reply = lab.ctl(line);
        let Some(name) = faults.disarm() else {
            reply.ok();
            lab.ok(undo);
            before.wait_until_same(|| Snapshot::of(lab));
            wait_for("the daemon to hold no more files than before", || {
                let now = lab.daemon().open_files();
                if now <= files {
                    Ok(())
                } else {
                    Err(format!("{now}, before {files}; failed: {failed:#?}"))
                }
            });
            eprintln!(
                "{line}: {} steps failed, {survived} of them did no harm: {failed:#?}",
                failed.len()
            );
            return failed;
        };
        eprintln!("step {step}, {name}: {} {}", reply.code, reply.stderr.trim());
        if reply.code == 0 {
            // A step that is not needed, such as an announcement: then the port is whole.
            survived += 1;
            lab.ok(undo);
        } else {
            assert_eq!(reply.stderr.lines().count(), 1, "step {step}, {name}: {reply}");
            assert!(lab.daemon().ended().is_none());
        }
        before.wait_until_same(|| Snapshot::of(lab));
        // What failed half-way must not be in the way of the next attempt.
        lab.ok(line);
        lab.ok(undo);
        failed.push(name);
    }
    panic!("`{line}` takes more than {MOST_STEPS} steps: {failed:#?}");
}

fn lab_with_faults() -> (Lab, Faults) {
    let mut lab = Lab::without_daemon();
    let mut command = lab.daemon_command();
    let faults = Faults::prepare(&mut command);
    lab.start_with(command, |daemon| faults.watch(daemon));
    (lab, faults)
}

fn check(line: &str, at_least: usize) {
    let (mut lab, faults) = lab_with_faults();
    make_device("device");
    let failed = fail_each_step_of(&mut lab, &faults, line, "reset --yes");
    assert!(
        failed.len() >= at_least,
        "only {} steps were seen to fail: {failed:#?}",
        failed.len()
    );
}

/// Lets the removal of what `lines` add fail at its first, second, ... kernel step: the next removal takes what is left.
fn fail_each_step_of_removing(lines: &[&str]) {
    let (lab, faults) = lab_with_faults();
    make_device("device");
    // Made elsewhere, so that what is left in it does not go with it.
    run("ip netns add green");
    lab.ok(lines[0]);
    lab.ok("reset --yes");
    let before = Snapshot::of(&lab);
    let mut failed = Vec::new();
    for step in 1..MOST_STEPS {
        for line in lines {
            lab.ok(line);
        }
        faults.fail_step(step);
        let reply = lab.ctl("reset --yes");
        let Some(name) = faults.disarm() else {
            reply.ok();
            assert!(
                failed.len() >= 10,
                "only {} steps were seen to fail: {failed:#?}",
                failed.len()
            );
            return;
        };
        eprintln!("step {step}, {name}: {} {}", reply.code, reply.stderr.trim());
        lab.ok("reset --yes");
        before.wait_until_same(|| Snapshot::of(&lab));
        assert_eq!(Place::named("green").run_ok("ip -br link").lines().count(), 1, "{name}");
        failed.push(name);
    }
    panic!("the removal takes more than {MOST_STEPS} steps: {failed:#?}");
}

#[test]
fn what_a_failed_removal_leaves_the_next_one_takes() {
    fail_each_step_of_removing(&[
        "add-port red --addr 10.7.0.1/24",
        "add-port blue --addr 10.7.0.2/24 --type tap",
        "add-port green --addr 10.7.0.3/24 --type tap",
        "add-port device --type device",
        "cable red green --name-a c --name-b c --addr-a 10.8.0.1/24 --addr-b 10.8.0.2/24",
    ]);
}

#[test]
fn a_veth_port_is_added_whole_or_not_at_all() {
    check(
        "add-port red --addr 10.7.0.1/24 --addr fd07::1/64 --gateway 10.7.0.9",
        10,
    );
}

#[test]
fn a_tap_port_is_added_whole_or_not_at_all() {
    check(
        "add-port red --type tap --addr 10.7.0.1/24 --addr fd07::1/64 --gateway 10.7.0.9",
        10,
    );
}

#[test]
fn an_internal_port_is_added_whole_or_not_at_all() {
    check("add-port host --type internal --addr 10.7.0.1/24", 4);
}

#[test]
fn a_device_port_is_added_whole_or_not_at_all() {
    check("add-port device --type device", 4);
}

#[test]
fn a_device_port_by_af_xdp_is_added_whole_or_not_at_all() {
    check("add-port device --type device --xdp", 4);
}

#[test]
fn a_cable_is_laid_whole_or_not_at_all() {
    check("cable red blue --addr-a 10.7.0.1/24 --addr-b 10.7.0.2/24", 8);
}
