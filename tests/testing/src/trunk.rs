//! Real TCP and UDP with VLAN tags.

use crate::bpf;
use crate::lab::Lab;
use crate::station::Station;

/// Makes all that a station sends tagged with VLAN 10, and all of VLAN 10 that it gets untagged, by two tc programs
/// (`tests/testing/bpf/tag.c`) at its interface: GSO frames stay whole. A frame with any other tag, or none, does not come to it.
pub fn tag(lab: &Lab, station: &Station) {
    attach(lab, station, ["push", "pop"]);
}

/// The same with a second tag inside, of VLAN 20. Here the station's own kernel cuts GSO frames.
pub fn tag_twice(lab: &Lab, station: &Station) {
    attach(lab, station, ["push_two", "pop_two"]);
}

/// The same with a service tag outside.
pub fn tag_as_provider(lab: &Lab, station: &Station) {
    attach(lab, station, ["push_service", "pop_service"]);
}

/// With one tag, of VLAN 20: what [`tag_as_provider`] has inside.
pub fn tag_as_customer(lab: &Lab, station: &Station) {
    attach(lab, station, ["push_inner", "pop_inner"]);
}

/// Takes the programs away again.
pub fn untag(station: &Station) {
    let line = format!("tc qdisc del dev {} clsact", station.ifname);
    station.place.run_ok(&line);
}

fn attach(lab: &Lab, station: &Station, sections: [&str; 2]) {
    let object = bpf::build(lab, "tag.c");
    let (place, ifname, object) = (&station.place, &station.ifname, object.display());
    place.run_ok(&format!("tc qdisc add dev {ifname} clsact"));
    for (hook, section) in ["egress", "ingress"].into_iter().zip(sections) {
        place.run_ok(&format!(
            "tc filter add dev {ifname} {hook} bpf da obj {object} sec {section}"
        ));
    }
}
