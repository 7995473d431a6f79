//! Each rule has a case that breaks it.

use super::super::complete::{Interfaces, complete};
use super::*;
use crate::control::complete::main_switch;
use serde_json::json;
use vswitch_api::PortKind;
use vswitch_api::policy::Trunk;
use vswitch_api::{Cable, CableEnd, ErrorCode, LabNamespace, Route, StaticStation, Switch};

fn port(name: &str) -> Port {
    Port::new(name.parse().unwrap(), main_switch(), PortKind::Veth)
}

fn at(name: &str, address: &str) -> Port {
    Port {
        addresses: vec![address.parse().unwrap()],
        ..port(name)
    }
}

fn of_kind(name: &str, kind: PortKind) -> Port {
    Port { kind, ..port(name) }
}

fn cable(a: &str, b: &str) -> Cable {
    let end = |name: &str| CableEnd::new(name.parse().unwrap());
    Cable {
        a: end(a),
        b: end(b),
        mtu: None,
    }
}

fn routed(address: &str, to: &str, via: &str) -> Port {
    Port {
        routes: vec![Route::new(to.parse().unwrap(), Some(via.parse().unwrap()))],
        ..at("red", address)
    }
}

fn vlan(id: u16) -> PortVlan {
    PortVlan::Access(id.try_into().unwrap())
}

fn trunk(allowed: &str, native: Option<u16>) -> PortVlan {
    PortVlan::Trunk(Trunk {
        allowed: allowed.parse().unwrap(),
        native: native.map(|id| id.try_into().unwrap()),
        tag: Default::default(),
    })
}

fn with_station(name: &str, octet: u8) -> Port {
    Port {
        stations: vec![StaticStation {
            mac: Mac([2, 0, 0, 0, 1, octet]),
            vlan: None,
        }],
        ..port(name)
    }
}

fn check(mut lab: Lab) -> Result<Vec<String>, ApiError> {
    complete(&mut lab, &Lab::default(), 1, &Interfaces::new());
    let container = |name: &NsName| name.as_str().starts_with("cni-");
    validate(&Lab::default(), &lab, container)
}

fn ports(ports: Vec<Port>) -> Lab {
    Lab {
        ports,
        ..Lab::default()
    }
}

