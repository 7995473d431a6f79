//! Errors are one line with object, cause and next step; the exit code tells their kind.
#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{Replies, run, tool};
use serde_json::json;

/// Bad input is refused with this line, and the daemon hears nothing of it.
fn refused(arguments: &str, line: &str) {
    let daemon = Replies::default().start();
    let ran = daemon.run(arguments);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments}: {ran:?}");
    assert_eq!(ran.stderr, format!("vswitchctl: {line}\n"), "{arguments}");
    assert_eq!(daemon.asked(), [], "{arguments}");
}

#[test]
fn an_address_needs_its_prefix_length() {
    let line = "address 192.168.15.1 has no prefix length; without one the namespace gets no route to its neighbours; \
                try 192.168.15.1/24";
    refused("add-port red --addr 192.168.15.1", &format!("--addr: {line}"));
    refused("addr add red 192.168.15.1", &format!("ADDR/LEN: {line}"));
    refused("cable red blue --addr-a 192.168.15.1", &format!("--addr-a: {line}"));
}

#[test]
fn names_are_checked() {
    let long = "\"sixteen-bytes-xx\" has 16 bytes, at most 15 are allowed; choose a shorter one";
    refused("add-port sixteen-bytes-xx", &format!("NAME: port name {long}"));
    refused("ns add sixteen-bytes-xx", &format!("NAME: namespace name {long}"));
    refused(
        "add-port red --name sixteen-bytes-xx",
        &format!("--name: interface name {long}, and for an altname the name that `ip link` shows first"),
    );
    refused(
        "add-port a/b",
        "NAME: port name \"a/b\" contains '/'; use letters, digits and - _ . @ +",
    );
    refused(
        "ns exec ../x true",
        "NAME: namespace name \"../x\" starts with \".\"; start it with a letter or a digit",
    );
}

#[test]
fn numbers_are_checked() {
    let mtu = |text| {
        format!("--mtu: MTU {text:?} is out of range; give a number from 68 to 65517 (bytes of layer-3 payload)")
    };
    refused("add-port red --mtu 67", &mtu("67"));
    refused("set port red --mtu 65518", &mtu("65518"));
    refused("set port red --mtu 1500b", &mtu("1500b"));
    refused(
        "set switch main --ageing=-1",
        "--ageing: ageing time (0: never) \"-1\" is no time from 0 to 4294967295 seconds; write it as 60, 60s, 5m or 1h",
    );
    refused(
        "switch add lab --fdb-capacity 0",
        "--fdb-capacity: FDB capacity \"0\" is out of range; give a number from 1 to 4294967295 (entries)",
    );
}

#[test]
fn settings_by_key_are_checked() {
    refused(
        "set port red learning.limt=5",
        "KEY=VALUE: there is no key \"learning.limt\"; did you mean learning.limit?",
    );
    refused(
        "set port red netns=blue",
        "KEY=VALUE: there is no key \"netns\"; did you mean namespace?",
    );
    refused(
        "set port red up=maybe",
        "KEY=VALUE: up: \"maybe\" is no value for it; give on, off, or none to take it back",
    );
    refused("set port red mtu", "KEY=VALUE: \"mtu\" has no value; write it as mtu=N");
    refused(
        "set switch main name=blue",
        "KEY=VALUE: \"name\" is chosen once and can't be changed",
    );
    refused(
        "set port red --mtu 1400 mtu=1500",
        "command line: mtu is said twice, or as a whole and in part; say each setting once, by its key or by its option",
    );
}

#[test]
fn macs_are_checked() {
    let multicast = "MAC address 01:00:5e:00:00:01 is a multicast address, which no station can have; \
                     make the first octet even, such as 02";
    refused("add-port red --mac 01:00:5e:00:00:01", &format!("--mac: {multicast}"));
    refused("fdb add 01:00:5e:00:00:01 red", &format!("MAC: {multicast}"));
    refused(
        "fdb add 2:0:0:0:0:1 red",
        "MAC: \"2:0:0:0:0:1\" is not a MAC address; write six hex pairs, such as 02:00:00:00:00:01",
    );
}

