//! Repairs that come with an edit: of what, and what is told of them.

use vswitch_api::request::PortPatch;
use vswitch_api::view::{Changes, Lack};
use vswitch_api::{ApiError, Cable, Command, Lab, NsName, Port, PortKind, PortName};
use vswitch_linux::NetNs;

use super::{Drift, Extent, is_missing};
use crate::control::Inner;
use crate::control::condition::{Editing, Subject};
use crate::control::gateway::Outside;
use crate::control::in_use::no_device;
use crate::control::interface::taken;
use crate::control::kinds::ifname;
use crate::control::lacks::Lost;
use crate::control::plan::{Step, namespaces};
use crate::control::published::Held;

/// Settings that somebody inside may take from the interface.
const LOST_INSIDE: [&str; 4] = ["addresses", "routes", "mac", "mtu"];

impl Extent<'_> {
    pub(super) fn has_cable(self, cable: &Cable) -> bool {
        match self {
            Self::Port(_) => false,
            Self::Lab(_) => true,
            Self::Part(lab) => lab.cables.iter().any(|one| one.is_same_pair(cable)),
        }
    }

    /// Whether the settings of a namespace are looked at.
    pub(super) fn has_namespace(self, name: &NsName) -> bool {
        match self {
            Self::Port(_) => false,
            Self::Lab(_) => true,
            Self::Part(lab) => namespaces(lab).contains(name),
        }
    }

    pub(super) fn has_command(self, command: &Command) -> bool {
        match self {
            Self::Port(_) => false,
            Self::Lab(_) => true,
            Self::Part(lab) => lab.commands.iter().any(|one| one.name == command.name),
        }
    }

    pub(super) fn has_outside(self) -> bool {
        match self {
            Self::Port(_) => false,
            Self::Lab(_) => true,
            Self::Part(lab) => Outside::of(lab) != Outside::default(),
        }
    }
}

impl Inner {
    /// Repairs after an edit that is done: what is missing still does not undo that, so it is told as a warning.
    ///
    /// # Errors
    /// Something is missing still, and nothing else was done that would have to be told.
    pub(in crate::control) async fn repair_after(
        &mut self,
        extent: Extent<'_>,
        changes: &mut Changes,
    ) -> Result<(), ApiError> {
        let failed = self.repair_all(extent, changes).await;
        tell_failed(failed, changes)
    }

    /// Gives a port back what somebody took from it inside, after an edit that names such settings; of a dry run `steps` tells what it would
    /// do. One that is missing as a whole is made again when it can be.
    ///
    /// # Errors
    /// See [`Self::repair_after`].
    pub(in crate::control) async fn give_back_after(
        &mut self,
        name: &PortName,
        options: &Editing,
        steps: &[Step],
        changes: &mut Changes,
    ) -> Result<(), ApiError> {
        if is_missing(self.live.ports.get(name)) {
            return Ok(());
        }
        if options.dry_run {
            return self.describe_repair(Extent::Port(name), steps, changes).await;
        }
        self.repair_after(Extent::Port(name), changes).await
    }

    /// Whether somebody took this from the interface of a port inside.
    pub(in crate::control) async fn has_lost(&self, name: &PortName, lack: Lack) -> bool {
        let Some(port) = self.store.port(name) else {
            return false;
        };
        matches!(self.drift_of(port).await, Some(Drift::Settings(_, lost)) if lost.contains(&Lost::Inside(lack)))
    }

    /// The same of a dry run: what a repair would do after these steps.
    ///
    /// # Errors
    /// As of the repair itself, as far as that is seen before.
    pub(in crate::control) async fn describe_repair(
        &self,
        extent: Extent<'_>,
        steps: &[Step],
        changes: &mut Changes,
    ) -> Result<(), ApiError> {
        let failed = self.foretell_repair(extent, steps, changes).await;
        tell_failed(failed, changes)
    }

    /// What a repair would do after these steps; gives why something would be missing still.
    pub(in crate::control) async fn foretell_repair(
        &self,
        extent: Extent<'_>,
        steps: &[Step],
        changes: &mut Changes,
    ) -> Vec<ApiError> {
        let (mut made, mut failed) = (Vec::new(), Vec::new());
        for drift in self.drift(extent).await {
            let Some(drift) = self.drift_after(drift, steps).await else {
                continue;
            };
            match &drift {
                Drift::Namespace(name, _) => made.push(name.clone()),
                // It stands in a namespace that others are to make again.
                Drift::Missing(port) if !port.named_namespace().is_some_and(|name| made.contains(name)) => {
                    if let Err(error) = self.find_room_for(port).await {
                        failed.push(error);
                        continue;
                    }
                }
                _ => {}
            }
            drift.tell(changes);
        }
        failed
    }

