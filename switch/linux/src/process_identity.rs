//! Processes whose namespaces are used. A number alone is not enough: the kernel gives it to another as soon as the process has ended.

use std::fs;
use std::io;
use std::path::{Component, Path};

use nix::errno::Errno;

use super::error::KernelError;
use super::names::process_behind;
use super::netns::NetNs;
use super::presence::Presence;
use super::process::parse;

/// A process, told from any that gets its number later in this boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it was started, in ticks since the boot (proc_pid_stat(5), field 22).
    pub started: u64,
}

impl Process {
    /// The process that has this number now. One that has ended and is not yet waited for has no namespaces any more, and is gone.
    pub fn look(pid: u32) -> Presence<Self> {
        let path = format!("/proc/{pid}/stat");
        let failed = |error: io::Error| KernelError::new(format!("look at process {pid}"), error);
        let stat = match fs::read(&path) {
            Ok(stat) => stat,
            Err(error) => return Presence::of(Err(failed(error)), is_no_process),
        };
        match parse(pid, &String::from_utf8_lossy(&stat)) {
            Some(stat) if stat.zombie => Presence::Gone,
            Some(stat) => Presence::Here(Self {
                pid,
                started: stat.start,
            }),
            None => Presence::Unknown(failed(io::ErrorKind::InvalidData.into())),
        }
    }

    /// The process that a path leads through, as `/proc/4711/ns/net` and links to it do.
    pub fn behind(path: &Path) -> Option<u32> {
        let mut parts = path.components().skip(1);
        if parts.next() == Some(Component::Normal("proc".as_ref()))
            && let Some(Component::Normal(pid)) = parts.next()
            && let Some(pid) = pid.to_str().and_then(|pid| pid.parse().ok())
        {
            return Some(pid);
        }
        process_behind(path)
    }

    /// Whether it still lives.
    pub fn lives(self) -> Presence<()> {
        match Self::look(self.pid) {
            Presence::Here(now) if now == self => Presence::Here(()),
            Presence::Here(_) | Presence::Gone => Presence::Gone,
            Presence::Unknown(error) => Presence::Unknown(error),
        }
    }

    /// The namespace that it is in, which no other can have been that got its number meanwhile.
    pub fn netns(self) -> Presence<NetNs> {
        match NetNs::of_process(self.pid) {
            // It still has the number, so it was it that was asked.
            Presence::Here(netns) => match self.lives() {
                Presence::Here(()) => Presence::Here(netns),
                Presence::Gone => Presence::Gone,
                Presence::Unknown(error) => Presence::Unknown(error),
            },
            other => other,
        }
    }
}

/// How a process calls itself (proc_pid_comm(5)).
pub fn process_name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// In which control groups a process is, as it is told: engines give each container one with its id.
pub fn process_groups(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()
}

fn is_no_process(error: &KernelError) -> bool {
    matches!(error.errno(), Some(Errno::ENOENT | Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_itself_until_it_has_ended() {
        let mut child = Command::new("sleep").arg("100").stdin(Stdio::null()).spawn().unwrap();
        let process = Process::look(child.id()).known().unwrap().unwrap();
        assert!(process.netns().known().unwrap().is_some());
        let earlier = Process {
            started: process.started - 1,
            ..process
        };
        assert!(
            earlier.netns().is_gone() && earlier.lives().is_gone(),
            "another had the number"
        );
        let file = format!("/proc/{}/ns/net", child.id());
        assert_eq!(Process::behind(Path::new(&file)), Some(child.id()));
        child.kill().unwrap();
        // It is not waited for yet, once it has ended.
        for _ in 0..1000 {
            if process.lives().is_gone() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(process.netns().is_gone());
        child.wait().unwrap();
        assert!(Process::look(child.id()).is_gone());
    }
}
