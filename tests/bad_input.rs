//! Bad input gets one line that names the object, the cause and what to do, and changes nothing.

use std::fs;
use std::process::Command;

use vswitch_testing::daemon::{Daemon, program};
use vswitch_testing::lab::mount_over;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::station::make_device;
use vswitch_testing::{Lab, run, wait_for};

#[test]
fn bad_commands_change_nothing() {
    let lab = Lab::new();
    make_device("device");
    make_device("other");
    run("ip netns add theirs");
    run("ip -n theirs link add eth0 type veth peer name peer0");
    lab.ok("add-port red --addr 10.7.0.1/24 --mac 02:00:00:00:00:01");
    lab.ok("add-port host --type internal");
    lab.ok("add-port device --type device");
    lab.ok("switch add second");
    lab.ok("cable red blue");
    let before = Snapshot::of(&lab);
    // Command, exit code, what the line has to say.
    let cases: &[(&str, i32, &[&str])] = &[
        // Names
        ("add-port sixteen-bytes-xx", 2, &["sixteen-bytes-xx", "16 bytes", "15"]),
        ("add-port a/b", 2, &["a/b", "'/'"]),
        ("add-port .hidden", 2, &[".hidden"]),
        ("add-port ä", 2, &["ä"]),
        ("add-port p --netns a/b", 2, &["a/b"]),
        ("add-port p --netns sixteen-bytes-xx", 2, &["sixteen-bytes-xx"]),
        ("add-port p --name sixteen-bytes-xx", 2, &["sixteen-bytes-xx"]),
        ("ns add a/b", 2, &["a/b"]),
        ("ns add sixteen-bytes-xx", 2, &["sixteen-bytes-xx"]),
        ("switch add a/b", 2, &["a/b"]),
        // Things that are not there
        ("add-port p --switch nosuch", 4, &["nosuch"]),
        ("del-port nosuch", 4, &["nosuch"]),
        ("port show nosuch", 4, &["nosuch"]),
        ("set port nosuch --mtu 1400", 4, &["nosuch"]),
        ("set switch nosuch --ageing 5", 4, &["nosuch"]),
        ("switch del nosuch", 4, &["nosuch"]),
        ("switch show nosuch", 4, &["nosuch"]),
        ("ns show nosuch", 4, &["nosuch"]),
        ("ns del nosuch", 4, &["nosuch"]),
        ("ns exec nosuch -- true", 4, &["nosuch"]),
        ("addr add nosuch 10.7.0.9/24", 4, &["nosuch"]),
        ("addr del red 10.7.0.9/24", 4, &["10.7.0.9", "red"]),
        ("addr flush nosuch", 4, &["nosuch"]),
        ("route add nosuch default --via 10.7.0.9", 4, &["nosuch"]),
        ("route del red 10.0.0.0/8", 4, &["10.0.0.0/8"]),
        ("fdb add 02:00:00:00:00:09 nosuch", 4, &["nosuch"]),
        ("fdb del 02:00:00:00:00:09", 4, &["02:00:00:00:00:09"]),
        ("fdb flush --port nosuch", 4, &["nosuch"]),
        ("cable del red nosuch", 4, &["nosuch"]),
        (
            "add-port nosuch --type device",
            4,
            &["nosuch", "vswitchctl add-port PORT --type device --name IF"],
        ),
        // Things that are taken
        ("add-port red", 5, &["red"]),
        ("add-port p --netns red --name eth0", 5, &["eth0", "red"]),
        ("add-port p --netns theirs", 5, &["eth0", "theirs"]),
        ("add-port p --mac 02:00:00:00:00:01", 5, &["02:00:00:00:00:01", "red"]),
        ("add-port p --addr 10.7.0.1/24", 5, &["10.7.0.1", "red"]),
        ("add-port p --addr 10.7.0.5/24 --addr 10.7.0.5/24", 2, &["10.7.0.5"]),
        ("add-port p --type device --name device", 5, &["device"]),
        ("add-port p --type internal --name host", 5, &["host"]),
        ("add-port p --type internal --name other", 5, &["other"]),
        ("add-port lo --type internal", 2, &["lo"]),
        ("add-port p --type device --name lo", 2, &["lo"]),
        ("switch add second", 5, &["second"]),
        ("switch add main", 5, &["main"]),
        ("ns del theirs", 5, &["theirs"]),
        ("ns del red", 5, &["red"]),
        ("ns add theirs", 5, &["theirs"]),
        // Values
        (
            "add-port p --mac 03:00:00:00:00:01",
            2,
            &["03:00:00:00:00:01", "multicast"],
        ),
        ("add-port p --mac 00:00:00:00:00:00", 2, &["00:00:00:00:00:00"]),
        ("add-port p --mac 02:00:00:00:00", 2, &["02:00:00:00:00"]),
        ("add-port p --mtu 67", 2, &["67", "68"]),
        ("add-port p --mtu 65518", 2, &["65518", "65517"]),
        ("add-port p --mtu=-1", 2, &["-1"]),
        ("add-port p --mtu 1279 --addr fd07::9/64", 2, &["1279", "1280"]),
        ("set port red --mtu 67", 2, &["67", "68"]),
        ("add-port p --addr 10.7.0.9", 2, &["10.7.0.9/24"]),
        ("add-port p --addr 10.7.0.9/33", 2, &["10.7.0.9/33"]),
        ("add-port p --addr 10.7.0.0/24", 2, &["10.7.0.0/24", "10.7.0.1/24"]),
        ("add-port p --addr nonsense", 2, &["nonsense"]),
        ("add-port p --addr 10.7.0.9/24 --gateway 10.66.0.1", 2, &["10.66.0.1"]),
        (
            "add-port p --type device --name other --addr 10.7.0.9/24",
            2,
            &["device"],
        ),
        (
            "add-port p --type device --name other --mac 02:00:00:00:00:07",
            2,
            &["device"],
        ),
        ("add-port p --type internal --netns red", 2, &["internal"]),
        ("add-port p --type nosuch", 2, &["nosuch", "veth"]),
        ("switch add p --fdb-capacity 0", 2, &["capacity"]),
        ("switch del main", 5, &["main"]),
        ("fdb add 01:00:5e:00:00:01 red", 2, &["01:00:5e:00:00:01"]),
        ("route add red 10.0.0.0/8 --via fd07::1", 2, &["fd07::1"]),
        ("cable red red", 2, &["red"]),
        ("apply /nonexistent/lab.toml", 4, &["/nonexistent/lab.toml"]),
    ];
    let mut wrong = Vec::new();
    for (line, code, words) in cases {
        let reply = lab.ctl(line);
        let checked = std::panic::catch_unwind(|| reply.clone().failed(*code, words));
        if checked.is_err() {
            wrong.push(format!("expected {code} {words:?}: {reply}"));
        }
        let after = std::panic::catch_unwind(|| before.assert_same(&Snapshot::of(&lab)));
        if let Err(difference) = after {
            wrong.push(format!(
                "`{line}` changed something: {:?}",
                difference.downcast_ref::<String>()
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn errors_are_json_when_json_is_asked_for() {
    let lab = Lab::new();
    let reply = lab.ctl("--json port show nosuch");
    assert_eq!(reply.code, 4);
    let error = reply.json_error();
    assert!(error.object.contains("nosuch"), "{error:?}");
    assert_eq!(error.code, vswitch_testing::api::ErrorCode::NotFound);
}

#[test]
fn a_bad_lab_file_is_refused_as_a_whole() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    let before = Snapshot::of(&lab);
    let port = |rest: &str| format!("[[ports]]\nname = \"blue\"\nnamespace = \"blue\"\n{rest}\n");
    for (text, words) in [
        (port("colour = 5"), &["colour"][..]),
        (port("kind = \"nosuch\""), &["nosuch"]),
        (port("addresses = [\"10.7.0.1\"]"), &["10.7.0.1/24"]),
        (port("mtu = 5"), &["68"]),
        (port("switch = \"nosuch\""), &["nosuch"]),
        (port("") + &port(""), &["blue"]),
        (port("mac = \"01:00:00:00:00:01\""), &["01:00:00:00:00:01"]),
        ("ports = 5".into(), &["lab.toml:1:9: ", "a list"]),
        ("this is no TOML".into(), &["lab.toml"]),
    ] {
        let reply = lab.ctl(&format!("apply {}", lab.lab_file(&text)));
        assert!(matches!(reply.code, 2 | 4 | 5), "{text}: {reply}");
        for word in words {
            assert!(reply.stderr.contains(word), "{word} is not named for\n{text}{reply}");
        }
        before.assert_same(&Snapshot::of(&lab));
    }
}

#[test]
fn without_a_daemon_the_tool_says_how_to_start_one() {
    let lab = Lab::without_daemon();
    lab.ctl("show").failed(3, &["/run/vswitch/control.sock", "vswitchd"]);
    lab.ctl("--socket /run/nowhere show").failed(3, &["/run/nowhere"]);
}

#[test]
fn a_user_without_rights_on_the_socket_is_told_so() {
    let lab = Lab::new();
    // Where the build is may be closed to others.
    let ctl = copy_for_everybody("vswitchctl");
    let output = as_nobody(&ctl).arg("status").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.lines().count() == 1 && text.to_lowercase().contains("permission denied"),
        "{text}"
    );
    drop(lab);
}

#[test]
fn a_daemon_without_rights_says_what_it_needs() {
    let lab = Lab::without_daemon();
    let daemon = copy_for_everybody("vswitchd");
    let mut daemon = Daemon::spawn(as_nobody(&daemon));
    let status = daemon.wait();
    assert!(!status.success());
    let log = daemon.log();
    assert!(log.contains("CAP_NET_ADMIN") && log.contains("run it as root"), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    drop(lab);
}

/// A copy that any user may run; it goes with the lab's /run.
fn copy_for_everybody(name: &str) -> std::path::PathBuf {
    let copy = std::path::Path::new("/run").join(name);
    fs::copy(program(name), &copy).unwrap();
    copy
}

fn as_nobody(program: &std::path::Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--",
        ])
        .arg(program);
    command
}

#[test]
fn without_dev_net_tun_taps_are_refused_and_the_rest_works() {
    let mut lab = Lab::without_daemon();
    mount_over("/dev/net", "tmpfs");
    lab.start();
    lab.ok("add-port red --addr 10.7.0.1/24");
    lab.ok("add-port blue --addr 10.7.0.2/24");
    let before = Snapshot::of(&lab);
    lab.ctl("add-port green --type tap")
        .failed(6, &["green", "/dev/net/tun"]);
    lab.ctl("add-port host --type internal")
        .failed(6, &["host", "/dev/net/tun"]);
    before.assert_same(&Snapshot::of(&lab));
    lab.ok("ns exec red -- ping -n -c 1 -W 10 10.7.0.2");
    let limits = lab.status().limits;
    assert!(limits.iter().any(|limit| limit.contains("/dev/net/tun")), "{limits:?}");
}

#[test]
fn a_bad_configuration_is_refused_with_file_line_and_key() {
    let lab = Lab::without_daemon();
    let path = lab.scratch().join("vswitchd.toml");
    for (text, words) in [
        (
            "[daemon]\nsocket_mod = \"0660\"\n",
            &["socket_mod", "vswitchd.toml:2"][..],
        ),
        ("[nosuch]\n", &["nosuch"]),
        ("[datapath]\nworkers = -1\n", &["workers"]),
        ("[log]\nlevel = \"loud\"\n", &["loud"]),
        ("this is no TOML", &[]),
        // What only this machine can tell.
        (
            "[daemon]\nsocket_group = \"no-such-group\"\n",
            &["socket_group", "vswitchd.toml:2", "groupadd"],
        ),
        ("[datapath]\ncpus = [99999]\n", &["cpus", "vswitchd.toml:2", "99999"]),
        (
            "[daemon]\nstate_dir = \"/proc/version/x\"\n",
            &["state_dir", "vswitchd.toml:2"],
        ),
    ] {
        fs::write(&path, text).unwrap();
        for check in [true, false] {
            let mut command = Command::new(program("vswitchd"));
            command.arg("--config").arg(&path);
            if check {
                command.arg("--check-config");
            }
            let mut daemon = Daemon::spawn(command);
            let status = daemon.wait();
            let log = daemon.log();
            assert!(!status.success(), "{text}: {log}");
            assert!(log.contains("vswitchd.toml"), "{text}: {log}");
            for word in words {
                assert!(log.contains(word), "{word} is not named for {text}: {log}");
            }
        }
    }
    fs::write(&path, "[daemon]\n").unwrap();
    let mut command = Command::new(program("vswitchd"));
    let mut daemon = Daemon::spawn({
        command.arg("--check-config").arg("--config").arg(&path);
        command
    });
    assert!(daemon.wait().success(), "{}", daemon.log());
    assert!(!std::path::Path::new("/run/vswitch").exists(), "a check starts nothing");
}

/// One that is a FIFO has nobody wait for whoever may write to it: the daemon says so, serves on, and ends when it is told to.
#[test]
fn a_configuration_that_is_a_fifo_is_refused_and_hangs_nothing() {
    let mut lab = Lab::without_daemon();
    lab.add_config("[log]\nlevel = \"info\"\n");
    lab.start();
    let path = lab.scratch().join("vswitchd.toml");
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    lab.daemon().signal(nix::sys::signal::Signal::SIGHUP);
    wait_for("the daemon to say that it did not reload", || {
        lab.daemon().log().contains("the configuration was not reloaded")
    });
    assert!(lab.daemon().log().contains("vswitchd.toml: it is a FIFO"));
    lab.ok("add-port red");
    lab.stop_daemon();
    let mut command = Command::new(program("vswitchd"));
    command.arg("--check-config").arg("--config").arg(&path);
    let mut daemon = Daemon::spawn(command);
    assert!(!daemon.wait().success() && daemon.log().contains("it is a FIFO"));
    // A link to a file is fine.
    let real = path.with_extension("real");
    fs::write(&real, "[log]\n").unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&real, &path).unwrap();
    let mut command = Command::new(program("vswitchd"));
    command.arg("--check-config").arg("--config").arg(&path);
    assert!(Daemon::spawn(command).wait().success());
}
