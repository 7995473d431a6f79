//! Ports of kind link: both ends of a veth pair that stays in the daemon's own namespace, and so of no stack. What goes out of the one
//! comes in at the other, in the kernel where the fast path carries it.

use tokio::sync::Mutex;
use vswitch_api::{ApiError, ErrorCode, Mac, Port, PortName};

use super::{Facts, NearEnd, Opened};
use crate::control::attach::Made;
use crate::control::detach::gone_is_fine;
use crate::control::interface::{mtu, vanished};
use crate::control::place::Place;
use crate::control::{Inner, LivePort, lasting, text};
use vswitch_linux::{KernelError, Link, Netlink, VethPeer};

pub(super) const FACTS: Facts = Facts {
    taken_over: false,
    near_end: NearEnd::Always,
    tap: false,
};

/// Both ports of a link may be opened at the same time: the first makes the pair, and the second is to find it whole.
static PAIRS: Mutex<()> = Mutex::const_new(());

impl Inner {
    /// Makes or adopts the pair, and sets this end of it up.
    pub(super) async fn open_link(&self, port: &Port, own: &Netlink, made: &mut Vec<Made>) -> Result<Opened, ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let near = {
            let _one = PAIRS.lock().await;
            self.find_or_make_pair(port, own, made).await?
        };
        if near.mtu != mtu(port) {
            own.set_mtu(near.index, mtu(port)).await.map_err(failed)?;
        }
        // Every frame is for whoever is behind the other switch. And none can be put at once to the far end of a pair, unless that
        // is in another namespace.
        let io = self
            .open_near_end(port, &near, Mac::BROADCAST, true, own)
            .await
            .map_err(failed)?;
        own.set_up_or_down(near.index, port.up).await.map_err(failed)?;
        let netns = self.host.own.clone();
        Ok(Opened {
            io,
            near: Some(near.index),
            place: Place { netns, link: near },
            nsid: None,
            xdp_refused: None,
            lacks: Vec::new(),
        })
    }

    async fn find_or_make_pair(&self, port: &Port, own: &Netlink, made: &mut Vec<Made>) -> Result<Link, ApiError> {
        let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
        let peer = peer(port)?;
        let here = own.link_by_name(port.name.as_str()).await.map_err(failed)?;
        let there = own.link_by_name(peer.as_str()).await.map_err(failed)?;
        match (here, there) {
            (Some(here), Some(there))
                if here.peer_index == Some(there.index) && there.peer_index == Some(here.index) =>
            {
                return Ok(here);
            }
            // Nothing but near ends of ours is in the own namespace: one that leads elsewhere is left from before.
            (here, there) => {
                for stale in here.into_iter().chain(there) {
                    gone_is_fine(own.delete_link(stale.index).await).map_err(failed)?;
                }
            }
        }
        made.push(Made::Interface);
        let end = VethPeer {
            netns: &self.host.own,
            name: peer.as_str(),
            // Of no station: nothing is sent by it and nothing for it.
            mac: end_mac(peer),
        };
        own.add_veth(port.name.as_str(), mtu(port), end).await.map_err(failed)?;
        let mut near = None;
        for name in [&port.name, peer] {
            let end = own.link_by_name(name.as_str()).await.map_err(failed)?;
            let end = end.ok_or_else(|| vanished(port))?;
            own.drop_ingress(end.index).await.map_err(failed)?;
            near = near.or(Some(end));
        }
        near.ok_or_else(|| vanished(port))
    }

    pub(super) async fn place_of_link(&self, live: &LivePort) -> Result<Option<Place>, KernelError> {
        let Some(near) = live.near else { return Ok(None) };
        let link = self.host.own.netlink().await?.link_by_index(near).await?;
        let netns = self.host.own.clone();
        Ok(link.map(|link| Place { netns, link }))
    }
}

/// The port at the other end; each link port of a lab that was checked has one.
fn peer(port: &Port) -> Result<&PortName, ApiError> {
    port.peer.as_ref().ok_or_else(|| {
        ApiError::new(
            ErrorCode::Internal,
            text::port(&port.name),
            "it is one end of a link, and has no other",
        )
        .hint("remove it and add the link again")
    })
}

/// Addresses that differ, since the kernel wants one for each end.
fn end_mac(name: &PortName) -> Mac {
    let [a, b, c, d, ..] = lasting::number(&name.as_str()).to_be_bytes();
    Mac([2, 0x76, a, b, c, d])
}
