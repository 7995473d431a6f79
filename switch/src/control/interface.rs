//! What the interface of a port, of whatever kind, has as the lab wants it: MAC address, MTU, addresses, routes.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use vswitch_api::gateway::gateway_name;
use vswitch_api::view::{Lack, MissingAs};
use vswitch_api::{ApiError, ErrorCode, IfAddr, Mac, Port, PortKind, Route};

use super::attach::{Adopt, Made};
use super::kinds::ifname;
use super::place::Place;
use super::text;
use crate::port::{BackEnd, PacketPort};
use vswitch_linux::{KernelError, KernelRoute, Link, NetNs, Netlink, WayOut, announce};

/// How long is waited for a stack to take in an IPv6 address; a few milliseconds are usual, also of a busy machine.
const TAKEN_IN: Duration = Duration::from_millis(500);

pub(super) async fn open_packet(netns: &NetNs, ifindex: u32, promiscuous: bool) -> Result<BackEnd, KernelError> {
    let opened = netns.run(move || PacketPort::open(ifindex, promiscuous)).await?;
    opened
        .map(BackEnd::Packet)
        .map_err(|error| KernelError::new("open a packet socket", error))
}

/// Gives the interface that a port is opened with all that it is to have, and tells what it lacks all the same.
pub(super) async fn make_ready(
    nl: &Netlink,
    place: &Place,
    port: &Port,
    adopt: Adopt,
    made: &[Made],
) -> Result<Vec<Lack>, KernelError> {
    if made.iter().any(|made| matches!(made, Made::Interface)) {
        wake_ipv6(place, port).await;
    }
    let refused = configure(nl, &place.link, port, adopt).await?;
    for Refused { error, .. } in &refused {
        tracing::warn!(port = %port.name, "port {}: {error}; it goes on without that route", port.name);
    }
    Ok(refused.iter().map(Refused::lack).collect())
}

/// MAC address, MTU, up, addresses and routes of the interface inside; what is so already stays.
pub(super) async fn configure(
    nl: &Netlink,
    link: &Link,
    port: &Port,
    adopt: Adopt,
) -> Result<Vec<Refused>, KernelError> {
    if link.mac != Some(mac(port)) {
        nl.set_mac(link.index, mac(port)).await?;
    }
    if link.mtu != mtu(port) {
        nl.set_mtu(link.index, mtu(port)).await?;
    }
    if !link.up {
        nl.set_up(link.index).await?;
    }
    add_addresses(nl, link.index, port, (adopt == Adopt::Yes).then_some(port)).await
}

/// A new interface of a namespace has IPv6 if it is to have an address of it, also where IPv6 is off for interfaces to come, as Docker has it for
/// containers without a network. What somebody turns off later stays off.
async fn wake_ipv6(place: &Place, port: &Port) {
    let wants = port.addresses.iter().any(|address| address.ip().is_ipv6());
    // What the host has is the host's business.
    if !wants || port.namespace.is_none() {
        return;
    }
    let file = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", place.link.name);
    let wake = move || match std::fs::read_to_string(&file) {
        Ok(text) if text.trim() == "1" => std::fs::write(&file, "0"),
        _ => Ok(()),
    };
    // The address, which can't be given then, is an error that tells so.
    match place.netns.run(wake).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(port = %port.name, %error, "IPv6 can't be turned on"),
        Err(error) => tracing::debug!(port = %port.name, %error, "IPv6 can't be turned on"),
    }
}

/// A route that an interface had and can't be given again: somebody has it lead elsewhere, or has taken away that by which its next hop is
/// reached. It is no reason to keep frames from passing.
#[derive(Debug)]
pub(super) struct Refused {
    pub to: IpNet,
    pub error: KernelError,
}

impl Refused {
    pub fn lack(&self) -> Lack {
        Lack::Route { to: self.to }
    }
}

