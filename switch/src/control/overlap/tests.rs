use super::*;
use vswitch_api::PortKind;

/// What is new in the lab is refused, made by force, and not asked about again.
fn is_made_by_force_only(lab: &Lab, of_host: &HostAddresses) {
    let refused = refuse_own_networks(&Lab::default(), lab, of_host, false)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("up0") && refused.contains("--force"), "{refused}");
    assert_eq!(
        refuse_own_networks(&Lab::default(), lab, of_host, true).unwrap().len(),
        1
    );
    assert_eq!(refuse_own_networks(lab, lab, of_host, false).unwrap(), [""; 0]);
}

/// The gateway took the address of the router by which the host got out.
#[test]
fn a_gateway_in_a_network_of_the_hosts_own_is_made_by_force_only() {
    let lab = |subnet: &str, address: &str| Lab {
        switches: vec![Switch {
            subnets: vec![subnet.parse().unwrap()],
            gateway: vswitch_api::Gateway::On,
            ..Switch::new("lab".parse().unwrap())
        }],
        ports: vec![Port {
            addresses: vec![address.parse().unwrap()],
            ..Port::new("lab-gw".parse().unwrap(), "lab".parse().unwrap(), PortKind::Internal)
        }],
        ..Lab::default()
    };
    let up0 = |ip: &str| BTreeMap::from([(ip.parse().unwrap(), "up0".to_owned())]);
    let of_host = HostAddresses {
        own: up0("198.51.100.2"),
        hops: up0("10.9.0.1"),
        routers: BTreeMap::from([("10.9.0.1".parse().unwrap(), 24)]),
    };
    let none = Lab::default();
    for (subnet, address) in [
        ("198.51.100.0/24", "198.51.100.9/24"),
        ("198.51.0.0/16", "198.51.0.1/16"),
        ("10.9.0.0/24", "10.9.0.1/24"),
        ("10.9.0.0/25", "10.99.9.9/32"),
    ] {
        let lab = lab(subnet, address);
        is_made_by_force_only(&lab, &of_host);
    }
    let beside = lab("198.51.100.128/25", "198.51.100.129/25");
    assert_eq!(refuse_own_networks(&none, &beside, &of_host, false).unwrap(), [""; 0]);
}

/// A leg took the address of the host or of its router, and only a warning told of it.
#[test]
fn a_leg_in_a_network_of_the_hosts_own_is_made_by_force_only() {
    let lab = |address: &str| Lab {
        ports: vec![Port {
            addresses: vec![address.parse().unwrap()],
            ..Port::new("leg".parse().unwrap(), "main".parse().unwrap(), PortKind::Internal)
        }],
        ..Lab::default()
    };
    let up0 = |ip: &str| BTreeMap::from([(ip.parse().unwrap(), "up0".to_owned())]);
    let of_host = HostAddresses {
        own: up0("198.51.100.2"),
        hops: up0("198.51.100.1"),
        routers: BTreeMap::from([("198.51.100.1".parse().unwrap(), 24)]),
    };
    let none = Lab::default();
    for address in ["198.51.100.2/32", "198.51.100.1/32", "198.51.100.9/24"] {
        let lab = lab(address);
        is_made_by_force_only(&lab, &of_host);
    }
    for address in ["198.51.100.9/32", "10.9.0.1/24"] {
        assert_eq!(
            refuse_own_networks(&none, &lab(address), &of_host, false).unwrap(),
            [""; 0]
        );
    }
}

/// A route of a leg led to the router of the host, of either IP version, without a word.
#[test]
fn a_route_to_the_hosts_router_is_made_by_force_only() {
    let lab = |to: &str| Lab {
        ports: vec![Port {
            routes: vec![Route {
                to: to.parse().unwrap(),
                via: Some("10.99.0.2".parse().unwrap()),
                onlink: false,
            }],
            ..Port::new("leg".parse().unwrap(), "main".parse().unwrap(), PortKind::Internal)
        }],
        ..Lab::default()
    };
    let up0 = |ip: &str| (ip.parse::<IpAddr>().unwrap(), "up0".to_owned());
    let of_host = HostAddresses {
        own: BTreeMap::new(),
        hops: BTreeMap::from([up0("10.55.0.254"), up0("fd55::fe")]),
        routers: BTreeMap::from([("10.55.0.254".parse().unwrap(), 24), ("fd55::fe".parse().unwrap(), 64)]),
    };
    for to in ["10.55.0.254/32", "10.55.0.128/25", "10.55.0.0/24", "fd55::fe/128"] {
        is_made_by_force_only(&lab(to), &of_host);
    }
    // The last two are less than what the host has to its router.
    for to in ["10.55.0.0/27", "fd55::/121", "10.55.0.0/16", "10.0.0.0/8"] {
        let lab = lab(to);
        assert_eq!(
            refuse_own_networks(&Lab::default(), &lab, &of_host, false).unwrap(),
            [""; 0],
            "{to}"
        );
    }
}

/// Only addresses were told of, and not routes by which a leg takes neighbours of the host away.
#[test]
fn a_route_that_takes_neighbours_of_the_host_away_is_told() {
    let leg = |to: &str| Port {
        routes: vec![Route {
            to: to.parse().unwrap(),
            via: None,
            onlink: false,
        }],
        ..Port::new("leg".parse().unwrap(), "main".parse().unwrap(), PortKind::Internal)
    };
    let (none, there) = (
        Lab::default(),
        BTreeMap::from([
            ("10.55.0.0/24".parse().unwrap(), "up0".to_owned()),
            ("fd55::/64".parse().unwrap(), "up0".to_owned()),
        ]),
    );
    let told = |to: &str| {
        let port = leg(to);
        let new: Vec<_> = new_nets(&none, &port).collect();
        warnings(&new, "is to have", &there)
    };
    for to in ["10.55.0.0/27", "fd55::/120"] {
        let told = told(to);
        assert!(
            told.len() == 1 && told[0].contains("a route to") && told[0].contains("up0"),
            "{told:?}"
        );
    }
    for to in ["10.0.0.0/8", "10.56.0.0/24", "fd00::/8"] {
        assert_eq!(told(to), Vec::<String>::new(), "the host has a longer one, or none");
    }
}

#[test]
fn what_covers_or_is_covered_is_told_and_the_neighbour_is_not() {
    let port = Port {
        addresses: vec!["10.10.0.1/24".parse().unwrap()],
        ..Port::new("gw".parse().unwrap(), "main".parse().unwrap(), PortKind::Internal)
    };
    let none = Lab::default();
    let new: Vec<_> = new_nets(&none, &port).collect();
    let told = |net: &str| {
        warnings(
            &new,
            "is to have",
            &BTreeMap::from([(net.parse().unwrap(), "eth0".to_owned())]),
        )
    };
    for net in ["10.10.0.0/24", "10.0.0.0/8", "10.10.0.128/25", "10.10.0.9/32"] {
        let told = told(net);
        assert!(
            told.len() == 1 && told[0].contains(net) && told[0].contains("eth0"),
            "{told:?}"
        );
    }
    for net in ["10.10.1.0/24", "fd00::/8"] {
        assert_eq!(told(net), Vec::<String>::new());
    }
    let there = Lab {
        ports: vec![port.clone()],
        ..Lab::default()
    };
    assert_eq!(new_nets(&there, &port).count(), 0, "it was said when it came");
    let mut two = port;
    two.addresses.push("10.10.0.9/24".parse().unwrap());
    assert_eq!(new_nets(&none, &two).count(), 1, "it was said twice");
    assert_eq!(new_nets(&there, &two).count(), 0, "it was said when it came");
}
