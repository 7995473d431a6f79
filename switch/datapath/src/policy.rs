//! What a port lets in and out beyond plain switching, ready for use. A plain port has none of it.

use std::sync::{Arc, LazyLock};

use vswitch_api::policy::{AcceptFrames, BeyondLimit, Flooding, Isolation, Learning, PortVlan};

use super::acl::Acl;
use super::fdb::{EntryKind, LearnRule};
use super::pin::PinTable;
use super::vlan::VlanPort;

/// The settings of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortPolicy {
    /// VLAN membership. It counts on a switch that tells VLANs apart only.
    pub vlan: VlanPort,
    /// The port has VLAN settings, so its switch tells VLANs apart: [`PortPolicy::of_vlans`] sets both.
    pub vlan_aware: bool,
    /// What is learned.
    pub learning: Learning,
    /// What is flooded to it.
    pub flooding: Flooding,
    /// Whom it exchanges frames with.
    pub isolation: Isolation,
    /// Sources that it may use.
    pub pin: Option<PinTable>,
    /// What it lets into the switch.
    pub acl_in: Option<Arc<Acl>>,
    /// What it lets out of the switch.
    pub acl_out: Option<Arc<Acl>>,
}

/// What a port without settings has.
pub static PLAIN: LazyLock<PortPolicy> = LazyLock::new(|| PortPolicy {
    vlan: VlanPort::new(&PortVlan::All, AcceptFrames::All),
    vlan_aware: false,
    learning: Learning::default(),
    flooding: Flooding::default(),
    isolation: Isolation::default(),
    pin: None,
    acl_in: None,
    acl_out: None,
});

impl Default for PortPolicy {
    /// What a port without settings has.
    fn default() -> Self {
        PLAIN.clone()
    }
}

impl PortPolicy {
    /// That of a port in these VLANs which has no other settings.
    pub fn of_vlans(vlan: &PortVlan, accept: AcceptFrames) -> Self {
        Self {
            vlan: VlanPort::new(vlan, accept),
            vlan_aware: *vlan != PortVlan::All || accept != AcceptFrames::All,
            ..Self::default()
        }
    }

    /// What the FDB may learn from the port, whose switch allows `vlan_limit` entries a VLAN.
    pub fn learn_rule(&self, vlan_limit: u32) -> LearnRule {
        LearnRule {
            port_limit: self.learning.limit.unwrap_or(u32::MAX),
            vlan_limit,
            kind: if self.learning.sticky {
                EntryKind::Sticky
            } else {
                EntryKind::Learned
            },
        }
    }

    /// Whether nothing but VLANs and flood control is asked of the port, so that the kernel may forward its frames.
    pub fn is_plain(&self) -> bool {
        self.learning == Learning::default()
            && self.isolation == Isolation::default()
            && self.pin.is_none()
            && self.acl_in.is_none()
            && self.acl_out.is_none()
    }

    /// Whether a frame from a station beyond the limit is dropped.
    pub fn drops_beyond_limit(&self) -> bool {
        self.learning.beyond != BeyondLimit::Flood
    }

    /// Whether frames pass between this port and another one.
    pub fn reaches(&self, other: &Self) -> bool {
        match (self.isolation, other.isolation) {
            (Isolation::Promiscuous, _) | (_, Isolation::Promiscuous) => true,
            (Isolation::Community(a), Isolation::Community(b)) => a == b,
            _ => false,
        }
    }
}
