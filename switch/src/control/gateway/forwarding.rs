//! Forwarding of the host, turned on for the interfaces concerned and back to what it was.
//!
//! What a value was is noted before it is touched, in the run directory: like the values it does not outlive a reboot.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vswitch_api::IfName;

use super::super::proc_sys;
use super::table::Opened;
use crate::files;

/// Below which of all settings the values are.
const BELOW: &str = "net";
const ALL_V4: &str = "ipv4/conf/all/forwarding";
const ALL_V6: &str = "ipv6/conf/all/forwarding";
const ON: &str = "1";

/// The values that were changed, by their path, with what they were.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Note {
    /// Of another boot of the kernel nothing is left.
    pub boot_id: String,
    pub before: BTreeMap<String, String>,
}

/// Where the note is.
pub(super) fn note_path(run_dir: &Path) -> PathBuf {
    run_dir.join("forwarding.json")
}

impl Note {
    /// # Errors
    /// It can't be read, so that what the values were is not known.
    pub fn load(path: &Path, boot_id: &str) -> io::Result<Self> {
        let note: Self = match files::read_regular(path) {
            Ok(content) => {
                serde_json::from_slice(&content).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(error),
        };
        if note.boot_id == boot_id {
            return Ok(note);
        }
        Ok(Self {
            boot_id: boot_id.to_owned(),
            before: BTreeMap::new(),
        })
    }

    pub fn save(&self, path: &Path) -> io::Result<()> {
        if self.before.is_empty() {
            return files::gone_is_fine(fs::remove_file(path));
        }
        files::replace_note(path, self)
    }

    /// What is on by us alone, of interfaces that are no gateways: what the host forwards by itself by now, as for containers, is none of it.
    pub fn opened_now(&self, gateways: &[IfName]) -> Opened {
        let mut opened = self.opened(gateways);
        if read(ALL_V4).as_deref() == Some(ON) {
            opened.v4.clear();
        }
        if read(ALL_V6).as_deref() == Some(ON) && !self.before.contains_key(ALL_V6) {
            opened.v6.clear();
        }
        opened
    }

    /// Whether something of an interface is noted.
    pub fn has(&self, name: &IfName) -> bool {
        let of_it = format!("/conf/{name}/");
        self.before.keys().any(|path| path.contains(&of_it))
    }

    /// An interface has another name by now: what was noted of it is of that one.
    pub fn rename(&mut self, old: &IfName, new: &IfName) {
        let (was, is) = (format!("/conf/{old}/"), format!("/conf/{new}/"));
        let of_it: Vec<_> = self.before.keys().filter(|path| path.contains(&was)).cloned().collect();
        for path in of_it {
            if let Some(before) = self.before.remove(&path) {
                self.before.insert(path.replace(&was, &is), before);
            }
        }
    }

    /// What of all that is on was not, of interfaces that are no gateways.
    fn opened(&self, gateways: &[IfName]) -> Opened {
        let of = |version: &str| {
            let names = self.before.iter().filter_map(|(path, before)| {
                let name = path.strip_prefix(version)?.strip_prefix("/conf/")?.split('/').next()?;
                let name: IfName = (before != ON && name != "all").then(|| name.parse().ok())??;
                (!gateways.contains(&name)).then_some(name)
            });
            names.collect::<BTreeSet<_>>().into_iter().collect()
        };
        Opened {
            v4: of("ipv4"),
            v6: of("ipv6"),
            all_v6: self.before.get(ALL_V6).is_some_and(|before| before != ON),
        }
    }
}

/// The paths of what is to be on so that frames pass between gateways and uplinks.
pub(super) fn wanted(gateways: &[(IfName, bool, bool)], uplinks: &[IfName]) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let (any_v4, any_v6) = (gateways.iter().any(|g| g.1), gateways.iter().any(|g| g.2));
    // Since Linux 6.17; before, IPv6 is forwarded by all interfaces or by none.
    let one_by_one = proc_sys::file("net/ipv6/conf/lo/force_forwarding").exists();
    for (name, v4, v6) in gateways {
        if *v4 {
            paths.insert(format!("ipv4/conf/{name}/forwarding"));
        }
        if *v6 {
            // By this its neighbours know it for a router (RFC 4861 section 4.4).
            paths.insert(format!("ipv6/conf/{name}/forwarding"));
            if one_by_one {
                paths.insert(format!("ipv6/conf/{name}/force_forwarding"));
            }
        }
    }
    for name in uplinks {
        if any_v4 {
            paths.insert(format!("ipv4/conf/{name}/forwarding"));
        }
        if any_v6 && one_by_one {
            paths.insert(format!("ipv6/conf/{name}/force_forwarding"));
        }
    }
    if any_v6 && !one_by_one {
        paths.insert(ALL_V6.to_owned());
    }
    paths
}

