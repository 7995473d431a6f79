//! The state on disk.
//!
//! The file is replaced as a whole, in two halves: [`StateFile::prepare`] writes and syncs the new state beside the old one,
//! [`Prepared::commit`] renames it over the old one. Whatever can't be taken back is done only when the first half is: a disk that is
//! full says so before anything is lost. What the file was before stays beside it as `state.json.bak`.
//!
//! A file that can't be understood is never overwritten: the daemon does not start, until somebody says what to do with it.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::hash::Hash;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use vswitch_api::strict;
use vswitch_api::{ApiError, ErrorCode, Lab};

use super::state::{State, VERSION};
use super::text;
use super::validate::check_read;
use crate::files;

const NAME: &str = "state.json";
/// What the file was before the last change.
const BACKUP: &str = "state.json.bak";

/// Where the state is kept. While this is there no other daemon can have the directory.
#[derive(Clone, Debug)]
pub(super) struct StateFile {
    dir: PathBuf,
    /// Nothing is written: the lab of the next daemon is the one that is there.
    keeps: bool,
    /// None: there is no directory to be locked.
    _lock: Option<Arc<File>>,
}

/// What became of reading the state.
#[derive(Debug)]
pub(super) enum Loaded {
    /// None: there is no file, so the daemon was never used before.
    State(Option<Box<State>>),
    /// There is a file, and what it says can't be known.
    Unusable(String),
}

impl StateFile {
    /// Makes the directory, if that can be, and locks it: the last writer would win.
    ///
    /// # Errors
    /// Conflict: another daemon has it.
    pub fn open(dir: &Path) -> Result<Self, ApiError> {
        // One that can't be made, as on a read-only file system, is told by the first write.
        let _ = make_dir(dir);
        let object = || format!("state directory {}", dir.display());
        let lock = match File::open(dir) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::unlocked(dir));
            }
            Err(error) => {
                return Err(text::step(object(), "open it", &error).hint("choose another with --state-dir"));
            }
        };
        if lock.metadata().is_ok_and(|meta| is_others(meta.mode())) {
            tracing::warn!(
                "{}: others than its owner can write to it, and so choose what the daemon does: `chmod go-w {}`",
                object(),
                dir.display()
            );
        }
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(
                    ApiError::new(ErrorCode::Conflict, object(), "another vswitchd runs on it")
                        .hint("stop that one, or give this one a directory of its own with --state-dir"),
                );
            }
            // Not on every file system.
            Err(TryLockError::Error(error)) => {
                tracing::warn!("{}: it can't be locked against a second daemon: {error}", object());
            }
        }
        Ok(Self {
            _lock: Some(Arc::new(lock)),
            ..Self::unlocked(dir)
        })
    }

    /// To look at only, whoever has it.
    pub fn unlocked(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            keeps: false,
            _lock: None,
        }
    }

    /// Whether the file is to stay as it is from now on.
    pub fn keep(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// Whether there is a file, whatever is in it.
    pub fn is_there(&self) -> bool {
        self.path().symlink_metadata().is_ok()
    }

    /// Reads the state.
    pub fn load(&self) -> Loaded {
        match read(&self.path()) {
            Ok(state) => Loaded::State(state.map(Box::new)),
            Err(cause) => Loaded::Unusable(cause),
        }
    }

    /// Why the daemon does not start though there is no file: somebody has a lab, and this is not its state. `near_ends`: the run directory
    /// has interfaces of one.
    pub fn missing(&self, near_ends: bool) -> Option<ApiError> {
        let (path, backup) = (self.path(), self.dir.join(BACKUP));
        let has_backup = matches!(read(&backup), Ok(Some(_)));
        let (cause, hint) = match (near_ends, has_backup) {
            (false, false) => return None,
            (_, true) => (
                "it is not there, but its backup is",
                format!("put that in its place (cp {} {})", backup.display(), path.display()),
            ),
            (true, false) => (
                "it is not there, but the run directory has interfaces of a lab",
                "start with the --state-dir of that lab, which may not be mounted yet".to_owned(),
            ),
        };
        let error = ApiError::new(
            ErrorCode::Invalid,
            format!("state file {}", path.display()),
            format!("{cause}; nothing was changed, and what the kernel carries goes on"),
        );
        Some(error.hint(format!(
            "{hint}, or start once with --recover, which begins with an empty lab"
        )))
    }

    /// Why the daemon does not start, and how to go on.
    pub fn refusal(&self, cause: &str) -> ApiError {
        let (path, backup) = (self.path(), self.dir.join(BACKUP));
        let restore = match read(&backup) {
            Ok(Some(_)) => format!(
                "put the lab as it was before the last change in its place (cp {} {}), or ",
                backup.display(),
                path.display()
            ),
            _ => String::new(),
        };
        ApiError::new(
            ErrorCode::Invalid,
            format!("state file {}", path.display()),
            format!("{cause}; nothing was changed, and what the kernel carries goes on"),
        )
        .hint(format!(
            "start the vswitchd that wrote it, or mend it, or {restore}start once with --recover, which keeps it under another \
             name and begins with an empty lab"
        ))
    }

    /// The state to begin with where the file can't be used: nothing of its lab, but what it or its backup still tells of what was made.
    pub fn empty_lab(&self) -> State {
        let mut files = [self.path(), self.dir.join(BACKUP)].into_iter();
        let old = files.find_map(|path| files::read_note(&path).ok()?);
        old.as_ref().map_or_else(State::new, State::after)
    }

    /// Renames the file to a name that is not taken, so that two bad files within a second both stay. Its backup, by now the only good one,
    /// goes with it: the lab that begins empty would overwrite that.
    pub fn set_aside(&self) -> io::Result<PathBuf> {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut aside = self.dir.join(format!("{NAME}.aside-{seconds}"));
        let mut number = 1;
        while aside.symlink_metadata().is_ok() {
            aside = self.dir.join(format!("{NAME}.aside-{seconds}-{number}"));
            number += 1;
        }
        fs::rename(self.path(), &aside)?;
        let mut backup = aside.clone().into_os_string();
        backup.push(".bak");
        files::gone_is_fine(fs::rename(self.dir.join(BACKUP), backup))?;
        Ok(aside)
    }

    /// Writes and syncs a state beside the old one, which it may then replace.
    pub fn prepare(&self, state: &State) -> io::Result<Prepared> {
        let prepared = Prepared {
            dir: self.dir.clone(),
            content: serde_json::to_vec_pretty(state)?,
            pending: !self.keeps,
        };
        if self.keeps {
            return Ok(prepared);
        }
        make_dir(&self.dir)?;
        match prepared.write() {
            // The way out of a full disk: what is there now becomes the backup, so the one before it gives its room away.
            Err(error) if is_full(&error) && is_empty(&state.lab) && !prepared.is_there() => {
                files::gone_is_fine(fs::remove_file(self.dir.join(BACKUP)))?;
                prepared.write()?;
            }
            written => written?,
        }
        Ok(prepared)
    }

    /// Replaces the file. After an error it may hold the old or the new state, never a part.
    pub fn save(&self, state: &State) -> io::Result<()> {
        self.prepare(state)?.commit()
    }
}

