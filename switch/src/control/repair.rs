//! What the lab wants and somebody else has taken away is made again: by itself where it was only the interface, and all of it when a
//! command says what is to be there.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use vswitch_api::change::ObjectKind;
use vswitch_api::view::{Changes, MissingAs, PortState};
use vswitch_api::{
    ApiError, Cable, Command, CommandName, ErrorCode, EventKind, IfName, Lab, LabNamespace, NsName, Port, PortName,
};

use super::attach::{AT_ONCE, Adopt};
use super::gateway::Outside;
use super::interface::{configure, mac};
use super::kinds::{facts, wanted_mtu};
use super::lacks::{Lost, Wanted, lost_settings};
use super::place::Place;
use super::plan::namespaces;
use super::processes::Process;
use super::requests::absent_namespaces;
use super::state::DeviceBefore;
use super::twins::{ends, repaired};
use super::{Inner, LivePort, text};
use crate::port::BackEnd;
use vswitch_linux::KernelError;

mod after_edit;

pub(super) use after_edit::is_of_inside;

/// What was in vain is tried again after this, then after twice that, and so on. An interface that is deleted is made again at once,
/// and the second time after this.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// One that stays for so long was not made in vain.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// When a missing port is tried again, though nobody tells that it may be back.
#[derive(Debug)]
pub(super) struct Retry {
    due: Instant,
    /// What the next one waits.
    wait: Duration,
}

impl Retry {
    /// The next one after this, of which the first waits so long if there was none lately.
    pub fn next(before: Option<Self>, first: Duration) -> Self {
        let now = Instant::now();
        match before.filter(|before| now < before.due + GOOD_FOR) {
            Some(before) if now < before.due => before,
            Some(before) => Self {
                due: now + before.wait,
                wait: (2 * before.wait).min(LONGEST_WAIT),
            },
            None => Self {
                due: now + first,
                wait: (2 * first).max(FIRST_WAIT),
            },
        }
    }

    pub fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    /// Whether what was made then has stayed since.
    pub fn was_good(&self) -> bool {
        self.due + GOOD_FOR <= Instant::now()
    }
}