#[test]
fn routes_are_checked() {
    refused(
        "route add red 10.0.0.1/8",
        "TO: destination 10.0.0.1/8 has bits set beyond its prefix length; try 10.0.0.0/8",
    );
    refused(
        "route add red 10.0.0.0/8 --via fd00::1",
        "port \"red\": the route to 10.0.0.0/8 is of another address family than its next hop fd00::1; give one of the same",
    );
    refused(
        "add-port red --gateway 10.0.0.1/24",
        "--gateway: next hop 10.0.0.1/24 has a prefix length, but it is one host; try 10.0.0.1",
    );
    refused(
        "add-port red --gateway 10.0.0.1 --gateway 10.0.0.2",
        "port \"red\": it has the gateway 10.0.0.1 already; give one for each address family, not 10.0.0.2 too",
    );
}

#[test]
fn a_wrong_word_is_answered_with_the_right_ones() {
    refused(
        "add-port red --type vet",
        "--type: there is no \"vet\"; did you mean veth? choose one of veth, tap, device, internal",
    );
    refused(
        "completions tcsh",
        "SHELL: there is no \"tcsh\"; did you mean zsh? choose one of bash, elvish, fish, powershell, zsh",
    );
}

/// What takes everything away is no word for a slip, and words that are not shown are not shown here.
#[test]
fn a_command_that_there_is_not_is_answered_with_one_that_is_shown() {
    let told = |arguments: &str| run(Path::new("/nowhere/control.sock"), arguments, "").stderr;
    for arguments in ["r", "remove", "rest", "port r", "resett"] {
        assert!(!told(arguments).contains("did you mean reset"), "{}", told(arguments));
    }
    for (arguments, meant) in [
        ("switc list", "switch?"),
        ("port lst", "list?"),
        ("port creat", "add?"),
        ("addresse", "addr?"),
    ] {
        assert!(
            told(arguments).contains(&format!("did you mean {meant}")),
            "{}",
            told(arguments)
        );
    }
}

#[test]
fn what_does_not_end_fills_no_memory() {
    let daemon = Replies::default().start();
    for arguments in [
        "apply /dev/zero",
        "lab check /dev/zero",
        "acl set red --in-file /dev/zero",
    ] {
        let ran = daemon.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments}: {ran:?}");
        assert!(ran.stderr.contains("it is longer than 16 MiB"), "{arguments}: {ran:?}");
    }
    assert_eq!(daemon.asked(), []);
}

/// What a program wrote may be a part of an error.
#[test]
fn an_error_has_nothing_that_a_terminal_obeys() {
    let error = json!({"code": "conflict", "object": "command \"bad\"", "cause": "it ended: \u{1b}[31mred"});
    let daemon = Replies::default().status("POST /v1/commands", 409, error).start();
    let ran = daemon.run("command add bad --ns red -- false");
    assert_eq!(ran.code, 5, "{ran:?}");
    assert_eq!(ran.stderr, "vswitchctl: command \"bad\": it ended: \\u{1b}[31mred\n");
}

#[test]
fn what_vswitchd_runs_for_itself_is_told_so() {
    for arguments in ["command restart dnsmasq:g", "command del web dnsmasq:g"] {
        refused(
            arguments,
            "NAME: \"dnsmasq:g\" is vswitchd's own dnsmasq, for DHCP and DNS on switch g; `vswitchctl set switch g dhcp=off dns=off` ends it",
        );
    }
}

#[test]
fn a_shell_in_nothing_says_what_there_is() {
    let error = json!({"code": "not-found", "object": "port \"nope\"", "cause": "there is no such port"});
    let daemon = Replies::default()
        .status("GET /v1/ports/nope", 404, error)
        .json("GET /v1/ports", json!([{"name": "nop"}]))
        .start();
    let ran = daemon.run("shell nope");
    assert_eq!(ran.code, 4, "{ran:?}");
    assert_eq!(
        ran.stderr,
        "vswitchctl: port \"nope\": there is no such port, and no namespace of this name; did you mean \"nop\"? \
         `vswitchctl port list` and `vswitchctl ns list` show what there is\n"
    );
}

