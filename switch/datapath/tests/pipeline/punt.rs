//! Which frames go to agents, by a table that is data.

use vswitch_api::{Mac, ReservedMulticast};
use vswitch_datapath::guard;
use vswitch_datapath::punt::{AgentId, Punt, PuntAction, Punted};
use vswitch_datapath::trace::Stage;
use vswitch_datapath::{DropReason, SwitchSettings};

use super::lab::{Lab, access, frame, mac, tagged};

const GROUP: Mac = Mac([1, 0, 0x5e, 0, 0, 0x16]);
const LLDP: Mac = Mac([1, 0x80, 0xc2, 0, 0, 0x0e]);
const AGENT: AgentId = AgentId(7);

/// An entry for one address and the EtherType of the frames here, beside that of the loop guard.
fn wants(lab: &Lab, dst: Mac, action: PuntAction) {
    let punt = Punt {
        agent: AGENT,
        dst,
        mask: Mac::BROADCAST,
        ethertype: Some(0x88b6),
        action,
    };
    lab.datapath.set_punts(&[guard::punt(AgentId(0)), punt]);
}

fn punted(lab: &Lab) -> Vec<Punted> {
    let (frames, lost) = lab.datapath.take_punted();
    assert_eq!(lost, 0);
    frames
}

/// The same for another EtherType.
fn of_another(frame: &[u8]) -> Vec<u8> {
    let mut other = frame.to_vec();
    other[13] = 0xb7;
    other
}

#[test]
fn a_copy_goes_to_the_agent_and_to_all() {
    let lab = Lab::new();
    let [red, blue, green] = lab.ports();
    wants(&lab, GROUP, PuntAction::Copy);
    let sent = frame(GROUP, mac(1), 1);
    lab.check(&[&red, &blue, &green], &red, &sent, &[(&blue, &sent), (&green, &sent)]);
    let expected = Punted {
        agent: AGENT,
        port: red.id,
        vlan: 0,
        frame: sent.clone().into(),
    };
    assert_eq!(punted(&lab), [expected]);
    assert_eq!(lab.place(0, mac(1)), Some(red.id.id));
    let (agent, dropped) = (AGENT, None);
    assert!(lab.trace(&red, &sent).contains(&Stage::Punt { agent, dropped }));
    assert_eq!(punted(&lab), [], "a trace only asks");
}

#[test]
fn what_is_taken_goes_nowhere_else_and_is_not_learned() {
    let lab = Lab::new();
    let [red, blue] = [access("10"), access("10")].map(|policy| lab.port_under(policy));
    wants(&lab, GROUP, PuntAction::Take);
    let sent = frame(GROUP, mac(1), 1);
    lab.check(&[&red, &blue], &red, &sent, &[]);
    let [taken] = &punted(&lab)[..] else {
        panic!("one is taken");
    };
    assert_eq!((taken.agent, taken.port, taken.vlan), (AGENT, red.id, 10));
    assert_eq!(lab.place(10, mac(1)), None);
    assert_eq!(lab.drops(&red, DropReason::Punted), 1);
    // What the rules drop never gets to an agent.
    lab.send(&red, &tagged(&sent, 0x8100, 20));
    assert_eq!(punted(&lab), []);
}

#[test]
fn what_no_entry_wants_is_untouched() {
    let lab = Lab::new();
    let [red, blue] = lab.ports();
    wants(&lab, GROUP, PuntAction::Take);
    let sent = frame(GROUP, mac(1), 1);
    let near = Mac([1, 0, 0x5e, 0, 1, 0x16]);
    for frame in [
        of_another(&sent),
        frame(near, mac(1), 2),
        frame(mac(0x16), mac(1), 3),
        frame(Mac::BROADCAST, mac(1), 4),
    ] {
        lab.check(&[&red, &blue], &red, &frame, &[(&blue, &frame)]);
    }
    assert_eq!(punted(&lab), []);
    // And when there is no entry any more.
    lab.datapath.set_punts(&[]);
    lab.check(&[&red, &blue], &red, &sent, &[(&blue, &sent)]);
    assert_eq!(punted(&lab), []);
}

/// Some want frames by their EtherType, whoever they are for.
#[test]
fn an_entry_for_all_destinations_sees_stations_too() {
    let lab = Lab::new();
    let [red, blue] = lab.ports();
    let punt = Punt {
        agent: AGENT,
        dst: mac(0),
        mask: Mac([0; 6]),
        ethertype: Some(0x88b6),
        action: PuntAction::Copy,
    };
    lab.datapath.set_punts(&[punt]);
    let sent = frame(mac(2), mac(1), 1);
    lab.check(&[&red, &blue], &red, &sent, &[(&blue, &sent)]);
    lab.send(&red, &of_another(&sent));
    assert_eq!(punted(&lab).len(), 1);
}

/// Protocols of bridges speak by addresses that no switch forwards.
#[test]
fn an_agent_gets_what_is_for_bridges_though_the_switch_forwards_none() {
    for (reserved, passes) in [(ReservedMulticast::Never, false), (ReservedMulticast::Lldp, true)] {
        let lab = Lab::with(SwitchSettings {
            reserved,
            ..SwitchSettings::default()
        });
        let [red, blue] = lab.ports();
        wants(&lab, LLDP, PuntAction::Copy);
        let sent = frame(LLDP, mac(1), 1);
        for sent in [sent.clone(), of_another(&sent)] {
            let expected = [(&blue, &sent[..])];
            let before = lab.drops(&red, DropReason::ReservedMulticast);
            lab.check(&[&red, &blue], &red, &sent, &expected[..usize::from(passes)]);
            let dropped = lab.drops(&red, DropReason::ReservedMulticast) - before;
            assert_eq!(dropped, u64::from(!passes));
        }
        assert_eq!(punted(&lab).len(), 1);
        wants(&lab, LLDP, PuntAction::Take);
        lab.check(&[&red, &blue], &red, &sent, &[]);
        assert_eq!((punted(&lab).len(), lab.drops(&red, DropReason::Punted)), (1, 1));
    }
}
