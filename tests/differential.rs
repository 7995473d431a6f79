//! The kernel fast path changes nothing but the speed: the same thousands of random frames are sent through a switch with it
//! and one without, and what comes out at every port is compared, frame for frame, and so are counters and FDB.
//!
//! `VSWITCH_TEST_SEED=N` sends other frames; the seed of a run is printed.

use std::collections::BTreeMap;
use std::time::Instant;

use vswitch_testing::api::view::PortCounters;
use vswitch_testing::fastpath::sum;
use vswitch_testing::frame::{VLAN_ETHERTYPE, mac, probe, probe_id, tagged};
use vswitch_testing::lab::fastpath_wanted;
use vswitch_testing::random::{Frames, Shot};
use vswitch_testing::raw::{Frame, RawSocket};
use vswitch_testing::require::missing;
use vswitch_testing::{DEADLINE, Lab, Place, api::Mac};

/// Shots of each test.
const SHOTS: u32 = 6000;
/// The ports from which the sentinels come by turns, so that their source moves, and the daemon sends them, after all that came to
/// it before, and not the kernel. They have no settings.
const MONITORS: [&str; 2] = ["monitor", "monitor2"];
/// So many of the stations have the address of an interface.
const OWN: u32 = 5;
const SENTINEL: Mac = Mac([0x0a, 0x5e, 0, 0, 0, 2]);

/// What came out after each shot, by port, and what there was to see at the end.
#[derive(Debug, PartialEq)]
struct Outcome {
    seen: Vec<BTreeMap<String, Vec<Vec<u8>>>>,
    counters: BTreeMap<String, PortCounters>,
    stations: Vec<String>,
}

/// Raw sockets behind all ports of a switch with one worker.
struct Net<'a> {
    lab: &'a Lab,
    sockets: BTreeMap<String, RawSocket>,
    /// VLANs of the sentinels: each port is in one of them.
    vlans: &'a [Option<u16>],
    sentinels: u32,
}

impl<'a> Net<'a> {
    fn new(lab: &'a Lab, ports: &[(&str, &str)], vlans: &'a [Option<u16>]) -> Self {
        // Stations that jump about are what is tried here.
        lab.ok("set switch main --loop-guard off");
        let mut sockets = BTreeMap::new();
        for ((name, options), n) in ports.iter().copied().chain(MONITORS.map(|name| (name, ""))).zip(0..) {
            // The first stations have the addresses of interfaces, to which the kernel has a shorter way.
            let own = if n < OWN {
                format!("--mac {}", mac(1, n))
            } else {
                String::new()
            };
            lab.ok(&format!("add-port {name} {options} {own}"));
            let place = Place::named(name);
            place.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap());
            sockets.insert(name.to_owned(), RawSocket::open(&place, "eth0", true));
        }
        let mut net = Self {
            lab,
            sockets,
            vlans,
            sentinels: 0,
        };
        // What the stacks said before they were silenced.
        net.rest();
        lab.ok("fdb flush");
        net
    }

    /// Whatever came out of all ports since the last call, when the switch has nothing left to do.
    ///
    /// A worker serves all ports that have something before it looks again. So once a first sentinel is out, it has begun with
    /// what was there before that, and when a second one is out, it is done with it.
    fn rest(&mut self) -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut seen = BTreeMap::new();
        for monitor in MONITORS {
            let first = self.sentinels;
            for vlan in self.vlans {
                let frame = probe(Mac::BROADCAST, SENTINEL, self.sentinels);
                self.sentinels += 1;
                let frame = vlan.map_or(frame.clone(), |vlan| tagged(&frame, VLAN_ETHERTYPE, vlan));
                self.sockets[monitor].send(&frame);
            }
            for (port, socket) in self
                .sockets
                .iter()
                .filter(|(port, _)| !MONITORS.contains(&port.as_str()))
            {
                let end = Instant::now() + DEADLINE;
                loop {
                    let frame = socket.recv(end).unwrap_or_else(|| panic!("no sentinel came to {port}"));
                    match sentinel(&frame) {
                        Some(id) if id >= first => break,
                        Some(_) => {}
                        None => seen.entry(port.clone()).or_insert_with(Vec::new).push(as_seen(&frame)),
                    }
                }
            }
        }
        seen
    }

    fn run(mut self, seed: u64, ports: &[(&str, &str)]) -> Outcome {
        let before = self.counters();
        let mut frames = Frames::new(seed, ports.len());
        let mut seen = Vec::new();
        for _ in 0..SHOTS {
            let Shot {
                port,
                copies,
                header,
                bytes,
            } = frames.shot();
            let socket = &self.sockets[ports[port].0];
            for copy in 0..copies {
                // What is too long for the interface itself, its kernel refuses; in both runs alike.
                let _ = socket.try_send(header, &frames.numbered(&bytes, copy));
            }
            seen.push(self.rest());
        }
        let mut counters = self.counters();
        for (name, counters) in &mut counters {
            subtract(counters, &before[name]);
        }
        let mut stations: Vec<_> = self
            .lab
            .fdb("main")
            .iter()
            .map(|entry| format!("{} {:?} {}", entry.mac, entry.vlan, entry.port))
            .collect();
        stations.sort();
        Outcome {
            seen,
            counters,
            stations,
        }
    }

    fn counters(&self) -> BTreeMap<String, PortCounters> {
        let ports = self.lab.ports().into_iter();
        ports
            .map(|port| {
                let all = PortCounters {
                    rx_fastpath: 0,
                    ..port.counters
                };
                (port.port.name.to_string(), all)
            })
            .collect()
    }
}

