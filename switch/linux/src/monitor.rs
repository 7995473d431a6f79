//! What happens to interfaces, in the daemon's own namespace and in all that have an id there.

use std::collections::{HashSet, VecDeque};
use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::ask::{MESSAGE_MAX, messages};
use super::error::KernelError;
use super::link_read;
use super::netns::NetNs;

/// Room for the events of some thousand interfaces that change at once.
const RECEIVE_BUFFER: usize = 8 << 20;

const RTM_NEWLINK: u16 = libc::RTM_NEWLINK;
const RTM_DELLINK: u16 = libc::RTM_DELLINK;
/// Length of a `struct rtmsg`, and of a `struct ifaddrmsg` (linux/rtnetlink.h, linux/if_addr.h).
const RTMSG_LEN: usize = 12;
const IFADDRMSG_LEN: usize = 8;

/// What the monitor reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorEvent {
    /// An interface changed.
    Link(LinkChange),
    /// A default route, one to a half of everything, or a rule by which routes are chosen came or went in the namespace that has this id in the
    /// monitor's (none: its own), or an address by which one may have gone: the kernel does not tell of those that go with an interface or its
    /// last address.
    Ways(Option<i32>),
    /// What an interface has inside came or went.
    Inside(InsideChange),
    /// Events were lost: look at all interfaces again.
    Resync,
}

/// An address, or a route through it, that an interface got or lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InsideChange {
    /// As in [`LinkChange::nsid`].
    pub nsid: Option<i32>,
    /// Its index there.
    pub index: u32,
    /// It lost it.
    pub lost: bool,
    /// Its link was down, as was told before: what it lost the kernel took away with that, unless it is IPv4.
    pub down: bool,
    /// It is an address of the link alone, as a stack gives it to itself when IPv6 is turned on.
    pub link_local: bool,
    /// None: it can't be told, or there are several changes in one.
    pub what: Option<Inside>,
}

/// What an interface has inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inside {
    /// An address, with the network that it is in.
    Address(IpNet),
    /// A route, by where it leads.
    Route(IpNet),
}

/// An interface as it is after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Namespace of the interface, by its id in the monitor's ([`super::Netlink::nsid_of`]); none: the monitor's own.
    pub nsid: Option<i32>,
    /// Its index there.
    pub index: u32,
    /// Its name; bytes that are no UTF-8 as `\xff`.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Has carrier.
    pub carrier: bool,
    /// It was deleted or moved to another namespace.
    pub gone: bool,
}

/// A socket that hears of every change of an interface in its namespace, and in all namespaces that
/// have an id in it (NETLINK_LISTEN_ALL_NSID). It pins none of those.
///
/// Events wait in the socket until they are asked for. Closed on drop.
pub struct LinkMonitor {
    socket: AsyncFd<Socket>,
    inbox: Mutex<Inbox>,
}

/// What came out of the socket.
struct Inbox {
    ready: VecDeque<MonitorEvent>,
    buffer: Vec<u8>,
    /// The interfaces that were told to be down, by namespace and index.
    down: HashSet<(Option<i32>, u32)>,
}

impl LinkMonitor {
    /// Listens from now on.
    ///
    /// # Errors
    /// Those of [`NetNs::run`]; EPERM without CAP_NET_BROADCAST.
    pub async fn open(netns: &NetNs) -> Result<Self, KernelError> {
        Self::with_buffer(netns, RECEIVE_BUFFER).await
    }

    /// As [`LinkMonitor::open`], with room for so many bytes of events (as the kernel counts them).
    pub(super) async fn with_buffer(netns: &NetNs, bytes: usize) -> Result<Self, KernelError> {
        let failed = |e: io::Error| KernelError::new(format!("listen for interface events in {netns}"), e);
        let socket = netns.run(move || open_socket(bytes)).await?.map_err(failed)?;
        // SAFETY: the socket owns its descriptor, which stays the same and open until the AsyncFd drops the socket.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        let socket = socket.map_err(|e| failed(e.into_parts().1))?;
        Ok(Self {
            socket,
            inbox: Mutex::new(Inbox {
                ready: VecDeque::new(),
                buffer: vec![0; MESSAGE_MAX],
                down: HashSet::new(),
            }),
        })
    }

