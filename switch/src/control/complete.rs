//! Fills in what a lab leaves open: the switch that is always there, the namespace of a port, MAC addresses, and the
//! interface names of cables. What was chosen once stays: it is taken from the lab as it was before.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use vswitch_api::{
    Cable, CableEnd, DEFAULT_SWITCH, IfAddr, IfName, Lab, Mac, Namespace, Port, Route, Switch, SwitchName,
};

use super::kinds::{INSIDE, Stands, facts, ifname};
use super::validate::reaches;

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
            port.namespace = namespace_of(port);
        }
    }
    for switch in &mut lab.switches {
        switch.vlan_limit = switch.vlan_limit.filter(|limit| *limit > 0);
    }
    super::traffic::complete(lab);
    for port in &mut lab.ports {
        imply_onlink(&port.addresses, &mut port.routes);
    }
    for end in lab.cables.iter_mut().flat_map(|cable| [&mut cable.a, &mut cable.b]) {
        imply_onlink(&end.addresses, &mut end.routes);
    }
    keep_cables(&mut lab.cables, &before.cables);
    name_ports(lab, before, interfaces);
    name_cable_ends(lab, interfaces);
    choose_macs(lab, before, salt);
}

/// Where an interface has only addresses of hosts (/32, /128), a next hop is on no subnet of it: so it is on the link.
pub(super) fn imply_onlink(addresses: &[IfAddr], routes: &mut [Route]) {
    let all = routes.to_vec();
    for route in routes.iter_mut().filter(|route| !reaches(addresses, &all, route)) {
        let v4 = route.to.addr().is_ipv4();
        let mut same = addresses
            .iter()
            .filter(|address| address.ip().is_ipv4() == v4)
            .peekable();
        route.onlink =
            same.peek().is_some() && same.all(|address| address.prefix_len() == address.net().max_prefix_len());
    }
}

