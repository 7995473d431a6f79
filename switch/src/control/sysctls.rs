//! Settings of the kernel in namespaces, and files that their commands see: given, taken back, and given again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};
use vswitch_api::lab_namespace::{LabNamespace, SysctlKey};
use vswitch_api::{ApiError, NsName, Port};

use super::state::OwnedNamespace;
use super::{Inner, proc_sys, text};
use vswitch_linux::{KernelError, NetNs};

/// What settings of a namespace were before they were changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SysctlsBefore {
    /// What tells the namespace from others of its name.
    of: OwnedNamespace,
    /// None at all: a command under way has just given all back.
    values: BTreeMap<SysctlKey, String>,
}

/// By namespace.
pub(super) type AllBefore = BTreeMap<NsName, SysctlsBefore>;

impl Inner {
    /// Has a namespace have what `after` says, and no more what only `before` said. What is not there gets it when it comes.
    ///
    /// # Errors
    /// There is no such setting, or the kernel refuses the value; a file is not ours. Some may be changed: the caller carries out the
    /// inverse.
    pub(super) async fn set_namespace(&mut self, before: &LabNamespace, after: &LabNamespace) -> Result<(), ApiError> {
        if before.files != after.files {
            self.etc.set(&after.name, &after.files)?;
        }
        self.set_sysctls(before, after).await
    }

    async fn set_sysctls(&mut self, before: &LabNamespace, after: &LabNamespace) -> Result<(), ApiError> {
        let name = &after.name;
        let failed = |error: KernelError| text::kernel(text::namespace(name), &error);
        if before.sysctls.is_empty() && after.sysctls.is_empty() {
            return Ok(());
        }
        let Some(netns) = self.find_namespace(name).map_err(failed)? else {
            return Ok(());
        };
        let boot_id = self.host.boot_id.clone();
        let known = self
            .store
            .state
            .sysctls
            .get(name)
            .filter(|known| known.of.is(&netns, &boot_id).unwrap_or(false));
        let mut known = match known {
            Some(known) => known.clone(),
            None => SysctlsBefore {
                of: OwnedNamespace::new(name.clone(), &netns, &boot_id).map_err(failed)?,
                values: BTreeMap::new(),
            },
        };
        let mut writes = Vec::new();
        for (key, value) in &after.sysctls {
            let now = match read(&netns, key).await.map_err(failed)? {
                Ok(now) => now,
                Err(error) => return Err(refused(name, key, "read it", &error)),
            };
            if !value.is(&now) {
                known.values.entry(key.clone()).or_insert(now);
                writes.push((key.clone(), value.to_string()));
            }
        }
        let gone = before.sysctls.keys().filter(|key| !after.sysctls.contains_key(*key));
        let mut back = Vec::new();
        for key in gone {
            back.extend(known.values.remove(key).map(|value| (key.clone(), value)));
        }
        // Noted before it is changed, for the daemon after one that is killed in between; what is known already is noted already.
        if !writes.is_empty() && self.store.state.sysctls.get(name) != Some(&known) {
            let note = known.clone();
            let noted = self
                .store
                .journal
                .add(|all| drop(all.sysctls.insert(name.clone(), note)));
            noted.map_err(|error| {
                text::step(text::namespace(name), "note how its settings were", &error)
                    .hint("see that the run directory can be written and has room")
            })?;
        }
        self.store.state.sysctls.remove(name);
        if !known.values.is_empty() || after.sysctls.is_empty() {
            self.store.state.sysctls.insert(name.clone(), known);
        }
        for (key, value) in writes {
            if let Err(error) = write(&netns, &key, value.clone()).await.map_err(failed)? {
                return Err(refused(name, &key, &format!("set it to {value}"), &error));
            }
        }
        for (key, value) in back {
            // Those of an interface that is gone went with it.
            if let Err(error) = write(&netns, &key, value).await.map_err(failed)? {
                tracing::debug!("setting {key} of namespace {name} stays as it is: {error}");
            }
        }
        Ok(())
    }

    /// Gives a namespace that was made anew, or by somebody else, what the lab says of it.
    pub(super) async fn settle_namespace(&mut self, name: &NsName) {
        let Some(after) = self
            .store
            .state
            .lab
            .namespace(name)
            .filter(|one| !one.is_plain())
            .cloned()
        else {
            return;
        };
        let after = self.what_is_there(after).await;
        if let Err(error) = self.set_namespace(&LabNamespace::new(name.clone()), &after).await {
            tracing::warn!("{error}");
        }
        self.settle_sysctls();
    }

    /// The interfaces of these ports were made, perhaps again: the kernel gives a new one the settings of its own choice, and the
    /// namespace gets those of the lab again.
    pub(super) async fn settle_interfaces(&mut self, ports: &[Port]) {
        // When all of a start are there it is done for all.
        if self.shown.attaching {
            return;
        }
        let names: BTreeSet<_> = ports.iter().filter_map(Port::named_namespace).collect();
        let mut is_known = true;
        for name in names {
            let wanted = self.store.state.lab.namespace(name);
            let Some(wanted) = wanted.filter(|one| !one.sysctls.is_empty()).cloned() else {
                continue;
            };
            let before = self.store.state.sysctls.get(name).cloned();
            // The command that adds the port has the lab leave the settings out.
            if before.as_ref().is_some_and(|known| known.values.is_empty()) {
                continue;
            }
            let wanted = self.what_is_there(wanted).await;
            if let Err(error) = self.set_sysctls(&LabNamespace::new(name.clone()), &wanted).await {
                tracing::warn!("{error}");
            }
            is_known &= self.store.state.sysctls.get(name) == before.as_ref();
        }
        // A command writes the state when it has come that far.
        if !is_known && self.shown.pulse.underway.progress().is_none() {
            self.keep_sysctls();
        }
    }

