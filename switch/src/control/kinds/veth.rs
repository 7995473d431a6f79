//! Ports of kind veth: a pair whose near end stands in the daemon's own namespace, out of sight of the host's firewall, and whose
//! far end is the interface that the port's user sees.

use vswitch_api::{ApiError, Mac, Port};

use super::{Facts, NearEnd, Opened};
use crate::control::attach::{Adopt, Made};
use crate::control::interface::{mac, make_ready, mtu, vanished, with_room_for};
use crate::control::kinds::ifname;
use crate::control::place::Place;
use crate::control::{Inner, LivePort, text};
use vswitch_linux::{KernelError, Link, NetNs, Netlink, VethPeer};

pub(super) const FACTS: Facts = Facts {
    taken_over: false,
    near_end: NearEnd::Always,
    tap: false,
};

impl Inner {
    /// Makes or adopts the pair, and sets both ends up.
    pub(super) async fn open_veth(
        &self,
        port: &Port,
        netns: &NetNs,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<Opened, ApiError> {
        let failed = |error: KernelError| text::kernel(text::port(&port.name), &error);
        let (near, place) = self.make_veth(port, netns, own, adopt, made).await?;
        let station = port.mac.or(place.link.mac).unwrap_or(Mac([0; 6]));
        let io = self
            .open_near_end(port, &near, station, place.link.native_xdp, own)
            .await
            .map_err(failed)?;
        // The near end first: an interface that gets its carrier before it is set up can send, and so be announced, at once. One
        // that is taken over may be either.
        own.set_up_or_down(near.index, port.up).await.map_err(failed)?;
        let inside = place.netns.netlink().await.map_err(failed)?;
        let lacks = make_ready(&inside, &place, port, adopt, made).await.map_err(failed)?;
        Ok(Opened {
            io,
            near: Some(near.index),
            place,
            // The kernel gave the far end's namespace an id as it told where that is.
            nsid: near.peer_nsid,
            xdp_refused: None,
            lacks,
        })
    }

    pub(super) async fn place_of_veth(&self, port: &Port, live: &LivePort) -> Result<Option<Place>, KernelError> {
        let Some(near) = live.near else { return Ok(None) };
        let own = self.host.own.netlink().await?;
        match own.link_by_index(near).await? {
            Some(near) => self.far_end(port, &near, &own).await,
            None => Ok(None),
        }
    }

    pub(super) async fn set_carrier_of_near_end(&self, port: &Port, live: &LivePort) -> Result<(), ApiError> {
        let Some(near) = live.near else { return Ok(()) };
        let set = async { self.host.own.netlink().await?.set_up_or_down(near, port.up).await };
        set.await.map_err(|error| text::kernel(text::port(&port.name), &error))
    }

    /// The near end and the far end of a veth port.
    async fn make_veth(
        &self,
        port: &Port,
        netns: &NetNs,
        own: &Netlink,
        adopt: Adopt,
        made: &mut Vec<Made>,
    ) -> Result<(Link, Place), ApiError> {
        let object = text::port(&port.name);
        let failed = |error: KernelError| text::kernel(object.clone(), &error);
        let (near_name, far_name) = (port.name.as_str(), ifname(port));
        let near = own.link_by_name(near_name).await.map_err(failed)?;
        if let Some(near) = near {
            let far = match adopt {
                // What can't be got at can't be adopted either.
                Adopt::Yes => self.far_end(port, &near, own).await.unwrap_or_default(),
                Adopt::No => None,
            };
            let elsewhere = |near: &Link| {
                self.store
                    .made_in(port, near)
                    .is_some_and(|nsid| near.peer_nsid != Some(nsid))
            };
            if let Some(far) = far.filter(|far| far.netns.id() == netns.id() || elsewhere(&near)) {
                own.set_mtu(near.index, mtu(port)).await.map_err(failed)?;
                own.drop_ingress(near.index).await.map_err(failed)?;
                self.mark_near_end(port, &near, own).await.map_err(failed)?;
                return Ok((near, far));
            }
            // Nothing but a near end of ours is in the own namespace: one that leads elsewhere is left from before.
            self.delete_near_end(port).await.map_err(failed)?;
        }
        let inside = with_room_for(port, netns, far_name.as_str()).await?;
        let peer = VethPeer {
            netns,
            name: far_name.as_str(),
            mac: mac(port),
        };
        // Also if it fails: the kernel may have made the pair though its answer was lost.
        made.push(Made::Interface);
        own.add_veth(near_name, mtu(port), peer).await.map_err(failed)?;
        let near = own
            .link_by_name(near_name)
            .await
            .map_err(failed)?
            .ok_or_else(|| vanished(port))?;
        own.drop_ingress(near.index).await.map_err(failed)?;
        self.mark_near_end(port, &near, own).await.map_err(failed)?;
        let far = inside
            .link_by_name(far_name.as_str())
            .await
            .map_err(failed)?
            .ok_or_else(|| vanished(port))?;
        let netns = netns.clone();
        Ok((near, Place { netns, link: far }))
    }

    /// Notes where the far end is, unless that is noted already: a later daemon tells by it whether it was moved.
    async fn mark_near_end(&self, port: &Port, near: &Link, own: &Netlink) -> Result<(), KernelError> {
        match near.peer_nsid {
            Some(nsid) if self.store.made_in(port, near).is_none() => {
                own.set_alias(near.index, &self.store.mark(port, nsid)).await
            }
            _ => Ok(()),
        }
    }
}
