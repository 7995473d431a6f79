//! Pictures for tests: red and blue on one switch, and what is made to be wrong with them.

use serde_json::json;
use vswitch_api::view::{PortCounters, PortView, Stack};

use super::filters;
use super::inside::{Inside, Link};
use super::picture::{End, Hop, Picture, Stopped, Talk, Walk};

/// red (10.0.0.1) reaches blue (10.0.0.2).
pub fn healthy() -> Picture {
    let names = ["red", "blue"].map(|name| name.parse().unwrap());
    let mut picture = Picture {
        ends: names.clone().map(Some),
        ..Picture::default()
    };
    for (name, n) in names.iter().zip(1..) {
        let (mac, address) = (format!("02:00:00:00:00:0{n}"), format!("10.0.0.{n}/24"));
        let view: PortView = serde_json::from_value(json!({
            "name": name, "namespace": name, "ifname": "eth0", "mac": mac, "addresses": [address], "state": "up",
            "state_secs": 1, "queues": 1, "fdb_entries": 0, "counters": PortCounters::default()
        }))
        .unwrap();
        let link = json!({
            "ifname": "eth0", "flags": ["UP"], "mtu": 1500, "address": mac,
            "addr_info": [{"local": format!("10.0.0.{n}"), "prefixlen": 24, "scope": "global"}]
        });
        let inside = Inside {
            links: vec![serde_json::from_value(link).unwrap()],
            ..Inside::default()
        };
        picture.inside.insert(view.stack(), inside);
        picture.lab.ports.push(view.port.clone());
        picture.ports.push(view);
    }
    let ips = [1, 2].map(|n| format!("10.0.0.{n}").parse().unwrap());
    let walk = |from: usize, to: usize| Walk {
        hops: vec![Hop {
            from: names[from].clone(),
            dev: "eth0".to_owned(),
            source: ips[from],
            next_hop: ips[to],
            to: names[to].clone(),
            to_dev: Some("eth0".to_owned()),
            stopped: None,
        }],
        end: Some(End::Arrives),
    };
    picture.talks.push(Talk {
        from: ips[0],
        to: ips[1],
        walks: [walk(0, 1), walk(1, 0)],
        answered: [true; 2],
    });
    picture
}

fn inside<'a>(picture: &'a mut Picture, name: &str) -> &'a mut Inside {
    picture
        .inside
        .get_mut(&Some(Stack::Name(name.parse().unwrap())))
        .unwrap()
}

/// eth0 of a namespace.
pub fn link<'a>(picture: &'a mut Picture, name: &str) -> &'a mut Link {
    &mut inside(picture, name).links[0]
}

/// eth0.TAG of a namespace takes its address from eth0, and the ways pass it.
pub fn vlan_device(picture: &mut Picture, name: &str, tag: &str) {
    let dev = format!("eth0.{tag}");
    let own = link(picture, name);
    let device = Link {
        name: dev.clone(),
        on: Some(own.name.clone()),
        tag: tag.parse().ok(),
        ..own.clone()
    };
    own.addresses.clear();
    inside(picture, name).links.push(device);
    let walks = picture.talks.iter_mut().flat_map(|talk| &mut talk.walks);
    for hop in walks.flat_map(|walk| &mut walk.hops) {
        if hop.from.as_str() == name {
            hop.dev.clone_from(&dev);
        } else {
            hop.to_dev = Some(dev.clone());
        }
    }
}

/// One more rule of its filters.
pub fn filter(picture: &mut Picture, name: &str, rule: &str) {
    let found = match rule.split_once(": ").unwrap() {
        ("iptables", rule) => filters::of_iptables("iptables", rule),
        ("ip6tables", rule) => filters::of_iptables("ip6tables", rule),
        (_, rule) => filters::of_nft(&format!("table inet f {{\nchain in {{\n{rule}\n}}\n}}")),
    };
    inside(picture, name).filters.extend(found);
}

/// A setting of its stack.
pub fn setting(picture: &mut Picture, name: &str, path: &str, value: i64) {
    inside(picture, name).settings.insert(path.to_owned(), value);
}

/// The switch stops what red says, at its own port.
pub fn stopped(picture: &mut Picture, reason: &str) {
    let red = picture.ports[0].port.name.clone();
    picture.talks[0].walks[0].hops[0].stopped = Some(Stopped {
        what: "the question".to_owned(),
        ingress: red.clone(),
        port: red,
        reason: Some(reason.to_owned()),
        detail: "it is dropped".to_owned(),
        goes_to: Vec::new(),
    });
}
