//! The HTTP API on the control socket, without the control tool.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::{env, fs, io, thread};

use serde_json::{Value, json};
use vswitch_testing::api::policy::PortVlan;
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::http::{connect, request, send_raw};
use vswitch_testing::rich::rich;
use vswitch_testing::snapshot::Snapshot;
use vswitch_testing::{Lab, Station, wait_for};

#[test]
fn a_lab_can_be_made_with_nothing_but_http() {
    let lab = Lab::new();
    let red = json!({"name": "red", "namespace": "red", "addresses": ["10.7.0.1/24"]});
    let reply = request("POST", "/v1/ports", &red.to_string());
    assert_eq!(reply.status, 201, "{reply:?}");
    assert!(!reply.json()["done"].as_array().unwrap().is_empty());
    assert_eq!(request("GET", "/v1/ports/red", "").json()["state"], "up");
    assert_eq!(request("PATCH", "/v1/ports/red", r#"{"mtu": 1400}"#).status, 200);
    assert_eq!(request("GET", "/v1/ports/red", "").json()["mtu"], 1400);
    assert_eq!(request("DELETE", "/v1/ports/red", "").status, 200);
    assert_eq!(request("GET", "/v1/ports/red", "").status, 404);
    assert!(lab.ports().is_empty());
}

#[test]
fn malformed_requests_get_an_error_and_change_nothing() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.7.0.1/24");
    let before = Snapshot::of(&lab);
    let long_name = format!(r#"{{"name": "{}"}}"#, "x".repeat(300));
    let deep = "[".repeat(100_000);
    let huge = format!(r#"{{"name": "{}"}}"#, "x".repeat(4 << 20));
    let filter = format!(r#"{{"level": "info{}"}}"#, ",a=info".repeat(600));
    // Method, path, body, status, what the error names.
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        ("POST", "/v1/ports", "", 400, "body"),
        ("POST", "/v1/ports", "{", 400, "body"),
        ("POST", "/v1/ports", "null", 400, ""),
        ("POST", "/v1/ports", "[]", 400, ""),
        ("POST", "/v1/ports", "{}", 400, "name"),
        ("POST", "/v1/ports", r#"{"name": 5}"#, 400, ""),
        ("POST", "/v1/ports", r#"{"name": "a/b"}"#, 400, "a/b"),
        ("POST", "/v1/ports", r#"{"name": "p", "colour": 5}"#, 400, "colour"),
        ("POST", "/v1/ports", r#"{"name": "p", "mtu": -1}"#, 400, ""),
        ("POST", "/v1/ports", r#"{"name": "p", "mtu": 99999999999}"#, 400, ""),
        ("POST", "/v1/ports", r#"{"name": "p", "kind": "nosuch"}"#, 400, "nosuch"),
        ("POST", "/v1/ports", r#"{"name": "p", "mac": "zz"}"#, 400, "zz"),
        ("POST", "/v1/ports", r#"{"name": "p"} trailing"#, 400, ""),
        ("POST", "/v1/ports", "{\"name\": \"p\u{0}\"}", 400, ""),
        ("POST", "/v1/ports", &long_name, 400, "300 bytes"),
        ("POST", "/v1/ports", &deep, 400, ""),
        ("POST", "/v1/ports", &huge, 413, "larger than 1048576 bytes"),
        ("POST", "/v1/ports?nosuch=1", r#"{"name": "p"}"#, 400, "nosuch"),
        ("POST", "/v1/ports?dry_run=maybe", r#"{"name": "p"}"#, 400, ""),
        ("PUT", "/v1/lab", r#"{"ports": 5}"#, 400, ""),
        (
            "PATCH",
            "/v1/ports/red",
            r#"{"mtu": 1400, "mtu": 9000}"#,
            400,
            "duplicate field `mtu`",
        ),
        (
            "PATCH",
            "/v1/ports/red",
            r#"{"learning": {"limit": 1, "limit": 2}}"#,
            400,
            "duplicate field `limit`",
        ),
        ("PUT", "/v1/log", &filter, 400, "4096"),
        ("GET", "/v1/ports/nosuch", "", 404, "nosuch"),
        ("GET", "/v1/ports/a%2Fb", "", 400, "a/b"),
        ("GET", "/v1/ports/%ff", "", 400, ""),
        ("DELETE", "/v1/ports/nosuch", "", 404, "nosuch"),
        ("GET", "/v1/nosuch", "", 404, "/v1/nosuch"),
        ("GET", "/", "", 404, ""),
        ("DELETE", "/v1/status", "", 405, ""),
        ("POST", "/v1/ports", r#"{"name": "red"}"#, 409, "red"),
    ];
    for (method, path, body, status, word) in cases {
        let shown = &body[..body.len().min(80)];
        let reply = request(method, path, body);
        assert_eq!(reply.status, *status, "{method} {path} {shown}: {reply:?}");
        let error = reply.json();
        assert!(
            error["code"].is_string() && error["object"].is_string(),
            "{method} {path} {shown}: {error}"
        );
        assert!(
            error.to_string().contains(word),
            "{word} is not named: {method} {path} {shown}: {error}"
        );
        assert!(!error.to_string().contains("\\n"), "an error is one line: {error}");
    }
    before.assert_same(&Snapshot::of(&lab));
    assert!(lab.daemon().ended().is_none());
}

#[test]
fn bytes_that_are_no_http_do_not_disturb_the_daemon() {
    let mut lab = Lab::new();
    let files = lab.daemon().open_files();
    let cases: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\0\0\0\0".to_vec(),
        b"hello\r\n\r\n".to_vec(),
        b"GET".to_vec(),
        b"GET /v1/status HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /v1/status HTTP/1.1\r\n\r\n".to_vec(),
        b"POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n{".to_vec(),
        b"POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n".to_vec(),
        b"POST /v1/ports HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(10_000)).into_bytes(),
        noise(),
    ];
    for bytes in &cases {
        let reply = send_raw(bytes);
        assert!(reply.as_ref().is_none_or(|reply| reply.status < 500), "{reply:?}");
    }
    // Connections that say nothing, or stop half-way, hold nobody up.
    let mut idle: Vec<_> = (0..200).map(|_| connect()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /v1/sta").unwrap();
    }
    assert_eq!(request("GET", "/v1/status", "").status, 200);
    drop(idle);
    wait_for("the daemon to close them", || lab.daemon().open_files() <= files);
}

fn noise() -> Vec<u8> {
    vswitch_testing::transfer::Noise::new(5).next(1 << 16)
}

#[test]
fn the_openapi_document_names_every_route() {
    let _lab = Lab::new();
    let document = request("GET", "/v1/openapi.json", "").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for path in [
        "/v1/status",
        "/v1/lab",
        "/v1/reset",
        "/v1/events",
        "/v1/switches",
        "/v1/switches/{name}",
        "/v1/switches/{name}/fdb",
        "/v1/ports",
        "/v1/ports/{name}",
        "/v1/addresses",
        "/v1/ports/{name}/addresses",
        "/v1/ports/{name}/routes",
        "/v1/namespaces",
        "/v1/namespaces/{name}",
        "/v1/cables",
        "/v1/cables/{a}/{b}",
    ] {
        assert!(document["paths"][path].is_object(), "{path} is not described");
    }
    for schema in ["Port", "PortView", "Switch", "ApiError", "Changes", "Event"] {
        assert!(
            document["components"]["schemas"][schema].is_object(),
            "{schema} is not described"
        );
    }
}

#[test]
fn events_are_server_sent() {
    let lab = Lab::new();
    let mut stream = connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = |what: &str| loop {
        let line = lines.next().expect("the stream goes on").unwrap();
        if line.to_lowercase().contains(what) {
            return line;
        }
    };
    next("content-type: text/event-stream");
    lab.ok("switch add second");
    next("event: switch-added");
    let data = next("data:");
    assert!(data.contains("second"), "{data}");
}

/// What is told of a port that comes is of its switch as much as what is told later.
#[test]
fn events_of_a_new_port_are_those_of_its_switch() {
    let lab = Lab::new();
    let mut stream = connect();
    stream
        .write_all(b"GET /v1/events?switch=main HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut next = |what: &str| loop {
        let line = lines.next().expect("the stream goes on").unwrap();
        if line.contains(what) {
            return line;
        }
    };
    next("text/event-stream");
    lab.ok("add-port red --addr 10.7.0.1/24 --description first");
    for kind in ["event: port-added", "event: address-added"] {
        next(kind);
        let data = next("data:");
        assert!(data.contains("red") && data.contains("first"), "{data}");
    }
}

/// To add what is there already is fine if all that is said holds, be it the default, and whatever is not said.
#[test]
fn what_is_there_is_held_against_what_is_said() {
    let lab = Lab::new();
    lab.ok("switch add s1 --subnet 10.7.0.0/24 --gateway");
    lab.ok("add-port red --switch s1 --type tap");
    lab.ok("add-port mon --switch s1");
    lab.ok("mirror add m --switch s1 --from red --to mon --direction in");
    lab.ok("set switch s1 --ageing 60 loop_guard=off");
    lab.ok("set port red --down");
    for line in [
        "switch add s1 --if-not-exists",
        "switch add s1 --ageing 60 --if-not-exists",
        "add-port red --if-not-exists",
        "add-port red mon --if-not-exists",
        "add-port red --type tap --switch s1 --vlan all --if-not-exists",
        "mirror add m --to mon --if-not-exists",
    ] {
        assert_eq!(lab.ok(line), "", "{line}");
    }
    for (line, keys) in [
        ("switch add s1 --ageing 300 --if-not-exists", "other ageing_secs"),
        ("add-port red --type veth --if-not-exists", "other kind"),
        ("add-port red --switch main --if-not-exists", "other switch"),
        (
            "mirror add m --to mon --direction both --if-not-exists",
            "other direction",
        ),
    ] {
        lab.ctl(line).failed(5, &[keys]);
    }
    for (path, body, keys) in [
        ("ports", json!({"name": "red", "up": true}), "up"),
        ("ports", json!({"name": "red", "up": false, "mtu": null}), ""),
        (
            "switches",
            json!({"name": "s1", "loop_guard": true, "ageing_secs": 60}),
            "loop_guard",
        ),
        ("switches", json!({"name": "s1", "gateway": false}), "gateway"),
        ("switches", json!({"name": "s1", "loop_guard": false}), ""),
    ] {
        let reply = request("POST", &format!("/v1/{path}?idempotent"), &body.to_string());
        let cause = reply.json()["cause"].as_str().unwrap_or_default().to_owned();
        match keys {
            "" => assert_eq!(reply.status, 200, "{body}: {reply:?}"),
            keys => assert!(
                reply.status == 409 && cause.ends_with(&format!("other {keys}")),
                "{body}: {reply:?}"
            ),
        }
    }
}

/// As in a patch.
#[test]
fn null_says_that_the_default_holds() {
    let lab = Lab::new();
    let body =
        json!({"name": "red", "vlan": null, "mtu": null, "addresses": null, "acl": null, "learning": {"limit": null}});
    let reply = request("POST", "/v1/ports", &body.to_string());
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(lab.port("red").port.vlan, PortVlan::All);
    let reply = request(
        "POST",
        "/v1/switches",
        r#"{"name": "s1", "ageing_secs": null, "subnets": null}"#,
    );
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(request("POST", "/v1/ports", r#"{"name": null}"#).status, 400);
}

#[test]
fn a_reader_of_events_that_is_too_slow_is_told_how_many_it_missed() {
    let lab = Lab::new();
    let red = Station::add(&lab, "red", PortKind::Tap, 1);
    red.silence();
    let mut stream = connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("text/event-stream")));
    // More than socket, server and backlog hold together: 16,000 times some 100 bytes.
    let socket = red.raw(false);
    let stations = 16_000;
    for n in 0..stations {
        socket.send(&probe(Mac::BROADCAST, mac(1, n), n));
    }
    wait_for("all stations to be known", || {
        lab.switch("main").fdb_entries >= stations
    });
    let (mut learned, mut missed, mut seq) = (0, 0, 0);
    for line in lines.filter(|line| line.starts_with("data:")) {
        let event: Value = serde_json::from_str(&line["data:".len()..]).unwrap();
        seq = event["seq"].as_u64().unwrap();
        match event["kind"].as_str().unwrap() {
            "fdb-learned" => learned += 1,
            "missed" => missed += event["count"].as_u64().unwrap(),
            // That it was silenced.
            "port-changed" => {}
            other => panic!("{other}: {event}"),
        }
        if learned + missed >= u64::from(stations) {
            break;
        }
    }
    assert!(missed > 0, "{learned} of {stations} seen, none missed");
    assert!(seq >= learned + missed, "{seq}: {learned} seen, {missed} missed");
}

#[test]
fn the_socket_is_open_to_its_group_alone() {
    let _lab = Lab::new();
    let mode = std::fs::metadata("/run/vswitch/control.sock")
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn many_clients_at_once_are_all_served() {
    let lab = Lab::new();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let lab = &lab;
            scope.spawn(move || {
                lab.ok(&format!("add-port p{n}"));
                assert_eq!(lab.port(&format!("p{n}")).port.name.as_str(), format!("p{n}"));
                lab.ok(&format!("del-port p{n}"));
            });
        }
    });
    assert!(lab.ports().is_empty());
}

/// A body that says `dry_run` where nothing reads it: the change was made.
#[test]
fn a_body_that_a_route_does_not_take_is_refused() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let before = lab.ok("export");
    let routes = [
        ("POST", "/v1/reset"),
        ("DELETE", "/v1/ports/red"),
        ("DELETE", "/v1/namespaces/red"),
        ("DELETE", "/v1/switches/main/fdb"),
        ("GET", "/v1/ports"),
    ];
    for (method, path) in routes {
        for body in [r#"{"dry_run": true}"#, "[]", "x"] {
            let reply = request(method, path, body);
            assert_eq!(reply.status, 400, "{method} {path} {body}: {reply:?}");
            assert!(reply.json().to_string().contains("body"), "{reply:?}");
        }
    }
    assert_eq!(lab.ok("export"), before);
    assert_eq!(request("POST", "/v1/reset?dry_run", "").status, 200);
    assert_eq!(lab.ok("export"), before);
}

/// The control socket as a port of this lab's, for tools that know no unix sockets.
fn over_tcp() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let join = |client: TcpStream| {
        let Ok(daemon) = UnixStream::connect(vswitch_testing::api::DEFAULT_SOCKET) else {
            return;
        };
        let (mut requests, mut to_daemon) = (client.try_clone().unwrap(), daemon.try_clone().unwrap());
        let (mut answers, mut to_client) = (daemon, client);
        thread::spawn(move || {
            let _ = io::copy(&mut requests, &mut to_daemon);
            let _ = to_daemon.shutdown(Shutdown::Write);
        });
        let _ = io::copy(&mut answers, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    };
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || join(client));
        }
    });
    address
}

/// `cargo xtask api-check`: schemathesis asks what the document allows, and what it forbids, and never gets an error of the server; a
/// client that openapi-python-client makes of the document reads and writes.
#[test]
#[ignore = "its tools come from PyPI: cargo xtask api-check"]
fn the_api_is_used_by_others_tools() {
    let mut lab = rich();
    let tools = PathBuf::from(env::var_os("API_TOOLS").expect("the folder of the tools"));
    let seconds: u64 = env::var("API_SECONDS").map_or(60, |text| text.parse().unwrap());
    let url = format!("http://{}", over_tcp());
    let mut generate = Command::new(tools.join("openapi-python-client"));
    generate
        .args(["generate", "--meta", "none", "--url"])
        .arg(format!("{url}/v1/openapi.json"));
    let made = generate
        .arg("--output-path")
        .arg(lab.scratch().join("client"))
        .output()
        .unwrap();
    let told = [made.stdout, made.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    // Of streams it says that it has no function for them.
    assert!(made.status.success(), "{}\n{}", told[0], told[1]);
    let mut script = Command::new(tools.join("python"));
    script
        .args(["-c", include_str!("use_client.py"), &url])
        .current_dir(lab.scratch());
    let ran = script.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(request("GET", "/v1/ports/generated", "").json()["mtu"], 1400);

    // Streams never end, what runs commands in namespaces is left alone, and a restart ends the connections of all others.
    let mut ask = Command::new(tools.join("schemathesis"));
    ask.arg("run")
        .arg(format!("{url}/v1/openapi.json"))
        .args(["--url", &url]);
    ask.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    ask.args([
        "--exclude-path-regex",
        "^/v1/(events|restart|ports/.*/(capture|trace)|processes/.*/log)$",
    ]);
    ask.args([
        "--max-time",
        &seconds.to_string(),
        "--request-timeout",
        "30",
        "--no-color",
    ]);
    let found = ask.current_dir(lab.scratch()).output().unwrap();
    let told = String::from_utf8_lossy(&found.stdout).into_owned();
    println!("{told}");
    assert!(
        found.status.success(),
        "{told}\n{}",
        String::from_utf8_lossy(&found.stderr)
    );
    assert!(lab.daemon().ended().is_none());
}

/// `cargo xtask api-check`: a client of another maker, swagger-typescript-api, in another language.
#[test]
#[ignore = "its tools come from npm: cargo xtask api-check"]
fn the_api_is_used_from_javascript() {
    let lab = rich();
    let url = format!("http://{}", over_tcp());
    let generator = PathBuf::from(env::var_os("API_GENERATOR").expect("swagger-typescript-api"));
    let folder = lab.scratch().join("javascript");
    let document = request("GET", "/v1/openapi.json", "").body;
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("openapi.json"), document).unwrap();
    fs::write(folder.join("package.json"), r#"{"type": "module"}"#).unwrap();
    fs::write(folder.join("use_client.mjs"), include_str!("use_client.mjs")).unwrap();
    let run = |command: &mut Command| {
        let output = command.current_dir(&folder).output().unwrap();
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{}\n{}", told[0], told[1]);
    };
    let words = "generate --path openapi.json --output . --js --name client.js";
    run(Command::new(generator).args(words.split(' ')));
    run(Command::new("node").args(["use_client.mjs", "./client.js", &url]));
    assert_eq!(request("GET", "/v1/ports/scripted", "").json()["mtu"], 1400);
}
