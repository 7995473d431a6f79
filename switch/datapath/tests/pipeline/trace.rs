//! A trace says what would happen, and changes nothing.

use std::sync::Arc;

use vswitch_api::policy::VlanSet;
use vswitch_api::{Impairments, Mac};
use vswitch_datapath::fdb::Learned;
use vswitch_datapath::guard::{PROBE_DST, PROBE_SRC};
use vswitch_datapath::mirror::{MirrorCounters, MirrorEntry, MirrorTo};
use vswitch_datapath::policy::{PLAIN, PortPolicy};
use vswitch_datapath::punt::AgentId;
use vswitch_datapath::trace::Stage;
use vswitch_datapath::{DatapathEvent, DropReason, TrafficSetup};

use super::lab::{Lab, acl, frame, mac, trunk};

/// The trace had an order of its own and knew nothing of probes: it said that they are learned and flooded.
#[test]
fn a_probe_is_taken_out_or_passed_on_as_the_pipeline_does() {
    let lab = Lab::new();
    let [red, blue] = lab.ports();
    lab.datapath.send_probe(red.id, 0, 7);
    let own = red.received().remove(0);
    let steps = lab.trace(&blue, &own);
    let (agent, dropped) = (AgentId(0), Some(DropReason::LoopProbe));
    assert_eq!(steps.last(), Some(&Stage::Punt { agent, dropped }), "{steps:?}");

    let mut other = own.clone();
    other[14] ^= 1;
    let steps = lab.trace(&blue, &other);
    assert!(steps.contains(&Stage::Punt { agent, dropped: None }), "{steps:?}");
    assert!(
        !steps.iter().any(|step| matches!(step, Stage::Learn { .. })),
        "{steps:?}"
    );
    assert!(
        matches!(steps.last(), Some(Stage::Egress { port, dropped: None, .. }) if *port == red.id.id),
        "{steps:?}"
    );
    // It was not used up by the question.
    lab.datapath.take_events();
    lab.send(&blue, &own);
    let (events, _) = lab.datapath.take_events();
    let found = DatapathEvent::LoopFound {
        sent: red.id,
        nonce: 7,
        received: blue.id,
        vlan: 0,
    };
    assert!(events.contains(&found), "{events:?}");
    assert_eq!(own[..12], [PROBE_DST.0, PROBE_SRC.0].concat());
}

/// It said "flooded": by the time the destination is looked up, the source was learned.
#[test]
fn a_new_station_that_speaks_to_itself_is_at_the_same_port() {
    let lab = Lab::new();
    let [red, blue] = lab.ports();
    let own = frame(mac(1), mac(1), 0);
    let steps = lab.trace(&red, &own);
    let reasons: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Stage::Learn { learned, .. } => Some((*learned, None)),
            Stage::LookUp { dropped, .. } => Some((None, *dropped)),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        [(Some(Learned::New), None), (None, Some(DropReason::SamePort))]
    );
    assert_eq!(lab.datapath.fdb_len(lab.switch), 0, "it was a question only");
    lab.send(&red, &own);
    assert_eq!(lab.drops(&red, DropReason::SamePort), 1);
    assert!(blue.received().is_empty());
}

/// Copies into a VLAN have its tag where they go out, so that one of the MTU's length was said to be too long for the port.
#[test]
fn a_copy_into_a_vlan_is_traced_with_the_tag_of_that_vlan() {
    let lab = Lab::new();
    let [red, blue] = [trunk("10", Some("10")), trunk("10", Some("10"))].map(|policy| lab.port_under(policy));
    let carrier = lab.port_under(trunk("99", None));
    lab.datapath.set_mirrors(vec![MirrorEntry {
        name: "m".parse().unwrap(),
        switch: lab.switch,
        ports: None,
        rx: true,
        tx: false,
        vlans: None::<VlanSet>,
        to: MirrorTo::Vlan(99),
        filter: None,
        counters: Arc::new(MirrorCounters::new(1)),
    }]);
    let long = [frame(mac(2), mac(1), 0), vec![0; 1454]].concat();
    assert_eq!(long.len(), 1514);
    let egress = |steps: &[Stage]| -> Vec<_> {
        let egress = steps.iter().filter_map(|step| match step {
            Stage::Egress {
                port, copy, dropped, ..
            } => Some((*port, *copy, *dropped)),
            _ => None,
        });
        egress.collect()
    };
    assert_eq!(
        egress(&lab.trace(&red, &long)),
        [(blue.id.id, false, None), (carrier.id.id, true, None)]
    );
    lab.send(&red, &long);
    let copies = carrier.received();
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0][12..16], [0x81, 0, 0, 99]);
}

/// It was told as forwarded: rates of rules were left out, and a line that loses everything was one where a frame may come through.
#[test]
fn a_rule_s_rate_that_is_used_up_and_a_line_that_loses_all_end_the_way() {
    let lab = Lab::new();
    let police = |policy: &mut PortPolicy, out: bool| {
        let list = acl(&["police 1bit burst 60 ethertype 0x88b6"]);
        *(if out { &mut policy.acl_out } else { &mut policy.acl_in }) = list;
    };
    let [red, blue] = [false, true].map(|out| {
        let mut policy = PLAIN.clone();
        police(&mut policy, out);
        lab.port_under(policy)
    });
    let known = frame(mac(2), mac(1), 0);
    lab.send(&blue, &[&known[6..12], &mac(2).0, &[0x88, 0xb5], &[0; 46]].concat());
    let rules = |steps: &[Stage]| steps.iter().rev().find_map(dropped);
    for _ in 0..3 {
        assert_eq!(rules(&lab.trace(&red, &known)), None, "a question uses nothing up");
    }
    lab.send(&red, &known);
    assert_eq!(blue.received().len(), 1);
    assert_eq!(rules(&lab.trace(&red, &known)), Some(DropReason::AclPolicedIn));
    let from_other = lab.port();
    assert_eq!(rules(&lab.trace(&from_other, &known)), Some(DropReason::AclPolicedOut));

    let free = lab.port();
    for (direction, reason) in [("in", DropReason::ImpairLossIn), ("out", DropReason::ImpairLossOut)] {
        let line = Some("loss=100%".parse().unwrap());
        let impair = match direction {
            "in" => Impairments {
                inward: line,
                outward: None,
            },
            _ => Impairments {
                inward: None,
                outward: line,
            },
        };
        let setup = TrafficSetup {
            impair,
            ..TrafficSetup::default()
        };
        lab.datapath.set_traffic(free.id, &setup);
        let to_free = frame(Mac::BROADCAST, mac(3), 0);
        let port = if direction == "in" { &free } else { &from_other };
        let steps = lab.trace(port, &to_free);
        let lost = |step: &Stage| dropped(step) == Some(reason);
        assert!(steps.iter().any(lost), "{steps:?}");
        let sent =
            |step: &Stage| matches!(step, Stage::Egress { port, .. } if direction == "in" || *port == free.id.id);
        assert!(!steps.iter().any(sent), "{steps:?}");
    }
}

fn dropped(step: &Stage) -> Option<DropReason> {
    match step {
        Stage::Rules { dropped } | Stage::Impair { dropped, .. } | Stage::Egress { dropped, .. } => *dropped,
        _ => None,
    }
}
