//! Taking ports apart, in any order and however much of them is left.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use futures::{StreamExt, stream};
use vswitch_api::{NsName, Port};

use super::attach::AT_ONCE;
use super::earlier::Earlier;
use super::fastpath::shadow_name;
use super::journal::InFlight;
use super::kinds::{facts, has_near_end, heard_by_near_end, ifname};
use super::place::Place;
use super::plan::namespaces;
use super::state::DeviceBefore;
use super::{Inner, text};
use vswitch_datapath::snapshot::PortEntry;
use vswitch_linux::{KernelError, Link};

/// Near ends and shadows that are deleted by one request.
const GROUP: usize = 256;
/// Such requests at a time: while the kernel waits for the one, it works at the other.
const GROUPS_AT_ONCE: usize = 2;
/// Of fewer ports each is asked for by its name.
const FEW: usize = 8;

impl Inner {
    /// Takes ports out of the datapath and removes their interfaces. What is gone already is removed enough; what can't be removed is
    /// told in `warnings` and tried again with the next command; the rest is removed all the same.
    pub(super) async fn detach(&mut self, ports: &[Port], warnings: &mut Vec<String>) {
        // While they are attached: then they tell by themselves where they are.
        let mut found = BTreeMap::new();
        for port in ports {
            found.insert(port.name.clone(), self.find_removable(port).await);
        }
        // Closed at the end: a queue of an interface that is gone is closed without a wait.
        let released = self.release(ports);
        let (taken_over, ours): (Vec<_>, Vec<_>) = ports.iter().cloned().partition(|port| facts(port.kind).taken_over);
        let deleted = match self.near_ends_of(&ours).await {
            Ok(links) => self.delete_together(links).await,
            Err(error) => Err(error),
        };
        if let Err(error) = deleted {
            tracing::debug!("near ends can't be removed together: {error}");
        }
        // What was not removed together is now.
        let this = &*self;
        let left = self.near_ends_of(&ours).await;
        let left = left.map(|links| links.into_iter().map(|link| link.name).collect::<BTreeSet<_>>());
        let removing = stream::iter(ours).map(|port| {
            let found = found.remove(&port.name).unwrap_or(Ok(None));
            let gone = left.as_ref().is_ok_and(|left| !left.contains(port.name.as_str()));
            async move {
                if gone && heard_by_near_end(&port) {
                    return (Ok(()), port);
                }
                (this.remove_interface(&port, found).await, port)
            }
        });
        let mut results: Vec<_> = removing.buffered(AT_ONCE).collect().await;
        drop(released);
        for port in taken_over {
            results.push((self.remove_and_forget(&port, Ok(None)).await, port));
        }
        for (result, port) in results {
            if let Some(live) = self.live.ports.remove(&port.name) {
                self.live.parted.insert(port.name.clone(), live.before);
            }
            self.live.retries.remove(&port.name);
            self.shut.remove(&port.name);
            self.removed(&port, result, warnings);
        }
    }

    fn removed(&mut self, port: &Port, result: Result<(), KernelError>, warnings: &mut Vec<String>) {
        if let Err(error) = result {
            warnings.push(format!(
                "port \"{}\": {error}; the next command tries it again",
                port.name
            ));
            self.store.leave_port(port);
        }
    }

    /// Removes the interface of a port, or gives it back, and forgets how it was before.
    pub(super) async fn remove_and_forget(
        &mut self,
        port: &Port,
        found: Result<Option<Place>, KernelError>,
    ) -> Result<(), KernelError> {
        self.remove_interface(port, found).await?;
        if facts(port.kind).taken_over {
            self.store.state.devices.remove(&ifname(port));
        }
        Ok(())
    }

    /// The near ends of those of these ports that have one, with their shadows.
    async fn near_ends_of(&self, ports: &[Port]) -> Result<Vec<Link>, KernelError> {
        let own = self.host.own.netlink().await?;
        let veths = ports.iter().filter(|port| heard_by_near_end(port));
        let mut found = Vec::new();
        if ports.len() < FEW {
            for port in veths {
                let Some(near) = own.link_by_name(port.name.as_str()).await? else {
                    continue;
                };
                found.extend(own.link_by_name(&shadow_name(near.index)).await?);
                found.push(near);
            }
            return Ok(found);
        }
        let veths: BTreeSet<_> = veths.map(|port| port.name.as_str()).collect();
        let mut links = own.links().await?;
        let near = links.iter().filter(|link| veths.contains(link.name.as_str()));
        let names: BTreeSet<_> = near
            .flat_map(|link| [link.name.clone(), shadow_name(link.index)])
            .collect();
        links.retain(|link| names.contains(&link.name));
        Ok(links)
    }

