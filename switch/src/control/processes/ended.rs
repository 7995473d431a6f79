//! Supervisors that are gone: what they leave, if somebody else ended them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::task::spawn_blocking;
use vswitch_api::ProcessState;
use vswitch_linux::process::{self, Handle, Stat};

use super::live::{LONGEST_WAIT, Live, Processes, now_ms};
use crate::supervisor::notes::{Note, VARIABLE};

/// How often what is left is killed: what forks on and on is faster than one look.
const KILLS: u32 = 100;
const BETWEEN_KILLS: Duration = Duration::from_millis(20);

impl Live {
    /// Tries it again later, and ever later.
    pub fn put_off(&mut self) {
        self.again = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
    }
}

/// The supervisor of one has ended. If it was not its time, all that it started goes, and it is started again soon.
pub(super) async fn ended(processes: &Arc<Processes>, name: &str, id: &str) {
    processes.refresh(name);
    let lost = {
        let mut all = processes.lock();
        let Some(live) = all
            .get_mut(name)
            .filter(|live| live.spec.as_ref().is_some_and(|spec| spec.id == id))
        else {
            // It was stopped.
            return;
        };
        live.handle = None;
        if live.is_over() {
            None
        } else {
            live.note.state = ProcessState::Waiting;
            live.note.reason = Some("its supervisor was ended by somebody else".to_owned());
            live.note.since_ms = now_ms();
            live.note.pid = None;
            live.put_off();
            processes.say(name, &live.note);
            Some(live.note.clone())
        }
    };
    if let Some(note) = lost {
        end_left(note, true).await;
    }
    processes.changed.notify_waiters();
}

/// Ends what descends from a supervisor that is gone; `seen`: just now, as this daemon has seen. Whether nothing is left.
pub(super) async fn end_left(note: Note, seen: bool) -> bool {
    let ending = spawn_blocking(move || {
        for _ in 0..KILLS {
            let left = left_of(&note, seen);
            if left.is_empty() {
                return true;
            }
            for stat in left {
                if let Ok(Some(process)) = Handle::open(stat.pid, stat.start) {
                    let _ = process.signal(Signal::SIGKILL);
                }
            }
            thread::sleep(BETWEEN_KILLS);
        }
        false
    });
    ending.await.unwrap_or(false)
}

/// What is in its session, or has its id in the environment.
fn left_of(note: &Note, seen: bool) -> Vec<Stat> {
    let (session, start) = note.supervisor;
    // Of a leader that is gone for longer the number may be another's by now, whose leader is gone too: as of each daemon that forked
    // twice.
    let is_ours = session != 0
        && note.is_of_here()
        && match process::stat(session) {
            Some(leader) => leader.start == start,
            None => seen,
        };
    let variable = format!("{VARIABLE}={}", note.id);
    let own = std::process::id();
    let all = process::all().unwrap_or_default().into_iter();
    let all = all.filter(|stat| !stat.zombie && stat.pid != own);
    all.filter(|stat| (is_ours && stat.session == session) || process::has_variable(stat.pid, &variable))
        .collect()
}
