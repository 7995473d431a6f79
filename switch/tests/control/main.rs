//! The control module against the real kernel: each test has a network, a mount table and a /run of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod ports;
mod refused;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vswitch::control::{Control, ControlConfig};
use vswitch::engines::Engines;
use vswitch::port::Engine;
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::PortState;
use vswitch_api::{Cable, CableEnd, Port, PortKind};
use vswitch_linux::testing::sandboxed;

const NOT_DRY: ChangeOptions = ChangeOptions {
    dry_run: false,
    idempotent: false,
    force: false,
};

/// Runs `test` on a thread that shares nothing of the network and of /run with the rest of the machine. Threads and
/// programs that it starts inherit that.
fn isolated(test: impl AsyncFnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        sandboxed(async || {
            fs::create_dir("/run/vswitch").unwrap();
            test().await;
        });
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
        keep_lab: false,
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
        let lab = control.lab();
        control.shutdown().await;
        drop(control);
        for name in ["red", "green"] {
            ip(&format!("-n {name} link set eth0 mtu 1400 address 02:00:00:00:00:99"));
            ip(&format!("-n {name} addr flush dev eth0"));
        }
        let index = ip("-n red -o link show eth0");
        let control = start().await;
        assert_eq!(control.lab(), lab);
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
