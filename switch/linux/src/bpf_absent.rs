//! Stands in for [`super::bpf`] where the crate is built without the feature `fastpath`: it can't be loaded, so nothing
//! else of it is ever called.

#[path = "bpf/rules.rs"]
mod rules;

use std::convert::Infallible;
use std::io;
use std::path::Path;

use super::error::KernelError;
pub use rules::{
    ACCEPT_TAGGED, ACCEPT_UNTAGGED, DIRECT, EVERY_VLAN, LONG_WAY, Left, MAX_FLOOD, MAX_LEFT, MAX_SLOTS, NO_CARRIER,
    NO_NATIVE, PAYLOAD_TAGS, Rules, SwitchKey, TRUNK, VlanBits,
};

/// Who is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StationKey {
    /// The switch.
    pub switch: SwitchKey,
    /// VLAN id.
    pub vlan: u16,
    /// The station.
    pub mac: [u8; 6],
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceValue {
    slot: u16,
    /// When the station was last seen.
    pub seen: u32,
}

#[allow(missing_docs, reason = "as in the module that it stands in for")]
impl PlaceValue {
    pub fn new(slot: u16, _mac: u64, seen: u32) -> Self {
        Self { slot, seen }
    }

    pub fn slot(self) -> u16 {
        self.slot
    }
}

/// What the programs know of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the module that it stands in for")]
pub struct PortRecord {
    pub switch: SwitchKey,
    pub near: u32,
    pub shadow: u32,
    pub mac: [u8; 6],
    pub rules: Rules,
}

/// What the programs forwarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the module that it stands in for")]
pub struct FastCounters {
    pub rx_frames: u64,
    pub rx_bytes: u64,
    pub tx_frames: u64,
    pub tx_bytes: u64,
    pub rx_flooded: u64,
    pub flood_copies: u64,
    pub tx_down: u64,
    pub tx_refused: u64,
}

/// The programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in the module that it stands in for")]
pub enum Program {
    FromStation,
    ToStation,
    FromDevice,
    ToDevice,
}

/// The loaded programs: there is no value of it.
#[derive(Debug)]
pub struct Bpf(Infallible);

#[allow(
    missing_docs,
    clippy::missing_errors_doc,
    reason = "as in the module that it stands in for"
)]
impl Bpf {
    pub fn load(_root: &Path, _left: &[Left]) -> Result<Self, KernelError> {
        let error = io::Error::other("this daemon was built without the feature `fastpath`");
        Err(KernelError::new("load the programs", error))
    }

    pub fn probe(&self, _name: &str) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn attach(&self, _program: Program, _name: &str, _index: u32) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn detach(&self, _program: Program, _index: u32) {
        match self.0 {}
    }

    pub fn put_back(&self) -> Option<io::Result<()>> {
        match self.0 {}
    }

    pub fn release(&self) {
        match self.0 {}
    }

    pub fn attached(&self, _program: Program) -> Vec<u32> {
        match self.0 {}
    }

    pub fn insert(&self, _key: &StationKey, _value: PlaceValue) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn remove(&self, _key: &StationKey) {
        match self.0 {}
    }

    pub fn remove_from(&self, _key: &StationKey, _slot: u16) {
        match self.0 {}
    }

    pub fn station(&self, _key: &StationKey) -> Option<PlaceValue> {
        match self.0 {}
    }

    pub fn stations(&self) -> Vec<(StationKey, PlaceValue)> {
        match self.0 {}
    }

    pub fn port(&self, _slot: u16) -> PortRecord {
        match self.0 {}
    }

    pub fn set_port(&self, _slot: u16, _record: PortRecord) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn set_members(&self, _slot: u16, _vlans: Option<&VlanBits>) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn set_flood(&self, _switch: &SwitchKey, _to: Option<&[u16]>) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn flooding(&self) -> Vec<SwitchKey> {
        match self.0 {}
    }

    pub fn set_slot(&self, _index: u32, _slot: u16) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn clear_slot(&self, _index: u32) {
        match self.0 {}
    }

    pub fn slots(&self) -> Vec<(u32, u32)> {
        match self.0 {}
    }

    pub fn set_splice(&self, _from: u32, _to: u32) -> Result<(), KernelError> {
        match self.0 {}
    }

    pub fn clear_splice(&self, _from: u32) {
        match self.0 {}
    }

    pub fn splices(&self) -> Vec<u32> {
        match self.0 {}
    }

    pub fn counters(&self, _slot: u16) -> FastCounters {
        match self.0 {}
    }
}

/// There is no program to wait for.
pub fn settle() {}

/// There is no mount of this daemon's.
pub fn unmount(_root: &Path) {}
