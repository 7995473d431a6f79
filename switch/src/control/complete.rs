//! Fills in what a lab leaves open: the switch that is always there, the namespace of a port, MAC addresses, and the
//! interface names of cables. What was chosen once stays: it is taken from the lab as it was before.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::Hash;

use vswitch_api::{
    Cable, CableEnd, DEFAULT_IFNAME, DEFAULT_SWITCH, IfName, Lab, Mac, Namespace, Port, Route, Stands, Switch,
    SwitchName,
};

use super::kinds::ifname;
use super::lasting;

/// Names of interfaces that a namespace has already, by namespace.
pub(super) type Interfaces = BTreeMap<Namespace, BTreeSet<String>>;

/// The switch that is always there.
pub(super) fn main_switch() -> SwitchName {
    #[expect(clippy::unwrap_used, reason = "the constant is a valid name")]
    DEFAULT_SWITCH.parse().unwrap()
}

/// Completes `lab`, which is to follow on `before`.
pub(super) fn complete(lab: &mut Lab, before: &Lab, salt: u64, interfaces: &Interfaces) {
    if !lab.switches.iter().any(|s| s.name == main_switch()) {
        lab.switches.insert(0, Switch::new(main_switch()));
    }
    lab.lay_links();
    for port in &mut lab.ports {
        if is_inside(port) {
            port.namespace = port.own_namespace();
        }
    }
    for switch in &mut lab.switches {
        switch.vlan_limit = switch.vlan_limit.filter(|limit| *limit > 0);
    }
    super::traffic::complete(lab);
    for port in &mut lab.ports {
        Route::imply_onlink(&mut port.routes, &port.addresses);
    }
    for end in lab.cables.iter_mut().flat_map(|cable| [&mut cable.a, &mut cable.b]) {
        Route::imply_onlink(&mut end.routes, &end.addresses);
    }
    lab.leave_out_repeated();
    keep_cables(&mut lab.cables, &before.cables);
    name_ports(lab, before, interfaces);
    name_cable_ends(lab, interfaces);
    choose_macs(lab, before, salt);
}

fn choose_macs(lab: &mut Lab, before: &Lab, salt: u64) {
    let kept: BTreeMap<_, _> = before
        .ports
        .iter()
        .filter_map(|p| Some(((&p.name, &p.switch), p.mac?)))
        .collect();
    for port in lab.ports.iter_mut().filter(|p| p.kind.has_stack() && p.mac.is_none()) {
        port.mac = kept.get(&(&port.name, &port.switch)).copied();
    }
    let mut taken: HashSet<Mac> = lab
        .ports
        .iter()
        .filter_map(|p| p.mac)
        .chain(ends(lab).filter_map(|e| e.mac))
        .collect();
    for port in lab.ports.iter_mut().filter(|p| p.kind.has_stack() && p.mac.is_none()) {
        port.mac = Some(free_mac(salt, &(port.switch.as_str(), port.name.as_str()), &mut taken));
    }
    for end in lab
        .cables
        .iter_mut()
        .flat_map(|c| [&mut c.a, &mut c.b])
        .filter(|e| e.mac.is_none())
    {
        let label = (end.namespace.as_str(), end.ifname.as_ref().map(IfName::as_str));
        end.mac = Some(free_mac(salt, &label, &mut taken));
    }
}

/// The address that a port of the lab gets if none is said.
pub(super) fn chosen_mac(lab: &Lab, salt: u64, port: &Port) -> Mac {
    let others = lab.ports.iter().filter(|other| other.name != port.name);
    let mut taken = others
        .filter_map(|other| other.mac)
        .chain(ends(lab).filter_map(|end| end.mac))
        .collect();
    free_mac(salt, &(port.switch.as_str(), port.name.as_str()), &mut taken)
}

