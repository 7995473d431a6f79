//! How many entries each port and VLAN has.

use crate::PortId;

/// Number of entries by port and by VLAN.
#[derive(Default)]
pub(super) struct Counts {
    /// By port, of all kinds.
    pub ports: Vec<u32>,
    /// By port, without those that were set by hand: what a limit is held against.
    learned: Vec<u32>,
    /// By VLAN, likewise.
    vlans: Vec<u32>,
}

impl Counts {
    /// Entries that were learned at a port.
    pub fn learned_at(&self, port: PortId) -> u32 {
        self.learned.get(port.index()).copied().unwrap_or(0)
    }

    /// Entries that were learned in a VLAN.
    pub fn learned_in(&self, vlan: u16) -> u32 {
        self.vlans.get(usize::from(vlan)).copied().unwrap_or(0)
    }

    /// VLANs in which some were learned, with how many.
    pub fn by_vlan(&self) -> Vec<(u16, u32)> {
        let vlans = self.vlans.iter().enumerate().filter(|(_, count)| **count > 0);
        vlans.map(|(vlan, count)| (vlan as u16, *count)).collect()
    }

    /// Counts `n` entries more, or fewer, of a port in a VLAN.
    pub fn add(&mut self, port: PortId, vlan: u16, by_hand: bool, n: i32) {
        add(&mut self.ports, port.index(), n);
        if !by_hand {
            add(&mut self.learned, port.index(), n);
            add(&mut self.vlans, vlan.into(), n);
        }
    }
}

fn add(counts: &mut Vec<u32>, index: usize, n: i32) {
    if index >= counts.len() {
        counts.resize(index + 1, 0);
    }
    counts[index] = counts[index].saturating_add_signed(n);
}