#[test]
fn what_can_be_refused_is_refused_with_object_cause_and_next_step() {
    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    let long = "a-name-of-twenty-bytes";
    let switch = |capacity| Switch {
        fdb_capacity: capacity,
        ..Switch::new("side".parse().unwrap())
    };
    let cases: Vec<(Lab, ErrorCode, &str)> = vec![
        (
            ports(vec![port("red"), port("red")]),
            ErrorCode::Conflict,
            "port \"red\"",
        ),
        (
            ports(vec![Port {
                switch: "none".parse().unwrap(),
                ..port("red")
            }]),
            ErrorCode::NotFound,
            "switch \"none\"",
        ),
        (
            ports(vec![Port { mac, ..port("red") }, Port { mac, ..port("blue") }]),
            ErrorCode::Conflict,
            "taken by port \"red\"",
        ),
        (
            ports(vec![Port {
                mac: Some(Mac([1, 0, 0, 0, 0, 1])),
                ..port("red")
            }]),
            ErrorCode::Invalid,
            "a group address",
        ),
        (
            ports(vec![Port {
                mac: Some(Mac([0; 6])),
                ..port("red")
            }]),
            ErrorCode::Invalid,
            "00:00:00:00:00:00",
        ),
        (
            ports(vec![Port {
                mtu: Some(MIN_MTU - 1),
                ..port("red")
            }]),
            ErrorCode::Invalid,
            "MTU 67",
        ),
        (
            ports(vec![Port {
                mtu: Some(MAX_MTU + 1),
                ..port("red")
            }]),
            ErrorCode::Invalid,
            "MTU 65518",
        ),
        (
            ports(vec![Port {
                mtu: Some(1279),
                ..at("red", "fd00::1/64")
            }]),
            ErrorCode::Invalid,
            "1280",
        ),
        (
            ports(vec![at("red", "10.0.0.1/24"), at("blue", "10.0.0.1/8")]),
            ErrorCode::Conflict,
            "taken by port \"red\"",
        ),
        (
            ports(vec![
                Port {
                    ifname: "eth0".parse().ok(),
                    ..port("red")
                },
                Port {
                    namespace: Some("red".parse().unwrap()),
                    ifname: "eth0".parse().ok(),
                    ..port("blue")
                },
            ]),
            ErrorCode::Conflict,
            "eth0",
        ),
        (
            ports(vec![
                of_kind("eth1", PortKind::Device),
                of_kind("eth1x", PortKind::Internal),
                Port {
                    ifname: Some("eth1".parse().unwrap()),
                    ..of_kind("gw", PortKind::Internal)
                },
            ]),
            ErrorCode::Conflict,
            "port \"eth1\"",
        ),
        (
            ports(vec![Port {
                kind: PortKind::Device,
                ..at("eth1", "10.0.0.1/24")
            }]),
            ErrorCode::Invalid,
            "addresses",
        ),
        (
            ports(vec![Port {
                mac,
                ..of_kind("eth1", PortKind::Device)
            }]),
            ErrorCode::Invalid,
            "a MAC address",
        ),
        (
            ports(vec![Port {
                namespace: Some("red".parse().unwrap()),
                ..of_kind("gw", PortKind::Internal)
            }]),
            ErrorCode::Invalid,
            "--netns",
        ),
        (
            ports(vec![Port {
                namespace: Some("p".parse().unwrap()),
                ..port("lo")
            }]),
            ErrorCode::Invalid,
            "keeps",
        ),
        (
            ports(vec![Port {
                ifname: Some("all".parse().unwrap()),
                ..port("red")
            }]),
            ErrorCode::Invalid,
            "keeps",
        ),
        (
            ports(vec![Port {
                namespace: Some(long.parse().unwrap()),
                ..port("red")
            }]),
            ErrorCode::Invalid,
            "22",
        ),
        (
            ports(vec![routed("10.0.0.1/24", "0.0.0.0/0", "10.0.1.1")]),
            ErrorCode::Invalid,
            "10.0.0.0/24",
        ),
        (
            ports(vec![routed("10.0.0.1/24", "::/0", "10.0.0.2")]),
            ErrorCode::Invalid,
            "IP version",
        ),
        (
            Lab {
                switches: vec![switch(0)],
                ..Lab::default()
            },
            ErrorCode::Invalid,
            "FDB capacity 0",
        ),
        (
            Lab {
                switches: vec![switch(1), switch(1)],
                ..Lab::default()
            },
            ErrorCode::Conflict,
            "switch \"side\"",
        ),
        (
            Lab {
                namespaces: vec![LabNamespace::new(long.parse().unwrap())],
                ..Lab::default()
            },
            ErrorCode::Invalid,
            "22",
        ),
        (
            Lab {
                cables: vec![cable("red", "red")],
                ..Lab::default()
            },
            ErrorCode::Invalid,
            "same namespace",
        ),
        (
            Lab {
                cables: vec![Cable {
                    a: CableEnd {
                        addresses: at("red", "10.0.0.1/30").addresses,
                        ..cable("red", "blue").a
                    },
                    b: CableEnd {
                        addresses: at("blue", "10.0.0.1/30").addresses,
                        ..cable("red", "blue").b
                    },
                    mtu: None,
                }],
                ..Lab::default()
            },
            ErrorCode::Invalid,
            "address 10.0.0.1 is given twice",
        ),
        (
            Lab {
                cables: vec![Cable {
                    mtu: Some(67),
                    ..cable("red", "blue")
                }],
                ..Lab::default()
            },
            ErrorCode::Invalid,
            "MTU 67",
        ),
        (
            Lab {
                cables: vec![Cable {
                    a: CableEnd {
                        addresses: vec!["10.0.0.1/30".parse().unwrap()],
                        routes: routed("10.0.0.1/24", "0.0.0.0/0", "10.0.1.1").routes,
                        ..cable("red", "blue").a
                    },
                    ..cable("red", "blue")
                }],
                ..Lab::default()
            },
            ErrorCode::Invalid,
            "10.0.0.0/30",
        ),
        (
            Lab {
                cables: vec![cable("red", "blue"), {
                    let mut second = cable("blue", "red");
                    second.a.ifname = Some("x0".parse().unwrap());
                    second.b.ifname = Some("eth0".parse().unwrap());
                    second.a.mac = mac;
                    second.b.mac = mac;
                    second
                }],
                ..Lab::default()
            },
            ErrorCode::Conflict,
            "both ends",
        ),
        (
            ports(vec![
                Port {
                    mac,
                    vlan: trunk("10,20", None),
                    ..port("red")
                },
                Port {
                    mac,
                    vlan: vlan(20),
                    ..port("blue")
                },
            ]),
            ErrorCode::Conflict,
            "taken by port \"red\"",
        ),
        (
            ports(vec![
                Port {
                    vlan: vlan(10),
                    ..at("red", "10.0.0.1/24")
                },
                Port {
                    vlan: trunk("20", Some(10)),
                    ..at("blue", "10.0.0.1/24")
                },
            ]),
            ErrorCode::Conflict,
            "VLAN 10 of switch \"main\"",
        ),
        (
            ports(vec![with_station("red", 1), with_station("blue", 1)]),
            ErrorCode::Conflict,
            "behind port \"red\"",
        ),
        (
            ports(vec![Port {
                routes: vec![Route {
                    onlink: true,
                    ..Route::new("10.0.0.0/8".parse().unwrap(), None)
                }],
                ..at("red", "10.0.0.1/24")
            }]),
            ErrorCode::Invalid,
            "10.0.0.0/8",
        ),
    ];
    for (lab, code, part) in cases {
        let error = check(lab).expect_err(part);
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(part), "{error} has no {part:?}");
        assert!(error.hint.is_some(), "{error} names no next step");
    }
}

