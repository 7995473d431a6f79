//! What workers read of the configuration: an immutable picture that control replaces as a whole.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vswitch_api::ReservedMulticast;
use vswitch_api::policy::VlanId;

use super::clock::Clock;
use super::counters::WorkerCounters;
use super::fdb::Fdb;
use super::guard::Held;
use super::mirror::MirrorEntry;
use super::policy::{PLAIN, PortPolicy};
use super::punt::PuntTable;
use super::setup::SwitchSettings;
use super::sniffer::Sniffers;
use super::traffic::Traffic;
use super::{PortId, PortRef, SwitchId};
use crate::port::{PortIo, Sent};

/// All switches and ports.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(super) ports: Vec<Option<Arc<PortEntry>>>,
    pub(super) switches: Vec<Option<Arc<SwitchEntry>>>,
    pub(super) mirrors: Arc<[MirrorEntry]>,
    /// Which frames go to agents.
    pub(super) punts: PuntTable,
    /// What rates are measured by.
    pub(super) clock: Clock,
}

/// A port as workers see it.
#[derive(Clone)]
pub struct PortEntry {
    /// Its index.
    pub id: PortId,
    /// Tells it from ports that had the index before.
    pub serial: u64,
    /// The switch that it is a port of.
    pub switch: SwitchId,
    /// Where frames come from and go to.
    pub io: Arc<dyn PortIo>,
    /// Bytes of layer-3 payload.
    pub mtu: u32,
    /// False: nothing goes in or out.
    pub up: bool,
    /// False: frames go out segmented and with complete checksums.
    pub offload: bool,
    /// What it lets in and out; none: everything.
    pub policy: Option<Arc<PortPolicy>>,
    /// What it does to its traffic beyond switching it, if anything.
    pub traffic: Option<Arc<Traffic>>,
    /// It is the destination of a mirror: copies go out, nothing else, and nothing comes in.
    pub mirror_only: bool,
    /// Copies of its frames for captures; none for nearly every port.
    pub sniffers: Option<Sniffers>,
    /// One set for each worker, and one for what control sends.
    pub counters: Arc<[WorkerCounters]>,
    /// What is sent gets to the station; else it counts as dropped, though it is sent: whoever says so may be late.
    pub(super) carrier: Arc<AtomicBool>,
    /// Nonce of the loop guard's probe that went out of it and may come back; 0: none.
    pub probe: Arc<AtomicU64>,
}

/// A switch as workers see it.
#[derive(Clone)]
pub struct SwitchEntry {
    /// Which stations are behind which port.
    pub fdb: Arc<Fdb>,
    /// What happens to frames for the reserved group addresses.
    pub reserved: ReservedMulticast,
    /// Most entries of each VLAN in the FDB.
    pub vlan_limit: u32,
    /// VLANs in which nothing is learned.
    pub rspan: Arc<[VlanId]>,
    /// By which it knows its own probes.
    pub token: u64,
    /// Some port has a policy, or VLANs are limited: frames take the way with all stages.
    pub has_policies: bool,
    /// Some port has a VLAN setting: each VLAN is a network of its own.
    pub vlan_aware: bool,
    /// Where a flood goes: ports that are up, by the class of the destination.
    pub flood: FloodSets,
    /// Nothing is flooded, since the loop guard looks for a loop.
    pub(super) held: Option<Arc<Held>>,
}

/// Ports that are up and take frames of a class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FloodSets {
    /// To a station that is not known.
    pub unknown_unicast: PortSet,
    /// To a group.
    pub multicast: PortSet,
    /// To all.
    pub broadcast: PortSet,
}

impl PortEntry {
    /// By what others speak of it.
    pub fn port_ref(&self) -> PortRef {
        PortRef {
            id: self.id,
            serial: self.serial,
        }
    }

    /// Those of frames that no worker sends: probes.
    pub(super) fn counters_of_control(&self) -> &WorkerCounters {
        &self.counters[self.counters.len() - 1]
    }

    /// Corrects what the port says of so many frames, if there is nobody who hears them.
    #[inline]
    pub(super) fn correct(&self, sent: &mut Sent, frames: usize) {
        if !self.carrier.load(Ordering::Relaxed) {
            *sent = Sent::down(frames);
        }
    }

    /// What it lets in and out.
    #[inline]
    pub fn policy(&self) -> &PortPolicy {
        self.policy.as_deref().unwrap_or_else(|| &PLAIN)
    }
}

impl SwitchEntry {
    /// A switch without ports.
    pub(super) fn new(fdb: Fdb, settings: SwitchSettings) -> Self {
        let switch = Self {
            fdb: Arc::new(fdb),
            reserved: ReservedMulticast::default(),
            vlan_limit: u32::MAX,
            rspan: Arc::default(),
            token: RandomState::new().build_hasher().finish(),
            has_policies: false,
            vlan_aware: false,
            flood: FloodSets::default(),
            held: None,
        };
        let mut switch = switch.with(settings);
        switch.recompile(iter::empty());
        switch
    }

