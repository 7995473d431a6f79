//! Ending processes, with all that is left of them.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use nix::sys::signal::Signal;
use tokio::time::{sleep, timeout};
use vswitch_api::ProcessState;

use super::super::Inner;
use super::live::{Live, Processes};
use super::{ended, object};
use crate::supervisor::notes::Note;

/// What a supervisor has more time for than the process: it kills what does not end, and looks every two seconds whether it is wanted.
const GRACE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// For one of which nothing is known, which is mostly about to begin or to end.
const LONGEST_STOP: Duration = Duration::from_secs(60);

impl Inner {
    /// Ends those of these that there are, together, whatever daemon started them.
    pub(in super::super) async fn stop_processes(&mut self, names: &[String], warnings: &mut Vec<String>) {
        let stopping = names.iter().map(|name| {
            let processes = self.processes.clone();
            async move { (name, processes.stop(name).await) }
        });
        let mut ending = std::pin::pin!(join_all(stopping));
        let all = loop {
            match timeout(Duration::from_secs(1), &mut ending).await {
                Ok(all) => break all,
                // Not given up when the daemon is about to stop.
                Err(_) => self.shown.pulse.beat(),
            }
        };
        for (name, stopped) in all {
            if let Err(cause) = stopped {
                warnings.push(format!("{}: {cause}", object(name)));
            }
        }
        self.processes.leave_if_empty();
    }
}

impl Processes {
    /// # Errors
    /// Something is left of it.
    async fn stop(self: &Arc<Self>, name: &str) -> Result<(), String> {
        let folder = self.folder(name);
        // From here on a supervisor that has not begun never does, and one that nobody can reach ends by itself.
        folder
            .remove_spec()
            .map_err(|error| format!("it can't be noted that it is to end: {error}"))?;
        let live = self.lock().remove(name);
        self.end(name, live).await?;
        self.forget(name)
    }

    /// Ends what there is of one whose spec is gone. Its folder, with its log, stays.
    ///
    /// # Errors
    /// Something is left of it.
    pub(super) async fn end(&self, name: &str, live: Option<Live>) -> Result<(), String> {
        let folder = self.folder(name);
        let note = folder
            .note()
            .ok()
            .or_else(|| live.as_ref().map(|live| live.note.clone()));
        let known = live.as_ref().and_then(|live| live.handle.clone());
        let noted = || note.as_ref()?.handle().ok().flatten().map(Arc::new);
        let handle = known.or_else(noted);
        let within = match &live {
            Some(live) => Duration::from_secs(live.process.stop_secs.into()) + GRACE,
            None => LONGEST_STOP + GRACE,
        };
        if let Some(handle) = &handle {
            let signalled = handle.signal(Signal::SIGTERM);
            let ended = timeout(within, handle.ended()).await;
            if signalled.is_err() || !matches!(ended, Ok(Ok(()))) {
                let _ = handle.signal(Signal::SIGKILL);
                let _ = timeout(GRACE, handle.ended()).await;
            }
        }
        self.wait_for_lock(name).await;
        let left = note.unwrap_or_else(|| Note {
            id: "none".to_owned(),
            ..Note::default()
        });
        // A supervisor that has ended in peace has left nothing.
        let in_peace =
            matches!(folder.note(), Ok(note) if matches!(note.state, ProcessState::Ended | ProcessState::Failed));
        let all_ended = in_peace || ended::end_left(left, handle.is_some()).await;
        if let Some(live) = live
            && !live.is_over()
            // Where its namespace is gone that was told.
            && !self.lock().contains_key(name)
        {
            let mut note = live.note;
            note.state = ProcessState::Ended;
            note.reason = Some("it was stopped".to_owned());
            self.say(name, &note);
        }
        self.changed.notify_waiters();
        if !all_ended {
            return Err("a process of it can't be ended; `ps -e` shows it".to_owned());
        }
        Ok(())
    }

    /// Removes the folder of one that has ended, with its log.
    ///
    /// # Errors
    /// It can't be removed.
    pub(super) fn forget(&self, name: &str) -> Result<(), String> {
        let folder = self.folder(name);
        match fs::remove_dir_all(folder.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!(
                "its folder {} can't be removed: {error}",
                folder.path().display()
            )),
            _ => Ok(()),
        }
    }

    /// A supervisor that has no note yet is about to see that it is not wanted.
    async fn wait_for_lock(&self, name: &str) {
        let folder = self.folder(name);
        let until = Instant::now() + GRACE;
        while folder.path().exists() && matches!(folder.lock(), Ok(None)) && Instant::now() < until {
            sleep(LOOK).await;
        }
    }
}