    /// Deletes near ends and shadows, many together. The kernel holds its lock of all interfaces meanwhile: so these had better not be
    /// too many.
    async fn delete_together(&self, links: Vec<Link>) -> Result<(), KernelError> {
        let links: Vec<_> = links.into_iter().map(|link| link.index).collect();
        let mut groups = Vec::new();
        for links in links.chunks(GROUP) {
            // A number of this time alone: should it end half-way, whoever is in the group is in nobody else's later.
            let group = fastrand::u32(1 << 16..);
            groups.push(self.host.own.delete_links(links.to_vec(), group));
        }
        let mut deleting = stream::iter(groups).buffer_unordered(GROUPS_AT_ONCE);
        while let Some(deleted) = deleting.next().await {
            gone_is_fine(deleted)?;
            self.shown.pulse.beat();
        }
        Ok(())
    }

    /// Removes what earlier commands could not, if it is not wanted again.
    pub(super) async fn remove_unremoved(&mut self, warnings: &mut Vec<String>) {
        let left = mem::take(&mut self.store.unremoved);
        if left == InFlight::default() {
            return;
        }
        for port in &left.ports {
            let before = left.devices.get(&ifname(port)).copied();
            let before = before.or_else(|| self.store.device_of(port));
            let before = before.filter(|_| facts(port.kind).taken_over);
            if self.has_place_of(port) {
                // It is that port's by now, and goes with it.
                self.know_device(port, before);
            } else if self.store.port(&port.name).is_none() {
                tracing::info!(port = %port.name, "port {}: removing what is left of it", port.name);
                self.know_device(port, before);
                self.detach(std::slice::from_ref(port), warnings).await;
            } else {
                // Another port has the name, and nothing of that is touched.
                self.know_device(port, before);
                let removed = self.remove_left(port, before).await;
                if removed.is_ok() && facts(port.kind).taken_over {
                    self.store.state.devices.remove(&ifname(port));
                }
                self.removed(port, removed, warnings);
            }
        }
        for cable in &left.cables {
            let cables = &self.store.state.lab.cables;
            match cables.iter().find(|kept| kept.is_same_pair(cable)).cloned() {
                Some(kept) if kept == *cable => {}
                // Of a change that did not come to its end.
                Some(kept) => {
                    if let Err(error) = self.change_cable(cable, &kept, warnings).await {
                        warnings.push(error.to_string());
                    }
                }
                None => self.detach_cable(cable, warnings).await,
            }
        }
        let needed: BTreeSet<_> = namespaces(&self.store.state.lab).into_iter().cloned().collect();
        let (wanted, going): (Vec<_>, Vec<_>) =
            (left.namespaces.into_iter()).partition(|owned| needed.contains(&owned.name));
        for owned in wanted {
            // It is still there: it goes when it is not wanted any more.
            if !self.store.state.namespaces.iter().any(|other| other.name == owned.name) {
                self.store.state.namespaces.push(owned);
            }
        }
        for (owned, error) in self.remove_namespaces(going).await {
            warnings.push(still_there(&owned.name, &error));
            self.store.unremoved.namespaces.push(owned);
        }
        if let Err(error) = self.store.save() {
            tracing::error!("the state file does not tell what was removed: {error}");
        }
    }

    /// Whether a port of the lab is where this one was.
    fn has_place_of(&self, left: &Port) -> bool {
        let taken_over = facts(left.kind).taken_over;
        let place = |port: &Port| match taken_over {
            true => (None, None, ifname(port)),
            false => (Some(port.name.clone()), port.namespace.clone(), ifname(port)),
        };
        let mut ports = self.store.state.lab.ports.iter();
        ports.any(|port| {
            let is_such = facts(port.kind).taken_over == taken_over && (taken_over || port.kind == left.kind);
            is_such && place(port) == place(left)
        })
    }

