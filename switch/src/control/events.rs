//! The events, numbered, so that each reader can tell how many it missed, whoever lost them. The last ones are kept, so that a reader
//! that lost its connection can go on where it was.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use vswitch_api::difference::SettingChange;
use vswitch_api::event::{EVENT_KINDS, EventSelect, Since};
use vswitch_api::lab::Description;
use vswitch_api::{Event, EventKind, Port, SwitchName};

use super::Inner;

/// Events that are kept, of stations and of all else, for readers that are slow or come again: what they have not read when it goes, they miss.
const BACKLOG: usize = 1024;
/// What those may take, roughly: the settings of some events are long lists. The last one is kept, whatever it takes.
const BACKLOG_BYTES: usize = 4 << 20;

/// Kinds of which there are many at once.
const OF_STATIONS: [&str; 3] = ["fdb-learned", "fdb-moved", "fdb-aged"];

/// An event with what tells who wants it.
#[derive(Debug)]
struct Happened {
    event: Event,
    /// Of the port that it is about, where the event does not say.
    switch: Option<SwitchName>,
    /// What it takes of the memory, roughly.
    bytes: usize,
}

/// Sends events to all that listen.
#[derive(Debug)]
pub(super) struct Events {
    /// Wakes readers.
    news: watch::Sender<()>,
    /// Tells events of this run of the daemon from those of others, whose numbers are the same.
    run: String,
    kept: Arc<Mutex<Kept>>,
    /// How many there were of each kind, in the order of [`EVENT_KINDS`].
    counts: [AtomicU64; EVENT_KINDS.len()],
}

#[derive(Debug, Default)]
struct Kept {
    /// Number of the last event.
    last: u64,
    /// That stations were learned, moved or aged, of which there are thousands a second in a storm: they drive nothing else out.
    of_stations: Backlog,
    others: Backlog,
}

#[derive(Debug, Default)]
struct Backlog {
    events: VecDeque<Arc<Happened>>,
    /// What they take together.
    bytes: usize,
    /// Number of the last one that is kept no more.
    gone: u64,
}

impl Backlog {
    fn push(&mut self, happened: Happened) {
        self.bytes += happened.bytes;
        self.events.push_back(Arc::new(happened));
        while self.events.len() > BACKLOG || (self.bytes > BACKLOG_BYTES && self.events.len() > 1) {
            if let Some(gone) = self.events.pop_front() {
                self.bytes -= gone.bytes;
                self.gone = gone.event.seq;
            }
        }
    }

    /// The first that is kept behind one of a number.
    fn behind(&self, seq: u64) -> Option<&Arc<Happened>> {
        let at = self.events.partition_point(|kept| kept.event.seq <= seq);
        self.events.get(at)
    }
}

impl Kept {
    fn push(&mut self, happened: Happened) {
        match is_of_a_station(&happened.event.kind) {
            true => self.of_stations.push(happened),
            false => self.others.push(happened),
        }
    }

    /// The first that is kept behind one of a number; `all`: of those of stations too.
    fn behind(&self, seq: u64, all: bool) -> Option<&Arc<Happened>> {
        let of_stations = self.of_stations.behind(seq).filter(|_| all);
        let both = of_stations.into_iter().chain(self.others.behind(seq));
        both.min_by_key(|happened| happened.event.seq)
    }

    /// Whether one that is wanted may have gone behind one of a number.
    fn lacks(&self, seq: u64, all: bool) -> bool {
        all || self.others.gone > seq
    }
}

