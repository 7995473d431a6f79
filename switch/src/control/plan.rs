//! What has to be done to get from one lab to another, as steps that can each be undone.

use std::collections::{BTreeSet, HashMap};

use vswitch_api::{Cable, Command, Lab, LabNamespace, Mirror, NsName, Port, PortName, Switch};

use super::gateway::Outside;
use super::kinds::ifname;

mod words;

pub(super) use words::removed;
use words::{added, describe_cable, describe_change, describe_namespace, ends, settings};

/// One step. Its inverse takes it back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "most steps of a long plan are the large one")]
pub(super) enum Step {
    AddNamespace(NsName),
    RemoveNamespace(NsName),
    AddSwitch(Switch),
    ChangeSwitch {
        before: Switch,
        after: Switch,
    },
    RemoveSwitch(Switch),
    AddPort(Port),
    /// Several that were removed together: only to take that back.
    AddPorts(Vec<Port>),
    ChangePort {
        before: Box<Port>,
        after: Box<Port>,
    },
    /// Together, since most of what one takes is waiting for all workers and for the kernel.
    RemovePorts(Vec<Port>),
    /// One that is there already, with what is in it, is asked for by itself from now on, or no more: it stays, or goes with the last of that.
    AskForNamespace {
        name: NsName,
        asked: bool,
    },
    /// What the kernel and /etc have for it.
    ChangeNamespace {
        before: LabNamespace,
        after: LabNamespace,
    },
    AddCable(Cable),
    ChangeCable {
        before: Box<Cable>,
        after: Box<Cable>,
    },
    RemoveCable(Cable),
    AddMirror(Mirror),
    RemoveMirror(Mirror),
    /// What the host does for the switches: NAT and what is published.
    ChangeOutside {
        before: Outside,
        after: Outside,
    },
    /// It runs on.
    ChangeCommand {
        before: Box<Command>,
        after: Box<Command>,
    },
    /// Together, since most of what one takes is waiting until it is ready.
    StartCommands(Vec<Command>),
    StopCommands(Vec<Command>),
}

impl Step {
    /// The step that takes this one back.
    pub fn inverse(self) -> Self {
        match self {
            Self::AddNamespace(name) => Self::RemoveNamespace(name),
            Self::RemoveNamespace(name) => Self::AddNamespace(name),
            Self::AddSwitch(switch) => Self::RemoveSwitch(switch),
            Self::ChangeSwitch { before, after } => Self::ChangeSwitch {
                before: after,
                after: before,
            },
            Self::RemoveSwitch(switch) => Self::AddSwitch(switch),
            Self::AddPort(port) => Self::RemovePorts(vec![port]),
            Self::AddPorts(ports) => Self::RemovePorts(ports),
            Self::ChangePort { before, after } => Self::ChangePort {
                before: after,
                after: before,
            },
            Self::RemovePorts(ports) => Self::AddPorts(ports),
            Self::AskForNamespace { name, asked } => Self::AskForNamespace { name, asked: !asked },
            Self::ChangeNamespace { before, after } => Self::ChangeNamespace {
                before: after,
                after: before,
            },
            Self::AddCable(cable) => Self::RemoveCable(cable),
            Self::ChangeCable { before, after } => Self::ChangeCable {
                before: after,
                after: before,
            },
            Self::RemoveCable(cable) => Self::AddCable(cable),
            Self::AddMirror(mirror) => Self::RemoveMirror(mirror),
            Self::RemoveMirror(mirror) => Self::AddMirror(mirror),
            Self::ChangeOutside { before, after } => Self::ChangeOutside {
                before: after,
                after: before,
            },
            Self::ChangeCommand { before, after } => Self::ChangeCommand {
                before: after,
                after: before,
            },
            Self::StartCommands(commands) => Self::StopCommands(commands),
            Self::StopCommands(commands) => Self::StartCommands(commands),
        }
    }