/// Without a command people get help, and programs an error.
#[test]
fn a_noun_alone_is_an_error_for_programs() {
    let output = tool(Path::new("/nowhere/control.sock"))
        .env_remove("VSWITCH_SOCKET")
        .args(["--json", "port"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["cause"], "it needs a command", "{error}");
}

/// A sign is never part of a number, and the error names option and value (faults A6, C).
#[test]
fn a_number_has_no_sign_and_is_whole() {
    let whole = |what: &str, text: &str| format!("{what}: {text:?} is not a whole number from 0 to 4294967295");
    refused(
        "impair red --loss 5% --loss-burst 2.5",
        "--loss-burst: \"2.5\" is not a whole number from 1 to 4294967295",
    );
    refused("impair red --delay 1ms --seed +1", &whole("--seed", "+1"));
    refused("set port red --mac-limit +1", &whole("--mac-limit", "+1"));
    refused("set switch main --flap-moves x", &whole("--flap-moves", "x"));
    refused(
        "set port red --vlan +10",
        "--vlan: VLAN id \"+10\" is not a number from 1 to 4094, or all",
    );
    refused(
        "set port red --mtu +1400",
        "--mtu: MTU \"+1400\" is out of range; give a number from 68 to 65517 (bytes of layer-3 payload)",
    );
    refused(
        "acl add red in deny tcp to any port +22",
        "port \"red\": rule \"deny tcp to any port +22\": port \"+22\" is neither a number to 65535 nor a range such as \
         1000-1999; see `vswitchctl acl --help`",
    );
    refused(
        "add-port red --trunk +30",
        "port \"red\": it is no trunk, so that VLANs can't be added to it or taken away; give all of them, such as --trunk \
         10,20; nothing was changed",
    );
    refused("set switch main --rspan-vlans", "--rspan-vlans: it needs a value");
}

#[test]
fn wrong_usage_is_told_in_a_line() {
    let daemon = Replies::default().start();
    for arguments in [
        "add-port",
        "del-port",
        "set port red",
        "set switch main",
        "cable red",
        "ns exec red",
        "frob",
        "port frob",
        "add-port red --frob",
        "ns add red blue",
    ] {
        let ran = daemon.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments}: {ran:?}");
        assert!(
            ran.stderr.lines().count() == 1 && ran.stderr.starts_with("vswitchctl: "),
            "{arguments}: {ran:?}"
        );
    }
    let ran = daemon.run("");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            2,
            "vswitchctl: command line: it needs a command; see `vswitchctl --help`\n"
        )
    );
    let ran = daemon.run("port");
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (
            2,
            "vswitchctl: port: it needs a command; see `vswitchctl port --help`\n"
        )
    );
    assert_eq!(daemon.asked(), []);
}

#[test]
fn a_bad_lab_file_is_told_by_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[ports]]\nname = \"red\"\nmac = \"x\"\n").unwrap();
    let path = file.path().display();
    refused(
        &format!("apply {path}"),
        &format!("{path}:3:7: \"x\" is not a MAC address; write six hex pairs, such as 02:00:00:00:00:01"),
    );
    let missing = run(Path::new("/nowhere"), "apply /nowhere/lab.toml", "");
    assert_eq!(missing.code, 4);
    assert!(
        missing
            .stderr
            .starts_with("vswitchctl: lab file /nowhere/lab.toml: No such file"),
        "{missing:?}"
    );
}

#[test]
fn the_exit_code_tells_what_the_daemon_answered() {
    for (status, code, exit) in [
        (400, "invalid", 2),
        (403, "not-permitted", 6),
        (404, "not-found", 4),
        (409, "conflict", 5),
        (500, "kernel", 1),
        (500, "internal", 1),
    ] {
        let error = json!({"code": code, "object": "port \"red\"", "cause": "it is so", "hint": "do that"});
        let daemon = Replies::default()
            .status("GET /v1/ports/red", status, error.clone())
            .start();
        let ran = daemon.run("port show red");
        assert_eq!((ran.code, ran.stdout.as_str()), (exit, ""));
        assert_eq!(ran.stderr, "vswitchctl: port \"red\": it is so; do that\n");

        let ran = daemon.run("--json port show red");
        assert_eq!((ran.code, ran.stdout.as_str()), (exit, ""));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&ran.stderr).unwrap(), error);
    }
}

