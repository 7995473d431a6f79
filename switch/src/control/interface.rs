//! Interfaces of ports: found or made, and set up as the lab wants them.

use vswitch_api::{ApiError, ErrorCode, IfAddr, Mac, NsName, Port, PortKind, Route};

use super::attach::{Adopt, Made};
use super::complete::ifname;
use super::place::Place;
use super::splice::TakenDevice;
use super::state::DeviceBefore;
use super::{Inner, text};
use crate::port::{BackEnd, PacketPort, Tap};
use vswitch_linux::{KernelError, Link, NetNs, Netlink, VethPeer, announce};

impl Inner {
    /// The near end and the far end of a veth port.
    pub(super) async fn make_veth(
        &self,
        port: &Port,
        netns: &NetNs,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<(Link, Place), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (near_name, far_name) = (port.name.as_str(), ifname(port));
        let near = own.link_by_name(near_name).await.map_err(failed)?;
        if let Some(near) = near {
            let far = match adopt {
                // What can't be got at can't be adopted either.
                Adopt::Yes => self.far_end(port, &near, own).await.unwrap_or_default(),
                Adopt::No => None,
            };
            let elsewhere = |near: &Link| {
                self.made_in(port, near)
                    .is_some_and(|nsid| near.peer_nsid != Some(nsid))
            };
            if let Some(far) = far.filter(|far| far.netns.id() == netns.id() || elsewhere(&near)) {
                own.set_mtu(near.index, mtu(port)).await.map_err(failed)?;
                own.drop_ingress(near.index).await.map_err(failed)?;
                self.mark_near_end(port, &near, own).await.map_err(failed)?;
                return Ok((near, far));
            }
            // Nothing but a near end of ours is in the own namespace: one that leads elsewhere is left from before.
            self.delete_near_end(port).await.map_err(failed)?;
        }
        let inside = netns.netlink().await.map_err(failed)?;
        if inside.link_by_name(far_name.as_str()).await.map_err(failed)?.is_some() {
            return Err(taken(port));
        }
        let peer = VethPeer {
            netns,
            name: far_name.as_str(),
            mac: mac(port),
        };
        // Also if it fails: the kernel may have made the pair though its answer was lost.
        made.push(Made::NearEnd);
        own.add_veth(near_name, mtu(port), peer).await.map_err(failed)?;
        let near = own
            .link_by_name(near_name)
            .await
            .map_err(failed)?
            .ok_or_else(|| vanished(port))?;
        own.drop_ingress(near.index).await.map_err(failed)?;
        self.mark_near_end(port, &near, own).await.map_err(failed)?;
        let far = inside
            .link_by_name(far_name.as_str())
            .await
            .map_err(failed)?
            .ok_or_else(|| vanished(port))?;
        let netns = netns.clone();
        Ok((near, Place { netns, link: far }))
    }

    /// Notes where the far end is, unless that is noted already: a later daemon tells by it whether it was moved.
    async fn mark_near_end(&self, port: &Port, near: &Link, own: &Netlink) -> Result<(), KernelError> {
        match near.peer_nsid {
            Some(nsid) if self.made_in(port, near).is_none() => own.set_alias(near.index, &self.mark(port, nsid)).await,
            _ => Ok(()),
        }
    }

