//! A lab out of a topology: bridges are switches, links are ports, cables or links of switches.

use std::collections::HashSet;
use std::net::IpAddr;

use vswitch_api::lab::{MAX_MTU, MIN_MTU};
use vswitch_api::name::NAME_MAX;
use vswitch_api::traffic::Impairments;
use vswitch_api::{
    Cable, CableEnd, IfAddr, IfName, Lab, LabName, LabNamespace, Link, Mac, NsName, Port, PortKind, PortName, Route,
    Switch, SwitchName,
};

use super::topology::{Kind, Node, Notes, Tip, Topology, Wire};

/// Names of one sort that are taken.
#[derive(Default)]
struct Names(HashSet<String>);

impl Names {
    /// The name, or one like it that can be and is free.
    fn fit(&mut self, wanted: &str) -> String {
        let allowed = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.@+".contains(c) {
                c
            } else {
                '-'
            }
        };
        let text: String = wanted.chars().map(allowed).collect();
        let text = text.trim_start_matches(['.', '-']);
        let text = if text.is_empty() { "x" } else { text };
        let mut name: String = text.chars().take(NAME_MAX).collect();
        let mut n = 2;
        while !self.0.insert(name.clone()) {
            let ending = format!("-{n}");
            name = text.chars().take(NAME_MAX - ending.len()).collect::<String>() + &ending;
            n += 1;
        }
        name
    }
}

/// Where the settings of an interface stand in the lab.
#[derive(Clone, Copy)]
enum Place {
    Port(usize),
    CableA(usize),
    CableB(usize),
}

struct Builder {
    lab: Lab,
    notes: Notes,
    ports: Names,
    switches: Names,
    /// Name of each node here.
    names: Vec<String>,
    /// Interfaces by node and their name there, in the order of the links.
    places: Vec<Vec<(Option<String>, Place)>>,
    /// Interfaces that a namespace has by name.
    taken: HashSet<(usize, String)>,
    /// Addresses on a switch.
    heard: HashSet<(SwitchName, IpAddr)>,
}

/// The name of the lab, the lab, and what it has not.
pub fn build(topology: Topology) -> (Option<LabName>, Lab, Notes) {
    let Topology {
        name,
        nodes,
        wires,
        notes,
    } = topology;
    let mut builder = Builder {
        lab: Lab::default(),
        notes,
        ports: Names::default(),
        switches: Names::default(),
        names: Vec::new(),
        places: nodes.iter().map(|_| Vec::new()).collect(),
        taken: HashSet::new(),
        heard: HashSet::new(),
    };
    builder.name_nodes(&nodes);
    for wire in &wires {
        builder.join(&nodes, wire);
    }
    for (n, node) in nodes.iter().enumerate() {
        builder.set_up(n, node);
        let alone = builder.places[n].is_empty() || !node.sysctls.is_empty();
        if node.kind == Kind::Namespace && alone {
            let name = builder.names[n].parse().ok();
            builder.lab.namespaces.extend(name.map(|name| LabNamespace {
                sysctls: node.sysctls.clone(),
                ..LabNamespace::new(name)
            }));
        }
    }
    let name = name.and_then(|name| match name.parse() {
        Ok(name) => Some(name),
        Err(_) => {
            builder.notes.add(format!("name {name:?}, which is none for a lab"));
            None
        }
    });
    (name, builder.lab, builder.notes)
}

impl Builder {
    fn name_nodes(&mut self, nodes: &[Node]) {
        let mut namespaces = Names::default();
        for node in nodes {
            let name = match node.kind {
                Kind::Namespace => namespaces.fit(&node.name),
                Kind::Switch => self.switches.fit(&node.name),
                Kind::Host => node.name.clone(),
            };
            if name != node.name {
                self.notes.add(format!("{} is called {name}", node.name));
            }
            if node.kind == Kind::Switch
                && let Ok(name) = name.parse::<SwitchName>()
            {
                self.lab.switches.push(Switch::new(name));
            }
            self.names.push(name);
        }
    }

