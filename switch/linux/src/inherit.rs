//! Descriptors that were open before this program began: kept over an exec of this very process, or handed over by systemd, which
//! keeps them while a service restarts and opens the sockets of its socket units (sd_listen_fds(3), file descriptor store).

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, SockType, UnixAddr, getsockopt, sendmsg, sockopt};
use nix::unistd::pipe2;

/// `PID:DESCRIPTOR`: that of a file with the numbers of the descriptors that were kept over an exec.
const KEPT: &str = "VSWITCH_KEPT";
/// Those of systemd (sd_listen_fds(3)).
const LISTEN: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// Number of the first one that systemd hands over.
const FIRST: RawFd = 3;
/// Descriptors in one message (SCM_MAX_FD of the kernel is 253).
const AT_ONCE: usize = 250;
/// How long systemd may take to look at what it was sent.
const BARRIER: Duration = Duration::from_secs(5);

/// Takes the descriptors that were left for this process: by the program that it was before, or under `name` by systemd. Others that
/// systemd hands over stay open, for [`sockets`]. To be called once: they have been open since the program began, so nobody else has their numbers.
///
/// # Errors
/// What was left can't be told; it stays open then, and does no harm.
pub fn take(name: &str) -> io::Result<Vec<OwnedFd>> {
    let mut numbers = numbers_of_systemd(name);
    // No program gets them that this process starts.
    for (number, _) in sockets(name) {
        // SAFETY: the number is only looked at, and for the time of this call: one that is not open is an error of fcntl.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    if let Some(list) = kept_list()? {
        numbers.extend(list);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers.into_iter().filter_map(own).collect())
}

/// One that is open and of which nobody else in this process knows, from now on closed by an exec.
fn own(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: the number is only looked at, and for the time of this call: one that is not open is an error of fcntl.
    let there = fcntl(
        unsafe { BorrowedFd::borrow_raw(number) },
        FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC),
    );
    // SAFETY: it is open, it was left for this process by number, nobody else takes what is left so, and each number is taken once.
    there.is_ok().then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

fn of_this_process(pid: &str) -> bool {
    pid.parse() == Ok(std::process::id())
}

/// All that systemd hands over, with their names.
fn of_systemd() -> Vec<(RawFd, String)> {
    let [pid, count, names] = LISTEN.map(|key| std::env::var(key).unwrap_or_default());
    if !of_this_process(&pid) {
        return Vec::new();
    }
    let count: usize = count.parse().unwrap_or(0);
    let names = names.split(':').chain(std::iter::repeat(""));
    (FIRST..).zip(names.map(str::to_owned)).take(count).collect()
}

fn numbers_of_systemd(name: &str) -> Vec<RawFd> {
    let named = of_systemd().into_iter().filter(|(_, its)| its == name);
    named.map(|(number, _)| number).collect()
}

/// Sockets that systemd hands over, and their names: they come before what it keeps under `name`. They stay open as long as the process lives,
/// under their numbers.
pub fn sockets(name: &str) -> Vec<(RawFd, String)> {
    let mut all = of_systemd();
    all.truncate(all.iter().take_while(|(_, its)| its != name).count());
    all
}

/// One of the [`sockets`], a unix socket that listens already. The descriptor of that number stays what it is: this is
/// another one of the same socket, which no program gets that this process starts.
///
/// # Errors
/// Nothing is there, or something else.
pub fn listener(number: RawFd) -> io::Result<UnixListener> {
    // SAFETY: with whatever number, nothing but the table of descriptors is touched, and that by an entry more.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(copy) };
    let listens = getsockopt(&socket, sockopt::AcceptConn)?;
    if getsockopt(&socket, sockopt::SockType)? != SockType::Stream || !listens {
        let cause = "it is no stream socket that listens";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, cause));
    }
    let listener = UnixListener::from(socket);
    // It fails for sockets of other families.
    listener.local_addr()?;
    Ok(listener)
}

fn kept_list() -> io::Result<Option<Vec<RawFd>>> {
    let Ok(value) = std::env::var(KEPT) else {
        return Ok(None);
    };
    let Some((pid, number)) = value.split_once(':').filter(|(pid, _)| of_this_process(pid)) else {
        return Ok(None);
    };
    let _ = pid;
    let list = number.parse().ok().filter(|number| *number >= FIRST).and_then(own);
    let mut list = File::from(list.ok_or_else(|| io::Error::other(format!("{KEPT} is {value:?}")))?);
    let mut text = String::new();
    list.rewind()?;
    list.read_to_string(&mut text)?;
    Ok(Some(text.lines().filter_map(|line| line.parse().ok()).collect()))
}

