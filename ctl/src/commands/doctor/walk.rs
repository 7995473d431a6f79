//! The way of a packet from stack to stack, as their routes have it.

use std::net::IpAddr;

use vswitch_api::view::PortView;
use vswitch_api::{Port, PortName};

use super::inside::Route;
use super::picture::{End, Hop, Picture, Walk};
use super::routes::{self, NoWay};
use crate::failure::Failure;

/// A packet that is passed on more often goes in circles.
const MOST_HOPS: usize = 8;

/// Follows the routes from a port to an address.
pub fn walk(picture: &Picture, from: &PortName, source: IpAddr, to: IpAddr) -> Result<Walk, Failure> {
    walk_with(picture, from, source, to, |port| {
        let stack = picture.port(&port.name).and_then(PortView::stack);
        // Others pass it on.
        let own = Some(source).filter(|_| port.name == *from);
        routes::route(stack.as_ref(), own, to)
    })
}

/// The same by what is said of each stack.
pub fn walk_with(
    picture: &Picture,
    from: &PortName,
    source: IpAddr,
    to: IpAddr,
    route: impl Fn(&Port) -> Result<Result<Route, NoWay>, Failure>,
) -> Result<Walk, Failure> {
    let mut walk = Walk::default();
    let mut at = from.clone();
    walk.end = Some(loop {
        let Some(view) = picture.port(&at) else {
            break End::Lost { port: at };
        };
        if walk.hops.len() == MOST_HOPS {
            break End::Lost { port: at };
        }
        let route = match route(&view.port)? {
            Err(why) => break End::NoRoute { port: at, why },
            Ok(route) => route,
        };
        if route.kind.as_deref() == Some("local") {
            break match own_only(picture, view, to) {
                true => End::Own {
                    port: at,
                    entry: route.entry,
                },
                false => End::Arrives,
            };
        }
        let dev = route.dev.unwrap_or_default();
        let Some(out) = port_of(picture, &view.port, &dev) else {
            let entry = route.entry;
            break End::Elsewhere { port: at, dev, entry };
        };
        let next_hop = route.gateway.unwrap_or(to);
        let Some(owner) = owner(picture, out, next_hop) else {
            let port = out.port.name.clone();
            break End::Nobody {
                port,
                next_hop,
                entry: route.entry,
            };
        };
        let own = picture.leg(&out.port, &dev).map_or(&[][..], |link| &link.addresses);
        let speaks = own
            .iter()
            .filter(|address| address.is_global())
            .map(|address| address.ip)
            .find(|ip| ip.is_ipv4() == to.is_ipv4());
        let hop = Hop {
            from: out.port.name.clone(),
            dev,
            source: if walk.hops.is_empty() {
                source
            } else {
                route.prefsrc.or(speaks).unwrap_or(source)
            },
            next_hop,
            to: owner.port.name.clone(),
            to_dev: picture.leg_with(&owner.port, next_hop).map(|link| link.name.clone()),
            stopped: None,
        };
        let comes_by = picture.comes_by(&hop, &owner.port).to_owned();
        walk.hops.push(hop);
        if has(picture, owner, to) {
            break End::Arrives;
        }
        let port = owner.port.name.clone();
        let Some(stack) = picture.stack(&owner.port) else {
            break End::Lost { port };
        };
        if !stack.passes_on(&comes_by, to) {
            break End::NoForwarding { port };
        }
        at = port;
    });
    Ok(walk)
}

/// The port whose interface, or what speaks through it, is called so in the stack of another port.
fn port_of<'a>(picture: &'a Picture, port: &Port, dev: &str) -> Option<&'a PortView> {
    let is_so = |other: &Port| picture.ifname(other) == dev || picture.leg(other, dev).is_some();
    let mut ports = picture.ports.iter();
    ports.find(|view| view.port.namespace == port.namespace && is_so(&view.port))
}

/// Who has an address, of those that can be come to first.
fn owner<'a>(picture: &'a Picture, out: &PortView, ip: IpAddr) -> Option<&'a PortView> {
    let near = picture.joined(&out.port.switch, false);
    let others = || picture.ports.iter().filter(|view| view.port.name != out.port.name);
    // Of two that have it the one that is meant.
    let mut meant = others()
        .filter(|view| has_itself(picture, view, ip))
        .collect::<Vec<_>>();
    meant.sort_by_key(|view| {
        let is_end = picture.ends.iter().flatten().any(|end| *end == view.port.name);
        (!near.contains(&view.port.switch), !is_end)
    });
    meant.first().copied()
}

/// Whether a stack takes an address for its own that one of the two in another stack has.
fn own_only(picture: &Picture, at: &PortView, ip: IpAddr) -> bool {
    let stack = at.stack();
    let mut others = picture.both().filter(|view| view.port.name != at.port.name);
    others.any(|view| view.stack() != stack && has_itself(picture, view, ip))
}

/// Whether the interface of a port, or what speaks through it, has an address.
fn has_itself(picture: &Picture, view: &PortView, ip: IpAddr) -> bool {
    match picture.link(&view.port) {
        Some(_) => picture.leg_with(&view.port, ip).is_some(),
        None => view.port.addresses.iter().any(|address| address.ip() == ip),
    }
}

/// Whether the stack of a port has an address, by whatever interface.
fn has(picture: &Picture, view: &PortView, ip: IpAddr) -> bool {
    let stack = picture.stack(&view.port);
    let mut links = stack.iter().flat_map(|stack| &stack.links);
    has_itself(picture, view, ip) || links.any(|link| link.addresses.iter().any(|address| address.ip == ip))
}
