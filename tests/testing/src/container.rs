//! Processes in network namespaces of their own, as containers have them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::netns::run;
use crate::wait::wait_for;

/// A process in a network namespace of its own; it ends with the value.
pub struct Container(Child);

impl Container {
    /// Starts it.
    pub fn start() -> Self {
        let child = Command::new("unshare")
            .args(["-n", "sleep", "1000"])
            .stdin(Stdio::null())
            .spawn();
        let container = Self(child.unwrap());
        wait_for("the process to be in a namespace of its own", || {
            // Of this thread, which is where the lab is.
            let here = fs::read_link("/proc/thread-self/ns/net").unwrap();
            fs::read_link(container.file()).is_ok_and(|there| there != here)
        });
        container
    }

    /// The same of a process that was started otherwise.
    pub fn of(process: Child) -> Self {
        Self(process)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The file by which its namespace is found.
    pub fn file(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    /// What tells its namespace from others.
    pub fn inode(&self) -> u64 {
        fs::metadata(self.file()).unwrap().ino()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Whether the daemon has anything open that keeps a namespace alive: no file of it, no socket or TAP queue in it. The kernel has no
/// list of those, but a namespace that ends takes its interfaces along, so the other end of a veth tells.
pub struct Canary(String);

impl Canary {
    /// Puts one end of a veth pair into the namespace; the other one, of this name, stays here.
    pub fn put_into(container: &Container, name: &str) -> Self {
        run(&format!(
            "ip link add {name} type veth peer name canary netns {}",
            container.pid()
        ));
        Self(name.to_owned())
    }

    /// Waits for the end of the namespace.
    pub fn wait_until_gone(&self) {
        wait_for("the namespace to end", || {
            !Path::new("/sys/class/net").join(&self.0).exists()
        });
    }
}
