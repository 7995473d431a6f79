//! What is refused of subnets, gateways and what goes out by them.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::no_host::of_no_host;
use vswitch_api::{ApiError, Lab, Port, Switch};

use super::super::kinds::ifname;
use super::super::text;
use super::outside::published;
use super::settle::of_routes;

/// Holds a complete lab, which is to follow on `before`, against the rules.
pub(in super::super) fn check(before: &Lab, lab: &Lab) -> Result<(), ApiError> {
    for switch in &lab.switches {
        check_subnets(switch)?;
        check_gateway(lab, switch)?;
        check_dhcp(switch)?;
    }
    let routed: Vec<_> = lab.switches.iter().filter(|switch| switch.gateway.is_on()).collect();
    for (n, switch) in routed.iter().enumerate() {
        for other in &routed[..n] {
            if let Some((a, b)) = overlap(&switch.subnets, &other.subnets) {
                let cause = format!("its subnet {a} overlaps with {b} of {}", text::switch(&other.name));
                return Err(text::conflict(text::switch(&switch.name), cause)
                    .hint("the host is the gateway of both and could not tell them apart: choose another one"));
            }
        }
    }
    let mut taken = HashMap::new();
    for port in &lab.ports {
        check_port(before, lab, port)?;
        for publish in &port.publish {
            if let Some(other) = taken.insert((publish.outside, publish.protocol), &port.name) {
                let (number, protocol) = (publish.outside, publish.protocol.word());
                let cause = format!(
                    "{protocol} {number} of the host is published for {} already",
                    text::port(other)
                );
                return Err(text::conflict(text::port(&port.name), cause)
                    .hint("choose another number; `vswitchctl publish list` shows those in use"));
            }
        }
    }
    Ok(())
}

/// What is allowed and most likely not meant.
pub(in super::super) fn warnings(before: &Lab, after: &Lab) -> Vec<String> {
    let lacks = |lab: &Lab, port: &Port| {
        let mut switches = lab.switches.iter().filter(|switch| switch.name == port.switch);
        port.auto_addresses && switches.next().is_some_and(|switch| switch.subnets.is_empty())
    };
    let lacking = after.ports.iter().filter(|port| lacks(after, port));
    let new = lacking.filter(|port| {
        !before
            .ports
            .iter()
            .any(|old| old.name == port.name && lacks(before, old))
    });
    let warning = |port: &Port| {
        format!(
            "port \"{}\" is to have addresses of the subnets of switch \"{}\", which has none: give it one with `vswitchctl set switch {} \
             subnets=10.10.0.0/24`",
            port.name, port.switch, port.switch
        )
    };
    new.map(warning).chain(of_routes(before, after)).collect()
}

fn overlap(a: &[IpNet], b: &[IpNet]) -> Option<(IpNet, IpNet)> {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b)));
    pairs.into_iter().find(|(a, b)| a.contains(b) || b.contains(a))
}

fn check_subnets(switch: &Switch) -> Result<(), ApiError> {
    let object = || text::switch(&switch.name);
    for (n, subnet) in switch.subnets.iter().enumerate() {
        if subnet.trunc() != *subnet {
            let cause = format!("{subnet} is an address in a subnet");
            return Err(text::invalid(object(), cause).hint(format!("the subnet is {}", subnet.trunc())));
        }
        let cause = match of_no_host(subnet) {
            Some(what) => Some(format!(
                "subnet {subnet} has addresses that no station can have: they are for {what}"
            )),
            // Each station makes one for itself, and no route leads to them from elsewhere.
            None if matches!(subnet, IpNet::V6(net) if net.addr().is_unicast_link_local()) => Some(format!(
                "subnet {subnet} is of link-local addresses, which are the same on every link"
            )),
            None => (subnet.max_prefix_len() - subnet.prefix_len() < 2)
                .then(|| format!("subnet {subnet} has no room for a gateway and stations")),
        };
        if let Some(cause) = cause {
            return Err(text::invalid(object(), cause).hint("choose one such as 10.10.0.0/24 or fd10::/64"));
        }
        if let Some((a, b)) = overlap(&[*subnet], &switch.subnets[..n]) {
            return Err(text::invalid(object(), format!("subnets {a} and {b} overlap")).hint("choose one of them"));
        }
    }
    Ok(())
}

fn check_gateway(lab: &Lab, switch: &Switch) -> Result<(), ApiError> {
    let object = || text::switch(&switch.name);
    if switch.gateway.is_on() {
        if switch.subnets.is_empty() {
            return Err(
                text::invalid(object(), "a gateway without a subnet to be the gateway of")
                    .hint("give it one: subnets=10.10.0.0/24 (switch add: --subnet 10.10.0.0/24)"),
            );
        }
    } else {
        let needing = [("nat", switch.nat), ("dhcp", switch.dhcp), ("dns", switch.dns)];
        if let Some((setting, _)) = needing.into_iter().find(|(_, on)| *on) {
            return Err(
                text::invalid(object(), format!("{setting} is done by its gateway, and it has none")).hint(format!(
                    "give it one: gateway=on (switch add: --gateway), or turn it off: {setting}=off"
                )),
            );
        }
    }
    if !switch.nat && !switch.uplinks.is_empty() {
        return Err(text::invalid(object(), "uplinks are those of NAT, which is off")
            .hint("turn it on: nat=on (switch add: --nat), or take them away: uplinks="));
    }
    for uplink in &switch.uplinks {
        let gateway = |port: &&Port| {
            lab.switches
                .iter()
                .any(|of| lab.gateway_of(of).is_some_and(|g| g.name == port.name))
        };
        if let Some(port) = lab.ports.iter().filter(gateway).find(|port| ifname(port) == *uplink) {
            let cause = format!("uplink {uplink} is {}, a gateway", text::port(&port.name));
            return Err(text::invalid(object(), cause).hint("name an interface that leads out of the host"));
        }
    }
    Ok(())
}

