//! What a driver says of its device by the ioctl SIOCETHTOOL (linux/ethtool.h).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// The set of the features' names.
const ETH_SS_FEATURES: u32 = 4;
/// Bytes of a name.
const ETH_GSTRING_LEN: usize = 32;
/// Most features: 16 words of bits. Linux 6.18 has 64; their number does not change while the kernel runs.
const MAX_FEATURES: usize = 512;

/// An interface of one network namespace.
pub struct Ethtool {
    socket: OwnedFd,
    name: [u8; libc::IFNAMSIZ],
}

/// Queues that are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// To receive from.
    pub receive: u32,
    /// To send by.
    pub send: u32,
}

impl Ethtool {
    /// For the interface `name` of the calling thread's namespace.
    ///
    /// # Errors
    /// EINVAL: the name is too long; EMFILE.
    pub fn open(name: &str) -> io::Result<Self> {
        let mut padded = [0; libc::IFNAMSIZ];
        match padded.get_mut(..name.len()) {
            Some(place) if name.len() < libc::IFNAMSIZ => place.copy_from_slice(name.as_bytes()),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        // SAFETY: plain call without pointers; the result is checked.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is open and owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket, name: padded })
    }

    /// How many queues it has.
    ///
    /// # Errors
    /// EOPNOTSUPP: its driver does not say.
    pub fn queues(&self) -> io::Result<Queues> {
        // struct ethtool_channels: command, four maxima, then receive, send, other, combined.
        let mut channels = [0u32; 9];
        channels[0] = ETHTOOL_GCHANNELS;
        self.call(&mut channels)?;
        let [.., receive, send, _other, combined] = channels;
        Ok(Queues {
            receive: receive + combined,
            send: send + combined,
        })
    }

    /// Whether one of these features is on; their names are the kernel's (linux/net/ethtool/common.c), not those of `ethtool -k`.
    ///
    /// # Errors
    /// EOPNOTSUPP.
    pub fn is_any_on(&self, names: &[&str]) -> io::Result<bool> {
        // struct ethtool_sset_info: command, unused, 64 bits that say which sets, the length of the one.
        let mut info = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
        let mask = (1u64 << ETH_SS_FEATURES).to_ne_bytes();
        for (word, bytes) in info[2..4].iter_mut().zip(mask.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        self.call(&mut info)?;
        // The kernel writes as many names as it has, whatever room the request says that there is.
        let count = info[4] as usize;
        if count > MAX_FEATURES {
            return Err(io::Error::other(format!("{count} features are more than can be")));
        }
        // struct ethtool_gstrings: command, set, number, then the names.
        let mut strings = vec![0u32; 3 + count * ETH_GSTRING_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
        self.call(&mut strings)?;
        // struct ethtool_gfeatures: command, number of words, for each: available, wanted, active, never changed.
        let words = count.div_ceil(32);
        let mut features = vec![0u32; 2 + words * 4];
        features[..2].copy_from_slice(&[ETHTOOL_GFEATURES, words as u32]);
        self.call(&mut features)?;
        let is_on = |i: usize| features[2 + i / 32 * 4 + 2] >> (i % 32) & 1 != 0;
        let all: &[u8] = bytemuck::cast_slice(&strings[3..]);
        Ok(all.chunks_exact(ETH_GSTRING_LEN).enumerate().any(|(i, name)| {
            let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            is_on(i) && names.iter().any(|wanted| wanted.as_bytes() == &name[..len])
        }))
    }

    /// `data`: one of the kernel's structs that begin with a command, with all the room that the answer needs.
    fn call(&self, data: &mut [u32]) -> io::Result<()> {
        // SAFETY: all-zero is a value of this struct of integers and pointers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(self.name) {
            *place = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // SAFETY: the request and what it points to outlive the call; the callers give the kernel as much room as the command
        // writes for the numbers in it.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL as _, ptr::from_mut(&mut request)) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
