//! BIG TCP: TCP frames above 64 KiB over IPv4, which a veth port gets as long as nothing but the kernel has to carry them.
//!
//! The size is a property of the sender's interface, and the sender does not know where a frame goes. So the ports of a switch
//! have it while all of its ports that are up leave their frames to the kernel. What comes to the daemon all the same (a
//! connection keeps the size that it began with, and a station may be unknown) the kernel cuts into frames of the MTU on the
//! way, since no TAP device takes more than 64 KiB (its tso_max_size): complete, but several times slower.

use std::collections::BTreeMap;

use vswitch_api::{Port, SwitchName};

use super::Inner;
use super::detach::gone_is_fine;
use super::kinds::heard_by_near_end;
use crate::port::BackEnd;
use vswitch_linux::{GsoSize, KernelError};

/// Bytes of the longest TCP frame over IPv4 with BIG TCP: longer and shorter ones cost a single
/// stream a quarter and more of its rate on some processors (docs/benchmarks.md).
const BIG_IPV4_SIZE: u32 = 131_072;
/// The same over IPv6: that of old. Above it the kernel puts a hop-by-hop header with the jumbo payload option into the frame
/// (RFC 2675), whose eight bytes no segment has, but which a stack that forwards the frame counts against the MTU: segments of full
/// size are then too long for it, and each frame is lost (`Ip6FragFails`). Every station may be a router.
const BIG_IPV6_SIZE: u32 = GsoSize::USUAL.ipv6;

/// With BIG TCP.
const BIG: GsoSize = GsoSize {
    ipv4: BIG_IPV4_SIZE,
    ipv6: BIG_IPV6_SIZE,
};

/// Whether an interface with this size sends frames above 64 KiB.
pub(super) fn is_big(size: Option<GsoSize>) -> bool {
    size.is_some_and(|size| size.ipv4 > GsoSize::USUAL.ipv4)
}

impl Inner {
    /// Gives BIG TCP to the ports that may have it now, and takes it from those that may not.
    pub(super) async fn fit_frame_sizes(&mut self) {
        let carried: BTreeMap<_, _> = self
            .live
            .switches
            .iter()
            .map(|(name, id)| {
                (
                    name,
                    self.datapath.offloads_carry_all(*id) && !self.leads_elsewhere(name),
                )
            })
            .collect();
        let wrong = |port: &Port| {
            let live = self.live.ports.get(&port.name).filter(|_| heard_by_near_end(port))?;
            let fast = self.datapath.io::<BackEnd>(live.id?)?.fast().is_some();
            let big = self.given.big_tcp && fast && *carried.get(&port.switch)?;
            let wanted = if big { BIG } else { GsoSize::USUAL };
            // None: the kernel has no BIG TCP over IPv4.
            (live.gso? != wanted).then(|| (port.clone(), wanted))
        };
        let wrong: Vec<_> = self.store.state.lab.ports.iter().filter_map(wrong).collect();
        for (port, size) in wrong {
            if !self.goes_on() {
                return;
            }
            let set = gone_is_fine(self.set_frame_size(&port, size).await);
            if let Err(error) = set {
                tracing::warn!(port = %port.name, "port {}: can't change the size of its TCP frames: {error}", port.name);
            }
            // Also after an error: it would be the same the next time.
            if let Some(live) = self.live.ports.get_mut(&port.name) {
                live.gso = Some(size);
            }
        }
    }

    /// A device takes frames of the size that its own driver has: longer ones would be cut up by software. What is behind a link
    /// is not known here.
    fn leads_elsewhere(&self, switch: &SwitchName) -> bool {
        let ports = &self.store.state.lab.ports;
        ports
            .iter()
            .any(|port| !port.kind.has_stack() && port.switch == *switch)
    }

    async fn set_frame_size(&self, port: &Port, size: GsoSize) -> Result<(), KernelError> {
        let Some(live) = self.live.ports.get(&port.name) else {
            return Ok(());
        };
        if let Some(near) = live.near {
            self.host.own.netlink().await?.set_gso_size(near, size).await?;
        }
        // A namespace that went is told elsewhere.
        if let Ok(Some((netns, index))) = self.where_inside(port, live).await {
            netns.netlink().await?.set_gso_size(index, size).await?;
        }
        Ok(())
    }
}
