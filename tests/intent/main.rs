//! Intent before deed: nothing is lost on a bad day. What can't be written, read or told of changes nothing.

mod descriptors;
mod disks;
mod state_files;

use std::fs;
use std::os::unix::fs::MetadataExt;
use vswitch_testing::Place;

const STATE_DIR: &str = "/var/lib/vswitch";

const STATE: &str = "/var/lib/vswitch/state.json";

/// What a user has in a namespace, with what tells it from another one.
fn content(namespace: &str) -> (u64, String) {
    let inode = fs::metadata(format!("/run/netns/{namespace}")).unwrap().ino();
    let addresses = Place::named(namespace).run_ok("ip -o addr");
    // The kernel changes its own words for these while it looks for duplicates.
    let lasting: Vec<_> = addresses.lines().filter(|line| !line.contains("scope link")).collect();
    (inode, lasting.join("\n"))
}
