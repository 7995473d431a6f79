//! VLAN devices on the interfaces of ports (802.1Q): they are up, their ports give them their frames, and both ends are in one VLAN.

use vswitch_api::policy::{AcceptFrames, PortVlan, TagKind, VlanId, VlanSet};
use vswitch_api::view::PortView;

use super::super::Finding;
use super::super::frames::vlan_of;
use super::super::inside::Link;
use super::super::picture::{End, Picture, run_in};

/// The VLAN devices that what was said in vain is to pass, each with its port and VLAN.
fn devices(picture: &Picture) -> Vec<(&PortView, &Link, VlanId)> {
    let mut found = Vec::new();
    for talk in picture.failed() {
        let ips = [talk.from, talk.to];
        for (view, ip) in picture.both().zip(ips) {
            found.extend(picture.leg_with(&view.port, ip).map(|link| (view, link)));
        }
        for (walk, to) in talk.walks.iter().zip([talk.to, talk.from]) {
            found.extend(walk.hops.iter().flat_map(|hop| picture.ends_of(hop)).flatten());
            // The routes of one that is down are gone.
            if let Some(End::NoRoute { port, .. }) = &walk.end {
                let of_stack = picture.port(port).and_then(|view| view.stack()).map(|stack| {
                    picture
                        .ports
                        .iter()
                        .filter(move |view| view.stack().as_ref() == Some(&stack))
                });
                for view in of_stack.into_iter().flatten() {
                    let legs = picture.legs(&view.port).into_iter();
                    let mut legs = legs.filter(|link| link.addresses.iter().any(|address| address.subnet_has(to)));
                    found.extend(legs.next().map(|link| (view, link)));
                }
            }
        }
    }
    let with_tag = found.into_iter();
    with_tag
        .filter_map(|(view, link)| Some((view, link, link.tag?)))
        .collect()
}

/// They are up.
pub fn down(picture: &Picture) -> Option<Finding> {
    let (view, link, _) = devices(picture).into_iter().find(|(_, link, _)| !link.has("UP"))?;
    let (name, dev) = (&view.port.name, &link.name);
    let cause = format!("VLAN device {dev} of port {name} is down");
    let evidence = format!("`ip link show {dev}` says <{}>", link.flags.join(","));
    let mend = run_in(&view.port, &format!("ip link set {dev} up"));
    Some(Finding::new(cause, evidence).mend(mend))
}

/// The port gives them frames of their VLAN, with the tag that they want, and takes such frames.
pub fn carried(picture: &Picture) -> Option<Finding> {
    devices(picture)
        .into_iter()
        .find_map(|(view, link, id)| not_carried(view, link, id))
}

fn not_carried(view: &PortView, link: &Link, id: VlanId) -> Option<Finding> {
    let (name, dev) = (&view.port.name, &link.name);
    let wants = format!("`ip -d link show {dev}` says vlan protocol 802.1Q id {id}");
    let set = |options: String| format!("vswitchctl set port {name} {options}");
    if view.port.accept == AcceptFrames::Untagged {
        let cause =
            format!("port {name} accepts untagged frames only, and its VLAN device {dev} sends frames with a tag");
        return Some(Finding::new(cause, wants).mend(set("--accept all".to_owned())));
    }
    match &view.port.vlan {
        PortVlan::All => None,
        PortVlan::Trunk(trunk) if trunk.tag == TagKind::Service => {
            let cause = format!("port {name} tags frames by 802.1ad, and its VLAN device {dev} by 802.1Q");
            Some(Finding::new(cause, wants).mend(set(format!("--trunk {}", with(&trunk.allowed, id)))))
        }
        PortVlan::Trunk(trunk) if trunk.native == Some(id) => {
            let cause = format!(
                "VLAN {id} is the native one of port {name}, so that {dev} gets none of its frames: they have no tag"
            );
            Some(Finding::new(cause, wants).mend(set(format!("--trunk {}", with(&trunk.allowed, id)))))
        }
        PortVlan::Trunk(trunk) if trunk.allowed.contains(id) => None,
        PortVlan::Trunk(trunk) => {
            let cause = format!("port {name} does not carry VLAN {id}, in which its VLAN device {dev} is");
            let evidence = format!("{wants}, and {name} is a trunk of VLANs {}", trunk.allowed);
            Some(Finding::new(cause, evidence).mend(set(format!("--trunk +{id}"))))
        }
        PortVlan::Access(own) | PortVlan::Tunnel(own) => {
            let cause = format!(
                "the frames of port {name} have no tag, and its VLAN device {dev} takes and sends such with the tag {id}"
            );
            let evidence = format!("{wants}, and {name} is in VLAN {own} alone");
            let options = match *own == id {
                true => format!("--trunk {id}"),
                false => format!("--trunk {own},{id} --native {own}"),
            };
            Some(Finding::new(cause, evidence).mend(set(options)))
        }
    }
}

