use serde_json::{Value, json};

use super::*;
use crate::event::{Event, EventKind};
use crate::lab::Lab;
use crate::link::LinkView;
use crate::mirror::MirrorView;
use crate::trace::{LiveTrace, TraceOutcome, WayView};
use crate::view::{
    AddressView, Changes, FdbEntry, Lack, NamespaceView, PortAclView, PortState, PortView, Status, SwitchView,
};
use crate::{ProcessState, ProcessView, strict};

fn port() -> Value {
    json!({
        "name": "red", "switch": "main", "kind": "veth", "namespace": "red", "mtu": 1500, "mac": "02:00:00:00:00:01",
        "addresses": ["10.0.0.1/24"], "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.9"}],
        "vlan": {"trunk": {"allowed": "10", "native": 20}}, "learning": {"limit": 50}, "flooding": {"hairpin": true},
        "pin": {"mac": ["02:00:00:00:00:01"]}, "acl": {"in": ["permit"]},
        "impair": {"in": {"delay": "5ms", "loss": "3%"}}, "police": {"rate": "10mbit"}, "storm": {"broadcast": {"rate": "1mbit"}},
        "stations": [{"mac": "02:00:00:00:00:02"}], "publish": ["8080:80"],
        "state": "up", "state_secs": 1, "queues": 1, "fdb_entries": 0, "entrance": {"path": "/proc/1/ns/net", "inode": 7},
        "xdp_mode": "copy", "counters": {
            "rx_frames": 0, "rx_bytes": 0, "rx_forwarded": 0, "rx_flooded": 0, "flood_copies": 0, "tx_frames": 0, "tx_bytes": 0,
            "impair": {"in": {}}
        }
    })
}

/// Reads it as it is, and with one more key in each of its objects.
#[track_caller]
fn takes_more_keys<T: DeserializeOwned + PartialEq + std::fmt::Debug>(reply: Value) {
    let read = |reply: &Value| from_json::<T>(reply.to_string().as_bytes());
    let plain = read(&reply).unwrap();
    let mut objects = Vec::new();
    find_objects(&reply, String::new(), &mut objects);
    for at in objects {
        let mut more = reply.clone();
        let object = more.pointer_mut(&at).and_then(Value::as_object_mut).unwrap();
        object.insert("key_of_tomorrow".to_owned(), json!({"a": [1]}));
        let same = read(&more).unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(same, plain, "{at}");
    }
}

fn find_objects(value: &Value, at: String, objects: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            // One with a variant of an enum as its one key can't have another.
            if !at.ends_with("/vlan") {
                objects.push(at.clone());
            }
            for (key, value) in members {
                find_objects(value, format!("{at}/{key}"), objects);
            }
        }
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                find_objects(item, format!("{at}/{n}"), objects);
            }
        }
        _ => {}
    }
}

#[test]
fn keys_of_a_newer_daemon_are_passed_over_at_any_depth() {
    takes_more_keys::<PortView>(port());
    takes_more_keys::<Vec<PortView>>(json!([port()]));
    let mirror = json!({"name": "m", "switch": "main", "ports": ["red"], "to": "blue",
        "filter": {"expression": "tcp", "program": "1"}, "active": true, "frames": 0, "bytes": 0});
    takes_more_keys::<MirrorView>(mirror.clone());
    takes_more_keys::<SwitchView>(
        json!({"name": "main", "gateway": true, "ports": [], "fdb_entries": 0, "fdb_full": 0, "mirrors": [mirror]}),
    );
    takes_more_keys::<Status>(
        json!({"version": "9", "api_version": 1, "pid": 1, "uptime_secs": 1, "workers": 1, "limits": [],
        "progress": {"what": "x", "done": 1, "of": 2}, "role": "root",
        "confinement": {"rights_kept": true, "workers_without_rights": 1, "workers_filtered": 1}}),
    );
    takes_more_keys::<FdbEntry>(json!({"switch": "main", "mac": "02:00:00:00:00:02", "port": "red", "static": true}));
    takes_more_keys::<NamespaceView>(json!({"name": "red", "owned": true, "present": true, "ports": [],
        "links": [{"name": "lo", "ifindex": 1, "mtu": 1, "state": "up", "addresses": []}],
        "routes": [{"to": "default", "dev": "eth0"}], "neighbours": [{"ip": "10.0.0.2", "dev": "eth0", "state": "stale"}]}));
    takes_more_keys::<Changes>(
        json!({"done": ["x"], "changes": [{"action": "added", "kind": "port", "name": "red"}], "warnings": []}),
    );
    takes_more_keys::<AddressView>(json!({"port": "red", "switch": "main", "address": "10.0.0.1/24"}));
    takes_more_keys::<PortAclView>(json!({"in": [{"rule": "permit", "hits": 1}], "out": []}));
    takes_more_keys::<ProcessView>(
        json!({"name": "a", "state": "running", "since_secs": 1, "restarts": 0, "argv": ["x"]}),
    );
    let end = json!({"switch": "main", "port": "red", "state": "up"});
    takes_more_keys::<LinkView>(json!({"a": end, "b": end}));
    takes_more_keys::<LiveTrace>(json!({"time_ns": 1, "frame": "", "lost_before": 0,
        "report": {"outcome": "flooded", "ports": [], "steps": [{"stage": "vlan", "detail": "x"}]}}));
    takes_more_keys::<WayView>(json!({"way": "here", "next_hop": "10.0.0.2"}));
    for event in [
        json!({"kind": "port-state", "port": "red", "state": "up"}),
        json!({"kind": "port-set", "port": "red", "changes": [{"key": "mtu", "after": 1400}]}),
    ] {
        let mut event = event;
        event["seq"] = 1.into();
        event["time_ms"] = 1.into();
        takes_more_keys::<Event>(event);
    }
}

