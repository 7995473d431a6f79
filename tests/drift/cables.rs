//! Cables between namespaces: cut, renamed, and what somebody puts in their places.

use std::time::{Duration, Instant};

use vswitch_api::view::Changes;
use vswitch_testing::lab::Lab;
use vswitch_testing::netns::run;
use vswitch_testing::wait::wait_for;

/// What a cable has is looked at as closely as what a port has.
#[test]
fn apply_gives_a_cable_back_what_it_lost() {
    let lab = Lab::new();
    lab.ok("cable red blue --mtu 1400 --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24 --route-a 10.8.0.0/16,10.9.0.2");
    let file = lab.lab_file(&lab.ok("export"));
    let apply = || lab.json::<Changes>(&format!("apply {file}"));
    assert_eq!(apply(), Changes::default(), "nothing has drifted");
    run("ip -n red link set eth0 mtu 1300");
    run("ip -n red addr del 10.9.0.1/24 dev eth0");
    run("ip -n blue link set eth0 down");
    let planned: Changes = lab.json(&format!("apply --dry-run {file}"));
    let done = apply().done;
    assert_eq!(planned.done, done);
    for word in [
        "MTU of 1400 in namespace red",
        "10.9.0.1/24",
        "route to 10.8.0.0/16",
        "up in namespace blue",
    ] {
        assert!(done.iter().any(|line| line.contains(word)), "{word}: {done:?}");
    }
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
    assert_eq!(apply(), Changes::default());
}

/// A cable that could not be laid, here for want of descriptors, is laid by itself as soon as that can be.
#[test]
fn a_cable_that_could_not_be_laid_is_tried_again() {
    let mut lab = Lab::new();
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    let pid = lab.daemon().pid();
    let limit = |files: usize| run(&format!("prlimit --pid {pid} --nofile={files}:1024"));
    let open = lab.daemon().open_files_at_rest();
    run("ip netns del blue");
    limit(open + 2);
    run("ip netns add blue");
    // With so few descriptors it says that it tried in vain, or can't even look, of which it says nothing: its next looks are within 3 s.
    let end = Instant::now() + Duration::from_secs(3);
    while !lab.daemon().log().contains("a cable is still missing") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!run("ip -n blue -br link").contains("eth0"));
    limit(1024);
    wait_for("the cable to be laid", || run("ip -n blue -br link").contains("eth0"));
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
}

/// As an interface of a port is.
#[test]
fn a_cable_whose_end_was_deleted_is_laid_again() {
    let lab = Lab::new();
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    run("ip -n red link del eth0");
    wait_for("the cable to be laid", || {
        ["red", "blue"]
            .iter()
            .all(|name| run(&format!("ip -n {name} -br link")).contains("eth0"))
    });
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
}

/// An end of a cable is known by what it is too.
#[test]
fn a_cable_whose_ends_were_renamed_is_adopted_and_taken_away() {
    let mut lab = Lab::new();
    for name in ["red", "blue"] {
        lab.ok(&format!("ns add {name}"));
    }
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    for name in ["red", "blue"] {
        run(&format!("ip -n {name} link set eth0 down"));
        run(&format!("ip -n {name} link set eth0 name lan0"));
        run(&format!("ip -n {name} link set lan0 up"));
    }
    lab.kill_daemon();
    lab.start();
    assert!(!run("ip -n red -br link").contains("eth0"));
    run("ip netns exec red ping -n -c 1 -W 10 10.9.0.2");
    lab.ok("cable del red blue");
    for name in ["red", "blue"] {
        assert!(!run(&format!("ip -n {name} -br link")).contains("lan0"));
    }
}

/// Somebody's own interface was given the cable's settings, and went with the cable.
#[test]
fn an_interface_that_only_has_the_name_of_a_cables_end_is_left_alone() {
    let lab = Lab::new();
    run("ip netns add red");
    run("ip netns add blue");
    let replace = |new: &str| {
        let lines = lab.lab_file(&format!(
            "link del eth0\nlink add eth0 mtu 9000 type veth peer name {new}\n"
        ));
        run(&format!("ip -n red -b {lines}"));
    };
    let look = |name: &str| {
        run(&format!("ip -n {name} -o link show eth0")) + &run(&format!("ip -n {name} -br addr show eth0"))
    };
    lab.ok("cable red blue --addr-a 10.9.0.1/24 --addr-b 10.9.0.2/24");
    replace("other");
    run("ip -n red addr add 192.0.2.1/24 dev eth0");
    let before = look("red");
    let told = lab.ctl("set cable red blue mtu=1400");
    assert!(told.code == 0 && told.stderr.contains("is cut"), "{told}");
    assert_eq!(look("red"), before);
    let export = lab.lab_file(&lab.ok("export"));
    let told = lab.ctl(&format!("apply {export}"));
    assert!(told.stderr.contains("has an interface eth0 already"), "{told}");
    assert_eq!(look("red"), before);
    run("ip -n red link del eth0");
    wait_for("the cable to be laid with what was set", || {
        let links = run("ip -n blue -o link");
        links.contains("eth0") && links.contains("mtu 1400")
    });
    // What has another address and is joined to the other end is the cable's all the same.
    run("ip -n red link set eth0 address 02:00:00:00:00:01");
    assert_eq!(lab.ctl("set cable red blue mtu=1300").ok().stderr, "");
    assert!(look("red").contains("mtu 1300") && !look("red").contains("02:00:00:00:00:01"));

    replace("eth0 netns blue");
    let before = [look("red"), look("blue")];
    wait_for("it to be seen", || lab.ok("cable list").contains("missing"));
    lab.ok("cable del red blue");
    assert_eq!([look("red"), look("blue")], before);
}
