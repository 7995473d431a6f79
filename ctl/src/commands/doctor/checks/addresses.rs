//! Addresses and routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use vswitch_api::PortName;
use vswitch_api::view::{PortState, PortView};

use super::super::Finding;
use super::super::inside::Address;
use super::super::picture::{End, Picture, Talk, family, run_in};
use super::super::routes::NoWay;
use super::stacks::kept_apart;

/// Those that were asked for are there.
pub fn lost(picture: &Picture) -> Option<Finding> {
    picture.passed().into_iter().find_map(|view| {
        let (link, port) = (picture.link(&view.port)?, &view.port);
        let mut wanted = picture.wanted(&port.name)?.addresses.iter();
        // What speaks through it may have it.
        let gone = wanted.find(|wanted| picture.leg_with(port, wanted.ip()).is_none())?;
        let cause = format!("{} lacks its address {gone}", port.name);
        let stack = picture.stack(port)?;
        for dev in ["all", &link.name] {
            let setting = format!("ipv6/conf/{dev}/disable_ipv6");
            if gone.ip().is_ipv6() && stack.value(&setting) > 0 {
                let key = format!("net.{}", setting.replace('/', "."));
                let mend = run_in(port, &format!("sysctl -qw {key}=0"));
                return Some(
                    Finding::new(format!("{cause}: IPv6 is disabled there"), format!("{key} is 1")).mend(mend),
                );
            }
        }
        let evidence = format!("interface {} has {}", link.name, listed(&picture.addresses(port)));
        Some(Finding::new(cause, evidence).mend(format!("vswitchctl set port {} --up", port.name)))
    })
}

/// Each has one.
pub fn none(picture: &Picture) -> Option<Finding> {
    picture.both().find_map(|view| {
        let link = picture.link(&view.port)?;
        let name = &view.port.name;
        picture.addresses(&view.port).is_empty().then(|| {
            let found = Finding::new(
                format!("{name} has no address"),
                format!("interface {} has none but those of the link", link.name),
            );
            let mut others = picture.both().filter(|other| other.port.name != *name);
            let model = others
                .next()
                .and_then(|other| picture.addresses(&other.port).into_iter().next());
            match model.and_then(|model| next_free(picture, &model)) {
                Some(free) => found.mend(format!("vswitchctl addr add {name} {free}")),
                None => found.mend(format!("vswitchctl addr add {name} 192.168.15.1/24")),
            }
        })
    })
}

/// They have addresses of one IP version.
pub fn common_family(picture: &Picture) -> Option<Finding> {
    let mut both = picture.both();
    let (one, two) = (both.next()?, both.next()?);
    let (of_one, of_two) = (picture.addresses(&one.port), picture.addresses(&two.port));
    let common = |a: &Address| of_two.iter().any(|b| a.ip.is_ipv4() == b.ip.is_ipv4());
    if of_one.is_empty() || of_two.is_empty() || of_one.iter().any(common) {
        return None;
    }
    let found = Finding::new(
        "the two have no addresses of the same IP version",
        format!(
            "{} has {}, {} has {}",
            one.port.name,
            listed(&of_one),
            two.port.name,
            listed(&of_two)
        ),
    );
    let free = of_one.first().and_then(|model| next_free(picture, model))?;
    Some(found.mend(format!("vswitchctl addr add {} {free}", two.port.name)))
}

