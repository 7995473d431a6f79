//! What a frame costs between receiving and sending: ingress checks, learning, look-up, output lists. No I/O is in it.
//! Then forwarding with ten known stations is compared with a hundred thousand.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use vswitch_datapath::batch::{Batch, MAX_BATCH};
use vswitch_datapath::forward::{OutputLists, forward};
use vswitch_datapath::frame::VNET_HDR_LEN;
use vswitch_datapath::memory::MemoryPort;
use vswitch_datapath::{Datapath, DatapathConfig, FdbFull, PortSettings, PortSetup, SwitchSettings, SwitchSetup};

const NOW: u32 = 1_000;
/// Known stations between which forwarding is compared, and rounds of the comparison.
const STATIONS: [u32; 2] = [10, 100_000];
const ROUNDS: usize = 9;
const ROUND: Duration = Duration::from_millis(200);
/// What a frame costs a worker with TAP ports, receiving and sending included (docs/benchmarks.md).
const WHOLE_FRAME_NS: f64 = 900.0;

/// A full batch of frames of 60 bytes from `stations` stations to `dst`.
fn batch(dst: [u8; 6], stations: u8) -> Batch {
    let mut batch = batch_to(|_| dst);
    for i in 0..MAX_BATCH {
        batch.wire_mut(i)[VNET_HDR_LEN + 11] = i as u8 % stations;
    }
    batch
}

/// A full batch from one station.
fn batch_to(mut dst: impl FnMut(usize) -> [u8; 6]) -> Batch {
    let len = 60;
    let mut batch = Batch::new();
    for i in 0..MAX_BATCH {
        let tail = batch.tail();
        tail[..VNET_HDR_LEN + len].fill(0);
        let frame = &mut tail[VNET_HDR_LEN..];
        frame[..6].copy_from_slice(&dst(i));
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, 0]);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        batch.push(VNET_HDR_LEN + len);
    }
    batch
}

/// A station whose number is spread over the address.
fn station(n: u32) -> [u8; 6] {
    let [a, b, c, d] = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
    [2, 1, a, b, c, d]
}

/// Forwarding to ten stations against a hundred thousand, in turn, in an order that no prefetcher guesses.
fn compare_stations(
    pass: &mut impl FnMut(&mut Batch),
    add: &mut impl FnMut(u32) -> Result<(), FdbFull>,
) -> Result<(), Box<dyn std::error::Error>> {
    for n in 0..STATIONS[1] {
        add(n).map_err(|_| "the FDB has no room")?;
    }
    let mut work = STATIONS.map(|stations| {
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            station((random >> 8) % stations)
        };
        // More batches than any cache holds frames of.
        (0..64).map(|_| batch_to(|_| next())).collect::<Vec<_>>()
    });
    let mut times = [[0.0; ROUNDS]; 2];
    for round in 0..ROUNDS {
        for (batches, times) in work.iter_mut().zip(&mut times) {
            let (start, mut frames) = (Instant::now(), 0);
            while start.elapsed() < ROUND {
                for batch in batches.iter_mut() {
                    pass(batch);
                }
                frames += batches.len() * MAX_BATCH;
            }
            times[round] = start.elapsed().as_secs_f64() * 1e9 / frames as f64;
        }
    }
    let [few, many] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    eprintln!(
        "\nforwarding to {} stations {few:.1} ns a frame, to {} stations {many:.1} ns: {:+.1} % of the decision, {:+.1} % of a \
         frame with its system calls ({WHOLE_FRAME_NS} ns)",
        STATIONS[0],
        STATIONS[1],
        (many / few - 1.0) * 100.0,
        (many - few) / WHOLE_FRAME_NS * 100.0
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let datapath = Datapath::by_hand(&DatapathConfig::default())?;
    let switch = datapath.add_switch(SwitchSetup {
        fdb_capacity: 262_144,
        settings: SwitchSettings::default(),
    });
    let mut ports = Vec::new();
    for _ in 0..3 {
        let (io, _) = MemoryPort::new(true)?;
        ports.push(datapath.add_port(PortSetup {
            switch,
            io,
            settings: PortSettings {
                mtu: 1500,
                up: true,
                offload: true,
                policy: None,
            },
        })?);
    }
    let known = [2, 0, 0, 0, 0, 9];
    if datapath
        .fdb_add_static(switch, 0, vswitch_api::Mac(known), ports[1].id)
        .is_err()
    {
        return Err("the FDB has no room".into());
    }
    let snapshot = datapath.snapshot();
    let port = snapshot.find(ports[0]).ok_or("the port is gone")?;
    let mut lists = OutputLists::default();
    lists.resize(ports.len());
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(MAX_BATCH as u64));
    for (name, dst, stations) in [
        ("unicast, one source", known, 1),
        ("unicast, 64 sources", known, 64),
        ("broadcast to 2 ports", [0xff; 6], 1),
    ] {
        let mut batch = batch(dst, stations);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                forward(&mut batch, &snapshot, port, 0, NOW, &mut lists, |_| {});
                lists.drain(|port, list| {
                    black_box((port, list));
                });
            });
        });
    }
    group.finish();
    criterion.final_summary();
    if std::env::args().any(|argument| argument == "--bench") {
        let mut pass = |batch: &mut Batch| {
            forward(batch, &snapshot, port, 0, NOW, &mut lists, |_| {});
            lists.drain(|port, list| {
                black_box((port, list));
            });
        };
        let mut add = |n: u32| datapath.fdb_add_static(switch, 0, vswitch_api::Mac(station(n)), ports[1].id);
        compare_stations(&mut pass, &mut add)?;
    }
    Ok(())
}
