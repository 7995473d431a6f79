//! What people and programs see.
#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

#[path = "../common/mod.rs"]
mod common;
mod terminal;

use std::process::Stdio;

use common::{Daemon, Replies, tool};
use serde_json::{Value, json};
use vswitch_api::view::{NamespaceView, PortView, SwitchView};

fn switches() -> Value {
    json!([
        {
            "name": "main", "ageing_secs": 300, "fdb_capacity": 65536, "reserved_multicast": "never",
            "ports": ["blue", "red"], "fdb_entries": 2, "fdb_full": 0
        },
        {
            "name": "lab", "ageing_secs": 0, "fdb_capacity": 16, "reserved_multicast": "all",
            "ports": [], "fdb_entries": 16, "fdb_full": 12345
        }
    ])
}

fn red() -> Value {
    json!({
        "name": "red", "switch": "main", "kind": "veth", "namespace": "red", "ifname": "eth0",
        "mac": "02:76:73:00:00:01", "mtu": 1500, "addresses": ["192.168.15.1/24", "fd00:15::1/64"],
        "routes": [{"to": "0.0.0.0/0", "via": "192.168.15.254"}, {"to": "10.0.0.0/8"}],
        "state": "up", "state_secs": 192, "queues": 2, "fdb_entries": 1,
        "counters": {
            "rx_frames": 1237, "rx_bytes": 1234567, "rx_forwarded": 1200, "rx_flooded": 34, "flood_copies": 68,
            "tx_frames": 5, "tx_bytes": 410, "rx_drops": {"over-long": 2, "runt": 1}
        }
    })
}

fn blue() -> Value {
    json!({
        "name": "blue", "switch": "main", "kind": "device", "state": "missing", "state_secs": 7,
        "reason": "interface enp3s0 is gone", "queues": 0, "fdb_entries": 0,
        "counters": {
            "rx_frames": 0, "rx_bytes": 0, "rx_forwarded": 0, "rx_flooded": 0, "flood_copies": 0,
            "tx_frames": 0, "tx_bytes": 0
        }
    })
}

fn namespace() -> Value {
    json!({
        "name": "red", "owned": true, "present": true, "ports": ["red"],
        "links": [
            {"name": "lo", "ifindex": 1, "mtu": 65536, "state": "up", "addresses": ["127.0.0.1/8", "::1/128"]},
            {
                "name": "eth0", "ifindex": 12, "mac": "02:76:73:00:00:01", "mtu": 1500, "state": "up", "port": "red",
                "addresses": ["192.168.15.1/24"]
            }
        ],
        "routes": [
            {"to": "default", "via": "192.168.15.254", "dev": "eth0"},
            {"to": "192.168.15.0/24", "dev": "eth0"}
        ],
        "neighbours": [
            {"ip": "192.168.15.2", "mac": "02:76:73:00:00:02", "dev": "eth0", "state": "reachable"},
            {"ip": "192.168.15.9", "dev": "eth0", "state": "failed"}
        ]
    })
}

fn fdb() -> Value {
    json!([
        {"switch": "main", "mac": "02:76:73:00:00:01", "port": "red", "age_secs": 75, "static": false},
        {"switch": "main", "mac": "02:00:00:00:00:09", "port": "blue", "static": true}
    ])
}

