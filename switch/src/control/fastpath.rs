//! The kernel fast path as control sees it: begun at the start if it can be had, given to each veth port, and handed on.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vswitch_api::{Mac, Port, PortName, Switch};

use super::detach::gone_is_fine;
use super::interface::open_packet;
use super::kinds::heard_by_near_end;
use super::policy::switch_settings;
use super::{Inner, LivePort, View};
use crate::agents::loop_guard::PUNTS;
use crate::fastpath::{FastPath, NearEnd, Splice, switch_key};
use crate::port::{BackEnd, QUEUE_FRAMES, Shadow, Tap};
use vswitch_datapath::offload::Offload;
use vswitch_datapath::{PortRef, SwitchId, SwitchSetup};
use vswitch_linux::packet::PacketSocket;
use vswitch_linux::{KernelError, Link, NetNs, Netlink, bpf};

/// Where links and maps are pinned, beside the own namespace.
fn root(run_dir: &Path) -> PathBuf {
    run_dir.join("bpf")
}

/// Begins it, or removes what a daemon before left of it if it is not wanted; the second value says why it can't be had.
pub(super) async fn open(own: &NetNs, run_dir: &Path, wanted: bool) -> (Option<Arc<FastPath>>, Option<String>) {
    let root = root(run_dir);
    if !wanted {
        bpf::unmount(&root);
        return (None, None);
    }
    match own.run(move || FastPath::open(&root, &PUNTS)).await.flatten() {
        Ok(fast) => (Some(fast), None),
        Err(error) => (
            None,
            Some(format!("all frames pass the daemon, no kernel fast path: {error}")),
        ),
    }
}

/// Name of the shadow TAP of a near end. No port can be called so.
pub(super) fn shadow_name(near: u32) -> String {
    format!("~{near}")
}

