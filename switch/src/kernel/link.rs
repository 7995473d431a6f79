//! Interfaces: list, create, change, delete.

use std::os::fd::{AsFd, AsRawFd};

use futures::TryStreamExt;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use vswitch_api::name::Mac;

use super::error::KernelError;
use super::netlink::Netlink;
use super::netns::NetNs;

/// An interface as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel's index; never reused within a namespace before it wraps.
    pub index: u32,
    /// Its name.
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
    /// Driver's word for its kind: `veth`, `tun`, `bridge`; none for hardware.
    pub kind: Option<String>,
    /// Index of the other end of a veth, in the other end's namespace (IFLA_LINK).
    pub peer_index: Option<u32>,
    /// Id of the other end's namespace, if it is not this one (IFLA_LINK_NETNSID).
    pub peer_nsid: Option<i32>,
    /// Bytes up to which the stack hands it TCP frames uncut (IFLA_GSO_MAX_SIZE).
    pub gso_max_size: u32,
    /// Frames that were to be sent by it and were dropped since it was made.
    pub tx_dropped: u64,
}

/// What [`Link::gso_max_size`] is unless somebody changed it (linux GSO_LEGACY_MAX_SIZE).
pub const USUAL_GSO_SIZE: u32 = 65_536;

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

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let header = message.header;
        let mut link = Self {
            index: header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: header.flags.contains(LinkFlags::Up),
            promiscuous: header.flags.contains(LinkFlags::Promisc),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            kind: None,
            peer_index: None,
            peer_nsid: None,
            gso_max_size: USUAL_GSO_SIZE,
            tx_dropped: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(octets) if header.link_layer_type == LinkLayerType::Ether => {
                    link.mac = octets.try_into().ok().map(Mac);
                }
                LinkAttribute::Link(index) => link.peer_index = Some(index),
                LinkAttribute::LinkNetNsId(id) => link.peer_nsid = Some(id),
                LinkAttribute::GsoMaxSize(bytes) => link.gso_max_size = bytes,
                LinkAttribute::Stats64(stats) => link.tx_dropped = stats.tx_dropped,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

impl Netlink {
    /// All interfaces.
    pub async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let links = self.handle.link().get().execute().map_ok(Link::from_message);
        self.answer("list the interfaces", links.try_collect().await)
    }

    /// The interface of that name, if there is one.
    pub async fn link_by_name(&self, name: &str) -> Result<Option<Link>, KernelError> {
        let mut found = Box::pin(self.handle.link().get().match_name(name).execute());
        let found = found.try_next().await;
        match self.answer(format_args!("look up interface {name}"), found) {
            Ok(message) => Ok(message.map(Link::from_message)),
            Err(e) if e.is_gone() => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes a veth pair in one request: `near` here and `peer` in its namespace, both down.
    ///
    /// # Errors
    /// EEXIST if one of the names is taken, EPERM without CAP_NET_ADMIN over both namespaces.
    pub async fn add_veth(&self, near: &str, mtu: u32, peer: VethPeer<'_>) -> Result<(), KernelError> {
        // The kernel refuses (ENOTCONN) to set the far end up in this request.
        let far = LinkUnspec::new_with_name(peer.name)
            .mtu(mtu)
            .address(peer.mac.0.to_vec())
            .setns_by_fd(peer.netns.as_fd().as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(near)
            .mtu(mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
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
    /// EINVAL: more than its driver takes, or above 64 KiB on a kernel before 5.19 (6.3 for IPv4, which is not told).
    pub async fn set_gso_size(&self, index: u32, bytes: u32) -> Result<(), KernelError> {
        self.change(index, "set the GSO size of", &format!("to {bytes}"), |link| {
            // The kernel goes through them in this order; the first one alone may reset the third.
            [
                LinkAttribute::GsoMaxSize(bytes),
                LinkAttribute::GroMaxSize(bytes),
                LinkAttribute::GsoIpv4MaxSize(bytes),
                LinkAttribute::GroIpv4MaxSize(bytes),
            ]
            .into_iter()
            .fold(link, LinkMessageBuilder::append_extra_attribute)
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

    /// Puts an interface into a group, for [`Netlink::delete_group`].
    pub async fn set_group(&self, index: u32, group: u32) -> Result<(), KernelError> {
        self.change(index, "set the group of", &format!("to {group}"), |link| {
            link.append_extra_attribute(LinkAttribute::Group(group))
        })
        .await
    }

    /// Deletes all interfaces of a group together, which takes little longer than deleting one: the kernel waits once for all that
    /// may still use them.
    ///
    /// # Errors
    /// ENODEV: the group is empty.
    pub async fn delete_group(&self, group: u32) -> Result<(), KernelError> {
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
