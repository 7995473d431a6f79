use std::process::Command;

use vswitch_api::request::ChangeOptions;

use super::*;
use crate::control::ControlConfig;
use crate::control::LivePort;
use crate::control::repair::Extent;
use crate::engines::Engines;
use crate::port::Engine;
use vswitch_api::view::{Changes, Lack};
use vswitch_api::{NsName, PortKind, Route};
use vswitch_linux::testing::sandboxed;
use vswitch_linux::{Inside, InsideChange, LinkChange, NetNs};

const NOT_DRY: ChangeOptions = ChangeOptions {
    dry_run: false,
    idempotent: false,
    force: false,
};

async fn start() -> Arc<Control> {
    std::fs::create_dir("/run/vswitch").unwrap();
    let config = ControlConfig {
        run_dir: "/run/vswitch".into(),
        state_dir: "/run/state".into(),
        netns_dir: "/run/netns".into(),
        workers: 1,
        cpus: Vec::new(),
        spin_us: 0,
        engine: Engine::Auto,
        fastpath: true,
        big_tcp: true,
        fdb_entries: 1 << 22,
        run_commands: true,
        engines: Engines::new("/run/docker.sock".into(), "/run/podman/podman.sock".into()),
        security: Default::default(),
        rights: Default::default(),
        recover: false,
        keep_lab: false,
    };
    Control::start(config).await.unwrap()
}

async fn add(control: &Control, name: &str, kind: PortKind) {
    let port = Port::new(name.parse().unwrap(), "main".parse().unwrap(), kind);
    control.add_port(port, NOT_DRY).await.unwrap();
}

/// What the kernel says when the interface of a port goes.
fn gone(live: &LivePort) -> LinkChange {
    LinkChange {
        nsid: live.nsid.filter(|_| live.near.is_none()),
        index: live.near.or(live.inside).unwrap(),
        name: live.ifname.clone(),
        mtu: live.mtu,
        up: false,
        carrier: false,
        gone: true,
    }
}

const KINDS: [(&str, PortKind); 2] = [("red", PortKind::Veth), ("green", PortKind::Tap)];

/// Word of the namespace before, which had the same id and index, comes when the port is long there (fault E11).
#[test]
fn late_word_of_something_that_is_gone_does_not_make_its_successor_missing() {
    sandboxed(async || {
        let control = start().await;
        for (name, kind) in KINDS {
            add(&control, name, kind).await;
            let mut inner = control.inner.lock().await;
            let port: PortName = name.parse().unwrap();
            let told = gone(&inner.live.ports[&port]);
            inner.link_changed(0, &told).await;
            assert_eq!(inner.live.ports[&port].state, PortState::Up, "{name}: {told:?}");
            let quiet = LinkChange { gone: false, ..told };
            inner.link_changed(0, &quiet).await;
            assert_eq!(inner.live.ports[&port].state, PortState::Up, "{name}: {quiet:?}");
            inner.namespace_changed(NsEvent::Removed(name.to_owned())).await;
            assert_eq!(inner.live.ports[&port].state, PortState::Up, "{name}: its namespace");
            inner.look_again().await;
            assert_eq!(inner.live.ports[&port].state, PortState::Up, "{name}: another look");
        }
    });
}

#[test]
fn word_of_something_that_is_gone_is_believed_when_it_is() {
    sandboxed(async || {
        let control = start().await;
        for (name, kind) in KINDS {
            add(&control, name, kind).await;
            let mut inner = control.inner.lock().await;
            let port: PortName = name.parse().unwrap();
            let told = gone(&inner.live.ports[&port]);
            let netns = inner.open_namespace(&name.parse().unwrap()).unwrap();
            let inside = inner.live.ports[&port].inside.unwrap();
            let id = inner.live.ports[&port].id;
            netns.netlink().await.unwrap().delete_link(inside).await.unwrap();
            inner.link_changed(0, &told).await;
            // It was lost, and made again at once.
            assert_eq!(inner.live.ports[&port].state, PortState::Up, "{name}");
            assert_ne!(inner.live.ports[&port].id, id, "{name}");
            // The second time it is not made again at once.
            let told = gone(&inner.live.ports[&port]);
            let inside = inner.live.ports[&port].inside.unwrap();
            netns.netlink().await.unwrap().delete_link(inside).await.unwrap();
            inner.link_changed(0, &told).await;
            assert_eq!(inner.live.ports[&port].state, PortState::Missing, "{name}");
        }
    });
}

