//! The interfaces by which switches with NAT get out.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vswitch_api::{EventKind, IfName, Port, Stands, SwitchName};
use vswitch_linux::{KernelError, KernelRoute, WayOut};

use super::super::Inner;
use super::forwarding::is_absent;
use super::outside::{Outside, Way};

/// What is told of an uplink that is not there begins so.
pub(super) const WAITING: &str = "NAT waits for uplink ";
/// Whom everybody reaches by what is the default: a.root-servers.net. Nothing is sent there.
const SOMEBODY: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
];

impl Inner {
    /// The interfaces by which the switches with NAT get out.
    ///
    /// # Errors
    /// Those of the default routes can't be told.
    pub(super) async fn uplinks(&self, outside: &Outside) -> Result<Vec<IfName>, KernelError> {
        let mut uplinks: BTreeSet<IfName> = outside.ways.iter().flat_map(|way| way.uplinks.clone()).collect();
        if outside.follows_default_routes() {
            uplinks.extend(self.default_uplinks().await?);
        }
        uplinks.retain(|name| !outside.gateways.contains(name));
        Ok(uplinks.into_iter().collect())
    }

    /// Those of the default routes, and of the ways that a VPN leads the host's own packets by: two halves that go before the default route, or
    /// rules with tables of their own, as wg-quick has them.
    async fn default_uplinks(&self) -> Result<Vec<IfName>, KernelError> {
        let nl = self.host.home.netlink().await?;
        let routes = nl.routes().await?;
        let links = nl.links().await?;
        let mut indices = leading_out(&routes);
        for somebody in SOMEBODY {
            // Without that IP version there is no way by it.
            if let Ok(WayOut::Through { index, .. }) = nl.way_to(somebody).await {
                indices.insert(index);
            }
        }
        let by = links.iter().filter(|link| indices.contains(&link.index));
        let legs = self.legs_of_gateways();
        // Of one that has just gone down the kernel tells before it takes its routes away.
        Ok(by
            .filter(|link| link.name != "lo" && link.up && !legs.contains(&link.name))
            .filter_map(|link| link.name.parse().ok())
            .collect())
    }

    /// How the legs of the host are called in switches that it is the gateway of: what goes there comes back to it.
    fn legs_of_gateways(&self) -> BTreeSet<String> {
        let lab = &self.store.state.lab;
        let routed = |port: &&Port| {
            let mut switches = lab.switches.iter().filter(|switch| switch.name == port.switch);
            port.kind.stands() == Stands::OnHost && switches.any(|switch| switch.gateway.is_on())
        };
        let legs = lab.ports.iter().filter(routed);
        let called = legs.filter_map(|port| self.live.ports.get(&port.name).map(|live| live.ifname.clone()));
        called.collect()
    }

