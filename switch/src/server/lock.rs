//! One daemon per run directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use vswitch_api::error::{ApiError, ErrorCode};

use crate::files::{self, same_file};

/// The run directory is ours while this is held. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    dir: PathBuf,
    path: PathBuf,
}

impl RunLock {
    /// Makes the directory if it is not there, and takes the lock in it.
    ///
    /// # Errors
    /// `Conflict` if another daemon has it, `NotPermitted` or `Internal` if the directory can't be used.
    pub fn take(dir: &Path) -> Result<Self, ApiError> {
        let path = dir.join("lock");
        let failed = |error: std::io::Error| {
            let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
            let code = if denied {
                ErrorCode::NotPermitted
            } else {
                ErrorCode::Internal
            };
            ApiError::new(code, format!("run directory {}", dir.display()), error.to_string())
                .hint("choose another with --run-dir, or run as root")
        };
        loop {
            std::fs::create_dir_all(dir).map_err(failed)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = files::open_regular(&mut options, &path).map_err(|error| {
                let cause = std::io::Error::new(error.kind(), format!("open {}: {error}", path.display()));
                failed(cause)
            })?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(taken(dir, &mut file)),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // A daemon that stops removes the file, so the one just locked may have lost its name meanwhile.
            if !same_file(&file, &path) {
                continue;
            }
            file.set_len(0)
                .and_then(|()| writeln!(file, "{}", std::process::id()))
                .map_err(failed)?;
            return Ok(Self {
                file,
                dir: dir.to_owned(),
                path,
            });
        }
    }

    /// Makes the file again if somebody removed it: a second daemon would find the directory free. None if it is there.
    ///
    /// # Errors
    /// Those of [`RunLock::take`].
    pub fn put_back(&mut self) -> Option<Result<(), ApiError>> {
        if same_file(&self.file, &self.path) {
            return None;
        }
        let taken = Self::take(&self.dir);
        // The old file has no name, so nothing is removed as it goes.
        Some(taken.map(|lock| *self = lock))
    }
}

impl Drop for RunLock {
    /// Leaves nothing behind: an empty run directory goes too.
    fn drop(&mut self) {
        if same_file(&self.file, &self.path) {
            let _ = std::fs::remove_file(&self.path);
            let _ = std::fs::remove_dir(&self.dir);
        }
    }
}

fn taken(dir: &Path, file: &mut File) -> ApiError {
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    let who = if pid.trim().is_empty() {
        String::new()
    } else {
        format!(" (pid {})", pid.trim())
    };
    ApiError::new(
        ErrorCode::Conflict,
        format!("run directory {}", dir.display()),
        format!("another vswitchd{who} runs on it"),
    )
    .hint("stop that one, or give this one directories of its own with --run-dir and --state-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_refused_with_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let first = RunLock::take(&run).unwrap();
        let error = RunLock::take(&run).unwrap_err();
        assert_eq!(error.code, ErrorCode::Conflict);
        assert!(
            error.cause.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(!run.exists(), "the run directory was left behind");
        RunLock::take(&run).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_crash_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "4194305\n").unwrap();
        let _lock = RunLock::take(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join("lock")).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_lock_that_is_no_regular_file_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("lock");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &lock).unwrap();
        let error = RunLock::take(dir.path()).unwrap_err();
        assert!(error.cause.contains("symbolic link"), "{error}");
        assert!(!dir.path().join("elsewhere").exists());
        std::fs::remove_file(&lock).unwrap();
        nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let error = RunLock::take(dir.path()).unwrap_err();
        assert!(error.cause.contains("no regular file"), "{error}");
    }

    #[test]
    fn a_lock_that_somebody_removed_is_taken_again() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let mut lock = RunLock::take(&run).unwrap();
        assert!(lock.put_back().is_none());
        std::fs::remove_dir_all(&run).unwrap();
        lock.put_back().unwrap().unwrap();
        assert_eq!(RunLock::take(&run).unwrap_err().code, ErrorCode::Conflict);
        // Another daemon was faster.
        std::fs::remove_file(run.join("lock")).unwrap();
        let other = RunLock::take(&run).unwrap();
        assert_eq!(lock.put_back().unwrap().unwrap_err().code, ErrorCode::Conflict);
        drop(lock);
        assert!(run.join("lock").exists());
        drop(other);
    }

    #[test]
    fn a_run_directory_that_can_not_be_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(
            RunLock::take(&file.path().join("x")).unwrap_err().code,
            ErrorCode::Internal
        );
    }
}
