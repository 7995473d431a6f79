//! Ports: from the lab's word to an interface, and back.
//!
//! [`Inner::attach`] serves add-port, start-up and a port that comes back alike: what is there is adopted, what is missing is
//! made, and if a step fails all that was made is taken away again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, stream};
use vswitch_api::view::PortState;
use vswitch_api::{ApiError, Namespace, Port, Stands};

use super::earlier::Earlier;
use super::fdb::stations_in_effect;
use super::interface::{announce_all, vanished};
use super::kinds::{Opened, carries, facts, heard_by_near_end, wanted_mtu};
use super::policy::port_settings;
use super::{Inner, LivePort, text, traffic};
use vswitch_datapath::policy::PLAIN;
use vswitch_datapath::{PortRef, PortSetup, SwitchId};
use vswitch_linux::{KernelError, NetNs, Netlink};

/// Ports whose interfaces are made or removed at a time.
pub(super) const AT_ONCE: usize = 32;

/// What was made for a port so far, to be taken away again should a later step fail.
pub(super) enum Made {
    /// Its interface, or what was changed of one that was taken over.
    Interface,
    Datapath(PortRef),
}

/// Whether interfaces that are there already may be the port's own, from before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Adopt {
    Yes,
    No,
}

/// What came of opening a port.
struct Attempt {
    port: Port,
    opened: Result<(SwitchId, Opened), ApiError>,
    made: Vec<Made>,
}

impl Inner {
    /// Makes or adopts the interface of a port and puts it into the datapath.
    pub(super) async fn attach(&mut self, port: &Port, adopt: Adopt) -> Result<(), ApiError> {
        let attached = self.attach_many(std::slice::from_ref(port), adopt).await;
        attached.into_iter().try_for_each(|(_, attached)| attached)
    }

    /// The same for several ports: each is attached or not, by itself. Most of the time goes by waiting for the kernel, so many are
    /// opened at a time; they come into the datapath together.
    pub(super) async fn attach_many(&mut self, ports: &[Port], adopt: Adopt) -> Vec<(Port, Result<(), ApiError>)> {
        let mut attempts = Vec::new();
        let mut noted = Vec::new();
        for port in ports {
            match self.note_before(port).await {
                Ok(()) => noted.push(port.clone()),
                Err(error) => attempts.push(Attempt {
                    port: port.clone(),
                    opened: Err(error),
                    made: Vec::new(),
                }),
            }
        }
        // One connection for all: the kernel answers its requests in turn, however many wait.
        let own = self.host.own.netlink().await;
        let (this, shared) = (&*self, &own);
        let opening = stream::iter(noted).map(|port| async move {
            let mut made = Vec::new();
            let opened = match shared {
                Ok(own) => this.open_on_switch(&port, own, adopt, &mut made).await,
                Err(error) => Err(text::kernel(text::port(&port.name), error)),
            };
            this.shown.pulse.part_done();
            Attempt { port, opened, made }
        });
        attempts.extend(opening.buffered(AT_ONCE).collect::<Vec<_>>().await);
        self.join(attempts, own, adopt).await
    }

    /// All ports of the lab as the daemon starts; what is missing is told, and waited for.
    pub(super) async fn attach_all(&mut self) {
        for ports in self.store.state.lab.ports.clone().chunks(2 * AT_ONCE) {
            if !self.goes_on() {
                return;
            }
            for (port, attached) in self.attach_many(ports, Adopt::Yes).await {
                self.note_missing(&port, attached);
            }
            self.step_done(ports.len());
        }
    }