    /// The same with other settings; [`Snapshot::recompile`] has to follow.
    pub(super) fn with(self, settings: SwitchSettings) -> Self {
        let SwitchSettings {
            rspan,
            reserved,
            vlan_limit,
        } = settings;
        Self {
            rspan,
            reserved,
            vlan_limit: vlan_limit.unwrap_or(u32::MAX),
            ..self
        }
    }

    /// Takes up what `ports`, its own, say now.
    pub(super) fn recompile<'a>(&mut self, ports: impl Iterator<Item = &'a PortEntry>) {
        self.flood = FloodSets::default();
        self.vlan_aware = false;
        self.has_policies = self.vlan_limit != u32::MAX;
        for port in ports {
            let policy = port.policy();
            let open = port.up && !port.mirror_only;
            self.vlan_aware |= policy.vlan_aware;
            self.has_policies |= port.policy.is_some();
            self.flood
                .unknown_unicast
                .set(port.id, open && policy.flooding.unknown_unicast);
            self.flood.multicast.set(port.id, open && policy.flooding.multicast);
            self.flood.broadcast.set(port.id, open && policy.flooding.broadcast);
        }
    }
}

impl Snapshot {
    /// The port with this index.
    #[inline]
    pub fn port(&self, id: PortId) -> Option<&Arc<PortEntry>> {
        self.ports.get(id.index())?.as_ref()
    }

    /// This very port, if it is still there.
    pub fn find(&self, port: PortRef) -> Option<&Arc<PortEntry>> {
        self.port(port.id).filter(|entry| entry.serial == port.serial)
    }

    /// All ports.
    pub fn ports(&self) -> impl Iterator<Item = &PortEntry> {
        self.ports.iter().flatten().map(Arc::as_ref)
    }

    /// Whether frames of the port are copied by a mirror.
    pub fn is_mirrored(&self, port: &PortEntry) -> bool {
        self.mirrors
            .iter()
            .any(|mirror| mirror.switch == port.switch && mirror.is_about(port))
    }

    /// Replaces a port by what `change` makes of it; false: there is none. Where that matters to floods and policies of the
    /// switch, [`Snapshot::recompile`] follows.
    pub(super) fn change_port(&mut self, port: PortRef, change: impl FnOnce(&mut PortEntry)) -> bool {
        let slot = self.ports.get_mut(port.id.index()).and_then(Option::as_mut);
        let Some(slot) = slot.filter(|entry| entry.serial == port.serial) else {
            return false;
        };
        let mut port = PortEntry::clone(slot);
        change(&mut port);
        *slot = Arc::new(port);
        true
    }

    /// Makes the switch what its ports say.
    pub(super) fn recompile(&mut self, id: SwitchId) {
        let Self { ports, switches, .. } = self;
        if let Some(Some(switch)) = switches.get_mut(id.index()) {
            let mut changed = SwitchEntry::clone(switch);
            let own = ports.iter().flatten().filter(|port| port.switch == id);
            changed.recompile(own.map(Arc::as_ref));
            *switch = Arc::new(changed);
        }
    }

    /// The switch with this index.
    #[inline]
    pub fn switch(&self, id: SwitchId) -> Option<&Arc<SwitchEntry>> {
        self.switches.get(id.index())?.as_ref()
    }
}

/// A set of ports, as a bitmap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<u64>);

impl PortSet {
    /// Puts a port in or takes it out.
    pub fn set(&mut self, port: PortId, member: bool) {
        let (word, bit) = (port.index() / 64, port.index() % 64);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        if member {
            self.0[word] |= 1 << bit;
        } else {
            self.0[word] &= !(1 << bit);
        }
    }

    /// Whether a port is in it.
    #[inline]
    pub fn contains(&self, port: PortId) -> bool {
        let word = self.0.get(port.index() / 64).copied().unwrap_or(0);
        word >> (port.index() % 64) & 1 != 0
    }

    /// The ports in it, lowest first.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = PortId> + '_ {
        self.0.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(PortId((index * 64) as u16 + bit as u16))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_port_set_is_a_set(steps in prop::collection::vec((0u16..300, any::<bool>()), 0..100)) {
            let (mut ports, mut expected) = (PortSet::default(), BTreeSet::new());
            for (port, member) in steps {
                ports.set(PortId(port), member);
                if member { expected.insert(port); } else { expected.remove(&port); }
            }
            prop_assert!((0..300).all(|p| ports.contains(PortId(p)) == expected.contains(&p)));
            prop_assert!(ports.iter().map(|p| p.0).eq(expected));
        }
    }
}
