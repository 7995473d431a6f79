//! What a frame costs between receiving and sending: ingress checks, learning, look-up, output lists. No I/O is in it.
//! Needs root, for two TAP devices in a network namespace of its own: a port is never without its back end.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use nix::sched::{CloneFlags, unshare};
use vswitch::datapath::forward::{OutputLists, forward};
use vswitch::datapath::{Datapath, DatapathConfig, PortSettings, PortSetup, SwitchSettings, SwitchSetup};
use vswitch::frame::VNET_HDR_LEN;
use vswitch::port::batch::MAX_BATCH;
use vswitch::port::{Batch, PortIo, Tap};

const NOW: u32 = 1_000;

/// A full batch of frames of `len` bytes from `stations` stations to `dst`.
fn batch(dst: [u8; 6], stations: u8, len: usize) -> Batch {
    let mut batch = Batch::new();
    for i in 0..MAX_BATCH {
        let tail = batch.tail();
        tail[..VNET_HDR_LEN + len].fill(0);
        let frame = &mut tail[VNET_HDR_LEN..];
        frame[..6].copy_from_slice(&dst);
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 1, i as u8 % stations]);
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        batch.push(VNET_HDR_LEN + len);
    }
    batch
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let datapath = Datapath::start(DatapathConfig {
        cpus: Vec::new(),
        workers: 1,
        spin_us: 0,
    })?;
    let switch = datapath.add_switch(SwitchSetup {
        fdb_capacity: 65_536,
        settings: SwitchSettings::default(),
    });
    let mut ports = Vec::new();
    for name in ["a", "b", "c"] {
        let io = PortIo::Tap(Tap::open(name, 1)?);
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
        .fdb_add_static(switch, 0, vswitch_api::Mac(known), ports[1])
        .is_err()
    {
        return Err("the FDB has no room".into());
    }
    let snapshot = datapath.snapshot();
    let port = snapshot.port(ports[0]).ok_or("the port is gone")?;
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
        let mut batch = batch(dst, stations, 60);
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
    Ok(())
}