fn sentinel(frame: &Frame) -> Option<u32> {
    let src = frame.bytes.get(6..12)?;
    probe_id(&frame.bytes).filter(|_| *src == SENTINEL.0)
}

/// The frame, and how it is to be cut: the rest of the virtio-net header are hints.
fn as_seen(frame: &Frame) -> Vec<u8> {
    let mut seen = vec![frame.vnet.gso_type, frame.vnet.flags & 1];
    seen.extend(frame.vnet.gso_size.to_be_bytes());
    seen.extend(&frame.bytes);
    seen
}

fn sketches(seen: &BTreeMap<String, Vec<Vec<u8>>>) -> BTreeMap<&str, Vec<String>> {
    seen.iter()
        .map(|(port, frames)| (port.as_str(), frames.iter().map(|frame| sketch(frame)).collect()))
        .collect()
}

/// Length and beginning of a frame.
fn sketch(frame: &[u8]) -> String {
    let end = &frame[frame.len().saturating_sub(4)..];
    format!(
        "{} bytes {:02x?} ... {end:02x?}",
        frame.len(),
        &frame[..frame.len().min(40)]
    )
}

/// What came on top of what was counted before the first shot.
fn subtract(counters: &mut PortCounters, before: &PortCounters) {
    let PortCounters {
        rx_frames,
        rx_bytes,
        rx_forwarded,
        rx_flooded,
        flood_copies,
        tx_frames,
        tx_bytes,
        rx_drops,
        tx_drops,
        ..
    } = counters;
    *rx_frames -= before.rx_frames;
    *rx_bytes -= before.rx_bytes;
    *rx_forwarded -= before.rx_forwarded;
    *rx_flooded -= before.rx_flooded;
    *flood_copies -= before.flood_copies;
    *tx_frames -= before.tx_frames;
    *tx_bytes -= before.tx_bytes;
    for (drops, before) in [(rx_drops, &before.rx_drops), (tx_drops, &before.tx_drops)] {
        for (reason, count) in before {
            if let Some(now) = drops.get_mut(reason) {
                *now -= count;
            }
        }
        drops.retain(|_, count| *count > 0);
    }
}