/// Of those that [`Kept::of_stations`] has.
fn is_of_a_station(kind: &EventKind) -> bool {
    OF_STATIONS.contains(&kind.as_str())
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // What is done under it can't fail half-way.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Events {
    pub fn new() -> Self {
        Self {
            news: watch::channel(()).0,
            run: format!("{:x}", now_ms()),
            kept: Arc::default(),
            counts: [const { AtomicU64::new(0) }; EVENT_KINDS.len()],
        }
    }

    /// What tells this run of the daemon from others.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// `description`: of the port that it is about.
    pub fn emit(&self, kind: EventKind, description: Description) {
        self.emit_of(kind, description, None);
    }

    /// The same; `switch`: that of the port.
    pub fn emit_of(&self, kind: EventKind, description: Description, switch: Option<SwitchName>) {
        if let Some(count) = self.counts.get(kind.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let bytes = size_of::<Happened>() + held(&kind);
        let mut kept = lock(&self.kept);
        kept.last += 1;
        let event = Event {
            seq: kept.last,
            id: self.id(kept.last),
            time_ms: now_ms(),
            description,
            kind,
        };
        kept.push(Happened { event, switch, bytes });
        drop(kept);
        self.news.send_replace(());
    }

    fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.run)
    }

    /// So many could not be told to anyone.
    pub fn lose(&self, count: u64) {
        lock(&self.kept).last += count;
    }

    /// How many there were of each kind, lost ones excepted.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        EVENT_KINDS.iter().copied().zip(counts)
    }

    /// All events from now on.
    pub fn subscribe(&self) -> EventReader {
        self.subscribe_to(EventSelect::default())
    }

    /// Those that are wanted: from now on, or from behind one that was read before.
    pub fn subscribe_to(&self, wanted: EventSelect) -> EventReader {
        let kept = lock(&self.kept);
        let mut reader = EventReader {
            last: kept.last,
            news: self.news.subscribe(),
            kept: self.kept.clone(),
            held: None,
            run: self.run.clone(),
            all: wanted
                .kind
                .as_ref()
                .is_none_or(|kinds| OF_STATIONS.iter().any(|kind| kinds.has(kind))),
            wanted,
        };
        let Some(Since { run, seq }) = &reader.wanted.since else {
            return reader;
        };
        if *run == self.run && *seq <= kept.last {
            reader.last = *seq;
        } else {
            // How many of the other run it missed nobody knows.
            reader.held = Some(reader.missed(0, 0));
            reader.last = 0;
        }
        let is_last = kept.behind(reader.last, reader.all).is_none();
        if reader.last < kept.last && is_last && kept.lacks(reader.last, reader.all) {
            // All behind it were lost, which no event behind them tells yet.
            let count = kept.last - reader.last;
            reader.held = Some(reader.missed(count, kept.last));
            reader.last = kept.last;
        }
        reader
    }
}

/// What the settings that an event tells take of the memory, roughly.
fn held(kind: &EventKind) -> usize {
    let (EventKind::PortSet { changes, .. } | EventKind::SwitchSet { changes, .. }) = kind else {
        return 0;
    };
    changes.iter().map(SettingChange::bytes).sum()
}

impl Inner {
    /// Tells all that listen.
    pub(super) fn emit(&self, kind: EventKind) {
        match kind.port().and_then(|name| self.store.port(name)) {
            Some(port) => self.emit_of_port(port, kind),
            None => self.shown.events.emit(kind, Description::default()),
        }
    }

    /// The same of a port that may not be in the lab.
    pub(super) fn emit_of_port(&self, port: &Port, kind: EventKind) {
        let events = &self.shown.events;
        events.emit_of(kind, port.description.clone(), Some(port.switch.clone()));
    }
}

/// Reads the events that are wanted. What it misses is itself an event.
#[derive(Debug)]
pub struct EventReader {
    news: watch::Receiver<()>,
    kept: Arc<Mutex<Kept>>,
    /// Number of the last event read.
    last: u64,
    /// Comes next, whatever it is.
    held: Option<Event>,
    run: String,
    wanted: EventSelect,
    /// Those of stations may be wanted.
    all: bool,
}

impl EventReader {
    /// The next event; none when the daemon ends.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.held.take() {
                return Some(event);
            }
            let (happened, lacks) = self.read().await?;
            let Happened { event, switch, .. } = &*happened;
            // Of whatever kind.
            let count = if lacks {
                event.seq.saturating_sub(self.last + 1)
            } else {
                0
            };
            self.last = self.last.max(event.seq);
            let wanted = self.wanted.wants(&event.kind, switch.as_ref());
            if count == 0 && wanted {
                return Some(event.clone());
            }
            if count > 0 {
                // The event comes after what stands for the gap before it.
                self.held = wanted.then(|| event.clone());
                return Some(self.missed(count, event.seq - 1));
            }
        }
    }

    /// The first behind the last one that was read; those that are not kept any more are passed over. And whether one that is wanted may be
    /// among these.
    async fn read(&mut self) -> Option<(Arc<Happened>, bool)> {
        loop {
            // Before it is looked for, so that what comes in between wakes.
            self.news.mark_unchanged();
            let next = self.look();
            if next.is_some() {
                return next;
            }
            if self.news.changed().await.is_err() {
                // No more come. The last may have come meanwhile.
                return self.look();
            }
        }
    }

    fn look(&self) -> Option<(Arc<Happened>, bool)> {
        let kept = lock(&self.kept);
        let next = kept.behind(self.last, self.all)?;
        Some((next.clone(), kept.lacks(self.last, self.all)))
    }

    fn missed(&self, count: u64, seq: u64) -> Event {
        Event {
            seq,
            id: format!("{}-{seq}", self.run),
            time_ms: now_ms(),
            description: Description::default(),
            kind: EventKind::Missed { count },
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

#[cfg(test)]
mod tests;
