//! VLAN admission and tags (IEEE 802.1Q-2022 clauses 6.9 and 8.6.2).
//!
//! On its way through the switch a frame lies in the batch as it came; beside it stands its VLAN and whether the outermost
//! tag in the buffer shows it. Egress puts a tag in, takes it out or rewrites it only where the port wants it otherwise.

use std::sync::Arc;

use vswitch_api::policy::{AcceptFrames, PortVlan, TagKind};

use super::counters::DropReason;
use crate::frame::{ETH_HLEN, TPID_CUSTOMER, TPID_SERVICE, VLAN_HLEN};
use crate::port::{Batch, FrameVlan};

/// The VLAN of frames that are in none.
pub const NO_VLAN: u16 = 0;
/// Bits of the tag control information that are the VLAN id.
const ID: u16 = FrameVlan::ID;

/// The VLAN settings of a port, ready for use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanPort {
    /// Which VLANs it belongs to, one bit each.
    members: Arc<[u64; 64]>,
    /// VLAN of frames without a tag; none: they are dropped.
    native: Option<u16>,
    /// TPID of the tags that show a VLAN; none: whatever comes is payload.
    tpid: Option<u16>,
    accept: AcceptFrames,
}

impl VlanPort {
    /// What `vlan` and `accept` say.
    pub fn new(vlan: &PortVlan, accept: AcceptFrames) -> Self {
        let mut members = [0; 64];
        let mut join = |id: u16| members[usize::from(id) / 64] |= 1 << (id % 64);
        let (native, tpid) = match vlan {
            PortVlan::All => {
                // 4095 is no VLAN (IEEE 802.1Q-2022 table 9-2).
                (NO_VLAN..ID).for_each(&mut join);
                (Some(NO_VLAN), Some(TPID_CUSTOMER))
            }
            PortVlan::Access(id) => (Some(id.get()), Some(TPID_CUSTOMER)),
            PortVlan::Trunk(trunk) => {
                for (first, last) in trunk.allowed.ranges() {
                    (first.get()..=last.get()).for_each(&mut join);
                }
                let tpid = match trunk.tag {
                    TagKind::Service => TPID_SERVICE,
                    TagKind::Customer => TPID_CUSTOMER,
                };
                (trunk.native.map(|id| id.get()), Some(tpid))
            }
            PortVlan::Tunnel(id) => (Some(id.get()), None),
        };
        native.into_iter().for_each(join);
        Self {
            members: Arc::new(members),
            native,
            tpid,
            accept,
        }
    }

    /// Whether the port belongs to the VLAN.
    #[inline]
    pub fn is_member(&self, id: u16) -> bool {
        self.members[usize::from(id & ID) / 64] & 1 << (id % 64) != 0
    }

    /// The VLAN of frames without a tag.
    pub fn native(&self) -> Option<u16> {
        self.native
    }

    /// The VLANs that it belongs to, one bit each.
    pub fn members(&self) -> &Arc<[u64; 64]> {
        &self.members
    }

    /// Whether it is in one VLAN only, the native one.
    pub fn is_in_native_only(&self) -> bool {
        self.native.is_some() && self.members.iter().map(|word| word.count_ones()).sum::<u32>() == 1
    }

    /// Whether it shows VLANs other than the native one, if it is in any, by customer tags.
    pub fn has_customer_tags(&self) -> bool {
        self.tpid == Some(TPID_CUSTOMER)
    }

    /// Whether frames without a tag may come in.
    pub fn accepts_untagged(&self) -> bool {
        self.native.is_some() && self.accept != AcceptFrames::Tagged
    }

    /// Whether frames with a tag that says their VLAN may come in.
    pub fn accepts_tagged(&self) -> bool {
        self.tpid.is_some() && self.accept != AcceptFrames::Untagged
    }

    /// The VLAN of a frame that came in here, or why it may not.
    #[inline]
    pub fn classify(&self, frame: &[u8]) -> Result<FrameVlan, DropReason> {
        let outer = match frame.get(12..ETH_HLEN + VLAN_HLEN) {
            Some(&[t0, t1, c0, c1, ..]) if self.tpid == Some(u16::from_be_bytes([t0, t1])) => {
                Some(u16::from_be_bytes([c0, c1]))
            }
            _ => None,
        };
        let tpid = if outer.is_some() { self.tpid.unwrap_or(0) } else { 0 };
        let tci = match outer {
            Some(tci) if tci & ID != NO_VLAN => {
                if self.accept == AcceptFrames::Untagged {
                    return Err(DropReason::VlanTagged);
                }
                tci
            }
            // A tag without a VLAN tells the priority only (clause 6.9.1).
            other => match self.native {
                Some(native) if self.accept != AcceptFrames::Tagged => other.unwrap_or(0) & !ID | native,
                _ => return Err(DropReason::VlanUntagged),
            },
        };
        if self.is_member(tci & ID) {
            Ok(FrameVlan { tci, tpid })
        } else {
            Err(DropReason::VlanFiltered)
        }
    }

    /// The tag that a frame of the VLAN has here, if any.
    #[inline]
    pub fn tag_of(&self, id: u16) -> Option<u16> {
        self.tpid.filter(|_| id != NO_VLAN && self.native != Some(id))
    }

    /// Whether the port belongs to the VLAN by a setting, and not for want of one.
    pub fn has_joined(&self, id: u16) -> bool {
        self.native != Some(NO_VLAN) && self.is_member(id)
    }

    /// Gives the i-th frame the tag that this port's frames have.
    #[inline]
    pub fn shape(&self, batch: &mut Batch, i: usize) {
        let vlan = batch.vlan(i);
        // Of a VLAN that is none: as it came, with the priority that it may have.
        if vlan.id() != NO_VLAN {
            batch.retag(i, self.tag_of(vlan.id()));
        }
    }
}
