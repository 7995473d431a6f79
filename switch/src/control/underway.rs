//! How far the edit under way came: what the status tells, and of a longer one all who hear events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vswitch_api::EventKind;
use vswitch_api::lab::Description;
use vswitch_api::view::Progress;

use super::events::Events;

/// An edit that takes less is over before anybody wonders how far it is.
const SILENT: Duration = Duration::from_millis(300);
/// A longer one is told of once in this time.
const EVERY: Duration = Duration::from_millis(200);

/// How far the edit under way came.
#[derive(Debug)]
pub(super) struct Underway {
    edit: Mutex<Option<Edit>>,
    events: Arc<Events>,
}

#[derive(Debug)]
struct Edit {
    /// Steps that are done in order.
    progress: Progress,
    /// Of a lot of steps that are taken together so many are done too.
    parts: u32,
    began: Instant,
    told: Option<Instant>,
}

impl Edit {
    fn progress(&self) -> Progress {
        let done = (self.progress.done + self.parts).min(self.progress.of);
        Progress {
            done,
            ..self.progress.clone()
        }
    }

    /// Whether it is time to tell of it.
    fn is_due(&self, now: Instant) -> bool {
        match self.told {
            Some(told) => now.saturating_duration_since(told) >= EVERY,
            None => self.is_long(now),
        }
    }

    fn is_long(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= SILENT
    }
}

impl Underway {
    pub fn new(events: Arc<Events>) -> Self {
        Self {
            edit: Mutex::default(),
            events,
        }
    }

    /// An edit of so many steps begins.
    pub fn begin(&self, what: &str, of: usize) {
        self.begin_at(what, of, Instant::now());
    }

    /// How far it is; none: there is none.
    pub fn progress(&self) -> Option<Progress> {
        self.edit().as_ref().map(Edit::progress)
    }

    /// One more of a lot of steps that are taken together is done.
    pub fn part_done(&self) {
        self.went_on(Instant::now(), |edit| edit.parts += 1);
    }

    /// So many steps are done, with their parts. Whether there is an edit that they are of.
    pub fn step_done(&self, steps: usize) -> bool {
        self.went_on(Instant::now(), |edit| {
            edit.progress.done += steps as u32;
            edit.parts = 0;
        })
    }

    /// It is over, be it done or undone.
    pub fn end(&self) {
        self.end_at(Instant::now());
    }

    fn begin_at(&self, what: &str, of: usize, now: Instant) {
        let progress = Progress {
            what: what.to_owned(),
            done: 0,
            of: of as u32,
        };
        *self.edit() = Some(Edit {
            progress,
            parts: 0,
            began: now,
            told: None,
        });
    }

    fn went_on(&self, now: Instant, count: impl FnOnce(&mut Edit)) -> bool {
        let mut edit = self.edit();
        let Some(edit) = edit.as_mut() else { return false };
        count(edit);
        if edit.is_due(now) {
            edit.told = Some(now);
            self.tell(edit.progress(), false);
        }
        true
    }

    fn end_at(&self, now: Instant) {
        let Some(edit) = self.edit().take() else { return };
        if edit.told.is_some() || edit.is_long(now) {
            self.tell(edit.progress(), true);
        }
    }

    fn tell(&self, progress: Progress, over: bool) {
        let Progress { what, done, of } = progress;
        self.events
            .emit(EventKind::Progress { what, done, of, over }, Description::default());
    }

    fn edit(&self) -> MutexGuard<'_, Option<Edit>> {
        self.edit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was told: done, and whether it was over.
    async fn told(events: &Arc<Events>, underway: impl FnOnce(Underway)) -> Vec<(u32, bool)> {
        let mut reader = events.subscribe();
        underway(Underway::new(events.clone()));
        // Something to know the end by.
        events.emit(EventKind::Missed { count: 0 }, Description::default());
        let mut told = Vec::new();
        while let Some(EventKind::Progress { done, over, .. }) = reader.next().await.map(|event| event.kind) {
            told.push((done, over));
        }
        told
    }

    fn step(underway: &Underway, now: Instant) {
        assert!(underway.went_on(now, |edit| edit.parts += 1));
    }

    #[tokio::test]
    async fn a_longer_edit_is_told_of_now_and_then_and_at_its_end() {
        let events = Arc::new(Events::new());
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let edit = |underway: Underway| {
            underway.begin_at("a change", 1000, now);
            (1..=1000).for_each(|ms| step(&underway, at(ms)));
            assert_eq!(underway.progress().unwrap().done, 1000);
            underway.end_at(at(1001));
            assert_eq!(underway.progress(), None);
        };
        let expected = [(300, false), (500, false), (700, false), (900, false), (1000, true)];
        assert_eq!(told(&events, edit).await, expected);
    }

    #[tokio::test]
    async fn a_short_one_is_not() {
        let events = Arc::new(Events::new());
        let now = Instant::now();
        let edit = |underway: Underway| {
            underway.begin_at("a change", 2, now);
            step(&underway, now);
            step(&underway, now);
            underway.end_at(now);
            assert!(!underway.step_done(1), "there is none");
        };
        assert_eq!(told(&events, edit).await, []);
    }

    #[tokio::test]
    async fn the_end_of_one_that_failed_is_told() {
        let events = Arc::new(Events::new());
        let now = Instant::now();
        let edit = |underway: Underway| {
            underway.begin_at("a change", 9, now);
            step(&underway, now);
            underway.end_at(now + SILENT);
        };
        assert_eq!(told(&events, edit).await, [(1, true)]);
    }
}
