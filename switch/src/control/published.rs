//! What answers are made of, and the lock that edits take.
//!
//! An edit may take minutes; a question must not wait for it. So questions are answered from a [`View`], an immutable picture
//! of the model. Whoever changed the model publishes a new one when he lets go of the lock ([`Held`] sees to that), and a long edit
//! does so on its way ([`Inner::step_done`]). Counters and tables are read from the datapath itself and are always new.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};
use vswitch_api::view::Progress;
use vswitch_api::{ApiError, ErrorCode, MirrorName, Port, PortName, SwitchName};

use super::events::Events;
use super::mirror::LiveMirror;
use super::processes::{Begun, Processes};
use super::state::State;
use super::underway::Underway;
use super::{Inner, LivePort};
use vswitch_datapath::{Datapath, SwitchId};
use vswitch_linux::{NamedNamespaces, NetNs};

/// An edit that has not got on for so long hangs: no single step waits for anything but the kernel.
const STALLED: Duration = Duration::from_secs(300);
/// A long edit publishes a picture at most this part of its time.
const SHARE_OF_TIME: u32 = 20;

tokio::task_local! {
    /// Whoever asked for what the task does is gone.
    static CLIENT_GONE: Arc<AtomicBool>;
}

/// Does something for a client: an edit that has not begun when `gone` is set never does.
pub async fn for_client<T>(gone: Arc<AtomicBool>, work: impl Future<Output = T>) -> T {
    CLIENT_GONE.scope(gone, work).await
}

/// Whether there is a client, and it is gone.
pub(super) fn client_is_gone() -> bool {
    matches!(CLIENT_GONE.try_with(|gone| gone.load(Ordering::Relaxed)), Ok(true))
}

/// # Errors
/// There is a client, and it is gone.
pub(super) fn check_client() -> Result<(), ApiError> {
    match client_is_gone() {
        true => Err(ApiError::new(
            ErrorCode::Conflict,
            "request",
            "its client is gone before it began",
        )),
        false => Ok(()),
    }
}

/// A picture of the model.
#[derive(Clone)]
pub(super) struct View {
    pub state: Arc<State>,
    pub ports: BTreeMap<PortName, LivePort>,
    pub switches: BTreeMap<SwitchName, SwitchId>,
    pub mirrors: BTreeMap<MirrorName, LiveMirror>,
    /// When ports are tried again.
    pub retries: BTreeMap<PortName, Instant>,
    pub limits: Vec<String>,
    /// What could not be removed, a line each.
    pub not_removed: Vec<String>,
    /// Why the state is not on the disk, if so.
    pub unsaved: Option<String>,
    pub pulse: Arc<Pulse>,
    /// The lab is being brought back: a port that is not there yet will be.
    pub attaching: bool,
    pub datapath: Arc<Datapath>,
    pub own: NetNs,
    pub home: NetNs,
    pub named: NamedNamespaces,
    pub run_dir: std::path::PathBuf,
    pub processes: Arc<Processes>,
}

impl View {
    pub fn port_of_lab(&self, name: &PortName) -> Option<&Port> {
        self.state.lab.ports.iter().find(|port| port.name == *name)
    }

    /// How far the edit under way has come by now.
    pub fn progress(&self) -> Option<Progress> {
        self.pulse.underway.progress()
    }

    fn of(inner: &Inner, state: Arc<State>) -> Self {
        Self {
            state,
            ports: inner.live.ports.clone(),
            switches: inner.live.switches.clone(),
            mirrors: inner.live.mirrors.clone(),
            retries: inner.retries(),
            limits: inner.shown.limits.clone(),
            not_removed: inner.not_removed(),
            unsaved: inner.store.unsaved.clone(),
            pulse: inner.shown.pulse.clone(),
            attaching: inner.shown.attaching,
            datapath: inner.datapath.clone(),
            own: inner.host.own.clone(),
            home: inner.host.home.clone(),
            named: inner.host.named.clone(),
            run_dir: inner.host.run_dir.clone(),
            processes: inner.processes.clone(),
        }
    }
}

/// The model, behind the lock that edits take.
pub(super) struct Model {
    inner: Mutex<Inner>,
    view: Arc<ArcSwap<View>>,
    pulse: Arc<Pulse>,
}

impl Model {
    pub fn new(mut inner: Inner) -> Self {
        let view = View::of(&inner, Arc::new(inner.store.state.clone()));
        let view = Arc::new(ArcSwap::from_pointee(view));
        inner.shown.view = Some(view.clone());
        Self {
            view,
            pulse: inner.shown.pulse.clone(),
            inner: Mutex::new(inner),
        }
    }

    /// What is known now, without waiting for anybody.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The model itself, when all who asked before have let go of it.
    pub async fn lock(&self) -> Held<'_> {
        let inner = self.inner.lock().await;
        self.pulse.beat();
        Held {
            inner,
            pulse: &self.pulse,
            changed: false,
            begun: None,
        }
    }

    /// Makes edits under way end at their next step; what they did is undone.
    pub fn stop(&self) {
        self.pulse.stopping.store(true, Ordering::Relaxed);
    }

    /// As long as this is there, an edit under way waits for nothing but the kernel: all is to go, also what it waits for with the lock.
    pub fn hurry(&self) -> Hurry {
        self.pulse.hurried.fetch_add(1, Ordering::Relaxed);
        Hurry(self.pulse.clone())
    }

    /// Whether whoever has the lock gets on.
    ///
    /// # Errors
    /// He has not for so long that he hangs.
    pub fn check(&self) -> Result<(), ApiError> {
        self.pulse.check(Instant::now())
    }
}

