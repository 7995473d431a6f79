use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

const P1: PortId = PortId(1);
const P2: PortId = PortId(2);

fn set(port: PortId) -> PortSet {
    let mut set = PortSet::default();
    set.set(port, true);
    set
}

fn key(n: u64) -> FdbKey {
    FdbKey::new(0, 0x0200_0000_0000 + n)
}

#[test]
fn a_sticky_station_stays() {
    let fdb = Fdb::new(16);
    let sticky = LearnRule {
        kind: EntryKind::Sticky,
        ..LearnRule::PLAIN
    };
    assert_eq!(fdb.learn(key(1), P1, 10, sticky), Learned::New);
    assert_eq!(fdb.learn(key(1), P2, 11, LearnRule::PLAIN), Learned::Known);
    assert_eq!((fdb.lookup(key(1)), fdb.age(1000, 1)), (Some(P1), 0));
    assert_eq!(
        (
            fdb.flush(FdbFilter::of_port(P1)),
            fdb.flush(FdbFilter {
                sticky: true,
                ..FdbFilter::of_port(P1)
            })
        ),
        (0, 1)
    );
}

#[test]
fn limits_of_port_and_vlan() {
    let fdb = Fdb::new(16);
    let rule = LearnRule {
        port_limit: 2,
        vlan_limit: 3,
        kind: EntryKind::Learned,
    };
    assert_eq!(fdb.learn(key(1), P1, 1, rule), Learned::New);
    assert_eq!(fdb.learn(key(2), P1, 1, rule), Learned::New);
    assert_eq!(fdb.learn(key(3), P1, 1, rule), Learned::Limited);
    assert_eq!(fdb.learn(key(3), P2, 1, rule), Learned::New);
    assert_eq!(fdb.learn(key(4), P2, 1, rule), Learned::Limited, "the VLAN is full");
    assert_eq!(fdb.learn(FdbKey::new(7, key(4).0), P2, 1, rule), Learned::New);
    assert_eq!(fdb.learn(key(2), P2, 1, rule), Learned::Limited, "a move counts too");
    assert_eq!(fdb.counts()[1..], [2, 2]);
    assert_eq!(
        fdb.flush(FdbFilter {
            vlan: Some(7),
            ..FdbFilter::default()
        }),
        1
    );
    assert!(fdb.remove(key(1)));
    assert_eq!(fdb.learn(key(2), P2, 1, rule), Learned::Moved(P1));
    assert_eq!((fdb.counts()[1..].to_vec(), fdb.move_count()), (vec![0, 2], 1));
}

#[test]
fn a_station_is_found_where_it_was_last_seen() {
    let fdb = Fdb::new(16);
    assert_eq!(fdb.learn(key(1), P1, 10, LearnRule::PLAIN), Learned::New);
    assert_eq!(fdb.learn(key(1), P1, 11, LearnRule::PLAIN), Learned::Known);
    assert_eq!(fdb.lookup(key(1)), Some(P1));
    assert_eq!(fdb.learn(key(1), P2, 12, LearnRule::PLAIN), Learned::Moved(P1));
    assert_eq!(fdb.lookup(key(1)), Some(P2));
    assert_eq!(fdb.lookup(key(2)), None);
    assert_eq!(
        fdb.records(15),
        [FdbRecord {
            mac: key(1).mac(),
            vlan: 0,
            port: P2,
            age_secs: Some(3),
            kind: EntryKind::Learned,
        }]
    );
}

#[test]
fn only_learned_entries_age() {
    let fdb = Fdb::new(16);
    fdb.learn(key(1), P1, 10, LearnRule::PLAIN);
    fdb.learn(key(2), P1, 20, LearnRule::PLAIN);
    fdb.add_static(key(3), P1).unwrap();
    assert_eq!(fdb.age(310, 300), 1);
    assert_eq!(
        (fdb.lookup(key(1)), fdb.lookup(key(2)), fdb.lookup(key(3))),
        (None, Some(P1), Some(P1))
    );
    assert_eq!(fdb.age(9, 300), 0, "a clock behind the entry's is no great age");
}

