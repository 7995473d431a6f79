//! Pings from many namespaces at once, by sockets of our own: a process for each of the ten thousand pairs of a hundred hosts would be
//! most of the work.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, recvfrom,
    sendto, socket,
};
use vswitch_api::view::Stack;
use vswitch_api::{ApiError, ErrorCode};

use super::enter::Outside;
use crate::failure::Failure;

/// So many namespaces ping at once.
const AT_ONCE: usize = 32;
/// So often one that was not answered is sent again: the first may be lost on the way, or to a neighbour that is asked for.
const AGAIN: Duration = Duration::from_millis(500);
/// Neighbours that the kernel keeps of all namespaces together, where it does not say (net/ipv4/arp.c).
const NEIGHBOURS: usize = 1024;
/// More than any message that is an answer.
const LONGEST: usize = 2048;

/// What is to be pinged from where.
#[derive(Clone, Debug)]
pub struct Ping {
    /// The namespace; none: that of the host.
    pub from: Option<Stack>,
    /// Who is to answer.
    pub to: IpAddr,
}

/// Pings all, in this order as far as the kernel can keep so many neighbours; tells of each whether it was answered within `wait`.
/// `in_parts` is called if that takes more than one part.
pub fn all(pings: &[Ping], wait: Duration, in_parts: impl FnOnce(usize)) -> Result<Vec<bool>, Failure> {
    let answered: Vec<_> = pings.iter().map(|_| AtomicUsize::new(0)).collect();
    let is_answered = |n: &usize| answered[*n].load(Ordering::Relaxed) == 1;
    let mut left: Vec<usize> = (0..pings.len()).collect();
    let families = |left: &[usize]| left.iter().map(|n| pings[*n].to.is_ipv6()).collect::<Vec<_>>();
    let parts = parts(&families(&left), room());
    if let [_, _, ..] = parts[..] {
        in_parts(parts.len());
        // Others may have needed the room meanwhile: who was not answered has a second try.
        for _ in 0..2 {
            for part in self::parts(&families(&left), room()) {
                let part = left.get(part).unwrap_or_default();
                ping_part(pings, part, wait, &answered)?;
                forget(pings, part)?;
            }
            left.retain(|n| !is_answered(n));
        }
    } else {
        ping_part(pings, &left, wait, &answered)?;
    }
    Ok((0..pings.len()).map(|n| is_answered(&n)).collect())
}

