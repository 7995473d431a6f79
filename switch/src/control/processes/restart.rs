//! Commands that are added, removed and restarted one by one.

use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Command, CommandName, ProcessState, Restart};

use super::super::condition::{Editing, Subject};
use super::super::named::{add, find, remove};
use super::super::requests::as_they_are;
use super::super::{Control, Inner, text};
use super::live::Live;
use super::{Process, object};
use crate::supervisor::notes::Spec;

impl Control {
    /// All commands of the lab, as they were asked for.
    pub fn commands(&self) -> Vec<Command> {
        self.view().state.lab.commands.clone()
    }

    /// One of them.
    ///
    /// # Errors
    /// NotFound.
    pub fn command(&self, name: &CommandName) -> Result<Command, ApiError> {
        find::<Command>(&mut self.view().state.lab.clone(), name).cloned()
    }

    /// Starts a command, and keeps it running as it says.
    ///
    /// # Errors
    /// Conflict: there is one of this name, or it has failed before it was ready; then it is not there. Invalid: it can't be run.
    pub async fn add_command(&self, command: Command, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Lab, options.clone(), |_, lab| {
            add(lab, command, options.said.first().cloned(), &options, as_they_are)
        })
        .await
    }

    /// Ends a command.
    ///
    /// # Errors
    /// NotFound. What of it could not be ended is in the warnings.
    pub async fn remove_command(&self, name: &CommandName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        self.edit(Subject::Command(name), options.clone(), |_, lab| {
            remove::<Command>(lab, name, &options)
        })
        .await
    }

    /// Ends a command and starts it again; its log goes on.
    ///
    /// # Errors
    /// NotFound. Conflict: something of it can't be ended, or it has failed before it was ready. It stays in the lab.
    pub async fn restart_command(&self, name: &CommandName, options: impl Into<Editing>) -> Result<Changes, ApiError> {
        let options = options.into();
        let mut inner = self.begin_edit().await?;
        inner
            .store
            .check_condition(Subject::Command(name), options.if_match.as_deref())?;
        let commands = &inner.store.state.lab.commands;
        let Some(command) = commands.iter().find(|command| command.name == *name) else {
            return Err(text::no_command(name));
        };
        let process = Process::from(command);
        let done = format!("restarted command {name} in namespace {}", command.namespace);
        if !options.dry_run {
            inner.restart(process).await?;
            tracing::info!("{done}");
        }
        Ok(Changes {
            done: vec![done],
            dry_run: options.dry_run,
            ..Changes::default()
        })
    }
}

impl Inner {
    /// Gives one that runs on other settings, which its supervisor looks for in its folder.
    ///
    /// # Errors
    /// The run directory can't be written; nothing is changed then.
    pub(in super::super) fn adjust_process(&mut self, process: Process) -> Result<(), ApiError> {
        let processes = self.processes.clone();
        let mut all = processes.lock();
        let Some(live) = all.get_mut(&process.name).filter(|live| live.process != process) else {
            return Ok(());
        };
        if let Some(spec) = &mut live.spec {
            let adjusted = Spec {
                process: process.clone(),
                ..spec.clone()
            };
            let written = processes.folder(&process.name).write_spec(&adjusted);
            written.map_err(|error| {
                text::step(object(&process.name), "note its new settings", &error)
                    .hint("see that the run directory can be written and has room")
            })?;
            *spec = adjusted;
        }
        live.process = process.clone();
        let runs_again = match process.restart {
            Restart::No => false,
            Restart::OnFailure => live.note.state == ProcessState::Failed,
            Restart::Always => true,
        };
        let is_over = live.note.is_of_the_end();
        drop(all);
        if is_over && runs_again {
            // Its supervisor has gone as it was done.
            self.start_or_wait(process);
        }
        Ok(())
    }

    /// Ends one, if it runs, and starts it again.
    ///
    /// # Errors
    /// See [`Control::restart_command`].
    pub(in super::super) async fn restart(&mut self, process: Process) -> Result<(), ApiError> {
        let name = process.name.clone();
        let processes = self.processes.clone();
        // Before it is touched: one that can't be started runs on.
        if let Some(namespace) = &process.namespace {
            self.open_namespace(namespace)?;
        }
        processes.folder(&name).remove_spec().map_err(|error| {
            text::step(object(&name), "note that it is to end", &error)
                .hint("see that the run directory can be written and has room")
        })?;
        let mut between = Live::missing(process.clone(), "it is restarted".to_owned());
        between.note.state = ProcessState::Starting;
        let live = processes.lock().insert(name.clone(), between);
        if let Err(cause) = processes.end(&name, live).await {
            let mut live = Live::missing(process, cause.clone());
            live.put_off();
            processes.lock().insert(name.clone(), live);
            return Err(text::conflict(object(&name), cause).hint("it is tried again by itself"));
        }
        if let Err(error) = self.start_process(process.clone()) {
            let mut live = Live::missing(process, error.to_string());
            live.put_off();
            processes.lock().insert(name, live);
            return Err(error);
        }
        self.wait_until_ready(&name).await
    }
}
