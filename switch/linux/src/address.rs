//! Addresses and routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::{AddressMessageBuilder, RouteMessageBuilder};
use vswitch_api::lab::Route;
use vswitch_api::name::IfAddr;

use super::error::KernelError;
use super::netlink::Netlink;

/// How far an address reaches: the whole net, the link, or this host.
pub use rtnetlink::packet_route::address::AddressScope;

/// A unicast route of the main table; one of several next hops is one of these each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelRoute {
    /// Destination.
    pub to: IpNet,
    /// Next hop, if there is one.
    pub via: Option<IpAddr>,
    /// Index of the outgoing interface, if it has one.
    pub index: Option<u32>,
}

/// Where a stack sends what is for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// Nowhere: it has no route there, or one that says so.
    None,
    /// To itself.
    Local,
    /// Out of an interface.
    Through {
        /// Index of the interface.
        index: u32,
        /// Next hop; none: the address is on the link.
        via: Option<IpAddr>,
    },
}

impl Netlink {
    /// What the stack would do with a packet for this address, as `ip route get` tells.
    pub async fn way_to(&self, ip: IpAddr) -> Result<WayOut, KernelError> {
        let what = format!("look up the route to {ip}");
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        let message = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(ip, bits)
            .map_err(|error| KernelError::new(&*what, io::Error::other(error.to_string())))?
            .build();
        let mut found = Box::pin(self.handle.route().get(message).execute());
        let found = match self.answer(&*what, found.try_next().await) {
            Ok(found) => found,
            // Unreachable, prohibited, blackhole: what the types of such routes are told as.
            Err(error) => match error.errno() {
                Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL) => {
                    return Ok(WayOut::None);
                }
                _ => return Err(error),
            },
        };
        let Some(message) = found else { return Ok(WayOut::None) };
        let index = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        Ok(match (message.header.kind, index) {
            (RouteType::Local | RouteType::Anycast, _) => WayOut::Local,
            (RouteType::Unicast, Some(index)) => WayOut::Through {
                index,
                via: gateway(&message.attributes),
            },
            _ => WayOut::None,
        })
    }

    /// Gives an address to an interface. An IPv6 address is usable at once: no duplicate address
    /// detection, because vswitch itself refuses duplicates on a switch.
    ///
    /// # Errors
    /// EEXIST if the interface has it already; [`KernelError::is_unsupported`] if it has no IPv6.
    pub async fn add_address(&self, index: u32, address: IfAddr) -> Result<(), KernelError> {
        let mut request = self.handle.address().add(index, address.ip(), address.prefix_len());
        if address.ip().is_ipv6() {
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        self.answer(format_args!("add {address} to interface {index}"), added)
            .map_err(tell_if_ipv6_is_off)
    }

    /// Takes an address away from an interface.
    ///
    /// # Errors
    /// EADDRNOTAVAIL if the interface does not have it.
    pub async fn del_address(&self, index: u32, address: IfAddr) -> Result<(), KernelError> {
        let message = match address.ip() {
            IpAddr::V4(ip) => AddressMessageBuilder::<Ipv4Addr>::new()
                .index(index)
                .address(ip, address.prefix_len())
                .build(),
            IpAddr::V6(ip) => AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(ip, address.prefix_len())
                .build(),
        };
        let removed = self.handle.address().del(message).execute().await;
        self.answer(format_args!("remove {address} from interface {index}"), removed)
    }

    /// All addresses, with the index of the interface that has each.
    pub async fn addresses(&self) -> Result<Vec<(u32, IpNet, AddressScope)>, KernelError> {
        let messages = self.handle.address().get().execute();
        let addresses = messages.try_filter_map(async |message| Ok(parse_address(&message)));
        self.answer("list the addresses", addresses.try_collect().await)
    }

    /// Adds a route through an interface to the main table. One that a router has told of (RFC 4861) comes and goes by itself, and does not
    /// stand in the way.
    ///
    /// # Errors
    /// EEXIST if there is another one to that destination, ENETUNREACH or EHOSTUNREACH if the next hop is on
    /// no subnet of the interface, ENETDOWN if the interface is down; [`KernelError::is_unsupported`] if it has no IPv6.
    pub async fn add_route(&self, index: u32, route: &Route) -> Result<(), KernelError> {
        let what = format!("add route to {} through interface {index}", route.to);
        let message = route_message(index, route, &what)?;
        let mut added = self.answer(&*what, self.handle.route().add(message.clone()).execute().await);
        if added.as_ref().is_err_and(KernelError::is_exists) && self.is_told_by_routers(route.to).await? {
            let message = RouteNetlinkMessage::NewRoute(message);
            let appended = self.request(message, NLM_F_CREATE | NLM_F_APPEND).await;
            added = self.answer(what, appended.map(drop));
        }
        added.map_err(tell_if_ipv6_is_off)
    }

    /// Gives an interface the route to the network of an address that it has, as the kernel makes it with the address: it goes with the address
    /// too. Whatever else the interface has stays, as it would not if the address went and came. One that is down gets its routes as it comes up.
    ///
    /// # Errors
    /// Those of [`Netlink::add_route`].
    pub async fn add_network(&self, index: u32, address: IfAddr) -> Result<(), KernelError> {
        /// IP6_RT_PRIO_ADDRCONF of linux/ipv6_route.h.
        const METRIC: u32 = 256;
        let route = Route::new(address.net().trunc(), None);
        let what = format!("add route to {} through interface {index}", route.to);
        let mut message = route_message(index, &route, &what)?;
        message.header.protocol = RouteProtocol::Kernel;
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(self.table_of(index, address.ip()).await?));
        attributes.push(match self.first_of_network(index, address).await? {
            IpAddr::V4(first) => RouteAttribute::PrefSource(RouteAddress::Inet(first)),
            IpAddr::V6(_) => RouteAttribute::Priority(METRIC),
        });
        let added = self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_APPEND);
        match self.answer(what, added.await.map(drop)) {
            Err(error) if error.is_exists() || error.errno() == Some(Errno::ENETDOWN) => Ok(()),
            added => added.map_err(tell_if_ipv6_is_off),
        }
    }

    /// The table that has the routes to the networks of an interface's addresses: that of its VRF, in which the address itself is told of too.
    async fn table_of(&self, index: u32, own: IpAddr) -> Result<u32, KernelError> {
        let is_to_own = |message: &RouteMessage| {
            message.header.kind == RouteType::Local
                && message.attributes.contains(&RouteAttribute::Oif(index))
                && destination(message) == Some(own.into())
        };
        let family = match own {
            IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
            IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
        };
        let messages = self.handle.route().get(family).execute();
        let messages: Vec<_> = self.answer("list the routes", messages.try_collect().await)?;
        let table = |message: &RouteMessage| {
            let mut attributes = message.attributes.iter();
            let number = attributes.find_map(|attribute| match attribute {
                RouteAttribute::Table(table) => Some(*table),
                _ => None,
            });
            number.unwrap_or_else(|| message.header.table.into())
        };
        let of_own = messages.iter().find(|message| is_to_own(message)).map(table);
        let main = u32::from(RouteHeader::RT_TABLE_MAIN);
        Ok(of_own
            .filter(|table| *table != u32::from(libc::RT_TABLE_LOCAL))
            .unwrap_or(main))
    }

    /// Which of the addresses of an interface in the network of this one came first: the kernel sends from it what goes there.
    async fn first_of_network(&self, index: u32, address: IfAddr) -> Result<IpAddr, KernelError> {
        let messages = self.handle.address().get().execute();
        let messages: Vec<_> = self.answer("list the addresses", messages.try_collect().await)?;
        let first = messages.iter().find_map(|message| {
            let (of, net, _) = parse_address(message)?;
            let same = of == index && net.trunc() == address.net().trunc();
            let is_first = !message.header.flags.contains(AddressHeaderFlags::Secondary);
            (same && is_first).then_some(net.addr())
        });
        Ok(first.unwrap_or(address.ip()))
    }

    /// Whether all routes to a destination that have the metric of ours are by router advertisements.
    async fn is_told_by_routers(&self, to: IpNet) -> Result<bool, KernelError> {
        // IP6_RT_PRIO_USER of linux/ipv6_route.h: who names none has this one, routers' routes have it too.
        const METRIC: u32 = 1024;
        if to.addr().is_ipv4() {
            return Ok(false);
        }
        let family = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let messages = self.handle.route().get(family).execute();
        let mut messages: Vec<_> = self.answer("list the routes", messages.try_collect().await)?;
        messages.retain(|message| {
            let metric = RouteAttribute::Priority(METRIC);
            message.header.table == RouteHeader::RT_TABLE_MAIN
                && message.attributes.contains(&metric)
                && destination(message) == Some(to.trunc())
        });
        // What was added to one of several hops is told with them.
        let has_hops = |message: &RouteMessage| {
            let mut attributes = message.attributes.iter();
            attributes.any(|attribute| matches!(attribute, RouteAttribute::MultiPath(_)))
        };
        let by_router = |message: &RouteMessage| message.header.protocol == RouteProtocol::Ra && !has_hops(message);
        Ok(!messages.is_empty() && messages.iter().all(by_router))
    }

    /// Removes a route through an interface from the main table.
    ///
    /// # Errors
    /// ESRCH if there is none.
    pub async fn del_route(&self, index: u32, route: &Route) -> Result<(), KernelError> {
        let what = format!("remove route to {} through interface {index}", route.to);
        let mut message = route_message(index, route, &what)?;
        let removed = self.answer(&*what, self.handle.route().del(message.clone()).execute().await);
        match removed {
            // One that was there before it was to be, by `ip route add`. The kernel's own are not touched.
            Err(error) if error.errno() == Some(Errno::ESRCH) => {
                message.header.protocol = RouteProtocol::Boot;
                self.answer(what, self.handle.route().del(message).execute().await)
            }
            removed => removed,
        }
    }

    /// The unicast routes of the main table, IPv4 first.
    pub async fn routes(&self) -> Result<Vec<KernelRoute>, KernelError> {
        self.routes_of(|header| header.table == RouteHeader::RT_TABLE_MAIN)
            .await
    }

    /// Those of the main table without what routers tell, which goes when they tell it no more.
    pub async fn lasting_routes(&self) -> Result<Vec<KernelRoute>, KernelError> {
        self.routes_of(|header| header.table == RouteHeader::RT_TABLE_MAIN && header.protocol != RouteProtocol::Ra)
            .await
    }

    /// Those of all tables.
    pub async fn routes_of_all_tables(&self) -> Result<Vec<KernelRoute>, KernelError> {
        self.routes_of(|_| true).await
    }

    async fn routes_of(&self, wanted: fn(&RouteHeader) -> bool) -> Result<Vec<KernelRoute>, KernelError> {
        let mut routes = Vec::new();
        for family in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let messages = self.handle.route().get(family).execute();
            let messages: Vec<_> = self.answer("list the routes", messages.try_collect().await)?;
            routes.extend(messages.iter().filter(|m| wanted(&m.header)).flat_map(parse_routes));
        }
        Ok(routes)
    }
}

