//! Where the kernel floods to.

use std::collections::BTreeMap;

use vswitch_api::SwitchName;
use vswitch_datapath::offload;
use vswitch_linux::bpf::{MAX_FLOOD, SwitchKey};

use super::{FastPath, lock, switch_key};

/// What a daemon may say about floods.
#[derive(Debug, Default)]
pub(super) struct Floods {
    /// All ports are there: before, the kernel goes by what an earlier daemon left.
    adopted: bool,
    /// Not all stations are in the map: the kernel can't tell which are unknown.
    incomplete: bool,
}

const _: () = assert!(offload::MAX_FLOOD == MAX_FLOOD, "the datapath and the programs agree");

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
    pub fn adopt_floods<'a>(&self, lists: impl Iterator<Item = (&'a SwitchName, &'a [u16])>) {
        let mut floods = lock(&self.floods);
        floods.adopted = true;
        let lists: BTreeMap<_, _> = lists.map(|(switch, slots)| (switch_key(switch), slots)).collect();
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
