//! Each command asks the daemon for the right thing.
#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

#[path = "../common/mod.rs"]
mod common;

mod labs;

use common::{Asked, Replies};
use serde_json::{Value, json};

/// Runs a command and compares the one request that it makes.
fn asks(arguments: &str, method: &str, uri: &str, body: Value) {
    let daemon = Replies::default().start();
    let ran = daemon.run(arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments}");
    assert_eq!(
        daemon.asked(),
        [Asked {
            method: method.into(),
            uri: uri.into(),
            body
        }],
        "{arguments}"
    );
    let mark = if uri.contains("dry_run=true") { "would: " } else { "" };
    assert_eq!(ran.stdout, format!("{mark}did it\n"), "{arguments}");
}

#[test]
fn add_port_with_defaults() {
    asks("add-port red", "POST", "/v1/ports", json!({"name": "red"}));
}

#[test]
fn add_port_with_everything() {
    asks(
        "add-port web --addr 10.0.0.2/24 --addr fd00::2/64 --type tap --netns red --name eth1 --mac 02:00:00:00:00:07 \
         --mtu 9000 --gateway 10.0.0.1 --gateway fd00::1 --switch lab --no-offload --if-not-exists -n",
        "POST",
        "/v1/ports?dry_run=true&idempotent=true",
        json!({
            "name": "web", "switch": "lab", "kind": "tap", "namespace": "red", "ifname": "eth1",
            "mac": "02:00:00:00:00:07", "mtu": 9000, "addresses": ["10.0.0.2/24", "fd00::2/64"],
            "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}, {"to": "::/0", "via": "fd00::1"}],
            "offload": false
        }),
    );
}

/// With `--if-not-exists` what is said is held against what is there: also where it is the default, and nothing else.
#[test]
fn what_is_not_typed_is_not_asked_for() {
    for (arguments, path, body) in [
        (
            "add-port red --type veth --switch main --vlan all --learning on",
            "/v1/ports",
            json!({"name": "red", "switch": "main", "kind": "veth", "vlan": "all", "learning": {"enabled": true}}),
        ),
        (
            "add-port red --subnet 10.0.0.0/24",
            "/v1/lab/ports",
            json!({"ports": [{"name": "red"}], "addresses": {"subnets": ["10.0.0.0/24"], "auto": false}}),
        ),
        (
            "switch add lab --ageing 300 --reserved-multicast never",
            "/v1/switches",
            json!({"name": "lab", "ageing_secs": 300, "reserved_multicast": "never"}),
        ),
        (
            "mirror add m --to mon --direction both",
            "/v1/mirrors",
            json!({"name": "m", "direction": "both", "to": "mon"}),
        ),
        (
            "command add web --ns red --stop 5 --ready done --within 30 -- true",
            "/v1/commands",
            json!({
                "name": "web", "namespace": "red", "argv": ["true"], "stop_secs": 5,
                "ready": {"done": true, "within_secs": 30}
            }),
        ),
        (
            "command add web --ns red -- true",
            "/v1/commands",
            json!({"name": "web", "namespace": "red", "argv": ["true"]}),
        ),
    ] {
        asks(arguments, "POST", path, body);
    }
}

#[test]
fn a_device_is_named_by_its_interface() {
    asks(
        "add-port uplink --type device --name enp3s0",
        "POST",
        "/v1/ports",
        json!({"name": "uplink", "kind": "device", "ifname": "enp3s0"}),
    );
}

#[test]
fn ports_are_removed_and_set() {
    asks("del-port red", "DELETE", "/v1/ports/red", Value::Null);
    asks(
        "del-port red --if-exists",
        "DELETE",
        "/v1/ports/red?dry_run=false&idempotent=true",
        Value::Null,
    );
    asks(
        "set port red --mtu 1400 --down",
        "PATCH",
        "/v1/ports/red",
        json!({"mtu": 1400, "up": false}),
    );
    asks(
        "set port red --up --offload off",
        "PATCH",
        "/v1/ports/red",
        json!({"up": true, "offload": false}),
    );
    asks(
        "set port red --offload on",
        "PATCH",
        "/v1/ports/red",
        json!({"offload": true}),
    );
}