/// Guards F5: a limit is held against what was learned, not against what was set by hand.
#[test]
fn a_limit_does_not_count_what_was_set_by_hand() {
    let fdb = Fdb::new(100);
    let rule = LearnRule {
        port_limit: 1,
        vlan_limit: 1,
        ..LearnRule::PLAIN
    };
    fdb.add_static(key(1), P1).unwrap();
    fdb.add_static(key(2), P1).unwrap();
    assert_eq!(fdb.learn(key(3), P1, 0, rule), Learned::New);
    assert_eq!(fdb.learn(key(4), P1, 0, rule), Learned::Limited);
    // What becomes static makes room, and what it was before does not count any more.
    fdb.add_static(key(3), P1).unwrap();
    assert_eq!(fdb.learn(key(4), P1, 0, rule), Learned::New);
    assert!(fdb.remove(key(4)) && fdb.remove(key(1)));
    assert_eq!(fdb.learn(key(5), P1, 0, rule), Learned::New);
    assert_eq!(fdb.counts()[P1.index()], 3);
}

#[test]
fn a_static_entry_does_not_move() {
    let fdb = Fdb::new(16);
    fdb.learn(key(1), P2, 1, LearnRule::PLAIN);
    fdb.add_static(key(1), P1).unwrap();
    assert_eq!(fdb.learn(key(1), P2, 2, LearnRule::PLAIN), Learned::Known);
    assert_eq!(fdb.lookup(key(1)), Some(P1));
    assert_eq!(fdb.flush(FdbFilter::default()), 0);
    assert!(fdb.remove(key(1)) && !fdb.remove(key(1)));
    assert!(fdb.is_empty());
}

/// Its key is the word of a free slot. What took one for its entry had made the table full for ever.
#[test]
fn nobody_has_no_entry() {
    for vlan in [0, 7] {
        let fdb = Fdb::new(16);
        let nobody = FdbKey::new(vlan, 0);
        for port in [PortId(0), P1] {
            assert_eq!(fdb.learn(nobody, port, 0, LearnRule::PLAIN), Learned::Known);
            assert_eq!(fdb.learn(nobody, port, 9, LearnRule::PLAIN), Learned::Known);
            assert_eq!(fdb.would_learn(nobody, port, LearnRule::PLAIN), Learned::Known);
            assert_eq!(fdb.add_static(nobody, port), Ok(()));
            assert!(!fdb.adopt(nobody, port, 1, EntryKind::Learned));
            assert!(!fdb.remove_learned(nobody, None) && !fdb.remove_learned(nobody, Some(port)));
            fdb.remove_static(nobody, port);
        }
        assert!(!fdb.remove(nobody) && fdb.record(nobody, 9).is_none());
        assert!(fdb.records(9).is_empty() && fdb.counts().iter().all(|count| *count == 0));
        assert_eq!((fdb.len(), fdb.move_count()), (0, 0));
        // All of the table is others'.
        assert!((0..16).all(|n| fdb.learn(key(n), P1, 9, LearnRule::PLAIN) == Learned::New));
        assert!((0..16).all(|n| fdb.lookup(key(n)) == Some(P1)));
        assert_eq!(fdb.learn(key(16), P1, 9, LearnRule::PLAIN), Learned::Full);
    }
}

#[test]
fn a_full_table_refuses_and_counts() {
    let fdb = Fdb::new(100);
    for n in 0..100 {
        assert_eq!(fdb.learn(key(n), P1, 1, LearnRule::PLAIN), Learned::New);
    }
    assert_eq!(fdb.learn(key(100), P1, 1, LearnRule::PLAIN), Learned::Full);
    assert_eq!(
        fdb.learn(key(5), P2, 1, LearnRule::PLAIN),
        Learned::Moved(P1),
        "known stations still move"
    );
    assert_eq!((fdb.len(), fdb.full_count()), (100, 1));
    assert_eq!(fdb.forget_ports(&set(P2)), 1);
    assert_eq!(fdb.learn(key(100), P1, 1, LearnRule::PLAIN), Learned::New);
}

