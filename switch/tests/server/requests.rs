//! Requests over the control socket.

use std::io::{BufRead, BufReader};

use crate::daemon::{Answer, Daemon, Place, wait_for};

const PORT: &str = r#"{"name":"red","addresses":["192.168.15.1/24"]}"#;

/// The error is in the form of the API, with this status, and its text has these words.
fn assert_invalid(answer: &Answer, status: u16, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.body);
    let error = answer.json();
    assert_eq!(error["code"], "invalid", "{error}");
    for word in words {
        assert!(answer.body.contains(word), "{word:?} is not in {error}");
    }
}

#[test]
fn what_is_malformed_is_answered_by_an_error_that_helps() {
    let daemon = Daemon::start();
    let cases: &[(&str, &str, &str, u16, &[&str])] = &[
        (
            "POST",
            "/v1/ports",
            "",
            400,
            &["request body", "empty", "/v1/openapi.json"],
        ),
        ("POST", "/v1/ports", "{\"name\":", 400, &["EOF", "line 1 column 8"]),
        ("POST", "/v1/ports", "[]", 400, &["request body"]),
        ("POST", "/v1/ports", "{}", 400, &["missing field `name`"]),
        ("POST", "/v1/ports", "\u{0}\u{1}", 400, &["request body"]),
        (
            "POST",
            "/v1/ports",
            r#"{"name":"red","colour":3}"#,
            400,
            &["colour", "unknown field"],
        ),
        ("POST", "/v1/ports", r#"{"name":"red"} x"#, 400, &["trailing"]),
        (
            "POST",
            "/v1/ports",
            r#"{"name":"sixteen-bytes-xx"}"#,
            400,
            &["name", "16 bytes, at most 15"],
        ),
        (
            "POST",
            "/v1/ports",
            r#"{"name":"red","addresses":["10.0.0.1"]}"#,
            400,
            &["addresses[0]", "try 10.0.0.1/24"],
        ),
        ("POST", "/v1/ports?dryrun", PORT, 400, &["query", "dryrun", "dry_run"]),
        ("POST", "/v1/ports?dry_run=maybe", PORT, 400, &["query", "dry_run"]),
        (
            "DELETE",
            "/v1/switches/main/fdb?mac=02:00",
            "",
            400,
            &["query", "mac", "six hex pairs"],
        ),
        (
            "DELETE",
            "/v1/ports/red/routes",
            "",
            400,
            &["query", "missing field `to`"],
        ),
        ("GET", "/v1/ports/sixteen-bytes-xx", "", 400, &["path", "at most 15"]),
        ("GET", "/v1/ports/a%2Fb", "", 400, &["path", "'/'"]),
        ("DELETE", "/v1/cables/red/b%20c", "", 400, &["path", "' '"]),
        (
            "GET",
            "/v1/port",
            "",
            404,
            &["/v1/port", "no such route", "/v1/openapi.json"],
        ),
        ("GET", "/v1/ports/", "", 404, &["no such route"]),
        ("PUT", "/v1/ports", PORT, 405, &["does not take PUT"]),
        ("BREW", "/v1/status", "", 405, &["does not take BREW"]),
    ];
    for (method, path, body, status, words) in cases {
        assert_invalid(&daemon.request(method, path, body), *status, words);
    }
    let answer = daemon.request("PUT", "/v1/ports", PORT);
    assert!(answer.head.contains("allow: get,head,post"), "{}", answer.head);
    assert_eq!(
        daemon.get("/v1/ports").as_array().unwrap().len(),
        0,
        "a bad request changed something"
    );
}

#[test]
fn a_body_over_one_mebibyte_is_refused_but_for_a_lab() {
    let daemon = Daemon::start();
    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(1 << 20));
    assert_invalid(
        &daemon.request("POST", "/v1/ports", &body),
        413,
        &["larger than 1048576 bytes"],
    );
    let just_fits = format!("{}{PORT}", " ".repeat((1 << 20) - PORT.len()));
    assert_eq!(daemon.request("POST", "/v1/ports?dry_run", &just_fits).status, 200);
    let lab = format!("{}{{}}", " ".repeat((32 << 20) - 2));
    assert_eq!(daemon.request("PUT", "/v1/lab?dry_run", &lab).status, 200);
    assert_invalid(
        &daemon.request("PUT", "/v1/lab?dry_run", &format!(" {lab}")),
        413,
        &["larger than 33554432 bytes"],
    );
}

