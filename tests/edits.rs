//! Edits that add up: what is tried changes nothing, what is made at the same time all counts, and a lab is the same after it was
//! exported and applied.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use vswitch_tests::api::lab::Lab as Wanted;
use vswitch_tests::http::{Response, request, request_with};
use vswitch_tests::require::missing;
use vswitch_tests::snapshot::Snapshot;
use vswitch_tests::{Lab, Place};

/// A lab that has a bit of everything.
const RICH: &str = r#"
namespaces = ["spare"]

[[switches]]
name = "main"
ageing_secs = 60
reserved_multicast = "all"
vlan_limit = 100
rspan_vlans = [999]
flap_moves = 100
flap_secs = 5

[[switches]]
name = "side"
fdb_capacity = 1000
loop_guard = false

[[ports]]
name = "red"
mac = "02:00:00:00:00:01"
mtu = 1400
addresses = ["10.0.0.1/24", "fd00::1/64"]
routes = [{ to = "0.0.0.0/0", via = "10.0.0.254" }, { to = "10.9.0.0/16" }]
vlan = { access = 10 }
accept = "untagged"
isolation = { community = 7 }
stations = [{ mac = "02:00:00:00:00:aa", vlan = 10 }]

[ports.learning]
sticky = true
limit = 5
beyond = "drop"

[ports.flooding]
multicast = false
hairpin = true

[ports.pin]
mac = "own"
ip = ["10.0.0.0/24", "fd00::1/128"]

[ports.acl]
in = ["deny tcp to any port 22", "count udp", "permit any"]
out = ["police 10mbit burst 64k udp"]

[ports.impair.in]
delay_us = 1000
jitter_us = 100
distribution = "normal"
loss = 0.000001
loss_burst = 3
seed = 7

[ports.impair.out]
rate_bps = 10000000
priority = true
limit = 50

[ports.police]
rate_bps = 100000000
burst_bytes = 100000

[ports.storm]
broadcast = { rate_pps = 100 }

[[ports]]
name = "blue"
kind = "tap"
offload = false
up = false
vlan = { trunk = { allowed = "10,20-29", native = 5 } }

[[ports]]
name = "host"
addresses = ["10.244.1.1/32"]
routes = [{ to = "0.0.0.0/0", via = "169.254.1.1" }]
switch = "side"

[[ports]]
name = "gw"
kind = "internal"
switch = "side"
addresses = ["10.3.0.1/24"]

[[ports]]
name = "mon"

[[cables]]
mtu = 9000
a = { namespace = "red", addresses = ["10.1.0.1/30"], routes = [{ to = "10.8.0.0/16", via = "10.1.0.2" }] }
b = { namespace = "spare", ifname = "wan0", addresses = ["10.1.0.2/30"] }

[[cables]]
a = { namespace = "red" }
b = { namespace = "spare" }

[[mirrors]]
name = "m"
ports = ["red"]
to = "mon"
direction = "rx"
vlans = "10"

[[mirrors]]
name = "far"
to_vlan = 999
rules_only = true
"#;

fn rich() -> Lab {
    let lab = Lab::new();
    let file = lab.lab_file(RICH);
    lab.ok(&format!("apply {file}"));
    lab
}

fn wanted() -> Wanted {
    serde_json::from_value(request("GET", "/v1/lab", "").json()).unwrap()
}

fn document() -> Value {
    request("GET", "/v1/openapi.json", "").json()
}

