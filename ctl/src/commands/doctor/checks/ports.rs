//! Ports, links between switches, and what their wires do to frames.

use vswitch_api::traffic::Share;
use vswitch_api::view::{MissingAs, PortState, PortView};
use vswitch_api::{Engine, Namespace, PortKind, PortName, Stands};

use super::super::Finding;
use super::super::inside::Link;
use super::super::picture::{Picture, run_in};
use crate::commands::exec;

/// Both are up, and the ports of routers between.
pub fn state(picture: &Picture) -> Option<Finding> {
    picture.passed().into_iter().find_map(|view| of_state(picture, view))
}

fn of_state(picture: &Picture, view: &PortView) -> Option<Finding> {
    let name = &view.port.name;
    let reason = view
        .reason
        .clone()
        .unwrap_or_else(|| format!("its state is {}", view.state.as_str()));
    let up = mend_of(view);
    let found = |cause: String, mend: String| Some(Finding::new(cause, &reason).mend(mend));
    match view.state {
        // The daemon may not have seen it yet.
        PortState::Up if is_inside(view) && view.moved_to.is_none() && picture.stack(&view.port).is_none() => {
            gone(picture, view)
        }
        PortState::Up => None,
        PortState::Down => found(format!("port {name} is set down"), up),
        PortState::Shut => found(format!("port {name} is shut by the switch"), up),
        PortState::Missing => gone(picture, view),
        PortState::NoCarrier if view.port.kind == PortKind::Link => {
            found(format!("the other end of link {name} is down"), up)
        }
        PortState::NoCarrier => {
            let ifname = picture.ifname(&view.port);
            let command = format!("ip link set {ifname} up");
            found(
                format!("interface {ifname} of port {name} is down"),
                run_in(&view.port, &command),
            )
        }
        PortState::Attaching => found(not_yet(name), up),
        // One of a newer daemon.
        _ => None,
    }
}

/// Of one that the daemon gets to soon.
pub fn not_yet(name: &PortName) -> String {
    format!("port {name} is not attached yet: the daemon has just started")
}

fn is_inside(view: &PortView) -> bool {
    view.port.kind.stands() == Stands::InNamespace
}

/// What the port leads to is not there.
fn gone(picture: &Picture, view: &PortView) -> Option<Finding> {
    let name = &view.port.name;
    if let Some(error) = view.stack().and_then(|stack| picture.shut_off.get(&Some(stack))) {
        let cause = format!("the namespace of port {name} can't be entered: {}", error.cause);
        return Some(Finding::new(
            cause,
            error.hint.as_deref().unwrap_or("it is there, and no namespace"),
        ));
    }
    let namespace = view
        .port
        .namespace
        .as_ref()
        .filter(|_| picture.stack(&view.port).is_none());
    let reason = || view.reason.clone().unwrap_or_else(|| "its state is missing".to_owned());
    Some(match namespace {
        Some(namespace) if namespace.name().is_none() => {
            Finding::new(format!("port {name} is missing: {namespace} is gone"), reason()).mend(give_back(view))
        }
        Some(namespace) => {
            let cause = format!("port {name} is missing: namespace {namespace} is gone");
            let file = exec::file_of(&namespace.to_string());
            Finding::new(cause, format!("there is no {}", file.display()))
                .mend(format!("vswitchctl ns add {namespace}"))
        }
        None if view.missing_as == Some(MissingAs::NameTaken) => {
            let cause = format!("port {name} is missing: another interface has the name of its own");
            Finding::new(cause, reason()).mend(give_back(view))
        }
        None => {
            let cause = format!("port {name} is missing: its interface is gone");
            Finding::new(cause, reason()).mend(give_back(view))
        }
    })
}

/// The command that has a port carry frames again, as far as can be told by its state and the reason for it.
pub fn mend_of(view: &PortView) -> String {
    let name = &view.port.name;
    match view.state {
        PortState::Missing => give_back(view),
        PortState::Attaching => "vswitchctl status".to_owned(),
        // Its other end with it.
        _ if view.port.kind == PortKind::Link => format!("vswitchctl link set {name} --up"),
        _ => format!("vswitchctl set port {name} --up"),
    }
}

