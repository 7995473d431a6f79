//! Memory: how much may still be taken, and what is free goes back to the kernel.

use std::fs;
use std::path::{Path, PathBuf};

use procfs::process::Process;
use procfs::{Current, Meminfo};

/// More than any machine has: how version 1 of control groups says that there is no limit.
const NO_LIMIT: u64 = 1 << 60;

/// What is a large block to the allocator: its own default, as long as it has learned nothing.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Memory that may still be taken, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// What has no more, in words.
    pub of: String,
}

/// The least of what the machine and the control groups of this process have left. None: it can't be told.
pub fn room() -> Option<Room> {
    let machine = Meminfo::current().ok().and_then(|memory| memory.mem_available);
    let machine = machine.map(|bytes| Room {
        bytes,
        of: "the machine".to_owned(),
    });
    groups().into_iter().chain(machine).min_by_key(|room| room.bytes)
}

/// Names of the files of a control group.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// In `memory.stat`: what the kernel takes back before it refuses more.
    given_back: &'static str,
}

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    given_back: "total_inactive_file",
};
const V2: Files = Files {
    limit: "memory.max",
    used: "memory.current",
    given_back: "inactive_file",
};

/// What the control groups of this process, from its own upwards, have left.
fn groups() -> Vec<Room> {
    let Ok(this) = Process::myself() else { return Vec::new() };
    let (Ok(groups), Ok(mounts)) = (this.cgroups(), this.mountinfo()) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for group in groups {
        // The one without controllers is that of version 2.
        let v2 = group.hierarchy == 0;
        if !v2 && !group.controllers.iter().any(|name| name == "memory") {
            continue;
        }
        let of_it = mounts.0.iter().filter(|mount| match v2 {
            true => mount.fs_type == "cgroup2",
            false => mount.fs_type == "cgroup" && mount.super_options.contains_key("memory"),
        });
        let files = if v2 { &V2 } else { &V1 };
        // At one place it may be hidden by what was mounted over that.
        for mount in of_it {
            // Of a container perhaps only its own part is mounted.
            let below = Path::new(&group.pathname);
            let below = below.strip_prefix(&mount.root).unwrap_or(below);
            let below = below.strip_prefix("/").unwrap_or(below);
            all.extend(below.ancestors().filter_map(|path| {
                let bytes = left(&mount.mount_point.join(path), files)?;
                let name = Path::new("/").join(path);
                Some(Room {
                    bytes,
                    of: format!("control group {}", name.display()),
                })
            }));
        }
    }
    all
}

/// What a group has left; None if it has no limit.
fn left(folder: &Path, files: &Files) -> Option<u64> {
    let read = |name: &str| fs::read_to_string(PathBuf::from(folder).join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<u64>().ok();
    let limit = number(files.limit).filter(|limit| *limit < NO_LIMIT)?;
    let used = number(files.used)?;
    let given_back = read("memory.stat").and_then(|text| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == files.given_back)?.1.parse::<u64>().ok()
    });
    Some(limit.saturating_sub(used.saturating_sub(given_back.unwrap_or(0))))
}

/// Has the allocator ask the kernel for each large block by itself, give it back as it is freed, and keep the rest in one heap. To be
/// called once, at the start.
///
/// What workers do with frames allocates nothing, and of the others few do at a time: heaps of their own would only each keep what one of
/// them needed once.
///
/// By default it learns from the first table of stations that is freed (4 MiB) to take such blocks from what it keeps, for each of up to
/// eight times as many threads as there are processors: the tables are touched as a whole then, and a daemon that adds and removes switches grows to 150 MiB.
pub fn keep_little() {
    // SAFETY: it takes numbers, and sets the allocator's own settings under its lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what the allocator keeps of what was freed: after something that needed much for a while.
pub fn give_back() {
    // SAFETY: it takes a number, and looks at nothing but the allocator's own lists, under their locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_left_what_is_below_its_limit() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(left(folder.path(), &V2), None, "no group");
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left(folder.path(), &V2), None, "no limit");
        write("memory.max", "1000\n");
        assert_eq!(left(folder.path(), &V2), Some(300));
        write("memory.stat", "anon 500\ninactive_file 150\n");
        assert_eq!(left(folder.path(), &V2), Some(450));
        write("memory.max", "100\n");
        assert_eq!(left(folder.path(), &V2), Some(0));
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("memory.usage_in_bytes", "700\n");
        assert_eq!(left(folder.path(), &V1), None, "no limit");
    }

    #[test]
    fn the_machine_has_some() {
        assert!(room().is_some_and(|room| room.bytes > 0));
    }
}
