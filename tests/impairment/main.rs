//! Impairment: what happens on a bad or slow wire, frame by frame. No test measures how punctual a delay is (the bench
//! does); none asserts more of time than that what was to be held back did not come earlier.

mod queue;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use vswitch_testing::api::view::{PortCounters, PortView};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{mac, probe, probe_id, probe_of_len};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{DEADLINE, Lab, Station, transfer, wait_for};

/// Two silent stations, `red` (veth) and `blue` (tap), with raw sockets.
fn silent_pair(lab: &Lab) -> (RawSocket, RawSocket) {
    let stations = [
        Station::add(lab, "red", PortKind::Veth, 1),
        Station::add(lab, "blue", PortKind::Tap, 2),
    ];
    stations.iter().for_each(Station::silence);
    (stations[0].raw(false), stations[1].raw(false))
}

/// Sends `count` broadcasts of 60 bytes, waits until the port `blue` has sent or dropped all, and gives the numbers
/// of those that came out there, in their order.
fn pass(lab: &Lab, from: &RawSocket, to: &RawSocket, count: u32) -> Vec<u32> {
    let handled = |counters: &PortCounters| counters.tx_frames + counters.tx_drops.values().sum::<u64>();
    let before = lab.port("blue").counters;
    let doubled = |counters: &PortCounters| counters.impair.tx_duplicates;
    // The kernel has room for a thousand between two interfaces, those of other tests among them.
    let received = lab.port("red").counters.rx_frames;
    for id in 0..count {
        from.send(&probe(Mac::BROADCAST, mac(1, 1), id));
        if id % 100 == 99 {
            wait_for("a hundred to come in", || {
                lab.port("red").counters.rx_frames > received + u64::from(id)
            });
        }
    }
    let after = wait_for("the frames to be through", || {
        let now = lab.port("blue").counters;
        let copies = doubled(&now) - doubled(&before);
        (handled(&now) - handled(&before) == u64::from(count) + copies).then_some(now)
    });
    let expected = (after.tx_frames - before.tx_frames) as usize;
    let end = Instant::now() + DEADLINE;
    let mut ids = Vec::new();
    while ids.len() < expected {
        let frame = to.recv(end).expect("what was sent comes out");
        ids.extend(probe_id(&frame.bytes));
    }
    ids
}

fn drops(counters: &BTreeMap<String, u64>, reason: &str) -> u64 {
    counters.get(reason).copied().unwrap_or(0)
}

fn round_trip(from: &Station, to: &Station) -> Duration {
    let line = format!("ping -n -c 1 -W 10 {}", to.v4);
    // Address resolution is delayed too: the second ping is the one that counts.
    from.place.run_ok(&line);
    let start = Instant::now();
    from.place.run_ok(&line);
    start.elapsed()
}

#[test]
fn a_delay_holds_back_each_direction() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for (n, station) in stations.iter().enumerate() {
        let (port, peer) = (&station.port, &stations[(n + 1) % stations.len()]);
        for (direction, least) in [("out", 100), ("in", 100), ("both", 200)] {
            lab.ok(&format!("impair clear {port}"));
            lab.ok(&format!("impair {port} --delay 100ms --direction {direction}"));
            let took = round_trip(peer, station);
            assert!(took >= Duration::from_millis(least), "{port} {direction}: {took:?}");
        }
        lab.ok(&format!("impair clear {port}"));
    }
}

#[test]
fn delayed_frames_keep_their_order_and_their_bytes() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    lab.ok("impair red --delay 30ms --direction in");
    lab.ok("impair blue --delay 30ms");
    let frames: Vec<_> = (0..500)
        .map(|id| probe_of_len(Mac::BROADCAST, mac(1, 1), id, 60 + (id as usize * 7) % 1400))
        .collect();
    frames.iter().for_each(|frame| red.send(frame));
    for (id, frame) in frames.iter().enumerate() {
        let got = blue
            .recv(Instant::now() + DEADLINE)
            .unwrap_or_else(|| panic!("frame {id} never came"));
        assert!(got.bytes == *frame, "frame {id}: {:?} came", probe_id(&got.bytes));
    }
}

#[test]
fn the_same_seed_loses_the_same_frames() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    for options in ["--loss 20%", "--loss 20% --loss-burst 4", "--loss 20% --duplicate 10%"] {
        let mut runs = Vec::new();
        for _ in 0..2 {
            lab.ok("impair clear blue");
            lab.ok(&format!("impair blue {options} --seed 7"));
            runs.push(pass(&lab, &red, &blue, 900));
        }
        assert_eq!(runs[0], runs[1], "{options}");
        // Said again as it is, it begins anew: the numbers went on.
        let again = format!("impair blue {options} --seed 7");
        let told = lab.ok(&again);
        assert_eq!(told, "restarted impairment (out) of port blue with seed 7\n");
        assert!(lab.ok(&format!("{again} -n")).contains("would restart"));
        assert_eq!(pass(&lab, &red, &blue, 900), runs[0], "{options}");
        assert!((600..900).contains(&runs[0].len()), "{options}: {}", runs[0].len());
        lab.ok("impair clear blue");
        lab.ok(&format!("impair blue {options} --seed 8"));
        assert_ne!(pass(&lab, &red, &blue, 900), runs[0], "{options}");
    }
    let counters = lab.port("blue").counters;
    assert!(drops(&counters.tx_drops, "impair-loss") > 0 && counters.impair.tx_duplicates > 0);
    assert_eq!(counters.impair.tx_waiting, 0);
}

