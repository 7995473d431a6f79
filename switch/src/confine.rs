//! What the daemon takes from itself as it starts: rights that it does not need, and from its workers nearly all that the kernel offers. So
//! whoever got hold of a worker by a frame could move frames, and little else.

use std::sync::atomic::{AtomicU32, Ordering};

use vswitch_api::view::Confinement;
use vswitch_linux::syscalls::WorkerFilter;
use vswitch_linux::{forbidden, rights};

use crate::config::Security;

/// What became of the rights of the whole process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Only those that are needed are left.
    pub kept: bool,
    /// What can do harm to the whole machine is refused to all of its threads.
    pub forbidden: bool,
    /// What was to be and is not, and why.
    pub limits: Vec<String>,
}

/// Takes from this process what it does not need. To be called before it has other threads.
pub fn process(security: &Security) -> Rights {
    let mut all = Rights::default();
    if security.drop_rights {
        match rights::keep_needed() {
            Ok(()) => all.kept = true,
            Err(error) => all
                .limits
                .push(format!("rights that are not needed can't be dropped: {error}")),
        }
    }
    if security.seccomp {
        match forbidden::forbid() {
            Ok(()) => all.forbidden = true,
            Err(cause) => all
                .limits
                .push(format!("system calls that are not needed can't be forbidden: {cause}")),
        }
    }
    all
}

/// What is taken from workers, and from how many it was.
#[derive(Debug)]
pub struct Workers {
    drop_rights: bool,
    /// They write to the maps of the fast path.
    maps: bool,
    filter: Option<WorkerFilter>,
    without_rights: AtomicU32,
    filtered: AtomicU32,
}

impl Workers {
    /// As the configuration has it; with the reason if less can be had.
    pub fn new(security: &Security, fastpath: bool) -> (Self, Option<String>) {
        let filter = security.seccomp.then(WorkerFilter::new).transpose();
        let (filter, limit) = match filter {
            Ok(filter) => (filter, None),
            Err(cause) => (
                None,
                Some(format!("workers can't be held to their system calls: {cause}")),
            ),
        };
        let workers = Self {
            drop_rights: security.drop_rights,
            maps: fastpath,
            filter,
            without_rights: AtomicU32::new(0),
            filtered: AtomicU32::new(0),
        };
        (workers, limit)
    }

    /// To be called by each worker before its first frame.
    pub fn confine(&self) {
        if self.drop_rights {
            match rights::keep_none_but_maps(self.maps) {
                Ok(()) => _ = self.without_rights.fetch_add(1, Ordering::Relaxed),
                Err(error) => tracing::error!("a worker keeps its rights: {error}"),
            }
        }
        if let Some(filter) = &self.filter {
            match filter.apply() {
                Ok(()) => _ = self.filtered.fetch_add(1, Ordering::Relaxed),
                Err(error) => tracing::error!("a worker can't be held to its system calls: {error}"),
            }
        }
    }

    /// What there is of it.
    pub fn view(&self, rights: &Rights) -> Confinement {
        Confinement {
            rights_kept: rights.kept,
            forbidden: rights.forbidden,
            workers_without_rights: self.without_rights.load(Ordering::Relaxed),
            workers_filtered: self.filtered.load(Ordering::Relaxed),
        }
    }
}
