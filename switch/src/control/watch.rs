//! What happens without a command: interfaces and namespaces come and go, stations are learned and forgotten.

mod guests;
mod inside;
mod links;
mod names;

pub(super) use inside::GivenBack;

use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use vswitch_api::view::{MissingAs, PortState};
use vswitch_api::{EventKind, Port, PortName, SwitchName};

use super::attach::Adopt;
use super::keep::keep;
use super::storm::watch_storms;
use super::told::Hearing;
use super::{Control, Inner};
use crate::agents::Input;
use vswitch_datapath::{Datapath, DatapathEvent, PortRef, SwitchId};
use vswitch_linux::poll::readable;
use vswitch_linux::{LinkMonitor, MonitorEvent, NsEvent};

/// How often learned entries are looked through for old ones.
const AGEING_TICK: Duration = Duration::from_secs(1);

/// Where changes are heard from. What can't be opened is one of the limits that `status` tells.
pub(super) struct Sources {
    links: Option<Arc<Hearing>>,
    namespaces: Option<BoxStream<'static, NsEvent>>,
    datapath: Option<AsyncFd<OwnedFd>>,
}

impl Sources {
    pub async fn open(inner: &mut Inner) -> Self {
        let links = LinkMonitor::open(&inner.host.own).await;
        let namespaces = inner.host.named.watch();
        let refused = [
            ("interfaces", links.as_ref().err()),
            ("namespaces", namespaces.as_ref().err()),
        ];
        for (what, error) in refused {
            let limit = error.map(|error| format!("changes of {what} that others make are not seen: {error}"));
            inner
                .shown
                .limits
                .extend(limit.inspect(|limit| tracing::warn!("{limit}")));
        }
        let datapath = inner
            .datapath
            .event_fd()
            .as_fd()
            .try_clone_to_owned()
            .and_then(readable);
        if let Err(error) = &datapath {
            tracing::warn!("events of the datapath will not be seen: {error}");
        }
        inner.host.hearing = links.ok().map(|links| Arc::new(Hearing::by(links)));
        Self {
            links: inner.host.hearing.clone(),
            namespaces: namespaces.ok(),
            datapath: datapath.ok(),
        }
    }
}

impl Control {
    /// Starts the tasks that watch. They end with the control.
    pub(super) fn watch(self: &Arc<Self>, sources: Sources, guests: Arc<Notify>, datapath: &Arc<Datapath>) {
        let mut tasks = vec![tokio::spawn(guests::watch_guests(Arc::downgrade(self), guests))];
        if let Some(links) = sources.links {
            let watching = watch_links(Arc::downgrade(self), links);
            tasks.push(tokio::spawn(for_good(Arc::downgrade(self), "interfaces", watching)));
        }
        if let Some(namespaces) = sources.namespaces {
            let watching = watch_namespaces(Arc::downgrade(self), namespaces);
            tasks.push(tokio::spawn(for_good(Arc::downgrade(self), "namespaces", watching)));
        }
        tasks.push(tokio::spawn(age(Arc::downgrade(self))));
        tasks.push(tokio::spawn(keep(Arc::downgrade(self))));
        let storms = watch_storms(Arc::downgrade(self), Arc::downgrade(datapath));
        tasks.push(tokio::spawn(storms));
        if let Some(datapath) = sources.datapath {
            tasks.push(tokio::spawn(watch_datapath(Arc::downgrade(self), datapath)));
        }
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
    }
}

/// What watches ends with the control. If it ends before, the kernel tells no more, and that is told.
async fn for_good(control: Weak<Control>, what: &str, watching: impl Future<Output = ()>) {
    watching.await;
    if let Some(control) = control.upgrade() {
        let limit =
            format!("changes of {what} that others make are not seen any more; `vswitchctl restart` mends that");
        tracing::error!("{limit}");
        control.inner.lock().await.shown.limits.push(limit);
    }
}

