//! Carrying out the steps of a plan, all or none.
//!
//! What can't be taken back comes last: namespaces, ports and cables go only when the new lab is written, for with them goes what
//! their users had in them. Up to there each step has its inverse. A port that has to go first, since its name or its place is
//! wanted, goes when the new lab is on the disk, if not yet in the place of the old one.
//!
//! Commands are started at the end. Whether they become ready may take minutes to tell: where nothing goes that can't be taken back, that
//! is waited for when the lab is written and others can have the model (`processes/ready`), else before.

mod order;

use std::collections::HashSet;

use vswitch_api::view::Changes;
use vswitch_api::{ApiError, EventKind, Lab, NsName, Port, PortName};

use super::attach::Adopt;
use super::guests::foreign;
use super::kinds::{facts, ifname};
use super::namespace::NAMESPACES_AT_ONCE;
use super::plan::{Step, together};
use super::policy::switch_settings;
use super::processes::Process;
use super::state::{OwnedNamespace, State};
use super::twins::{tell, untell};
use super::{Inner, text};
use order::Order;

impl Inner {
    /// Carries out `steps`, then makes `lab` the lab and writes it to disk. If anything fails, all is as it was before. Gives also what it
    /// has started and not waited for.
    pub(super) async fn carry_out(
        &mut self,
        steps: Vec<Step>,
        lab: Lab,
        mut changes: Changes,
    ) -> Result<(Changes, Vec<Process>), ApiError> {
        // Before the note of what the daemon before had begun, which is perhaps not yet all removed, gives way to another.
        self.check_stopping()?;
        self.remove_unremoved(&mut changes.warnings).await;
        let before = self.store.state.clone();
        tell(&steps, &mut changes);
        let noted = self.look_at_devices(&steps).await;
        let noted = noted.and_then(|()| self.note_processes(&steps));
        if let Err(error) = noted.and_then(|()| self.store.note(&steps)) {
            self.store.state = before;
            return Err(error);
        }
        let order = Order::of(steps);
        self.shown.pulse.underway.begin("a change", order.size());
        let was_unsaved = self.store.unsaved.is_some();
        let refused = self.live.refused.clone();
        let mut done = Vec::with_capacity(order.first.len() + order.then.len());
        if let Err(error) = self
            .carry_until_written(&order, lab, &mut done, &mut changes.warnings)
            .await
        {
            // A port that is put back is in the namespace of the process that it was.
            self.store.state.processes.clone_from(&before.processes);
            let left = self.undo(done, before, was_unsaved).await;
            self.live.parted.clear();
            self.live.parted_mirrors.clear();
            self.store.close_journal();
            return Err(with_left(error, &left));
        }
        // Not given up when the daemon is about to stop: what is written is done, and they take little time.
        for step in &order.last {
            let carried = self.carry(step, &mut changes.warnings).await;
            if let Err(error) = carried {
                changes
                    .warnings
                    .push(format!("{error}; the next command tries it again"));
            }
            self.step_done(step.size());
        }
        for step in &order.then {
            if let Step::ChangeCommand { after, .. } = step {
                self.run_again(Process::from(after.as_ref()));
            }
        }
        let stay = self.remove_named(&order.namespaces, &mut changes.warnings).await;
        self.step_done(order.namespaces.len());
        untell(&self.not_carried_out(&order.last, stay), &mut changes);
        changes.warnings.extend(self.tell_refused(&refused));
        self.live.parted.clear();
        self.live.parted_mirrors.clear();
        self.store.close_journal();
        let begun = match order.can_be_taken_back() {
            true => order.awaited(),
            false => Vec::new(),
        };
        Ok((changes, begun))
    }

    /// What of the last steps could not be carried out.
    fn not_carried_out(&self, last: &[Step], namespaces: Vec<NsName>) -> Vec<Step> {
        let mut steps: Vec<_> = namespaces.into_iter().map(Step::RemoveNamespace).collect();
        let left = &self.store.unremoved;
        for step in last {
            match step {
                Step::RemovePorts(ports) => {
                    let stay = ports.iter().filter(|port| left.ports.contains(port));
                    steps.push(Step::RemovePorts(stay.cloned().collect()));
                }
                Step::RemoveCable(cable) if left.cables.contains(cable) => steps.push(step.clone()),
                _ => {}
            }
        }
        steps
    }

