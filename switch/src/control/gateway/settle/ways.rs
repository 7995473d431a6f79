//! The default routes of ports to which addresses are given.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vswitch_api::{Lab, Namespace, Port, PortName, Route, Stands, Switch, SwitchName};

use super::super::super::text;
use super::is_auto;

/// The addresses of a switch's gateway.
struct Ways {
    addresses: Vec<IpAddr>,
    subnets: Vec<IpNet>,
}

impl Ways {
    /// Those of all switches of a lab that have a gateway.
    fn of_all(lab: &Lab) -> HashMap<SwitchName, Self> {
        let of = |switch: &Switch| {
            let gateway = lab.gateway_of(switch)?;
            let ways = Self {
                addresses: gateway.addresses.iter().map(|address| address.ip()).collect(),
                subnets: switch.subnets.clone(),
            };
            Some((switch.name.clone(), ways))
        };
        lab.switches.iter().filter_map(of).collect()
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

    /// Whether a route is the default route over this gateway.
    fn has(&self, route: &Route) -> bool {
        is_default(route) && route.via.is_some_and(|via| self.addresses.contains(&via))
    }
}

/// Gives the ports to which addresses are given default routes over their gateways, in place of those that they had over the ones of
/// `before`. One that leads elsewhere stays, and in a namespace there is one of an IP version. The host, which is the gateway, is not its own.
pub(super) fn lead_out(lab: &mut Lab, before: &Lab, switches: &[Switch]) {
    let (ways, old_ways) = (Ways::of_all(lab), Ways::of_all(before));
    let old_ports: HashMap<_, _> = before.ports.iter().map(|port| (&port.name, port)).collect();
    let switches: HashMap<_, _> = switches.iter().map(|switch| (&switch.name, switch)).collect();
    let mut had = HashSet::new();
    let mut autos = Vec::new();
    for (at, port) in lab.ports.iter_mut().enumerate() {
        if !switches.get(&port.switch).is_some_and(|switch| is_auto(port, switch)) {
            continue;
        }
        if port.kind.stands() != Stands::OnHost {
            autos.push(at);
        }
        let old = old_ports.get(&port.name);
        if let Some((old, ways)) = old.and_then(|old| Some((old, old_ways.get(&old.switch)?))) {
            let ours = old.routes.iter().filter(|route| ways.has(route));
            had.extend(ours.map(|route| (at, is_v4(route))));
            port.routes.retain(|route| !ways.has(route));
        }
    }
    let mut led = led(lab);
    for v4 in [true, false] {
        // Whoever has it keeps it.
        let (first, then): (Vec<usize>, Vec<usize>) = autos.iter().partition(|at| had.contains(&(**at, v4)));
        for at in first.into_iter().chain(then) {
            let port = &mut lab.ports[at];
            let Some((via, onlink)) = ways.get(&port.switch).and_then(|ways| ways.hop(v4)) else {
                continue;
            };
            let place = (port.own_namespace(), v4);
            if led.contains_key(&place) {
                continue;
            }
            led.insert(place, text::port(&port.name));
            let to = match v4 {
                true => IpNet::V4(Ipv4Net::default()),
                false => IpNet::V6(Ipv6Net::default()),
            };
            port.routes.push(Route {
                onlink,
                ..Route::new(to, Some(via))
            });
        }
    }
}

fn is_default(route: &Route) -> bool {
    route.to.prefix_len() == 0
}

fn is_v4(route: &Route) -> bool {
    route.to.addr().is_ipv4()
}

/// Who has the default route of a namespace and IP version.
fn led(lab: &Lab) -> HashMap<(Option<Namespace>, bool), String> {
    let mut led = HashMap::new();
    for port in lab.ports.iter().filter(|port| port.kind.has_stack()) {
        for route in port.routes.iter().filter(|route| is_default(route)) {
            led.insert((port.own_namespace(), is_v4(route)), text::port(&port.name));
        }
    }
    for cable in &lab.cables {
        for end in [&cable.a, &cable.b] {
            for route in end.routes.iter().filter(|route| is_default(route)) {
                let place = Some(Namespace::Name(end.namespace.clone()));
                led.insert((place, is_v4(route)), text::cable(cable));
            }
        }
    }
    led
}

/// Ports that have no default route over the gateway of their switch as somebody else has that of their namespace.
fn unled(lab: &Lab) -> BTreeMap<(PortName, bool), (SwitchName, String)> {
    let (ways, led) = (Ways::of_all(lab), led(lab));
    let mut unled = BTreeMap::new();
    for switch in lab.switches.iter().filter(|switch| switch.gateway.is_on()) {
        let Some(ways) = ways.get(&switch.name) else { continue };
        let is_led = |port: &&Port| is_auto(port, switch) && port.kind.stands() != Stands::OnHost;
        for port in lab.ports.iter().filter(is_led) {
            for v4 in [true, false] {
                let has = |route: &Route| is_default(route) && is_v4(route) == v4;
                let other = led.get(&(port.own_namespace(), v4)).filter(|_| ways.hop(v4).is_some());
                if let Some(other) = other.filter(|_| !port.routes.iter().any(has)) {
                    unled.insert((port.name.clone(), v4), (switch.name.clone(), other.clone()));
                }
            }
        }
    }
    unled
}

/// What is told of ports that get no default route.
pub(in super::super) fn warnings(before: &Lab, after: &Lab) -> Vec<String> {
    let old = unled(before);
    let new = unled(after).into_iter().filter(|(lack, _)| !old.contains_key(lack));
    let warning = |((name, v4), (switch, other)): ((PortName, bool), (SwitchName, String))| {
        let version = if v4 { "IPv4" } else { "IPv6" };
        format!(
            "port \"{name}\" gets no default route of {version} over the gateway of switch \"{switch}\", as {other} in the same namespace \
             has one; name the networks behind it with `vswitchctl route add {name} NET --via ADDR`"
        )
    };
    new.map(warning).collect()
}
