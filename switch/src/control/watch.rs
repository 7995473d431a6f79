//! What happens without a command: interfaces and namespaces come and go, stations are learned and forgotten.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::unix::AsyncFd;
use vswitch_api::view::PortState;
use vswitch_api::{EventKind, Port, PortKind, PortName, SwitchName};

use super::attach::{Adopt, carries, state_of};
use super::complete::ifname;
use super::{Control, Inner, LivePort};
use crate::datapath::{DatapathEvent, PortId, SwitchId};
use crate::kernel::poll::readable;
use crate::kernel::{LinkChange, LinkMonitor, MonitorEvent, NsEvent};

/// How often learned entries are looked through for old ones.
const AGEING_TICK: Duration = Duration::from_secs(1);

/// Where changes are heard from. What can't be opened is said once, and then not watched.
pub(super) struct Sources {
    links: Option<LinkMonitor>,
    namespaces: Option<BoxStream<'static, NsEvent>>,
}

impl Sources {
    pub async fn open(inner: &Inner) -> Self {
        let links = LinkMonitor::open(&inner.own).await;
        let namespaces = inner.named.watch();
        for error in [links.as_ref().err(), namespaces.as_ref().err()].into_iter().flatten() {
            tracing::warn!("changes that others make will not be seen: {error}");
        }
        Self {
            links: links.ok(),
            namespaces: namespaces.ok(),
        }
    }
}

impl Control {
    /// Starts the tasks that watch. They end with the control.
    pub(super) async fn watch(self: &Arc<Self>, sources: Sources) {
        let mut tasks = Vec::new();
        if let Some(links) = sources.links {
            tasks.push(tokio::spawn(watch_links(Arc::downgrade(self), links)));
        }
        if let Some(namespaces) = sources.namespaces {
            tasks.push(tokio::spawn(watch_namespaces(Arc::downgrade(self), namespaces)));
        }
        tasks.push(tokio::spawn(age(Arc::downgrade(self))));
        let events = self.inner.lock().await.datapath.event_fd().as_fd().try_clone_to_owned();
        match events.and_then(readable) {
            Ok(fd) => tasks.push(tokio::spawn(watch_datapath(Arc::downgrade(self), fd))),
            Err(error) => tracing::warn!("events of the datapath will not be seen: {error}"),
        }
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
    }
}

async fn watch_links(control: Weak<Control>, mut links: LinkMonitor) {
    while let Some(event) = links.recv().await {
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        apart(async {
            match event {
                MonitorEvent::Link(change) => inner.link_changed(&change).await,
                MonitorEvent::Resync => inner.look_again().await,
            }
        });
    }
}

async fn watch_namespaces(control: Weak<Control>, mut namespaces: BoxStream<'static, NsEvent>) {
    while let Some(event) = namespaces.next().await {
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        let in_namespace = |port: &Port, name: &str| port.namespace.as_ref().is_some_and(|own| own.as_str() == name);
        apart(async {
            match event {
                NsEvent::Added(name) => {
                    inner.reattach_missing(|port| in_namespace(port, &name)).await;
                    inner.reattach_cables(&name).await;
                }
                // Also when the name stands for another namespace by now.
                NsEvent::Removed(name) => {
                    if let Ok(name) = name.parse() {
                        inner.forget_identity(&name);
                    }
                    inner
                        .lose(|port| in_namespace(port, &name), "its namespace is gone")
                        .await
                }
            }
        });
    }
}

async fn watch_datapath(control: Weak<Control>, fd: AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = fd.readable().await else { return };
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        ready.clear_ready();
        let (events, lost) = inner.datapath.take_events();
        inner.events.lose(lost);
        // Nothing of the model is changed by a new station: a storm of them is no reason for new pictures.
        let new_stations = events
            .iter()
            .all(|event| matches!(event, DatapathEvent::Learned { .. }));
        let model = if new_stations { inner.unpublished() } else { &mut *inner };
        apart(async {
            for event in events {
                model.datapath_event(event).await;
            }
        });
        drop(inner);
        // A storm of new stations is told in lots, not one by one.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn age(control: Weak<Control>) {
    let mut tick = tokio::time::interval(AGEING_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        if inner.unpublished().is_one_due() {
            apart(inner.open_due());
        }
        for switch in &inner.state.lab.switches {
            let Some(id) = inner.switches.get(&switch.name) else {
                continue;
            };
            let count = inner.datapath.age(*id, switch.ageing_secs);
            if count > 0 {
                inner.emit(EventKind::FdbAged {
                    switch: switch.name.clone(),
                    count,
                });
            }
        }
    }
}

/// Does what may wait for a worker, a disk or a thread, while other tasks go on elsewhere.
fn apart<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

impl Inner {
    async fn link_changed(&mut self, change: &LinkChange) {
        let found = self.ports.iter().find(|(_, live)| {
            if let Some(near) = live.watched_near() {
                change.nsid.is_none() && near == change.index
            } else {
                live.nsid.is_some() && live.nsid == change.nsid && live.inside == Some(change.index)
            }
        });
        let Some((name, live)) = found else {
            // An interface that a port waits for?
            if !change.gone && change.nsid.is_some() && change.nsid == self.home_nsid {
                let back = |port: &Port| port.kind == PortKind::Device && ifname(port).as_str() == change.name;
                self.reattach_missing(back).await;
            }
            return;
        };
        if live.state == PortState::Missing {
            return;
        }
        let name = name.clone();
        let Some(port) = self.port_of_lab(&name) else {
            return;
        };
        if change.gone {
            self.lose(|port| port.name == name, "its interface is gone").await;
            // A device may be back under another index before we hear that the old one is gone.
            self.reattach_missing(|port| port.name == name && port.kind == PortKind::Device)
                .await;
            return;
        }
        let told = carries(port.kind, change.up, change.carrier);
        if state_of(port, told).0 == live.state {
            return;
        }
        // What was told is as old as the command that ran meanwhile: the kernel knows better by now.
        let now = self.carries_now(port, live).await.ok().flatten();
        let (state, reason) = state_of(port, now.unwrap_or(told));
        self.set_state(&name, state, reason);
    }