#[test]
fn what_is_not_the_api_is_told_so() {
    let daemon = Replies::default()
        .raw("GET /v1/status", 404, "text/plain", "no such page\n")
        .raw("GET /v1/lab", 200, "application/json", "{\"switches\": 3}")
        .start();
    let ran = daemon.run("status");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .starts_with("vswitchctl: request /v1/status: HTTP 404 Not Found no such page; are"),
        "{ran:?}"
    );
    let ran = daemon.run("export");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr
            .contains("request /v1/lab: this version does not know all of the lab"),
        "{ran:?}"
    );
}

#[test]
fn a_daemon_that_is_not_there_is_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let ran = run(&socket, "show", "");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    let start = format!(
        "vswitchctl: vswitchd at {}: there is no such socket; is vswitchd running?",
        socket.display()
    );
    assert!(ran.stderr.starts_with(&start), "{ran:?}");

    // As after a crash: the socket's file is there, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let ran = run(&socket, "show", "");
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr
            .contains("nobody listens on the socket; is vswitchd running?"),
        "{ran:?}"
    );

    let ran = run(&socket, "--json show", "");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&ran.stderr).unwrap()["code"],
        "unreachable"
    );
}

#[test]
fn a_socket_of_another_group_names_the_group() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can give a socket to another group and then be somebody else");
        return;
    }
    let daemon = Replies::default().start();
    let nobody = 65534;
    // `daemon` is group 1 on every Debian.
    std::os::unix::fs::chown(daemon.socket(), Some(0), Some(1)).unwrap();
    std::fs::set_permissions(daemon.socket(), PermissionsExt::from_mode(0o660)).unwrap();
    std::fs::set_permissions(daemon.socket().parent().unwrap(), PermissionsExt::from_mode(0o755)).unwrap();
    // The build directory may be out of nobody's reach.
    let copy = daemon.socket().with_file_name("vswitchctl");
    std::fs::copy(env!("CARGO_BIN_EXE_vswitchctl"), &copy).unwrap();
    let run = |command: &str| {
        std::os::unix::process::CommandExt::gid(
            std::os::unix::process::CommandExt::uid(&mut std::process::Command::new(&copy), nobody),
            nobody,
        )
        .arg("--socket")
        .arg(daemon.socket())
        .arg(command)
        .output()
        .unwrap()
    };
    // The daemon runs: to start it mends nothing.
    let doctor = String::from_utf8(run("doctor").stdout).unwrap();
    assert!(doctor.contains("permission denied"), "{doctor}");
    assert!(!doctor.contains("systemctl start vswitchd"), "{doctor}");
    let output = run("status");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("permission denied; the socket is for root and group daemon;"),
        "{stderr}"
    );
}

#[test]
fn a_connection_that_breaks_is_exit_code_3() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let ran = run(&socket, "add-port red", "");
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""));
    assert!(ran.stderr.contains("the connection broke"), "{ran:?}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
}

#[test]
fn one_port_that_is_not_there_does_not_keep_the_others() {
    let error = json!({"code": "not-found", "object": "port \"b\"", "cause": "it does not exist"});
    let daemon = Replies::default()
        .json("DELETE /v1/ports/a", json!({"done": ["removed port a"]}))
        .status("DELETE /v1/ports/b", 404, error)
        .json(
            "DELETE /v1/ports/c",
            json!({"done": ["removed port c"], "warnings": ["careful"]}),
        )
        .start();
    let ran = daemon.run("del-port a b c");
    assert_eq!((ran.code, ran.stdout.as_str()), (4, "removed port a\nremoved port c\n"));
    assert_eq!(
        ran.stderr,
        "vswitchctl: port \"b\": it does not exist\nwarning: careful\n"
    );
    let ran = daemon.run("del-port a b c --json");
    assert_eq!(
        ran.json(),
        json!({"done": ["removed port a", "removed port c"], "warnings": ["careful"]})
    );
}

