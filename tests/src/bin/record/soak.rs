//! Traffic of all sorts while ports come and go, settings change and the daemon restarts: in the end each frame is accounted for, and
//! nothing has grown.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::Mac;
use vswitch_testing::api::view::{PortCounters, PortState};
use vswitch_testing::frame::{mac, probe_of_len};
use vswitch_testing::transfer::TcpPair;
use vswitch_testing::{Lab, Station, wait_for};

/// Chunks of 64 KiB that a connection carries before the next one is made.
const CHUNKS: usize = 40;

/// So many seconds each with the kernel fast path and without.
pub fn run(seconds: u64) {
    for fastpath in [true, false] {
        let half = Duration::from_secs(seconds.div_ceil(2));
        // A lab holds for the thread that made it.
        let soaked = thread::spawn(move || soak(half, fastpath)).join();
        println!(
            "fastpath = {fastpath}, {} s: {}",
            half.as_secs(),
            soaked.expect("it holds")
        );
    }
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
    let (stop, carried, frames) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (mut rounds, mut restarts, mut memory) = (0u64, 0u64, Vec::new());
    thread::scope(|scope| {
        for (a, b) in [(0, 1), (2, 3), (1, 3), (0, 2)] {
            let (a, b, stop, carried) = (&stations[a], &stations[b], &stop, &carried);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    TcpPair::connect(a, b, false).exchange(CHUNKS);
                    carried.fetch_add(2 * 64 * 1024 * CHUNKS as u64, Ordering::Relaxed);
                }
            });
        }
        for station in &stations {
            let (stop, frames) = (&stop, &frames);
            scope.spawn(move || {
                let socket = station.raw(false);
                for id in 0u32.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Of many stations, to those that are known, unknown and all.
                    let to = match id % 3 {
                        0 => mac(5, id % 50),
                        1 => mac(6, id),
                        _ => Mac::BROADCAST,
                    };
                    let length = 60 + (id as usize * 37) % 1400;
                    let sent = socket.try_send(Default::default(), &probe_of_len(to, mac(5, id % 50), id, length));
                    frames.fetch_add(u64::from(sent.is_ok()), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let end = Instant::now() + time;
        while Instant::now() < end {
            churn(&lab, rounds);
            if rounds % 10 == 9 {
                lab.ok("restart");
                restarts += 1;
            }
            memory.push(resident(lab.daemon().pid()));
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    adds_up(&lab);
    assert!(lab.ports().iter().all(|port| port.state == PortState::Up));
    let log = lab.stop_daemon();
    let told: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" ERROR ") || line.contains("panicked"))
        .collect();
    assert!(told.is_empty(), "{told:#?}");
    // Each restart begins with little; what is compared are runs of the same age.
    let (first, last) = memory.split_at(memory.len() / 2);
    let most = |part: &[u64]| part.iter().max().copied().unwrap_or(0);
    format!(
        "{} MiB by TCP and {} single frames, {rounds} rounds of changes, {restarts} restarts; all counters add up; at most {} KiB resident in the \
         first half, {} in the second",
        carried.into_inner() >> 20,
        frames.into_inner(),
        most(first),
        most(last)
    )
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

/// Every frame is accounted for, at each port and over the switch ([`PortCounters`] has the rule).
fn adds_up(lab: &Lab) {
    wait_for("the counters to add up", || {
        let ports = lab.ports();
        let main = || {
            ports
                .iter()
                .filter(|port| port.port.switch.as_str() == "main")
                .map(|port| &port.counters)
        };
        let drops = |drops: &std::collections::BTreeMap<String, u64>| drops.values().sum::<u64>();
        for port in &ports {
            let c = &port.counters;
            let became = c.rx_forwarded + c.rx_flooded + drops(&c.rx_drops);
            if c.rx_frames != became {
                return Err(format!(
                    "{}: {became} of {} frames: {c:#?}",
                    port.port.name, c.rx_frames
                ));
            }
        }
        let sum = |of: fn(&PortCounters) -> u64| main().map(of).sum::<u64>();
        let sent =
            sum(|c| c.rx_forwarded + c.flood_copies + c.mirror_copies + c.impair.tx_duplicates + c.impair.tx_segments);
        let came = sum(|c| c.tx_frames + c.impair.tx_waiting) + main().map(|c| drops(&c.tx_drops)).sum::<u64>();
        if sent == came {
            Ok(())
        } else {
            Err(format!(
                "{sent} copies in, {came} out: {:#?}",
                main().collect::<Vec<_>>()
            ))
        }
    });
}
