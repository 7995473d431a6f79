//! What can be told of a lab without a daemon beyond the form of its values: names that are there twice or not at all, values out of range.
//! The daemon looks at all of it once more, and at what only it knows.

use std::collections::{HashMap, HashSet};

use vswitch_api::lab::{MAX_MTU, MIN_MTU};
use vswitch_api::{Cable, DEFAULT_SWITCH, IfAddr, Lab, Link, Mac, Port, Route};

use super::node::{Node, Span};
use super::rules;
use super::words::meant;

/// Names of a list of the file, also of what could not be read as a whole.
pub fn names<'a>(whole: &'a Node, list: &str) -> Vec<&'a str> {
    let items = whole.get(list).map(Node::items).unwrap_or_default();
    items.iter().filter_map(|item| item.get("name")?.text()).collect()
}

/// `; did you mean "red"?`
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    meant(word, known).map_or(String::new(), |meant| format!("; did you mean {meant:?}?"))
}

/// Adds what is wrong with the lab. `tree`: the file as the lab was read from it; `whole`: with what could not be read.
pub fn check(lab: &Lab, tree: &Node, whole: &Node, wrong: &mut Vec<(Span, String)>) {
    let mut switches = names(whole, "switches");
    switches.push(DEFAULT_SWITCH);
    let mut laid = lab.clone();
    laid.lay_links();
    let mut ports = names(whole, "ports");
    links_named_twice(tree, &ports, wrong);
    ports.extend(laid.ports[lab.ports.len()..].iter().map(|end| end.name.as_str()));
    for list in ["switches", "ports", "mirrors", "commands"] {
        named_twice(tree, list, wrong);
    }
    let (mut seen, empty) = (HashSet::new(), Vec::new());
    for item in tree.get("namespaces").map_or(empty.as_slice(), Node::items) {
        let name = item.text().or_else(|| item.get("name")?.text());
        if name.is_some_and(|name| !seen.insert(name)) {
            wrong.push((item.span.clone(), "this namespace is named twice".to_owned()));
        }
    }
    for (n, port) in lab.ports.iter().enumerate() {
        if let Some(item) = tree.item("ports", n) {
            check_port(port, item, &switches, wrong);
        }
    }
    addresses_twice(&lab.ports, tree, wrong);
    rules::check(lab, &laid, tree, wrong);
    for (n, cable) in lab.cables.iter().enumerate() {
        if let Some(item) = tree.item("cables", n) {
            check_cable(cable, item, wrong);
        }
    }
    for (n, link) in lab.links.iter().enumerate() {
        if let Some(item) = tree.item("links", n) {
            check_link(link, item, &switches, wrong);
        }
    }
    for (n, command) in lab.commands.iter().enumerate() {
        if let (Some(item), Some(cause)) = (tree.item("commands", n), command.wrong()) {
            wrong.push((item.span.clone(), cause));
        }
    }
    for (n, mirror) in lab.mirrors.iter().enumerate() {
        let Some(item) = tree.item("mirrors", n) else { continue };
        if !switches.contains(&mirror.switch.as_str()) {
            no_switch(mirror.switch.as_str(), item, "switch", &switches, wrong);
        }
        if mirror.to.is_none() && mirror.to_vlan.is_none() {
            let cause = "the mirror has no destination; give `to` or `to_vlan`".to_owned();
            wrong.push((item.span.clone(), cause));
        }
        let listed = item.get("ports").map(Node::items).unwrap_or_default();
        for name in listed.iter().chain(item.get("to")) {
            if let Some(text) = name.text().filter(|text| !ports.contains(text)) {
                let cause = format!(
                    "there is no port {text:?} in the file{}",
                    hint(text, ports.iter().copied())
                );
                wrong.push((name.span.clone(), cause));
            }
        }
    }
}

fn named_twice(tree: &Node, list: &str, wrong: &mut Vec<(Span, String)>) {
    let mut seen = HashSet::new();
    for item in tree.get(list).map(Node::items).unwrap_or_default() {
        let Some(name) = item.get("name") else { continue };
        if let Some(text) = name.text()
            && !seen.insert(text.to_owned())
        {
            let cause = format!("{text:?} is named twice in `{list}`; give each its own name");
            wrong.push((name.span.clone(), cause));
        }
    }
}

/// Names that links say of their ports, where another has one already.
fn links_named_twice(tree: &Node, ports: &[&str], wrong: &mut Vec<(Span, String)>) {
    let mut seen: HashSet<_> = ports.iter().copied().collect();
    for item in tree.get("links").map(Node::items).unwrap_or_default() {
        for name in ["name_a", "name_b"].iter().filter_map(|key| item.get(key)) {
            if let Some(text) = name.text().filter(|text| !seen.insert(text)) {
                let cause = format!("another port is called {text:?} already; give each its own name");
                wrong.push((name.span.clone(), cause));
            }
        }
    }
}