    /// The TAP device of a tap or internal port.
    pub(super) async fn make_tap(
        &self,
        port: &Port,
        netns: &NetNs,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<(BackEnd, Place), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (wanted, queues) = (ifname(port), self.datapath.workers());
        let left = match adopt {
            Adopt::Yes => self.left_tap(port, netns, own).await.map_err(failed)?,
            Adopt::No => None,
        };
        let (netns, name) = match &left {
            Some(left) => (left.netns.clone(), left.link.name.clone()),
            None => (netns.clone(), wanted.to_string()),
        };
        let inside = netns.netlink().await.map_err(failed)?;
        if left.is_none() && inside.link_by_name(&name).await.map_err(failed)?.is_some() {
            return Err(taken(port));
        }
        let opened = netns
            .run({
                let name = name.clone();
                move || Tap::open(&name, queues)
            })
            .await
            .map_err(failed)?;
        let tap = opened.map_err(|error| {
            text::step(
                object.clone(),
                &format!("open TAP device {name} through /dev/net/tun"),
                &error,
            )
        })?;
        // Until it is to outlive its queues, a new device goes with them, whatever happens.
        let link = inside.link_by_name(&name).await.map_err(failed)?;
        let link = link.ok_or_else(|| vanished(port))?;
        if left.is_none() {
            inside.set_no_queue(link.index).await.map_err(failed)?;
        }
        if self.made_in(port, &link).is_none() {
            let nsid = own.nsid_of(&netns).await.map_err(failed)?;
            let marked = inside.set_alias(link.index, &self.mark(port, nsid)).await;
            marked.map_err(failed)?;
        }
        if left.is_none() {
            made.push(Made::Tap);
        }
        Ok((BackEnd::Tap(tap), Place { netns, link }))
    }

    /// How the device of a device port is now; none if it is not there.
    pub(super) async fn look_at_device(&self, port: &Port) -> Result<Option<DeviceBefore>, KernelError> {
        let link = self.home.netlink().await?.link_by_name(ifname(port).as_str()).await?;
        Ok(link.as_ref().map(device_before))
    }

    /// Notes how a device was, before it is touched: a daemon that is killed then has a successor that gives it back.
    fn note_device(&mut self, port: &Port, before: DeviceBefore) -> Result<(), ApiError> {
        let noted = self.journal.add(|note| {
            note.devices.insert(ifname(port), before);
            if !note.ports.contains(port) {
                note.ports.push(port.clone());
            }
        });
        noted.map_err(|error| {
            text::step(text::port(&port.name), "note how the device was", &error)
                .hint("see that the run directory can be written and has room")
        })?;
        self.state.devices.insert(port.name.clone(), before);
        Ok(())
    }

    /// The device of a device port, as it was before.
    pub(super) async fn take_device(
        &mut self,
        port: &Port,
        netns: &NetNs,
        made: &mut Vec<Made>,
    ) -> Result<TakenDevice, ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let name = ifname(port);
        let home = netns.netlink().await.map_err(failed)?;
        let noted = self.state.devices.get(&port.name).copied();
        let known = known_device(port, noted, &home).await.map_err(failed)?;
        let link = known.ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                object.clone(),
                format!("the host has no interface {name}"),
            )
            .hint("`ip link` lists them; name one with --name")
        })?;
        let now = device_before(&link);
        // Of one that is added the command has noted it. One that went and came back is another to the kernel, and gets the same back.
        let before = noted.map_or(now, |noted| DeviceBefore {
            index: now.index,
            mac: now.mac,
            ..noted
        });
        if noted != Some(before) {
            self.note_device(port, before)?;
        }
        made.push(Made::Ingress);
        home.drop_ingress(link.index).await.map_err(failed)?;
        if let Some(mtu) = port.mtu.filter(|mtu| *mtu != link.mtu) {
            home.set_mtu(link.index, mtu).await.map_err(failed)?;
        }
        home.set_up(link.index).await.map_err(failed)?;
        let taken = self.open_device(port, netns, link).await.map_err(failed)?;
        if !port.up {
            home.set_down(taken.link.index).await.map_err(failed)?;
        }
        Ok(taken)
    }
}

/// The device of a port: the one that was taken over, whatever it is called by now, else the one of that name.
pub(super) async fn known_device(
    port: &Port,
    before: Option<DeviceBefore>,
    home: &Netlink,
) -> Result<Option<Link>, KernelError> {
    if let Some(before) = before
        && let (Some(index), mac @ Some(_)) = (before.index, before.mac)
        && let Some(link) = home.link_by_index(index).await?.filter(|link| link.mac == mac)
    {
        return Ok(Some(link));
    }
    home.link_by_name(ifname(port).as_str()).await
}

/// What a device gets back when it is released.
fn device_before(link: &Link) -> DeviceBefore {
    DeviceBefore {
        up: link.up,
        mtu: link.mtu,
        promiscuous: link.promiscuous,
        index: Some(link.index),
        mac: link.mac,
    }
}

