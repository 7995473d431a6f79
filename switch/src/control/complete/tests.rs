//! What is chosen, and that it stays.

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
        Route::imply_onlink(&mut routes, &addresses);
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

/// A port that takes the place of another where others are at home gets its name.
#[test]
fn the_name_of_a_port_that_goes_is_free() {
    let leg = |name: &str| Port {
        namespace: Some(Namespace::Pid("7".parse().unwrap())),
        ..port(name, PortKind::Veth)
    };
    let of = |port: Port| Lab {
        ports: vec![port],
        ..Lab::default()
    };
    let mut before = of(leg("old"));
    complete(&mut before, &Lab::default(), 1, &Interfaces::new());
    let is_there = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Interfaces::from([(leg("old").namespace.unwrap(), names)])
    };
    let mut after = of(leg("new"));
    complete(&mut after, &before, 1, &is_there(&["lo", "eth0"]));
    assert_eq!(ifname(&after.ports[0]).as_str(), "eth0");
    // One of theirs is not.
    let mut more = of(leg("more"));
    complete(&mut more, &Lab::default(), 1, &is_there(&["lo", "eth0"]));
    assert_eq!(ifname(&more.ports[0]).as_str(), "eth1");
}
