//! Starting processes, and what a daemon that starts finds of those of the one before.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use vswitch_api::{ApiError, ErrorCode, ProcessState};
use vswitch_linux::NetNs;
use vswitch_linux::process::{self, Handle};
use vswitch_linux::random::random_u64;

use super::super::{Inner, text};
use super::live::{FIRST_WAIT, Live, Processes, now_ms};
use super::ready::is_awaited_apart;
use super::{Process, ended, object};
use crate::files::ETC_NETNS;
use crate::supervisor::ARGUMENT;
use crate::supervisor::notes::{Folder, Note, Spec};

impl Inner {
    /// Starts processes, and waits until they run; commands with a check are waited for later, if at all. On an error some may run: the
    /// caller stops them. Those that the lab has already run again since an edit is taken back.
    ///
    /// # Errors
    /// One can't be started, or has failed; its last lines are in the error. Whoever asked is gone meanwhile.
    pub(in super::super) async fn start_processes(&mut self, all: &[Process]) -> Result<(), ApiError> {
        let known: Vec<_> = self.store.state.lab.commands.iter().map(Process::from).collect();
        let (known, all): (Vec<_>, Vec<_>) = all.iter().partition(|process| known.contains(process));
        for process in &known {
            self.start_or_wait((*process).clone());
        }
        for process in &all {
            self.start_process((*process).clone())?;
        }
        // Those that are ready as they begin.
        for process in known.into_iter().filter(|process| process.ready.is_none()) {
            if let Err(error) = self.wait_until_ready(process).await {
                tracing::debug!("{error}");
            }
        }
        for process in all.into_iter().filter(|process| !is_awaited_apart(process)) {
            self.wait_until_ready(process).await?;
        }
        Ok(())
    }

    /// Starts one, and does not wait. What is left of one of this name is over before.
    ///
    /// # Errors
    /// Its namespace is not there; the run directory can't be written.
    pub(super) fn start_process(&mut self, process: Process) -> Result<(), ApiError> {
        let failed = |step: &str, error: &std::io::Error| text::step(object(&process.name), step, error);
        let netns = match &process.namespace {
            Some(name) => Some(self.open_namespace(name)?),
            None => None,
        };
        let mut spec = self.spec_of(&process, netns.as_ref())?;
        let id = random_u64().map_err(|error| failed("choose an id", &error))?;
        spec.id = format!("{id:016x}");
        let processes = &self.processes;
        let has_log = processes.folder(&process.name).path().exists();
        let folder = processes
            .make_folder(&process.name)
            .map_err(|error| failed("make its folder in the run directory", &error))?;
        // The note of what is to be, before it is.
        folder
            .write_spec(&spec)
            .map_err(|error| failed("note what is to run", &error))?;
        let child = match spawn(&folder, &spec.id, netns.as_ref()) {
            Ok(child) => child,
            Err(error) => {
                // The log of one that ran before is what there is to find out by why.
                let _ = match has_log {
                    true => folder.remove_spec(),
                    false => fs::remove_dir_all(folder.path()),
                };
                processes.leave_if_empty();
                return Err(failed("start its supervisor", &error));
            }
        };
        // Nobody else can have its id before it is waited for.
        let start = process::stat(child.id()).map_or(0, |stat| stat.start);
        let handle = Handle::open(child.id(), start).ok().flatten().map(Arc::new);
        let wait = processes
            .lock()
            .get(&process.name)
            .map_or(FIRST_WAIT, |before| before.wait);
        let live = Live {
            note: Note {
                id: spec.id.clone(),
                supervisor: (child.id(), start),
                since_ms: now_ms(),
                ..Note::default()
            },
            process: process.clone(),
            spec: Some(spec.clone()),
            handle: handle.clone(),
            again: None,
            wait,
            ending: None,
        };
        processes.lock().insert(process.name.clone(), live);
        // It may have told before it was known here.
        processes.refresh(&process.name);
        processes.watch(process.name, spec.id, handle, Some(child));
        Ok(())
    }

    fn spec_of(&self, process: &Process, netns: Option<&NetNs>) -> Result<Spec, ApiError> {
        let netns = match netns {
            Some(netns) => {
                let cookie = netns
                    .cookie()
                    .map_err(|error| text::kernel(object(&process.name), &error))?;
                Some((netns.id().dev, netns.id().ino, cookie))
            }
            None => None,
        };
        Ok(Spec {
            id: String::new(),
            boot_id: self.host.boot_id.clone(),
            process: process.clone(),
            netns,
            etc: process
                .namespace
                .as_ref()
                .map(|name| format!("{ETC_NETNS}/{name}").into()),
        })
    }

