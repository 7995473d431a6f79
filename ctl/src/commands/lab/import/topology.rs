//! What topologies of other tools have in common.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use vswitch_api::lab_namespace::{SysctlKey, SysctlValue};
use vswitch_api::traffic::Impairment;
use vswitch_api::{IfAddr, Mac};

/// Nodes and what joins them.
#[derive(Debug, Default)]
pub struct Topology {
    /// Its name.
    pub name: Option<String>,
    /// What is joined.
    pub nodes: Vec<Node>,
    /// What joins.
    pub wires: Vec<Wire>,
    /// What could not be expressed.
    pub notes: Notes,
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A namespace.
    Namespace,
    /// A switch.
    Switch,
    /// The host itself.
    Host,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its name there.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Addresses, with their interface if it is said.
    pub addresses: Vec<(Option<String>, IfAddr)>,
    /// Routes: interface, destination, next hop.
    pub routes: Vec<(Option<String>, IpNet, Option<IpAddr>)>,
    /// MTU of interfaces.
    pub mtus: Vec<(String, u32)>,
    /// MAC addresses of interfaces.
    pub macs: Vec<(String, Mac)>,
    /// Settings of its kernel.
    pub sysctls: BTreeMap<SysctlKey, SysctlValue>,
}

impl Node {
    /// A node of which nothing else is known.
    pub fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            addresses: Vec::new(),
            routes: Vec::new(),
            mtus: Vec::new(),
            macs: Vec::new(),
            sysctls: BTreeMap::new(),
        }
    }
}

impl Node {
    /// Sets a setting of its kernel; false: it is none that a lab file has.
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        // `sysctl` takes a key with slashes too.
        let key = key.trim().replace('/', ".").parse();
        let (Ok(key), Ok(value)) = (key, value.trim().parse()) else {
            return false;
        };
        self.sysctls.insert(key, value);
        true
    }
}

/// A link between two nodes.
#[derive(Debug)]
pub struct Wire {
    /// Its ends.
    pub ends: [Tip; 2],
    /// Its MTU.
    pub mtu: Option<u32>,
    /// What happens in each direction.
    pub impair: Option<Impairment>,
}

/// An end of a link.
#[derive(Clone, Debug)]
pub struct Tip {
    /// Place of the node among all.
    pub node: usize,
    /// Name of the interface there.
    pub ifname: Option<String>,
}

/// What could not be expressed, each thing once with those that it is about.
#[derive(Debug, Default)]
pub struct Notes(Vec<(String, Vec<String>)>);

impl Notes {
    /// Takes note of something about a node or a link.
    pub fn about(&mut self, what: impl Into<String>, whom: &str) {
        let (what, whom) = (what.into(), printable(whom));
        match self.0.iter_mut().find(|(other, _)| *other == what) {
            Some((_, all)) if all.contains(&whom) => {}
            Some((_, all)) => all.push(whom),
            None => self.0.push((what, vec![whom])),
        }
    }

    /// Takes note of something.
    pub fn add(&mut self, what: impl Into<String>) {
        self.0.push((what.into(), Vec::new()));
    }

    /// A line each.
    pub fn into_lines(self) -> Vec<String> {
        let line = |(what, whom): (String, Vec<String>)| match whom.is_empty() {
            true => printable(&what),
            false => format!("{}: {}", printable(&what), whom.join(", ")),
        };
        self.0.into_iter().map(line).collect()
    }
}

/// On a line of a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A value as text: a name may be a number there.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// In a note.
pub fn shown(value: &Value) -> String {
    text(value).unwrap_or_else(|| value.to_string())
}
