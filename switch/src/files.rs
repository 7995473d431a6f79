//! Files that the daemon alone writes, in folders where others may have put something else under their names.
//!
//! No symbolic link is followed and nothing that could block is waited for: a link or a FIFO there is an error, not a way in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Below which `ip netns exec` looks for files that take the place of those in /etc.
pub(crate) const ETC_NETNS: &str = "/etc/netns";
/// Of what the daemon keeps: the labs of a machine are nobody else's business.
const PRIVATE: u32 = 0o600;

/// Opens a regular file by these options.
pub(crate) fn open_regular(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => foreign("it is a symbolic link, which is not followed here; remove it"),
            _ => error,
        })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(foreign("it is no regular file; remove it"))
    }
}

fn foreign(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// The content of a regular file.
pub(crate) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_regular(OpenOptions::new().read(true), path)?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// A place as it is called without symbolic links and `..`, as far as it is there: of all its names the same one.
pub fn canonical(path: &Path) -> PathBuf {
    let there = path
        .ancestors()
        .find_map(|above| Some((above, fs::canonicalize(above).ok()?)));
    match there.map(|(above, found)| (path.strip_prefix(above), found)) {
        Some((Ok(rest), found)) if rest != Path::new("") => found.join(rest),
        Some((Ok(_), found)) => found,
        _ => path.to_owned(),
    }
}

/// What is not there needs no removal.
pub(crate) fn gone_is_fine(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes a file that only its owner can read, in the place of whatever has the name.
pub(crate) fn create_private(path: &Path) -> io::Result<File> {
    gone_is_fine(fs::remove_file(path))?;
    OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(path)
}

/// Reads a note that was written as JSON; none: there is no file.
///
/// # Errors
/// InvalidData: the file is there, and will never be understood.
pub(crate) fn read_note<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match read_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        content => {
            let note = serde_json::from_slice(&content?);
            note.map(Some)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
    }
}

/// Puts a note as JSON in the place of the one of this name, in one step: whoever reads it has the one or the other, also after a crash
/// of this program. It is not synced: for what does not outlive the machine.
pub(crate) fn replace_note(path: &Path, note: &impl Serialize) -> io::Result<()> {
    replace(path, note, |_| Ok(()))
}

/// The same, and after a crash of the machine too.
pub(crate) fn replace_lasting_note(path: &Path, note: &impl Serialize) -> io::Result<()> {
    replace(path, note, File::sync_all)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Removes a note, and what a daemon that was killed as it replaced it has left beside it; fine if there is none.
pub(crate) fn remove_note(path: &Path) -> io::Result<()> {
    gone_is_fine(fs::remove_file(beside(path)))?;
    gone_is_fine(fs::remove_file(path))
}

/// Where a note is written before it takes the place of the other.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

fn replace(path: &Path, note: &impl Serialize, settle: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
    let beside = beside(path);
    let written = (|| {
        let mut file = create_private(&beside)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        settle(&file)?;
        fs::rename(&beside, path)
    })();
    written.inspect_err(|_| {
        // What is left of it says nothing that the error does not say.
        let _ = fs::remove_file(&beside);
    })
}

/// Whether the open file is the one that has the name.
pub(crate) fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_link_a_fifo_and_a_folder_are_errors_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("target"), "theirs").unwrap();
        symlink(path("target"), path("link")).unwrap();
        mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for name in ["link", "fifo", "folder"] {
            let error = read_regular(&path(name)).unwrap_err();
            assert_ne!(error.kind(), io::ErrorKind::NotFound, "{name}: {error}");
        }
        assert_eq!(read_regular(&path("target")).unwrap(), b"theirs");
        assert_eq!(read_regular(&path("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_new_file_takes_the_place_of_a_link_and_leaves_its_target_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, "theirs").unwrap();
        symlink(&target, &link).unwrap();
        let made = create_private(&link).unwrap();
        assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        assert!(same_file(&made, &link));
    }
}
