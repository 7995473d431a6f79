//! What the switch does with the frames of the two, in the words of its own stages.

use vswitch_api::policy::Isolation;
use vswitch_api::view::{AclRuleView, PortView};
use vswitch_api::{PortKind, PortName};

use super::super::Finding;
use super::super::frames::vlan_of;
use super::super::picture::{Hop, Picture, Stopped};

/// What Ethernet carries (IEEE 802.3-2022 clause 3.2.7).
const USUAL_MTU: u32 = 1500;

/// The switch lets everything through that is said between them.
pub fn stopped(picture: &Picture) -> Option<Finding> {
    picture.failed_hops().find_map(|hop| {
        let stopped = hop.stopped.as_ref()?;
        Some(explain(picture, hop, stopped))
    })
}

fn explain(picture: &Picture, hop: &Hop, stopped: &Stopped) -> Finding {
    let port = &stopped.port;
    let what = &stopped.what;
    let evidence = format!("`trace` of {what} from {}: {}", stopped.ingress, stopped.detail);
    if let Some(found) = other_mac(picture, hop, stopped, &evidence) {
        return found;
    }
    let found = |cause: String, mend: String| Finding::new(cause, &evidence).mend(mend);
    let set = |name: &PortName, option: &str| format!("vswitchctl set port {name} {option}");
    match stopped.reason.as_deref() {
        Some(reason @ ("pin-mac" | "pin-ip" | "pin-arp" | "pin-nd" | "pin-router")) => {
            let what_pinned = if reason == "pin-mac" { "MAC" } else { "IP" };
            let option = match reason {
                "pin-mac" => "--pin-mac any",
                "pin-router" => "--allow-ra on",
                _ => "--pin-ip any",
            };
            let cause =
                format!("port {port} may not use its {what_pinned} address ({reason}): others are pinned to it");
            found(cause, set(port, option))
        }
        Some(reason) if reason.starts_with("acl") || reason.starts_with("unreadable") || reason.starts_with("tiny") => {
            let way = if reason.ends_with("out") { "out" } else { "in" };
            denied(picture, port, way, &evidence)
        }
        Some("isolated") => {
            let isolated = [&hop.from, &hop.to].into_iter().find(|name| {
                picture
                    .port(name)
                    .is_some_and(|view| view.port.isolation != Isolation::Promiscuous)
            });
            let cause = format!("{} and {} are isolated from each other", hop.from, hop.to);
            found(cause, set(isolated.unwrap_or(port), "--isolation promiscuous"))
        }
        Some("policed") => found(
            format!("the policer of port {port} drops what it sends"),
            format!("vswitchctl police clear {port}"),
        ),
        Some("storm") => found(
            format!("storm control of port {port} drops what would be flooded"),
            format!("vswitchctl storm clear {port}"),
        ),
        Some("locked") => locked(picture, hop, stopped, &evidence),
        Some("mac-limit") => found(
            format!("port {port} has more stations than its limit"),
            set(port, "--mac-limit 0"),
        ),
        Some("mirror-port") => {
            let mirror = picture
                .lab
                .mirrors
                .iter()
                .find(|mirror| mirror.to.as_ref() == Some(port));
            let mend = mirror.map_or_else(
                || "vswitchctl mirror list".to_owned(),
                |mirror| format!("vswitchctl mirror del {}", mirror.name),
            );
            found(
                format!("port {port} is the destination of a mirror, which carries copies only"),
                mend,
            )
        }
        Some("port-down" | "link-down") => found(format!("port {port} is down"), set(port, "--up")),
        Some("mtu" | "oversize") => found(
            format!("what is sent is longer than the MTU of port {port}"),
            longer(picture, hop, port),
        ),
        // It is behind the port from which it is sent to, by the table.
        Some("same-port") | None => elsewhere(picture, hop, stopped, &evidence),
        Some(reason) => {
            let cause = format!("the switch drops {what} at port {port} ({reason})");
            Finding::new(cause, format!("{evidence}; `vswitchctl port show {port}` counts them"))
        }
    }
}

/// The command by which a port takes packets as long as the other end sends.
fn longer(picture: &Picture, hop: &Hop, port: &PortName) -> String {
    let ends = picture.ends_of(hop).into_iter().flatten();
    let others = ends.filter(|(view, _)| view.port.name != *port);
    let mtu = others.map(|(_, link)| link.mtu).max().unwrap_or_default();
    let is_link = picture.port(port).is_some_and(|view| view.port.kind == PortKind::Link);
    let set = if is_link { "link set" } else { "set port" };
    format!("vswitchctl {set} {port} --mtu {}", mtu.max(USUAL_MTU))
}