/// The way of its making was taken for an outage: what somebody took away just after the port was there came back.
#[test]
fn that_it_was_down_before_it_was_attached_is_no_outage() {
    sandboxed(async || {
        let control = start().await;
        let name: PortName = "red".parse().unwrap();
        let mut port = Port::new(name.clone(), "main".parse().unwrap(), PortKind::Veth);
        port.addresses = vec!["10.7.0.1/24".parse().unwrap()];
        port.routes = vec![Route::new("0.0.0.0/0".parse().unwrap(), "10.7.0.254".parse().ok())];
        control.add_port(port, NOT_DRY).await.unwrap();
        let mut inner = control.inner.lock().await;
        let netns = inner.open_namespace(&"red".parse().unwrap()).unwrap();
        let ip = async |words: &'static str| {
            let ip = move || Command::new("ip").args(words.split(' ')).output().unwrap();
            String::from_utf8(netns.run(ip).await.unwrap().stdout).unwrap()
        };
        ip("route del default").await;
        inner.live.ports.get_mut(&name).unwrap().heard_from = 5;
        let live = &inner.live.ports[&name];
        let down = LinkChange {
            nsid: live.nsid,
            index: live.inside.unwrap(),
            gone: false,
            ..gone(live)
        };
        inner.link_changed(4, &down).await;
        assert_eq!(ip("route show default").await, "");
        inner.link_changed(5, &down).await;
        assert!(ip("route show default").await.contains("10.7.0.254"));
    });
}

/// A port "red" with an address and a default route of either family, and its namespace.
async fn routed(control: &Control) -> (PortName, NetNs) {
    let name: PortName = "red".parse().unwrap();
    let mut port = Port::new(name.clone(), "main".parse().unwrap(), PortKind::Veth);
    port.addresses = ["10.7.0.1/24", "fd07::1/64"]
        .map(|address| address.parse().unwrap())
        .into();
    port.routes = [("0.0.0.0/0", "10.7.0.254"), ("::/0", "fd07::254")]
        .map(|(to, via)| Route::new(to.parse().unwrap(), via.parse().ok()))
        .into();
    control.add_port(port, NOT_DRY).await.unwrap();
    let netns = control.inner.lock().await.open_namespace(&"red".parse().unwrap());
    (name, netns.unwrap())
}

async fn ip(netns: &NetNs, words: &'static str) -> String {
    let ip = move || Command::new("ip").args(words.split(' ')).output().unwrap();
    String::from_utf8(netns.run(ip).await.unwrap().stdout).unwrap()
}

/// Looks into what is told as the watcher does, until there is no more.
async fn hear(inner: &mut Inner) {
    let hearing = inner.host.hearing.clone().unwrap();
    hearing.by_now();
    while let Some((number, event)) = hearing.next() {
        match event {
            MonitorEvent::Link(change) => inner.link_changed(number, &change).await,
            MonitorEvent::Inside(change) => {
                if let Some(port) = inner.note_inside(number, &change) {
                    inner.link_local_changed(change.lost, &port).await;
                }
            }
            MonitorEvent::Ways(_) | MonitorEvent::Resync => {}
        }
    }
}