/// Nobody else has them.
pub fn duplicate(picture: &Picture) -> Option<Finding> {
    picture.passed().into_iter().find_map(|view| {
        let near = picture.joined(&view.port.switch, false);
        let others = || {
            let others = picture.ports.iter().filter(|other| other.port.name != view.port.name);
            others.filter(|other| near.contains(&other.port.switch) && other.state == PortState::Up)
        };
        let own = picture.addresses(&view.port);
        let twice = others().find_map(|other| {
            let theirs = picture.addresses(&other.port);
            // The same address in another VLAN is another station.
            let is_same = |theirs: &Address| {
                own.iter().any(|own| own.ip == theirs.ip)
                    && picture.vlan_at(&other.port, theirs.ip) == picture.vlan_at(&view.port, theirs.ip)
            };
            let same = theirs.into_iter().find(is_same)?;
            Some((other, same))
        });
        if let Some((other, address)) = twice {
            // The one that is not asked about gives way.
            let end = picture.ends.iter().flatten().any(|end| *end == other.port.name);
            let by_us = |view: &PortView| {
                picture
                    .wanted(&view.port.name)
                    .is_some_and(|port| port.addresses.iter().any(|has| has.ip() == address.ip))
            };
            let loser = if end && !by_us(view) { view } else { other };
            let name = &loser.port.name;
            let ifname = picture
                .leg_with(&loser.port, address.ip)
                .map_or_else(|| name.to_string(), |link| link.name.clone());
            let mend = match by_us(loser) {
                true => format!("vswitchctl addr del {name} {address}"),
                false => run_in(&loser.port, &format!("ip addr del {address} dev {ifname}")),
            };
            let cause = format!(
                "{} is an address of two ports, {} and {}",
                address.ip, view.port.name, other.port.name
            );
            let evidence = format!("interfaces of both have {}", address.ip);
            return Some(Finding::new(cause, evidence).mend(mend));
        }
        let failed = own.iter().find(|own| own.is_duplicate)?;
        let ifname = &picture.leg_with(&view.port, failed.ip)?.name;
        Some(
            Finding::new(
                format!("another station had {} when {} got it", failed.ip, view.port.name),
                "its duplicate address detection has failed (dadfailed)",
            )
            .mend(run_in(
                &view.port,
                &format!("ip addr replace {failed} dev {ifname} nodad"),
            )),
        )
    })
}

/// Each stack has a way to the other.
pub fn route(picture: &Picture) -> Option<Finding> {
    picture.failed().find_map(|talk| {
        let [forth, back] = &talk.walks;
        let found = [(forth, talk.to), (back, talk.from)].map(|(walk, to)| (walk.end.as_ref(), to));
        found.into_iter().find_map(|(end, to)| match end? {
            End::NoRoute { port, why } => Some(no_route(picture, talk, port, to, why)),
            End::Elsewhere { port, dev, entry } => {
                let cause = format!("the route of {port} to {to} leads out of {dev}, which is no port of a switch");
                let view = picture.port(port)?;
                let evidence = format!("`ip route get {to}` there says dev {dev}");
                let entry = entry.clone().unwrap_or_else(|| format!("{to} dev {dev}"));
                Some(
                    Finding::new(cause, evidence).mend(run_in(&view.port, &format!("{} route del {entry}", ip_of(to)))),
                )
            }
            End::Own { port, entry } => {
                let view = picture.port(port)?;
                if let Some(found) = same_address(picture, view, to) {
                    return Some(found);
                }
                let links = picture.stack(&view.port).map_or(&[][..], |stack| &stack.links);
                let of_link = |link: &super::super::inside::Link| {
                    let has = link.addresses.iter().find(|has| has.ip == to)?;
                    Some(format!("ip addr del {has} dev {}", link.name))
                };
                let command = links.iter().find_map(of_link);
                let command = command.or_else(|| Some(format!("{} route del {}", ip_of(to), entry.as_ref()?)))?;
                let cause = format!("{port} takes {to} for an address of its own, and so sends nothing to it");
                let evidence = format!("`ip route get {to}` there says local");
                Some(Finding::new(cause, evidence).mend(run_in(&view.port, &command)))
            }
            End::Nobody { port, next_hop, entry } => {
                let cause = format!("the route of {port} to {to} leads over {next_hop}, which is nobody's address");
                if let Some(found) = taken_from_router(picture, talk, port, *next_hop) {
                    return Some(found);
                }
                let routes = &picture.port(port)?.port.routes;
                let of_ours = routes.iter().find(|route| route.via == Some(*next_hop));
                let evidence = "no port has it";
                let mend = match of_ours {
                    Some(route) => format!("vswitchctl route del {port} {}", route.to),
                    None => {
                        let entry = entry.clone().unwrap_or_else(|| format!("{to} via {next_hop}"));
                        let command = format!("{} route del {entry}", ip_of(to));
                        run_in(&picture.port(port)?.port, &command)
                    }
                };
                Some(Finding::new(cause, evidence).mend(mend))
            }
            End::Lost { port } => {
                let cause =
                    format!("a packet for {to} comes to {port} and goes on from there without end, or out of sight");
                Some(Finding::new(cause, "so its routes say"))
            }
            End::Arrives | End::NoForwarding { .. } => None,
        })
    })
}

