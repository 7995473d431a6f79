//! Traffic of all sorts while ports come and go, settings change and the daemon restarts: in the end each frame is accounted for, and
//! nothing has grown.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::Mac;
use vswitch_testing::api::view::PortState;
use vswitch_testing::frame::{mac, probe_of_len};
use vswitch_testing::transfer::TcpPair;
use vswitch_testing::{Lab, Station};

use crate::sums::{adds_up, no_errors};

/// Chunks of 64 KiB that an exchange carries each way.
const CHUNKS: usize = 16;
/// How long connections carry what they can, to know what that is.
const MEASURE: Duration = Duration::from_secs(10);
/// The part of it that they carry from then on.
const LOAD: f64 = 0.8;
/// Parts of a run for each of which the memory is told: ten minutes of an hour. In the first the daemon restarts again and again; then it
/// runs to the end, so that what grows shows.
const PARTS: u32 = 6;
/// Rounds of changes from one restart to the next.
const ROUNDS: u64 = 10;
/// That an exchange carries, both ways together.
const BYTES: u64 = 2 * 64 * 1024 * CHUNKS as u64;

/// So many seconds with the kernel fast path or without.
pub fn run(time: Duration, fastpath: bool) {
    // A lab holds for the thread that made it.
    let soaked = thread::spawn(move || soak(time, fastpath)).join();
    println!(
        "fastpath = {fastpath}, {} s: {}",
        time.as_secs(),
        soaked.expect("it holds")
    );
}

/// A lab that comes and goes.
const HOSTS: &str = r#"
name = "hosts"
[[switches]]
name = "hosts"
[[ports]]
name = "h{1..3}"
switch = "hosts"
addresses = ["10.9.0.{n}/24"]
"#;

/// What the threads of a run tell each other.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    /// Bytes a second that all connections together carried as fast as they could.
    capacity: AtomicU64,
    /// Bytes since.
    carried: AtomicU64,
    frames: AtomicU64,
}

fn soak(time: Duration, fastpath: bool) -> String {
    let mut lab = Lab::without_daemon();
    lab.set_datapath("fastpath", fastpath);
    lab.start();
    let stations = Station::one_of_each(&lab);
    for station in &stations[1..] {
        station.ping_soon(stations[0].v4);
    }
    lab.ok("switch add side");
    lab.ok("add-port sink --type internal");
    lab.ok("mirror add m --from veth --to sink");
    let told = Told::default();
    let (mut rounds, mut restarts, mut memory) = (0u64, 0u64, Vec::new());
    thread::scope(|scope| {
        for (a, b) in [(0, 1), (2, 3), (1, 3), (0, 2)] {
            let (told, pair) = (&told, TcpPair::connect(&stations[a], &stations[b], false));
            scope.spawn(move || carry(&pair, told));
        }
        for station in &stations {
            scope.spawn(|| send_single(station, &told));
        }
        let begin = Instant::now();
        while begin.elapsed() < time {
            churn(&lab, rounds);
            if rounds % ROUNDS == ROUNDS - 1 && begin.elapsed() < time / PARTS {
                lab.ok("restart");
                restarts += 1;
            }
            memory.push((begin.elapsed(), resident(lab.daemon().pid())));
            rounds += 1;
        }
        lab.ok("restart");
        restarts += 1;
        told.stop.store(true, Ordering::Relaxed);
    });
    adds_up(&lab);
    assert!(lab.ports().iter().all(|port| port.state == PortState::Up));
    no_errors(&lab.stop_daemon());
    // In the middle: a capture or a lab that comes takes some for a moment.
    let usual = |part: u32| {
        let part = time * part / PARTS..time * (part + 1) / PARTS;
        let in_part = memory.iter().filter(|(at, _)| part.contains(at));
        let mut in_part: Vec<_> = in_part.map(|(_, kib)| *kib).collect();
        in_part.sort_unstable();
        in_part.get(in_part.len() / 2).copied().unwrap_or(0)
    };
    format!(
        "capacity {:.2} Gbit/s; {} MiB by TCP and {} single frames, {rounds} rounds of changes, {restarts} restarts; all counters add up; so \
         many KiB resident, medians of each sixth: {:?}",
        told.capacity.into_inner() as f64 * 8.0 / 1e9,
        told.carried.into_inner() >> 20,
        told.frames.into_inner(),
        (0..PARTS).map(usual).collect::<Vec<_>>(),
    )
}

/// Bytes both ways over one connection for the whole run: first as fast as they go, then at [`LOAD`] of that.
fn carry(pair: &TcpPair, told: &Told) {
    let begin = Instant::now();
    let mut exchanges = 0;
    while begin.elapsed() < MEASURE {
        pair.exchange(CHUNKS);
        exchanges += 1;
    }
    let took = begin.elapsed();
    told.capacity.fetch_add(
        (exchanges as f64 * BYTES as f64 / took.as_secs_f64()) as u64,
        Ordering::Relaxed,
    );
    let pace = took.div_f64(f64::from(exchanges) * LOAD);
    let mut next = Instant::now();
    while !told.stop.load(Ordering::Relaxed) {
        pair.exchange(CHUNKS);
        told.carried.fetch_add(BYTES, Ordering::Relaxed);
        // What was lost to a restart or a policer is not made up for by a burst.
        next = (next + pace).max(Instant::now() - pace);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// A frame a millisecond, of many stations, to those that are known, unknown and all.
fn send_single(station: &Station, told: &Told) {
    let socket = station.raw(false);
    for id in 0u32.. {
        if told.stop.load(Ordering::Relaxed) {
            return;
        }
        let to = match id % 3 {
            0 => mac(5, id % 50),
            1 => mac(6, id),
            _ => Mac::BROADCAST,
        };
        let length = 60 + (id as usize * 37) % 1400;
        let sent = socket.try_send(Default::default(), &probe_of_len(to, mac(5, id % 50), id, length));
        told.frames.fetch_add(u64::from(sent.is_ok()), Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Changes a bit of all, and takes it back.
fn churn(lab: &Lab, round: u64) {
    lab.ok("add-port come --switch side --addr 10.8.0.1/24");
    lab.ok("add-port go --type tap --switch side --addr 10.8.0.2/24");
    lab.ok("cable come go");
    match round % 5 {
        0 => _ = lab.ok("impair tap --delay 2ms --loss 1% --direction out"),
        1 => _ = lab.ok("impair clear tap"),
        2 => _ = lab.ok("police device --rate 200mbit"),
        3 => _ = lab.ok("police clear device"),
        _ => _ = lab.ok("storm veth --broadcast 300pps"),
    }
    lab.ok(&format!("lab up --yes {}", lab.lab_file(HOSTS)));
    let file = lab.scratch().join("veth.pcapng");
    lab.ok(&format!("capture veth --count 200 --write {}", file.display()));
    lab.ok("lab down hosts");
    lab.ok("fdb flush");
    lab.ok("del-port come go");
    if round % 5 == 4 {
        lab.ok("storm clear veth");
    }
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    memory
        .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
