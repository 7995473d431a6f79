//! What is allowed and most likely not meant.

use std::collections::HashMap;

use vswitch_api::acl::{AclAction, AclRule};
use vswitch_api::lab_namespace::SysctlKey;
use vswitch_api::{IfAddr, Lab, MirrorName, NsName, Port, PortName, SwitchName};

use super::super::fdb::{out_of_vlan, station};
use super::super::gateway;
use super::super::kinds::ifname;
use super::super::sysctls::at_interface;
use super::{is_link_local, list, place};

/// What is allowed and most likely not meant.
pub(super) fn warnings(before: &Lab, after: &Lab) -> Vec<String> {
    let mut warnings = unreachable_addresses(before, after);
    warnings.extend(rules_without_mirror(before, after));
    warnings.extend(stations_left_behind(before, after));
    warnings.extend(settings_left_behind(before, after));
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

/// Stations in a VLAN that their port has just left, or never was in.
fn stations_left_behind(before: &Lab, after: &Lab) -> Vec<String> {
    let old: HashMap<_, _> = before.ports.iter().map(|port| (&port.name, port)).collect();
    let mut warnings = Vec::new();
    for port in &after.ports {
        for entry in &port.stations {
            let Some((cause, hint)) = out_of_vlan(port, entry) else {
                continue;
            };
            let old = old.get(&port.name).filter(|old| old.stations.contains(entry));
            match old.map(|old| out_of_vlan(old, entry).is_some()) {
                Some(true) => {}
                Some(false) => warnings.push(format!(
                    "FDB entry {} has no effect any more: port \"{}\" is in other VLANs now",
                    station(entry),
                    port.name
                )),
                None => warnings.push(format!("FDB entry {} has no effect: {cause}; {hint}", station(entry))),
            }
        }
    }
    warnings
}

/// Settings of interfaces that the lab had and has no more.
fn settings_left_behind(before: &Lab, after: &Lab) -> Vec<String> {
    let mut warnings = Vec::new();
    for namespace in &after.namespaces {
        let name = &namespace.name;
        let was_set = |key: &&SysctlKey| before.namespace(name).is_some_and(|old| old.sysctls.contains_key(*key));
        for key in namespace.sysctls.keys().filter(was_set) {
            let Some((_, interface, _)) = at_interface(key) else {
                continue;
            };
            if has_interface(before, name, interface) && !has_interface(after, name, interface) {
                warnings.push(format!(
                    "setting {key} of namespace \"{name}\" has no effect any more: interface {interface} is of no port or cable there; \
                     take it back with `vswitchctl ns set {name} {key}=none`"
                ));
            }
        }
    }
    warnings
}

fn has_interface(lab: &Lab, namespace: &NsName, name: &str) -> bool {
    let ends = lab.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let mut ends = ends.filter(|end| end.namespace == *namespace);
    ends.any(|end| end.ifname.as_ref().is_some_and(|ifname| ifname.as_str() == name))
        || lab
            .ports
            .iter()
            .any(|port| port.is_in(namespace) && ifname(port).as_str() == name)
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
            let ports = || {
                let ports = after
                    .ports
                    .iter()
                    .filter(|other| other.switch == port.switch && other.name != port.name);
                ports.filter(|other| other.own_network() == port.own_network())
            };
            let others = || {
                let same_version = |a: &&IfAddr| a.ip().is_ipv4() == address.ip().is_ipv4();
                let other_addresses = ports().flat_map(|other| &other.addresses).filter(same_version);
                other_addresses.filter(|other| !is_link_local(other.ip()))
            };
            // As a gateway does whose own address is of no subnet.
            let mut on_link = ports()
                .flat_map(|other| &other.routes)
                .filter(|route| route.via.is_none());
            let reached = on_link.any(|route| route.to.contains(&address.ip()))
                || others().any(|other| other.net().contains(&address.ip()));
            if others().next().is_some() && !reached {
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