/// Both were given the same address, as ports of different VLANs may be.
fn same_address(picture: &Picture, view: &PortView, ip: IpAddr) -> Option<Finding> {
    let has = |port: &PortName| picture.wanted(port)?.addresses.iter().find(|has| has.ip() == ip);
    let port = &view.port.name;
    has(port)?;
    let other = &picture.both().find(|other| other.port.name != *port)?.port.name;
    let theirs = has(other)?;
    let cause = format!("{port} and {other} have the same address, {ip}");
    let found = Finding::new(
        cause,
        format!("`ip route get {ip}` in the namespace of {port} says local"),
    );
    let model = Address {
        ip,
        prefix: theirs.prefix_len(),
        scope: "global".to_owned(),
        is_duplicate: false,
    };
    Some(match next_free(picture, &model) {
        Some(free) => found.mend(format!(
            "vswitchctl addr del {other} {theirs} && vswitchctl addr add {other} {free}"
        )),
        None => found,
    })
}

/// Without `-6` it takes `default` for that of IPv4.
fn ip_of(to: IpAddr) -> &'static str {
    if to.is_ipv4() { "ip" } else { "ip -6" }
}

fn no_route(picture: &Picture, talk: &Talk, port: &PortName, to: IpAddr, why: &NoWay) -> Finding {
    let own = picture
        .port(port)
        .map(|view| picture.addresses(&view.port))
        .unwrap_or_default();
    let other = picture.both().find(|view| view.port.name != *port);
    let theirs = other.map(|view| picture.addresses(&view.port)).unwrap_or_default();
    let evidence = format!(
        "`ip route get {to}` there says {:?}; {port} has {}{}",
        why.told,
        listed(&own),
        other.map_or_else(String::new, |view| format!(
            ", {} has {}",
            view.port.name,
            listed(&theirs)
        ))
    );
    let is_end = picture.ends.iter().flatten().any(|end| end == port);
    let of_version = |address: &&Address| address.ip.is_ipv4() == to.is_ipv4();
    let mine = own.iter().find(of_version);
    let remote = theirs.iter().find(|address| address.ip == to);
    let view = picture.port(port);
    if let (Some(stop), Some(view)) = (&why.stop, view) {
        let cause = format!("a {} of {port} stops what is for {to}: {}", stop.what, stop.text);
        return Finding::new(cause, evidence).mend(run_in(&view.port, &stop.undo));
    }
    // Of a subnet with others in it the kernel makes a route itself.
    let has_route = |own: &&Address| own.subnet_has(to) && own.prefix < if own.ip.is_ipv4() { 32 } else { 128 };
    if let (Some(mine), Some(view)) = (own.iter().find(has_route), view)
        && let Some(link) = picture.leg_with(&view.port, mine.ip)
    {
        let net = IpNet::new(mine.ip, mine.prefix).map_or_else(|_| to.to_string(), |net| net.trunc().to_string());
        let cause = format!("{port} lacks the route to its own subnet {net}");
        let command = format!("ip route add {net} dev {}", link.name);
        return Finding::new(cause, evidence).mend(run_in(&view.port, &command));
    }
    if let (true, Some(mine), Some(remote)) = (is_end, mine, remote) {
        if remote.subnet_has(mine.ip) {
            let cause = format!("the prefix of {port} ({mine}) leaves {to} out, while {remote} has both");
            let wanted = picture.wanted(port).map_or(&[][..], |wanted| &wanted.addresses);
            if let Some(wanted) = wanted.iter().find(|wanted| wanted.ip() == mine.ip)
                && wanted.prefix_len() != mine.prefix
            {
                let cause = format!("{cause}: somebody gave it another than {wanted}");
                return Finding::new(cause, evidence).mend(format!("vswitchctl set port {port} --up"));
            }
            // An address can't be there with two prefixes.
            let mend = format!(
                "vswitchctl addr del {port} {mine} && vswitchctl addr add {port} {}/{}",
                mine.ip, remote.prefix
            );
            return Finding::new(cause, evidence).mend(mend);
        }
        if let Some((router, via)) = router(picture, talk, port, mine) {
            // Over the host's gateway it would come no further.
            if let Some(found) = apart_behind(picture, router) {
                return found;
            }
            let net =
                IpNet::new(remote.ip, remote.prefix).map_or_else(|_| to.to_string(), |net| net.trunc().to_string());
            let cause = format!("{port} has no route to {to}, to which {via} would lead");
            return Finding::new(cause, evidence).mend(format!("vswitchctl route add {port} {net} --via {via}"));
        }
        let other = other.map_or_else(String::new, |view| view.port.name.to_string());
        let cause =
            format!("{port} ({mine}) and {other} ({remote}) are in different subnets, and {port} has no route to {to}");
        let found = Finding::new(cause, evidence);
        return match next_free(picture, mine) {
            Some(free) => found.mend(format!("vswitchctl addr add {other} {free}")),
            None => found,
        };
    }
    if let Some(found) = bare_leg(picture, talk, port, to) {
        return found;
    }
    Finding::new(
        format!(
            "{port}, which is to pass packets on, has no route to {to} ({})",
            family(to)
        ),
        evidence,
    )
}

