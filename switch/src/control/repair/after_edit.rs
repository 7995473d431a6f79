//! Repairs that come with an edit: of what, and what is told of them.

use vswitch_api::view::{Changes, Lack};
use vswitch_api::{ApiError, Cable, Command, NsName, PortName};

use super::{Drift, Extent, is_missing};
use crate::control::Inner;
use crate::control::condition::Editing;
use crate::control::gateway::Outside;
use crate::control::lacks::Lost;
use crate::control::plan::{Step, namespaces};

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
        let mut failed = self.repair_all(extent, changes).await;
        if changes.done.is_empty() && !failed.is_empty() {
            return Err(failed.swap_remove(0));
        }
        changes.warnings.extend(failed.iter().map(not_repaired));
        Ok(())
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
            self.describe_repair(Extent::Port(name), steps, changes).await;
            return Ok(());
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

    /// What a repair would do after these steps, and what it could not.
    pub(in crate::control) async fn describe_repair(&self, extent: Extent<'_>, steps: &[Step], changes: &mut Changes) {
        let mut made = Vec::new();
        for drift in self.drift(extent).await {
            let Some(drift) = self.drift_after(drift, steps).await else {
                continue;
            };
            match &drift {
                Drift::Namespace(name, _) => made.push(name.clone()),
                // It stands in a namespace that others are to make again.
                Drift::Missing(port) if !port.named_namespace().is_some_and(|name| made.contains(name)) => {
                    if let Err(error) = self.netns_of(port) {
                        changes.warnings.push(not_repaired(&error));
                        continue;
                    }
                }
                _ => {}
            }
            drift.tell(changes);
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
