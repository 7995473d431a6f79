//! Interfaces: list, create, change, delete.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::runtime::Builder;
use vswitch_api::name::Mac;

use super::error::KernelError;
use super::link_read::{Wanted, open_reader, read_links};
use super::netlink::Netlink;
use super::netns::{NetNs, on_new_thread};

/// Requests that are under way at a time.
const GROUPED_AT_ONCE: usize = 64;

/// An interface as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel's index; never reused within a namespace before it wraps.
    pub index: u32,
    /// Its name; bytes that are no UTF-8 as `\xff`.
    pub name: String,
    /// MAC address; none for `lo` and other interfaces that are not Ethernet.
    pub mac: Option<Mac>,
    /// MTU in bytes of layer-3 payload.
    pub mtu: u32,
    /// Administratively up (IFF_UP).
    pub up: bool,
    /// Somebody set it to take all frames (IFF_PROMISC).
    pub promiscuous: bool,
    /// Has carrier (IFF_LOWER_UP): for a veth, the other end is up.
    pub carrier: bool,
    /// The driver says that there is carrier, also of an interface that is down (IFLA_CARRIER).
    pub driver_carrier: bool,
    /// A text that somebody gave it (IFLA_IFALIAS).
    pub alias: Option<String>,
    /// Driver's word for its kind: `veth`, `tun`, `bridge`; none for hardware.
    pub kind: Option<String>,
    /// Index of the bridge, bond or the like that it is a member of (IFLA_MASTER).
    pub master: Option<u32>,
    /// The group that somebody put it into (IFLA_GROUP); 0 unless somebody did.
    pub group: u32,
    /// Index of the other end of a veth, in the other end's namespace, or of the interface that it stands on (IFLA_LINK).
    pub peer_index: Option<u32>,
    /// Id of the other end's namespace, if it is not this one (IFLA_LINK_NETNSID).
    pub peer_nsid: Option<i32>,
    /// Bytes up to which the stack hands it TCP frames uncut; none if the kernel has not one size for each family (before 6.3).
    pub gso: Option<GsoSize>,
    /// It has a program of XDP that its driver runs, before the stack has the frame.
    pub native_xdp: bool,
    /// Frames that were to be sent by it and were dropped since it was made.
    pub tx_dropped: u64,
}

/// Bytes up to which the stack hands an interface TCP frames uncut, and puts together those that come in from it: for each family,
/// as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GsoSize {
    /// TCP over IPv4 (IFLA_GSO_IPV4_MAX_SIZE).
    pub ipv4: u32,
    /// All else (IFLA_GSO_MAX_SIZE).
    pub ipv6: u32,
}

impl GsoSize {
    /// What it is unless somebody changed it (linux GSO_LEGACY_MAX_SIZE).
    pub const USUAL: Self = Self {
        ipv4: 65_536,
        ipv6: 65_536,
    };
}

/// Indices from here on are chosen by us, where the kernel's choice does not do. It counts up from 1 in each namespace.
const OWN_INDICES: u32 = 1_000_000;
static NEXT_INDEX: AtomicU32 = AtomicU32::new(0);

/// The far end of a veth pair that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethPeer<'a> {
    /// Namespace to put it into.
    pub netns: &'a NetNs,
    /// Its name there.
    pub name: &'a str,
    /// Its MAC address.
    pub mac: Mac,
}

impl NetNs {
    /// All interfaces, for when nothing else is asked.
    pub async fn links_once(&self) -> Result<Vec<Link>, KernelError> {
        let links = self.run(|| read_links(&open_reader()?, &Wanted::All)).await?;
        links.map_err(|error| KernelError::new(format!("list the interfaces in {self}"), error))
    }
}

