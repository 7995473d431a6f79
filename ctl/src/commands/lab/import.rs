//! `lab import`: topologies of containerlab and Mininet as lab files. What can't be expressed is listed, not passed over.

mod build;
mod containerlab;
mod ip;
mod mininet;
mod topology;

use std::io::ErrorKind;
use std::path::Path;

use serde_json::{Value, json};
use vswitch_api::{ApiError, ErrorCode};

use self::topology::Topology;
use super::export::text_of;
use super::problem::unreadable;
use super::read::of_text;
use crate::cli::lab::{ImportFormat, LabImportArgs};
use crate::commands::{Session, text};
use crate::failure::Failure;
use crate::output::tell;

/// Not all of it could be expressed.
const EXIT_NOT_ALL: u8 = 1;

impl Session {
    pub(super) fn import_lab(&self, args: &LabImportArgs) -> Result<(), Failure> {
        let (path, text) = read(&args.file)?;
        let format = args.format.or_else(|| format_of(&args.file, &text));
        let Some(format) = format else {
            let cause = "it is neither a topology of containerlab nor one of Mininet's editor";
            let hint = "say which by --format containerlab or --format mininet";
            return Err(Failure::usage(format!("topology {path}"), cause, hint));
        };
        let refused = |cause: String| Failure::usage(format!("topology {path}"), cause, "is it of this --format?");
        let topology = understand(format, &text).map_err(refused)?;
        let (lab, notes) = written(topology);
        // What is printed can be brought up, or it is not printed.
        if let Err(report) = of_text(&path, &lab) {
            let cause = format!("what was made of it is no lab: {}", report.text());
            return Err(ApiError::new(ErrorCode::Internal, format!("topology {path}"), cause).into());
        }
        if !self.out.json() {
            notes.iter().for_each(|note| tell!("note: {note}"));
        }
        self.out
            .show(&json!({ "lab": lab, "left_out": notes }), |_| lab.clone())?;
        match notes.is_empty() {
            true => Ok(()),
            false => Err(Failure::Reported(EXIT_NOT_ALL)),
        }
    }
}

fn read(file: &Path) -> Result<(String, String), Failure> {
    let path = text::called(file);
    match text::read(file) {
        Ok(text) => Ok((path, text)),
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            let object = format!("topology {path}");
            Err(Failure::usage(object, error.to_string(), "is it the right file?"))
        }
        Err(error) => Err(unreadable(&path, &error)),
    }
}

/// By the file's name, else by what is in it.
fn format_of(file: &Path, text: &str) -> Option<ImportFormat> {
    match file.extension().and_then(|ending| ending.to_str()) {
        Some("mn") => return Some(ImportFormat::Mininet),
        Some("yml" | "yaml") => return Some(ImportFormat::Containerlab),
        _ => {}
    }
    if let Ok(Value::Object(members)) = serde_json::from_str(text) {
        return match members.contains_key("topology") {
            true => Some(ImportFormat::Containerlab),
            false => members.contains_key("hosts").then_some(ImportFormat::Mininet),
        };
    }
    text.lines()
        .any(|line| line.starts_with("topology:"))
        .then_some(ImportFormat::Containerlab)
}

fn understand(format: ImportFormat, text: &str) -> Result<Topology, String> {
    match format {
        ImportFormat::Containerlab => {
            let value = serde_saphyr::from_str(text).map_err(|e| format!("it is no YAML: {}", one_line(&e)))?;
            containerlab::read(&value)
        }
        ImportFormat::Mininet => {
            let value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {}", one_line(&e)))?;
            mininet::read(&value)
        }
    }
}

fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// The text of a lab file, and what it has not.
fn written(topology: Topology) -> (String, Vec<String>) {
    let (name, lab, notes) = build::build(topology);
    let head = name.map_or_else(String::new, |name| format!("name = \"{name}\"\n"));
    // All of its types can be written.
    let text = match (head.is_empty(), text_of(&lab).unwrap_or_default()) {
        (true, text) if text.is_empty() => "ports = []\n".to_owned(),
        (true, text) => text,
        (false, text) if text.is_empty() => head,
        (false, text) => format!("{head}\n{text}"),
    };
    (text, notes.into_lines())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vswitch_api::{Lab, PortKind};

    use super::*;

    /// The lab and what was left out.
    fn import(format: ImportFormat, text: &str) -> (Lab, Vec<String>) {
        let (text, notes) = written(understand(format, text).unwrap());
        let file = of_text("F", &text).unwrap_or_else(|report| panic!("{text}\n{}", report.text()));
        (file.lab, notes)
    }

    const CLAB: &str = r#"
name: two-hosts
topology:
  defaults:
    kind: linux
    image: alpine:3
  nodes:
    red:
      exec:
        - ip addr add 10.0.0.1/24 dev eth1
        - ip link set eth1 up
        - sh -c "ip -6 addr add fd00::1/64 dev eth1 && ip route add default via 10.0.0.254"
        - ip addr add 192.168.0.1/30 dev eth2
        - sysctl -w net.ipv4.ip_forward=1
    blue:
      kind: linux
      exec: ["ip a a 10.0.0.2/24 dev eth1", "ip addr add 10.9.9.9/24 dev eth7"]
    a-node-with-a-long-name: { exec: ["ip addr add 192.168.0.2/30 dev eth1"] }
    br: {kind: bridge}
    br2: {kind: ovs-bridge}
    router: {kind: nokia_srlinux}
  links:
    - endpoints: ["red:eth1", "br:p1"]
      mtu: 1400
    - endpoints: ["blue:eth1", "br:p2"]
    - endpoints: ["red:eth2", "a-node-with-a-long-name:eth1"]
    - endpoints: ["br:x", "br2:y"]
    - endpoints: ["blue:eth2", "host:veth-blue"]
    - endpoints: ["router:e1-1", "mgmt-net:x"]
    - endpoints: ["blue:eth3", "nobody:eth1"]
    - type: veth
      endpoints:
        - {node: router, interface: e1-2, mac: "02:00:00:00:00:07"}
        - {node: br2, interface: z}
    - {type: macvlan, endpoint: {node: red, interface: eth9}, host-interface: eno1}
"#;

    /// Only those of the closest layer were taken, and no word was said of the others.
    #[test]
    fn commands_of_all_layers_of_containerlab_are_run() {
        let text = r#"
name: l
topology:
  defaults: {exec: ["ip addr add 10.9.0.1/24 dev eth1"]}
  kinds: {linux: {exec: ["sysctl -w net.ipv4.ip_forward=1", "ip link set eth1 mtu 9000"]}}
  groups: {g: {exec: ["ip route add 10.8.0.0/16 via 10.0.0.2", "frr start"]}}
  nodes:
    a: {kind: linux, group: g, exec: ["ip addr add 10.0.0.1/24 dev eth1"]}
    b: {kind: linux, exec: []}
  links:
    - endpoints: ["a:eth1", "b:eth1"]
"#;
        let (lab, notes) = import(ImportFormat::Containerlab, text);
        let ends = &lab.cables[0];
        let of = |addresses: &[vswitch_api::IfAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(&ends.a.addresses), ["10.9.0.1/24", "10.0.0.1/24"]);
        assert_eq!(of(&ends.b.addresses), ["10.9.0.1/24"]);
        assert_eq!(ends.a.routes.len(), 1);
        let set = lab.namespaces.iter().filter(|namespace| !namespace.sysctls.is_empty());
        assert_eq!(set.count(), 2);
        assert!(notes.join("\n").contains("frr start"), "{notes:?}");
    }

    #[test]
    fn a_topology_of_containerlab_becomes_a_lab() {
        let (lab, notes) = import(ImportFormat::Containerlab, CLAB);
        let names: Vec<_> = lab.ports.iter().map(|port| port.name.to_string()).collect();
        assert_eq!(names, ["red", "blue", "blue-eth2", "veth-blue", "router"]);
        let red = &lab.ports[0];
        assert_eq!(
            serde_json::to_value(red).unwrap(),
            json!({
                "name": "red", "switch": "br", "kind": "veth", "namespace": "red", "ifname": "eth1", "mtu": 1400,
                "addresses": ["10.0.0.1/24", "fd00::1/64"], "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.254"}]
            })
        );
        assert_eq!(lab.ports[3].kind, PortKind::Internal);
        assert_eq!(
            (lab.ports[2].switch.as_str(), &lab.ports[2].switch),
            ("veth-blue", &lab.ports[3].switch)
        );
        assert_eq!(lab.ports[4].mac.unwrap().to_string(), "02:00:00:00:00:07");
        assert_eq!(lab.cables.len(), 1);
        assert_eq!(lab.cables[0].b.namespace.as_str(), "a-node-with-a-l");
        assert_eq!(lab.cables[0].b.addresses[0].to_string(), "192.168.0.2/30");
        assert_eq!((lab.links[0].a.as_str(), lab.links[0].b.as_str()), ("br", "br2"));
        let set = lab.namespaces.iter().find(|namespace| !namespace.sysctls.is_empty());
        let set = set.map(|set| serde_json::to_value(&set.sysctls).unwrap());
        assert_eq!(set, Some(json!({"net.ipv4.ip_forward": 1})));
        let all = notes.join("\n");
        for part in [
            "`image` (programs of the host run in namespaces): a-node-with-a-long-name, blue, red, router",
            "10.9.9.9/24",
            "mgmt-net",
            "nobody",
            "macvlan",
            "nokia_srlinux",
            "a-node-with-a-long-name is called a-node-with-a-l",
        ] {
            assert!(all.contains(part), "no {part} in\n{all}");
        }
    }

    #[test]
    fn what_can_all_be_expressed_leaves_nothing_out() {
        let text = "topology:\n  nodes:\n    a: {kind: linux}\n    s: {kind: bridge}\n    alone: {kind: linux}\n  links:\n    - endpoints: [\"a:eth1\", \"s:x\"]\n";
        let (lab, notes) = import(ImportFormat::Containerlab, text);
        assert_eq!((lab.ports.len(), lab.namespaces.len(), notes), (1, 1, Vec::new()));
    }

    const MN: &str = r#"{
        "application": {"ipBase": "10.0.0.0/8", "startCLI": "0"},
        "controllers": [{"opts": {"hostname": "c0"}}],
        "hosts": [
            {"number": "1", "opts": {"hostname": "h1", "nodeNum": 1, "sched": "host"}},
            {"number": "2", "opts": {"hostname": "h2", "nodeNum": 2, "ip": "10.0.0.77/24", "defaultRoute": "10.0.0.1", "startCommand": "iperf -s"}},
            {"number": "3", "opts": {"hostname": "h3", "nodeNum": 3, "vlanInterfaces": [["10.1.0.1", "10"]]}}
        ],
        "links": [
            {"src": "h1", "dest": "s1", "opts": {"bw": 10, "delay": "5ms", "loss": 2, "max_queue_size": 100}},
            {"src": "s1", "dest": "h2", "opts": {}},
            {"src": "s1", "dest": "s2", "opts": {"delay": "1ms"}},
            {"src": "h3", "dest": "s2", "opts": {"delay": "soon", "speedup": 3}},
            {"src": "h1", "dest": "h3", "opts": {}}
        ],
        "switches": [
            {"number": "1", "opts": {"hostname": "s1", "switchType": "ovs", "controllers": ["c0"]}},
            {"number": "2", "opts": {"hostname": "s2", "switchType": "legacySwitch", "externalInterfaces": ["eth9"]}}
        ],
        "version": "2"
    }"#;

    #[test]
    fn a_topology_of_mininet_becomes_a_lab() {
        let (lab, notes) = import(ImportFormat::Mininet, MN);
        let names: Vec<_> = lab.ports.iter().map(|port| port.name.to_string()).collect();
        assert_eq!(names, ["h1", "h2", "h3"]);
        let h1 = serde_json::to_value(&lab.ports[0]).unwrap();
        assert_eq!(h1["addresses"], json!(["10.0.0.1/8"]));
        assert_eq!(h1["ifname"], "h1-eth0");
        let wire = json!({"delay_us": 5000, "loss": 0.02, "rate_bps": 10_000_000, "limit": 100});
        assert_eq!(h1["impair"], json!({"in": wire, "out": wire}));
        let h2 = serde_json::to_value(&lab.ports[1]).unwrap();
        assert_eq!(h2["routes"], json!([{"to": "0.0.0.0/0", "via": "10.0.0.1"}]));
        assert_eq!(lab.links.len(), 1);
        assert_eq!(lab.links[0].impair.as_ref().unwrap().delay_us, 1000);
        assert_eq!(lab.cables[0].b.ifname.as_ref().unwrap().as_str(), "h3-eth1");
        let all = notes.join("\n");
        for part in [
            "controller",
            "iperf -s",
            "vlanInterfaces",
            "speedup",
            "soon",
            "externalInterfaces",
        ] {
            assert!(all.contains(part), "no {part} in\n{all}");
        }
    }

    #[test]
    fn what_is_no_topology_is_refused() {
        for text in ["", "a: [", "topology: 5", "[]", "name: x\n", "&a [*a]"] {
            assert!(understand(ImportFormat::Containerlab, text).is_err(), "{text}");
        }
        for text in ["", "{}", "[]", "{\"hosts\": 5}", "topology:"] {
            assert!(understand(ImportFormat::Mininet, text).is_err(), "{text}");
        }
    }

    /// Anything where something is expected.
    fn odd() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::sample::select(vec![
                "",
                "a",
                "b:eth1",
                "s:p",
                "host:x",
                "mgmt-net:y",
                "a:",
                ":",
                "linux",
                "bridge",
                "ip addr add 10.0.0.1/24 dev eth1",
                "ip route add default via 10.0.0.9",
                "ip addr add 10.0.0.1/99 dev eth1",
                "ip link set eth1 mtu 5",
                "ip",
                "ip route add",
                "10.0.0.1/8",
                "5ms",
                "-1",
                "ff:ff:ff:ff:ff:ff",
                "ä\u{0}\n\"",
                "x".repeat(300).leak() as &str,
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let keys = prop::sample::select(vec![
                "a",
                "b",
                "s",
                "kind",
                "exec",
                "endpoints",
                "node",
                "interface",
                "mac",
                "mtu",
                "opts",
                "hostname",
                "ip",
                "src",
                "dest",
                "bw",
                "delay",
                "loss",
                "defaultRoute",
                "type",
                "nodeNum",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((keys, inner), 0..4).prop_map(|members| members
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()),
            ]
        })
    }

    /// A text with one of its values replaced.
    fn replaced(value: &mut Value, at: usize, by: &Value, seen: &mut usize) {
        *seen += 1;
        if *seen == at {
            value.clone_from(by);
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| replaced(item, at, by, seen)),
            Value::Object(members) => members.values_mut().for_each(|member| replaced(member, at, by, seen)),
            _ => {}
        }
    }

    proptest! {
        /// Whatever is in it, it is refused or becomes a lab that can be brought up.
        #[test]
        fn what_comes_out_is_a_lab(changes in prop::collection::vec((1usize..120, odd()), 1..5)) {
            let clab: Value = serde_saphyr::from_str(CLAB).unwrap();
            let mn: Value = serde_json::from_str(MN).unwrap();
            for (read, mut value) in [(containerlab::read as fn(&Value) -> _, clab), (mininet::read, mn)] {
                for (at, by) in &changes {
                    replaced(&mut value, *at, by, &mut 0);
                }
                if let Ok(topology) = read(&value) {
                    let (text, _) = written(topology);
                    if let Err(report) = of_text("F", &text) {
                        panic!("{text}\n{}", report.text());
                    }
                }
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "[ -~\n]{0,200}", at in 0usize..400) {
            for format in [ImportFormat::Containerlab, ImportFormat::Mininet] {
                let _ = understand(format, &text).map(written);
                let base = if format == ImportFormat::Mininet { MN } else { CLAB };
                let cut = base.get(..base.len().min(at)).unwrap_or_default();
                let _ = understand(format, &format!("{cut}{text}")).map(written);
            }
        }
    }
}
