//! Edits that add up: what is tried changes nothing, what is made at the same time all counts, and a lab is the same after it was
//! exported and applied.

mod moved;
mod together;

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};
use vswitch_testing::Lab;
use vswitch_testing::http::{Response, request, request_with};
use vswitch_testing::rich::{rich, wanted};
use vswitch_testing::snapshot::Snapshot;

fn document() -> Value {
    request("GET", "/v1/openapi.json", "").json()
}

/// The rich lab, joined to one switch more.
#[track_caller]
fn joined() -> Lab {
    let lab = rich();
    lab.ok("switch add far");
    lab.ok("link add main far");
    lab.ok("command add web --ns red -- sleep 100000");
    lab
}

/// Path of a route with names of that lab in it.
fn filled(path: &str) -> String {
    let kind = path.split('/').nth(2).unwrap_or_default();
    let name = match kind {
        "switches" => "side",
        "ports" => "red",
        "namespaces" => "spare",
        "mirrors" => "m",
        "commands" | "processes" => "web",
        _ => "red",
    };
    path.replace("{name}", name)
        .replace("{a}", "red")
        .replace("{b}", "spare")
        .replace("{id}", "1")
        .replace("{port}", "main-far")
}

/// All routes of the document, as method and path.
fn routes(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, operations)| {
        let methods = operations.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase(), path.clone()))
    });
    routes.collect()
}

/// An edit for each route that edits: what it changes if nobody holds it back.
fn an_edit(method: &str, path: &str) -> Option<(String, String)> {
    let named = |query: &str, body: Value| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        Some((format!("{}{query}", filled(path)), body))
    };
    match (method, path) {
        ("PUT", "/v1/lab") => named("", json!({})),
        ("POST", "/v1/reset") => named("", Value::Null),
        ("POST", "/v1/switches") => named("", json!({"name": "third"})),
        ("PATCH", "/v1/switches/{name}") => named("", json!({"ageing_secs": 7})),
        ("DELETE", "/v1/switches/{name}") => Some(("/v1/switches/empty".into(), String::new())),
        ("PUT", "/v1/switches/{name}/fdb") => {
            let entry = json!({"mac": "02:00:00:00:00:bb", "port": "host"});
            named("", entry)
        }
        ("DELETE", "/v1/switches/{name}/fdb") => Some((
            "/v1/switches/main/fdb?mac=02:00:00:00:00:aa&vlan=10".into(),
            String::new(),
        )),
        ("POST", "/v1/mirrors") => named("", json!({"name": "n", "ports": ["blue"], "to": "mon"})),
        ("PATCH", "/v1/mirrors/{name}") => named("", json!({"direction": "tx"})),
        ("POST", "/v1/ports") => named("", json!({"name": "new"})),
        ("PATCH", "/v1/ports/{name}") => named("", json!({"mtu": 1300})),
        ("POST", "/v1/ports/{name}/acl") => named("", json!({"direction": "in", "rule": "deny arp"})),
        ("POST", "/v1/ports/{name}/addresses") => named("", json!({"address": "10.0.0.9/24"})),
        ("POST", "/v1/ports/{name}/routes") => named("", json!({"to": "10.77.0.0/16"})),
        ("DELETE", "/v1/ports/{name}/routes") => named("?to=10.9.0.0/16", Value::Null),
        ("POST", "/v1/namespaces") => named("", json!({"name": "more"})),
        ("PATCH", "/v1/namespaces/{name}") => named("", json!({"sysctls": {"net.ipv4.ip_forward": 1}})),
        ("DELETE", "/v1/namespaces/{name}") => Some(("/v1/namespaces/lone".into(), String::new())),
        ("POST", "/v1/cables") => named("", json!({"a": {"namespace": "red"}, "b": {"namespace": "blue"}})),
        ("PATCH", "/v1/cables/{a}/{b}") => named("?ifname_b=wan0", json!({"mtu": 1400})),
        ("DELETE", "/v1/cables/{a}/{b}") => named("?ifname_b=wan0", Value::Null),
        ("POST", "/v1/links") => named("", json!({"a": "main", "b": "far"})),
        ("PATCH", "/v1/links/{port}") => named("", json!({"mtu": 1300})),
        ("POST", "/v1/commands") => named(
            "",
            json!({"name": "ssh", "namespace": "red", "argv": ["sleep", "100000"]}),
        ),
        ("POST", "/v1/commands/{name}/restart") => named("", Value::Null),
        ("POST", "/v1/lab/ports") => named("", json!({"ports": [{"name": "new"}, {"name": "newer"}]})),
        // None of the lab's.
        ("PUT", "/v1/log") | ("POST", "/v1/restart") => None,
        ("DELETE", "/v1/captures/{id}") | ("POST", "/v1/ports/{name}/trace") => None,
        ("DELETE", _) => named("", Value::Null),
        ("GET", _) => None,
        _ => panic!("{method} {path} is new: say what it is to be tried with"),
    }
}

fn with_query(path: &str, query: &str) -> String {
    format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' })
}

