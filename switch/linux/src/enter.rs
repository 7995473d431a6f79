//! Moving this process into a namespace, as `ip netns exec` does before it starts a command.

use std::fs;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::error::KernelError;
use super::netns::NetNs;

const NONE: Option<&str> = None;

/// Moves the calling thread, which should be the only one, into the namespace, with a mount namespace of its own in which /sys shows
/// the interfaces of that namespace, and the files of `etc` (`/etc/netns/NAME`) take the place of those of the same name in /etc.
///
/// Gives what did not work, though commands can do without it.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN. The thread may be half-way there.
pub fn enter(netns: &NetNs, name: &str, etc: &Path) -> Result<Vec<String>, KernelError> {
    let mut lacking = Vec::new();
    setns(netns, CloneFlags::CLONE_NEWNET).map_err(|e| KernelError::new(format!("enter {netns}"), e))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| KernelError::new("make a mount namespace", e))?;
    // From here on no mount is seen outside, and those that go outside go here too.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .map_err(|e| KernelError::new("keep mounts inside", e))?;
    if let Err(e) = fresh_sys(name) {
        // As in a container without the right to mount sysfs.
        lacking.push(format!("/sys shows the interfaces of outside: {}", e.desc()));
    }
    for entry in fs::read_dir(etc).into_iter().flatten().flatten() {
        let target = Path::new("/etc").join(entry.file_name());
        if let Err(e) = mount(Some(&entry.path()), &target, NONE, MsFlags::MS_BIND, NONE) {
            lacking.push(format!(
                "{} is not over {}: {}",
                entry.path().display(),
                target.display(),
                e.desc()
            ));
        }
    }
    Ok(lacking)
}

/// A sysfs shows the network namespace in which it was mounted.
fn fresh_sys(name: &str) -> nix::Result<()> {
    let mut flags = MsFlags::empty();
    if umount2("/sys", MntFlags::MNT_DETACH).is_err()
        && statvfs("/sys").is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
    {
        // The kernel refuses a writable sysfs over a read-only one.
        flags = MsFlags::MS_RDONLY;
    }
    mount(Some(name), "/sys", Some("sysfs"), flags, NONE)
}