    /// A port, namespace, cable or switch goes away by it.
    pub fn removes(&self) -> bool {
        matches!(
            self,
            Self::RemovePorts(_) | Self::RemoveNamespace(_) | Self::RemoveCable(_) | Self::RemoveSwitch(_)
        )
    }

    /// How much of the work it is.
    pub fn size(&self) -> usize {
        match self {
            Self::AddPorts(ports) | Self::RemovePorts(ports) => ports.len(),
            Self::StartCommands(commands) | Self::StopCommands(commands) => commands.len(),
            _ => 1,
        }
    }

    /// What the user is told of it, a line each.
    pub fn describe(&self) -> Vec<String> {
        match self {
            Self::AddNamespace(name) => vec![format!("created namespace {name}")],
            Self::RemoveNamespace(name) => vec![format!("removed namespace {name}")],
            Self::AddSwitch(switch) => vec![format!("added switch {}", switch.name)],
            Self::RemoveSwitch(switch) => vec![format!("removed switch {}", switch.name)],
            Self::ChangeSwitch { before, after } => {
                let object = format!("switch {}", after.name);
                settings(before, after, &object)
            }
            Self::AddPort(port) => added(port),
            Self::AddPorts(ports) => ports.iter().flat_map(added).collect(),
            Self::RemovePorts(ports) => ports.iter().map(removed).collect(),
            Self::ChangePort { before, after } => describe_change(before, after),
            Self::AskForNamespace { name, asked: true } => {
                vec![format!("set namespace {name} to stay when nothing is in it")]
            }
            Self::AskForNamespace { name, asked: false } => {
                vec![format!("set namespace {name} to go with the last that is in it")]
            }
            Self::ChangeNamespace { before, after } => describe_namespace(before, after),
            Self::AddCable(cable) => vec![format!("joined {}", ends(cable))],
            Self::ChangeCable { before, after } => describe_cable(before, after),
            Self::AddMirror(mirror) => {
                let from: Vec<_> = mirror.ports.iter().map(PortName::as_str).collect();
                let from = match from[..] {
                    [] if mirror.rules_only => "rules".to_owned(),
                    [] => "all ports".to_owned(),
                    _ => from.join(", "),
                };
                vec![format!(
                    "added mirror {} from {from} to {}",
                    mirror.name,
                    mirror.destination()
                )]
            }
            Self::RemoveMirror(mirror) => vec![format!("removed mirror {}", mirror.name)],
            Self::ChangeOutside { before, after } => Outside::describe(before, after),
            Self::ChangeCommand { before, after } => {
                let object = format!("command {}", after.name);
                settings(before.as_ref(), after.as_ref(), &object)
            }
            Self::StartCommands(commands) => {
                let line =
                    |command: &Command| format!("started command {} in namespace {}", command.name, command.namespace);
                commands.iter().map(line).collect()
            }
            Self::StopCommands(commands) => {
                let line = |command: &Command| format!("stopped command {}", command.name);
                commands.iter().map(line).collect()
            }
            Self::RemoveCable(cable) => vec![format!("removed the cable {}", ends(cable))],
        }
    }
}

/// The same steps with removals of ports that follow one another put together.
pub(super) fn together(steps: impl Iterator<Item = Step>) -> Vec<Step> {
    let mut all = Vec::new();
    for step in steps {
        match (all.last_mut(), step) {
            (Some(Step::RemovePorts(ports)), Step::RemovePorts(more)) => ports.extend(more),
            (_, step) => all.push(step),
        }
    }
    all
}

/// What is only in `before`, and what is only in `after`. Long lists differ little: what both begin and end with is in both.
pub(super) fn changed<'a, T: PartialEq>(
    before: &'a [T],
    after: &'a [T],
) -> (impl Iterator<Item = &'a T>, impl Iterator<Item = &'a T>) {
    let same = before.iter().zip(after).take_while(|(old, new)| old == new).count();
    let ends = before[same..].iter().rev().zip(after[same..].iter().rev());
    let at_end = ends.take_while(|(old, new)| old == new).count();
    let part = |list: &'a [T]| list[same..list.len() - at_end].iter();
    (
        part(before).filter(|x| !after.contains(x)),
        part(after).filter(|x| !before.contains(x)),
    )
}

