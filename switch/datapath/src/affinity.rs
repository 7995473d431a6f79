//! Which cores workers run on.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Whether workers may run on all of these.
pub fn check_cpus(cpus: &[usize]) -> io::Result<()> {
    let ours = sched_getaffinity(Pid::this())?;
    let usable = |cpu: usize| ours.is_set(cpu).unwrap_or(false);
    match cpus.iter().find(|cpu| !usable(**cpu)) {
        Some(cpu) => {
            let ours: Vec<_> = (0..CpuSet::count()).filter(|cpu| usable(*cpu)).collect();
            let cause = format!("core {cpu} is not one of those that this process may use ({ours:?})");
            Err(io::Error::new(io::ErrorKind::InvalidInput, cause))
        }
        None => Ok(()),
    }
}

/// Lets the calling thread run on all of these cores again.
pub(super) fn unpin(cores: &CpuSet) -> nix::Result<()> {
    sched_setaffinity(Pid::from_raw(0), cores)
}

/// Cores that the calling thread may run on.
pub(super) fn own() -> nix::Result<CpuSet> {
    sched_getaffinity(Pid::from_raw(0))
}

/// Keeps the calling thread on a core.
pub(super) fn pin(cpu: usize) -> nix::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set)
}
