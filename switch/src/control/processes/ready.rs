//! Waiting until processes are ready: of commands with a check without the lock of an edit, so that others go on meanwhile.

use std::time::{Duration, Instant};

use tokio::time::timeout;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, Lab, ProcessState};

use super::super::condition::{Editing, Subject};
use super::super::published::{Held, Pulse, client_is_gone};
use super::super::{Control, Inner, text};
use super::live::Processes;
use super::{Process, object};

/// Whether all is well is looked at so often, though nothing is told.
const LOOK: Duration = Duration::from_millis(500);
/// What a supervisor has more time for than what it looks after.
const GRACE: Duration = Duration::from_secs(10);

/// Commands that an edit has started and that are not known to be ready yet.
pub(in super::super) struct Begun {
    pub processes: Vec<Process>,
    /// The lab before the edit and after it.
    pub before: Lab,
    pub after: Lab,
}

/// Why one is not waited for any longer.
pub(super) enum NotReady {
    /// It has failed, or nobody wants to know any more.
    Failed(ApiError),
    /// Another edit has removed or changed it, or the daemon is about to stop.
    Overtaken(ApiError),
}

impl NotReady {
    pub fn error(self) -> ApiError {
        match self {
            Self::Failed(error) | Self::Overtaken(error) => error,
        }
    }
}

/// Whether it may take minutes until it is ready.
pub(super) fn is_awaited_apart(process: &Process) -> bool {
    process.ready.is_some() && !process.name.contains(':')
}

/// How far one is.
enum Readiness {
    NotYet,
    Ready,
    Failed(String),
    Overtaken(&'static str),
}

impl Control {
    /// Lets go of the model, and waits until what the edit has started is ready. If it is not, the edit is taken back, as far as nobody
    /// has changed meanwhile what it made.
    ///
    /// # Errors
    /// One has failed before it was ready; its last lines are in the error. Whoever asked is gone. Another edit has removed or changed
    /// one, or the daemon is about to stop: then what was done stays.
    pub(in super::super) async fn finish(&self, mut held: Held<'_>, changes: Changes) -> Result<Changes, ApiError> {
        let Some(begun) = held.begun.take() else {
            return Ok(changes);
        };
        let (processes, pulse) = (held.processes.clone(), held.shown.pulse.clone());
        drop(held);
        for process in &begun.processes {
            match processes.wait_until_ready(process, &pulse, false).await {
                Ok(()) => {}
                Err(NotReady::Failed(error)) => return Err(self.take_back(&begun, error).await),
                Err(NotReady::Overtaken(mut error)) => {
                    error.cause.push_str("; what else was done stays");
                    return Err(error);
                }
            }
        }
        Ok(changes)
    }

