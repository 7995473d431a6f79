//! VLAN admission and tags (IEEE 802.1Q-2022 clauses 6.9 and 8.6.2).
//!
//! On its way through the switch a frame lies in the batch as it came; beside it stands its VLAN and whether the outermost
//! tag in the buffer shows it. Egress puts a tag in, takes it out or rewrites it only where the port wants it otherwise.

use std::sync::Arc;

use vswitch_api::policy::{AcceptFrames, PortVlan, TagKind};

use super::counters::DropReason;
use crate::batch::{Batch, FrameVlan};
use crate::frame::{Reach, Reading, TPID_CUSTOMER, TPID_SERVICE, Tag};

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
        let outer = self
            .tpid
            .and_then(|tpid| Tag::outermost(frame, tpid))
            .map(|tag| tag.tci);
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
        if outer.is_some() && Tag::begins(frame, 1) {
            self.check_tags(frame, tci & ID)?;
        }
        if self.is_member(tci & ID) {
            Ok(FrameVlan { tci, tpid })
        } else {
            Err(DropReason::VlanFiltered)
        }
    }

    /// Whether the tags of a frame that has more than one tell the VLAN that it was put into. The outermost tag of a frame of the native
    /// VLAN goes where that has none, and a receiver strips those that tell a priority only: then a further one would tell of another VLAN.
    #[cold]
    fn check_tags(&self, frame: &[u8], vlan: u16) -> Result<(), DropReason> {
        if Reading::of(frame).reach == Reach::Nothing {
            return Err(DropReason::UnreadableIn);
        }
        if self.native != Some(vlan) || vlan == NO_VLAN {
            return Ok(());
        }
        let told = Tag::all(frame).skip(1).map(Tag::vlan_id).find(|id| *id != NO_VLAN);
        match told {
            Some(other) if other != vlan => Err(DropReason::VlanFiltered),
            _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::policy::Trunk;

    #[test]
    fn what_is_accepted_needs_a_vlan_to_be_in_and_the_ports_leave() {
        let trunk = |native: Option<&str>| {
            PortVlan::Trunk(Trunk {
                allowed: "10,20".parse().unwrap(),
                native: native.map(|id| id.parse().unwrap()),
                tag: TagKind::Customer,
            })
        };
        let tunnel = PortVlan::Tunnel("10".parse().unwrap());
        for (vlan, accept, untagged, tagged) in [
            (trunk(Some("10")), AcceptFrames::All, true, true),
            (trunk(Some("10")), AcceptFrames::Tagged, false, true),
            (trunk(Some("10")), AcceptFrames::Untagged, true, false),
            (trunk(None), AcceptFrames::All, false, true),
            (tunnel, AcceptFrames::All, true, false),
        ] {
            let port = VlanPort::new(&vlan, accept);
            assert_eq!(
                (port.accepts_untagged(), port.accepts_tagged()),
                (untagged, tagged),
                "{vlan:?} {accept:?}"
            );
        }
    }

    /// Guards the kind of E1 for VLANs: a tag that goes on the way must not leave one of another VLAN as the outermost.
    #[test]
    fn tags_behind_the_first_can_not_tell_of_another_vlan() {
        let access = VlanPort::new(&PortVlan::Access("10".parse().unwrap()), AcceptFrames::All);
        let trunk = VlanPort::new(
            &PortVlan::Trunk(Trunk {
                allowed: "10,20".parse().unwrap(),
                native: None,
                tag: TagKind::Customer,
            }),
            AcceptFrames::All,
        );
        let of = |port: &VlanPort, tags: &[u8]| {
            let tags: Vec<u8> = tags.iter().flat_map(|id| [0x81, 0, 0, *id]).collect();
            let frame = [&[2; 12][..], &tags, &[0x88, 0xb5], &[0; 46]].concat();
            port.classify(&frame).map(FrameVlan::id)
        };
        for tags in [&[][..], &[0], &[10], &[0, 0], &[0, 10], &[10, 0, 10]] {
            assert_eq!(of(&access, tags), Ok(10), "{tags:?}");
        }
        for tags in [&[20][..], &[0, 20], &[10, 20], &[0, 0, 0, 20]] {
            assert_eq!(of(&access, tags), Err(DropReason::VlanFiltered), "{tags:?}");
        }
        // Where a tag stays, those behind it are payload.
        assert_eq!(of(&trunk, &[10, 30]), Ok(10));
        assert_eq!(of(&trunk, &[10; 17]), Err(DropReason::UnreadableIn));
        assert_eq!(of(&access, &[0; 17]), Err(DropReason::UnreadableIn));
    }
}
