//! Settings by their keys: set, tried, told of, described by a schema, and guarded against edits of what has changed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use vswitch_testing::Lab;
use vswitch_testing::api::view::Changes;
use vswitch_testing::ctl::tool;
use vswitch_testing::daemon::program;
use vswitch_testing::http::{connect, request, request_with};
use vswitch_testing::snapshot::Snapshot;

#[test]
fn settings_are_set_by_their_keys_and_taken_away() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    let done = lab
        .ok("set port red learning.limit=5 mtu=1400 up=off vlan.trunk.allowed=10,20 vlan.trunk.native=7 --sticky on");
    for line in [
        "set MTU of port red to 1400",
        "set learning.limit of port red to 5",
        "set learning.sticky of port red to on (was off)",
        "set up of port red to off (was on)",
        "set vlan.trunk.native of port red to 7",
    ] {
        assert!(done.lines().any(|said| said == line), "{line} is not in\n{done}");
    }
    let port = request("GET", "/v1/ports/red", "").json();
    assert_eq!(port["learning"], json!({"limit": 5, "sticky": true}));
    assert_eq!(port["vlan"], json!({"trunk": {"allowed": "10,20", "native": 7}}));
    assert_eq!((&port["mtu"], &port["up"]), (&json!(1400), &json!(false)));

    // One that was given goes back to the one that is chosen.
    let chosen = &port["mac"];
    lab.ok("set port red --mac 02:00:00:00:00:99");
    for back in ["mac=", "mac=none", "--mac default"] {
        lab.ok(&format!("set port red {back}"));
        assert_eq!(request("GET", "/v1/ports/red", "").json()["mac"], *chosen, "{back}");
        lab.ok("set port red --mac 02:00:00:00:00:99");
    }

    lab.ok("set port red learning= mtu=null up=on vlan.access=10 police=10mbit addresses=10.0.0.2/24,10.0.0.3/24");
    let port = request("GET", "/v1/ports/red", "").json();
    assert_eq!((&port["learning"], &port["up"]), (&Value::Null, &Value::Null));
    assert_eq!((&port["mtu"], &port["vlan"]), (&json!(1500), &json!({"access": 10})));
    assert_eq!(port["police"], json!({"rate_bps": 10_000_000}));
    assert_eq!(port["addresses"], json!(["10.0.0.2/24", "10.0.0.3/24"]));

    let done = lab.ok("set switch main ageing_secs=60 rspan_vlans=998,999 reserved_multicast=lldp");
    assert!(done.contains("set rspan_vlans of switch main to 998, 999"), "{done}");
    let switch = request("GET", "/v1/switches/main", "").json();
    assert_eq!(
        (&switch["ageing_secs"], &switch["reserved_multicast"]),
        (&json!(60), &json!("lldp"))
    );
}

#[test]
fn what_is_wrong_changes_nothing_of_it() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let before = Snapshot::of(&lab);
    for (line, words) in [
        (
            "set port red mtu=1400 learning.limt=5",
            &["learning.limt", "learning.limit"][..],
        ),
        ("set port red mtu=1400 up=maybe", &["up", "maybe", "on, off"]),
        ("set port red mtu=1400 mtu=1300", &["mtu", "twice"]),
        ("set port red --mtu 1400 mtu=1300", &["mtu", "twice"]),
        ("set port red mtu=1400 pin.ip=own", &["red", "no address"]),
        ("set port red mtu=1400 accept=tagged", &["red", "no VLAN setting"]),
        ("set port red mtu=1400 vlan.trunk.native=7", &["red", "allowed"]),
        ("set switch main ageing_secs=60 flap_moves=1", &["main", "flapping"]),
        ("set switch main ageing_secs=60 mtu=1400", &["mtu"]),
    ] {
        lab.ctl(line).failed(2, words);
    }
    before.assert_same(&Snapshot::of(&lab));
}