    /// Looks whether the interface of a port that is missing could be made, or taken over, where it is to be.
    ///
    /// # Errors
    /// Its namespace or device is not there; another interface has the name of its own.
    async fn find_room_for(&self, port: &Port) -> Result<(), ApiError> {
        let netns = self.netns_of(port)?;
        let find = |netns: &NetNs, name: String| {
            let netns = netns.clone();
            async move { netns.netlink().await?.link_by_name(&name).await }
        };
        let there = find(&netns, ifname(port).to_string()).await;
        // A near end leads to an interface of its own.
        let near = find(&self.host.own, port.name.to_string()).await;
        match (port.kind, there, near) {
            (PortKind::Device, Ok(None), _) => Err(no_device(port)),
            (PortKind::Veth, Ok(Some(_)), Ok(None)) => Err(taken(port)),
            // What can't be looked at is not known to be in the way.
            _ => Ok(()),
        }
    }

    /// What is left of it after these steps.
    async fn drift_after(&self, drift: Drift, steps: &[Step]) -> Option<Drift> {
        if steps.iter().any(|step| drift.is_settled_by(step)) {
            return None;
        }
        let Drift::Settings(port, mut lost) = drift else {
            return Some(drift);
        };
        let changed = steps.iter().find_map(|step| match step {
            Step::ChangePort { before, after } if before.name == port.name => Some((before, after)),
            _ => None,
        });
        if let Some((before, after)) = changed {
            // What it is to have before and after, and has not. The MTU of either end comes with a new one.
            let Some(Drift::Settings(_, lost_after)) = self.drift_of(after).await else {
                return None;
            };
            let is_set = |what: &Lost| before.mtu != after.mtu && matches!(what, Lost::Mtu(_) | Lost::NearMtu);
            lost.retain(|what| lost_after.contains(what) && !is_set(what));
        }
        (!lost.is_empty()).then_some(Drift::Settings(port, lost))
    }
}

/// Whether settings are named that somebody inside may take from the interface.
pub(in crate::control) fn is_of_inside(patch: &PortPatch) -> bool {
    LOST_INSIDE.iter().any(|key| patch.0.get(key).is_some())
}

impl Held<'_> {
    /// An edit that sets these ports up, which is the way to say: look again whether they are back. What can't be up is not set up.
    ///
    /// # Errors
    /// One is missing still, or what the edit refuses; with what was repaired all the same.
    pub(in crate::control) async fn edit_and_open(
        &mut self,
        names: &[&PortName],
        subject: Subject<'_>,
        options: &Editing,
        change: impl FnOnce(&Inner, &mut Lab) -> Result<(), ApiError>,
    ) -> Result<Changes, ApiError> {
        self.store.check_condition(subject, options.if_match.as_deref())?;
        let mut repaired = Changes::default();
        for name in names {
            if self.store.port(name).is_none() {
                continue;
            }
            let extent = Extent::Port(name);
            if options.dry_run {
                let failed = self.foretell_repair(extent, &[], &mut repaired).await;
                failed.into_iter().next().map_or(Ok(()), Err)?;
            } else if let Err(error) = self.repair(extent, &mut repaired).await {
                return Err(with_repaired(error, &repaired));
            }
        }
        let edited = self.edit(subject, options, change).await;
        let (mut changes, _) = edited.map_err(|error| with_repaired(error, &repaired))?;
        if !options.dry_run {
            for name in names {
                self.open(name).await;
            }
        }
        changes.done.splice(0..0, repaired.done);
        changes.changes.splice(0..0, repaired.changes);
        changes.warnings.splice(0..0, repaired.warnings);
        Ok(changes)
    }
}

/// An error of an edit before which this was repaired.
fn with_repaired(error: ApiError, repaired: &Changes) -> ApiError {
    if repaired.done.is_empty() {
        return error;
    }
    let cause = format!(
        "{}; what was done before stays: {}",
        error.cause,
        repaired.done.join(", ")
    );
    ApiError { cause, ..error }
}

/// What is missing still does not undo what is done.
///
/// # Errors
/// Nothing is done that would have to be told.
fn tell_failed(failed: Vec<ApiError>, changes: &mut Changes) -> Result<(), ApiError> {
    if changes.done.is_empty() {
        return failed.into_iter().next().map_or(Ok(()), Err);
    }
    changes.warnings.extend(failed.iter().map(not_repaired));
    Ok(())
}

/// As a warning beside what is done.
fn not_repaired(ApiError { object, cause, .. }: &ApiError) -> String {
    format!("{object} could not be repaired: {cause}; see to that and repeat the command")
}

impl Drift {
    /// Whether there is nothing to repair any more when the step is done.
    fn is_settled_by(&self, step: &Step) -> bool {
        match (self, step) {
            (Self::Namespace(name, _), Step::AddNamespace(other) | Step::RemoveNamespace(other)) => name == other,
            (Self::NamespaceSettings(namespace, _), Step::ChangeNamespace { after, .. }) => {
                namespace.name == after.name
            }
            (Self::NamespaceSettings(namespace, _), Step::RemoveNamespace(name)) => namespace.name == *name,
            (Self::Missing(port) | Self::Settings(port, _), Step::RemovePorts(ports)) => {
                ports.iter().any(|gone| gone.name == port.name)
            }
            (Self::Cable(cable) | Self::CableSettings(cable, _), Step::RemoveCable(gone)) => cable == gone,
            (Self::CableSettings(cable, _), Step::ChangeCable { before, .. }) => cable == &**before,
            (Self::Outside(_), Step::ChangeOutside { .. }) => true,
            _ => false,
        }
    }
}
