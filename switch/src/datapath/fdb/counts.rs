//! How many entries each port and VLAN has.

use crate::datapath::PortId;

/// Number of entries by port and by VLAN.
#[derive(Default)]
pub(super) struct Counts {
    pub ports: Vec<u32>,
    vlans: Vec<u32>,
}

impl Counts {
    pub fn port(&self, port: PortId) -> u32 {
        self.ports.get(port.index()).copied().unwrap_or(0)
    }

    pub fn vlan(&self, vlan: u16) -> u32 {
        self.vlans.get(usize::from(vlan)).copied().unwrap_or(0)
    }

    pub fn add_port(&mut self, port: PortId, n: i32) {
        add(&mut self.ports, port.index(), n);
    }

    pub fn add_vlan(&mut self, vlan: u16, n: i32) {
        add(&mut self.vlans, vlan.into(), n);
    }
}

fn add(counts: &mut Vec<u32>, index: usize, n: i32) {
    if index >= counts.len() {
        counts.resize(index + 1, 0);
    }
    counts[index] = counts[index].saturating_add_signed(n);
}