    /// Takes an edit back of which something is not ready for this reason; gives what is to be told.
    async fn take_back(&self, begun: &Begun, error: ApiError) -> ApiError {
        let mut held = self.inner.lock().await;
        let how = Editing {
            force: true,
            ..Editing::default()
        };
        let mut stays = Vec::new();
        let edited = held.edit(Subject::Lab, &how, |_, lab| {
            stays = lab.take_back(&begun.before, &begun.after);
            Ok(())
        });
        let taken_back = edited.await;
        match taken_back {
            Ok((changes, _)) => {
                let warnings = changes.warnings.iter();
                warnings.for_each(|warning| tracing::warn!("a change that was not ready is taken back: {warning}"));
                with_kept(error, &stays)
            }
            Err(refused) => {
                let cause = format!(
                    "{}; what was done stays, as it can't be taken back any more: {}: {}",
                    error.cause, refused.object, refused.cause
                );
                ApiError { cause, ..error }
            }
        }
    }
}

/// An error of an edit of which this stays, since others have changed it.
fn with_kept(error: ApiError, stays: &[String]) -> ApiError {
    if stays.is_empty() {
        return error;
    }
    let cause = format!(
        "{}; all else was taken back, but what another edit has changed meanwhile stays: {}",
        error.cause,
        stays.join(", ")
    );
    ApiError { cause, ..error }
}

impl Inner {
    /// Waits while nobody else can change anything.
    ///
    /// # Errors
    /// It has failed before it was ready; its last lines are in the error. Whoever asked is gone meanwhile.
    pub(in super::super) async fn wait_until_ready(&self, process: &Process) -> Result<(), ApiError> {
        let waited = self.processes.wait_until_ready(process, &self.shown.pulse, true);
        waited.await.map_err(NotReady::error)
    }
}

impl Processes {
    /// `locked`: by somebody who has the lock of an edit.
    pub(super) async fn wait_until_ready(
        &self,
        process: &Process,
        pulse: &Pulse,
        locked: bool,
    ) -> Result<(), NotReady> {
        let name = &process.name;
        let within = Duration::from_secs(process.ready.as_ref().map_or(0, |ready| ready.within_secs).into());
        let (mut run, mut until) = (self.run_of(name), Instant::now() + within + GRACE);
        let failed = |cause: &str| Err(NotReady::Failed(text::conflict(object(name), cause)));
        loop {
            let changed = self.changed.notified();
            self.refresh(name);
            match self.readiness(process) {
                Readiness::Ready => return Ok(()),
                Readiness::Failed(cause) => return Err(NotReady::Failed(self.failure(name, &cause))),
                Readiness::Overtaken(cause) => {
                    let error = text::conflict(object(name), format!("{cause} before it was ready"));
                    return Err(NotReady::Overtaken(error));
                }
                Readiness::NotYet => {}
            }
            let now = self.run_of(name);
            if now != run {
                // Somebody has restarted it.
                (run, until) = (now, Instant::now() + within + GRACE);
            }
            if Instant::now() >= until {
                let cause = "its supervisor does not tell whether it runs";
                return Err(NotReady::Failed(self.failure(name, cause)));
            }
            if locked {
                pulse.beat();
            }
            if pulse.is_stopping() {
                let error = text::conflict(object(name), "the daemon is about to stop before it is ready");
                return Err(match locked {
                    true => NotReady::Failed(error.hint("try again")),
                    false => {
                        NotReady::Overtaken(error.hint(format!("`vswitchctl command show {name}` tells how it is")))
                    }
                });
            }
            let is_command = !name.contains(':');
            if is_command && client_is_gone() {
                return failed("its client is gone before it is ready");
            }
            if is_command && locked && pulse.is_hurried() {
                return failed("all is removed before it is ready");
            }
            // Without news it is looked at all the same.
            let _ = timeout(LOOK, changed).await;
        }
    }

    /// By what one run of a process differs from the next.
    fn run_of(&self, name: &str) -> Option<String> {
        self.lock().get(name).map(|live| live.note.id.clone())
    }

    fn readiness(&self, process: &Process) -> Readiness {
        let all = self.lock();
        let Some(live) = all.get(&process.name) else {
            return Readiness::Overtaken("it was ended by another edit");
        };
        if live.process != *process {
            return Readiness::Overtaken("it was changed by another edit");
        }
        let ready = live.process.ready.as_ref();
        let reason = || live.note.reason.clone().unwrap_or_else(|| "it has failed".to_owned());
        match live.note.state {
            // Whatever became of it since.
            _ if live.note.was_ready => Readiness::Ready,
            ProcessState::Running => Readiness::Ready,
            ProcessState::Ended if ready.is_none_or(|ready| ready.done) => Readiness::Ready,
            ProcessState::Ended => Readiness::Failed(format!("{}, before it was ready", reason())),
            ProcessState::Failed | ProcessState::Missing => Readiness::Failed(reason()),
            ProcessState::Starting if live.note.overdue => Readiness::Failed(reason()),
            // One without a check was to run on.
            ProcessState::Waiting if ready.is_none() || live.note.overdue || live.handle.is_none() => {
                Readiness::Failed(reason())
            }
            _ => Readiness::NotYet,
        }
    }
}
