//! Ports: from the lab's word to an interface, and back.
//!
//! [`Inner::attach`] serves add-port, start-up and a port that comes back alike: what is there is adopted, what is missing is
//! made, and if a step fails all that was made is taken away again.

use std::time::Instant;

use vswitch_api::view::PortState;
use vswitch_api::{ApiError, EventKind, IfAddr, Mac, NsName, Port, PortKind, Route};

use super::complete::ifname;
use super::state::DeviceBefore;
use super::{Inner, LivePort, text};
use crate::datapath::{PortId, PortSetup};
use crate::kernel::{KernelError, Link, NetNs, Netlink, VethPeer, announce};
use crate::port::{PacketPort, PortIo, Tap};

/// What was made for a port so far, to be taken away again should a later step fail.
enum Made {
    NearEnd,
    Tap,
    Ingress,
    Datapath(PortId),
}

/// Whether interfaces that are there already may be the port's own, from before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Adopt {
    Yes,
    No,
}

impl Inner {
    /// Makes or adopts the interface of a port and puts it into the datapath.
    pub(super) async fn attach(&mut self, port: &Port, adopt: Adopt) -> Result<(), ApiError> {
        let mut made = Vec::new();
        match self.try_attach(port, adopt, &mut made).await {
            Ok(live) => {
                let (inside, mac) = (live.inside, live.mac);
                self.ports.insert(port.name.clone(), live);
                self.restore_static_entries(port);
                if let (Ok(netns), Some(inside), Some(mac)) = (self.netns_of(port), inside, mac) {
                    announce_all(&netns, inside, mac, port.addresses.iter()).await;
                }
                Ok(())
            }
            Err(error) => {
                self.unmake(port, made).await;
                Err(error)
            }
        }
    }

