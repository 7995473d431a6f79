//! Who may do what by the control socket.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::Value;
use vswitch_testing::http::{Response, request, request_as};
use vswitch_testing::{Lab, wait_for};

/// Numbers that no group of a machine has.
const ADMINS: u32 = 4_000_042;
const READERS: u32 = 4_000_043;
const OTHERS: u32 = 4_000_044;
const ALICE: u32 = 4_001_000;

fn lab(config: &str) -> Lab {
    let mut lab = Lab::without_daemon();
    lab.add_config(&format!("[daemon]\nsocket_group = \"{ADMINS}\"\n{config}\n"));
    lab.start();
    lab
}

fn with_readers() -> Lab {
    lab(&format!("read_group = \"{READERS}\""))
}

/// All routes of the document, with something in the place of each name, and the role that they say they need.
fn routes() -> Vec<(String, String, String)> {
    let document = request("GET", "/v1/openapi.json", "").json();
    let mut routes = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.split('/').map(|part| match part {
            "{id}" => "1",
            part if part.starts_with('{') => "x",
            part => part,
        });
        let path = path.collect::<Vec<_>>().join("/");
        for (method, operation) in operations.as_object().unwrap() {
            let role = operation["x-role"].as_str().unwrap_or_default().to_owned();
            routes.push((method.to_uppercase(), path.clone(), role));
        }
    }
    assert!(routes.len() > 40, "{routes:?}");
    routes
}

fn is_refused_for_its_role(reply: &Response) -> bool {
    reply.status == 403 && reply.json()["cause"].as_str().unwrap().starts_with("it needs the role")
}

#[test]
fn a_reader_gets_what_changes_nothing_and_shows_no_frames() {
    let mut lab = with_readers();
    lab.ok("add-port red --addr 10.0.0.1/24");
    let before = lab.ok("export");
    for (method, path, role) in routes() {
        let reply = request_as(ALICE, &[OTHERS, READERS], &method, &path, "{}");
        match role.as_str() {
            "read-only" => assert!(!is_refused_for_its_role(&reply), "{method} {path}: {reply:?}"),
            "admin" => assert!(is_refused_for_its_role(&reply), "{method} {path}: {reply:?}"),
            other => panic!("{method} {path} has the role {other:?}"),
        }
        let changes = method != "GET" && !path.ends_with("/trace");
        // What a command wrote; `/v1/log` is the level of the daemon's own.
        let shows = ["/capture", "/log", "/trace"].iter().any(|end| path.ends_with(end)) && method == "GET";
        let shows = shows && path != "/v1/log";
        assert_eq!(role == "admin", changes || shows, "{method} {path}");
    }
    // Nor by a dry run, a head without a body, or a route that is in no document.
    for (method, path) in [
        ("PATCH", "/v1/ports/red?dry_run"),
        ("HEAD", "/v1/ports/red/capture"),
        ("POST", "/v1/openapi.json"),
        ("POST", "/v1/nosuch"),
    ] {
        let reply = request_as(ALICE, &[READERS], method, path, "");
        assert_eq!(reply.status, 403, "{method} {path}: {reply:?}");
    }
    assert_eq!(lab.ok("export"), before);

    let status = request_as(ALICE, &[READERS], "GET", "/v1/status", "").json();
    assert_eq!(status["role"], "read-only");
    let reply = request_as(ALICE, &[READERS], "DELETE", "/v1/ports/red", "");
    let error = reply.json();
    assert_eq!(error["code"], "not-permitted");
    assert_eq!(error["object"], "DELETE /v1/ports/red");
    let (cause, hint) = (error["cause"].as_str().unwrap(), error["hint"].as_str().unwrap());
    for word in [&ALICE.to_string(), "role admin", "role read-only", &READERS.to_string()] {
        assert!(cause.contains(word), "{word}: {cause}");
    }
    assert!(hint.contains(&format!("usermod -aG {ADMINS}")), "{hint}");
    let log = lab.daemon().log();
    let refused = log
        .lines()
        .find(|line| line.contains("INFO") && line.contains("result=\"refused\""));
    assert!(
        refused.is_some_and(|line| line.contains(&format!("uid={ALICE}"))),
        "{log}"
    );
}

#[test]
fn who_is_in_no_group_gets_nothing_and_an_administrator_all_routes() {
    let lab = with_readers();
    let socket = std::fs::metadata("/run/vswitch/control.sock").unwrap();
    assert_eq!((socket.permissions().mode() & 0o777, socket.gid()), (0o666, ADMINS));
    for (method, path, _) in routes() {
        let reply = request_as(ALICE, &[OTHERS], &method, &path, "{}");
        assert!(is_refused_for_its_role(&reply), "{method} {path}: {reply:?}");
        let query = if method == "GET" { "" } else { "?dry_run" };
        let reply = request_as(ALICE, &[ADMINS], &method, &format!("{path}{query}"), "{}");
        assert_ne!(reply.status, 403, "{method} {path}: {reply:?}");
    }
    assert_eq!(request_as(ALICE, &[OTHERS], "GET", "/v1/openapi.json", "").status, 403);
    // Root goes on.
    lab.ok("show");
}

const COMMAND: &str = r#"{"name": "sleep", "namespace": "red", "argv": ["sleep", "1000"]}"#;

/// The lab with a command in place of its commands, or with other settings of namespace red.
fn changed(part: &str, value: &str) -> String {
    let mut lab = request("GET", "/v1/lab", "").json();
    lab[part] = serde_json::from_str(value).unwrap();
    lab.to_string()
}

/// The socket's group was as good as root: who could write to it had anything run by root.
#[test]
fn commands_are_for_root_unless_the_configuration_says_otherwise() {
    let mut lab = lab("");
    lab.ok("add-port red --addr 10.0.0.1/24");
    let (with_command, with_file) = (
        changed("commands", &format!("[{COMMAND}]")),
        changed(
            "namespaces",
            r#"[{"name": "red", "files": {"ld.so.preload": "/tmp/evil.so"}}]"#,
        ),
    );
    let admin = |method: &str, path: &str, body: &str| request_as(ALICE, &[ADMINS], method, path, body);
    assert_eq!(admin("GET", "/v1/status", "").json()["role"], "admin");
    for (body, object) in [(&with_command, "command \"sleep\""), (&with_file, "file ld.so.preload")] {
        for path in ["/v1/lab", "/v1/lab?dry_run"] {
            let reply = admin("PUT", path, body);
            assert_eq!(reply.status, 403, "{path} {reply:?}");
            let error = reply.json();
            assert!(error["object"].as_str().unwrap().starts_with(object), "{error}");
            assert!(
                error["hint"].as_str().unwrap().contains("commands = \"group\""),
                "{error}"
            );
        }
    }
    let processes = || request("GET", "/v1/processes", "").json();
    assert_eq!(processes(), Value::Array(Vec::new()));
    // Root has it run; the administrator may change all else of that lab, and end it.
    assert_eq!(request("PUT", "/v1/lab", &with_command).status, 200);
    wait_for("the command to run", || processes()[0]["state"] == "running");
    assert_eq!(admin("PATCH", "/v1/ports/red", r#"{"mtu": 1400}"#).status, 200);
    let without = changed("commands", "[]");
    assert_eq!(admin("PUT", "/v1/lab", &without).status, 200);
    assert_eq!(processes(), Value::Array(Vec::new()));

    lab.stop_daemon();
    lab.add_config("commands = \"group\"\n");
    lab.start();
    let reply = admin("PUT", "/v1/lab", &with_command);
    assert_eq!(reply.status, 200, "{reply:?}");
    wait_for("the command to run", || processes()[0]["state"] == "running");
}
