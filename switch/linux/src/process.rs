//! Processes: what /proc tells of them, and signals that reach the one that was meant.
//!
//! A process id is used again once its process is gone. A pidfd is not, so signals go by it, after a look whether it is still the one.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use tokio::io::unix::AsyncFd;

use super::error::KernelError;
use super::poll::readable;

/// What /proc/PID/stat tells (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub pid: u32,
    /// It has ended, and nobody has asked how.
    pub zombie: bool,
    /// Its parent.
    pub parent: u32,
    /// Its session, named by the process that began it. The number is not used again while there is a process in the session.
    pub session: u32,
    /// When it began, in ticks since the boot. With the id it tells it from all others of this boot.
    pub start: u64,
}

/// What there is to be told of a process; none if there is no process of this id.
pub fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

/// What the text of such a file tells.
pub(super) fn parse(pid: u32, text: &str) -> Option<Stat> {
    // The name is in brackets and may have any others in it.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some(Stat {
        pid,
        zombie: matches!(fields.first().copied(), Some("Z" | "X" | "x")),
        parent: number(1)? as u32,
        session: number(3)? as u32,
        start: number(19)?,
    })
}

/// All processes that can be seen.
///
/// # Errors
/// /proc can't be read.
pub fn all() -> io::Result<Vec<Stat>> {
    let pids = fs::read_dir("/proc")?.flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(stat).collect())
}

/// All that descends from a process, as it is now.
pub fn descendants(of: u32) -> Vec<Stat> {
    let mut found: Vec<Stat> = Vec::new();
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        let Some(children) = children(parent) else {
            // A kernel without CONFIG_PROC_CHILDREN.
            return descendants_by_parents(of);
        };
        for child in children.into_iter().filter_map(stat) {
            if found.iter().all(|known| known.pid != child.pid) {
                next.push(child.pid);
                found.push(child);
            }
        }
    }
    found
}

/// None: the kernel does not tell.
fn children(pid: u32) -> Option<Vec<u32>> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        // It has just ended.
        return Some(Vec::new());
    };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(text) => found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && task.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(found)
}

fn descendants_by_parents(of: u32) -> Vec<Stat> {
    let all = all().unwrap_or_default();
    let mut found: Vec<Stat> = Vec::new();
    let mut next = vec![of];
    while let Some(parent) = next.pop() {
        for child in all.iter().filter(|stat| stat.parent == parent) {
            if found.iter().all(|known| known.pid != child.pid) {
                next.push(child.pid);
                found.push(*child);
            }
        }
    }
    found
}

/// Whether a process was started with this variable (`NAME=VALUE`) in its environment, as far as that can be read and is still there.
///
/// In the midst of execve(2) there is nothing to read for a moment; that moment is waited for. Blocks for up to 10 ms at a process without any
/// environment.
pub fn has_variable(pid: u32, variable: &str) -> bool {
    for _ in 0..10 {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        // What has no program is the kernel's own, or has ended.
        if !environment.is_empty() || fs::read_link(format!("/proc/{pid}/exe")).is_err() {
            return environment
                .split(|byte| *byte == 0)
                .any(|one| one == variable.as_bytes());
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}

/// A process that no other is taken for, whatever becomes of its id.
#[derive(Debug)]
pub struct Handle {
    fd: OwnedFd,
    pid: u32,
}

impl Handle {
    /// The process of this id that began then; none if it is gone.
    ///
    /// # Errors
    /// Want of descriptors.
    pub fn open(pid: u32, start: u64) -> Result<Option<Self>, KernelError> {
        let Some(fd) = pidfd_open(pid).map_err(|error| KernelError::new(format!("open process {pid}"), error))? else {
            return Ok(None);
        };
        // The descriptor is of whoever had the id when it was opened: if that one began at another time, it is another.
        Ok(stat(pid)
            .filter(|stat| stat.start == start && !stat.zombie)
            .map(|_| Self { fd, pid }))
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal. One that is gone gets none, which is no error.
    ///
    /// # Errors
    /// EPERM: it belongs to somebody else.
    pub fn signal(&self, signal: Signal) -> Result<(), KernelError> {
        // SAFETY: pidfd_send_signal(2) with an open descriptor, a valid signal, no siginfo and no flags touches no memory of ours.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal as libc::c_int,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Errno::result(sent) {
            Ok(_) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(KernelError::new(
                format!("send {signal} to process {}", self.pid),
                error,
            )),
        }
    }

    /// Takes note that it has ended, if it was started by this process: it would stay a zombie. Of others there is nothing to be told.
    pub fn reap(&self) {
        let _ = waitid(Id::PIDFd(self.fd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// It can't be waited for, for want of descriptors.
    pub async fn ended(&self) -> io::Result<()> {
        let fd: AsyncFd<OwnedFd> = readable(self.fd.try_clone()?)?;
        fd.readable().await?.retain_ready();
        Ok(())
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// None: there is no such process.
pub(super) fn pidfd_open(pid: u32) -> nix::Result<Option<OwnedFd>> {
    // SAFETY: pidfd_open(2) takes two numbers; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match Errno::result(fd) {
        // SAFETY: the kernel has just opened it for us alone.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        Err(Errno::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_brackets_hides_nothing() {
        let rest = (4..=22).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let read = |text: &str| parse(7, text).map(|stat| (stat.zombie, stat.start));
        assert_eq!(read(&format!("7 (a) Z 1 (b) R {rest} 23")), Some((false, 22)));
        for wrong in ["", "7 (a", "7 (a) ", "7 (a) R 4 5", "7 (a) R 4 5 x"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_name_with_brackets_and_spaces_moves_no_field() {
        let text = "17 (a) 9 (b) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        let stat = parse(17, text).unwrap();
        assert_eq!((stat.parent, stat.session, stat.start, stat.zombie), (1, 3, 4711, true));
        assert_eq!(parse(17, "17 (a"), None);
        assert_eq!(parse(17, "17 (a) R 1 2"), None);
    }

    #[test]
    fn only_the_process_that_was_meant_gets_the_signal() {
        let mut child = Command::new("sleep")
            .arg("100")
            .env("VSWITCH_TEST_MARK", "x7")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let now = stat(child.id()).unwrap();
        assert_eq!(now.parent, std::process::id());
        assert!(
            descendants(std::process::id())
                .iter()
                .any(|stat| stat.pid == child.id())
        );
        assert_eq!(
            descendants_by_parents(std::process::id())
                .iter()
                .filter(|stat| stat.pid == child.id())
                .count(),
            1
        );
        assert!(has_variable(child.id(), "VSWITCH_TEST_MARK=x7"));
        assert!(!has_variable(child.id(), "VSWITCH_TEST_MARK=x"));
        assert!(Handle::open(child.id(), now.start + 1).unwrap().is_none());
        let process = Handle::open(child.id(), now.start).unwrap().unwrap();
        process.signal(Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        process.signal(Signal::SIGKILL).unwrap();
        assert!(Handle::open(child.id(), now.start).unwrap().is_none());
    }
}
