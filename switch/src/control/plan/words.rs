//! What is told of the steps of a plan, a line for each thing that they do.

use serde::Serialize;
use vswitch_api::difference::{SettingChange, difference};
use vswitch_api::lab::{DEFAULT_MTU, Route};
use vswitch_api::{Cable, DEFAULT_IFNAME, LabNamespace, Port};

use super::super::fdb::station;
use super::super::kinds::ifname;
use super::super::{text, traffic};
use super::changed;

pub(super) fn describe_namespace(before: &LabNamespace, after: &LabNamespace) -> Vec<String> {
    let name = &after.name;
    let mut lines = Vec::new();
    let gone = before.sysctls.keys().filter(|key| !after.sysctls.contains_key(*key));
    lines.extend(gone.map(|key| format!("set {key} of namespace {name} back to what it was")));
    let new = after
        .sysctls
        .iter()
        .filter(|(key, value)| before.sysctls.get(*key) != Some(value));
    lines.extend(new.map(|(key, value)| format!("set {key} of namespace {name} to {value}")));
    let gone = before.files.keys().filter(|file| !after.files.contains_key(*file));
    lines.extend(gone.map(|file| format!("removed /etc/netns/{name}/{file}")));
    let new = after
        .files
        .iter()
        .filter(|(file, text)| before.files.get(*file) != Some(text));
    lines.extend(new.map(|(file, _)| format!("wrote /etc/netns/{name}/{file}")));
    lines
}

pub(super) fn added(port: &Port) -> Vec<String> {
    let Port { name, switch, .. } = port;
    let mut lines = vec![format!("added port {name} ({}) to switch {switch}", place(port))];
    lines.extend(port.addresses.iter().map(|a| format!("gave port {name} address {a}")));
    lines.extend(
        port.routes
            .iter()
            .map(|r| format!("gave port {name} a {}", in_words(r))),
    );
    let stations = port.stations.iter();
    lines.extend(stations.map(|s| format!("set FDB entry {} behind port {name}", station(s))));
    lines
}

/// What the user is told of a port that is removed.
pub(in super::super) fn removed(port: &Port) -> String {
    format!("removed port {} from switch {}", port.name, port.switch)
}

fn place(port: &Port) -> String {
    let word = port.kind.word();
    match (&port.namespace, &port.peer) {
        (Some(namespace), _) => format!("{word}, {} in {}", ifname(port), text::in_words(namespace)),
        (None, Some(peer)) => format!("{word} to port {peer}"),
        (None, None) => format!("{word} {}", ifname(port)),
    }
}

pub(super) fn ends(cable: &Cable) -> String {
    let [a, b] = [&cable.a, &cable.b].map(|end| match &end.ifname {
        Some(ifname) => format!("{} ({ifname})", end.namespace),
        None => end.namespace.to_string(),
    });
    format!("{a} and {b}")
}

fn in_words(route: &Route) -> String {
    let via = route.via.map(|via| format!(" via {via}")).unwrap_or_default();
    match route.to.prefix_len() {
        0 => format!("default route{via}"),
        _ => format!("route to {}{via}", route.to),
    }
}

/// Settings whose changes are told in other words than those of the document: by their elements, or with units.
const WORDED: [&str; 7] = ["addresses", "impair", "mtu", "police", "routes", "stations", "storm"];

/// The lines of settings that differ.
pub(super) fn settings<T: Serialize>(before: &T, after: &T, object: &str) -> Vec<String> {
    in_lines(difference(before, after).into_iter(), object).collect()
}

fn in_lines(changes: impl Iterator<Item = SettingChange>, object: &str) -> impl Iterator<Item = String> {
    changes.flat_map(move |change| change.by_elements().lines(object))
}

pub(super) fn describe_change(before: &Port, after: &Port) -> Vec<String> {
    let name = &after.name;
    let mut lines = Vec::new();
    if before.mtu != after.mtu {
        let mtu = after.mtu.map_or("its default".to_owned(), |mtu| mtu.to_string());
        lines.push(format!("set MTU of port {name} to {mtu}"));
    }
    let worded = |change: &SettingChange| WORDED.contains(&change.key.split('.').next().unwrap_or_default());
    let plain = difference(before, after).into_iter().filter(|change| !worded(change));
    lines.extend(in_lines(plain, &format!("port {name}")));
    lines.extend(traffic::describe(before, after));
    let (gone, new) = changed(&before.addresses, &after.addresses);
    lines.extend(gone.map(|a| format!("took address {a} from port {name}")));
    lines.extend(new.map(|a| format!("gave port {name} address {a}")));
    let (gone, new) = changed(&before.routes, &after.routes);
    lines.extend(gone.map(|r| format!("took the {} from port {name}", in_words(r))));
    lines.extend(new.map(|r| format!("gave port {name} a {}", in_words(r))));
    let (gone, new) = changed(&before.stations, &after.stations);
    lines.extend(gone.map(|s| format!("removed FDB entry {}", station(s))));
    lines.extend(new.map(|s| format!("set FDB entry {} behind port {name}", station(s))));
    lines
}

/// What a change of a cable is, told for each end.
pub(super) fn describe_cable(before: &Cable, after: &Cable) -> Vec<String> {
    let mut lines = Vec::new();
    if before.mtu != after.mtu {
        let mtu = after.mtu.unwrap_or(DEFAULT_MTU);
        lines.push(format!("set MTU of the cable {} to {mtu}", ends(after)));
    }
    for (old, new) in [(&before.a, &after.a), (&before.b, &after.b)] {
        let interface = new.ifname.as_ref().map_or(DEFAULT_IFNAME, |name| name.as_str());
        let end = format!("{interface} in namespace {}", new.namespace);
        let (gone, given) = changed(&old.addresses, &new.addresses);
        lines.extend(gone.map(|address| format!("took address {address} from {end}")));
        lines.extend(given.map(|address| format!("gave {end} address {address}")));
        let (gone, given) = changed(&old.routes, &new.routes);
        lines.extend(gone.map(|route| format!("took the {} from {end}", in_words(route))));
        lines.extend(given.map(|route| format!("gave {end} a {}", in_words(route))));
    }
    lines
}
