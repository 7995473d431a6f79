//! How an edit is to be made, and on which condition: entity tags tell whether something is still what a client has read
//! (RFC 9110 section 8.8.3), and a note of the last edits tells what changed since.

use std::collections::VecDeque;

use serde::Serialize;
use serde_json::Value;
use vswitch_api::difference::{SettingChange, difference};
use vswitch_api::request::ChangeOptions;
use vswitch_api::{
    ApiError, CommandName, ErrorCode, EventKind, Lab, LabName, MirrorName, NsName, Port, PortName, Switch, SwitchName,
};

use super::plan::{Step, removed};
use super::store::Store;
use super::{Control, Inner, lasting, text};

/// Edits that are remembered to tell what changed.
const REMEMBERED: usize = 256;
/// Changes that an error names.
const NAMED: usize = 4;

/// How an edit is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Editing {
    /// Say what would be done, do nothing.
    pub dry_run: bool,
    /// Adding what is there already with the same settings, or removing what is not there, is no error.
    pub idempotent: bool,
    /// Take what the host uses itself.
    pub force: bool,
    /// The lab that it is about: what of others has drifted stays as it is. None: it is about all that is there.
    pub lab: Option<LabName>,
    /// The field `If-Match`: tags of which the edit's subject, or the lab, must have one.
    pub if_match: Option<String>,
    /// Something is to be added only if it is not there yet (`If-None-Match: *`).
    pub if_absent: bool,
    /// Why it may bring nothing that runs with the daemon's rights; none: it may.
    pub no_commands: Option<String>,
    /// What is said of each thing that is to be added, with values that are the default anyway: what is there already is held against
    /// that. Of those beyond the end all that is written down of them counts as said.
    pub said: Vec<Value>,
}

impl From<ChangeOptions> for Editing {
    fn from(options: ChangeOptions) -> Self {
        Self {
            dry_run: options.dry_run,
            idempotent: options.idempotent,
            force: options.force,
            lab: None,
            if_match: None,
            if_absent: false,
            no_commands: None,
            said: Vec::new(),
        }
    }
}

