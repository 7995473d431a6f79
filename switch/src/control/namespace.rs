//! Namespaces: those that vswitch makes, and those that it finds.

use nix::errno::Errno;
use vswitch_api::{ApiError, EventKind, NsName};

use super::state::OwnedNamespace;
use super::{Inner, text};
use crate::kernel::{KernelError, NamedNamespaces, NetNs};

/// Whether there is a namespace of that name now.
pub(super) fn is_present(named: &NamedNamespaces, name: &NsName) -> bool {
    matches!(named.open(name), Ok(Some(_)))
}

/// The namespace of that name.
pub(super) fn open(named: &NamedNamespaces, name: &NsName) -> Result<NetNs, ApiError> {
    match named.open(name) {
        Ok(Some(netns)) => Ok(netns),
        Ok(None) => Err(text::no_namespace(name)),
        Err(error) => Err(text::kernel(text::namespace(name), &error)),
    }
}

impl Inner {
    /// A namespace that vswitch made was removed by somebody else. One of the same name that is made later is theirs.
    pub(super) fn forget_identity(&mut self, name: &NsName) {
        // Made again by now, and perhaps by ourselves; or it can't be told, and then it must not be left behind.
        if !matches!(self.find_namespace(name), Ok(None)) {
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
        is_present(&self.named, name)
    }

    /// Whether there is a namespace of that name now, and it is the one that vswitch made.
    ///
    /// # Errors
    /// What has this name can't be opened, so that it can't be told.
    pub(super) fn namespace_owned(&self, name: &NsName) -> Result<bool, KernelError> {
        let Some(owned) = self.state.namespaces.iter().find(|owned| owned.name == *name) else {
            return Ok(false);
        };
        match self.find_namespace(name)? {
            Some(netns) => owned.is(&netns, &self.boot_id),
            None => Ok(false),
        }
    }

    /// The namespace of that name; none if nothing has this name, or only a file that is no namespace.
    ///
    /// # Errors
    /// What has this name can't be opened.
    pub(super) fn find_namespace(&self, name: &NsName) -> Result<Option<NetNs>, KernelError> {
        match self.named.open(name) {
            Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(None),
            found => found,
        }
    }

    /// The namespace of that name.
    pub(super) fn open_namespace(&self, name: &NsName) -> Result<NetNs, ApiError> {
        open(&self.named, name)
    }

    /// Makes a namespace that is then vswitch's own.
    pub(super) async fn add_namespace(&mut self, name: &NsName) -> Result<(), ApiError> {
        let object = || text::namespace(name);
        let failed = |error: KernelError| text::kernel(object(), &error);
        let netns = self.named.create(name).await.map_err(failed)?;
        let noted = OwnedNamespace::new(name.clone(), &netns, &self.boot_id).map_err(failed);
        let noted = noted.and_then(|owned| match self.journal.add_namespace(&owned) {
            Ok(()) => Ok(owned),
            Err(error) => Err(text::step(object(), "note that it was made", &error)
                .hint("see that the run directory can be written and has room")),
        });
        let owned = noted.inspect_err(|_| {
            if let Err(error) = self.named.delete(name) {
                tracing::error!("can't undo a step of a failed command: {error}");
            }
        })?;
        self.state.namespaces.retain(|owned| owned.name != *name);
        self.state.namespaces.push(owned);
        self.emit(EventKind::NamespaceAdded {
            namespace: name.clone(),
        });
        Ok(())
    }

    /// Removes a namespace that vswitch made; one that is gone already is removed enough.
    pub(super) fn remove_namespace(&mut self, name: &NsName) -> Result<(), ApiError> {
        let failed = |error: KernelError| text::kernel(text::namespace(name), &error);
        if self.namespace_owned(name).map_err(failed)? {
            self.named.delete(name).map_err(failed)?;
            self.emit(EventKind::NamespaceRemoved {
                namespace: name.clone(),
            });
        }
        self.state.namespaces.retain(|owned| owned.name != *name);
        Ok(())
    }
}