/// A field of the head.
#[track_caller]
fn field(answer: &Response, wanted: &str) -> String {
    let line = answer.head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    });
    line.unwrap_or_else(|| panic!("no {wanted}: {answer:?}"))
}

/// What an edit answers is what the document says, and tells programs what its lines tell people.
#[track_caller]
fn check_twins(document: &Value, answer: &Response, makes: bool) {
    let body = answer.json();
    let mut schema = json!({"$ref": "#/components/schemas/Changes"});
    schema["components"] = document["components"].clone();
    assert!(jsonschema::is_valid(&schema, &body), "{body}");
    let changes = body["changes"].as_array().unwrap_or_else(|| panic!("no twins: {body}"));
    if makes {
        let path = field(answer, "location");
        let name = path.rsplit_once('/').unwrap().1;
        let made = changes.iter().find(|change| {
            let change_name = change["name"].as_str().unwrap();
            change["action"] == "added" && change_name.ends_with(name)
        });
        assert!(made.unwrap()["after"].is_object(), "{body}");
        assert_eq!(request("GET", &path, "").status, 200, "{path}");
    }
}

/// `PATCH /v1/ports/red?dry_run` made the change, as did POST of addresses and routes and PUT of FDB entries.
#[test]
fn a_dry_run_changes_nothing_whatever_the_route() {
    let lab = joined();
    lab.ok("switch add empty");
    lab.ok("ns add lone");
    let before = (Snapshot::of(&lab), wanted());
    for (method, path) in routes(&document()) {
        let Some((path, body)) = an_edit(&method, &path) else {
            continue;
        };
        let answer = request(&method, &with_query(&path, "dry_run"), &body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        let done = answer.json()["done"].as_array().map_or(0, Vec::len);
        assert!(done > 0, "{method} {path} says nothing of what it would do: {answer:?}");
        assert_eq!(wanted(), before.1, "{method} {path} changed the lab in a dry run");
    }
    before.0.assert_same(&Snapshot::of(&lab));
    // The same for real, so that the test tries what changes something.
    let document = document();
    for (method, path) in routes(&document) {
        let Some((path, body)) = an_edit(&method, &path) else {
            continue;
        };
        // A restart leaves the lab as it is.
        if ["/v1/reset", "/v1/lab", "/v1/commands/web/restart"].contains(&path.as_str()) {
            continue;
        }
        let lab_before = wanted();
        let answer = request(&method, &path, &body);
        let collections = [
            "switches",
            "mirrors",
            "ports",
            "lab/ports",
            "namespaces",
            "cables",
            "links",
            "commands",
        ];
        let makes = method == "POST" && collections.iter().any(|one| path == format!("/v1/{one}"));
        assert_eq!(
            answer.status,
            if makes { 201 } else { 200 },
            "{method} {path}: {answer:?}"
        );
        check_twins(&document, &answer, makes);
        assert_ne!(wanted(), lab_before, "{method} {path} changed nothing");
        let back = request("PUT", "/v1/lab", &serde_json::to_string(&lab_before).unwrap());
        assert_eq!(back.status, 200, "{method} {path}: {back:?}");
    }
}

/// A typing error in `dry_run` made the change.
#[test]
fn a_query_that_a_route_does_not_know_is_an_error_on_every_route() {
    let lab = joined();
    let before = wanted();
    let mut routes = routes(&document());
    routes.push(("GET".into(), "/v1/openapi.json".into()));
    for (method, path) in routes {
        let (path, body) = an_edit(&method, &path).unwrap_or((filled(&path), String::new()));
        for query in [
            "dryrun",
            "dry-run=true",
            "Dry_run",
            "nosuch=1",
            "dry_run&nosuch",
            "%6eosuch",
        ] {
            let answer = request(&method, &with_query(&path, query), &body);
            assert_eq!(answer.status, 400, "{method} {path} {query}: {answer:?}");
            assert!(answer.body.contains("query"), "{method} {path} {query}: {answer:?}");
        }
        assert_eq!(wanted(), before, "{method} {path}");
    }
    drop(lab);
}

/// `PUT /v1/lab` with `[]` removed everything, `PATCH` with `[1400]` set the MTU.
#[test]
fn an_array_is_no_object_in_any_body() {
    let lab = joined();
    let before = wanted();
    let document = document();
    for (method, path) in routes(&document) {
        if document["paths"][&path][method.to_lowercase()]["requestBody"].is_null() {
            continue;
        }
        for body in ["[]", "[1400]", "[\"x\"]", "[[]]", "[{}]", "null", "5", "\"x\""] {
            let answer = request(&method, &filled(&path), body);
            assert_eq!(answer.status, 400, "{method} {path} {body}: {answer:?}");
        }
    }
    for (method, path, body) in [
        ("PATCH", "/v1/ports/red", r#"{"learning":[false]}"#),
        ("PATCH", "/v1/ports/red", r#"{"police":[5]}"#),
        ("PATCH", "/v1/ports/red", r#"{"vlan":{"trunk":["10"]}}"#),
        ("POST", "/v1/ports", r#"{"name":"x","routes":[["10.0.0.0/8"]]}"#),
        ("POST", "/v1/cables", r#"{"a":["red"],"b":["blue"]}"#),
        ("PUT", "/v1/lab", r#"{"ports":[["red"]]}"#),
        (
            "POST",
            "/v1/mirrors",
            r#"{"name":"x","to":"mon","filter":["a","1,6 0 0 1"]}"#,
        ),
    ] {
        let answer = request(method, path, body);
        assert_eq!(answer.status, 400, "{method} {path} {body}: {answer:?}");
    }
    assert_eq!(wanted(), before);
    let file = lab.lab_file("ports = [[\"red\"]]");
    lab.ctl(&format!("apply {file}"))
        .failed(2, &["lab.toml:1:10: ", "object"]);
    assert_eq!(wanted(), before);
}

#[test]
fn a_patch_is_a_merge_patch() {
    let lab = joined();
    let patch = |body: Value| {
        let answer = request("PATCH", "/v1/ports/red", &body.to_string());
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        lab.port("red").port
    };
    let before = lab.port("red").port;
    let after = patch(json!({"learning": {"locked": true}, "police": null, "storm": {"multicast": {"rate_pps": 5}}}));
    assert!(after.learning.locked && after.learning.sticky && after.learning.limit == Some(5));
    assert!(after.police.is_none() && after.storm.iter().count() == 2);
    assert_eq!(
        (after.acl, after.pin, after.impair),
        (before.acl, before.pin, before.impair)
    );
    let after = patch(json!({"vlan": {"trunk": {"allowed": "10,20"}}, "accept": "all"}));
    assert_eq!(
        serde_json::to_value(after.vlan).unwrap(),
        json!({"trunk": {"allowed": "10,20"}})
    );
    let after = patch(json!({"vlan": {"access": 10}, "pin": {"mac": null}, "impair": {"out": null}}));
    assert_eq!(serde_json::to_value(after.vlan).unwrap(), json!({"access": 10}));
    assert!(after.pin.mac.is_none() && after.pin.ip.is_some() && after.impair.outward.is_none());
    // The media type of the RFC is taken too.
    let answer = request_with(
        "PATCH",
        "/v1/switches/side",
        &["Content-Type: application/merge-patch+json"],
        r#"{"ageing_secs": 9, "loop_guard": null}"#,
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    let switch = lab.switch("side").switch;
    assert!(switch.ageing_secs == 9 && switch.loop_guard && switch.fdb_capacity == 1000);
    for (path, body, word) in [
        ("/v1/ports/red", json!({"colour": null}), "colour"),
        ("/v1/ports/red", json!({"learning": {"colour": 1}}), "colour"),
        ("/v1/ports/red", json!({"name": "crimson"}), "renamed"),
        ("/v1/ports/red", json!({"name": null}), "name"),
        ("/v1/switches/side", json!({"name": "other"}), "renamed"),
        ("/v1/switches/side", json!({"flap_moves": 1}), "flap"),
    ] {
        let answer = request("PATCH", path, &body.to_string());
        assert!(answer.status == 400 && answer.body.contains(word), "{body}: {answer:?}");
    }
}

#[track_caller]
/// `PortView`, `SwitchView` and `MirrorView` forbade what only they have, so the daemon's own answers were no valid ones.
#[test]
fn what_the_daemon_answers_is_what_its_document_says() {
    let lab = joined();
    lab.ok("ns show red");
    let command = "name = \"t\"\n[[commands]]\nname = \"red\"\nnamespace = \"red\"\nrun = \"exec sleep 100\"\n";
    lab.ok(&format!("lab up {}", lab.lab_file(command)));
    let document = document();
    let mut checked = 0;
    for (method, path) in routes(&document) {
        let schema = &document["paths"][&path]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        if method != "GET" || schema.is_null() {
            continue;
        }
        let mut schema = schema.clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{path}: {error}"));
        // This one has a question to answer.
        let query = if path.ends_with("/way") { "?to=10.0.0.9" } else { "" };
        let answer = request("GET", &(filled(&path) + query), "");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let errors: Vec<_> = validator
            .iter_errors(&answer.json())
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{path}: {errors:#?}\n{}", answer.body);
        checked += 1;
    }
    assert!(checked > 12, "{checked} routes");
    // And what it takes: the edits of this file are what the document allows.
    for (method, path) in routes(&document) {
        let operation = &document["paths"][&path][method.to_lowercase()];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some((_, body)) = an_edit(&method, &path).filter(|_| !schema.is_null()) else {
            continue;
        };
        let mut schema = schema.clone();
        schema["components"] = document["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let body: Value = serde_json::from_str(&body).unwrap();
        assert!(validator.is_valid(&body), "{method} {path}: {body}");
        assert!(!validator.is_valid(&json!([])), "{method} {path} allows an array");
    }
    let error = request("GET", "/v1/ports/nosuch", "").json();
    let mut schema = json!({"$ref": "#/components/schemas/ApiError"});
    schema["components"] = document["components"].clone();
    assert!(jsonschema::is_valid(&schema, &error), "{error}");
}