/// The kernel has 10.5.0.0/16, whatever was said. An older state may say it.
#[test]
fn a_destination_is_a_network() {
    let error = check(ports(vec![routed("10.0.0.1/24", "10.5.0.1/16", "10.0.0.9")])).unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(error.to_string().contains("10.5.0.1/16 has bits set"), "{error}");
    assert_eq!(error.hint.as_deref(), Some("try 10.5.0.0/16"));
    let mut old = ports(vec![routed("10.0.0.1/24", "10.5.0.1/16", "10.0.0.9")]);
    complete(&mut old, &Lab::default(), 1, &Interfaces::new());
    validate(&old, &old, |_| true).unwrap();
}

/// An error is about what comes, whichever of the two stands first in the lab.
#[test]
fn what_was_there_before_is_not_blamed() {
    let mut before = ports(vec![at("red", "10.0.0.1/24"), at("blue", "10.0.0.2/24")]);
    complete(&mut before, &Lab::default(), 1, &Interfaces::new());
    let refused_after = |before: &Lab, after: &Lab| validate(before, after, |_| true).unwrap_err().to_string();
    let refused = |after: &Lab| refused_after(&before, after);

    let mut after = before.clone();
    after.ports[0].addresses.push("10.0.0.2/24".parse().unwrap());
    let error = refused(&after);
    let told = "port \"red\": address 10.0.0.2 is taken by port \"blue\"";
    assert!(error.starts_with(told), "{error}");

    let mut after = before.clone();
    after.ports[0].mac = after.ports[1].mac;
    let error = refused(&after);
    assert!(error.starts_with("port \"red\": MAC address"), "{error}");

    before.ports[1].namespace = before.ports[0].namespace.clone();
    before.ports[1].ifname = Some("eth5".parse().unwrap());
    let mut after = before.clone();
    after.ports[0].ifname = Some("eth5".parse().unwrap());
    let error = refused_after(&before, &after);
    let told = "port \"red\": interface eth5 of namespace \"red\" is in use by port \"blue\"";
    assert!(error.starts_with(told), "{error}");

    let mirror =
        |name: &str, to: &str| serde_json::from_value(json!({"name": name, "ports": ["red"], "to": to})).unwrap();
    before.mirrors = vec![mirror("m", "blue")];
    let mut after = before.clone();
    after.mirrors.push(mirror("m2", "red"));
    let error = validate(&before, &after, |_| true).unwrap_err().to_string();
    assert!(error.starts_with("mirror \"m2\": port \"red\""), "{error}");
}

#[test]
fn what_only_looks_like_a_conflict_passes() {
    let other = Port {
        switch: "side".parse().unwrap(),
        ..at("blue", "10.0.0.1/24")
    };
    let lab = Lab {
        switches: vec![Switch::new("side".parse().unwrap())],
        ports: vec![
            at("red", "10.0.0.1/24"),
            other,
            Port {
                namespace: Some("cni-5d1f0a76-8f4e-4b52".parse().unwrap()),
                ..port("pod")
            },
            Port {
                name: "green".parse().unwrap(),
                ..routed("fd00::1/64", "::/0", "fe80::1")
            },
        ],
        ..Lab::default()
    };
    assert_eq!(check(lab), Ok(vec![]));
}

