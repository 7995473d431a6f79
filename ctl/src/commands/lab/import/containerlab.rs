//! Topologies of containerlab (<https://containerlab.dev/manual/topo-def-file/>).

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::ip;
use super::topology::{Kind, Node, Tip, Topology, Wire, shown, text};

/// The node that stands for the host in an endpoint.
const HOST: &str = "host";
/// Keys of a node that say nothing about the network.
const OF_NO_MATTER: [&str; 7] = ["kind", "group", "exec", "labels", "position", "type", "sysctls"];
const IMAGE: &str = "`image` (programs of the host run in namespaces)";

/// What a node has by itself, by its group, by its kind, and by default.
struct Layers<'a>(Vec<&'a Map<String, Value>>);

impl<'a> Layers<'a> {
    fn keys(&self) -> Vec<&'a String> {
        let mut keys: Vec<_> = self.0.iter().flat_map(|layer| layer.keys()).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

/// Reads a topology.
///
/// # Errors
/// It is none.
pub fn read(value: &Value) -> Result<Topology, String> {
    let parts = value.get("topology").and_then(Value::as_object);
    let parts = parts.ok_or("it has no `topology`")?;
    let nodes = parts.get("nodes").and_then(Value::as_object);
    let nodes = nodes.ok_or("its `topology` has no `nodes`")?;
    let mut topology = Topology {
        name: value.get("name").and_then(text),
        ..Topology::default()
    };
    for (key, value) in value.as_object().into_iter().flatten() {
        if !["name", "prefix", "topology"].contains(&key.as_str()) {
            topology.notes.add(format!("`{key}` ({})", brief(value)));
        }
    }
    let object = |of: &Map<String, Value>, key: &str| of.get(key).and_then(Value::as_object).cloned();
    let (kinds, groups) = (object(parts, "kinds"), object(parts, "groups"));
    let (nothing, defaults) = (Map::new(), object(parts, "defaults"));
    let mut places = HashMap::new();
    for (name, own) in nodes {
        let own = own.as_object().unwrap_or(&nothing);
        let said = |key: &str| own.get(key).and_then(text);
        let group = said("group").and_then(|group| groups.as_ref()?.get(&group)?.as_object());
        let kind_of = |layer: Option<&Map<String, Value>>| layer.and_then(|layer| layer.get("kind")).and_then(text);
        let kind = said("kind")
            .or_else(|| kind_of(group))
            .or_else(|| kind_of(defaults.as_ref()));
        let kind = kind.unwrap_or_default();
        let of_kind = kinds.as_ref().and_then(|kinds| kinds.get(&kind)?.as_object());
        let layers = [Some(own), group, of_kind, defaults.as_ref()];
        let layers = Layers(layers.into_iter().flatten().collect());
        places.insert(name.clone(), topology.nodes.len());
        add_node(&mut topology, name, &kind, &layers);
    }
    for link in parts.get("links").and_then(Value::as_array).into_iter().flatten() {
        add_link(&mut topology, link, &mut places);
    }
    Ok(topology)
}

fn brief(value: &Value) -> String {
    let shown = shown(value);
    match shown.char_indices().nth(160) {
        Some((end, _)) => format!("{}...", &shown[..end]),
        None => shown,
    }
}

fn add_node(topology: &mut Topology, name: &str, kind: &str, layers: &Layers<'_>) {
    let notes = &mut topology.notes;
    let mut node = Node::new(
        name,
        match kind {
            "bridge" | "ovs-bridge" => Kind::Switch,
            "host" => Kind::Host,
            _ => Kind::Namespace,
        },
    );
    if node.kind == Kind::Namespace && !["linux", "ext-container", "k8s-kind", ""].contains(&kind) {
        notes.about(
            format!("what runs in nodes of kind {kind}, of which only the namespace is left"),
            name,
        );
    }
    if node.kind == Kind::Namespace {
        for key in layers.keys() {
            match key.as_str() {
                "image" => notes.about(IMAGE, name),
                key if OF_NO_MATTER.contains(&key) => {}
                key => notes.about(format!("`{key}`"), name),
            }
        }
    }
    // Of all layers, the closest last.
    for settings in layers
        .0
        .iter()
        .rev()
        .filter_map(|layer| layer.get("sysctls")?.as_object())
    {
        for (key, value) in settings {
            let value = shown(value);
            if node.kind != Kind::Namespace || !node.set(key, &value) {
                notes.about(format!("`sysctls`: {key}={value}"), name);
            }
        }
    }
    // Those of all layers are run, the most general first.
    let commands = layers.0.iter().rev().filter_map(|layer| layer.get("exec")?.as_array());
    for line in commands.flatten() {
        let line = shown(line);
        if node.kind != Kind::Namespace || !ip::take(&mut node, &line) {
            notes.about(format!("`exec`: {line}"), name);
        }
    }
    topology.nodes.push(node);
}

/// What a link names at one end.
struct Said {
    node: String,
    tip: String,
    mac: Option<Value>,
}

fn add_link(topology: &mut Topology, link: &Value, places: &mut HashMap<String, usize>) {
    let kind = link.get("type").and_then(text);
    let whole = brief(link);
    let said = match kind.as_deref() {
        None | Some("veth") => {
            let ends = link.get("endpoints").and_then(Value::as_array);
            ends.map(|ends| ends.iter().filter_map(endpoint).collect::<Vec<_>>())
        }
        Some("host") => {
            let host = link.get("host-interface").and_then(text);
            let host = host.map(|tip| Said {
                node: HOST.to_owned(),
                tip,
                mac: None,
            });
            Some(
                link.get("endpoint")
                    .and_then(endpoint)
                    .into_iter()
                    .chain(host)
                    .collect(),
            )
        }
        Some(_) => None,
    };
    let Some([a, b]) = said.and_then(|said| <[Said; 2]>::try_from(said).ok()) else {
        topology.notes.add(format!("link {whole}"));
        return;
    };
    let mut ends = Vec::new();
    for said in [a, b] {
        if said.node == HOST && !places.contains_key(HOST) {
            places.insert(HOST.to_owned(), topology.nodes.len());
            topology.nodes.push(Node::new(HOST, Kind::Host));
        }
        let Some(place) = places.get(&said.node).copied() else {
            // `mgmt-net`, `macvlan`, or a slip.
            topology
                .notes
                .add(format!("link {whole}, as there is no node {:?}", said.node));
            return;
        };
        if let Some(mac) = said.mac {
            match text(&mac).and_then(|mac| mac.parse().ok()) {
                Some(mac) => topology.nodes[place].macs.push((said.tip.clone(), mac)),
                None => topology.notes.about(format!("MAC address {}", shown(&mac)), &said.node),
            }
        }
        ends.push(Tip {
            node: place,
            ifname: Some(said.tip),
        });
    }
    for (key, value) in link.as_object().into_iter().flatten() {
        if !["type", "endpoints", "endpoint", "host-interface", "mtu", "labels"].contains(&key.as_str()) {
            topology
                .notes
                .about(format!("`{key}` ({})", brief(value)), &format!("link {whole}"));
        }
    }
    let mtu = link.get("mtu");
    let number = mtu.and_then(Value::as_u64).and_then(|mtu| u32::try_from(mtu).ok());
    if let (Some(mtu), None) = (mtu, number) {
        topology
            .notes
            .about(format!("MTU {}", brief(mtu)), &format!("link {whole}"));
    }
    if let Ok(ends) = <[Tip; 2]>::try_from(ends) {
        topology.wires.push(Wire {
            ends,
            mtu: number,
            impair: None,
        });
    }
}

/// `red:eth1`, or a table.
fn endpoint(value: &Value) -> Option<Said> {
    if let Some(text) = value.as_str() {
        let (node, tip) = text.split_once(':')?;
        return Some(Said {
            node: node.to_owned(),
            tip: tip.to_owned(),
            mac: None,
        });
    }
    Some(Said {
        node: value.get("node").and_then(text)?,
        tip: value.get("interface").and_then(text)?,
        mac: value.get("mac").cloned(),
    })
}