/// Addresses and routes of a port, unless the interface has them. What it had `before` and somebody has turned off since, IPv6 as
/// a whole, stays away and is no error; of its routes those that the kernel refuses now are given back.
pub(super) async fn add_addresses(
    nl: &Netlink,
    index: u32,
    port: &Port,
    before: Option<&Port>,
) -> Result<Vec<Refused>, KernelError> {
    let mut refused = Vec::new();
    let mut turned_off = false;
    let mut there = Vec::new();
    for address in &port.addresses {
        let had = before.is_some_and(|before| before.addresses.contains(address));
        match nl.add_address(index, *address).await {
            Err(error) if had && error.is_unsupported() => turned_off = true,
            Err(error) if error.is_exists() => there.push(*address),
            added => added?,
        }
    }
    if !there.is_empty() {
        for address in lacking_networks(&nl.routes_of_all_tables().await?, index, &there) {
            nl.add_network(index, address).await?;
        }
    }
    let mut known = KnownRoutes::default();
    for route in routes_in_order(&port.routes) {
        let had = before.is_some_and(|before| before.routes.contains(route));
        if !(turned_off && had && route.to.addr().is_ipv6()) {
            match add_route(nl, index, route, &mut known).await {
                Err(error) if had && (error.is_exists() || error.is_unreachable()) => {
                    refused.push(Refused { to: route.to, error });
                }
                added => added?,
            }
        }
    }
    Ok(refused)
}

/// Those of the addresses of an interface to whose networks somebody has taken the route away; of several in one network the first.
pub(super) fn lacking_networks(routes: &[KernelRoute], index: u32, addresses: &[IfAddr]) -> Vec<IfAddr> {
    let mut networks = BTreeSet::new();
    let lacking = addresses
        .iter()
        .filter(|address| lacks_network(routes, index, **address) && networks.insert(address.net().trunc()));
    lacking.copied().collect()
}

/// Whether somebody has taken the route to the network of an address away, by which all of its neighbours are reached. Of one address
/// alone there is none.
fn lacks_network(routes: &[KernelRoute], index: u32, address: IfAddr) -> bool {
    let most = if address.ip().is_ipv6() { 128 } else { 32 };
    let reaches = |route: &KernelRoute| {
        route.index == Some(index)
            && route.via.is_none()
            && route.to.prefix_len() <= address.prefix_len()
            && route.to.contains(&address.ip())
    };
    address.prefix_len() < most && !routes.iter().any(reaches)
}

/// Adds an address unless the interface has it.
pub(super) async fn add_address(nl: &Netlink, index: u32, address: IfAddr) -> Result<(), KernelError> {
    nl.add_address(index, address)
        .await
        .or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}

/// Routes to what is on the link first: they make next hops reachable.
pub(super) fn routes_in_order(routes: &[Route]) -> impl Iterator<Item = &Route> {
    let (on_link, over_hops): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.via.is_none());
    on_link.into_iter().chain(over_hops)
}

/// The routes of a namespace, asked of the kernel when one is found to be there: it tells all of them each time, which of thousands takes
/// seconds. First those that stay: to what routers tell, which goes when they don't, ours is added.
#[derive(Default)]
pub(super) struct KnownRoutes(Option<[HashSet<KernelRoute>; 2]>);

/// Adds a route unless the interface has it. One to the same destination through another is an error. `known`: of the routes that are added
/// one after the other.
pub(super) async fn add_route(
    nl: &Netlink,
    index: u32,
    route: &Route,
    known: &mut KnownRoutes,
) -> Result<(), KernelError> {
    let wanted = KernelRoute {
        to: route.to.trunc(),
        via: route.via,
        index: Some(index),
    };
    if known.0.as_ref().is_some_and(|[lasting, _]| lasting.contains(&wanted)) {
        return Ok(());
    }
    match nl.add_route(index, route).await {
        Err(error) if error.is_exists() => {
            let [_, all] = match &mut known.0 {
                Some(known) => known,
                none => none.insert([known_of(nl.lasting_routes().await?), known_of(nl.routes().await?)]),
            };
            if all.contains(&wanted) { Ok(()) } else { Err(error) }
        }
        result => result,
    }
}

/// Routes to be looked up.
pub(super) fn known_of(routes: Vec<KernelRoute>) -> HashSet<KernelRoute> {
    let plain = routes.into_iter().map(|route| KernelRoute {
        to: route.to.trunc(),
        ..route
    });
    plain.collect()
}

