//! Settings of the kernel in namespaces, and files that their commands see in /etc.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Lab, Place, run, wait_for};

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

fn up(lab: &Lab, text: &str) -> String {
    let path = lab.lab_file(text);
    lab.ok(&format!("lab up --yes {path}"))
}

fn value(namespace: &str, key: &str) -> String {
    Place::named(namespace).run_ok(&format!("cat {key}")).trim().to_owned()
}

#[test]
fn settings_are_given_kept_and_taken_back() {
    let mut lab = Lab::with_own_etc();
    run("ip netns add theirs");
    let before = {
        Snapshot::of_used_machine();
        Snapshot::of(&lab)
    };
    let text = |forward: &str| {
        format!(
            "name = \"t\"\n[[ports]]\nname = \"red\"\n[[ports]]\nname = \"p\"\nnamespace = \"theirs\"\n\
             [[namespaces]]\nname = \"red\"\nsysctls = {{ \"net.ipv4.conf.eth0.proxy_arp\" = 1 }}\n\
             [[namespaces]]\nname = \"theirs\"\nsysctls = {{ {forward} }}\n"
        )
    };
    let told = up(
        &lab,
        &text("\"net.ipv4.ip_forward\" = 1, \"net.ipv4.tcp_rmem\" = \"4096 100000 200000\""),
    );
    assert!(
        told.contains("set net.ipv4.ip_forward of namespace theirs to 1"),
        "{told}"
    );
    assert_eq!(value("theirs", FORWARD), "1");
    assert_eq!(value("red", "/proc/sys/net/ipv4/conf/eth0/proxy_arp"), "1");
    assert_eq!(value("theirs", "/proc/sys/net/ipv4/tcp_rmem"), "4096\t100000\t200000");
    assert!(lab.ok("export").contains("net.ipv4.ip_forward"));
    // What somebody else changes is repaired, and told.
    Place::named("theirs").run_ok("sysctl -w net.ipv4.ip_forward=0");
    let told = up(
        &lab,
        &text("\"net.ipv4.ip_forward\" = 1, \"net.ipv4.tcp_rmem\" = \"4096 100000 200000\""),
    );
    assert!(
        told.contains("repaired: gave namespace theirs back net.ipv4.ip_forward = 1"),
        "{told}"
    );
    assert_eq!(value("theirs", FORWARD), "1");
    // A daemon that was killed knows what it was before.
    lab.kill_daemon();
    Place::named("theirs").run_ok("sysctl -w net.ipv4.ip_forward=0");
    lab.start();
    assert_eq!(value("theirs", FORWARD), "1");
    // One that is not in the file any more goes back.
    up(&lab, &text("\"net.ipv4.tcp_rmem\" = \"4096 100000 200000\""));
    assert_eq!(value("theirs", FORWARD), "0");
    lab.ok("lab down t");
    assert_ne!(value("theirs", "/proc/sys/net/ipv4/tcp_rmem"), "4096\t100000\t200000");
    before.wait_until_same(|| Snapshot::of(&lab));
}