impl Netlink {
    /// All interfaces.
    pub async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let found = read_links(self.reader(), &Wanted::All);
        found.map_err(|error| self.failed("list the interfaces", error))
    }

    /// The interface of that name, if there is one.
    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, KernelError> {
        self.one(&Wanted::Named(name), format_args!("look up interface {name}"))
    }

    /// The interface of that index, if there is one.
    pub async fn link_by_index(&self, index: u32) -> Result<Option<Link>, KernelError> {
        self.one(&Wanted::Numbered(index), format_args!("look up interface {index}"))
    }

    fn one(&self, wanted: &Wanted<'_>, what: std::fmt::Arguments<'_>) -> Result<Option<Link>, KernelError> {
        match read_links(self.reader(), wanted) {
            Ok(links) => Ok(links.into_iter().next()),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(self.failed(what, error)),
        }
    }

    /// Makes a veth pair: `near` here and `peer` in its namespace, both down and with different indices.
    ///
    /// Of a device whose other end has the same index the kernel takes a change of carrier for not urgent
    /// (linkwatch_urgent_event), and acts on it up to a second late. Each namespace counts by itself, so it can come to that.
    ///
    /// # Errors
    /// EEXIST if one of the names is taken, EPERM without CAP_NET_ADMIN over both namespaces.
    pub async fn add_veth(&self, near: &str, mtu: u32, peer: VethPeer<'_>) -> Result<(), KernelError> {
        self.request_veth(near, 0, mtu, peer).await?;
        for _ in 0..16 {
            let made = self.link_by_name(near).await?;
            let Some(same) = made.filter(|link| link.peer_index == Some(link.index)) else {
                break;
            };
            self.delete_link(same.index).await?;
            let index = OWN_INDICES + NEXT_INDEX.fetch_add(1, Ordering::Relaxed) % OWN_INDICES;
            match self.request_veth(near, index, mtu, peer).await {
                // Not the names, which were free just now, but the index.
                Err(error) if error.is_exists() => self.request_veth(near, 0, mtu, peer).await?,
                made => made?,
            }
        }
        Ok(())
    }

    /// In one request. `index`: that of `near`; 0: the next in turn.
    async fn request_veth(&self, near: &str, index: u32, mtu: u32, peer: VethPeer<'_>) -> Result<(), KernelError> {
        // The kernel refuses (ENOTCONN) to set the far end up in this request.
        let far = LinkUnspec::new_with_name(peer.name)
            .mtu(mtu)
            .address(peer.mac.0.to_vec())
            .setns_by_fd(peer.netns.as_fd().as_raw_fd())
            .build();
        let mut pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(near)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
        pair.header.index = index;
        let added = self.handle.link().add(pair).execute().await;
        let (name, netns) = (peer.name, peer.netns);
        self.answer(
            format_args!("create veth pair {near} with far end {name} in {netns}"),
            added,
        )
    }

    /// Sets an interface administratively up.
    pub async fn set_up(&self, index: u32) -> Result<(), KernelError> {
        self.change(index, "set", "up", LinkMessageBuilder::up).await
    }

    /// Sets an interface administratively down.
    pub async fn set_down(&self, index: u32) -> Result<(), KernelError> {
        self.change(index, "set", "down", LinkMessageBuilder::down).await
    }

    /// Sets an interface administratively up or down.
    pub async fn set_up_or_down(&self, index: u32, up: bool) -> Result<(), KernelError> {
        if up {
            self.set_up(index).await
        } else {
            self.set_down(index).await
        }
    }

    /// Makes an interface take all frames, or only those for itself.
    pub async fn set_promiscuous(&self, index: u32, on: bool) -> Result<(), KernelError> {
        let value = if on { "promiscuous" } else { "not promiscuous" };
        self.change(index, "set", value, |link| link.promiscuous(on)).await
    }

    /// Sets the MTU of an interface, in bytes of layer-3 payload.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), KernelError> {
        self.change(index, "set the MTU of", &format!("to {mtu}"), |link| link.mtu(mtu))
            .await
    }

    /// Sets how many frames may wait in a queue of an interface.
    pub async fn set_queue_length(&self, index: u32, frames: u32) -> Result<(), KernelError> {
        self.change(index, "set the queue of", &format!("to {frames} frames"), |link| {
            link.append_extra_attribute(LinkAttribute::TxQueueLen(frames))
        })
        .await
    }

    /// Sets up to how many bytes the stack hands an interface TCP frames uncut, and puts together those that come in from it.
    ///
    /// # Errors
    /// EINVAL: more than its driver takes.
    pub async fn set_gso_size(&self, index: u32, size: GsoSize) -> Result<(), KernelError> {
        let GsoSize { ipv4, ipv6 } = size;
        let value = format!("to {ipv4} for IPv4, {ipv6} for IPv6");
        self.change(index, "set the GSO size of", &value, |link| {
            // The kernel goes through them in this order; the first one alone may reset the third.
            [
                LinkAttribute::GsoMaxSize(ipv6),
                LinkAttribute::GroMaxSize(ipv6),
                LinkAttribute::GsoIpv4MaxSize(ipv4),
                LinkAttribute::GroIpv4MaxSize(ipv4),
            ]
            .into_iter()
            .fold(link, LinkMessageBuilder::append_extra_attribute)
        })
        .await
    }

    /// Gives an interface a text that goes with it through renames and moves.
    pub async fn set_alias(&self, index: u32, alias: &str) -> Result<(), KernelError> {
        self.change(index, "set the alias of", &format!("to {alias}"), |link| {
            link.append_extra_attribute(LinkAttribute::IfAlias(alias.to_owned()))
        })
        .await
    }

    /// Sets the MAC address of an interface.
    pub async fn set_mac(&self, index: u32, mac: Mac) -> Result<(), KernelError> {
        self.change(index, "set the MAC of", &format!("to {mac}"), |link| {
            link.address(mac.0.to_vec())
        })
        .await
    }

    async fn change(
        &self,
        index: u32,
        verb: &str,
        value: &str,
        edit: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), KernelError> {
        let message = edit(LinkUnspec::new_with_index(index)).build();
        let changed = self.handle.link().change(message).execute().await;
        self.answer(format_args!("{verb} interface {index} {value}"), changed)
    }

    /// Puts interfaces into a group; those that are gone are left out.
    pub async fn set_group(&self, indices: &[u32], group: u32) -> Result<(), KernelError> {
        let value = format!("to {group}");
        // Not one by one: then each would wait for the turns of two threads.
        for some in indices.chunks(GROUPED_AT_ONCE) {
            let mut changes = Vec::new();
            for index in some {
                changes.push(self.change(*index, "set the group of", &value, |link| {
                    link.append_extra_attribute(LinkAttribute::Group(group))
                }));
            }
            for changed in join_all(changes).await {
                match changed {
                    Err(error) if !error.is_gone() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Deletes all interfaces of a group; ENODEV if it is empty.
    async fn delete_group(&self, group: u32) -> Result<(), KernelError> {
        let message = LinkUnspec::new_with_index(0)
            .append_extra_attribute(LinkAttribute::Group(group))
            .build();
        let deleted = self.request(RouteNetlinkMessage::DelLink(message), 0).await;
        self.answer(format_args!("delete the interfaces of group {group}"), deleted)
            .map(drop)
    }

    /// Deletes an interface, of a veth pair both ends.
    pub async fn delete_link(&self, index: u32) -> Result<(), KernelError> {
        let deleted = self.handle.link().del(index).execute().await;
        self.answer(format_args!("delete interface {index}"), deleted)
    }
}

impl NetNs {
    /// Deletes interfaces of the namespace together, which takes little longer than deleting one: the kernel waits once for all that may
    /// still use them. It does so within the request, so that is made by a thread of its own; and without its lock of all
    /// interfaces, so that of two such requests the one waits while the other takes apart. `group`: a number that no other
    /// interface there has.
    ///
    /// # Errors
    /// ENODEV: all of them are gone. One can't be put into the group, EPERM say; then all are still there.
    pub async fn delete_links(&self, indices: Vec<u32>, group: u32) -> Result<(), KernelError> {
        let netns = self.clone();
        on_new_thread("delete interfaces", move || {
            let runtime = Builder::new_current_thread().enable_io().build();
            let runtime = runtime.map_err(|error| KernelError::new(format!("delete interfaces in {netns}"), error))?;
            runtime.block_on(async {
                let netlink = netns.netlink().await?;
                netlink.set_group(&indices, group).await?;
                netlink.delete_group(group).await
            })
        })
        .await
    }
}
