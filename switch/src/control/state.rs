//! What is kept: the desired lab, and what must be known to take it apart again after a restart.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vswitch_api::lab_namespace::LabNamespace;
use vswitch_api::policy::VlanId;
use vswitch_api::{IfName, Lab, Mac, NsName, PortName, StaticStation, SwitchName};

use super::kinds::ifname;
use super::sysctls::AllBefore;
use crate::files::canonical;
use vswitch_linux::{KernelError, NetNs, NetNsId, Process};

/// Version of the file's format. A daemon that finds another one leaves it alone and does not start.
pub(super) const VERSION: u32 = 1;

/// Everything that outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub version: u32,
    /// Makes the generated MAC addresses of two machines differ.
    pub salt: u64,
    /// What the user wants, with all that vswitch chose for them (MAC addresses, interface names of cables).
    pub lab: Lab,
    /// Namespaces that vswitch made.
    pub namespaces: Vec<OwnedNamespace>,
    /// Static FDB entries of a file from before they were part of the lab.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    fdb: Vec<StaticEntry>,
    /// How devices were before they were taken over, by the names that their ports have for them: what is known of one must not be
    /// taken for what is known of the next one of the same port.
    #[serde(default, rename = "taken_over", skip_serializing_if = "BTreeMap::is_empty")]
    pub devices: BTreeMap<IfName, DeviceBefore>,
    /// The same by port, in files from before it was kept so.
    #[serde(default, rename = "devices", skip_serializing_if = "BTreeMap::is_empty")]
    devices_by_port: BTreeMap<PortName, DeviceBefore>,
    /// How settings of the kernel in namespaces were before they were changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: AllBefore,
    /// The processes by whose numbers the namespaces of ports were given, in the boot that they are of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub processes: BTreeMap<PortName, ProcessNote>,
    /// The boot of the kernel in which the devices have the indices that are kept; none in files from before it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    /// Where the daemon had its own namespace, in which the near ends are; none in files from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run_dir: Option<PathBuf>,
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

    /// Out of an object that may have more keys.
    fn among_others(object: &serde_json::Value) -> Option<Self> {
        Some(Self {
            name: object["name"].as_str()?.parse().ok()?,
            dev: object["dev"].as_u64()?,
            ino: object["ino"].as_u64()?,
            boot_id: object["boot_id"].as_str()?.to_owned(),
            cookie: object["cookie"].as_u64(),
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

/// A static FDB entry as it was kept before it was part of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StaticEntry {
    switch: SwitchName,
    mac: Mac,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vlan: Option<VlanId>,
    port: PortName,
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
    /// The host used it, and it was taken over all the same: it may come back so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_use: bool,
}

/// A process, told from others that get its number in the same boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProcessNote {
    pid: u32,
    started: u64,
}

impl From<Process> for ProcessNote {
    fn from(Process { pid, started }: Process) -> Self {
        Self { pid, started }
    }
}

impl From<ProcessNote> for Process {
    fn from(ProcessNote { pid, started }: ProcessNote) -> Self {
        Self { pid, started }
    }
}

impl State {
    /// After a boot an index tells a device from others no more, nor a number a process: each device is to be looked at as one that is new.
    pub fn forget_devices_of_another_boot(&mut self, boot_id: &str) {
        if self.boot_id.as_deref() != Some(boot_id) {
            self.devices.values_mut().for_each(|device| device.index = None);
            self.processes.clear();
        }
        self.boot_id = Some(boot_id.to_owned());
    }

    /// Takes note of the run directory. Gives the one before, if that is another one of the same boot, and not only called otherwise.
    pub fn take_run_dir(&mut self, run_dir: &Path, boot_id: &str) -> Option<PathBuf> {
        let before = self.run_dir.replace(run_dir.to_owned());
        before.filter(|before| canonical(before) != canonical(run_dir) && self.boot_id.as_deref() == Some(boot_id))
    }

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
            devices_by_port: BTreeMap::new(),
            sysctls: AllBefore::new(),
            processes: BTreeMap::new(),
            boot_id: None,
            run_dir: None,
        }
    }

    /// That of a lab without ports, with what a file that can't be used still tells: which namespaces are ours, and how our interfaces are
    /// marked. They are in the lab, so that they go with it.
    pub fn after(unusable: &serde_json::Value) -> Self {
        let mut state = Self::new();
        if let Some(salt) = unusable["salt"].as_u64() {
            state.salt = salt;
        }
        let namespaces = unusable["namespaces"].as_array().into_iter().flatten();
        state.namespaces = namespaces.filter_map(OwnedNamespace::among_others).collect();
        let named = state
            .namespaces
            .iter()
            .map(|owned| LabNamespace::new(owned.name.clone()));
        state.lab.namespaces = named.collect();
        state
    }

    /// Puts what older files have elsewhere where it is kept now.
    pub fn take_in_older(&mut self) {
        self.take_in_stations();
        for (name, before) in std::mem::take(&mut self.devices_by_port) {
            if let Some(port) = self.lab.ports.iter().find(|port| port.name == name) {
                self.devices.entry(ifname(port)).or_insert(before);
            }
        }
    }

    /// Makes static FDB entries of an older file part of the lab.
    fn take_in_stations(&mut self) {
        for StaticEntry {
            switch,
            mac,
            vlan,
            port,
        } in std::mem::take(&mut self.fdb)
        {
            let station = StaticStation { mac, vlan };
            let mut ports = self.lab.ports.iter_mut();
            if let Some(port) = ports.find(|other| other.name == port && other.switch == switch)
                && !port.stations.contains(&station)
            {
                port.stations.push(station);
            }
        }
    }
}

