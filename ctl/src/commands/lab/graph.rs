//! `lab graph`: switches, namespaces and what joins them, as Mermaid, DOT or SVG.

use std::fmt::Write;

use vswitch_api::policy::PortVlan;
use vswitch_api::{DEFAULT_SWITCH, Lab, Port, PortKind};

use super::svg;
use crate::cli::lab::{GraphFormat, LabGraphArgs};
use crate::commands::Session;
use crate::failure::Failure;

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Graph {
    pub switches: Vec<String>,
    pub places: Vec<Place>,
    pub edges: Vec<Edge>,
    /// Between places.
    pub cables: Vec<(usize, usize)>,
    /// Between switches.
    pub links: Vec<Line>,
}

/// A namespace, the host, or what is behind a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub name: String,
    pub addresses: Vec<String>,
}

/// A port: from a switch to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    pub switch: usize,
    pub place: usize,
    pub label: String,
}

/// A link: from a switch to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub a: usize,
    pub b: usize,
    pub label: String,
}

impl Session {
    pub(super) async fn graph_lab(&self, args: LabGraphArgs) -> Result<(), Failure> {
        let lab: Lab = match &args.file {
            Some(file) => self.read_lab(file)?.lab,
            None => self.client.known_lab().await?,
        };
        let graph = Graph::of(lab);
        let text = match args.format {
            GraphFormat::Mermaid => graph.mermaid(),
            GraphFormat::Dot => graph.dot(),
            GraphFormat::Svg => svg::draw(&graph),
        };
        self.out.show(&text, |_| text.clone())
    }
}

impl Graph {
    pub fn of(mut lab: Lab) -> Self {
        lab.lay_links();
        let mut graph = Self::default();
        let named = lab.switches.iter().map(|switch| switch.name.to_string());
        let used = lab.ports.iter().map(|port| port.switch.to_string());
        for name in named.chain(used) {
            if !graph.switches.contains(&name) {
                graph.switches.push(name);
            }
        }
        // It is there in any case, and of interest where something is on it.
        if graph.switches.len() > 1 && !lab.ports.iter().any(|port| port.switch.as_str() == DEFAULT_SWITCH) {
            graph.switches.retain(|name| name != DEFAULT_SWITCH);
        }
        let on = |switches: &[String], port: &Port| switches.iter().position(|name| name == port.switch.as_str());
        for (a, b) in lab.laid_links() {
            if let (Some(from), Some(to)) = (on(&graph.switches, a), on(&graph.switches, b)) {
                let (a, b, label) = (from, to, line_label(a, b));
                graph.links.push(Line { a, b, label });
            }
        }
        for port in lab.ports.iter().filter(|port| port.kind != PortKind::Link) {
            let name = match port.own_namespace() {
                Some(namespace) => namespace.to_string(),
                None if port.kind.has_stack() => "host".to_owned(),
                None => format!("{} {}", port.kind.word(), port.name),
            };
            let label = label(port, &name);
            let place = graph.place(name, port.addresses.iter().map(ToString::to_string));
            if let Some(switch) = on(&graph.switches, port) {
                graph.edges.push(Edge { switch, place, label });
            }
        }
        for cable in &lab.cables {
            let [a, b] = [&cable.a, &cable.b]
                .map(|end| graph.place(end.namespace.to_string(), end.addresses.iter().map(ToString::to_string)));
            graph.cables.push((a, b));
        }
        for namespace in &lab.namespaces {
            graph.place(namespace.name.to_string(), std::iter::empty());
        }
        graph
    }

    fn place(&mut self, name: String, addresses: impl Iterator<Item = String>) -> usize {
        let at = self.places.iter().position(|place| place.name == name);
        let at = at.unwrap_or_else(|| {
            self.places.push(Place {
                name,
                addresses: Vec::new(),
            });
            self.places.len() - 1
        });
        self.places[at].addresses.extend(addresses);
        at
    }

    fn mermaid(&self) -> String {
        let mut text = "flowchart LR\n".to_owned();
        // In quotes only this has a meaning.
        let quoted = |text: &str| text.replace('"', "#quot;");
        for (n, name) in self.switches.iter().enumerate() {
            let _ = writeln!(text, "    s{n}[[\"switch {}\"]]", quoted(name));
        }
        for (n, place) in self.places.iter().enumerate() {
            let _ = writeln!(text, "    n{n}[\"{}\"]", quoted(&place.lines().join("<br>")));
        }
        for Edge { switch, place, label } in &self.edges {
            let label = match label.as_str() {
                "" => String::new(),
                label => format!("|\"{}\"|", quoted(label)),
            };
            let _ = writeln!(text, "    s{switch} ---{label} n{place}");
        }
        for (a, b) in &self.cables {
            let _ = writeln!(text, "    n{a} ===|cable| n{b}");
        }
        for Line { a, b, label } in &self.links {
            let _ = writeln!(text, "    s{a} ===|\"{}\"| s{b}", quoted(label));
        }
        text
    }