/// Has the stacks forget whom they have found, as they would by themselves in half a minute: a neighbour that has answered just now is kept
/// for so long, whoever needs the room. What a user has put there stays.
fn forget(pings: &[Ping], part: &[usize]) -> Result<(), Failure> {
    let mut namespaces: Vec<_> = part.iter().map(|n| &pings[*n].from).collect();
    namespaces.sort();
    namespaces.dedup();
    in_each(&namespaces, |_| {
        let mut command = Command::new("ip");
        command.args(["neigh", "flush", "all"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Where there is none to be forgotten it says so by its exit code.
        match command.status() {
            Ok(_) => Ok(()),
            Err(error) => Err(
                ApiError::new(ErrorCode::NotPermitted, "ip", format!("it can't be run: {error}"))
                    .hint("install it (apt install iproute2)")
                    .into(),
            ),
        }
    })
}

/// Neighbours that there is room for over IPv4 and IPv6, with some left for others.
fn room() -> [usize; 2] {
    ["ipv4", "ipv6"].map(|family| {
        let path = format!("/proc/sys/net/{family}/neigh/default/gc_thresh3");
        let said = std::fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        said.unwrap_or(NEIGHBOURS) / 4 * 3
    })
}

/// Cut so that what is pinged in a part, over IPv4 and over IPv6, is not more than there is room for.
fn parts(is_ipv6: &[bool], room: [usize; 2]) -> Vec<Range<usize>> {
    let (mut parts, mut begin, mut used) = (Vec::new(), 0, [0; 2]);
    for (n, is_ipv6) in is_ipv6.iter().enumerate() {
        let family = usize::from(*is_ipv6);
        if used[family] >= room[family].max(1) {
            parts.push(begin..n);
            (begin, used) = (n, [0; 2]);
        }
        used[family] += 1;
    }
    if begin < is_ipv6.len() {
        parts.push(begin..is_ipv6.len());
    }
    parts
}

fn ping_part(pings: &[Ping], part: &[usize], wait: Duration, answered: &[AtomicUsize]) -> Result<(), Failure> {
    let mut by_sender: BTreeMap<&Option<Stack>, Vec<usize>> = BTreeMap::new();
    for n in part {
        by_sender.entry(&pings[*n].from).or_default().push(*n);
    }
    let (senders, which): (Vec<_>, Vec<_>) = by_sender.into_iter().unzip();
    in_each(&senders, |sender| {
        let which = &which[sender];
        let targets: Vec<_> = which.iter().map(|n| pings[*n].to).collect();
        for (n, one) in which.iter().zip(from_here(&targets, wait)?) {
            answered[*n].store(usize::from(one), Ordering::Relaxed);
        }
        Ok(())
    })
}

/// Does something in each namespace, in several at once: by threads, since a thread can be in a namespace of its own.
fn in_each(namespaces: &[&Option<Stack>], job: impl Fn(usize) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || -> Result<(), Failure> {
        let outside = Outside::here()?;
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(namespace) = namespaces.get(n) else {
                return Ok(());
            };
            if outside.enter(namespace.as_ref())? {
                job(n)?;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(namespaces.len()) {
            scope.spawn(|| {
                if let Err(failure) = work() {
                    // The others need not go on.
                    next.store(usize::MAX / 2, Ordering::Relaxed);
                    if let Ok(mut failed) = failed.lock() {
                        *failed = Some(failure);
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or(None) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Pings from the namespace that this thread is in.
fn from_here(targets: &[IpAddr], wait: Duration) -> Result<Vec<bool>, Failure> {
    /// Each has one of its own, as a socket sees the answers to all of its namespace.
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let id = (number as u16) ^ (std::process::id() as u16);
    let mut answered = vec![false; targets.len()];
    let sockets = [
        open(targets.iter().any(IpAddr::is_ipv4), true)?,
        open(targets.iter().any(IpAddr::is_ipv6), false)?,
    ];
    let end = Instant::now() + wait;
    while answered.contains(&false) && Instant::now() < end {
        for (n, target) in targets.iter().enumerate().filter(|(n, _)| !answered[*n]) {
            let socket = &sockets[usize::from(target.is_ipv6())];
            // What can't be sent, for want of a route or of room, is tried again and then was not answered.
            let _ = socket.as_ref().map(|socket| send(socket, *target, id, n as u16));
        }
        let again = end.min(Instant::now() + AGAIN);
        while answered.contains(&false) && readable(&sockets, again) {
            for (socket, is_v4) in sockets.iter().zip([true, false]) {
                let Some(socket) = socket else { continue };
                while let Some((from, n)) = receive(socket, is_v4, id) {
                    if targets.get(usize::from(n)) == Some(&from) {
                        answered[usize::from(n)] = true;
                    }
                }
            }
        }
    }
    Ok(answered)
}

pub(super) fn open(is_wanted: bool, is_v4: bool) -> Result<Option<OwnedFd>, Failure> {
    if !is_wanted {
        return Ok(None);
    }
    let (family, protocol) = match is_v4 {
        true => (AddressFamily::Inet, SockProtocol::Icmp),
        false => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match socket(family, SockType::Raw, flags, protocol) {
        Ok(socket) => Ok(Some(socket)),
        // A machine without IPv6 reaches nobody by it.
        Err(Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => Ok(None),
        Err(Errno::EPERM | Errno::EACCES) => {
            Err(ApiError::new(ErrorCode::NotPermitted, "ping", "it needs CAP_NET_RAW")
                .hint("run it as root")
                .into())
        }
        Err(error) => Err(Failure::system("ping", &error.into())),
    }
}

/// An echo request (RFC 792, RFC 4443 section 4.1).
pub(super) fn send(socket: &OwnedFd, to: IpAddr, id: u16, seq: u16) -> nix::Result<()> {
    let fd = socket.as_raw_fd();
    match SocketAddr::new(to, 0) {
        SocketAddr::V4(to) => {
            let kind = Icmpv4Type::EchoRequest(IcmpEchoHeader { id, seq });
            let message = Icmpv4Header::with_checksum(kind, &[]).to_bytes();
            sendto(fd, &message, &SockaddrIn::from(to), MsgFlags::empty())?;
        }
        SocketAddr::V6(to) => {
            // The kernel makes the checksum (RFC 3542 section 3.1).
            let [[a, b], [c, d]] = [id.to_be_bytes(), seq.to_be_bytes()];
            let message = [128, 0, 0, 0, a, b, c, d];
            sendto(fd, &message, &SockaddrIn6::from(to), MsgFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether there is something to read before that time.
pub(super) fn readable(sockets: &[Option<OwnedFd>], until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let mut fds: Vec<_> = sockets
        .iter()
        .flatten()
        .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    // Rounded up: it is not to turn around for the last millisecond.
    let millis = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
    match poll(&mut fds, PollTimeout::from(millis)) {
        Ok(ready) => ready > 0 && !left.is_zero(),
        Err(error) => error == Errno::EINTR,
    }
}

/// The next echo reply with this id: who sent it, and its number.
fn receive(socket: &OwnedFd, is_v4: bool, id: u16) -> Option<(IpAddr, u16)> {
    next_message(socket, |message| reply(message, is_v4, id))
}

/// The next message that is one of these: who sent it, and its number.
pub(super) fn next_message(socket: &OwnedFd, number: impl Fn(&[u8]) -> Option<u16>) -> Option<(IpAddr, u16)> {
    let mut buffer = [0; LONGEST];
    loop {
        let (len, from) = match recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
            Ok(received) => received,
            Err(Errno::EINTR) => continue,
            // Nothing more, or a message of the kernel about what was sent.
            Err(_) => return None,
        };
        let from = from?;
        let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (_, Some(v6)) => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        if let Some(seq) = buffer.get(..len).and_then(&number) {
            return Some((from, seq));
        }
    }
}

/// The number of an echo reply.
fn reply(message: &[u8], is_v4: bool, id: u16) -> Option<u16> {
    number(message, is_v4, if is_v4 { 0 } else { 129 }, id)
}

/// The number of an echo request.
pub(super) fn question(message: &[u8], is_v4: bool, id: u16) -> Option<u16> {
    number(message, is_v4, if is_v4 { 8 } else { 128 }, id)
}

/// Of a message of this type. Over IPv4 the IP header comes with it.
fn number(message: &[u8], is_v4: bool, wanted: u8, id: u16) -> Option<u16> {
    let message = match is_v4 {
        true => message.get(usize::from(message.first()? & 15) * 4..)?,
        false => message,
    };
    let [kind, code, _, _, a, b, c, d] = *message.first_chunk()?;
    (kind == wanted && code == 0 && u16::from_be_bytes([a, b]) == id).then_some(u16::from_be_bytes([c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_at_once_than_the_kernel_keeps_neighbours() {
        let both = [vec![false; 7], vec![true; 3]].concat();
        assert_eq!(parts(&both, [768, 768]), vec![0..10; 1]);
        assert_eq!(parts(&both, [3, 2]), [0..3, 3..6, 6..9, 9..10]);
        assert_eq!(parts(&[], [1, 1]), [0..0; 0]);
        // A kernel that keeps none is no reason to go on for ever.
        assert_eq!(parts(&both, [0, 0]).len(), 9);
    }

    #[test]
    fn only_an_answer_to_what_was_asked_is_one() {
        let v4 = [&[0x45][..], &[0; 19], &[0, 0, 9, 9, 0, 7, 1, 2]].concat();
        assert_eq!(reply(&v4, true, 7), Some(0x102));
        assert_eq!(reply(&v4, true, 8), None);
        assert_eq!(reply(&v4[..27], true, 7), None);
        assert_eq!(reply(&[129, 0, 9, 9, 0, 7, 0, 3], false, 7), Some(3));
        // The question is seen too where it is one to oneself.
        assert_eq!(reply(&[128, 0, 9, 9, 0, 7, 0, 3], false, 7), None);
        assert_eq!(reply(&[0x4f], true, 7), None);
    }

    #[test]
    fn the_own_host_answers_and_others_do_not() {
        let to = |address: &str| Ping {
            from: None,
            to: address.parse().unwrap(),
        };
        // Of TEST-NET-1 (RFC 5737) there is nobody.
        let all = all(&[to("127.0.0.1"), to("192.0.2.77")], Duration::from_millis(300), |_| ());
        match all {
            Ok(answered) => assert_eq!(answered, [true, false]),
            Err(failure) => assert_eq!(failure.exit_code(), ErrorCode::NotPermitted.exit_code()),
        }
    }
}
