//! What the host does for the switches beyond switching, as it follows from the lab alone.

use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::{IfName, Lab, Port, Publish, Switch, SwitchName};

use super::super::kinds::ifname;
use super::serve::{Served, served};
use super::settle::gateways;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Outside {
    /// The switches with NAT.
    pub ways: Vec<Way>,
    /// Interfaces of all gateways. None if nothing is translated.
    pub gateways: Vec<IfName>,
    /// DHCP and DNS.
    pub services: Vec<Served>,
}

/// The way out of a switch with NAT, and in to what is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Way {
    pub switch: SwitchName,
    /// Interface of the gateway.
    pub gateway: IfName,
    pub subnets: Vec<IpNet>,
    /// Interfaces by which it gets out; none: those of the default routes.
    pub uplinks: Vec<IfName>,
    pub published: Vec<Published>,
}

/// A port number of the host and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Published {
    pub publish: Publish,
    pub to: IpAddr,
}

impl Outside {
    /// Whether a switch gets out by whatever interface has the default route.
    pub fn follows_default_routes(&self) -> bool {
        self.ways.iter().any(|way| way.uplinks.is_empty())
    }

    pub fn of(lab: &Lab) -> Self {
        let ways: Vec<_> = lab.switches.iter().filter_map(|switch| way(lab, switch)).collect();
        let services = served(lab);
        if ways.is_empty() {
            return Self {
                services,
                ..Self::default()
            };
        }
        let names = gateways(lab);
        let gateways = lab.ports.iter().filter(|port| names.contains(&port.name));
        Self {
            ways,
            gateways: gateways.map(ifname).collect(),
            services,
        }
    }

    /// The same with the interfaces as they are called now. DHCP and DNS are told names of their own.
    pub fn called(mut self, now: impl Fn(&IfName) -> Option<IfName>) -> Self {
        let gateways = self.ways.iter_mut().map(|way| &mut way.gateway);
        for name in gateways.chain(&mut self.gateways) {
            if let Some(now) = now(name) {
                *name = now;
            }
        }
        self
    }

    /// What the user is told of the way from one to the other.
    pub fn describe(before: &Self, after: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for old in &before.ways {
            if !after.ways.iter().any(|new| new.switch == old.switch) {
                lines.push(format!("removed NAT of switch {} from nftables", old.switch));
            }
        }
        for new in &after.ways {
            if !before.ways.iter().any(|old| old.switch == new.switch) {
                let subnets: Vec<_> = new.subnets.iter().map(ToString::to_string).collect();
                let (switch, subnets) = (&new.switch, subnets.join(", "));
                lines.push(format!("added NAT of switch {switch} ({subnets}) to nftables"));
            }
        }
        for old in before.services.iter().filter(|old| !after.services.contains(old)) {
            lines.push(format!(
                "removed {} at {} of switch {}",
                old.what(),
                old.gateway,
                old.switch
            ));
        }
        for new in after.services.iter().filter(|new| !before.services.contains(new)) {
            lines.push(format!(
                "added {} at {} of switch {} (dnsmasq)",
                new.what(),
                new.gateway,
                new.switch
            ));
        }
        lines
    }
}

fn way(lab: &Lab, switch: &Switch) -> Option<Way> {
    let gateway = lab.gateway_of(switch).filter(|_| switch.nat)?;
    let ports = lab.ports.iter().filter(|port| port.switch == switch.name);
    Some(Way {
        switch: switch.name.clone(),
        gateway: ifname(gateway),
        subnets: switch.subnets.iter().map(IpNet::trunc).collect(),
        uplinks: switch.uplinks.clone(),
        published: ports.flat_map(|port| published(switch, port)).collect(),
    })
}

/// To the first address of each IP version that a port has in the subnets of its switch.
pub(in super::super) fn published<'a>(switch: &'a Switch, port: &'a Port) -> impl Iterator<Item = Published> + 'a {
    let inside = |ip: &IpAddr| switch.subnets.iter().any(|net| net.contains(ip));
    let of_version = move |v4: bool| {
        let mut addresses = port.addresses.iter().map(|address| address.ip());
        addresses.find(|ip| ip.is_ipv4() == v4 && inside(ip))
    };
    let targets = [true, false].into_iter().filter_map(of_version);
    targets.flat_map(|to| {
        port.publish
            .iter()
            .map(move |publish| Published { publish: *publish, to })
    })
}