    /// # Errors
    /// The daemon is about to stop.
    fn check_stopping(&self) -> Result<(), ApiError> {
        match self.shown.pulse.is_stopping() {
            true => {
                Err(text::conflict("request", "the daemon is about to stop").hint("nothing was changed; try again"))
            }
            false => Ok(()),
        }
    }

    /// One step, unless the daemon is about to stop.
    async fn carry_next(
        &mut self,
        step: &Step,
        done: &mut Vec<Step>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        self.check_stopping()?;
        let carried = self.carry(step, warnings).await;
        match (&carried, step) {
            (Ok(()), _) => done.push(step.clone()),
            (Err(_), Step::AddPorts(ports)) => {
                let added = ports.iter().filter(|port| self.live.ports.contains_key(&port.name));
                done.push(Step::AddPorts(added.cloned().collect()));
            }
            // Some may run.
            (Err(_), Step::StartCommands(_)) => done.push(step.clone()),
            (Err(_), _) => {}
        }
        self.step_done(step.size());
        carried
    }

    /// All but the last steps, and the state on disk. `done` has what was carried out, also after an error.
    async fn carry_until_written(
        &mut self,
        order: &Order,
        lab: Lab,
        done: &mut Vec<Step>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let before = self.store.state.clone();
        for names in order.first.chunks(NAMESPACES_AT_ONCE) {
            self.check_stopping()?;
            self.add_namespaces(names).await?;
            done.extend(names.iter().cloned().map(Step::AddNamespace));
            self.step_done(names.len());
        }
        let wanted = self.wanted(lab, &order.namespaces.iter().collect());
        let unwritable = |error: std::io::Error| {
            text::step("state", "write the state file", &error)
                .hint("nothing was changed; see that the state directory can be written and has room")
        };
        let prepared = if wanted != before || self.store.unsaved.is_some() {
            Some(self.store.file.prepare(&wanted).map_err(unwritable)?)
        } else {
            None
        };
        for step in &order.then {
            self.carry_next(step, done, warnings).await?;
        }
        if !order.can_be_taken_back() {
            for process in order.awaited() {
                self.wait_until_ready(&process).await?;
            }
        }
        if let Some(prepared) = prepared {
            if let Err(error) = prepared.commit() {
                // It may all the same be the new one.
                self.store.unsaved = Some(error.to_string());
                return Err(unwritable(error));
            }
            self.store.unsaved = None;
        }
        // They are nobody's from here on, and are to go.
        let stays = |owned: &OwnedNamespace| wanted.namespaces.contains(owned);
        let going = self.store.state.namespaces.iter().filter(|owned| !stays(owned));
        self.store.unremoved.namespaces.extend(going.cloned());
        // Those of the ports that go last.
        let sysctls = std::mem::take(&mut self.store.state.sysctls);
        self.store.take_state(wanted, |_| true);
        self.settle_shut();
        if self.store.state.sysctls != sysctls {
            self.store.state.sysctls = sysctls;
            self.settle_sysctls();
        }
        Ok(())
    }

    /// The state as it is to be when all steps are done.
    fn wanted(&self, lab: Lab, going: &HashSet<&NsName>) -> State {
        let mut wanted = self.store.state.clone();
        wanted.namespaces.retain(|owned| !going.contains(&owned.name));
        let devices = lab.ports.iter().filter(|port| facts(port.kind).taken_over);
        let devices: HashSet<_> = devices.map(ifname).collect();
        wanted.devices.retain(|name, _| devices.contains(name));
        let is_noted = |name: &PortName| {
            lab.ports
                .iter()
                .any(|port| port.name == *name && foreign(port).is_some())
        };
        wanted.processes.retain(|name, _| is_noted(name));
        wanted.lab = lab;
        wanted
    }