    /// Attaches a port anew, which then may have what it was refused before.
    pub(super) async fn attach_again(&mut self, port: &Port) {
        drop(self.release(std::slice::from_ref(port)));
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

    /// Puts those that are open into the datapath, and takes away what was made of the others.
    async fn join(
        &mut self,
        attempts: Vec<Attempt>,
        own: Result<Netlink, KernelError>,
        adopt: Adopt,
    ) -> Vec<(Port, Result<(), ApiError>)> {
        let (mut results, mut setups, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for Attempt { port, opened, made } in attempts {
            match opened {
                Ok((switch, opened)) => {
                    let mut live = live(&port, &opened);
                    (live.moved, live.unnamed) = self.moved(&port, &opened.place.netns);
                    (live.entrance, live.owner) = self.entrance_of(&port, &opened.place.netns);
                    let shut = self.shut.contains(&port.name);
                    setups.push(PortSetup {
                        switch,
                        io: Arc::new(opened.io),
                        settings: port_settings(&port, self.leases_of(&port), live.mtu, shut, &PLAIN),
                    });
                    waiting.push((port, live, made));
                }
                Err(error) => {
                    self.unmake(&port, made).await;
                    results.push((port, Err(error)));
                }
            }
        }
        let switches: Vec<_> = setups.iter().map(|setup| setup.switch).collect();
        // Who is known where it was has nothing to tell: its neighbours know it, and it would seem to have sent just now.
        let mut stayed = HashSet::new();
        let mut without_room = HashMap::new();
        // So that frames that waited find their destinations known, and no rule is passed by.
        let ids = self.datapath.add_ports_and(setups, |ids| {
            for (((port, live, made), switch), id) in waiting.iter_mut().zip(switches).zip(ids) {
                let Some(id) = id else { continue };
                live.id = Some(*id);
                let mut handed = self.handed.take(&port.name);
                live.before = match self.live.ports.get(&port.name) {
                    Some(missing) => missing.before.clone(),
                    None => {
                        let parted = self.live.parted.get(&port.name).cloned();
                        parted.unwrap_or_else(|| Earlier::new(std::mem::take(&mut handed.counters)))
                    }
                };
                self.go_on_with(switch, *id, &handed);
                let is_new = made.iter().any(|made| matches!(made, Made::Interface));
                if !is_new && live.mac.is_some_and(|mac| handed.knows(mac)) {
                    stayed.insert(port.name.clone());
                }
                self.datapath.set_traffic(*id, &traffic::setup(port));
                if let Err(error) = self.restore_static_entries(port, switch, *id) {
                    without_room.insert(port.name.clone(), error);
                }
            }
            if !self.live.mirrors.is_empty() {
                let joining = waiting
                    .iter()
                    .filter_map(|(port, live, _)| Some((&port.name, live.id?.id)));
                self.publish_mirrors_with(&joining.collect());
            }
        });
        let mut joined = Vec::new();
        for ((port, mut live, mut made), id) in waiting.into_iter().zip(ids) {
            let carries = match (id, &own) {
                (Ok(id), Ok(own)) => {
                    made.push(Made::Datapath(id));
                    let carries = self.carries_by(own, &port, &live).await;
                    carries.map_err(|error| text::kernel(text::port(&port.name), &error))
                }
                (Ok(id), Err(error)) => {
                    made.push(Made::Datapath(id));
                    Err(text::kernel(text::port(&port.name), error))
                }
                (Err(error), _) => Err(text::step(text::port(&port.name), "poll the port", &error)),
            };
            // Whoever asks for a port is told. One that comes back does so without them.
            let refused = without_room.remove(&port.name).filter(|_| adopt == Adopt::No);
            let carries = refused.map_or(carries, Err);
            match carries.and_then(|carries| carries.ok_or_else(|| vanished(&port))) {
                Ok(carries) => {
                    let (state, reason) = state_of(&port, &live.ifname, carries);
                    (live.state, live.reason) = self.shut.or_shut(&port.name, state, reason);
                    if let Some(id) = live.id {
                        self.datapath.set_carrier(id, live.state != PortState::NoCarrier);
                    }
                }
                Err(error) => {
                    self.unmake(&port, made).await;
                    results.push((port, Err(error)));
                    continue;
                }
            }
            self.live.ports.insert(port.name.clone(), live);
            joined.push(port);
        }
        self.settle_interfaces(&joined).await;
        let heard_from = self.host.heard_by_now();
        for port in &joined {
            if let Some(live) = self.live.ports.get_mut(&port.name) {
                live.heard_from = heard_from;
            }
            self.look_behind(port);
        }
        let this = &*self;
        let stayed = &stayed;
        let announcing = stream::iter(joined).map(|port| async move {
            if !stayed.contains(&port.name) {
                this.announce(&port).await;
            }
            (port, Ok(()))
        });
        results.extend(announcing.buffered(AT_ONCE).collect::<Vec<_>>().await);
        results
    }

    /// Tells the neighbours of a port that is attached which addresses it has.
    async fn announce(&self, port: &Port) {
        let Some(live) = self.live.ports.get(&port.name) else {
            return;
        };
        if let (Ok(Some((netns, index))), Some(mac)) = (self.where_inside(port, live).await, live.mac) {
            announce_all(&netns, index, mac, port.addresses.iter()).await;
        }
    }

    /// Opens a port that is to be on a switch of the datapath.
    async fn open_on_switch(
        &self,
        port: &Port,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<(SwitchId, Opened), ApiError> {
        let switch = self.switch_id(port)?;
        let mut opened = self.open_interface(port, own, adopt, made).await?;
        if opened.nsid.is_none() {
            let nsid = own.nsid_of(&opened.place.netns).await;
            opened.nsid = Some(nsid.map_err(|error| text::kernel(text::port(&port.name), &error))?);
        }
        Ok((switch, opened))
    }

    fn switch_id(&self, port: &Port) -> Result<SwitchId, ApiError> {
        let id = self.live.switches.get(&port.switch).copied();
        id.ok_or_else(|| text::no_switch(&port.switch))
    }

    /// Whether the interface of a port carries frames, as the kernel has it now; none if it is not there.
    pub(super) async fn carries_now(&self, port: &Port, live: &LivePort) -> Result<Option<bool>, ApiError> {
        let carries = async { self.carries_by(&self.host.own.netlink().await?, port, live).await };
        carries
            .await
            .map_err(|error| text::kernel(text::port(&port.name), &error))
    }

    /// The same, asked by a connection into the own namespace.
    async fn carries_by(&self, own: &Netlink, port: &Port, live: &LivePort) -> Result<Option<bool>, KernelError> {
        let link = match live.near.filter(|_| heard_by_near_end(port)) {
            Some(near) => own.link_by_index(near).await?,
            None => self.place_of(port, live).await?.map(|place| place.link),
        };
        Ok(link.map(|link| carries(port.kind, link.up, link.carrier)))
    }

    /// The namespace that the interface of a port is to be in.
    pub(super) fn netns_of(&self, port: &Port) -> Result<NetNs, ApiError> {
        match &port.namespace {
            Some(Namespace::Name(name)) => self.open_namespace(name),
            Some(foreign) => self.open_foreign(port, foreign, self.process_noted(port)),
            None => Ok(self.without_namespace(port).clone()),
        }
    }

    /// The same; none if it has gone.
    pub(super) fn find_netns_of(&self, port: &Port) -> Result<Option<NetNs>, KernelError> {
        match &port.namespace {
            Some(Namespace::Name(name)) => self.find_namespace(name),
            Some(foreign) => self.find_foreign(port, foreign),
            None => Ok(Some(self.without_namespace(port).clone())),
        }
    }

    /// The namespace of a port that is given none.
    fn without_namespace(&self, port: &Port) -> &NetNs {
        match port.kind.stands() {
            Stands::WithDaemon => &self.host.own,
            Stands::OnHost | Stands::InNamespace => &self.host.home,
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
                Made::Interface => {
                    let found = self.find_removable(port).await;
                    self.remove_and_forget(port, found).await
                }
            };
            if let Err(error) = result {
                tracing::error!(port = %port.name, "port {}: can't undo a step of a failed command: {error}", port.name);
                self.store.leave_port(port);
            }
        }
    }

    /// Tells the datapath of all static stations of a port that there is room for. The first error.
    fn restore_static_entries(&self, port: &Port, switch: SwitchId, id: PortRef) -> Result<(), ApiError> {
        let mut all = Ok(());
        for station in &stations_in_effect(port) {
            if let Err(error) = self.set_station(switch, station, id.id) {
                tracing::warn!(mac = %station.mac, port = %port.name, "port {}: {error}", port.name);
                all = all.and(Err(error));
            }
        }
        all
    }
}

/// A port as it is when it was opened.
fn live(port: &Port, opened: &Opened) -> LivePort {
    let link = &opened.place.link;
    LivePort {
        id: None,
        state: PortState::Up,
        reason: None,
        missing_as: None,
        since: Instant::now(),
        near: opened.near,
        inside: Some(link.index),
        nsid: opened.nsid,
        ifname: link.name.clone(),
        moved: None,
        unnamed: false,
        entrance: None,
        owner: None,
        mac: port
            .mac
            .or(link.mac.filter(|_| port.kind.stands() != Stands::WithDaemon)),
        // What it was before it was configured does not count.
        mtu: wanted_mtu(port).unwrap_or(link.mtu),
        gso: link.gso,
        xdp_refused: opened.xdp_refused.clone(),
        lacks: opened.lacks.clone(),
        lacks_down: Vec::new(),
        taken: Vec::new(),
        down_at: None,
        lost_ipv6: false,
        heard_from: 0,
        before: Arc::default(),
    }
}

/// The state of a port that is there, and the reason if it carries nothing though it is to.
pub(super) fn state_of(port: &Port, ifname: &str, carries: bool) -> (PortState, Option<String>) {
    match (port.up, carries) {
        (false, _) => (PortState::Down, None),
        (true, true) => (PortState::Up, None),
        (true, false) => {
            let ifname = ifname.escape_debug();
            let reason = match (&port.peer, facts(port.kind).taken_over) {
                (Some(peer), _) => format!("the other end of the link, port {peer}, is down"),
                (None, true) => format!("interface {ifname} is down or has no carrier"),
                (None, false) => format!("interface {ifname} is down"),
            };
            (PortState::NoCarrier, Some(reason))
        }
    }
}
