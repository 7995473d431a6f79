//! What lies in the maps, as `bpf/maps.h` has it. Whoever changes it changes `LAYOUT`.

use aya::Pod;

use super::rules::{MAX_FLOOD, Rules, SwitchKey, VlanBits};

/// `struct station`: who is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StationKey {
    /// The switch.
    pub switch: SwitchKey,
    /// VLAN id, 0 while the switch has none.
    pub vlan: u16,
    /// The station.
    pub mac: [u8; 6],
}

/// `struct place`: where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PlaceValue {
    /// Slot of the port and address of the station.
    place: u64,
    /// When the station was last seen, in seconds of the monotonic clock.
    pub seen: u32,
    unused: u32,
}

impl PlaceValue {
    /// The station `mac` (in its lower 48 bits) behind the port of `slot`.
    pub fn new(slot: u16, mac: u64, seen: u32) -> Self {
        Self {
            place: u64::from(slot) << 48 | mac,
            seen,
            unused: 0,
        }
    }

    /// Slot of the port.
    pub fn slot(self) -> u16 {
        (self.place >> 48) as u16
    }
}

/// `struct port`: what the programs know of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PortRecord {
    /// Its switch.
    pub switch: SwitchKey,
    /// Index of the near end; 0: the slot is free.
    pub near: u32,
    /// Index of the shadow TAP.
    pub shadow: u32,
    /// Address of the interface inside.
    pub mac: [u8; 6],
    /// Always 0.
    pub unused: u16,
    /// What the programs do with its frames. In one word, which they read at once.
    pub rules: Rules,
    /// Always 0.
    pub unused2: u32,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Vlans(pub(super) VlanBits);

/// `struct flood`: where floods of a switch go.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Flood {
    pub(super) count: u32,
    pub(super) slots: [u16; MAX_FLOOD],
}

/// `struct counters`: what the programs forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FastCounters {
    /// Frames from the port's station.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames to the port's station.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Those of `rx_frames` that were flooded.
    pub rx_flooded: u64,
    /// To how many ports in all.
    pub flood_copies: u64,
    /// Copies of floods for the port's station that were lost since it has no carrier.
    pub tx_down: u64,
    /// The same, which the kernel did not take.
    pub tx_refused: u64,
    /// By which the programs keep to their rate.
    pub rate: [u32; 2],
}

// SAFETY: for all six: repr(C) of integers without padding (their sizes are checked below), so any bytes are a value.
unsafe impl Pod for StationKey {}
// SAFETY: see above.
unsafe impl Pod for PlaceValue {}
// SAFETY: see above.
unsafe impl Pod for PortRecord {}
// SAFETY: see above.
unsafe impl Pod for FastCounters {}
// SAFETY: see above.
unsafe impl Pod for Vlans {}
// SAFETY: see above.
unsafe impl Pod for Flood {}
const _: () = assert!(size_of::<StationKey>() == 24 && size_of::<PlaceValue>() == 16);
const _: () = assert!(size_of::<PortRecord>() == 40 && size_of::<FastCounters>() == 72);
const _: () = assert!(size_of::<Vlans>() == 512 && size_of::<Flood>() == 4 + 2 * MAX_FLOOD);
