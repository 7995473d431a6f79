//! The note of the running command, in the run directory: like the interfaces and namespaces in it, it does not outlive a reboot.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vswitch_api::{Cable, IfName, Port, PortName};

use super::state::{DeviceBefore, OwnedNamespace, ProcessNote};
use super::sysctls::AllBefore;
use crate::files;

/// What a command makes, changes or removes, noted before it is touched. When the daemon is killed half-way, the next one removes
/// what stands here and is not in the lab, whatever state it is in, and takes from the ports that are in the lab what the command had
/// given them. Here stand too what a command could not remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InFlight {
    /// As they were and as they are to be.
    pub ports: Vec<Port>,
    pub cables: Vec<Cable>,
    /// With what tells them from others of the name, known before they get it.
    pub namespaces: Vec<OwnedNamespace>,
    /// How interfaces were before they became ports.
    pub devices: BTreeMap<IfName, DeviceBefore>,
    /// How settings of the kernel in namespaces were before they were changed.
    pub sysctls: AllBefore,
    /// The processes by whose numbers the namespaces of these ports were given.
    pub processes: BTreeMap<PortName, ProcessNote>,
}

/// Where the note is kept.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    path: PathBuf,
}

impl Journal {
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join("in-flight.json"),
        }
    }

    /// What a killed daemon left half-done.
    ///
    /// # Errors
    /// There is a note, and what it says can't be known. InvalidData: nor will it ever be.
    pub fn load(&self) -> io::Result<InFlight> {
        files::read_note(&self.path).map(Option::unwrap_or_default)
    }

    /// Replaces the note.
    pub fn write(&self, note: &InFlight) -> io::Result<()> {
        files::replace_note(&self.path, note)
    }

    /// Adds to the note.
    pub fn add(&self, change: impl FnOnce(&mut InFlight)) -> io::Result<()> {
        let mut note = self.load()?;
        change(&mut note);
        self.write(&note)
    }

    /// Keeps a note that can't be read out of the way.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.path.with_extension("json.aside");
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// The command is done or undone.
    pub fn clear(&self) {
        if let Err(error) = files::remove_note(&self.path) {
            tracing::warn!(path = %self.path.display(), "{}: can't remove the note of a finished command: {error}", self.path.display());
        }
    }

    /// Whether there is a note, as far as can be told.
    pub fn is_there(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use vswitch_api::PortKind;

    use super::*;

    #[test]
    fn the_journal_forgets_a_finished_command() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        assert_eq!(journal.load().unwrap(), InFlight::default());
        let red = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
        let note = InFlight {
            ports: vec![red.clone()],
            ..InFlight::default()
        };
        journal.write(&note).unwrap();
        assert_eq!(journal.load().unwrap(), note);
        journal.add(|note| note.ports.push(red)).unwrap();
        assert_eq!(journal.load().unwrap().ports.len(), 2);
        journal.clear();
        journal.clear();
        assert_eq!(journal.load().unwrap(), InFlight::default());
    }

    #[test]
    fn a_note_that_can_not_be_read_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        fs::write(dir.path().join("in-flight.json"), "{").unwrap();
        journal.load().unwrap_err();
        journal.add(|_| {}).unwrap_err();
        let aside = journal.set_aside().unwrap();
        assert_eq!(fs::read_to_string(aside).unwrap(), "{");
        assert_eq!(journal.load().unwrap(), InFlight::default());
    }
}
