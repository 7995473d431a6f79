//! For tests that need a kernel.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't be set up fails"
)]

use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tokio::time::timeout;

/// Runs a test in a network and mount namespace of its own with an empty /run and /etc/netns.
pub fn sandboxed<T>(test: impl AsyncFnOnce() -> T) -> T {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("this test needs root to make namespaces");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
    // What this machine has there is hidden below, but would still be listed among the mounts.
    let _ = nix::mount::umount2("/run/netns", nix::mount::MntFlags::MNT_DETACH);
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    if std::fs::create_dir_all("/etc/netns").is_ok() {
        mount(Some("tmpfs"), "/etc/netns", Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    // As the daemon has it: some tasks of control do what blocks in a thread that is set apart for it.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(30), test()).await.expect("the test hangs") })
}
