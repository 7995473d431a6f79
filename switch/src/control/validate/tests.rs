//! Each rule has a case that breaks it.

use super::super::complete::{Interfaces, complete};
use super::*;
use vswitch_api::{Cable, CableEnd, ErrorCode, Route, Switch};

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
    let end = |name: &str| CableEnd {
        namespace: name.parse().unwrap(),
        ifname: None,
        mac: None,
        addresses: vec![],
    };
    Cable { a: end(a), b: end(b) }
}

fn routed(address: &str, to: &str, via: &str) -> Port {
    Port {
        routes: vec![Route {
            to: to.parse().unwrap(),
            via: Some(via.parse().unwrap()),
        }],
        ..at("red", address)
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
                port("red"),
                Port {
                    namespace: Some("red".parse().unwrap()),
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
                namespaces: vec![long.parse().unwrap()],
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
                cables: vec![cable("red", "blue"), cable("blue", "red")],
                ..Lab::default()
            },
            ErrorCode::Conflict,
            "already",
        ),
    ];
    for (lab, code, part) in cases {
        let error = check(lab).expect_err(part);
        assert_eq!(error.code, code, "{error}");
        assert!(error.to_string().contains(part), "{error} has no {part:?}");
        assert!(error.hint.is_some(), "{error} names no next step");
    }
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
