//! What an interface is to have and has not.

use std::fmt;

use ipnet::IpNet;
use vswitch_api::lab::DEFAULT_MTU;
use vswitch_api::view::Lack;
use vswitch_api::{Cable, CableEnd, IfAddr, Mac, Port, Route};

use super::interface::{known_of, lacking_networks};
use super::kinds::wanted_mtu;
use super::place::Place;
use vswitch_linux::{KernelError, KernelRoute};

/// What an interface is to have.
pub(super) struct Wanted<'a> {
    /// None: its own.
    mtu: Option<u32>,
    /// None: no stack of ours has it.
    stack: Option<(Option<Mac>, &'a [IfAddr], &'a [Route])>,
}

impl<'a> Wanted<'a> {
    pub fn of_port(port: &'a Port) -> Self {
        Self {
            mtu: wanted_mtu(port),
            stack: port
                .kind
                .has_stack()
                .then_some((port.mac, &port.addresses[..], &port.routes[..])),
        }
    }

    pub fn of_end(cable: &Cable, end: &'a CableEnd) -> Self {
        Self {
            mtu: Some(cable.mtu.unwrap_or(DEFAULT_MTU)),
            stack: Some((end.mac, &end.addresses, &end.routes)),
        }
    }
}

/// What an interface has not any more. Shown in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Mtu(u32),
    NearMtu,
    Inside(Lack),
    /// Something that there are no values of.
    Other(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu(mtu) => write!(f, "its MTU of {mtu}"),
            Self::NearMtu => f.write_str("the MTU of its near end"),
            Self::Inside(lack) => lack.fmt(f),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// What an interface has not any more.
pub(super) async fn lost_settings(wanted: Wanted<'_>, place: &Place) -> Result<Vec<Lost>, KernelError> {
    let mut lost = Vec::new();
    let link = &place.link;
    if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu != link.mtu) {
        lost.push(Lost::Mtu(mtu));
    }
    let Some((mac, wanted_addresses, wanted_routes)) = wanted.stack else {
        return Ok(lost);
    };
    if let Some(mac) = mac.filter(|mac| link.mac != Some(*mac)) {
        lost.push(Lost::Other(format!("its MAC {mac}")));
    }
    if !link.up {
        lost.push(Lost::Other("an interface that is up".to_owned()));
    }
    let missing = missing(wanted_addresses, wanted_routes, place).await?;
    lost.extend(missing.lacks().into_iter().map(Lost::Inside));
    Ok(lost)
}

/// What an interface lacks.
#[derive(Default)]
pub(super) struct Missing {
    pub addresses: Vec<IfAddr>,
    /// Those of addresses that it has, to which it has no route.
    pub networks: Vec<IpNet>,
    pub routes: Vec<Route>,
}

impl Missing {
    /// Leaves out what is known already.
    pub fn leave(&mut self, known: &[Lack]) {
        self.addresses
            .retain(|address| !known.contains(&Lack::Address { address: *address }));
        self.routes
            .retain(|route| !known.contains(&Lack::Route { to: route.to }));
    }

    pub fn lacks(&self) -> Vec<Lack> {
        let addresses = self.addresses.iter().map(|address| Lack::Address { address: *address });
        let routes = self.routes.iter().map(|route| &route.to);
        let routes = self.networks.iter().chain(routes).map(|to| Lack::Route { to: *to });
        addresses.chain(routes).collect()
    }
}

/// As one line.
pub(super) fn in_words(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Which of these an interface has not.
pub(super) async fn missing(addresses: &[IfAddr], routes: &[Route], place: &Place) -> Result<Missing, KernelError> {
    if addresses.is_empty() && routes.is_empty() {
        return Ok(Missing::default());
    }
    let link = &place.link;
    let used = addresses.iter().map(|address| address.ip());
    let mut used = used.chain(routes.iter().map(|route| route.to.addr()));
    // Whoever turns IPv6 off in the namespace does so on purpose.
    let no_ipv6 = used.any(|ip| ip.is_ipv6()) && ipv6_is_off(place).await;
    let nl = place.netns.netlink().await?;
    let there = nl.addresses().await?;
    let has = |address: &&IfAddr| {
        let mut own = there.iter().filter(|(index, ..)| *index == link.index);
        own.any(|(_, net, _)| net.addr() == address.ip() && net.prefix_len() == address.prefix_len())
    };
    let (had, addresses): (Vec<IfAddr>, Vec<IfAddr>) = addresses.iter().partition(|address| has(address));
    let addresses = addresses.into_iter();
    let addresses = addresses.filter(|address| !(no_ipv6 && address.ip().is_ipv6()));
    let there = nl.routes().await?;
    let lack = |routes: &[KernelRoute]| {
        let lacking = lacking_networks(routes, link.index, &had);
        lacking.iter().map(|address| address.net().trunc()).collect::<Vec<_>>()
    };
    let mut networks = if link.up { lack(&there) } else { Vec::new() };
    if !networks.is_empty() {
        // Those of a VRF are in another table.
        networks = lack(&nl.routes_of_all_tables().await?);
    }
    let known = known_of(there);
    let has = |route: &&Route| {
        known.contains(&KernelRoute {
            to: route.to.trunc(),
            via: route.via,
            index: Some(link.index),
        })
    };
    let routes = routes.iter().filter(|route| !has(route));
    let routes = routes.filter(|route| !(no_ipv6 && route.to.addr().is_ipv6()));
    Ok(Missing {
        addresses: addresses.collect(),
        networks,
        routes: routes.cloned().collect(),
    })
}

/// Whether an interface has one of the IPv6 addresses of its port.
pub(super) async fn has_ipv6_address(port: &Port, place: &Place) -> Result<bool, KernelError> {
    let there = place.netns.netlink().await?.addresses().await?;
    let mut own = there
        .iter()
        .filter(|(index, net, _)| *index == place.link.index && net.addr().is_ipv6());
    Ok(own.any(|(_, net, _)| port.addresses.iter().any(|address| address.ip() == net.addr())))
}

async fn ipv6_is_off(place: &Place) -> bool {
    let file = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", place.link.name);
    let read = place.netns.run(move || std::fs::read_to_string(file)).await;
    matches!(read, Ok(Ok(text)) if text.trim() == "1")
}