/// Name of what stands beside a device in its namespace: the shadow TAP, or the splice's end.
pub(super) fn beside_name(device: u32) -> String {
    format!("vs-{device}")
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

    /// How frames come from and go to the station behind a near end: by a shadow TAP, with the fast path or without, else by a
    /// packet socket. `mac`: see [`NearEnd::mac`]; `long_way`: its frames go by the interface itself.
    pub(super) async fn open_near_end(
        &self,
        port: &Port,
        near: &Link,
        mac: Mac,
        long_way: bool,
        own: &Netlink,
    ) -> Result<BackEnd, KernelError> {
        if let Some(fast) = &self.fast {
            match self.open_shadow(fast, port, near, mac, own, None).await {
                Ok(shadow) => {
                    let io = BackEnd::Shadow(shadow);
                    if let Some(fast) = io.fast() {
                        fast.set_long_way(long_way);
                    }
                    return Ok(io);
                }
                // It is the faster way, not the only one.
                Err(error) => {
                    tracing::warn!(port = %port.name, "port {}: without the kernel fast path: {error}", port.name)
                }
            }
        }
        match self
            .open_plain_shadow(port, &shadow_name(near.index), &self.host.own, near)
            .await
        {
            Ok(shadow) => Ok(BackEnd::Shadow(self.with_direct(port, shadow, near.index).await)),
            Err(error) => {
                tracing::info!(port = %port.name, "port {}: by a packet socket: {error}", port.name);
                own.drop_ingress_again(near.index).await?;
                open_packet(&self.host.own, near.index, false).await
            }
        }
    }

    /// Lets plain frames go to a near end by a packet socket, which is the shorter way there.
    async fn with_direct(&self, port: &Port, shadow: Shadow, near: u32) -> Shadow {
        if let Some(left) = self.handed.sender_of(&self.host.own, near) {
            return shadow.with_direct(left);
        }
        let opened = self.host.own.run(move || PacketSocket::sender(near)).await;
        match opened.and_then(|socket| socket.map_err(|error| KernelError::new("open a packet socket", error))) {
            Ok(direct) => shadow.with_direct(direct),
            Err(error) => {
                tracing::info!(port = %port.name, "port {}: all frames by its shadow TAP: {error}", port.name);
                shadow
            }
        }
    }

    /// Opens a shadow TAP for an interface of `netns` and lets filters of tc lead all frames by it.
    pub(super) async fn open_plain_shadow(
        &self,
        port: &Port,
        name: &str,
        netns: &NetNs,
        beside: &Link,
    ) -> Result<Shadow, KernelError> {
        let nl = netns.netlink().await?;
        let (tap, link, dropped) = self.open_shadow_tap(port, name, netns, &nl).await?;
        // It goes with the daemon, however that ends: nothing goes on without it.
        let step = format!("let go the shadow {name}");
        tap.unpersist().map_err(|error| KernelError::new(step, error))?;
        let led = async {
            if netns.id() == self.host.home.id() {
                // The host sees an interface and may greet its neighbours by it.
                nl.send_only_from(link.index, &beside.name).await?;
            }
            nl.redirect_ingress(link.index, beside.index).await?;
            nl.set_up(link.index).await?;
            nl.redirect_ingress(beside.index, link.index).await
        };
        // After an error the device goes with its queues.
        led.await.map(|()| Shadow::new(tap, None, dropped))
    }

    /// Opens a shadow TAP, or the one that an earlier daemon left; and gives what it had dropped before the port came. A new one is down.
    async fn open_shadow_tap(
        &self,
        port: &Port,
        name: &str,
        netns: &NetNs,
        nl: &Netlink,
    ) -> Result<(Tap, Link, u64), KernelError> {
        let (queues, service) = (self.datapath.workers(), self.given.queues.clone());
        let kept = self.handed.queues_of(netns, name);
        let goes_on = !kept.is_empty();
        let step = format!("open the shadow {name}");
        let opened = netns
            .run({
                let name = name.to_owned();
                move || Tap::open(&name, queues, &service, kept)
            })
            .await?;
        let tap = opened.map_err(|error| KernelError::new(step.clone(), error))?;
        let found = async {
            let link = nl.link_by_name(name).await?;
            let link = link.ok_or_else(|| KernelError::new(step, nix::errno::Errno::ENODEV))?;
            nl.set_queue_length(link.index, QUEUE_FRAMES).await?;
            if !link.up {
                nl.set_no_queue(link.index).await?;
            }
            Ok(link)
        };
        match found.await {
            Ok(link) => {
                // What its queues had no room for since the daemon before looked is this one's to tell.
                let before = self.handed.of_port(&port.name, |handed| handed.dropped);
                let before = before.filter(|before| goes_on && *before <= link.tx_dropped);
                let dropped = before.unwrap_or(link.tx_dropped);
                Ok((tap, link, dropped))
            }
            Err(error) => {
                // The device goes with its queues.
                let _ = tap.unpersist();
                Err(error)
            }
        }
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
        let name = shadow_name(near.index);
        let (tap, link, dropped) = self.open_shadow_tap(port, &name, &self.host.own, own).await?;
        let kept = tap.persist();
        kept.map_err(|error| KernelError::new(format!("keep the shadow {name}"), error))?;
        let claimed = async {
            if !link.up {
                own.set_up(link.index).await?;
            }
            let end = NearEnd {
                switch: port.switch.clone(),
                near: (near.name.clone(), near.index),
                shadow: (name, link.index),
                mac,
            };
            let fast = Arc::clone(fast);
            let mut fast = self.host.own.run(move || fast.claim(&end)).await??;
            match splice {
                None => Ok(fast),
                Some(splice) => self.host.home.run(move || fast.join(splice).map(|()| fast)).await?,
            }
        };
        match claimed.await {
            Ok(mut fast) => {
                if let Some(before) = self.handed.of_port(&port.name, |handed| handed.fast) {
                    fast.count_from(before);
                }
                Ok(Shadow::new(tap, Some(fast), dropped))
            }
            Err(error) => {
                // The device goes with its queues.
                let _ = tap.unpersist();
                Err(error)
            }
        }
    }

    /// A near end changes when a program of XDP comes or goes at the station's interface, which then takes other frames. Such a program
    /// sees only what goes to the station by the long way.
    pub(super) async fn look_for_xdp(&self, port: &Port, live: &LivePort) {
        let io = live.id.filter(|_| heard_by_near_end(port) && port.kind.has_stack());
        let io = io.and_then(|id| self.datapath.io::<BackEnd>(id));
        let Some(fast) = io.as_ref().and_then(|io| io.fast()) else {
            return;
        };
        // What can't be looked at stays as it was.
        if let Ok(Some(place)) = self.place_of(port, live).await {
            fast.set_long_way(place.link.native_xdp);
        }
    }

    /// Shadows whose near end is gone: left by a daemon that was killed.
    pub(super) async fn remove_stale_shadows(&self) {
        let Ok(own) = self.host.own.netlink().await else { return };
        let links = own.links().await.unwrap_or_default();
        let wanted = |link: &Link| links.iter().any(|near| link.name == shadow_name(near.index));
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
        let slot = |id: PortRef| self.datapath.io::<BackEnd>(id)?.fast().map(|fast| fast.slot());
        let ids = self.live.ports.values().filter_map(|live| live.id);
        let ports: HashMap<_, _> = ids.filter_map(|id| Some((slot(id)?, id))).collect();
        let switches: HashMap<_, _> = self
            .live
            .switches
            .iter()
            .map(|(name, id)| (switch_key(name), *id))
            .collect();
        for leftover in fast.leftovers() {
            let known = match (switches.get(&leftover.switch), ports.get(&leftover.slot)) {
                (Some(switch), Some(port)) => {
                    // Not adopted: the FDB knows better already, which is in the map too then, or it is full.
                    let (vlan, mac) = (leftover.vlan, leftover.mac);
                    self.datapath.fdb_adopt(*switch, vlan, mac, port.id, leftover.seen)
                        || self.datapath.fdb_knows(*switch, vlan, mac)
                }
                _ => false,
            };
            if !known {
                fast.forget(&leftover);
            }
        }
        self.datapath.with_floods(|lists| {
            let named = lists
                .iter()
                .filter_map(|(id, (_, slots))| Some((self.switch_name(*id)?, &slots[..])));
            fast.adopt_floods(named);
        });
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
        let asked = |(name, _): &(&PortName, _)| only.is_none_or(|only| only == *name);
        let (mut own, mut home) = (HashMap::new(), HashMap::new());
        for (_, live) in self.ports.iter().filter(asked) {
            let io = live.id.and_then(|id| self.datapath.io::<BackEnd>(id));
            let Some(io) = io.filter(|io| io.shadow().is_some()) else {
                continue;
            };
            match (live.near, live.inside) {
                (Some(near), _) => own.insert(shadow_name(near), io),
                (None, Some(device)) => home.insert(beside_name(device), io),
                (None, None) => None,
            };
        }
        for (netns, shadows) in [(&self.own, own), (&self.home, home)] {
            let name = shadows.keys().next();
            let (Some(name), Ok(nl)) = (name, netns.netlink().await) else {
                continue;
            };
            // What can't be had stays what it was.
            let links = match only {
                Some(_) => nl.link_by_name(name).await.map(Vec::from_iter),
                None => nl.links().await,
            };
            for link in links.unwrap_or_default() {
                if let Some(shadow) = shadows.get(&link.name).and_then(|io| io.shadow()) {
                    shadow.note_dropped(link.tx_dropped);
                }
            }
        }
    }
}