/// Addresses, gateways and stations were unique over a switch or the whole lab; they are within a VLAN of a switch, no further.
#[test]
fn each_vlan_of_each_switch_has_addresses_of_its_own() {
    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    let gateway = |name: &str, vlan: PortVlan| Port {
        mac,
        vlan,
        addresses: vec!["10.0.0.1/24".parse().unwrap(), "fe80::1/64".parse().unwrap()],
        ..port(name)
    };
    let side = Port {
        switch: "side".parse().unwrap(),
        ..gateway("side", PortVlan::All)
    };
    let station = |name: &str, id: u16| Port {
        vlan: vlan(id),
        stations: vec![StaticStation {
            mac: Mac([2, 0, 0, 0, 1, 1]),
            vlan: Some(id.try_into().unwrap()),
        }],
        ..port(name)
    };
    let lab = Lab {
        switches: vec![Switch::new("side".parse().unwrap())],
        ports: vec![
            gateway("ten", vlan(10)),
            gateway("twenty", vlan(20)),
            gateway("thirty", trunk("31-39", Some(30))),
            side,
            station("a", 10),
            station("b", 20),
        ],
        ..Lab::default()
    };
    assert_eq!(check(lab), Ok(vec![]));
}

/// `add-port a20 --vlan 20 --addr 10.20.0.1/24` warned of another VLAN's subnet.
#[test]
fn the_warning_of_another_subnet_is_about_the_vlan() {
    let in_vlan = |name: &str, address: &str, id: u16| Port {
        vlan: vlan(id),
        ..at(name, address)
    };
    let warnings = |second: Port| check(ports(vec![in_vlan("a10", "10.10.0.1/24", 10), second])).unwrap();
    assert_eq!(warnings(in_vlan("a20", "10.20.0.1/24", 20)), [""; 0]);
    let warned = warnings(in_vlan("b10", "10.20.0.1/24", 10));
    assert!(warned[0].contains("VLAN 10 of switch \"main\""), "{warned:?}");
}

/// A typing error in a gateway is still refused, on the link is what is said to be or can't be elsewhere.
#[test]
fn a_gateway_outside_the_subnets_has_to_be_said_to_be_on_the_link() {
    let onlink = |address: &str, routes: Vec<Route>| {
        check(ports(vec![Port {
            routes,
            ..at("red", address)
        }]))
        .is_ok()
    };
    let default = Route::new("0.0.0.0/0".parse().unwrap(), Some("169.254.1.1".parse().unwrap()));
    let said = Route {
        onlink: true,
        ..default
    };
    let to_it = Route::new("169.254.1.1/32".parse().unwrap(), None);
    assert!(onlink("10.244.1.1/32", vec![default]));
    assert!(!onlink("10.244.1.1/24", vec![default]));
    assert!(onlink("10.244.1.1/24", vec![said]));
    assert!(onlink("10.244.1.1/24", vec![to_it, default]));
    assert!(onlink("10.244.1.1/24", vec![default, to_it]));
}

#[test]
fn a_switch_that_has_too_many_stations_gets_no_more() {
    let lab = |octets: &[u8]| {
        let mut lab = Lab {
            switches: vec![Switch {
                fdb_capacity: 2,
                ..Switch::new(main_switch())
            }],
            ..ports(octets.iter().map(|n| with_station(&format!("p{n}"), *n)).collect())
        };
        complete(&mut lab, &Lab::default(), 1, &Interfaces::new());
        lab
    };
    assert!(check(lab(&[1, 2])).is_ok());
    let error = check(lab(&[1, 2, 3])).unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(
        error
            .to_string()
            .contains("3 stations are set by hand there, and its FDB holds 2"),
        "{error}"
    );
    let before = lab(&[1, 2, 3, 4]);
    assert!(
        validate(&before, &lab(&[1, 2, 3]), |_| true).is_ok(),
        "fewer than there were"
    );
    assert!(validate(&before, &lab(&[1, 2, 3, 4, 5]), |_| true).is_err());
}

#[test]
fn an_address_outside_the_subnets_of_the_others_is_a_warning() {
    let red = at("red", "10.0.0.1/24");
    for (address, warned) in [("10.0.0.2/24", false), ("10.0.1.2/24", true), ("fd00::1/64", false)] {
        let warnings = check(ports(vec![red.clone(), at("blue", address)])).unwrap();
        assert_eq!(
            warnings.iter().any(|w| w.contains("\"blue\"")),
            warned,
            "{address}: {warnings:?}"
        );
    }
}

/// The gateway of a subnet that it has no address of has a route to it.
#[test]
fn an_address_that_a_gateway_outside_has_a_route_to_is_no_warning() {
    let gateway = Port {
        routes: vec![Route::new("10.30.0.0/24".parse().unwrap(), None)],
        ..at("gw", "169.254.1.1/32")
    };
    for (address, warned) in [("10.30.0.2/24", false), ("10.31.0.2/24", true)] {
        let warnings = check(ports(vec![gateway.clone(), at("x", address)])).unwrap();
        assert_eq!(!warnings.is_empty(), warned, "{address}: {warnings:?}");
    }
}
