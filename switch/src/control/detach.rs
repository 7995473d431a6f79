//! Taking ports apart, in any order and however much of them is left.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use vswitch_api::{Cable, IfName, Port, PortKind};

use super::complete::ifname;
use super::fastpath::shadow_name;
use super::journal::InFlight;
use super::plan::namespaces;
use super::state::DeviceBefore;
use super::{Inner, text};
use crate::kernel::{KernelError, Link};

impl Inner {
    /// Takes a port out of the datapath and removes its interface. What is gone already is removed enough; what can't be
    /// removed is told in `warnings` and tried again with the next command; the rest is removed all the same.
    pub(super) async fn detach(&mut self, port: &Port, warnings: &mut Vec<String>) {
        self.release(port);
        let live = self.ports.remove(&port.name);
        let result = match port.kind {
            PortKind::Veth => self.delete_near_end(port).await,
            PortKind::Tap | PortKind::Internal => {
                // While the port was missing somebody may have made another of that name.
                let index = live.and_then(|live| live.inside);
                let is_its_own = |link: &Link| index == Some(link.index) || (index.is_none() && link.mac == port.mac);
                self.delete_tap(port, is_its_own).await
            }
            PortKind::Device => self.release_device(port).await,
        };
        if let Err(error) = result {
            warnings.push(format!(
                "port \"{}\": {error}; the next command tries it again",
                port.name
            ));
            self.leave_port(port);
        }
    }

    /// Takes note of a port that is not in the lab any more, but could not be removed whole.
    pub(super) fn leave_port(&mut self, port: &Port) {
        if !self.unremoved.ports.contains(port) {
            self.unremoved.ports.push(port.clone());
        }
    }

    /// The same of a cable.
    pub(super) fn leave_cable(&mut self, cable: &Cable) {
        if !self.unremoved.cables.contains(cable) {
            self.unremoved.cables.push(cable.clone());
        }
    }

    /// What could not be removed, with what has to be known for it.
    pub(super) fn left(&self) -> InFlight {
        let mut left = self.unremoved.clone();
        left.devices.extend(self.devices_of(&left.ports));
        left
    }

    /// How the devices among these ports were before.
    pub(super) fn devices_of(&self, ports: &[Port]) -> BTreeMap<IfName, DeviceBefore> {
        let devices = ports.iter().filter(|port| port.kind == PortKind::Device);
        devices
            .filter_map(|port| Some((ifname(port), *self.state.devices.get(&port.name)?)))
            .collect()
    }

    /// Removes what earlier commands could not, if it is not wanted again.
    pub(super) async fn remove_unremoved(&mut self, warnings: &mut Vec<String>) {
        let left = mem::take(&mut self.unremoved);
        if left == InFlight::default() {
            return;
        }
        for port in &left.ports {
            if !self.state.lab.ports.iter().any(|other| other.name == port.name) {
                tracing::info!(port = %port.name, "port {}: removing what is left of it", port.name);
                if let Some(before) = left.devices.get(&ifname(port)) {
                    self.state.devices.entry(port.name.clone()).or_insert(*before);
                }
                self.detach(port, warnings).await;
            }
        }
        for cable in &left.cables {
            if !self.state.lab.cables.contains(cable) {
                self.detach_cable(cable, warnings).await;
            }
        }
        let needed: BTreeSet<_> = namespaces(&self.state.lab).into_iter().cloned().collect();
        for owned in left.namespaces {
            if needed.contains(&owned.name) {
                // Wanted again, and it is still there: it goes when it is not wanted any more.
                if !self.state.namespaces.iter().any(|other| other.name == owned.name) {
                    self.state.namespaces.push(owned);
                }
            } else if let Err(error) = self.remove_namespace(&owned) {
                warnings.push(format!(
                    "{}: {error}; the next command tries it again",
                    text::namespace(&owned.name)
                ));
                self.unremoved.namespaces.push(owned);
            }
        }
        if let Err(error) = self.save() {
            tracing::error!("the state file does not tell what was removed: {error}");
        }
    }

    /// The command is done or undone: what could not be removed is all that a next daemon needs to know of it.
    pub(super) fn close_journal(&self) {
        let left = self.left();
        if left == InFlight::default() {
            self.journal.clear();
        } else if let Err(error) = self.journal.write(&left) {
            tracing::error!("can't note what could not be removed: {error}");
        }
    }

    /// Takes a port out of the datapath and closes its descriptors.
    pub(super) fn release(&mut self, port: &Port) {
        if let Some(id) = self.ports.get_mut(&port.name).and_then(|live| live.id.take()) {
            self.datapath.remove_port(id);
        }
    }

    /// Removes what is left of a port whose far end, device or namespace is out of reach.
    pub(super) async fn forget_near_end(&self, port: &Port) {
        if matches!(port.kind, PortKind::Veth | PortKind::Device)
            && let Err(error) = self.delete_near_end(port).await
        {
            tracing::warn!(port = %port.name, "port {}: can't remove the near end: {error}", port.name);
        }
    }

    pub(super) async fn delete_near_end(&self, port: &Port) -> Result<(), KernelError> {
        let own = self.own.netlink().await?;
        match own.link_by_name(port.name.as_str()).await? {
            Some(near) => {
                // The shadow has gone with its last queue, if nothing went wrong.
                if let Some(shadow) = own.link_by_name(&shadow_name(near.index)).await? {
                    gone_is_fine(own.delete_link(shadow.index).await)?;
                }
                gone_is_fine(own.delete_link(near.index).await)
            }
            None => Ok(()),
        }
    }

    /// Deletes the TAP device of a port, if what has its name is one, and its own.
    pub(super) async fn delete_tap(&self, port: &Port, is_its_own: impl Fn(&Link) -> bool) -> Result<(), KernelError> {
        let Some(netns) = self.find_netns_of(port)? else {
            return Ok(());
        };
        let inside = netns.netlink().await?;
        match inside.link_by_name(ifname(port).as_str()).await? {
            Some(link) if link.kind.as_deref() == Some("tun") && is_its_own(&link) => {
                gone_is_fine(inside.delete_link(link.index).await)
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn release_device(&mut self, port: &Port) -> Result<(), KernelError> {
        let before = self.state.devices.get(&port.name).copied();
        self.give_back_device(port, before).await?;
        self.state.devices.remove(&port.name);
        Ok(())
    }

    pub(super) async fn give_back_device(&self, port: &Port, before: Option<DeviceBefore>) -> Result<(), KernelError> {
        let home = self.home.netlink().await?;
        let Some(link) = home.link_by_name(ifname(port).as_str()).await? else {
            return self.delete_near_end(port).await;
        };
        gone_is_fine(home.undrop_ingress(link.index).await)?;
        self.delete_near_end(port).await?;
        let Some(before) = before else { return Ok(()) };
        if before.mtu != link.mtu {
            gone_is_fine(home.set_mtu(link.index, before.mtu).await)?;
        }
        if before.promiscuous != link.promiscuous {
            gone_is_fine(home.set_promiscuous(link.index, before.promiscuous).await)?;
        }
        if !before.up {
            gone_is_fine(home.set_down(link.index).await)?;
        }
        Ok(())
    }
}

pub(super) fn gone_is_fine(result: Result<(), KernelError>) -> Result<(), KernelError> {
    result.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) })
}
