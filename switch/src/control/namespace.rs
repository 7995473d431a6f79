//! Namespaces: those that vswitch makes, and those that it finds.

use std::collections::{BTreeMap, BTreeSet};

use vswitch_api::{ApiError, EventKind, Lab, NsName};

use super::plan::namespaces;
use super::state::OwnedNamespace;
use super::{Inner, text};
use vswitch_linux::{KernelError, NamedNamespaces, NetNs, NetNsId, Presence};

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

/// A namespace that vswitch made, if it is there and has its name; an error if it can't be told.
type FoundOwned = Result<Option<NetNs>, KernelError>;

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
        self.if_ours(owned, self.find_namespace(&owned.name)?)
    }

    fn if_ours(&self, owned: &OwnedNamespace, found: Option<NetNs>) -> Result<Option<NetNs>, KernelError> {
        match found {
            Some(netns) if owned.is(&netns, &self.host.boot_id)? => Ok(Some(netns)),
            _ => Ok(None),
        }
    }

    /// [`Inner::find_owned`] of several, which are asked on few threads what they are. All are open meanwhile.
    async fn find_several_owned<'a>(&self, some: &'a [OwnedNamespace]) -> Vec<(&'a OwnedNamespace, FoundOwned)> {
        let found: Vec<_> = some.iter().map(|owned| self.find_namespace(&owned.name)).collect();
        let netns: Vec<_> = found.iter().flatten().flatten().cloned().collect();
        if let Err(error) = NetNs::learn_cookies(&netns).await {
            tracing::debug!("namespaces are asked one by one what they are: {error}");
        }
        let ours = found
            .into_iter()
            .zip(some)
            .map(|(found, owned)| (owned, found.and_then(|netns| self.if_ours(owned, netns))));
        ours.collect()
    }

    /// The namespaces that the lab of today needs, `after` does not, and vswitch made: they go. One of which it can't be told is not
    /// passed over in silence: the step that removes it says why it can't.
    pub(super) async fn owned_that_go(&self, after: &Lab) -> BTreeSet<NsName> {
        let all: Vec<_> = {
            let (before, after) = (namespaces(&self.store.state.lab), namespaces(after));
            let going = |owned: &&OwnedNamespace| before.contains(&owned.name) && !after.contains(&owned.name);
            self.store.state.namespaces.iter().filter(going).cloned().collect()
        };
        let mut ours = BTreeSet::new();
        for some in all.chunks(NAMESPACES_AT_ONCE) {
            let found = self.find_several_owned(some).await.into_iter();
            let there = found.filter(|(_, found)| !matches!(found, Ok(None)));
            ours.extend(there.map(|(owned, _)| owned.name.clone()));
        }
        ours
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
        let added = self.host.named.add(named).await;
        added.map_err(|error| match error.is_exists() {
            true => self.made_meanwhile(names).unwrap_or_else(|| failed(error)),
            false => failed(error),
        })?;
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

    /// A name was free when it was looked up, and is not any more. Once more it is done with what somebody else has made.
    fn made_meanwhile(&self, names: &[NsName]) -> Option<ApiError> {
        if let Some(made) = names.iter().find(|name| self.namespace_present(name)) {
            let cause = "somebody else has made it just now";
            return Some(text::conflict(text::namespace(made), cause).hint("try again"));
        }
        let file = |name: &NsName| self.host.named.path(name);
        let name = names.iter().find(|name| file(name).symlink_metadata().is_ok())?;
        let cause = format!(
            "there is a file {} already, which is no namespace",
            file(name).display()
        );
        Some(
            text::conflict(text::namespace(name), cause)
                .hint("try again, as somebody may just be making it; else remove the file"),
        )
    }

    /// Whether vswitch made a namespace of that name once, so that an empty file there is what is left of it.
    fn is_ours_by_name(&self, name: &NsName) -> bool {
        self.store.state.namespaces.iter().any(|owned| owned.name == *name)
    }

    /// What vswitch made under these names, also what is to go already.
    pub(super) fn owned_of(&self, names: &[NsName]) -> Vec<OwnedNamespace> {
        let names: BTreeSet<_> = names.iter().collect();
        let (kept, going) = (&self.store.state.namespaces, &self.store.unremoved.namespaces);
        let all = kept.iter().chain(going);
        all.filter(|owned| names.contains(&owned.name)).cloned().collect()
    }

    /// The names that the lab needs, by the namespaces that they lead to.
    fn names_in_use(&self) -> BTreeMap<NetNsId, Vec<NsName>> {
        let mut names = BTreeMap::<_, Vec<_>>::new();
        for name in namespaces(&self.store.state.lab) {
            if let Ok(Some(netns)) = self.find_namespace(name) {
                names.entry(netns.id()).or_default().push(name.clone());
            }
        }
        names
    }

    /// Removes namespaces that vswitch made; one that is gone already is removed enough. What can't be removed is given back.
    pub(super) async fn remove_namespaces(&mut self, all: Vec<OwnedNamespace>) -> Vec<(OwnedNamespace, KernelError)> {
        let in_use = if all.is_empty() {
            BTreeMap::new()
        } else {
            self.names_in_use()
        };
        let mut failed = Vec::new();
        // Each is open meanwhile.
        for some in all.chunks(NAMESPACES_AT_ONCE) {
            failed.extend(self.remove_some_namespaces(some, &in_use).await);
            self.shown.pulse.beat();
        }
        failed
    }

    async fn remove_some_namespaces(
        &mut self,
        some: &[OwnedNamespace],
        in_use: &BTreeMap<NetNsId, Vec<NsName>>,
    ) -> Vec<(OwnedNamespace, KernelError)> {
        let (mut failed, mut done) = (Vec::new(), Vec::new());
        let (mut going, mut names) = (Vec::new(), Vec::new());
        for (owned, found) in self.find_several_owned(some).await {
            match found {
                Ok(Some(netns)) => {
                    let others = in_use.get(&netns.id()).into_iter().flatten();
                    if let Some(other) = others.clone().find(|other| **other != owned.name) {
                        let name = &owned.name;
                        tracing::info!("namespace {name} stays as long as it is in use by the name {other}");
                        self.keep_for_later(owned);
                        continue;
                    }
                    going.push(owned);
                    names.push((owned.name.clone(), netns));
                }
                Ok(None) => match self.remove_what_was_bound(&owned.name) {
                    Ok(()) => done.push(owned),
                    Err(error) => failed.push((owned.clone(), error)),
                },
                Err(error) => failed.push((owned.clone(), error)),
            }
        }
        let deleted = self.host.named.delete_many(&names).await;
        for (owned, deleted) in going.into_iter().zip(deleted) {
            match deleted {
                Ok(()) => {
                    self.emit(EventKind::NamespaceRemoved {
                        namespace: owned.name.clone(),
                    });
                    done.push(owned);
                }
                Err(error) => failed.push((owned.clone(), error)),
            }
        }
        let done: BTreeSet<_> = done.into_iter().map(|owned| &owned.name).collect();
        self.store.state.namespaces.retain(|owned| !done.contains(&owned.name));
        let unremoved = &mut self.store.unremoved.namespaces;
        unremoved.retain(|owned| !done.contains(&owned.name));
        failed
    }

    /// Killed before it was bound, or after it was unbound.
    fn remove_what_was_bound(&self, name: &NsName) -> Result<(), KernelError> {
        if self.host.named.open(name).is_gone() {
            self.host.named.remove_unbound(name)?;
        }
        Ok(())
    }

    /// A namespace that is in use by another name goes when that one does.
    fn keep_for_later(&mut self, owned: &OwnedNamespace) {
        if !self.store.unremoved.namespaces.contains(owned) {
            self.store.unremoved.namespaces.push(owned.clone());
        }
        self.store.state.namespaces.retain(|other| other.name != owned.name);
    }
}
