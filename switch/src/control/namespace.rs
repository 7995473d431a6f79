//! Namespaces: those that vswitch makes, and those that it finds.

use std::collections::BTreeSet;

use vswitch_api::{ApiError, EventKind, NsName};

use super::plan::namespaces;
use super::state::OwnedNamespace;
use super::{Inner, text};
use vswitch_linux::{KernelError, NamedNamespaces, NetNs, Presence};

/// Namespaces that are made together, with one note of all.
pub(super) const NAMESPACES_AT_ONCE: usize = 256;

/// Whether something has that name now, so that no namespace can be made under it: also what can't be told of, and what leads to a
/// namespace that is not for ports.
pub(super) fn is_present(named: &NamedNamespaces, name: &NsName) -> bool {
    !named.open(name).is_gone()
}

/// Namespaces that must not get ports: with a link of the name that leads to a process whose number was used again, an interface with
/// an address would come up in the host.
pub(super) struct Reserved<'a> {
    /// The one that the daemon was started in.
    pub home: &'a NetNs,
    /// The one of the near ends.
    pub own: &'a NetNs,
}

impl Reserved<'_> {
    /// What a namespace is if it is one of them.
    pub fn which(&self, netns: &NetNs) -> Option<&'static str> {
        match netns.id() {
            id if id == self.home.id() => Some("the namespace that vswitchd itself runs in"),
            id if id == self.own.id() => Some("the namespace of the switch's own ends of the ports"),
            _ => None,
        }
    }

    /// The namespace of that name, which ports may be in.
    pub fn open_other(&self, named: &NamedNamespaces, name: &NsName) -> Result<NetNs, ApiError> {
        match named.open(name) {
            Presence::Here(netns) => match self.which(&netns) {
                None => Ok(netns),
                Some(which) => Err(
                    text::conflict(text::namespace(name), format!("its name leads to {which}")).hint(format!(
                        "remove {}, or use another name; `--type internal` gives the host itself a port",
                        named.path(name).display()
                    )),
                ),
            },
            Presence::Gone => Err(text::no_namespace(name)),
            Presence::Unknown(error) => Err(text::kernel(text::namespace(name), &error)),
        }
    }
}

impl Inner {
    /// A namespace that vswitch made was removed by somebody else. One of the same name that is made later is theirs.
    pub(super) fn forget_identity(&mut self, name: &NsName) {
        // Made again by now, and perhaps by ourselves; or it can't be told, and then it must not be left behind.
        if !self.look_namespace(name).is_gone() {
            return;
        }
        let mut owned = self.store.state.namespaces.iter_mut();
        let Some(owned) = owned.find(|owned| owned.name == *name) else {
            return;
        };
        owned.forget_identity();
        if let Err(error) = self.store.save() {
            tracing::error!("the state file does not tell that a namespace is gone: {error}");
        }
    }

    /// See [`is_present`].
    pub(super) fn namespace_present(&self, name: &NsName) -> bool {
        is_present(&self.host.named, name)
    }

    /// Whether there is a namespace of that name now, and it is the one that vswitch made.
    ///
    /// # Errors
    /// What has this name can't be opened, so that it can't be told.
    pub(super) fn namespace_owned(&self, name: &NsName) -> Result<bool, KernelError> {
        let Some(owned) = self.store.state.namespaces.iter().find(|owned| owned.name == *name) else {
            return Ok(false);
        };
        Ok(self.find_owned(owned)?.is_some())
    }

    /// A namespace that vswitch made, if it is there and has its name.
    ///
    /// # Errors
    /// What has this name can't be opened, so that it can't be told.
    pub(super) fn find_owned(&self, owned: &OwnedNamespace) -> Result<Option<NetNs>, KernelError> {
        match self.find_namespace(&owned.name)? {
            Some(netns) if owned.is(&netns, &self.host.boot_id)? => Ok(Some(netns)),
            _ => Ok(None),
        }
    }

    /// A look at the namespace of that name. One that is not for ports is none: nothing of ours is in there.
    fn look_namespace(&self, name: &NsName) -> Presence<NetNs> {
        match self.host.named.open(name) {
            Presence::Here(netns) if self.reserved().which(&netns).is_some() => Presence::Gone,
            found => found,
        }
    }