/// One of the two sends from another MAC address than its own, or from that of a third, and is stopped for that.
fn other_mac(picture: &Picture, hop: &Hop, stopped: &Stopped, evidence: &str) -> Option<Finding> {
    let by_mac = ["locked", "mac-limit", "same-port", "pin-mac", "pin-arp", "pin-nd"];
    if !stopped.reason.as_deref().is_none_or(|reason| by_mac.contains(&reason)) {
        return None;
    }
    let both = || [&hop.from, &hop.to].into_iter().filter_map(|name| picture.port(name));
    let has = |view: &PortView| picture.link(&view.port).and_then(|link| link.mac()).or(view.port.mac);
    let was_changed = |view: &&PortView| {
        let wanted = picture.wanted(&view.port.name).and_then(|port| port.mac);
        wanted.is_some() && has(view) != wanted
    };
    let twins = || {
        both().find_map(|view| {
            let same = |other: &&PortView| {
                other.port.name != view.port.name
                    && other.port.switch == view.port.switch
                    && vlan_of(&other.port) == vlan_of(&view.port)
                    && has(other) == has(view)
            };
            has(view)?;
            Some((view, picture.ports.iter().find(same)?))
        })
    };
    let back = |view: &PortView| format!("vswitchctl set port {} --up", view.port.name);
    if let Some((one, two)) = twins() {
        let cause = format!(
            "ports {} and {} have the same MAC address",
            one.port.name, two.port.name
        );
        let changed = [one, two].into_iter().find(was_changed);
        let mend = changed.map_or_else(|| format!("vswitchctl set port {} mac=none", two.port.name), back);
        return Some(Finding::new(cause, evidence).mend(mend));
    }
    let view = both().find(was_changed)?;
    let (name, mac) = (&view.port.name, has(view)?);
    let wanted = picture.wanted(name)?.mac?;
    let cause = format!("port {name} has the MAC address {mac}, but was set to {wanted}");
    Some(Finding::new(cause, evidence).mend(back(view)))
}

/// A locked port takes frames of stations alone that were put behind it.
fn locked(picture: &Picture, hop: &Hop, stopped: &Stopped, evidence: &str) -> Finding {
    let port = &stopped.port;
    let cause = format!("port {port} is locked and does not know the station");
    let end = [&hop.from, &hop.to].into_iter().position(|name| name == port);
    let view = end.and_then(|_| picture.port(port));
    let mac = view.and_then(|view| picture.link(&view.port).and_then(|link| link.mac()).or(view.port.mac));
    let (Some(end), Some(view), Some(mac)) = (end, view, mac) else {
        return Finding::new(cause, evidence).mend(format!("vswitchctl set port {port} --locked off"));
    };
    let tag = picture.ends_of(hop)[end].and_then(|(_, link)| link.tag);
    let vlan = tag.or_else(|| vlan_of(&view.port));
    let vlan = vlan.map_or_else(String::new, |id| format!(" --vlan {id}"));
    let elsewhere = view.port.stations.iter().find(|station| station.mac == mac);
    let cause = match elsewhere.map(|station| station.vlan) {
        Some(Some(other)) => format!("{cause} in its VLAN, only in VLAN {other}"),
        Some(None) => format!("{cause} in its VLAN, only in none"),
        None => cause,
    };
    Finding::new(cause, evidence).mend(format!("vswitchctl fdb add {mac} {port}{vlan}"))
}

/// A rule that drops: of those that deny the one that has matched most.
fn denied(picture: &Picture, port: &PortName, way: &str, evidence: &str) -> Finding {
    let lists = picture.acls.get(port);
    let rules: &[AclRuleView] = lists.map_or(&[], |lists| if way == "in" { &lists.ingress } else { &lists.egress });
    let drops = |view: &AclRuleView| {
        let text = view.rule.to_string();
        text.starts_with("deny") || text.starts_with("police")
    };
    let rule = (1..)
        .zip(rules)
        .filter(|(_, view)| drops(view))
        .max_by_key(|(n, view)| (view.hits, usize::MAX - *n));
    match rule {
        Some((n, view)) => {
            let cause = format!(
                "an access list (ACL) of port {port} drops it on the way {way}: rule {n}, {}",
                view.rule
            );
            let evidence = format!("{evidence}; the rule has matched {} times", view.hits);
            Finding::new(cause, evidence).mend(format!("vswitchctl acl del {port} {way} {n}"))
        }
        None => Finding::new(
            format!("an access list (ACL) of port {port} drops it on the way {way}"),
            evidence,
        )
        .mend(format!("vswitchctl acl clear {port} {way}")),
    }
}

/// Whether two ports exchange nothing (RFC 5517).
fn are_apart(one: Isolation, two: Isolation) -> bool {
    match (one, two) {
        (Isolation::Promiscuous, _) | (_, Isolation::Promiscuous) => false,
        (Isolation::Community(one), Isolation::Community(two)) => one != two,
        _ => true,
    }
}

