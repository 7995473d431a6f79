//! The checks that every frame has to pass.

use vswitch_api::{Mac, ReservedMulticast};

use super::counters::DropReason;
use super::punt::PuntTable;
use super::snapshot::PortEntry;
use crate::frame::{
    CheckError, Checked, ETH_HLEN, Gso, MAX_FRAME, MAX_TAGS, VLAN_HLEN, is_reserved_multicast, mac_to_u64, u64_to_mac,
};

/// 01-80-C2-00-00-0E, nearest bridge: LLDP (IEEE 802.1AB-2016 table 7-1).
const LLDP: u64 = 0x0180_c200_000e;
/// FF-FF-FF-FF-FF-FF.
pub(super) const BROADCAST: u64 = mac_to_u64(Mac::BROADCAST);

/// Whether an address is a group's (IEEE 802-2014 clause 8.2).
#[inline(always)]
pub(super) fn is_group(address: u64) -> bool {
    address & 1 << 40 != 0
}

/// Whether a switch forwards frames for this address, as far as those for bridges are concerned.
pub(super) fn is_forwarded(dst: u64, reserved: ReservedMulticast) -> bool {
    match reserved {
        ReservedMulticast::All => true,
        ReservedMulticast::Lldp if dst == LLDP => true,
        _ => !is_group(dst) || !is_reserved_multicast(u64_to_mac(dst)),
    }
}

/// What was proven of a frame, and destination and source, as numbers, of one that may enter the switch, or why it may not.
#[inline(always)]
pub(super) fn admit<'a>(
    wire: &'a [u8],
    port: &PortEntry,
    reserved: ReservedMulticast,
    punts: &PuntTable,
) -> Result<(Checked<'a>, u64, u64), DropReason> {
    let checked = Checked::new(wire).map_err(|error| match error {
        CheckError::Runt => DropReason::Runt,
        CheckError::Malformed(_) => DropReason::Malformed,
    })?;
    let frame = checked.frame();
    let ethernet = frame.first_chunk::<ETH_HLEN>().ok_or(DropReason::Runt)?;
    // Room for two tags, which the MTU does not count (as Linux does for one).
    let longest = port.mtu as usize + ETH_HLEN + MAX_TAGS * VLAN_HLEN;
    // A frame that fills its buffer may have been cut off.
    if frame.len() > longest && (checked.header().gso == Gso::None || frame.len() >= MAX_FRAME) {
        return Err(DropReason::Oversize);
    }
    // Each is loaded with the two octets behind it, which go.
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    let dst = u64::from_be_bytes([d0, d1, d2, d3, d4, d5, s0, s1]) >> 16;
    let src = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, t0, t1]) >> 16;
    if is_group(src) {
        return Err(DropReason::MulticastSource);
    }
    if src == 0 {
        return Err(DropReason::ZeroSource);
    }
    if is_group(dst) && is_reserved_multicast(u64_to_mac(dst)) && !is_forwarded(dst, reserved) && !punts.may_want(dst) {
        return Err(DropReason::ReservedMulticast);
    }
    Ok((checked, dst, src))
}
