//! Signals, systemd's notifications, and what is left after the end.

use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal::{SIGHUP, SIGINT, SIGKILL, SIGTERM};

use crate::daemon::{Daemon, Place, wait_for};

#[test]
fn a_clean_stop_removes_socket_and_lock() {
    for signal in [SIGTERM, SIGINT] {
        let daemon = Daemon::start();
        daemon.signal(signal);
        let (place, code) = daemon.wait();
        assert_eq!(code, Some(0), "{}", place.log());
        assert!(!place.socket().exists() && !place.path("run/lock").exists());
    }
}

#[test]
fn after_a_kill_the_next_start_takes_over() {
    let daemon = Daemon::start();
    daemon.signal(SIGKILL);
    let (place, code) = daemon.wait();
    assert_eq!(code, None);
    assert!(place.socket().exists() && place.path("run/lock").exists());
    Daemon::start_in(place, |_| {}).get("/v1/status");
}

/// What begins as the lab comes back is not left to run into the end.
#[test]
fn a_stop_as_soon_as_it_answers_is_a_stop_like_others() {
    for round in 0..10 {
        let daemon = Daemon::start();
        daemon.signal(SIGTERM);
        let (place, code) = daemon.wait();
        assert_eq!(code, Some(0), "round {round}: {}", place.log());
    }
}

#[test]
fn an_open_event_stream_does_not_hold_up_the_stop() {
    let daemon = Daemon::start();
    let mut events = daemon.send("GET", "/v1/events", "");
    let mut head = [0; 12];
    events.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let start = Instant::now();
    daemon.signal(SIGTERM);
    let (_, code) = daemon.wait();
    assert_eq!(code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    // The end of the stream, not a timeout of the reader.
    events.read_to_end(&mut Vec::new()).unwrap();
}

#[test]
fn reload_changes_the_log_level_and_survives_a_bad_file() {
    let place = Place::new();
    std::fs::write(place.path("config.toml"), "[log]\nformat = \"json\"\n").unwrap();
    let daemon = Daemon::start_in(place, |_| {});
    let place = &daemon.place;
    daemon.get("/v1/status");
    assert!(!place.log().contains("\"request\""));

    std::fs::write(place.path("config.toml"), "[log]\nlevle = \"debug\"\n").unwrap();
    daemon.signal(SIGHUP);
    wait_for("the error is logged", || place.log().contains("not reloaded"));
    assert!(place.log().contains("levle"), "{}", place.log());

    std::fs::write(
        place.path("config.toml"),
        "[log]\nlevel = \"debug\"\nformat = \"json\"\n[datapath]\nspin_us = 7\n",
    )
    .unwrap();
    daemon.signal(SIGHUP);
    wait_for("the level changes", || {
        daemon.get("/v1/status");
        place.log().contains("\"request\"")
    });
    assert!(
        place
            .log()
            .contains("datapath.spin_us has changed; that takes effect at the next restart"),
        "{}",
        place.log()
    );
    assert!(!place.log().contains("log.format has changed"));
    for line in place.log().lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}

#[test]
fn systemd_hears_of_start_life_reload_and_stop() {
    let place = Place::new();
    let path = place.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = |expected: &str| {
        let mut buffer = [0; 512];
        loop {
            let length = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{expected}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]);
            if text.lines().any(|line| line == expected) {
                break;
            }
        }
    };
    let daemon = Daemon::start_in(place, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    });
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    daemon.signal(SIGHUP);
    hear("RELOADING=1");
    hear("READY=1");
    daemon.signal(SIGTERM);
    hear("STOPPING=1");
    assert_eq!(daemon.wait().1, Some(0));
}