fn daemon() -> Daemon {
    Replies::default()
        .json("GET /v1/switches", switches())
        .json("GET /v1/switches/main", switches()[0].clone())
        .json("GET /v1/switches/main/fdb", fdb())
        .json(
            "GET /v1/switches/lab/fdb",
            json!([{"switch": "lab", "mac": "02:00:00:00:00:0a", "port": "x", "age_secs": 3, "static": false}]),
        )
        .json("GET /v1/ports", json!([blue(), red()]))
        .json("GET /v1/ports/red", red())
        .json("GET /v1/namespaces/red", namespace())
        .json(
            "GET /v1/namespaces",
            json!([
                {"name": "red", "owned": true, "present": true, "ports": ["red", "web"]},
                {"name": "docker1", "owned": false, "present": false, "ports": []}
            ]),
        )
        .json(
            "GET /v1/addresses",
            json!([{"port": "red", "switch": "main", "address": "192.168.15.1/24"}]),
        )
        .json(
            "GET /v1/cables",
            json!([
                {"a": {"namespace": "red", "ifname": "eth1", "addresses": ["10.1.0.1/30"]}, "b": {"namespace": "blue"},
                 "state": "missing", "reason": "namespace blue is gone"}
            ]),
        )
        .json(
            "GET /v1/status",
            json!({
                "version": "0.1.0", "api_version": 1, "pid": 4711, "uptime_secs": 3725, "workers": 2,
                "limits": ["no /dev/net/tun: tap ports can't be made", "no CAP_SYS_ADMIN: namespaces can't be made"]
            }),
        )
        .json(
            "GET /v1/lab",
            json!({"switches": [], "namespaces": ["red"], "ports": [{"name": "red"}], "cables": []}),
        )
        .start()
}

/// Runs a command and compares its output, line by line.
fn prints(arguments: &str, expected: &str) {
    let ran = daemon().run(arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments}");
    assert_eq!(ran.stdout, expected, "{arguments}:\n{}", ran.stdout);
}

#[test]
fn show_has_every_switch_with_its_ports() {
    prints(
        "show",
        "\
switch main  ageing 300s  FDB 2/65536
PORT  TYPE    NAMESPACE/IF  STATE    MAC                 MTU  ADDRESSES                               RX     TX  DROPS
blue  device  -             missing  -                     -  -                                      0/0    0/0      0
red   veth    red/eth0      up       02:76:73:00:00:01  1500  192.168.15.1/24,fd00:15::1/64  1.24k/1.23M  5/410      3
blue: interface enp3s0 is gone

switch lab  ageing never  FDB 16/16  full: 12.3k not learned  reserved multicast all
no ports; `vswitchctl add-port NAME --addr ADDR/LEN` adds one
",
    );
}

#[test]
fn port_show_has_all_counters() {
    prints(
        "port show red",
        "\
port red on switch main
  type           veth
  state          up for 3m12s
  interface      eth0 in namespace red
  MAC            02:76:73:00:00:01
  MTU            1500
  addresses      192.168.15.1/24
                 fd00:15::1/64
  routes         default via 192.168.15.254
                 10.0.0.0/8
  offload        on
  queues         2
  FDB entries    1
  received       1,237 frames, 1,234,567 bytes (1.23MB)
    forwarded    1,200
    flooded      34 (as 68 copies)
    dropped      3
      over-long  2
      runt       1
  sent           5 frames, 410 bytes
    dropped      0
",
    );
}

#[test]
fn kinds_and_rules_of_a_newer_daemon_are_shown_by_their_words() {
    const RULE: &str = "wave quic through";
    let mut port = red();
    port["kind"] = "wire-guard".into();
    port["acl"] = json!({"in": [RULE]});
    let daemon = Replies::default()
        .json("GET /v1/switches", switches())
        .json("GET /v1/ports", json!([port]))
        .json("GET /v1/ports/red", port)
        .json(
            "GET /v1/ports/red/acl",
            json!({"in": [{"rule": RULE, "hits": 3}], "out": []}),
        )
        .start();
    for (arguments, word) in [
        ("port list", "wire-guard"),
        ("port show red", "wire-guard"),
        ("--json port show red", "wire-guard"),
        ("acl show red", RULE),
        ("--json acl show red", RULE),
    ] {
        let ran = daemon.run(arguments);
        assert!(
            ran.code == 0 && ran.stdout.contains(word),
            "{arguments}: {} {}",
            ran.stdout,
            ran.stderr
        );
    }
}

