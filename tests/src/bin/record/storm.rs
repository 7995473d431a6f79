//! One station sends as fast as it can while two others talk over TCP: what they have left if that are frames of many senders, or
//! broadcasts, against frames of one sender to one that nobody knows.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe};
use vswitch_testing::transfer::TcpPair;
use vswitch_testing::{Lab, Station};

/// How long each storm goes on before the next has its turn.
const SLICE: Duration = Duration::from_millis(500);
/// Turns of each.
const TURNS: usize = 9;

/// What the third station sends.
#[derive(Clone, Copy, PartialEq)]
enum Storm {
    Nothing,
    /// Of one sender, to stations that nobody knows.
    OneSender,
    /// Each of another sender.
    ManySenders,
    /// To all.
    Broadcasts,
    /// The same where storm control lets [`LIMIT`] of them in.
    LimitedBroadcasts,
}

const LIMIT: &str = "1000pps";
const STORMS: [Storm; 5] = [
    Storm::Nothing,
    Storm::OneSender,
    Storm::ManySenders,
    Storm::Broadcasts,
    Storm::LimitedBroadcasts,
];

/// Each kind of port with the fast path and without, as a table.
pub fn run() {
    println!(
        "\nMegabytes a second that two stations carry while a third sends 60-byte frames as fast as it can, medians of {TURNS} turns, and against \
         frames of one sender:\n\n| ports | nothing | of one sender | of many | broadcasts | broadcasts, storm control at {LIMIT} |\n\
         |---|---|---|---|---|---|"
    );
    for (kind, fastpath, text) in [
        (PortKind::Veth, true, "`veth`, by the kernel"),
        (PortKind::Veth, false, "`veth`, `fastpath = false`"),
        (PortKind::Tap, true, "`tap`"),
    ] {
        // A lab holds for the thread that made it.
        let measured = thread::spawn(move || measure(kind, fastpath)).join();
        let measured = measured.expect("the run came to its end");
        let [_, one, ..] = measured;
        let shown = measured.map(|rate| format!("{rate:.1} ({:.2})", rate / one));
        println!("| {text} | {} |", shown.join(" | "));
    }
}

/// Megabytes a second that the two carry during each storm, medians.
fn measure(kind: PortKind, fastpath: bool) -> [f64; STORMS.len()] {
    let mut lab = Lab::without_daemon();
    lab.set_datapath("fastpath", fastpath);
    lab.start();
    let red = Station::add(&lab, "red", kind, 1);
    let blue = Station::add(&lab, "blue", kind, 2);
    let evil = Station::add(&lab, "evil", kind, 3);
    red.ping(blue.v4);
    let (red_mac, blue_mac) = (red.mac(), blue.mac());
    let (stop, now, carried) = (AtomicBool::new(false), AtomicU8::new(0), AtomicU64::new(0));
    let pair = TcpPair::connect(&red, &blue, false);
    let socket = evil.raw(false);
    let mut all = STORMS.map(|_| Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                pair.exchange(2);
                carried.fetch_add(2 * 2 * 64 * 1024, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            for id in 0u32.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (to, from) = match STORMS[usize::from(now.load(Ordering::Relaxed))] {
                    Storm::Nothing => {
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    Storm::OneSender => (mac(6, id), mac(5, 0)),
                    Storm::ManySenders => (mac(6, id), mac(7, id)),
                    Storm::Broadcasts | Storm::LimitedBroadcasts => (Mac::BROADCAST, mac(5, 0)),
                };
                // A full queue of its own is no reason to end.
                let _ = socket.try_send(Default::default(), &probe(to, from, id));
            }
        });
        for _ in 0..TURNS {
            for (storm, rates) in all.iter_mut().enumerate() {
                now.store(storm as u8, Ordering::Relaxed);
                let is_limited = STORMS[storm] == Storm::LimitedBroadcasts;
                if is_limited {
                    lab.ok(&format!("storm evil --broadcast {LIMIT}"));
                }
                thread::sleep(SLICE / 5);
                let before = carried.load(Ordering::Relaxed);
                thread::sleep(SLICE);
                let bytes = carried.load(Ordering::Relaxed) - before;
                rates.push(bytes as f64 / SLICE.as_secs_f64() / 1e6);
                if is_limited {
                    lab.ok("storm clear evil");
                }
            }
            // Who was known before stays known.
            let fdb = lab.fdb("main");
            for known in [red_mac, blue_mac] {
                assert!(fdb.iter().any(|entry| entry.mac == known), "{known} was forgotten");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    all.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    })
}
