//! What becomes of processes without a command: namespaces come and go, and supervisors may be ended.

use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;
use vswitch_api::ProcessState;
use vswitch_linux::Presence;

use super::super::Inner;
use super::live::{Live, Processes};
use super::{Process, object};

/// So long the end of what was in a namespace that has gone is waited for: mostly it keeps the namespace, which is looked at next. What
/// takes longer must not keep edits waiting.
const PATIENCE: Duration = Duration::from_millis(500);

impl Inner {
    /// Whether there is something to be looked after.
    pub(in super::super) fn has_processes(&self) -> bool {
        !self.processes.lock().is_empty()
    }

    /// Ends what is in a namespace that has gone, starts what is in one that is back, and what has lost its supervisor.
    pub(in super::super) async fn look_after_processes(&mut self) {
        let processes = self.processes.clone();
        processes.listen();
        let names: Vec<_> = processes.lock().keys().cloned().collect();
        let (mut gone, mut again) = (Vec::new(), Vec::new());
        for name in names {
            processes.refresh(&name);
            let all = processes.lock();
            let Some(live) = all.get(&name).filter(|live| live.ending.is_none()) else {
                continue;
            };
            let is_there = match &live.process.namespace {
                None => true,
                Some(namespace) => match self.host.named.open(namespace) {
                    Presence::Here(netns) => {
                        let there = Some((netns.id().dev, netns.id().ino));
                        let was = live.spec.as_ref().and_then(|spec| spec.netns);
                        live.spec.is_none() || there == was.map(|(dev, ino, _)| (dev, ino))
                    }
                    Presence::Gone => false,
                    // It is looked at again.
                    Presence::Unknown(_) => continue,
                },
            };
            let is_due = live.again.is_some_and(|again| again <= Instant::now());
            if !is_there && live.note.state != ProcessState::Missing {
                gone.push(live.process.clone());
            } else if is_there && live.handle.is_none() && (is_due || (live.spec.is_none() && live.again.is_none())) {
                again.push(live.process.clone());
            }
        }
        self.end_in_gone_namespaces(gone).await;
        for process in again {
            tracing::info!("{}: started again", object(&process.name));
            // Its folder, with its log, goes on.
            self.start_or_wait(process);
        }
    }

    async fn end_in_gone_namespaces(&mut self, gone: Vec<Process>) {
        let processes = self.processes.clone();
        let mut going = Vec::new();
        for process in gone {
            let name = process.name.clone();
            if let Err(error) = processes.folder(&name).remove_spec() {
                tracing::warn!("{}: it can't be noted that it is to end: {error}", object(&name));
                continue;
            }
            let mut missing = Live::missing(process, "its namespace is gone".to_owned());
            let ending = processes.next_ending();
            missing.ending = Some(ending);
            processes.say(&name, &missing.note);
            going.push((processes.lock().insert(name.clone(), missing), name, ending));
        }
        let ending = going.into_iter().map(|(live, name, ending)| {
            let processes = processes.clone();
            async move {
                let ended = processes.end(&name, live).await;
                if let Err(cause) = processes.forget_ended(&name, ending, ended) {
                    tracing::warn!("{}: {cause}", object(&name));
                }
            }
        });
        let ending = tokio::spawn(join_all(ending.collect::<Vec<_>>()));
        // It goes on by itself.
        let _ = timeout(PATIENCE, ending).await;
    }
}

impl Processes {
    /// Forgets one that has ended with its namespace, unless a command has come between and begun another.
    fn forget_ended(&self, name: &str, ending: u64, ended: Result<(), String>) -> Result<(), String> {
        let mut all = self.lock();
        let Some(live) = all.get_mut(name).filter(|live| live.ending == Some(ending)) else {
            return ended;
        };
        live.ending = None;
        ended.and_then(|()| self.forget(name))
    }
}
