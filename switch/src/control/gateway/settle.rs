//! What follows from a switch's subnets and its gateway: the port that is the gateway, addresses of ports to which they are left, and
//! their default routes. Done before all else of an edit, so that from here on they are ports, addresses and routes as any others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::gateway::gateway_name;
use vswitch_api::{ApiError, IfAddr, Lab, Port, PortKind, PortName, Route, Switch, SwitchName};

use super::super::choose::{self, taken};
use super::super::text;
use super::serve::leased;

/// Makes the ports of `lab`, which is to follow on `before`, what its switches say of subnets and gateways.
///
/// # Errors
/// Something else has the name of a gateway; a subnet has no free address left.
pub(in super::super) fn settle(lab: &mut Lab, before: &Lab) -> Result<(), ApiError> {
    remove_gateways(lab, before);
    let switches = lab.switches.clone();
    for switch in switches.iter().filter(|switch| switch.gateway.is_on()) {
        add_gateway(lab, before, switch)?;
    }
    let mut taken = taken(lab);
    for switch in &switches {
        let old = before.switches.iter().find(|old| old.name == switch.name);
        let ways = Ways::of(lab, switch);
        let old_ways = old.map(|old| Ways::of(before, old)).unwrap_or_default();
        let left = old.map(|old| left(old, switch)).unwrap_or_default();
        let is_auto = |port: &&mut Port| {
            port.auto_addresses
                && port.switch == switch.name
                && port.kind.has_stack()
                && ways.gateway.as_ref() != Some(&port.name)
        };
        // Who had an address keeps it, before any takes a new one.
        for port in lab.ports.iter_mut().filter(is_auto) {
            port.addresses
                .retain(|address| !left.iter().any(|net| holds(net, address)));
            let kept = before
                .ports
                .iter()
                .find(|old| old.name == port.name && old.switch == port.switch);
            for subnet in &switch.subnets {
                if port.addresses.iter().any(|address| holds(subnet, address)) {
                    continue;
                }
                let kept = kept.and_then(|old| old.addresses.iter().find(|address| holds(subnet, address)));
                if let Some(address) = kept
                    && taken.insert(address.ip())
                {
                    port.addresses.push(*address);
                }
            }
        }
        for port in lab.ports.iter_mut().filter(is_auto) {
            for subnet in &switch.subnets {
                if port.addresses.iter().any(|address| holds(subnet, address)) {
                    continue;
                }
                let is_taken = |ip: &IpAddr| taken.contains(ip) || is_leased(switch, ip);
                let address = choose::first_free(is_taken, &port.name, *subnet)?;
                taken.insert(address.ip());
                port.addresses.push(address);
            }
            lead_out(port, &ways, &old_ways);
        }
    }
    Ok(())
}