/// The same of one that is missing, by why it is.
fn give_back(view: &PortView) -> String {
    let name = &view.port.name;
    let remove = format!("vswitchctl del-port {name}");
    match (&view.port.namespace, view.missing_as) {
        // What is not there, and not ours to make, comes back by itself or not at all.
        (Some(Namespace::Path(_)), _) => remove,
        (None, Some(MissingAs::NoInterface)) if view.port.kind == PortKind::Device => remove,
        // A process does not come back, and another may have its number; of which image a container was nobody knows.
        (_, Some(MissingAs::ProcessEnded | MissingAs::NoContainer)) => remove,
        (_, Some(MissingAs::NameTaken)) => match &view.port.ifname {
            // No other port is called so.
            Some(ifname) if ifname.as_str() != name.as_str() => format!("vswitchctl set port {name} --name {name}"),
            _ => remove,
        },
        (Some(Namespace::Container(container)), why) if why != Some(MissingAs::NoInterface) => {
            let engine = container.engine().unwrap_or(match why {
                Some(MissingAs::PodmanStopped) => Engine::Podman,
                _ => Engine::Docker,
            });
            format!("{engine} start {}", container.bare())
        }
        (Some(namespace), Some(MissingAs::NoNamespace)) => format!("vswitchctl ns add {namespace}"),
        _ => format!("vswitchctl set port {name} --up"),
    }
}

/// The interfaces are up and speak ARP.
pub fn interface(picture: &Picture) -> Option<Finding> {
    picture.passed().into_iter().find_map(|view| {
        let link = picture.link(&view.port)?;
        let (name, ifname) = (&view.port.name, &link.name);
        let flags = format!("`ip link show {ifname}` says <{}>", link.flags.join(","));
        if !link.has("UP") {
            let cause = format!("interface {ifname} of port {name} is down");
            let mend = run_in(&view.port, &format!("ip link set {ifname} up"));
            return Some(Finding::new(cause, flags).mend(mend));
        }
        link.has("NOARP").then(|| {
            let cause = format!("interface {ifname} of port {name} does no ARP");
            let mend = run_in(&view.port, &format!("ip link set {ifname} arp on"));
            Finding::new(cause, flags.clone()).mend(mend)
        })
    })
}

/// The stacks get what comes to them.
pub fn bridged(picture: &Picture) -> Option<Finding> {
    picture.failed().next()?;
    picture.passed().into_iter().find_map(|view| {
        let link = picture.link(&view.port)?;
        let (name, ifname, bridge) = (&view.port.name, &link.name, link.bridge.as_ref()?);
        let cause = format!("interface {ifname} of port {name} is a port of bridge {bridge}, which takes what comes");
        let evidence = format!("`ip link show {ifname}` says master {bridge}");
        let mend = run_in(&view.port, &format!("ip link set {ifname} nomaster"));
        Some(Finding::new(cause, evidence).mend(mend))
    })
}

/// Their switches are joined.
pub fn joined(picture: &Picture) -> Option<Finding> {
    picture.failed_hops().find_map(|hop| {
        let (from, to) = (picture.port(&hop.from)?, picture.port(&hop.to)?);
        let (one, two) = (&from.port.switch, &to.port.switch);
        (!picture.joined(one, false).contains(two)).then(|| {
            Finding::new(
                format!("switches {one} and {two} are not joined"),
                format!(
                    "{} is a port of switch {one}, {} of switch {two}, and no link leads from the one to the other",
                    hop.from, hop.to
                ),
            )
            .mend(format!("vswitchctl link add {one} {two}"))
        })
    })
}