    async fn try_attach(&mut self, port: &Port, adopt: Adopt, made: &mut Vec<Made>) -> Result<LivePort, ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let switch = *self
            .switches
            .get(&port.switch)
            .ok_or_else(|| text::no_switch(&port.switch))?;
        let netns = self.netns_of(port)?;
        let own = self.own.netlink().await.map_err(failed)?;
        let (io, near, link) = match port.kind {
            PortKind::Veth => {
                let (near, link) = self.make_veth(port, &netns, &own, adopt, made).await?;
                let io = open_packet(&self.own, near.index, false).await.map_err(failed)?;
                (io, Some(near.index), link)
            }
            PortKind::Tap | PortKind::Internal => {
                let (io, link) = self.make_tap(port, &netns, adopt, made).await?;
                (io, None, link)
            }
            PortKind::Device => {
                let (io, link) = self.take_device(port, &netns, made).await?;
                (io, None, link)
            }
        };
        if port.kind != PortKind::Device {
            let inside = netns.netlink().await.map_err(failed)?;
            configure(&inside, &link, port).await.map_err(failed)?;
        }
        if let (Some(near), true) = (near, port.up) {
            own.set_up(near).await.map_err(failed)?;
        }
        if let (PortIo::Tap(tap), false) = (&io, port.up) {
            tap.set_carrier(false)
                .map_err(|error| text::step(object.clone(), "take the carrier away", &error))?;
        }
        let nsid = own.nsid_of(&netns).await.ok();
        let mtu = port.mtu.unwrap_or(link.mtu);
        let setup = PortSetup {
            switch,
            io,
            mtu,
            up: port.up,
            offload: port.offload,
        };
        let id = self
            .datapath
            .add_port(setup)
            .map_err(|error| text::step(object.clone(), "poll the port", &error))?;
        made.push(Made::Datapath(id));
        Ok(LivePort {
            id: Some(id),
            state: if port.up { PortState::Up } else { PortState::Down },
            reason: None,
            since: Instant::now(),
            near,
            inside: Some(link.index),
            nsid,
            mac: port.mac.or(link.mac),
            mtu,
        })
    }

    /// The namespace of the interface that the port's user sees.
    fn netns_of(&self, port: &Port) -> Result<NetNs, ApiError> {
        match &port.namespace {
            Some(name) => self.open_namespace(name),
            None => Ok(self.home.clone()),
        }
    }

    /// The near end and the far end of a veth port.
    async fn make_veth(
        &self,
        port: &Port,
        netns: &NetNs,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<(Link, Link), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (near_name, far_name) = (port.name.as_str(), ifname(port));
        let inside = netns.netlink().await.map_err(failed)?;
        let far = inside.link_by_name(far_name.as_str()).await.map_err(failed)?;
        let near = own.link_by_name(near_name).await.map_err(failed)?;
        let joined = |near: &Link, far: &Link| near.peer_index == Some(far.index) && far.peer_index == Some(near.index);
        if let (Adopt::Yes, Some(near), Some(far)) = (adopt, &near, &far)
            && joined(near, far)
        {
            own.set_mtu(near.index, mtu(port)).await.map_err(failed)?;
            own.drop_ingress(near.index).await.map_err(failed)?;
            return Ok((near.clone(), far.clone()));
        }
        // Nothing but a near end of ours is in the own namespace: one that leads elsewhere is left from before.
        if let Some(stale) = near {
            own.delete_link(stale.index).await.map_err(failed)?;
        }
        if far.is_some() && inside.link_by_name(far_name.as_str()).await.map_err(failed)?.is_some() {
            return Err(taken(port));
        }
        let peer = VethPeer {
            netns,
            name: far_name.as_str(),
            mac: mac(port),
        };
        own.add_veth(near_name, mtu(port), peer).await.map_err(failed)?;
        made.push(Made::NearEnd);
        let near = own
            .link_by_name(near_name)
            .await
            .map_err(failed)?
            .ok_or_else(|| vanished(port))?;
        own.drop_ingress(near.index).await.map_err(failed)?;
        let far = inside
            .link_by_name(far_name.as_str())
            .await
            .map_err(failed)?
            .ok_or_else(|| vanished(port))?;
        Ok((near, far))
    }

    async fn make_tap(
        &self,
        port: &Port,
        netns: &NetNs,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<(PortIo, Link), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (name, queues) = (ifname(port), self.datapath.workers());
        let inside = netns.netlink().await.map_err(failed)?;
        let before = inside.link_by_name(name.as_str()).await.map_err(failed)?;
        if before.is_some() && adopt == Adopt::No {
            return Err(taken(port));
        }
        let opened = netns
            .run({
                let name = name.clone();
                move || Tap::open(name.as_str(), queues)
            })
            .await
            .map_err(failed)?;
        let tap = opened.map_err(|error| text::step(object.clone(), &format!("open TAP device {name}"), &error))?;
        if before.is_none() {
            made.push(Made::Tap);
        }
        let link = inside.link_by_name(name.as_str()).await;
        let link = match link {
            Ok(link) => link.ok_or_else(|| vanished(port)),
            Err(error) => Err(failed(error)),
        };
        if link.is_err() && before.is_none() {
            // The device goes with its queues.
            let _ = tap.unpersist();
        }
        Ok((PortIo::Tap(tap), link?))
    }

    async fn take_device(
        &mut self,
        port: &Port,
        netns: &NetNs,
        made: &mut Vec<Made>,
    ) -> Result<(PortIo, Link), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let name = ifname(port);
        let home = netns.netlink().await.map_err(failed)?;
        let link = home.link_by_name(name.as_str()).await.map_err(failed)?.ok_or_else(|| {
            ApiError::new(
                vswitch_api::ErrorCode::NotFound,
                object.clone(),
                format!("the host has no interface {name}"),
            )
            .hint("`ip link` lists them; name one with --name")
        })?;
        let before = DeviceBefore {
            up: link.up,
            mtu: link.mtu,
        };
        self.state.devices.entry(port.name.clone()).or_insert(before);
        made.push(Made::Ingress);
        home.drop_ingress(link.index).await.map_err(failed)?;
        if let Some(mtu) = port.mtu.filter(|mtu| *mtu != link.mtu) {
            home.set_mtu(link.index, mtu).await.map_err(failed)?;
        }
        home.set_up(link.index).await.map_err(failed)?;
        Ok((open_packet(netns, link.index, true).await.map_err(failed)?, link))
    }

    /// Takes away what a failed attach made, latest first; goes on after an error.
    async fn unmake(&mut self, port: &Port, made: Vec<Made>) {
        for made in made.into_iter().rev() {
            let result = match made {
                Made::Datapath(id) => {
                    self.datapath.remove_port(id);
                    Ok(())
                }
                Made::NearEnd => self.delete_near_end(port).await,
                Made::Tap => self.delete_tap(port).await,
                Made::Ingress => self.release_device(port).await,
            };
            if let Err(error) = result {
                tracing::error!(port = %port.name, %error, "can't undo a step of a failed command");
            }
        }
    }

    /// Takes a port out of the datapath and removes its interface. What is gone already is removed enough; what can't be
    /// removed is told in `warnings`, and the rest is removed all the same.
    pub(super) async fn detach(&mut self, port: &Port, warnings: &mut Vec<String>) {
        self.release(port);
        self.ports.remove(&port.name);
        let result = match port.kind {
            PortKind::Veth => self.delete_near_end(port).await,
            PortKind::Tap | PortKind::Internal => self.delete_tap(port).await,
            PortKind::Device => self.release_device(port).await,
        };
        if let Err(error) = result {
            warnings.push(format!("port \"{}\": {error}", port.name));
        }
    }

    /// Takes a port out of the datapath and closes its descriptors.
    pub(super) fn release(&mut self, port: &Port) {
        if let Some(id) = self.ports.get_mut(&port.name).and_then(|live| live.id.take()) {
            self.datapath.remove_port(id);
        }
    }

    /// Removes what is left of a veth port whose far end or namespace is out of reach.
    pub(super) async fn forget_near_end(&self, port: &Port) {
        if port.kind == PortKind::Veth
            && let Err(error) = self.delete_near_end(port).await
        {
            tracing::warn!(port = %port.name, %error, "can't remove the near end");
        }
    }

    async fn delete_near_end(&self, port: &Port) -> Result<(), KernelError> {
        let own = self.own.netlink().await?;
        match own.link_by_name(port.name.as_str()).await? {
            Some(near) => gone_is_fine(own.delete_link(near.index).await),
            None => Ok(()),
        }
    }

    /// Deletes the TAP device of a port, if what has its name is one.
    async fn delete_tap(&self, port: &Port) -> Result<(), KernelError> {
        let Ok(netns) = self.netns_of(port) else { return Ok(()) };
        let inside = netns.netlink().await?;
        match inside.link_by_name(ifname(port).as_str()).await? {
            Some(link) if link.kind.as_deref() == Some("tun") => gone_is_fine(inside.delete_link(link.index).await),
            _ => Ok(()),
        }
    }

    async fn release_device(&mut self, port: &Port) -> Result<(), KernelError> {
        let before = self.state.devices.remove(&port.name);
        let home = self.home.netlink().await?;
        let Some(link) = home.link_by_name(ifname(port).as_str()).await? else {
            return Ok(());
        };
        gone_is_fine(home.undrop_ingress(link.index).await)?;
        let Some(before) = before else { return Ok(()) };
        if before.mtu != link.mtu {
            gone_is_fine(home.set_mtu(link.index, before.mtu).await)?;
        }
        if !before.up {
            gone_is_fine(home.set_down(link.index).await)?;
        }
        Ok(())
    }

    fn restore_static_entries(&self, port: &Port) {
        let id = self.ports.get(&port.name).and_then(|live| live.id);
        let (Some(id), Some(switch)) = (id, self.switches.get(&port.switch)) else {
            return;
        };
        for entry in self
            .state
            .fdb
            .iter()
            .filter(|entry| entry.port == port.name && entry.switch == port.switch)
        {
            if self.datapath.fdb_add_static(*switch, entry.mac, id).is_err() {
                tracing::warn!(mac = %entry.mac, port = %port.name, "no room for a static FDB entry");
            }
        }
    }

    /// Makes a port that is there what it is wanted to be: MTU, up or down, offloads, addresses, routes.
    /// On an error some may be changed: the caller carries out the inverse change.
    pub(super) async fn change(&mut self, before: &Port, after: &Port) -> Result<(), ApiError> {
        let object = text::port(&after.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let live = self.ports.get(&after.name);
        let Some((id, inside, near)) = live.and_then(|live| Some((live.id?, live.inside?, live.near))) else {
            // Missing: it is made as it is wanted when it is back.
            return Ok(());
        };
        let netns = self.netns_of(after)?;
        let nl = netns.netlink().await.map_err(failed)?;
        let wanted_mtu = match after.kind {
            PortKind::Device => after
                .mtu
                .or_else(|| self.state.devices.get(&after.name).map(|device| device.mtu)),
            _ => Some(mtu(after)),
        };
        if let Some(mtu) = wanted_mtu.filter(|_| before.mtu != after.mtu) {
            nl.set_mtu(inside, mtu).await.map_err(failed)?;
            if let Some(near) = near {
                self.own
                    .netlink()
                    .await
                    .map_err(failed)?
                    .set_mtu(near, mtu)
                    .await
                    .map_err(failed)?;
            }
            if let Some(live) = self.ports.get_mut(&after.name) {
                live.mtu = mtu;
            }
        }
        if before.up != after.up {
            self.switch_carrier(after, near, id).await?;
        }
        change_addresses(&nl, inside, before, after).await.map_err(failed)?;
        let mtu = self.ports.get(&after.name).map_or(0, |live| live.mtu);
        self.datapath.update_port(id, mtu, after.up, after.offload);
        if before.up != after.up {
            let state = if after.up { PortState::Up } else { PortState::Down };
            self.set_state(&after.name, state, None);
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
        Ok(())
    }

    /// Shows the user of the port a carrier or none.
    async fn switch_carrier(&self, port: &Port, near: Option<u32>, id: PortId) -> Result<(), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        if let Some(near) = near {
            let own = self.own.netlink().await.map_err(failed)?;
            if port.up {
                own.set_up(near).await
            } else {
                own.set_down(near).await
            }
            .map_err(failed)?;
        }
        if let Some(PortIo::Tap(tap)) = self.datapath.io(id).as_deref() {
            tap.set_carrier(port.up)
                .map_err(|error| text::step(object, "set the carrier", &error))?;
        }
        Ok(())
    }
}

