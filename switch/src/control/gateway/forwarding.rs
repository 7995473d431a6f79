//! Forwarding of the host, turned on for the interfaces concerned and back to what it was.
//!
//! What a value was is noted before it is touched, in the run directory: like the values it does not outlive a reboot. The daemon knows it
//! besides, and beside the state is a copy of it: who empties the run directory takes nothing from it.

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
pub(in super::super) struct Note {
    /// Of another boot of the kernel nothing is left.
    pub boot_id: String,
    pub before: BTreeMap<String, String>,
    /// What the interfaces were called then, by their index: one may be renamed while no daemon runs. Notes of before have none.
    #[serde(default)]
    pub interfaces: BTreeMap<u32, IfName>,
}

/// Where the note is, and its copy.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub note: PathBuf,
    copy: PathBuf,
}

impl Places {
    pub fn new(run_dir: &Path, state_dir: &Path) -> Self {
        const NAME: &str = "forwarding.json";
        Self {
            note: run_dir.join(NAME),
            copy: state_dir.join(NAME),
        }
    }
}

impl Note {
    /// # Errors
    /// It can't be read, so that what the values were is not known.
    pub(super) fn load(places: &Places, boot_id: &str) -> io::Result<Self> {
        let note = match files::read_note(&places.note)? {
            Some(note) => Some(note),
            // The note is the newer one, and of a copy that can't be read nothing is known either.
            None => files::read_note(&places.copy)?,
        };
        if let Some(note) = note.filter(|note: &Self| note.boot_id == boot_id) {
            return Ok(note);
        }
        Ok(Self {
            boot_id: boot_id.to_owned(),
            ..Self::default()
        })
    }

    /// # Errors
    /// The note can't be written. Its copy may be on a disk that is full: that is in the log.
    pub(super) fn save(&self, places: &Places) -> io::Result<()> {
        self.write(&places.note)?;
        if let Err(error) = self.write(&places.copy) {
            tracing::warn!(
                "{}: what forwarding was is not kept there: {error}",
                places.copy.display()
            );
        }
        Ok(())
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        if self.before.is_empty() {
            return files::remove_note(path);
        }
        files::replace_note(path, self)
    }

    /// Takes down what one is, if it is not known what it was at first, which is what it gets back. `now`: none if it is not there yet.
    pub(super) fn take_down(&mut self, path: &str, now: Option<&str>) {
        let known = self.before.entry(path.to_owned()).or_default();
        if known.is_empty() {
            *known = now.unwrap_or_default().to_owned();
        }
    }

