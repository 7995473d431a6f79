//! `bugreport`: what is in it, what is not, and that it is nobody else's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;
use vswitch_testing::{Lab, run};

#[test]
fn a_report_has_what_is_needed_and_no_secrets() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.7.1.1/24 --mac 02:00:00:00:00:77");
    // The host's own business.
    run("ip link add other type veth peer name other2");
    run("ip addr add 203.0.113.9/24 dev other");
    let (log, archive) = (lab.scratch().join("log"), lab.scratch().join("report.tar.gz"));
    fs::write(
        &log,
        "red 10.7.1.1 spoke to 203.0.113.9\ntoken = hunter2\nfrom 52:54:00:aa:bb:cc\n",
    )
    .unwrap();
    let options = format!("--log {} {}", log.display(), archive.display());
    let listed = lab.ok(&format!("bugreport -n {options}"));
    assert!(!archive.exists(), "{listed}");
    lab.ok(&format!("bugreport {options}"));
    assert_eq!(archive.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let names = run(&format!("tar tzf {}", archive.display()));
    let text = run(&format!("tar xzOf {}", archive.display()));
    for (name, part) in [
        ("README.txt", "What `vswitchctl bugreport` collected"),
        ("versions.txt", "vswitchd \""),
        ("kernel.txt", "processors: "),
        ("status.json", "\"workers\""),
        ("lab.toml", "10.7.1.1/24"),
        ("ports.json", "\"rx_frames\""),
        ("metrics.txt", "# TYPE vswitch_"),
        ("events.txt", "port-added"),
        ("doctor.txt", "daemon"),
        ("config.toml", ""),
        ("log.txt", "red 10.7.1.1 spoke to <address-"),
    ] {
        assert!(
            names.contains(name) && listed.contains(name),
            "{name} is not in {names}"
        );
        assert!(text.contains(part), "{name}: no {part:?}");
    }
    assert!(text.contains("02:00:00:00:00:77") && text.contains("token = <secret>"));
    for foreign in ["203.0.113.9", "hunter2", "52:54:00:aa:bb:cc"] {
        assert!(!text.contains(foreign), "{foreign} is in it");
    }
    run("ip link del other");
}

#[test]
fn nothing_is_overwritten_and_no_link_is_followed() {
    let mut lab = Lab::new();
    let there = lab.scratch().join("there.tar.gz");
    fs::write(&there, "mine").unwrap();
    lab.ctl(&format!("bugreport {}", there.display()))
        .failed(5, &["not overwritten"]);
    assert_eq!(fs::read_to_string(&there).unwrap(), "mine");
    let (link, target) = (lab.scratch().join("link.tar.gz"), lab.scratch().join("target"));
    symlink(&target, &link).unwrap();
    lab.ctl(&format!("bugreport {}", link.display()))
        .failed(5, &["not overwritten"]);
    assert!(!target.exists());
    // A log that leads elsewhere is left out, and one that never ends is not waited for.
    let secret = lab.scratch().join("secret");
    fs::write(&secret, "something else\n").unwrap();
    let (log, pipe) = (lab.scratch().join("log"), lab.scratch().join("pipe"));
    symlink(&secret, &log).unwrap();
    run(&format!("mkfifo {}", pipe.display()));
    for (n, path) in [log, pipe].iter().enumerate() {
        let archive = lab.scratch().join(format!("{n}.tar.gz"));
        lab.ok(&format!("bugreport --log {} {}", path.display(), archive.display()));
        let text = run(&format!("tar xzOf {} vswitch-bugreport/log.txt", archive.display()));
        assert!(
            text.contains("not to be had") && !text.contains("something else"),
            "{text}"
        );
    }
    // Without a daemon it tells that.
    lab.stop_daemon();
    let archive = lab.scratch().join("alone.tar.gz");
    let report: Value = lab.ctl(&format!("--json bugreport {}", archive.display())).json();
    assert!(report["entries"].as_array().unwrap().len() > 10, "{report}");
    let text = run(&format!("tar xzOf {} vswitch-bugreport/status.json", archive.display()));
    assert!(text.contains("not to be had") && text.contains("vswitchd"), "{text}");
}