    /// Something happened to the interfaces or default routes of the host: what is led out by these goes out by those of now.
    pub(in super::super) async fn follow_uplinks(&mut self) {
        if !self.store.state.lab.switches.iter().any(|switch| switch.nat) {
            return;
        }
        let outside = Outside::of(&self.store.state.lab);
        if !outside.follows_default_routes() {
            return;
        }
        let now = match self.uplinks(&outside).await {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!("the interfaces by which gateways lead out can't be told: {error}");
                return;
            }
        };
        if self.live.gateways.uplinks.as_ref() == Some(&now) {
            return;
        }
        let before = self.live.gateways.uplinks.clone();
        if let Err(error) = self.fit_outside(&outside).await {
            tracing::warn!("gateways do not follow the default route: {error}");
            // It is tried again when something happens.
            self.live.gateways.uplinks = before;
            return;
        }
        match &now[..] {
            [] => tracing::info!("gateways lead nowhere: the host has no default route"),
            now => tracing::info!("gateways lead out by {}", words(now)),
        }
        self.emit(EventKind::UplinksChanged {
            before: before.unwrap_or_default(),
            now,
        });
    }

    /// Whether there is a way out at all, and whether the one that the host takes is one of those that are named.
    pub(super) async fn way_out(&self, before: &Outside, after: &Outside) -> Vec<String> {
        let Ok(mut default) = self.default_uplinks().await else {
            return Vec::new();
        };
        default.retain(|name| !after.gateways.contains(name));
        let mut warnings = Vec::new();
        let follows = after.ways.iter().find(|way| way.uplinks.is_empty());
        if let Some(Way { switch, .. }) = follows.filter(|_| default.is_empty()) {
            warnings.push(format!(
                "the host has no default route, so NAT leads nowhere: name the interfaces with `vswitchctl set switch {switch} uplinks=IF`"
            ));
        }
        let uplinks = |way: &Way| (way.switch.clone(), way.uplinks.clone());
        let before: Vec<_> = before.ways.iter().map(uplinks).collect();
        let new = after.ways.iter().filter(|way| !before.contains(&uplinks(way)));
        for Way { switch, uplinks, .. } in new {
            if !uplinks.is_empty() && !default.is_empty() && !default.iter().any(|name| uplinks.contains(name)) {
                let default = words(&default);
                warnings.push(format!(
                    "the host's way out is {default}, which is no uplink of switch \"{switch}\": its stations reach what the host has routes to by \
                     {} alone; for more, `vswitchctl set switch {switch} uplinks=none` follows the host",
                    words(uplinks)
                ));
            }
        }
        warnings
    }
}

fn words(names: &[IfName]) -> String {
    names.iter().map(IfName::as_str).collect::<Vec<_>>().join(", ")
}

/// The interfaces of routes to everywhere, and of those to one half of it and to the other.
fn leading_out(routes: &[KernelRoute]) -> BTreeSet<u32> {
    let by = |length: u8| routes.iter().filter(move |route| route.to.prefix_len() == length);
    let whole = by(0).filter_map(|route| route.index);
    let halves = by(1).filter(|route| {
        let is_other =
            |other: &&KernelRoute| other.to.addr().is_ipv4() == route.to.addr().is_ipv4() && other.to != route.to;
        by(1).filter(is_other).any(|other| other.index == route.index)
    });
    whole.chain(halves.filter_map(|route| route.index)).collect()
}

/// The uplinks that switches name.
pub(super) fn named(ways: &[Way]) -> Vec<(SwitchName, IfName)> {
    let of = |way: &Way| {
        let switch = way.switch.clone();
        way.uplinks.clone().into_iter().map(move |name| (switch.clone(), name))
    };
    ways.iter().flat_map(of).collect()
}

/// Those of them that were not named before.
pub(super) fn new(before: &[Way], after: &[Way]) -> Vec<(SwitchName, IfName)> {
    let before = named(before);
    let mut new = named(after);
    new.retain(|one| !before.contains(one));
    new
}

/// What is told of those that the host has not (yet).
pub(super) fn absent(named: &[(SwitchName, IfName)]) -> Vec<String> {
    let absent = named.iter().filter(|(_, name)| is_absent(name));
    absent
        .map(|(switch, name)| {
            format!(
                "{WAITING}{name} of switch \"{switch}\": the host has no such interface. It is taken when it comes; if it is called otherwise: \
                 `vswitchctl set switch {switch} uplinks=IF`"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_halves_lead_out_as_one_default_route_does() {
        let route = |to: &str, index| KernelRoute {
            to: to.parse().unwrap(),
            via: None,
            index: Some(index),
        };
        let out = |routes: &[KernelRoute]| leading_out(routes).into_iter().collect::<Vec<_>>();
        let (low, high) = (route("0.0.0.0/1", 7), route("128.0.0.0/1", 7));
        assert_eq!(out(&[route("0.0.0.0/0", 2), low, high, route("10.0.0.0/8", 3)]), [2, 7]);
        assert_eq!(out(&[low, route("128.0.0.0/1", 8)]), [0; 0]);
        assert_eq!(out(&[low, low]), [0; 0]);
        assert_eq!(out(&[low, route("8000::/1", 7)]), [0; 0]);
        assert_eq!(out(&[route("::/1", 4), route("8000::/1", 4)]), [4]);
    }
}
