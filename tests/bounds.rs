//! Bounds: what a client, an edit or a number of ports may take, and that nobody else has to wait for it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;
use std::time::Duration;

use vswitch_testing::api::DEFAULT_SOCKET;
use vswitch_testing::api::view::{PortState, Status};
use vswitch_testing::http::{connect, request};
use vswitch_testing::{Lab, run, wait_for};

/// A lab of so many veth ports, as JSON.
fn many(count: usize) -> String {
    let ports: Vec<_> = (0..count)
        .map(|n| format!(r#"{{"name":"p{n}","kind":"veth","namespace":"n{n}"}}"#))
        .collect();
    format!(r#"{{"ports":[{}]}}"#, ports.join(","))
}

/// Makes a change that may take long, and gives the status of the answer.
fn change(method: &str, path: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(DEFAULT_SOCKET).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

fn status() -> Status {
    serde_json::from_value(request("GET", "/v1/status", "").json()).unwrap()
}

/// Sends the head of a request, and so much of its body, on a connection that is never read.
fn send(text: &str) -> UnixStream {
    let mut stream = connect();
    // It may have been refused or closed already.
    let _ = stream.write_all(text.as_bytes());
    stream
}

fn get(path: &str) -> UnixStream {
    send(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// The watchdog had asked for the lock of edits: systemd would have killed the daemon in the middle of a long apply, and
/// `show` hung until it was over.
#[test]
fn questions_and_the_watchdog_do_not_wait_for_an_edit() {
    let mut lab = Lab::without_daemon();
    let path = lab.scratch().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let mut command = lab.daemon_command();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    lab.start_with(command, |_| {});

    // One of which something can be asked that the kernel answers.
    assert_eq!(change("PUT", "/v1/lab", &many(1)), "HTTP/1.1 200 OK");
    let count = 400;
    let applying = thread::spawn(move || change("PUT", "/v1/lab", &many(count)));
    let progress = wait_for("the edit to begin", || {
        status().progress.filter(|progress| progress.done > 0)
    });
    assert!(progress.of as usize >= count, "{progress:?}");
    // What was told before.
    systemd.set_nonblocking(true).unwrap();
    while systemd.recv(&mut [0; 512]).is_ok() {}
    systemd.set_nonblocking(false).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = [0; 512];
    let length = systemd.recv(&mut text).unwrap();
    assert!(text[..length].starts_with(b"WATCHDOG=1"), "{text:?}");
    for path in [
        "/v1/switches",
        "/v1/ports",
        "/v1/lab",
        "/metrics",
        "/v1/switches/main/fdb",
        "/v1/namespaces",
        "/v1/ports/p0/way?to=10.7.0.1",
    ] {
        assert_eq!(request("GET", path, "").status, 200, "{path}");
    }
    assert!(lab.ok("status").contains("steps done"));
    assert!(lab.ok("show").contains("switch main"));
    wait_for("the edit to get on", || {
        let now = status().progress;
        now.expect("all of this was answered while the edit went on").done > progress.done
    });

    assert_eq!(applying.join().unwrap(), "HTTP/1.1 200 OK");
    // Nobody reads it any more: it must not fill up.
    drop(systemd);
    assert_eq!(status().progress, None);
    assert_eq!(lab.ports().len(), count);
    // It had waited for all that was still to be looked at after such an edit, at some 40 ms a port.
    lab.stop_daemon();
    lab.start();
    assert!(lab.ports().iter().all(|port| port.state == PortState::Up));
    lab.ok("reset --yes");
    assert_eq!(run("ip netns list"), "");
    lab.stop_daemon();
}

/// 256 readers that never read, and half a request each of others, had locked out all control for more than a minute.
#[test]
fn clients_that_never_read_nor_write_lock_nobody_out() {
    let lab = Lab::new();
    lab.ok("add-port red --addr 10.0.0.1/24");
    let mut stalled: Vec<_> = (0..256).map(|_| get("/v1/events")).collect();
    stalled.extend((0..50).map(|_| get("/v1/ports/red/capture")));
    for _ in 0..2 {
        stalled.extend((0..150).map(|_| send("GET /v1/ports HT")));
        stalled.extend((0..150).map(|_| send("PUT /v1/lab HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")));
    }
    assert!(lab.ok("show").contains("red"));
    lab.ok("add-port blue --addr 10.0.0.2/24");
    lab.ok("ns exec blue -- ping -n -c 1 -W 10 10.0.0.1");
    drop(stalled);
    // Whoever closed its connection holds no place.
    let open = || {
        wait_for("a place for a stream", || {
            let (mut stream, mut head) = (get("/v1/events"), [0; 12]);
            stream.read_exact(&mut head).ok()?;
            (&head == b"HTTP/1.1 200").then_some(stream)
        })
    };
    let events: Vec<_> = (0..60).map(|_| open()).collect();
    assert!(lab.ok("show").contains("blue"));
    drop(events);
}

/// A client that gave up had its request carried out all the same, as soon as it was its turn.
#[test]
fn a_request_whose_client_is_gone_before_it_began_is_not_carried_out() {
    let lab = Lab::new();
    let applying = thread::spawn(|| change("PUT", "/v1/lab", &many(40)));
    wait_for("the edit to begin", || status().progress.is_some());
    let body = r#"{"name":"late","kind":"veth"}"#;
    let head = "POST /v1/ports HTTP/1.1\r\nHost: x\r\nContent-Length:";
    let hurried = send(&format!("{head} {}\r\n\r\n{body}", body.len()));
    let patient = thread::spawn(|| change("POST", "/v1/ports", r#"{"name":"kept","kind":"veth"}"#));
    assert!(status().progress.is_some(), "the first edit still runs");
    drop(hurried);
    assert_eq!(applying.join().unwrap(), "HTTP/1.1 200 OK");
    assert_eq!(patient.join().unwrap(), "HTTP/1.1 201 Created");
    let names: Vec<_> = lab.ports().into_iter().map(|port| port.port.name.to_string()).collect();
    assert!(
        names.contains(&"kept".into()) && !names.contains(&"late".into()),
        "{names:?}"
    );
}

/// The body of a request was bounded by a third of the ports that the daemon can have.
#[test]
fn a_lab_of_as_many_ports_as_there_can_be_is_understood() {
    let _lab = Lab::new();
    let answer = request("PUT", "/v1/lab?dry_run", &many(16_384));
    assert_eq!(answer.status, 200, "{:.300}", answer.body);
    assert_eq!(
        answer.json()["done"].as_array().unwrap().len(),
        2 * 16_384,
        "a namespace and a port each"
    );
    let answer = request("PUT", "/v1/lab?dry_run", &many(16_385));
    assert_eq!(answer.status, 400, "{:.300}", answer.body);
    assert!(
        answer.body.contains("ports: there are more than 16384"),
        "{:.300}",
        answer.body
    );
}

/// One switch with the largest FDB took a gigabyte, and nothing stood against a second.
#[test]
fn the_fdbs_of_all_switches_together_have_a_bound() {
    let lab = Lab::new();
    let refused = lab.ctl("switch add big --fdb-capacity 16777216");
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("fdb_entries") && refused.stderr.contains("4194304"),
        "{refused}"
    );
    for n in 0..4 {
        lab.ok(&format!("switch add s{n} --fdb-capacity 1000000"));
    }
    assert_ne!(lab.ctl("switch add s4 --fdb-capacity 1000000").code, 0);
    lab.ok("switch del s0");
    lab.ok("switch add s4 --fdb-capacity 1000000");

    // Of a switch without ports it can be changed, within the same bound.
    let refused = lab.ctl("set switch s4 fdb_capacity=9000000");
    assert!(refused.code == 5 && refused.stderr.contains("fdb_entries"), "{refused}");
    lab.ok("set switch s4 fdb_capacity=8");
    assert_eq!(lab.switch("s4").switch.fdb_capacity, 8);
    lab.ok("add-port red --switch s4");
    let refused = lab.ctl("set switch s4 fdb_capacity=16");
    assert!(
        refused.code == 5 && refused.stderr.contains("remove its ports"),
        "{refused}"
    );
}
