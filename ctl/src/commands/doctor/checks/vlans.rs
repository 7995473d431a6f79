//! Ports and links carry the VLAN in which the two speak.

use vswitch_api::policy::{AcceptFrames, PortVlan, VlanId};
use vswitch_api::view::PortView;

use super::super::Finding;
use super::super::frames::{number, vlan_of};
use super::super::picture::Picture;

/// They are in one VLAN, and the links between carry it.
pub fn vlan(picture: &Picture) -> Option<Finding> {
    picture.failed_hops().find_map(|hop| {
        let stopped = hop.stopped.as_ref()?;
        let of_vlan = stopped.reason.as_ref().is_none_or(|reason| reason.starts_with("vlan-"));
        let (from, to) = (picture.port(&hop.from)?, picture.port(&hop.to)?);
        if !of_vlan {
            return None;
        }
        let tags = picture.ends_of(hop).map(|end| end.and_then(|(_, link)| link.tag));
        for (view, tag) in [from, to].into_iter().zip(tags) {
            if tag.is_none() && view.port.accept == AcceptFrames::Tagged {
                let name = &view.port.name;
                let cause = format!("port {name} accepts tagged frames only, and its stack sends frames without a tag");
                let mend = format!("vswitchctl set port {name} --accept all");
                return Some(Finding::new(cause, &stopped.detail).mend(mend));
            }
        }
        if let Some(sides) = translating(picture, from, to).filter(|_| tags == [None; 2]) {
            return [from, to]
                .into_iter()
                .zip(sides)
                .find_map(|(end, side)| of_side(end, side));
        }
        let of_ends = || of_ends(from, to).filter(|_| tags == [None; 2]);
        let id = tags[0].or_else(|| vlan_of(&from.port));
        of_ends()
            .or_else(|| of_links(picture, id?, from, to))
            .or_else(|| of_link_ends(picture, id, from, to))
            .or_else(|| of_bare_links(picture, id, from, to))
    })
}

/// The links near a port, where another is on another switch.
fn between<'a>(picture: &'a Picture, from: &PortView, to: &PortView) -> impl Iterator<Item = &'a PortView> {
    let near = match from.port.switch == to.port.switch {
        true => Vec::new(),
        false => picture.joined(&from.port.switch, false),
    };
    picture.links().filter(move |view| near.contains(&view.port.switch))
}

/// The two ends of the one link between the switches of two ports, where that leads from a VLAN of the one to another of the other.
fn translating<'a>(picture: &'a Picture, from: &PortView, to: &PortView) -> Option<[&'a PortView; 2]> {
    let joins = |view: &&PortView| view.port.switch == from.port.switch;
    let pairs = between(picture, from, to).filter(joins).filter_map(|view| {
        let peer = picture.port(view.port.peer.as_ref()?)?;
        (peer.port.switch == to.port.switch).then_some([view, peer])
    });
    let [[one, two]] = <[[&PortView; 2]; 1]>::try_from(Vec::from_iter(pairs)).ok()?;
    match (&one.port.vlan, &two.port.vlan) {
        (PortVlan::Access(a), PortVlan::Access(b)) if a != b => Some([one, two]),
        _ => None,
    }
}

/// A port is in the VLAN that a link leads from.
fn of_side(end: &PortView, side: &PortView) -> Option<Finding> {
    let (name, link, id) = (&end.port.name, &side.port.name, vlan_of(&side.port)?);
    (vlan_of(&end.port) != Some(id)).then(|| {
        let cause = format!("{name} is not in the VLAN of its switch that link {link} leads from");
        let evidence = format!("{}, {}", in_words(end), in_words(side));
        Finding::new(cause, evidence).mend(joining(end, id))
    })
}

/// The command by which a port is in a VLAN with what it sends without a tag.
fn joining(view: &PortView, id: VlanId) -> String {
    let name = &view.port.name;
    match &view.port.vlan {
        PortVlan::Trunk(trunk) => format!("vswitchctl set port {name} --trunk {} --native {id}", trunk.allowed),
        _ => format!("vswitchctl set port {name} --vlan {id}"),
    }
}

/// The first link whose ends both have a VLAN, where what the two say is in none.
fn of_bare_links(picture: &Picture, id: Option<VlanId>, from: &PortView, to: &PortView) -> Option<Finding> {
    let mut links = between(picture, from, to);
    let view = links.find(|view| id.is_none() && view.port.vlan != PortVlan::All)?;
    let name = &view.port.name;
    let cause = format!(
        "link {name} carries VLANs alone, and what {} says is in none",
        from.port.name
    );
    let evidence = format!("{}, {}", in_words(from), in_words(view));
    Some(Finding::new(cause, evidence).mend(format!("vswitchctl link set {name} --vlan all")))
}

