//! The kernel fast path as control sees it: begun at the start if it can be had, given to each veth port, and handed on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vswitch_api::{Mac, Port, PortName, Switch};

use super::detach::gone_is_fine;
use super::interface::open_packet;
use super::policy::switch_settings;
use super::{Inner, View};
use crate::datapath::{PortId, SwitchId, SwitchSetup};
use crate::fastpath::{FastPath, NearEnd, Splice, switch_key};
use crate::kernel::{KernelError, Link, NetNs, Netlink, bpf};
use crate::port::{PortIo, Shadow, Tap};

/// Where links and maps are pinned, beside the own namespace.
fn root(run_dir: &Path) -> PathBuf {
    run_dir.join("bpf")
}

/// Begins it, or removes what a daemon before left of it; the second value says why it can't be had.
pub(super) async fn open(own: &NetNs, run_dir: &Path, wanted: bool) -> (Option<Arc<FastPath>>, Option<String>) {
    let root = root(run_dir);
    if !wanted {
        bpf::unmount(&root);
        return (None, None);
    }
    match own.run(move || FastPath::open(&root)).await.flatten() {
        Ok(fast) => (Some(fast), None),
        Err(error) => (
            None,
            Some(format!("all frames pass the daemon, no kernel fast path: {error}")),
        ),
    }
}

/// Frames that may wait for the daemon in each queue of a shadow TAP: enough for a burst, as a packet socket has.
const SHADOW_QUEUE: u32 = 4096;

/// Name of the shadow TAP of a near end. No port can be called so.
pub(super) fn shadow_name(near: u32) -> String {
    format!("~{near}")
}

impl Inner {
    /// Adds a switch to the datapath.
    pub(super) fn add_switch(&self, switch: &Switch) -> SwitchId {
        let setup = SwitchSetup {
            fdb_capacity: switch.fdb_capacity,
            settings: switch_settings(switch),
        };
        match &self.fast {
            Some(fast) => self.datapath.add_replicated_switch(setup, fast.replica(&switch.name)),
            None => self.datapath.add_switch(setup),
        }
    }

    /// How frames come from and go to the station behind a near end: by the fast path's shadow TAP, else by a packet socket.
    pub(super) async fn open_near_end(
        &self,
        port: &Port,
        near: &Link,
        far: &Link,
        own: &Netlink,
    ) -> Result<PortIo, KernelError> {
        if let Some(fast) = &self.fast {
            let mac = port.mac.or(far.mac).unwrap_or(Mac([0; 6]));
            match self.open_shadow(fast, port, near, mac, own, None).await {
                Ok(shadow) => return Ok(PortIo::Shadow(shadow)),
                // It is the faster way, not the only one.
                Err(error) => {
                    tracing::warn!(port = %port.name, "port {}: without the kernel fast path: {error}", port.name)
                }
            }
        }
        own.drop_ingress_again(near.index).await?;
        open_packet(&self.own, near.index, false).await
    }

    /// Opens the shadow TAP of a near end and gives the port its part of the fast path. `mac`: see [`NearEnd::mac`].
    pub(super) async fn open_shadow(
        &self,
        fast: &Arc<FastPath>,
        port: &Port,
        near: &Link,
        mac: Mac,
        own: &Netlink,
        splice: Option<Splice>,
    ) -> Result<Shadow, KernelError> {
        let (name, queues) = (shadow_name(near.index), self.datapath.workers());
        let step = format!("open the shadow {name}");
        let opened = self
            .own
            .run({
                let name = name.clone();
                move || Tap::open(&name, queues)
            })
            .await?;
        let tap = opened.map_err(|error| KernelError::new(step.clone(), error))?;
        let claimed = async {
            let link = own.link_by_name(&name).await?;
            let link = link.ok_or_else(|| KernelError::new(step, nix::errno::Errno::ENODEV))?;
            own.set_queue_length(link.index, SHADOW_QUEUE).await?;
            if !link.up {
                own.set_no_queue(link.index).await?;
                own.set_up(link.index).await?;
            }
            let end = NearEnd {
                switch: port.switch.clone(),
                near: (near.name.clone(), near.index),
                shadow: (name.clone(), link.index),
                dropped: link.tx_dropped,
                mac,
            };
            let fast = Arc::clone(fast);
            let mut fast = self.own.run(move || fast.claim(&end)).await??;
            match splice {
                None => Ok(fast),
                Some(splice) => self.home.run(move || fast.join(splice).map(|()| fast)).await?,
            }
        };
        match claimed.await {
            Ok(fast) => Ok(Shadow::new(tap, fast)),
            Err(error) => {
                // The device goes with its queues.
                let _ = tap.unpersist();
                Err(error)
            }
        }
    }

