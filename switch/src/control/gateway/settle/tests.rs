use vswitch_api::Gateway;

use super::*;

fn switch(subnets: &[&str], gateway: Gateway) -> Switch {
    Switch {
        subnets: subnets.iter().map(|net| net.parse().unwrap()).collect(),
        gateway,
        ..Switch::new("lab".parse().unwrap())
    }
}

fn auto(name: &str) -> Port {
    Port {
        auto_addresses: true,
        ..Port::new(name.parse().unwrap(), "lab".parse().unwrap(), PortKind::Veth)
    }
}

fn lab(switch: Switch, ports: &[&str]) -> Lab {
    Lab {
        switches: vec![switch],
        ports: ports.iter().map(|name| auto(name)).collect(),
        ..Lab::default()
    }
}

fn settled(mut lab: Lab, before: &Lab) -> Lab {
    settle(&mut lab, before, &BTreeSet::new()).unwrap();
    lab
}

fn addresses(lab: &Lab, name: &str) -> Vec<String> {
    let port = lab.ports.iter().find(|port| port.name.as_str() == name).unwrap();
    port.addresses.iter().map(ToString::to_string).collect()
}

fn routes(lab: &Lab, name: &str) -> Vec<String> {
    let port = lab.ports.iter().find(|port| port.name.as_str() == name).unwrap();
    let route = |route: &Route| {
        let via = route.via.map_or_else(|| "link".to_owned(), |via| via.to_string());
        format!("{} {via}{}", route.to, if route.onlink { " onlink" } else { "" })
    };
    port.routes.iter().map(route).collect()
}

const TWO: [&str; 2] = ["10.10.0.0/24", "fd10::/64"];

#[test]
fn the_gateway_has_the_first_address_and_each_port_the_next() {
    let first = settled(lab(switch(&TWO, Gateway::On), &["red", "blue"]), &Lab::default());
    assert_eq!(addresses(&first, "lab-gw"), ["10.10.0.1/24", "fd10::1/64"]);
    assert_eq!(addresses(&first, "red"), ["10.10.0.2/24", "fd10::2/64"]);
    assert_eq!(routes(&first, "blue"), ["0.0.0.0/0 10.10.0.1", "::/0 fd10::1"]);
    // Said again without what was chosen, and with one more in front, each keeps what it has.
    let again = settled(lab(switch(&TWO, Gateway::On), &["new", "blue", "red"]), &first);
    assert_eq!(addresses(&again, "red"), ["10.10.0.2/24", "fd10::2/64"]);
    assert_eq!(settled(again.clone(), &again), again);
}

/// It became the gateway unasked, and went with it.
#[test]
fn a_port_of_somebodys_own_does_not_become_the_gateway() {
    let own = || Port::new("lab-gw".parse().unwrap(), "lab".parse().unwrap(), PortKind::Internal);
    let mut before = lab(switch(&TWO, Gateway::Off), &["red"]);
    before.ports.push(own());
    let mut next = lab(switch(&TWO, Gateway::On), &["red"]);
    next.ports.push(own());
    let refused = settle(&mut next.clone(), &before, &BTreeSet::new()).unwrap_err();
    assert!(
        refused.to_string().contains("there is a port of that name already"),
        "{refused}"
    );
    // One that comes with the gateway, as in an exported lab, is it.
    let first = settled(next.clone(), &Lab::default());
    assert_eq!(settled(first.clone(), &first), first);
    before.ports.retain(|port| port.name.as_str() != "lab-gw");
    assert_eq!(
        addresses(&settled(next, &before), "lab-gw"),
        ["10.10.0.1/24", "fd10::1/64"]
    );
}