/// A state that is on the disk, whole, and not yet the one that counts. It goes if it does not become that.
#[derive(Debug)]
#[must_use = "the state counts only when it is committed"]
pub(super) struct Prepared {
    dir: PathBuf,
    content: Vec<u8>,
    pending: bool,
}

impl Prepared {
    fn beside(&self) -> PathBuf {
        self.dir.join(format!("{NAME}.new"))
    }

    fn write(&self) -> io::Result<()> {
        let mut beside = files::create_private(&self.beside())?;
        beside.write_all(&self.content)?;
        beside.sync_all()
    }

    /// Whether the old one says the same.
    fn is_there(&self) -> bool {
        files::read_regular(&self.dir.join(NAME)).is_ok_and(|old| old == self.content)
    }

    /// Puts it in the place of the old one, which stays as the backup.
    pub fn commit(mut self) -> io::Result<()> {
        if !self.pending {
            // The old one is kept.
            return Ok(());
        }
        let path = self.dir.join(NAME);
        if self.is_there() {
            return Ok(());
        }
        let backup = self.dir.join(BACKUP);
        let _ = fs::remove_file(&backup);
        match fs::hard_link(&path, &backup) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %backup.display(), "{}: can't keep the state before this change: {error}", backup.display());
            }
            _ => {}
        }
        fs::rename(self.beside(), path)?;
        self.pending = false;
        File::open(&self.dir)?.sync_all()
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.pending {
            // What is left of it says nothing that the error does not say.
            let _ = fs::remove_file(self.beside());
        }
    }
}

/// Whether others can put files of theirs in the place of those in a directory of this mode.
fn is_others(mode: u32) -> bool {
    mode & 0o022 != 0 && mode & libc::S_ISVTX == 0
}

/// Whether it is what a reset leaves.
fn is_empty(lab: &Lab) -> bool {
    lab.ports.is_empty() && lab.namespaces.is_empty() && lab.cables.is_empty() && lab.commands.is_empty()
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the directory, if it is not there, for its owner alone.
fn make_dir(dir: &Path) -> io::Result<()> {
    dir.parent().map_or(Ok(()), fs::create_dir_all)?;
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The state in a file; none if there is no such file. The error is why it can't be had.
fn read(path: &Path) -> Result<Option<State>, String> {
    let mut file = match files::open_regular(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("read it: {error}")),
    };
    // Those of earlier versions could be read by all.
    if file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
        let _ = file.set_permissions(Permissions::from_mode(0o600));
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)
        .map_err(|error| format!("read it: {error}"))?;
    understand(&content).map(Some)
}

fn understand(content: &[u8]) -> Result<State, String> {
    /// What every version has.
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u64,
    }
    match serde_json::from_slice::<Versioned>(content) {
        Ok(Versioned { version }) if version != u64::from(VERSION) => Err(format!(
            "it has version {version}, and this vswitchd reads version {VERSION}"
        )),
        Ok(_) => {
            let state: State = strict::from_json(content)
                .map_err(|error| format!("it has what this vswitchd does not know: {error}"))?;
            match named_twice(&state.lab) {
                Some(object) => Err(format!("it is damaged: {object} is named twice in it")),
                None => match check_read(&state.lab) {
                    Err(ApiError { object, cause, .. }) => Err(format!("it is damaged: {object}: {cause}")),
                    Ok(()) => Ok(state),
                },
            }
        }
        Err(error) => Err(format!("it is damaged: {error}")),
    }
}

/// What is found by its name and has one that another has: of two of one name only one would be seen. vswitchd never writes such.
fn named_twice(lab: &Lab) -> Option<String> {
    fn first<'a, T>(names: impl Iterator<Item = &'a T>, object: fn(&T) -> String) -> Option<String>
    where
        T: Eq + Hash + 'a,
    {
        let mut seen = HashSet::new();
        let mut names = names;
        names.find(|name| !seen.insert(*name)).map(object)
    }
    first(lab.ports.iter().map(|port| &port.name), text::port)
        .or_else(|| first(lab.switches.iter().map(|switch| &switch.name), text::switch))
        .or_else(|| first(lab.mirrors.iter().map(|mirror| &mirror.name), text::mirror))
        .or_else(|| first(lab.commands.iter().map(|command| &command.name), text::command))
}

#[cfg(test)]
mod tests;
