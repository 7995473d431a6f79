//! Lines with frames on them, without threads or clocks.

use proptest::prelude::*;
use vswitch_api::Share;

use super::*;
use crate::PortId;

/// Virtio-net header and frame of a partial UDP GSO frame of ten datagrams of 1000 bytes.
fn gso() -> Vec<u8> {
    let payload = 10 * 1000;
    let mut frame = vec![0u8; 14 + 20 + 8 + payload];
    frame[..6].fill(2);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&((28 + payload) as u16).to_be_bytes());
    frame[23] = 17;
    frame[38..40].copy_from_slice(&((8 + payload) as u16).to_be_bytes());
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso: Gso::UdpL4,
        hdr_len: 42,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 6,
        ..VnetHeader::default()
    };
    let mut wire = vec![0; VNET_HDR_LEN];
    header.write(wire.first_chunk_mut().unwrap());
    wire.extend(frame);
    wire
}

fn plain(len: usize, mark: u8) -> Vec<u8> {
    let mut wire = vec![mark; VNET_HDR_LEN + len];
    wire[..VNET_HDR_LEN].fill(0);
    wire
}

fn line(direction: Direction, settings: Impairment) -> Arc<Line> {
    let counters: Arc<[WorkerCounters]> = [WorkerCounters::default()].into();
    let port = PortRef {
        id: PortId(0),
        serial: 1,
    };
    Arc::new(Line::new(port, direction, 0, counters, &settings))
}

fn load(line: &Arc<Line>, now: u64, frames: &[Vec<u8>]) -> Vec<(u64, Held)> {
    let mut got = Vec::new();
    let mut loader = Loader::default();
    let frames = frames.iter().map(|frame| (&frame[..], 0));
    line.load(0, now, frames, &mut loader, |held| got.append(held));
    got
}

/// Changes the settings while frames wait.
fn configure(line: &Line, settings: &Impairment, now: u64, agenda: &mut [(u64, Held)]) {
    let state = &mut *lock(&line.state);
    let another = state.configure(settings);
    state.hasten(now, another, agenda);
}

fn totals(line: &Line) -> vswitch_api::view::PortCounters {
    let mut total = Default::default();
    line.counters[0].add_to(&mut total);
    total
}

#[test]
fn with_only_a_delay_a_gso_frame_stays_whole_and_fills_the_queue_as_ten() {
    let settings = Impairment {
        delay_us: 20_000,
        limit: Some(15),
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let held = load(&line, 5, &[gso(), gso()]);
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].0, held[0].1.room), (20_000_005, 10));
    assert_eq!(held[0].1.wire[..], gso()[..]);
    assert_eq!(totals(&line).tx_drops.get("impair-queue"), Some(&1));
    line.arrived(&held[0].1);
    assert_eq!((line.waiting(), load(&line, 9, &[gso()]).len()), (0, 1));
}

