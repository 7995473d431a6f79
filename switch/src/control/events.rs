//! The events, numbered, so that each reader can tell how many it missed, whoever lost them. The last ones are kept, so that a reader
//! that lost its connection can go on where it was.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;
use vswitch_api::event::{EVENT_KINDS, EventSelect, Since};
use vswitch_api::lab::Description;
use vswitch_api::{Event, EventKind, Port, SwitchName};

use super::Inner;

/// Events that a slow reader may lag behind before it misses some, and events that are kept for those that come again.
const BACKLOG: usize = 1024;

/// An event with what tells who wants it.
#[derive(Debug)]
struct Happened {
    event: Event,
    /// Of the port that it is about, where the event does not say.
    switch: Option<SwitchName>,
}

/// Sends events to all that listen.
#[derive(Debug)]
pub(super) struct Events {
    sender: broadcast::Sender<Arc<Happened>>,
    /// Tells events of this run of the daemon from those of others, whose numbers are the same.
    run: String,
    kept: Mutex<Kept>,
    /// How many there were of each kind, in the order of [`EVENT_KINDS`].
    counts: [AtomicU64; EVENT_KINDS.len()],
}

#[derive(Debug, Default)]
struct Kept {
    /// Number of the last event.
    last: u64,
    events: VecDeque<Arc<Happened>>,
}

impl Events {
    pub fn new() -> Self {
        Self {
            sender: broadcast::channel(BACKLOG).0,
            run: format!("{:x}", now_ms()),
            kept: Mutex::default(),
            counts: [const { AtomicU64::new(0) }; EVENT_KINDS.len()],
        }
    }

    /// What tells this run of the daemon from others.
    pub fn run(&self) -> &str {
        &self.run
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // What is done under it can't fail half-way.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut kept = self.lock();
        kept.last += 1;
        let event = Event {
            seq: kept.last,
            id: self.id(kept.last),
            time_ms: now_ms(),
            description,
            kind,
        };
        let happened = Arc::new(Happened { event, switch });
        if kept.events.len() == BACKLOG {
            kept.events.pop_front();
        }
        kept.events.push_back(happened.clone());
        // Under the lock, so that all get them in order. Nobody listens: fine.
        let _ = self.sender.send(happened);
    }

    fn id(&self, seq: u64) -> String {
        format!("{}-{seq}", self.run)
    }

    /// So many could not be told to anyone.
    pub fn lose(&self, count: u64) {
        self.lock().last += count;
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
        let kept = self.lock();
        let receiver = self.sender.subscribe();
        let mut reader = EventReader {
            last: kept.last,
            receiver,
            before: VecDeque::new(),
            held: None,
            run: self.run.clone(),
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
        let new = kept.events.iter().filter(|kept| kept.event.seq > reader.last);
        reader.before = new.cloned().collect();
        if let (None, true) = (reader.before.front(), reader.last < kept.last) {
            // All behind it were lost, which no event behind them tells yet.
            let count = kept.last - reader.last;
            reader.held = Some(reader.missed(count, kept.last));
            reader.last = kept.last;
        }
        reader
    }
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
    receiver: broadcast::Receiver<Arc<Happened>>,
    /// Those from before it was made, that it has not yet read.
    before: VecDeque<Arc<Happened>>,
    /// Number of the last event read.
    last: u64,
    /// Comes next, whatever it is.
    held: Option<Event>,
    run: String,
    wanted: EventSelect,
}

impl EventReader {
    /// The next event; none when the daemon ends.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.held.take() {
                return Some(event);
            }
            let happened = match self.before.pop_front() {
                Some(happened) => happened,
                None => match self.receiver.recv().await {
                    Ok(happened) => happened,
                    // The numbers tell how many.
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return None,
                },
            };
            let Happened { event, switch } = &*happened;
            let count = event.seq.saturating_sub(self.last + 1);
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