async fn open_packet(netns: &NetNs, ifindex: u32, promiscuous: bool) -> Result<PortIo, KernelError> {
    let opened = netns.run(move || PacketPort::open(ifindex, promiscuous)).await?;
    opened
        .map(PortIo::Packet)
        .map_err(|error| KernelError::new("open a packet socket", error))
}

/// MAC address, MTU, up, addresses and routes of the interface inside; what is so already stays.
async fn configure(nl: &Netlink, link: &Link, port: &Port) -> Result<(), KernelError> {
    if link.mac != Some(mac(port)) {
        nl.set_mac(link.index, mac(port)).await?;
    }
    if link.mtu != mtu(port) {
        nl.set_mtu(link.index, mtu(port)).await?;
    }
    if !link.up {
        nl.set_up(link.index).await?;
    }
    for address in &port.addresses {
        add_address(nl, link.index, *address).await?;
    }
    for route in &port.routes {
        add_route(nl, link.index, route).await?;
    }
    Ok(())
}

async fn change_addresses(nl: &Netlink, index: u32, before: &Port, after: &Port) -> Result<(), KernelError> {
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
    for address in &after.addresses {
        add_address(nl, index, *address).await?;
    }
    for route in &after.routes {
        add_route(nl, index, route).await?;
    }
    Ok(())
}

