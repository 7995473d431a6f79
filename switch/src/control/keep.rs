//! What must be there for the lab to go on, and for the next daemon to find it: looked after every few seconds, and put back if
//! somebody took it away.

use std::fs;
use std::mem;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::journal::InFlight;
use super::{Control, Inner};
use crate::kernel::netns::hold;
use crate::kernel::{NetNs, Presence};

/// How often it is looked after.
const TICK: Duration = Duration::from_secs(2);

/// Looks after it, as long as the control is there.
pub(super) async fn keep(control: Weak<Control>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        inner.keep_run_dir();
        inner.keep_state();
        let again = mem::take(&mut inner.again);
        if !again.is_empty() {
            inner.reattach_missing(|port| again.contains(&port.name)).await;
        }
    }
}

impl Inner {
    /// The daemon holds what lies in the run directory by descriptors besides, so that the files can be made again.
    fn keep_run_dir(&self) {
        let put_back = |what: &str, result: std::io::Result<()>| match result {
            Ok(()) => tracing::warn!("run directory {}: {what} was gone and is back", self.run_dir.display()),
            Err(error) => tracing::error!(
                "run directory {}: {what} is gone and can't be put back: {error}",
                self.run_dir.display()
            ),
        };
        if !self.run_dir.exists() {
            put_back("the directory itself", fs::create_dir_all(&self.run_dir));
        }
        let held = self.run_dir.join("netns");
        if self.own_is_held && matches!(NetNs::open(&held), Presence::Gone) {
            put_back("the switch's own namespace", hold(&self.own, &held));
        }
        if let Some(fast) = &self.fast
            && let Some(result) = fast.put_back()
        {
            put_back("what the kernel forwards by", result);
        }
        if self.left() != InFlight::default() && !self.journal.is_there() {
            put_back(
                "the note of what could not be removed",
                self.journal.write(&self.left()),
            );
        }
    }

    /// A state that could not be written is written as soon as that can be.
    fn keep_state(&mut self) {
        if self.unsaved.is_some() && self.save().is_ok() {
            tracing::info!("the state can be written again");
            self.close_journal();
        }
    }
}