/// The links that join them are up.
pub fn link(picture: &Picture) -> Option<Finding> {
    picture.failed_hops().find_map(|hop| {
        let (from, to) = (picture.port(&hop.from)?, picture.port(&hop.to)?);
        if picture.joined(&from.port.switch, true).contains(&to.port.switch) {
            return None;
        }
        // The end that is set down itself rather than the other that notices.
        let mut links: Vec<_> = picture.on_the_way();
        links.retain(|view| view.port.kind == PortKind::Link);
        links.sort_by_key(|view| view.state == PortState::NoCarrier);
        links.into_iter().find_map(|view| of_state(picture, view))
    })
}

/// No wire loses all frames on purpose.
pub fn loses_all(picture: &Picture) -> Option<Finding> {
    losing(picture, |loss| *loss == Share::ALL)
}

/// No wire loses some on purpose. It does not explain that no packet arrives where something else does.
pub fn loss(picture: &Picture) -> Option<Finding> {
    losing(picture, |loss| !loss.is_none())
}

fn losing(picture: &Picture, is_meant: impl Fn(&Share) -> bool) -> Option<Finding> {
    picture.on_the_way().into_iter().find_map(|view| {
        let impair = &view.port.impair;
        let ways = [("in", &impair.inward), ("out", &impair.outward)];
        ways.into_iter().find_map(|(way, settings)| {
            let settings = settings.as_ref().filter(|settings| is_meant(&settings.loss))?;
            let name = &view.port.name;
            Some(
                Finding::new(
                    format!(
                        "impairment of port {name} loses {} of the frames on their way {way}",
                        settings.loss
                    ),
                    format!("`vswitchctl impair show {name}` says {settings}"),
                )
                .mend(format!("vswitchctl impair clear {name}")),
            )
        })
    })
}

/// No wire is so slow, or spoils so much, that no answer comes, where nothing else is seen to stop it.
pub fn wire(picture: &Picture) -> Option<Finding> {
    picture.failed().next()?;
    picture.on_the_way().into_iter().find_map(|view| {
        let impair = &view.port.impair;
        let ways = [("in", &impair.inward), ("out", &impair.outward)];
        let (way, settings) = ways.into_iter().find_map(|(way, one)| Some((way, one.as_ref()?)))?;
        let name = &view.port.name;
        let cause =
            format!("no answer comes in time, and the wire of port {name} is impaired on the way {way}: {settings}");
        let evidence = format!("`vswitchctl impair show {name}`; nothing else is seen to be wrong");
        Some(Finding::new(cause, evidence).mend(format!("vswitchctl impair clear {name}")))
    })
}