/// The host had a default route over its own gateway, and its own way out was none any more.
#[test]
fn the_host_is_not_led_out_over_itself() {
    let mut next = lab(switch(&TWO, Gateway::On), &["red", "leg"]);
    next.ports[1].kind = PortKind::Internal;
    let first = settled(next, &Lab::default());
    assert_eq!(addresses(&first, "leg"), ["10.10.0.3/24", "fd10::3/64"]);
    assert!(routes(&first, "leg").is_empty());
    assert!(ways::warnings(&Lab::default(), &first).is_empty());
    // One of before goes.
    let mut before = first.clone();
    let via = |port: &Port| port.routes[0];
    let route = via(first.ports.iter().find(|port| port.name.as_str() == "red").unwrap());
    let leg = before
        .ports
        .iter_mut()
        .find(|port| port.name.as_str() == "leg")
        .unwrap();
    leg.routes.push(route);
    assert!(routes(&settled(before.clone(), &before), "leg").is_empty());
}

#[test]
fn what_a_switch_says_otherwise_its_ports_follow() {
    let first = settled(lab(switch(&TWO, Gateway::On), &["red"]), &Lab::default());
    let changed = |change: fn(&mut Switch)| {
        let mut next = first.clone();
        change(&mut next.switches[0]);
        settled(next, &first)
    };
    let moved = changed(|switch| switch.gateway = Gateway::At(vec!["10.10.0.254".parse().unwrap()]));
    assert_eq!(addresses(&moved, "lab-gw"), ["fd10::1/64", "10.10.0.254/24"]);
    assert_eq!(routes(&moved, "red"), ["0.0.0.0/0 10.10.0.254", "::/0 fd10::1"]);
    let fewer = changed(|switch| switch.subnets.truncate(1));
    assert_eq!(addresses(&fewer, "lab-gw"), ["10.10.0.1/24"]);
    assert_eq!(addresses(&fewer, "red"), ["10.10.0.2/24"]);
    assert_eq!(routes(&fewer, "red"), ["0.0.0.0/0 10.10.0.1"]);
    let none = changed(|switch| switch.gateway = Gateway::Off);
    assert_eq!(none.ports.len(), 1);
    assert_eq!(addresses(&none, "red"), ["10.10.0.2/24", "fd10::2/64"]);
    assert!(routes(&none, "red").is_empty());
}

#[test]
fn a_gateway_outside_is_on_the_link() {
    let gateway = Gateway::At(vec!["169.254.1.1".parse().unwrap()]);
    let lab = settled(lab(switch(&TWO, gateway), &["red"]), &Lab::default());
    assert_eq!(addresses(&lab, "lab-gw"), ["169.254.1.1/32", "fd10::1/64"]);
    assert_eq!(routes(&lab, "lab-gw"), ["10.10.0.0/24 link"]);
    assert_eq!(addresses(&lab, "red"), ["10.10.0.1/24", "fd10::2/64"]);
    assert_eq!(routes(&lab, "red"), ["0.0.0.0/0 169.254.1.1 onlink", "::/0 fd10::1"]);
}

#[test]
fn a_route_of_the_users_and_a_port_that_is_not_auto_stay() {
    let mut first = lab(switch(&TWO, Gateway::On), &["red", "blue"]);
    let own = Route::new("0.0.0.0/0".parse().unwrap(), Some("10.10.0.9".parse().unwrap()));
    first.ports[0].routes = vec![own];
    first.ports[1].auto_addresses = false;
    let first = settled(first, &Lab::default());
    assert_eq!(routes(&first, "red"), ["0.0.0.0/0 10.10.0.9", "::/0 fd10::1"]);
    assert!(addresses(&first, "blue").is_empty() && routes(&first, "blue").is_empty());
}

#[test]
fn the_name_of_a_gateway_that_is_taken_is_an_error() {
    let mut lab = lab(switch(&TWO, Gateway::On), &["lab-gw"]);
    let error = settle(&mut lab, &Lab::default(), &BTreeSet::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("lab-gw") && error.contains("del-port"), "{error}");
}

fn at(text: &str) -> Gateway {
    text.parse().unwrap()
}