/// Several go by one command, and what programs are told is told of all of them.
#[test]
fn several_are_removed_one_after_the_other() {
    let gone = |name: &str| json!({"done": [format!("removed {name}")], "changes": [{"action": "removed", "kind": "port", "name": name}]});
    let daemon = Replies::default()
        .json("DELETE /v1/ports/red", gone("red"))
        .json("DELETE /v1/ports/blue", gone("blue"))
        .start();
    let told = daemon.run("del-port red blue --json").json();
    assert_eq!(told["changes"].as_array().unwrap().len(), 2, "{told}");
    daemon.asked();
    let ran = daemon.run("command del web db");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "did it\ndid it\n"), "{ran:?}");
    let asked: Vec<_> = daemon.asked().into_iter().map(|asked| asked.uri).collect();
    assert_eq!(asked, ["/v1/commands/web", "/v1/commands/db"]);
}

/// They were read, changed and written back as a whole, so that two at once lost one.
#[test]
fn rules_and_flags_are_changed_one_by_one() {
    asks(
        "acl add red in --at 2 deny udp to any port 53",
        "POST",
        "/v1/ports/red/acl",
        json!({"direction": "in", "at": 2, "rule": "deny udp to any port 53"}),
    );
    asks(
        "acl del red out 1",
        "DELETE",
        "/v1/ports/red/acl?direction=out&at=1",
        Value::Null,
    );
    let daemon = Replies::default().start();
    let ran = daemon.run_with_stdin("acl set red --in-file -", "# a comment\ndeny arp\n");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(daemon.asked()[0].body, json!({"acl": {"in": ["deny arp"]}}));
    let ran = daemon.run_with_stdin("acl set red --in-file - --out-file -", "deny arp\n");
    assert_eq!((ran.code, daemon.asked().len()), (2, 0), "{ran:?}");
    asks("acl clear red", "DELETE", "/v1/ports/red/acl", Value::Null);
    asks(
        "set port red --locked on --mac-limit 0 --flood multicast --pin-mac own --pin-ip any --vlan 10",
        "PATCH",
        "/v1/ports/red",
        json!({
            "learning": {"locked": true, "limit": null},
            "flooding": {"unknown_unicast": false, "multicast": true, "broadcast": false},
            "pin": {"mac": "own", "ip": null},
            "vlan": {"access": 10}
        }),
    );
    asks(
        "set port red --trunk 10,20",
        "PATCH",
        "/v1/ports/red",
        json!({"vlan": {"trunk": {"allowed": "10,20", "native": null, "tag": null}}}),
    );
    asks(
        "set switch main --vlan-limit 0 --loop-guard off",
        "PATCH",
        "/v1/switches/main",
        json!({"vlan_limit": null, "loop_guard": false}),
    );
}

/// All that is said becomes one patch, by whatever it is said.
#[test]
fn settings_are_said_by_key_and_by_option() {
    asks(
        "set port red learning.limit=5 mtu=9000 --down vlan.access=10 addresses=10.0.0.1/24,fd00::1/64",
        "PATCH",
        "/v1/ports/red",
        json!({
            "learning": {"limit": 5}, "mtu": 9000, "up": false, "vlan": {"access": 10},
            "addresses": ["10.0.0.1/24", "fd00::1/64"]
        }),
    );
    asks(
        "set port red -n police= learning.limit=null impair.out.delay=20ms",
        "PATCH",
        "/v1/ports/red?dry_run=true&idempotent=false",
        json!({"police": null, "learning": {"limit": null}, "impair": {"out": {"delay": "20ms"}}}),
    );
    asks(
        "set switch main ageing_secs=60 loop_guard=off --flap-secs 5",
        "PATCH",
        "/v1/switches/main",
        json!({"ageing_secs": 60, "loop_guard": false, "flap_secs": 5}),
    );
}

#[test]
fn switches_are_added_set_and_removed() {
    asks(
        "switch add lab --ageing 0 --reserved-multicast lldp",
        "POST",
        "/v1/switches",
        json!({"name": "lab", "ageing_secs": 0, "reserved_multicast": "lldp"}),
    );
    asks(
        "switch add lab --description spare",
        "POST",
        "/v1/switches",
        json!({"name": "lab", "description": "spare"}),
    );
    asks(
        "switch del lab -n",
        "DELETE",
        "/v1/switches/lab?dry_run=true&idempotent=false",
        Value::Null,
    );
    asks(
        "set switch main --ageing 60",
        "PATCH",
        "/v1/switches/main",
        json!({"ageing_secs": 60}),
    );
    asks(
        "set switch main --reserved-multicast all",
        "PATCH",
        "/v1/switches/main",
        json!({"reserved_multicast": "all"}),
    );
}

