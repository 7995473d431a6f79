//! What the loop guard has a switch do.

use std::collections::BTreeMap;

use vswitch_api::Mac;
use vswitch_datapath::DropReason;
use vswitch_datapath::trace::Stage;

use super::lab::{Lab, frame, mac};

/// A storm goes by floods alone, and the guard finds the loop by its probes.
#[test]
fn while_floods_are_held_only_probes_of_others_are_flooded_each_once() {
    let lab = Lab::new();
    let [red, blue, green] = lab.ports();
    lab.datapath.send_probe(red.id, 0, 7);
    let mut foreign = red.received().remove(0);
    foreign[14] ^= 1;
    let others = [&blue, &green];
    let came = || others.map(|port| port.received().len());
    lab.send(&red, &frame(mac(2), mac(1), 0));
    lab.send(&blue, &frame(mac(1), mac(2), 0));
    red.received();
    came();

    lab.datapath.hold_floods(lab.switch, true);
    lab.send(&red, &frame(Mac::BROADCAST, mac(1), 1));
    lab.send(&red, &frame(mac(9), mac(1), 2));
    assert_eq!(came(), [0, 0]);
    lab.send(&red, &frame(mac(2), mac(1), 3));
    assert_eq!(came(), [1, 0], "what is known is forwarded");
    lab.send(&red, &foreign);
    lab.send(&red, &foreign);
    assert_eq!(came(), [1, 1]);
    let drops = BTreeMap::from([("loop-guard".to_owned(), 3)]);
    assert_eq!(lab.counters(&red).rx_drops, drops);
    let dropped = Some(DropReason::LoopGuard);
    let steps = lab.trace(&red, &frame(Mac::BROADCAST, mac(1), 4));
    assert_eq!(steps.last(), Some(&Stage::Storm { dropped }));

    lab.datapath.hold_floods(lab.switch, false);
    lab.send(&red, &frame(Mac::BROADCAST, mac(1), 5));
    assert_eq!(came(), [1, 1]);
    let flooded = lab.datapath.flooded();
    assert!(flooded.contains(&(lab.switch, red.id, 3)), "{flooded:?}");
}

#[test]
fn probes_are_counted_where_they_go_out_and_where_they_come_in() {
    let lab = Lab::new();
    let [red, blue] = lab.ports();
    lab.datapath.send_probe(red.id, 0, 7);
    lab.datapath.send_probe(red.id, 0, 8);
    let probe = red.received().remove(0);
    lab.send(&blue, &probe);
    let (sender, receiver) = (lab.counters(&red), lab.counters(&blue));
    assert_eq!((sender.probes, sender.tx_frames, sender.tx_bytes), (2, 2, 120));
    assert_eq!(receiver.rx_drops.get("loop-probe"), Some(&1));
    assert_eq!((receiver.probes, receiver.rx_frames), (0, 1));
}
