//! Files below /etc/netns/NAME, which commands in a namespace see in /etc.
//!
//! Which of them are ours stands in a list in the state directory, written before the files are: what is not in it is never touched, and
//! what is in it and not wanted goes at the next start, whatever the daemon was killed at. They outlive a boot, as the state does.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vswitch_api::lab_namespace::EtcPath;
use vswitch_api::{ApiError, Lab, NsName};

use super::text;
use crate::files::{self, ETC_NETNS, gone_is_fine};

const LIST: &str = "etc-netns.json";
/// Everybody's, as those in /etc are.
const PUBLIC: u32 = 0o644;

/// The files that are ours.
#[derive(Clone, Debug)]
pub(super) struct EtcFiles {
    etc: PathBuf,
    state_dir: PathBuf,
}

/// Paths below [`ETC_NETNS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
    /// Folders of namespaces with links of ours ([`names`](super::gateway)) that were there before, empty or not. Others that have such
    /// links are ours.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    theirs: BTreeSet<String>,
}

impl EtcFiles {
    pub fn new(state_dir: &Path) -> Self {
        Self {
            etc: ETC_NETNS.into(),
            state_dir: state_dir.to_owned(),
        }
    }

    #[cfg(test)]
    pub fn at(etc: &Path, state_dir: &Path) -> Self {
        Self {
            etc: etc.to_owned(),
            ..Self::new(state_dir)
        }
    }

    fn list(&self) -> PathBuf {
        self.state_dir.join(LIST)
    }

    fn made(&self) -> io::Result<Made> {
        files::read_note(&self.list()).map(Option::unwrap_or_default)
    }

    fn note(&self, made: &Made) -> io::Result<()> {
        if *made == Made::default() {
            return files::remove_note(&self.list());
        }
        fs::create_dir_all(&self.state_dir)?;
        files::replace_lasting_note(&self.list(), made)
    }

    /// Where all this is.
    pub fn path(&self) -> &Path {
        &self.etc
    }

