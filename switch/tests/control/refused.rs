//! What fails, was killed, or is only tried leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use vswitch_api::request::{ChangeOptions, FdbAdd};
use vswitch_api::view::PortState;
use vswitch_api::{ErrorCode, Lab, Mac, Port, PortKind, Route};

use super::*;

#[test]
fn a_refused_port_leaves_nothing_behind() {
    isolated(async || {
        ip("netns add taken");
        ip("-n taken link add eth0 type veth peer peer0");
        ip("netns add routed");
        ip("-n routed link add up0 type veth peer peer0");
        ip("-n routed link set peer0 up");
        ip("-n routed link set up0 up");
        ip("-n routed route add 10.9.0.0/16 dev up0");
        let before = seen();
        let control = start().await;
        let namespace = |name: &str| Some(name.parse().unwrap());
        let route = Route::new("10.9.0.0/16".parse().unwrap(), Some("10.0.0.9".parse().unwrap()));
        let gone = "there-is-no-such-namespace-yet";
        let cases = [
            (
                "its interface's name is taken",
                ErrorCode::Conflict,
                Port {
                    namespace: namespace("taken"),
                    ..port("p", PortKind::Veth)
                },
            ),
            (
                "the same with a TAP device",
                ErrorCode::Conflict,
                Port {
                    namespace: namespace("taken"),
                    ..port("p", PortKind::Tap)
                },
            ),
            (
                "another interface has its route",
                ErrorCode::Conflict,
                Port {
                    namespace: namespace("routed"),
                    routes: vec![route],
                    ..with_address("p", PortKind::Veth, "10.0.0.1/24")
                },
            ),
            (
                "the new namespace's name is too long",
                ErrorCode::Invalid,
                Port {
                    namespace: namespace(gone),
                    ..port("p", PortKind::Veth)
                },
            ),
            (
                "the own namespace has a lo",
                ErrorCode::Invalid,
                Port {
                    namespace: namespace("p"),
                    ..port("lo", PortKind::Veth)
                },
            ),
            (
                "each namespace has a lo",
                ErrorCode::Invalid,
                Port {
                    ifname: Some("lo".parse().unwrap()),
                    ..port("p", PortKind::Tap)
                },
            ),
            ("the host has a lo", ErrorCode::Invalid, port("lo", PortKind::Device)),
            (
                "there is no such device",
                ErrorCode::NotFound,
                port("dev9", PortKind::Device),
            ),
            (
                "a device brings its own MAC address",
                ErrorCode::Invalid,
                Port {
                    mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                    ..port("taken", PortKind::Device)
                },
            ),
        ];
        for (why, code, port) in cases {
            let error = control.add_port(port, NOT_DRY).await.expect_err(why);
            assert_eq!(error.code, code, "{why}: {error}");
            assert!(error.hint.is_some(), "{why}: {error}");
            assert_eq!(seen(), before, "{why}");
            assert_eq!(ip("-n taken -o link").lines().count(), 3, "{why}");
            assert_eq!(ip("-n routed -o link").lines().count(), 3, "{why}");
        }
        assert_eq!(control.lab().ports, []);
    });
}

#[test]
fn an_apply_that_fails_puts_back_what_it_had_removed() {
    isolated(async || {
        ip("netns add taken");
        ip("-n taken link add eth0 type veth peer peer0");
        let control = start().await;
        control
            .add_port(with_address("red", PortKind::Veth, "10.0.0.1/24"), NOT_DRY)
            .await
            .unwrap();
        let main = "main".parse().unwrap();
        let entry = FdbAdd {
            vlan: None,
            mac: Mac([2, 0, 0, 0, 0, 7]),
            port: "red".parse().unwrap(),
        };
        control.fdb_add(&main, entry, NOT_DRY).await.unwrap();
        let (lab, before) = (control.lab(), seen());
        let bad = Port {
            namespace: Some("taken".parse().unwrap()),
            ..port("bad", PortKind::Veth)
        };
        let next = Lab {
            ports: vec![port("blue", PortKind::Tap), bad],
            ..Lab::default()
        };
        control.apply(next, NOT_DRY).await.unwrap_err();
        assert_eq!(control.lab(), lab);
        assert_eq!(seen().1, before.1);
        assert_eq!(state(&control, "red").await, PortState::Up);
        assert!(ip("-n red addr show eth0").contains("10.0.0.1/24"));
        let fdb = control.fdb(&main).unwrap();
        assert!(
            fdb.iter().any(|entry| entry.mac.0[5] == 7 && entry.is_static),
            "{fdb:?}"
        );
        // The namespace is still vswitch's own, and the same after a restart.
        control.shutdown().await;
        drop(control);
        let control = start().await;
        control.reset(NOT_DRY).await.unwrap();
        assert_eq!(seen().1, BTreeSet::from(["taken".to_owned()]));
    });
}

