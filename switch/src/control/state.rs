//! What is kept on disk: the desired lab, and what must be known to take it apart again after a restart.
//!
//! The file is replaced as a whole: written beside, synced, renamed over the old one, the directory synced.
//! A file that can't be read is set aside under another name and never overwritten.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use vswitch_api::policy::VlanId;
use vswitch_api::{Cable, Lab, Mac, NsName, Port, PortName, SwitchName};

use crate::kernel::{KernelError, NetNs, NetNsId};

/// Version of the file's format. A file of another version is set aside like a corrupt one.
const VERSION: u32 = 1;

/// Everything that outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// Makes the generated MAC addresses of two machines differ.
    pub salt: u64,
    /// What the user wants, with all that vswitch chose for them (MAC addresses, interface names of cables).
    pub lab: Lab,
    /// Namespaces that vswitch made.
    pub namespaces: Vec<OwnedNamespace>,
    /// Static FDB entries.
    pub fdb: Vec<StaticEntry>,
    /// How devices were before they were taken over.
    pub devices: BTreeMap<PortName, DeviceBefore>,
}

/// A namespace that vswitch made, with what tells it from another of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnedNamespace {
    pub name: NsName,
    pub dev: u64,
    pub ino: u64,
    /// Inode numbers and cookies start again at each boot.
    pub boot_id: String,
    /// [`NetNs::cookie`]; none in files from before it was kept.
    #[serde(default)]
    pub cookie: Option<u64>,
}

impl OwnedNamespace {
    /// # Errors
    /// The namespace can't be told from others.
    pub fn new(name: NsName, netns: &NetNs, boot_id: &str) -> Result<Self, KernelError> {
        let NetNsId { dev, ino } = netns.id();
        Ok(Self {
            name,
            dev,
            ino,
            boot_id: boot_id.to_owned(),
            cookie: netns.cookie()?,
        })
    }

    /// The namespace is gone, and the kernel may give its number to the next one that anybody makes.
    pub fn forget_identity(&mut self) {
        (self.dev, self.ino) = (0, 0);
    }

    /// Whether the namespace that now has this name is still the one that vswitch made.
    ///
    /// # Errors
    /// The namespace can't be told from others.
    pub fn is(&self, netns: &NetNs, boot_id: &str) -> Result<bool, KernelError> {
        let NetNsId { dev, ino } = netns.id();
        if (self.dev, self.ino) != (dev, ino) || self.boot_id != boot_id {
            return Ok(false);
        }
        // The kernel may have given the inode's number to another one.
        Ok(self.cookie.is_none() || self.cookie == netns.cookie()?)
    }
}

/// An FDB entry that the user set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticEntry {
    pub switch: SwitchName,
    pub mac: Mac,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    pub port: PortName,
}

/// What a device gets back when it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceBefore {
    pub up: bool,
    pub mtu: u32,
    /// Not in files from before devices had the fast path.
    #[serde(default)]
    pub promiscuous: bool,
    /// What tells it from others whatever it is called; none in files from before these were kept.
    #[serde(default)]
    pub index: Option<u32>,
    #[serde(default)]
    pub mac: Option<Mac>,
}

impl State {
    /// The state of a daemon that was never used before.
    pub fn new() -> Self {
        Self {
            version: VERSION,
            // std's own hasher keys are the simplest source of a random number that std has.
            salt: RandomState::new().hash_one("vswitch"),
            lab: Lab::default(),
            namespaces: Vec::new(),
            fdb: Vec::new(),
            devices: BTreeMap::new(),
        }
    }
}

/// Where the state is kept.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    dir: PathBuf,
}

impl StateFile {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Reads the state; a fresh one if there is none yet. A file that can't be understood is set aside, with a
    /// text that says so.
    pub fn load(&self) -> io::Result<(State, Option<String>)> {
        fs::create_dir_all(&self.dir)?;
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((State::new(), None)),
            Err(error) => return Err(error),
        };
        let cause = match serde_json::from_slice::<State>(&text) {
            Ok(state) if state.version == VERSION => return Ok((state, None)),
            Ok(state) => format!(
                "it has version {}, this vswitchd writes version {VERSION}",
                state.version
            ),
            Err(error) => error.to_string(),
        };
        let aside = self.set_aside(&path)?;
        let notice = format!(
            "{} can't be read ({cause}); it was set aside as {} and the lab starts empty",
            path.display(),
            aside.display()
        );
        Ok((State::new(), Some(notice)))
    }

    /// Renames the file to a name that is not taken, so that two bad files within a second both stay.
    fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut aside = self.dir.join(format!("state.json.corrupt-{seconds}"));
        let mut number = 1;
        while aside.exists() {
            aside = self.dir.join(format!("state.json.corrupt-{seconds}-{number}"));
            number += 1;
        }
        fs::rename(path, &aside)?;
        Ok(aside)
    }

    /// Replaces the file. After an error the file may hold the old or the new state, never a part.
    pub fn save(&self, state: &State) -> io::Result<()> {
        let path = self.path();
        replace(&path, &serde_json::to_vec_pretty(state)?, Durability::Synced)
    }
}