    /// Links of ours come into the folders of these namespaces, which have none yet: those that are there are somebody else's, and stay.
    pub fn spare<'a>(&self, namespaces: impl Iterator<Item = &'a NsName>) -> io::Result<()> {
        let there: Vec<_> = namespaces
            .map(|name| name.to_string())
            .filter(|name| self.etc.join(name).exists())
            .collect();
        if there.is_empty() {
            return Ok(());
        }
        let mut made = self.made()?;
        let before = made.theirs.len();
        let folders = made.folders.clone();
        made.theirs
            .extend(there.into_iter().filter(|name| !folders.contains(name)));
        match made.theirs.len() == before {
            true => Ok(()),
            false => self.note(&made),
        }
    }

    /// Removes the folders of these namespaces, in which links of ours were, if they are ours and empty.
    pub fn leave<'a>(&self, namespaces: impl Iterator<Item = &'a NsName>) -> io::Result<()> {
        let mut made = None;
        let mut left = false;
        for name in namespaces {
            let made = match &mut made {
                Some(made) => made,
                none => none.insert(self.made()?),
            };
            if made.theirs.remove(name.as_str()) {
                left = true;
                continue;
            }
            match fs::remove_dir(self.etc.join(name.as_str())) {
                // There is something else in it.
                Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {}
                removed => gone_is_fine(removed)?,
            }
        }
        match made {
            Some(made) if left => self.note(&made),
            _ => Ok(()),
        }
    }

    /// Has these files, and no others of ours, in the folder of a namespace; `linked`: there are links of ours in it.
    ///
    /// # Errors
    /// Conflict: one is there that is not ours; nothing was changed then. Or the disk does not let us.
    pub fn set(&self, namespace: &NsName, wanted: &BTreeMap<EtcPath, String>, linked: bool) -> Result<(), ApiError> {
        let failed = |step: &str, error: &io::Error| text::step(text::namespace(namespace), step, error);
        let mut made = self
            .made()
            .map_err(|error| failed("read which files of it are ours", &error))?;
        let path = |file: &EtcPath| format!("{namespace}/{file}");
        for file in wanted.keys().map(path).filter(|file| !made.files.contains(file)) {
            let file = self.etc.join(file);
            if file.symlink_metadata().is_ok() {
                let cause = format!("there is a file {}, which vswitch did not make", file.display());
                return Err(text::conflict(text::namespace(namespace), cause)
                    .hint("leave it out of the lab, or move that one away"));
            }
        }
        let before = made.clone();
        made.files.extend(wanted.keys().map(path));
        // One that was made for a link is as ours as one that is made now.
        let is_linked = linked && !made.theirs.contains(namespace.as_str());
        let is_ours = |folder: &String| !self.etc.join(folder).exists() || (is_linked && *folder == namespace.as_str());
        for file in wanted.keys().map(path) {
            made.folders.extend(folders(&file).into_iter().filter(is_ours));
        }
        if made != before {
            self.note(&made)
                .map_err(|error| failed("note which files of it are ours", &error))?;
        }
        for (file, content) in wanted {
            let file = self.etc.join(path(file));
            write(&file, content).map_err(|error| failed(&format!("write {}", file.display()), &error))?;
        }
        let all: BTreeSet<_> = wanted.keys().map(path).collect();
        let below = format!("{namespace}/");
        let going = made
            .files
            .iter()
            .filter(|file| file.starts_with(&below) && !all.contains(*file));
        let going: Vec<_> = going.cloned().collect();
        self.remove(made, &going)
            .map_err(|error| failed("remove its files in /etc/netns", &error))
    }

    /// Removes those of namespaces of which nothing is wanted.
    pub fn retain(&self, is_wanted: impl Fn(&str, &str) -> bool) -> io::Result<()> {
        let made = self.made()?;
        let is_going = |file: &&String| {
            file.split_once('/')
                .is_none_or(|(namespace, file)| !is_wanted(namespace, file))
        };
        let going: Vec<_> = made.files.iter().filter(is_going).cloned().collect();
        self.remove(made, &going)
    }

    /// Which of these files are not as they are to be.
    pub fn lost(&self, namespace: &NsName, wanted: &BTreeMap<EtcPath, String>) -> Vec<EtcPath> {
        let is_lost = |(file, content): &(&EtcPath, &String)| {
            let there = files::read_regular(&self.etc.join(format!("{namespace}/{file}")));
            there.ok().as_deref() != Some(content.as_bytes())
        };
        wanted.iter().filter(is_lost).map(|(file, _)| file.clone()).collect()
    }

    fn remove(&self, mut made: Made, going: &[String]) -> io::Result<()> {
        if going.is_empty() {
            return Ok(());
        }
        for file in going {
            gone_is_fine(fs::remove_file(self.etc.join(file)))?;
            made.files.remove(file);
        }
        // The inner ones first.
        for folder in made.folders.clone().into_iter().rev() {
            let below = if folder.is_empty() {
                folder.clone()
            } else {
                format!("{folder}/")
            };
            if made.files.iter().any(|file| file.starts_with(&below)) {
                continue;
            }
            match fs::remove_dir(self.etc.join(&folder)) {
                // Somebody else has put something there, whose it is from now on.
                Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {}
                removed => gone_is_fine(removed)?,
            }
            made.folders.remove(&folder);
        }
        self.note(&made)
    }
}

/// New files of namespaces that no command will see: they are put over those of /etc, and there is none of their name.
pub(super) fn nowhere_to_be_seen(before: &Lab, after: &Lab) -> Vec<String> {
    let mut warnings = Vec::new();
    for namespace in &after.namespaces {
        let old = before.namespace(&namespace.name);
        for file in namespace.files.keys() {
            let text = file.to_string();
            let first = text.split('/').next().unwrap_or(&text);
            let place = Path::new("/etc").join(first);
            if !old.is_some_and(|old| old.files.contains_key(file)) && !place.exists() {
                warnings.push(format!(
                    "file {file} of {} is seen by no command: there is no {} for it to be over; make that (an empty one will do)",
                    text::namespace(&namespace.name),
                    place.display()
                ));
            }
        }
    }
    warnings
}

/// The folders that a file is in, the outermost, which has no name here, first.
fn folders(file: &str) -> Vec<String> {
    let ends = file.match_indices('/').map(|(at, _)| file[..at].to_owned());
    std::iter::once(String::new()).chain(ends).collect()
}