    /// Until it is in the file, the note has how settings were.
    pub(super) fn keep_sysctls(&mut self) {
        self.settle_sysctls();
        if self.store.unsaved.is_none() {
            self.store.close_journal();
        }
    }

    /// Without the settings of what is not there yet, which get their values when it comes.
    async fn what_is_there(&self, mut wanted: LabNamespace) -> LabNamespace {
        let Ok(Some(netns)) = self.find_namespace(&wanted.name) else {
            return wanted;
        };
        for key in wanted.sysctls.keys().cloned().collect::<Vec<_>>() {
            let now = read(&netns, &key).await;
            if matches!(now, Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound) {
                tracing::debug!("setting {key} of {}: there is none yet", text::namespace(&wanted.name));
                wanted.sysctls.remove(&key);
            }
        }
        wanted
    }

    /// Keeps what was noted of settings that the lab still has, and writes it down.
    pub(super) fn settle_sysctls(&mut self) {
        let before = self.store.state.sysctls.clone();
        let lab = &self.store.state.lab;
        let is_set =
            |name: &NsName, key: &SysctlKey| lab.namespace(name).is_some_and(|one| one.sysctls.contains_key(key));
        let mut kept = before.clone();
        kept.iter_mut()
            .for_each(|(name, known)| known.values.retain(|key, _| is_set(name, key)));
        kept.retain(|_, known| !known.values.is_empty());
        self.store.state.sysctls = kept;
        // What was added since the state was written is in the note of the command.
        if let Err(error) = self.store.save() {
            tracing::error!("the state file does not tell how settings were before: {error}");
        }
    }

    /// A daemon that starts: all namespaces have what the lab says, and nothing that it does not.
    pub(super) async fn bring_namespaces_back(&mut self, noted: AllBefore) {
        let lab = self.store.state.lab.clone();
        let wanted = |namespace: &str, file: &str| {
            let mut all = lab.namespaces.iter().filter(|one| one.name.as_str() == namespace);
            all.any(|one| one.files.keys().any(|path| path.as_str() == file))
        };
        if let Err(error) = self.etc.retain(wanted) {
            tracing::warn!("files below /etc/netns that are not wanted any more stay: {error}");
        }
        for (name, noted) in noted {
            // What the note knows and the file does not, since it was not written yet.
            let known = self.store.state.sysctls.entry(name).or_insert_with(|| noted.clone());
            if known.of == noted.of {
                for (key, value) in noted.values {
                    known.values.entry(key).or_insert(value);
                }
            }
        }
        let all: Vec<_> = self
            .store
            .state
            .sysctls
            .iter()
            .map(|(name, known)| (name.clone(), known.clone()))
            .collect();
        for (name, known) in all {
            let after = lab
                .namespace(&name)
                .cloned()
                .unwrap_or_else(|| LabNamespace::new(name.clone()));
            let going = known.values.iter().filter(|(key, _)| !after.sysctls.contains_key(*key));
            let mut before = after.clone();
            before
                .sysctls
                .extend(going.filter_map(|(key, value)| Some((key.clone(), value.parse().ok()?))));
            if before.sysctls != after.sysctls
                && let Err(error) = self.set_sysctls(&before, &after).await
            {
                tracing::warn!("settings that were half-done are not taken back: {error}");
            }
        }
        for namespace in lab.namespaces.iter().filter(|one| !one.is_plain()) {
            if let Err(error) = self
                .set_namespace(&LabNamespace::new(namespace.name.clone()), namespace)
                .await
            {
                tracing::warn!("{error}");
            }
        }
        self.store.state.sysctls.retain(|_, known| !known.values.is_empty());
    }

    /// What a namespace has not as the lab says, in words.
    pub(super) async fn drift_of_namespace(&self, namespace: &LabNamespace) -> Vec<String> {
        let lost = self.etc.lost(&namespace.name, &namespace.files);
        let mut lost: Vec<_> = lost.iter().map(|file| format!("its file {file}")).collect();
        let Ok(Some(netns)) = self.find_namespace(&namespace.name) else {
            return lost;
        };
        for (key, value) in &namespace.sysctls {
            if let Ok(Ok(now)) = read(&netns, key).await
                && !value.is(&now)
            {
                lost.push(format!("{key} = {value}"));
            }
        }
        lost
    }
}

fn refused(name: &NsName, key: &SysctlKey, step: &str, error: &io::Error) -> ApiError {
    let object = format!("setting {key} of {}", text::namespace(name));
    match error.kind() {
        io::ErrorKind::NotFound => text::conflict(object, "the kernel has no such setting there")
            .hint("is the interface that it names there, and is the module loaded?"),
        io::ErrorKind::InvalidInput => text::invalid(object, format!("{step}: the kernel takes no such value")),
        _ => text::step(object, step, error),
    }
}

async fn read(netns: &NetNs, key: &SysctlKey) -> Result<io::Result<String>, KernelError> {
    let path = key.path();
    netns.run(move || proc_sys::read(&path)).await
}

async fn write(netns: &NetNs, key: &SysctlKey, value: String) -> Result<io::Result<()>, KernelError> {
    let path = key.path();
    netns.run(move || proc_sys::write(&path, &value)).await
}
