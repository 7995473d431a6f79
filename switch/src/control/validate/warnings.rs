//! What is allowed and most likely not meant.

use std::collections::HashMap;

use vswitch_api::acl::{AclAction, AclRule};
use vswitch_api::{IfAddr, Lab, MirrorName, Port, PortName, StaticStation, SwitchName};
use vswitch_datapath::vlan::VlanPort;

use super::super::fdb::{fdb_key, station};
use super::super::gateway;
use super::{is_link_local, list, place};

/// What is allowed and most likely not meant.
pub(super) fn warnings(before: &Lab, after: &Lab) -> Vec<String> {
    let mut warnings = unreachable_addresses(before, after);
    warnings.extend(rules_without_mirror(before, after));
    warnings.extend(stations_left_behind(before, after));
    warnings.extend(gateway::warnings(before, after));
    warnings
}

/// New rules that copy to a mirror that is not there. It may come yet, and a mirror may go at any time.
fn rules_without_mirror(before: &Lab, after: &Lab) -> Vec<String> {
    let lacking = |lab: &Lab| -> Vec<_> {
        let rules = |port: &Port| {
            let rules = port.acl.ingress.iter().chain(&port.acl.egress);
            let name = |rule: &AclRule| match &rule.action {
                AclAction::Mirror(name) => Some((name.clone(), port.name.clone(), port.switch.clone())),
                _ => None,
            };
            rules.filter_map(name).collect::<Vec<_>>()
        };
        let there = |name: &MirrorName, switch: &SwitchName| {
            lab.mirrors
                .iter()
                .any(|mirror| mirror.name == *name && mirror.switch == *switch)
        };
        let named = lab.ports.iter().flat_map(rules);
        named.filter(|(name, _, switch)| !there(name, switch)).collect()
    };
    let old = lacking(before);
    let mut new = lacking(after);
    new.retain(|lack| !old.contains(lack));
    new.dedup();
    let warning = |(name, port, switch): (MirrorName, PortName, SwitchName)| {
        format!(
            "a rule of port \"{port}\" copies to mirror \"{name}\", which switch \"{switch}\" does not have: \
             add it with `vswitchctl mirror add {name} --to PORT --rules-only`"
        )
    };
    new.into_iter().map(warning).collect()
}

/// Stations in a VLAN that their port has just left.
fn stations_left_behind(before: &Lab, after: &Lab) -> Vec<String> {
    let old: HashMap<_, _> = before.ports.iter().map(|port| (&port.name, port)).collect();
    let mut warnings = Vec::new();
    for port in after.ports.iter().filter(|port| !port.stations.is_empty()) {
        let Some(old) = old.get(&port.name).filter(|old| old.vlan != port.vlan) else {
            continue;
        };
        let [was, is] = [old, &port].map(|port| VlanPort::new(&port.vlan, port.accept));
        let is_left = |entry: &&StaticStation| {
            let (vlan, _) = fdb_key(entry);
            old.stations.contains(entry) && was.is_member(vlan) && !is.is_member(vlan)
        };
        let left = port.stations.iter().filter(is_left).map(|entry| {
            let (entry, name) = (station(entry), &port.name);
            format!("FDB entry {entry} has no effect any more: port \"{name}\" is in other VLANs now")
        });
        warnings.extend(left);
    }
    warnings
}

/// New addresses that no other port of the VLAN can reach without a router.
fn unreachable_addresses(before: &Lab, after: &Lab) -> Vec<String> {
    let old: HashMap<_, _> = before.ports.iter().map(|port| (&port.name, &port.addresses)).collect();
    let mut warnings = Vec::new();
    for port in &after.ports {
        for address in &port.addresses {
            if old.get(&port.name).is_some_and(|old| old.contains(address))
                || port.own_network().is_none()
                || is_link_local(address.ip())
            {
                continue;
            }
            // Of a host alone, with all that it sends over a next hop: nobody shares a subnet with it.
            let alone = address.prefix_len() == address.net().max_prefix_len();
            if alone && port.routes.iter().any(|route| route.onlink || route.via.is_none()) {
                continue;
            }
            let others = || {
                let ports = after
                    .ports
                    .iter()
                    .filter(|other| other.switch == port.switch && other.name != port.name)
                    .filter(|other| other.own_network() == port.own_network());
                let same_version = |a: &&IfAddr| a.ip().is_ipv4() == address.ip().is_ipv4();
                let other_addresses = ports.flat_map(|other| &other.addresses).filter(same_version);
                other_addresses.filter(|other| !is_link_local(other.ip()))
            };
            if others().next().is_some() && !others().any(|other| other.net().contains(&address.ip())) {
                warnings.push(format!(
                    "address {address} of port \"{}\" is outside the subnets of the others on {} ({}): \
                     they can't reach it without a router",
                    port.name,
                    place(port),
                    list(others()),
                ));
            }
        }
    }
    warnings
}
