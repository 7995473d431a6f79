//! How many may be connected: in sum, and of one client.
//!
//! Whoever is connected holds descriptors and memory. So connections and streams have bounds, of which one client gets a part
//! only, and streams leave room for short requests. A connection on which the daemon waits for its client (the rest of a request,
//! the next one, the reading of an answer) is closed when its place is needed: the one that has waited longest goes first.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use tokio::sync::Notify;

use super::error::Failure;

/// Connections at the same time. Bounded so that clients can't use up the file descriptors that ports need.
const MAX_CONNECTIONS: usize = 256;
/// Of those, connections that carry a stream: events, a capture, a live trace.
const MAX_STREAMS: usize = 128;
/// Connections of one client.
const CLIENT_CONNECTIONS: usize = 224;
/// Streams of one client.
const CLIENT_STREAMS: usize = 64;

/// Whose connections are counted together: a process of root's, or all that another user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Process(i32),
    User(u32),
    /// The kernel does not tell.
    Unknown,
}

impl Client {
    pub fn of(credentials: Option<tokio::net::unix::UCred>) -> Self {
        match credentials {
            Some(peer) if peer.uid() == 0 => peer.pid().map_or(Self::Unknown, Self::Process),
            Some(peer) => Self::User(peer.uid()),
            None => Self::Unknown,
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Unknown => f.write_str("a client without credentials"),
        }
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client is waited for, since then.
    Waiting(Instant),
    /// A request is carried out.
    Busy,
    /// The answer is a stream.
    Streaming,
}

#[derive(Debug)]
struct Taken {
    client: Client,
    phase: Phase,
    /// No request has come by it yet.
    is_new: bool,
    close: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    taken: BTreeMap<u64, Taken>,
}

impl Table {
    fn count(&self, which: impl Fn(&Taken) -> bool) -> usize {
        self.taken.values().filter(|taken| which(taken)).count()
    }

    /// Closes the connection of those that has waited longest for its client; false: none waits.
    fn make_room(&mut self, among: impl Fn(&Taken) -> bool) -> bool {
        let waiting = self.taken.iter().filter(|(_, taken)| among(taken));
        let waiting = waiting.filter_map(|(id, taken)| match taken.phase {
            Phase::Waiting(since) => Some((since, *id)),
            Phase::Busy | Phase::Streaming => None,
        });
        let Some(taken) = waiting.min().and_then(|(_, id)| self.taken.remove(&id)) else {
            return false;
        };
        taken.close.notify_one();
        true
    }
}

/// All places, taken or not.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots(Arc<Mutex<Table>>);

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change is one step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a connection of which no request was read yet.
    pub fn any_new(&self) -> bool {
        self.lock().count(|taken| taken.is_new) > 0
    }

    /// A place for a connection.
    ///
    /// # Errors
    /// There is none, in words.
    pub fn enter(&self, client: Client) -> Result<Slot, String> {
        let mut table = self.lock();
        let own = |taken: &Taken| taken.client == client;
        if table.count(own) >= CLIENT_CONNECTIONS && !table.make_room(own) {
            return Err(format!(
                "{client} has {CLIENT_CONNECTIONS} connections with requests under way already"
            ));
        }
        if table.taken.len() >= MAX_CONNECTIONS && !table.make_room(|_| true) {
            return Err(format!(
                "there are {MAX_CONNECTIONS} connections with requests under way already"
            ));
        }
        table.last += 1;
        let (id, close) = (table.last, Arc::new(Notify::new()));
        let taken = Taken {
            client,
            phase: Phase::Waiting(Instant::now()),
            is_new: true,
            close: close.clone(),
        };
        table.taken.insert(id, taken);
        Ok(Slot {
            place: Place {
                slots: self.clone(),
                id,
            },
            close,
        })
    }
}

/// A place that is taken as long as this is there.
#[derive(Debug)]
pub(super) struct Slot {
    /// For the requests of the connection.
    pub place: Place,
    close: Arc<Notify>,
}

impl Slot {
    /// Returns when the connection is to be closed since somebody else needs its place.
    pub async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.place.slots.lock().taken.remove(&self.place.id);
    }
}

/// The place of the connection that a request came by.
#[derive(Clone, Debug)]
pub(super) struct Place {
    slots: Slots,
    id: u64,
}

impl Place {
    /// A request is there as a whole: it is carried out now.
    pub fn begin(&self) {
        self.change(|taken| taken.phase = Phase::Busy);
    }

