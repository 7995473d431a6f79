//! What may forward frames past the datapath: the kernel fast path. Here is what the datapath lets it have, and when.

use std::collections::BTreeMap;

use vswitch_api::policy::Flooding;
use vswitch_api::view::PortCounters;

use super::handle::Datapath;
use super::punt::Punt;
use super::snapshot::{PortEntry, Snapshot};
use super::vlan::VlanPort;
use super::{PortId, SwitchId};

/// Most ports of a switch whose floods are sent past the datapath.
pub const MAX_FLOOD: usize = 64;

/// A port's part of something that forwards frames by itself.
pub trait Offload: Send + Sync {
    /// Its place there, by which flood lists name it.
    fn slot(&self) -> u16;
    /// The port is in the datapath under this index: stations behind it can be forwarded to.
    fn bind(&self, id: PortId);
    /// It is not in the datapath any more.
    fn unbind(&self, id: PortId);
    /// Which of its frames may be forwarded from now on, if any. What is allowed is changed by way of nothing being allowed, and
    /// [`Offload::settle`] in between.
    fn set_direct(&self, direct: Option<Direct>);
    /// Whether what is sent to the port gets to its station; else it counts as lost.
    fn set_carrier(&self, _carrier: bool) {}
    /// Which ports (by slot) get what is flooded on the port's switch, if that may be sent past the datapath.
    fn set_flood(&self, to: Option<&[u16]>);
    /// Whether all frames of an entry are left to the datapath, whatever else is flooded.
    fn leaves(&self, punt: &Punt) -> bool;
    /// Waits until what was forbidden before has ceased.
    fn settle(&self);
    /// Adds what was forwarded.
    fn add_to(&self, total: &mut PortCounters);
}

/// Frames from and to a port that may be forwarded past the datapath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Direct {
    /// On a switch that does not tell VLANs apart.
    Plain,
    /// On one that does.
    InVlans(VlanPort),
}

impl Direct {
    /// Whether frames in all of the port's VLANs pass: on a port with service tags, and a tunnel, those with tags don't.
    pub fn has_all_vlans(&self) -> bool {
        match self {
            Self::Plain => true,
            Self::InVlans(port) => port.has_customer_tags(),
        }
    }
}

/// Which frames of this port may be forwarded without the datapath. None: none of them.
///
/// Who adds a feature that acts on the frames of a port asks for them here.
pub fn direct(snapshot: &Snapshot, port: &PortEntry) -> Option<Direct> {
    // A port without offloads is sent frames that the datapath has segmented and summed.
    let needs_datapath = !port.up
        || !port.offload
        || port.mirror_only
        || port.traffic.is_some()
        || !snapshot.punts.is_for_groups_only()
        || port.sniffers.is_some()
        || snapshot.is_mirrored(port)
        || !port.policy().is_plain();
    let switch = snapshot.switch(port.switch).filter(|_| !needs_datapath)?;
    Some(if switch.vlan_aware {
        Direct::InVlans(port.policy().vlan.clone())
    } else {
        Direct::Plain
    })
}

/// The slots of the ports that get what is flooded, for each switch whose floods may be sent past the datapath, and one of
/// those ports.
pub type FloodLists<'a> = BTreeMap<SwitchId, (&'a dyn Offload, Vec<u16>)>;

/// The switches of which each port that is up leaves its frames to its offload and takes all floods of its VLANs.
///
/// Who adds a feature that acts on floods asks for them here.
pub fn flood_lists(snapshot: &Snapshot) -> FloodLists<'_> {
    let mut lists = BTreeMap::new();
    for port in snapshot.ports().filter(|port| port.up) {
        let held = snapshot.switch(port.switch).is_some_and(|switch| switch.held.is_some());
        let list = lists.entry(port.switch).or_insert_with(|| (!held).then(Vec::new));
        match (list.as_mut(), flooded(snapshot, port)) {
            (Some(list), Some(offload)) if list.len() < MAX_FLOOD => list.push(offload),
            _ => *list = None,
        }
    }
    let lists = lists.into_iter().filter_map(|(switch, list)| {
        let list: Vec<&dyn Offload> = list?;
        let slots = list.iter().map(|offload| offload.slot()).collect();
        Some((switch, (*list.first()?, slots)))
    });
    lists.collect()
}

/// The port's offload, if whatever is flooded may be sent by it, but what agents want.
fn flooded<'a>(snapshot: &Snapshot, port: &'a PortEntry) -> Option<&'a dyn Offload> {
    let direct = direct(snapshot, port)?;
    let plain = direct.has_all_vlans() && port.policy().flooding == Flooding::default();
    let leaves_punts = |offload: &&dyn Offload| snapshot.punts.entries().iter().all(|punt| offload.leaves(punt));
    port.io.offload().filter(|_| plain).filter(leaves_punts)
}

impl Snapshot {
    /// Makes offloads leave the frames of those ports to the datapath that `after`, which is to follow, wants to see or to
    /// have forwarded otherwise.
    pub(super) fn take_from_offloads(&self, after: &Self) {
        let mut last = None;
        for (offload, before, now) in self.changed_for_offloads(after) {
            if before.is_some() && before != now {
                offload.set_direct(None);
                last = Some(offload);
            }
        }
        // A list that only grows is replaced when `after` has followed.
        let (lists, lists_after) = (flood_lists(self), flood_lists(after));
        for (switch, (offload, slots)) in &lists {
            let kept = lists_after
                .get(switch)
                .is_some_and(|(_, after)| slots.iter().all(|slot| after.contains(slot)));
            if !kept {
                offload.set_flood(None);
                last = Some(*offload);
            }
        }
        if let Some(offload) = last {
            offload.settle();
        }
    }

    /// Lets offloads have the frames of those ports that `after`, which has followed, need not see any more.
    pub(super) fn give_to_offloads(&self, after: &Self) {
        for (offload, before, now) in self.changed_for_offloads(after) {
            if now.is_some() && before != now {
                offload.set_direct(now);
            }
        }
        let lists = flood_lists(self);
        for (switch, (offload, slots)) in flood_lists(after) {
            if lists.get(&switch).is_none_or(|(_, before)| *before != slots) {
                offload.set_flood(Some(&slots));
            }
        }
    }

    /// Of each port that is in both: what may be forwarded, before and after.
    fn changed_for_offloads<'a>(
        &'a self,
        after: &'a Self,
    ) -> impl Iterator<Item = (&'a dyn Offload, Option<Direct>, Option<Direct>)> {
        after.ports.iter().flatten().filter_map(|port| {
            let offload = port.io.offload()?;
            let before = self.port(port.id).filter(|before| before.serial == port.serial)?;
            Some((offload, direct(self, before), direct(after, port)))
        })
    }
}

impl Datapath {
    /// Whether offloads forward by themselves what they know between all ports of a switch that are up, in all VLANs.
    pub fn offloads_carry_all(&self, switch: SwitchId) -> bool {
        let snapshot = self.snapshot();
        let ports = snapshot.ports.iter().flatten();
        ports.filter(|port| port.switch == switch && port.up).all(|port| {
            let direct = direct(&snapshot, port).filter(|_| port.io.offload().is_some());
            direct.is_some_and(|direct| direct.has_all_vlans())
        })
    }

    /// Shows which floods may be sent past the datapath now; nothing of that changes meanwhile.
    pub fn with_floods(&self, show: impl FnOnce(&FloodLists<'_>)) {
        self.unrevised(|snapshot| show(&flood_lists(snapshot)));
    }
}