    fn join(&mut self, nodes: &[Node], wire: &Wire) {
        let [a, b] = &wire.ends;
        let kinds = [nodes[a.node].kind, nodes[b.node].kind];
        let whole = format!("link {} - {}", shown(nodes, a), shown(nodes, b));
        let mtu = wire.mtu.filter(|mtu| {
            let is_possible = (MIN_MTU..=MAX_MTU).contains(mtu);
            if !is_possible {
                self.notes.about(format!("MTU {mtu}"), &whole);
            }
            is_possible
        });
        match kinds {
            _ if a.node == b.node => self.notes.add(format!("{whole}, as it has both ends at the same node")),
            [Kind::Host, Kind::Host] => self.notes.add(format!("{whole}, as it stays in the host")),
            [Kind::Namespace, Kind::Namespace] => {
                if wire.impair.is_some() {
                    self.notes
                        .about("delay, loss and rate of links without a switch", &whole);
                }
                let (Some(one), Some(other)) = (self.end(a), self.end(b)) else {
                    return;
                };
                let n = self.lab.cables.len();
                self.lab.cables.push(Cable { a: one, b: other, mtu });
                self.places[a.node].push((a.ifname.clone(), Place::CableA(n)));
                self.places[b.node].push((b.ifname.clone(), Place::CableB(n)));
            }
            [Kind::Switch, Kind::Switch] => {
                let (Ok(one), Ok(other)) = (self.names[a.node].parse(), self.names[b.node].parse()) else {
                    return;
                };
                let mut link = Link::new(one, other);
                link.mtu = mtu;
                link.impair.clone_from(&wire.impair);
                // Named, so that the names of ports are all known here.
                let (a, b) = (self.names[a.node].clone(), self.names[b.node].clone());
                link.name_a = self.ports.fit(&format!("{a}-{b}")).parse().ok();
                link.name_b = self.ports.fit(&format!("{b}-{a}")).parse().ok();
                self.lab.links.push(link);
            }
            [Kind::Namespace, Kind::Switch] => self.port(a, self.names[b.node].clone(), mtu, wire),
            [Kind::Switch, Kind::Namespace] => self.port(b, self.names[a.node].clone(), mtu, wire),
            [Kind::Switch, Kind::Host] => self.host_port(b, self.names[a.node].clone(), mtu),
            [Kind::Host, Kind::Switch] => self.host_port(a, self.names[b.node].clone(), mtu),
            [Kind::Namespace, Kind::Host] => self.join_host(a, b, mtu, wire),
            [Kind::Host, Kind::Namespace] => self.join_host(b, a, mtu, wire),
        }
    }

    /// A switch of its own is the same as a pair of interfaces.
    fn join_host(&mut self, inside: &Tip, outside: &Tip, mtu: Option<u32>, wire: &Wire) {
        let wanted = outside
            .ifname
            .clone()
            .unwrap_or_else(|| self.names[inside.node].clone());
        let switch = self.switches.fit(&wanted);
        if let Ok(name) = switch.parse() {
            self.lab.switches.push(Switch::new(name));
        }
        self.port(inside, switch.clone(), mtu, wire);
        self.host_port(outside, switch, mtu);
    }

    fn host_port(&mut self, tip: &Tip, switch: String, mtu: Option<u32>) {
        let wanted = tip.ifname.clone().unwrap_or_else(|| switch.clone());
        let (Ok(name), Ok(switch)) = (self.ports.fit(&wanted).parse::<PortName>(), switch.parse()) else {
            return;
        };
        if name.as_str() != wanted {
            self.notes
                .add(format!("interface {wanted} of the host is called {name}"));
        }
        let mut port = Port::new(name, switch, PortKind::Internal);
        port.mtu = mtu;
        let n = self.lab.ports.len();
        self.lab.ports.push(port);
        self.places[tip.node].push((tip.ifname.clone(), Place::Port(n)));
    }

    fn port(&mut self, tip: &Tip, switch: String, mtu: Option<u32>, wire: &Wire) {
        let node = self.names[tip.node].clone();
        let ifname = self.ifname(tip);
        // The first is called as its node.
        let has_some = self.places[tip.node]
            .iter()
            .any(|(_, place)| matches!(place, Place::Port(_)));
        let wanted = match &ifname {
            Some(ifname) if has_some && !ifname.as_str().starts_with(&node) => format!("{node}-{ifname}"),
            Some(ifname) if has_some => ifname.to_string(),
            _ => node.clone(),
        };
        let name = self.ports.fit(&wanted).parse::<PortName>();
        let (Ok(name), Ok(switch), Ok(namespace)) = (name, switch.parse(), node.parse::<NsName>()) else {
            return;
        };
        let mut port = Port::new(name, switch, PortKind::Veth);
        port.namespace = Some(namespace.into());
        port.ifname = ifname;
        port.mtu = mtu;
        if let Some(impair) = &wire.impair {
            port.impair = Impairments {
                inward: Some(impair.clone()),
                outward: Some(impair.clone()),
            };
        }
        let n = self.lab.ports.len();
        self.lab.ports.push(port);
        self.places[tip.node].push((tip.ifname.clone(), Place::Port(n)));
    }

    fn end(&mut self, tip: &Tip) -> Option<CableEnd> {
        let mut end = CableEnd::new(self.names[tip.node].parse().ok()?);
        end.ifname = self.ifname(tip);
        Some(end)
    }

    /// The name of an interface, where it can be one and no other there has it.
    fn ifname(&mut self, tip: &Tip) -> Option<IfName> {
        let name = tip.ifname.as_ref()?;
        let node = &self.names[tip.node];
        let is_free = self.taken.insert((tip.node, name.clone()));
        match name.parse::<IfName>() {
            Ok(name) if is_free && name.as_str() != "lo" => Some(name),
            _ => {
                self.notes
                    .about(format!("interface name {name:?}, another is chosen"), node);
                None
            }
        }
    }

