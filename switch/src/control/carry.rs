//! Carrying out the steps of a plan, all or none.

use std::collections::BTreeSet;

use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, EventKind, Lab};

use super::attach::Adopt;
use super::plan::{Step, together};
use super::policy::switch_settings;
use super::{Inner, text};

impl Inner {
    /// Carries out `steps`, then makes `lab` the lab and writes it to disk. If anything fails, all is as it was before.
    pub(super) async fn carry_out(
        &mut self,
        steps: Vec<Step>,
        lab: Lab,
        changes: Changes,
    ) -> Result<Changes, ApiError> {
        let result = self.carry_out_all(steps, lab, changes).await;
        self.end_progress();
        result
    }

    async fn carry_out_all(&mut self, steps: Vec<Step>, lab: Lab, mut changes: Changes) -> Result<Changes, ApiError> {
        self.remove_unremoved(&mut changes.warnings).await;
        let before = self.state.clone();
        self.note(&steps)?;
        let mut done = Vec::with_capacity(steps.len());
        let mut failure = None;
        let mut written = false;
        self.begin_progress("a change", steps.iter().map(Step::size).sum());
        for step in steps {
            let carried = match self.pulse.is_stopping() {
                true => {
                    Err(text::conflict("request", "the daemon is about to stop").hint("nothing was changed; try again"))
                }
                false => self.carry(&step, &mut changes.warnings).await,
            };
            match carried {
                Ok(()) => {
                    self.step_done(step.size());
                    changes.done.extend(step.describe());
                    done.push(step);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        if failure.is_none() {
            // Only now: a port that is put back gets its static entries back.
            let ports: BTreeSet<_> = lab.ports.iter().map(|port| (&port.switch, &port.name)).collect();
            self.state
                .fdb
                .retain(|entry| ports.contains(&(&entry.switch, &entry.port)));
            self.state.lab = lab;
            if self.state != before {
                written = true;
                failure = self.file.save(&self.state).err().map(|error| {
                    text::step("state", "write the state file", &error)
                        .hint("nothing was changed; see that the state directory can be written and has room")
                });
            }
        }
        let Some(error) = failure else {
            self.close_journal();
            return Ok(changes);
        };
        for step in together(done.into_iter().rev().map(Step::inverse)) {
            if let Err(error) = self.carry(&step, &mut Vec::new()).await {
                tracing::error!("can't undo a step of a failed command: {error}");
            }
            self.pulse.beat();
        }
        // What the steps noted of namespaces they made again has to stay known.
        let namespaces = std::mem::take(&mut self.state.namespaces);
        let known = before.namespaces == namespaces;
        self.state = before;
        self.state.namespaces = namespaces;
        // A state file that could not be written for sure may all the same be the new one.
        if (written || !known)
            && let Err(error) = self.save()
        {
            tracing::error!("the state file may tell of what was undone: {error}");
        }
        self.close_journal();
        Err(error)
    }

    /// Notes what is about to be made, for the daemon after one that is killed in between; [`Inner::add_namespace`] adds to it.
    fn note(&self, steps: &[Step]) -> Result<(), ApiError> {
        let mut note = self.unremoved.clone();
        for step in steps {
            match step {
                Step::AddPort(port) => note.ports.push(port.clone()),
                Step::AddCable(cable) => note.cables.push(cable.clone()),
                _ => {}
            }
        }
        self.journal.write(&note).map_err(|error| {
            text::step("run directory", "note what is about to be done", &error)
                .hint("nothing was changed; see that the run directory can be written and has room")
        })
    }

    async fn carry(&mut self, step: &Step, warnings: &mut Vec<String>) -> Result<(), ApiError> {
        match step {
            Step::AddNamespace(name) => self.add_namespace(name).await?,
            Step::RemoveNamespace(name) => self.remove_namespace(name)?,
            Step::AddSwitch(switch) => {
                self.switches.insert(switch.name.clone(), self.add_switch(switch));
                self.emit(EventKind::SwitchAdded {
                    switch: switch.name.clone(),
                });
            }
            Step::ChangeSwitch { before, after } => {
                let Some(id) = self.switches.get(&after.name).copied() else {
                    return Err(text::no_switch(&after.name));
                };
                self.datapath.update_switch(id, switch_settings(after));
                if before.fdb_capacity != after.fdb_capacity {
                    // Allowed only while no port is on it.
                    self.datapath.remove_switch(id);
                    self.switches.insert(after.name.clone(), self.add_switch(after));
                }
            }
            Step::RemoveSwitch(switch) => {
                if let Some(id) = self.switches.remove(&switch.name) {
                    self.datapath.remove_switch(id);
                    self.emit(EventKind::SwitchRemoved {
                        switch: switch.name.clone(),
                    });
                }
            }
            Step::AddPort(port) => {
                self.attach(port, Adopt::No).await?;
                self.emit(EventKind::PortAdded {
                    port: port.name.clone(),
                    switch: port.switch.clone(),
                });
                for address in &port.addresses {
                    self.emit(EventKind::AddressAdded {
                        port: port.name.clone(),
                        address: *address,
                    });
                }
            }
            Step::ChangePort { before, after } => {
                if let Err(error) = self.change(before, after).await {
                    if let Err(error) = Box::pin(self.change(after, before)).await {
                        tracing::error!("can't undo a change of a port: {error}");
                    }
                    return Err(error);
                }
            }
            Step::AddPorts(ports) => {
                let mut failed = None;
                for port in ports {
                    // The others are put back all the same.
                    let added = Box::pin(self.carry(&Step::AddPort(port.clone()), warnings)).await;
                    failed = failed.or(added.err());
                }
                failed.map_or(Ok(()), Err)?;
            }
            Step::RemovePorts(ports) => {
                self.detach_all(ports, warnings).await;
                for port in ports {
                    self.emit(EventKind::PortRemoved {
                        port: port.name.clone(),
                        switch: port.switch.clone(),
                    });
                }
            }
            Step::AddMirror(mirror) => self.start_mirror(mirror),
            Step::RemoveMirror(mirror) => self.stop_mirror(mirror),
            Step::AddCable(cable) => self.attach_cable(cable, Adopt::No).await?,
            Step::RemoveCable(cable) => self.detach_cable(cable, warnings).await,
        }
        Ok(())
    }

    /// Writes the state to disk after a change outside a plan.
    pub(super) fn save(&self) -> Result<(), ApiError> {
        self.file.save(&self.state).map_err(|error| {
            ApiError::new(ErrorCode::Internal, "state", format!("write the state file: {error}"))
                .hint("see that the state directory can be written and has room")
        })
    }
}
