//! Makes the n-th kernel step of the daemon fail, or be its last.
//!
//! The daemon gets a seccomp filter (seccomp(2), SECCOMP_RET_USER_NOTIF) that asks this process about each of the
//! system calls by which it changes the kernel. Here they are counted over all its threads and let pass, except one.
//! (strace's fault injection counts by thread, so it can't fail just the n-th of a daemon with many.)

use std::fs;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::Daemon;

/// System calls by which the daemon changes the kernel's network or mounts, opens devices and keeps its state.
const STEPS: [(libc::c_long, &str); 10] = [
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_mount, "mount"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_setsockopt, "setsockopt"),
    (libc::SYS_sendto, "sendto"),
];
/// Besides these: system calls between which a daemon that is killed may leave something half-done.
const MORE_STEPS: [(libc::c_long, &str); 6] = [
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_renameat2, "renameat2"),
];
/// The older ones, which some machines have.
#[cfg(target_arch = "x86_64")]
const OLD_STEPS: &[(libc::c_long, &str)] = &[
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_link, "link"),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_STEPS: &[(libc::c_long, &str)] = &[(libc::SYS_renameat, "renameat")];
/// Where the filter's descriptor lies in the daemon, until it is taken from there.
const LISTENER: RawFd = 900;
/// `sizeof(struct sockaddr_nl)`: by this a message to the kernel is told from an answer on the control socket.
const SOCKADDR_NL: u64 = 12;

nix::ioctl_readwrite! {
    /// SECCOMP_IOCTL_NOTIF_RECV
    receive, b'!', 0, libc::seccomp_notif
}
nix::ioctl_readwrite! {
    /// SECCOMP_IOCTL_NOTIF_SEND
    respond, b'!', 1, libc::seccomp_notif_resp
}

/// What becomes of the n-th step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Deed {
    #[default]
    Fail,
    /// The daemon is killed before it is carried out.
    Kill,
}

/// What is to fail, and what did.
#[derive(Default)]
struct Plan {
    armed: bool,
    deed: Deed,
    steps_until_failure: u32,
    failed: Option<String>,
    daemon: u32,
}

/// Whether something of this call may outlive the process. To be killed before one that only reads, or makes what ends with the
/// process, is the same as to be killed before the next that does more.
fn leaves_something(call: libc::c_long, args: &[u64; 6]) -> bool {
    match call {
        libc::SYS_openat => args[2] as i32 & libc::O_CREAT != 0,
        // linux/bpf.h: BPF_MAP_UPDATE_ELEM, BPF_MAP_DELETE_ELEM, BPF_OBJ_PIN, BPF_LINK_CREATE, BPF_LINK_UPDATE
        libc::SYS_bpf => matches!(args[0], 2 | 3 | 6 | 28 | 29),
        libc::SYS_socket | libc::SYS_bind | libc::SYS_setsockopt | libc::SYS_setns | libc::SYS_unshare => false,
        _ => true,
    }
}

fn all_steps() -> impl Iterator<Item = &'static (libc::c_long, &'static str)> {
    STEPS.iter().chain(&MORE_STEPS).chain(OLD_STEPS)
}