/// It is forwarded, but not to where the station is.
fn elsewhere(picture: &Picture, hop: &Hop, stopped: &Stopped, evidence: &str) -> Finding {
    let switch = picture.port(&stopped.ingress).map(|view| &view.port.switch);
    // The entry of one of the two that points to neither itself nor a link.
    for name in [&hop.to, &hop.from] {
        let Some(view) = picture.port(name) else { continue };
        let mac = picture.link(&view.port).and_then(|link| link.mac()).or(view.port.mac);
        let entry = picture.fdb.iter().find(|entry| {
            let leads_there = picture
                .port(&entry.port)
                .is_some_and(|port| port.port.kind == PortKind::Link);
            Some(entry.mac) == mac
                && Some(&entry.switch) == switch
                && entry.port != *name
                && !(leads_there && view.port.switch != entry.switch)
        });
        if let Some(entry) = entry {
            let kind = if entry.is_static {
                "a static FDB entry"
            } else {
                "the FDB"
            };
            let cause = format!("{kind} has {} ({name}) behind port {}", entry.mac, entry.port);
            let vlan = entry.vlan.map_or_else(String::new, |vlan| format!(" --vlan {vlan}"));
            let of_switch = format!(" --switch {}", entry.switch);
            return Finding::new(cause, evidence).mend(format!("vswitchctl fdb del {}{vlan}{of_switch}", entry.mac));
        }
    }
    let mut mirrors = picture.lab.mirrors.iter();
    let of_mirror = mirrors.find_map(|mirror| {
        let to = mirror.to.as_ref().filter(|to| [&hop.to, &hop.from].contains(to))?;
        Some((mirror, to))
    });
    if let Some((mirror, name)) = of_mirror {
        let cause = format!("port {name} is the destination of a mirror, which carries copies only");
        return Finding::new(cause, evidence).mend(format!("vswitchctl mirror del {}", mirror.name));
    }
    let (from, to) = (picture.port(&hop.from), picture.port(&hop.to));
    if let (Some(from), Some(to)) = (from, to)
        && are_apart(from.port.isolation, to.port.isolation)
    {
        let cause = format!("{} and {} are isolated from each other", hop.from, hop.to);
        let mend = format!("vswitchctl set port {} --isolation promiscuous", hop.to);
        return Finding::new(cause, evidence).mend(mend);
    }
    let flooding = [to, from].into_iter().flatten().find(|view| {
        let flooding = &view.port.flooding;
        !(flooding.broadcast && flooding.multicast && flooding.unknown_unicast)
    });
    if let Some(view) = flooding {
        let name = &view.port.name;
        let cause = format!("port {name} gets no floods, and so not {}", stopped.what);
        return Finding::new(cause, evidence).mend(format!("vswitchctl set port {name} --flood all"));
    }
    if let Some(found) = kept_by_link(picture, hop, stopped, evidence) {
        return found;
    }
    let ports: Vec<_> = stopped.goes_to.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() {
        "no port".to_owned()
    } else {
        ports.join(", ")
    };
    Finding::new(
        format!("{} does not come to {}: it goes to {ports}", stopped.what, hop.to),
        format!(
            "{evidence}; `vswitchctl trace {} --dst {}` shows each step",
            hop.from, hop.to
        ),
    )
}

/// Between two switches: a link takes nothing from the port by which it came into the switch, or no floods.
fn kept_by_link(picture: &Picture, hop: &Hop, stopped: &Stopped, evidence: &str) -> Option<Finding> {
    let at = picture.port(&stopped.ingress)?;
    let mut ends = [&hop.from, &hop.to].into_iter().filter_map(|name| picture.port(name));
    let is_here = |view: &&PortView| view.port.switch == at.port.switch && view.port.name != at.port.name;
    let (end, links) = (ends.find(is_here), picture.links().filter(is_here));
    // Where one of the two is, no other link is needed.
    let ways: Vec<_> = match end {
        Some(end) if at.port.kind == PortKind::Link => vec![end],
        Some(_) => return None,
        None => links.collect(),
    };
    let (from, found) = (&at.port.name, |cause: String| Finding::new(cause, evidence));
    ways.into_iter().find_map(|view| {
        let (name, flooding) = (&view.port.name, &view.port.flooding);
        if are_apart(at.port.isolation, view.port.isolation) {
            let cause = format!("{from} and {name} are isolated from each other");
            return Some(found(cause).mend(format!("vswitchctl set port {name} --isolation promiscuous")));
        }
        (!(flooding.broadcast && flooding.multicast && flooding.unknown_unicast)).then(|| {
            let cause = format!("port {name} gets no floods, and so not {}", stopped.what);
            found(cause).mend(format!("vswitchctl set port {name} --flood all"))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;

    #[test]
    fn each_reason_has_its_mend() {
        for (reason, mend) in [
            ("pin-arp", "vswitchctl set port red --pin-ip any"),
            ("pin-mac", "vswitchctl set port red --pin-mac any"),
            ("acl-in", "vswitchctl acl clear red in"),
            ("isolated", "vswitchctl set port red --isolation promiscuous"),
            ("storm", "vswitchctl storm clear red"),
            ("mtu", "vswitchctl set port red --mtu 1500"),
            ("locked", "vswitchctl fdb add 02:00:00:00:00:01 red"),
        ] {
            let mut picture = samples::healthy();
            picture.talks[0].answered = [false; 2];
            samples::stopped(&mut picture, reason);
            assert_eq!(
                super::stopped(&picture).unwrap().mend.as_deref(),
                Some(mend),
                "{reason}"
            );
        }
    }
}
