use super::super::complete::{Interfaces, complete, main_switch};
use super::*;
use vswitch_api::PortKind;

fn lab(ports: &[(&str, PortKind)]) -> Lab {
    let ports = ports
        .iter()
        .map(|(name, kind)| Port::new(name.parse().unwrap(), main_switch(), *kind))
        .collect();
    let mut lab = Lab {
        ports,
        ..Lab::default()
    };
    complete(&mut lab, &Lab::default(), 1, &Interfaces::new());
    lab
}

fn lines(before: &Lab, after: &Lab) -> Vec<String> {
    plan(before, after, |_| false, |_| true)
        .iter()
        .flat_map(Step::describe)
        .collect()
}

#[test]
fn of_lists_what_is_in_one_alone_is_told() {
    for (before, after, gone, new) in [
        (&[1, 2, 3, 4][..], &[1, 2, 9, 3, 4][..], &[][..], &[9][..]),
        (&[1, 2, 3], &[1, 3], &[2], &[]),
        (&[1, 2, 3], &[3, 2, 1], &[], &[]),
        (&[1, 1], &[1], &[], &[]),
        (&[], &[1, 2], &[], &[1, 2]),
        (&[1, 2, 3, 4], &[1, 5, 3, 6], &[2, 4], &[5, 6]),
    ] {
        let (is_gone, is_new) = changed(before, after);
        assert!(is_gone.eq(gone) && is_new.eq(new), "{before:?} {after:?}");
    }
}

#[test]
fn a_port_brings_its_namespace_and_takes_it_along() {
    let (none, red) = (lab(&[]), lab(&[("red", PortKind::Veth)]));
    let added = [
        "created namespace red",
        "added port red (veth, eth0 in namespace red) to switch main",
    ];
    assert_eq!(lines(&none, &red), added);
    assert_eq!(
        lines(&red, &none),
        ["removed port red from switch main", "removed namespace red"]
    );
}

#[test]
fn a_namespace_that_is_not_ours_is_neither_made_nor_removed() {
    let (none, red) = (lab(&[]), lab(&[("red", PortKind::Veth)]));
    let steps = plan(&none, &red, |_| true, |_| false);
    assert!(matches!(steps[..], [Step::AddPort(_)]), "{steps:?}");
    let steps = plan(&red, &none, |_| true, |_| false);
    assert!(matches!(steps[..], [Step::RemovePorts(_)]), "{steps:?}");
}

#[test]
fn settings_change_in_place_and_another_kind_makes_the_port_anew() {
    let red = lab(&[("red", PortKind::Veth)]);
    let mut changed = red.clone();
    changed.ports[0].mtu = Some(9000);
    changed.ports[0].up = false;
    assert_eq!(
        lines(&red, &changed),
        ["set MTU of port red to 9000", "set up of port red to off (was on)"]
    );
    changed.ports[0].kind = PortKind::Tap;
    let steps = plan(&red, &changed, |_| true, |_| true);
    assert!(
        matches!(steps[..], [Step::RemovePorts(_), Step::AddPort(_)]),
        "{steps:?}"
    );
}

/// An edit of thousands of ports that fails at its last step must not take a minute to undo.
#[test]
fn ports_are_removed_together_also_to_undo() {
    let (none, some) = (lab(&[]), lab(&[("red", PortKind::Veth), ("blue", PortKind::Tap)]));
    let removals = |steps: &[Step]| steps.iter().filter(|step| matches!(step, Step::RemovePorts(_))).count();
    let there = plan(&none, &some, |_| false, |_| true);
    assert_eq!(removals(&together(there.into_iter().rev().map(Step::inverse))), 1);
    assert_eq!(removals(&plan(&some, &none, |_| false, |_| true)), 1);
}

/// The same with a step for each port.
fn one_by_one(steps: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let split = |step| match step {
        Step::AddPorts(ports) => ports.into_iter().map(Step::AddPort).collect(),
        Step::RemovePorts(ports) => ports.into_iter().map(|port| Step::RemovePorts(vec![port])).collect(),
        step => vec![step],
    };
    steps.into_iter().flat_map(split).collect()
}

#[test]
fn undoing_all_steps_in_reverse_is_the_way_back() {
    let (a, b) = (
        lab(&[("red", PortKind::Veth)]),
        lab(&[("blue", PortKind::Tap), ("gw", PortKind::Internal)]),
    );
    let there = plan(&a, &b, |_| false, |_| true);
    let mut back = one_by_one(there.into_iter().rev().map(Step::inverse));
    let mut expected = one_by_one(plan(&b, &a, |_| false, |_| true));
    let order = |step: &Step| format!("{step:?}");
    back.sort_by_key(order);
    expected.sort_by_key(order);
    assert_eq!(back, expected);
}