#[test]
fn tables() {
    prints(
        "fdb --switch main",
        "\
MAC                PORT     AGE
02:76:73:00:00:01  red    1m15s
02:00:00:00:00:09  blue  static
",
    );
    prints(
        "fdb",
        "\
SWITCH  MAC                PORT     AGE
main    02:76:73:00:00:01  red    1m15s
main    02:00:00:00:00:09  blue  static
lab     02:00:00:00:00:0a  x         3s
",
    );
    prints(
        "switch list",
        "\
SWITCH  PORTS  FDB  CAPACITY  NOT LEARNED  AGEING  RESERVED MULTICAST
main        2    2     65536            0    300s  never
lab         0   16        16        12.3k   never  all
",
    );
    prints(
        "ns list",
        "\
NAMESPACE  MADE BY  STATE    PORTS
red        vswitch  present  red,web
docker1    other    missing  -
",
    );
    prints(
        "addr list",
        "\
SWITCH  PORT  ADDRESS
main    red   192.168.15.1/24
",
    );
    prints(
        "cable list",
        "\
END A     ADDRESSES    END B  ADDRESSES   MTU  STATE
red/eth1  10.1.0.1/30  blue   -          1500  missing
red/eth1 - blue: namespace blue is gone
",
    );
}

/// A word in each column, also where what stands there has two.
#[test]
fn a_row_has_a_word_in_each_column() {
    let mut port = red();
    port["namespace"] = json!({"pid": 8481});
    let mut end = blue();
    end["peer"] = json!("far");
    let mirror = json!({
        "name": "m", "switch": "main", "to_vlan": 999, "active": true, "frames": 0, "bytes": 0
    });
    let daemon = Replies::default()
        .json("GET /v1/ports", json!([port, end]))
        .json("GET /v1/mirrors", json!([mirror]))
        .json(
            "GET /v1/namespaces",
            json!([{"name": "red", "owned": false, "present": true, "ports": [], "owner": "pid 31632 sleep"}]),
        )
        .start();
    for (arguments, words) in [
        ("port list", &["pid:8481/eth0", "to:far"][..]),
        ("mirror list", &["vlan:999"]),
        ("ns list", &["pid:31632:sleep"]),
    ] {
        let ran = daemon.run(arguments);
        for word in words {
            assert!(
                ran.stdout.split_whitespace().any(|cell| cell == *word),
                "{word}: {ran:?}"
            );
        }
    }
}

#[test]
fn vlans_in_a_row_have_the_name_of_all_of_them() {
    let mut port = red();
    port["vlan"] = json!({"trunk": {"allowed": "10,20-29"}});
    let daemon = Replies::default()
        .json("GET /v1/ports", json!([port]))
        .json("GET /v1/switches", switches())
        .json("GET /v1/switches/main/fdb", json!([]))
        .json("GET /v1/switches/lab/fdb", json!([]))
        .start();
    let ran = daemon.run("vlan list -o name");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "10\n20-29\n"), "{ran:?}");
    let rows = daemon.run("vlan list --json").json();
    assert_eq!(
        (&rows[1]["first"], &rows[1]["last"]),
        (&json!(20), &json!(29)),
        "{rows}"
    );
}

#[test]
fn a_log_is_an_object_for_each_line() {
    let daemon = Replies::default()
        .raw(
            "GET /v1/processes/web/log",
            200,
            "text/plain",
            "one\ntwo \u{1b}[31m\nthree",
        )
        .start();
    let ran = daemon.run("logs web --json");
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            json!({"line": "one"}),
            json!({"line": "two \u{1b}[31m"}),
            json!({"line": "three"})
        ]
    );
}

#[test]
fn ns_show_has_the_four_sections_of_ip() {
    prints(
        "ns show red",
        "\
namespace red  made by vswitch

 #  LINK  STATE  MAC                  MTU  PORT
 1  lo    up     -                  65536  -
12  eth0  up     02:76:73:00:00:01   1500  red

ADDRESS          LINK
127.0.0.1/8      lo
::1/128          lo
192.168.15.1/24  eth0

ROUTE            VIA             LINK
default          192.168.15.254  eth0
192.168.15.0/24  -               eth0

NEIGHBOUR     MAC                LINK  STATE
192.168.15.2  02:76:73:00:00:02  eth0  reachable
192.168.15.9  -                  eth0  failed
",
    );
}