#[test]
fn what_is_tried_is_told_and_not_done() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let before = Snapshot::of(&lab);
    let line = "set port red -n learning.limit=5 mtu=1400";
    assert_eq!(
        lab.ok(line),
        "would set MTU of port red to 1400\nwould set learning.limit of port red to 5\n"
    );
    let json: Value = lab.json(line);
    assert_eq!(json["dry_run"], true, "{json}");
    for line in [
        "add-port blue -n",
        "del-port red -n",
        "reset -n",
        "switch add lab -n",
        "set switch main -n flap_secs=9",
    ] {
        let changes: Changes = lab.json(line);
        assert!(changes.dry_run && !changes.done.is_empty(), "{line}: {changes:?}");
    }
    before.assert_same(&Snapshot::of(&lab));
    let json: Value = lab.json("set port red mtu=1400");
    assert_eq!(json.get("dry_run"), None);
}

#[test]
fn settings_that_are_set_at_the_same_time_all_count() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let keys = [
        "learning.limit=5",
        "learning.sticky=on",
        "learning.beyond=drop",
        "flooding.hairpin=on",
        "mtu=1400",
        "accept=",
    ];
    let start = |key: &&str| {
        let mut command = tool();
        command
            .args(["set", "port", "red", key])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.spawn().unwrap()
    };
    let children: Vec<Child> = keys.iter().map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let port = lab.port("red").port;
    assert_eq!(
        (port.learning.limit, port.learning.sticky, port.mtu),
        (Some(5), true, Some(1400))
    );
    assert!(port.flooding.hairpin);
}

#[test]
fn changed_settings_are_events() {
    let lab = Lab::new();
    lab.ok("add-port red");
    let mut stream = connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("text/event-stream")));
    lab.ok("set port red learning.limit=5");
    lab.ok("set port red learning.limit=7 up=off");
    lab.ok("set switch main ageing_secs=60");
    let mut next = |kind: &str| -> Value {
        let data = lines.find_map(|line| {
            let event: Value = serde_json::from_str(line.strip_prefix("data:")?).unwrap();
            (event["kind"] == kind).then_some(event)
        });
        data.unwrap()
    };
    assert_eq!(
        next("port-set")["changes"],
        json!([{"key": "learning.limit", "after": 5}])
    );
    assert_eq!(
        next("port-set")["changes"],
        json!([{"key": "learning.limit", "before": 5, "after": 7}, {"key": "up", "after": false}])
    );
    let switch = next("switch-set");
    assert_eq!(
        switch["changes"],
        json!([{"key": "ageing_secs", "before": 300, "after": 60}])
    );
    assert_eq!(switch["switch"], "main");
    // Of a list what came and went, and where.
    for rule in ["deny arp", "--at 1 permit icmp"] {
        lab.ok(&format!("acl add red in {rule}"));
    }
    lab.ok("acl del red in 2");
    assert_eq!(
        next("port-set")["changes"],
        json!([{"key": "acl.in", "after": ["deny arp"]}])
    );
    assert_eq!(
        next("port-set")["changes"],
        json!([{"key": "acl.in", "given": [{"at": 1, "value": "permit icmp"}]}])
    );
    assert_eq!(
        next("port-set")["changes"],
        json!([{"key": "acl.in", "taken": [{"at": 2, "value": "deny arp"}]}])
    );
}

#[test]
fn the_schema_takes_what_is_exported_and_nothing_else() {
    let lab = Lab::new();
    let schema: Value = serde_json::from_str(&lab.ok("lab schema")).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(schema["$defs"]["Port"]["properties"]["mtu"]["description"].is_string());
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors = |text: &str| -> Vec<String> {
        let document: Value = toml::from_str(text).unwrap();
        validator
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect()
    };
    lab.ok("switch add side --ageing 5");
    lab.ok("add-port red --addr 10.0.0.1/24 --gateway 10.0.0.254 --vlan 10 --pin-mac own --isolation 7 --mac-limit 3");
    lab.ok("add-port trunk --type tap --trunk 10,20 --native 7 --switch side");
    lab.ok("cable red trunk --addr-a 10.9.0.1/24");
    lab.ok("impair red --delay 20ms --loss 1% --rate 10mbit");
    lab.ok("police red --rate 10mbit");
    lab.ok("storm red --broadcast 100pps");
    lab.ok("acl add red in deny tcp to any port 22");
    let text = lab.ok("export");
    assert!(text.contains("police") && text.contains("cables"), "{text}");
    assert_eq!(errors(&text), [""; 0], "{text}");
    for (right, wrong) in [
        ("kind = \"tap\"", "kind = \"tip\""),
        ("name = \"red\"", "name = \"r/d\""),
        ("mac = \"own\"", "mac = \"mine\""),
        ("ageing_secs = 5\n", "ageing = 5\n"),
    ] {
        assert!(text.contains(right), "{right} is not in\n{text}");
        assert_ne!(errors(&text.replacen(right, wrong, 1)), [""; 0], "{wrong}");
    }
}

