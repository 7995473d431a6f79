//! Lab files that are written: what there is into the file it came from, and topologies of other tools as labs.

use std::fs;

use serde_json::Value;
use vswitch_testing::{Lab, run};

/// Writes a file of this name and gives its path.
fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.scratch().join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const A: &str = "[[switches]]\nname = \"sa\"\n\n[[ports]]\nname = \"a1\"\nswitch = \"sa\"\naddresses = [\"10.1.0.1/24\"]\n\n\
                 [[ports]]\nname = \"a2\"\nswitch = \"sa\"\naddresses = [\"10.1.0.2/24\"]\n";
const B: &str = "name = \"second\"\nnamespaces = [\"extra\"]\n\n[[ports]]\nname = \"b{1..3}\"\naddresses = [\"10.2.0.{n}/24\"]\n\n\
                 [[cables]]\na = { namespace = \"b1\" }\nb = { namespace = \"b2\" }\n";

/// `export --into` leaves comments, order and ranges as they are, and the file then says what there is.
#[test]
fn what_there_is_is_written_into_the_file_it_came_from() {
    let lab = Lab::new();
    let text = "# Second floor.\n[[ports]]\nname = \"red\"\nmtu = 1400 # of the tunnel\naddresses = [\"10.5.0.1/24\"]\n\n\
                # Many.\n[[ports]]\nname = \"h{1..2}\"\nimpair.out = { delay = \"20ms\" }\n\n\
                # Away.\n[[cables]]\na = { namespace = \"red\" }\nb = { namespace = \"h1\" }\n";
    let path = file(&lab, "floor.toml", text);
    lab.ok(&format!("apply {path}"));
    assert!(
        lab.ok(&format!("export --into {path}"))
            .contains("says all that already")
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    lab.ok("set port red --mtu 1300");
    lab.ok("addr add red fd05::1/64");
    lab.ok("add-port green --addr 10.5.0.7/24");
    lab.ok("cable del red h1");
    let would = lab.ok(&format!("export --into {path} --print"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "it was written");
    lab.ok(&format!("export --into {path}"));
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(written, would);
    let expected = "# Second floor.\n[[ports]]\nname = \"red\"\nmtu = 1300 # of the tunnel\naddresses = [\"10.5.0.1/24\", \"fd05::1/64\"]\n\n\
                    # Many.\n[[ports]]\nname = \"h{1..2}\"\nimpair.out = { delay = \"20ms\" }\n\n[[ports]]\nname = \"green\"\n";
    assert!(
        written.starts_with(expected) && !written.contains("cables"),
        "{written}"
    );
    // It is the same lab.
    assert_eq!(lab.ok(&format!("apply {path}")), "");
    // One lab of several, into its own file, by a link too and with its rights.
    let b = file(&lab, "b.toml", B);
    lab.ok(&format!("lab up {b}"));
    lab.ok("set port b2 --mtu 1280");
    lab.ctl(&format!("export --into {b}")).failed(2, &["lab export second"]);
    lab.ctl(&format!("lab export second --into {path}"))
        .failed(2, &["lab floor"]);
    lab.ctl("lab export secnd").failed(4, &["second"]);
    run(&format!("chmod 640 {b}"));
    let link = lab.scratch().join("link.toml");
    std::os::unix::fs::symlink(&b, &link).unwrap();
    let reply = lab.ctl(&format!("lab export second --into {}", link.display()));
    assert!(reply.code == 0 && reply.stderr.contains("b{1..3}"), "{reply}");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(run(&format!("stat -c %a {b}")).trim(), "640");
    let written = fs::read_to_string(&b).unwrap();
    assert!(
        written.starts_with("name = \"second\"\nnamespaces = [\"extra\"]\n") && written.contains("1280"),
        "{written}"
    );
    assert!(!written.contains("red") && !written.contains("green"), "{written}");
    assert_eq!(lab.ctl(&format!("lab diff {b}")).code, 0);
    let alone = file(&lab, "alone.toml", &lab.ok("lab export second"));
    assert_eq!(
        lab.ctl(&format!("lab diff {alone}")).code,
        0,
        "{}",
        lab.ok("lab export second")
    );
}

/// Topologies of other tools become labs that can be brought up and whose hosts reach each other.
#[test]
fn a_topology_of_another_tool_is_imported_and_brought_up() {
    let lab = Lab::new();
    let clab = file(
        &lab,
        "demo.clab.yml",
        "name: demo\ntopology:\n  nodes:\n    red:\n      kind: linux\n      exec: [\"ip addr add 10.6.0.1/24 dev eth1\"]\n    \
         blue:\n      kind: linux\n      exec:\n        - ip addr add 10.6.0.2/24 dev eth1\n        - ip addr add 10.8.0.1/30 dev eth2\n        \
         - sysctl -w net.ipv4.ip_forward=1\n      sysctls: { net.ipv6.conf.all.forwarding: 1 }\n    \
         green: { kind: linux, exec: [\"ip addr add 10.8.0.2/30 dev eth1\"] }\n    br: { kind: bridge }\n    br2: { kind: ovs-bridge }\n  \
         links:\n    - endpoints: [\"red:eth1\", \"br:a\"]\n    - endpoints: [\"blue:eth1\", \"br2:b\"]\n    \
         - endpoints: [\"br:up\", \"br2:up\"]\n    - endpoints: [\"blue:eth2\", \"green:eth1\"]\n    - endpoints: [\"red:eth9\", \"host:veth-red\"]\n",
    );
    let reply = lab.ctl(&format!("lab import {clab}"));
    assert_eq!((reply.code, reply.stderr.as_str()), (0, ""), "{reply}");
    let demo = file(&lab, "demo.toml", &reply.stdout);
    lab.ok(&format!("lab check {demo}"));
    lab.ok(&format!("lab up {demo}"));
    lab.ok("ping red blue -c 1");
    assert!(run("ip netns exec blue ping -c1 -W5 10.8.0.2").contains("1 received"));
    let keys = "net.ipv4.ip_forward net.ipv6.conf.all.forwarding";
    assert_eq!(run(&format!("ip netns exec blue sysctl -n {keys}")), "1\n1\n");
    lab.ok("lab down demo");
    let mn = file(
        &lab,
        "topo.mn",
        r#"{"application": {"ipBase": "10.0.0.0/8"}, "controllers": [{"opts": {"hostname": "c0"}}],
            "hosts": [{"opts": {"hostname": "h1", "nodeNum": 1}}, {"opts": {"hostname": "h2", "nodeNum": 2}}],
            "switches": [{"opts": {"hostname": "s1"}}, {"opts": {"hostname": "s2"}}],
            "links": [{"src": "h1", "dest": "s1", "opts": {"delay": "2ms", "bw": 100}}, {"src": "s1", "dest": "s2", "opts": {}},
                      {"src": "s2", "dest": "h2", "opts": {}}]}"#,
    );
    let reply = lab.ctl(&format!("lab import {mn}"));
    assert_eq!(reply.code, 1, "{reply}");
    assert!(reply.stderr.starts_with("note: controllers"), "{reply}");
    let topo = file(&lab, "topo.toml", &reply.stdout);
    lab.ok(&format!("lab up {topo}"));
    lab.ok("ping h1 10.0.0.2 -c 1");
    let report: Value = lab.ctl(&format!("--json lab import {mn}")).json();
    assert_eq!(report["left_out"].as_array().unwrap().len(), 1);
    let none = file(&lab, "none.toml", A);
    lab.ctl(&format!("lab import {none}"))
        .failed(2, &["none.toml", "--format"]);
    lab.ctl(&format!("lab import --format mininet {clab}"))
        .failed(2, &["JSON"]);
}
