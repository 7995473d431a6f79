//! Settings of the kernel in namespaces, and files that their commands see: given, taken back, and given again.

mod absent;
mod refused;
mod setting;

pub(super) use absent::at_interface;
use absent::{is_of_interface, lacks_interface};
pub(super) use refused::AllRefused;
use refused::{WHICH_IS_REFUSED, refused};
use setting::{OnRefusal, Setting, put};

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::{Deserialize, Serialize};
use vswitch_api::lab_namespace::{LabNamespace, SysctlKey, SysctlValue};
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
    /// Also of those that change along with one that was changed. None at all: a command under way has just given all back.
    values: BTreeMap<SysctlKey, String>,
    /// What the kernel makes of values that it writes in another way: what was set, and what it shows then.
    #[serde(skip)]
    shown: BTreeMap<SysctlKey, (SysctlValue, String)>,
}

impl SysctlsBefore {
    /// Whether what the kernel tells is this value, as it was written or as the kernel writes it.
    fn is(&self, key: &SysctlKey, value: &SysctlValue, told: &str) -> bool {
        let shown = self.shown.get(key);
        value.is(told) || shown.is_some_and(|(set, shown)| set == value && shown == told)
    }

    /// Takes out what goes back as `before` had it and `after` has not, with what changed along with it.
    fn take_back(&mut self, before: &LabNamespace, after: &LabNamespace) -> BTreeMap<SysctlKey, String> {
        let gone = |key: &SysctlKey| before.sysctls.contains_key(key) && !after.sysctls.contains_key(key);
        let mut back = BTreeMap::new();
        for (key, value) in self.values.clone() {
            // One that is still set, and was changed by us, says what this one is now.
            let mut set = after.sysctls.iter().filter(|(set, _)| self.values.contains_key(*set));
            let implied = set.find_map(|(set, value)| along(&key, set).then(|| implied(&key, value)));
            let goes_along = || before.sysctls.keys().any(|set| gone(set) && along(&key, set));
            match implied {
                Some(implied) if gone(&key) => back.insert(key, implied),
                Some(_) => continue,
                None if gone(&key) || (goes_along() && !after.sysctls.contains_key(&key)) => {
                    self.values.remove(&key);
                    back.insert(key, value)
                }
                None => continue,
            };
        }
        self.shown.retain(|key, _| !gone(key));
        back
    }
}

/// By namespace.
pub(super) type AllBefore = BTreeMap<NsName, SysctlsBefore>;

impl Inner {
    /// Has a namespace have what `after` says, and no more what only `before` said. What is not there gets it when it comes.
    ///
    /// # Errors
    /// There is no such setting, or the kernel refuses the value, and `before` had another; a file is not ours. Some may be changed: the
    /// caller carries out the inverse. What the kernel refuses of what was said before is noted, and keeps nothing else back.
    pub(super) async fn set_namespace(&mut self, before: &LabNamespace, after: &LabNamespace) -> Result<(), ApiError> {
        if before.files != after.files {
            let links = self.live.gateways.name_links.iter().flat_map(BTreeMap::keys);
            let linked = links.map(|(name, _)| name).any(|name| *name == after.name);
            self.etc.set(&after.name, &after.files, linked)?;
        }
        self.set_sysctls(before, after).await
    }

    async fn set_sysctls(&mut self, before: &LabNamespace, after: &LabNamespace) -> Result<(), ApiError> {
        let refused = self.give_sysctls(before, after).await?;
        self.note_refused(before, after, refused);
        Ok(())
    }