fn no_switch(name: &str, item: &Node, key: &str, switches: &[&str], wrong: &mut Vec<(Span, String)>) {
    let hint = match hint(name, switches.iter().copied()) {
        none if none.is_empty() => format!("; add [[switches]] with name = {name:?}"),
        hint => hint,
    };
    let cause = format!("there is no switch {name:?} in the file{hint}");
    wrong.push((item.span_of(key), cause));
}

fn check_port(port: &Port, item: &Node, switches: &[&str], wrong: &mut Vec<(Span, String)>) {
    if !switches.contains(&port.switch.as_str()) {
        no_switch(port.switch.as_str(), item, "switch", switches, wrong);
    }
    check_interface(item, port.mtu, port.mac, &port.addresses, &port.routes, wrong);
}

fn check_cable(cable: &Cable, item: &Node, wrong: &mut Vec<(Span, String)>) {
    if cable.a.namespace == cable.b.namespace {
        let place = item.get("b").map_or(item.span.clone(), |end| end.span_of("namespace"));
        let cause = "both ends are in the same namespace; a cable joins two";
        wrong.push((place, cause.to_owned()));
    }
    check_mtu(item, cable.mtu, wrong);
    for (key, end) in [("a", &cable.a), ("b", &cable.b)] {
        if let Some(item) = item.get(key) {
            check_interface(item, None, end.mac, &end.addresses, &end.routes, wrong);
        }
    }
}

fn check_link(link: &Link, item: &Node, switches: &[&str], wrong: &mut Vec<(Span, String)>) {
    for (key, switch) in [("a", &link.a), ("b", &link.b)] {
        if !switches.contains(&switch.as_str()) {
            no_switch(switch.as_str(), item, key, switches, wrong);
        }
    }
    if link.a == link.b {
        let cause = "both ends are on the same switch; a link joins two";
        wrong.push((item.span_of("b"), cause.to_owned()));
    }
    check_mtu(item, link.mtu, wrong);
}

fn check_mtu(item: &Node, mtu: Option<u32>, wrong: &mut Vec<(Span, String)>) {
    if let Some(mtu) = mtu.filter(|mtu| !(MIN_MTU..=MAX_MTU).contains(mtu)) {
        let cause = format!("MTU {mtu} is out of range; choose {MIN_MTU} to {MAX_MTU} bytes");
        wrong.push((item.span_of("mtu"), cause));
    }
}

fn check_interface(
    item: &Node,
    mtu: Option<u32>,
    mac: Option<Mac>,
    addresses: &[IfAddr],
    routes: &[Route],
    wrong: &mut Vec<(Span, String)>,
) {
    check_mtu(item, mtu, wrong);
    if let Some(mac) = mac.filter(|mac| !mac.is_unicast()) {
        let cause = format!("MAC address {mac} is of no single station; the first octet must be even, 02:... is free");
        wrong.push((item.span_of("mac"), cause));
    }
    for (n, route) in routes.iter().enumerate() {
        let place = item.item("routes", n);
        if routes[..n].iter().any(|other| other.to.trunc() == route.to.trunc()) {
            let cause = format!("there is a route to {} already; leave one out", route.to);
            wrong.push((place.map_or(item.span.clone(), |route| route.span_of("to")), cause));
        }
        let place = place.map_or(item.span.clone(), |route| route.span_of("via"));
        let Some(via) = route.via else { continue };
        if via.is_ipv4() != route.to.addr().is_ipv4() {
            let cause = format!("next hop {via} is of another IP version than the destination");
            wrong.push((place, cause));
            continue;
        }
        let subnets: Vec<_> = addresses.iter().map(|address| address.net()).collect();
        // Where all addresses are of hosts only, the next hop is taken to be on the link.
        let hosts_only = subnets.iter().all(|net| net.prefix_len() == net.max_prefix_len());
        let direct = routes.iter().filter(|route| route.via.is_none()).map(|route| route.to);
        let reached = subnets.iter().copied().chain(direct).any(|net| net.contains(&via));
        if !reached && !route.onlink && !hosts_only {
            let cause =
                format!("next hop {via} is in no subnet of its addresses; add an address there, or `onlink = true`");
            wrong.push((place, cause));
        }
    }
}

/// Of ports that certainly hear each other; the daemon knows which others do.
fn addresses_twice(ports: &[Port], tree: &Node, wrong: &mut Vec<(Span, String)>) {
    let mut seen: HashMap<_, &Port> = HashMap::new();
    for (n, port) in ports.iter().enumerate() {
        for (m, address) in port.addresses.iter().enumerate() {
            let key = (&port.switch, format!("{:?}", port.vlan), address.ip());
            let Some(other) = seen.insert(key, port).filter(|other| other.name != port.name) else {
                continue;
            };
            let place = tree.item("ports", n).and_then(|item| item.item("addresses", m));
            if let Some(place) = place {
                let cause = format!("port {:?} has the address {} already", other.name, address.ip());
                wrong.push((place.span.clone(), cause));
            }
        }
    }
}