/// A next hop is nobody's address any more where a router has a port without one: that had it.
fn taken_from_router(picture: &Picture, talk: &Talk, port: &PortName, next_hop: IpAddr) -> Option<Finding> {
    let view = picture.port(port)?;
    let own = picture.addresses(&view.port);
    let own = own.iter().find(|own| own.subnet_has(next_hop))?;
    let is_bare = |leg: &&PortView| {
        let addresses = picture.addresses(&leg.port);
        !addresses.iter().any(|has| has.ip.is_ipv4() == next_hop.is_ipv4())
    };
    let leg = legs_near(picture, talk, view).find(is_bare)?;
    let (leg, prefix) = (&leg.port.name, own.prefix);
    let cause = format!("the route of {port} leads over {next_hop}, which port {leg} of a router does not have");
    let evidence = format!("no port has it, and {leg} has no address");
    Some(Finding::new(cause, evidence).mend(format!("vswitchctl addr add {leg} {next_hop}/{prefix}")))
}

/// A router has no way to an end as its port there has no address of the end's subnet.
fn bare_leg(picture: &Picture, talk: &Talk, port: &PortName, to: IpAddr) -> Option<Finding> {
    let stack = picture.stack(&picture.port(port)?.port)?;
    let end = picture.both().find(|view| picture.leg_with(&view.port, to).is_some())?;
    let addresses = picture.addresses(&end.port);
    let remote = addresses.iter().find(|address| address.ip == to)?;
    let is_it = |leg: &&PortView| {
        let is_of_router = picture.stack(&leg.port).is_some_and(|other| std::ptr::eq(other, stack));
        is_of_router && !picture.addresses(&leg.port).iter().any(|has| remote.subnet_has(has.ip))
    };
    // One that has another address is there for another subnet.
    let by_use = |leg: &&PortView| (!picture.addresses(&leg.port).is_empty(), leg.port.name == *port);
    let leg = &legs_near(picture, talk, end)
        .filter(is_it)
        .min_by_key(by_use)?
        .port
        .name;
    let net = IpNet::new(remote.ip, remote.prefix).ok()?.trunc();
    let cause = format!("port {leg}, by which {port} is to pass packets on to {to}, has no address of {net}");
    // That over which the end sends its answers.
    let routes = picture.wanted(&end.port.name).map_or(&[][..], |wanted| &wanted.routes);
    let mut hops = routes
        .iter()
        .filter_map(|route| route.via)
        .filter(|via| remote.subnet_has(*via));
    let address = match hops.next() {
        Some(hop) => Some(format!("{hop}/{}", remote.prefix)),
        None => next_free(picture, remote),
    };
    let found = Finding::new(cause, format!("{} has {}", end.port.name, listed(&addresses)));
    Some(match address {
        Some(address) => found.mend(format!("vswitchctl addr add {leg} {address}")),
        None => found,
    })
}

