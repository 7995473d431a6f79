//! What must be there for the lab to go on, and for the next daemon to find it: looked after every few seconds, and put back if
//! somebody took it away.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use vswitch_api::view::PortState;
use vswitch_api::{ApiError, ErrorCode, Port};

use super::earlier::Earlier;
use super::journal::InFlight;
use super::watch::apart;
use super::{Control, Inner, LivePort};
use crate::logging::Repeated;
use vswitch_linux::memory;
use vswitch_linux::netns::hold;
use vswitch_linux::{NetNs, Presence};

/// How often it is looked after.
const TICK: Duration = Duration::from_secs(2);
/// After so many of them memory that was freed is given back: a burst of edits or events needs some for a moment, and the allocator keeps it.
const TICKS_OF_MEMORY: u32 = 5;

/// What could not be put back the last time: told once, not every two seconds.
type Failures = BTreeMap<&'static str, Repeated>;

/// Looks after it, as long as the control is there.
pub(super) async fn keep(control: Weak<Control>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut failures = Failures::new();
    for ticks in (1..=TICKS_OF_MEMORY).cycle() {
        tick.tick().await;
        let Some(control) = control.upgrade() else { return };
        let mut inner = control.inner.lock().await;
        apart(async {
            inner.keep_run_dir(&mut failures);
            inner.keep_names();
            inner.keep_state();
            inner.look_at_cables().await;
            if !inner.live.unsure.is_empty() {
                inner.look_at_the_unsure().await;
            }
            if !inner.live.unlaid.is_empty() {
                inner.lay_again().await;
            }
            inner.look_at_leases();
            inner.renew_lease_files().await;
            inner.keep_gateways().await;
            if inner.has_processes() {
                inner.look_after_processes().await;
            }
        });
        drop(inner);
        if ticks == TICKS_OF_MEMORY {
            apart(async { memory::give_back() });
        }
    }
}

impl Inner {
    /// The daemon holds what lies in the run directory by descriptors besides, so that the files can be made again.
    fn keep_run_dir(&self, failures: &mut Failures) {
        let mut put_back = |what: &'static str, result: io::Result<()>| match result {
            Ok(()) => {
                failures.remove(what);
                tracing::warn!(
                    "run directory {}: {what} was gone and is back",
                    self.host.run_dir.display()
                );
            }
            Err(error) => {
                let text = format!(
                    "run directory {}: {what} is gone and can't be put back: {error}",
                    self.host.run_dir.display()
                );
                failures.entry(what).or_default().error(text);
            }
        };
        if !self.host.run_dir.exists() {
            put_back("the directory itself", fs::create_dir_all(&self.host.run_dir));
        }
        let held = self.host.run_dir.join("netns");
        if self.host.own_is_held && matches!(NetNs::open(&held), Presence::Gone) {
            put_back("the switch's own namespace", hold(&self.host.own, &held));
        }
        if let Some(fast) = &self.fast
            && let Some(result) = fast.put_back()
        {
            put_back("what the kernel forwards by", result);
        }
        if !self.shut.is_noted() {
            put_back("the note of ports that are shut", self.shut.note());
        }
        if let Some(result) = self.keep_forwarding_note() {
            put_back("the note of what forwarding was", result);
        }
        if self.store.left() != InFlight::default() && !self.store.journal.is_there() {
            put_back(
                "the note of what could not be removed",
                self.store.journal.write(&self.store.left()),
            );
        }
    }

    /// A state that could not be written is written as soon as that can be, and one whose file is gone is written again.
    fn keep_state(&mut self) {
        if self.store.unsaved.is_none() {
            if self.shown.attaching || self.store.is_on_disk() {
                return;
            }
            tracing::warn!("the state file was gone and is written again");
        }
        if self.store.save().is_ok() {
            tracing::info!("the state can be written again");
            self.store.close_journal();
        }
    }

    /// A port could not be attached. If that may be for want of something else than its interface, it is tried again soon.
    pub(super) fn still_missing(&mut self, port: &Port, error: &ApiError) {
        if matches!(error.code, ErrorCode::Kernel | ErrorCode::Internal) {
            self.try_again_later(&port.name);
        }
        let mut missing = LivePort::missing(error);
        match self.live.ports.get(&port.name) {
            Some(before) => {
                missing.before = before.before.clone();
                if before.state == PortState::Missing {
                    missing.since = before.since;
                }
            }
            // An edit could not put it back, or it was not there as the daemon started.
            None => {
                let parted = self.live.parted.remove(&port.name);
                missing.before = parted.unwrap_or_else(|| Earlier::new(self.handed.take(&port.name).counters));
            }
        }
        self.live.ports.insert(port.name.clone(), missing);
    }
}