#[test]
fn states_of_a_newer_daemon_are_unknown() {
    let mut reply = port();
    reply["state"] = "resting".into();
    reply["xdp_mode"] = "magic".into();
    let view: PortView = from_json(reply.to_string().as_bytes()).unwrap();
    assert_eq!((view.state, view.xdp_mode), (PortState::Unknown, None));
    let lacks = br#"[{"what": "neighbour", "of": "10.0.0.1"}]"#;
    assert_eq!(from_json::<Vec<Lack>>(lacks).unwrap(), [Lack::Unknown]);
    let reply = json!({"seq": 1, "time_ms": 1, "kind": "process-state", "process": "a", "state": "resting"});
    let event: Event = from_json(reply.to_string().as_bytes()).unwrap();
    assert!(matches!(
        event.kind,
        EventKind::ProcessState {
            state: ProcessState::Unknown,
            ..
        }
    ));
    let reply = br#"{"done": [], "changes": [{"action": "adopted", "kind": "planet", "name": "red"}]}"#;
    assert_eq!(from_json::<Changes>(reply).unwrap().changes.len(), 1);
    let reply = br#"{"version": "9", "api_version": 1, "pid": 1, "uptime_secs": 1, "workers": 1, "limits": [], "role": "owner"}"#;
    assert_eq!(from_json::<Status>(reply).unwrap().role, None);
    let reply = br#"{"way": "by-the-moon", "distance": 1}"#;
    assert_eq!(from_json::<WayView>(reply).unwrap(), WayView::Unknown);
    assert_eq!(from_json::<TraceOutcome>(br#""kept""#).unwrap(), TraceOutcome::Unknown);
}

/// They are settings: what a client reads, changes and gives back says what it said.
#[test]
fn kinds_and_rules_of_a_newer_daemon_are_kept_as_they_are() {
    let mut reply = port();
    reply["kind"] = "wire-guard".into();
    reply["acl"] = json!({"in": ["permit tcp", "deny quic to any colour green"], "out": ["wave through"]});
    let view: PortView = from_json(reply.to_string().as_bytes()).unwrap();
    assert_eq!(view.port.kind.word(), "wire-guard");
    let rules: Vec<_> = view.port.acl.ingress.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["permit tcp", "deny quic to any colour green"]);
    let given_back = serde_json::to_value(&view.port).unwrap();
    assert_eq!(
        (&given_back["kind"], &given_back["acl"]),
        (&reply["kind"], &reply["acl"])
    );
    let reply = br#"{"in": [{"rule": "wave through", "hits": 3}], "out": []}"#;
    let counted: PortAclView = from_json(reply).unwrap();
    assert_eq!(counted.ingress[0].rule.to_string(), "wave through");
    // What is no word, and what would be more than a text on a terminal, is what no daemon says.
    for (key, value) in [
        ("kind", json!("")),
        ("kind", json!("a kind")),
        ("kind", json!("of-many-more-letters-than-any-has")),
        ("acl", json!({"in": ["wave\u{1b}[2J"]})),
    ] {
        let mut reply = port();
        reply[key] = value;
        assert!(from_json::<PortView>(reply.to_string().as_bytes()).is_err(), "{reply}");
    }
}

/// What is not known would be lost if it were written back, and would not be done if it were asked for.
#[test]
fn requests_are_read_as_strictly_as_ever() {
    let lab = br#"{"ports": [{"name": "red", "key_of_tomorrow": 1}]}"#;
    assert!(strict::from_json::<Lab>(lab).is_err());
    assert!(from_json::<Lab>(lab).is_ok());
    assert!(from_json::<Lab>(br#"{"ports": [["red"]]}"#).is_err());
    for member in [json!({"kind": "wire-guard"}), json!({"acl": {"in": ["wave through"]}})] {
        let mut lab = json!({"ports": [member]});
        lab["ports"][0]["name"] = "red".into();
        let lab = lab.to_string();
        assert!(strict::from_json::<Lab>(lab.as_bytes()).is_err() && from_json::<Lab>(lab.as_bytes()).is_ok());
    }
}