pub(super) async fn open_packet(netns: &NetNs, ifindex: u32, promiscuous: bool) -> Result<BackEnd, KernelError> {
    let opened = netns.run(move || PacketPort::open(ifindex, promiscuous)).await?;
    opened
        .map(BackEnd::Packet)
        .map_err(|error| KernelError::new("open a packet socket", error))
}

/// MAC address, MTU, up, addresses and routes of the interface inside; what is so already stays.
pub(super) async fn configure(nl: &Netlink, link: &Link, port: &Port, adopt: Adopt) -> Result<(), KernelError> {
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

/// Addresses and routes of a port, unless the interface has them. What it had `before` and somebody has turned off since, IPv6 as
/// a whole, stays away and is no error.
pub(super) async fn add_addresses(
    nl: &Netlink,
    index: u32,
    port: &Port,
    before: Option<&Port>,
) -> Result<(), KernelError> {
    let mut turned_off = false;
    for address in &port.addresses {
        let had = before.is_some_and(|before| before.addresses.contains(address));
        match add_address(nl, index, *address).await {
            Err(error) if had && error.is_unsupported() => turned_off = true,
            added => added?,
        }
    }
    for route in routes_in_order(&port.routes) {
        let had = before.is_some_and(|before| before.routes.contains(route));
        if !(turned_off && had && route.to.addr().is_ipv6()) {
            add_route(nl, index, route).await?;
        }
    }
    Ok(())
}

async fn add_address(nl: &Netlink, index: u32, address: IfAddr) -> Result<(), KernelError> {
    nl.add_address(index, address)
        .await
        .or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}

/// Routes to what is on the link first: they make next hops reachable.
pub(super) fn routes_in_order(routes: &[Route]) -> impl Iterator<Item = &Route> {
    let (on_link, over_hops): (Vec<_>, Vec<_>) = routes.iter().partition(|route| route.via.is_none());
    on_link.into_iter().chain(over_hops)
}

/// Adds a route unless the interface has it. One to the same destination through another is an error.
pub(super) async fn add_route(nl: &Netlink, index: u32, route: &Route) -> Result<(), KernelError> {
    let wanted = (route.to.trunc(), route.via, Some(index));
    match nl.add_route(index, route).await {
        Err(error) if error.is_exists() => {
            let there = nl
                .routes()
                .await?
                .iter()
                .any(|r| (r.to.trunc(), r.via, r.index) == wanted);
            if there { Ok(()) } else { Err(error) }
        }
        result => result,
    }
}

/// Neighbours that knew these addresses elsewhere learn of them now. It is a courtesy: without it they find out later.
pub(super) async fn announce_all(netns: &NetNs, index: u32, mac: Mac, addresses: impl Iterator<Item = &IfAddr>) {
    for address in addresses {
        if let Err(error) = announce(netns, index, mac, address.ip()).await {
            tracing::debug!(%address, %error, "can't announce an address");
        }
    }
}

pub(super) fn mtu(port: &Port) -> u32 {
    port.mtu.unwrap_or(vswitch_api::lab::DEFAULT_MTU)
}

/// The MTU that the interface of a port is to have; none: a device's own.
pub(super) fn wanted_mtu(port: &Port) -> Option<u32> {
    match port.kind {
        PortKind::Device => port.mtu,
        PortKind::Veth | PortKind::Tap | PortKind::Internal => Some(mtu(port)),
    }
}

/// Of a completed port that is no device: they all have one.
fn mac(port: &Port) -> Mac {
    port.mac.unwrap_or(Mac([0; 6]))
}

fn taken(port: &Port) -> ApiError {
    let place = port
        .namespace
        .as_ref()
        .map_or("the host".to_owned(), |name: &NsName| text::namespace(name));
    text::conflict(
        text::port(&port.name),
        format!("{place} has an interface {} already", ifname(port)),
    )
    .hint("choose another interface name with --name")
}

pub(super) fn vanished(port: &Port) -> ApiError {
    let cause = format!("interface {} was there and is gone", ifname(port));
    ApiError::new(ErrorCode::Kernel, text::port(&port.name), cause).hint("try again")
}