/// Packets of one end are not too long for the other, or for a link between.
pub fn mtu(picture: &Picture) -> Option<Finding> {
    let mut both = picture.both();
    let (from, to) = (both.next()?, both.next()?);
    // Behind a router each link may have its own.
    let direct = |talk: &super::super::picture::Talk| talk.walks.iter().all(|walk| walk.hops.len() == 1);
    if picture.talks.is_empty() || !picture.talks.iter().all(direct) {
        return None;
    }
    let hop = picture.talks.first()?.walks.first()?.hops.first()?;
    let [Some((_, one)), Some((_, two))] = picture.ends_of(hop) else {
        return None;
    };
    if one.mtu != two.mtu {
        let (short, link, long) = if one.mtu < two.mtu {
            (from, one, two.mtu)
        } else {
            (to, two, one.mtu)
        };
        let (name, dev) = (&short.port.name, &link.name);
        // A VLAN device has no more than what it lies on.
        let below = picture.link(&short.port).is_some_and(|own| own.mtu >= long);
        let mend = match link.tag {
            Some(_) if below => run_in(&short.port, &format!("ip link set {dev} mtu {long}")),
            _ => format!("vswitchctl set port {name} --mtu {long}"),
        };
        let words = |view: &PortView, link: &Link| match link.tag {
            Some(_) => format!("{} of {} has {}", link.name, view.port.name, link.mtu),
            None => format!("{} has {}", view.port.name, link.mtu),
        };
        return Some(
            Finding::new(
                "the MTU of both ends differs, so that long packets are dropped",
                format!("{}, {}", words(from, one), words(to, two)),
            )
            .mend(mend),
        );
    }
    let links = picture
        .on_the_way()
        .into_iter()
        .filter(|view| view.port.kind == PortKind::Link);
    links
        .filter(|view| view.port.mtu.is_some_and(|mtu| mtu < one.mtu))
        .map(|view| {
            let name = &view.port.name;
            Finding::new(
                format!("the MTU of link {name} is below that of the two ends"),
                format!("it has {}, they have {}", view.port.mtu.unwrap_or_default(), one.mtu),
            )
            .mend(format!("vswitchctl link set {name} --mtu {}", one.mtu))
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::super::super::samples;
    use super::*;
    use serde_json::json;
    use vswitch_api::view::Stack;

    #[test]
    fn each_state_has_its_mend() {
        for (state, cause, mend) in [
            (PortState::Down, "is set down", "vswitchctl set port blue --up"),
            (PortState::Shut, "is shut", "vswitchctl set port blue --up"),
            (
                PortState::NoCarrier,
                "eth0",
                "vswitchctl ns exec blue ip link set eth0 up",
            ),
        ] {
            let mut picture = samples::healthy();
            picture.ports[1].state = state;
            let finding = super::state(&picture).unwrap();
            assert!(finding.cause.contains(cause), "{finding:?}");
            assert_eq!(finding.mend.as_deref(), Some(mend));
        }
        let mut picture = samples::healthy();
        picture.ports[1].state = PortState::Missing;
        picture.inside.remove(&Some(Stack::Name("blue".parse().unwrap())));
        assert_eq!(
            super::state(&picture).unwrap().mend.as_deref(),
            Some("vswitchctl ns add blue")
        );
    }

    /// It goes by the word alone: the reason is for people.
    #[test]
    fn what_is_missing_has_a_mend_by_why_it_is() {
        let mend = |namespace: serde_json::Value, why: &str| {
            let mut view = samples::healthy().ports[1].clone();
            view.state = PortState::Missing;
            view.reason = Some("in other words".to_owned());
            view.port.namespace = Some(serde_json::from_value(namespace).unwrap());
            view.missing_as = Some(serde_json::from_value(why.into()).unwrap());
            mend_of(&view)
        };
        for (namespace, why, expected) in [
            ("blue".into(), "no-namespace", "vswitchctl ns add blue"),
            ("blue".into(), "no-interface", "vswitchctl set port blue --up"),
            ("blue".into(), "name-taken", "vswitchctl set port blue --name blue"),
            ("blue".into(), "other", "vswitchctl set port blue --up"),
            ("blue".into(), "of-a-newer-daemon", "vswitchctl set port blue --up"),
            (json!({ "pid": 7 }), "process-ended", "vswitchctl del-port blue"),
            (
                json!({ "container": "web" }),
                "no-container",
                "vswitchctl del-port blue",
            ),
            (json!({ "container": "web" }), "podman-stopped", "podman start web"),
            (json!({ "container": "web" }), "docker-stopped", "docker start web"),
            (json!({ "container": "podman:web" }), "other", "podman start web"),
            (
                json!({ "container": "web" }),
                "no-interface",
                "vswitchctl set port blue --up",
            ),
        ] {
            assert_eq!(mend(namespace, why), expected, "{why}");
        }
    }

    #[test]
    fn switches_without_a_link_are_not_joined() {
        let mut picture = samples::healthy();
        picture.ports[1].port.switch = "sw2".parse().unwrap();
        picture.talks[0].answered = [false; 2];
        assert_eq!(
            joined(&picture).unwrap().mend.as_deref(),
            Some("vswitchctl link add main sw2")
        );
    }

    #[test]
    fn losses_and_lengths_are_told() {
        let mut picture = samples::healthy();
        samples::link(&mut picture, "blue").mtu = 1400;
        assert_eq!(
            mtu(&picture).unwrap().mend.as_deref(),
            Some("vswitchctl set port blue --mtu 1500")
        );
        picture.ports[0].port.impair = serde_json::from_value(serde_json::json!({"in": {"loss": "30%"}})).unwrap();
        assert!(loss(&picture).unwrap().cause.contains("30%"));
    }
}
