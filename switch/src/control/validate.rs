//! Everything that can be refused before anything is touched.

mod damage;
mod routes;
mod warnings;

pub(super) use damage::check_read;
use routes::check_destinations;
pub(super) use routes::unique_routes;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use vswitch_api::acl::ACL_MAX;
use vswitch_api::lab::{MAX_MTU, MIN_MTU};
use vswitch_api::name::NAME_MAX;
use vswitch_api::policy::{AcceptFrames, PortVlan};
use vswitch_api::{ApiError, IfAddr, Lab, Mac, Namespace, NsName, Port, Route, Switch};

use super::fdb::{check_station, station};
use super::guests::foreign;
use super::kinds::{self, heard_by_near_end, ifname};
use super::links::check_links;
use super::mirror::check_mirrors;
use super::plan::{changes_in_place, namespaces};
use super::{gateway, text, traffic};
use vswitch_datapath::vlan::NO_VLAN;

/// Names that the kernel keeps for itself: one is in every namespace, the others are in /proc/sys/net.
const RESERVED_NAMES: [&str; 3] = ["lo", "all", "default"];

/// Holds the completed lab `after`, which is to follow on `before`, against all rules. `present` tells which namespaces
/// are there. Returns what the user should know though it is no error.
pub(super) fn validate(before: &Lab, after: &Lab, present: impl Fn(&NsName) -> bool) -> Result<Vec<String>, ApiError> {
    switches(before, after)?;
    unique(before, after)?;
    interfaces(before, after)?;
    for port in &after.ports {
        check_port(after, port)?;
        let old = before.ports.iter().find(|old| old.name == port.name);
        check_destinations(&text::port(&port.name), old.map(|old| &old.routes), &port.routes)?;
    }
    for cable in &after.cables {
        if cable.a.namespace == cable.b.namespace {
            return Err(text::invalid(text::cable(cable), "both ends are in the same namespace")
                .hint("a cable joins two namespaces"));
        }
        let object = text::cable(cable);
        check_mtu(&object, cable.mtu)?;
        for end in [&cable.a, &cable.b] {
            end.mac.map_or(Ok(()), |mac| check_mac(&object, mac))?;
            end.ifname
                .iter()
                .try_for_each(|name| check_ifname(&object, name.as_str()))?;
            check_ipv6(&object, &end.addresses, cable.mtu)?;
            check_routes(&object, &end.addresses, &end.routes)?;
            let is_old = before.cables.contains(cable);
            check_destinations(&object, is_old.then_some(&end.routes), &end.routes)?;
        }
    }
    gateway::check(before, after)?;
    check_links(after)?;
    // Told of what comes, not of what was there before.
    check_mirrors(after).map_err(|error| check_mirrors(&new_mirrors_first(before, after)).err().unwrap_or(error))?;
    check_commands(after)?;
    check_namespaces(after)?;
    let known = namespaces(before);
    for name in namespaces(after) {
        // One that is there already may be a container runtime's, with a long name; it was never made by us.
        if name.as_str().len() > NAME_MAX && !known.contains(name) && !present(name) {
            let cause = format!(
                "there is no such namespace, and a new name has at most {NAME_MAX} bytes, not {}",
                name.as_str().len()
            );
            return Err(text::invalid(text::namespace(name), cause).hint("choose a shorter one"));
        }
        let mut foreigners = after.ports.iter().filter(|port| foreign(port).is_some());
        if let Some(port) = foreigners.find(|port| port.name.as_str() == name.as_str())
            && !known.contains(name)
            && !present(name)
        {
            let cause = format!(
                "there is no such namespace, and it would have the name of {}, whose namespace has no name of its own",
                text::port(&port.name)
            );
            return Err(text::conflict(text::namespace(name), cause).hint(format!(
                "choose another name; `vswitchctl ns exec {name}` goes into the namespace of the port"
            )));
        }
    }
    Ok(warnings::warnings(before, after))
}

fn check_namespaces(after: &Lab) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for namespace in &after.namespaces {
        let object = text::namespace(&namespace.name);
        if !seen.insert(&namespace.name) && !namespace.is_plain() {
            return Err(text::conflict(object, "it is named twice").hint("write all that is said of it in one place"));
        }
        if let Some(cause) = namespace.wrong() {
            return Err(text::invalid(object, cause));
        }
    }
    Ok(())
}

fn check_commands(after: &Lab) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    for command in &after.commands {
        let object = || text::command(&command.name);
        if !seen.insert(&command.name) {
            return Err(text::conflict(object(), "it is named twice").hint("give each its own name"));
        }
        if let Some(cause) = command.wrong() {
            return Err(text::invalid(object(), cause));
        }
    }
    Ok(())
}

