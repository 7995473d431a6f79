//! Which system calls a worker may make (seccomp(2)): a list, and what happens to all others.

use std::collections::BTreeMap;
use std::io;

use nix::sys::prctl::set_no_new_privs;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// What a worker does from its first frame to its end, whatever the kind of ports.
const ALLOWED: &[libc::c_long] = &[
    // Waiting, waking, timers.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_timerfd_settime,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_membarrier,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // Frames.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_io_uring_enter,
    // Counters of sockets.
    libc::SYS_getsockopt,
    // Memory; none that can be executed.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    // What it has the last hold of.
    libc::SYS_close,
    // Lines of the log that are too long for one datagram to the journal go there as a file in memory.
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_fcntl,
    libc::SYS_lseek,
    // Its end, and that of the process by a panic.
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_sched_getaffinity,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What libraries may try and can do without: it fails with EACCES.
const REFUSED: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    libc::SYS_openat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
];

/// Commands of bpf(2) that read and write maps (linux/bpf.h).
const MAP_COMMANDS: [u64; 4] = [
    1, // BPF_MAP_LOOKUP_ELEM
    2, // BPF_MAP_UPDATE_ELEM
    3, // BPF_MAP_DELETE_ELEM
    4, // BPF_MAP_GET_NEXT_KEY
];

/// The two lists as programs that the kernel runs at each call.
#[derive(Clone, Debug)]
pub struct WorkerFilter([BpfProgram; 2]);

impl WorkerFilter {
    /// Translates them, and sees to it that a call that is in none ends the process with a line that says which: a worker that does what
    /// it never does is not the daemon's any more, or a mistake that has to be heard of.
    ///
    /// # Errors
    /// It can't be had here: why.
    pub fn new() -> Result<Self, String> {
        let mut allowed = always(ALLOWED);
        // Of these the other program decides.
        allowed.extend(always(REFUSED));
        allowed.extend(conditional().map_err(|error| error.to_string())?);
        let allowed = program(allowed, SeccompAction::Trap, SeccompAction::Allow)?;
        let refused = fails_with(REFUSED, libc::EACCES)?;
        tell_of_violations().map_err(|error| error.to_string())?;
        Ok(Self([refused, allowed]))
    }

    /// Binds the calling thread, for as long as it lives.
    ///
    /// # Errors
    /// The kernel has no seccomp filters.
    pub fn apply(&self) -> io::Result<()> {
        let [refused, allowed] = &self.0;
        // After the second one no more can be installed.
        set_no_new_privs()?;
        for program in [refused, allowed] {
            install(program)?;
        }
        Ok(())
    }
}

/// These calls, whatever is asked of them.
fn always(calls: &[libc::c_long]) -> BTreeMap<libc::c_long, Vec<SeccompRule>> {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// What becomes of calls by these rules, and of all others.
fn program(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, others, these, arch).map_err(|error| error.to_string())?;
    BpfProgram::try_from(filter).map_err(|error| error.to_string())
}

/// These calls fail with this error, all others are made.
pub(crate) fn fails_with(calls: &[libc::c_long], error: libc::c_int) -> Result<BpfProgram, String> {
    program(
        always(calls),
        SeccompAction::Allow,
        SeccompAction::Errno(error.unsigned_abs()),
    )
}

/// By prctl(2), which filters of service managers let through more often than seccomp(2).
pub(crate) fn install(program: &BpfProgram) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        // The same struct by another name.
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    // SAFETY: the kernel reads as many instructions as are there, and keeps a copy.
    let installed = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::c_ulong::from(libc::SECCOMP_MODE_FILTER),
            &raw const filter,
            0,
            0,
        )
    };
    match installed {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Those that depend on what is asked of them.
fn conditional() -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, BackendError> {
    let condition = |argument, operator, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
        SeccompRule::new(vec![condition])
    };
    let no_code = |argument| condition(argument, SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64), 0);
    let maps = MAP_COMMANDS.map(|command| condition(0, SeccompCmpOp::Eq, command));
    Ok(BTreeMap::from([
        (libc::SYS_mmap, vec![no_code(2)?]),
        (libc::SYS_mprotect, vec![no_code(2)?]),
        // Where it runs itself, and no other.
        (libc::SYS_sched_setaffinity, vec![condition(0, SeccompCmpOp::Eq, 0)?]),
        (libc::SYS_bpf, maps.into_iter().collect::<Result<_, _>>()?),
    ]))
}