/// Gateway and station swapped their addresses, and another station kept the length of before.
#[test]
fn a_subnet_that_grows_or_shrinks_leaves_all_where_they_are() {
    let narrow = ["10.1.0.0/24", "fd10::/64"];
    let wide = ["10.1.0.0/16", "fd10::/48"];
    let first = settled(lab(switch(&narrow, Gateway::On), &["a", "b"]), &Lab::default());
    for patched in [false, true] {
        let become_one = |subnets: &[&str], before: &Lab| {
            let mut next = lab(switch(subnets, Gateway::On), &["a", "b"]);
            if patched {
                next.ports.clone_from(&before.ports);
            }
            settled(next, before)
        };
        let wider = become_one(&wide, &first);
        assert_eq!(addresses(&wider, "lab-gw"), ["10.1.0.1/16", "fd10::1/48"]);
        assert_eq!(addresses(&wider, "a"), ["10.1.0.2/16", "fd10::2/48"]);
        assert_eq!(addresses(&wider, "b"), ["10.1.0.3/16", "fd10::3/48"]);
        assert_eq!(routes(&wider, "b"), ["0.0.0.0/0 10.1.0.1", "::/0 fd10::1"]);
        let again = become_one(&narrow, &wider);
        for name in ["lab-gw", "a", "b"] {
            assert_eq!(addresses(&again, name), addresses(&first, name));
        }
    }
}

#[test]
fn an_address_that_becomes_one_of_a_subnet_has_its_length() {
    let mut first = lab(switch(&["10.1.0.0/24"], Gateway::On), &["a"]);
    first.ports[0].auto_addresses = false;
    first.ports[0].addresses = vec!["10.1.0.200/25".parse().unwrap()];
    let first = settled(first, &Lab::default());
    let then = settled(lab(switch(&["10.1.0.0/24"], Gateway::On), &["a"]), &first);
    assert_eq!(addresses(&then, "a"), ["10.1.0.200/24"]);
}

#[test]
fn a_gateway_that_comes_takes_no_address_of_a_station_and_none_of_the_host() {
    let first = settled(
        lab(switch(&["10.1.0.0/24"], Gateway::Off), &["a", "b"]),
        &Lab::default(),
    );
    let mut then = lab(switch(&["10.1.0.0/24"], Gateway::On), &["a", "b", "c"]);
    let of_host = BTreeSet::from(["10.1.0.3".parse().unwrap()]);
    settle(&mut then, &first, &of_host).unwrap();
    let all = ["a", "b", "lab-gw", "c"].map(|name| addresses(&then, name).concat());
    assert_eq!(all, ["10.1.0.1/24", "10.1.0.2/24", "10.1.0.4/24", "10.1.0.5/24"]);
}

/// What is a next hop of others is no reason for who has it to give it up.
#[test]
fn a_station_that_is_the_next_hop_of_another_keeps_its_address() {
    let first = settled(
        lab(switch(&["10.1.0.0/24"], Gateway::Off), &["a", "b"]),
        &Lab::default(),
    );
    let mut then = lab(switch(&["10.1.0.0/24"], Gateway::Off), &["a", "b"]);
    then.ports[1].routes = vec![Route::new(
        "10.9.0.0/16".parse().unwrap(),
        Some("10.1.0.1".parse().unwrap()),
    )];
    assert_eq!(addresses(&settled(then, &first), "a"), ["10.1.0.1/24"]);
}

#[test]
fn a_gateway_whose_addresses_are_said_has_these_and_else_the_first() {
    let of = |gateway: Gateway, before: &Lab| {
        let mut next = before.clone();
        next.switches = vec![switch(&["10.1.0.0/24"], gateway)];
        settled(next, before)
    };
    let none = Lab::default();
    let two = of(at("10.1.0.1,10.1.0.2"), &none);
    assert_eq!(addresses(&two, "lab-gw"), ["10.1.0.1/24", "10.1.0.2/24"]);
    for said in ["10.1.0.254", "169.254.1.1"] {
        let on = of(Gateway::On, &of(at(said), &none));
        assert_eq!(addresses(&on, "lab-gw"), ["10.1.0.1/24"]);
        assert_eq!(routes(&on, "lab-gw"), [""; 0]);
    }
}