/// Holds the subnets and addresses of a switch against what `dnsmasq` can serve.
fn check_dhcp(switch: &Switch) -> Result<(), ApiError> {
    if !switch.dhcp {
        return Ok(());
    }
    let object = || text::switch(&switch.name);
    let is_off = "or turn DHCP off: dhcp=off";
    // RFC 4862 section 5.5.3: a station makes the lower 64 bits of its address itself.
    let of_stations = |net: &&IpNet| net.addr().is_ipv6() && net.prefix_len() != 64;
    if let Some(net) = switch.subnets.iter().find(of_stations) {
        let cause =
            format!("stations take addresses by router advertisements (dhcp) of a /64 alone, and {net} is none");
        return Err(text::invalid(object(), cause).hint(format!("make it a /64, such as fd10::/64, {is_off}")));
    }
    let outside = |ip: &&IpAddr| {
        let mut nets = switch.subnets.iter().filter(|net| net.addr().is_ipv4() == ip.is_ipv4());
        nets.clone().next().is_some() && !nets.any(|net| net.contains(*ip))
    };
    if let Some(ip) = switch.gateway.addresses().iter().find(outside) {
        let cause = format!("DHCP leases addresses of the subnet that the gateway is in, and {ip} is in none");
        return Err(
            text::invalid(object(), cause).hint(format!("give it an address in the subnet: gateway=on, {is_off}"))
        );
    }
    Ok(())
}

/// Whether no other switch that the host routes for has any of this network.
fn is_free(lab: &Lab, switch: &Switch, net: &IpNet) -> bool {
    let others = lab.switches.iter().filter(|other| other.name != switch.name);
    let mut routed = others.filter(|other| other.gateway.is_on());
    routed.all(|other| overlap(&[*net], &other.subnets).is_none())
}

/// The first network of some that no other switch has.
fn free_subnet(lab: &Lab, switch: &Switch) -> Option<IpNet> {
    let mut nets = (10..=255).filter_map(|n| format!("10.{n}.0.0/24").parse().ok());
    nets.find(|net| is_free(lab, switch, net))
}

fn check_port(before: &Lab, lab: &Lab, port: &Port) -> Result<(), ApiError> {
    let object = || text::port(&port.name);
    if port.auto_addresses && !port.kind.has_stack() {
        let cause = format!("a {} port has no addresses", port.kind.word());
        return Err(text::invalid(object(), cause).hint("leave auto_addresses out"));
    }
    if port.publish.is_empty() {
        return Ok(());
    }
    let Some(switch) = lab.switches.iter().find(|switch| switch.name == port.switch) else {
        return Err(text::no_switch(&port.switch));
    };
    if !port.kind.has_stack() {
        let cause = format!(
            "what is published leads to an address of the port, and a {} port has none",
            port.kind.word()
        );
        return Err(text::conflict(object(), cause).hint(format!(
            "publish a port that has one; `vswitchctl set port {} publish=none` ends it",
            port.name
        )));
    }
    if !switch.nat {
        let cause = format!("it is published by NAT, which is off on {}", text::switch(&switch.name));
        // The one that the port is in already, if it has an address there that no other switch has.
        let own = port.addresses.iter().map(|address| address.net().trunc()).next();
        let own = own.filter(|net| is_free(lab, switch, net));
        let subnet = own.or_else(|| free_subnet(lab, switch));
        let subnet = subnet.map_or_else(|| "NETWORK".to_owned(), |net| net.to_string());
        let subnet = format!(" subnets={subnet}");
        let lacking = [
            (switch.subnets.is_empty(), subnet.as_str()),
            (!switch.gateway.is_on(), " gateway=on"),
        ];
        let lacking: String = lacking
            .iter()
            .filter(|(lacks, _)| *lacks)
            .map(|(_, word)| *word)
            .collect();
        return Err(text::conflict(object(), cause).hint(format!(
            "vswitchctl set switch {}{lacking} nat=on turns it on, vswitchctl set port {} publish=none ends it",
            switch.name, port.name
        )));
    }
    if published(switch, port).next().is_none() {
        let cause = format!("it has no address in a subnet of {}", text::switch(&switch.name));
        let name = &port.name;
        let ends = format!("`vswitchctl set port {name} publish=none` ends it");
        // Whose addresses are taken away chooses none any more.
        let was_auto = before
            .ports
            .iter()
            .any(|old| old.name == port.name && old.auto_addresses);
        let gives = match (was_auto || port.auto_addresses, switch.dhcp) {
            (true, _) => String::new(),
            (false, false) => format!("`vswitchctl set port {name} auto_addresses=on` gives it one, "),
            (false, true) => format!(
                "one that is leased by DHCP may be another tomorrow, so `vswitchctl addr add {name} ADDR/LEN` gives it one of its own, "
            ),
        };
        return Err(text::conflict(object(), cause).hint(format!("{gives}{ends}")));
    }
    Ok(())
}