    /// Shadows whose near end is gone, or all if there is no fast path: left by a daemon that was killed.
    pub(super) async fn remove_stale_shadows(&self) {
        let Ok(own) = self.own.netlink().await else { return };
        let links = own.links().await.unwrap_or_default();
        let wanted = |link: &Link| self.fast.is_some() && links.iter().any(|near| link.name == shadow_name(near.index));
        for link in links.iter().filter(|link| link.name.starts_with('~') && !wanted(link)) {
            if let Err(error) = gone_is_fine(own.delete_link(link.index).await) {
                tracing::warn!(shadow = %link.name, "shadow {}: no port has it, and it can't be removed: {error}", link.name);
            }
        }
    }

    /// When all ports are there: the FDBs take over what the kernel learned to know under the daemon before, and what
    /// nobody claims goes.
    pub(super) fn adopt_stations(&self) {
        let Some(fast) = &self.fast else { return };
        let slot = |id: PortId| self.datapath.io(id)?.fast().map(|fast| fast.slot());
        let ids = self.ports.values().filter_map(|live| live.id);
        let ports: HashMap<_, _> = ids.filter_map(|id| Some((slot(id)?, id))).collect();
        let switches: HashMap<_, _> = self.switches.iter().map(|(name, id)| (switch_key(name), *id)).collect();
        for leftover in fast.leftovers() {
            let known = match (switches.get(&leftover.switch), ports.get(&leftover.slot)) {
                (Some(switch), Some(port)) => {
                    // Not adopted: the FDB knows better already, which is in the map too then, or it is full.
                    let (vlan, mac) = (leftover.vlan, leftover.mac);
                    self.datapath.fdb_adopt(*switch, vlan, mac, *port, leftover.seen)
                        || self.datapath.fdb_knows(*switch, vlan, mac)
                }
                _ => false,
            };
            if !known {
                fast.forget(&leftover);
            }
        }
        self.datapath.adopt_floods(fast);
    }

    /// Waits until no frame is forwarded any more by what was removed just now.
    pub(super) fn settle_fastpath(&self) {
        if self.fast.is_some() {
            bpf::settle();
        }
    }
}

impl View {
    /// Brings up to date how many frames the queues of the shadows had no room for, which only the kernel counts: of one port or of all.
    pub(super) async fn read_overruns(&self, only: Option<&PortName>) {
        let shadows: HashMap<_, _> = self
            .ports
            .iter()
            .filter(|(name, _)| only.is_none_or(|only| only == *name))
            .filter_map(|(_, live)| Some((shadow_name(live.near?), self.datapath.io(live.id?)?)))
            .filter(|(_, io)| io.fast().is_some())
            .collect();
        let name = shadows.keys().next();
        let (Some(name), Ok(own)) = (name, self.own.netlink().await) else {
            return;
        };
        // What can't be had stays what it was.
        let links = match only {
            Some(_) => own.link_by_name(name).await.map(Vec::from_iter),
            None => own.links().await,
        };
        for link in links.unwrap_or_default() {
            if let Some(fast) = shadows.get(&link.name).and_then(|io| io.fast()) {
                fast.note_dropped(link.tx_dropped);
            }
        }
    }
}