async fn add_address(nl: &Netlink, index: u32, address: IfAddr) -> Result<(), KernelError> {
    there_is_fine(nl.add_address(index, address).await)
}

async fn add_route(nl: &Netlink, index: u32, route: &Route) -> Result<(), KernelError> {
    there_is_fine(nl.add_route(index, route).await)
}

/// Neighbours that knew these addresses elsewhere learn of them now. It is a courtesy: without it they find out later.
async fn announce_all(netns: &NetNs, index: u32, mac: Mac, addresses: impl Iterator<Item = &IfAddr>) {
    for address in addresses {
        if let Err(error) = announce(netns, index, mac, address.ip()).await {
            tracing::debug!(%address, %error, "can't announce an address");
        }
    }
}

pub(super) fn gone_is_fine(result: Result<(), KernelError>) -> Result<(), KernelError> {
    result.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) })
}

fn there_is_fine(result: Result<(), KernelError>) -> Result<(), KernelError> {
    result.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}

fn mtu(port: &Port) -> u32 {
    port.mtu.unwrap_or(vswitch_api::lab::DEFAULT_MTU)
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

fn vanished(port: &Port) -> ApiError {
    let cause = format!("interface {} was there and is gone", ifname(port));
    ApiError::new(vswitch_api::ErrorCode::Kernel, text::port(&port.name), cause).hint("try again")
}
