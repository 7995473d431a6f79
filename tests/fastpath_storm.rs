//! The kernel fast path while stations move, ports come and go and daemons die: nothing is misdelivered.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use vswitch_testing::api::{Mac, PortKind};
use vswitch_testing::fastpath::{counters, lab_with};
use vswitch_testing::frame::{mac, probe, probe_id};
use vswitch_testing::raw::RawSocket;
use vswitch_testing::{Place, Station, run, wait_for};

/// The one station 0a:01:00:00:00:01 shows up now here, now there, while a sender talks to it all the time.
#[test]
fn in_a_storm_of_moves_adds_and_deletes_nothing_is_misdelivered() {
    let Some((lab, mut stations)) = lab_with(4) else { return };
    lab.ok("switch add second");
    let other = Station::add_with(&lab, "other", PortKind::Veth, 9, "--switch second").raw(false);
    let nomad = mac(1, 1);
    let sender = stations.remove(0);
    let places: Vec<_> = stations.iter().map(|station| station.raw(false)).collect();
    let talk = sender.raw(false);
    talk.send(&probe(Mac::BROADCAST, mac(1, 2), 0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut sent = 0u32;
            while !stop.load(Ordering::Relaxed) {
                talk.send(&probe(nomad, mac(1, 2), 1));
                sent += 1;
                if sent.is_multiple_of(16) {
                    talk.send(&probe(Mac::BROADCAST, mac(1, 2), 1));
                }
                if sent.is_multiple_of(64) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            sent
        });
        let churn = scope.spawn(|| {
            let mut rounds = 0;
            while !stop.load(Ordering::Relaxed) {
                let n = 100 + rounds % 20;
                lab.ok(&format!("add-port tmp --netns tmp{} --addr 10.7.0.{n}/24", rounds % 2));
                let tmp = Place::named(&format!("tmp{}", rounds % 2));
                // Here too, so that the port that goes is the nomad's.
                let raw = RawSocket::open(&tmp, "eth0", false);
                raw.send(&probe(mac(1, 2), nomad, 2));
                lab.ok("del-port tmp");
                rounds += 1;
            }
            rounds
        });
        let begin = Instant::now();
        let mut moves = 0;
        while begin.elapsed() < Duration::from_secs(6) {
            for (here, place) in places.iter().enumerate() {
                place.send(&probe(mac(1, 2), nomad, 3));
                moves += 1;
                if moves % 50 == 0 {
                    lab.ok("fdb flush");
                }
                thread::sleep(Duration::from_millis(2 + here as u64));
            }
        }
        stop.store(true, Ordering::Relaxed);
        eprintln!(
            "{moves} moves, {} frames, {} ports",
            load.join().unwrap(),
            churn.join().unwrap()
        );
    });
    // Once it rests, it alone is reached.
    let (home, elsewhere) = places.split_last().unwrap();
    home.send(&probe(mac(1, 2), nomad, 4));
    wait_for("the nomad to be known where it rests", || {
        let fdb = lab.fdb("main");
        fdb.iter()
            .any(|entry| entry.mac == nomad && entry.port.as_str() == stations[2].port)
    });
    for place in &places {
        while place.try_recv().is_ok() {}
    }
    let before = counters(&lab, &sender).rx_fastpath;
    (0..200).for_each(|id| talk.send(&probe(nomad, mac(1, 2), 10_000 + id)));
    let mut got = 0;
    let end = Instant::now() + Duration::from_secs(10);
    while got < 200 {
        let frame = home.recv(end).unwrap_or_else(|| panic!("{got} of 200 frames came"));
        got += u32::from(probe_id(&frame.bytes).is_some_and(|id| id >= 10_000));
    }
    assert!(
        counters(&lab, &sender).rx_fastpath >= before + 200,
        "{:?}",
        counters(&lab, &sender)
    );
    for place in elsewhere {
        while let Ok(frame) = place.try_recv() {
            assert!(
                probe_id(&frame.bytes).is_none_or(|id| id < 10_000),
                "where it was before"
            );
        }
    }
    while let Ok(frame) = other.try_recv() {
        assert!(probe_id(&frame.bytes).is_none(), "a frame crossed to another switch");
    }
    // The sums hold after all that, for the ports that are left.
    lab.wait_for_sums();
}