/// The hand on the daemon's system calls.
#[derive(Clone)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// Prepares the command to be asked about; call [`Faults::watch`] once it runs.
    pub fn prepare(command: &mut Command) -> Self {
        // SAFETY: between fork and exec only system calls are made, on data that is on the stack.
        unsafe { command.pre_exec(install_filter) };
        Self(Arc::default())
    }

    /// Starts to answer for the daemon. Until then its first step waits.
    pub fn watch(&self, daemon: &Daemon) {
        let listener = take_listener(daemon.pid()).unwrap();
        let plan = self.clone();
        plan.0.lock().unwrap().daemon = daemon.pid();
        thread::spawn(move || plan.answer(&listener));
    }

    /// The n-th step from now on fails, counted from 1.
    pub fn fail_step(&self, n: u32) {
        self.arm(Deed::Fail, n);
    }

    /// Before the n-th step from now on, counted from 1, the daemon is killed. What counts is each call of which something may outlive
    /// the process.
    pub fn kill_at(&self, n: u32) {
        self.arm(Deed::Kill, n);
    }

    fn arm(&self, deed: Deed, n: u32) {
        let mut plan = self.0.lock().unwrap();
        *plan = Plan {
            armed: true,
            deed,
            steps_until_failure: n,
            failed: None,
            daemon: plan.daemon,
        };
    }

    /// Stops failing; tells which step failed, if the daemon came so far.
    pub fn disarm(&self) -> Option<String> {
        let mut plan = self.0.lock().unwrap();
        plan.armed = false;
        plan.failed.take()
    }

    fn answer(&self, listener: &OwnedFd) {
        loop {
            let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            if !fds[0].revents().unwrap().contains(PollFlags::POLLIN) {
                return; // The daemon has ended.
            }
            // SAFETY: all zeros is valid for both; the kernel fills in the first and reads the second.
            unsafe {
                let mut notice: libc::seccomp_notif = zeroed();
                // The call may have been interrupted since: then there is nothing to answer.
                if receive(listener.as_raw_fd(), &mut notice).is_err() {
                    continue;
                }
                let mut answer: libc::seccomp_notif_resp = zeroed();
                answer.id = notice.id;
                match self.verdict(&notice) {
                    Some(error) => answer.error = -error,
                    None => answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
                }
                let _ = respond(listener.as_raw_fd(), &mut answer);
            }
        }
    }

    /// The error that this call is to fail with, if any.
    fn verdict(&self, notice: &libc::seccomp_notif) -> Option<i32> {
        let call = libc::c_long::from(notice.data.nr);
        let to_kernel = call != libc::SYS_sendto || notice.data.args[5] == SOCKADDR_NL;
        let mut plan = self.0.lock().unwrap();
        let counts = match plan.deed {
            Deed::Fail => STEPS.iter().any(|(nr, _)| *nr == call),
            Deed::Kill => leaves_something(call, &notice.data.args),
        };
        if !plan.armed || plan.failed.is_some() || !to_kernel || !counts {
            return None;
        }
        plan.steps_until_failure -= 1;
        if plan.steps_until_failure > 0 {
            return None;
        }
        let name = all_steps().find(|(nr, _)| *nr == call).map_or("?", |(_, name)| name);
        let thread = fs::read_to_string(format!("/proc/{}/comm", notice.pid)).unwrap_or_default();
        plan.failed = Some(format!("{name} of thread {}", thread.trim()));
        if plan.deed == Deed::Kill {
            // The call waits for its answer, and is not carried out when its process is killed meanwhile.
            let _ = kill(Pid::from_raw(plan.daemon as i32), Signal::SIGKILL);
            return Some(libc::EINTR);
        }
        Some(libc::ENOMEM)
    }
}

fn install_filter() -> io::Result<()> {
    const LOAD_NR: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Load the number of the call (the first field of seccomp_data); if it is one of ours jump to the last line.
    const COUNT: usize = STEPS.len() + MORE_STEPS.len() + OLD_STEPS.len();
    let mut program = [op(RETURN, 0, 0, libc::SECCOMP_RET_USER_NOTIF); COUNT + 3];
    program[0] = op(LOAD_NR, 0, 0, 0);
    for (i, (nr, _)) in all_steps().enumerate() {
        program[i + 1] = op(JUMP_IF_EQUAL, (COUNT - i) as u8, 0, *nr as u32);
    }
    program[COUNT + 1] = op(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW);
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads the program, which is live; the descriptors are plain numbers.
    unsafe {
        let fd = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        );
        // dup2 leaves out close-on-exec, so that the copy outlives exec.
        if fd < 0 || libc::dup2(fd as RawFd, LISTENER) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn take_listener(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain system calls; each new descriptor is checked and owned by nobody else.
    unsafe {
        let process = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if process < 0 {
            return Err(io::Error::last_os_error());
        }
        let process = OwnedFd::from_raw_fd(process as RawFd);
        let listener = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), LISTENER, 0);
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(listener as RawFd))
    }
}