/// Whether a file must survive a power cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Synced,
    UntilReboot,
}

fn replace(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let beside = path.with_extension("json.new");
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // What is left of it says nothing that the error does not say.
        let _ = fs::remove_file(&beside);
        return written;
    }
    match (durability, path.parent()) {
        (Durability::Synced, Some(dir)) => File::open(dir)?.sync_all(),
        _ => Ok(()),
    }
}

/// What a command makes: ports and cables noted before they are touched, namespaces as soon as they are there, for only
/// then can they be told from another of the name. When the daemon is killed half-way, the next one removes what stands
/// here and is not in the lab. So stand here too the ports and cables that a command could not remove. The note lives in the
/// run directory: like the interfaces and namespaces in it, it does not outlive a reboot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InFlight {
    pub ports: Vec<Port>,
    pub cables: Vec<Cable>,
    pub namespaces: Vec<OwnedNamespace>,
}

/// Where the note of the running command is kept.
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

    /// What a killed daemon left half-done. A note that can't be read is as good as none.
    pub fn load(&self) -> InFlight {
        fs::read(&self.path)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    pub fn write(&self, note: &InFlight) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(note)?, Durability::UntilReboot)
    }

    /// Adds a namespace that is there now.
    pub fn add_namespace(&self, namespace: &OwnedNamespace) -> io::Result<()> {
        let mut note = self.load();
        note.namespaces.push(namespace.clone());
        self.write(&note)
    }

    /// The command is done or undone.
    pub fn clear(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), "{}: can't remove the note of a finished command: {error}", self.path.display());
        }
    }
}

/// Identity of this boot of the kernel.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::PortKind;

    fn sample() -> State {
        let mut state = State::new();
        let red = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
        state.lab.ports.push(red);
        let here = NetNs::current().unwrap();
        state
            .namespaces
            .push(OwnedNamespace::new("red".parse().unwrap(), &here, "boot").unwrap());
        state.fdb.push(StaticEntry {
            switch: "main".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            vlan: None,
            port: "red".parse().unwrap(),
        });
        state.devices.insert(
            "eth1".parse().unwrap(),
            DeviceBefore {
                up: true,
                mtu: 9000,
                promiscuous: false,
                index: Some(7),
                mac: Some(Mac([2, 0, 0, 0, 0, 7])),
            },
        );
        state
    }

    #[test]
    fn the_state_comes_back_as_it_was_saved() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(&dir.path().join("deep/down"));
        assert!(file.load().unwrap().0.lab.ports.is_empty());
        let state = sample();
        file.save(&state).unwrap();
        assert_eq!(file.load().unwrap(), (state, None));
        let names: Vec<_> = fs::read_dir(&file.dir)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["state.json"]);
    }

    #[test]
    fn a_file_that_is_no_state_is_set_aside_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::new(dir.path());
        let newer = serde_json::to_string(&sample())
            .unwrap()
            .replace("\"version\":1", "\"version\":99");
        for bad in ["", "{", "{\"lab\":1}", newer.as_str()] {
            fs::write(file.path(), bad).unwrap();
            let (state, notice) = file.load().unwrap();
            assert_eq!(state.lab, Lab::default());
            let notice = notice.unwrap();
            assert!(notice.contains("set aside as"), "{notice}");
            assert!(!file.path().exists());
        }
        let kept: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| fs::read_to_string(e.unwrap().path()).unwrap())
            .collect();
        assert_eq!(kept.len(), 4);
        assert!(kept.contains(&newer));
    }

    #[test]
    fn a_namespace_is_ours_only_within_the_boot_that_made_it() {
        let here = NetNs::current().unwrap();
        let owned = OwnedNamespace::new("red".parse().unwrap(), &here, "boot-1").unwrap();
        assert!(owned.is(&here, "boot-1").unwrap());
        assert!(!owned.is(&here, "boot-2").unwrap());
        let before = |change: fn(&mut OwnedNamespace)| {
            let mut other = owned.clone();
            change(&mut other);
            other
        };
        assert!(!before(|other| other.ino += 1).is(&here, "boot-1").unwrap());
        // The same number, but not the same namespace.
        assert!(!before(|other| other.cookie = Some(0)).is(&here, "boot-1").unwrap());
        assert!(before(|other| other.cookie = None).is(&here, "boot-1").unwrap());
    }

    #[test]
    fn the_journal_forgets_a_finished_command() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::new(dir.path());
        assert_eq!(journal.load(), InFlight::default());
        let note = InFlight {
            ports: sample().lab.ports,
            ..InFlight::default()
        };
        journal.write(&note).unwrap();
        assert_eq!(journal.load(), note);
        journal.clear();
        journal.clear();
        assert_eq!(journal.load(), InFlight::default());
    }
}