/// What is looked at.
#[derive(Clone, Copy)]
pub(super) enum Extent<'a> {
    /// One port, with its namespace.
    Port(&'a PortName),
    /// All of the lab that is in this one too.
    Lab(&'a Lab),
    /// Only what is in this one too.
    Part(&'a Lab),
}

/// Something that the lab wants and that is not so.
enum Drift {
    /// With the commands that start in it when it is back.
    Namespace(NsName, Vec<CommandName>),
    NamespaceSettings(LabNamespace, Vec<String>),
    Missing(Port),
    /// It is there, with something else.
    Settings(Port, Vec<Lost>),
    Cable(Cable),
    CableSettings(Cable, Vec<String>),
    /// One that has failed and is not started again by itself.
    Command(Command),
    /// What the host does for the switches.
    Outside(Vec<String>),
}

impl Drift {
    /// By line and for programs.
    fn tell(&self, changes: &mut Changes) {
        changes.done.extend(self.describe());
        let (kind, name, what) = match self {
            Self::Namespace(name, _) => (ObjectKind::Namespace, name.to_string(), None),
            Self::NamespaceSettings(namespace, what) => {
                (ObjectKind::Namespace, namespace.name.to_string(), Some(what.clone()))
            }
            Self::Missing(port) => (ObjectKind::Port, port.name.to_string(), None),
            Self::Settings(port, what) => {
                let what = what.iter().map(Lost::to_string).collect();
                (ObjectKind::Port, port.name.to_string(), Some(what))
            }
            Self::Cable(cable) => (ObjectKind::Cable, ends(cable), None),
            Self::CableSettings(cable, what) => (ObjectKind::Cable, ends(cable), Some(what.clone())),
            Self::Command(command) => (ObjectKind::Command, command.name.to_string(), None),
            Self::Outside(what) => (ObjectKind::Host, "host".to_owned(), Some(what.clone())),
        };
        match what {
            None => changes.changes.push(repaired(kind, name, None)),
            Some(what) => changes
                .changes
                .extend(what.iter().map(|what| repaired(kind, &name, Some(what)))),
        }
        if let Self::Namespace(_, commands) = self {
            let started = commands.iter().map(|name| repaired(ObjectKind::Command, name, None));
            changes.changes.extend(started);
        }
    }

    fn describe(&self) -> Vec<String> {
        match self {
            Self::Namespace(name, commands) => {
                let started = commands.iter();
                let started =
                    started.map(|command| format!("repaired: started command {command} again in namespace {name}"));
                [format!("repaired: created namespace {name} again")]
                    .into_iter()
                    .chain(started)
                    .collect()
            }
            Self::NamespaceSettings(namespace, what) => {
                let line = |what: &String| format!("repaired: gave namespace {} back {what}", namespace.name);
                what.iter().map(line).collect()
            }
            Self::Missing(port) => vec![format!("repaired: made the interface of port {} again", port.name)],
            Self::Settings(port, what) => {
                let line = |what: &Lost| format!("repaired: gave port {} back {what}", port.name);
                what.iter().map(line).collect()
            }
            Self::CableSettings(cable, what) => {
                let line = |what: &String| format!("repaired: gave {} back {what}", text::cable(cable));
                what.iter().map(line).collect()
            }
            Self::Cable(cable) => vec![format!("repaired: made {} again", text::cable(cable))],
            Self::Command(command) => vec![format!(
                "repaired: started command {} again in namespace {}",
                command.name, command.namespace
            )],
            Self::Outside(what) => what
                .iter()
                .map(|what| format!("repaired: gave the host back {what}"))
                .collect(),
        }
    }
}

impl Inner {
    /// The interface of a port was deleted, though its namespace is there: it is made again, and if that is in vain, ever later.
    pub(super) async fn deleted(&mut self, name: &PortName) {
        self.put_off(name, Duration::ZERO);
        self.retry_due().await;
    }

    /// A port could not be attached, or has failed, for want of something else than its interface, of which nobody tells.
    pub(super) fn try_again_later(&mut self, name: &PortName) {
        self.put_off(name, FIRST_WAIT);
    }

    /// `first`: how long, if it was not tried lately.
    fn put_off(&mut self, name: &PortName, first: Duration) {
        let retry = Retry::next(self.live.retries.remove(name), first);
        self.live.retries.insert(name.clone(), retry);
    }

    /// When ports are tried again.
    pub(super) fn retries(&self) -> BTreeMap<PortName, Instant> {
        let retries = self.live.retries.iter();
        retries.map(|(name, retry)| (name.clone(), retry.due)).collect()
    }

    /// Whether there is something to be tried again.
    pub(super) fn is_retry_due(&self) -> bool {
        let mut due = self.live.retries.iter().filter(|(_, retry)| retry.is_due());
        due.any(|(name, _)| is_missing(self.live.ports.get(name)))
    }

    /// Tries again what is due.
    pub(super) async fn retry_due(&mut self) {
        let ports = &self.live.ports;
        self.live
            .retries
            .retain(|name, retry| is_missing(ports.get(name)) || !retry.was_good());
        let due = self.live.retries.iter().filter(|(_, retry)| retry.is_due());
        let due = due.filter(|(name, _)| is_missing(self.live.ports.get(*name)));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.reattach_missing(|port| port.name == name).await;
            if is_missing(self.live.ports.get(&name)) {
                self.try_again_later(&name);
            }
        }
    }

    /// Makes again what of this extent is not there as it is wanted, and tells of it.
    ///
    /// # Errors
    /// Something is missing still. The rest was repaired all the same.
    pub(super) async fn repair(&mut self, extent: Extent<'_>, changes: &mut Changes) -> Result<(), ApiError> {
        let failed = self.repair_all(extent, changes).await;
        failed.into_iter().next().map_or(Ok(()), Err)
    }

    /// The same; gives why something is missing still.
    async fn repair_all(&mut self, extent: Extent<'_>, changes: &mut Changes) -> Vec<ApiError> {
        let mut failed = Vec::new();
        for drift in self.drift(extent).await {
            match self.mend(&drift).await {
                Ok(()) => drift.tell(changes),
                Err(error) => failed.push(error),
            }
        }
        failed
    }

    /// The same of a namespace alone.
    ///
    /// # Errors
    /// The kernel refused it.
    pub(super) async fn repair_namespace(&mut self, name: NsName, changes: &mut Changes) -> Result<(), ApiError> {
        let drift = self.lost_namespace(name);
        self.mend(&drift).await?;
        drift.tell(changes);
        Ok(())
    }

    fn lost_namespace(&self, name: NsName) -> Drift {
        let commands = self.store.state.lab.commands.iter();
        let commands = commands.filter(|command| command.namespace == name);
        let commands = commands.map(|command| command.name.clone()).collect();
        Drift::Namespace(name, commands)
    }

    async fn drift(&self, extent: Extent<'_>) -> Vec<Drift> {
        let mut drifts = Vec::new();
        let of_extent = |name: &NsName| match extent {
            Extent::Port(port) => self.store.port(port).is_some_and(|port| port.is_in(name)),
            Extent::Lab(_) => true,
            Extent::Part(lab) => namespaces(lab).contains(name),
        };
        // One that others made is theirs to make again, and is waited for.
        let ours = |name: &NsName| {
            self.store.state.namespaces.iter().any(|owned| owned.name == *name) || self.store.state.lab.asks_for(name)
        };
        let absent = absent_namespaces(self).into_iter();
        drifts.extend(
            absent
                .filter(|name| of_extent(name) && ours(name))
                .map(|name| self.lost_namespace(name)),
        );
        let names: HashSet<_> = match extent {
            Extent::Port(port) => [port].into(),
            Extent::Lab(lab) | Extent::Part(lab) => lab.ports.iter().map(|port| &port.name).collect(),
        };
        let ports = self
            .store
            .state
            .lab
            .ports
            .iter()
            .filter(|port| names.contains(&port.name));
        let ports: Vec<_> = ports.cloned().collect();
        let looking = stream::iter(ports).map(|port| async move { self.drift_of(&port).await });
        let of_ports: Vec<_> = looking.buffered(AT_ONCE).collect().await;
        drifts.extend(of_ports.into_iter().flatten());
        for cable in self.store.state.lab.cables.iter().filter(|one| extent.has_cable(one)) {
            drifts.extend(self.drift_of_cable(cable).await);
        }
        let mut links = self.lost_links();
        let namespaces = self.store.state.lab.namespaces.iter();
        for namespace in namespaces.filter(|one| !one.is_plain() && extent.has_namespace(&one.name)) {
            let mut what = self.drift_of_namespace(namespace).await;
            what.extend(links.remove(&namespace.name).unwrap_or_default());
            if !what.is_empty() {
                drifts.push(Drift::NamespaceSettings(namespace.clone(), what));
            }
        }
        for (name, what) in links.into_iter().filter(|(name, _)| of_extent(name)) {
            drifts.push(Drift::NamespaceSettings(LabNamespace::new(name), what));
        }
        let commands = self.store.state.lab.commands.iter();
        let failed = commands.filter(|one| extent.has_command(one) && self.processes.has_failed(one.name.as_str()));
        drifts.extend(failed.cloned().map(Drift::Command));
        if extent.has_outside() {
            let outside = self.drift_of_outside().await;
            if !outside.is_empty() {
                drifts.push(Drift::Outside(outside));
            }
        }
        drifts
    }

    async fn drift_of(&self, port: &Port) -> Option<Drift> {
        let Some(live) = self.live.ports.get(&port.name).filter(|live| live.id.is_some()) else {
            return Some(Drift::Missing(port.clone()));
        };
        match self.place_of(port, live).await {
            Ok(None) => Some(Drift::Missing(port.clone())),
            Ok(Some(place)) => {
                let mut what = lost_settings(Wanted::of_port(port), &place).await.unwrap_or_default();
                what.extend(self.lost_by_the_switch(port, live, &place).await.unwrap_or_default());
                (!what.is_empty()).then(|| Drift::Settings(port.clone(), what))
            }
            // It is somewhere out of reach, and carries what it carries.
            Err(error) => {
                tracing::debug!("can't look for drift: {error}");
                None
            }
        }
    }

    async fn mend(&mut self, drift: &Drift) -> Result<(), ApiError> {
        match drift {
            Drift::Namespace(name, _) => {
                self.add_namespaces(std::slice::from_ref(name)).await?;
                self.store.save()?;
                self.store.close_journal();
                Ok(())
            }
            Drift::NamespaceSettings(namespace, _) => {
                let given = self.give_again(namespace).await;
                self.settle_sysctls();
                self.store.close_journal();
                let lab = self.store.state.lab.clone();
                self.fit_names(&lab);
                given.and_then(|()| self.check_refused(&namespace.name))
            }
            Drift::Missing(port) => {
                self.lose(
                    |other| other.name == port.name,
                    "its interface is gone",
                    MissingAs::NoInterface,
                )
                .await;
                let devices = self.store.state.devices.clone();
                let sysctls = self.store.state.sysctls.clone();
                let attached = self.attach(port, Adopt::Yes).await;
                match &attached {
                    Ok(()) => self.tell_back(port),
                    Err(error) => self.still_missing(port, error),
                }
                self.keep_devices(&devices);
                if self.store.state.sysctls != sysctls {
                    self.keep_sysctls();
                }
                attached
            }
            Drift::Settings(port, _) => {
                let given = self.give_back_settings(port).await;
                self.look_inside(port).await;
                if let Some(place) = given? {
                    self.give_back_near_end(port, &place).await?;
                    self.has_settings_again(port).await;
                }
                Ok(())
            }
            Drift::Command(command) => {
                self.start_or_wait(Process::from(command));
                Ok(())
            }
            Drift::Outside(_) => self.fit_outside(&Outside::of(&self.store.state.lab)).await,
            Drift::Cable(cable) | Drift::CableSettings(cable, _) => self.attach_cable(cable, Adopt::Yes).await,
        }
    }

    /// Until it is in the file, the note has how a device was.
    pub(super) fn keep_devices(&mut self, before: &BTreeMap<IfName, DeviceBefore>) {
        if *before == self.store.state.devices {
            return;
        }
        match self.store.save() {
            Ok(()) => self.store.close_journal(),
            Err(error) => tracing::error!("the state file does not tell how a device was: {error}"),
        }
    }

    pub(super) fn tell_back(&self, port: &Port) {
        tracing::info!(port = %port.name, "port {}: back", port.name);
        if let Some(live) = self.live.ports.get(&port.name) {
            self.emit(EventKind::PortState {
                port: port.name.clone(),
                state: live.state,
                reason: live.reason.clone(),
            });
        }
    }

    /// MAC address, MTU, up, addresses and routes as the settings have them. Gives where the interface is, if it is there.
    pub(super) async fn give_back_settings(&mut self, port: &Port) -> Result<Option<Place>, ApiError> {
        let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
        let Some(live) = self.live.ports.get(&port.name) else {
            return Ok(None);
        };
        let near = live.near;
        let Some(place) = self.place_of(port, live).await.map_err(failed)? else {
            return Ok(None);
        };
        let nl = place.netns.netlink().await.map_err(failed)?;
        if port.kind.has_stack() {
            let refused = configure(&nl, &place.link, port, Adopt::Yes).await.map_err(failed)?;
            if let Some(refused) = refused.into_iter().next() {
                return Err(failed(refused.error));
            }
            if let Some(live) = self.live.ports.get_mut(&port.name) {
                live.mac = Some(mac(port));
            }
        } else if let Some(mtu) = wanted_mtu(port) {
            nl.set_mtu(place.link.index, mtu).await.map_err(failed)?;
        }
        if facts(port.kind).taken_over {
            nl.set_up_or_down(place.link.index, port.up).await.map_err(failed)?;
            let io = self.live.ports.get(&port.name).and_then(|live| live.id);
            let io = io.and_then(|id| self.datapath.io::<BackEnd>(id));
            if io.is_some_and(|io| io.shadow().is_some()) {
                nl.set_promiscuous(place.link.index, true).await.map_err(failed)?;
            }
        }
        if let Some(mtu) = wanted_mtu(port) {
            if let Some(near) = near {
                let own = self.host.own.netlink().await.map_err(failed)?;
                own.set_mtu(near, mtu).await.map_err(failed)?;
            }
            if let Some(live) = self.live.ports.get_mut(&port.name) {
                live.mtu = mtu;
            }
            self.update_in_datapath(port);
        }
        Ok(Some(place))
    }

    async fn drift_of_cable(&self, cable: &Cable) -> Option<Drift> {
        let mut what = Vec::new();
        for (end, found) in [&cable.a, &cable.b].into_iter().zip(self.ends_of(cable).await) {
            match found {
                Ok(None) => return Some(Drift::Cable(cable.clone())),
                Ok(Some(place)) => {
                    let lost = lost_settings(Wanted::of_end(cable, end), &place).await;
                    let at = |what: Lost| format!("{what} in namespace {}", end.namespace);
                    what.extend(lost.unwrap_or_default().into_iter().map(at));
                }
                // What can't be looked at has not gone for that.
                Err(error) => tracing::debug!("can't look for drift: {error}"),
            }
        }
        (!what.is_empty()).then(|| Drift::CableSettings(cable.clone(), what))
    }

    /// A cable could not be laid. Of a namespace that is not there it is told when it comes; for all else, be it want of something or an
    /// interface in the way that is about to go with another namespace, it is tried again soon.
    pub(super) fn note_unlaid(&mut self, cable: &Cable, error: &ApiError) {
        if error.code != ErrorCode::NotFound {
            self.note_cut(cable);
        }
    }

    /// An end of a cable is gone: it is to be laid again.
    pub(super) fn note_cut(&mut self, cable: &Cable) {
        if !self.live.unlaid.contains(cable) {
            self.live.unlaid.push(cable.clone());
        }
    }

    /// Finds the cables of which an end is gone, if one may be: they are laid again.
    pub(super) async fn look_at_cables(&mut self) {
        if !std::mem::take(&mut self.live.cables_unsure) {
            return;
        }
        for cable in self.store.state.lab.cables.clone() {
            if !self.live.unlaid.contains(&cable) && matches!(self.drift_of_cable(&cable).await, Some(Drift::Cable(_)))
            {
                tracing::warn!("{}: an end of it is gone", text::cable(&cable));
                self.live.unlaid.push(cable);
            }
        }
    }

    /// Tries the cables again that could not be laid.
    pub(super) async fn lay_again(&mut self) {
        for cable in std::mem::take(&mut self.live.unlaid) {
            if !self.store.state.lab.cables.contains(&cable) {
                continue;
            }
            match self.attach_cable(&cable, Adopt::Yes).await {
                Ok(()) => tracing::info!("{}: it is there again", text::cable(&cable)),
                Err(error) => self.note_unlaid(&cable, &error),
            }
        }
    }
}

fn is_missing(live: Option<&LivePort>) -> bool {
    live.is_some_and(|live| live.state == PortState::Missing)
}