/// Changes that are looked into without letting others do something in between.
const AT_A_TIME: usize = 32;

async fn watch_links(control: Weak<Control>, hearing: Arc<Hearing>) {
    while hearing.more().await.is_some() {
        let Some(control) = control.upgrade() else { return };
        while !hearing.is_empty() {
            let mut lock = pin!(control.inner.lock());
            // A large edit makes tens of thousands of events, which have no room in the socket until it is over.
            let mut inner = loop {
                tokio::select! {
                    inner = &mut lock => break inner,
                    more = hearing.more() => if more.is_none() { return },
                }
            };
            apart(async {
                let mut ways = false;
                // One by one: what waits is asked for meanwhile.
                for (number, event) in std::iter::from_fn(|| hearing.next()).take(AT_A_TIME) {
                    let home = inner.host.home_nsid;
                    let is_of_home = |nsid: Option<i32>| nsid.is_some() && nsid == home;
                    match event {
                        MonitorEvent::Link(change) => {
                            ways |= is_of_home(change.nsid);
                            inner.link_changed(number, &change).await;
                        }
                        // Most are of routes of somebody else's, which are no reason for a new picture.
                        MonitorEvent::Inside(change) => {
                            if let Some(port) = inner.unpublished().note_inside(number, &change) {
                                inner.link_local_changed(change.lost, &port).await;
                            }
                        }
                        MonitorEvent::Ways(nsid) => ways |= is_of_home(nsid),
                        MonitorEvent::Resync => {
                            ways = true;
                            inner.look_again().await;
                        }
                    }
                }
                if ways {
                    inner.follow_uplinks().await;
                }
            });
        }
    }
}

async fn watch_namespaces(control: Weak<Control>, namespaces: BoxStream<'static, NsEvent>) {
    let mut namespaces = namespaces.ready_chunks(AT_A_TIME);
    while let Some(events) = namespaces.next().await {
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        apart(async {
            for event in events {
                inner.namespace_changed(event).await;
            }
        });
    }
}

/// How long events of the datapath are gathered.
const LOT: Duration = Duration::from_millis(20);
/// New stations in a lot of which no lab has so many.
const MANY_STATIONS: usize = 1000;

async fn watch_datapath(control: Weak<Control>, fd: AsyncFd<OwnedFd>) {
    loop {
        let Ok(mut ready) = fd.readable().await else { return };
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        ready.clear_ready();
        let (events, lost) = inner.datapath.take_events();
        inner.shown.events.lose(lost);
        // Nothing of the model is changed by a new station: a storm of them is no reason for new pictures.
        let new_stations = events
            .iter()
            .all(|event| matches!(event, DatapathEvent::Learned { .. }));
        let many = events.len() >= MANY_STATIONS;
        let model = if new_stations { inner.unpublished() } else { &mut *inner };
        apart(async {
            for event in events {
                model.datapath_event(event).await;
            }
        });
        drop(inner);
        // A storm of new stations is told in lots, not one by one; and of a flood of them not all, for which others would wait.
        tokio::time::sleep(if new_stations && many { 5 * LOT } else { LOT }).await;
    }
}

async fn age(control: Weak<Control>) {
    let mut tick = tokio::time::interval(AGEING_TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let Some(control) = control.upgrade() else { return };
        look_at_the_unlooked(&control).await;
        let mut inner = control.inner.lock().await;
        if inner.unpublished().is_one_due() {
            apart(inner.open_due());
        }
        if inner.unpublished().is_retry_due() {
            apart(inner.retry_due());
        }
        if inner.unpublished().has_unnamed() {
            apart(inner.leave_dead_namespaces());
        }
        let switches = inner.store.state.lab.switches.iter();
        let ageing = switches.filter_map(|switch| {
            let id = inner.live.switches.get(&switch.name)?;
            Some((switch.name.clone(), *id, switch.ageing_secs))
        });
        let (ageing, datapath) = (ageing.collect::<Vec<_>>(), inner.datapath.clone());
        drop(inner);
        // Each table is gone through, and the kernel asked for each station that only it has seen.
        let aged = apart(async {
            let ages = ageing
                .into_iter()
                .map(|(name, id, secs)| (name, datapath.age(id, secs)));
            ages.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
        });
        if aged.is_empty() {
            continue;
        }
        let inner = control.inner.lock().await;
        for (switch, count) in aged {
            inner.emit(EventKind::FdbAged { switch, count });
        }
    }
}

