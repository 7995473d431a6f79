//! Whether an address or a route that the host gets as a member of a switch covers what the host reaches elsewhere: from then on it
//! would look for it in the switch, or never there.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use vswitch_api::lab::Route;
use vswitch_api::{ApiError, IfAddr, IfName, Lab, Port, Stands, Switch};

use super::gateway::gateways;
use super::kinds::ifname;
use super::{Inner, text};
use vswitch_linux::KernelError;

impl Inner {
    /// What is allowed and most likely not meant. Where the host can't be asked, nothing is said.
    pub(super) async fn overlaps(&self, before: &Lab, after: &Lab) -> Vec<String> {
        let new: Vec<_> = after.ports.iter().flat_map(|port| new_nets(before, port)).collect();
        if new.is_empty() {
            return Vec::new();
        }
        self.overlapping(&new, "is to have", [before, after]).await
    }

    /// The same of what is there: the host may have got the other way later.
    pub(super) async fn overlaps_by_now(&self) -> Vec<String> {
        let (none, lab) = (Lab::default(), &self.store.state.lab);
        let all: Vec<_> = lab.ports.iter().flat_map(|port| new_nets(&none, port)).collect();
        match all.is_empty() {
            true => Vec::new(),
            false => self.overlapping(&all, "has", [lab, lab]).await,
        }
    }

    async fn overlapping(&self, nets: &[(&Port, Net)], has: &str, labs: [&Lab; 2]) -> Vec<String> {
        match self.nets_of_host(&self.legs_of_host(labs)).await {
            Ok(there) => warnings(nets, has, &there),
            Err(error) => {
                tracing::debug!("what the host reaches can't be told: {error}");
                Vec::new()
            }
        }
    }

    /// The interfaces of the host that these labs have, also as others have named them.
    fn legs_of_host(&self, labs: [&Lab; 2]) -> BTreeSet<IfName> {
        let mut names = interfaces_of_host(labs);
        let legs = self.store.state.lab.ports.iter().filter(|port| is_of_host(port));
        let called = legs.filter_map(|port| self.live.ports.get(&port.name)?.ifname.parse().ok());
        names.extend(called);
        names
    }

    /// Refuses a route through a switch for all that the host reaches by a default route of its own, most likely also whoever is
    /// connected to it from afar; with `force` it tells of that.
    pub(super) async fn refuse_default_routes(
        &self,
        before: &Lab,
        after: &Lab,
        force: bool,
    ) -> Result<Vec<String>, ApiError> {
        let new: Vec<_> = after.ports.iter().flat_map(|port| new_defaults(before, port)).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let ours = self.legs_of_host([before, after]);
        let mut warnings = Vec::new();
        for (port, route) in new {
            let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
            let Some(way) = self.default_way_of_host(route, &ours).await.map_err(failed)? else {
                continue;
            };
            if force {
                warnings.push(format!(
                    "the host has a route to {} by {}, though it has a default route {way}",
                    route.to,
                    text::port(&port.name)
                ));
                continue;
            }
            let cause = format!(
                "it is a leg of the host, which has a default route {way}. With a route to {} through the switch the host reaches nobody \
                 by that, and whoever is connected to it from elsewhere (perhaps you) is cut off",
                route.to
            );
            let mut hint =
                "name the networks that are behind the switch, or do it all the same with --force".to_owned();
            // One that is refused as a whole is not there to be given a route.
            if as_it_was(before, port).is_some() {
                let via = route.via.map_or_else(String::new, |via| format!(" --via {via}"));
                hint = format!("{hint}: vswitchctl route add {} {}{via} --force", port.name, route.to);
            }
            return Err(text::conflict(text::port(&port.name), cause).hint(hint));
        }
        Ok(warnings)
    }

    /// The addresses that the host has by interfaces that are of no lab, and those that it sends to by them. Where it can't be asked,
    /// none.
    pub(super) async fn addresses_of_host(&self, before: &Lab, after: &Lab) -> HostAddresses {
        let has_subnets = after.switches.iter().any(|switch| !switch.subnets.is_empty());
        if !has_subnets && !after.ports.iter().any(is_of_host) {
            return HostAddresses::default();
        }
        let ours = self.legs_of_host([before, after]);
        self.ask_addresses_of_host(&ours).await.unwrap_or_else(|error| {
            tracing::debug!("which addresses the host has can't be told: {error}");
            HostAddresses::default()
        })
    }