#[test]
fn all_or_nothing_is_lost_or_doubled_on_the_way_in_too() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    let before = lab.port("red").counters.rx_frames;
    lab.ok("fdb flush");
    lab.ok("impair red --loss 100% --direction in");
    (0..50).for_each(|id| red.send(&probe(Mac::BROADCAST, mac(1, 1), id)));
    wait_for("the frames to be lost", || {
        let counters = lab.port("red").counters;
        (drops(&counters.rx_drops, "impair-loss"), counters.rx_frames - before) == (50, 50)
    });
    assert!(lab.fdb("main").is_empty(), "a lost frame was learned from");
    lab.ok("impair red --duplicate 100% --direction in");
    (0..50).for_each(|id| red.send(&probe(Mac::BROADCAST, mac(1, 1), id)));
    for n in 0..100 {
        let frame = blue.recv(Instant::now() + DEADLINE).expect("each frame comes twice");
        assert_eq!(probe_id(&frame.bytes), Some(n / 2));
    }
    let counters = lab.port("red").counters;
    assert_eq!((counters.rx_frames - before, counters.impair.rx_duplicates), (150, 50));
}

#[test]
fn corruption_flips_one_bit_of_each_frame() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    lab.ok("impair blue --corrupt 100%");
    let frames: Vec<_> = (0..200)
        .map(|id| probe_of_len(Mac::BROADCAST, mac(1, 1), id, 200))
        .collect();
    for (id, frame) in frames.iter().enumerate() {
        red.send(frame);
        let got = blue
            .recv(Instant::now() + DEADLINE)
            .expect("a corrupted frame comes all the same");
        assert_eq!(got.bytes.len(), frame.len(), "frame {id}");
        let bits: u32 = got.bytes.iter().zip(frame).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(bits, 1, "frame {id}");
    }
    assert_eq!(lab.port("blue").counters.impair.tx_corrupted, 200);
}

#[test]
fn no_offload_repairs_what_was_corrupted() {
    let lab = Lab::new();
    for (n, kind) in [(1, PortKind::Veth), (3, PortKind::Tap)] {
        let from = Station::add(&lab, &format!("from{n}"), kind, n);
        let to = Station::add(&lab, &format!("to{n}"), kind, n + 1);
        from.ping(to.v4);
        let bind = |station: &Station| {
            station
                .place
                .run(|| UdpSocket::bind(SocketAddr::new(station.ip(false), 0)))
                .unwrap()
        };
        let (client, server) = (bind(&from), bind(&to));
        client.connect(server.local_addr().unwrap()).unwrap();
        server.set_nonblocking(true).unwrap();
        let payload = [0x5a; 1000];
        let mut bytes = [0; 2000];
        let mut read = || match server.recv(&mut bytes) {
            Ok(length) => {
                assert!(
                    bytes[..length] == payload,
                    "{kind:?}: a wrong payload passed its checksum"
                );
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        };
        let send = |count: usize| (0..count).for_each(|_| assert_eq!(client.send(&payload).unwrap(), 1000));
        // Whole ones come, all of them: no more at a time than the socket holds.
        for _ in 0..5 {
            send(20);
            let mut whole = 0;
            wait_for("the whole datagrams", || {
                while read() {
                    whole += 1;
                }
                whole == 20
            });
        }
        lab.ok(&format!("impair {} --corrupt 100% --seed 3", to.port));
        let before = lab.port(&to.port).counters.tx_frames;
        send(100);
        wait_for("the datagrams to be through", || {
            lab.port(&to.port).counters.tx_frames >= before + 100
        });
        let arrived = std::iter::from_fn(|| read().then_some(())).count();
        // Only those whose flipped bit no checksum covers: the source address, type of service.
        assert!(arrived < 20, "{kind:?}: {arrived} of 100");
    }
}

#[test]
fn frames_that_are_not_delayed_overtake_the_others() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    lab.ok("impair blue --delay 300ms --reorder 30% --seed 2");
    let ids = pass(&lab, &red, &blue, 200);
    let early = lab.port("blue").counters.impair.tx_reordered as usize;
    assert!((20..180).contains(&early), "{early}");
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..200).collect::<Vec<_>>());
    assert!(!ids.is_sorted(), "none overtook another");
}

/// Waits until no frame is under way: none waits, and two looks give the same counters.
fn settled(lab: &Lab) -> Vec<PortView> {
    let mut before = lab.ports();
    wait_for("the counters to stand still", || {
        let now = lab.ports();
        let still = now.iter().zip(&before).all(|(a, b)| a.counters == b.counters);
        let waiting = |view: &PortView| view.counters.impair.rx_waiting + view.counters.impair.tx_waiting;
        let idle = now.iter().all(|view| waiting(view) == 0);
        before = now;
        (still && idle).then(|| before.clone())
    })
}