fn switches(before: &Lab, after: &Lab) -> Result<(), ApiError> {
    let mut seen = HashMap::new();
    for switch in &after.switches {
        if seen.insert(&switch.name, ()).is_some() {
            return Err(text::conflict(text::switch(&switch.name), "it is named twice").hint("give each its own name"));
        }
        if switch.flap_moves < 2 || switch.flap_secs < 1 {
            let cause = format!(
                "{} moves a second for {} s is no flapping",
                switch.flap_moves, switch.flap_secs
            );
            return Err(text::invalid(text::switch(&switch.name), cause)
                .hint("give at least 2 moves and 1 second; usual are 500 and 3"));
        }
        check_capacity(switch)?;
        let old = before.switches.iter().find(|old| old.name == switch.name);
        if old.is_some_and(|old| old.fdb_capacity != switch.fdb_capacity) {
            let name = &switch.name;
            // There is nothing to lose as long as no port stays on it.
            let mut stay = before.ports.iter().filter(|port| port.switch == *name);
            if !stay.any(|old| {
                after
                    .ports
                    .iter()
                    .any(|new| new.name == old.name && changes_in_place(old, new))
            }) {
                continue;
            }
            return Err(text::conflict(
                text::switch(name),
                "the FDB capacity of a switch with ports can't be changed",
            )
            .hint("remove its ports, or the switch, and add them again"));
        }
    }
    check_room(before, after)
}

/// What is set by hand has to have room. One that had too many before may get fewer.
fn check_room(before: &Lab, after: &Lab) -> Result<(), ApiError> {
    let earlier = before.overfull();
    for (switch, count) in after.overfull() {
        let was_worse = |(old, old_count): &(&Switch, usize)| old.name == switch.name && *old_count >= count;
        if earlier.iter().any(was_worse) {
            continue;
        }
        let cause = format!(
            "{count} stations are set by hand there, and its FDB holds {}",
            switch.fdb_capacity
        );
        return Err(text::conflict(text::switch(&switch.name), cause)
            .hint("take some out, or give the switch a larger FDB: --fdb-capacity, in a file fdb_capacity"));
    }
    Ok(())
}

fn check_capacity(switch: &Switch) -> Result<(), ApiError> {
    if (1..=1 << 24).contains(&switch.fdb_capacity) {
        return Ok(());
    }
    let cause = format!("FDB capacity {} is out of range", switch.fdb_capacity);
    Err(text::invalid(text::switch(&switch.name), cause).hint("choose 1 to 16777216 entries"))
}

/// Where a network is, for people.
fn place(port: &Port) -> String {
    match port.own_network() {
        Some(NO_VLAN) | None => text::switch(&port.switch),
        Some(vlan) => format!("VLAN {vlan} of {}", text::switch(&port.switch)),
    }
}

fn new_mirrors_first(before: &Lab, after: &Lab) -> Lab {
    let mut lab = after.clone();
    lab.mirrors.sort_by_key(|mirror| before.mirrors.contains(mirror));
    lab
}

/// Names that can be there only once, addresses and stations only once in a VLAN of a switch. Told of what comes, not of what was there
/// before.
fn unique(before: &Lab, lab: &Lab) -> Result<(), ApiError> {
    let old: HashMap<_, _> = before.ports.iter().map(|port| (&port.name, port)).collect();
    let mut ports: Vec<_> = lab.ports.iter().collect();
    ports.sort_by_cached_key(|port| old.get(&port.name) != Some(port));
    let mut names = HashMap::new();
    let mut macs: HashMap<_, Vec<&Port>> = HashMap::new();
    let mut addresses = HashMap::new();
    let mut stations = HashMap::new();
    for port in ports {
        let object = text::port(&port.name);
        if names.insert(&port.name, ()).is_some() {
            return Err(text::conflict(object, "there is a port of this name already").hint("choose another name"));
        }
        if let Some(mac) = port.mac {
            let same = macs.entry((&port.switch, mac)).or_default();
            if let Some(other) = same.iter().find(|other| other.vlan.shares_one_with(&port.vlan)) {
                let cause = format!("MAC address {mac} is taken by {}", text::port(&other.name));
                return Err(text::conflict(object, cause).hint("leave --mac out and one is chosen"));
            }
            same.push(port);
        }
        let mut own = HashSet::new();
        for address in &port.addresses {
            if !own.insert(address.ip()) {
                return Err(text::invalid(
                    object,
                    format!("address {} is given twice", address.ip()),
                ));
            }
            let Some(network) = port.own_network() else { continue };
            if let Some(other) = addresses.insert((&port.switch, network, address.ip()), &port.name) {
                let cause = format!(
                    "address {} is taken by port \"{other}\" on {}",
                    address.ip(),
                    place(port)
                );
                return Err(text::conflict(object, cause).hint("`vswitchctl addr list` shows which are taken"));
            }
        }
        for entry in &port.stations {
            let object = format!("FDB entry {}", station(entry));
            check_station(entry)?;
            if let Some(other) = stations.insert((&port.switch, entry), &port.name) {
                let cause = format!("it is behind port \"{other}\" and behind port \"{}\"", port.name);
                return Err(text::conflict(object, cause).hint("a station is behind one port of a switch"));
            }
        }
    }
    for cable in &lab.cables {
        if let (Some(mac), true) = (cable.a.mac, cable.a.mac == cable.b.mac) {
            let cause = format!("both ends have the MAC address {mac}");
            return Err(text::conflict(text::cable(cable), cause).hint("leave one out and it is chosen"));
        }
        let mut own = HashSet::new();
        for address in cable.a.addresses.iter().chain(&cable.b.addresses) {
            if !own.insert(address.ip()) {
                let cause = format!("address {} is given twice", address.ip());
                return Err(text::invalid(text::cable(cable), cause).hint("give each end another one"));
            }
        }
    }
    Ok(())
}

