//! VLAN admission and tags (IEEE 802.1Q-2022 clauses 6.9 and 8.6.2).
//!
//! On its way through the switch a frame lies in the batch as it came; beside it stands its VLAN and whether the outermost
//! tag in the buffer shows it. Egress puts a tag in, takes it out or rewrites it only where the port wants it otherwise.

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
    members: Box<[u64; 64]>,
    /// VLAN of frames without a tag; none: they are dropped.
    native: Option<u16>,
    /// TPID of the tags that show a VLAN; none: whatever comes is payload.
    tpid: Option<u16>,
    accept: AcceptFrames,
}

impl VlanPort {
    /// What `vlan` and `accept` say.
    pub fn new(vlan: &PortVlan, accept: AcceptFrames) -> Self {
        let mut port = Self {
            members: Box::new([0; 64]),
            native: None,
            tpid: Some(TPID_CUSTOMER),
            accept,
        };
        match vlan {
            PortVlan::All => {
                *port.members = [u64::MAX; 64];
                port.native = Some(NO_VLAN);
            }
            PortVlan::Access(id) => port.native = Some(id.get()),
            PortVlan::Trunk(trunk) => {
                for (first, last) in trunk.allowed.ranges() {
                    (first.get()..=last.get()).for_each(|id| port.join(id));
                }
                port.native = trunk.native.map(|id| id.get());
                if trunk.tag == TagKind::Service {
                    port.tpid = Some(TPID_SERVICE);
                }
            }
            PortVlan::Tunnel(id) => {
                port.native = Some(id.get());
                port.tpid = None;
            }
        }
        if let Some(id) = port.native {
            port.join(id);
        }
        // 4095 is no VLAN (IEEE 802.1Q-2022 table 9-2).
        port.members[63] &= !(1 << 63);
        port
    }

    fn join(&mut self, id: u16) {
        self.members[usize::from(id) / 64] |= 1 << (id % 64);
    }

    /// Whether the port belongs to the VLAN.
    #[inline]
    pub fn is_member(&self, id: u16) -> bool {
        self.members[usize::from(id & ID) / 64] & 1 << (id % 64) != 0
    }

    /// The VLAN of frames without a tag, if they may come in; those of that VLAN go out without one.
    pub fn untagged(&self) -> Option<u16> {
        self.native.filter(|_| self.accept != AcceptFrames::Tagged)
    }

    /// Whether it is in one VLAN only and has no use for tags.
    pub fn is_access(&self) -> bool {
        self.tpid.is_some() && self.members.iter().map(|word| word.count_ones()).sum::<u32>() == 1
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
