//! The client library against the real daemon.

use std::time::Duration;

use tokio::time::timeout;
use vswitch_client::api::capture::CaptureOptions;
use vswitch_client::api::event::EventSelect;
use vswitch_client::api::request::ChangeOptions;
use vswitch_client::api::{DEFAULT_SOCKET, ErrorCode, EventKind, PortName};
use vswitch_client::pcapng::Item;
use vswitch_client::{Client, Error, Tag};
use vswitch_testing::{DEADLINE, Lab, Place};

#[allow(dead_code, reason = "its `main` is for the command line")]
#[path = "../ctl/client/examples/attach.rs"]
mod attach;

/// In this thread, since a lab holds for the thread that made it.
fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bounded = async { timeout(DEADLINE, what).await };
    runtime
        .unwrap()
        .block_on(bounded)
        .unwrap_or_else(|_| panic!("nothing within {DEADLINE:?}"))
}

fn name(name: &str) -> PortName {
    name.parse().unwrap()
}

#[test]
fn the_example_attaches_a_namespace_and_sees_what_happens() {
    let lab = Lab::new();
    let client = Client::new(DEFAULT_SOCKET);
    let seen = run(attach::attach(&client, "red", "192.168.15.1/24")).unwrap();
    assert!(
        seen.iter().any(|kind| matches!(kind, EventKind::NamespaceAdded { .. })),
        "{seen:?}"
    );
    run(attach::attach(&client, "blue", "192.168.15.2/24")).unwrap();
    Place::named("red").run_ok("ping -n -c 1 -W 10 192.168.15.2");
    assert_eq!(lab.ports().len(), 2);

    // Frames as they come by, until enough is enough.
    run(async {
        let mut capture = client.capture(&name("red"), &CaptureOptions::default()).await.unwrap();
        Place::named("blue").run_ok("ping -n -c 1 -W 10 192.168.15.1");
        let (mut bytes, mut frames, mut ended) = (Vec::new(), 0, false);
        while let Some(part) = capture.next().await {
            let part = part.unwrap();
            bytes.extend(part.bytes);
            frames += part.items.iter().filter(|item| matches!(item, Item::Frame(_))).count();
            if frames >= 2 && !ended {
                capture.end().await.unwrap();
                ended = true;
            }
        }
        assert!(ended, "the capture ended by itself after {frames} frames");
        assert_eq!(&bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a section header of pcapng");
    });
}

#[test]
fn errors_are_values_and_tags_keep_edits_apart() {
    let mut lab = Lab::new();
    let client = Client::new(DEFAULT_SOCKET).patience(Duration::from_secs(5));
    lab.ok("add-port red");
    let none = ChangeOptions::default();
    run(async {
        let missing = client.remove_port(&name("nobody"), none).await.unwrap_err();
        assert_eq!(missing.code(), Some(ErrorCode::NotFound), "{missing}");
        // An answer to HEAD has no body.
        let missing = client.tag("/v1/ports/nobody").await.unwrap_err();
        assert_eq!(missing.code(), Some(ErrorCode::NotFound), "{missing}");
        // Who prints an error with its sources reads each cause once.
        assert!(std::error::Error::source(&missing).is_none(), "{missing}");
        for path in ["", "v1/status", "/v1/sta tus"] {
            let wrong = client.get::<serde_json::Value>(path).await.unwrap_err();
            assert!(matches!(wrong, Error::Request { .. }), "{wrong}");
        }

        let (_, of_switch) = client.switch_tagged(&"main".parse().unwrap()).await.unwrap();
        assert_eq!(of_switch, client.tag("/v1/switches/main").await.unwrap());
        let (port, tag) = client.port_tagged(&name("red")).await.unwrap();
        // As kept in a file.
        let tag = tag.map(|tag| tag.to_string().parse::<Tag>().unwrap());
        assert_eq!(port.port.description.to_string(), "");
        let patch = serde_json::json!({"description": "mine"});
        let dry = ChangeOptions { dry_run: true, ..none };
        client
            .patch_port(&name("red"), &patch, dry, tag.as_ref())
            .await
            .unwrap();
        client
            .patch_port(&name("red"), &patch, none, tag.as_ref())
            .await
            .unwrap();
        let late = client
            .patch_port(&name("red"), &patch, none, tag.as_ref())
            .await
            .unwrap_err();
        assert!(late.is_changed(), "{late}");

        // What was missed is told to who comes again.
        let mut events = client.events(&EventSelect::default()).await.unwrap();
        client.add_namespace("spare".parse().unwrap(), none).await.unwrap();
        let first = events.next().await.unwrap().unwrap();
        client.remove_namespace(&"spare".parse().unwrap(), none).await.unwrap();
        drop(events);
        let since = EventSelect {
            since: Some(first.id.parse().unwrap()),
            ..EventSelect::default()
        };
        let mut again = client.events(&since).await.unwrap();
        let next = again.next().await.unwrap().unwrap();
        assert_eq!(next.seq, first.seq + 1);
        assert_eq!(client.ports().await.unwrap().len(), 1);
        assert_eq!(client.lab().await.unwrap().ports[0].description.to_string(), "mine");
    });
    lab.stop_daemon();
    let gone = run(client.status()).unwrap_err();
    assert!(gone.is_unreachable() && matches!(gone, Error::Connect { .. }), "{gone}");
}