    /// Takes back what was done; gives what could not be. `was_unsaved`: the state file could not be written before the command either,
    /// and will be when it can.
    async fn undo(&mut self, done: Vec<Step>, before: State, was_unsaved: bool) -> Vec<String> {
        let mut not_undone = Vec::new();
        for step in together(done.into_iter().rev().map(Step::inverse)) {
            let mut warnings = Vec::new();
            if let Err(error) = self.carry(&step, &mut warnings).await {
                not_undone.push(format!("{}: {}", error.object, error.cause));
            }
            // Those of a removal tell what stays.
            not_undone.extend(warnings.into_iter().filter(|_| step.removes()));
            self.shown.pulse.beat();
        }
        let left: Vec<_> = self
            .store
            .unremoved
            .ports
            .iter()
            .filter(|port| facts(port.kind).taken_over)
            .map(ifname)
            .collect();
        self.store.take_state(before, |name| left.contains(name));
        // A state file that could not be written for sure may all the same be the new one.
        if self.store.unsaved.is_some()
            && !was_unsaved
            && let Err(error) = self.store.save()
        {
            not_undone.push(format!("the state file may tell of what was undone: {}", error.cause));
        }
        not_undone
            .iter()
            .for_each(|what| tracing::error!("can't undo all of a failed command: {what}"));
        not_undone
    }

    /// Looks how devices are that are to become ports: the state has to tell it before they are touched.
    async fn look_at_devices(&mut self, steps: &[Step]) -> Result<(), ApiError> {
        for step in steps {
            if let Step::AddPort(port) = step
                && facts(port.kind).taken_over
                // Of one that another port gives back, or this one has already, it is known.
                && self.store.device_of(port).is_none()
            {
                let before = self.look_at_device(port).await;
                let before = before.map_err(|error| text::kernel(text::port(&port.name), &error))?;
                // One that is not there is told when it is to be taken over.
                self.store
                    .state
                    .devices
                    .extend(before.map(|before| (ifname(port), before)));
            }
        }
        Ok(())
    }

    /// Notes the processes that namespaces are given by, which the state has to tell before ports are in them.
    fn note_processes(&mut self, steps: &[Step]) -> Result<(), ApiError> {
        let processes = self.processes_of(steps)?.into_iter();
        let noted = processes.map(|(name, process)| (name, process.into()));
        self.store.state.processes.extend(noted);
        Ok(())
    }

    async fn carry(&mut self, step: &Step, warnings: &mut Vec<String>) -> Result<(), ApiError> {
        match step {
            Step::AddNamespace(name) => self.add_namespaces(std::slice::from_ref(name)).await?,
            Step::RemoveNamespace(name) => {
                let failed = self.remove_namespaces(self.owned_of(std::slice::from_ref(name))).await;
                if let Some((_, error)) = failed.first() {
                    return Err(text::kernel(text::namespace(name), error));
                }
            }
            Step::AddSwitch(switch) => {
                self.live.switches.insert(switch.name.clone(), self.add_switch(switch));
                self.emit(EventKind::SwitchAdded {
                    switch: switch.name.clone(),
                });
            }
            Step::ChangeSwitch { before, after } => {
                let Some(id) = self.live.switches.get(&after.name).copied() else {
                    return Err(text::no_switch(&after.name));
                };
                self.datapath.update_switch(id, switch_settings(after));
                if before.fdb_capacity != after.fdb_capacity {
                    // Allowed only while no port is on it.
                    self.datapath.remove_switch(id);
                    self.live.switches.insert(after.name.clone(), self.add_switch(after));
                }
            }
            Step::RemoveSwitch(switch) => {
                if let Some(id) = self.live.switches.remove(&switch.name) {
                    self.datapath.remove_switch(id);
                    self.emit(EventKind::SwitchRemoved {
                        switch: switch.name.clone(),
                    });
                }
            }
            Step::AddPort(port) => self.add_ports(std::slice::from_ref(port)).await?,
            Step::AddPorts(ports) => self.add_ports(ports).await?,
            Step::ChangePort { before, after } => {
                if let Err(error) = self.change(before, after, warnings).await {
                    let undone = Box::pin(self.change(after, before, &mut Vec::new())).await;
                    return Err(half_done(error, undone));
                }
            }
            Step::RemovePorts(ports) => {
                self.detach(ports, warnings).await;
                for port in ports {
                    self.emit(EventKind::PortRemoved {
                        port: port.name.clone(),
                        switch: port.switch.clone(),
                    });
                }
            }
            Step::ChangeCommand { after, .. } => self.adjust_process(Process::from(after.as_ref()))?,
            Step::StartCommands(commands) => {
                let processes: Vec<_> = commands.iter().map(Process::from).collect();
                self.start_processes(&processes).await?;
            }
            Step::StopCommands(commands) => {
                let names: Vec<_> = commands.iter().map(|command| command.name.to_string()).collect();
                self.stop_processes(&names, warnings).await;
            }
            // That is for the lab alone.
            Step::AskForNamespace { .. } => {}
            Step::ChangeNamespace { before, after } => {
                if let Err(error) = self.set_namespace(before, after).await {
                    let undone = self.set_namespace(after, before).await;
                    return Err(half_done(error, undone));
                }
                warnings.extend(self.settings_of_none(before, after).await);
            }
            Step::AddMirror(mirror) => self.start_mirror(mirror),
            Step::RemoveMirror(mirror) => self.stop_mirror(mirror),
            Step::ChangeOutside { before, after } => self.change_outside(before, after, warnings).await?,
            Step::AddCable(cable) => self.attach_cable(cable, Adopt::No).await?,
            Step::ChangeCable { before, after } => {
                if let Err(error) = self.change_cable(before, after, warnings).await {
                    let undone = self.change_cable(after, before, &mut Vec::new()).await;
                    return Err(half_done(error, undone));
                }
            }
            Step::RemoveCable(cable) => self.detach_cable(cable, warnings).await,
        }
        Ok(())
    }

