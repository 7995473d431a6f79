//! Addresses that a user leaves to the switch: the next free one of a subnet, for each port that is added.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::no_host::of_no_host;
use vswitch_api::request::FreeAddresses;
use vswitch_api::{ApiError, IfAddr, Lab, Port, PortName};

use super::{text, validate};

/// So far a subnet is searched: a lab has fewer addresses.
const SEARCHED: usize = 1 << 20;

/// Gives `port`, which is to come to the lab, what it is to have. What it has in a subnet already, or had as it is added once
/// more, it keeps.
pub(super) fn give(lab: &Lab, port: &mut Port, wanted: &FreeAddresses) -> Result<(), ApiError> {
    let mut subnets = wanted.subnets.clone();
    let of_switch = lab.switches.iter().find(|switch| switch.name == port.switch);
    if wanted.auto && of_switch.is_some_and(|switch| !switch.subnets.is_empty()) {
        // What that means is settled for all ports alike.
        port.auto_addresses = true;
        return give(lab, port, &FreeAddresses { auto: false, subnets });
    }
    let before = lab.ports.iter().find(|old| old.name == port.name);
    match before {
        _ if !wanted.auto => {}
        Some(old) if !old.addresses.is_empty() => subnets.extend(old.addresses.iter().map(|old| old.net().trunc())),
        // They are said.
        _ if !subnets.is_empty() => {}
        _ => subnets.extend(subnets_of_neighbours(lab, port)?),
    }
    for subnet in subnets {
        let inside = |address: &&IfAddr| address.net().trunc() == subnet.trunc();
        if port.addresses.iter().any(|address| inside(&address)) {
            continue;
        }
        let kept = before.and_then(|old| old.addresses.iter().find(inside));
        let address = match kept {
            Some(address) => *address,
            None => next_free(lab, port, subnet)?,
        };
        port.addresses.push(address);
    }
    Ok(())
}

/// The subnets of the ports that this one can talk with: one of each address family.
fn subnets_of_neighbours(lab: &Lab, port: &Port) -> Result<Vec<IpNet>, ApiError> {
    if !lab.switches.iter().any(|switch| switch.name == port.switch) {
        return Err(text::no_switch(&port.switch));
    }
    let neighbours = lab.ports.iter().filter(|other| {
        other.name != port.name && other.switch == port.switch && other.vlan.shares_one_with(&port.vlan)
    });
    let nets = neighbours
        .flat_map(|other| &other.addresses)
        .map(|address| address.net());
    // Addresses of hosts and links between two tell nothing of where there is room.
    let nets: BTreeSet<_> = nets
        .filter(|net| !validate::is_link_local(net.addr()) && net.max_prefix_len() - net.prefix_len() > 1)
        .map(|net| net.trunc())
        .collect();
    let object = || text::port(&port.name);
    if nets.is_empty() {
        let cause = format!(
            "no port that it can talk with on switch {:?} has an address yet, so there is no subnet to choose one of",
            port.switch.as_str()
        );
        return Err(
            text::conflict(object(), cause).hint("say which with --subnet 192.168.15.0/24, or give --addr ADDR/LEN")
        );
    }
    for v4 in [true, false] {
        let of_family: Vec<_> = nets.iter().filter(|net| net.addr().is_ipv4() == v4).collect();
        if of_family.len() > 1 {
            let names: Vec<_> = of_family.iter().map(ToString::to_string).collect();
            let cause = format!(
                "the ports that it can talk with are in several subnets: {}",
                names.join(", ")
            );
            return Err(text::conflict(object(), cause).hint(format!("say which with --subnet {}", names[0])));
        }
    }
    Ok(nets.into_iter().collect())
}

/// All addresses of the lab, be they next hops of routes.
pub(super) fn taken(lab: &Lab) -> BTreeSet<IpAddr> {
    let mut taken = held(lab, None);
    let ends = lab.cables.iter().flat_map(|cable| [&cable.a.routes, &cable.b.routes]);
    let routes = lab.ports.iter().map(|port| &port.routes).chain(ends).flatten();
    taken.extend(routes.filter_map(|route| route.via));
    taken
}

/// The addresses that interfaces of the lab have, but for those of one port, and those that gateways are to have.
pub(super) fn held(lab: &Lab, but: Option<&PortName>) -> BTreeSet<IpAddr> {
    let ports = lab.ports.iter().filter(|port| Some(&port.name) != but);
    let ends = lab.cables.iter().flat_map(|cable| [&cable.a, &cable.b]);
    let addresses = ports.map(|port| &port.addresses).chain(ends.map(|end| &end.addresses));
    let gateways = lab.switches.iter().flat_map(|switch| switch.gateway.addresses());
    let addresses = addresses.flatten().map(|address| address.ip());
    addresses.chain(gateways.copied()).collect()
}

fn next_free(lab: &Lab, port: &Port, subnet: IpNet) -> Result<IfAddr, ApiError> {
    let mut taken = taken(lab);
    taken.extend(port.addresses.iter().map(|address| address.ip()));
    taken.extend(port.routes.iter().filter_map(|route| route.via));
    first_free(|ip| taken.contains(ip), &port.name, subnet)
}

