//! Ports of all kinds: they come up, go, and come back.

use std::time::Duration;
use vswitch_api::patch::MergePatch;
use vswitch_api::request::PortPatch;
use vswitch_api::view::PortState;
use vswitch_api::{EventKind, PortKind};

use super::*;

#[test]
fn a_port_of_each_kind_is_up_at_once_and_stays_up() {
    isolated(async || {
        ip("link add dev0 type veth peer dev0-peer");
        ip("link set dev0-peer up");
        let control = start().await;
        let mut events = control.subscribe();
        for (name, kind) in [
            ("red", PortKind::Veth),
            ("green", PortKind::Tap),
            ("gw", PortKind::Internal),
            ("dev0", PortKind::Device),
        ] {
            control.add_port(port(name, kind), NOT_DRY).await.unwrap();
            assert_eq!(state(&control, name).await, PortState::Up, "{name}");
        }
        // The kernel tells of each interface's making; what it tells is old news by then.
        let end = tokio::time::Instant::now() + Duration::from_millis(300);
        while let Ok(event) = tokio::time::timeout_at(end, events.next()).await {
            let event = event.unwrap();
            assert!(!matches!(event.kind, EventKind::PortState { .. }), "{event:?}");
        }
    });
}

#[test]
fn a_device_without_carrier_is_not_called_up() {
    isolated(async || {
        ip("link add dev0 type veth peer dev0-peer");
        ip("link set dev0 up");
        let control = start().await;
        control.add_port(port("dev0", PortKind::Device), NOT_DRY).await.unwrap();
        assert_eq!(state(&control, "dev0").await, PortState::NoCarrier);
        ip("link set dev0-peer up");
        wait_for("carrier", async || state(&control, "dev0").await == PortState::Up).await;
        // Set up by hand it is no better than its cable.
        ip("link set dev0-peer down");
        wait_for("the loss of it", async || {
            state(&control, "dev0").await == PortState::NoCarrier
        })
        .await;
        for up in [false, true] {
            let patch = PortPatch(MergePatch::default().with("up", up));
            control
                .patch_port(&"dev0".parse().unwrap(), patch, NOT_DRY)
                .await
                .unwrap();
        }
        assert_eq!(state(&control, "dev0").await, PortState::NoCarrier);
    });
}

#[test]
fn a_namespace_that_goes_is_missed_and_found_again() {
    isolated(async || {
        let control = start().await;
        for (name, kind) in [("red", PortKind::Veth), ("green", PortKind::Tap)] {
            control.add_port(port(name, kind), NOT_DRY).await.unwrap();
            ip(&format!("netns del {name}"));
            wait_for("missing", async || state(&control, name).await == PortState::Missing).await;
            // An unrelated command does not make it.
            control
                .add_port(port(&format!("{name}2"), PortKind::Veth), NOT_DRY)
                .await
                .unwrap();
            assert_eq!(state(&control, name).await, PortState::Missing);
            ip(&format!("netns add {name}"));
            wait_for("up", async || state(&control, name).await == PortState::Up).await;
            assert!(ip(&format!("-n {name} link show eth0")).contains("UP"));
        }
        // The new ones are not vswitch's.
        control.reset(NOT_DRY).await.unwrap();
        assert_eq!(ip("netns").lines().count(), 2);
        assert_eq!(ip("-n red -o link").lines().count(), 1);
        assert_eq!(ip("-n green -o link").lines().count(), 1);
    });
}

/// The kernel tells of what is gone late, by numbers that the next port's namespace and interface have again (fault E11).
#[test]
fn ports_that_come_and_go_at_a_pace_are_never_missing() {
    isolated(async || {
        let control = start().await;
        let mut events = control.subscribe();
        for round in 0..60 {
            let (name, kind) = [("red", PortKind::Veth), ("green", PortKind::Tap)][round % 2];
            control.add_port(port(name, kind), NOT_DRY).await.unwrap();
            assert_eq!(state(&control, name).await, PortState::Up, "round {round}");
            control.remove_port(&name.parse().unwrap(), NOT_DRY).await.unwrap();
        }
        // The last one stays until all that was told of the others has come to control, and word of its own.
        control.add_port(port("last", PortKind::Veth), NOT_DRY).await.unwrap();
        ip("-n last link set eth0 down");
        wait_for("the end of its carrier", async || {
            state(&control, "last").await == PortState::NoCarrier
        })
        .await;
        control.remove_port(&"last".parse().unwrap(), NOT_DRY).await.unwrap();
        loop {
            match events.next().await.unwrap().kind {
                EventKind::PortState {
                    state: PortState::Missing,
                    port,
                    reason,
                } => panic!("{port} is missing: {reason:?}"),
                EventKind::PortRemoved { port, .. } if port.as_str() == "last" => break,
                _ => {}
            }
        }
    });
}

#[test]
fn an_interface_that_was_deleted_is_made_again() {
    isolated(async || {
        let control = start().await;
        for (name, kind) in [("red", PortKind::Veth), ("green", PortKind::Tap)] {
            control
                .add_port(with_address(name, kind, &format!("10.0.0.{}/24", name.len())), NOT_DRY)
                .await
                .unwrap();
            ip(&format!("-n {name} link del eth0"));
            // By itself the first time; on request whenever it is missing.
            wait_for("its return", async || {
                ip(&format!("-n {name} addr")).contains("10.0.0.")
            })
            .await;
            // Edits wait until it is made whole: what goes before that is made once more.
            let described = PortPatch(MergePatch::default().with("description", "back"));
            control
                .patch_port(&name.parse().unwrap(), described, NOT_DRY)
                .await
                .unwrap();
            ip(&format!("-n {name} link del eth0"));
            let patch = PortPatch(MergePatch::default().with("up", true));
            wait_for("missing", async || state(&control, name).await == PortState::Missing).await;
            control
                .patch_port(&name.parse().unwrap(), patch, NOT_DRY)
                .await
                .unwrap();
            let view = control.port(&name.parse().unwrap()).await.unwrap();
            assert_eq!(view.state, PortState::Up, "{name}: {:?}", view.reason);
            assert!(ip(&format!("-n {name} addr show eth0")).contains("10.0.0."));
        }
    });
}

#[test]
fn a_port_can_be_removed_when_all_of_it_is_gone() {
    isolated(async || {
        let before = seen();
        let control = start().await;
        for (name, kind) in [("red", PortKind::Veth), ("green", PortKind::Tap)] {
            control.add_port(port(name, kind), NOT_DRY).await.unwrap();
            ip(&format!("netns del {name}"));
        }
        control.add_port(port("gw", PortKind::Internal), NOT_DRY).await.unwrap();
        ip("link del gw");
        for name in ["green", "gw", "red"] {
            let changes = control.remove_port(&name.parse().unwrap(), NOT_DRY).await.unwrap();
            assert_eq!(changes.warnings, [""; 0]);
        }
        assert_eq!(seen(), before);
    });
}
