//! Whether an address or a route that the host gets as a member of a switch covers what the host reaches elsewhere: from then on it
//! would look for it in the switch, or never there.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use vswitch_api::lab::Route;
use vswitch_api::{ApiError, IfName, Lab, Port, Stands};

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
        let ours = interfaces_of_host([before, after]);
        match self.nets_of_host(&ours).await {
            Ok(there) => warnings(&new, &there),
            Err(error) => {
                tracing::debug!("what the host reaches can't be told: {error}");
                Vec::new()
            }
        }
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
        let ours = interfaces_of_host([before, after]);
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
            let via = route.via.map_or_else(String::new, |via| format!(" --via {via}"));
            let cause = format!(
                "it is a leg of the host, which has a default route {way}. With a route to {} through the switch the host reaches nobody \
                 by that, and whoever is connected to it from elsewhere (perhaps you) is cut off",
                route.to
            );
            return Err(text::conflict(text::port(&port.name), cause).hint(format!(
                "name the networks that are behind the switch, or do it all the same with --force: vswitchctl route add {} {}{via} --force",
                port.name, route.to
            )));
        }
        Ok(warnings)
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

fn new_nets<'a>(before: &Lab, port: &'a Port) -> Vec<(&'a Port, IpNet)> {
    if !is_of_host(port) {
        return Vec::new();
    }
    let old = as_it_was(before, port);
    let is_new = |address: &&vswitch_api::IfAddr| old.is_none_or(|old| !old.addresses.contains(address));
    let new = port.addresses.iter().filter(is_new);
    new.map(|address| (port, address.net().trunc())).collect()
}

/// Routes to all, or to a half of all, which two of make the same.
fn new_defaults<'a>(before: &Lab, port: &'a Port) -> Vec<(&'a Port, &'a Route)> {
    if !is_of_host(port) {
        return Vec::new();
    }
    let old = as_it_was(before, port);
    let is_new = |route: &&Route| old.is_none_or(|old| !old.routes.contains(route));
    let new = port.routes.iter().filter(is_new);
    new.filter(|route| route.to.prefix_len() <= 1)
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

fn warnings(new: &[(&Port, IpNet)], there: &BTreeMap<IpNet, String>) -> Vec<String> {
    let overlap = |net: &IpNet| {
        there
            .iter()
            .find(|(other, _)| net.contains(*other) || other.contains(net))
    };
    let found = new
        .iter()
        .filter_map(|(port, net)| overlap(net).map(|found| (port, net, found)));
    found
        .map(|(port, net, (other, name))| {
            let what = match other == net {
                true => "which the host".to_owned(),
                false => format!("which overlaps with {other}, and that the host"),
            };
            format!(
                "{} is to have an address of {net}, {what} reaches by interface {name}: it is cut off from what is in both; choose \
                 another subnet",
                text::port(&port.name)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::PortKind;

    #[test]
    fn what_covers_or_is_covered_is_told_and_the_neighbour_is_not() {
        let port = Port {
            addresses: vec!["10.10.0.1/24".parse().unwrap()],
            ..Port::new("gw".parse().unwrap(), "main".parse().unwrap(), PortKind::Internal)
        };
        let new = new_nets(&Lab::default(), &port);
        let told = |net: &str| warnings(&new, &BTreeMap::from([(net.parse().unwrap(), "eth0".to_owned())]));
        for net in ["10.10.0.0/24", "10.0.0.0/8", "10.10.0.128/25", "10.10.0.9/32"] {
            let told = told(net);
            assert!(
                told.len() == 1 && told[0].contains(net) && told[0].contains("eth0"),
                "{told:?}"
            );
        }
        for net in ["10.10.1.0/24", "fd00::/8"] {
            assert_eq!(told(net), Vec::<String>::new());
        }
        let there = Lab {
            ports: vec![port.clone()],
            ..Lab::default()
        };
        assert!(new_nets(&there, &port).is_empty(), "it was said when it came");
    }
}