    /// What is to be done next the client has to do.
    pub fn wait(&self) {
        self.change(|taken| {
            if taken.phase != Phase::Streaming {
                taken.phase = Phase::Waiting(Instant::now());
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.slots.lock().taken.get_mut(&self.id) {
            taken.is_new = false;
            change(taken);
        }
    }

    fn stream(&self) -> Result<(), String> {
        let mut table = self.slots.lock();
        let Some(client) = table.taken.get(&self.id).map(|taken| taken.client) else {
            return Err("the connection is being closed".into());
        };
        let streams = |taken: &Taken| taken.phase == Phase::Streaming;
        if table.count(|taken| streams(taken) && taken.client == client) >= CLIENT_STREAMS {
            return Err(format!(
                "{client} has {CLIENT_STREAMS} streams open, the most that one client may have"
            ));
        }
        if table.count(streams) >= MAX_STREAMS {
            return Err(format!("{MAX_STREAMS} streams are open, the most that there may be"));
        }
        if let Some(taken) = table.taken.get_mut(&self.id) {
            taken.phase = Phase::Streaming;
        }
        Ok(())
    }
}

/// To be asked for by each route whose answer is a stream.
pub(super) struct Streaming;

impl<S: Send + Sync> FromRequestParts<S> for Streaming {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        // Not there where no connection is: in tests of the routes alone.
        let asked = parts.extensions.get::<Place>().map_or(Ok(()), Place::stream);
        asked.map(|()| Self).map_err(|cause| {
            let object = format!("stream {}", parts.uri.path());
            Failure::malformed(StatusCode::TOO_MANY_REQUESTS, object, cause)
                .hint("end one of them first: each `vswitchctl events`, `capture` and `trace --live` has one")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_closed(slot: &Slot) -> bool {
        !slot.place.slots.lock().taken.contains_key(&slot.place.id)
    }

    /// Half-sent requests and idle connections must not lock anybody out.
    #[test]
    fn who_waited_longest_makes_room() {
        let slots = Slots::default();
        let all: Vec<_> = (0..MAX_CONNECTIONS as i32)
            .map(|pid| slots.enter(Client::Process(pid)).unwrap())
            .collect();
        all[0].place.begin();
        let _new = slots.enter(Client::Process(-1)).unwrap();
        assert_eq!(all.iter().position(is_closed), Some(1), "the first is busy");
        all[2].place.begin();
        all[2].place.wait();
        let _new = slots.enter(Client::Process(-1)).unwrap();
        assert_eq!(all.iter().filter(|slot| is_closed(slot)).count(), 2);
        assert!(!is_closed(&all[2]) && is_closed(&all[3]), "it has just begun to wait");
    }

    #[test]
    fn one_client_gets_a_part_and_closes_its_own() {
        let slots = Slots::default();
        let other = slots.enter(Client::User(7)).unwrap();
        let own: Vec<_> = (0..CLIENT_CONNECTIONS)
            .map(|_| slots.enter(Client::User(1000)).unwrap())
            .collect();
        let more = slots.enter(Client::User(1000)).unwrap();
        assert!(!is_closed(&other) && is_closed(&own[0]));
        own.iter().chain([&more]).for_each(|slot| slot.place.begin());
        assert!(slots.enter(Client::User(1000)).unwrap_err().contains("user 1000"));
        slots.enter(Client::User(1001)).unwrap();
        drop(own);
        slots.enter(Client::User(1000)).unwrap();
    }

    #[test]
    fn a_connection_is_new_until_its_first_request() {
        let slots = Slots::default();
        assert!(!slots.any_new());
        let all = [
            slots.enter(Client::User(7)).unwrap(),
            slots.enter(Client::User(7)).unwrap(),
        ];
        all[0].place.begin();
        assert!(slots.any_new());
        // A request with a body.
        all[1].place.wait();
        assert!(!slots.any_new());
        let third = slots.enter(Client::User(7)).unwrap();
        assert!(slots.any_new());
        drop(third);
        assert!(!slots.any_new());
    }

    /// 256 readers of events that never read had locked out all control.
    #[test]
    fn streams_leave_room_for_short_requests() {
        let slots = Slots::default();
        let (mut open, mut streams) = (Vec::new(), 0);
        for n in 0..MAX_CONNECTIONS {
            let slot = slots.enter(Client::Process((n / 128) as i32)).unwrap();
            streams += usize::from(slot.place.stream().is_ok());
            slot.place.wait();
            open.push(slot);
        }
        assert_eq!(streams, MAX_STREAMS);
        let of_first = open[..128].iter();
        let is_streaming = |slot: &&Slot| slots.lock().taken[&slot.place.id].phase == Phase::Streaming;
        assert_eq!(of_first.filter(is_streaming).count(), CLIENT_STREAMS);
        let short = slots.enter(Client::Process(-1)).unwrap();
        assert!(short.place.stream().unwrap_err().contains("128 streams"));
        drop(open);
        assert_eq!(short.place.stream(), Ok(()));
    }
}