/// Names of interfaces, each of which can be in a namespace only once. Told of what comes, not of what was there before.
fn interfaces(before: &Lab, after: &Lab) -> Result<(), ApiError> {
    let mut taken = HashMap::new();
    let of_port = |port: &Port| {
        let has_it = |old: &Port| old.namespace == port.namespace && ifname(old) == ifname(port);
        (
            before.ports.iter().any(|old| old.name == port.name && has_it(old)),
            port.namespace.clone(),
            ifname(port).to_string(),
            (text::port(&port.name), "choose another interface name with --name"),
        )
    };
    let mut claims: Vec<_> = after.ports.iter().map(of_port).collect();
    for cable in &after.cables {
        let old = before.cables.contains(cable);
        for end in [&cable.a, &cable.b] {
            if let Some(name) = &end.ifname {
                claims.push((
                    old,
                    Some(end.namespace.clone().into()),
                    name.to_string(),
                    (
                        text::cable(cable),
                        "choose another interface name with --name-a or --name-b",
                    ),
                ));
            }
        }
    }
    claims.sort_by_key(|(old, ..)| !old);
    for (_, namespace, name, (object, hint)) in claims {
        take_interface(&mut taken, namespace, name, object).map_err(|error| error.hint(hint))?;
    }
    Ok(())
}

fn take_interface(
    interfaces: &mut HashMap<(Option<Namespace>, String), String>,
    namespace: Option<Namespace>,
    name: String,
    object: String,
) -> Result<(), ApiError> {
    match interfaces.entry((namespace, name)) {
        Entry::Vacant(free) => {
            free.insert(object);
            Ok(())
        }
        Entry::Occupied(taken) => {
            let (namespace, name) = taken.key();
            let place = namespace.as_ref().map_or("the host".to_owned(), text::object);
            let cause = format!("interface {name} of {place} is in use by {}", taken.get());
            Err(text::conflict(object, cause))
        }
    }
}

fn check_mac(object: &str, mac: Mac) -> Result<(), ApiError> {
    if mac.is_unicast() {
        return Ok(());
    }
    let what = if mac.is_multicast() {
        "a group address"
    } else {
        "no address of a station"
    };
    Err(text::invalid(object, format!("MAC address {mac} is {what}"))
        .hint("the first octet must be even; 02:... is free for local use"))
}

fn check_ifname(object: &str, name: &str) -> Result<(), ApiError> {
    if RESERVED_NAMES.contains(&name) {
        let cause = format!("the kernel keeps the interface name {name} for itself");
        return Err(text::invalid(object, cause).hint("choose another one"));
    }
    Ok(())
}

fn check_port(lab: &Lab, port: &Port) -> Result<(), ApiError> {
    let object = text::port(&port.name);
    if !lab.switches.iter().any(|switch| switch.name == port.switch) {
        return Err(text::no_switch(&port.switch));
    }
    check_ifname(&object, ifname(port).as_str())?;
    if heard_by_near_end(port) {
        // Its near end has the port's name.
        check_ifname(&object, port.name.as_str())?;
    }
    if let Some(mac) = port.mac {
        check_mac(&object, mac)?;
    }
    check_mtu(&object, port.mtu)?;
    check_ipv6(&object, &port.addresses, port.mtu)?;
    kinds::check(port)?;
    check_policy(lab, port)?;
    traffic::check(port)?;
    check_routes(&object, &port.addresses, &port.routes)
}