/// In place, so that a command that runs, over whose own file it is mounted, sees it.
fn write(path: &Path, content: &str) -> io::Result<()> {
    if files::read_regular(path).is_ok_and(|there| there == content.as_bytes()) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(PUBLIC);
    files::open_regular(&mut options, path)?.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(files: &[(&str, &str)]) -> BTreeMap<EtcPath, String> {
        let file = |(path, text): &(&str, &str)| (path.parse().unwrap(), (*text).to_owned());
        files.iter().map(file).collect()
    }

    #[test]
    fn files_come_change_and_go_with_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, state) = (dir.path().join("netns"), dir.path().join("state"));
        let all = EtcFiles::at(&etc, &state);
        let (red, blue) = ("red".parse().unwrap(), "blue".parse().unwrap());
        all.set(&red, &wanted(&[("hosts", "a"), ("frr/daemons", "b")]), false)
            .unwrap();
        all.set(&blue, &wanted(&[("hosts", "c")]), false).unwrap();
        assert_eq!(fs::read_to_string(etc.join("red/frr/daemons")).unwrap(), "b");
        all.set(&red, &wanted(&[("hosts", "d")]), false).unwrap();
        assert_eq!(fs::read_to_string(etc.join("red/hosts")).unwrap(), "d");
        assert!(!etc.join("red/frr").exists() && etc.join("blue/hosts").exists());
        fs::write(etc.join("red/hosts"), "x").unwrap();
        assert_eq!(all.lost(&red, &wanted(&[("hosts", "d")])), ["hosts".parse().unwrap()]);
        all.set(&red, &wanted(&[("hosts", "d")]), false).unwrap();
        assert!(all.lost(&red, &wanted(&[("hosts", "d")])).is_empty());
        // Another daemon finds them.
        EtcFiles::at(&etc, &state)
            .retain(|namespace, _| namespace == "blue")
            .unwrap();
        assert!(!etc.join("red").exists() && etc.join("blue/hosts").exists());
        all.set(&blue, &wanted(&[]), false).unwrap();
        assert!(!etc.exists() && !all.list().exists());
    }

    /// A link of ours had made the folder, which nobody removed after the files.
    #[test]
    fn a_folder_with_files_and_links_goes_with_the_last_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, state) = (dir.path().join("netns"), dir.path().join("state"));
        let all = EtcFiles::at(&etc, &state);
        let (red, theirs): (NsName, NsName) = ("red".parse().unwrap(), "theirs".parse().unwrap());
        fs::create_dir_all(etc.join("theirs")).unwrap();
        let both = [red, theirs];
        let link = |name: &NsName| etc.join(name.as_str()).join("resolv.conf");
        for links_first in [true, false] {
            all.spare(both.iter()).unwrap();
            for name in &both {
                fs::create_dir_all(etc.join(name.as_str())).unwrap();
                std::os::unix::fs::symlink("/nowhere", link(name)).unwrap();
                all.set(name, &wanted(&[("hosts", "a")]), true).unwrap();
            }
            let unlink = || both.iter().for_each(|name| fs::remove_file(link(name)).unwrap());
            if links_first {
                unlink();
                all.leave(both.iter()).unwrap();
            }
            for name in &both {
                all.set(name, &wanted(&[]), !links_first).unwrap();
            }
            if !links_first {
                unlink();
                all.leave(both.iter()).unwrap();
            }
            assert!(
                !etc.join("red").exists() && etc.join("theirs").exists(),
                "{links_first}"
            );
            assert!(!all.list().exists());
        }
    }

    #[test]
    fn what_others_made_is_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, state) = (dir.path().join("netns"), dir.path().join("state"));
        let all = EtcFiles::at(&etc, &state);
        let red = "red".parse().unwrap();
        fs::create_dir_all(etc.join("red")).unwrap();
        fs::write(etc.join("red/hosts"), "theirs").unwrap();
        let error = all
            .set(&red, &wanted(&[("hosts", "a"), ("resolv.conf", "b")]), false)
            .unwrap_err();
        assert!(error.to_string().contains("did not make"), "{error}");
        assert!(!etc.join("red/resolv.conf").exists());
        all.set(&red, &wanted(&[("resolv.conf", "b")]), false).unwrap();
        all.set(&red, &wanted(&[]), false).unwrap();
        assert_eq!(fs::read_to_string(etc.join("red/hosts")).unwrap(), "theirs");
        assert!(!etc.join("red/resolv.conf").exists());
    }
}