/// EACCES means just this here: who lacks the rights is told EPERM.
fn tell_if_ipv6_is_off(error: KernelError) -> KernelError {
    if error.errno() != Some(Errno::EACCES) {
        return error;
    }
    let cause = "IPv6 is disabled on it; `sysctl net.ipv6.conf.all.disable_ipv6=0` inside turns it on";
    KernelError::new(error.step, io::Error::new(io::ErrorKind::Unsupported, cause))
}

fn parse_address(message: &AddressMessage) -> Option<(u32, IpNet, AddressScope)> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // On a point-to-point interface `Address` is the other side's.
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some((message.header.index, net, message.header.scope))
}

fn route_message(index: u32, route: &Route, what: &str) -> Result<RouteMessage, KernelError> {
    let invalid = |e: &dyn std::fmt::Display| {
        KernelError::new(
            what,
            std::io::Error::new(std::io::ErrorKind::InvalidInput, e.to_string()),
        )
    };
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.network(), route.to.prefix_len())
        .map_err(|e| invalid(&e))?
        .output_interface(index);
    match route.via {
        Some(via) => builder = builder.gateway(via).map_err(|e| invalid(&e))?,
        // As `ip route add` does: a destination on the link itself. IPv6 has no scopes of routes.
        None if route.to.addr().is_ipv4() => builder = builder.scope(RouteScope::Link),
        None => {}
    }
    let mut message = builder.build();
    if route.onlink {
        message.header.flags |= RouteFlags::Onlink;
    }
    Ok(message)
}

fn parse_routes(message: &RouteMessage) -> Vec<KernelRoute> {
    let header = &message.header;
    if header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let Some(to) = destination(message) else {
        return Vec::new();
    };
    let hops = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    match hops {
        Some(hops) => hops
            .iter()
            .map(|hop| KernelRoute {
                to,
                via: gateway(&hop.attributes),
                index: Some(hop.interface_index),
            })
            .collect(),
        None => {
            let index = message.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            vec![KernelRoute {
                to,
                via: gateway(&message.attributes),
                index,
            }]
        }
    }
}

/// Without one it is everything.
fn destination(message: &RouteMessage) -> Option<IpNet> {
    let any = match message.header.address_family {
        rtnetlink::packet_route::AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip_of(address),
        _ => None,
    });
    IpNet::new(destination.unwrap_or(any), message.header.destination_prefix_length).ok()
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}