/// What the switch itself had mended was taken for an outage: what somebody took away just afterwards came back.
#[test]
fn that_it_was_down_before_it_was_repaired_is_no_outage() {
    sandboxed(async || {
        let control = start().await;
        let (name, netns) = routed(&control).await;
        let mut inner = control.inner.lock().await;
        let port = inner.store.port(&name).cloned().unwrap();
        for families in ["route del default", "-6 route del default"] {
            ip(&netns, "link set eth0 down").await;
            inner.follow(&port).await;
            assert_eq!(inner.live.ports[&name].state, PortState::NoCarrier);
            inner
                .repair(Extent::Port(&name), &mut Changes::default())
                .await
                .unwrap();
            assert_eq!(inner.live.ports[&name].state, PortState::Up);
            ip(&netns, families).await;
            hear(&mut inner).await;
        }
        let routes = ip(&netns, "route show default").await + &ip(&netns, "-6 route show default").await;
        assert!(
            routes.contains("10.7.0.254") && !routes.contains("fd07::254"),
            "{routes}"
        );
    });
}

/// The link was down twice, and the second time was not heard of yet as the stack got its address of the link again: what went with that was
/// taken for what somebody took away.
#[test]
fn what_goes_with_a_link_is_not_taken_away_while_that_it_was_down_waits() {
    sandboxed(async || {
        let control = start().await;
        let (name, netns) = routed(&control).await;
        let mut inner = control.inner.lock().await;
        hear(&mut inner).await;
        let port = inner.store.port(&name).cloned().unwrap();
        ip(&netns, "link set eth0 down").await;
        ip(&netns, "link set eth0 up").await;
        inner.live.unlooked.insert(name.clone());
        assert!(inner.take_unlooked(1).is_empty());
        inner.link_local_changed(false, &port).await;
        assert_eq!(inner.live.ports[&name].taken, []);
        hear(&mut inner).await;
        let routes = ip(&netns, "route show default").await + &ip(&netns, "-6 route show default").await;
        assert!(
            routes.contains("10.7.0.254") && routes.contains("fd07::254"),
            "{routes}"
        );
        assert_eq!(inner.take_unlooked(1), []);
    });
}

/// Only one IPv4 route was held to be taken away by what was told of it.
#[test]
fn what_somebody_took_away_just_before_the_link_was_down_stays_away() {
    sandboxed(async || {
        let control = start().await;
        let (name, netns) = routed(&control).await;
        let mut inner = control.inner.lock().await;
        hear(&mut inner).await;
        let flap = async || {
            ip(&netns, "link set eth0 down").await;
            ip(&netns, "link set eth0 up").await;
        };
        let show = async || {
            ip(&netns, "route show default").await
                + &ip(&netns, "-6 route show default").await
                + &ip(&netns, "-6 addr show dev eth0").await
        };
        ip(&netns, "-6 route del default").await;
        flap().await;
        hear(&mut inner).await;
        let has = show().await;
        assert!(
            has.contains("10.7.0.254") && has.contains("fd07::1/64") && !has.contains("fd07::254"),
            "{has}"
        );
        ip(&netns, "route del default").await;
        ip(&netns, "addr del fd07::1/64 dev eth0").await;
        flap().await;
        hear(&mut inner).await;
        let has = show().await;
        assert!(!has.contains("10.7.0.254") && !has.contains("fd07::"), "{has}");
        // All is told of that went with IPv6 being turned off, too, and nobody has taken it away.
        inner
            .repair(Extent::Port(&name), &mut Changes::default())
            .await
            .unwrap();
        let address = Lack::Address {
            address: "fd07::1/64".parse().unwrap(),
        };
        let live = &inner.live.ports[&name];
        let loss = |link_local, what: Option<&str>| InsideChange {
            nsid: live.nsid,
            index: live.inside.unwrap(),
            lost: true,
            down: false,
            link_local,
            what: what.map(|net| Inside::Address(net.parse().unwrap())),
        };
        let (own, last) = (loss(false, Some("fd07::1/64")), loss(true, None));
        inner.note_inside(u64::MAX, &own);
        assert_eq!(inner.live.ports[&name].taken, [address]);
        inner.note_inside(u64::MAX, &last);
        assert_eq!(inner.live.ports[&name].taken, []);
    });
}