    /// Gives what the kernel refuses of what was said before.
    async fn give_sysctls(
        &mut self,
        before: &LabNamespace,
        after: &LabNamespace,
    ) -> Result<BTreeMap<SysctlKey, ApiError>, ApiError> {
        let name = &after.name;
        let failed = |error: KernelError| text::kernel(text::namespace(name), &error);
        let mut all_refused = BTreeMap::new();
        if before.sysctls.is_empty() && after.sysctls.is_empty() {
            return Ok(all_refused);
        }
        let Some(netns) = self.find_namespace(name).map_err(failed)? else {
            return Ok(all_refused);
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
                shown: BTreeMap::new(),
            },
        };
        let mut differs = false;
        let (mut there, takes_all_back) = (after.clone(), after.sysctls.is_empty());
        for (key, value) in &after.sysctls {
            let now = match read(&netns, key).await.map_err(failed)? {
                Ok(now) => now,
                // It gets its value when it comes.
                Err(_) if lacks_interface(&netns, key).await.map_err(failed)? => {
                    there.sysctls.remove(key);
                    continue;
                }
                Err(error) => {
                    let error = refused(name, key, "read it", &error);
                    if self.on_refusal(before, key, value) == OnRefusal::Fail {
                        return Err(error);
                    }
                    all_refused.insert(key.clone(), error);
                    there.sysctls.remove(key);
                    continue;
                }
            };
            if known.is(key, value, &now) {
                continue;
            }
            differs = true;
            known.values.entry(key.clone()).or_insert(now);
            for (key, now) in all_along(&netns, key).await.map_err(failed)? {
                known.values.entry(key).or_insert(now);
            }
        }
        let after = &there;
        let back = known.take_back(before, after);
        // Noted before it is changed, for the daemon after one that is killed in between; what is known already is noted already.
        if differs && self.store.state.sysctls.get(name) != Some(&known) {
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
        if !known.values.is_empty() || takes_all_back {
            self.store.state.sysctls.insert(name.clone(), known);
        }
        if !differs && back.is_empty() {
            return Ok(all_refused);
        }
        let wanted = after.sysctls.iter().map(|(key, value)| {
            let on_refusal = self.on_refusal(before, key, value);
            Setting::new(key.clone(), value.to_string(), on_refusal)
        });
        let mut all: Vec<_> = wanted.collect();
        let back = back.into_iter();
        all.extend(back.map(|(key, value)| Setting::new(key, value, OnRefusal::Stay)));
        let refusal =
            |key: &SysctlKey, value: &str, error: &io::Error| refused(name, key, &format!("set it to {value}"), error);
        let mut all = match netns.run(move || put(all)).await.map_err(failed)? {
            Ok(all) => all,
            Err((key, value, error)) => return Err(refusal(&key, &value, &error)),
        };
        for one in &mut all {
            if let Some(error) = one.refused.take() {
                all_refused.insert(one.key.clone(), refusal(&one.key, &one.value, &error));
            }
        }
        if let Some(known) = self.store.state.sysctls.get_mut(name) {
            for (key, value) in &after.sysctls {
                let shown = all.iter().find(|one| one.key == *key).and_then(|one| one.shown.clone());
                let shown = shown.filter(|shown| !value.is(shown));
                known
                    .shown
                    .extend(shown.map(|shown| (key.clone(), (value.clone(), shown))));
            }
        }
        Ok(all_refused)
    }

    /// As if nothing of it were there: what is as it is to be stays as it is, and what is refused keeps nothing back.
    pub(super) async fn give_again(&mut self, namespace: &LabNamespace) -> Result<(), ApiError> {
        let mut before = namespace.clone();
        before.files.clear();
        self.set_namespace(&before, namespace).await
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
        if let Err(error) = self.give_again(&after).await {
            tracing::warn!("{error}");
        }
        self.settle_sysctls();
    }

