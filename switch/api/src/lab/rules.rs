//! Rules of what fits together in a lab, for the daemon, which refuses what does not, and for those who look at a lab without one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::{Lab, Port, Route, Stands, Switch};
use crate::name::{IfAddr, PortName, SwitchName};
use crate::namespace::Namespace;
use crate::policy::PortVlan;

/// [`Port::own_network`] of a port without a VLAN setting.
const NO_VLAN: u16 = 0;

impl Lab {
    /// The port of this name.
    pub fn port(&self, name: &PortName) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == *name)
    }

    /// The port of this name, to be changed.
    pub fn port_mut(&mut self, name: &PortName) -> Option<&mut Port> {
        self.ports.iter_mut().find(|port| port.name == *name)
    }

    /// The switch of this name.
    pub fn switch(&self, name: &SwitchName) -> Option<&Switch> {
        self.switches.iter().find(|switch| switch.name == *name)
    }

    /// Switches with more stations set by hand than their FDB holds, and how many each has.
    pub fn overfull(&self) -> Vec<(&Switch, usize)> {
        let mut counts = HashMap::new();
        for port in &self.ports {
            *counts.entry(&port.switch).or_insert(0) += port.stations.len();
        }
        let counted = self
            .switches
            .iter()
            .filter_map(|switch| Some((switch, *counts.get(&switch.name)?)));
        counted
            .filter(|(switch, count)| *count > switch.fdb_capacity as usize)
            .collect()
    }

    /// Leaves out what is said a second time in the same words, which says nothing: routes, and namespaces without settings.
    pub fn leave_out_repeated(&mut self) {
        let ends = self.cables.iter_mut().flat_map(|cable| [&mut cable.a, &mut cable.b]);
        let routes = self.ports.iter_mut().map(|port| &mut port.routes);
        for routes in routes.chain(ends.map(|end| &mut end.routes)) {
            let all = std::mem::take(routes);
            for route in all {
                if !routes
                    .iter()
                    .any(|other| (other.to, other.via) == (route.to, route.via))
                {
                    routes.push(route);
                }
            }
        }
        // Where one of a name has settings, that is the one that says something.
        let with_settings = self.namespaces.iter().filter(|one| !one.is_plain());
        let mut seen: HashSet<_> = with_settings.map(|one| one.name.clone()).collect();
        self.namespaces
            .retain(|one| !one.is_plain() || seen.insert(one.name.clone()));
    }
}

impl Port {
    /// The namespace that its interface is in: the one that it was given, or else the one that has its name. None: it is in none of
    /// its own.
    pub fn own_namespace(&self) -> Option<Namespace> {
        if self.kind.stands() != Stands::InNamespace {
            return None;
        }
        let of_its_name = || self.name.as_str().parse().ok().map(Namespace::Name);
        self.namespace.clone().or_else(of_its_name)
    }

    /// The network of its switch that frames of its own stack are in, which have no tag: a VLAN, or 0 where the port has no setting.
    /// None: they go nowhere.
    pub fn own_network(&self) -> Option<u16> {
        match self.vlan {
            PortVlan::All => Some(NO_VLAN),
            _ => self.vlan.untagged().map(u16::from),
        }
    }
}

impl Route {
    /// Whether its next hop, if it has one, can be reached from an interface with these addresses and routes.
    pub fn is_reached(&self, addresses: &[IfAddr], routes: &[Self]) -> bool {
        let Some(via) = self.via else { return true };
        // All hosts on the link can be reached by their link-local addresses, whatever else they have.
        let is_link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
        self.onlink
            || is_link_local
            || addresses.iter().any(|address| address.net().contains(&via))
            || routes
                .iter()
                .any(|other| other.via.is_none() && other.to.contains(&via) && other.to != self.to)
    }

    /// Where an interface has only addresses of hosts (/32, /128), a next hop is on no subnet of it: so it is on the link.
    pub fn imply_onlink(routes: &mut [Self], addresses: &[IfAddr]) {
        let all = routes.to_vec();
        for route in routes.iter_mut().filter(|route| !route.is_reached(addresses, &all)) {
            let v4 = route.to.addr().is_ipv4();
            let mut same = addresses
                .iter()
                .filter(|address| address.ip().is_ipv4() == v4)
                .peekable();
            route.onlink =
                same.peek().is_some() && same.all(|address| address.prefix_len() == address.net().max_prefix_len());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn a_switch_has_no_more_stations_than_its_fdb_holds() {
        let lab = |capacity: u32| -> Lab {
            from_value(json!({
                "switches": [{"name": "main", "fdb_capacity": 1}, {"name": "s", "fdb_capacity": capacity}],
                "ports": [
                    {"name": "a", "switch": "s", "stations": [{"mac": "02:00:00:00:00:01"}, {"mac": "02:00:00:00:00:02"}]},
                    {"name": "b", "switch": "s", "stations": [{"mac": "02:00:00:00:00:03"}]},
                    {"name": "c"}
                ],
            }))
            .unwrap()
        };
        assert!(lab(3).overfull().is_empty());
        let lab = lab(2);
        assert_eq!(lab.overfull(), [(&lab.switches[1], 3)]);
    }

    #[test]
    fn what_is_said_twice_is_said_once() {
        let route = json!({"to": "10.5.0.0/16", "via": "10.0.0.2"});
        let other = json!({"to": "10.5.0.0/16", "via": "10.0.0.3"});
        let with_settings = json!({"name": "s", "files": {"hosts": "x"}});
        let mut lab: Lab = from_value(json!({
            "ports": [{"name": "a", "routes": [route, other, route]}],
            "cables": [{"a": {"namespace": "x", "routes": [route, route]}, "b": {"namespace": "y"}}],
            "namespaces": ["n", "s", with_settings, "n", "s"],
        }))
        .unwrap();
        lab.leave_out_repeated();
        let once: Lab = from_value(json!({
            "ports": [{"name": "a", "routes": [route, other]}],
            "cables": [{"a": {"namespace": "x", "routes": [route]}, "b": {"namespace": "y"}}],
            "namespaces": ["n", with_settings],
        }))
        .unwrap();
        assert_eq!(lab, once);
    }
}