    /// What is on by us alone, of interfaces that are no gateways: what the host forwards by itself by now, as for containers, is none of it.
    pub(super) fn opened_now(&self, gateways: &[IfName]) -> Opened {
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
    pub(super) fn has(&self, name: &IfName) -> bool {
        let of_it = format!("/conf/{name}/");
        self.before.keys().any(|path| path.contains(&of_it))
    }

    /// An interface has another name by now: what was noted of it is of that one.
    pub(super) fn rename(&mut self, old: &IfName, new: &IfName) {
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
    // What is called so is no interface, and stands for all of them.
    let uplinks = uplinks.iter().filter(|name| !is_none(name));
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

/// Whether the host has no interface of this name.
pub(super) fn is_absent(name: &IfName) -> bool {
    is_none(name) || !proc_sys::file(&format!("{BELOW}/ipv4/conf/{name}")).exists()
}

/// The kernel has no interface of such a name, and settings by it.
fn is_none(name: &IfName) -> bool {
    ["all", "default"].contains(&name.as_str())
}

/// Whether somebody has turned one of these off; what is not there yet is not off.
pub(super) fn any_off<'a>(mut paths: impl Iterator<Item = &'a String>) -> bool {
    paths.any(|path| is_off(path))
}

pub(super) fn is_off(path: &str) -> bool {
    read(path).as_deref() == Some("0")
}

/// Turns one on. That of an interface that is not there yet is turned on when it comes.
pub(super) fn turn_on(path: &str) -> io::Result<()> {
    files::gone_is_fine(write(path, ON))
}

/// Gives one back. What was never seen off was not turned on by us. Of an interface that is gone, or one that somebody has changed since, nothing is left to be given back; nor where all
/// interfaces forward by now, which is somebody else's will.
pub(super) fn give_back(path: &str, before: &str) -> io::Result<()> {
    let all_forward = path.starts_with("ipv4/") && read(ALL_V4).as_deref() == Some(ON);
    match read(path) {
        Some(now) if now == ON && !all_forward && !before.is_empty() => files::gone_is_fine(write(path, before)),
        _ => Ok(()),
    }
}

fn write(path: &str, value: &str) -> io::Result<()> {
    let write = || proc_sys::write(&format!("{BELOW}/{path}"), value);
    if path == ALL_V6 {
        // It changes those of all interfaces, by which these take router advertisements or not: they keep what they have.
        let own = of_all_v6("forwarding");
        return keeping_routers(|| {
            write()?;
            own.iter()
                .try_for_each(|(path, before)| files::gone_is_fine(proc_sys::write(path, before)))
        });
    }
    match path.starts_with("ipv6/") {
        true => keeping_routers(write),
        false => write(),
    }
}

/// When one interface begins to forward IPv6 the kernel removes the default routes that the host has by router advertisements of all
/// interfaces, but of those that take these also as a router (rt6_purge_dflt_routers in net/ipv6/route.c): for that moment they do.
fn keeping_routers<T>(write: impl FnOnce() -> T) -> T {
    let taking = of_all_v6("accept_ra").into_iter();
    // That of `default` is for interfaces to come.
    let taking = taking.filter(|(path, value)| value == "1" && !path.contains("/default/"));
    let taking: Vec<_> = taking.collect();
    let set = |value: &str| {
        for (path, _) in &taking {
            if let Err(error) = files::gone_is_fine(proc_sys::write(path, value)) {
                tracing::warn!("{path} can't be set to {value}, a default route may be lost: {error}");
            }
        }
    };
    set("2");
    let written = write();
    set("1");
    written
}

/// A setting of IPv6 as each interface has it, and new ones will.
fn of_all_v6(setting: &str) -> Vec<(String, String)> {
    const CONF: &str = "net/ipv6/conf";
    let folders = fs::read_dir(proc_sys::file(CONF)).into_iter().flatten().flatten();
    let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
    let paths = names
        .filter(|name| name != "all")
        .map(|name| format!("{CONF}/{name}/{setting}"));
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
            ..Note::default()
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
        let (run, state) = (dir.path().join("run"), dir.path().join("state"));
        [&run, &state]
            .into_iter()
            .for_each(|folder| fs::create_dir(folder).unwrap());
        let places = Places::new(&run, &state);
        let mut note = Note::load(&places, "one").unwrap();
        note.before.insert("ipv4/conf/eth0/forwarding".into(), "0".into());
        note.interfaces.insert(2, "eth0".parse().unwrap());
        note.save(&places).unwrap();
        assert_eq!(Note::load(&places, "one").unwrap(), note);
        assert!(Note::load(&places, "two").unwrap().before.is_empty());
        fs::remove_file(&places.note).unwrap();
        assert_eq!(Note::load(&places, "one").unwrap(), note, "by its copy");
        note.before.clear();
        note.save(&places).unwrap();
        assert!(!places.note.exists() && !places.copy.exists());
        fs::write(&places.note, r#"{"boot_id":"one","before":{}}"#).unwrap();
        assert_eq!(Note::load(&places, "one").unwrap(), note_of_before());
        fs::write(&places.note, "{").unwrap();
        Note::load(&places, "one").unwrap_err();
    }

    fn note_of_before() -> Note {
        Note {
            boot_id: "one".into(),
            ..Note::default()
        }
    }

    /// An interface that comes later has its own value, which is what it gets back.
    #[test]
    fn what_was_at_first_is_kept_and_what_was_not_there_is_not() {
        let mut note = Note::default();
        for now in [None, Some("0"), Some("1")] {
            note.take_down("ipv4/conf/wg0/forwarding", now);
        }
        assert_eq!(note.before["ipv4/conf/wg0/forwarding"], "0");
        assert_eq!(
            wanted(&[("gw".parse().unwrap(), true, false)], &["all".parse().unwrap()]).len(),
            1
        );
    }
}