    /// Addresses, routes and the rest of the interfaces of a node.
    fn set_up(&mut self, n: usize, node: &Node) {
        for (dev, address) in &node.addresses {
            match self.place(n, dev.as_deref()) {
                Some(place) if self.add_address(place, *address) => {}
                _ => self
                    .notes
                    .about(format!("address {address}{}", on(dev.as_deref())), &node.name),
            }
        }
        for (dev, to, via) in &node.routes {
            let route = Route::new(*to, *via);
            let places: Vec<_> = match dev {
                Some(dev) => self.place(n, Some(dev)).into_iter().collect(),
                None => self.places[n].iter().map(|(_, place)| *place).collect(),
            };
            if !places.iter().any(|place| self.add_route(*place, route, dev.is_some())) {
                let via = via.map_or_else(String::new, |via| format!(" via {via}"));
                self.notes
                    .about(format!("route to {to}{via}{}", on(dev.as_deref())), &node.name);
            }
        }
        for (dev, mtu) in &node.mtus {
            let is_possible = (MIN_MTU..=MAX_MTU).contains(mtu);
            let place = self.place(n, Some(dev)).filter(|_| is_possible);
            match place {
                Some(Place::Port(n)) => self.lab.ports[n].mtu = Some(*mtu),
                Some(Place::CableA(n) | Place::CableB(n)) => self.lab.cables[n].mtu = Some(*mtu),
                None => self.notes.about(format!("MTU {mtu}{}", on(Some(dev))), &node.name),
            }
        }
        for (dev, mac) in &node.macs {
            let place = self.place(n, Some(dev)).filter(|_| mac.is_unicast());
            match place {
                Some(place) => *self.interface(place).0 = Some(*mac),
                None => self
                    .notes
                    .about(format!("MAC address {mac}{}", on(Some(dev))), &node.name),
            }
        }
    }

    /// The interface of this name, or the first.
    fn place(&self, n: usize, dev: Option<&str>) -> Option<Place> {
        let is_so = |(name, _): &&(Option<String>, Place)| dev.is_none() || name.as_deref() == dev;
        self.places[n].iter().find(is_so).map(|(_, place)| *place)
    }

    fn interface(&mut self, place: Place) -> (&mut Option<Mac>, &mut Vec<IfAddr>, &mut Vec<Route>) {
        match place {
            Place::Port(n) => {
                let port = &mut self.lab.ports[n];
                (&mut port.mac, &mut port.addresses, &mut port.routes)
            }
            Place::CableA(n) => {
                let end = &mut self.lab.cables[n].a;
                (&mut end.mac, &mut end.addresses, &mut end.routes)
            }
            Place::CableB(n) => {
                let end = &mut self.lab.cables[n].b;
                (&mut end.mac, &mut end.addresses, &mut end.routes)
            }
        }
    }

    /// One address is had once on a switch.
    fn add_address(&mut self, place: Place, address: IfAddr) -> bool {
        if let Place::Port(n) = place {
            let switch = self.lab.ports[n].switch.clone();
            if !self.heard.insert((switch, address.ip())) {
                return false;
            }
        }
        let (_, addresses, _) = self.interface(place);
        let is_new = !addresses.iter().any(|other| other.ip() == address.ip());
        if is_new {
            addresses.push(address);
        }
        is_new
    }

    /// A next hop is in a subnet of the interface.
    fn add_route(&mut self, place: Place, route: Route, is_meant: bool) -> bool {
        let (_, addresses, routes) = self.interface(place);
        let mut nets = addresses.iter().map(|address| address.net());
        let fits = match route.via {
            Some(via) => via.is_ipv4() == route.to.addr().is_ipv4() && nets.any(|net| net.contains(&via)),
            None => is_meant,
        };
        let fits = fits && !routes.iter().any(|other| other.to == route.to);
        if fits {
            routes.push(route);
        }
        fits
    }
}

fn on(dev: Option<&str>) -> String {
    dev.map_or_else(String::new, |dev| format!(" on {dev}"))
}

fn shown(nodes: &[Node], tip: &Tip) -> String {
    let ifname = tip.ifname.as_ref().map_or_else(String::new, |name| format!(":{name}"));
    format!("{}{ifname}", nodes[tip.node].name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_each_is_had_once() {
        let mut names = Names::default();
        for (wanted, name) in [
            ("red", "red"),
            ("red", "red-2"),
            ("a b/c", "a-b-c"),
            ("-x", "x"),
            ("", "x-2"),
            ("0123456789abcdefgh", "0123456789abcde"),
            ("0123456789abcdefgh", "0123456789abc-2"),
            ("größe", "gr--e"),
        ] {
            assert_eq!(names.fit(wanted), name);
        }
    }
}