    /// What is to run.
    pub(in super::super) fn wanted_processes(&self) -> Vec<Process> {
        if !self.given.run_commands {
            return Vec::new();
        }
        let commands = self.store.state.lab.commands.iter().map(Process::from);
        commands.chain(self.wanted_services()).collect()
    }

    /// Takes over those of a daemon before that are to run as they do, starts the others that are to run, and ends the rest.
    pub(in super::super) async fn bring_processes_back(&mut self, wanted: Vec<Process>) {
        let names: BTreeSet<_> = wanted.iter().map(|process| process.name.clone()).collect();
        let mut left = self.processes.folders();
        left.retain(|name| !names.contains(name));
        let mut again = Vec::new();
        for process in wanted {
            match self.take_over(&process) {
                true => tracing::debug!("{}: taken over", object(&process.name)),
                false => {
                    self.processes.lock().remove(&process.name);
                    again.push(process);
                }
            }
        }
        left.extend(again.iter().map(|process| process.name.clone()));
        let mut warnings = Vec::new();
        self.stop_processes(&left, &mut warnings).await;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        for process in again {
            if !self.goes_on() {
                return;
            }
            self.start_or_wait(process);
        }
    }

    /// Starts one; where that is not possible, it is tried again later.
    pub(in super::super) fn start_or_wait(&mut self, process: Process) {
        let name = process.name.clone();
        let Err(error) = self.start_process(process.clone()) else {
            return;
        };
        let mut live = Live::missing(process, error.to_string());
        let mut all = self.processes.lock();
        if let Some(before) = all.remove(&name) {
            live.wait = before.wait;
            if before.note.state == ProcessState::Missing {
                live.note.since_ms = before.note.since_ms;
            }
        }
        if error.code != ErrorCode::NotFound {
            live.put_off();
        }
        self.processes.say(&name, &live.note);
        all.insert(name, live);
    }

    /// Whether one of the daemon before does what is wanted.
    fn take_over(&mut self, process: &Process) -> bool {
        let folder = self.processes.folder(&process.name);
        let netns = match &process.namespace {
            Some(name) => match self.open_namespace(name) {
                Ok(netns) => Some(netns),
                Err(_) => return false,
            },
            None => None,
        };
        let (Ok(there), Ok(note), Ok(wanted)) = (folder.spec(), folder.note(), self.spec_of(process, netns.as_ref()))
        else {
            return false;
        };
        if !there.is_like(&wanted) || there.id != note.id {
            return false;
        }
        // Whether its supervisor lives.
        let handle = match folder.lock() {
            Ok(Some(_)) => None,
            Ok(None) => note.handle().ok().flatten().map(Arc::new),
            Err(_) => return false,
        };
        let is_over = matches!(note.state, ProcessState::Ended | ProcessState::Failed);
        if handle.is_none() && !is_over {
            return false;
        }
        self.processes.listen();
        let live = Live {
            process: process.clone(),
            spec: Some(there.clone()),
            note,
            handle: handle.clone(),
            again: None,
            wait: FIRST_WAIT,
            ending: None,
        };
        self.processes.lock().insert(process.name.clone(), live);
        self.processes.refresh(&process.name);
        if handle.is_some() {
            self.processes.watch(process.name.clone(), there.id, handle, None);
        }
        true
    }
}

impl Processes {
    /// Hears of the end of a supervisor, and waits for it if it is a child of ours.
    fn watch(self: &Arc<Self>, name: String, id: String, handle: Option<Arc<Handle>>, child: Option<Child>) {
        let processes = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Some(handle) = &handle
                && let Err(error) = handle.ended().await
            {
                tracing::debug!("{}: its end is seen late: {error}", object(&name));
            }
            match (child, handle) {
                // It has ended, or could not be looked at: whoever waits is no thread of the runtime.
                (Some(mut child), _) => _ = tokio::task::spawn_blocking(move || child.wait()).await,
                // The program before, in this process, may have started it.
                (None, Some(handle)) => handle.reap(),
                (None, None) => {}
            }
            if let Some(processes) = processes.upgrade() {
                ended::ended(&processes, &name, &id).await;
            }
        });
    }
}

/// The supervisor: this very program, also if its file was replaced.
fn spawn(folder: &Folder, id: &str, netns: Option<&NetNs>) -> std::io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(ARGUMENT)
        .arg(folder.path())
        .arg(id)
        .env_clear()
        .current_dir("/");
    let stdin = match netns {
        Some(netns) => Stdio::from(netns.as_fd().try_clone_to_owned()?),
        None => Stdio::null(),
    };
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
