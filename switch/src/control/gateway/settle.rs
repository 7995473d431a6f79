//! What follows from a switch's subnets and its gateway: the port that is the gateway, addresses of ports to which they are left, and
//! their default routes. Done before all else of an edit, so that from here on they are ports, addresses and routes as any others.

mod ways;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::gateway::gateway_name;
use vswitch_api::{ApiError, IfAddr, Lab, Port, PortKind, PortName, Route, Switch, SwitchName};

use super::super::choose::{self, held, taken};
use super::super::text;
use super::serve::leased;
use ways::lead_out;
pub(super) use ways::warnings as of_routes;

/// Makes the ports of `lab`, which is to follow on `before`, what its switches say of subnets and gateways. `of_host`: addresses that
/// the host has or sends to elsewhere, which no port is given.
///
/// # Errors
/// Something else has the name of a gateway; a subnet has no free address left.
pub(in super::super) fn settle(lab: &mut Lab, before: &Lab, of_host: &BTreeSet<IpAddr>) -> Result<(), ApiError> {
    remove_gateways(lab, before);
    let switches = lab.switches.clone();
    let routed = || switches.iter().filter(|switch| switch.gateway.is_on());
    for switch in routed() {
        add_gateway(lab, before, switch)?;
    }
    // Who had an address keeps it, before any takes a new one, be it a gateway.
    keep_addresses(lab, before, &switches);
    // What one leaves another may take, whichever comes first.
    for switch in routed() {
        if let Some(port) = gateway_mut(lab, switch) {
            take_addresses(before, switch, port);
        }
    }
    for switch in routed() {
        give_gateway(lab, switch, of_host)?;
    }
    let mut taken = taken(lab);
    taken.extend(of_host);
    for switch in &switches {
        for port in lab.ports.iter_mut().filter(|port| is_auto(port, switch)) {
            for subnet in &switch.subnets {
                if port.addresses.iter().any(|address| holds(subnet, address)) {
                    continue;
                }
                let is_taken = |ip: &IpAddr| taken.contains(ip) || is_leased(switch, ip);
                let address = choose::first_free(is_taken, &port.name, *subnet)?;
                taken.insert(address.ip());
                port.addresses.push(address);
            }
        }
    }
    lead_out(lab, before, &switches);
    Ok(())
}

/// Whether a port takes addresses of this switch's subnets.
fn is_auto(port: &Port, switch: &Switch) -> bool {
    let is_gateway = || switch.gateway.is_on() && gateway_name(&switch.name).as_ref() == Some(&port.name);
    port.auto_addresses && port.switch == switch.name && port.kind.has_stack() && !is_gateway()
}

/// Leaves the ports of `lab` what they had in `before` and is still of a subnet of their switch.
fn keep_addresses(lab: &mut Lab, before: &Lab, switches: &[Switch]) {
    let mut held = held(lab, None);
    let old_ports: HashMap<_, _> = before.ports.iter().map(|port| (&port.name, port)).collect();
    let old_switches: HashMap<_, _> = before.switches.iter().map(|switch| (&switch.name, switch)).collect();
    for switch in switches {
        for port in lab.ports.iter_mut().filter(|port| is_auto(port, switch)) {
            let Some(old) = old_ports.get(&port.name) else {
                continue;
            };
            // Of the switch that it was on, if it is on another by now.
            if let Some(was_on) = old_switches.get(&old.switch) {
                let left = left(was_on, switch);
                refit(&mut port.addresses, &old.addresses, &left, &switch.subnets);
            }
            for subnet in &switch.subnets {
                if port.addresses.iter().any(|address| holds(subnet, address)) {
                    continue;
                }
                let kept = old.addresses.iter().find(|address| holds(subnet, address));
                if let Some(address) = kept.and_then(|address| in_subnet(address.ip(), subnet))
                    && held.insert(address.ip())
                {
                    port.addresses.push(address);
                }
            }
        }
    }
}

/// The subnets that a switch had and the other has not.
fn left(old: &Switch, new: &Switch) -> Vec<IpNet> {
    let gone = old.subnets.iter().filter(|net| !new.subnets.contains(net));
    gone.copied().collect()
}

/// Takes away what of `had` is in a subnet that is `left`; where another subnet holds it, it stays, with the length of that.
fn refit(addresses: &mut Vec<IfAddr>, had: &[IfAddr], left: &[IpNet], subnets: &[IpNet]) {
    let fitted = addresses.iter().filter_map(|address| {
        if !had.contains(address) || !left.iter().any(|net| holds(net, address)) {
            return Some(*address);
        }
        let subnet = subnets.iter().find(|net| holds(net, address))?;
        in_subnet(address.ip(), subnet)
    });
    *addresses = fitted.collect();
}