#[test]
fn status_and_document_are_served() {
    let daemon = Daemon::start();
    let status = daemon.get("/v1/status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert!(status["workers"].as_u64().unwrap() >= 1);
    let document = daemon.get("/v1/openapi.json");
    let kept: serde_json::Value = serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    assert_eq!(document, kept);
}

#[test]
fn a_port_comes_and_goes_and_every_view_shows_it() {
    let daemon = Daemon::start();
    let dry = daemon.request("POST", "/v1/ports?dry_run", PORT);
    assert_eq!(dry.status, 200, "{}", dry.body);
    assert_eq!(daemon.get("/v1/ports").as_array().unwrap().len(), 0);

    let added = daemon.request("POST", "/v1/ports", PORT);
    assert_eq!(added.status, 201, "{}", added.body);
    assert!(!added.json()["done"].as_array().unwrap().is_empty());
    assert_eq!(daemon.request("POST", "/v1/ports", PORT).status, 409);
    assert_eq!(daemon.request("POST", "/v1/ports?idempotent", PORT).status, 200);

    assert_eq!(daemon.get("/v1/ports/red")["ifname"], "eth0");
    assert_eq!(daemon.get("/v1/ports?switch=main")[0]["name"], "red");
    assert_eq!(daemon.get("/v1/switches/main")["ports"][0], "red");
    assert_eq!(daemon.get("/v1/addresses")[0]["address"], "192.168.15.1/24");
    assert_eq!(daemon.get("/v1/lab")["ports"][0]["name"], "red");
    assert_eq!(daemon.get("/v1/namespaces/red")["ports"][0], "red");
    let metrics = daemon.request("GET", "/metrics", "").body;
    assert!(
        metrics.contains("vswitch_port_receive_frames_total{switch=\"main\",port=\"red\"}"),
        "{metrics}"
    );

    assert_eq!(daemon.request("DELETE", "/v1/ports/red", "").status, 200);
    assert_eq!(daemon.request("DELETE", "/v1/ports/red", "").status, 404);
    assert_eq!(daemon.request("DELETE", "/v1/ports/red?idempotent", "").status, 200);
    assert_eq!(daemon.request("GET", "/v1/ports/red", "").status, 404);
    assert_eq!(daemon.get("/v1/namespaces").as_array().unwrap().len(), 0);
}

#[test]
fn the_other_routes_reach_their_objects() {
    let daemon = Daemon::start();
    let ok = |method: &str, path: &str, body: &str| {
        let answer = daemon.request(method, path, body);
        assert!([200, 201].contains(&answer.status), "{method} {path}: {}", answer.body);
    };
    ok("POST", "/v1/switches", r#"{"name":"lab"}"#);
    ok("PATCH", "/v1/switches/lab", r#"{"ageing_secs":17}"#);
    assert_eq!(daemon.get("/v1/switches/lab")["ageing_secs"], 17);
    ok("POST", "/v1/ports", r#"{"name":"red","switch":"lab"}"#);
    ok("PATCH", "/v1/ports/red", r#"{"mtu":1400}"#);
    assert_eq!(daemon.get("/v1/ports/red")["mtu"], 1400);
    ok("POST", "/v1/ports/red/addresses", r#"{"address":"10.9.0.1/24"}"#);
    ok(
        "POST",
        "/v1/ports/red/routes",
        r#"{"to":"10.8.0.0/16","via":"10.9.0.2"}"#,
    );
    assert_eq!(daemon.get("/v1/ports/red")["routes"][0]["to"], "10.8.0.0/16");
    ok("DELETE", "/v1/ports/red/routes?to=10.8.0.0/16", "");
    ok("DELETE", "/v1/ports/red/addresses?address=10.9.0.1/24", "");
    assert_eq!(daemon.get("/v1/addresses?switch=lab").as_array().unwrap().len(), 0);
    ok(
        "PUT",
        "/v1/switches/lab/fdb",
        r#"{"mac":"02:00:00:00:00:01","port":"red"}"#,
    );
    assert_eq!(daemon.get("/v1/switches/lab/fdb")[0]["static"], true);
    ok("DELETE", "/v1/switches/lab/fdb?mac=02:00:00:00:00:01", "");
    ok("POST", "/v1/namespaces", r#"{"name":"blue"}"#);
    ok(
        "POST",
        "/v1/cables",
        r#"{"a":{"namespace":"blue"},"b":{"namespace":"green"}}"#,
    );
    assert_eq!(daemon.get("/v1/cables")[0]["a"]["namespace"], "blue");
    ok("DELETE", "/v1/cables/blue/green", "");
    ok("DELETE", "/v1/namespaces/blue", "");
    ok("DELETE", "/v1/ports/red", "");
    ok("DELETE", "/v1/switches/lab", "");

    ok("PUT", "/v1/lab", r#"{"ports":[{"name":"pink"}]}"#);
    assert_eq!(daemon.get("/v1/lab")["ports"][0]["name"], "pink");
    ok("POST", "/v1/reset", "");
    assert_eq!(daemon.get("/v1/lab")["ports"].as_array().unwrap().len(), 0);
}

#[test]
fn an_edit_is_finished_when_its_client_goes_away() {
    // More than are taken together: an edit ends between two lots at the earliest.
    const PORTS: usize = 400;
    let place = Place::new();
    let netns = place.path("netns");
    std::fs::create_dir(&netns).unwrap();
    std::fs::write(place.path("config.toml"), format!("[daemon]\nnetns_dir = {netns:?}\n")).unwrap();
    let daemon = Daemon::start_in(place, |_| {});
    let made = || std::fs::read_dir(&netns).unwrap().count();

    let ports: Vec<_> = (1..=PORTS)
        .map(|n| {
            format!(
                r#"{{"name":"p{n}","addresses":["10.0.{}.{}/16"]}}"#,
                n / 250,
                n % 250 + 1
            )
        })
        .collect();
    let request = daemon.send("PUT", "/v1/lab", &format!(r#"{{"ports":[{}]}}"#, ports.join(",")));
    wait_for("the edit begins", || made() > 0);
    drop(request);
    assert!(made() < PORTS, "the edit was over before its client went away");

    wait_for("all ports carry frames", || {
        let ports = daemon.get("/v1/ports");
        let up = ports.as_array().unwrap().iter().filter(|port| port["state"] == "up");
        up.count() == PORTS
    });
}

#[test]
fn events_are_streamed_under_their_names() {
    let daemon = Daemon::start();
    let mut stream = BufReader::new(daemon.send("GET", "/v1/events", ""));
    // Comments keep the stream alive, so that the reader's time limit never strikes.
    let read_until = |stream: &mut BufReader<_>, start: &str| {
        let mut line = String::new();
        wait_for(start, || {
            line.clear();
            stream.read_line(&mut line).unwrap();
            line.starts_with(start)
        });
        line.split_off(start.len()).trim_end().to_owned()
    };
    assert_eq!(read_until(&mut stream, "content-type: "), "text/event-stream");
    assert_eq!(daemon.request("POST", "/v1/switches", r#"{"name":"lab"}"#).status, 201);
    assert_eq!(read_until(&mut stream, "event: "), "switch-added");
    let event: vswitch_api::Event = serde_json::from_str(&read_until(&mut stream, "data: ")).unwrap();
    assert_eq!(
        event.kind,
        vswitch_api::EventKind::SwitchAdded {
            switch: "lab".parse().unwrap()
        }
    );
}
