//! Rates, and the frames that wait for their turn.

use std::time::{Duration, Instant};
use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::frame::{VLAN_ETHERTYPE, mac, probe, probe_id, probe_of_len, tagged};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{DEADLINE, Lab, Station, transfer, wait_for};

use super::*;

#[test]
fn more_than_the_limit_does_not_wait_and_clearing_drops_what_does() {
    let lab = Lab::new();
    let (red, _blue) = silent_pair(&lab);
    for direction in ["out", "in"] {
        let port = if direction == "out" { "blue" } else { "red" };
        let seen = || {
            let counters = lab.port(port).counters;
            let (drops_by, waiting) = match direction {
                "out" => (counters.tx_drops, counters.impair.tx_waiting),
                _ => (counters.rx_drops, counters.impair.rx_waiting),
            };
            (
                waiting,
                drops(&drops_by, "impair-queue"),
                drops(&drops_by, "impair-flushed"),
            )
        };
        lab.ok(&format!("impair {port} --delay 60s --limit 10 --direction {direction}"));
        (0..100).for_each(|id| red.send(&probe(Mac::BROADCAST, mac(1, 1), id)));
        wait_for("the queue to be full", || match seen() {
            (10, 90, 0) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        let shown = lab.ok("impair show");
        assert!(shown.contains("delay=60s,limit=10"), "{shown}");
        // The frames stay while settings change.
        lab.ok(&format!("impair {port} --delay 50s --limit 10 --direction {direction}"));
        assert_eq!(seen(), (10, 90, 0));
        lab.ok(&format!("impair clear {port}"));
        // The worker that has the queue drops what is in it.
        wait_for("the queue to be dropped", || match seen() {
            (0, 90, 10) => Ok(()),
            other => Err(format!("{direction}: {other:?}")),
        });
    }
    lab.ok("impair blue --delay 60s");
    red.send(&probe(Mac::BROADCAST, mac(1, 1), 1));
    wait_for("a frame to wait", || lab.port("blue").counters.impair.tx_waiting == 1);
    lab.ok("del-port blue red");
    let status = lab.status();
    assert!(status.workers > 0, "the daemon goes on");
}

/// A delay of a minute by mistake was one for all that came within that minute.
#[test]
fn a_delay_that_is_corrected_lets_go_what_waits() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    for (wrong, right) in [("--delay 60s", "--delay 1ms"), ("--rate 10bit", "--rate 1gbit")] {
        lab.ok(&format!("impair blue {wrong}"));
        (0..5).for_each(|id| red.send(&probe(Mac::BROADCAST, mac(1, 1), id)));
        wait_for("the frames to wait", || {
            lab.port("blue").counters.impair.tx_waiting == 5
        });
        lab.ok(&format!("impair blue {right}"));
        red.send(&probe(Mac::BROADCAST, mac(1, 1), 5));
        for id in 0..6 {
            let frame = blue.recv(Instant::now() + DEADLINE).expect("what waited comes out");
            assert_eq!(probe_id(&frame.bytes), Some(id), "{wrong}");
        }
    }
}

#[test]
fn a_rate_lets_no_more_pass_than_its_bits() {
    let lab = Lab::new();
    let from = Station::add(&lab, "from", PortKind::Veth, 1);
    let to = Station::add(&lab, "to", PortKind::Tap, 2);
    from.ping(to.v4);
    for (port, direction) in [("to", "out"), ("from", "in")] {
        lab.ok(&format!(
            "impair {port} --rate 16mbit --limit 2000 --direction {direction}"
        ));
        let start = Instant::now();
        // 1 MiB that way and back; the acknowledgements come on top.
        transfer::tcp(&from, &to, direction == "in", 16);
        let took = start.elapsed();
        let bits = f64::from(16 * 65_536 * 8);
        assert!(took.as_secs_f64() >= bits / 16e6, "{port} {direction}: {took:?}");
        lab.ok(&format!("impair clear {port}"));
    }
    let counters = lab.port("to").counters;
    assert!(counters.impair.tx_segments > 0, "no GSO frame was cut: {counters:?}");
}

#[test]
fn frames_a_second_are_counted_out() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    lab.ok("impair blue --pps 200");
    let start = Instant::now();
    let ids = pass(&lab, &red, &blue, 100);
    assert!(start.elapsed() >= Duration::from_millis(500), "{:?}", start.elapsed());
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

/// Sends each frame with the priority and number given, and waits until `blue`'s queue has it or has dropped it.
fn send_prioritised(lab: &Lab, from: &RawSocket, frames: impl IntoIterator<Item = (u16, u32)>) {
    let handled = || {
        let classes = lab.port("blue").counters.impair.tx_classes.expect("priority is on");
        classes
            .iter()
            .map(|class| class.waiting + class.sent + class.dropped)
            .sum::<u64>()
    };
    let before = handled();
    let mut count = 0;
    for (priority, id) in frames {
        let frame = probe_of_len(Mac::BROADCAST, mac(1, 1), id, 1000);
        from.send(&tagged(&frame, VLAN_ETHERTYPE, priority << 13));
        count += 1;
    }
    // A frame that another pushes out is counted once, as dropped.
    wait_for("the frames to be queued", || handled() == before + count);
}

#[test]
fn a_higher_class_overtakes_a_backlog_and_order_stays_within_a_class() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    // 1,004 bytes take 2 s: most of the backlog waits when the higher classes come.
    lab.ok("impair blue --rate 4kbit --priority --delay 1ms");
    let shown = lab.ok("impair show");
    assert!(shown.contains("rate=4kbit,priority"), "{shown}");
    send_prioritised(&lab, &red, (0..15).map(|id| (0, id)));
    send_prioritised(&lab, &red, (100..105).map(|id| (1, id)));
    send_prioritised(&lab, &red, (200..205).map(|id| (5, id)));
    send_prioritised(&lab, &red, (300..305).map(|id| (7, id)));
    lab.ok("impair blue --rate 1mbit --priority --delay 1ms");
    let end = Instant::now() + DEADLINE;
    let mut ids = Vec::new();
    while ids.len() < 30 {
        ids.extend(probe_id(&blue.recv(end).expect("what was sent comes out").bytes));
    }
    for (range, overtaken) in [(300..305, 200..205), (200..205, 0..15), (0..15, 100..105)] {
        let at = |id: u32| ids.iter().position(|other| *other == id).unwrap();
        let of = |range: &std::ops::Range<u32>| range.clone().map(at).collect::<Vec<_>>();
        assert!(of(&range).is_sorted(), "order within a class: {ids:?}");
        assert!(
            of(&range).last() < of(&overtaken).last(),
            "{range:?} before the end of {overtaken:?}: {ids:?}"
        );
    }
    assert_eq!(ids[25..], [100, 101, 102, 103, 104], "background comes last");
    let classes = lab.port("blue").counters.impair.tx_classes.unwrap();
    assert_eq!(classes.map(|class| class.sent), [5, 15, 0, 0, 0, 5, 0, 5]);
    let page = lab.ok("port show blue");
    assert!(
        page.contains("class 7") && page.contains("5 sent, 0 waiting, 0 dropped"),
        "{page}"
    );
    let metrics = vswitch_testing::http::request("GET", "/metrics", "").body;
    let line = r#"vswitch_port_class_sent_total{switch="main",port="blue",direction="out",class="5"} 5"#;
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn of_a_full_queue_the_lowest_class_loses() {
    let lab = Lab::new();
    let (red, blue) = silent_pair(&lab);
    // One frame takes 80 s: none leaves within the test.
    lab.ok("impair blue --rate 100bit --limit 10 --priority");
    let counts = || lab.port("blue").counters.impair.tx_classes.unwrap();
    send_prioritised(&lab, &red, (0..12).map(|id| (0, id)));
    // One of class 1 is being sent.
    assert_eq!((counts()[1].waiting, counts()[1].sent, counts()[1].dropped), (9, 1, 2));
    send_prioritised(&lab, &red, (20..24).map(|id| (6, id)));
    send_prioritised(&lab, &red, (30..33).map(|id| (1, id)));
    let now = counts();
    assert_eq!(now.map(|class| class.waiting), [0, 5, 0, 0, 0, 0, 4, 0]);
    assert_eq!(now.map(|class| class.dropped), [3, 6, 0, 0, 0, 0, 0, 0]);
    let port = lab.port("blue").counters;
    assert_eq!((drops(&port.tx_drops, "impair-queue"), port.impair.tx_waiting), (9, 10));
    lab.ok("impair clear blue");
    wait_for("the queue to be dropped", || {
        let cleared = lab.port("blue").counters;
        (drops(&cleared.tx_drops, "impair-flushed"), cleared.impair.tx_waiting) == (10, 0)
    });
    assert_eq!(pass(&lab, &red, &blue, 5), [0, 1, 2, 3, 4]);
}
