//! The bpf file system of the daemon's own, in which programs and maps are pinned.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Removes all that is pinned under `root`, which ends the fast path, and the mount itself. Fine if there is nothing.
pub fn unmount(root: &Path) {
    if is_mounted(root) {
        for path in pinned(root) {
            remove_tree(&path);
        }
        if let Err(error) = umount2(root, MntFlags::MNT_DETACH) {
            tracing::warn!(path = %root.display(), "{}: can't unmount the bpf file system: {error}", root.display());
        }
    }
    let _ = fs::remove_dir(root);
}

fn is_mounted(root: &Path) -> bool {
    statfs(root).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn mount_at(root: &Path) -> io::Result<()> {
    if is_mounted(root) {
        return Ok(());
    }
    match fs::create_dir(root) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), root, Some("bpf"), flags, Some("mode=0700")).map_err(|error| {
        let _ = fs::remove_dir(root);
        error.into()
    })
}

pub(super) fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.into_iter().map(|entry| entry.path())
}

/// What daemons pinned. (The kernel puts two files of its own into each bpf file system.)
pub(super) fn pinned(root: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let is_ours = |path: &PathBuf| path.extension().is_none_or(|word| word != "debug");
    entries(root).filter(is_ours)
}

/// Removes a file, or a folder with what is in it (here never deeper than one).
pub(super) fn remove_tree(path: &Path) {
    let removed = if path.is_dir() {
        entries(path).for_each(|inner| drop(fs::remove_file(inner)));
        fs::remove_dir(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "{}: can't remove what is pinned there: {error}", path.display());
        }
        _ => {}
    }
}