#[test]
fn the_fdb_is_edited_on_the_switch_named_wherever_it_is_named() {
    let entry = json!({"mac": "02:00:00:00:00:01", "port": "red"});
    asks(
        "fdb add 02-00-00-00-00-01 red --switch main",
        "PUT",
        "/v1/switches/main/fdb",
        entry.clone(),
    );
    asks(
        "fdb --switch lab add 02:00:00:00:00:01 red",
        "PUT",
        "/v1/switches/lab/fdb",
        entry.clone(),
    );
    asks(
        "fdb add 02:00:00:00:00:01 red --switch lab",
        "PUT",
        "/v1/switches/lab/fdb",
        entry,
    );
    asks(
        "fdb del 02:00:00:00:00:01 --switch main",
        "DELETE",
        "/v1/switches/main/fdb?mac=02%3A00%3A00%3A00%3A00%3A01",
        Value::Null,
    );
    asks("fdb flush", "DELETE", "/v1/switches/main/fdb", Value::Null);
    asks(
        "fdb flush --port a+b --switch main",
        "DELETE",
        "/v1/switches/main/fdb?port=a%2Bb",
        Value::Null,
    );
}

#[test]
fn namespaces_are_added_and_removed() {
    asks("ns add red", "POST", "/v1/namespaces", json!({"name": "red"}));
    asks(
        "ns del red --if-exists",
        "DELETE",
        "/v1/namespaces/red?dry_run=false&idempotent=true",
        Value::Null,
    );
}

#[test]
fn addresses_are_added_and_removed() {
    asks(
        "addr add red fd00::1/64",
        "POST",
        "/v1/ports/red/addresses",
        json!({"address": "fd00::1/64"}),
    );
    asks(
        "addr del red 10.0.0.1/24",
        "DELETE",
        "/v1/ports/red/addresses?address=10.0.0.1%2F24",
        Value::Null,
    );
    asks("addr flush red", "DELETE", "/v1/ports/red/addresses", Value::Null);
}

#[test]
fn a_default_route_is_of_the_family_of_its_next_hop() {
    let routes = "/v1/ports/red/routes";
    asks(
        "route add red default --via 10.0.0.9",
        "POST",
        routes,
        json!({"to": "0.0.0.0/0", "via": "10.0.0.9"}),
    );
    asks(
        "route add red default --via fd00::9",
        "POST",
        routes,
        json!({"to": "::/0", "via": "fd00::9"}),
    );
    asks(
        "route add red default --via 169.254.1.1 --onlink",
        "POST",
        routes,
        json!({"to": "0.0.0.0/0", "via": "169.254.1.1", "onlink": true}),
    );
    asks("route add red default", "POST", routes, json!({"to": "0.0.0.0/0"}));
    asks("route add red 10.9.0.7", "POST", routes, json!({"to": "10.9.0.7/32"}));
    asks(
        "route del red default",
        "DELETE",
        "/v1/ports/red/routes?to=0.0.0.0%2F0",
        Value::Null,
    );
    asks(
        "route del red ::/0",
        "DELETE",
        "/v1/ports/red/routes?to=%3A%3A%2F0",
        Value::Null,
    );
}

#[test]
fn a_cable_can_be_added_in_short() {
    let cable = json!({
        "a": {"namespace": "red", "ifname": "wan0", "addresses": ["10.1.0.1/30"]},
        "b": {"namespace": "blue", "addresses": ["10.1.0.2/30"]}
    });
    let ends = "red blue --addr-a 10.1.0.1/30 --addr-b 10.1.0.2/30 --name-a wan0";
    asks(&format!("cable {ends}"), "POST", "/v1/cables", cable.clone());
    asks(&format!("cable add {ends}"), "POST", "/v1/cables", cable);
    asks("cable del red blue", "DELETE", "/v1/cables/red/blue", Value::Null);
    asks(
        "cable del red blue --name-a wan0",
        "DELETE",
        "/v1/cables/red/blue?ifname_a=wan0",
        Value::Null,
    );
    asks(
        "cable red blue --mtu 9000 --route-a default,fd00::2 --route-a 10.9.0.0/16 --route-b 10.8.0.0/16,10.1.0.1",
        "POST",
        "/v1/cables",
        json!({
            "a": {"namespace": "red", "routes": [{"to": "::/0", "via": "fd00::2"}, {"to": "10.9.0.0/16"}]},
            "b": {"namespace": "blue", "routes": [{"to": "10.8.0.0/16", "via": "10.1.0.1"}]},
            "mtu": 9000
        }),
    );
}

