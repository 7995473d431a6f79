//! Real TCP and UDP over a trunk port.

use std::path::PathBuf;
use std::process::Command;

use crate::lab::Lab;
use crate::station::Station;

/// Makes all that a station sends tagged with VLAN 10, and all of VLAN 10 that it gets untagged, by two tc programs
/// (`tests/bpf/tag.c`) at its interface: GSO frames stay whole. A frame with any other tag, or none, does not come to it.
///
/// # Panics
/// Without clang, which builds the kernel fast path too.
pub fn tag(lab: &Lab, station: &Station) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bpf/tag.c");
    let object = lab.scratch().join("tag.o");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let built = Command::new(clang)
        .args(["-O2", "-Wall", "-target", "bpf", "-c"])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg(source)
        .arg("-o")
        .arg(&object)
        .status();
    assert!(built.expect("clang").success(), "clang can't build tag.c");
    let (place, ifname, object) = (&station.place, &station.ifname, object.display());
    place.run_ok(&format!("tc qdisc add dev {ifname} clsact"));
    for (hook, section) in [("egress", "push"), ("ingress", "pop")] {
        place.run_ok(&format!(
            "tc filter add dev {ifname} {hook} bpf da obj {object} sec {section}"
        ));
    }
}
