//! Labs with the kernel fast path.

use vswitch_api::PortKind;
use vswitch_api::view::PortCounters;

use crate::lab::{Lab, fastpath_wanted};
use crate::require::missing;
use crate::station::Station;

/// A lab with so many veth stations `v1`, `v2`, ..., if it has the fast path.
pub fn lab_with(count: u8) -> Option<(Lab, Vec<Station>)> {
    if !fastpath_wanted() {
        return None;
    }
    let lab = Lab::new();
    let stations: Vec<_> = (1..=count)
        .map(|n| Station::add(&lab, &format!("v{n}"), PortKind::Veth, n))
        .collect();
    let limits = lab.status().limits;
    if limits.iter().any(|limit| limit.contains("fast path")) {
        missing("the kernel fast path", limits.join("; "));
        return None;
    }
    assert!(lab.ports().iter().all(|port| port.fastpath), "{:#?}", lab.ports());
    Some((lab, stations))
}

/// Counters of the port of a station.
pub fn counters(lab: &Lab, station: &Station) -> PortCounters {
    lab.port(&station.port).counters
}

/// Sum over all ports.
pub fn sum(lab: &Lab, of: impl Fn(&PortCounters) -> u64) -> u64 {
    lab.ports().iter().map(|port| of(&port.counters)).sum()
}
