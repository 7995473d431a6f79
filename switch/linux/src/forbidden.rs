//! System calls that no thread of the daemon ever makes, and no command of a lab needs: whoever got hold of one of them is refused what
//! could change the whole machine, or reach into other processes. [`WorkerFilter`](crate::syscalls::WorkerFilter) is the narrow list of workers.

use std::io;

use crate::syscalls::{fails_with, install};

/// Refused with EPERM, as if the right for it were missing. What is in the unit's SystemCallFilter besides is for systemd alone.
const FORBIDDEN: &[libc::c_long] = &[
    // Another kernel, or more of it.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    // The memory and the descriptors of other processes, for which CAP_SYS_PTRACE would do: it is there to open their namespaces.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // What CAP_SYS_ADMIN allows besides mounts and namespaces.
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_pivot_root,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_syslog,
    // The clock.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // Parts of the kernel that attacks on it go by.
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_lookup_dcookie,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// Refuses them to this thread and to all that it starts, for good. To be called before there are other threads.
///
/// # Errors
/// It can't be had here: why.
pub fn forbid() -> Result<(), String> {
    // The program before this one, of which this is another by exec(2), has seen to it: the kernel would ask each of them.
    if is_forbidden() {
        return Ok(());
    }
    let program = fails_with(FORBIDDEN, libc::EPERM)?;
    install(&program).map_err(|error| error.to_string())
}

/// Asked by a call that never succeeds: without the list its flags are wrong, which are looked at first.
fn is_forbidden() -> bool {
    const NO_FLAGS: libc::c_ulong = 1;
    let none = std::ptr::null::<libc::iovec>();
    // SAFETY: no memory is named, neither of this process nor of another.
    let answer = unsafe { libc::process_vm_readv(0, none, 0, none, 0, NO_FLAGS) };
    answer < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, which ends with it. Each is called with arguments that no call takes, in case that it is let through.
    #[test]
    fn each_is_refused_to_a_thread_and_to_what_it_starts() {
        // A service manager, or what these tests run in, may have its own list and answer first.
        if is_forbidden() {
            eprintln!("left out: something forbids them here already");
            return;
        }
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if let Err(error) = nix::sys::prctl::set_no_new_privs()
                    .map_err(|error| error.to_string())
                    .and_then(|()| forbid())
                {
                    panic!("{error}");
                }
                let refused = |call: libc::c_long| {
                    // SAFETY: -1 is no address, no descriptor, no process and no flags that any of them takes.
                    let answer = unsafe { libc::syscall(call, -1, -1, -1, -1, -1, -1) };
                    answer == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
                };
                for call in FORBIDDEN {
                    assert!(refused(*call), "call {call} is let through");
                }
                assert!(is_forbidden());
                let filters = || {
                    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                    status
                        .lines()
                        .find(|line| line.starts_with("Seccomp_filters:"))
                        .map(str::to_owned)
                };
                let before = filters();
                forbid().unwrap();
                assert_eq!(filters(), before, "it was installed a second time");
                assert!(std::thread::spawn(is_forbidden).join().unwrap());
                // What it needs is there.
                let started = std::process::Command::new("/bin/true").status().unwrap();
                assert!(started.success());
            });
        });
        assert!(!is_forbidden(), "other threads keep theirs");
    }
}
