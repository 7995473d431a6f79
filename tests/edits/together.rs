//! Clients that edit at the same time: what they change all counts, or they are told what changed since.

use super::*;

/// Runs the control tool with all of these at once.
fn at_once(lines: &[String]) {
    let start = |line: &String| {
        let mut command = vswitch_testing::ctl::tool();
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

fn tag(answer: &Response) -> String {
    field(answer, "etag")
}

/// Who changes what somebody else changed since is told so, and told what.
#[test]
fn an_edit_of_what_changed_since_is_refused_and_told_why() {
    let lab = joined();
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
            // What is there is not what somebody read, or is not to be there.
            // Of what adds something it is that which is not to be there.
            let adds =
                method == "POST" && (path.matches('/').count() == 2 || path == "/v1/lab/ports") && path != "/v1/reset";
            for condition in ["If-Match: \"lab-0\"", "If-None-Match: *"] {
                if adds && condition.starts_with("If-None-Match") {
                    continue;
                }
                let answer = request_with(&method, &with_query(&path, query), &[condition], &body);
                assert_eq!(answer.status, 412, "{condition} {method} {path}: {answer:?}");
            }
        }
    }
    assert_eq!(wanted(), before);
}

/// The field was not looked at, so that the change was made.
#[test]
fn an_edit_of_what_is_not_to_be_there_is_refused() {
    let lab = joined();
    let now = tag(&request("GET", "/v1/ports/red", ""));
    let patch =
        |fields: &[&str], mtu: u32| request_with("PATCH", "/v1/ports/red", fields, &format!(r#"{{"mtu":{mtu}}}"#));
    for known in [&now, "*", &format!("W/{now}"), &format!("\"other\", {now}")] {
        let refused = patch(&[&format!("If-None-Match: {known}")], 1310);
        assert_eq!(refused.status, 412, "{refused:?}");
        assert_eq!(refused.json()["object"], json!("port \"red\""));
    }
    assert_eq!(tag(&request("GET", "/v1/ports/red", "")), now);
    assert_eq!(patch(&["If-None-Match: \"other\""], 1320).status, 200);
    // Both conditions hold.
    let now = tag(&request("GET", "/v1/ports/red", ""));
    let both = [&format!("If-Match: {now}")[..], "If-None-Match: \"other\""];
    assert_eq!(patch(&both, 1330).status, 200);
    assert_eq!(patch(&both, 1340).status, 412);
    assert_eq!(lab.port("red").port.mtu, Some(1330));
    let level = request_with("PUT", "/v1/log", &["If-None-Match: *"], r#"{"level": "warn"}"#);
    assert_eq!(level.status, 412, "{level:?}");
}

/// It was held against the lab, which is always there.
#[test]
fn what_is_to_be_added_only_if_it_is_not_there() {
    let lab = joined();
    let post = |path: &str, body: &str| request_with("POST", path, &["If-None-Match: *"], body).status;
    for (path, body) in [
        ("/v1/ports", r#"{"name": "new"}"#),
        ("/v1/lab/ports", r#"{"ports": [{"name": "newer"}]}"#),
        ("/v1/switches", r#"{"name": "third"}"#),
        ("/v1/namespaces", r#"{"name": "more"}"#),
        ("/v1/mirrors", r#"{"name": "n", "ports": ["blue"], "to": "mon"}"#),
        (
            "/v1/commands",
            r#"{"name": "late", "namespace": "red", "argv": ["sleep", "100000"]}"#,
        ),
        ("/v1/links", r#"{"a": "main", "b": "third"}"#),
        (
            "/v1/cables",
            r#"{"a": {"namespace": "more"}, "b": {"namespace": "blue"}}"#,
        ),
    ] {
        assert_eq!(post(path, body), 201, "{path}");
        let there = lab.ok("export");
        assert_eq!(post(path, body), 412, "{path}");
        assert_eq!(post(&format!("{path}?idempotent"), body), 412, "{path}");
        assert_eq!(lab.ok("export"), there, "{path}");
    }
}
