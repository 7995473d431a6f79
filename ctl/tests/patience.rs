//! How long the tool waits for the daemon: as long as that lives, and no longer.
#![allow(clippy::unwrap_used, reason = "a test that can not go on has failed")]

mod common;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

/// Reads the head of a request.
fn request(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

fn answer(stream: &mut UnixStream, body: &str) {
    let length = body.len();
    let text = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
}

/// vswitchctl once waited for ever, or gave a long `apply` up after two minutes (faults C, E12).
#[test]
fn a_daemon_without_a_sign_of_life_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // Connections are taken and never answered.
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            kept.push(stream.unwrap());
        }
    });
    for command in ["status", "add-port red", "events", "capture red --text"] {
        let ran = common::run(&socket, &format!("--timeout 0.1 {command}"), "");
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{command}: {ran:?}");
        assert!(ran.stderr.contains("no sign of life for 100ms"), "{command}: {ran:?}");
        assert!(ran.stderr.contains("--timeout"), "{command}: {ran:?}");
    }
}

#[test]
fn a_busy_daemon_that_lives_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = std::thread::spawn(move || {
        let (mut busy, _) = listener.accept().unwrap();
        assert!(request(&mut busy).starts_with("DELETE /v1/ports/red"));
        // The answer comes only after the tool has asked three times whether anybody is there.
        for _ in 0..3 {
            let (mut sign, _) = listener.accept().unwrap();
            assert!(request(&mut sign).starts_with("GET "));
            answer(&mut sign, "{}");
        }
        answer(&mut busy, "{\"done\": [\"did it\"]}");
    });
    let ran = common::run(&socket, "--timeout 0.2 del-port red", "");
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "did it\n"), "{ran:?}");
    daemon.join().unwrap();
}

#[test]
fn a_time_out_is_a_time() {
    for wrong in ["0", "-1", "+1", "x", "1e3"] {
        let ran = common::run(
            std::path::Path::new("/nowhere"),
            &format!("--timeout={wrong} status"),
            "",
        );
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(
            ran.stderr.contains("--timeout") && ran.stderr.contains(wrong),
            "{ran:?}"
        );
    }
}