    /// The interfaces of these ports were made, perhaps again: the kernel gives a new one the settings of its own choice, and they
    /// get those of the lab again. What somebody has changed of the namespace stays.
    pub(super) async fn settle_interfaces(&mut self, ports: &[Port]) {
        // When all of a start are there it is done for all.
        if self.shown.attaching {
            return;
        }
        let mut made = BTreeMap::<_, Vec<_>>::new();
        for port in ports {
            if let (Some(name), Some(live)) = (port.named_namespace(), self.live.ports.get(&port.name)) {
                made.entry(name).or_default().push(live.ifname.clone());
            }
        }
        let mut is_known = true;
        for (name, ifnames) in made {
            let Some(mut wanted) = self.store.state.lab.namespace(name).cloned() else {
                continue;
            };
            let is_made = |key: &SysctlKey| ifnames.iter().any(|ifname| is_of_interface(key, ifname));
            wanted.sysctls.retain(|key, _| is_made(key));
            if wanted.sysctls.is_empty() {
                continue;
            }
            let before = self.store.state.sysctls.get(name).cloned();
            // The command that adds the port has the lab leave the settings out.
            if before.as_ref().is_some_and(|known| known.values.is_empty()) {
                continue;
            }
            let wanted = self.what_is_there(wanted).await;
            if let Err(error) = self.set_sysctls(&wanted, &wanted).await {
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
        let is_set = |name: &NsName, key: &SysctlKey| lab.namespace(name).is_some_and(|one| is_touched(one, key));
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
            let going = known.values.iter().filter(|(key, _)| !is_touched(&after, key));
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
            if let Err(error) = self.give_again(namespace).await {
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
            let known = self.store.state.sysctls.get(&namespace.name);
            let is = |now: &str| known.map_or_else(|| value.is(now), |known| known.is(key, value, now));
            if let Ok(Ok(now)) = read(&netns, key).await
                && !is(&now)
            {
                let refused = self.refusal_of(&namespace.name, key, value).map(|_| WHICH_IS_REFUSED);
                lost.push(format!("{key} = {value}{}", refused.unwrap_or_default()));
            }
        }
        lost
    }
}

async fn read(netns: &NetNs, key: &SysctlKey) -> Result<io::Result<String>, KernelError> {
    let path = key.path();
    netns.run(move || proc_sys::read(&path)).await
}

/// Whether the lab sets one, or one along with which it changes.
fn is_touched(lab: &LabNamespace, key: &SysctlKey) -> bool {
    lab.sysctls.contains_key(key) || lab.sysctls.keys().any(|set| along(key, set))
}

/// Settings of IP by interface: of IPv4 or 6, which interface, and what.
fn of_interface(key: &SysctlKey) -> Option<(&str, &str, &str)> {
    let rest = key.as_str().strip_prefix("net.")?;
    let (family, rest) = rest.split_once(".conf.")?;
    let (interface, what) = rest.split_once('.')?;
    Some((family, interface, what))
}

/// Whether the kernel changes a setting when `set` is changed (Documentation/networking/ip-sysctl.rst; net/ipv4/devinet.c,
/// net/ipv6/addrconf.c).
fn along(key: &SysctlKey, set: &SysctlKey) -> bool {
    let is_forward = |key: &SysctlKey| key.as_str() == "net.ipv4.ip_forward";
    if key == set {
        return false;
    }
    let of = of_interface(key);
    match of_interface(set) {
        Some(("ipv4", "all", "forwarding")) => {
            is_forward(key)
                || matches!(
                    of,
                    Some(("ipv4", "all", "accept_redirects") | ("ipv4", _, "forwarding"))
                )
        }
        None if is_forward(set) => {
            matches!(
                of,
                Some(("ipv4", "all", "accept_redirects") | ("ipv4", _, "forwarding"))
            )
        }
        Some(("ipv6", "all", what @ ("forwarding" | "disable_ipv6"))) => {
            of.is_some_and(|(family, _, other)| family == "ipv6" && other == what)
        }
        _ => false,
    }
}

/// What such a setting is when the other is changed to this value.
fn implied(key: &SysctlKey, value: &SysctlValue) -> String {
    match (key.as_str().ends_with(".accept_redirects"), value.as_str()) {
        (false, value) => value.to_owned(),
        (true, "0") => "1".to_owned(),
        (true, _) => "0".to_owned(),
    }
}

/// All that change along with one, as they are now.
async fn all_along(netns: &NetNs, set: &SysctlKey) -> Result<Vec<(SysctlKey, String)>, KernelError> {
    let family = of_interface(set).map_or("ipv4", |(family, ..)| family).to_owned();
    let changes_others = match of_interface(set) {
        Some((_, "all", "forwarding" | "disable_ipv6")) => true,
        Some(_) => false,
        None => set.as_str() == "net.ipv4.ip_forward",
    };
    if !changes_others {
        return Ok(Vec::new());
    }
    let set = set.clone();
    let look = move || {
        let interfaces = fs::read_dir(proc_sys::file(&format!("net/{family}/conf")));
        let interfaces = interfaces.into_iter().flatten().flatten();
        // What has a point in its name can't be told from a folder.
        let interfaces = interfaces.filter_map(|entry| entry.file_name().into_string().ok());
        let interfaces = interfaces.filter(|name| !name.contains('.'));
        let of = |name: String| {
            ["forwarding", "disable_ipv6", "accept_redirects"].map(|what| format!("net.{family}.conf.{name}.{what}"))
        };
        let keys = interfaces.flat_map(of).chain(["net.ipv4.ip_forward".to_owned()]);
        let keys = keys.filter_map(|key| key.parse::<SysctlKey>().ok());
        keys.filter(|key| along(key, &set))
            .filter_map(|key| Some((key.clone(), proc_sys::read(&key.path()).ok()?)))
            .collect()
    };
    netns.run(look).await
}
