//! Labs as a whole: applied, reset, removed only when that was said.

use common::{Asked, Replies};
use serde_json::{Value, json};

use super::*;

#[test]
fn a_lab_file_is_applied_from_a_file_and_from_standard_input() {
    let text = "namespaces = [\"red\"]\n[[ports]]\nname = \"red\"\nkind = \"tap\"\naddresses = [\"10.0.0.1/24\"]\n";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let lab = json!({
        "switches": [], "namespaces": ["red"], "cables": [],
        "ports": [{"name": "red", "switch": "main", "kind": "tap", "addresses": ["10.0.0.1/24"]}]
    });
    asks(
        &format!("apply -n {}", file.path().display()),
        "PUT",
        "/v1/lab?dry_run=true&idempotent=false",
        lab.clone(),
    );

    let daemon = Replies::default().json("GET /v1/lab", json!({})).start();
    let ask = |method: &str, uri: &str, body: &Value| Asked {
        method: method.into(),
        uri: uri.into(),
        body: body.clone(),
    };
    let put = |uri: &str| ask("PUT", uri, &lab);
    // What would go is asked first, unless it does not matter.
    assert_eq!(daemon.run_with_stdin("apply -", text).code, 0);
    let plan = "/v1/lab?dry_run=true&idempotent=false";
    let get = || ask("GET", "/v1/lab", &Value::Null);
    assert_eq!(daemon.asked(), [get(), put(plan), put("/v1/lab")]);
    for yes in ["--yes", "-y", "--prune"] {
        assert_eq!(daemon.run_with_stdin(&format!("apply {yes} -"), text).code, 0);
        assert_eq!(daemon.asked(), [get(), put("/v1/lab")], "{yes}");
    }
    // All of it goes, so one of a newer daemon need not be understood.
    let newer = Replies::default().json("GET /v1/lab", json!({"tunnels": []})).start();
    assert_eq!(newer.run_with_stdin("apply --yes -", text).code, 0);
    let head = ask("HEAD", "/v1/lab", &Value::Null);
    assert_eq!(newer.asked(), [get(), head, put("/v1/lab")]);
}

/// `vswitchctl --socket /wrong export | vswitchctl apply -` once removed everything (faults A2).
#[test]
fn an_empty_lab_file_changes_nothing() {
    let daemon = Replies::default().start();
    let file = tempfile::NamedTempFile::new().unwrap();
    for text in [
        "",
        "\n",
        "  \r\n\t\n",
        "# only a comment\n\n  # and another",
        "\u{feff}",
    ] {
        std::fs::write(file.path(), text).unwrap();
        let from_file = daemon.run(&format!("apply {}", file.path().display()));
        for ran in [
            from_file,
            daemon.run_with_stdin("apply -", text),
            daemon.run_with_stdin("apply --yes -", text),
            daemon.run_with_stdin("apply -n -", text),
        ] {
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{text:?}: {ran:?}");
            assert!(ran.stderr.contains("it is empty, so nothing was changed"), "{ran:?}");
            assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        }
    }
    assert_eq!(daemon.asked(), []);
}

/// Without a terminal a plan by which things go is refused and told, and `--yes` carries it out (faults A2).
#[test]
fn what_would_be_removed_is_asked_about() {
    let removed: Vec<_> = (0..25).map(|n| format!("removed port p{n} from switch main")).collect();
    let daemon = Replies::default()
        .json("GET /v1/lab", json!({}))
        .json("PUT /v1/lab", json!({"done": removed.clone(), "removed": removed}))
        .start();
    let ran = daemon.run_with_stdin("apply -", "ports = []\n");
    assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{ran:?}");
    for part in [
        "port p0 from switch main",
        "port p19",
        "5 more",
        "Nothing was changed",
        "--yes",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {ran:?}");
    }
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
    let uris: Vec<_> = daemon.asked().into_iter().map(|asked| asked.uri).collect();
    assert_eq!(uris, ["/v1/lab", "/v1/lab?dry_run=true&idempotent=false"]);
    let ran = daemon.run_with_stdin("apply --yes -", "ports = []\n");
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 25), "{ran:?}");
}

/// What is made of something read before is made on the condition that it is still so, and again where it is not.
#[test]
fn what_comes_between_is_not_undone() {
    let port = json!({
        "name": "t", "vlan": {"trunk": {"allowed": "10"}}, "state": "up", "state_secs": 1, "queues": 1,
        "fdb_entries": 0, "counters": vswitch_api::view::PortCounters::default()
    });
    let daemon = |times| {
        Replies::default()
            .json("GET /v1/ports/t", port.clone())
            .json("GET /v1/lab", json!({}))
            .changed(times)
            .start()
    };
    let tag = |n: usize| Some(format!("\"tag-{n}\""));

    let one = daemon(1);
    assert_eq!(one.run("set port t --trunk +30").code, 0);
    assert_eq!(one.conditions(), [None, tag(1), None, tag(0)]);
    one.asked();
    assert_eq!(one.run("set port t --trunk 30").code, 0);
    assert_eq!(one.conditions(), [None], "what says all depends on nothing");
    // The plan, and what is done by it.
    assert_eq!(one.run_with_stdin("apply -", "ports = []\n").code, 0);
    assert_eq!(one.conditions(), [None, tag(0), tag(0)]);

    let always = daemon(usize::MAX);
    let ran = always.run("set port t --trunk +30");
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(ran.stderr.contains("it changed since it was read"), "{ran:?}");
}

#[test]
fn reset_away_from_a_terminal_needs_a_yes() {
    asks("reset --yes", "POST", "/v1/reset", Value::Null);
    asks(
        "reset -n",
        "POST",
        "/v1/reset?dry_run=true&idempotent=false",
        Value::Null,
    );
    // What is there still was not done.
    let (gone, stays) = ("removed namespace red", "removed namespace blue");
    for (done, code) in [(json!([gone, stays]), 0), (json!([gone]), 1)] {
        let daemon = Replies::default()
            .json(
                "POST /v1/reset",
                json!({ "done": done, "removed": [gone, stays], "warnings": [] }),
            )
            .start();
        let ran = daemon.run("reset --yes");
        assert_eq!((ran.code, ran.stdout.contains(stays)), (code, code == 0), "{ran:?}");
    }
    let daemon = Replies::default().start();
    let ran = daemon.run("reset");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("add --yes"), "{ran:?}");
    assert_eq!(daemon.asked(), []);
}
