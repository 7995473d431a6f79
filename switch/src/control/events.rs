//! The events, numbered, so that each reader can tell how many it missed, whoever lost them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::broadcast;
use vswitch_api::lab::Description;
use vswitch_api::{Event, EventKind};

use super::Inner;

/// Events that a slow reader may lag behind before it misses some.
const BACKLOG: usize = 1024;

/// Sends events to all that listen.
#[derive(Debug)]
pub(super) struct Events {
    sender: broadcast::Sender<Event>,
    /// Number of the last event.
    last: AtomicU64,
}

impl Events {
    pub fn new() -> Self {
        Self {
            sender: broadcast::channel(BACKLOG).0,
            last: AtomicU64::new(0),
        }
    }

    /// `description`: of the port that it is about.
    pub fn emit(&self, kind: EventKind, description: Description) {
        let seq = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let time_ms = now_ms();
        // Nobody listens: fine.
        let _ = self.sender.send(Event {
            seq,
            time_ms,
            description,
            kind,
        });
    }

    /// So many could not be told to anyone.
    pub fn lose(&self, count: u64) {
        self.last.fetch_add(count, Ordering::Relaxed);
    }

    pub fn subscribe(&self) -> EventReader {
        let receiver = self.sender.subscribe();
        EventReader {
            last: self.last.load(Ordering::Relaxed),
            receiver,
            held: None,
        }
    }
}

impl Inner {
    /// Tells all that listen.
    pub(super) fn emit(&self, kind: EventKind) {
        let port = kind.port().and_then(|name| self.store.port(name));
        let description = port.map(|port| port.description.clone());
        self.shown.events.emit(kind, description.unwrap_or_default());
    }
}

/// Reads events from the time it was made on. What it misses is itself an event.
#[derive(Debug)]
pub struct EventReader {
    receiver: broadcast::Receiver<Event>,
    /// Number of the last event read.
    last: u64,
    /// Comes after the `missed` that stands for the gap before it.
    held: Option<Event>,
}

impl EventReader {
    /// The next event; none when the daemon ends.
    pub async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.held.take() {
            return Some(event);
        }
        let event = loop {
            match self.receiver.recv().await {
                Ok(event) => break event,
                // The numbers tell how many.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        };
        let count = event.seq.saturating_sub(self.last + 1);
        self.last = self.last.max(event.seq);
        if count == 0 {
            return Some(event);
        }
        let missed = Event {
            seq: event.seq - 1,
            time_ms: now_ms(),
            description: Description::default(),
            kind: EventKind::Missed { count },
        };
        self.held = Some(event);
        Some(missed)
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

    #[tokio::test]
    async fn what_was_lost_and_what_was_overrun_is_missed_in_one() {
        let events = Events::new();
        events.emit(aged(0), Description::default());
        let mut reader = events.subscribe();
        let sent = BACKLOG as u32 + 5;
        events.lose(7);
        (1..=sent).for_each(|n| events.emit(aged(n), Description::default()));
        let missed = reader.next().await.unwrap();
        assert_eq!(missed.kind, EventKind::Missed { count: 5 + 7 });
        assert_eq!(missed.seq, 1 + 7 + 5);
        for n in 6..=sent {
            let event = reader.next().await.unwrap();
            assert_eq!((event.kind, event.seq), (aged(n), u64::from(n) + 8));
        }
        drop(events);
        assert_eq!(reader.next().await, None);
    }
}