/// The subnets that a switch had and has no more.
fn left(old: &Switch, new: &Switch) -> Vec<IpNet> {
    let gone = old.subnets.iter().filter(|net| !new.subnets.contains(net));
    gone.copied().collect()
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

/// The gateway of a switch and its addresses.
#[derive(Default)]
struct Ways {
    gateway: Option<PortName>,
    addresses: Vec<IpAddr>,
    subnets: Vec<IpNet>,
}

impl Ways {
    fn of(lab: &Lab, switch: &Switch) -> Self {
        let Some(gateway) = lab.gateway_of(switch) else {
            return Self::default();
        };
        Self {
            gateway: Some(gateway.name.clone()),
            addresses: gateway.addresses.iter().map(|address| address.ip()).collect(),
            subnets: switch.subnets.clone(),
        }
    }

    /// The next hop of one IP version, and whether it is in no subnet.
    fn hop(&self, v4: bool) -> Option<(IpAddr, bool)> {
        let mut of_version = self.addresses.iter().filter(|ip| ip.is_ipv4() == v4);
        let subnets: Vec<_> = self.subnets.iter().filter(|net| net.addr().is_ipv4() == v4).collect();
        if subnets.is_empty() {
            return None;
        }
        let inside = |ip: &IpAddr| subnets.iter().any(|net| net.contains(ip));
        of_version.next().map(|ip| (*ip, !inside(ip)))
    }
}

/// The default routes of a port to which its addresses are given. One that leads elsewhere stays.
fn lead_out(port: &mut Port, ways: &Ways, before: &Ways) {
    for v4 in [true, false] {
        let ours = |route: &Route| {
            let is_default = route.to.prefix_len() == 0 && route.to.addr().is_ipv4() == v4;
            is_default && route.via.is_some_and(|via| before.addresses.contains(&via))
        };
        port.routes.retain(|route| !ours(route));
        let is_default = |route: &Route| route.to.prefix_len() == 0 && route.to.addr().is_ipv4() == v4;
        if let Some((via, onlink)) = ways.hop(v4)
            && !port.routes.iter().any(is_default)
        {
            let to = if v4 {
                IpNet::V4(ipnet::Ipv4Net::default())
            } else {
                IpNet::V6(ipnet::Ipv6Net::default())
            };
            port.routes.push(Route {
                onlink,
                ..Route::new(to, Some(via))
            });
        }
    }
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
    let at = match lab.ports.iter().position(|port| port.name == name) {
        Some(at) if fits(&lab.ports[at]) => at,
        Some(at) => return Err(name_taken(&lab.ports[at], &switch.name)),
        None => {
            let old = before.ports.iter().find(|port| port.name == name && fits(port));
            let new = || Port::new(name.clone(), switch.name.clone(), PortKind::Internal);
            lab.ports.push(old.cloned().unwrap_or_else(new));
            own(lab, &switch.name, &name);
            lab.ports.len() - 1
        }
    };
    let old = before.switches.iter().find(|old| old.name == switch.name);
    let mut port = lab.ports[at].clone();
    give_addresses(lab, old, switch, &mut port)?;
    lab.ports[at] = port;
    Ok(())
}

fn give_addresses(lab: &Lab, old: Option<&Switch>, switch: &Switch, port: &mut Port) -> Result<(), ApiError> {
    let gone = old.map(|old| left(old, switch)).unwrap_or_default();
    let given = switch.gateway.addresses();
    let was_given = old.map_or(&[][..], |old| old.gateway.addresses());
    port.addresses.retain(|address| {
        let ip = address.ip();
        let replaced = was_given.contains(&ip) && !given.contains(&ip) && !given.is_empty();
        !replaced && !gone.iter().any(|net| holds(net, address))
    });
    port.routes
        .retain(|route| route.via.is_some() || !gone.iter().any(|net| net.trunc() == route.to.trunc()));
    let inside = |ip: &IpAddr| switch.subnets.iter().any(|net| net.contains(ip));
    // On the link of all subnets, which it then needs routes to.
    for ip in given.iter().filter(|ip| !inside(ip)) {
        let length = if ip.is_ipv4() { 32 } else { 128 };
        let address: IfAddr = format!("{ip}/{length}")
            .parse()
            .map_err(|error: vswitch_api::name::InvalidValue| {
                text::invalid(text::switch(&switch.name), error.to_string())
            })?;
        if !port.addresses.contains(&address) {
            port.addresses.push(address);
        }
    }
    for subnet in &switch.subnets {
        let same_version = |ip: &&IpAddr| ip.is_ipv4() == subnet.addr().is_ipv4();
        if given.iter().filter(same_version).any(|ip| !inside(ip)) {
            let route = Route::new(subnet.trunc(), None);
            if !port.routes.contains(&route) {
                port.routes.push(route);
            }
            port.addresses.retain(|address| !holds(subnet, address));
            continue;
        }
        let wanted: Vec<_> = given.iter().filter(|ip| subnet.contains(*ip)).collect();
        if !wanted.is_empty() {
            port.addresses
                .retain(|address| !holds(subnet, address) || wanted.contains(&&address.ip()));
        }
        if port.addresses.iter().any(|address| holds(subnet, address)) {
            continue;
        }
        match wanted.first() {
            Some(ip) => {
                let address = format!("{ip}/{}", subnet.prefix_len());
                let address = address.parse().map_err(|error: vswitch_api::name::InvalidValue| {
                    text::invalid(text::switch(&switch.name), error.to_string())
                })?;
                port.addresses.push(address);
            }
            None => {
                let taken = taken(lab);
                let first = choose::first_free(|ip| taken.contains(ip), &port.name, *subnet)?;
                port.addresses.push(first);
            }
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
            Err(text::conflict(text::port(name), cause).hint(format!(
                "it goes with: vswitchctl set switch {} gateway=off",
                switch.name
            )))
        }
    }
}

/// The names of ports that are gateways.
pub(in super::super) fn gateways(lab: &Lab) -> BTreeSet<PortName> {
    let all = lab.switches.iter().filter_map(|switch| lab.gateway_of(switch));
    all.map(|port| port.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use vswitch_api::Gateway;

    use super::*;

    fn switch(subnets: &[&str], gateway: Gateway) -> Switch {
        Switch {
            subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
            gateway,
            ..Switch::new("lab".parse().unwrap())
        }
    }

    fn auto(name: &str) -> Port {
        Port {
            auto_addresses: true,
            ..Port::new(name.parse().unwrap(), "lab".parse().unwrap(), PortKind::Veth)
        }
    }

    fn lab(switch: Switch, ports: &[&str]) -> Lab {
        Lab {
            switches: vec![switch],
            ports: ports.iter().map(|name| auto(name)).collect(),
            ..Lab::default()
        }
    }

    fn settled(mut lab: Lab, before: &Lab) -> Lab {
        settle(&mut lab, before).unwrap();
        lab
    }

    fn addresses(lab: &Lab, name: &str) -> Vec<String> {
        let port = lab.ports.iter().find(|port| port.name.as_str() == name).unwrap();
        port.addresses.iter().map(ToString::to_string).collect()
    }

    fn routes(lab: &Lab, name: &str) -> Vec<String> {
        let port = lab.ports.iter().find(|port| port.name.as_str() == name).unwrap();
        let route = |route: &Route| {
            let via = route.via.map_or_else(|| "link".to_owned(), |via| via.to_string());
            format!("{} {via}{}", route.to, if route.onlink { " onlink" } else { "" })
        };
        port.routes.iter().map(route).collect()
    }

    const TWO: [&str; 2] = ["10.10.0.0/24", "fd10::/64"];

    #[test]
    fn the_gateway_has_the_first_address_and_each_port_the_next() {
        let first = settled(lab(switch(&TWO, Gateway::On), &["red", "blue"]), &Lab::default());
        assert_eq!(addresses(&first, "lab-gw"), ["10.10.0.1/24", "fd10::1/64"]);
        assert_eq!(addresses(&first, "red"), ["10.10.0.2/24", "fd10::2/64"]);
        assert_eq!(routes(&first, "blue"), ["0.0.0.0/0 10.10.0.1", "::/0 fd10::1"]);
        // Said again without what was chosen, and with one more in front, each keeps what it has.
        let again = settled(lab(switch(&TWO, Gateway::On), &["new", "blue", "red"]), &first);
        assert_eq!(addresses(&again, "red"), ["10.10.0.2/24", "fd10::2/64"]);
        assert_eq!(settled(again.clone(), &again), again);
    }

    #[test]
    fn what_a_switch_says_otherwise_its_ports_follow() {
        let first = settled(lab(switch(&TWO, Gateway::On), &["red"]), &Lab::default());
        let changed = |change: fn(&mut Switch)| {
            let mut next = first.clone();
            change(&mut next.switches[0]);
            settled(next, &first)
        };
        let moved = changed(|switch| switch.gateway = Gateway::At(vec!["10.10.0.254".parse().unwrap()]));
        assert_eq!(addresses(&moved, "lab-gw"), ["fd10::1/64", "10.10.0.254/24"]);
        assert_eq!(routes(&moved, "red"), ["0.0.0.0/0 10.10.0.254", "::/0 fd10::1"]);
        let fewer = changed(|switch| switch.subnets.truncate(1));
        assert_eq!(addresses(&fewer, "lab-gw"), ["10.10.0.1/24"]);
        assert_eq!(addresses(&fewer, "red"), ["10.10.0.2/24"]);
        assert_eq!(routes(&fewer, "red"), ["0.0.0.0/0 10.10.0.1"]);
        let none = changed(|switch| switch.gateway = Gateway::Off);
        assert_eq!(none.ports.len(), 1);
        assert_eq!(addresses(&none, "red"), ["10.10.0.2/24", "fd10::2/64"]);
        assert!(routes(&none, "red").is_empty());
    }

    #[test]
    fn a_gateway_outside_is_on_the_link() {
        let gateway = Gateway::At(vec!["169.254.1.1".parse().unwrap()]);
        let lab = settled(lab(switch(&TWO, gateway), &["red"]), &Lab::default());
        assert_eq!(addresses(&lab, "lab-gw"), ["169.254.1.1/32", "fd10::1/64"]);
        assert_eq!(routes(&lab, "lab-gw"), ["10.10.0.0/24 link"]);
        assert_eq!(addresses(&lab, "red"), ["10.10.0.1/24", "fd10::2/64"]);
        assert_eq!(routes(&lab, "red"), ["0.0.0.0/0 169.254.1.1 onlink", "::/0 fd10::1"]);
    }

    #[test]
    fn a_route_of_the_users_and_a_port_that_is_not_auto_stay() {
        let mut first = lab(switch(&TWO, Gateway::On), &["red", "blue"]);
        let own = Route::new("0.0.0.0/0".parse().unwrap(), Some("10.10.0.9".parse().unwrap()));
        first.ports[0].routes = vec![own];
        first.ports[1].auto_addresses = false;
        let first = settled(first, &Lab::default());
        assert_eq!(routes(&first, "red"), ["0.0.0.0/0 10.10.0.9", "::/0 fd10::1"]);
        assert!(addresses(&first, "blue").is_empty() && routes(&first, "blue").is_empty());
    }

    #[test]
    fn the_name_of_a_gateway_that_is_taken_is_an_error() {
        let mut lab = lab(switch(&TWO, Gateway::On), &["lab-gw"]);
        let error = settle(&mut lab, &Lab::default()).unwrap_err().to_string();
        assert!(error.contains("lab-gw") && error.contains("del-port"), "{error}");
    }
}
