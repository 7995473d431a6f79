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
mod tests {
    use super::*;

    fn aged(count: u32) -> EventKind {
        let switch = "main".parse().unwrap();
        EventKind::FdbAged { switch, count }
    }

    fn emit(events: &Events, kind: EventKind) {
        events.emit(kind, Description::default());
    }

    fn since(id: &str) -> EventSelect {
        EventSelect {
            since: Some(id.parse().unwrap()),
            ..EventSelect::default()
        }
    }

    #[tokio::test]
    async fn what_was_lost_and_what_was_overrun_is_missed_in_one() {
        let events = Events::new();
        emit(&events, aged(0));
        let mut reader = events.subscribe();
        let sent = BACKLOG as u32 + 5;
        events.lose(7);
        (1..=sent).for_each(|n| emit(&events, aged(n)));
        let missed = reader.next().await.unwrap();
        assert_eq!(missed.kind, EventKind::Missed { count: 5 + 7 });
        assert_eq!(missed.seq, 1 + 7 + 5);
        for n in 6..=sent {
            let event = reader.next().await.unwrap();
            assert_eq!((event.kind, event.seq), (aged(n), u64::from(n) + 8));
        }
        assert_eq!(
            events.counts().find(|(kind, _)| *kind == "fdb-aged"),
            Some(("fdb-aged", u64::from(sent) + 1))
        );
        drop(events);
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn who_comes_again_goes_on_where_it_was() {
        let events = Events::new();
        let mut first = events.subscribe();
        (1..=3).for_each(|n| emit(&events, aged(n)));
        let read = first.next().await.unwrap();
        let mut again = events.subscribe_to(since(&read.id));
        emit(&events, aged(4));
        for n in 2..=4 {
            assert_eq!(again.next().await.unwrap().kind, aged(n));
        }
        // What is not kept any more is missed.
        (5..=BACKLOG as u32 + 10).for_each(|n| emit(&events, aged(n)));
        let mut late = events.subscribe_to(since(&read.id));
        assert_eq!(late.next().await.unwrap().kind, EventKind::Missed { count: 9 });
        assert_eq!(late.next().await.unwrap().kind, aged(11));
        // So is what nobody could be told, though nothing came behind it.
        let last = Events::new();
        emit(&last, aged(1));
        last.lose(3);
        let mut told = last.subscribe_to(since(&last.id(1)));
        assert_eq!(told.next().await.unwrap().kind, EventKind::Missed { count: 3 });
        emit(&last, aged(2));
        assert_eq!(told.next().await.unwrap().kind, aged(2));
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_by_its_size_too() {
        let events = Events::new();
        let mut reader = events.subscribe();
        let long: Vec<_> = (0..BACKLOG_BYTES / 10_000).map(|n| format!("{n}")).collect();
        let set = || EventKind::SwitchSet {
            switch: "main".parse().unwrap(),
            changes: vec![SettingChange {
                key: "subnets".to_owned(),
                after: Some(long.clone().into()),
                ..SettingChange::default()
            }],
        };
        (0..BACKLOG).for_each(|_| emit(&events, set()));
        let (kept, bytes) = {
            let kept = lock(&events.kept);
            (kept.others.events.len(), kept.others.bytes)
        };
        assert!(
            (10..BACKLOG / 2).contains(&kept) && bytes <= BACKLOG_BYTES,
            "{kept} events of {bytes} bytes"
        );
        let count = (BACKLOG - kept) as u64;
        assert_eq!(reader.next().await.unwrap().kind, EventKind::Missed { count });
        assert_eq!(reader.next().await.unwrap().kind, set());
        // Of one that is larger than all together at least the reader of now has it.
        let huge = EventKind::PortSet {
            port: "red".parse().unwrap(),
            changes: vec![SettingChange {
                before: Some("x".repeat(2 * BACKLOG_BYTES).into()),
                ..SettingChange::default()
            }],
        };
        let mut reader = events.subscribe();
        emit(&events, huge.clone());
        assert_eq!(reader.next().await.unwrap().kind, huge);
        let small = EventKind::SwitchAdded {
            switch: "main".parse().unwrap(),
        };
        emit(&events, small);
        assert_eq!(lock(&events.kept).others.events.len(), 1);
    }

    /// Who waits for word of a loop does not miss it for the stations that the loop shows everywhere.
    #[tokio::test]
    async fn stations_drive_nothing_else_out() {
        let events = Events::new();
        let added = |name: &str| EventKind::SwitchAdded {
            switch: name.parse().unwrap(),
        };
        let many = || (0..2 * BACKLOG as u32).for_each(|n| emit(&events, aged(n)));
        let wanted = EventSelect {
            kind: Some("switch-added".parse().unwrap()),
            ..EventSelect::default()
        };
        let (mut one, mut all) = (events.subscribe_to(wanted.clone()), events.subscribe());
        many();
        emit(&events, added("a"));
        many();
        emit(&events, added("b"));
        events.lose(5);
        assert_eq!(one.next().await.unwrap().kind, added("a"));
        let last = one.next().await.unwrap();
        assert_eq!(last.kind, added("b"));
        // Who wants all is told of what it missed around them.
        let each = [
            EventKind::Missed { count: 2048 },
            added("a"),
            EventKind::Missed { count: 1024 },
        ];
        for kind in each {
            assert_eq!(all.next().await.unwrap().kind, kind);
        }
        // Who comes again has missed nothing by stations alone, and is told where there is more.
        let since = |id: &str| EventSelect {
            since: Some(id.parse().unwrap()),
            ..wanted.clone()
        };
        let mut again = events.subscribe_to(since(&last.id));
        emit(&events, added("c"));
        assert_eq!(again.next().await.unwrap().kind, added("c"));
        (0..BACKLOG).for_each(|_| emit(&events, added("d")));
        let mut late = events.subscribe_to(since(&last.id));
        let missed = late.next().await.unwrap().kind;
        assert!(matches!(missed, EventKind::Missed { .. }), "{missed:?}");
        assert_eq!(late.next().await.unwrap().kind, added("d"));
    }

    #[tokio::test]
    async fn who_knows_another_run_is_told_so() {
        let events = Events::new();
        (1..=2).for_each(|n| emit(&events, aged(n)));
        for id in ["0-1".to_owned(), events.id(9)] {
            let mut reader = events.subscribe_to(since(&id));
            assert_eq!(
                reader.next().await.unwrap().kind,
                EventKind::Missed { count: 0 },
                "{id}"
            );
            assert_eq!(reader.next().await.unwrap().kind, aged(1));
            assert_eq!(reader.next().await.unwrap().kind, aged(2));
        }
    }

    #[tokio::test]
    async fn only_what_is_wanted_is_read() {
        let events = Events::new();
        let wanted = EventSelect {
            port: Some("red".parse().unwrap()),
            ..EventSelect::default()
        };
        let mut reader = events.subscribe_to(wanted);
        let set = |port: &str| EventKind::PortSet {
            port: port.parse().unwrap(),
            changes: Vec::new(),
        };
        emit(&events, aged(1));
        emit(&events, set("blue"));
        emit(&events, set("red"));
        // A gap is told of whoever reads.
        events.lose(2);
        emit(&events, aged(2));
        assert_eq!(reader.next().await.unwrap().kind, set("red"));
        assert_eq!(reader.next().await.unwrap().kind, EventKind::Missed { count: 2 });
        drop(events);
        assert_eq!(reader.next().await, None);
    }
}