    /// Waits until the kernel tells something, for [`LinkMonitor::recv_now`] to take unless another has taken it. None: the socket failed, there
    /// will be no more. May be cancelled without loss.
    pub async fn told(&self) -> Option<()> {
        loop {
            let mut guard = self.socket.readable().await.ok()?;
            match self.inbox().receive(self.socket.get_ref()) {
                Ok(()) => return Some(()),
                Err(Errno::EAGAIN) => guard.clear_ready(),
                Err(error) => {
                    tracing::error!("no more interface events: {error}");
                    return None;
                }
            }
        }
    }

    /// The next event, if one was told already. What the kernel tells of a call, it has told when the call returns; but for carriers, which it
    /// looks into by itself, up to a second later.
    pub fn recv_now(&self) -> Option<MonitorEvent> {
        let mut inbox = self.inbox();
        while inbox.ready.is_empty() {
            // That the socket failed is told where it is waited for.
            inbox.receive(self.socket.get_ref()).ok()?;
        }
        inbox.ready.pop_front()
    }

    fn inbox(&self) -> std::sync::MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Takes in one datagram. EAGAIN: there is none.
    fn receive(&mut self, socket: &Socket) -> nix::Result<()> {
        loop {
            match receive(socket, &mut self.buffer) {
                Ok((nsid, len)) => parse(nsid, &self.buffer[..len], &mut self.down, &mut self.ready),
                Err(Errno::EINTR) => continue,
                // The receive buffer was full. From then on the kernel drops events without a further word
                // until the buffer is empty (NETLINK_S_CONGESTED in af_netlink.c), so it is emptied first:
                // what is lost meanwhile, the resync finds.
                Err(Errno::ENOBUFS) => {
                    while matches!(
                        receive(socket, &mut self.buffer),
                        Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR)
                    ) {}
                    self.down.clear();
                    self.ready.push_back(MonitorEvent::Resync);
                }
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}

fn open_socket(buffer: usize) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.set_listen_all_namespaces(true)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &buffer).is_err() {
        // Without CAP_NET_ADMIN in the initial user namespace the kernel gives at most rmem_max;
        // a smaller buffer only means an earlier resync.
        setsockopt(&socket, sockopt::RcvBuf, &buffer)?;
    }
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
    ];
    let groups = groups.into_iter().map(|group| 1 << (group as u32 - 1)).sum();
    socket.bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

/// Receives one datagram: the id of the namespace that it is from, and its length.
fn receive(socket: &Socket, buffer: &mut [u8]) -> nix::Result<(Option<i32>, usize)> {
    let mut control = nix::cmsg_space!(i32);
    let mut iov = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::empty())?;
    let nsid = message.cmsgs()?.find_map(|cmsg| match cmsg {
        ControlMessageOwned::Unknown(c)
            if (c.cmsg_header.cmsg_level, c.cmsg_header.cmsg_type)
                == (libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID) =>
        {
            Some(i32::from_ne_bytes(*c.data_bytes.first_chunk()?))
        }
        _ => None,
    });
    Ok((nsid, message.bytes))
}

/// Takes what is told out of a datagram.
fn parse(
    nsid: Option<i32>,
    datagram: &[u8],
    down: &mut HashSet<(Option<i32>, u32)>,
    events: &mut VecDeque<MonitorEvent>,
) {
    for message in messages(datagram) {
        if let Some(change) = parse_link(nsid, message.message_type(), message.payload()) {
            let interface = (nsid, change.index);
            if change.up || change.gone {
                down.remove(&interface);
            } else {
                down.insert(interface);
            }
            events.push_back(MonitorEvent::Link(change));
        }
        let told = [
            is_of_ways(message.message_type(), message.payload()).then_some(MonitorEvent::Ways(nsid)),
            parse_inside(nsid, message.message_type(), message.payload(), down).map(MonitorEvent::Inside),
        ];
        for event in told.into_iter().flatten() {
            // Each interface that comes with an address tells of it: one word of all is enough.
            if events.back() != Some(&event) {
                events.push_back(event);
            }
        }
    }
}

