//! Settings of interfaces that are not there: they wait for these.

use std::io;

use vswitch_api::lab_namespace::{LabNamespace, SysctlKey};

use super::super::{Inner, text};
use super::read;
use vswitch_linux::{KernelError, NetNs};

impl Inner {
    /// What is to be said of settings of interfaces that are not there, if they are not as they were `before`.
    pub(in crate::control) async fn settings_of_none(
        &self,
        before: &LabNamespace,
        after: &LabNamespace,
    ) -> Vec<String> {
        let Ok(Some(netns)) = self.find_namespace(&after.name) else {
            return Vec::new();
        };
        let new = after.sysctls.iter();
        let new = new.filter(|(key, value)| before.sysctls.get(*key) != Some(value));
        let mut warnings = Vec::new();
        for (key, _) in new {
            if let Some((_, interface, _)) = at_interface(key)
                && lacks_interface(&netns, key).await.unwrap_or(false)
            {
                let name = text::namespace(&after.name);
                warnings.push(format!(
                    "setting {key} of {name}: interface {interface} is not there, and gets it when it comes"
                ));
            }
        }
        warnings
    }
}

/// Whether a setting, which is not there, is of an interface that is not there: of the one that each namespace has there is such a setting.
pub(super) async fn lacks_interface(netns: &NetNs, key: &SysctlKey) -> Result<bool, KernelError> {
    let Some((table, _, what)) = at_interface(key) else {
        return Ok(false);
    };
    let Ok(of_loopback) = format!("{table}.lo.{what}").parse() else {
        return Ok(false);
    };
    let is_missing = |now: &io::Result<String>| matches!(now, Err(error) if error.kind() == io::ErrorKind::NotFound);
    Ok(is_missing(&read(netns, key).await?) && !is_missing(&read(netns, &of_loopback).await?))
}

/// Settings by interface: of which table, of which interface, and what.
pub(in crate::control) fn at_interface(key: &SysctlKey) -> Option<(&str, &str, &str)> {
    let key = key.as_str();
    let (at, length) = [".conf.", ".neigh."]
        .iter()
        .find_map(|word| Some((key.find(word)?, word.len())))?;
    let table = &key[..at + length - 1];
    let (interface, what) = key[at + length..].split_once('.')?;
    Some((table, interface, what))
}

/// Whether a setting is of this interface, whose name may have points.
pub(super) fn is_of_interface(key: &SysctlKey, ifname: &str) -> bool {
    let of_it = |(table, ..): (&str, &str, &str)| {
        let rest = key.as_str()[table.len()..].strip_prefix('.');
        rest.and_then(|rest| rest.strip_prefix(ifname))
            .is_some_and(|rest| rest.starts_with('.'))
    };
    at_interface(key).is_some_and(of_it)
}