/// Runs another program in this process, which finds these descriptors by [`take`], and the [`sockets`] that this one has. It comes back
/// only if that fails, and all is then as it was.
pub fn exec(
    program: &OsStr,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    name: &str,
    kept: &[OwnedFd],
) -> io::Error {
    let list = match list_of(kept) {
        Ok(list) => list,
        Err(error) => return error,
    };
    let (numbers, names): (Vec<_>, Vec<_>) = sockets(name).into_iter().unzip();
    // SAFETY: they were handed over by number, and nobody closes them.
    let sockets = numbers.iter().map(|number| unsafe { BorrowedFd::borrow_raw(*number) });
    let all = || {
        sockets
            .clone()
            .chain(kept.iter().map(AsFd::as_fd))
            .chain([list.as_fd()])
    };
    let set = |flags: FdFlag| all().try_for_each(|fd| fcntl(fd, FcntlArg::F_SETFD(flags)).map(drop));
    if let Err(error) = set(FdFlag::empty()) {
        let _ = set(FdFlag::FD_CLOEXEC);
        return error.into();
    }
    let mut command = Command::new(program);
    command.args(args);
    // What systemd kept is told by the list, if it is there still.
    let listen = [std::process::id().to_string(), names.len().to_string(), names.join(":")];
    for (key, value) in LISTEN.iter().zip(listen) {
        match names.is_empty() {
            true => command.env_remove(key),
            false => command.env(key, value),
        };
    }
    command.env(KEPT, format!("{}:{}", std::process::id(), list.as_raw_fd()));
    let error = command.exec();
    let _ = set(FdFlag::FD_CLOEXEC);
    error
}

fn list_of(kept: &[OwnedFd]) -> io::Result<File> {
    let mut list = File::from(memfd_create(c"vswitch-kept", MFdFlags::MFD_CLOEXEC)?);
    let text: String = kept.iter().map(|fd| format!("{}\n", fd.as_raw_fd())).collect();
    list.write_all(text.as_bytes())?;
    Ok(list)
}

/// Whether systemd keeps descriptors for this service.
pub fn systemd_keeps() -> bool {
    // systemd.exec(5): as many as it keeps, from version 254 on.
    let room = std::env::var("FDSTORE").ok().and_then(|room| room.parse().ok());
    room.is_some_and(|room: u32| room > 0) && std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Leaves descriptors with systemd, which gives them to the service when it starts again, and closes them if it does not.
///
/// # Errors
/// systemd can't be reached, or does not answer in time.
pub fn leave_with_systemd(name: &str, kept: &[OwnedFd]) -> io::Result<()> {
    let manager = Manager::connect()?;
    for some in kept.chunks(AT_ONCE) {
        let some: Vec<_> = some.iter().map(AsRawFd::as_raw_fd).collect();
        manager.send(&format!("FDSTORE=1\nFDNAME={name}\n"), &some)?;
    }
    manager.wait()
}

/// Has systemd close what it keeps under a name: whoever took it over has it now.
///
/// # Errors
/// systemd can't be reached.
pub fn take_from_systemd(name: &str) -> io::Result<()> {
    Manager::connect()?.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}\n"), &[])
}

/// systemd, as sd_notify(3) reaches it.
struct Manager {
    socket: UnixDatagram,
    address: UnixAddr,
}

impl Manager {
    fn connect() -> io::Result<Self> {
        let path = std::env::var_os("NOTIFY_SOCKET").ok_or_else(|| io::Error::other("NOTIFY_SOCKET is not set"))?;
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name)?,
            None => UnixAddr::new(path.as_bytes())?,
        };
        let socket = UnixDatagram::unbound()?;
        Ok(Self { socket, address })
    }

    fn send(&self, text: &str, descriptors: &[RawFd]) -> io::Result<()> {
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
        let text = [IoSlice::new(text.as_bytes())];
        sendmsg(
            self.socket.as_raw_fd(),
            &text,
            rights,
            MsgFlags::MSG_NOSIGNAL,
            Some(&self.address),
        )?;
        Ok(())
    }

    /// Until systemd has read all that was sent: it does not listen to a process that has ended (sd_notify_barrier(3)).
    fn wait(&self) -> io::Result<()> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
        self.send("BARRIER=1", &[write.as_raw_fd()])?;
        drop(write);
        let mut closed = [PollFd::new(read.as_fd(), PollFlags::empty())];
        let wait = PollTimeout::try_from(BARRIER).unwrap_or(PollTimeout::MAX);
        match poll(&mut closed, wait)? {
            0 => Err(io::Error::new(io::ErrorKind::TimedOut, "systemd does not answer")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_left_for_another_process_is_not_taken() {
        assert!(!of_this_process("1") && !of_this_process("") && of_this_process(&std::process::id().to_string()));
    }

    #[test]
    fn a_listening_unix_socket_is_taken_over_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let first = UnixListener::bind(&path).unwrap();
        let second = listener(first.as_raw_fd()).unwrap();
        assert_eq!(second.local_addr().unwrap().as_pathname(), Some(&*path));
        drop(first);
        UnixStream::connect(&path).unwrap();
        second.accept().unwrap();

        let (pair, _other) = UnixStream::pair().unwrap();
        assert!(listener(pair.as_raw_fd()).is_err());
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listener(tcp.as_raw_fd()).is_err());
        let file = std::fs::File::open(dir.path()).unwrap();
        assert!(listener(file.as_raw_fd()).is_err());
        assert!(listener(-1).is_err());
    }

    /// The descriptors stay what they were.
    #[test]
    fn a_program_that_is_not_there_changes_nothing() {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let kept = [read, write];
        let error = exec(OsStr::new("/nowhere/to/be/found"), ["x"], "kept", &kept);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        for fd in &kept {
            let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags, FdFlag::FD_CLOEXEC.bits());
        }
        let mut text = String::new();
        let mut list = list_of(&kept).unwrap();
        list.rewind().unwrap();
        list.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{}\n{}\n", kept[0].as_raw_fd(), kept[1].as_raw_fd()));
    }
}
