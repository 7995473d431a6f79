//! Namespaces: those that vswitch makes, and those that it finds.

use vswitch_api::{ApiError, EventKind, NsName};

use super::state::OwnedNamespace;
use super::{Inner, text};
use crate::kernel::NetNs;

impl Inner {
    /// A namespace that vswitch made was removed by somebody else. One of the same name that is made later is theirs.
    pub(super) fn forget_identity(&mut self, name: &NsName) {
        // Made again by now, and perhaps by ourselves.
        if self.namespace_present(name) {
            return;
        }
        let mut owned = self.state.namespaces.iter_mut();
        let Some(owned) = owned.find(|owned| owned.name == *name) else {
            return;
        };
        owned.forget_identity();
        if let Err(error) = self.save() {
            tracing::error!("the state file does not tell that a namespace is gone: {error}");
        }
    }

    /// Whether there is a namespace of that name now.
    pub(super) fn namespace_present(&self, name: &NsName) -> bool {
        matches!(self.named.open(name), Ok(Some(_)))
    }

    /// Whether there is a namespace of that name now, and it is the one that vswitch made.
    pub(super) fn namespace_owned(&self, name: &NsName) -> bool {
        let Ok(Some(netns)) = self.named.open(name) else {
            return false;
        };
        let mut owned = self.state.namespaces.iter().filter(|owned| owned.name == *name);
        owned.any(|owned| owned.is(&netns, &self.boot_id))
    }

    /// The namespace of that name.
    pub(super) fn open_namespace(&self, name: &NsName) -> Result<NetNs, ApiError> {
        match self.named.open(name) {
            Ok(Some(netns)) => Ok(netns),
            Ok(None) => Err(text::no_namespace(name)),
            Err(error) => Err(text::kernel(text::namespace(name), &error)),
        }
    }

    /// Makes a namespace that is then vswitch's own.
    pub(super) async fn add_namespace(&mut self, name: &NsName) -> Result<(), ApiError> {
        let failed = |error: &_| text::kernel(text::namespace(name), error);
        let netns = self.named.create(name).await.map_err(|error| failed(&error))?;
        let owned = OwnedNamespace::new(name.clone(), &netns, &self.boot_id);
        if let Err(error) = self.journal.add_namespace(&owned) {
            if let Err(error) = self.named.delete(name) {
                tracing::error!("can't undo a step of a failed command: {error}");
            }
            return Err(text::step(text::namespace(name), "note that it was made", &error)
                .hint("see that the run directory can be written and has room"));
        }
        self.state.namespaces.retain(|owned| owned.name != *name);
        self.state.namespaces.push(owned);
        self.emit(EventKind::NamespaceAdded {
            namespace: name.clone(),
        });
        Ok(())
    }

    /// Removes a namespace that vswitch made; one that is gone already is removed enough.
    pub(super) fn remove_namespace(&mut self, name: &NsName) -> Result<(), ApiError> {
        if self.namespace_owned(name) {
            self.named
                .delete(name)
                .map_err(|error| text::kernel(text::namespace(name), &error))?;
            self.emit(EventKind::NamespaceRemoved {
                namespace: name.clone(),
            });
        }
        self.state.namespaces.retain(|owned| owned.name != *name);
        Ok(())
    }
}