/// By hand, one by one: the namespace of a port, and one of somebody else.
#[test]
fn settings_are_set_by_hand() {
    let lab = Lab::with_own_etc();
    run("ip netns add theirs");
    let before = {
        Snapshot::of_used_machine();
        Snapshot::of(&lab)
    };
    lab.ok("add-port red");
    let set = ["ns", "set", "red", "net.ipv4.ip_forward=1", "files.hosts=10.0.0.2 blue"];
    lab.ctl_words(&set).ok();
    assert_eq!(value("red", FORWARD), "1");
    assert_eq!(lab.ok("ns exec red cat /etc/hosts"), "10.0.0.2 blue\n");
    // What is not said stays.
    lab.ok("ns set red net.ipv4.conf.eth0.proxy_arp=1");
    assert_eq!(value("red", FORWARD), "1");
    let told = lab.ok("ns set red net.ipv4.ip_forward=none files.hosts=");
    assert!(told.contains("set net.ipv4.ip_forward of namespace red back"), "{told}");
    assert_eq!(value("red", FORWARD), "0");
    lab.ok("ns set theirs net.ipv4.ip_forward=1");
    assert_eq!(value("theirs", FORWARD), "1");
    for (line, code, word) in [
        ("ns set nosuch net.ipv4.ip_forward=1", 4, "nosuch"),
        ("ns set red ip_forward=1", 2, "net.ipv4.ip_forward"),
        ("ns set red kernel.hostname=x", 2, "kernel.hostname"),
        ("ns set red net.ipv4.ip_forward", 2, "no value"),
        ("ns set red net.ipv4.ip_forward=1 net.ipv4.ip_forward=0", 2, "twice"),
        ("ns set red net.ipv4.nosuch=1", 5, "nosuch"),
    ] {
        lab.ctl(line).failed(code, &[word]);
    }
    lab.ok("reset --yes");
    assert_eq!(value("theirs", FORWARD), "0");
    before.wait_until_same(|| Snapshot::of(&lab));
}

