//! Where the kernel floods to.

use std::collections::BTreeMap;

use vswitch_api::policy::Flooding;

use super::{FastPath, FastPort, direct, lock};
use crate::datapath::SwitchId;
use crate::datapath::snapshot::{PortEntry, Snapshot};
use crate::kernel::bpf::{MAX_FLOOD, SwitchKey};

/// What a daemon may say about floods.
#[derive(Debug, Default)]
pub(super) struct Floods {
    /// All ports are there: before, the kernel goes by what an earlier daemon left.
    adopted: bool,
    /// Not all stations are in the map: the kernel can't tell which are unknown.
    incomplete: bool,
}

/// The slots of the ports that get what is flooded, for each switch on which the kernel may send it, and one of those ports.
pub type FloodLists<'a> = BTreeMap<SwitchId, (&'a FastPort, Vec<u16>)>;

/// The switches of which each port that is up leaves its frames to the kernel and takes all floods of its VLANs.
///
/// Who adds a feature that acts on floods asks for them here.
pub fn flood_lists(snapshot: &Snapshot) -> FloodLists<'_> {
    let mut lists = BTreeMap::new();
    for port in snapshot.ports().filter(|port| port.up) {
        let list = lists.entry(port.switch).or_insert_with(|| Some(Vec::new()));
        match (list.as_mut(), flooded(snapshot, port)) {
            (Some(list), Some(fast)) if list.len() < MAX_FLOOD => list.push(fast),
            _ => *list = None,
        }
    }
    let lists = lists.into_iter().filter_map(|(switch, list)| {
        let list: Vec<&FastPort> = list?;
        let slots = list.iter().map(|fast| fast.slot()).collect();
        Some((switch, (*list.first()?, slots)))
    });
    lists.collect()
}

/// The port, if the kernel may send to it whatever is flooded.
fn flooded<'a>(snapshot: &Snapshot, port: &'a PortEntry) -> Option<&'a FastPort> {
    let direct = direct(snapshot, port)?;
    let plain = direct.has_all_vlans() && port.policy().flooding == Flooding::default();
    port.io.fast().filter(|_| plain)
}

impl FastPath {
    pub(super) fn set_flood(&self, switch: &SwitchKey, to: Option<&[u16]>) {
        let floods = lock(&self.floods);
        if floods.adopted && !self.is_frozen() {
            self.write_flood(&floods, switch, to);
        }
    }

    fn write_flood(&self, floods: &Floods, switch: &SwitchKey, to: Option<&[u16]>) {
        if let Err(error) = self.kernel.set_flood(switch, to.filter(|_| !floods.incomplete)) {
            tracing::warn!("floods pass the daemon: {error}");
        }
    }

    /// From here on the kernel floods to these lists alone, and not as an earlier daemon said.
    pub fn adopt_floods(&self, lists: &FloodLists<'_>) {
        let mut floods = lock(&self.floods);
        floods.adopted = true;
        let lists: BTreeMap<_, _> = lists.values().map(|(port, slots)| (port.switch(), slots)).collect();
        for gone in self
            .kernel
            .flooding()
            .iter()
            .filter(|switch| !lists.contains_key(*switch))
        {
            self.write_flood(&floods, gone, None);
        }
        for (switch, slots) in lists {
            self.write_flood(&floods, &switch, Some(slots));
        }
    }

    /// Makes all floods the daemon's for good.
    pub(super) fn stop_floods(&self) {
        let mut floods = lock(&self.floods);
        floods.incomplete = true;
        for switch in self.kernel.flooding() {
            self.write_flood(&floods, &switch, None);
        }
    }
}
