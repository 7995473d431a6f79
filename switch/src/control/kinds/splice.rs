//! Device ports on the kernel fast path.
//!
//! A program can redirect frames to interfaces of its own namespace only, and a device stays where it is. So a veth pair, the
//! splice, leads from there to the daemon's namespace: its end there is the port's near end like that of a veth port, its other
//! end stands beside the device and belongs to the two programs that pass frames on between the two.

use std::sync::Arc;

use vswitch_api::{Mac, Port};

use crate::control::Inner;
use crate::control::fastpath::beside_name;
use crate::control::interface::open_packet;
use crate::fastpath::{FastPath, Splice};
use crate::port::{BackEnd, Shadow, XdpDevice, XdpPort};
use vswitch_linux::{KernelError, Link, NetNs, Netlink, VethPeer};

/// Frames are measured by the MTU of the near end, on their way in and out.
const MAX_MTU: u32 = 65_535;

/// A device that is a port now.
pub(super) struct TakenDevice {
    pub io: BackEnd,
    /// Index of the near end, if there is one.
    pub near: Option<u32>,
    pub link: Link,
    /// Why it has no AF_XDP though it was to have it.
    pub xdp_refused: Option<String>,
}

impl Inner {
    /// Connects a device: by AF_XDP if it is to, else by the kernel fast path, else by a packet socket.
    pub(super) async fn connect_device(
        &self,
        port: &Port,
        home: &NetNs,
        device: Link,
    ) -> Result<TakenDevice, KernelError> {
        let mut xdp_refused = None;
        if port.xdp {
            match self.open_xdp(port, home, &device).await? {
                Ok(xdp) => {
                    return Ok(TakenDevice {
                        io: BackEnd::Xdp(xdp),
                        near: None,
                        link: device,
                        xdp_refused,
                    });
                }
                Err(reason) => {
                    tracing::warn!(port = %port.name, "port {}: without AF_XDP: {reason}", port.name);
                    xdp_refused = Some(reason);
                }
            }
        }
        if let Some(fast) = &self.fast {
            match self.splice(fast, port, home, &device).await {
                Ok((shadow, near)) => {
                    return Ok(TakenDevice {
                        io: BackEnd::Shadow(shadow),
                        near: Some(near),
                        link: device,
                        xdp_refused,
                    });
                }
                // It is the faster way, not the only one.
                Err(error) => {
                    tracing::warn!(port = %port.name, "port {}: without the kernel fast path: {error}", port.name);
                    self.delete_near_end(port).await?;
                }
            }
        }
        Ok(TakenDevice {
            io: self.open_plain_device(port, home, &device).await?,
            near: None,
            link: device,
            xdp_refused,
        })
    }

    /// By a shadow TAP that stands beside the device, else by a packet socket.
    async fn open_plain_device(&self, port: &Port, home: &NetNs, device: &Link) -> Result<BackEnd, KernelError> {
        let beside = home.netlink().await?;
        // Left by a daemon that had the fast path: the splice's end has the name of the shadow.
        self.delete_near_end(port).await?;
        match self
            .open_plain_shadow(port, &beside_name(device.index), home, device)
            .await
        {
            Ok(shadow) => {
                // A packet socket takes all frames as long as it is open.
                beside.set_promiscuous(device.index, true).await?;
                Ok(BackEnd::Shadow(shadow))
            }
            Err(error) => {
                tracing::info!(port = %port.name, "port {}: by a packet socket: {error}", port.name);
                beside.drop_ingress_again(device.index).await?;
                open_packet(home, device.index, true).await
            }
        }
    }

    /// The second error is the reason for which the device can't have it.
    async fn open_xdp(&self, port: &Port, home: &NetNs, device: &Link) -> Result<Result<XdpPort, String>, KernelError> {
        let workers = self.datapath.workers();
        let device = XdpDevice {
            ifindex: device.index,
            name: device.name.clone(),
            mtu: port.mtu.unwrap_or(device.mtu),
            kind: device.kind.clone(),
        };
        home.run(move || XdpPort::open(&device, workers)).await
    }

    async fn splice(
        &self,
        fast: &Arc<FastPath>,
        port: &Port,
        home: &NetNs,
        device: &Link,
    ) -> Result<(Shadow, u32), KernelError> {
        let (own, beside) = (self.host.own.netlink().await?, home.netlink().await?);
        let (near, end) = make_ends(port, home, device, &own, &beside).await?;
        // A packet socket takes all frames as long as it is open. The fast path is to outlive the daemon.
        beside.set_promiscuous(device.index, true).await?;
        own.set_up(near.index).await?;
        beside.set_up(end.index).await?;
        let splice = Splice {
            device: (device.name.clone(), device.index),
            end: (end.name, end.index),
        };
        let shadow = self
            .open_shadow(fast, port, &near, Mac::BROADCAST, &own, Some(splice))
            .await?;
        Ok((shadow, near.index))
    }
}

/// The splice's two ends: those that are there, or new ones.
async fn make_ends(
    port: &Port,
    home: &NetNs,
    device: &Link,
    own: &Netlink,
    beside: &Netlink,
) -> Result<(Link, Link), KernelError> {
    let mtu = port.mtu.unwrap_or(device.mtu);
    let (near_name, end_name) = (port.name.as_str(), beside_name(device.index));
    let near = own.link_by_name(near_name).await?;
    let end = beside.link_by_name(&end_name).await?;
    match (near, end) {
        (Some(near), Some(end)) if near.peer_index == Some(end.index) && end.peer_index == Some(near.index) => {
            own.set_mtu(near.index, mtu).await?;
            return Ok((near, end));
        }
        // Nothing but a near end of ours is in the own namespace: one that leads elsewhere is left from before.
        (Some(stale), _) => own.delete_link(stale.index).await?,
        _ => {}
    }
    let [a, b, c, d] = device.index.to_be_bytes();
    let peer = VethPeer {
        netns: home,
        name: &end_name,
        // On no wire, but the kernel wants one.
        mac: Mac([2, 0x76, a, b, c, d]),
    };
    own.add_veth(near_name, mtu, peer).await?;
    let there = |link: Option<Link>| {
        let gone = || KernelError::new(format!("find the veth pair {near_name}"), nix::errno::Errno::ENODEV);
        link.ok_or_else(gone)
    };
    let near = there(own.link_by_name(near_name).await?)?;
    let end = there(beside.link_by_name(&end_name).await?)?;
    own.drop_ingress(near.index).await?;
    // The host sees an interface and may greet its neighbours by it.
    beside.drop_egress(end.index).await?;
    beside.drop_ingress(end.index).await?;
    beside.set_mtu(end.index, MAX_MTU).await?;
    Ok((near, end))
}