#[test]
fn at_a_rate_each_wire_frame_takes_its_time() {
    let settings = Impairment {
        rate_bps: Some(8_336_000),
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let held = load(&line, 0, &[gso()]);
    // 1042 bytes each.
    let due: Vec<_> = held.iter().map(|(due, _)| *due).collect();
    assert_eq!(due, (1..=10).map(|n| n * 1_000_000).collect::<Vec<_>>());
    assert!(held.iter().all(|(_, held)| held.wire.len() == VNET_HDR_LEN + 1042));
    assert_eq!(totals(&line).impair.tx_segments, 9);
}

#[test]
fn a_frame_that_finds_no_room_takes_no_time_of_the_rate() {
    let settings = Impairment {
        rate_bps: Some(8_000_000),
        limit: Some(1),
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let held = load(&line, 0, &[plain(1000, 1), plain(1000, 2)]);
    assert_eq!((held.len(), held[0].0), (1, 1_000_000));
    assert_eq!(totals(&line).tx_drops.get("impair-queue"), Some(&1));
    line.arrived(&held[0].1);
    assert_eq!(load(&line, 1_000_000, &[plain(1000, 3)])[0].0, 2_000_000);
}

#[test]
fn frames_lost_on_the_way_in_are_counted_as_received_and_dropped() {
    let settings = Impairment {
        loss: Share::ALL,
        ..Impairment::default()
    };
    let line = line(Direction::In, settings);
    assert!(load(&line, 0, &[gso(), plain(60, 1)]).is_empty());
    let totals = totals(&line);
    assert_eq!((totals.rx_frames, totals.rx_bytes), (11, 10 * 1042 + 60));
    assert_eq!(totals.rx_drops.get("impair-loss"), Some(&11));
}

#[test]
fn a_double_is_the_same_and_both_count() {
    let settings = Impairment {
        duplicate: Share::ALL,
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let held = load(&line, 0, &[plain(60, 1)]);
    assert_eq!(held.len(), 2);
    assert_eq!(held[0].1.wire, held[1].1.wire);
    assert_eq!((totals(&line).impair.tx_duplicates, line.waiting()), (1, 2));
}

/// Of a frame that may be anything; that of a plain frame if it can't be used.
fn header(wire: &[u8]) -> VnetHeader {
    Checked::new(wire).map_or_else(|_| VnetHeader::default(), |frame| *frame.header())
}

#[test]
fn a_flipped_bit_makes_the_complete_checksum_wrong() {
    let settings = Impairment {
        corrupt: Share::ALL,
        seed: Some(1),
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let mut gso = gso();
    // One datagram with a partial checksum.
    gso[1] = 0;
    gso[4..6].fill(0);
    gso.truncate(VNET_HDR_LEN + 14 + 28 + 1000);
    gso[VNET_HDR_LEN + 16..][..2].copy_from_slice(&1028_u16.to_be_bytes());
    gso[VNET_HDR_LEN + 38..][..2].copy_from_slice(&1008_u16.to_be_bytes());
    assert!(header(&gso).needs_csum());
    let mut whole = gso[VNET_HDR_LEN..].to_vec();
    complete(&mut whole, &mut header(&gso)).unwrap();
    let held = load(&line, 0, &[gso]);
    let wire = &held[0].1.wire;
    let left = VnetHeader::parse(wire.first_chunk().unwrap()).unwrap();
    assert!(!left.needs_csum(), "nothing is left for an offload to repair");
    let bits: u32 = wire[VNET_HDR_LEN..]
        .iter()
        .zip(&whole)
        .map(|(a, b)| (a ^ b).count_ones())
        .sum();
    assert_eq!(bits, 1);
}

/// As one frame with a flipped bit it was sent on: what no port takes, or with a checksum that is right again.
#[test]
fn a_gso_frame_of_a_tunnel_can_t_be_cut_and_is_refused_where_bits_flip() {
    let corrupt = Impairment {
        corrupt: Share::ALL,
        ..Impairment::default()
    };
    let delayed = Impairment {
        delay_us: 20,
        ..Impairment::default()
    };
    let mut tunnel = gso();
    // The sum is of what is further inside.
    tunnel[6..8].copy_from_slice(&60_u16.to_le_bytes());
    assert!(Checked::new(&tunnel).is_ok());
    for (direction, reason) in [(Direction::In, "malformed"), (Direction::Out, "rejected")] {
        let through = line(direction, delayed.clone());
        assert_eq!(load(&through, 0, std::slice::from_ref(&tunnel)).len(), 1);
        let line = line(direction, corrupt.clone());
        assert_eq!(load(&line, 0, std::slice::from_ref(&tunnel)).len(), 0);
        let total = totals(&line);
        let drops = match direction {
            Direction::In => total.rx_drops,
            Direction::Out => total.tx_drops,
        };
        assert_eq!(drops[reason], 1);
        assert_eq!(total.rx_frames, u64::from(direction == Direction::In));
    }
}

#[test]
fn reordered_frames_are_due_at_once_and_others_never_overtake() {
    let settings = Impairment {
        delay_us: 1000,
        reorder: Share::from_ppm(300_000).unwrap(),
        rate_bps: Some(1_000_000_000),
        seed: Some(3),
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let frames: Vec<_> = (0..100).map(|n| plain(100, n)).collect();
    let held = load(&line, 7, &frames);
    let (at_once, late): (Vec<_>, Vec<_>) = held.iter().map(|(due, _)| *due).partition(|due| *due == 7);
    assert!(at_once.len() > 10 && late.is_sorted() && late[0] >= 1_000_007);
    assert_eq!(totals(&line).impair.tx_reordered, at_once.len() as u64);
}

#[test]
fn a_shorter_delay_does_not_let_frames_overtake() {
    let delay = |delay_us| Impairment {
        delay_us,
        ..Impairment::default()
    };
    let line = line(Direction::Out, delay(1000));
    let mut agenda = load(&line, 0, &[plain(60, 1)]);
    configure(&line, &delay(100), 50_000, &mut agenda);
    agenda.extend(load(&line, 50_001, &[plain(60, 2)]));
    let due: Vec<_> = agenda.iter().map(|(due, _)| *due).collect();
    assert_eq!(due, [100_000, 150_001]);
    // A longer one is for those to come.
    configure(&line, &delay(500), 60_000, &mut agenda);
    agenda.extend(load(&line, 60_000, &[plain(60, 3)]));
    let due: Vec<_> = agenda.iter().map(|(due, _)| *due).collect();
    assert_eq!(due, [100_000, 150_001, 560_000]);
    // One that is over by now lets all go at once, in their order.
    configure(&line, &delay(1), 70_000, &mut agenda);
    assert_eq!(run_until(&line, &mut agenda, 70_000), [1, 2, 3]);
}

/// Guards a line that was dead until what it had been given at a rate by mistake was through.
#[test]
fn a_higher_rate_counts_for_frames_that_wait() {
    let rate = |rate_bps, priority| Impairment {
        rate_bps: Some(rate_bps),
        delay_us: 1000,
        priority,
        ..Impairment::default()
    };
    // A frame of 1000 bytes takes 8 s, then 1 ms.
    for priority in [false, true] {
        let line = line(Direction::Out, rate(1000, priority));
        let mut agenda = load(&line, 0, &[plain(1000, 1), plain(1000, 2), plain(1000, 3)]);
        configure(&line, &rate(8_000_000, priority), 5_000_000_000, &mut agenda);
        agenda.extend(load(&line, 5_000_000_000, &[plain(1000, 4)]));
        let left: Vec<_> = (1..=6)
            .map(|ms| run_until(&line, &mut agenda, 5_000_000_000 + ms * 1_000_000))
            .collect();
        assert_eq!(left, [vec![], vec![1], vec![2], vec![3], vec![4], vec![]], "{priority}");
        assert_eq!((line.waiting(), line.held.load(Ordering::Relaxed)), (0, 0));
    }
    // A lower one is for those to come.
    let line = line(Direction::Out, rate(8_000_000, false));
    let mut agenda = load(&line, 0, &[plain(1000, 1), plain(1000, 2)]);
    configure(&line, &rate(1000, false), 0, &mut agenda);
    agenda.extend(load(&line, 0, &[plain(1000, 3)]));
    let due: Vec<_> = agenda.iter().map(|(due, _)| *due).collect();
    assert_eq!(due, [2_000_000, 3_000_000, 8_001_000_000]);
}

/// GSO frames were dropped where they are cut only as some are to be lost.
#[test]
fn what_is_due_at_once_takes_no_room() {
    let settings = Impairment {
        corrupt: Share::from_ppm(1).unwrap(),
        limit: Some(15),
        ..Impairment::default()
    };
    let quick = line(Direction::Out, settings.clone());
    assert_eq!(load(&quick, 0, &[gso(), gso(), gso()]).len(), 30);
    configure(
        &quick,
        &Impairment {
            delay_us: 1,
            ..settings
        },
        0,
        &mut [],
    );
    assert_eq!(load(&quick, 0, &[gso(), gso()]).len(), 15);
    // Of a burst the rest alone waits.
    let settings = Impairment {
        rate_bps: Some(8_000_000),
        burst_bytes: 1042 * 7,
        limit: Some(5),
        ..Impairment::default()
    };
    for priority in [false, true] {
        let settings = Impairment {
            priority,
            ..settings.clone()
        };
        let slow = line(Direction::Out, settings);
        load(&slow, 0, &[gso(), gso()]);
        assert_eq!(totals(&slow).tx_drops.get("impair-queue"), Some(&8), "{priority}");
    }
}

#[test]
fn an_empty_line_takes_a_gso_frame_of_more_than_may_wait() {
    let settings = Impairment {
        delay_us: 1000,
        limit: Some(4),
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let held = load(&line, 0, &[gso(), gso()]);
    assert_eq!(held.len(), 1);
    line.arrived(&held[0].1);
    assert_eq!(load(&line, 0, &[gso()]).len(), 1);
}

/// A tag that is put in or taken out on the way says nothing of the frame.
#[test]
fn the_class_is_that_of_the_tag_with_which_a_frame_came() {
    let settings = Impairment {
        rate_bps: Some(8_000_000),
        priority: true,
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let frames = [plain(1000, 1), plain(1000, 2), plain(1000, 3), plain(1000, 4)];
    let mut agenda = Vec::new();
    let frames = frames
        .iter()
        .zip([0, 0, 1, 6])
        .map(|(frame, priority)| (&frame[..], priority));
    line.load(0, 0, frames, &mut Loader::default(), |held| agenda.append(held));
    assert_eq!(run_until(&line, &mut agenda, 4_000_000), [1, 4, 2, 3]);
}

#[test]
fn a_wire_that_was_taken_away_takes_nothing() {
    let settings = Impairment {
        delay_us: 1,
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let held = load(&line, 0, &[plain(60, 1)]);
    line.close();
    assert!(load(&line, 0, &[plain(60, 2)]).is_empty());
    line.flush(0, &held[0].1);
    assert_eq!(totals(&line).tx_drops.get("impair-flushed"), Some(&2));
    assert_eq!(line.waiting(), 0);
}

/// The marks of the frames that leave by `now`, as the owner lets them.
fn run_until(line: &Arc<Line>, agenda: &mut Vec<(u64, Held)>, now: u64) -> Vec<u8> {
    let mut left = Vec::new();
    let mut loader = Loader::default();
    loop {
        agenda.sort_by_key(|(due, _)| *due);
        if agenda.first().is_none_or(|(due, _)| *due > now) {
            return left;
        }
        let (due, held) = agenda.remove(0);
        if held.is_turn() {
            line.take_turn(due, &mut loader, |held| agenda.append(held));
        } else {
            line.arrived(&held);
            left.push(held.wire[VNET_HDR_LEN + 20]);
        }
    }
}

#[test]
fn a_frame_that_is_being_sent_is_not_overtaken_and_no_time_is_lost_between_two() {
    // A frame of 1000 bytes takes 1 ms.
    let settings = Impairment {
        rate_bps: Some(8_000_000),
        priority: true,
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings);
    let frame = |priority: u8, mark: u8| {
        let mut wire = plain(1000, mark);
        wire[VNET_HDR_LEN + 12..][..4].copy_from_slice(&[0x81, 0, priority << 5, 1]);
        wire
    };
    let mut agenda = load(&line, 0, &[frame(0, 1), frame(0, 2), frame(1, 3), frame(7, 4)]);
    agenda.extend(load(&line, 500_000, &[frame(7, 5), frame(2, 6)]));
    assert!(run_until(&line, &mut agenda, 999_999).is_empty());
    assert_eq!(run_until(&line, &mut agenda, 3_000_000), [1, 4, 5]);
    assert_eq!(run_until(&line, &mut agenda, 6_000_000), [6, 2, 3]);
    assert_eq!(line.waiting(), 0);
    // Idle again: the next one is sent at once.
    let later = load(&line, 9_000_000, &[frame(0, 7)]);
    assert_eq!(later[0].0, 10_000_000);
}

#[test]
fn priority_switched_off_lets_those_that_wait_go_first() {
    let settings = |priority| Impairment {
        rate_bps: Some(8_000_000),
        priority,
        ..Impairment::default()
    };
    let line = line(Direction::Out, settings(true));
    let mut agenda = load(&line, 0, &[plain(1000, 1), plain(1000, 2), plain(1000, 3)]);
    configure(&line, &settings(false), 0, &mut agenda);
    agenda.extend(load(&line, 10, &[plain(1000, 4)]));
    assert_eq!(run_until(&line, &mut agenda, 4_000_000), [1, 2, 3, 4]);
    agenda.extend(load(&line, 5_000_000, &[plain(1000, 5)]));
    assert_eq!(agenda[0].0, 6_000_000);
}

proptest! {
    #[test]
    fn whatever_comes_is_held_or_dropped_by_name(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), 0u8..6, 0u16..60), 0..20),
        shares in [0..=1_000_000u32, 0..=1_000_000u32, 0..=1_000_000u32, 0..=1_000_000u32],
        limit in 1..100u32,
        delay_us in 0..2u32,
        inward: bool,
    ) {
        let [loss, duplicate, reorder, corrupt] = shares.map(|ppm| Share::from_ppm(ppm).unwrap());
        let settings = Impairment { delay_us, loss, duplicate, reorder, corrupt, limit: Some(limit), ..Impairment::default() };
        let direction = if inward { Direction::In } else { Direction::Out };
        let line = line(direction, settings);
        let frames: Vec<_> = frames
            .into_iter()
            .map(|(frame, gso, size)| {
                if gso == 5 {
                    // One that can be cut: of what is random none is taken.
                    let mut whole = self::gso();
                    whole[4..6].copy_from_slice(&(400 + 20 * size).to_ne_bytes());
                    return whole;
                }
                let mut wire = vec![0; VNET_HDR_LEN];
                // Mostly a header that is taken: a plain frame, or GSO of TCP and UDP.
                wire[1] = gso;
                wire[4..6].copy_from_slice(&size.to_ne_bytes());
                wire.extend(frame);
                wire
            })
            .collect();
        let held = load(&line, 0, &frames);
        prop_assert_eq!(held.len() as u64, line.waiting());
        let waits = held.iter().filter(|(due, _)| *due > 0).count();
        prop_assert!(waits <= limit as usize);
        let totals = totals(&line);
        let (dropped, doubled, cut) = match direction {
            Direction::In => (&totals.rx_drops, totals.impair.rx_duplicates, None),
            Direction::Out => (&totals.tx_drops, totals.impair.tx_duplicates, Some(totals.impair.tx_segments)),
        };
        let ends = held.len() as u64 + dropped.values().sum::<u64>();
        match cut {
            Some(cut) => prop_assert_eq!(frames.len() as u64 + doubled + cut, ends),
            // Wire frames on the way in count as received one by one, the dropped ones here.
            None => prop_assert_eq!(totals.rx_frames, dropped.values().sum::<u64>()),
        }
        for (_, held) in &held {
            line.arrived(held);
        }
        prop_assert_eq!((line.waiting(), line.held.load(Ordering::Relaxed)), (0, 0));
    }
}
