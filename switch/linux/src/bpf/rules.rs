//! Words of the programs that mean something without them too: bounds, names, and what is done with the frames of a port, in one word
//! of its record.

/// Ports that can be in the maps: MAX_SLOTS of the source.
pub const MAX_SLOTS: u16 = 4096;
/// Most ports of a switch whose floods the programs send: MAX_FLOOD of the source.
pub const MAX_FLOOD: usize = 64;
/// Most entries of what agents want that the programs know: MAX_LEFT of the source.
pub const MAX_LEFT: usize = 4;
/// Upper half of the addresses that the programs leave to the daemon in any case: FOR_BRIDGES of the source.
const FOR_BRIDGES: u64 = 0x01_80_c2;
const UPPER: u64 = 0xff_ff_ff << 24;
/// Name of a switch, with zeros behind it.
pub type SwitchKey = [u8; 16];

/// Frames from and to the port may be forwarded in the kernel.
pub const DIRECT: u16 = 1;
/// The switch does not tell VLANs apart: tags are payload. All of the following is about those that do.
pub const PAYLOAD_TAGS: u16 = 2;
/// Frames without a tag may come in, and those whose tag tells the priority only.
pub const ACCEPT_UNTAGGED: u16 = 4;
/// Frames with a customer tag may come in.
pub const ACCEPT_TAGGED: u16 = 8;
/// The port is in VLANs besides the native one, whose frames have a customer tag there.
pub const TRUNK: u16 = 16;
/// In all VLANs; else in those that `Bpf::set_members` says.
pub const EVERY_VLAN: u16 = 32;
/// What goes to the station takes the way by which a program of XDP at its interface sees it.
pub const LONG_WAY: u16 = 64;
/// The station's interface is down: what is sent to it is lost.
pub const NO_CARRIER: u16 = 128;
/// The port has no native VLAN: NO_VLAN of the source.
pub const NO_NATIVE: u16 = 0xffff;

/// `struct vlans`: one bit for each VLAN.
pub type VlanBits = [u64; 64];

/// Frames for a group that are the daemon's, whatever else of its group is flooded: those for this address, as far as the bits of the mask
/// tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The address, in the lower 48 bits.
    pub dst: u64,
    /// The bits that count.
    pub mask: u64,
}

impl Left {
    /// Whether programs that were loaded with these leave all of this to the daemon.
    pub fn is_among(self, known: &[Self]) -> bool {
        known.iter().take(MAX_LEFT).any(|one| *one == self)
            || (self.mask & UPPER == UPPER && self.dst >> 24 == FOR_BRIDGES)
    }
}

/// Flags in the upper half, the native VLAN in the lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Rules(u32);

impl Rules {
    /// `flags`: [`DIRECT`] and others. `vlan`: the native one; 0 is that of frames in none, [`NO_NATIVE`]: there is none.
    pub const fn new(flags: u16, vlan: u16) -> Self {
        Self((flags as u32) << 16 | vlan as u32)
    }

    /// Whether frames may be forwarded in the kernel.
    pub const fn is_direct(self) -> bool {
        self.0 & (DIRECT as u32) << 16 != 0
    }

    /// The flags.
    pub const fn flags(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The same with or without a flag.
    pub const fn with(self, flag: u16, set: bool) -> Self {
        let bit = (flag as u32) << 16;
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }

    /// The same without [`DIRECT`].
    pub const fn shut(self) -> Self {
        self.with(DIRECT, false)
    }

    /// By which steps these rules become others: no program that reads them in between finds what is partly of the one and partly
    /// of the other. The kernel copies the word as it likes; so where it is direct before or after, one bit changes and no more.
    pub fn steps(self, to: Self) -> impl Iterator<Item = Self> {
        [self.shut(), to.shut(), to]
            .into_iter()
            .skip(usize::from(self == to) * 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_the_programs_know_and_what_is_for_bridges_is_left() {
        let exact = |dst| Left {
            dst,
            mask: 0xffff_ffff_ffff,
        };
        let known = [exact(0x03_76_73_77_00_01), exact(0x01_00_5e_00_00_16)];
        assert!(known.iter().all(|left| left.is_among(&known)));
        assert!(exact(0x01_80_c2_00_00_0e).is_among(&[]));
        assert!(!exact(0x01_00_5e_00_00_01).is_among(&known));
        let of_groups = Left {
            dst: 0x01_80_c2_00_00_00,
            mask: 1 << 40,
        };
        assert!(!of_groups.is_among(&known));
        let many: Vec<_> = (0..=MAX_LEFT as u64).map(exact).collect();
        assert!(!exact(MAX_LEFT as u64).is_among(&many));
    }

    proptest! {
        /// A reader that sees each byte of the word of another time finds the rules of one time, or none (review B12).
        #[test]
        fn rules_that_change_are_never_a_mixture(
            from in (0u16..128, prop::sample::select(vec![0u16, 1, 10, 0x0fff, 0xffff])),
            to in (0u16..128, prop::sample::select(vec![0u16, 1, 10, 0x0fff, 0xffff])),
            torn in 0u32..16,
        ) {
            let [from, to] = [from, to].map(|(flags, vlan)| Rules::new(flags, vlan));
            let mut before = from;
            for step in from.steps(to) {
                let mask: u32 = (0..4).filter(|byte| torn >> byte & 1 != 0).map(|byte| 0xff << (8 * byte)).sum();
                let seen = Rules(before.0 & !mask | step.0 & mask);
                prop_assert!(!seen.is_direct() || seen == from || seen == to, "{from:?} {to:?}: {seen:?}");
                before = step;
            }
            prop_assert_eq!(before, to);
        }
    }
}
