//! The control module against the real kernel: each test has a network, a mount table and a /run of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use vswitch::control::{Control, ControlConfig};
use vswitch::engines::Engines;
use vswitch::port::Engine;
use vswitch_api::patch::MergePatch;
use vswitch_api::request::{ChangeOptions, FdbAdd, PortPatch};
use vswitch_api::view::PortState;
use vswitch_api::{Cable, CableEnd, ErrorCode, EventKind, Lab, Mac, Port, PortKind, Route};

const NOT_DRY: ChangeOptions = ChangeOptions {
    dry_run: false,
    idempotent: false,
    force: false,
};

/// Runs `test` on a thread that shares nothing of the network and of /run with the rest of the machine. Threads and
/// programs that it starts inherit that.
fn isolated(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("run this test as root");
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .unwrap();
        // What this machine has there is hidden below, but would still be listed among the mounts.
        let _ = nix::mount::umount2("/run/netns", nix::mount::MntFlags::MNT_DETACH);
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir("/run/vswitch").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn start() -> Arc<Control> {
    let config = ControlConfig {
        run_dir: "/run/vswitch".into(),
        state_dir: "/run/state".into(),
        netns_dir: "/run/netns".into(),
        workers: 2,
        cpus: Vec::new(),
        spin_us: 0,
        engine: Engine::Auto,
        // As the black-box tests have it.
        fastpath: std::env::var_os("VSWITCH_TEST_FASTPATH").is_none_or(|value| value != "off"),
        big_tcp: true,
        fdb_entries: 1 << 22,
        run_commands: true,
        engines: Engines::new("/run/docker.sock".into(), "/run/podman/podman.sock".into()),
        security: Default::default(),
        rights: Default::default(),
        recover: false,
    };
    Control::start(config).await.unwrap()
}

/// Runs `ip` with these words and gives what it prints.
fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn port(name: &str, kind: PortKind) -> Port {
    Port::new(name.parse().unwrap(), "main".parse().unwrap(), kind)
}

fn with_address(name: &str, kind: PortKind, address: &str) -> Port {
    Port {
        addresses: vec![address.parse().unwrap()],
        ..port(name, kind)
    }
}

async fn state(control: &Control, name: &str) -> PortState {
    control.port(&name.parse().unwrap()).await.unwrap().state
}

/// Waits for what comes about without a command.
async fn wait_for(what: &str, mut come: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !come().await {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Interfaces with MTU, flags and tc, and namespaces, as far as they can be seen from outside.
fn seen() -> (Vec<String>, BTreeSet<String>) {
    let links = ip("-o link")
        .lines()
        .map(|line| line.replace("noqueue", "noop"))
        .collect();
    let names = ip("netns")
        .lines()
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    (links, names)
}

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
fn reset_leaves_the_host_as_it_was() {
    isolated(async || {
        ip("netns add foreign");
        ip("link add dev0 mtu 1400 type veth peer dev0-peer");
        let before = seen();
        let control = start().await;
        let device = Port {
            mtu: Some(1300),
            ..port("dev0", PortKind::Device)
        };
        let foreign = Port {
            namespace: Some("foreign".parse().unwrap()),
            ..port("guest", PortKind::Tap)
        };
        for port in [
            device,
            foreign,
            port("gw", PortKind::Internal),
            port("red", PortKind::Veth),
        ] {
            control.add_port(port, NOT_DRY).await.unwrap();
        }
        control.add_namespace("kept".parse().unwrap(), NOT_DRY).await.unwrap();
        let end = |name: &str| CableEnd::new(name.parse().unwrap());
        control
            .add_cable(
                Cable {
                    a: end("foreign"),
                    b: end("blue"),
                    mtu: None,
                },
                NOT_DRY,
            )
            .await
            .unwrap();
        assert_ne!(seen(), before);
        let changes = control.reset(NOT_DRY).await.unwrap();
        assert_eq!(changes.warnings, [""; 0]);
        assert_eq!(seen(), before);
        assert_eq!(
            ip("-n foreign -o link").lines().count(),
            1,
            "only lo is left in foreign"
        );
        control.shutdown().await;
        assert!(!Path::new("/run/vswitch/netns").exists());
    });
}

#[test]
fn a_restart_sets_right_what_was_changed_meanwhile() {
    isolated(async || {
        let control = start().await;
        for (name, kind) in [("red", PortKind::Veth), ("green", PortKind::Tap)] {
            control
                .add_port(with_address(name, kind, &format!("10.0.0.{}/24", name.len())), NOT_DRY)
                .await
                .unwrap();
        }
        let lab = control.lab().await.unwrap();
        control.shutdown().await;
        drop(control);
        for name in ["red", "green"] {
            ip(&format!("-n {name} link set eth0 mtu 1400 address 02:00:00:00:00:99"));
            ip(&format!("-n {name} addr flush dev eth0"));
        }
        let index = ip("-n red -o link show eth0");
        let control = start().await;
        assert_eq!(control.lab().await.unwrap(), lab);
        for (name, wanted) in ["red", "green"].into_iter().zip(&lab.ports) {
            let link = ip(&format!("-n {name} -o link show eth0"));
            assert!(
                link.contains("mtu 1500") && link.contains(&wanted.mac.unwrap().to_string()),
                "{link}"
            );
            let addresses = ip(&format!("-n {name} -o addr show eth0"));
            assert!(addresses.contains(&wanted.addresses[0].to_string()), "{addresses}");
            assert_eq!(state(&control, name).await, PortState::Up);
        }
        let number = |link: &str| link.split(':').next().unwrap().to_owned();
        assert_eq!(
            number(&ip("-n red -o link show eth0")),
            number(&index),
            "adopted, not made anew"
        );
        control.reset(NOT_DRY).await.unwrap();
        assert_eq!(ip("netns"), "", "the namespaces are still known to be vswitch's");
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
        assert_eq!(control.lab().await.unwrap().ports, []);
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
        let (lab, before) = (control.lab().await.unwrap(), seen());
        let bad = Port {
            namespace: Some("taken".parse().unwrap()),
            ..port("bad", PortKind::Veth)
        };
        let next = Lab {
            ports: vec![port("blue", PortKind::Tap), bad],
            ..Lab::default()
        };
        control.apply(next, NOT_DRY).await.unwrap_err();
        assert_eq!(control.lab().await.unwrap(), lab);
        assert_eq!(seen().1, before.1);
        assert_eq!(state(&control, "red").await, PortState::Up);
        assert!(ip("-n red addr show eth0").contains("10.0.0.1/24"));
        let fdb = control.fdb(&main).await.unwrap();
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
        assert_eq!(control.lab().await.unwrap().ports, []);
        assert!(said.done.iter().any(|line| line == "created namespace red"), "{said:?}");
        assert_eq!(control.add_port(red, NOT_DRY).await.unwrap().done, said.done);
        let said = control.reset(dry).await.unwrap();
        assert_eq!(state(&control, "red").await, PortState::Up);
        assert_eq!(control.reset(NOT_DRY).await.unwrap().done, said.done);
    });
}