/// A list with one more. A list without a sign makes a new trunk, of customers' tags and without a native VLAN.
fn with(allowed: &VlanSet, id: VlanId) -> String {
    match allowed.contains(id) {
        true => allowed.to_string(),
        false => format!("{allowed},{id}"),
    }
}

/// Both ends of a link are in the VLAN of the one.
pub fn apart(picture: &Picture) -> Option<Finding> {
    picture.failed_hops().find_map(|hop| {
        let [Some((from, one)), Some((to, two))] = picture.ends_of(hop) else {
            return None;
        };
        let vlan = |view: &PortView, link: &Link| link.tag.or_else(|| vlan_of(&view.port));
        if (one.tag.is_none() && two.tag.is_none()) || vlan(from, one) == vlan(to, two) {
            return None;
        }
        let words = |view: &PortView, link: &Link| match (link.tag, vlan_of(&view.port)) {
            (Some(id), _) => format!("{} of {} is in VLAN {id}", link.name, view.port.name),
            (None, Some(id)) => format!("{} of {} is in VLAN {id} by its port", link.name, view.port.name),
            (None, None) => format!("{} of {} is in none", link.name, view.port.name),
        };
        let cause = format!("{} and {} are not in the same VLAN", hop.from, hop.to);
        let found = Finding::new(cause, format!("{}, {}", words(from, one), words(to, two)));
        // The one whose port says so can be told another.
        let (id, other) = match (one.tag, two.tag) {
            (Some(id), None) => (id, to),
            (None, Some(id)) => (id, from),
            _ => return Some(found),
        };
        let options = match &other.port.vlan {
            PortVlan::Trunk(trunk) => format!("--trunk {} --native {id}", trunk.allowed),
            _ => format!("--vlan {id}"),
        };
        Some(found.mend(format!("vswitchctl set port {} {options}", other.port.name)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    fn unanswered(tag: &str, red: &str, blue: &str) -> Picture {
        let mut picture = samples::healthy();
        picture.talks[0].answered = [false; 2];
        samples::vlan_device(&mut picture, "blue", tag);
        picture.ports[0].port.vlan = serde_json::from_str(red).unwrap();
        picture.ports[1].port.vlan = serde_json::from_str(blue).unwrap();
        picture
    }

    #[test]
    fn what_is_right_is_not_told() {
        for (red, blue) in [
            (r#"{"access":10}"#, r#"{"trunk":{"allowed":"10,20"}}"#),
            (r#"{"access":10}"#, r#""all""#),
            (
                r#"{"trunk":{"allowed":"10,20","native":10}}"#,
                r#"{"trunk":{"allowed":"10,20","native":20}}"#,
            ),
        ] {
            let picture = unanswered("10", red, blue);
            assert_eq!(
                (down(&picture), carried(&picture), apart(&picture)),
                (None, None, None),
                "{red} {blue}"
            );
        }
    }

    #[test]
    fn ports_that_do_not_carry_the_vlan_are_told() {
        for (blue, mend) in [
            (r#"{"trunk":{"allowed":"20,30"}}"#, "blue --trunk +10"),
            (r#"{"trunk":{"allowed":"10,20","native":10}}"#, "blue --trunk 10,20"),
            (r#"{"access":10}"#, "blue --trunk 10"),
            (r#"{"access":20}"#, "blue --trunk 20,10 --native 20"),
        ] {
            let picture = unanswered("10", r#"{"access":10}"#, blue);
            let found = carried(&picture).unwrap();
            assert!(found.cause.contains("eth0.10"), "{found:?}");
            assert_eq!(found.mend.as_deref(), Some(&*format!("vswitchctl set port {mend}")));
        }
    }

    #[test]
    fn ends_in_other_vlans_and_devices_that_are_down_are_told() {
        let trunk = r#"{"trunk":{"allowed":"10,20"}}"#;
        let mut picture = unanswered("10", r#"{"access":20}"#, trunk);
        assert_eq!(
            apart(&picture).unwrap().mend.as_deref(),
            Some("vswitchctl set port red --vlan 10")
        );
        picture.ports[0].port.vlan = serde_json::from_str(trunk).unwrap();
        samples::vlan_device(&mut picture, "red", "20");
        assert_eq!(apart(&picture).unwrap().mend, None);
        let stack = picture.ports[1].stack();
        let inside = picture.inside.get_mut(&stack).unwrap();
        inside.links[1].flags.clear();
        let found = down(&picture).unwrap();
        assert_eq!(
            found.mend.as_deref(),
            Some("vswitchctl ns exec blue ip link set eth0.10 up")
        );
    }
}