    /// Adds all of these ports that can be added.
    ///
    /// # Errors
    /// The first of those of the others.
    async fn add_ports(&mut self, ports: &[Port]) -> Result<(), ApiError> {
        let mut failed = None;
        for (port, attached) in self.attach_many(ports, Adopt::No).await {
            if let Err(error) = attached {
                failed.get_or_insert(error);
                continue;
            }
            // The lab has it when all is done.
            self.emit_of_port(
                &port,
                EventKind::PortAdded {
                    port: port.name.clone(),
                    switch: port.switch.clone(),
                },
            );
            for address in &port.addresses {
                self.emit_of_port(
                    &port,
                    EventKind::AddressAdded {
                        port: port.name.clone(),
                        address: *address,
                    },
                );
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// An error of a step that did a part of it, which was to be taken back.
fn half_done(error: ApiError, undone: Result<(), ApiError>) -> ApiError {
    match undone {
        Ok(()) => error,
        Err(left) => {
            tracing::error!("can't undo a change: {left}");
            with_left(error, &[format!("{}: {}", left.object, left.cause)])
        }
    }
}

/// An error of a command of which not all could be taken back: whoever reads it must not take it that all is as it was.
fn with_left(error: ApiError, left: &[String]) -> ApiError {
    if left.is_empty() {
        return error;
    }
    let cause = format!(
        "{}; not all of it could be taken back: {}",
        error.cause,
        left.join("; ")
    );
    let look = "`vswitchctl doctor` tells what is not as it is to be, and `set port NAME --up` or `apply` mends it";
    let hint = error
        .hint
        .map_or_else(|| look.to_owned(), |hint| format!("{hint}; {look}"));
    ApiError::new(error.code, error.object, cause).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_taken_back_is_told_with_the_next_step() {
        let error = ApiError::new(vswitch_api::ErrorCode::Kernel, "port \"red\"", "refused").hint("raise the limit");
        assert_eq!(with_left(error.clone(), &[]), error);
        assert_eq!(half_done(error.clone(), Ok(())), error);
        let left = text::conflict("port \"blue\"", "it stays");
        let told = half_done(error, Err(left)).to_string();
        for word in [
            "refused",
            "not all of it could be taken back: port \"blue\": it stays",
            "raise the limit",
            "doctor",
        ] {
            assert!(told.contains(word), "{told}");
        }
    }
}