/// See [`Model::hurry`].
pub(super) struct Hurry(Arc<Pulse>);

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.hurried.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The model as long as one has it. What was changed is published at the end.
pub(super) struct Held<'a> {
    inner: MutexGuard<'a, Inner>,
    pulse: &'a Pulse,
    changed: bool,
    /// What the edit has started and is still to be waited for, when others can have the model: see [`super::Control::finish`].
    pub begun: Option<Begun>,
}

impl Held<'_> {
    /// To do something that changes nothing that answers tell of.
    pub fn unpublished(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Deref for Held<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        self.changed = true;
        &mut self.inner
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.changed {
            self.inner.publish();
        }
        self.pulse.end();
    }
}

/// What of all this others can see.
pub(super) struct Shown {
    pub events: Arc<Events>,
    /// What does not work here, and why.
    pub limits: Vec<String>,
    /// The lab is being brought back.
    pub attaching: bool,
    pub pulse: Arc<Pulse>,
    /// Where a picture of all this is shown; none until there is one.
    pub view: Option<Arc<ArcSwap<View>>>,
    /// When that was done last, and how long it took.
    pub published: (Instant, Duration),
}

impl Inner {
    /// From here on answers are as things are now.
    pub(super) fn publish(&mut self) {
        let Some(view) = &self.shown.view else { return };
        let start = Instant::now();
        let before = view.load();
        // Most of a picture, and seldom another one.
        let same = Some(&before.state).filter(|before| ***before == self.store.state);
        if same.is_none() {
            self.host.guests.changed.notify_one();
        }
        let state = same.map_or_else(|| Arc::new(self.store.state.clone()), Arc::clone);
        view.store(Arc::new(View::of(self, state)));
        self.shown.published = (Instant::now(), start.elapsed());
    }

    /// So many steps of the edit under way are done.
    pub(super) fn step_done(&mut self, steps: usize) {
        self.shown.pulse.beat();
        if !self.shown.pulse.underway.step_done(steps) {
            return;
        }
        let (last, took) = self.shown.published;
        if last.elapsed() >= took * SHARE_OF_TIME {
            self.publish();
        }
    }

    /// To be asked between the parts of whatever takes long: a sign of life, and whether there is time for more. The daemon
    /// that is about to stop leaves the rest to the next one.
    pub(super) fn goes_on(&self) -> bool {
        self.shown.pulse.beat();
        !self.shown.pulse.is_stopping()
    }
}

/// A sign of life of whoever has the lock, and how far he came.
#[derive(Debug)]
pub(super) struct Pulse {
    start: Instant,
    /// Milliseconds after `start`, and 1 more; 0 while nobody has the lock.
    beat: AtomicU64,
    /// How far the edit came.
    pub underway: Underway,
    /// The daemon is about to end.
    stopping: AtomicBool,
    /// So many wait to remove all that there is.
    hurried: AtomicU32,
}

impl Pulse {
    /// `events` are to tell how far edits come.
    pub fn new(events: Arc<Events>) -> Self {
        Self {
            start: Instant::now(),
            beat: AtomicU64::new(0),
            underway: Underway::new(events),
            stopping: AtomicBool::new(false),
            hurried: AtomicU32::new(0),
        }
    }

    /// Whoever has the lock got on.
    pub fn beat(&self) {
        self.beat.store(self.now(Instant::now()), Ordering::Relaxed);
    }

    /// One more of a lot of steps is done.
    pub fn part_done(&self) {
        self.beat();
        self.underway.part_done();
    }

    /// Whether the daemon is about to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether somebody waits to remove all that there is.
    pub fn is_hurried(&self) -> bool {
        self.hurried.load(Ordering::Relaxed) > 0
    }

    /// Nobody has the lock any more. What was done is published already: who sees that nothing is under way sees all of it.
    fn end(&self) {
        self.beat.store(0, Ordering::Relaxed);
        self.underway.end();
    }

    fn now(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_millis() as u64 + 1
    }

    fn check(&self, at: Instant) -> Result<(), ApiError> {
        let beat = self.beat.load(Ordering::Relaxed);
        let silent = Duration::from_millis(self.now(at).saturating_sub(beat));
        if beat == 0 || silent < STALLED {
            return Ok(());
        }
        let cause = format!("the edit under way has not got on for {} s", silent.as_secs());
        Err(ApiError::new(ErrorCode::Internal, "control", cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long edit that gets on is no reason to restart the daemon, however long it takes; one that hangs is.
    #[test]
    fn only_an_edit_that_does_not_get_on_hangs() {
        let pulse = Pulse::new(Arc::new(Events::new()));
        let at = |seconds| pulse.start + Duration::from_secs(seconds);
        let far = STALLED.as_secs() * 100;
        assert_eq!(pulse.check(at(far)), Ok(()), "nobody edits");
        pulse.beat();
        assert_eq!(pulse.check(at(STALLED.as_secs() - 5)), Ok(()));
        assert!(pulse.check(at(STALLED.as_secs() + 5)).is_err());
        pulse.beat.store(pulse.now(at(far)), Ordering::Relaxed);
        assert_eq!(pulse.check(at(far + 10)), Ok(()), "a step was done");
        pulse.end();
        assert_eq!(pulse.check(at(far * 2)), Ok(()));
    }
}