/// The station is the same, its port and switch are new ones each time: what was for the old port must not come to it.
#[test]
fn a_port_made_anew_on_another_switch_gets_nothing_of_the_old_one() {
    let Some((lab, stations)) = lab_with(1) else { return };
    lab.ok("switch add second");
    run("ip netns add theirs");
    let talk = stations[0].raw(false);
    talk.send(&probe(Mac::BROADCAST, mac(1, 2), 0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                (0..16).for_each(|_| talk.send(&probe(mac(1, 1), mac(1, 2), 1)));
                (0..4).for_each(|_| talk.send(&probe(Mac::BROADCAST, mac(1, 2), 1)));
                thread::sleep(Duration::from_millis(1));
            }
        });
        for round in 0..10 {
            lab.ok("add-port there --netns theirs --name vs0");
            let there = RawSocket::open(&Place::named("theirs"), "vs0", false);
            let end = Instant::now() + Duration::from_secs(10);
            there.send(&probe(mac(1, 2), mac(1, 1), 2));
            while probe_id(&there.recv(end).expect("the port is reached").bytes) != Some(1) {}
            lab.ok("del-port there");
            lab.ok("add-port elsewhere --netns theirs --name vs0 --switch second");
            let elsewhere = RawSocket::open(&Place::named("theirs"), "vs0", false);
            elsewhere.send(&probe(mac(1, 2), mac(1, 1), 2));
            let end = Instant::now() + Duration::from_millis(100);
            while let Some(frame) = elsewhere.recv(end) {
                assert_ne!(probe_id(&frame.bytes), Some(1), "round {round}");
            }
            lab.ok("del-port elsewhere");
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(counters(&lab, &stations[0]).rx_fastpath > 0, "nothing was tried");
}

#[test]
fn a_daemon_killed_amid_moves_comes_back_to_where_the_station_is() {
    let Some((mut lab, stations)) = lab_with(3) else { return };
    let [talk, here, there] = [0, 1, 2].map(|n| stations[n].raw(false));
    let nomad = mac(1, 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                talk.send(&probe(nomad, mac(1, 2), 1));
                thread::sleep(Duration::from_micros(200));
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for place in [&here, &there] {
                    place.send(&probe(mac(1, 2), nomad, 2));
                    thread::sleep(Duration::from_millis(3));
                }
            }
        });
        for _ in 0..4 {
            thread::sleep(Duration::from_millis(200));
            lab.kill_daemon();
            thread::sleep(Duration::from_millis(100));
            lab.start();
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (home, away, station) in [(&here, &there, &stations[1]), (&there, &here, &stations[2])] {
        home.send(&probe(mac(1, 2), nomad, 3));
        wait_for("the nomad to be known where it is", || {
            let fdb = lab.fdb("main");
            fdb.iter()
                .any(|entry| entry.mac == nomad && entry.port.as_str() == station.port)
        });
        while away.try_recv().is_ok() {}
        (0..50).for_each(|id| talk.send(&probe(nomad, mac(1, 2), 1000 + id)));
        let end = Instant::now() + Duration::from_secs(10);
        let mut got = 0;
        while got < 50 {
            let frame = home.recv(end).unwrap_or_else(|| panic!("{got} of 50 frames came"));
            got += u32::from(probe_id(&frame.bytes).is_some_and(|id| id >= 1000));
        }
        while let Ok(frame) = away.try_recv() {
            assert!(probe_id(&frame.bytes).is_none_or(|id| id < 1000), "where it was before");
        }
    }
}

/// One station is in two VLANs by turns, and another of its address in each of them stays: nothing leaves its VLAN.
#[test]
fn in_a_storm_of_vlan_changes_nothing_leaves_its_vlan() {
    const TEN: u32 = 10;
    const TWENTY: u32 = 20;
    let Some((lab, stations)) = lab_with(5) else { return };
    let [ten, twenty, home_ten, home_twenty, wanderer] = [0, 1, 2, 3, 4].map(|n| stations[n].raw(false));
    for (port, vlan) in [("v1", TEN), ("v2", TWENTY), ("v3", TEN), ("v4", TWENTY), ("v5", TEN)] {
        lab.ok(&format!("set port {port} --vlan {vlan}"));
    }
    let nomad = mac(1, 1);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (talk, source, vlan) in [(&ten, mac(1, 10), TEN), (&twenty, mac(1, 20), TWENTY)] {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    (0..16).for_each(|_| talk.send(&probe(nomad, source, vlan)));
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for home in [&home_ten, &home_twenty, &wanderer] {
                    home.send(&probe(Mac::BROADCAST, nomad, 0));
                    thread::sleep(Duration::from_millis(2));
                }
            }
        });
        for round in 0..40 {
            let (vlan, other) = if round % 2 == 0 { (TWENTY, TEN) } else { (TEN, TWENTY) };
            lab.ok(&format!("set port v5 --vlan {vlan}"));
            // What was on its way to the socket when the command ended.
            thread::sleep(Duration::from_millis(5));
            while wanderer.try_recv().is_ok() {}
            let end = Instant::now() + Duration::from_millis(30);
            while let Some(frame) = wanderer.recv(end) {
                assert_ne!(probe_id(&frame.bytes), Some(other), "round {round}: of the VLAN before");
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    for (home, other) in [(&home_ten, TWENTY), (&home_twenty, TEN)] {
        let mut own = 0;
        while let Ok(frame) = home.try_recv() {
            let id = probe_id(&frame.bytes);
            assert_ne!(id, Some(other), "of another VLAN");
            own += u32::from(id == Some(TEN + TWENTY - other));
        }
        assert!(own > 0, "nothing came");
    }
    assert!(counters(&lab, &stations[0]).rx_fastpath > 0, "nothing was tried");
}
