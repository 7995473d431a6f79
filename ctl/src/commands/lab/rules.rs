//! What the daemon refuses of a lab whatever else it has, as far as it can be told without it: what two things of the file can't both have,
//! and what a mirror or a published port needs of its switch.

use std::collections::HashMap;
use std::hash::Hash;

use vswitch_api::no_host::of_no_host;
use vswitch_api::{ApiError, ErrorCode, Lab, Mirror, Port};

use super::node::{Node, Span};
use crate::commands::capture::compile;
use crate::failure::Failure;

/// Adds what is wrong with the lab. `laid`: with the ports of its links.
pub fn check(lab: &Lab, laid: &Lab, tree: &Node, wrong: &mut Vec<(Span, String)>) {
    subnets(lab, tree, wrong);
    of_two_ports(lab, tree, wrong);
    for (switch, count) in lab.overfull() {
        let at = lab.switches.iter().position(|one| one.name == switch.name);
        let item = at.and_then(|at| tree.item("switches", at));
        let cause = format!(
            "{count} stations are set by hand there, and its FDB holds {}; take some out, or raise `fdb_capacity`",
            switch.fdb_capacity
        );
        wrong.extend(item.map(|item| (item.span_of("fdb_capacity"), cause)));
    }
    for (n, mirror) in lab.mirrors.iter().enumerate() {
        if let Some(item) = tree.item("mirrors", n) {
            check_mirror(mirror, laid, item, wrong);
        }
    }
    for item in tree.get("namespaces").map(Node::items).unwrap_or_default() {
        let files = item.get("files").map(Node::members).unwrap_or_default();
        for file in files {
            let below = |folder: &str| file.key.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
            if let Some(folder) = files.iter().find(|other| below(&other.key)) {
                let cause = format!("{:?} is a file of the namespace, and can't be a folder too", folder.key);
                wrong.push((file.key_span.clone(), cause));
            }
        }
    }
}

fn subnets(lab: &Lab, tree: &Node, wrong: &mut Vec<(Span, String)>) {
    for (n, switch) in lab.switches.iter().enumerate() {
        for (m, subnet) in switch.subnets.iter().enumerate() {
            let place = tree.item("switches", n).and_then(|item| item.item("subnets", m));
            if let (Some(what), Some(place)) = (of_no_host(subnet), place) {
                let cause = format!(
                    "subnet {subnet} has addresses that no station can have: they are for {what}; choose one such as 10.10.0.0/24"
                );
                wrong.push((place.span.clone(), cause));
            }
        }
    }
}

/// What only one port may have.
fn of_two_ports(lab: &Lab, tree: &Node, wrong: &mut Vec<(Span, String)>) {
    let (mut macs, mut published, mut stations) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (n, port) in lab.ports.iter().enumerate() {
        let Some(item) = tree.item("ports", n) else { continue };
        let mut tell = |place: Span, cause: Option<String>| wrong.extend(cause.map(|cause| (place, cause)));
        let place = |key: &str, m: usize| item.item(key, m).map_or(item.span_of(key), |one| one.span.clone());
        if let Some(mac) = port.mac {
            let others: &mut Vec<&Port> = macs.entry((&port.switch, mac)).or_default();
            let by = others.iter().find(|other| other.vlan.shares_one_with(&port.vlan));
            let cause = by.map(|by| format!("port {:?} has the MAC address {mac} already", by.name.as_str()));
            tell(item.span_of("mac"), cause);
            others.push(port);
        }
        for (m, publish) in port.publish.iter().enumerate() {
            let (number, protocol) = (publish.outside, publish.protocol);
            let by = taken(&mut published, (number, protocol), port);
            let cause = by.map(|by| {
                format!(
                    "{} {number} of the host is published for port {by:?} already; choose another number",
                    protocol.word()
                )
            });
            tell(place("publish", m), cause);
        }
        for (m, station) in port.stations.iter().enumerate() {
            let by = taken(&mut stations, (&port.switch, *station), port);
            let cause = by.map(|by| {
                format!(
                    "station {} is behind port {by:?} already; it is behind one port of a switch",
                    station.mac
                )
            });
            tell(place("stations", m), cause);
        }
        let switch = lab.switch(&port.switch);
        if let (Some(switch), false) = (switch.filter(|switch| !switch.nat), port.publish.is_empty()) {
            let cause = format!(
                "it is published by NAT, which is off on switch {:?}; that needs `nat = true`",
                switch.name.as_str()
            );
            tell(item.span_of("publish"), Some(cause));
        }
    }
}