fn compare(ports: &[(&str, &str)], vlans: &[Option<u16>]) {
    if !fastpath_wanted() {
        return;
    }
    let seed =
        std::env::var("VSWITCH_TEST_SEED").map_or(1, |seed| seed.parse().expect("VSWITCH_TEST_SEED is a number"));
    eprintln!("VSWITCH_TEST_SEED={seed}");
    let mut lab = Lab::with_one_worker();
    let limits = lab.status().limits;
    if limits.iter().any(|limit| limit.contains("fast path")) {
        missing("the kernel fast path", limits.join("; "));
        return;
    }
    let with = Net::new(&lab, ports, vlans).run(seed, ports);
    let forwarded = sum(&lab, |c| c.rx_fastpath);
    assert!(
        forwarded > u64::from(SHOTS) / 8,
        "only {forwarded} frames took the fast path"
    );
    lab.ok("reset --yes");
    lab.stop_daemon();
    lab.set_datapath("fastpath", false);
    lab.start();
    let without = Net::new(&lab, ports, vlans).run(seed, ports);
    assert_eq!(sum(&lab, |c| c.rx_fastpath), 0);

    let mut frames = Frames::new(seed, ports.len());
    for (n, (with, without)) in with.seen.iter().zip(&without.seen).enumerate() {
        let shot = frames.shot();
        assert!(
            with == without,
            "seed {seed}, shot {n}: {} times {} by {}\nwith the fast path: {:#?}\nwithout: {:#?}",
            shot.copies,
            sketch(&shot.bytes),
            ports[shot.port].0,
            sketches(with),
            sketches(without),
        );
    }
    assert_eq!(with.counters, without.counters);
    assert_eq!(with.stations, without.stations);
    for (name, c) in &with.counters {
        let drops = c.rx_drops.values().sum::<u64>();
        assert_eq!(c.rx_frames, c.rx_forwarded + c.rx_flooded + drops, "{name}: {c:?}");
    }
}

#[test]
fn a_switch_that_tells_vlans_apart() {
    let ports = [
        ("ten", "--vlan 10"),
        ("ten2", "--vlan 10"),
        ("ten3", "--vlan 10 --accept untagged --mtu 9000"),
        ("tentap", "--vlan 10 --type tap"),
        ("native", "--trunk 20-29 --native 10"),
        ("trunk", "--trunk 10,20"),
        ("tunnel", "--tunnel 10 --flood broadcast"),
        ("twenty", "--vlan 20"),
        ("isolated", "--vlan 10 --isolation isolated"),
        ("plain", ""),
        ("plain2", ""),
    ];
    compare(&ports, &[Some(10), Some(20), None]);
}

#[test]
fn a_switch_without_vlans() {
    let ports = [
        ("one", ""),
        ("two", ""),
        ("three", ""),
        ("jumbo", "--mtu 9000"),
        ("small", "--mtu 1300"),
        ("tap", "--type tap"),
        ("wire", "--no-offload"),
    ];
    compare(&ports, &[None]);
}

/// All that the kernel can do at once: with ports that have nothing but VLANs, floods are its own too.
#[test]
fn a_switch_of_access_ports_and_trunks() {
    let ports = [
        ("ten", "--vlan 10"),
        ("ten2", "--vlan 10 --accept untagged --mtu 1300"),
        ("native", "--trunk 10,20-29 --native 10"),
        ("native2", "--trunk 10,20,30 --native 20 --mtu 9000"),
        ("tags", "--trunk 20 --native 10 --accept tagged"),
        ("trunk", "--trunk 10,20"),
        ("bare", "--trunk 10 --native 20 --accept untagged"),
        ("plain", ""),
        ("plain2", ""),
    ];
    compare(&ports, &[Some(10), Some(20), None]);
}

#[test]
fn a_switch_without_vlans_of_which_all_floods_are_the_kernels() {
    let ports = [
        ("one", ""),
        ("two", ""),
        ("three", ""),
        ("jumbo", "--mtu 9000"),
        ("small", "--mtu 1300"),
    ];
    compare(&ports, &[None]);
}