/// A locally administered address (IEEE 802-2014 clause 8.2) that nobody of the lab has: the same for the same name.
fn free_mac(salt: u64, label: &impl Hash, taken: &mut HashSet<Mac>) -> Mac {
    let mut attempt = 0u32;
    loop {
        let [a, b, c, ..] = lasting::number(&(salt, label, attempt)).to_be_bytes();
        let mac = Mac([0x02, 0x76, 0x73, a, b, c]);
        if taken.insert(mac) {
            return mac;
        }
        attempt += 1;
    }
}

fn ends(lab: &Lab) -> impl Iterator<Item = &CableEnd> {
    lab.cables.iter().flat_map(|c| [&c.a, &c.b])
}

/// Namespaces where [`complete`] may have to look for a free name: more than one interface is to be there, and one of them has
/// no name yet. `lab` is not complete yet.
pub(super) fn namespaces_to_name_in(lab: &Lab) -> Vec<Namespace> {
    let mut users: BTreeMap<Namespace, (usize, bool)> = BTreeMap::new();
    let mut uses = |namespace: Namespace, nameless: bool| {
        let (count, open) = users.entry(namespace).or_default();
        *count += 1;
        *open |= nameless;
    };
    for end in ends(lab) {
        uses(end.namespace.clone().into(), end.ifname.is_none());
        if end.ifname.is_none() {
            // Whatever is there already counts too.
            uses(end.namespace.clone().into(), true);
        }
    }
    for port in lab.ports.iter().filter(|port| is_inside(port)) {
        if let Some(namespace) = port.own_namespace() {
            if port.ifname.is_none() && namespace.name().is_none() {
                // Others have interfaces of their own there.
                uses(namespace.clone(), true);
            }
            uses(namespace, port.ifname.is_none());
        }
    }
    let shared = users.into_iter().filter(|(_, (count, open))| *count > 1 && *open);
    shared.map(|(namespace, _)| namespace).collect()
}

/// Its interface is in a namespace of its own.
fn is_inside(port: &Port) -> bool {
    port.kind.stands() == Stands::InNamespace
}

/// Gives each end of a cable that has no name the first free one of eth0, eth1, ...
fn name_cable_ends(lab: &mut Lab, interfaces: &Interfaces) {
    let mut taken = interfaces.clone();
    for port in &lab.ports {
        if let Some(namespace) = &port.namespace {
            taken
                .entry(namespace.clone())
                .or_default()
                .insert(ifname(port).to_string());
        }
    }
    for end in ends(lab) {
        if let Some(name) = &end.ifname {
            taken
                .entry(end.namespace.clone().into())
                .or_default()
                .insert(name.to_string());
        }
    }
    for end in lab
        .cables
        .iter_mut()
        .flat_map(|c| [&mut c.a, &mut c.b])
        .filter(|e| e.ifname.is_none())
    {
        let names = taken.entry(end.namespace.clone().into()).or_default();
        let free = first_free(names);
        end.ifname = free.parse().ok();
        names.insert(free);
    }
}

fn first_free(taken: &BTreeSet<String>) -> String {
    let mut names = (0..).map(|n| format!("eth{n}"));
    names.find(|name| !taken.contains(name)).unwrap_or_default()
}