/// The first link whose ends are not the same to what the two say in this VLAN, or in none.
fn of_link_ends(picture: &Picture, id: Option<VlanId>, from: &PortView, to: &PortView) -> Option<Finding> {
    between(picture, from, to).find_map(|view| {
        let peer = view.port.peer.as_ref().and_then(|peer| picture.port(peer))?;
        let (one, two) = (&view.port, &peer.port);
        // What has no VLAN passes those without a setting alone.
        let (model, other) = match (id, &one.vlan, &two.vlan) {
            (_, one, two) if one == two => return None,
            (None, _, PortVlan::All) => (two, one),
            _ => (one, two),
        };
        let mend = match &model.vlan {
            PortVlan::All => "--vlan all".to_owned(),
            PortVlan::Access(id) => format!("--vlan {id}"),
            PortVlan::Tunnel(id) => format!("--tunnel {id}"),
            PortVlan::Trunk(trunk) => {
                let native = trunk.native.map_or_else(String::new, |id| format!(" --native {id}"));
                format!("--trunk {}{native}", trunk.allowed)
            }
        };
        let cause = format!("the ends of link {} have other VLAN settings", one.name);
        let evidence = format!("{}, {}", in_words(view), in_words(peer));
        Some(Finding::new(cause, evidence).mend(format!("vswitchctl set port {} {mend}", other.name)))
    })
}

fn of_ends(from: &PortView, to: &PortView) -> Option<Finding> {
    let (one, two) = (vlan_of(&from.port), vlan_of(&to.port));
    let is_bare_trunk = |view: &PortView| matches!(view.port.vlan, PortVlan::Trunk(_)) && vlan_of(&view.port).is_none();
    if one == two && !is_bare_trunk(from) && !is_bare_trunk(to) {
        return None;
    }
    let evidence = format!("{}, {}", in_words(from), in_words(to));
    // The one that has a VLAN shows what is meant.
    let (model, other) = match (one, two) {
        (None, Some(_)) => (to, from),
        // Neither has one: it is the trunk that drops what has no tag.
        (None, None) if is_bare_trunk(from) => (to, from),
        _ => (from, to),
    };
    let mend = match vlan_of(&model.port) {
        Some(id) => joining(other, id),
        None => format!("vswitchctl set port {} --vlan all", other.port.name),
    };
    let cause = format!("{} and {} are not in the same VLAN", from.port.name, to.port.name);
    Some(Finding::new(cause, evidence).mend(mend))
}

/// The VLAN setting of a port. Between switches without VLANs and with them, what has no tag stays without one.
fn in_words(view: &PortView) -> String {
    match (&view.port.vlan, vlan_of(&view.port)) {
        (PortVlan::All, _) => format!("{} has no VLAN setting", view.port.name),
        (PortVlan::Access(_), Some(id)) => format!("{} is an access port of VLAN {id}", view.port.name),
        (PortVlan::Tunnel(_), Some(id)) => format!("{} is a tunnel port of VLAN {id}", view.port.name),
        (PortVlan::Trunk(trunk), Some(id)) => {
            format!(
                "{} is a trunk of VLANs {} with native VLAN {id}",
                view.port.name, trunk.allowed
            )
        }
        (PortVlan::Trunk(trunk), None) => {
            format!(
                "{} is a trunk of VLANs {} without a native one",
                view.port.name, trunk.allowed
            )
        }
        (_, None) => view.port.name.to_string(),
    }
}

/// The first end of a link that does not carry the VLAN of both.
fn of_links(picture: &Picture, id: VlanId, from: &PortView, to: &PortView) -> Option<Finding> {
    between(picture, from, to).find_map(|view| {
        let name = &view.port.name;
        let (carries, mend) = match &view.port.vlan {
            PortVlan::All => (true, String::new()),
            PortVlan::Trunk(trunk) => (
                trunk.allowed.contains(id) || trunk.native == Some(id),
                format!("vswitchctl set port {name} --trunk +{id}"),
            ),
            PortVlan::Access(own) | PortVlan::Tunnel(own) => {
                (*own == id, format!("vswitchctl set port {name} --trunk {own},{id}"))
            }
        };
        (!carries).then(|| {
            let evidence = format!(
                "both ends are in VLAN {}, {name} is in {}",
                number(id),
                words(&view.port.vlan)
            );
            Finding::new(format!("link {name} does not carry VLAN {id}"), evidence).mend(mend)
        })
    })
}

fn words(vlan: &PortVlan) -> String {
    match vlan {
        PortVlan::All => "all".to_owned(),
        PortVlan::Trunk(trunk) => trunk.allowed.to_string(),
        PortVlan::Access(id) | PortVlan::Tunnel(id) => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;

    #[test]
    fn vlans_that_differ_are_told_with_who_is_to_change() {
        let mut picture = samples::healthy();
        picture.talks[0].answered = [false; 2];
        samples::stopped(&mut picture, "vlan-filtered");
        assert_eq!(vlan(&picture), None);
        for (one, two, mend) in [
            (r#"{"access":10}"#, r#"{"access":20}"#, "blue --vlan 10"),
            (r#""all""#, r#"{"access":20}"#, "red --vlan 20"),
            (
                r#"{"access":10}"#,
                r#"{"trunk":{"allowed":"10,20"}}"#,
                "blue --trunk 10,20 --native 10",
            ),
        ] {
            picture.ports[0].port.vlan = serde_json::from_str(one).unwrap();
            picture.ports[1].port.vlan = serde_json::from_str(two).unwrap();
            let finding = vlan(&picture).unwrap();
            assert_eq!(finding.mend.as_deref(), Some(&*format!("vswitchctl set port {mend}")));
        }
    }
}
