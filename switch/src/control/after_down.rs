//! What a link that goes down takes along, or IPv6 that is turned off, given back when it is up or on again.

use std::time::Instant;

use vswitch_api::Port;
use vswitch_api::view::Lack;

use super::Inner;
use super::interface::{KnownRoutes, add_address, add_route, announce_all, routes_in_order};
use super::lacks::{Missing, in_words, missing};
use vswitch_linux::KernelError;

/// Why an interface has lost what nobody took away by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outage {
    /// It was down: with a link that goes down the kernel takes its IPv6 addresses and its routes away. An IPv4 address outlives that, so one
    /// that is missing was taken away by itself, and is left to whoever did so; and so is what was missed before.
    Down,
    /// IPv6 was off there, or may have been: nothing tells of that but an address that a stack gives to itself then, or anybody to it.
    Ipv6,
}

impl Inner {
    /// The interface of a port is again as it was before an outage, by somebody else's hand: it gets back what it lost.
    pub(super) async fn after_outage(&mut self, outage: Outage, port: &Port) {
        if !self.give_back_lost(outage, port).await && outage == Outage::Down {
            // It may have gone down just then.
            self.live.unsure.insert(port.name.clone());
        }
    }

    /// The same. Whether that was all.
    pub(super) async fn give_back_lost(&mut self, outage: Outage, port: &Port) -> bool {
        let has_ipv6 = port.addresses.iter().any(|address| address.ip().is_ipv6());
        if !port.kind.has_stack() || (port.routes.is_empty() && !has_ipv6) {
            return true;
        }
        let name = &port.name;
        let (given, all) = match self.what_was_lost(outage, port).await {
            Ok(given) => given,
            Err(error) => {
                tracing::warn!(port = %name, "port {name}: its interface may lack addresses and routes: {error}; \
                    `vswitchctl set port {name} --up` gives them back");
                return true;
            }
        };
        self.look_inside(port).await;
        let Some(live) = self.live.ports.get_mut(name) else {
            return all;
        };
        if outage == Outage::Down {
            live.down_at = Some(Instant::now());
        }
        // With a link that comes up IPv6 comes too.
        live.lost_ipv6 = false;
        if !given.is_empty() {
            let (ifname, given) = (live.ifname.escape_debug(), in_words(&given));
            let what = match outage {
                Outage::Down => format!("interface {ifname} was down and got back {given}"),
                Outage::Ipv6 => format!("interface {ifname} has IPv6 again and got back {given}"),
            };
            self.tell_changed(port, what);
        }
        all
    }

    /// Gives back what went with an outage: what that was, and whether it was all.
    async fn what_was_lost(&self, outage: Outage, port: &Port) -> Result<(Vec<Lack>, bool), KernelError> {
        let Some(live) = self.live.ports.get(&port.name) else {
            return Ok((Vec::new(), true));
        };
        let Some(place) = self.place_of(port, live).await?.filter(|place| place.link.up) else {
            return Ok((Vec::new(), true));
        };
        let mut lost = missing(&port.addresses, &port.routes, &place).await?;
        lost.addresses.retain(|address| address.ip().is_ipv6());
        if outage == Outage::Ipv6 {
            lost.routes.retain(|route| route.to.addr().is_ipv6());
            if !live.lost_ipv6 {
                // What was missed before somebody has taken away.
                lost.leave(&live.lacks);
            }
        } else if !self.is_gateway(port) {
            let went_with_ipv6 = |lack: &Lack| live.lost_ipv6 && is_ipv6(lack);
            let taken = live.taken.iter().filter(|lack| !went_with_ipv6(lack));
            lost.leave(&taken.cloned().collect::<Vec<_>>());
        }
        let Missing { addresses, routes, .. } = lost;
        let (mut given, mut all) = (Vec::new(), true);
        if addresses.is_empty() && routes.is_empty() {
            return Ok((given, true));
        }
        let (nl, index) = (place.netns.netlink().await?, place.link.index);
        let mut note = |lack: Lack, added: Result<(), KernelError>| match added {
            Ok(()) => given.push(lack),
            // Of a route: somebody has it go another way, or has taken away the address by which its next hop is reached.
            Err(error) => {
                all = false;
                let name = &port.name;
                tracing::info!(port = %name, "port {name}: its interface lost {lack}, which can't be given back: {error}; \
                    `vswitchctl set port {name} --up` tries it again");
            }
        };
        for address in &addresses {
            let lack = Lack::Address { address: *address };
            note(lack, add_address(&nl, index, *address).await);
        }
        let mut known = KnownRoutes::default();
        for route in routes_in_order(&routes) {
            note(
                Lack::Route { to: route.to },
                add_route(&nl, index, route, &mut known).await,
            );
        }
        if let Some(mac) = live.mac {
            announce_all(&place.netns, index, mac, addresses.iter()).await;
        }
        Ok((given, all))
    }
}

/// Whether it is of IPv6.
pub(super) fn is_ipv6(lack: &Lack) -> bool {
    match lack {
        Lack::Address { address } => address.ip().is_ipv6(),
        Lack::Route { to } => to.addr().is_ipv6(),
        _ => false,
    }
}