#[test]
fn what_is_set_by_hand_takes_the_room_of_what_was_learned() {
    let fdb = Fdb::new(64);
    for n in 0..64 {
        fdb.learn(key(n * 7919), P2, 1, LearnRule::PLAIN);
    }
    for n in 0..64 {
        fdb.add_static(key(1_000_000 + n), P1).unwrap();
        assert_eq!(fdb.lookup(key(1_000_000 + n)), Some(P1));
    }
    assert_eq!(fdb.add_static(key(5), P1), Err(FdbFull));
    assert!(!fdb.learned_by_vlan().iter().any(|(_, count)| *count > 0));
    assert_eq!(
        (fdb.len(), fdb.counts()[P1.index()], fdb.counts()[P2.index()]),
        (64, 64, 0)
    );
}

#[test]
fn the_default_capacity_can_be_filled() {
    let capacity = if cfg!(miri) { 64 } else { 65_536 };
    let fdb = Fdb::new(capacity);
    let stations = || 0..u64::from(capacity);
    assert!(stations().all(|n| fdb.learn(key(n * 7919), P1, 1, LearnRule::PLAIN) == Learned::New));
    assert!(stations().all(|n| fdb.lookup(key(n * 7919)) == Some(P1)));
    assert_eq!(fdb.flush(FdbFilter::of_port(P1)), capacity);
    assert!(fdb.is_empty() && fdb.buckets.iter().all(|b| b.strayed.load(Ordering::Relaxed) == 0));
}

/// A reader that mixed up two entries would see a station behind a port where it never was.
#[test]
fn readers_never_see_half_a_change() {
    let fdb = Fdb::new(8);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut hits = 0u64;
            while !stop.load(Ordering::Relaxed) {
                for n in 0..64 {
                    if let Some(port) = fdb.lookup(key(n)) {
                        assert_eq!(port, PortId(n as u16));
                        hits += 1;
                    }
                }
            }
            hits
        });
        let rounds: u64 = if cfg!(miri) { 40 } else { 20_000 };
        for round in 0..rounds {
            let n = round * 31 % 64;
            fdb.learn(key(n), PortId(n as u16), 1, LearnRule::PLAIN);
            if round % 3 == 0 {
                fdb.flush(FdbFilter::default());
            }
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

/// Most steps of a case.
const LONGEST: usize = if cfg!(miri) { 20 } else { 300 };

proptest! {
    #[test]
    fn it_does_what_a_map_does(steps in prop::collection::vec((0u8..6, 0u64..40, 0u16..4), 1..LONGEST)) {
        let fdb = Fdb::new(32);
        let mut map: HashMap<u64, (u16, bool)> = HashMap::new();
        for (step, n, port) in steps {
            match step {
                0..3 => {
                    let room = map.len() < 32;
                    let expected = match map.get_mut(&n) {
                        Some((_, true)) => Learned::Known,
                        Some((p, _)) if *p == port => Learned::Known,
                        Some((p, _)) => Learned::Moved(PortId(std::mem::replace(p, port))),
                        None if room => { map.insert(n, (port, false)); Learned::New }
                        None => Learned::Full,
                    };
                    prop_assert_eq!(fdb.learn(key(n), PortId(port), 1, LearnRule::PLAIN), expected);
                }
                3 => {
                    let has_room = map.contains_key(&n) || map.len() < 32;
                    let fits = has_room || map.values().any(|(_, is_static)| !is_static);
                    prop_assert_eq!(fdb.add_static(key(n), PortId(port)).is_ok(), fits);
                    if fits && !has_room {
                        // One that was learned made way, whichever.
                        let gone: Vec<_> = map.keys().copied().filter(|n| fdb.lookup(key(*n)).is_none()).collect();
                        prop_assert_eq!(gone.len(), 1);
                        prop_assert!(map.remove(&gone[0]).is_some_and(|(_, is_static)| !is_static));
                    }
                    if fits { map.insert(n, (port, true)); }
                }
                4 => prop_assert_eq!(fdb.remove(key(n)), map.remove(&n).is_some()),
                _ => {
                    let before = map.len();
                    map.retain(|_, (p, is_static)| *is_static || *p != port);
                    prop_assert_eq!(fdb.flush(FdbFilter::of_port(PortId(port))) as usize, before - map.len());
                }
            }
            prop_assert_eq!(fdb.len() as usize, map.len());
            for n in 0..40 {
                prop_assert_eq!(fdb.lookup(key(n)), map.get(&n).map(|(p, _)| PortId(*p)));
            }
        }
    }
}
