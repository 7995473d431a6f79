//! Many clients that want different things of the same names at the same time: each answer is true, and what is there in the end is what
//! some order of the edits that were made would have left.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vswitch_testing::http::request;
use vswitch_testing::{Lab, run};

const CLIENTS: usize = 20;
/// Ports that all of them add, change and remove.
const NAMES: [&str; 4] = ["red", "blue", "green", "black"];

/// Numbers that look random and are the same for the same client (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (z ^ (z >> 27)) % n
    }
}

#[derive(Default)]
struct Made {
    /// Additions less removals, of each name.
    ports: [AtomicI64; NAMES.len()],
    rules: AtomicI64,
    edits: AtomicU32,
    refused: AtomicU32,
}

fn client(number: usize, until: Instant, made: &Made) {
    let mut dice = Dice(number as u64);
    while Instant::now() < until {
        let which = dice.below(NAMES.len() as u64) as usize;
        let name = NAMES[which];
        let mtu = 1300 + dice.below(200);
        let (method, path, body, counted, by) = match dice.below(6) {
            0 | 1 => (
                "POST",
                "/v1/ports".to_owned(),
                json!({"name": name}),
                Some(&made.ports[which]),
                1,
            ),
            2 => (
                "DELETE",
                format!("/v1/ports/{name}"),
                Value::Null,
                Some(&made.ports[which]),
                -1,
            ),
            3 => ("PATCH", format!("/v1/ports/{name}"), json!({"mtu": mtu}), None, 0),
            4 => {
                let rule = json!({"direction": "in", "rule": format!("permit udp to any port {mtu}")});
                ("POST", "/v1/ports/host/acl".to_owned(), rule, Some(&made.rules), 1)
            }
            _ => ("GET", format!("/v1/ports/{name}"), Value::Null, None, 0),
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = request(method, &path, &body);
        match (method, answer.status) {
            ("GET", 200 | 404) => {}
            (_, 200 | 201) => {
                made.edits.fetch_add(1, Ordering::Relaxed);
                if let Some(counted) = counted {
                    counted.fetch_add(by, Ordering::Relaxed);
                }
            }
            // Somebody else was first.
            (_, 404 | 409 | 412) => _ = made.refused.fetch_add(1, Ordering::Relaxed),
            _ => panic!("{method} {path} {body}: {answer:?}"),
        }
    }
}

/// Some seconds; `VSWITCH_SECONDS` says how many others.
#[test]
fn what_many_clients_were_told_is_what_is_there() {
    let seconds = std::env::var("VSWITCH_SECONDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(2);
    let mut lab = Lab::new();
    lab.ok("add-port host --type internal");
    let (made, until) = (Made::default(), Instant::now() + Duration::from_secs(seconds));
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let made = &made;
            scope.spawn(move || client(number, until, made));
        }
    });
    let (edits, refused) = (made.edits.into_inner(), made.refused.into_inner());
    println!("{seconds} s: {edits} edits made, {refused} refused");
    assert!(edits > 0 && refused > 0, "{edits} made, {refused} refused");
    let there = |name: &str| lab.ports().iter().any(|port| port.port.name.as_str() == name);
    let namespaces = run("ip netns list");
    for (name, balance) in NAMES.iter().zip(&made.ports) {
        let balance = balance.load(Ordering::Relaxed);
        assert_eq!(
            balance,
            i64::from(there(name)),
            "{name}: additions less removals that were told"
        );
        let namespace = namespaces.lines().any(|line| line.split(' ').next() == Some(name));
        assert_eq!(namespace, there(name), "namespace {name}");
    }
    let host = lab.port("host");
    assert_eq!(host.port.acl.ingress.len() as i64, made.rules.into_inner());
    // The same after a start from what is on the disk.
    let exported = lab.ok("export");
    lab.kill_daemon();
    lab.start();
    assert_eq!(lab.ok("export"), exported);
    lab.ok("reset --yes");
}