/// Looks what interfaces lack of which it was told that something inside came or went.
async fn look_at_the_unlooked(control: &Control) {
    loop {
        let mut inner = control.inner.lock().await;
        let names = inner.unpublished().take_unlooked(AT_A_TIME);
        if names.is_empty() {
            return;
        }
        apart(inner.look_at_the_unlooked(&names));
    }
}

fn in_namespace(port: &Port, name: &str) -> bool {
    port.named_namespace().is_some_and(|own| own.as_str() == name)
}

/// Does what may wait for a worker, a disk or a thread, while other tasks go on elsewhere.
pub(super) fn apart<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

impl Inner {
    async fn namespace_changed(&mut self, event: NsEvent) {
        match event {
            NsEvent::Added(name) => {
                self.name_leads(&name).await;
                if let Ok(name) = name.parse() {
                    self.settle_namespace(&name).await;
                }
                if self.has_processes() {
                    self.look_after_processes().await;
                }
            }
            // Also when the name stands for another namespace by now.
            NsEvent::Removed(name) => {
                if let Ok(name) = name.parse() {
                    self.forget_identity(&name);
                }
                if self.has_processes() {
                    // What runs there only since we started it keeps nothing there.
                    self.look_after_processes().await;
                }
                self.name_lost(&name).await;
            }
        }
    }

    /// Events were lost: ports whose interface is gone are found out, and those that wait are tried again.
    async fn look_again(&mut self) {
        for port in self.store.state.lab.ports.clone() {
            if !self.goes_on() {
                return;
            }
            self.follow(&port).await;
            if let Some(live) = self.live.ports.get(&port.name) {
                self.look_for_xdp(&port, live).await;
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
                if let Some(&switch) = self.live.switches.get(&switch) {
                    self.tell_guard(Input::Moved {
                        switch,
                        vlan,
                        mac,
                        from,
                        to,
                    });
                }
                self.emit(EventKind::FdbMoved {
                    switch,
                    mac,
                    from: from_name,
                    to: to_name,
                });
            }
            DatapathEvent::LimitReached { port } => {
                if let Some(name) = self.port_name(port) {
                    self.port_limit_reached(&name);
                }
            }
            DatapathEvent::Revised => self.fit_frame_sizes().await,
            DatapathEvent::LoopFound {
                sent,
                nonce,
                received,
                vlan,
            } => self.tell_guard(Input::ProbeBack {
                sent,
                nonce,
                received,
                vlan,
            }),
            DatapathEvent::PortFailed { port, errno, cause } => {
                let error = match errno {
                    0 => std::io::Error::other(cause.to_string()),
                    errno => std::io::Error::from_raw_os_error(errno),
                };
                // One that was lost and is back already had the index before.
                if let Some(name) = self.port_name(port) {
                    self.port_failed(&name, &error).await;
                }
            }
            DatapathEvent::WorkerFailed { worker, cause } => {
                tracing::error!(
                    worker,
                    "worker {worker} ended, and ports that it received from are deaf until a restart: {cause}"
                );
            }
        }
    }