    /// The namespace of that name; none if nothing has this name, or only a file that is no namespace.
    ///
    /// # Errors
    /// What has this name can't be opened.
    pub(super) fn find_namespace(&self, name: &NsName) -> Result<Option<NetNs>, KernelError> {
        self.look_namespace(name).known()
    }

    /// The namespace of that name, which ports may be in.
    pub(super) fn open_namespace(&self, name: &NsName) -> Result<NetNs, ApiError> {
        self.reserved().open_other(&self.host.named, name)
    }

    pub(super) fn reserved(&self) -> Reserved<'_> {
        Reserved {
            home: &self.host.home,
            own: &self.host.own,
        }
    }

    /// Makes namespaces that are then vswitch's own, all or none. What they are is noted before they have names.
    pub(super) async fn add_namespaces(&mut self, names: &[NsName]) -> Result<(), ApiError> {
        let object = || match names {
            [name] => text::namespace(name),
            _ => format!("{} namespaces", names.len()),
        };
        let failed = |error: KernelError| text::kernel(object(), &error);
        let made = NetNs::make(names).await.map_err(failed)?;
        let of_state = |(name, netns): (&NsName, &NetNs)| OwnedNamespace::new(name.clone(), netns, &self.host.boot_id);
        let owned = names.iter().zip(&made).map(of_state).collect::<Result<Vec<_>, _>>();
        let owned = owned.map_err(failed)?;
        let noted = self.store.journal.add(|note| note.namespaces.extend_from_slice(&owned));
        noted.map_err(|error| {
            text::step(object(), "note that it is made", &error)
                .hint("see that the run directory can be written and has room")
        })?;
        for name in names.iter().filter(|name| self.is_ours_by_name(name)) {
            self.host.named.remove_unbound(name).map_err(failed)?;
        }
        let named = names.iter().cloned().zip(made).collect();
        self.host.named.add(named).await.map_err(failed)?;
        let again: BTreeSet<_> = names.iter().collect();
        self.store.state.namespaces.retain(|owned| !again.contains(&owned.name));
        self.store.state.namespaces.extend(owned);
        for name in names {
            self.emit(EventKind::NamespaceAdded {
                namespace: name.clone(),
            });
        }
        Ok(())
    }

    /// Whether vswitch made a namespace of that name once, so that an empty file there is what is left of it.
    fn is_ours_by_name(&self, name: &NsName) -> bool {
        self.store.state.namespaces.iter().any(|owned| owned.name == *name)
    }

    /// Another name of a namespace by which something of the lab is in it.
    fn other_name_in_use(&self, name: &NsName, netns: &NetNs) -> Option<NsName> {
        let needed = namespaces(&self.store.state.lab).into_iter();
        let mut others = needed.filter(|other| *other != name);
        let leads_there =
            |other: &&NsName| matches!(self.find_namespace(other), Ok(Some(found)) if found.id() == netns.id());
        others.find(leads_there).cloned()
    }

    /// Removes a namespace that vswitch made; one that is gone already is removed enough.
    pub(super) fn remove_namespace(&mut self, owned: &OwnedNamespace) -> Result<(), KernelError> {
        let name = &owned.name;
        if let Some(netns) = self.find_owned(owned)? {
            if let Some(other) = self.other_name_in_use(name, &netns) {
                tracing::info!("namespace {name} stays as long as it is in use by the name {other}");
                if !self.store.unremoved.namespaces.contains(owned) {
                    self.store.unremoved.namespaces.push(owned.clone());
                }
                self.store.state.namespaces.retain(|owned| owned.name != *name);
                return Ok(());
            }
            self.host.named.delete_this(name, &netns)?;
            self.emit(EventKind::NamespaceRemoved {
                namespace: name.clone(),
            });
        } else if self.host.named.open(name).is_gone() {
            // Killed before it was bound, or after it was unbound.
            self.host.named.remove_unbound(name)?;
        }
        self.store.state.namespaces.retain(|owned| owned.name != *name);
        self.store.unremoved.namespaces.retain(|owned| owned.name != *name);
        Ok(())
    }
}
