//! ARP and ND tables.

use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use vswitch_api::name::Mac;

use super::error::KernelError;
use super::netlink::Netlink;

/// An entry of an ARP or ND table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the interface.
    pub index: u32,
    /// Address of the neighbour.
    pub ip: IpAddr,
    /// Its MAC address, once it is known.
    pub mac: Option<Mac>,
    /// Kernel's word for the state: `reachable`, `stale`, `delay`, `probe`, `failed`, `incomplete`, `permanent`.
    pub state: String,
}

impl Netlink {
    /// The ARP and ND tables, without the entries that need no resolution (NUD_NOARP), as `ip neigh` shows them.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, KernelError> {
        let messages = self.handle.neighbours().get().execute();
        let neighbours = messages.try_filter_map(async |message| Ok(parse(&message)));
        self.answer("list the neighbours", neighbours.try_collect().await)
    }
}

fn parse(message: &NeighbourMessage) -> Option<Neighbour> {
    if message.header.state == NeighbourState::Noarp {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => ip = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => ip = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(octets) => mac = octets.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour {
        index: message.header.ifindex,
        ip: ip?,
        mac,
        state: message.header.state.to_string(),
    })
}
