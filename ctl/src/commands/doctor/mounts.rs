//! Namespaces with names, which are mounts: what one process sees of them another need not see. A daemon in a mount namespace of its own
//! makes some that nobody else can enter, and finds none that others make.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use vswitch_api::view::{NamespaceSummary, Status};
use vswitch_api::{ApiError, ErrorCode};

use super::Item;
use super::installation::good;
use crate::commands::exec;

/// What has to be said to whoever starts the daemon.
const MEND: &str = "have vswitchd run without a mount namespace of its own: no PrivateTmp=, PrivateDevices=, PrivateMounts=, ProtectSystem= and \
                    such in its unit, -v /run/netns:/run/netns:rshared for its container";

/// Why the file of a namespace is none to enter.
pub fn no_namespace(object: String, path: &Path) -> ApiError {
    let shown = path.display();
    match has_mounted(path) {
        Some(who) => ApiError::new(
            ErrorCode::Conflict,
            object,
            format!("{shown} is a namespace for {who} alone, which has a mount namespace of its own"),
        )
        .hint(MEND),
        None => ApiError::new(ErrorCode::Conflict, object, format!("{shown} is no namespace"))
            .hint("a leftover file, if `vswitchctl ns list` has none of the name: `ip netns del` removes it then"),
    }
}

/// A process that sees a namespace at this path; the daemon, if it does.
fn has_mounted(path: &Path) -> Option<String> {
    let path = path.to_str()?;
    let is_it = |line: &str| {
        // proc_pid_mountinfo(5): the mount point is the fifth word, the type stands behind a lone dash.
        line.split(' ').nth(4) == Some(path) && line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("nsfs "))
    };
    let mut found = None;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|c| c.is_ascii_digit())) else {
            continue;
        };
        // It may end just now, or be another user's.
        let mounts = fs::read_to_string(process.path().join("mountinfo")).unwrap_or_default();
        if !mounts.lines().any(is_it) {
            continue;
        }
        let comm = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let who = format!("{} (pid {pid})", comm.trim());
        if comm.trim() == "vswitchd" {
            return Some(who);
        }
        found = Some(who);
    }
    found
}

/// Whether a process is seen to have another mount namespace than this one.
fn is_apart(pid: u32) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    matches!((of("self"), of(&pid.to_string())), (Some(own), Some(other)) if own != other)
}

/// Whether the namespaces that the daemon has can be entered from here.
pub fn seen(status: &Status, namespaces: &[NamespaceSummary]) -> Item {
    let present = namespaces.iter().filter(|one| one.present);
    let mut names = present.filter_map(|one| one.name.name());
    let apart = is_apart(status.pid);
    let is_unseen = |path: &Path| match statfs(path) {
        Ok(fs) => fs.filesystem_type() != NSFS_MAGIC,
        // One that goes just now is not there for the daemon either.
        Err(error) => error == Errno::ENOENT && apart,
    };
    let unseen = names.find(|name| is_unseen(&exec::file_of(name.as_str())));
    match unseen {
        None => good("namespaces", "those of the daemon can be entered"),
        Some(name) => Item {
            what: "namespaces",
            ok: false,
            detail: format!(
                "{} is a namespace for vswitchd (pid {}) and none for others: it has a mount namespace of its own; {MEND}",
                exec::file_of(name.as_str()).display(),
                status.pid
            ),
            mend: None,
        },
    }
}