/// Namespaces that the lab asks for by name, by themselves or through a port or cable.
pub(super) fn namespaces(lab: &Lab) -> BTreeSet<&NsName> {
    let cables = lab.cables.iter().flat_map(|c| [&c.a.namespace, &c.b.namespace]);
    lab.namespaces
        .iter()
        .map(|namespace| &namespace.name)
        .chain(lab.ports.iter().filter_map(Port::named_namespace))
        .chain(lab.commands.iter().map(|command| &command.namespace))
        .chain(cables)
        .collect()
}

/// The steps from `before` to `after`, both complete. `present`: whether a namespace is there now; `owned`: whether it
/// is there and vswitch made it.
pub(super) fn plan(
    before: &Lab,
    after: &Lab,
    present: impl Fn(&NsName) -> bool,
    owned: impl Fn(&NsName) -> bool,
) -> Vec<Step> {
    let (mut removals, mut additions) = (Vec::new(), Vec::new());
    let old_ports: HashMap<_, _> = before.ports.iter().map(|p| (&p.name, p)).collect();
    let new_ports: HashMap<_, _> = after.ports.iter().map(|p| (&p.name, p)).collect();
    let (gone, new_commands) = changed(&before.commands, &after.commands);
    let (mut gone, mut new_commands): (Vec<_>, Vec<_>) = (gone.cloned().collect(), new_commands.cloned().collect());
    let mut changed_commands = Vec::new();
    new_commands.retain(|after| {
        let Some(at) = gone.iter().position(|before| runs_on(before, after)) else {
            return true;
        };
        let (before, after) = (Box::new(gone.swap_remove(at)), Box::new(after.clone()));
        changed_commands.push(Step::ChangeCommand { before, after });
        false
    });
    if !gone.is_empty() {
        removals.push(Step::StopCommands(gone));
    }
    let plain = |name: &NsName| LabNamespace::new(name.clone());
    let kept = |lab: &Lab, name: &NsName| lab.namespace(name).cloned().unwrap_or_else(|| plain(name));
    let both: BTreeSet<_> = before
        .namespaces
        .iter()
        .chain(&after.namespaces)
        .map(|one| &one.name)
        .collect();
    let mut new_settings = Vec::new();
    for name in both {
        let (before, after) = (kept(before, name), kept(after, name));
        if before == after {
            continue;
        }
        let goes = after.is_plain();
        let step = Step::ChangeNamespace { before, after };
        // Interfaces that settings are of are there while they are given and taken.
        if goes {
            removals.push(step)
        } else {
            new_settings.push(step)
        }
    }
    let (gone, new_mirrors) = changed(&before.mirrors, &after.mirrors);
    removals.extend(gone.cloned().map(Step::RemoveMirror));
    let in_place = |name: &PortName| {
        let both = old_ports.get(name).zip(new_ports.get(name));
        both.is_some_and(|(old, new)| changes_in_place(old, new))
    };
    // With one end of a link goes the other, be it made anew: the two are one pair of the kernel's.
    let stays = |old: &Port| in_place(&old.name) && old.peer.as_ref().is_none_or(in_place);
    let goes = |old: &&Port| !stays(old);
    let gone: Vec<_> = before.ports.iter().filter(goes).cloned().collect();
    if !gone.is_empty() {
        removals.push(Step::RemovePorts(gone));
    }
    let (gone, new_cables) = changed(&before.cables, &after.cables);
    let mut gone: Vec<_> = gone.collect();
    let (mut moved, mut laid) = (Vec::new(), Vec::new());
    for new in new_cables {
        match gone.iter().position(|old| old.is_same_pair(new)) {
            Some(at) => moved.push((gone.swap_remove(at), new)),
            None => laid.push(new),
        }
    }
    removals.extend(gone.into_iter().cloned().map(Step::RemoveCable));
    for old in &before.switches {
        if !after.switches.iter().any(|new| new.name == old.name) {
            removals.push(Step::RemoveSwitch(old.clone()));
        }
    }
    let (needed_before, needed) = (namespaces(before), namespaces(after));
    let unneeded = needed_before
        .iter()
        .filter(|name| !needed.contains(**name) && owned(name));
    // Last, when nothing else can fail: a namespace made again would be without what its users had in it.
    let clean_up: Vec<_> = unneeded.map(|name| Step::RemoveNamespace((*name).clone())).collect();
    // One that was needed before and is gone by now is waited for, unless it is asked for by its name.
    let asked_for = |name: &NsName| after.asks_for(name) && !before.asks_for(name);
    let missing = needed
        .iter()
        .filter(|name| (!needed_before.contains(**name) || asked_for(name)) && !present(name));
    additions.extend(missing.map(|name| Step::AddNamespace((*name).clone())));
    let differs = |name: &NsName| {
        before.asks_for(name) != after.asks_for(name) && kept(before, name) == kept(after, name) && present(name)
    };
    let asked = needed.intersection(&needed_before).filter(|name| differs(name));
    additions.extend(asked.map(|name| Step::AskForNamespace {
        name: (*name).clone(),
        asked: after.asks_for(name),
    }));
    for new in &after.switches {
        match before.switches.iter().find(|old| old.name == new.name) {
            None => additions.push(Step::AddSwitch(new.clone())),
            Some(old) if old != new => {
                additions.push(Step::ChangeSwitch {
                    before: old.clone(),
                    after: new.clone(),
                });
            }
            Some(_) => {}
        }
    }
    for new in &after.ports {
        match old_ports.get(&new.name) {
            Some(old) if stays(old) && *old == new => {}
            Some(old) if stays(old) => {
                let (before, after) = (Box::new((*old).clone()), Box::new(new.clone()));
                additions.push(Step::ChangePort { before, after });
            }
            _ => additions.push(Step::AddPort(new.clone())),
        }
    }
    additions.extend(moved.into_iter().map(|(before, after)| {
        let (before, after) = (Box::new(before.clone()), Box::new(after.clone()));
        Step::ChangeCable { before, after }
    }));
    additions.extend(laid.into_iter().cloned().map(Step::AddCable));
    additions.extend(new_mirrors.cloned().map(Step::AddMirror));
    additions.extend(new_settings);
    // When the gateways are there.
    let outside = [before, after].map(Outside::of);
    if outside[0] != outside[1] {
        let [before, after] = outside;
        additions.push(Step::ChangeOutside { before, after });
    }
    additions.extend(changed_commands);
    if !new_commands.is_empty() {
        additions.push(Step::StartCommands(new_commands));
    }
    removals.into_iter().chain(additions).chain(clean_up).collect()
}

/// Whether what runs for a command is what the other wants to run: the rest is for those who look after it.
fn runs_on(old: &Command, new: &Command) -> bool {
    let what = |command: &Command| {
        let Command {
            name,
            namespace,
            run,
            argv,
            dir,
            env,
            description: _,
            restart: _,
            ready: _,
            stop_secs: _,
        } = command.clone();
        (name, namespace, run, argv, dir, env)
    };
    what(old) == what(new)
}

/// Whether a port can become the other without being made anew.
pub(super) fn changes_in_place(old: &Port, new: &Port) -> bool {
    let identity = |port: &Port| {
        (
            port.switch.clone(),
            port.kind,
            port.namespace.clone(),
            ifname(port),
            port.mac,
            port.xdp,
            port.peer.clone(),
        )
    };
    identity(old) == identity(new)
}

#[cfg(test)]
mod tests;
