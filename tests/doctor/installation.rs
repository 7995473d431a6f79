//! `doctor` without ports: what it says of the machine, of the daemon, and of what others took away.

use std::process::Command;

use vswitch_testing::api::view::MissingAs;

use super::*;

/// What is wrong beside what this machine lacks: `what: detail / mend`.
fn wrong(lab: &Lab) -> Vec<String> {
    let items: Vec<Value> = lab.ctl("--json doctor").json();
    let bad = items
        .into_iter()
        .filter(|item| item["ok"] == false && item["what"] != "limits");
    let line = |item: Value| {
        let [what, detail, mend] =
            ["what", "detail", "mend"].map(|key| item[key].as_str().unwrap_or("none").to_owned());
        format!("{what}: {detail} / {mend}")
    };
    bad.map(line).collect()
}

#[test]
fn what_others_took_away_is_told_and_given_back() {
    let lab = pair("");
    assert_eq!(wrong(&lab), Vec::<String>::new());
    lab.ok("cable red blue --addr-a 10.3.0.1/30 --addr-b 10.3.0.2/30 --name-a x --name-b x");
    for (breaks, told) in [
        (
            "ip -n red addr del 10.7.0.1/24 dev eth0",
            "port: red is up: interface eth0 lacks its address 10.7.0.1/24; `vswitchctl set port red --up` gives back what was taken away / \
             vswitchctl set port red --up",
        ),
        (
            "ip -n blue link set eth0 mtu 1400",
            "drift: port blue lacks its MTU of 1500 / vswitchctl set port blue --up",
        ),
    ] {
        run(breaks);
        let found = wait_for(told, || {
            let found = wrong(&lab);
            found.iter().any(|line| line == told).then_some(found)
        });
        for line in &found {
            play(&lab, line.split(" / ").nth(1).unwrap());
        }
        assert_eq!(wrong(&lab), Vec::<String>::new(), "{breaks}");
    }
    // What is no port's is given back by the whole.
    run("ip -n red addr flush dev x");
    let told =
        "drift: cable red/blue lacks its address 10.3.0.1/30 in namespace red / vswitchctl export | vswitchctl apply -";
    assert_eq!(wrong(&lab), [told]);
    let exported = lab.ok("export");
    lab.ok(&format!("apply {}", lab.lab_file(&exported)));
    assert_eq!(wrong(&lab), Vec::<String>::new());
}

/// `set port red --up` was said to mend each, and mended neither.
#[test]
fn a_missing_port_is_mended_by_why_it_is() {
    let mut lab = Lab::new();
    let mut sleeper = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let pid = sleeper.id();
    wait_for("the process to have a network namespace of its own", || {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        of(&pid.to_string()) != of("thread-self")
    });
    lab.ok(&format!("add-port guest --pid {pid}"));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    lab.wait_for_state("guest", vswitch_testing::api::view::PortState::Missing);
    assert_eq!(lab.port("guest").missing_as, Some(MissingAs::ProcessEnded));
    let found = wrong(&lab);
    assert!(
        found.len() == 1 && found[0].contains("has ended") && found[0].ends_with("/ vswitchctl del-port guest"),
        "{found:?}"
    );
    lab.ok("del-port guest");
    // Another's interface in place of its own.
    lab.ok("add-port red");
    lab.kill_daemon();
    run("ip -n red link del eth0");
    run("ip -n red link add eth0 type veth peer name other");
    lab.start();
    assert_eq!(lab.port("red").missing_as, Some(MissingAs::NameTaken));
    let found = wrong(&lab);
    let told = found.iter().find(|line| line.starts_with("port: red")).unwrap();
    assert!(told.contains("has an interface eth0 already"), "{told}");
    play(&lab, told.split(" / ").nth(1).unwrap());
    assert_eq!(wrong(&lab), Vec::<String>::new());
}

/// systemd's PrivateTmp=, or a container: nobody else can enter what such a daemon makes. It was said to be a leftover that `ip netns del`
/// removes, which takes it from the daemon.
#[test]
fn a_daemon_in_a_mount_namespace_of_its_own_is_told() {
    let mut lab = Lab::without_daemon();
    let daemon = lab.daemon_command();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(daemon.get_program()).args(daemon.get_args());
    lab.start_with(command, |_| ());
    assert!(!wrong(&lab).iter().any(|line| line.starts_with("namespaces")));
    lab.ok("add-port red blue --subnet 10.0.0.0/24");
    let found = wrong(&lab);
    let told = found.iter().find(|line| line.starts_with("namespaces: ")).unwrap();
    assert!(told.contains("PrivateTmp=") && told.contains("rshared"), "{told}");
    for line in ["ns exec red true", "ping red blue -c 1", "doctor red blue"] {
        let reply = lab.ctl(line);
        let said = format!("{}{}", reply.stdout, reply.stderr);
        assert!(
            reply.code != 0 && said.contains("mount namespace of its own"),
            "{line}: {reply}"
        );
        assert!(
            !said.contains("ip netns del") && !said.contains("ns add"),
            "{line}: {reply}"
        );
    }
}

