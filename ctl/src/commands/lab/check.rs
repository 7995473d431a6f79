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
    // Without settings it says nothing the second time.
    let mut seen = HashSet::new();
    for (n, namespace) in lab.namespaces.iter().enumerate().filter(|(_, one)| !one.is_plain()) {
        if let (Some(item), false) = (tree.item("namespaces", n), seen.insert(&namespace.name)) {
            let cause = "this namespace is named twice; write all that is said of it in one place";
            wrong.push((item.span.clone(), cause.to_owned()));
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
    check_interface(item, port.mtu, port.mac, wrong);
    check_routes(item, &port.addresses, &port.routes, port.auto_addresses, wrong);
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
            check_interface(item, None, end.mac, wrong);
            check_routes(item, &end.addresses, &end.routes, false, wrong);
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

fn check_interface(item: &Node, mtu: Option<u32>, mac: Option<Mac>, wrong: &mut Vec<(Span, String)>) {
    check_mtu(item, mtu, wrong);
    if let Some(mac) = mac.filter(|mac| !mac.is_unicast()) {
        let cause = format!("MAC address {mac} is of no single station; the first octet must be even, 02:... is free");
        wrong.push((item.span_of("mac"), cause));
    }
}

/// `more`: it gets addresses beside these, which only the daemon knows.
fn check_routes(item: &Node, addresses: &[IfAddr], routes: &[Route], more: bool, wrong: &mut Vec<(Span, String)>) {
    let mut implied = routes.to_vec();
    Route::imply_onlink(&mut implied, addresses);
    for (n, route) in implied.iter().enumerate() {
        let place = item.item("routes", n);
        let has_other_way = |other: &Route| other.to.trunc() == route.to.trunc() && other.via != route.via;
        if routes[..n].iter().any(has_other_way) {
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
        if !more && !route.is_reached(addresses, &implied) {
            let cause =
                format!("next hop {via} is in no subnet of its addresses; add an address there, or `onlink = true`");
            wrong.push((place, cause));
        }
    }
}

fn addresses_twice(ports: &[Port], tree: &Node, wrong: &mut Vec<(Span, String)>) {
    let mut seen: HashMap<_, &Port> = HashMap::new();
    for (n, port) in ports.iter().enumerate() {
        let Some(network) = port.own_network() else { continue };
        for (m, address) in port.addresses.iter().enumerate() {
            let Some(other) = seen
                .insert((&port.switch, network, address.ip()), port)
                .filter(|other| other.name != port.name)
            else {
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