/// What an edit is about.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The lab as a whole.
    Lab,
    /// A switch.
    Switch(&'a SwitchName),
    /// A port with its addresses, routes, lists and static stations.
    Port(&'a PortName),
    /// A mirror.
    Mirror(&'a MirrorName),
    /// A command that runs in a namespace.
    Command(&'a CommandName),
    /// A namespace, as far as the lab names it.
    Namespace(&'a NsName),
    /// The cables between two namespaces.
    Cables(&'a NsName, &'a NsName),
    /// The static stations of a switch; an edit of those of one port may have the tag of that port too.
    Stations(&'a SwitchName, Option<&'a PortName>),
}

impl Subject<'_> {
    /// How it is called in errors.
    pub fn name(self) -> String {
        match self {
            Self::Lab => "lab".to_owned(),
            Self::Switch(name) => text::switch(name),
            Self::Port(name) => text::port(name),
            Self::Mirror(name) => text::mirror(name),
            Self::Command(name) => text::command(name),
            Self::Namespace(name) => text::namespace(name),
            Self::Cables(a, b) => text::cables(a, b),
            Self::Stations(switch, _) => format!("FDB of {}", text::switch(switch)),
        }
    }

    /// Its tag; none if it is not there.
    fn tag(self, lab: &Lab) -> Option<String> {
        match self {
            Self::Lab => Some(lab_tag(lab)),
            Self::Switch(name) => lab.switches.iter().find(|switch| switch.name == *name).map(switch_tag),
            Self::Port(name) => lab.ports.iter().find(|port| port.name == *name).map(port_tag),
            Self::Mirror(name) => {
                let mirror = lab.mirrors.iter().find(|mirror| mirror.name == *name);
                mirror.map(|mirror| tag("mirror", mirror))
            }
            Self::Command(name) => {
                let command = lab.commands.iter().find(|command| command.name == *name);
                command.map(|command| tag("command", command))
            }
            Self::Namespace(name) => {
                let ports = lab.ports.iter().filter(|port| port.is_in(name));
                let ports: Vec<_> = ports.map(|port| &port.name).collect();
                let cables: Vec<_> = lab.cables.iter().filter(|cable| cable.ends_in(name)).collect();
                let by_itself = lab.namespace(name);
                let named = by_itself.is_some() || !ports.is_empty() || !cables.is_empty();
                named.then(|| tag("namespace", &(name, by_itself, ports, cables)))
            }
            Self::Cables(a, b) => {
                let cables: Vec<_> = lab.cables.iter().filter(|cable| cable.joins(a, b)).collect();
                (!cables.is_empty()).then(|| tag("cables", &cables))
            }
            Self::Stations(switch, _) => {
                lab.switches.iter().find(|one| one.name == *switch)?;
                let ports = lab
                    .ports
                    .iter()
                    .filter(|port| port.switch == *switch && !port.stations.is_empty());
                let stations: Vec<_> = ports.map(|port| (&port.name, &port.stations)).collect();
                Some(tag("fdb", &(switch, stations)))
            }
        }
    }
}

fn lab_tag(lab: &Lab) -> String {
    tag("lab", lab)
}

fn port_tag(port: &Port) -> String {
    tag("port", port)
}

fn switch_tag(switch: &Switch) -> String {
    tag("switch", switch)
}

/// Refuses to add what is to be added only where it is not there, and is.
pub(super) fn is_there(object: String) -> ApiError {
    let cause = "it is there, and the request is to add it only if it is not (If-None-Match: *)";
    ApiError::new(ErrorCode::Changed, object, cause).hint("leave it as it is, or change it with PATCH")
}

/// A strong tag: the settings make it, so it is the same after a restart, and after a change and its contrary.
pub fn tag(kind: &str, settings: &impl Serialize) -> String {
    let settings = serde_json::to_string(settings).unwrap_or_default();
    format!("\"{kind}-{:016x}\"", lasting::number(&settings))
}

/// The tags of a field `If-Match`.
pub fn tags(if_match: &str) -> impl Iterator<Item = &str> {
    if_match.split(',').map(str::trim).filter(|tag| !tag.is_empty())
}

/// The last edits, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Edit>);

/// What one edit changed.
#[derive(Debug)]
pub(super) struct Edit {
    /// Tag of the lab before it.
    before: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    /// Tag before, of a port or switch that was there.
    before: Option<String>,
    port: Option<PortName>,
    /// What a part is about, in the words of errors.
    name: Option<String>,
    lines: Vec<String>,
    /// What is told of changed settings, once it is done.
    event: Option<EventKind>,
}

impl Edit {
    /// What `steps` are going to change of `lab`.
    pub fn new(lab: &Lab, steps: &[Step]) -> Self {
        let part = |step: &Step| {
            let (port, before) = match step {
                Step::AddPort(port) => (Some(&port.name), None),
                Step::ChangePort { before, .. } => (Some(&before.name), Some(port_tag(before))),
                Step::ChangeSwitch { before, .. } => (None, Some(switch_tag(before))),
                _ => (None, None),
            };
            let name = match step {
                Step::ChangeSwitch { before, .. } => Some(text::switch(&before.name)),
                _ => port.map(text::port),
            };
            let event = match step {
                Step::ChangePort { before, after } => Some(EventKind::PortSet {
                    port: after.name.clone(),
                    changes: changes(before, after),
                }),
                Step::ChangeSwitch { before, after } => Some(EventKind::SwitchSet {
                    switch: after.name.clone(),
                    changes: changes(before, after),
                }),
                _ => None,
            };
            Part {
                before,
                port: port.cloned(),
                name,
                lines: step.describe(),
                event,
            }
        };
        let gone = |port: &Port| Part {
            before: Some(port_tag(port)),
            port: Some(port.name.clone()),
            name: Some(text::port(&port.name)),
            lines: vec![removed(port)],
            event: None,
        };
        let parts = |step: &Step| match step {
            Step::RemovePorts(ports) => ports.iter().map(gone).collect(),
            step => vec![part(step)],
        };
        Self {
            before: lab_tag(lab),
            parts: steps.iter().flat_map(parts).collect(),
        }
    }

    /// Says in the log what was done, a line for each port or other thing. The one line for all of it, with who asked, is the server's.
    fn log(&self) {
        for part in self.parts.iter().filter(|part| !part.lines.is_empty()) {
            let done = part.lines.join("; ");
            tracing::debug!(port = part.port.as_ref().map(tracing::field::display), "{done}");
        }
    }
}

/// What an event tells of settings: of a long list not all that stays.
fn changes<T: Serialize>(before: &T, after: &T) -> Vec<SettingChange> {
    let all = difference(before, after).into_iter();
    all.map(SettingChange::by_elements).collect()
}

impl History {
    fn note(&mut self, edit: Edit) {
        if edit.parts.is_empty() {
            return;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(edit);
    }

    /// What changed since something (`name`), or the lab, had one of `tags`; none if that is not known any more.
    fn since(&self, name: &str, tags: &[&str]) -> Option<Vec<&str>> {
        let had = |tag: &str| tags.contains(&tag);
        let part_had = |part: &Part| part.before.as_deref().is_some_and(had);
        let first = self
            .0
            .iter()
            .rposition(|edit| had(&edit.before) || edit.parts.iter().any(part_had))?;
        let whole = had(&self.0[first].before);
        let parts = self.0.range(first..).flat_map(|edit| &edit.parts);
        let parts = parts.filter(|part| whole || part.name.as_deref() == Some(name));
        Some(parts.flat_map(|part| &part.lines).map(String::as_str).collect())
    }
}

impl Control {
    /// The entity tag of something in the lab; none if it is not there.
    pub async fn tag(&self, subject: Subject<'_>) -> Option<String> {
        subject.tag(&self.view().state.lab)
    }
}

impl Store {
    /// Refuses an edit of what is not any more what its client has read. What is not there at all the edit itself refuses.
    pub fn check_condition(&self, subject: Subject<'_>, if_match: Option<&str>) -> Result<(), ApiError> {
        let Some(if_match) = if_match else { return Ok(()) };
        let tags: Vec<_> = tags(if_match).collect();
        let Some(now) = subject.tag(&self.state.lab) else {
            return Ok(());
        };
        let of_port = match subject {
            Subject::Stations(_, Some(port)) => Subject::Port(port).tag(&self.state.lab),
            _ => None,
        };
        let holds = |tag: &&str| *tag == "*" || *tag == now || Some(*tag) == of_port.as_deref();
        if tags.iter().any(holds) || tags.contains(&lab_tag(&self.state.lab).as_str()) {
            return Ok(());
        }
        let name = subject.name();
        let cause = match self.history.since(&name, &tags) {
            Some(lines) if !lines.is_empty() => {
                let more = lines.len().saturating_sub(NAMED);
                let named = lines[..lines.len() - more].join("; ");
                let more = if more > 0 {
                    format!("; and {more} more")
                } else {
                    String::new()
                };
                format!("it changed since it was read: {named}{more}")
            }
            _ => format!("it is not as it was when it was read: its tag is {now}, not {if_match}"),
        };
        Err(ApiError::new(ErrorCode::Changed, name, cause).hint("read it again and make the change to what it is now"))
    }
}

impl Inner {
    /// Remembers an edit that was carried out, and says so in the log and in events.
    pub(super) fn edited(&mut self, mut edit: Edit) {
        edit.log();
        let events = edit.parts.iter_mut().filter_map(|part| part.event.take());
        events.for_each(|event| self.emit(event));
        self.store.history.note(edit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::PortKind;

    fn port(name: &str, mtu: u32) -> Port {
        Port {
            mtu: Some(mtu),
            ..Port::new(name.parse().unwrap(), "main".parse().unwrap(), PortKind::Tap)
        }
    }

    fn lab(ports: &[Port]) -> Lab {
        Lab {
            ports: ports.to_vec(),
            ..Lab::default()
        }
    }

    #[test]
    fn a_tag_tells_one_state_from_another() {
        let name = "red".parse().unwrap();
        let tag = |mtu| Subject::Port(&name).tag(&lab(&[port("red", mtu)])).unwrap();
        assert_eq!(tag(1400), tag(1400));
        assert_ne!(tag(1400), tag(1500));
        assert!(tag(1400).starts_with("\"port-") && tag(1400).ends_with('"'));
        assert_eq!(Subject::Port(&name).tag(&lab(&[])), None);
    }

    #[test]
    fn what_changed_since_is_told_of_the_thing_or_of_the_whole() {
        let mut history = History::default();
        let mut before = lab(&[port("red", 1400), port("blue", 1400)]);
        let first = before.clone();
        for (name, mtu) in [("blue", 1300), ("red", 1300), ("red", 1200)] {
            let at = before.ports.iter().position(|port| port.name.as_str() == name).unwrap();
            let step = Step::ChangePort {
                before: Box::new(before.ports[at].clone()),
                after: Box::new(port(name, mtu)),
            };
            history.note(Edit::new(&before, &[step]));
            before.ports[at] = port(name, mtu);
        }
        let red = ["set MTU of port red to 1300", "set MTU of port red to 1200"];
        let tag = port_tag(&port("red", 1400));
        assert_eq!(history.since("port \"red\"", &[&tag]).unwrap(), red);
        let whole = history.since("port \"red\"", &[&lab_tag(&first)]).unwrap();
        assert_eq!(whole[0], "set MTU of port blue to 1300");
        assert_eq!(whole[1..], red);
        assert_eq!(history.since("port \"red\"", &["\"port-0\""]), None);
    }
}