/// The lowest address of a host in a subnet that is not taken.
pub(super) fn first_free(taken: impl Fn(&IpAddr) -> bool, port: &PortName, subnet: IpNet) -> Result<IfAddr, ApiError> {
    if let Some(what) = of_no_host(&subnet) {
        let cause = format!("subnet {subnet} has addresses that no station can have: they are for {what}");
        return Err(text::conflict(text::port(port), cause).hint("choose one such as 10.10.0.0/24 or fd10::/64"));
    }
    // `IfAddr` knows which addresses no host can have; the first of an IPv6 subnet is that of any router (RFC 4291 section 2.6.1).
    let reserved = |ip: &IpAddr| ip.is_ipv6() && subnet.prefix_len() < 127 && *ip == subnet.network();
    let hosts = subnet.hosts().filter(|ip| !reserved(ip)).take(SEARCHED);
    let mut free = hosts.filter(|ip| !taken(ip));
    let address = free.find_map(|ip| format!("{ip}/{}", subnet.prefix_len()).parse().ok());
    address.ok_or_else(|| {
        let cause = format!("subnet {subnet} has no free address left");
        text::conflict(text::port(port), cause).hint("choose a larger one, or remove ports: `vswitchctl addr list`")
    })
}

#[cfg(test)]
mod tests {
    use vswitch_api::{PortKind, Route, Switch};

    use super::*;

    fn port(name: &str, addresses: &[&str]) -> Port {
        let mut port = Port::new(name.parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
        port.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        port
    }

    fn given(ports: Vec<Port>, mut new: Port, subnets: &[&str]) -> Result<Vec<String>, String> {
        let lab = Lab {
            switches: vec![Switch::new("main".parse().unwrap())],
            ports,
            ..Lab::default()
        };
        let wanted = FreeAddresses {
            subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
            auto: subnets.is_empty(),
        };
        give(&lab, &mut new, &wanted).map_err(|error| error.to_string())?;
        Ok(new.addresses.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn what_is_taken_is_passed_over() {
        let mut routed = port("a", &["10.0.0.1/24"]);
        routed.routes = vec![Route::new(
            "0.0.0.0/0".parse().unwrap(),
            Some("10.0.0.2".parse().unwrap()),
        )];
        let others = vec![routed, port("b", &["10.0.0.4/24", "fd00::1/64"])];
        let new = || port("new", &[]);
        assert_eq!(
            given(others.clone(), new(), &["10.0.0.0/24", "fd00::/64"]),
            Ok(vec!["10.0.0.3/24".into(), "fd00::2/64".into()])
        );
        assert_eq!(
            given(others, new(), &[]),
            Ok(vec!["10.0.0.3/24".into(), "fd00::2/64".into()])
        );
    }

    #[test]
    fn the_edges_of_subnets_are_no_hosts() {
        for (subnet, first) in [
            ("10.0.0.0/24", "10.0.0.1/24"),
            ("10.0.0.0/31", "10.0.0.0/31"),
            ("10.0.0.7/32", "10.0.0.7/32"),
            ("fd00::/64", "fd00::1/64"),
            ("fd00::/127", "fd00::/127"),
        ] {
            assert_eq!(given(vec![], port("new", &[]), &[subnet]), Ok(vec![first.into()]));
        }
        let full = vec![port("a", &["10.0.0.1/30"]), port("b", &["10.0.0.2/30"])];
        let error = given(full, port("new", &[]), &["10.0.0.0/30"]).unwrap_err();
        assert!(error.contains("subnet 10.0.0.0/30 has no free address left"), "{error}");
        for none in ["0.0.0.0/0", "127.0.0.0/8", "224.0.0.0/24", "ff02::/64"] {
            let error = given(vec![], port("new", &[]), &[none]).unwrap_err();
            assert!(
                error.contains("no station can have") && !error.contains("larger"),
                "{error}"
            );
        }
    }

    #[test]
    fn without_one_subnet_there_is_nothing_to_choose() {
        let error = given(vec![], port("new", &[]), &[]).unwrap_err();
        assert!(error.contains("--subnet"), "{error}");
        let two = vec![port("a", &["10.0.0.1/24"]), port("b", &["10.1.0.1/24"])];
        let error = given(two, port("new", &[]), &[]).unwrap_err();
        assert!(error.contains("several subnets: 10.0.0.0/24, 10.1.0.0/24"), "{error}");
    }

    /// As the hint of both errors says.
    #[test]
    fn a_subnet_that_is_said_is_what_is_chosen_of() {
        for others in [&[][..], &["10.0.0.1/24", "10.1.0.1/24"]] {
            let lab = Lab {
                ports: vec![port("a", others)],
                ..Lab::default()
            };
            let wanted = FreeAddresses {
                subnets: vec!["10.1.0.0/24".parse().unwrap()],
                auto: true,
            };
            let mut new = port("new", &[]);
            give(&lab, &mut new, &wanted).unwrap();
            let nets: Vec<_> = new.addresses.iter().map(|address| address.net().trunc()).collect();
            assert_eq!(nets, wanted.subnets);
        }
    }

    #[test]
    fn a_port_that_is_added_again_keeps_its_address() {
        let there = vec![port("a", &["10.0.0.9/24"])];
        assert_eq!(
            given(there, port("a", &[]), &["10.0.0.0/24"]),
            Ok(vec!["10.0.0.9/24".into()])
        );
    }
}