/// Neighbours that knew these addresses elsewhere learn of them now. It is a courtesy: without it they find out later.
pub(super) async fn announce_all(netns: &NetNs, index: u32, mac: Mac, addresses: impl Iterator<Item = &IfAddr>) {
    let mut asked = None;
    for address in addresses {
        if address.ip().is_ipv6() && !is_taken_in(netns, &mut asked, address.ip()).await {
            tracing::debug!(%address, "the stack does not take an address for its own yet");
        }
        if let Err(error) = announce(netns, index, mac, address.ip()).await {
            tracing::debug!(%address, %error, "can't announce an address");
        }
    }
}

/// Waits until a stack takes what comes for its own IPv6 address, which the kernel sees to from a queue of work after it has said
/// that the address is there: what came before, from whoever knew the address, would be lost. False: it takes too long, or
/// IPv6 is off there and it has gone again. `asked`: the connection by which it is asked, once there is one.
async fn is_taken_in(netns: &NetNs, asked: &mut Option<Netlink>, ip: IpAddr) -> bool {
    let nl = match asked {
        Some(nl) => nl,
        None => match netns.netlink().await {
            Ok(nl) => asked.insert(nl),
            Err(_) => return false,
        },
    };
    let end = Instant::now() + TAKEN_IN;
    while Instant::now() < end {
        if matches!(nl.way_to(ip).await, Ok(WayOut::Local)) {
            return true;
        }
        let there = nl.addresses().await.unwrap_or_default();
        if !there.iter().any(|(_, net, _)| net.addr() == ip) {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

pub(super) fn mtu(port: &Port) -> u32 {
    port.mtu.unwrap_or(vswitch_api::lab::DEFAULT_MTU)
}

/// Of a completed port whose interface is ours: they all have one.
pub(super) fn mac(port: &Port) -> Mac {
    port.mac.unwrap_or(Mac([0; 6]))
}

/// A connection into the namespace in which the interface of a port is to be made.
///
/// # Errors
/// Conflict: there is one of that name.
pub(super) async fn with_room_for(port: &Port, netns: &NetNs, name: &str) -> Result<Netlink, ApiError> {
    let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
    let inside = netns.netlink().await.map_err(failed)?;
    match inside.link_by_name(name).await.map_err(failed)? {
        Some(_) => Err(taken(port)),
        None => Ok(inside),
    }
}

/// Another interface stands where that of a port is to be.
pub(super) fn taken(port: &Port) -> ApiError {
    let place = port.namespace.as_ref().map_or("the host".to_owned(), text::object);
    let cause = format!("{place} has an interface {} already", ifname(port));
    let is_gateway = port.kind == PortKind::Internal && gateway_name(&port.switch).as_ref() == Some(&port.name);
    let hint = match is_gateway {
        // It is called after its switch.
        true => "rename or remove that interface (`ip link`), or give the switch another name",
        false => "choose another interface name (--name, in a lab file ifname)",
    };
    text::conflict(text::port(&port.name), cause)
        .missing_as(MissingAs::NameTaken)
        .hint(hint)
}

pub(super) fn vanished(port: &Port) -> ApiError {
    let cause = format!("interface {} was there and is gone", ifname(port));
    ApiError::new(ErrorCode::Kernel, text::port(&port.name), cause).hint("try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_linux::testing::sandboxed;

    #[test]
    fn routes_that_are_there_are_asked_for_once() {
        sandboxed(async || {
            let nl = NetNs::current().unwrap().netlink().await.unwrap();
            let lo = nl.link_by_name("lo").await.unwrap().unwrap().index;
            nl.set_up(lo).await.unwrap();
            let [one, other] = ["10.1.0.0/24", "10.2.0.0/24"].map(|to| Route::new(to.parse().unwrap(), None));
            for route in [&one, &other] {
                add_route(&nl, lo, route, &mut KnownRoutes::default()).await.unwrap();
            }
            let mut known = KnownRoutes::default();
            add_route(&nl, lo, &one, &mut known).await.unwrap();
            nl.del_route(lo, &other).await.unwrap();
            // It is known to be there: the kernel is asked nothing more.
            add_route(&nl, lo, &other, &mut known).await.unwrap();
            let is_there = async |route: &Route| nl.routes().await.unwrap().iter().any(|there| there.to == route.to);
            assert!(is_there(&one).await && !is_there(&other).await);
            add_route(&nl, lo, &other, &mut KnownRoutes::default()).await.unwrap();
            assert!(is_there(&other).await);
        });
    }
}