    /// Nothing comes from a port any more. That its interface is gone is one of the reasons there may be.
    async fn port_failed(&mut self, name: &PortName, error: &std::io::Error) {
        // What a queue says whose device has been deleted.
        let gone = error.raw_os_error() == Some(libc::EBADFD);
        let reason = if gone {
            "its interface is gone".to_owned()
        } else {
            format!("its interface can't be read: {error}")
        };
        let (Some(port), Some(live)) = (self.store.port(name).cloned(), self.live.ports.get(name)) else {
            return;
        };
        if matches!(self.carries_now(&port, live).await, Ok(None)) {
            self.interface_gone(&port, &reason).await;
            return;
        }
        // Nothing is taken apart, and it is opened anew soon.
        tracing::warn!(port = %name, "port {name}: {reason}");
        drop(self.release(std::slice::from_ref(&port)));
        self.set_state(name, PortState::Missing, Some(reason));
        self.try_again_later(name);
    }

    /// The switch of a port of the lab.
    pub(super) fn switch_of(&self, port: &PortName) -> Option<SwitchName> {
        self.store.port(port).map(|port| port.switch.clone())
    }

    /// The switch that has this index in the datapath.
    pub(super) fn switch_name(&self, id: SwitchId) -> Option<&SwitchName> {
        let mut switches = self.live.switches.iter();
        switches.find(|(_, other)| **other == id).map(|(name, _)| name)
    }

    /// The port of the lab that is this very one now.
    pub(super) fn port_name(&self, id: PortRef) -> Option<PortName> {
        self.live
            .ports
            .iter()
            .find(|(_, live)| live.id == Some(id))
            .map(|(name, _)| name.clone())
    }

    /// The ports' interfaces are gone: descriptors are closed, what is left of a veth pair goes too.
    pub(super) async fn lose(&mut self, which: impl Fn(&Port) -> bool, reason: &str, why: MissingAs) {
        let ports: Vec<_> = self
            .store
            .state
            .lab
            .ports
            .iter()
            .filter(|port| which(port))
            .cloned()
            .collect();
        for port in ports {
            if self
                .live
                .ports
                .get(&port.name)
                .is_none_or(|live| live.state == PortState::Missing)
            {
                continue;
            }
            tracing::warn!(port = %port.name, "port {}: {reason}", port.name);
            drop(self.release(std::slice::from_ref(&port)));
            self.forget_near_end(&port).await;
            self.set_state(&port.name, PortState::Missing, Some(reason.to_owned()));
            if let Some(live) = self.live.ports.get_mut(&port.name) {
                live.missing_as = Some(why);
                live.inside = None;
                live.near = None;
                live.nsid = None;
                (live.moved, live.unnamed) = (None, false);
            }
        }
    }

    /// Tries the missing ones of these ports again.
    pub(super) async fn reattach_missing(&mut self, which: impl Fn(&Port) -> bool) {
        let missing = |port: &&Port| {
            self.live
                .ports
                .get(&port.name)
                .is_some_and(|live| live.state == PortState::Missing)
        };
        let ports: Vec<_> = self
            .store
            .state
            .lab
            .ports
            .iter()
            .filter(missing)
            .filter(|port| which(port))
            .cloned()
            .collect();
        let devices = self.store.state.devices.clone();
        for port in ports {
            if !self.goes_on() {
                break;
            }
            match self.attach(&port, Adopt::Yes).await {
                Ok(()) => self.tell_back(&port),
                Err(error) => {
                    tracing::debug!(%error, "the port is still missing");
                    self.still_missing(&port, &error);
                }
            }
        }
        self.keep_devices(&devices);
    }

    async fn reattach_cables(&mut self, namespace: &str) {
        let cables = self.store.state.lab.cables.clone();
        for cable in cables
            .iter()
            .filter(|c| c.a.namespace.as_str() == namespace || c.b.namespace.as_str() == namespace)
        {
            if let Err(error) = self.attach_cable(cable, Adopt::Yes).await {
                tracing::debug!(%error, "a cable is still missing");
                self.note_unlaid(cable, &error);
            }
        }
    }
}

#[cfg(test)]
mod tests;