/// Which port has it already.
fn taken<'a, K: Hash + Eq>(seen: &mut HashMap<K, &'a Port>, key: K, port: &'a Port) -> Option<&'a str> {
    seen.insert(key, port).map(|other| other.name.as_str())
}

fn check_mirror(mirror: &Mirror, laid: &Lab, item: &Node, wrong: &mut Vec<(Span, String)>) {
    let listed = mirror.ports.iter().enumerate();
    let listed = listed.map(|(n, name)| {
        (
            name,
            item.item("ports", n)
                .map_or(item.span_of("ports"), |one| one.span.clone()),
        )
    });
    let to = mirror.to.iter().map(|name| (name, item.span_of("to")));
    for (name, place) in listed.clone().chain(to) {
        let Some(port) = laid.port(name) else {
            continue;
        };
        if port.switch != mirror.switch {
            let cause = format!(
                "port {:?} is on switch {:?}, and the mirror on {:?}; a mirror is about one switch",
                name.as_str(),
                port.switch.as_str(),
                mirror.switch.as_str()
            );
            wrong.push((place, cause));
        }
    }
    for (name, place) in listed {
        if let Some(other) = laid.mirrors.iter().find(|other| other.to.as_ref() == Some(name)) {
            let cause = format!(
                "port {:?} is the destination of mirror {:?}, which carries copies only; choose another port",
                name.as_str(),
                other.name.as_str()
            );
            wrong.push((place, cause));
        }
    }
    let switch = laid.switch(&mirror.switch);
    if let (Some(switch), Some(vlan)) = (switch, mirror.to_vlan)
        && !switch.rspan_vlans.contains(&vlan)
    {
        let cause = format!(
            "VLAN {vlan} is not one of those of switch {:?} for copies; that needs `rspan_vlans = [{vlan}]`",
            switch.name.as_str()
        );
        wrong.push((item.span_of("to_vlan"), cause));
    }
}

/// What is wrong with the filters of mirrors, where the tool is there that understands them.
pub fn filters(lab: &Lab, tree: &Node) -> Vec<(Span, String)> {
    let mut wrong = Vec::new();
    for (n, mirror) in lab.mirrors.iter().enumerate() {
        let filter = mirror.filter.as_ref().filter(|filter| filter.program.is_none());
        let (Some(filter), Some(item)) = (filter, tree.item("mirrors", n)) else {
            continue;
        };
        if let Err(Failure::Error { error, .. }) = compile(&filter.expression)
            && error.code == ErrorCode::Invalid
        {
            wrong.push((item.span_of("filter"), error.to_string()));
        }
    }
    wrong
}

/// Names of ports that differ in case alone, and so are one to DNS.
pub fn one_to_dns(lab: &Lab) -> Vec<(&str, &str)> {
    if !lab.switches.iter().any(|switch| switch.dns) {
        return Vec::new();
    }
    let mut seen = HashMap::new();
    let names = lab.ports.iter().map(|port| port.name.as_str());
    names
        .filter_map(|name| Some((seen.insert(name.to_lowercase(), name)?, name)))
        .filter(|(one, other)| one != other)
        .collect()
}

/// Whether what a daemon refuses is for what it has there, and not for what the file says.
pub fn is_of_there(error: &ApiError) -> bool {
    let of_there = ["FDB capacity", "is leased by DHCP", "its name leads to"];
    of_there
        .iter()
        .any(|words| error.cause.contains(words) || error.object.contains(words))
}
