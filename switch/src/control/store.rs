//! What is wanted, and what has to be known to bring it about or take it back: on disk as well as here.

use std::collections::BTreeMap;

use vswitch_api::{ApiError, Cable, ErrorCode, IfName, Port, PortName};

use super::condition::History;
use super::journal::{InFlight, Journal};
use super::kinds::{facts, ifname};
use super::lasting;
use super::place::{MARK, named_mark};
use super::plan::Step;
use super::state::{DeviceBefore, State};
use super::state_file::StateFile;
use super::text;
use vswitch_linux::Link;

/// The lab with what belongs to it, and where that is kept.
pub(super) struct Store {
    pub state: State,
    pub file: StateFile,
    /// Why the file does not have the state, if so.
    pub unsaved: Option<String>,
    pub journal: Journal,
    /// Ports, cables and namespaces that are not in the lab any more, but could not be removed whole.
    pub unremoved: InFlight,
    /// The last edits.
    pub history: History,
}

impl Store {
    /// A port of the lab.
    pub fn port(&self, name: &PortName) -> Option<&Port> {
        self.state.lab.ports.iter().find(|port| port.name == *name)
    }

    /// Writes the state to disk after a change outside a plan.
    pub fn save(&mut self) -> Result<(), ApiError> {
        self.unsaved = self.file.save(&self.state).err().map(|error| error.to_string());
        match &self.unsaved {
            None => Ok(()),
            Some(error) => Err(
                ApiError::new(ErrorCode::Internal, "state", format!("write the state file: {error}"))
                    .hint("see that the state directory can be written and has room"),
            ),
        }
    }

    /// Whether the file is there.
    pub fn is_on_disk(&self) -> bool {
        self.file.is_there()
    }

    /// Makes `state` the state. What is known of devices that are still to be given back stays known.
    pub fn take_state(&mut self, mut state: State, still_taken: impl Fn(&IfName) -> bool) {
        let devices = std::mem::take(&mut self.state.devices);
        for (name, device) in devices.into_iter().filter(|(name, _)| still_taken(name)) {
            state.devices.entry(name).or_insert(device);
        }
        self.state = state;
    }

    /// Notes what is about to be touched, for the daemon after one that is killed in between; making a namespace adds to it.
    pub fn note(&self, steps: &[Step]) -> Result<(), ApiError> {
        let mut note = self.left();
        for step in steps {
            match step {
                Step::AddPort(port) => note.ports.push(port.clone()),
                Step::AddPorts(ports) | Step::RemovePorts(ports) => note.ports.extend_from_slice(ports),
                Step::ChangePort { before, after } => note.ports.extend([before, after].map(|port| (**port).clone())),
                Step::AddCable(cable) | Step::RemoveCable(cable) => note.cables.push(cable.clone()),
                Step::ChangeCable { before, after } => {
                    note.cables.extend([before, after].map(|cable| (**cable).clone()))
                }
                Step::RemoveNamespace(name) => {
                    let owned = self.state.namespaces.iter().filter(|owned| owned.name == *name);
                    note.namespaces.extend(owned.cloned());
                }
                _ => {}
            }
        }
        note.devices = self.devices_of(&note.ports);
        let processes = note.ports.iter();
        let processes = processes.filter_map(|port| Some((port.name.clone(), *self.state.processes.get(&port.name)?)));
        note.processes = processes.collect();
        self.journal.write(&note).map_err(|error| {
            text::step("run directory", "note what is about to be done", &error)
                .hint("nothing was changed; see that the run directory can be written and has room")
        })
    }

    /// Takes note of a port that is not in the lab any more, but could not be removed whole.
    pub fn leave_port(&mut self, port: &Port) {
        if !self.unremoved.ports.contains(port) {
            self.unremoved.ports.push(port.clone());
        }
    }

    /// The same of a cable.
    pub fn leave_cable(&mut self, cable: &Cable) {
        if !self.unremoved.cables.contains(cable) {
            self.unremoved.cables.push(cable.clone());
        }
    }

    /// What could not be removed, with what has to be known for it.
    pub fn left(&self) -> InFlight {
        let mut left = self.unremoved.clone();
        left.devices.extend(self.devices_of(&left.ports));
        left
    }

    /// How the devices among these ports were before.
    pub fn devices_of(&self, ports: &[Port]) -> BTreeMap<IfName, DeviceBefore> {
        let before = |port: &Port| Some((ifname(port), self.device_of(port)?));
        ports.iter().filter_map(before).collect()
    }

    /// The command is done or undone: what could not be removed is all that a next daemon needs to know of it.
    pub fn close_journal(&self) {
        let left = self.left();
        if left == InFlight::default() {
            self.journal.clear();
        } else if let Err(error) = self.journal.write(&left) {
            tracing::error!("can't note what could not be removed: {error}");
        }
    }

    /// The mark of the interfaces of a port. `made_in`: id of the namespace in which it was made. Two daemons on a machine have
    /// different ones, and whoever reads that of one port can't make that of another.
    pub fn mark(&self, port: &Port, made_in: i32) -> String {
        format!("{}{made_in}", self.mark_of(port))
    }

    pub fn mark_of(&self, port: &Port) -> String {
        self.mark_by_name(&port.name)
    }

    fn mark_by_name(&self, name: &PortName) -> String {
        let number = lasting::number(&(self.state.salt, "mark", name.as_str()));
        format!("{}{number:016x}:", named_mark(name))
    }

    /// The port whose mark an alias has, whether or not there is one of that name.
    pub fn marked(&self, alias: &str) -> Option<PortName> {
        let (name, _) = alias.strip_prefix(MARK)?.split_once(':')?;
        let name = name.parse().ok()?;
        alias.starts_with(&self.mark_by_name(&name)).then_some(name)
    }

    /// Where an interface was made, if it has the mark of the port.
    pub fn made_in(&self, port: &Port, link: &Link) -> Option<i32> {
        let made_in = link.alias.as_deref()?.strip_prefix(&self.mark_of(port))?;
        made_in.parse().ok()
    }

    /// Notes how a device was, before it is touched: a daemon that is killed then has a successor that gives it back.
    pub fn note_device(&mut self, port: &Port, before: DeviceBefore) -> Result<(), ApiError> {
        let noted = self.journal.add(|note| {
            note.devices.insert(ifname(port), before);
            if !note.ports.contains(port) {
                note.ports.push(port.clone());
            }
        });
        noted.map_err(|error| {
            text::step(text::port(&port.name), "note how the device was", &error)
                .hint("see that the run directory can be written and has room")
        })?;
        self.state.devices.insert(ifname(port), before);
        Ok(())
    }

    /// How the device of a port was before it was one.
    pub fn device_of(&self, port: &Port) -> Option<DeviceBefore> {
        let taken_over = facts(port.kind).taken_over;
        self.state.devices.get(&ifname(port)).copied().filter(|_| taken_over)
    }
}
