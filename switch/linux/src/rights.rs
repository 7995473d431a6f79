//! The rights (capabilities(7)) of this process and its threads: kept where they are needed, and taken where not.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// All that the daemon needs, and with it the commands of labs, which have no more rights than it. The unit names the same.
const NEEDED: [Capability; 13] = [
    // Interfaces, addresses, routes, tc.
    Capability::CAP_NET_ADMIN,
    // Packet sockets and AF_XDP.
    Capability::CAP_NET_RAW,
    // To hear of changes in all namespaces.
    Capability::CAP_NET_BROADCAST,
    // To enter, make and mount namespaces.
    Capability::CAP_SYS_ADMIN,
    // The maps of the fast path, for workers, which have no other right.
    Capability::CAP_BPF,
    // To open the namespaces of processes of other users.
    Capability::CAP_SYS_PTRACE,
    // The socket, files in /run/netns and /etc/netns.
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    // To end commands.
    Capability::CAP_KILL,
    // For commands: servers that bind a low port and go on as another user.
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
];

/// Lets this process, and what it starts, lock as much memory as it takes. What AF_XDP receives into is locked, and before Linux 5.12 rings and maps count as
/// such too: either there is no limit, or it takes CAP_IPC_LOCK. Lifting it takes CAP_SYS_RESOURCE, unless a service manager did.
fn lift_memory_limit() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
}

/// Takes all rights from this thread, and all that it starts from now on, but those that the daemon needs. None can come back by running
/// a program: neither for the daemon nor for commands. To be called before there are other threads.
///
/// # Errors
/// The kernel refuses a step.
pub fn keep_needed() -> Result<(), CapsError> {
    let mut needed = CapsHashSet::from(NEEDED);
    if lift_memory_limit().is_err() {
        needed.insert(Capability::CAP_IPC_LOCK);
    }
    // The bounding set first: it takes a right itself. Whoever lacks that has been bounded by somebody else.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for right in caps::runtime::thread_all_supported().difference(&needed) {
            caps::drop(None, CapSet::Bounding, *right)?;
        }
    }
    if caps::runtime::ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient)?;
    }
    keep(&needed)?;
    set_no_new_privs().map_err(|errno| CapsError::from(format!("PR_SET_NO_NEW_PRIVS: {}", errno.desc())))
}

/// Takes all rights from this thread but the one to write to maps of eBPF, if it is wanted and there.
///
/// # Errors
/// The kernel refuses a step.
pub fn keep_none_but_maps(maps: bool) -> Result<(), CapsError> {
    keep(&maps.then_some(Capability::CAP_BPF).into_iter().collect())
}

/// This thread keeps those of its rights that are among these.
fn keep(these: &CapsHashSet) -> Result<(), CapsError> {
    let kept = |set| Ok::<CapsHashSet, CapsError>(caps::read(None, set)?.intersection(these).copied().collect());
    let (effective, permitted) = (kept(CapSet::Effective)?, kept(CapSet::Permitted)?);
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &effective)?;
    caps::set(None, CapSet::Permitted, &permitted)
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::getrlimit;

    use super::*;

    fn status(key: &str) -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
    }

    /// Each in a thread of its own, which ends with what it lacks.
    #[test]
    fn a_thread_keeps_what_is_named_and_gets_nothing_back() {
        if status("CapEff") == 0 {
            eprintln!("left out: it needs rights that it can lose");
            return;
        }
        let all = status("CapEff");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                keep_needed().unwrap();
                let mut needed = NEEDED.iter().fold(0, |bits, right| bits | right.bitmask());
                if getrlimit(Resource::RLIMIT_MEMLOCK).unwrap().1 != RLIM_INFINITY {
                    needed |= Capability::CAP_IPC_LOCK.bitmask();
                }
                for key in ["CapEff", "CapPrm"] {
                    assert_eq!(status(key), all & needed, "{key}");
                }
                assert_eq!(status("CapBnd") & !needed, 0);
                assert_eq!((status("CapInh"), status("CapAmb"), status("NoNewPrivs")), (0, 0, 1));
                keep_none_but_maps(true).unwrap();
                assert_eq!(status("CapPrm"), all & Capability::CAP_BPF.bitmask());
                keep_none_but_maps(false).unwrap();
                assert_eq!((status("CapEff"), status("CapPrm")), (0, 0));
                assert!(caps::set(None, CapSet::Effective, &[Capability::CAP_NET_ADMIN].into()).is_err());
            });
        });
        assert_eq!(status("CapEff"), all, "others keep theirs");
    }
}
