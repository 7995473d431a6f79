//! What happens without a command: interfaces and namespaces come and go, stations are learned and forgotten.

use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
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
use super::place::Place;
use super::told::Told;
use super::{Control, Inner, LivePort};
use crate::agents::Input;
use vswitch_datapath::{DatapathEvent, PortRef};
use vswitch_linux::poll::readable;
use vswitch_linux::{KernelError, LinkChange, LinkMonitor, MonitorEvent, NsEvent};

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

/// Changes that are looked into without letting others do something in between.
const AT_A_TIME: usize = 32;

async fn watch_links(control: Weak<Control>, mut links: LinkMonitor) {
    while let Some(event) = links.recv().await {
        let Some(control) = control.upgrade() else { return };
        let mut told = Told::default();
        told.add(event);
        while !told.is_empty() {
            let mut lock = pin!(control.inner.lock());
            // A large edit makes tens of thousands of events, which have no room in the socket until it is over.
            let mut inner = loop {
                tokio::select! {
                    inner = &mut lock => break inner,
                    event = links.recv() => match event {
                        Some(event) => told.add(event),
                        None => return,
                    },
                }
            };
            apart(async {
                for event in told.take(AT_A_TIME) {
                    match event {
                        MonitorEvent::Link(change) => inner.link_changed(&change).await,
                        MonitorEvent::Resync => inner.look_again().await,
                    }
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
        if inner.unpublished().is_retry_due() {
            apart(inner.retry_due());
        }
        if inner.unpublished().has_unnamed() {
            apart(inner.leave_dead_namespaces());
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

fn in_namespace(port: &Port, name: &str) -> bool {
    port.namespace.as_ref().is_some_and(|own| own.as_str() == name)
}

/// Does what may wait for a worker, a disk or a thread, while other tasks go on elsewhere.
pub(super) fn apart<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

impl Inner {
    async fn namespace_changed(&mut self, event: NsEvent) {
        match event {
            NsEvent::Added(name) => self.name_leads(&name).await,
            // Also when the name stands for another namespace by now.
            NsEvent::Removed(name) => {
                if let Ok(name) = name.parse() {
                    self.forget_identity(&name);
                }
                self.name_lost(&name).await;
            }
        }
    }

    async fn link_changed(&mut self, change: &LinkChange) {
        let near = |live: &LivePort| change.nsid.is_none() && live.near == Some(change.index);
        let inside =
            |live: &LivePort| live.nsid.is_some() && live.nsid == change.nsid && live.inside == Some(change.index);
        let found = self.ports.iter().find(|(_, live)| near(live) || inside(live));
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
        let Some(port) = self.port_of_lab(name).cloned() else {
            return;
        };
        let (inside, by_near) = (inside(live), port.kind == PortKind::Veth);
        if change.gone {
            if inside || by_near {
                self.follow(&port).await;
            }
            return;
        }
        if inside && (change.name != live.ifname || (change.mtu != live.mtu && change.mtu > 0)) {
            self.follow(&port).await;
            return;
        }
        // A veth port is watched by its near end, the others where they are.
        if inside == by_near {
            return;
        }
        self.look_for_xdp(&port, live).await;
        let told = carries(port.kind, change.up, change.carrier);
        if state_of(&port, &live.ifname, told).0 == live.state {
            return;
        }
        // What was told is as old as the command that ran meanwhile: the kernel knows better by now. Of an interface that is
        // not there, or can't be looked at, it says nothing.
        let Ok(Some(now)) = self.carries_now(&port, live).await else {
            return;
        };
        let (state, reason) = state_of(&port, &live.ifname, now);
        self.set_state(&port.name, state, reason);
    }

    /// Something happened to the interface of a port: it is looked for, and what has changed is taken note of.
    ///
    /// Nothing is believed of what was told. The kernel tells late, and gives the numbers by which it tells, a namespace's id and an
    /// interface's index, to what is made next.
    async fn follow(&mut self, port: &Port) {
        let Some(live) = self.ports.get(&port.name).filter(|live| live.id.is_some()) else {
            return;
        };
        let found = async {
            let Some(place) = self.place_of(port, live).await? else {
                return Ok(None);
            };
            let nsid = self.own.netlink().await?.nsid_of(&place.netns).await?;
            Ok::<_, KernelError>(Some((place, nsid)))
        };
        match found.await {
            // It can't be told: that does not make it gone.
            Err(error) => tracing::debug!(port = %port.name, "can't look where an interface is: {error}"),
            Ok(None) => self.interface_gone(port, "its interface is gone").await,
            Ok(Some((place, nsid))) => self.found_at(port, place, nsid).await,
        }
    }

    async fn interface_gone(&mut self, port: &Port, reason: &str) {
        self.lose(|other| other.name == port.name, reason).await;
        if port.kind == PortKind::Device {
            // It may be back under another index before we hear that the old one is gone.
            self.reattach_missing(|other| other.name == port.name).await;
        } else {
            self.deleted(&port.name).await;
        }
    }

    /// The interface of a port is there. What it is called, and its MTU, may be as others have set it.
    async fn found_at(&mut self, port: &Port, Place { netns, link }: Place, nsid: i32) {
        let Some(live) = self.ports.get(&port.name) else { return };
        let moved_now = live.nsid != Some(nsid) || live.inside != Some(link.index);
        let mut told = Vec::new();
        if moved_now {
            let (moved, unnamed) = self.moved(port, &netns);
            told.push(match &moved {
                Some(moved) => format!("interface {} was moved to {}", link.name.escape_debug(), moved.to),
                None => format!("interface {} was moved back", link.name.escape_debug()),
            });
            if let Some(live) = self.ports.get_mut(&port.name) {
                (live.nsid, live.inside) = (Some(nsid), Some(link.index));
                (live.moved, live.unnamed) = (moved, unnamed);
                live.ifname.clone_from(&link.name);
                live.mtu = link.mtu;
            }
            // The kernel takes down what is moved, with its addresses and routes.
            if port.kind != PortKind::Device
                && let Err(error) = self.give_back_settings(port).await
            {
                tracing::warn!(port = %port.name, "an interface that was moved lacks settings: {error}");
            }
        }
        let Some(live) = self.ports.get_mut(&port.name) else {
            return;
        };
        if live.ifname != link.name {
            told.push(format!(
                "interface {} was renamed to {}",
                live.ifname.escape_debug(),
                link.name.escape_debug()
            ));
            live.ifname.clone_from(&link.name);
        }
        if !moved_now && live.mtu != link.mtu {
            told.push(format!(
                "interface {} has an MTU of {} now",
                link.name.escape_debug(),
                link.mtu
            ));
            live.mtu = link.mtu;
            let near = live.near;
            if let Some(near) = near
                && let Err(error) = async { self.own.netlink().await?.set_mtu(near, link.mtu).await }.await
            {
                tracing::warn!(port = %port.name, "port {}: its near end has another MTU: {error}", port.name);
            }
            self.update_in_datapath(port);
        }
        for what in told {
            tracing::info!(port = %port.name, "port {}: {what}", port.name);
            self.emit(EventKind::PortChanged {
                port: port.name.clone(),
                what,
            });
        }
        if let Some(live) = self.ports.get(&port.name)
            && let Ok(Some(carries)) = self.carries_now(port, live).await
        {
            let (state, reason) = state_of(port, &live.ifname, carries);
            self.set_state(&port.name, state, reason);
        }
    }

    /// A name leads to a namespace: what waits for it is made there.
    async fn name_leads(&mut self, name: &str) {
        let here = |port: &Port| in_namespace(port, name);
        // The namespace that it led to before goes on without it, but the name is what the port was given.
        let unnamed = |port: &&Port| {
            let live = self.ports.get(&port.name);
            here(port) && live.is_some_and(|live| live.unnamed && live.moved.is_none())
        };
        for port in self.state.lab.ports.iter().filter(unnamed).cloned().collect::<Vec<_>>() {
            match self.is_at_home(&port).await {
                // It is that namespace again.
                Ok(true) => {
                    if let Some(live) = self.ports.get_mut(&port.name) {
                        live.unnamed = false;
                    }
                }
                Ok(false) => {
                    self.lose(|other| other.name == port.name, "its namespace has another name")
                        .await;
                }
                Err(error) => tracing::debug!(port = %port.name, "can't look where an interface is: {error}"),
            }
        }
        self.reattach_missing(here).await;
        self.reattach_cables(name).await;
    }

    /// Whether the interface of a port is in the namespace that the port was given.
    async fn is_at_home(&self, port: &Port) -> Result<bool, KernelError> {
        let (Some(live), Some(wanted)) = (self.ports.get(&port.name), self.find_netns_of(port)?) else {
            return Ok(false);
        };
        match self.place_of(port, live).await {
            Ok(place) => Ok(place.is_some_and(|place| wanted.id() == place.netns.id())),
            Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A name leads nowhere any more, or elsewhere. Where processes live on in the namespace its ports stay as long as they do; where
    /// none does, nothing that the daemon has open may keep it.
    async fn name_lost(&mut self, name: &str) {
        let here = |port: &Port, live: &LivePort| match &live.moved {
            Some(moved) => moved.namespace.as_ref().is_some_and(|moved| moved.as_str() == name),
            None => in_namespace(port, name),
        };
        let ports = self.state.lab.ports.iter().filter(|port| {
            let live = self.ports.get(&port.name).filter(|live| live.id.is_some());
            live.is_some_and(|live| here(port, live))
        });
        let ports: Vec<_> = ports.map(|port| port.name.clone()).collect();
        self.leave_if_dead(&ports).await;
    }

    /// Lets go of what these ports have in a namespace that nothing else keeps alive.
    async fn leave_if_dead(&mut self, ports: &[PortName]) {
        for name in ports {
            let (Some(port), Some(live)) = (self.port_of_lab(name).cloned(), self.ports.get(name)) else {
                continue;
            };
            let lives = match self.place_of(&port, live).await {
                Ok(Some(place)) => self.lives(place.netns.id()),
                Ok(None) => Ok(false),
                Err(error) => Err(error),
            };
            let lives = match lives {
                Ok(lives) => lives,
                // Of a veth: neither a name nor a process leads to its far end any more.
                Err(error) if error.source.kind() == ErrorKind::NotFound => false,
                // What can't be told has not gone for that.
                Err(error) => {
                    tracing::debug!(port = %name, "can't look where an interface is: {error}");
                    continue;
                }
            };
            if !lives {
                let moved = live.moved.is_some();
                self.lose(|other| other.name == *name, "its namespace is gone").await;
                if moved || matches!(self.find_netns_of(&port), Ok(Some(_))) {
                    // The one that it was made in is still there, or another of that name.
                    self.deleted(name).await;
                }
                continue;
            }
            // What was told may be of the namespace before.
            let unnamed = !self.is_at_home(&port).await.unwrap_or(false);
            if let Some(live) = self.ports.get_mut(name) {
                live.unnamed = unnamed;
            }
        }
    }

    /// Whether there is a port in a namespace without a name, which lives as long as a process is in it.
    fn has_unnamed(&self) -> bool {
        self.ports.values().any(|live| live.unnamed && live.id.is_some())
    }

    /// The namespaces of ports that have no name are looked at again and again, for nobody tells when their last process ends.
    async fn leave_dead_namespaces(&mut self) {
        let unnamed = self.ports.iter().filter(|(_, live)| live.unnamed && live.id.is_some());
        let unnamed: Vec<_> = unnamed.map(|(name, _)| name.clone()).collect();
        self.leave_if_dead(&unnamed).await;
    }

    /// Events were lost: ports whose interface is gone are found out, and those that wait are tried again.
    async fn look_again(&mut self) {
        for port in self.state.lab.ports.clone() {
            if !self.goes_on() {
                return;
            }
            self.follow(&port).await;
            if let Some(live) = self.ports.get(&port.name) {
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
                if let Some(&switch) = self.switches.get(&switch) {
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
            DatapathEvent::Edited => self.fit_frame_sizes().await,
            DatapathEvent::LoopFound { sent, nonce, received } => {
                self.tell_guard(Input::ProbeBack { sent, nonce, received });
            }
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
            self.interface_gone(&port, &reason).await;
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

    /// The ports' interfaces are gone: descriptors are closed, what is left of a veth pair goes too.
    pub(super) async fn lose(&mut self, which: impl Fn(&Port) -> bool, reason: &str) {
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
                live.nsid = None;
                (live.moved, live.unnamed) = (None, false);
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
    use vswitch_linux::testing::sandboxed;

    const NOT_DRY: ChangeOptions = ChangeOptions {
        dry_run: false,
        idempotent: false,
        force: false,
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
        LinkChange {
            nsid: live.nsid.filter(|_| live.near.is_none()),
            index: live.near.or(live.inside).unwrap(),
            name: live.ifname.clone(),
            mtu: live.mtu,
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
                let id = inner.ports[&port].id;
                netns.netlink().await.unwrap().delete_link(inside).await.unwrap();
                inner.link_changed(&told).await;
                // It was lost, and made again at once.
                assert_eq!(inner.ports[&port].state, PortState::Up, "{name}");
                assert_ne!(inner.ports[&port].id, id, "{name}");
                // The second time it is not made again at once.
                let told = gone(&inner.ports[&port]);
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