/// Of its end nothing was told, nor that another was made and went: the port was up for ever where nobody is.
#[test]
fn a_port_is_made_where_its_name_leads_whatever_was_told_of_the_namespace_before() {
    sandboxed(async || {
        let control = start().await;
        for (name, kind) in KINDS {
            add(&control, name, kind).await;
            let mut inner = control.inner.lock().await;
            let port: PortName = name.parse().unwrap();
            let id = inner.live.ports[&port].id;
            let ns: NsName = name.parse().unwrap();
            inner.host.named.delete(&ns).unwrap();
            let other = NetNs::make(std::slice::from_ref(&ns)).await.unwrap().remove(0);
            inner.host.named.add(vec![(ns.clone(), other)]).await.unwrap();
            inner.namespace_changed(NsEvent::Added(name.to_owned())).await;
            assert_eq!(inner.live.ports[&port].state, PortState::Up, "{name}");
            assert_ne!(inner.live.ports[&port].id, id, "{name}");
            let netns = inner.open_namespace(&ns).unwrap();
            assert!(ip(&netns, "-br link").await.contains("eth0"), "{name}");
        }
    });
}

/// What was told of a port that is gone does nothing to the one that has its index by now (review B7).
#[test]
fn events_of_a_port_that_is_gone_are_not_its_successor_s() {
    sandboxed(async || {
        let control = start().await;
        let shuts = |name: &str| {
            let mut port = Port::new(name.parse().unwrap(), "main".parse().unwrap(), PortKind::Veth);
            port.learning.limit = Some(1);
            port.learning.beyond = vswitch_api::policy::BeyondLimit::Shut;
            port
        };
        let name = |name: &str| name.parse::<PortName>().unwrap();
        control.add_port(shuts("stays"), NOT_DRY).await.unwrap();
        control.add_port(shuts("gone"), NOT_DRY).await.unwrap();
        let (stays, gone) = {
            let inner = control.inner.lock().await;
            (
                inner.live.ports[&name("stays")].id.unwrap(),
                inner.live.ports[&name("gone")].id.unwrap(),
            )
        };
        control.remove_port(&name("gone"), NOT_DRY).await.unwrap();
        control.add_port(shuts("next"), NOT_DRY).await.unwrap();
        let mut inner = control.inner.lock().await;
        let next = inner.live.ports[&name("next")].id.unwrap();
        assert_eq!((next.id, next == gone), (gone.id, false));
        let mac = vswitch_api::Mac([2, 0, 0, 0, 0, 1]);
        let moved = |from, to| DatapathEvent::Moved { mac, vlan: 0, from, to };
        let mut events = vec![
            DatapathEvent::LimitReached { port: gone },
            DatapathEvent::PortFailed {
                port: gone,
                errno: 5,
                cause: "gone".into(),
            },
            DatapathEvent::Learned { mac, port: gone },
        ];
        for _ in 0..1000 {
            events.extend([moved(gone, stays), moved(stays, gone)]);
        }
        for nonce in [0, 1] {
            for (sent, received) in [(gone, stays), (stays, gone), (next, stays), (stays, next), (next, next)] {
                events.push(DatapathEvent::LoopFound {
                    sent,
                    nonce,
                    received,
                    vlan: 0,
                });
            }
        }
        let mut told = control.subscribe();
        for event in events {
            inner.datapath_event(event).await;
        }
        for port in ["stays", "next"] {
            assert_eq!(inner.live.ports[&name(port)].state, PortState::Up, "{port}");
        }
        // Nor is anybody told of it.
        inner.datapath_event(DatapathEvent::LimitReached { port: next }).await;
        assert_eq!(inner.live.ports[&name("next")].state, PortState::Shut);
        let first = told.next().await.unwrap().kind;
        assert!(
            matches!(&first, EventKind::PortShut { port, .. } if port.as_str() == "next"),
            "{first:?}"
        );
    });
}