fn parse_link(nsid: Option<i32>, message_type: u16, payload: &[u8]) -> Option<LinkChange> {
    if message_type != RTM_NEWLINK && message_type != RTM_DELLINK {
        return None;
    }
    // PF_BRIDGE messages tell of a bridge's port, not of the link; a bridge deletes the port, not the link.
    if i32::from(*payload.first()?) != libc::AF_UNSPEC {
        return None;
    }
    let link = link_read::parse(payload)?;
    if link.name.is_empty() {
        return None;
    }
    Some(LinkChange {
        nsid,
        index: link.index,
        name: link.name,
        mtu: link.mtu,
        up: link.up,
        carrier: link.carrier,
        gone: message_type == RTM_DELLINK,
    })
}

fn parse_inside(
    nsid: Option<i32>,
    message_type: u16,
    payload: &[u8],
    down: &HashSet<(Option<i32>, u32)>,
) -> Option<InsideChange> {
    let word = |at: usize| Some(u32::from_ne_bytes(*payload.get(at..)?.first_chunk()?));
    let (index, link_local, what) = match message_type {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        libc::RTM_NEWADDR | libc::RTM_DELADDR => (
            word(4)?,
            *payload.get(3)? == libc::RT_SCOPE_LINK,
            address(payload).map(Inside::Address),
        ),
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            let (index, to) = route(payload)?;
            (index, false, Some(Inside::Route(to)))
        }
        _ => return None,
    };
    Some(InsideChange {
        nsid,
        index,
        lost: [libc::RTM_DELADDR, libc::RTM_DELROUTE].contains(&message_type),
        down: down.contains(&(nsid, index)),
        link_local,
        what,
    })
}

/// An address with its network.
fn address(payload: &[u8]) -> Option<IpNet> {
    let (header, attributes) = payload.split_at_checked(IFADDRMSG_LEN)?;
    // At a link between two the other attribute is the address of who is at its end.
    let bytes = attribute(attributes, libc::IFA_LOCAL).or_else(|| attribute(attributes, libc::IFA_ADDRESS))?;
    IpNet::new(ip(header[0], Some(bytes))?, header[1]).ok()
}

/// An address of this family. Without one it is everywhere.
fn ip(family: u8, bytes: Option<&[u8]>) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(bytes.map_or(Some([0; 4]), |bytes| bytes.first_chunk().copied())?.into()),
        libc::AF_INET6 => Some(
            bytes
                .map_or(Some([0; 16]), |bytes| bytes.first_chunk().copied())?
                .into(),
        ),
        _ => None,
    }
}

/// The interface that a route leads out by, and where to. None: through several, or it is for the host itself.
fn route(payload: &[u8]) -> Option<(u32, IpNet)> {
    // struct rtmsg: family, length of the destination, ..., type of the route, flags.
    let (header, attributes) = payload.split_at_checked(RTMSG_LEN)?;
    if header[7] != libc::RTN_UNICAST {
        return None;
    }
    let index = u32::from_ne_bytes(*attribute(attributes, libc::RTA_OIF)?.first_chunk()?);
    let to = ip(header[0], attribute(attributes, libc::RTA_DST))?;
    Some((index, IpNet::new(to, header[1]).ok()?))
}

/// The value of an attribute, with what follows it.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        if kind == wanted {
            return attributes.get(4..);
        }
        // One of no length would be for ever.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

/// Whether a default route or what is as good comes or goes, or may have.
fn is_of_ways(message_type: u16, payload: &[u8]) -> bool {
    match message_type {
        // To everywhere: a destination of no bits; or to a half of it.
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => payload.len() >= RTMSG_LEN && payload[1] <= 1,
        libc::RTM_NEWRULE | libc::RTM_DELRULE => payload.len() >= RTMSG_LEN,
        libc::RTM_DELADDR => payload.len() >= IFADDRMSG_LEN,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