/// None: no host can have this address there.
fn in_subnet(ip: IpAddr, subnet: &IpNet) -> Option<IfAddr> {
    format!("{ip}/{}", subnet.prefix_len()).parse().ok()
}

/// Whether an address is one of those that are leased.
fn is_leased(switch: &Switch, ip: &IpAddr) -> bool {
    let IpAddr::V4(ip) = ip else { return false };
    let mut ranges = switch.subnets.iter().filter_map(|net| match net {
        IpNet::V4(net) => leased(net),
        IpNet::V6(_) => None,
    });
    switch.dhcp && ranges.any(|(first, last)| (first..=last).contains(ip))
}

fn holds(subnet: &IpNet, address: &IfAddr) -> bool {
    subnet.contains(&address.ip())
}

/// Those of switches that have none any more go.
fn remove_gateways(lab: &mut Lab, before: &Lab) {
    for old in before.switches.iter().filter(|old| old.gateway.is_on()) {
        let stays = lab
            .switches
            .iter()
            .any(|new| new.name == old.name && new.gateway.is_on());
        if let Some(gateway) = before.gateway_of(old).filter(|_| !stays) {
            lab.ports
                .retain(|port| port.name != gateway.name || port.kind != PortKind::Internal);
        }
    }
}

fn add_gateway(lab: &mut Lab, before: &Lab, switch: &Switch) -> Result<(), ApiError> {
    let Some(name) = gateway_name(&switch.name) else {
        return Err(text::invalid(
            text::switch(&switch.name),
            "no port can have the name of its gateway",
        ));
    };
    let fits = |port: &Port| port.kind == PortKind::Internal && port.switch == switch.name;
    match lab.ports.iter().find(|port| port.name == name) {
        Some(port) if fits(port) && !was_no_gateway(before, port) => {}
        Some(port) => {
            // It was the gateway and is on another switch now.
            refuse_removal(before, &name)?;
            return Err(name_taken(port, &switch.name));
        }
        None => {
            let old = before.ports.iter().find(|port| port.name == name && fits(port));
            let new = || Port::new(name.clone(), switch.name.clone(), PortKind::Internal);
            lab.ports.push(old.cloned().unwrap_or_else(new));
            own(lab, &switch.name, &name);
        }
    }
    Ok(())
}

/// Whether a port was somebody's own while its switch had no gateway: it is not to go with one.
fn was_no_gateway(before: &Lab, port: &Port) -> bool {
    let mut switches = before.switches.iter();
    let had_none = switches.any(|switch| switch.name == port.switch && !switch.gateway.is_on());
    let mut ports = before.ports.iter();
    had_none && ports.any(|old| (&old.name, &old.switch, old.kind) == (&port.name, &port.switch, port.kind))
}

fn gateway_mut<'a>(lab: &'a mut Lab, switch: &Switch) -> Option<&'a mut Port> {
    let name = gateway_name(&switch.name)?;
    lab.ports.iter_mut().find(|port| port.name == name)
}

/// Gives a gateway, which is there, its addresses.
fn give_gateway(lab: &mut Lab, switch: &Switch, of_host: &BTreeSet<IpAddr>) -> Result<(), ApiError> {
    let Some(mut port) = gateway_mut(lab, switch).cloned() else {
        return Ok(());
    };
    give_addresses(lab, switch, &mut port, of_host)?;
    if let Some(there) = gateway_mut(lab, switch) {
        *there = port;
    }
    Ok(())
}

/// What is in use beside what a gateway has itself, be it as next hop of others.
fn taken_by_others(lab: &Lab, gateway: &PortName) -> BTreeSet<IpAddr> {
    let (mut taken, held) = (taken(lab), held(lab, Some(gateway)));
    let own = lab.ports.iter().filter(|port| port.name == *gateway);
    for address in own.flat_map(|port| &port.addresses) {
        if !held.contains(&address.ip()) {
            taken.remove(&address.ip());
        }
    }
    taken
}

/// Takes from a gateway what was given it, or was of a subnet, and is no more.
fn take_addresses(before: &Lab, switch: &Switch, port: &mut Port) {
    let old = before.switches.iter().find(|old| old.name == switch.name);
    let gone = old.map(|old| left(old, switch)).unwrap_or_default();
    let given = switch.gateway.addresses();
    let was_given = old.map_or(&[][..], |old| old.gateway.addresses());
    port.addresses
        .retain(|address| !was_given.contains(&address.ip()) || given.contains(&address.ip()));
    let had = port.addresses.clone();
    refit(&mut port.addresses, &had, &gone, &switch.subnets);
    port.routes
        .retain(|route| route.via.is_some() || !gone.iter().any(|net| net.trunc() == route.to.trunc()));
}