#[test]
fn bad_input_is_json_for_programs() {
    let daemon = Replies::default().start();
    let error = |arguments| serde_json::from_str::<serde_json::Value>(&daemon.run(arguments).stderr).unwrap();
    let refused = error("--json add-port red --addr 10.0.0.1");
    assert_eq!(
        (&refused["code"], &refused["object"]),
        (&json!("invalid"), &json!("--addr"))
    );
    assert_eq!(error("--json frob")["cause"], "there is no command \"frob\"");
    assert_eq!(error("--json add-port red --type x")["object"], "--type");
}

#[test]
fn output_that_can_not_be_written_is_an_error() {
    let daemon = Replies::default().start();
    for line in ["addr flush red", "--help", "addr add --help", "--version"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = common::tool(&daemon.socket())
            .args(line.split(' '))
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "vswitchctl: standard output: No space left on device (os error 28)\n",
            "{line}"
        );
    }
}

/// What is accepted and then left out was not meant to be.
#[test]
fn what_belongs_to_a_trunk_is_not_said_of_another_port() {
    for (command, option, other) in [
        ("set port red", "--native 5", "--vlan 10"),
        ("set port red", "--native 5", "--vlan all"),
        ("set port red", "--native 5", "--tunnel 10"),
        ("set port red", "--tag service", "--vlan 10"),
        ("add-port red", "--native 5", "--vlan 10"),
        ("add-port red", "--tag service", "--tunnel 10"),
        ("link add main lab", "--native 5", "--vlan 10"),
        ("link set main-lab", "--native 5", "--vlan 10"),
    ] {
        let name = |text: &str| text.split(' ').next().unwrap().to_owned();
        let daemon = Replies::default().start();
        let ran = daemon.run(&format!("{command} {other} {option}"));
        let both = [name(option), name(other)];
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{command}: {ran:?}");
        assert!(both.iter().all(|one| ran.stderr.contains(one)), "{both:?}: {ran:?}");
        assert!(ran.stderr.contains("can't be said together"), "{ran:?}");
        assert!(ran.stderr.contains("--help"), "{ran:?}");
        assert_eq!(daemon.asked(), []);
    }
}

#[test]
fn a_word_for_all_classes_stands_alone() {
    let line = "port \"red\": --flood none says it of all classes, and others are named beside it; say that word alone, or the \
                classes alone, such as --flood broadcast,multicast; nothing was changed";
    refused("set port red --flood none,broadcast", line);
    refused("add-port red --flood broadcast,none", line);
}

/// As others do that list what belongs to something.
#[test]
fn a_list_of_what_is_not_there_is_an_error() {
    let not_found = |object: &str| json!({"code": "not-found", "object": object, "cause": "it is not there"});
    let daemon = Replies::default()
        .json("GET /v1/cables", json!([]))
        .status("GET /v1/namespaces/nope", 404, not_found("namespace \"nope\""))
        .json("GET /v1/namespaces", json!([]))
        .status("GET /v1/ports/nope", 404, not_found("port \"nope\""))
        .json("GET /v1/ports", json!([]))
        .start();
    for line in ["cable list nope", "fdb list --port nope", "fdb --port nope"] {
        let ran = daemon.run(line);
        assert_eq!((ran.code, ran.stdout.as_str()), (4, ""), "{line}: {ran:?}");
        assert!(ran.stderr.contains("\"nope\""), "{line}: {ran:?}");
    }
}

/// It was a panic.
#[test]
fn an_error_that_can_not_be_told_is_still_that_error() {
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&["nonsense"][..], &["--json", "nonsense"]] {
        let mut tool = tool(std::path::Path::new("/none"));
        let status = tool.args(arguments).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}");
    }
}

/// It runs: to start it mends nothing.
#[test]
fn a_user_without_a_role_is_not_told_to_start_the_daemon() {
    let error = json!({"code": "not-permitted", "object": "user nobody", "cause": "is in no group that may connect"});
    let daemon = Replies::default().status("GET /v1/status", 403, error).start();
    let ran = daemon.run("doctor");
    assert!(ran.stdout.contains("sudo vswitchctl doctor"), "{ran:?}");
    assert!(!ran.stdout.contains("systemctl"), "{ran:?}");
}