/// `--trunk +30` adds to what is there, in one request that has the list as a whole (faults A6).
#[test]
fn a_trunk_is_changed_by_what_it_is() {
    let port = json!({
        "name": "t", "vlan": {"trunk": {"allowed": "10,20", "native": 10}}, "state": "up", "state_secs": 1, "queues": 1,
        "fdb_entries": 0, "counters": vswitch_api::view::PortCounters::default()
    });
    let daemon = Replies::default().json("GET /v1/ports/t", port).start();
    for (option, allowed) in [("+30", "10,20,30"), ("-20", "10"), ("+30-31,-10", "20,30-31")] {
        let ran = daemon.run(&format!("set port t --trunk {option}"));
        assert_eq!(ran.code, 0, "{ran:?}");
        let body = json!({"vlan": {"trunk": {"allowed": allowed, "native": 10, "tag": null}}});
        assert_eq!(daemon.asked().last().unwrap().body, body, "{option}");
    }
    assert_eq!(daemon.run("set port t --trunk 30").code, 0);
    let body = json!({"vlan": {"trunk": {"allowed": "30", "native": null, "tag": null}}});
    assert_eq!(
        daemon.asked().last().unwrap().body,
        body,
        "a list without signs replaces"
    );
    assert_eq!(daemon.run("set port t --trunk -10,-20").code, 2);
    assert_eq!(daemon.asked().len(), 1, "nothing is changed");
}

#[test]
fn a_device_is_taken_over_by_force() {
    let device = json!({"name": "uplink", "kind": "device"});
    asks(
        "add-port uplink --type device --force",
        "POST",
        "/v1/ports?dry_run=false&idempotent=false&force=true",
        device,
    );
}

#[test]
fn listings_name_the_switch_only_if_told() {
    let daemon = Replies::default()
        .json("GET /v1/ports", json!([]))
        .json("GET /v1/addresses", json!([]))
        .json("GET /v1/switches", json!([]))
        .start();
    for (arguments, uris) in [
        ("port list", vec!["/v1/ports"]),
        ("port list --switch lab", vec!["/v1/ports?switch=lab"]),
        ("addr list --switch lab", vec!["/v1/addresses?switch=lab"]),
        ("show", vec!["/v1/switches", "/v1/ports"]),
        ("fdb", vec!["/v1/switches"]),
    ] {
        assert_eq!(daemon.run(arguments).code, 0, "{arguments}");
        assert_eq!(
            daemon.asked().iter().map(|a| a.uri.as_str()).collect::<Vec<_>>(),
            uris,
            "{arguments}"
        );
    }
}

#[test]
fn mirrors() {
    asks(
        "mirror add m --to mon",
        "POST",
        "/v1/mirrors",
        json!({"name": "m", "to": "mon"}),
    );
    asks(
        "mirror add m --from red,blue --direction rx --to mon --switch lab --if-not-exists",
        "POST",
        "/v1/mirrors?dry_run=false&idempotent=true",
        json!({"name": "m", "switch": "lab", "ports": ["red", "blue"], "direction": "rx", "to": "mon"}),
    );
    asks("mirror del m", "DELETE", "/v1/mirrors/m", Value::Null);
}

#[test]
fn captures_and_traces() {
    for (arguments, method, uri, body) in [
        (
            "capture red -w /dev/null -c 3 --duration 0.5 -s 96 --segment --direction tx",
            "GET",
            "/v1/ports/red/capture?direction=tx&snaplen=96&segment=true&count=3&duration_ms=500",
            Value::Null,
        ),
        ("trace red --live 2", "GET", "/v1/ports/red/trace?count=2", Value::Null),
        (
            "trace red --hex 02:00",
            "POST",
            "/v1/ports/red/trace",
            json!({"frame": "02:00"}),
        ),
    ] {
        let daemon = Replies::default().start();
        // The reply is none that the tool understands; what it asked is what counts.
        daemon.run(arguments);
        let (method, uri) = (method.into(), uri.into());
        assert_eq!(daemon.asked(), [Asked { method, uri, body }], "{arguments}");
    }
}