    /// Events were lost: ports whose interface is gone are found out, and those that wait are tried again.
    async fn look_again(&mut self) {
        for port in self.state.lab.ports.clone() {
            if !self.goes_on() {
                return;
            }
            let Some(index) = self.ports.get(&port.name).and_then(|live| live.inside) else {
                continue;
            };
            let link = async {
                match self.find_netns_of(&port)? {
                    Some(netns) => netns.netlink().await?.link_by_name(ifname(&port).as_str()).await,
                    None => Ok(None),
                }
            };
            // What can't be looked at has not gone for that.
            let Ok(link) = link.await else { continue };
            if link.is_none_or(|link| link.index != index) {
                self.lose(|other| other.name == port.name, "its interface is gone")
                    .await;
            }
        }
        self.reattach_missing(|_| true).await;
    }

    async fn datapath_event(&mut self, event: DatapathEvent) {
        match event {
            DatapathEvent::Learned { switch, mac, port } => {
                if let (Some(switch), Some(port)) = (self.switch_name(switch), self.port_name(port)) {
                    self.emit(EventKind::FdbLearned { switch, mac, port });
                }
            }
            DatapathEvent::Moved {
                switch,
                mac,
                vlan,
                from,
                to,
            } => {
                self.station_moved(switch, (vlan, mac), from, to).await;
                let ports = (self.port_name(from), self.port_name(to));
                if let (Some(switch), (Some(from), Some(to))) = (self.switch_name(switch), ports) {
                    self.emit(EventKind::FdbMoved { switch, mac, from, to });
                }
            }
            DatapathEvent::LimitReached { port } => {
                if let Some(name) = self.port_name(port) {
                    self.port_limit_reached(&name).await;
                }
            }
            DatapathEvent::Edited => self.fit_frame_sizes().await,
            DatapathEvent::LoopFound { sent, received } => self.loop_found(sent, received).await,
            DatapathEvent::PortFailed { port, serial, errno } => {
                // One that was lost and is back already had the index before.
                if let Some(name) = self.port_name(port).filter(|_| self.datapath.is_same(port, serial)) {
                    let error = std::io::Error::from_raw_os_error(errno);
                    self.lose(
                        |port| port.name == name,
                        &format!("its interface can't be read: {error}"),
                    )
                    .await;
                }
            }
        }
    }

    pub(super) fn switch_name(&self, id: SwitchId) -> Option<SwitchName> {
        self.switches
            .iter()
            .find(|(_, other)| **other == id)
            .map(|(name, _)| name.clone())
    }

    pub(super) fn port_name(&self, id: PortId) -> Option<PortName> {
        self.ports
            .iter()
            .find(|(_, live)| live.id == Some(id))
            .map(|(name, _)| name.clone())
    }

    /// The ports' interfaces are gone: descriptors are closed, what is left of a veth pair goes too.
    async fn lose(&mut self, which: impl Fn(&Port) -> bool, reason: &str) {
        let ports: Vec<_> = self
            .state
            .lab
            .ports
            .iter()
            .filter(|port| which(port))
            .cloned()
            .collect();
        for port in ports {
            if self
                .ports
                .get(&port.name)
                .is_none_or(|live| live.state == PortState::Missing)
            {
                continue;
            }
            tracing::warn!(port = %port.name, "port {}: {reason}", port.name);
            self.release(&port);
            self.forget_near_end(&port).await;
            self.set_state(&port.name, PortState::Missing, Some(reason.to_owned()));
            if let Some(live) = self.ports.get_mut(&port.name) {
                live.inside = None;
                live.near = None;
            }
        }
    }

    /// Tries the missing ones of these ports again.
    pub(super) async fn reattach_missing(&mut self, which: impl Fn(&Port) -> bool) {
        let missing = |port: &&Port| {
            self.ports
                .get(&port.name)
                .is_some_and(|live| live.state == PortState::Missing)
        };
        let ports: Vec<_> = self
            .state
            .lab
            .ports
            .iter()
            .filter(missing)
            .filter(|port| which(port))
            .cloned()
            .collect();
        for port in ports {
            if !self.goes_on() {
                return;
            }
            match self.attach(&port, Adopt::Yes).await {
                Ok(()) => {
                    tracing::info!(port = %port.name, "port {}: back", port.name);
                    if let Some(live) = self.ports.get(&port.name) {
                        self.emit(EventKind::PortState {
                            port: port.name.clone(),
                            state: live.state,
                            reason: live.reason.clone(),
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the port is still missing");
                    self.ports
                        .insert(port.name.clone(), LivePort::missing(error.to_string()));
                }
            }
        }
    }

    async fn reattach_cables(&mut self, namespace: &str) {
        let cables = self.state.lab.cables.clone();
        for cable in cables
            .iter()
            .filter(|c| c.a.namespace.as_str() == namespace || c.b.namespace.as_str() == namespace)
        {
            if let Err(error) = self.attach_cable(cable, Adopt::Yes).await {
                tracing::debug!(%error, "a cable is still missing");
            }
        }
    }
}