/// A port that is left to take the usual name takes the next free one where a cable or another port has that. What is there stays as
/// it is: also a name that was once chosen so, when the usual one has become free.
fn name_ports(lab: &mut Lab, before: &Lab, interfaces: &Interfaces) {
    let old = |port: &Port| {
        let same = |old: &&Port| old.name == port.name && old.namespace == port.namespace;
        before.ports.iter().find(same)
    };
    let going = going(lab, before);
    let mut taken = Interfaces::new();
    for end in ends(lab) {
        let name = end.ifname.as_ref().map(IfName::to_string);
        taken.entry(end.namespace.clone().into()).or_default().extend(name);
    }
    let (settled, open): (Vec<_>, Vec<_>) =
        lab.ports.iter_mut().filter(|port| is_inside(port)).partition(|port| {
            port.ifname.is_some() || old(port).is_some_and(|old| ifname(old).as_str() == DEFAULT_IFNAME)
        });
    for port in settled {
        if let Some(namespace) = &port.namespace {
            let names = taken.entry(namespace.clone()).or_default();
            names.insert(ifname(port).to_string());
        }
    }
    // Those that have a name keep it before any takes a new one.
    let (known, new): (Vec<_>, Vec<_>) = open.into_iter().partition(|port| old(port).is_some());
    for port in known.into_iter().chain(new) {
        let Some(namespace) = &port.namespace else { continue };
        let names = taken.entry(namespace.clone()).or_default();
        let usual_is_taken = names.contains(DEFAULT_IFNAME);
        // Where others are at home what is the usual name may be theirs; what was chosen once is said from then on.
        let at_others = namespace.name().is_none();
        let kept = old(port)
            .map(ifname)
            .filter(|name| !names.contains(name.as_str()) && (usual_is_taken || at_others || is_numbered(name)));
        if kept.is_some() {
            port.ifname = kept;
        } else if usual_is_taken || at_others {
            let there = interfaces.get(namespace).into_iter().flatten();
            let there = there.filter(|name| !going.contains(&(namespace, (*name).clone())));
            port.ifname = first_free(&names.iter().chain(there).cloned().collect()).parse().ok();
        }
        names.insert(ifname(port).to_string());
    }
}

/// The interfaces of ports that are there and go: their names are free.
fn going<'a>(lab: &Lab, before: &'a Lab) -> HashSet<(&'a Namespace, String)> {
    let stay: HashSet<_> = lab.ports.iter().map(|port| (&port.name, &port.namespace)).collect();
    let going = before.ports.iter().filter(|port| is_inside(port));
    let going = going.filter(|port| !stay.contains(&(&port.name, &port.namespace)));
    going
        .filter_map(|port| Some((port.namespace.as_ref()?, ifname(port).to_string())))
        .collect()
}

/// A name as [`first_free`] gives it.
fn is_numbered(name: &IfName) -> bool {
    let digits = name.as_str().strip_prefix("eth");
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Gives each cable the names and addresses of the one before that it is: of several between two namespaces first the one with its
/// names, then one with its addresses, then any.
fn keep_cables(cables: &mut [Cable], before: &[Cable]) {
    let mut known = vec![false; cables.len()];
    let mut taken = vec![false; before.len()];
    let fits = |said: &CableEnd, old: &CableEnd| {
        said.namespace == old.namespace && (said.ifname.is_none() || said.ifname == old.ifname)
    };
    for strictness in [Fit::Names, Fit::Addresses, Fit::Any] {
        for (cable, known) in cables.iter_mut().zip(&mut known).filter(|(_, known)| !**known) {
            let close = |a: &CableEnd, b: &CableEnd| match strictness {
                Fit::Names => cable.a.ifname.is_some() && cable.b.ifname.is_some(),
                Fit::Addresses => cable.a.addresses == a.addresses && cable.b.addresses == b.addresses,
                Fit::Any => true,
            };
            let found = before
                .iter()
                .enumerate()
                .filter(|(n, _)| !taken[*n])
                .find_map(|(n, old)| {
                    let ways = [(&old.a, &old.b), (&old.b, &old.a)];
                    let way = ways
                        .into_iter()
                        .find(|(a, b)| fits(&cable.a, a) && fits(&cable.b, b) && close(a, b));
                    way.map(|way| (n, way))
                });
            if let Some((n, (a, b))) = found {
                (taken[n], *known) = (true, true);
                keep(&mut cable.a, a);
                keep(&mut cable.b, b);
            }
        }
    }
}

/// How alike two cables have to be to be taken for the same.
#[derive(Clone, Copy)]
enum Fit {
    Names,
    Addresses,
    Any,
}

fn keep(end: &mut CableEnd, old: &CableEnd) {
    if end.ifname.is_none() {
        end.ifname.clone_from(&old.ifname);
    }
    if end.mac.is_none() && end.ifname == old.ifname {
        end.mac = old.mac;
    }
}

#[cfg(test)]
mod tests;