/// Identity of this boot of the kernel.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use vswitch_api::{Port, PortKind};

    use super::*;
    /// Static entries were kept beside the lab, and so were in no export.
    #[test]
    fn static_entries_of_an_older_file_become_part_of_the_lab() {
        let mut state = State::new();
        let red = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
        state.lab.ports.push(red);
        let entry = StaticEntry {
            switch: "main".parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            vlan: None,
            port: "red".parse().unwrap(),
        };
        state.fdb.push(entry.clone());
        state.take_in_stations();
        let station = StaticStation {
            mac: entry.mac,
            vlan: None,
        };
        assert_eq!((&state.fdb, &state.lab.ports[0].stations), (&vec![], &vec![station]));
        // One of a port that is gone goes too, and one that is there stays one.
        let gone = StaticEntry {
            port: "gone".parse().unwrap(),
            ..entry.clone()
        };
        state.fdb = vec![entry, gone];
        state.take_in_stations();
        assert_eq!(state.lab.ports[0].stations.len(), 1);
    }

    /// A port may take another device: what is known of one is kept by its name.
    #[test]
    fn devices_of_an_older_file_are_known_by_their_names() {
        let mut state = State::new();
        let wan = Port {
            ifname: "eth1".parse().ok(),
            ..Port::new("wan".parse().unwrap(), "main".parse().unwrap(), PortKind::Device)
        };
        state.lab.ports.push(wan);
        let mut file = serde_json::to_value(&state).unwrap();
        let before = serde_json::json!({ "up": true, "mtu": 9000 });
        file["devices"] = serde_json::json!({ "wan": before, "gone": before });
        let mut state: State = serde_json::from_value(file).unwrap();
        state.take_in_older();
        let names: Vec<_> = state
            .devices
            .iter()
            .map(|(name, device)| (name.as_str(), device.mtu))
            .collect();
        assert_eq!(names, [("eth1", 9000)]);
        let file = serde_json::to_value(&state).unwrap();
        assert_eq!(serde_json::from_value::<State>(file).unwrap(), state);
    }

    #[test]
    fn a_run_directory_by_another_name_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        fs::create_dir(place("run")).unwrap();
        fs::create_dir(place("other")).unwrap();
        std::os::unix::fs::symlink(place("run"), place("link")).unwrap();
        let mut state = State::new();
        state.forget_devices_of_another_boot("boot");
        assert_eq!(state.take_run_dir(&place("run"), "boot"), None);
        for same in ["link", "other/../run", "run/", "run"] {
            assert_eq!(state.take_run_dir(&place(same), "boot"), None, "{same}");
        }
        assert_eq!(state.take_run_dir(&place("other"), "boot"), Some(place("run")));
        // One that is gone is another.
        fs::remove_dir(place("other")).unwrap();
        assert_eq!(state.take_run_dir(&place("run"), "boot"), Some(place("other")));
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
}