/// Path of a route with names of the rich lab in it.
fn filled(path: &str) -> String {
    let kind = path.split('/').nth(2).unwrap_or_default();
    let name = match kind {
        "switches" => "side",
        "ports" => "red",
        "namespaces" => "spare",
        "mirrors" => "m",
        _ => "red",
    };
    path.replace("{name}", name)
        .replace("{a}", "red")
        .replace("{b}", "spare")
        .replace("{id}", "1")
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
        ("POST", "/v1/ports") => named("", json!({"name": "new"})),
        ("PATCH", "/v1/ports/{name}") => named("", json!({"mtu": 1300})),
        ("POST", "/v1/ports/{name}/acl") => named("", json!({"direction": "in", "rule": "deny arp"})),
        ("POST", "/v1/ports/{name}/addresses") => named("", json!({"address": "10.0.0.9/24"})),
        ("POST", "/v1/ports/{name}/routes") => named("", json!({"to": "10.77.0.0/16"})),
        ("DELETE", "/v1/ports/{name}/routes") => named("?to=10.9.0.0/16", Value::Null),
        ("POST", "/v1/namespaces") => named("", json!({"name": "more"})),
        ("DELETE", "/v1/namespaces/{name}") => Some(("/v1/namespaces/lone".into(), String::new())),
        ("POST", "/v1/cables") => named("", json!({"a": {"namespace": "red"}, "b": {"namespace": "blue"}})),
        ("DELETE", "/v1/cables/{a}/{b}") => named("?ifname_b=wan0", Value::Null),
        ("DELETE", "/v1/captures/{id}") | ("POST", "/v1/ports/{name}/trace") => None,
        ("DELETE", _) => named("", Value::Null),
        ("GET", _) => None,
        _ => panic!("{method} {path} is new: say what it is to be tried with"),
    }
}

fn with_query(path: &str, query: &str) -> String {
    format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' })
}

/// `PATCH /v1/ports/red?dry_run` made the change, as did POST of addresses and routes and PUT of FDB entries.
#[test]
fn a_dry_run_changes_nothing_whatever_the_route() {
    let lab = rich();
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
    for (method, path) in routes(&document()) {
        let Some((path, body)) = an_edit(&method, &path) else {
            continue;
        };
        if ["/v1/reset", "/v1/lab"].contains(&path.as_str()) {
            continue;
        }
        let lab_before = wanted();
        let answer = request(&method, &path, &body);
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        assert_ne!(wanted(), lab_before, "{method} {path} changed nothing");
        let back = request("PUT", "/v1/lab", &serde_json::to_string(&lab_before).unwrap());
        assert_eq!(back.status, 200, "{method} {path}: {back:?}");
    }
}

/// A typing error in `dry_run` made the change.
#[test]
fn a_query_that_a_route_does_not_know_is_an_error_on_every_route() {
    let lab = rich();
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
    let lab = rich();
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
    lab.ctl(&format!("apply {file}")).failed(2, &["line 1", "object"]);
    assert_eq!(wanted(), before);
}

/// Runs the control tool with all of these at once.
fn at_once(lines: &[String]) {
    let tool = vswitch_tests::daemon::program("vswitchctl");
    let start = |line: &String| {
        let mut command = Command::new(&tool);
        command.args(line.split_whitespace()).stdin(Stdio::null());
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = lines.iter().map(start).collect();
    for (mut child, line) in children.into_iter().zip(lines) {
        assert!(child.wait().unwrap().success(), "{line}");
    }
}

/// Of 20 rules that were added at once two were there; flags lost each other likewise.
#[test]
fn what_is_changed_at_the_same_time_all_counts() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    let rules: Vec<_> = (1..=20)
        .map(|n| format!("acl add red in deny tcp to any port {n}"))
        .collect();
    at_once(&rules);
    let there: BTreeSet<_> = lab
        .port("red")
        .port
        .acl
        .ingress
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(there.len(), 20, "{there:?}");
    let flags = [
        "set port red --sticky on",
        "set port red --mac-limit 9",
        "set port red --beyond-limit drop",
        "set port red --locked on",
        "set port red --hairpin on",
        "set port red --flood broadcast",
        "set port red --pin-mac own",
        "set port red --pin-ip own",
        "set port red --allow-ra on",
        "set port red --mtu 1400",
        "set port red --vlan 10",
        "set port red --isolation 7",
        "storm red --broadcast 100pps",
        "storm red --multicast 200pps",
        "storm red --unknown-unicast 300pps",
        "police red --rate 10mbit",
        "impair red --delay 1ms --direction in",
        "impair red --delay 2ms --direction out",
        "acl add red out deny arp",
        "addr add red 10.0.0.2/24",
        "fdb add 02:00:00:00:00:aa red",
    ];
    at_once(&flags.map(str::to_owned));
    let port = lab.port("red").port;
    let learning = port.learning;
    assert!(
        learning.sticky && learning.locked && learning.limit == Some(9),
        "{learning:?}"
    );
    assert_eq!(serde_json::to_value(learning).unwrap()["beyond"], "drop");
    let flooding = port.flooding;
    assert!(
        flooding.hairpin && flooding.broadcast && !flooding.multicast,
        "{flooding:?}"
    );
    assert_eq!((port.pin.mac, port.pin.ip), (Some(vec![]), Some(vec![])));
    assert!(port.pin.allow_ra, "it was taken and not sent");
    assert_eq!(port.mtu, Some(1400));
    assert_eq!(port.storm.iter().count(), 3);
    assert!(port.police.is_some() && port.impair.iter().count() == 2);
    assert_eq!((port.acl.ingress.len(), port.acl.egress.len()), (20, 1));
    assert_eq!((port.addresses.len(), port.stations.len()), (2, 1));
    // These are made of what is there.
    lab.ok("set port red --trunk 10");
    let more: Vec<_> = (11..=25).map(|vlan| format!("set port red --trunk +{vlan}")).collect();
    at_once(&more);
    let vlan = serde_json::to_value(lab.port("red").port.vlan).unwrap();
    assert_eq!(vlan["trunk"]["allowed"], "10-25");
    let switch = ["--ageing 7", "--loop-guard off", "--flap-moves 9", "--vlan-limit 5"];
    at_once(&switch.map(|flag| format!("set switch main {flag}")));
    let switch = lab.switch("main").switch;
    let seen = (
        switch.ageing_secs,
        switch.loop_guard,
        switch.flap_moves,
        switch.vlan_limit,
    );
    assert_eq!(seen, (7, false, 9, Some(5)));
}

