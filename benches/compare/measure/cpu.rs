//! Processor time of the switch's processes and of the whole machine.
//!
//! Work that the kernel does for a switch in its own name (a bridge, the receiving side of a write to a TAP device) is
//! charged to whoever runs at that moment. So no peer's own time says all, and the machine's is reported beside it.

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};
use std::fs;

/// A reading, in seconds since some moment in the past.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Time of the processes asked for, with all their threads and children.
    pub switch: f64,
    /// Busy time of all processors, whoever used it.
    pub machine: f64,
}

impl Cpu {
    /// Reads the times of `pids` and of the machine.
    ///
    /// # Errors
    /// If one of the processes is gone.
    pub fn now(pids: &[u32]) -> Result<Self> {
        let ticks = sysconf(SysconfVar::CLK_TCK)?.context("the length of a clock tick is not known")? as f64;
        let mut switch = 0;
        for pid in pids {
            switch += Process::read(*pid)?.ticks;
        }
        for child in descendants(pids)? {
            switch += child.ticks;
        }
        let stat = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        let machine = busy_ticks(&stat).context("/proc/stat has no line of all processors")?;
        Ok(Self {
            switch: switch as f64 / ticks,
            machine: machine as f64 / ticks,
        })
    }

    /// The time between two readings.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            switch: self.switch - earlier.switch,
            machine: self.machine - earlier.machine,
        }
    }
}

/// What proc(5) says of a process.
struct Process {
    pid: u32,
    parent: u32,
    ticks: u64,
}

impl Process {
    fn read(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
        Self::parse(pid, &stat).with_context(|| format!("{path}: not as in proc(5)"))
    }

    fn parse(pid: u32, stat: &str) -> Option<Self> {
        // The name, in parentheses, may hold spaces and parentheses itself. Field 3, the state, follows.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let parent = fields.get(1)?.parse().ok()?;
        let user: u64 = fields.get(11)?.parse().ok()?;
        let system: u64 = fields.get(12)?.parse().ok()?;
        Some(Self {
            pid,
            parent,
            ticks: user + system,
        })
    }
}

fn descendants(pids: &[u32]) -> Result<Vec<Process>> {
    let mut others = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>()
            && !pids.contains(&pid)
            // One that ended since the directory was read does not matter.
            && let Ok(process) = Process::read(pid)
        {
            others.push(process);
        }
    }
    let mut family = pids.to_vec();
    let mut found = Vec::new();
    while let Some(index) = others.iter().position(|process| family.contains(&process.parent)) {
        let process = others.swap_remove(index);
        family.push(process.pid);
        found.push(process);
    }
    Ok(found)
}

/// All of the first line but idle (4th) and waiting for disks (5th). Guests' time is in the first two already.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .map_while(|field| field.parse().ok())
        .take(8)
        .collect();
    let idle = fields.get(3)? + fields.get(4)?;
    Some(fields.iter().sum::<u64>() - idle)
}

#[cfg(test)]
mod tests {
    use super::{Process, busy_ticks};

    #[test]
    fn a_process_name_may_look_like_more_fields() {
        let stat = "7 (a) S 1) R 42 7 7 0 -1 4194560 1 0 0 0 300 45 0 0 20 0 3 0 100 1 1";
        let process = Process::parse(7, stat).unwrap();
        assert_eq!((process.parent, process.ticks), (42, 345));
    }

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(busy_ticks("cpu  10 1 20 1000 500 2 3 4 5 6\ncpu0 1 1 1 1\n"), Some(40));
    }
}
