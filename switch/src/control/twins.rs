//! What a step or a repair does, for programs: the twin of the lines that people read.

use serde_json::{Value, json};
use vswitch_api::change::{Change, ChangeAction, ObjectKind};
use vswitch_api::view::Changes;
use vswitch_api::{Cable, LabNamespace, Port};

use super::plan::Step;

/// Tells of steps, by line and for programs.
pub(super) fn tell(steps: &[Step], changes: &mut Changes) {
    for step in steps {
        changes.done.extend(step.describe());
        changes.changes.extend(twins(step));
    }
}

/// Takes steps that were told of, and could not be carried out, back out of what was done.
pub(super) fn untell(steps: &[Step], changes: &mut Changes) {
    let lines: Vec<_> = steps.iter().flat_map(Step::describe).collect();
    let twins: Vec<_> = steps.iter().flat_map(twins).collect();
    changes.done.retain(|line| !lines.contains(line));
    changes.changes.retain(|change| !twins.contains(change));
}

fn twins(step: &Step) -> Vec<Change> {
    let port = |port: &Port| Change::added(ObjectKind::Port, &port.name, port);
    match step {
        Step::AddNamespace(name) => vec![Change::added(ObjectKind::Namespace, name, &json!({ "name": name }))],
        Step::RemoveNamespace(name) => vec![Change::removed(ObjectKind::Namespace, name, &json!({ "name": name }))],
        Step::AskForNamespace { name, asked } => {
            let stays = |stays: bool| json!({ "stays": stays });
            Change::set(ObjectKind::Namespace, name, &stays(!asked), &stays(*asked))
        }
        Step::ChangeNamespace { before, after } => {
            Change::set(ObjectKind::Namespace, &after.name, &table(before), &table(after))
        }
        Step::AddSwitch(switch) => vec![Change::added(ObjectKind::Switch, &switch.name, switch)],
        Step::RemoveSwitch(switch) => vec![Change::removed(ObjectKind::Switch, &switch.name, switch)],
        Step::ChangeSwitch { before, after } => Change::set(ObjectKind::Switch, &after.name, before, after),
        Step::AddPort(added) => vec![port(added)],
        Step::AddPorts(ports) => ports.iter().map(port).collect(),
        Step::RemovePorts(ports) => {
            let removed = |port: &Port| Change::removed(ObjectKind::Port, &port.name, port);
            ports.iter().map(removed).collect()
        }
        Step::ChangePort { before, after } => Change::set(ObjectKind::Port, &after.name, before, after),
        Step::AddCable(cable) => vec![Change::added(ObjectKind::Cable, ends(cable), cable)],
        Step::ChangeCable { before, after } => Change::set(ObjectKind::Cable, ends(after), before, after),
        Step::RemoveCable(cable) => vec![Change::removed(ObjectKind::Cable, ends(cable), cable)],
        Step::AddMirror(mirror) => vec![Change::added(ObjectKind::Mirror, &mirror.name, mirror)],
        Step::RemoveMirror(mirror) => vec![Change::removed(ObjectKind::Mirror, &mirror.name, mirror)],
        // It follows from settings of switches, which are told of.
        Step::ChangeOutside { .. } => Vec::new(),
        Step::ChangeCommand { before, after } => Change::set(ObjectKind::Command, &after.name, before, after),
        Step::StartCommands(commands) => {
            let started = commands.iter();
            started
                .map(|one| Change::added(ObjectKind::Command, &one.name, one))
                .collect()
        }
        Step::StopCommands(commands) => {
            let stopped = commands.iter();
            stopped
                .map(|one| Change::removed(ObjectKind::Command, &one.name, one))
                .collect()
        }
    }
}

/// One without settings is written as its name alone, which is no other setting than the name of one that has some.
fn table(namespace: &LabNamespace) -> Value {
    match json!(namespace) {
        Value::String(name) => json!({ "name": name }),
        table => table,
    }
}

/// The name of a cable, as in the path of its route.
pub(super) fn ends(cable: &Cable) -> String {
    format!("{}/{}", cable.a.namespace, cable.b.namespace)
}

/// Something is as the lab wants it again. `what`: which part of it, if it is not the whole.
pub(super) fn repaired(kind: ObjectKind, name: impl ToString, what: Option<&str>) -> Change {
    Change {
        key: what.map(str::to_owned),
        ..Change::new(ChangeAction::Repaired, kind, name)
    }
}