    fn know_device(&mut self, port: &Port, before: Option<DeviceBefore>) {
        if let Some(before) = before {
            self.store.state.devices.entry(ifname(port)).or_insert(before);
        }
    }

    /// What could not be removed, a line each.
    pub(super) fn not_removed(&self) -> Vec<String> {
        let left = &self.store.unremoved;
        let ports = left.ports.iter().map(|port| match facts(port.kind).taken_over {
            true => format!(
                "interface {} could not be given back when port \"{}\" was removed",
                ifname(port),
                port.name
            ),
            false => format!(
                "something of port \"{}\", which is not in the lab any more, could not be removed",
                port.name
            ),
        });
        let cables = left.cables.iter();
        let cables = cables.map(|cable| {
            format!(
                "something of {}, which is not in the lab any more, could not be removed",
                text::cable(cable)
            )
        });
        let lines = ports.chain(cables);
        lines
            .map(|line| format!("{line}; the next change tries it again"))
            .collect()
    }

    /// Removes what vswitch made under these names. What can't be removed is told in `warnings`, tried again with the next command, and
    /// given back.
    pub(super) async fn remove_named(&mut self, names: &[NsName], warnings: &mut Vec<String>) -> Vec<NsName> {
        let failed = self.remove_namespaces(self.owned_of(names)).await;
        warnings.extend(failed.iter().map(|(owned, error)| still_there(&owned.name, error)));
        failed.into_iter().map(|(owned, _)| owned.name).collect()
    }

    /// Takes ports out of the datapath. What comes back closes their descriptors as it is dropped.
    #[must_use = "the descriptors are closed as it is dropped"]
    pub(super) fn release(&mut self, ports: &[Port]) -> Vec<Arc<PortEntry>> {
        let (mut names, mut leaving) = (Vec::new(), Vec::new());
        for port in ports {
            if let Some(live) = self.live.ports.get_mut(&port.name)
                && let Some(id) = live.id.take()
            {
                names.push(&port.name);
                leaving.push((id, live.before.clone()));
            }
        }
        let (counted, released) = Earlier::take_out(&self.datapath, &leaving);
        for (name, before) in names.into_iter().zip(counted) {
            if let Some(live) = self.live.ports.get_mut(name) {
                live.before = before;
            }
        }
        released
    }

    /// Removes what is left of a port whose far end, device or namespace is out of reach. What has the name of a near end that has gone
    /// may be that of another pair by now: the other end of a link makes both.
    pub(super) async fn forget_near_end(&self, port: &Port) {
        let known = self.live.ports.get(&port.name).and_then(|live| live.near);
        if has_near_end(port, true)
            && let Err(error) = self
                .delete_near_end_if(port, |near| known.is_none_or(|known| near.index == known))
                .await
        {
            tracing::warn!(port = %port.name, "port {}: can't remove the near end: {error}", port.name);
        }
    }

    pub(super) async fn delete_near_end(&self, port: &Port) -> Result<(), KernelError> {
        self.delete_near_end_if(port, |_| true).await
    }

    /// The same of a port that is not in the lab any more: what has its name may be the near end of one that is.
    pub(super) async fn delete_left_near_end(&self, port: &Port) -> Result<(), KernelError> {
        let others = self.live.ports.get(&port.name);
        let is_attached = others.is_some_and(|live| live.id.is_some());
        let others = others.and_then(|live| live.near).filter(|_| is_attached);
        self.delete_near_end_if(port, |near| Some(near.index) != others).await
    }

    async fn delete_near_end_if(&self, port: &Port, is_it: impl Fn(&Link) -> bool) -> Result<(), KernelError> {
        let own = self.host.own.netlink().await?;
        match own.link_by_name(port.name.as_str()).await?.filter(is_it) {
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
}

fn still_there(name: &NsName, error: &KernelError) -> String {
    format!("{}: {error}; the next command tries it again", text::namespace(name))
}

pub(super) fn gone_is_fine(result: Result<(), KernelError>) -> Result<(), KernelError> {
    result.or_else(|error| if error.is_gone() { Ok(()) } else { Err(error) })
}