/// Reads the tag of a resource.
fn tag(path: &str) -> String {
    let answer = request("GET", path, "");
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    let mut fields = answer.head.lines().filter_map(|line| line.split_once(": "));
    let tag = fields.find(|(name, _)| name.eq_ignore_ascii_case("etag"));
    tag.unwrap_or_else(|| panic!("{path} has no tag: {}", answer.head))
        .1
        .to_owned()
}

#[test]
fn every_resource_has_a_tag_that_guards_its_edits() {
    let lab = Lab::new();
    lab.ok("switch add side");
    lab.ok("ns add spare");
    for port in ["red", "blue", "mon"] {
        lab.ok(&format!("add-port {port}"));
    }
    lab.ok("cable red blue");
    lab.ok("mirror add m --from red --to mon");
    lab.ok("fdb add 02:00:00:00:00:aa red");
    let station = r#"{"mac": "02:00:00:00:00:bb", "port": "blue"}"#;
    let rule = r#"{"direction": "in", "rule": "deny arp"}"#;
    for (resource, method, path, body) in [
        (
            "/v1/switches/main",
            "PATCH",
            "/v1/switches/main",
            r#"{"ageing_secs": 60}"#,
        ),
        ("/v1/switches", "POST", "/v1/switches", r#"{"name": "third"}"#),
        ("/v1/ports/red", "PATCH", "/v1/ports/red", r#"{"mtu": 1400}"#),
        (
            "/v1/ports/red",
            "POST",
            "/v1/ports/red/addresses",
            r#"{"address": "10.0.0.1/24"}"#,
        ),
        ("/v1/ports/red/acl", "POST", "/v1/ports/red/acl", rule),
        ("/v1/ports", "POST", "/v1/ports", r#"{"name": "more"}"#),
        ("/v1/switches/main/fdb", "PUT", "/v1/switches/main/fdb", station),
        (
            "/v1/switches/main/fdb",
            "DELETE",
            "/v1/switches/main/fdb?mac=02:00:00:00:00:aa",
            "",
        ),
        ("/v1/namespaces/spare", "DELETE", "/v1/namespaces/spare", ""),
        ("/v1/namespaces", "POST", "/v1/namespaces", r#"{"name": "another"}"#),
        ("/v1/cables/red/blue", "DELETE", "/v1/cables/blue/red", ""),
        (
            "/v1/cables",
            "POST",
            "/v1/cables",
            r#"{"a": {"namespace": "red"}, "b": {"namespace": "blue"}}"#,
        ),
        ("/v1/mirrors/m", "DELETE", "/v1/mirrors/m", ""),
        (
            "/v1/mirrors",
            "POST",
            "/v1/mirrors",
            r#"{"name": "n", "ports": ["red"], "to": "mon"}"#,
        ),
        ("/v1/lab", "POST", "/v1/reset", ""),
    ] {
        let now = tag(resource);
        let try_with = |tag: &str| request_with(method, path, &[&format!("If-Match: {tag}")], body);
        let stale = try_with("\"stale-0\"");
        assert_eq!(stale.status, 412, "{method} {path}: {stale:?}");
        assert_eq!(tag(resource), now, "{method} {path} was refused and changed something");
        let done = try_with(&now);
        assert!([200, 201].contains(&done.status), "{method} {path}: {done:?}");
        let after = request("GET", resource, "");
        assert!(
            after.status == 404 || tag(resource) != now,
            "{method} {path}: the tag is as it was"
        );
    }
}

/// The example of a setting without effect: what follows from its declaration, and what is shown of it.
#[test]
fn a_description_is_shown_wherever_the_port_is() {
    let mut lab = Lab::without_daemon();
    lab.add_config("[metrics]\nlabels = [\"description\"]");
    lab.start();
    let mut stream = connect();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("text/event-stream")));

    lab.ctl_words(&["add-port", "red", "--description", "the \"red\" one"])
        .ok();
    lab.ok("add-port blue");
    let set = lab.ctl_words(&["set", "port", "blue", "description=größer als 5"]).ok();
    assert_eq!(set.stdout, "set description of port blue to größer als 5\n");
    lab.ctl_words(&["set", "switch", "main", "description=the only one"])
        .ok();
    assert_eq!(
        request("GET", "/v1/ports/red", "").json()["description"],
        "the \"red\" one"
    );

    let (wide, plain) = (lab.ok("show -o wide"), lab.ok("show"));
    for text in ["DESCRIPTION", "the \"red\" one", "größer als 5", "the only one"] {
        assert!(wide.contains(text), "{text} is not in\n{wide}");
        assert!(!plain.contains(text), "{text} is in\n{plain}");
    }
    assert!(lab.ok("port list -o wide").contains("größer als 5"));
    assert!(lab.ok("port show blue").contains("größer als 5"));
    assert!(lab.ok("switch show main").contains("the only one"));
    lab.ctl_words(&["switch", "add", "lab", "--description", "a second one"])
        .ok();
    assert!(lab.ok("switch show lab").contains("a second one"));
    lab.ctl_words(&["switch", "add", "more", "--description", "a\nb"])
        .failed(2, &["control character"]);
    let metrics = request("GET", "/metrics", "").body;
    for line in [
        r#"vswitch_port_info{switch="main",port="red",description="the \"red\" one"} 1"#,
        r#"vswitch_switch_info{switch="main",description="the only one"} 1"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }

    // A patch, in the export and back, and after a restart.
    let patch = |text: &str| request("PATCH", "/v1/ports/blue", &json!({ "description": text }).to_string());
    assert_eq!(patch(&"ä".repeat(255)).status, 200);
    for (wrong, word) in [
        ("ä".repeat(256), "255"),
        ("a\nb".into(), "control"),
        ("a\u{1b}[31m".into(), "control"),
    ] {
        let answer = patch(&wrong);
        assert!(answer.status == 400 && answer.body.contains(word), "{answer:?}");
    }
    let text = lab.ok("export");
    assert!(
        text.contains(r#"description = 'the "red" one'"#) && text.contains("ää"),
        "{text}"
    );
    let file = lab.lab_file(&text);
    assert_eq!(lab.ok(&format!("apply {file}")), "");
    assert_eq!(patch("").status, 200);
    assert_eq!(request("GET", "/v1/ports/blue", "").json().get("description"), None);
    let before = lab.ok("export");
    lab.stop_daemon();
    lab.start();
    assert_eq!(lab.ok("export"), before);

    // Of events, those about the port have it.
    let mut of_port = |kind: &str, port: &str| -> Value {
        let event = lines.find_map(|line| {
            let event: Value = serde_json::from_str(line.strip_prefix("data:")?).unwrap();
            (event["kind"] == kind && event["port"] == port).then_some(event)
        });
        event.unwrap()
    };
    assert_eq!(of_port("port-set", "blue")["description"], "größer als 5");
}

/// They are off unless somebody wants them.
#[test]
fn settings_are_no_labels_by_default_and_only_settings_can_be() {
    let lab = Lab::new();
    lab.ctl_words(&["add-port", "red", "--description", "the red one"]).ok();
    let metrics = request("GET", "/metrics", "").body;
    assert!(
        metrics.contains("vswitch_port_up") && !metrics.contains("the red one"),
        "{metrics}"
    );
    let config = lab.scratch().join("wrong.toml");
    std::fs::write(&config, "[metrics]\nlabels = [\"colour\"]\n").unwrap();
    let mut check = Command::new(program("vswitchd"));
    let output = check
        .args(["--check-config", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("colour") && error.contains(":2"),
        "{error}"
    );
}