fn choose_macs(lab: &mut Lab, before: &Lab, salt: u64) {
    let kept: BTreeMap<_, _> = before
        .ports
        .iter()
        .filter_map(|p| Some(((&p.name, &p.switch), p.mac?)))
        .collect();
    for port in lab
        .ports
        .iter_mut()
        .filter(|p| facts(p.kind).has_stack && p.mac.is_none())
    {
        port.mac = kept.get(&(&port.name, &port.switch)).copied();
    }
    let mut taken: HashSet<Mac> = lab
        .ports
        .iter()
        .filter_map(|p| p.mac)
        .chain(ends(lab).filter_map(|e| e.mac))
        .collect();
    for port in lab
        .ports
        .iter_mut()
        .filter(|p| facts(p.kind).has_stack && p.mac.is_none())
    {
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

/// A locally administered address (IEEE 802-2014 clause 8.2) that nobody of the lab has: the same for the same name.
fn free_mac(salt: u64, label: &impl Hash, taken: &mut HashSet<Mac>) -> Mac {
    let mut attempt = 0u32;
    loop {
        let mut hasher = DefaultHasher::new();
        (salt, label, attempt).hash(&mut hasher);
        let [a, b, c, ..] = hasher.finish().to_be_bytes();
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
        if let Some(namespace) = namespace_of(port) {
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
    facts(port.kind).stands == Stands::InNamespace
}

fn namespace_of(port: &Port) -> Option<Namespace> {
    let named = || port.name.as_str().parse().ok().map(Namespace::Name);
    port.namespace.clone().or_else(named)
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
    let mut taken = Interfaces::new();
    for end in ends(lab) {
        let name = end.ifname.as_ref().map(IfName::to_string);
        taken.entry(end.namespace.clone().into()).or_default().extend(name);
    }
    let (settled, open): (Vec<_>, Vec<_>) = lab
        .ports
        .iter_mut()
        .filter(|port| is_inside(port))
        .partition(|port| port.ifname.is_some() || old(port).is_some_and(|old| ifname(old).as_str() == INSIDE));
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
        let usual_is_taken = names.contains(INSIDE);
        // Where others are at home what is the usual name may be theirs; what was chosen once is said from then on.
        let at_others = namespace.name().is_none();
        let kept = old(port)
            .map(ifname)
            .filter(|name| !names.contains(name.as_str()) && (usual_is_taken || at_others || is_numbered(name)));
        if kept.is_some() {
            port.ifname = kept;
        } else if usual_is_taken || at_others {
            let there = interfaces.get(namespace).into_iter().flatten();
            port.ifname = first_free(&names.iter().chain(there).cloned().collect()).parse().ok();
        }
        names.insert(ifname(port).to_string());
    }
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
mod tests {
    use super::*;
    use vswitch_api::PortKind;

    fn port(name: &str, kind: PortKind) -> Port {
        Port::new(name.parse().unwrap(), main_switch(), kind)
    }

    fn cable(a: &str, b: &str) -> Cable {
        let end = |name: &str| CableEnd::new(name.parse().unwrap());
        Cable {
            a: end(a),
            b: end(b),
            mtu: None,
        }
    }

    #[test]
    fn what_was_chosen_once_stays() {
        let mut first = Lab {
            ports: vec![port("red", PortKind::Veth)],
            cables: vec![cable("a", "b")],
            ..Lab::default()
        };
        complete(&mut first, &Lab::default(), 1, &Interfaces::new());
        assert_eq!(first.ports[0].namespace, "red".parse().ok());
        // Another salt would choose other addresses; the ones of before are kept, even with the cable's ends swapped.
        let mut second = Lab {
            ports: vec![port("blue", PortKind::Tap), port("red", PortKind::Veth)],
            cables: vec![cable("b", "a")],
            ..Lab::default()
        };
        complete(&mut second, &first, 2, &Interfaces::new());
        assert_eq!(second.ports[1], first.ports[0]);
        assert_eq!(
            (&second.cables[0].a, &second.cables[0].b),
            (&first.cables[0].b, &first.cables[0].a)
        );
        assert_ne!(second.ports[0].mac, second.ports[1].mac);
    }

    /// A second cable between two namespaces was refused.
    #[test]
    fn several_cables_between_two_namespaces_each_stay_what_they_are() {
        let mut first = Lab {
            cables: vec![cable("a", "b"), cable("b", "a"), cable("a", "b")],
            ..Lab::default()
        };
        first.cables[2].a.addresses = vec!["10.0.0.1/30".parse().unwrap()];
        complete(&mut first, &Lab::default(), 1, &Interfaces::new());
        let names: Vec<_> = ends(&first).map(|e| e.ifname.as_ref().unwrap().as_str()).collect();
        assert_eq!(names, ["eth0", "eth0", "eth1", "eth1", "eth2", "eth2"]);
        // Said again without names and in another order, the one with an address is still the third.
        let mut again = Lab {
            cables: vec![cable("a", "b"), cable("a", "b"), cable("b", "a")],
            ..Lab::default()
        };
        again.cables[0].a.addresses = vec!["10.0.0.1/30".parse().unwrap()];
        complete(&mut again, &first, 2, &Interfaces::new());
        assert_eq!(again.cables[0], first.cables[2]);
        let macs: HashSet<_> = ends(&again).map(|end| end.mac.unwrap()).collect();
        assert_eq!(macs, ends(&first).map(|end| end.mac.unwrap()).collect());
        // By its names a cable is found whatever its place.
        let mut named = Lab {
            cables: vec![Cable {
                mtu: Some(9000),
                ..first.cables[1].clone()
            }],
            ..Lab::default()
        };
        named.cables[0].a.mac = None;
        named.cables[0].b.mac = None;
        complete(&mut named, &first, 2, &Interfaces::new());
        assert_eq!(named.cables[0].a, first.cables[1].a);
    }

    /// `--addr 10.244.1.1/32 --gateway 169.254.1.1` was refused.
    #[test]
    fn the_gateway_of_a_host_address_is_on_the_link_and_that_of_a_subnet_is_not() {
        let onlink = |addresses: &[&str], routes: &[(&str, Option<&str>)]| {
            let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            let route =
                |(to, via): &(&str, Option<&str>)| Route::new(to.parse().unwrap(), via.map(|via| via.parse().unwrap()));
            let mut routes: Vec<_> = routes.iter().map(route).collect();
            imply_onlink(&addresses, &mut routes);
            routes.iter().map(|route| route.onlink).collect::<Vec<_>>()
        };
        let default = ("0.0.0.0/0", Some("169.254.1.1"));
        assert_eq!(onlink(&["10.244.1.1/32"], &[default]), [true]);
        assert_eq!(onlink(&["10.244.1.1/32", "fd00::1/64"], &[default]), [true]);
        assert_eq!(onlink(&["fd00::1/128"], &[("::/0", Some("fd01::1"))]), [true]);
        assert_eq!(onlink(&["10.244.1.1/24"], &[default]), [false]);
        assert_eq!(onlink(&["10.244.1.1/32", "10.1.0.1/24"], &[default]), [false]);
        assert_eq!(onlink(&["fd00::1/128"], &[default]), [false]);
        assert_eq!(onlink(&[], &[default]), [false]);
        // A route to it says the same.
        assert_eq!(
            onlink(&["10.244.1.1/32"], &[default, ("169.254.1.1/32", None)]),
            [false, false]
        );
        assert_eq!(onlink(&["10.244.1.1/32"], &[("0.0.0.0/0", None)]), [false]);
    }

    #[test]
    fn chosen_addresses_are_local_unicast_and_differ() {
        let ports = (0..3000).map(|i| port(&format!("p{i}"), PortKind::Tap)).collect();
        let mut lab = Lab {
            ports,
            ..Lab::default()
        };
        complete(&mut lab, &Lab::default(), 7, &Interfaces::new());
        let macs: HashSet<Mac> = lab.ports.iter().filter_map(|p| p.mac).collect();
        assert_eq!(macs.len(), 3000);
        assert!(macs.iter().all(|m| m.is_unicast() && m.0[..3] == [0x02, 0x76, 0x73]));
    }

    #[test]
    fn an_address_that_the_user_gave_is_not_chosen_again() {
        let mut lab = Lab {
            ports: vec![port("red", PortKind::Veth)],
            ..Lab::default()
        };
        complete(&mut lab, &Lab::default(), 1, &Interfaces::new());
        let chosen = lab.ports[0].mac;
        let mut thief = port("thief", PortKind::Veth);
        thief.mac = chosen;
        let mut lab = Lab {
            ports: vec![port("red", PortKind::Veth), thief],
            ..Lab::default()
        };
        complete(&mut lab, &Lab::default(), 1, &Interfaces::new());
        assert_ne!(lab.ports[0].mac, chosen);
    }

    #[test]
    fn a_device_keeps_its_own_address_and_a_host_port_has_no_namespace() {
        let mut lab = Lab {
            ports: vec![port("eth1", PortKind::Device), port("gw", PortKind::Internal)],
            ..Lab::default()
        };
        complete(&mut lab, &Lab::default(), 1, &Interfaces::new());
        assert_eq!((lab.ports[0].mac, &lab.ports[0].namespace), (None, &None));
        assert_eq!((lab.ports[1].mac.is_some(), &lab.ports[1].namespace), (true, &None));
        assert_eq!(lab.switches, [Switch::new(main_switch())]);
    }

    /// `cable red blue` and then `add-port red`: the cable has eth0 (faults C).
    #[test]
    fn a_port_takes_the_next_name_where_a_cable_has_the_usual_one() {
        let mut first = Lab {
            cables: vec![cable("red", "blue")],
            ..Lab::default()
        };
        complete(&mut first, &Lab::default(), 1, &Interfaces::new());
        let mut second = first.clone();
        second.ports = vec![port("red", PortKind::Veth), port("tap", PortKind::Tap)];
        second.ports[1].namespace = "red".parse().ok();
        assert_eq!(
            namespaces_to_name_in(&second),
            [Namespace::Name("red".parse().unwrap())]
        );
        let there = Interfaces::from([("red".parse().unwrap(), BTreeSet::from(["eth1".to_owned()]))]);
        complete(&mut second, &first, 1, &there);
        let names: Vec<_> = second.ports.iter().map(|port| ifname(port).to_string()).collect();
        assert_eq!(names, ["eth2", "eth3"], "eth1 is somebody else's");
        // Said again in another order, and without names, each keeps what it has.
        let mut third = second.clone();
        third.ports.reverse();
        third.ports.iter_mut().for_each(|port| port.ifname = None);
        complete(&mut third, &second, 1, &there);
        third.ports.reverse();
        assert_eq!(third, second);
        // One that had the usual name before any cable came keeps it.
        let mut fourth = Lab {
            ports: vec![port("green", PortKind::Veth)],
            ..Lab::default()
        };
        complete(&mut fourth, &Lab::default(), 1, &Interfaces::new());
        let before = fourth.clone();
        fourth.cables = vec![cable("green", "blue")];
        complete(&mut fourth, &before, 1, &Interfaces::new());
        assert_eq!(fourth.ports[0].ifname, None);
        assert_eq!(fourth.cables[0].a.ifname.as_ref().unwrap().as_str(), "eth1");
    }

    /// `add-port r1 --netns r` and `add-port r2 --netns r`: the legs of a router.
    #[test]
    fn a_port_takes_the_next_name_where_another_port_has_the_usual_one() {
        let leg = |name: &str| Port {
            namespace: "r".parse().ok(),
            ..port(name, PortKind::Veth)
        };
        let names = |lab: &Lab| Vec::from_iter(lab.ports.iter().map(|port| ifname(port).to_string()));
        let mut lab = Lab {
            ports: vec![leg("r1"), leg("r2")],
            ..Lab::default()
        };
        assert_eq!(namespaces_to_name_in(&lab), [Namespace::Name("r".parse().unwrap())]);
        complete(&mut lab, &Lab::default(), 1, &Interfaces::new());
        assert_eq!(names(&lab), ["eth0", "eth1"]);
        // Said again in another order, with one more, and without the first: each keeps what it has.
        let before = lab.clone();
        lab.ports = vec![leg("r0"), leg("r2"), leg("r1")];
        complete(&mut lab, &before, 1, &Interfaces::new());
        assert_eq!(names(&lab), ["eth2", "eth1", "eth0"]);
        let before = lab.clone();
        lab.ports = vec![leg("r2")];
        complete(&mut lab, &before, 1, &Interfaces::new());
        assert_eq!(names(&lab), ["eth1"]);
    }

    #[test]
    fn a_cable_end_takes_the_first_free_name() {
        let mut lab = Lab {
            ports: vec![port("red", PortKind::Veth)],
            cables: vec![cable("red", "blue"), cable("red", "green")],
            ..Lab::default()
        };
        let there = Interfaces::from([("red".parse().unwrap(), BTreeSet::from(["eth2".to_owned()]))]);
        complete(&mut lab, &Lab::default(), 1, &there);
        let names: Vec<_> = ends(&lab).map(|e| e.ifname.as_ref().unwrap().as_str()).collect();
        assert_eq!(names, ["eth1", "eth0", "eth3", "eth0"]);
    }
}