#[test]
fn pages() {
    prints(
        "switch show",
        "\
switch main
  ageing              300s
  FDB                 2 of 65536 entries
    not learned       0 (the FDB was full)
    moves             0
  loop guard          on
    flapping          500 moves a second, for 3 s
  reserved multicast  never
  ports               2: blue red
",
    );
    prints(
        "status",
        "\
vswitchd 0.1.0
  API version         1
  process             4711
  uptime              1h02m
  workers             2
  does not work here  no /dev/net/tun: tap ports can't be made
                      no CAP_SYS_ADMIN: namespaces can't be made
",
    );
}

#[test]
fn json_is_the_type_of_the_api() {
    let daemon = daemon();
    let port: PortView = serde_json::from_value(red()).unwrap();
    assert_eq!(
        daemon.run("--json port show red").json(),
        serde_json::to_value(&port).unwrap()
    );
    let namespace: NamespaceView = serde_json::from_value(namespace()).unwrap();
    assert_eq!(
        daemon.run("ns show red --json").json(),
        serde_json::to_value(&namespace).unwrap()
    );
    let switches: Vec<SwitchView> = serde_json::from_value(switches()).unwrap();
    assert_eq!(
        daemon.run("switch list --json").json(),
        serde_json::to_value(&switches).unwrap()
    );
    assert_eq!(daemon.run("fdb --switch main --json").json(), fdb());
    let show = daemon.run("show --json").json();
    assert_eq!(show["switches"], serde_json::to_value(&switches).unwrap());
    assert_eq!(show["ports"][1], serde_json::to_value(&port).unwrap());
    assert_eq!(daemon.run("add-port red --json").json(), json!({"done": ["did it"]}));
}

#[test]
fn export_is_toml() {
    let ran = daemon().run("export");
    let lab: vswitch_api::Lab = toml::from_str(&ran.stdout).unwrap();
    assert_eq!(lab.ports[0].name.as_str(), "red");
    assert_eq!(lab.namespaces[0].name.as_str(), "red");
}

#[test]
fn warnings_are_apart_from_what_was_done() {
    let changes = json!({"done": ["created port red"], "warnings": ["10.0.0.1/8 is outside the subnet of the others"]});
    let daemon = Replies::default().json("POST /v1/ports", changes).start();
    let ran = daemon.run("add-port red -n");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "would create port red\n"));
    assert_eq!(ran.stderr, "warning: 10.0.0.1/8 is outside the subnet of the others\n");
}

const EVENTS: &str = "\
: hello

event: port-added
data: {\"seq\":1,\"time_ms\":1764014400123,\"kind\":\"port-added\",\"port\":\"red\",\"switch\":\"main\"}

event: port-state
data: {\"seq\":2,\"time_ms\":1764014400200,\"kind\":\"port-state\",\"port\":\"red\",\"state\":\"no-carrier\",\"reason\":\"eth0 is down\"}

event: fdb-moved
data: {\"seq\":3,\"time_ms\":1764014401000,\"kind\":\"fdb-moved\",\"switch\":\"main\",\"mac\":\"02:76:73:00:00:01\",\"from\":\"red\",\"to\":\"blue\"}

";

#[test]
fn events_are_a_line_each_until_the_daemon_stops() {
    let daemon = Replies::default()
        .raw("GET /v1/events", 200, "text/event-stream", EVENTS)
        .start();
    let ran = daemon.run("events");
    assert_eq!(
        ran.stdout,
        "\
2025-11-24 20:00:00.123  port-added         red on main
2025-11-24 20:00:00.200  port-state         red no-carrier: eth0 is down
2025-11-24 20:00:01.000  fdb-moved          02:76:73:00:00:01 from red to blue on main
"
    );
    assert_eq!(ran.code, 3);
    assert!(
        ran.stderr
            .starts_with("vswitchctl: events: vswitchd ended the stream; "),
        "{ran:?}"
    );

    let ran = daemon.run("events --json");
    let lines: Vec<vswitch_api::Event> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let daemon = daemon();
    let mut child = tool(&daemon.socket())
        .arg("show")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}