    fn dot(&self) -> String {
        let mut text = "graph lab {\n    rankdir=LR;\n    node [fontname=\"sans-serif\", shape=box];\n".to_owned();
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        for (n, name) in self.switches.iter().enumerate() {
            let label = quoted(name);
            let _ = writeln!(
                text,
                "    s{n} [label=\"switch {label}\", style=filled, fillcolor=\"#dbe7f6\"];"
            );
        }
        for (n, place) in self.places.iter().enumerate() {
            let lines: Vec<_> = place.lines().iter().map(|line| quoted(line)).collect();
            let _ = writeln!(text, "    n{n} [label=\"{}\", style=rounded];", lines.join("\\n"));
        }
        for Edge { switch, place, label } in &self.edges {
            let _ = writeln!(text, "    s{switch} -- n{place} [label=\"{}\"];", quoted(label));
        }
        for (a, b) in &self.cables {
            let _ = writeln!(text, "    n{a} -- n{b} [label=\"cable\", style=bold];");
        }
        for Line { a, b, label } in &self.links {
            let _ = writeln!(text, "    s{a} -- s{b} [label=\"{}\", style=bold];", quoted(label));
        }
        text + "}\n"
    }
}

impl Place {
    pub fn lines(&self) -> Vec<&str> {
        let addresses = self.addresses.iter().map(String::as_str);
        std::iter::once(self.name.as_str()).chain(addresses).collect()
    }
}

/// What is to be said of a port beside where it leads.
fn label(port: &Port, place: &str) -> String {
    let mut words = Vec::new();
    if port.name.as_str() != place && port.kind != PortKind::Device {
        words.push(port.name.to_string());
    }
    words.extend(settings(port));
    words.join(", ")
}

/// What is to be said of a link: its settings where either end has them.
fn line_label(a: &Port, b: &Port) -> String {
    let mut words = vec!["link".to_owned()];
    for word in settings(a).into_iter().chain(settings(b)) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(", ")
}

fn settings(port: &Port) -> Vec<String> {
    let mut words = Vec::new();
    match &port.vlan {
        PortVlan::All => {}
        PortVlan::Access(id) => words.push(format!("VLAN {}", id.get())),
        PortVlan::Trunk(trunk) => {
            let native = trunk.native.map(|id| format!(" native {}", id.get()));
            words.push(format!("trunk {}{}", trunk.allowed, native.unwrap_or_default()));
        }
        PortVlan::Tunnel(id) => words.push(format!("tunnel {}", id.get())),
    }
    if !port.impair.is_none() {
        words.push("impaired".to_owned());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let lab = serde_json::from_value(serde_json::json!({
            "ports": [
                {"name": "red", "addresses": ["10.0.0.1/24"]},
                {"name": "r1", "namespace": "router", "vlan": {"trunk": {"allowed": "10,20"}}},
                {"name": "r2", "namespace": "router", "switch": "far", "vlan": {"access": 10}}
            ],
            "switches": [{"name": "far"}],
            "links": [{"a": "main", "b": "far", "vlan": {"trunk": {"allowed": "10"}}}],
            "cables": [{"a": {"namespace": "red"}, "b": {"namespace": "blue"}}]
        }));
        Graph::of(lab.unwrap())
    }

    #[test]
    fn mermaid_and_dot_name_all_there_is() {
        let mermaid = "\
flowchart LR
    s0[[\"switch far\"]]
    s1[[\"switch main\"]]
    n0[\"red<br>10.0.0.1/24\"]
    n1[\"router\"]
    n2[\"blue\"]
    s1 --- n0
    s1 ---|\"r1, trunk 10,20\"| n1
    s0 ---|\"r2, VLAN 10\"| n1
    n0 ===|cable| n2
    s1 ===|\"link, trunk 10\"| s0
";
        assert_eq!(graph().mermaid(), mermaid);
        let dot = graph().dot();
        for part in [
            "s0 -- n1 [label=\"r2, VLAN 10\"]",
            "n0 [label=\"red\\n10.0.0.1/24\"",
            "n0 -- n2",
            "s1 -- s0 [label=\"link, trunk 10\"",
        ] {
            assert!(dot.contains(part), "{part}: {dot}");
        }
    }

    #[test]
    fn the_picture_has_each_name_once() {
        let svg = svg::draw(&graph());
        for name in ["far", "main", "red", "router", "blue"] {
            assert_eq!(svg.matches(&format!(">{name}</text>")).count(), 1, "{name}: {svg}");
        }
        assert_eq!(svg.matches(">link, trunk 10</text>").count(), 1, "{svg}");
    }
}