fn check_mtu(object: &str, mtu: Option<u32>) -> Result<(), ApiError> {
    match mtu.filter(|mtu| !(MIN_MTU..=MAX_MTU).contains(mtu)) {
        Some(mtu) => Err(text::invalid(object, format!("MTU {mtu} is out of range"))
            .hint(format!("choose {MIN_MTU} to {MAX_MTU} bytes"))),
        None => Ok(()),
    }
}

/// RFC 8200 clause 5: below 1280 IPv6 does not run, and the kernel takes the addresses away again.
fn check_ipv6(object: &str, addresses: &[IfAddr], mtu: Option<u32>) -> Result<(), ApiError> {
    let v6 = addresses.iter().find(|address| address.ip().is_ipv6());
    match (v6, mtu.filter(|mtu| *mtu < 1280)) {
        (Some(address), Some(mtu)) => Err(text::invalid(
            object,
            format!("IPv6 address {address} needs an MTU of 1280 or more, not {mtu}"),
        )
        .hint("raise --mtu or give IPv4 addresses only")),
        _ => Ok(()),
    }
}

fn check_policy(lab: &Lab, port: &Port) -> Result<(), ApiError> {
    let object = text::port(&port.name);
    if port.learning.limit == Some(0) {
        return Err(text::invalid(object, "a limit of 0 stations")
            .hint("choose 1 or more; to learn nothing, switch learning off"));
    }
    if port.vlan == PortVlan::All && port.accept != AcceptFrames::All {
        return Err(text::invalid(
            object,
            "accepted frames are chosen by tag, but the port has no VLAN setting",
        )
        .hint("make it an access, trunk or tunnel port"));
    }
    if let PortVlan::Trunk(trunk) = &port.vlan
        && trunk.native.is_none()
        && port.accept == AcceptFrames::Untagged
    {
        return Err(text::invalid(
            object,
            "a trunk without a native VLAN that accepts untagged frames only takes none",
        )
        .hint("give it a native VLAN"));
    }
    for rules in [&port.acl.ingress, &port.acl.egress] {
        if rules.len() > ACL_MAX {
            return Err(
                text::invalid(object, format!("an access control list of {} rules", rules.len()))
                    .hint(format!("at most {ACL_MAX} are allowed")),
            );
        }
    }
    for mac in port.pin.mac.iter().flatten() {
        check_mac(&object, *mac)?;
    }
    if port.pin.mac.as_ref().is_some_and(Vec::is_empty) && port.mac.is_none() {
        return Err(
            text::invalid(object, "it has no MAC address that vswitch gave it to pin").hint("name the MAC addresses"),
        );
    }
    let leases = lab
        .switches
        .iter()
        .any(|switch| switch.dhcp && switch.name == port.switch);
    if port.pin.ip.as_ref().is_some_and(Vec::is_empty) && port.addresses.is_empty() && !leases {
        return Err(text::invalid(object, "it has no address that vswitch gave it to pin")
            .hint("name the addresses, or give it one"));
    }
    Ok(())
}

/// Whether all hosts on the link can be reached from this address, whatever their own are.
pub(super) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

fn check_routes(object: &str, addresses: &[IfAddr], routes: &[Route]) -> Result<(), ApiError> {
    for route in routes {
        let Some(via) = route.via else {
            if route.onlink {
                let cause = format!(
                    "the route to {} is said to have its next hop on the link, and has none",
                    route.to
                );
                return Err(text::invalid(object, cause).hint("name the next hop, or leave onlink out"));
            }
            continue;
        };
        if via.is_ipv4() != route.to.addr().is_ipv4() {
            return Err(text::invalid(
                object,
                format!("next hop {via} is of another IP version than the destination"),
            )
            .hint("give a next hop and a destination of the same version"));
        }
        if addresses.iter().any(|address| address.ip() == via) {
            let cause = format!("next hop {via} is the port's own address");
            return Err(text::invalid(object, cause).hint("name the address of the router"));
        }
        if !route.is_reached(addresses, routes) {
            let subnets = list(addresses.iter());
            let cause = format!("next hop {via} is in none of the port's subnets ({subnets})");
            return Err(text::invalid(object, cause).hint(
                "give the port an address in the subnet of its gateway, or say that it is on the link (--onlink, in a lab file onlink = true)",
            ));
        }
    }
    Ok(())
}

fn list(addresses: impl Iterator<Item = impl std::borrow::Borrow<IfAddr>>) -> String {
    let mut nets: Vec<_> = addresses
        .map(|address| address.borrow().net().trunc().to_string())
        .collect();
    nets.sort();
    nets.dedup();
    if nets.is_empty() {
        "it has none".to_owned()
    } else {
        nets.join(", ")
    }
}

#[cfg(test)]
mod tests;
