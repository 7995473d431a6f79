//! Settings that are written.

use std::io;

use vswitch_api::lab_namespace::SysctlKey;

use super::of_interface;
use crate::control::proc_sys;

/// What comes of it that the kernel refuses a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnRefusal {
    /// None of them is written any more.
    Fail,
    /// The others are written, and it is told.
    Tell,
    /// It stays as it is.
    Stay,
}

/// A setting to be given or given back.
pub(super) struct Setting {
    pub key: SysctlKey,
    pub value: String,
    on_refusal: OnRefusal,
    /// What the kernel told after it was written.
    pub shown: Option<String>,
    /// Why the kernel did not take it.
    pub refused: Option<io::Error>,
}

impl Setting {
    pub fn new(key: SysctlKey, value: String, on_refusal: OnRefusal) -> Self {
        Self {
            key,
            value,
            on_refusal,
            shown: None,
            refused: None,
        }
    }

    /// What changes others comes before them.
    fn rank(&self) -> u8 {
        match of_interface(&self.key) {
            None if self.key.as_str() == "net.ipv4.ip_forward" => 0,
            Some((_, "all", "forwarding" | "disable_ipv6")) => 1,
            Some((_, "all", _)) => 2,
            Some((_, "default", _)) => 3,
            _ => 4,
        }
    }

    fn put(&mut self) -> io::Result<()> {
        let path = self.key.path();
        let now = proc_sys::read(&path)?;
        let is_so = self.value.split_ascii_whitespace().eq(now.split_ascii_whitespace());
        if is_so || self.shown.as_ref() == Some(&now) {
            return Ok(());
        }
        let written = proc_sys::write(&path, &self.value);
        written.map_err(|error| match error.kind() {
            // It is there: no value of this name is.
            io::ErrorKind::NotFound => io::ErrorKind::InvalidInput.into(),
            _ => error,
        })?;
        self.shown = Some(proc_sys::read(&path)?);
        Ok(())
    }
}

/// Writes those that are not as they are to be, and looks once more at all: some change others.
///
/// # Errors
/// The first that must not be refused.
pub(super) fn put(mut all: Vec<Setting>) -> Result<Vec<Setting>, (SysctlKey, String, io::Error)> {
    all.sort_by_key(Setting::rank);
    for _ in 0..2 {
        for setting in &mut all {
            setting.refused = None;
            match (setting.put(), setting.on_refusal) {
                (Ok(()), _) => {}
                (Err(error), OnRefusal::Fail) => return Err((setting.key.clone(), setting.value.clone(), error)),
                (Err(error), OnRefusal::Tell) => setting.refused = Some(error),
                // Those of an interface that is gone went with it.
                (Err(error), OnRefusal::Stay) => tracing::debug!("setting {} stays as it is: {error}", setting.key),
            }
        }
    }
    Ok(all)
}