/// A new interface has what the kernel chooses: it gets what was set, however it came to be new, and what is not there keeps nothing of it
/// back.
#[test]
fn settings_of_an_interface_are_given_again_when_it_is_made_again() {
    const FILTER: &str = "/proc/sys/net/ipv4/conf/eth0/rp_filter";
    const ADVERTS: &str = "/proc/sys/net/ipv6/conf/eth0/accept_ra";
    let lab = Lab::with_own_etc();
    lab.ok("add-port red");
    lab.ok("add-port more --netns red --name eth1");
    let before = value("red", FILTER);
    lab.ok("ns set red net.ipv4.conf.eth0.rp_filter=2 net.ipv6.conf.eth0.accept_ra=0 net.ipv4.conf.eth1.proxy_arp=1");
    let is_given = || value("red", FILTER) == "2" && value("red", ADVERTS) == "0";
    assert!(is_given());
    lab.ok("del-port more");
    lab.ok("del-port red");
    lab.ok("add-port red");
    assert!(is_given(), "added again");
    Place::named("red").run_ok("ip link del eth0");
    // It may be made twice, where the name of its near end is not free yet.
    let now = |file: &str| {
        let output = Place::named("red").output(&format!("cat {file}"));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    wait_for("the settings of the interface that was made again", || {
        Path::new("/run/netns/red").exists() && now(FILTER) == "2" && now(ADVERTS) == "0"
    });
    lab.ok("add-port more --netns red --name eth1");
    assert_eq!(value("red", "/proc/sys/net/ipv4/conf/eth1/proxy_arp"), "1");
    // What it was at first is what it gets back.
    lab.ok("ns set red net.ipv4.conf.eth0.rp_filter=");
    assert_eq!(value("red", FILTER), before);
    // Not in the lab any more when the port is made again by the same command.
    let path = lab.lab_file("[[ports]]\nname = \"red\"\nkind = \"tap\"\n");
    lab.ok("ns set red net.ipv4.conf.eth1.proxy_arp=");
    lab.ok(&format!("apply --yes {path}"));
    assert_eq!(value("red", ADVERTS), "1");
}

#[test]
fn what_the_kernel_refuses_leaves_all_as_it_was() {
    let lab = Lab::with_own_etc();
    run("ip netns add theirs");
    for (settings, words) in [
        (
            "\"net.ipv4.ip_forward\" = 1, \"net.ipv4.no_such\" = 1",
            "no such setting",
        ),
        (
            "\"net.ipv4.ip_forward\" = 1, \"net.ipv6.conf.eth7.no_such\" = 1",
            "no such setting",
        ),
        (
            "\"net.ipv4.ip_forward\" = 1, \"net.ipv4.tcp_rmem\" = \"many\"",
            "no such value",
        ),
    ] {
        let path = lab.lab_file(&format!(
            "name = \"t\"\n[[namespaces]]\nname = \"theirs\"\nsysctls = {{ {settings} }}\n"
        ));
        let reply = lab.ctl(&format!("lab up {path}"));
        assert_ne!(reply.code, 0, "{reply}");
        assert!(reply.stderr.contains(words), "{reply}");
        assert_eq!(value("theirs", FORWARD), "0", "{settings}");
    }
    for key in [
        "kernel.hostname",
        "net.ipv4./../../kernel.hostname",
        "net/ipv4/ip_forward",
        "net..x",
    ] {
        let path = lab.lab_file(&format!(
            "namespaces = [{{ name = \"theirs\", sysctls = {{ \"{key}\" = 1 }} }}]\n"
        ));
        let reply = lab.ctl(&format!("lab check {path}"));
        assert_eq!(reply.code, 1, "{reply}");
    }
    for file in ["../passwd", "/etc/passwd", "a/../../b"] {
        let path = lab.lab_file(&format!(
            "namespaces = [{{ name = \"theirs\", files = {{ \"{file}\" = \"x\" }} }}]\n"
        ));
        let reply = lab.ctl(&format!("lab check {path}"));
        assert_eq!(reply.code, 1, "{reply}");
    }
}

#[test]
fn files_are_seen_in_the_namespace_and_go_with_it() {
    let mut lab = Lab::with_own_etc();
    let text = |name: &str| {
        format!(
            "name = \"t\"\n[[namespaces]]\nname = \"red\"\nfiles = {{ \"hosts\" = \"10.9.9.9 {name}\\n\" }}\n\
             [[commands]]\nname = \"look\"\nnamespace = \"red\"\nrun = \"getent hosts {name}\"\nready = {{ done = true }}\n"
        )
    };
    let told = up(&lab, &text("blue"));
    assert!(told.contains("wrote /etc/netns/red/hosts"), "{told}");
    assert!(lab.ok("logs look").contains("10.9.9.9"));
    assert!(lab.ok("ns exec red getent hosts blue").contains("10.9.9.9"));
    fs::write("/etc/netns/red/hosts", "").unwrap();
    let told = up(&lab, &text("blue"));
    assert!(
        told.contains("repaired: gave namespace red back its file hosts"),
        "{told}"
    );
    up(&lab, &text("green"));
    assert!(lab.ok("logs look").contains("10.9.9.9"));
    lab.kill_daemon();
    lab.ok("reset --offline --yes");
    assert!(!Path::new("/etc/netns").exists());
    lab.start();
    // Somebody else's stays theirs.
    fs::create_dir_all("/etc/netns/red").unwrap();
    fs::write("/etc/netns/red/hosts", "theirs").unwrap();
    let path = lab.lab_file(&text("blue"));
    lab.ctl(&format!("lab up {path}"))
        .failed(5, &["/etc/netns/red/hosts", "did not make"]);
    assert_eq!(fs::read_to_string("/etc/netns/red/hosts").unwrap(), "theirs");
    assert!(!Path::new("/run/netns/red").exists());
}

/// Names of ports come by links of the same place, which yield to what the lab says itself and come back after it.
#[test]
fn a_hosts_file_of_the_lab_takes_the_place_of_the_names_of_ports() {
    let lab = Lab::with_own_etc();
    let text = |files: &str| {
        format!(
            "name = \"t\"\n[[ports]]\nname = \"red\"\naddresses = [\"10.0.0.1/24\"]\n\
             [[ports]]\nname = \"blue\"\naddresses = [\"10.0.0.2/24\"]\n[[namespaces]]\nname = \"red\"\n{files}"
        )
    };
    let own = "files = { \"hosts\" = \"10.9.9.9 blue\\n\" }\n";
    for (files, address) in [("", "10.0.0.2"), (own, "10.9.9.9"), ("", "10.0.0.2")] {
        up(&lab, &text(files));
        let told = lab.ok("ns exec red getent hosts blue");
        assert!(told.contains(address), "{files}: {told}");
    }
    lab.ok("reset --yes");
    assert!(!Path::new("/etc/netns/red").exists());
}

/// The kernel does not look at a write of nothing, and shows a list in its own words.
#[test]
fn a_list_goes_back_to_none_and_is_known_again_in_the_words_of_the_kernel() {
    const PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let lab = Lab::with_own_etc();
    run("ip netns add theirs");
    assert_eq!(value("theirs", PORTS), "");
    lab.ok("ns set theirs net.ipv4.ip_local_reserved_ports=8080,8081");
    assert_eq!(value("theirs", PORTS), "8080-8081");
    lab.ok("ns set theirs net.ipv4.ip_local_reserved_ports=");
    assert_eq!(value("theirs", PORTS), "");
    lab.ok("reset --yes");
    let text = "name = \"t\"\n[[ports]]\nname = \"red\"\n[[namespaces]]\nname = \"theirs\"\nsysctls = { \
                \"net.ipv4.ip_local_reserved_ports\" = \"5,3,4\", \"net.ipv4.ip_forward\" = \"01\" }\n\
                [[namespaces]]\nname = \"red\"\nsysctls = { \"net.ipv6.conf.eth0.stable_secret\" = \"2001:db8::1\" }\n";
    up(&lab, text);
    assert_eq!(value("theirs", PORTS), "3-5");
    assert_eq!(
        value("red", "/proc/sys/net/ipv6/conf/eth0/stable_secret"),
        "2001:0db8:0000:0000:0000:0000:0000:0001"
    );
    let told = up(&lab, text);
    assert!(!told.contains("repaired"), "{told}");
    lab.ok("restart");
    let told = up(&lab, text);
    assert!(!told.contains("repaired"), "{told}");
    Place::named("theirs").run_ok("sysctl -w net.ipv4.ip_local_reserved_ports=7");
    let told = up(&lab, text);
    assert!(told.contains("net.ipv4.ip_local_reserved_ports = 5,3,4"), "{told}");
    assert_eq!(value("theirs", PORTS), "3-5");
    // A number is no list.
    let path = lab.lab_file(
        "name = \"u\"\n[[namespaces]]\nname = \"other\"\nsysctls = { \"net.ipv4.conf.lo.rp_filter\" = \"\" }\n",
    );
    lab.ctl(&format!("lab up {path}"))
        .failed(2, &["rp_filter", "no such value"]);
    lab.ok("reset --yes");
    assert_eq!(
        (value("theirs", PORTS), value("theirs", FORWARD)),
        (String::new(), "0".to_owned())
    );
    run("ip netns del theirs");
}

/// To forward changes how each interface forwards, and whether redirects are taken.
#[test]
fn settings_that_change_others_are_given_first_and_leave_them_as_they_were() {
    const REDIRECTS: &str = "/proc/sys/net/ipv4/conf/all/accept_redirects";
    const OWN: &str = "/proc/sys/net/ipv4/conf/eth0/forwarding";
    let lab = Lab::with_own_etc();
    run("ip netns add theirs");
    let two = |values: [&str; 2]| values.map(str::to_owned);
    let now = || [value("red", REDIRECTS), value("red", OWN)];
    let text = "name = \"t\"\n[[ports]]\nname = \"red\"\n[[namespaces]]\nname = \"red\"\nsysctls = { \
                \"net.ipv4.ip_forward\" = 1, \"net.ipv4.conf.all.accept_redirects\" = 1, \
                \"net.ipv4.conf.eth0.forwarding\" = 0 }\n";
    up(&lab, text);
    assert_eq!(now(), two(["1", "0"]));
    for forward in ["0", "1"] {
        lab.ok(&format!("ns set red net.ipv4.ip_forward={forward}"));
        assert_eq!(value("red", FORWARD), forward);
        assert_eq!(now(), two(["1", "0"]), "{forward}");
    }
    let told = up(&lab, text);
    assert!(!told.contains("repaired"), "{told}");
    // What the lab says no more is as the rest has it.
    lab.ok("ns set red net.ipv4.conf.eth0.forwarding= net.ipv4.conf.all.accept_redirects=");
    assert_eq!(now(), two(["0", "1"]));
    lab.ok("lab down t --yes");
    Place::named("theirs").run_ok("sysctl -w net.ipv4.conf.all.accept_redirects=0 net.ipv4.conf.lo.forwarding=1");
    let lo = || value("theirs", "/proc/sys/net/ipv4/conf/lo/forwarding");
    up(
        &lab,
        "name = \"t\"\n[[namespaces]]\nname = \"theirs\"\nsysctls = { \"net.ipv4.ip_forward\" = 1 }\n",
    );
    assert_eq!(value("theirs", FORWARD), "1");
    lab.ok("lab down t --yes");
    assert_eq!(
        [value("theirs", FORWARD), value("theirs", REDIRECTS), lo()],
        ["0", "0", "1"]
    );
    run("ip netns del theirs");
}

/// A link of ours makes the folder as well as a file of the lab does; the one that was there is an admin's.
#[test]
fn a_folder_with_files_and_names_goes_with_them() {
    let lab = Lab::with_own_etc();
    fs::create_dir_all("/etc/netns/blue").unwrap();
    for name in ["red", "blue"] {
        let port = format!("name = \"t\"\n[[ports]]\nname = \"{name}\"\naddresses = [\"10.0.0.1/24\"]\n");
        let files = format!("[[namespaces]]\nname = \"{name}\"\nfiles = {{ \"foo\" = \"a\\n\" }}\n");
        let folder = Path::new("/etc/netns").join(name);
        for text in [format!("{port}{files}"), port] {
            up(&lab, &text);
            assert!(folder.join("hosts").exists());
            lab.ok("lab down t --yes");
            assert_eq!(folder.exists(), name == "blue", "{text}");
        }
    }
    assert_eq!(fs::read_dir("/etc/netns/blue").unwrap().count(), 0);
    fs::remove_dir("/etc/netns/blue").unwrap();
}

/// The namespace's own name was told as a setting.
#[test]
fn programs_are_told_of_what_was_set_alone() {
    let lab = Lab::new();
    lab.ok("ns add red");
    for (set, before, after) in [
        ("net.ipv4.ip_forward=1", Value::Null, json!(1)),
        ("net.ipv4.ip_forward=0", json!(1), json!(0)),
        ("net.ipv4.ip_forward=none", json!(0), Value::Null),
    ] {
        let told: Value = lab.json(&format!("ns set red {set}"));
        let changes = told["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 1, "{told}");
        assert_eq!(changes[0]["key"], "sysctls.net.ipv4.ip_forward", "{told}");
        assert_eq!(
            (&changes[0]["before"], &changes[0]["after"]),
            (&before, &after),
            "{told}"
        );
    }
}

/// A file that is over nothing is seen by no command, of which `ns exec` was the first to tell.
#[test]
fn a_file_that_no_command_sees_is_warned_of() {
    let lab = Lab::with_own_etc();
    lab.ok("add-port red");
    let told = lab.ctl("ns set red files.no-such-file=x files.hosts=x").ok().stderr;
    assert!(
        told.contains("no /etc/no-such-file") && !told.contains("/etc/hosts"),
        "{told}"
    );
    // Said before, it is not said again.
    assert_eq!(lab.ctl("ns set red files.no-such-file=y").ok().stderr, "");
}

/// Nothing more of the namespace could be set, its files were given back by no daemon that came, and the lab was refused as a new one.
#[test]
fn a_setting_of_an_interface_that_is_not_there_waits_for_it() {
    let mut lab = Lab::with_own_etc();
    lab.ok("add-port red");
    lab.ok("ns set red net.ipv4.conf.eth0.rp_filter=2 net.ipv4.neigh.eth0.gc_stale_time=77");
    let told = lab.ctl("set port red --name lan0");
    for word in ["conf.eth0.rp_filter", "neigh.eth0.gc_stale_time", "no effect any more"] {
        assert!(told.code == 0 && told.stderr.contains(word), "{told}");
    }
    lab.ok("ns set red net.ipv4.ip_forward=1");
    assert_eq!(value("red", FORWARD), "1");
    lab.ctl("ns set red net.ipv4.conf.eth0.nosuch=1").failed(5, &["nosuch"]);
    let told = lab.ctl("ns set red net.ipv4.conf.lan9.rp_filter=2");
    assert!(told.code == 0 && told.stderr.contains("lan9 is not there"), "{told}");
    let path = lab.lab_file(&lab.ok("export"));
    lab.stop_daemon();
    run("ip netns del red");
    lab.start();
    assert_eq!(value("red", FORWARD), "1");
    lab.ok("reset --yes");
    let told = lab.ctl(&format!("apply --yes {path}"));
    assert!(told.code == 0 && told.stderr.contains("eth0 is not there"), "{told}");
    assert_eq!(value("red", FORWARD), "1");
    lab.ok("set port red --name eth0");
    let given = || value("red", "/proc/sys/net/ipv4/conf/eth0/rp_filter");
    wait_for("the interface to have its setting", || match given().as_str() {
        "2" => Ok(()),
        other => Err(other.to_owned()),
    });
}

/// It was set back with the interface, with which it has nothing to do.
#[test]
fn what_somebody_sets_in_a_namespace_stays_when_an_interface_is_made_again() {
    const FILTER: &str = "/proc/sys/net/ipv4/conf/eth0/rp_filter";
    let lab = Lab::with_own_etc();
    let red = Place::named("red");
    run("ip netns add red");
    lab.ok("add-port red");
    lab.ok("ns set red net.ipv4.ip_forward=1 net.ipv4.conf.eth0.rp_filter=2");
    red.run_ok("sysctl -qw net.ipv4.ip_forward=0");
    red.run_ok("ip link del eth0");
    wait_for("the setting of the interface", || {
        red.output(&format!("cat {FILTER}")).stdout == b"2\n"
    });
    assert_eq!(value("red", FORWARD), "0");
    let doctor = lab.ctl("doctor");
    assert!(doctor.stdout.contains("lacks net.ipv4.ip_forward = 1"), "{doctor}");
}

/// With one that waited for its interface and was refused then, none of the others was given, nor could be set any more.
#[test]
fn a_setting_that_is_refused_keeps_no_other_back() {
    let mut lab = Lab::with_own_etc();
    let mend = "ns set red net.ipv4.conf.eth1.accept_local=none";
    lab.ok("add-port red");
    lab.ok("ns set red net.ipv4.conf.eth1.accept_local=many net.ipv4.conf.eth1.proxy_arp=1");
    let told = lab.ctl("add-port more --netns red --name eth1");
    for word in ["accept_local", "takes no such value", mend] {
        assert!(told.code == 0 && told.stderr.contains(word), "{word}: {told}");
    }
    let proxy = || value("red", "/proc/sys/net/ipv4/conf/eth1/proxy_arp");
    assert_eq!(proxy(), "1");
    assert_eq!(lab.ctl("ns set red net.ipv4.ip_forward=1").ok().stderr, "");
    assert_eq!(value("red", FORWARD), "1");
    let told = lab.ctl("ns set red net.ipv4.conf.eth1.accept_local=lots net.ipv4.ip_forward=0");
    assert!(told.code == 2 && !told.stderr.contains("taken back"), "{told}");
    assert_eq!(value("red", FORWARD), "1");
    lab.stop_daemon();
    run("ip netns del red");
    lab.start();
    assert_eq!([proxy(), value("red", FORWARD)], ["1", "1"]);
    let doctor = lab.ctl("doctor");
    for word in ["accept_local = many, which the kernel refuses", mend] {
        assert!(doctor.stdout.contains(word), "{word}: {doctor}");
    }
    assert_eq!(lab.ctl(mend).ok().stderr, "");
    assert!(!lab.ctl("doctor").stdout.contains("accept_local"));
}
