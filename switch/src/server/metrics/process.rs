//! What the kernel tells of this process and its threads, as all exporters show it.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use vswitch_linux::process::stat;

/// This process at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// Seconds of processors that it used.
    pub cpu_seconds: f64,
    /// Bytes of memory that it has, and that it could have.
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    /// Open descriptors, and how many there may be.
    pub open_fds: u64,
    pub max_fds: u64,
    pub threads: u64,
    /// When it began, in seconds since the Unix epoch.
    pub start_seconds: f64,
    /// Seconds of processors of each worker, by its number.
    pub workers: Vec<(String, f64)>,
}

impl Process {
    /// What can't be read is 0.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let first = |text: &str| text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        let field = |name: &str| {
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(first).unwrap_or(0u64)
        };
        let max_fds = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let mut process = Self {
            resident_bytes: field("VmRSS") * 1024,
            virtual_bytes: field("VmSize") * 1024,
            threads: field("Threads"),
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64),
            // "unlimited" is no number.
            max_fds: max_fds.map_or(0, |value| first(value).unwrap_or(u64::MAX)),
            start_seconds: start().unwrap_or(0.0),
            // With that of threads that have ended.
            cpu_seconds: clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(0.0, seconds),
            ..Self::default()
        };
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
            if let Some(number) = read("comm").trim_end().strip_prefix("worker-") {
                // Nanoseconds on a processor come first (Documentation/scheduler/sched-stats.rst).
                let nanos = first(&read("schedstat")).unwrap_or(0u64);
                process.workers.push((number.to_owned(), nanos as f64 / 1e9));
            }
        }
        process
            .workers
            .sort_by(|a, b| (a.0.len(), &a.0).cmp(&(b.0.len(), &b.0)));
        process
    }
}

fn seconds(time: nix::sys::time::TimeSpec) -> f64 {
    time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9
}

/// From the age of the process, so that it is right by the clock of now.
fn start() -> Option<f64> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok()?? as f64;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let age = uptime - stat(std::process::id())?.start as f64 / ticks;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    // To the second: it must not seem to begin anew.
    Some((now.as_secs_f64() - age).round())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_of() {
        let process = Process::now();
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes);
        assert!(process.open_fds >= 3 && process.max_fds >= process.open_fds);
        assert!(process.threads >= 1 && process.cpu_seconds >= 0.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(process.start_seconds > 0.0 && process.start_seconds <= now + 1.0);
    }
}
