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
use super::keep::keep;
use super::{Control, Inner, LivePort};
use crate::datapath::{DatapathEvent, PortRef};
use crate::kernel::poll::readable;
use crate::kernel::{KernelError, Link, LinkChange, LinkMonitor, MonitorEvent, NsEvent};

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
        tasks.push(tokio::spawn(keep(Arc::downgrade(self))));
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
        apart(inner.namespace_changed(event));
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
pub(super) fn apart<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

impl Inner {
    async fn namespace_changed(&mut self, event: NsEvent) {
        let in_namespace = |port: &Port, name: &str| port.namespace.as_ref().is_some_and(|own| own.as_str() == name);
        match event {
            NsEvent::Added(name) => {
                self.reattach_missing(|port| in_namespace(port, &name)).await;
                self.reattach_cables(&name).await;
            }
            // Also when the name stands for another namespace by now.
            NsEvent::Removed(name) => {
                if let Ok(name) = name.parse() {
                    self.forget_identity(&name);
                }
                self.lose_if_gone(|port| in_namespace(port, &name), "its namespace is gone")
                    .await;
            }
        }
    }

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
            self.lose_if_gone(|port| port.name == name, "its interface is gone")
                .await;
            // A device may be back under another index before we hear that the old one is gone.
            self.reattach_missing(|port| port.name == name && port.kind == PortKind::Device)
                .await;
            return;
        }
        self.look_for_xdp(port, live).await;
        let told = carries(port.kind, change.up, change.carrier);
        if state_of(port, told).0 == live.state {
            return;
        }
        // What was told is as old as the command that ran meanwhile: the kernel knows better by now. Of an interface that is
        // not there, or can't be looked at, it says nothing.
        let Ok(Some(now)) = self.carries_now(port, live).await else {
            return;
        };
        let (state, reason) = state_of(port, now);
        self.set_state(&name, state, reason);
    }

    /// Whether a port's interface, and of a veth pair both ends, is there now where its namespace's name leads.
    ///
    /// Whoever is told that it is gone asks this first. The kernel tells late, and gives the numbers by which it tells, a
    /// namespace's id and an interface's index, to what is made next.
    async fn is_there(&self, port: &Port, live: &LivePort) -> Result<bool, KernelError> {
        let Some(netns) = self.find_netns_of(port)? else {
            return Ok(false);
        };
        let inside = netns.netlink().await?.link_by_name(ifname(port).as_str()).await?;
        let Some(inside) = inside.filter(|link| Some(link.index) == live.inside) else {
            return Ok(false);
        };
        let own = self.own.netlink().await?;
        let nsid = own.nsid_of(&netns).await?;
        let Some(near) = live.watched_near() else {
            return Ok(live.nsid == Some(nsid));
        };
        let joined = |link: Link| {
            link.index == near
                && (link.peer_index, link.peer_nsid) == (Some(inside.index), Some(nsid))
                && inside.peer_index == Some(near)
        };
        Ok(own.link_by_name(port.name.as_str()).await?.is_some_and(joined))
    }

    /// Events were lost: ports whose interface is gone are found out, and those that wait are tried again.
    async fn look_again(&mut self) {
        self.lose_if_gone(|_| true, "its interface is gone").await;
        for port in &self.state.lab.ports {
            if !self.goes_on() {
                return;
            }
            if let Some(live) = self.ports.get(&port.name) {
                self.look_for_xdp(port, live).await;
            }
        }
        self.reattach_missing(|_| true).await;
    }

    async fn datapath_event(&mut self, event: DatapathEvent) {
        match event {
            DatapathEvent::Learned { mac, port } => {
                if let Some(port) = self.port_name(port)
                    && let Some(switch) = self.switch_of(&port)
                {
                    self.emit(EventKind::FdbLearned { switch, mac, port });
                }
            }
            DatapathEvent::Moved { mac, vlan, from, to } => {
                let (Some(from_name), Some(to_name)) = (self.port_name(from), self.port_name(to)) else {
                    return;
                };
                let Some(switch) = self.switch_of(&to_name) else { return };
                self.station_moved(&switch, (vlan, mac), from, to).await;
                self.emit(EventKind::FdbMoved {
                    switch,
                    mac,
                    from: from_name,
                    to: to_name,
                });
            }
            DatapathEvent::LimitReached { port } => {
                if let Some(name) = self.port_name(port) {
                    self.port_limit_reached(&name).await;
                }
            }
            DatapathEvent::Edited => self.fit_frame_sizes().await,
            DatapathEvent::LoopFound { sent, nonce, received } => self.loop_found(sent, nonce, received).await,
            DatapathEvent::PortFailed { port, errno } => {
                // One that was lost and is back already had the index before.
                if let Some(name) = self.port_name(port) {
                    self.port_failed(&name, &std::io::Error::from_raw_os_error(errno)).await;
                }
            }
        }
    }

    /// Nothing comes from a port any more. That its interface is gone is one of the reasons there may be.
    async fn port_failed(&mut self, name: &PortName, error: &std::io::Error) {
        let reason = format!("its interface can't be read: {error}");
        let (Some(port), Some(live)) = (self.port_of_lab(name).cloned(), self.ports.get(name)) else {
            return;
        };
        if matches!(self.carries_now(&port, live).await, Ok(None)) {
            self.lose(|port| port.name == *name, &reason).await;
            return;
        }
        // Nothing is taken apart, and it is opened anew soon.
        tracing::warn!(port = %name, "port {name}: {reason}");
        self.release(&port);
        self.set_state(name, PortState::Missing, Some(reason));
        self.try_again_later(name);
    }

    /// The switch of a port of the lab.
    pub(super) fn switch_of(&self, port: &PortName) -> Option<SwitchName> {
        self.port_of_lab(port).map(|port| port.switch.clone())
    }

    /// The port of the lab that is this very one now.
    pub(super) fn port_name(&self, id: PortRef) -> Option<PortName> {
        self.ports
            .iter()
            .find(|(_, live)| live.id == Some(id))
            .map(|(name, _)| name.clone())
    }

    /// Loses those of these ports whose interface is gone, as the kernel has it now. What can't be looked at has not gone for
    /// that.
    async fn lose_if_gone(&mut self, which: impl Fn(&Port) -> bool, reason: &str) {
        let mut gone = Vec::new();
        for port in self.state.lab.ports.iter().filter(|port| which(port)) {
            if !self.goes_on() {
                return;
            }
            if let Some(live) = self.ports.get(&port.name)
                && live.state != PortState::Missing
            {
                match self.is_there(port, live).await {
                    Ok(true) => {
                        tracing::debug!(port = %port.name, "port {}: told that {reason}, but it is there", port.name)
                    }
                    Ok(false) => gone.push(port.name.clone()),
                    Err(error) => {
                        tracing::warn!(port = %port.name, "port {}: can't tell whether {reason}: {error}", port.name);
                    }
                }
            }
        }
        self.lose(|port| gone.contains(&port.name), reason).await;
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
        let devices = self.state.devices.clone();
        for port in ports {
            if !self.goes_on() {
                break;
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
                    self.still_missing(&port, &error);
                }
            }
        }
        // Until it is in the file, the note has how a device was.
        if devices != self.state.devices {
            match self.save() {
                Ok(()) => self.close_journal(),
                Err(error) => tracing::error!("the state file does not tell how a device was: {error}"),
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

#[cfg(test)]
mod tests {
    use vswitch_api::request::ChangeOptions;

    use super::*;
    use crate::control::ControlConfig;
    use crate::kernel::sandboxed;

    const NOT_DRY: ChangeOptions = ChangeOptions {
        dry_run: false,
        idempotent: false,
    };

    async fn start() -> Arc<Control> {
        std::fs::create_dir("/run/vswitch").unwrap();
        let config = ControlConfig {
            run_dir: "/run/vswitch".into(),
            state_dir: "/run/state".into(),
            netns_dir: "/run/netns".into(),
            workers: 1,
            cpus: Vec::new(),
            spin_us: 0,
            fastpath: true,
            big_tcp: true,
            fdb_entries: 1 << 22,
            recover: false,
        };
        Control::start(config).await.unwrap()
    }

    async fn add(control: &Control, name: &str, kind: PortKind) {
        let port = Port::new(name.parse().unwrap(), "main".parse().unwrap(), kind);
        control.add_port(port, NOT_DRY).await.unwrap();
    }

    /// What the kernel says when the interface of a port goes.
    fn gone(live: &LivePort) -> LinkChange {
        let near = live.watched_near();
        LinkChange {
            nsid: live.nsid.filter(|_| near.is_none()),
            index: near.or(live.inside).unwrap(),
            name: "eth0".to_owned(),
            up: false,
            carrier: false,
            gone: true,
        }
    }

    const KINDS: [(&str, PortKind); 2] = [("red", PortKind::Veth), ("green", PortKind::Tap)];

    /// Word of the namespace before, which had the same id and index, comes when the port is long there (fault E11).
    #[test]
    fn late_word_of_something_that_is_gone_does_not_make_its_successor_missing() {
        sandboxed(async || {
            let control = start().await;
            for (name, kind) in KINDS {
                add(&control, name, kind).await;
                let mut inner = control.inner.lock().await;
                let port: PortName = name.parse().unwrap();
                let told = gone(&inner.ports[&port]);
                inner.link_changed(&told).await;
                assert_eq!(inner.ports[&port].state, PortState::Up, "{name}: {told:?}");
                let quiet = LinkChange { gone: false, ..told };
                inner.link_changed(&quiet).await;
                assert_eq!(inner.ports[&port].state, PortState::Up, "{name}: {quiet:?}");
                inner.namespace_changed(NsEvent::Removed(name.to_owned())).await;
                assert_eq!(inner.ports[&port].state, PortState::Up, "{name}: its namespace");
                inner.look_again().await;
                assert_eq!(inner.ports[&port].state, PortState::Up, "{name}: another look");
            }
        });
    }

    #[test]
    fn word_of_something_that_is_gone_is_believed_when_it_is() {
        sandboxed(async || {
            let control = start().await;
            for (name, kind) in KINDS {
                add(&control, name, kind).await;
                let mut inner = control.inner.lock().await;
                let port: PortName = name.parse().unwrap();
                let told = gone(&inner.ports[&port]);
                let netns = inner.open_namespace(&name.parse().unwrap()).unwrap();
                let inside = inner.ports[&port].inside.unwrap();
                netns.netlink().await.unwrap().delete_link(inside).await.unwrap();
                inner.link_changed(&told).await;
                assert_eq!(inner.ports[&port].state, PortState::Missing, "{name}");
            }
        });
    }

    /// What was told of a port that is gone does nothing to the one that has its index by now (review B7).
    #[test]
    fn events_of_a_port_that_is_gone_are_not_its_successor_s() {
        sandboxed(async || {
            let control = start().await;
            let shuts = |name: &str| {
                let mut port = Port::new(name.parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
                port.learning.limit = Some(1);
                port.learning.beyond = vswitch_api::policy::BeyondLimit::Shut;
                port
            };
            let name = |name: &str| name.parse::<PortName>().unwrap();
            control.add_port(shuts("stays"), NOT_DRY).await.unwrap();
            control.add_port(shuts("gone"), NOT_DRY).await.unwrap();
            let (stays, gone) = {
                let inner = control.inner.lock().await;
                (
                    inner.ports[&name("stays")].id.unwrap(),
                    inner.ports[&name("gone")].id.unwrap(),
                )
            };
            control.remove_port(&name("gone"), NOT_DRY).await.unwrap();
            control.add_port(shuts("next"), NOT_DRY).await.unwrap();
            let mut inner = control.inner.lock().await;
            let next = inner.ports[&name("next")].id.unwrap();
            assert_eq!((next.id, next == gone), (gone.id, false));
            let mac = vswitch_api::Mac([2, 0, 0, 0, 0, 1]);
            let moved = |from, to| DatapathEvent::Moved { mac, vlan: 0, from, to };
            let mut events = vec![
                DatapathEvent::LimitReached { port: gone },
                DatapathEvent::PortFailed { port: gone, errno: 5 },
                DatapathEvent::Learned { mac, port: gone },
            ];
            for _ in 0..1000 {
                events.extend([moved(gone, stays), moved(stays, gone)]);
            }
            for nonce in [0, 1] {
                for (sent, received) in [(gone, stays), (stays, gone), (next, stays), (stays, next), (next, next)] {
                    events.push(DatapathEvent::LoopFound { sent, nonce, received });
                }
            }
            let mut told = control.subscribe();
            for event in events {
                inner.datapath_event(event).await;
            }
            for port in ["stays", "next"] {
                assert_eq!(inner.ports[&name(port)].state, PortState::Up, "{port}");
            }
            // Nor is anybody told of it.
            inner.datapath_event(DatapathEvent::LimitReached { port: next }).await;
            assert_eq!(inner.ports[&name("next")].state, PortState::Shut);
            let first = told.next().await.unwrap().kind;
            assert!(
                matches!(&first, EventKind::PortShut { port, .. } if port.as_str() == "next"),
                "{first:?}"
            );
        });
    }
}