fn give_addresses(lab: &Lab, switch: &Switch, port: &mut Port, of_host: &BTreeSet<IpAddr>) -> Result<(), ApiError> {
    let given = switch.gateway.addresses();
    let inside = |ip: &IpAddr| switch.subnets.iter().any(|net| net.contains(ip));
    let address = |ip: &IpAddr, length: u8| {
        let address = format!("{ip}/{length}").parse();
        address.map_err(|error: vswitch_api::name::InvalidValue| {
            text::invalid(text::switch(&switch.name), error.to_string())
        })
    };
    // On the link of all subnets, which it then needs routes to.
    for ip in given.iter().filter(|ip| !inside(ip)) {
        let address: IfAddr = address(ip, if ip.is_ipv4() { 32 } else { 128 })?;
        if !port.addresses.contains(&address) {
            port.addresses.push(address);
        }
    }
    for subnet in &switch.subnets {
        let same_version = |ip: &&IpAddr| ip.is_ipv4() == subnet.addr().is_ipv4();
        let to_link = Route::new(subnet.trunc(), None);
        if given.iter().filter(same_version).any(|ip| !inside(ip)) {
            if !port.routes.contains(&to_link) {
                port.routes.push(to_link);
            }
            port.addresses.retain(|address| !holds(subnet, address));
            continue;
        }
        // Its address in the subnet makes one.
        port.routes.retain(|route| *route != to_link);
        let wanted: Vec<_> = given.iter().filter(|ip| subnet.contains(*ip)).collect();
        if !wanted.is_empty() {
            port.addresses
                .retain(|address| !holds(subnet, address) || wanted.contains(&&address.ip()));
        }
        for ip in &wanted {
            if !port.addresses.iter().any(|address| address.ip() == **ip) {
                port.addresses.push(address(ip, subnet.prefix_len())?);
            }
        }
        if !port.addresses.iter().any(|address| holds(subnet, address)) {
            let taken = taken_by_others(lab, &port.name);
            let is_taken = |ip: &IpAddr| taken.contains(ip) || of_host.contains(ip);
            port.addresses.push(choose::first_free(is_taken, &port.name, *subnet)?);
        }
    }
    Ok(())
}

/// The gateway belongs to the lab whose switch it is of.
fn own(lab: &mut Lab, switch: &SwitchName, gateway: &PortName) {
    let owner = lab.labs.iter_mut().find(|owned| owned.switches.contains(switch));
    if let Some(owner) = owner.filter(|owned| !owned.ports.contains(gateway)) {
        owner.ports.push(gateway.clone());
    }
}

fn name_taken(port: &Port, switch: &SwitchName) -> ApiError {
    let cause = format!(
        "its gateway would be called {:?}, and there is a port of that name already",
        port.name.as_str()
    );
    text::conflict(text::switch(switch), cause).hint(format!("remove it first: vswitchctl del-port {}", port.name))
}

/// What is to be said of a port that is removed or moved though it is the gateway of a switch. None: it is not.
pub(in super::super) fn refuse_removal(lab: &Lab, name: &PortName) -> Result<(), ApiError> {
    let is_gateway = |switch: &&Switch| lab.gateway_of(switch).is_some_and(|port| port.name == *name);
    match lab.switches.iter().find(is_gateway) {
        None => Ok(()),
        Some(switch) => {
            let cause = format!("it is the gateway of {}", text::switch(&switch.name));
            Err(text::conflict(text::port(name), cause).hint(format!("it goes with: {}", switch.gateway_off())))
        }
    }
}

/// Refuses to take an address from a gateway, or all: it would get another one of that subnet at once, and stations would follow.
pub(in super::super) fn refuse_moving(lab: &Lab, name: &PortName, address: Option<IfAddr>) -> Result<(), ApiError> {
    let is_gateway =
        |switch: &&Switch| switch.gateway.is_on() && lab.gateway_of(switch).is_some_and(|port| port.name == *name);
    let Some(switch) = lab.switches.iter().find(is_gateway) else {
        return Ok(());
    };
    let given = switch.gateway.addresses();
    let of_gateway = |old: &&IfAddr| {
        let inside = switch.subnets.iter().any(|net| holds(net, old));
        address.is_none_or(|address| address == **old) && (inside || given.contains(&old.ip()))
    };
    let addresses = lab.gateway_of(switch).map_or(&[][..], |port| &port.addresses);
    let Some(address) = addresses.iter().find(of_gateway) else {
        return Ok(());
    };
    let cause = format!(
        "{address} is its address as the gateway of {}",
        text::switch(&switch.name)
    );
    Err(text::conflict(text::port(name), cause).hint(format!(
        "the gateway moves by: vswitchctl set switch {} gateway=ADDR",
        switch.name
    )))
}

/// The names of ports that are gateways.
pub(in super::super) fn gateways(lab: &Lab) -> BTreeSet<PortName> {
    let all = lab.switches.iter().filter_map(|switch| lab.gateway_of(switch));
    all.map(|port| port.name.clone()).collect()
}
