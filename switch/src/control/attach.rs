//! Ports: from the lab's word to an interface, and back.
//!
//! [`Inner::attach`] serves add-port, start-up and a port that comes back alike: what is there is adopted, what is missing is
//! made, and if a step fails all that was made is taken away again.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, stream};
use vswitch_api::view::PortState;
use vswitch_api::{ApiError, Port, PortKind};

use super::fdb::fdb_key;
use super::interface::{announce_all, configure, vanished, wanted_mtu};
use super::place::Place;
use super::policy::port_settings;
use super::splice::TakenDevice;
use super::{Inner, LivePort, text, traffic};
use crate::port::BackEnd;
use vswitch_datapath::policy::PLAIN;
use vswitch_datapath::{PortRef, PortSetup};
use vswitch_linux::{KernelError, NetNs};

/// Ports whose interfaces are made or removed at a time.
pub(super) const AT_ONCE: usize = 32;

/// What was made for a port so far, to be taken away again should a later step fail.
pub(super) enum Made {
    NearEnd,
    Tap,
    Ingress,
    Datapath(PortRef),
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
        let result = self.open_and_attach(port, adopt, &mut made).await;
        self.attached(port, result, made).await
    }

    /// The same for all ports of the lab as the daemon starts. Most of the time goes by waiting for the kernel, so many are
    /// attached at a time; what is missing is told, and waited for.
    pub(super) async fn attach_all(&mut self) {
        let ports = self.state.lab.ports.clone();
        let (devices, others): (Vec<_>, Vec<_>) = ports.into_iter().partition(|port| port.kind == PortKind::Device);
        for ports in others.chunks(2 * AT_ONCE) {
            if !self.goes_on() {
                return;
            }
            let this = &*self;
            let attaching = stream::iter(ports.to_vec()).map(|port| async move {
                let mut made = Vec::new();
                let result = this.try_attach(&port, Adopt::Yes, None, &mut made).await;
                (port, result, made)
            });
            let attached: Vec<_> = attaching.buffered(AT_ONCE).collect().await;
            for (port, result, made) in attached {
                let result = self.attached(&port, result, made).await;
                self.note_missing(&port, result);
            }
            self.step_done(ports.len());
        }
        for port in devices {
            let result = self.attach(&port, Adopt::Yes).await;
            self.note_missing(&port, result);
            self.step_done(1);
        }
    }

    /// Attaches a port anew, which then may have what it was refused before.
    pub(super) async fn attach_again(&mut self, port: &Port) {
        self.release(port);
        self.forget_near_end(port).await;
        let result = self.attach(port, Adopt::Yes).await;
        self.note_missing(port, result);
    }

    fn note_missing(&mut self, port: &Port, result: Result<(), ApiError>) {
        if let Err(error) = result {
            tracing::warn!("a port is missing: {error}");
            self.still_missing(port, &error);
        }
    }

    async fn open_and_attach(&mut self, port: &Port, adopt: Adopt, made: &mut Vec<Made>) -> Result<LivePort, ApiError> {
        let device = match port.kind {
            PortKind::Device => {
                let netns = self.netns_of(port)?;
                Some(self.take_device(port, &netns, made).await?)
            }
            PortKind::Veth | PortKind::Tap | PortKind::Internal => None,
        };
        self.try_attach(port, adopt, device, made).await
    }

    /// Takes note of a port that was attached, or takes away what was made of one that could not be.
    async fn attached(
        &mut self,
        port: &Port,
        result: Result<LivePort, ApiError>,
        made: Vec<Made>,
    ) -> Result<(), ApiError> {
        match result {
            Ok(live) => {
                let inside = self.where_inside(port, &live).await;
                let mac = live.mac;
                self.ports.insert(port.name.clone(), live);
                self.restore_static_entries(port);
                if !self.mirrors.is_empty() {
                    self.publish_mirrors();
                }
                if let (Ok(Some((netns, index))), Some(mac)) = (inside, mac) {
                    announce_all(&netns, index, mac, port.addresses.iter()).await;
                }
                Ok(())
            }
            Err(error) => {
                self.unmake(port, made).await;
                Err(error)
            }
        }
    }

    /// `device`: the device of a device port, taken over.
    async fn try_attach(
        &self,
        port: &Port,
        adopt: Adopt,
        device: Option<TakenDevice>,
        made: &mut Vec<Made>,
    ) -> Result<LivePort, ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let switch = *self
            .switches
            .get(&port.switch)
            .ok_or_else(|| text::no_switch(&port.switch))?;
        let netns = self.netns_of(port)?;
        let own = self.own.netlink().await.map_err(failed)?;
        let mut refused = None;
        let (io, near, Place { netns, link }) = match (port.kind, device) {
            (
                _,
                Some(TakenDevice {
                    io,
                    near,
                    link,
                    xdp_refused,
                }),
            ) => {
                refused = xdp_refused;
                (io, near, Place { netns, link })
            }
            (PortKind::Veth, None) => {
                let (near, place) = self.make_veth(port, &netns, &own, adopt, made).await?;
                let io = self.open_near_end(port, &near, &place.link, &own).await;
                (io.map_err(failed)?, Some(near.index), place)
            }
            (PortKind::Tap | PortKind::Internal | PortKind::Device, None) => {
                let (io, place) = self.make_tap(port, &netns, &own, adopt, made).await?;
                (io, None, place)
            }
        };
        // The near end first: an interface that gets its carrier before it is set up can send, and so be announced, at once.
        if let (Some(near), PortKind::Veth) = (near, port.kind) {
            // One that is taken over may be either.
            let set = if port.up {
                own.set_up(near).await
            } else {
                own.set_down(near).await
            };
            set.map_err(failed)?;
        }
        if port.kind != PortKind::Device {
            let inside = netns.netlink().await.map_err(failed)?;
            configure(&inside, &link, port, adopt).await.map_err(failed)?;
        }
        if let BackEnd::Tap(tap) = &io {
            // Only now that it can be told by its address whose it is.
            tap.persist()
                .map_err(|error| text::step(object.clone(), "keep the TAP device", &error))?;
            if !port.up {
                tap.set_carrier(false)
                    .map_err(|error| text::step(object.clone(), "take the carrier away", &error))?;
            }
        }
        let nsid = own.nsid_of(&netns).await.map_err(failed)?;
        // What it was before it was configured does not count.
        let mtu = wanted_mtu(port).unwrap_or(link.mtu);
        let (moved, unnamed) = self.moved(port, &netns);
        let setup = PortSetup {
            switch,
            io: Arc::new(io),
            settings: port_settings(port, mtu, false, &PLAIN),
        };
        let id = self
            .datapath
            .add_port(setup)
            .map_err(|error| text::step(object.clone(), "poll the port", &error))?;
        made.push(Made::Datapath(id));
        self.datapath.set_traffic(id, &traffic::setup(port));
        let mut live = LivePort {
            id: Some(id),
            state: PortState::Up,
            reason: None,
            since: Instant::now(),
            near,
            inside: Some(link.index),
            nsid: Some(nsid),
            ifname: link.name,
            moved,
            unnamed,
            mac: port.mac.or(link.mac),
            mtu,
            gso: link.gso,
            xdp_refused: refused,
            shut: None,
        };
        let carries = self.carries_now(port, &live).await?;
        (live.state, live.reason) = state_of(port, &live.ifname, carries.ok_or_else(|| vanished(port))?);
        Ok(live)
    }

    /// Whether the interface of a port carries frames, as the kernel has it now; none if it is not there.
    pub(super) async fn carries_now(&self, port: &Port, live: &LivePort) -> Result<Option<bool>, ApiError> {
        let link = async {
            match live.near.filter(|_| port.kind == PortKind::Veth) {
                Some(near) => self.own.netlink().await?.link_by_index(near).await,
                None => Ok(self.place_of(port, live).await?.map(|place| place.link)),
            }
        };
        let link = link
            .await
            .map_err(|error| text::kernel(text::port(&port.name), &error))?;
        Ok(link.map(|link| carries(port.kind, link.up, link.carrier)))
    }

    /// The namespace that the interface of a port is to be in.
    pub(super) fn netns_of(&self, port: &Port) -> Result<NetNs, ApiError> {
        match &port.namespace {
            Some(name) => self.open_namespace(name),
            None => Ok(self.home.clone()),
        }
    }

    /// The same; none if it has gone.
    pub(super) fn find_netns_of(&self, port: &Port) -> Result<Option<NetNs>, KernelError> {
        match &port.namespace {
            Some(name) => self.find_namespace(name),
            None => Ok(Some(self.home.clone())),
        }
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
                tracing::error!(port = %port.name, "port {}: can't undo a step of a failed command: {error}", port.name);
                self.leave_port(port);
            }
        }
    }

    fn restore_static_entries(&self, port: &Port) {
        let id = self.ports.get(&port.name).and_then(|live| live.id);
        let (Some(id), Some(switch)) = (id, self.switches.get(&port.switch)) else {
            return;
        };
        for station in &port.stations {
            let (vlan, mac) = fdb_key(station);
            if self.datapath.fdb_add_static(*switch, vlan, mac, id.id).is_err() {
                tracing::warn!(%mac, port = %port.name, "port {}: no room for the static FDB entry {mac}", port.name);
            }
        }
    }
}

/// Whether a port whose interface (of a veth, the near end) is so can carry frames.
pub(super) fn carries(kind: PortKind, up: bool, carrier: bool) -> bool {
    match kind {
        // The near end has carrier while the far end is up.
        PortKind::Veth => carrier,
        PortKind::Device => up && carrier,
        PortKind::Tap | PortKind::Internal => up,
    }
}

/// The state of a port that is there, and the reason if it carries nothing though it is to.
pub(super) fn state_of(port: &Port, ifname: &str, carries: bool) -> (PortState, Option<String>) {
    match (port.up, carries) {
        (false, _) => (PortState::Down, None),
        (true, true) => (PortState::Up, None),
        (true, false) => {
            let what = if port.kind == PortKind::Device {
                "is down or has no carrier"
            } else {
                "is down"
            };
            (
                PortState::NoCarrier,
                Some(format!("interface {} {what}", ifname.escape_debug())),
            )
        }
    }
}