    async fn ask_addresses_of_host(&self, ours: &BTreeSet<IfName>) -> Result<HostAddresses, KernelError> {
        let home = self.host.home.netlink().await?;
        let links = home.links().await?;
        let name = |index: u32| {
            let link = links.iter().find(|link| link.index == index)?;
            (!ours.iter().any(|own| own.as_str() == link.name)).then(|| link.name.clone())
        };
        let addresses = home.addresses().await?;
        let nets_of_addresses = addresses
            .iter()
            .filter_map(|(index, net, _)| name(*index).map(|_| net.trunc()));
        let addresses = addresses
            .iter()
            .filter_map(|(index, net, _)| Some((net.addr(), name(*index)?)));
        let routes = home.routes().await?;
        let hops = routes
            .iter()
            .filter_map(|route| Some((route.via?, name(route.index?)?)));
        let nets = routes.iter().filter_map(|route| name(route.index?).map(|_| route.to));
        let nets: Vec<IpNet> = nets.chain(nets_of_addresses).collect();
        let defaults = routes.iter().filter(|route| route.to.prefix_len() == 0);
        let routers = defaults.filter_map(|route| {
            name(route.index?)?;
            let router = route.via?;
            let holding = nets.iter().filter(|net| net.contains(&router));
            Some((router, holding.map(IpNet::prefix_len).max().unwrap_or_default()))
        });
        Ok(HostAddresses {
            own: addresses.collect(),
            hops: hops.collect(),
            routers: routers.collect(),
        })
    }

    /// How the host reaches what it has no other route to, in the IP version of `route` and not by one of `ours`.
    async fn default_way_of_host(&self, route: &Route, ours: &BTreeSet<IfName>) -> Result<Option<String>, KernelError> {
        let home = self.host.home.netlink().await?;
        let links = home.links().await?;
        let routes = home.routes().await?;
        let defaults = routes
            .iter()
            .filter(|there| there.to.prefix_len() == 0 && there.to.addr().is_ipv4() == route.to.addr().is_ipv4());
        let mut names = defaults.filter_map(|there| {
            let link = links.iter().find(|link| Some(link.index) == there.index)?;
            let via = there.via.map_or_else(String::new, |via| format!("via {via} "));
            (!ours.iter().any(|own| own.as_str() == link.name)).then(|| format!("{via}by interface {}", link.name))
        });
        Ok(names.next())
    }

    /// What the host reaches without its default routes, and by which interface; `ours` are left out.
    async fn nets_of_host(&self, ours: &BTreeSet<IfName>) -> Result<BTreeMap<IpNet, String>, KernelError> {
        let home = self.host.home.netlink().await?;
        let links = home.links().await?;
        let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| &link.name);
        let addresses = home.addresses().await?;
        let addresses = addresses.iter().map(|(index, net, _)| (*index, net.trunc()));
        let routes = home.routes().await?;
        let routes = routes.iter().filter_map(|route| Some((route.index?, route.to)));
        let all = addresses.chain(routes.filter(|(_, net)| net.prefix_len() > 0));
        let all = all.filter_map(|(index, net)| Some((net, name(index)?.clone())));
        // Each interface has such addresses and routes.
        let all = all.filter(|(net, _)| !is_everywhere(net));
        Ok(all
            .filter(|(_, name)| !ours.iter().any(|own| own.as_str() == name))
            .collect())
    }
}

/// Addresses in the networks that the host is a member of by itself, each with the interface.
#[derive(Debug, Default)]
pub(super) struct HostAddresses {
    own: BTreeMap<IpAddr, String>,
    /// Next hops of its routes.
    hops: BTreeMap<IpAddr, String>,
    /// Those of its default routes, each with the length of the network in which it is reached.
    routers: BTreeMap<IpAddr, u8>,
}

impl HostAddresses {
    pub fn all(&self) -> BTreeSet<IpAddr> {
        self.own.keys().chain(self.hops.keys()).copied().collect()
    }

    /// Whose an address is, in words; none: nobody's of whom the host knows.
    fn what_is(&self, ip: IpAddr) -> Option<String> {
        let own = self.own.get(&ip);
        let own = own.map(|name| format!("an address of the host (interface {name})"));
        own.or_else(|| {
            let name = self.hops.get(&ip)?;
            Some(format!("the router that the host gets out by (interface {name})"))
        })
    }

    /// A router of the host that it would look for by this network instead, in words.
    fn router_in(&self, net: &IpNet) -> Option<String> {
        let mut routers = self.routers.iter();
        let (ip, _) = routers.find(|(ip, length)| net.contains(*ip) && net.prefix_len() >= **length)?;
        Some(format!("{ip}, {}", self.what_is(*ip)?))
    }
}

