//! Commands that are added, removed and restarted one by one.

use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Command, CommandName, ProcessState, Restart};

use super::super::condition::{Editing, Subject};
use super::super::named::{add, find, remove};
use super::super::published::Held;
use super::super::requests::as_they_are;
use super::super::{Control, Inner, text};
use super::live::Live;
use super::ready::NotReady;
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
        let inner = self.begin_edit().await?;
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
            self.restart(inner, process).await?;
            tracing::info!("{done}");
        }
        Ok(Changes {
            done: vec![done],
            dry_run: options.dry_run,
            ..Changes::default()
        })
    }

    /// Others go on meanwhile. What has been ended is started again also if nobody waits for it any more.
    async fn restart(&self, mut inner: Held<'_>, process: Process) -> Result<(), ApiError> {
        let (ending, before) = inner.begin_restart(&process)?;
        let (processes, pulse) = (inner.processes.clone(), inner.shown.pulse.clone());
        drop(inner);
        let ended = processes.end(&process.name, before).await;
        self.inner.lock().await.start_ended(&process, ending, ended)?;
        let ready = processes.wait_until_ready(&process, &pulse, false).await;
        ready.map_err(NotReady::error)
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
        live.process = process;
        Ok(())
    }

    /// Starts one that has ended and by its settings is to run again: its supervisor has gone as it was done.
    pub(in super::super) fn run_again(&mut self, process: Process) {
        let runs_again = self.processes.lock().get(&process.name).is_some_and(|live| {
            live.note.is_of_the_end()
                && match process.restart {
                    Restart::No => false,
                    Restart::OnFailure => live.note.state == ProcessState::Failed,
                    Restart::Always => true,
                }
        });
        if runs_again {
            self.start_or_wait(process);
        }
    }

    /// From here on it is to end; gives the number of that, and what there is of it.
    ///
    /// # Errors
    /// It could not be started again, or the run directory can't be written: then it runs on.
    fn begin_restart(&mut self, process: &Process) -> Result<(u64, Option<Live>), ApiError> {
        let name = &process.name;
        if let Some(namespace) = &process.namespace {
            self.open_namespace(namespace)?;
        }
        self.processes.folder(name).remove_spec().map_err(|error| {
            text::step(object(name), "note that it is to end", &error)
                .hint("see that the run directory can be written and has room")
        })?;
        let ending = self.processes.next_ending();
        let mut between = Live::missing(process.clone(), "it is restarted".to_owned());
        between.note.state = ProcessState::Starting;
        between.ending = Some(ending);
        Ok((ending, self.processes.lock().insert(name.clone(), between)))
    }

    /// Starts one that has been ended to be started again, unless another edit came between.
    ///
    /// # Errors
    /// That edit has removed or changed it; it could not be ended or can't be started, and is tried again later.
    fn start_ended(&mut self, process: &Process, ending: u64, ended: Result<(), String>) -> Result<(), ApiError> {
        let name = &process.name;
        let overtaken = |cause: &str| {
            Err(text::conflict(
                object(name),
                format!("{cause} before it was started again"),
            ))
        };
        let commands = &self.store.state.lab.commands;
        let Some(wanted) = commands.iter().find(|command| command.name.as_str() == name) else {
            return overtaken("it was removed by another edit");
        };
        let wanted = Process::from(wanted);
        let is_ours = |live: &Live| live.ending == Some(ending);
        if !self.processes.lock().get(name).is_some_and(is_ours) {
            return match wanted == *process {
                // It is started again all the same.
                true => Ok(()),
                false => overtaken("it was changed by another edit"),
            };
        }
        if self.shown.pulse.is_stopping() {
            let error = text::conflict(object(name), "the daemon is about to stop before it is started again");
            return Err(error.hint("the next one starts it"));
        }
        let started = match ended {
            Ok(()) => self.start_process(wanted.clone()),
            Err(cause) => Err(text::conflict(object(name), cause).hint("it is tried again by itself")),
        };
        if let Err(error) = &started {
            let mut live = Live::missing(wanted, error.cause.clone());
            live.put_off();
            self.processes.lock().insert(name.clone(), live);
        }
        started
    }
}