#[test]
fn counters_add_up_over_impaired_ports() {
    let lab = Lab::new();
    let stations = Station::one_of_each(&lab);
    for (port, options) in [
        (
            "veth",
            "--delay 2ms --jitter 1ms --distribution normal --duplicate 2% --direction both",
        ),
        ("tap", "--loss 0.5% --loss-burst 2 --duplicate 1%"),
        ("device", "--rate 200mbit --limit 40 --direction in"),
        ("internal", "--delay 1ms --limit 60"),
    ] {
        lab.ok(&format!("impair {port} {options}"));
    }
    for (a, b) in [(0, 1), (1, 2), (2, 3), (3, 0)] {
        transfer::tcp(&stations[a], &stations[b], a % 2 == 0, 8);
    }
    let raw = stations[0].raw(false);
    (0..300).for_each(|id| raw.send(&probe(Mac::BROADCAST, mac(1, 1), id)));
    let ports = settled(&lab);
    let sum = |of: &dyn Fn(&PortCounters) -> u64| ports.iter().map(|view| of(&view.counters)).sum::<u64>();
    let all = |drops: &BTreeMap<String, u64>| drops.values().sum::<u64>();
    for view in &ports {
        let c = &view.counters;
        let (name, in_all) = (&view.port.name, c.rx_forwarded + c.rx_flooded + all(&c.rx_drops));
        assert_eq!(c.rx_frames, in_all, "{name}: {c:?}");
    }
    assert_eq!(
        sum(&|c| c.rx_forwarded + c.flood_copies + c.probes + c.impair.tx_duplicates + c.impair.tx_segments),
        sum(&|c| c.tx_frames + all(&c.tx_drops) + c.impair.tx_waiting),
        "over the switch: {ports:#?}"
    );
    assert!(sum(&|c| c.impair.tx_duplicates) > 0 && sum(&|c| c.impair.tx_segments) > 0);
}

#[test]
fn impairment_is_part_of_the_lab() {
    let mut lab = Lab::new();
    let from = Station::add(&lab, "from", PortKind::Veth, 1);
    let to = Station::add(&lab, "to", PortKind::Tap, 2);
    lab.ok("impair to --delay 50ms --jitter 1ms --loss 0.01%");
    lab.ok("impair to --rate 1gbit --direction in");
    lab.ok("police from --rate 100mbit --burst 64k");
    lab.ok("storm from --broadcast 100pps");
    let exported = lab.ok("export");
    let before = lab.port("to").port.impair;
    assert!(exported.contains("loss = 0.0001"), "{exported}");
    let file = lab.lab_file(&exported);
    assert_eq!(lab.ok(&format!("apply {file}")), "", "the lab is as it says");
    lab.kill_daemon();
    lab.start();
    assert_eq!(lab.port("to").port.impair, before);
    assert!(round_trip(&from, &to) >= Duration::from_millis(49));
    let plain = exported
        .lines()
        .filter(|line| !line.contains("loss = "))
        .collect::<Vec<_>>();
    let done = lab.ok(&format!("apply {}", lab.lab_file(&plain.join("\n"))));
    assert_eq!(done.trim(), "set impairment (out) of port to: delay 50ms, jitter 1ms");
    lab.ok("impair clear to");
    lab.ok("police clear from");
    lab.ok("storm clear from");
    let cleared = lab.ok("export");
    assert!(
        !cleared.contains("impair") && !cleared.contains("police") && !cleared.contains("storm"),
        "{cleared}"
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = Lab::new();
    lab.ok("add-port red");
    lab.ctl("impair red --reorder 1%")
        .failed(2, &["port \"red\"", "without a delay"]);
    lab.ctl("impair red --loss 90% --loss-burst 2")
        .failed(2, &["bursts of 2"]);
    lab.ctl("impair red --delay 61s").failed(2, &["60s or less"]);
    lab.ctl("impair green --delay 1ms")
        .failed(4, &["port \"green\"", "there is no such port"]);
    lab.ctl("police red --rate 1mbit --burst 1k")
        .failed(2, &["no full frame"]);
    assert!(lab.port("red").port.impair.is_none());
    let body = r#"{"impair":{"out":{"loss":1.5}}}"#;
    let answer = vswitch_testing::http::request("PATCH", "/v1/ports/red", body);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("1.5 is no share"), "{answer:?}");
}

#[test]
fn the_lab_of_a_far_site_works() {
    let lab = Lab::new();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/labs/wan-link.toml");
    lab.ok(&format!("apply {file}"));
    let office = vswitch_testing::Place::named("office");
    // The line loses a frame now and then.
    let answer = wait_for("the far site to answer", || {
        let output = office.output("ping -n -c 1 -W 2 10.2.0.2");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text) }
    });
    let time = answer
        .split_once("time=")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    assert!(time.is_some_and(|time| time >= 80.0), "{answer}");
    let shown = lab.ok("impair show");
    assert!(
        shown.contains("rate=20mbit,limit=100") && shown.contains("loss=0.5%"),
        "{shown}"
    );
    assert!(lab.ok("storm show branch").contains("50pps"));
}
