//! Who is at the other end of a unix socket, as the kernel noted it when the connection was made.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Longest name of a program that is told.
const MAX_NAME: usize = 64;

/// A process at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id; none if it lives in a namespace of processes that this one can't see.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group, and all others that it is in.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Who connected.
    ///
    /// # Errors
    /// It is no connection of a unix socket.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let credentials = getsockopt(&socket.as_fd(), PeerCredentials)?;
        let mut groups = groups(&socket)?;
        if !groups.contains(&credentials.gid()) {
            groups.push(credentials.gid());
        }
        Ok(Self {
            pid: u32::try_from(credentials.pid()).ok().filter(|pid| *pid != 0),
            uid: credentials.uid(),
            groups,
        })
    }

    /// Whether it is in this group.
    pub fn is_in(&self, gid: u32) -> bool {
        self.groups.contains(&gid)
    }

    /// The name of the program that it runs, as far as that is told; nothing but letters, digits and signs is in it.
    pub fn program(&self) -> Option<String> {
        let pid = self.pid?;
        let link = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let name = link.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        // What it runs is told to those only that may look into it; what it calls itself to all.
        let name = name.or_else(|| fs::read_to_string(format!("/proc/{pid}/comm")).ok())?;
        let name = name.trim_end().trim_end_matches(" (deleted)");
        let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        Some(name.chars().take(MAX_NAME).map(plain).collect())
    }
}

/// SO_PEERGROUPS (Linux 4.13): the supplementary groups.
fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let fd = socket.as_fd().as_raw_fd();
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut length = size_of_val(&groups[..]) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes into the vector, which has as many, and how many they are into `length`; any
        // bytes are numbers.
        let told = unsafe {
            libc::getsockopt(
                fd,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if told == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // With ERANGE the kernel tells how much room they need.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::unistd::{Gid, Uid, getegid, getgroups};

    use super::*;

    #[test]
    fn this_process_is_at_the_other_end() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = Peer::of(&ours).unwrap();
        assert_eq!(
            (peer.pid, peer.uid),
            (Some(std::process::id()), Uid::effective().as_raw())
        );
        let own = getgroups().unwrap().into_iter().chain([getegid()]).map(Gid::as_raw);
        assert!(own.clone().all(|gid| peer.is_in(gid)), "{peer:?}");
        assert!(!peer.is_in(own.max().unwrap() + 1));
        let program = peer.program().unwrap();
        assert!(program.starts_with("vswitch_linux"), "{program}");
    }

    #[test]
    fn what_is_no_socket_has_no_other_end() {
        let file = fs::File::open("/dev/null").unwrap();
        assert!(Peer::of(&file).is_err());
    }
}