/// Refuses to make the host the gateway, or another member, of a network that it is a member of by itself: it would look for all of that
/// in the switch, and take the place of the router that it gets out by. With `force` it tells of that.
pub(super) fn refuse_own_networks(
    before: &Lab,
    after: &Lab,
    of_host: &HostAddresses,
    force: bool,
) -> Result<Vec<String>, ApiError> {
    let mut warnings = Vec::new();
    for (switch, gateway) in after.switches.iter().filter_map(|s| Some((s, after.gateway_of(s)?))) {
        let Some(cause) = own_network(before, switch, gateway, of_host) else {
            continue;
        };
        if force {
            warnings.push(format!("{} leads the host astray: {cause}", text::switch(&switch.name)));
            continue;
        }
        let cause = format!(
            "{cause}; with a gateway there the host looks in the switch for all that it reaches by that interface, and whoever is connected \
             to it from there (perhaps you) is cut off"
        );
        return Err(text::conflict(text::switch(&switch.name), cause)
            .hint("choose another subnet, such as 10.10.0.0/24, or do it all the same with --force"));
    }
    let gateways = gateways(after);
    for port in after.ports.iter().filter(|port| !gateways.contains(&port.name)) {
        let Some(cause) = own_address(before, port, of_host) else {
            continue;
        };
        if force {
            warnings.push(format!("{} leads the host astray: {cause}", text::port(&port.name)));
            continue;
        }
        let cause = format!(
            "{cause}; with a leg there the host looks in the switch for what it reaches by that interface, and whoever is connected to it \
             from there (perhaps you) is cut off"
        );
        return Err(text::conflict(text::port(&port.name), cause)
            .hint("choose another address, or do it all the same with --force"));
    }
    for port in after.ports.iter().filter(|port| is_of_host(port)) {
        let Some(cause) = own_route(before, after, port, of_host) else {
            continue;
        };
        if force {
            warnings.push(format!("{} leads the host astray: {cause}", text::port(&port.name)));
            continue;
        }
        let cause = format!(
            "{cause}; with that the host reaches nobody by its default route, and whoever is connected to it from elsewhere (perhaps you) is \
             cut off"
        );
        return Err(text::conflict(text::port(&port.name), cause)
            .hint("choose another destination, or do it all the same with --force"));
    }
    Ok(warnings)
}

/// What of the new addresses of a leg of the host is of the host's own networks.
fn own_address(before: &Lab, port: &Port, of_host: &HostAddresses) -> Option<String> {
    let mut new = new_addresses(before, port).filter(|address| !is_everywhere(&address.net()));
    new.find_map(|address| {
        if let Some(what) = of_host.what_is(address.ip()) {
            return Some(format!("its address {} is {what}", address.ip()));
        }
        let net = address.net().trunc();
        if let Some((ip, name)) = of_host.own.iter().find(|(ip, _)| net.contains(*ip)) {
            return Some(format!(
                "the host has address {ip} in its network {net} by interface {name}"
            ));
        }
        let router = of_host.router_in(&net)?;
        Some(format!("its network {net} holds {router}"))
    })
}

/// The new route of a leg of the host, other than to a subnet of a switch, that takes away its way to its router.
fn own_route(before: &Lab, after: &Lab, port: &Port, of_host: &HostAddresses) -> Option<String> {
    let of_switch = |route: &Route| {
        let mut switches = after.switches.iter().filter(|switch| switch.name == port.switch);
        switches.any(|switch| switch.subnets.contains(&route.to.trunc()))
    };
    // Those to all are refused as such.
    let mut new = new_routes(before, port).filter(|route| route.to.prefix_len() > 1 && !of_switch(route));
    new.find_map(|route| {
        Some(format!(
            "its route to {} holds {}",
            route.to,
            of_host.router_in(&route.to.trunc())?
        ))
    })
}

/// What of a gateway, if it is new, is of the host's own networks.
fn own_network(before: &Lab, switch: &Switch, gateway: &Port, of_host: &HostAddresses) -> Option<String> {
    let old = before.switches.iter().find(|old| old.name == switch.name);
    let old = old.filter(|old| old.gateway.is_on());
    let was = old.and_then(|old| before.gateway_of(old));
    let new = gateway.addresses.iter().map(|address| address.ip());
    let mut new = new.filter(|ip| was.is_none_or(|was| was.addresses.iter().all(|old| old.ip() != *ip)));
    let taken = new.find_map(|ip| Some(format!("its gateway's address {ip} is {}", of_host.what_is(ip)?)));
    if taken.is_some() {
        return taken;
    }
    let nets = switch.subnets.iter();
    let mut nets = nets.filter(|net| old.is_none_or(|old| !old.subnets.contains(net)));
    nets.find_map(|net| {
        if let Some((ip, name)) = of_host.own.iter().find(|(ip, _)| net.contains(*ip)) {
            return Some(format!(
                "the host has address {ip} in its subnet {net} by interface {name}"
            ));
        }
        Some(format!("its subnet {net} holds {}", of_host.router_in(net)?))
    })
}