/// SIGSYS ends the process: with a line, and as a panic does.
fn tell_of_violations() -> nix::Result<()> {
    let action = SigAction::new(SigHandler::SigAction(violation), SaFlags::SA_SIGINFO, SigSet::empty());
    // SAFETY: the handler allocates nothing, takes no lock and does not return.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop)
}

extern "C" fn violation(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    /// Of `si_syscall` in siginfo_t of SIGSYS, on all machines of 64 bits (asm-generic/siginfo.h).
    const SYSCALL: usize = 24;
    // SAFETY: the kernel hands over a whole siginfo_t, which is longer and has an int there.
    let mut number = unsafe { info.byte_add(SYSCALL).cast::<libc::c_int>().read_unaligned() }.unsigned_abs();
    let mut digits = [0; 10];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    for part in [
        b"vswitchd: a worker made a system call that workers never make: number ",
        &digits[at..],
        b"; `seccomp = false` under [security] in vswitchd.toml turns the check off\n",
    ] as [&[u8]; 3]
    {
        // SAFETY: the bytes are there, and as many as is said.
        unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
    }
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    /// In a process of its own, which may die of it: what a thread does that is bound.
    type Deed = (&'static str, fn() -> Option<i32>);
    const DEEDS: &[Deed] = &[
        ("nothing", || None),
        ("open", || std::fs::File::open("/etc/passwd").err()?.raw_os_error()),
        ("allocate", || {
            let mut much = vec![1_u8; 1 << 24];
            much.resize(1 << 26, 2);
            None
        }),
        ("socket", || {
            std::net::UdpSocket::bind("127.0.0.1:0").err()?.raw_os_error()
        }),
        ("start", || Command::new("/bin/true").status().err()?.raw_os_error()),
        ("thread", || {
            std::thread::Builder::new().spawn(|| ()).err()?.raw_os_error()
        }),
        ("delete", || std::fs::remove_file("/nowhere").err()?.raw_os_error()),
        // BPF_PROG_LOAD
        // SAFETY: nothing is given that could be read or written.
        ("load", || Some(unsafe { libc::syscall(libc::SYS_bpf, 5, 0, 0) } as i32)),
        // SAFETY: it takes numbers.
        ("setns", || Some(unsafe { libc::setns(-1, 0) })),
        // SAFETY: TIOCCONS takes no argument.
        ("ioctl", || Some(unsafe { libc::ioctl(-1, libc::TIOCCONS) })),
        ("code", || {
            let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: new memory, at no place in particular.
            Some(unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) } as i32)
        }),
    ];

    #[test]
    #[ignore = "run by the next one, in a process of its own"]
    fn deed() {
        let wanted = std::env::var("DEED").unwrap();
        let (_, deed) = DEEDS.iter().find(|(name, _)| *name == wanted).unwrap();
        let filter = WorkerFilter::new().unwrap();
        let thread = std::thread::spawn(move || {
            filter.apply().unwrap();
            deed()
        });
        println!("came to {:?}", thread.join().unwrap());
    }

    #[test]
    fn what_is_not_in_the_list_ends_the_process_and_says_so() {
        for (name, _) in DEEDS {
            let this = std::env::current_exe().unwrap();
            let output = Command::new(this)
                .args(["--ignored", "--exact", "--nocapture", "syscalls::tests::deed"])
                .env("DEED", name)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            match *name {
                "nothing" | "allocate" => assert!(text.contains("came to None"), "{name}: {text}"),
                "open" => assert!(text.contains(&format!("came to Some({})", libc::EACCES)), "{text}"),
                // The C library blocks all signals meanwhile: the kernel ends the process by itself.
                "start" | "thread" => assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{name}: {text}"),
                _ => {
                    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{name}: {text}");
                    assert!(
                        text.contains("a system call that workers never make: number"),
                        "{name}: {text}"
                    );
                }
            }
        }
    }
}