/// What would be changed: to be turned on, with what they are now if they are there; and to be given back.
pub(super) struct Difference {
    pub on: Vec<(String, Option<String>)>,
    pub back: Vec<(String, String)>,
}

pub(super) fn difference(note: &Note, wanted: &BTreeSet<String>) -> Difference {
    // Also what somebody has turned off since.
    let on = wanted.iter().map(|path| (path.clone(), read(path)));
    let back = note.before.iter().filter(|(path, _)| !wanted.contains(*path));
    Difference {
        on: on.filter(|(_, now)| now.as_deref() != Some(ON)).collect(),
        back: back.map(|(path, before)| (path.clone(), before.clone())).collect(),
    }
}

/// How a path is called by sysctl(8).
pub(super) fn key(path: &str) -> String {
    format!(
        "net.{}",
        path.replace('.', "\u{0}").replace('/', ".").replace('\u{0}', "/")
    )
}

pub(super) fn read(path: &str) -> Option<String> {
    proc_sys::read(&format!("{BELOW}/{path}")).ok()
}

/// Turns one on.
pub(super) fn turn_on(path: &str) -> io::Result<()> {
    write(path, ON)
}

/// Gives one back. Of an interface that is gone, or one that somebody has changed since, nothing is left to be given back; nor where all
/// interfaces forward by now, which is somebody else's will.
pub(super) fn give_back(path: &str, before: &str) -> io::Result<()> {
    let all_forward = path.starts_with("ipv4/") && read(ALL_V4).as_deref() == Some(ON);
    match read(path) {
        Some(now) if now == ON && !all_forward => files::gone_is_fine(write(path, before)),
        _ => Ok(()),
    }
}

fn write(path: &str, value: &str) -> io::Result<()> {
    if path != ALL_V6 {
        return proc_sys::write(&format!("{BELOW}/{path}"), value);
    }
    // It changes those of all interfaces, by which these take router advertisements or not: they keep what they have.
    let own = one_by_one_v6();
    proc_sys::write(&format!("{BELOW}/{path}"), value)?;
    for (path, before) in own {
        files::gone_is_fine(proc_sys::write(&path, &before))?;
    }
    Ok(())
}

fn one_by_one_v6() -> Vec<(String, String)> {
    const CONF: &str = "net/ipv6/conf";
    let folders = fs::read_dir(proc_sys::file(CONF)).into_iter().flatten().flatten();
    let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
    let paths = names
        .filter(|name| name != "all")
        .map(|name| format!("{CONF}/{name}/forwarding"));
    paths
        .filter_map(|path| Some((path.clone(), proc_sys::read(&path).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_off_is_told_by_interface() {
        let note = Note {
            boot_id: "boot".into(),
            before: [
                ("ipv4/conf/eth0/forwarding", "0"),
                ("ipv4/conf/eth1.7/forwarding", "0"),
                ("ipv4/conf/lab-gw/forwarding", "0"),
                ("ipv6/conf/eth0/force_forwarding", "0"),
            ]
            .map(|(path, before)| (path.to_owned(), before.to_owned()))
            .into(),
        };
        let opened = note.opened(&["lab-gw".parse().unwrap()]);
        let names = |names: &[IfName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&opened.v4), ["eth0", "eth1.7"]);
        assert_eq!(names(&opened.v6), ["eth0"]);
        assert!(!opened.all_v6);
        assert_eq!(key("ipv4/conf/eth1.7/forwarding"), "net.ipv4.conf.eth1/7.forwarding");
    }

    #[test]
    fn a_note_of_another_boot_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = note_path(dir.path());
        let mut note = Note::load(&path, "one").unwrap();
        note.before.insert("ipv4/conf/eth0/forwarding".into(), "0".into());
        note.save(&path).unwrap();
        assert_eq!(Note::load(&path, "one").unwrap(), note);
        assert!(Note::load(&path, "two").unwrap().before.is_empty());
        note.before.clear();
        note.save(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "{").unwrap();
        Note::load(&path, "one").unwrap_err();
    }
}
