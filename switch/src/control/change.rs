//! Changing a port that is there.

use vswitch_api::view::MissingAs;
use vswitch_api::{ApiError, EventKind, IfAddr, Port, Route};

use super::attach::state_of;
use super::detach::gone_is_fine;
use super::interface::{Refused, add_addresses, announce_all};
use super::kinds::wanted_mtu;
use super::place::Place;
use super::{Inner, LivePort, text, traffic};
use crate::port::{BackEnd, XdpPort};
use vswitch_linux::{KernelError, Netlink};

impl Inner {
    /// Makes a port that is there what it is wanted to be: traffic settings, MTU, up or down, offloads, addresses, routes.
    /// On an error some may be changed: the caller carries out the inverse change.
    pub(super) async fn change(
        &mut self,
        before: &Port,
        after: &Port,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let object = text::port(&after.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let live = self.live.ports.get(&after.name);
        let Some((id, near)) = live.and_then(|live| Some((live.id?, live.near))) else {
            self.say_missing(after, warnings);
            return Ok(());
        };
        if traffic::setup(before) != traffic::setup(after) {
            self.datapath.set_traffic(id, &traffic::setup(after));
        }
        self.change_stations(before, after, id.id)?;
        if in_kernel(before) == in_kernel(after) {
            // Nothing that the kernel has a part in.
            self.update_in_datapath(after);
            return Ok(());
        }
        let place = match self.live.ports.get(&after.name) {
            Some(live) => self.place_of(before, live).await.map_err(failed)?,
            None => None,
        };
        let Some(Place { netns, link }) = place else {
            // It has just gone, and we hear of it here first.
            self.lose(
                |port| port.name == after.name,
                "its interface is gone",
                MissingAs::NoInterface,
            )
            .await;
            self.say_missing(after, warnings);
            return Ok(());
        };
        let inside = link.index;
        let nl = netns.netlink().await.map_err(failed)?;
        // Else what the interface had before it was taken over.
        let wanted = wanted_mtu(after).or_else(|| Some(self.store.device_of(after)?.mtu));
        if let Some(mtu) = wanted.filter(|_| before.mtu != after.mtu) {
            if matches!(self.datapath.io::<BackEnd>(id).as_deref(), Some(BackEnd::Xdp(_))) && mtu > XdpPort::MAX_MTU {
                let cause = format!("an MTU of {mtu} is above {}, which is what XDP takes", XdpPort::MAX_MTU);
                return Err(text::invalid(object, cause)
                    .hint("choose a smaller one, or remove the port and add it without --xdp"));
            }
            nl.set_mtu(inside, mtu).await.map_err(failed)?;
            if let Some(near) = near {
                self.host
                    .own
                    .netlink()
                    .await
                    .map_err(failed)?
                    .set_mtu(near, mtu)
                    .await
                    .map_err(failed)?;
            }
            if let Some(live) = self.live.ports.get_mut(&after.name) {
                live.mtu = mtu;
            }
        }
        if before.up != after.up
            && let Some(live) = self.live.ports.get(&after.name)
        {
            self.set_carrier(after, id, live, warnings).await?;
        }
        // All of them, as an MTU that changes may cost IPv6 addresses (RFC 8200 section 5).
        let refused = change_addresses(&nl, inside, before, after).await.map_err(failed)?;
        if let Some(live) = self.live.ports.get_mut(&after.name) {
            live.lacks = refused.iter().map(Refused::lack).collect();
            live.taken.retain(|taken| live.lacks.contains(taken));
        }
        self.update_in_datapath(after);
        if before.up != after.up {
            let carries = match self.live.ports.get(&after.name) {
                Some(live) => self.carries_now(after, live).await?,
                None => None,
            };
            let (state, reason) = state_of(after, &link.name, carries.unwrap_or(false));
            self.set_state(&after.name, state, reason);
        }
        if let Some(mac) = after.mac {
            announce_all(
                &netns,
                inside,
                mac,
                after.addresses.iter().filter(|a| !before.addresses.contains(a)),
            )
            .await;
        }
        for address in after.addresses.iter().filter(|a| !before.addresses.contains(a)) {
            self.emit(EventKind::AddressAdded {
                port: after.name.clone(),
                address: *address,
            });
        }
        for address in before.addresses.iter().filter(|a| !after.addresses.contains(a)) {
            self.emit(EventKind::AddressRemoved {
                port: after.name.clone(),
                address: *address,
            });
        }
        let refused = |live: &LivePort| live.xdp_refused.is_some();
        if before.mtu != after.mtu && self.live.ports.get(&after.name).is_some_and(refused) {
            // Perhaps for its MTU.
            self.attach_again(after).await;
        }
        Ok(())
    }

    /// A port that is missing is made as it is wanted when it is back.
    fn say_missing(&self, port: &Port, warnings: &mut Vec<String>) {
        let reason = self.live.ports.get(&port.name).and_then(|live| live.reason.as_deref());
        let reason = reason.unwrap_or("its interface is not there");
        let warning = format!(
            "port \"{}\" is missing ({reason}): it gets what was set when it is back",
            port.name
        );
        // A change may be of two steps.
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

/// What the kernel has of a port's settings.
fn in_kernel(port: &Port) -> (&[IfAddr], &[Route], Option<u32>, bool) {
    (&port.addresses, &port.routes, port.mtu, port.up)
}

/// Takes addresses and routes that `after` has not, and gives those that it has.
pub(super) async fn change_addresses(
    nl: &Netlink,
    index: u32,
    before: &Port,
    after: &Port,
) -> Result<Vec<Refused>, KernelError> {
    for route in before.routes.iter().filter(|route| !after.routes.contains(route)) {
        gone_is_fine(nl.del_route(index, route).await)?;
    }
    for address in before
        .addresses
        .iter()
        .filter(|address| !after.addresses.contains(address))
    {
        gone_is_fine(nl.del_address(index, *address).await)?;
    }
    add_addresses(nl, index, after, Some(before)).await
}