#[test]
fn a_patch_is_a_merge_patch() {
    let lab = rich();
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

fn tag(answer: &Response) -> String {
    let line = answer.head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("etag").then(|| value.trim().to_owned())
    });
    line.unwrap_or_else(|| panic!("no ETag: {answer:?}"))
}

/// Who changes what somebody else changed since is told so, and told what.
#[test]
fn an_edit_of_what_changed_since_is_refused_and_told_why() {
    let lab = rich();
    let read = |path: &str| tag(&request("GET", path, ""));
    for path in [
        "/v1/ports/red",
        "/v1/ports/red/acl",
        "/v1/switches/side",
        "/v1/mirrors/m",
        "/v1/lab",
    ] {
        assert_eq!(read(path), read(path), "{path}: the tag of what stays changed");
        assert!(read(path).starts_with('"'), "{path}: no strong tag");
    }
    let (port, whole) = (read("/v1/ports/red"), read("/v1/lab"));
    let patch =
        |if_match: &str, body: &str| request_with("PATCH", "/v1/ports/red", &[&format!("If-Match: {if_match}")], body);
    // Another's change of another thing is no conflict for who read this one, but for who read all.
    lab.ok("set port mon --mtu 1450");
    assert_eq!(read("/v1/ports/red"), port);
    assert_eq!(patch(&whole, r#"{"mtu":1300}"#).status, 412);
    assert_eq!(patch(&port, r#"{"mtu":1300}"#).status, 200);
    lab.ok("addr add red 10.0.0.7/24");
    let refused = patch(&port, r#"{"mtu":1290}"#);
    assert_eq!(refused.status, 412, "{refused:?}");
    let error = refused.json();
    assert_eq!(
        (&error["code"], &error["object"]),
        (&json!("changed"), &json!("port \"red\""))
    );
    for word in ["set MTU of port red to 1300", "gave port red address 10.0.0.7/24"] {
        assert!(error["cause"].as_str().unwrap().contains(word), "{error}");
    }
    assert!(!error["cause"].as_str().unwrap().contains("mon"), "{error}");
    assert_eq!(lab.port("red").port.mtu, Some(1300));
    // One of several, any, the tag of now; a weak one never.
    let now = read("/v1/ports/red");
    assert_eq!(patch(&format!("{port}, {now}"), r#"{"mtu":1310}"#).status, 200);
    assert_eq!(patch("*", r#"{"mtu":1320}"#).status, 200);
    let now = read("/v1/ports/red");
    assert_eq!(patch(&format!("W/{now}"), r#"{"mtu":1330}"#).status, 412);
    assert_eq!(patch("\"nonsense\"", r#"{"mtu":1330}"#).status, 412);
    // Every edit has the condition, and a dry run too.
    let document = document();
    let before = wanted();
    for (method, path) in routes(&document) {
        let Some((path, body)) = an_edit(&method, &path) else {
            continue;
        };
        if path.contains("empty") || path.contains("lone") {
            continue;
        }
        for query in ["idempotent", "dry_run"] {
            let answer = request_with(&method, &with_query(&path, query), &["If-Match: \"lab-0\""], &body);
            assert_eq!(answer.status, 412, "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(wanted(), before);
}

/// Static entries were in no export, so that they were gone after an apply of it.
#[test]
fn what_is_exported_can_be_applied_and_is_the_same() {
    let lab = rich();
    let (before, text) = (wanted(), lab.ok("export"));
    assert!(text.contains("mac = \"own\""), "{text}");
    lab.ok("reset --yes");
    assert!(wanted().ports.is_empty());
    let file = lab.lab_file(&text);
    assert_eq!(lab.ctl(&format!("apply {file}")).ok().code, 0);
    assert_eq!(wanted(), before);
    assert_eq!(lab.ok("export"), text);
    // Nothing is left to be done.
    assert_eq!(
        request("PUT", "/v1/lab?dry_run", &serde_json::to_string(&before).unwrap()).json()["done"],
        json!([])
    );
}

/// A mirror's filter was its program, so that nobody could write one.
#[test]
fn a_mirrors_filter_is_written_as_it_is_said() {
    let lab = Lab::new();
    if Command::new("tcpdump").arg("--version").output().is_err() {
        missing("tcpdump, which compiles filters", "it is not installed");
        return;
    }
    let file = lab.lab_file(
        "[[ports]]\nname = \"red\"\n[[ports]]\nname = \"mon\"\n\
         [[mirrors]]\nname = \"m\"\nports = [\"red\"]\nto = \"mon\"\nfilter = \"tcp port 80\"\n",
    );
    lab.ok(&format!("apply {file}"));
    let before = wanted();
    let filter = before.mirrors[0].filter.as_ref().unwrap();
    assert!(
        filter.expression == "tcp port 80" && filter.program.is_some(),
        "{filter:?}"
    );
    let text = lab.ok("export");
    assert!(text.contains("filter = \"tcp port 80\""), "{text}");
    lab.ok("reset --yes");
    let file = lab.lab_file(&text);
    lab.ok(&format!("apply {file}"));
    assert_eq!(wanted(), before);
    // Without its program the daemon does not take it, and says who makes it.
    let mirror = json!({"name": "n", "ports": ["red"], "to": "mon", "filter": "arp"});
    let answer = request("POST", "/v1/mirrors", &mirror.to_string());
    assert!(answer.status == 400 && answer.body.contains("vswitchctl"), "{answer:?}");
}

/// Static stations are part of the lab: of files, restarts, dry runs, and gone with a reset.
#[test]
fn static_stations_are_part_of_the_lab() {
    let mut lab = Lab::new();
    lab.ok("add-port red");
    lab.ok("add-port blue");
    let fdb = |lab: &Lab| {
        let entries = lab.fdb("main").into_iter().filter(|entry| entry.is_static);
        let shown = entries.map(|entry| format!("{} {} {}", entry.switch, entry.mac, entry.port));
        shown.collect::<Vec<_>>()
    };
    lab.ok("fdb add 02:00:00:00:00:aa red");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa red"]);
    assert!(lab.ok("export").contains("02:00:00:00:00:aa"));
    // It moves, though red is the first of the ports that are changed for it.
    lab.ok("fdb add 02:00:00:00:00:aa blue");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa blue"]);
    lab.ok("fdb add 02:00:00:00:00:aa red");
    lab.ok("fdb add 02:00:00:00:00:bb blue --vlan 7");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa red", "main 02:00:00:00:00:bb blue"]);
    // Both ways at once.
    let mut swapped = wanted();
    let [red, blue] = [0, 1].map(|n| swapped.ports[n].stations.clone());
    (swapped.ports[0].stations, swapped.ports[1].stations) = (blue, red);
    let answer = request("PUT", "/v1/lab", &serde_json::to_string(&swapped).unwrap());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa blue", "main 02:00:00:00:00:bb red"]);
    lab.kill_daemon();
    lab.start();
    assert_eq!(fdb(&lab), ["main 02:00:00:00:00:aa blue", "main 02:00:00:00:00:bb red"]);
    let dry = request("DELETE", "/v1/switches/main/fdb?mac=02:00:00:00:00:aa&dry_run", "");
    assert_eq!(dry.json()["done"], json!(["removed FDB entry 02:00:00:00:00:aa"]));
    assert_eq!(fdb(&lab).len(), 2);
    lab.ok("fdb del 02:00:00:00:00:aa");
    lab.ctl("fdb del 02:00:00:00:00:aa").failed(4, &["no such entry"]);
    lab.ok("del-port red");
    assert_eq!(fdb(&lab), [""; 0]);
    lab.ctl("fdb add ff:ff:ff:ff:ff:ff blue")
        .failed(2, &["MAC", "no station can have"]);
    let refused = request(
        "PUT",
        "/v1/switches/main/fdb",
        r#"{"mac":"ff:ff:ff:ff:ff:ff","port":"blue"}"#,
    );
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.body.contains("not the address of a station"), "{refused:?}");
}

/// `fdb --json` over several switches did not say which.
#[test]
fn an_fdb_entry_says_whose_it_is() {
    let lab = Lab::new();
    lab.ok("switch add side");
    for (port, switch) in [("red", "main"), ("blue", "side")] {
        lab.ok(&format!("add-port {port} --switch {switch}"));
        lab.ok(&format!("fdb add 02:00:00:00:00:aa {port} --switch {switch}"));
    }
    let all: Vec<Value> = lab.json("fdb");
    let statics = all.iter().filter(|entry| entry["static"] == true);
    let switches: Vec<_> = statics.map(|entry| &entry["switch"]).collect();
    assert_eq!(switches, ["main", "side"]);
}

/// One address in two VLANs, one link-local gateway in each, one station on two switches: all refused, and all work.
#[test]
fn each_vlan_has_addresses_of_its_own() {
    let lab = Lab::new();
    lab.ok("switch add side");
    for vlan in [10, 20] {
        let options = format!("--vlan {vlan} --mac 02:00:00:00:00:01 --addr 10.0.0.1/24 --addr fe80::1/64");
        lab.ok(&format!("add-port gw{vlan} {options}"));
        let added = lab.ctl(&format!(
            "add-port vm{vlan} --vlan {vlan} --addr 10.0.0.2/24 --addr fd00:{vlan}::2/64"
        ));
        assert!(added.ok().stderr.is_empty());
        lab.ok(&format!("route add vm{vlan} default --via fe80::1"));
        Place::named(&format!("vm{vlan}")).run(|| vswitch_tests::run("ping -n -c 1 -W 5 10.0.0.1"));
    }
    lab.ok("add-port far --switch side --mac 02:00:00:00:00:01 --addr 10.0.0.1/24");
    lab.ctl("add-port bad --vlan 10 --addr 10.0.0.2/24")
        .failed(5, &["taken by port \"vm10\"", "VLAN 10"]);
    lab.ctl("add-port bad --vlan 20 --mac 02:00:00:00:00:01")
        .failed(5, &["taken by port \"gw20\""]);
    // Nor can a port come into a VLAN where its address is taken.
    lab.ctl("set port vm20 --vlan 10").failed(5, &["10.0.0.2"]);
}

/// `--addr 10.244.1.1/32 --gateway 169.254.1.1`, as container networks have it, was refused.
#[test]
fn a_gateway_may_be_on_the_link_without_a_subnet() {
    let mut lab = Lab::new();
    lab.ok("add-port gw --addr 169.254.1.1/32");
    lab.ok("route add gw 10.244.0.0/16");
    lab.ok("add-port pod --addr 10.244.1.1/32 --gateway 169.254.1.1");
    // By a route to it first, and by saying so.
    lab.ok("add-port second --addr 10.244.1.2/24");
    lab.ctl("route add second default --via 169.254.1.1")
        .failed(2, &["in none of the port's subnets", "--onlink"]);
    lab.ok("route add second 169.254.1.1/32");
    lab.ok("route add second default --via 169.254.1.1");
    lab.ok("add-port third --addr 10.244.1.3/24");
    lab.ok("route add third default --via 169.254.1.1 --onlink");
    let works = |lab: &Lab| {
        for port in ["pod", "second", "third"] {
            Place::named(port).run(|| vswitch_tests::run("ping -n -c 1 -W 5 169.254.1.1"));
            assert!(
                lab.port(port)
                    .port
                    .routes
                    .iter()
                    .any(|route| route.to.prefix_len() == 0)
            );
        }
    };
    works(&lab);
    lab.kill_daemon();
    lab.start();
    works(&lab);
    lab.ctl("add-port pod --addr 10.244.1.1/32 --gateway 169.254.1.1 --if-not-exists")
        .ok();
    // Without its address the port has no use for the route, as the kernel sees it too.
    lab.ok("addr flush pod");
    assert!(lab.port("pod").port.routes.is_empty());
    lab.ok("addr add pod 10.244.1.1/32");
    lab.ok("route add pod default --via 169.254.1.1");
    works(&lab);
}

/// A second cable between two namespaces was refused, and none had an MTU or routes.
#[test]
fn two_namespaces_may_be_joined_by_several_cables() {
    let mut lab = Lab::new();
    lab.ok("cable red blue --addr-a 10.1.0.1/30 --addr-b 10.1.0.2/30 --mtu 9000");
    let line =
        "cable red blue --addr-a 10.1.1.1/30 --addr-b 10.1.1.2/30 --route-a 10.7.0.0/16,10.1.1.2 --route-b 10.8.0.0/16";
    lab.ok(line);
    lab.ok(&format!("{line} --if-not-exists"));
    lab.ok("cable blue red --name-a x0");
    assert_eq!(wanted().cables.len(), 3);
    let red = Place::named("red");
    for address in ["10.1.0.2", "10.1.1.2"] {
        red.run(|| vswitch_tests::run(&format!("ping -n -c 1 -W 5 {address}")));
    }
    red.run(|| vswitch_tests::run("ping -n -c 1 -W 5 -M do -s 8900 10.1.0.2"));
    let routes = |lab: &Lab| {
        let _ = lab;
        let output = red.output("ip route show 10.7.0.0/16");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(routes(&lab).contains("via 10.1.1.2 dev eth1"), "{}", routes(&lab));
    lab.kill_daemon();
    lab.start();
    assert!(routes(&lab).contains("via 10.1.1.2 dev eth1"), "{}", routes(&lab));
    assert_eq!(wanted().cables.len(), 3);
    lab.ctl("cable del red blue").failed(5, &["one of 3", "--name-a"]);
    lab.ok("cable del red blue --name-a eth1");
    assert_eq!(routes(&lab), "");
    lab.ok("cable del red blue --name-b x0");
    lab.ok("cable del blue red");
    assert!(wanted().cables.is_empty());
    lab.ctl("cable red blue --name-a e0 --name-b e0").ok();
    lab.ctl("cable red blue --name-a e0").failed(5, &["interface e0"]);
}

/// Who removed which port was logged nowhere at the default level.
#[test]
fn the_log_tells_who_changed_which_port() {
    let mut lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    lab.ok("set port red --mtu 1400");
    request("PATCH", "/v1/ports/red?dry_run", r#"{"mtu":1300}"#);
    lab.ok("del-port red");
    let log = lab.daemon().log();
    for words in [
        &["INFO", "added port red", "port=red", "uid=0", "pid="][..],
        &["INFO", "set MTU of port red to 1400", "port=red", "uid=0"],
        &["INFO", "removed port red", "port=red", "uid=0"],
    ] {
        let told = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(told.count(), 1, "{words:?}\n{log}");
    }
    assert!(!log.contains("1300"), "{log}");
}

/// `PortView`, `SwitchView` and `MirrorView` forbade what only they have, so the daemon's own answers were no valid ones.
#[test]
fn what_the_daemon_answers_is_what_its_document_says() {
    let lab = rich();
    lab.ok("ns show red");
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
