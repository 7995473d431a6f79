//! Settings that the kernel refuses. An edit that asks for one is refused; one that waited for its interface is noted, and the others are
//! given all the same.

use std::collections::BTreeMap;
use std::io;

use vswitch_api::lab_namespace::{LabNamespace, SysctlKey, SysctlValue};
use vswitch_api::{ApiError, NsName};

use super::setting::OnRefusal;
use crate::control::{Inner, text};

/// How it is said of a setting that is not as it is to be. `doctor` knows by it what to do.
pub(super) const WHICH_IS_REFUSED: &str = ", which the kernel refuses";

/// Which values the kernel did not take, and what it said.
pub(in crate::control) type AllRefused = BTreeMap<(NsName, SysctlKey), (SysctlValue, ApiError)>;

impl Inner {
    /// Only what is asked for now, and was not refused before, makes an edit fail.
    pub(super) fn on_refusal(&self, before: &LabNamespace, key: &SysctlKey, value: &SysctlValue) -> OnRefusal {
        let is_old = before.sysctls.get(key) == Some(value) || self.refusal_of(&before.name, key, value).is_some();
        if is_old { OnRefusal::Tell } else { OnRefusal::Fail }
    }

    /// What the kernel said when it did not take this value.
    pub(super) fn refusal_of(&self, name: &NsName, key: &SysctlKey, value: &SysctlValue) -> Option<&ApiError> {
        let (refused, error) = self.live.refused.get(&(name.clone(), key.clone()))?;
        (refused == value).then_some(error)
    }

    /// Takes note of what the kernel has just refused, and of what it has not.
    pub(super) fn note_refused(
        &mut self,
        before: &LabNamespace,
        after: &LabNamespace,
        refused: BTreeMap<SysctlKey, ApiError>,
    ) {
        let name = &after.name;
        let is_known = |key: &SysctlKey, value| self.refusal_of(name, key, value).is_some();
        let values = after.sysctls.iter();
        values
            .filter(|(key, value)| !is_known(key, value))
            .filter_map(|(key, _)| refused.get(key))
            .for_each(|error| tracing::warn!("{error}"));
        for key in before.sysctls.keys().chain(after.sysctls.keys()) {
            self.live.refused.remove(&(name.clone(), key.clone()));
        }
        for (key, error) in refused {
            if let Some(value) = after.sysctls.get(&key) {
                let value = value.clone();
                self.live.refused.insert((name.clone(), key), (value, error));
            }
        }
    }

    /// One that is refused in this namespace.
    ///
    /// # Errors
    /// What the kernel said.
    pub(in crate::control) fn check_refused(&self, name: &NsName) -> Result<(), ApiError> {
        let mut refused = self.live.refused.iter().filter(|((of, _), _)| of == name);
        refused.next().map_or(Ok(()), |(_, (_, error))| Err(error.clone()))
    }

    /// What is to be said of settings that are refused, and were not `before`.
    pub(in crate::control) fn tell_refused(&self, before: &AllRefused) -> Vec<String> {
        let new = self.live.refused.iter().filter(|(of, _)| !before.contains_key(*of));
        let tell = |((name, key), (_, error)): (&(NsName, SysctlKey), &(SysctlValue, ApiError))| {
            let ApiError { object, cause, .. } = error;
            format!("{object}: {cause}; `vswitchctl ns set {name} {key}=none` takes it out of the lab")
        };
        new.map(tell).collect()
    }
}

pub(super) fn refused(name: &NsName, key: &SysctlKey, step: &str, error: &io::Error) -> ApiError {
    let object = format!("setting {key} of {}", text::namespace(name));
    match error.kind() {
        io::ErrorKind::NotFound => text::conflict(object, "the kernel has no such setting there")
            .hint("is the interface that it names there, and is the module loaded?"),
        io::ErrorKind::InvalidInput => text::invalid(object, format!("{step}: the kernel takes no such value")),
        _ => text::step(object, step, error),
    }
}