/// Ports of routers that are in reach of this one, in its VLAN.
fn legs_near<'a>(picture: &'a Picture, talk: &Talk, near: &PortView) -> impl Iterator<Item = &'a PortView> {
    let switches = picture.joined(&near.port.switch, false);
    let (vlan, from) = (near.port.vlan.untagged(), talk.from);
    picture.ports.iter().filter(move |view| {
        let is_end = picture.ends.iter().flatten().any(|end| *end == view.port.name);
        let stack = picture.stack(&view.port);
        !is_end
            && switches.contains(&view.port.switch)
            && view.port.vlan.untagged() == vlan
            && stack.is_some_and(|stack| stack.passes_on(picture.ifname(&view.port), from))
    })
}

/// Who passes packets on from the subnet of an address: a port of another stack that does so and is in reach.
fn router<'a>(picture: &'a Picture, talk: &Talk, port: &PortName, mine: &Address) -> Option<(&'a PortView, IpAddr)> {
    let near = picture.joined(&picture.port(port)?.port.switch, false);
    let routers = picture.ports.iter().filter(|view| {
        let is_end = picture.ends.iter().flatten().any(|end| *end == view.port.name);
        !is_end
            && near.contains(&view.port.switch)
            && picture
                .stack(&view.port)
                .is_some_and(|stack| stack.passes_on(picture.ifname(&view.port), talk.from))
    });
    let mut addresses = routers.flat_map(|view| picture.addresses(&view.port).into_iter().map(move |one| (view, one)));
    addresses
        .find(|(_, address)| mine.subnet_has(address.ip))
        .map(|(view, address)| (view, address.ip))
}

/// What is to be said where the router is a gateway of the host that keeps the switches of the two apart.
fn apart_behind(picture: &Picture, router: &PortView) -> Option<Finding> {
    let own = picture.lab.switch(&router.port.switch)?;
    if picture.lab.gateway_of(own)?.name != router.port.name {
        return None;
    }
    let mut others = picture.both().filter(|view| view.port.switch != own.name);
    kept_apart(picture, own, picture.lab.switch(&others.next()?.port.switch)?)
}

/// The first address of a subnet that no port has.
fn next_free(picture: &Picture, model: &Address) -> Option<String> {
    let net = IpNet::new(model.ip, model.prefix).ok()?;
    let taken = |ip: IpAddr| {
        picture.ports.iter().any(|view| {
            view.port.addresses.iter().any(|has| has.ip() == ip)
                || picture.addresses(&view.port).iter().any(|has| has.ip == ip)
        })
    };
    let hosts = (1..=u16::MAX).map(|n| match net.network() {
        IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().wrapping_add(n.into()))),
        IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().wrapping_add(n.into()))),
    });
    let free = hosts
        .take_while(|ip| net.contains(ip))
        .find(|ip| !taken(*ip) && *ip != net.broadcast())?;
    Some(format!("{free}/{}", model.prefix))
}

fn listed(addresses: &[Address]) -> String {
    match addresses {
        [] => "no address".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