fn switches(gateways: &[(&str, &str)]) -> Vec<Switch> {
    let one = |(name, net): &(&str, &str)| Switch {
        subnets: vec![net.parse().unwrap()],
        gateway: Gateway::On,
        ..Switch::new(name.parse().unwrap())
    };
    gateways.iter().map(one).collect()
}

#[test]
fn a_port_that_goes_to_another_switch_has_nothing_left_of_the_old_one() {
    let first = Lab {
        switches: switches(&[("lab", "10.10.0.0/24"), ("h", "10.20.0.0/24")]),
        ports: vec![auto("red")],
        ..Lab::default()
    };
    let first = settled(first, &Lab::default());
    let mut then = first.clone();
    then.ports[0].switch = "h".parse().unwrap();
    let then = settled(then, &first);
    assert_eq!(addresses(&then, "red"), ["10.20.0.2/24"]);
    assert_eq!(routes(&then, "red"), ["0.0.0.0/0 10.20.0.1"]);
}

#[test]
fn a_namespace_on_two_switches_has_one_default_route() {
    let port = |name: &str, switch: &str| Port {
        switch: switch.parse().unwrap(),
        namespace: Some("m".parse().unwrap()),
        ..auto(name)
    };
    let lab = |ports: &[Port]| Lab {
        switches: switches(&[("l1", "10.1.0.0/24"), ("l2", "10.2.0.0/24")]),
        ports: ports.to_vec(),
        ..Lab::default()
    };
    let (m1, m2) = (port("m1", "l1"), port("m2", "l2"));
    let second = settled(lab(std::slice::from_ref(&m2)), &Lab::default());
    // Whoever has it keeps it.
    let both = settled(lab(&[m1.clone(), m2.clone()]), &second);
    assert_eq!(routes(&both, "m1"), [""; 0]);
    assert_eq!(routes(&both, "m2"), ["0.0.0.0/0 10.2.0.1"]);
    let told = of_routes(&second, &both);
    assert!(
        told.len() == 1 && told[0].contains("\"m1\"") && told[0].contains("\"m2\""),
        "{told:?}"
    );
    assert_eq!(of_routes(&both, &both), [""; 0]);
    // What a user says comes first.
    let own = Port {
        auto_addresses: false,
        routes: vec![Route::new(
            "0.0.0.0/0".parse().unwrap(),
            Some("10.1.0.9".parse().unwrap()),
        )],
        ..m1.clone()
    };
    assert_eq!(routes(&settled(lab(&[own, m2]), &both), "m2"), [""; 0]);
    assert_eq!(routes(&settled(lab(&[m1]), &both), "m1"), ["0.0.0.0/0 10.1.0.1"]);
}

/// The one that came first saw what the other was about to leave.
#[test]
fn gateways_take_what_others_leave_whichever_comes_first() {
    let two = |subnets: [&str; 2]| {
        let switches = ["a", "b"].into_iter().zip(subnets).map(|(name, subnet)| Switch {
            name: name.parse().unwrap(),
            ..switch(&[subnet], Gateway::On)
        });
        Lab {
            switches: switches.collect(),
            ..Lab::default()
        }
    };
    let first = settled(two(["10.21.0.0/24", "10.22.0.0/24"]), &Lab::default());
    for subnets in [
        ["10.22.0.0/24", "10.21.0.0/24"],
        ["10.22.0.0/24", "10.25.0.0/24"],
        ["10.25.0.0/24", "10.21.0.0/24"],
    ] {
        let next = settled(
            Lab {
                ports: first.ports.clone(),
                ..two(subnets)
            },
            &first,
        );
        for (name, subnet) in ["a-gw", "b-gw"].into_iter().zip(subnets) {
            assert_eq!(addresses(&next, name), [subnet.replace(".0/24", ".1/24")]);
        }
        let anew = two(subnets);
        let again = settled(anew, &first);
        assert_eq!(addresses(&again, "a-gw"), addresses(&next, "a-gw"));
    }
}