/// An interface of the host that we make.
fn is_of_host(port: &Port) -> bool {
    port.kind.has_stack() && port.kind.stands() == Stands::OnHost
}

/// The interfaces of the host that these labs have.
fn interfaces_of_host(labs: [&Lab; 2]) -> BTreeSet<IfName> {
    let ports = labs.into_iter().flat_map(|lab| &lab.ports);
    ports.filter(|port| is_of_host(port)).map(ifname).collect()
}

/// A port of the host as it was.
fn as_it_was<'a>(before: &'a Lab, port: &Port) -> Option<&'a Port> {
    before.ports.iter().find(|old| old.name == port.name && is_of_host(old))
}

/// What a port gives the host that it had not before.
fn new_addresses<'a>(before: &'a Lab, port: &'a Port) -> impl Iterator<Item = &'a IfAddr> {
    let old = as_it_was(before, port);
    let addresses = port.addresses.iter().filter(|_| is_of_host(port));
    addresses.filter(move |address| old.is_none_or(|old| !old.addresses.contains(address)))
}

/// What a port leads the host to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Net {
    OfAddress(IpNet),
    OfRoute(IpNet),
}

/// The routes that a port gives the host, and gave it not before.
fn new_routes<'a>(before: &'a Lab, port: &'a Port) -> impl Iterator<Item = &'a Route> {
    let old = as_it_was(before, port);
    let routes = port.routes.iter().filter(|_| is_of_host(port));
    routes.filter(move |route| old.is_none_or(|old| !old.routes.contains(route)))
}

/// The networks of these, each once, however many addresses of it there are, and those to which routes lead.
fn new_nets<'a>(before: &'a Lab, port: &'a Port) -> impl Iterator<Item = (&'a Port, Net)> {
    let nets = |port: &Port| -> BTreeSet<_> {
        let addresses = port.addresses.iter();
        let addresses = addresses.map(|address| Net::OfAddress(address.net().trunc()));
        let routes = port.routes.iter().filter(|route| route.to.prefix_len() > 1);
        addresses
            .chain(routes.map(|route| Net::OfRoute(route.to.trunc())))
            .collect()
    };
    let old = as_it_was(before, port).map(nets).unwrap_or_default();
    let new = if is_of_host(port) { nets(port) } else { BTreeSet::new() };
    let new: Vec<_> = new.difference(&old).copied().collect();
    new.into_iter().map(move |net| (port, net))
}

/// Routes to all, or to a half of all, which two of make the same.
fn new_defaults<'a>(before: &'a Lab, port: &'a Port) -> Vec<(&'a Port, &'a Route)> {
    if !is_of_host(port) {
        return Vec::new();
    }
    new_routes(before, port)
        .filter(|route| route.to.prefix_len() <= 1)
        .map(|route| (port, route))
        .collect()
}

fn is_everywhere(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.addr().is_loopback(),
        IpNet::V6(net) => {
            let address = net.addr();
            address.is_loopback() || address.is_unicast_link_local() || address.is_multicast()
        }
    }
}

fn warnings(new: &[(&Port, Net)], has: &str, there: &BTreeMap<IpNet, String>) -> Vec<String> {
    let overlap = |net: &Net| {
        there.iter().find(|(other, _)| match net {
            Net::OfAddress(net) => net.contains(*other) || other.contains(net),
            // What the host has a longer one to it reaches as before.
            Net::OfRoute(net) => other.contains(net),
        })
    };
    let found = new
        .iter()
        .filter_map(|(port, net)| overlap(net).map(|found| (port, net, found)));
    found
        .map(|(port, net, (other, name))| {
            let (kind, net) = match net {
                Net::OfAddress(net) => ("an address of", net),
                Net::OfRoute(net) => ("a route to", net),
            };
            let what = match other == net {
                true => "which the host".to_owned(),
                false => format!("which overlaps with {other}, and that the host"),
            };
            format!(
                "{} {has} {kind} {net}, {what} reaches by interface {name}: it is cut off from what is in both; choose another subnet",
                text::port(&port.name)
            )
        })
        .collect()
}