/// Whoever followed `systemctl start vswitchd` was told no more than that it failed.
#[test]
fn a_daemon_that_would_not_start_is_told_with_why() {
    let mut lab = Lab::with_own_etc();
    lab.stop_daemon();
    std::fs::create_dir_all("/etc/vswitch").unwrap();
    std::fs::write("/etc/vswitch/vswitchd.toml", "[daemon]\nsocket_mod = 1\n").unwrap();
    let told = wrong(&lab);
    let told = told.iter().find(|line| line.starts_with("daemon: ")).unwrap();
    for part in ["it would not start: ", "vswitchd.toml:2", "/ vswitchd --check-start"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    std::fs::remove_file("/etc/vswitch/vswitchd.toml").unwrap();
    let told = wrong(&lab);
    assert!(
        told.iter().any(|line| line.ends_with("/ systemctl start vswitchd")),
        "{told:?}"
    );
}

#[test]
fn a_run_directory_without_room_is_a_limit() {
    let mut lab = Lab::without_daemon();
    std::fs::create_dir("/run/vswitch").unwrap();
    run("mount -t tmpfs -o size=256k small /run/vswitch");
    lab.start();
    let limits = || lab.status().limits.join("; ");
    assert!(!limits().contains("no room"), "{}", limits());
    let mut filler = std::fs::File::create("/run/vswitch/filler").unwrap();
    while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
    lab.ctl("add-port red").failed(1, &["run directory"]);
    assert!(
        limits().contains("no room in the run directory /run/vswitch"),
        "{}",
        limits()
    );
    drop(filler);
    std::fs::remove_file("/run/vswitch/filler").unwrap();
    lab.ok("add-port red");
    assert!(!limits().contains("no room"), "{}", limits());
}

/// The status was named, which tells the same.
#[test]
fn a_command_that_has_failed_and_files_that_are_gone() {
    let lab = Lab::new();
    lab.ok("add-port red blue --subnet 10.7.0.0/24");
    lab.ok("command add w --ns red --restart no -- sleep 1000");
    assert_eq!(wrong(&lab), Vec::<String>::new());
    let pid = lab.json::<Value>("command show w")["pid"].to_string();
    run(&format!("kill -9 {pid}"));
    let found = wait_for("the command to have failed", || {
        let found = wrong(&lab);
        (!found.is_empty()).then_some(found)
    });
    assert!(
        found.len() == 1
            && found[0].starts_with("command: command \"w\" is failed: ")
            && found[0].ends_with(" / vswitchctl command restart w"),
        "{found:?}"
    );
    lab.ok("command restart w");
    assert_eq!(wrong(&lab), Vec::<String>::new());
    run("rm /etc/netns/red/hosts");
    let told = "drift: namespace red lacks its file hosts / vswitchctl export | vswitchctl apply -";
    assert_eq!(wrong(&lab), [told]);
    let exported = lab.ok("export");
    lab.ok(&format!("apply {}", lab.lab_file(&exported)));
    assert_eq!(wrong(&lab), Vec::<String>::new());
    lab.ok("ns exec red -- ping -n -c 1 -W 5 blue");
}

/// To set it up was said to mend it, and failed.
#[test]
fn what_a_port_led_to_and_is_gone_for_good() {
    let lab = Lab::new();
    run("ip link add nic up type veth peer name far");
    lab.ok("add-port nic --type device");
    let mut sleeper = Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap();
    let file = lab.scratch().join("ns");
    std::fs::write(&file, "").unwrap();
    let source = format!("/proc/{}/ns/net", sleeper.id());
    wait_for("the process to have a network namespace of its own", || {
        let of = |path: &str| std::fs::read_link(path).ok();
        of(&source) != of("/proc/thread-self/ns/net")
    });
    vswitch_testing::lab::bind_file(std::path::Path::new(&source), file.to_str().unwrap());
    lab.ok(&format!("add-port guest --netns-path {}", file.display()));
    // As `ip netns del` does: the daemon may be looking at it.
    run(&format!("umount -l {}", file.display()));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    run("ip link del nic");
    for (name, why) in [("nic", MissingAs::NoInterface), ("guest", MissingAs::NoNamespace)] {
        lab.wait_for_state(name, vswitch_testing::api::view::PortState::Missing);
        lab.wait_for_port(name, "why it is missing", |port| port.missing_as == Some(why));
        let found = wrong(&lab);
        let own = found.iter().find(|line| line.starts_with(&format!("port: {name} ")));
        let own = own.unwrap_or_else(|| panic!("{found:?}"));
        assert!(own.ends_with(&format!(" / vswitchctl del-port {name}")), "{own}");
        play(&lab, &format!("vswitchctl del-port {name}"));
    }
    assert_eq!(wrong(&lab), Vec::<String>::new());
}