#[test]
fn what_a_killed_command_had_begun_goes_and_nothing_else() {
    isolated(async || {
        let control = start().await;
        control.add_port(port("red", PortKind::Veth), NOT_DRY).await.unwrap();
        control.shutdown().await;
        drop(control);
        // As if the daemon had been killed before it wrote the lab: the note is there, the lab is not. Namespace green
        // was noted as to be made, and then somebody else made one of that name.
        let state = fs::read_to_string("/run/state/state.json").unwrap();
        let mut state: serde_json::Value = serde_json::from_str(&state).unwrap();
        let ports = std::mem::take(&mut state["lab"]["ports"]);
        state["lab"]["ports"] = serde_json::json!([]);
        let owned = std::mem::replace(&mut state["namespaces"], serde_json::json!([]));
        fs::write("/run/state/state.json", state.to_string()).unwrap();
        ip("netns add green");
        let mut foreign = owned[0].clone();
        foreign["name"] = "green".into();
        let note = serde_json::json!({"ports": ports, "cables": [], "namespaces": [owned[0], foreign]});
        fs::write("/run/vswitch/in-flight.json", note.to_string()).unwrap();
        let control = start().await;
        assert_eq!(ip("netns").split_whitespace().next(), Some("green"));
        assert_eq!(ip("netns").lines().count(), 1);
        assert!(!Path::new("/run/vswitch/in-flight.json").exists());
        control.add_port(port("red", PortKind::Veth), NOT_DRY).await.unwrap();
        assert_eq!(
            control.port(&"red".parse().unwrap()).await.unwrap().state,
            PortState::Up
        );
    });
}

#[test]
fn the_same_again_is_no_error_when_that_is_asked_for() {
    isolated(async || {
        let control = start().await;
        let again = ChangeOptions {
            idempotent: true,
            ..NOT_DRY
        };
        let red = with_address("red", PortKind::Veth, "10.0.0.1/24");
        control.add_port(red.clone(), again).await.unwrap();
        // The defaults, given or not, are the same settings.
        let spelt_out = Port {
            mtu: Some(1500),
            ifname: Some("eth0".parse().unwrap()),
            ..red.clone()
        };
        for same in [red.clone(), spelt_out] {
            assert_eq!(control.add_port(same, again).await.unwrap().done, [""; 0]);
        }
        let error = control
            .add_port(
                Port {
                    mtu: Some(9000),
                    ..red.clone()
                },
                again,
            )
            .await
            .unwrap_err();
        assert!(
            error.code == ErrorCode::Conflict && error.cause.contains("mtu"),
            "{error}"
        );
        assert_eq!(
            control.add_port(red, NOT_DRY).await.unwrap_err().code,
            ErrorCode::Conflict
        );
    });
}

#[test]
fn a_dry_run_says_what_is_then_done() {
    isolated(async || {
        let control = start().await;
        let before = seen();
        let dry = ChangeOptions {
            dry_run: true,
            ..NOT_DRY
        };
        let red = with_address("red", PortKind::Veth, "10.0.0.1/24");
        let said = control.add_port(red.clone(), dry).await.unwrap();
        assert_eq!(seen(), before);
        assert_eq!(control.lab().ports, []);
        assert!(said.done.iter().any(|line| line == "created namespace red"), "{said:?}");
        assert_eq!(control.add_port(red, NOT_DRY).await.unwrap().done, said.done);
        let said = control.reset(dry).await.unwrap();
        assert_eq!(state(&control, "red").await, PortState::Up);
        assert_eq!(control.reset(NOT_DRY).await.unwrap().done, said.done);
    });
}
