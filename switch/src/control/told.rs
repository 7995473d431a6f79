//! What the kernel tells of interfaces, until there is time to look into it.
//!
//! Each is a reason to look, no more. So of all that is told of one interface meanwhile the last words are enough: that it is up, that
//! it is down, since with that addresses and routes go, and that one of its index is gone. These are as many as there are interfaces,
//! however often they change. So is what it has inside, of which only so much is kept apart: a routing daemon has tens of thousands.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use vswitch_linux::{InsideChange, LinkMonitor, MonitorEvent};

/// Addresses and routes of one interface that are kept apart. Of more it is told only that some changed.
const APART: usize = 64;

/// What an event is about.
#[derive(Debug, PartialEq, Eq, Hash)]
enum About {
    /// An interface that is up, down or gone.
    Link(Option<i32>, u32, Is),
    /// What an interface has inside.
    Inside(InsideChange),
    /// The default routes of a namespace.
    Ways(Option<i32>),
    /// All of them.
    All,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Is {
    Up,
    Down,
    Gone,
}

/// Where the kernel is heard, and what it has told.
pub(super) struct Hearing {
    monitor: LinkMonitor,
    told: Mutex<Told>,
    /// Something was taken in by another than who waits for it.
    taken_in: Notify,
}

impl Hearing {
    pub fn by(monitor: LinkMonitor) -> Self {
        Self {
            monitor,
            told: Mutex::default(),
            taken_in: Notify::new(),
        }
    }

    /// Waits until there is something to look into that was not there before. None: the kernel tells no more. May be cancelled without loss.
    pub async fn more(&self) -> Option<()> {
        tokio::select! {
            told = self.monitor.told() => told?,
            () = self.taken_in.notified() => {}
        }
        self.told().take_in(&self.monitor);
        Some(())
    }

    /// All that is told by now has a number below this.
    pub fn by_now(&self) -> u64 {
        self.told_by_now().number
    }

    /// Takes the first, with its number.
    pub fn next(&self) -> Option<(u64, MonitorEvent)> {
        self.told().next()
    }

    /// Whether it was told by now that an interface was down, which is to be looked into yet.
    pub fn is_down_ahead(&self, nsid: Option<i32>, index: u32) -> bool {
        self.told_by_now()
            .numbers
            .contains_key(&About::Link(nsid, index, Is::Down))
    }

    pub fn is_empty(&self) -> bool {
        self.told().is_empty()
    }

    /// With what the kernel has told meanwhile, of which whoever waits is told.
    fn told_by_now(&self) -> MutexGuard<'_, Told> {
        let mut told = self.told();
        told.take_in(&self.monitor);
        self.taken_in.notify_one();
        told
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Events that wait.
#[derive(Debug, Default)]
struct Told {
    /// By a number that counts up.
    events: BTreeMap<u64, MonitorEvent>,
    /// The number of each.
    numbers: HashMap<About, u64>,
    /// How many of an interface are kept apart, by its namespace and index.
    apart: HashMap<(Option<i32>, u32), usize>,
    /// That of what is told next.
    number: u64,
}

impl Told {
    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn take_in(&mut self, monitor: &LinkMonitor) {
        while let Some(event) = monitor.recv_now() {
            self.add(event);
        }
    }

    fn add(&mut self, mut event: MonitorEvent) {
        if let MonitorEvent::Inside(change) = &mut event
            && change.what.is_some()
            && !self.numbers.contains_key(&About::Inside(*change))
        {
            let apart = self.apart.entry((change.nsid, change.index)).or_default();
            if *apart < APART {
                *apart += 1;
            } else {
                change.what = None;
            }
        }
        if let Some(before) = self.numbers.insert(about(&event), self.number) {
            self.events.remove(&before);
        }
        self.events.insert(self.number, event);
        self.number += 1;
    }

    fn next(&mut self) -> Option<(u64, MonitorEvent)> {
        let (number, event) = self.events.pop_first()?;
        self.numbers.remove(&about(&event));
        if let MonitorEvent::Inside(change) = &event
            && change.what.is_some()
            && let Entry::Occupied(mut apart) = self.apart.entry((change.nsid, change.index))
        {
            *apart.get_mut() -= 1;
            if *apart.get() == 0 {
                apart.remove();
            }
        }
        Some((number, event))
    }
}

fn about(event: &MonitorEvent) -> About {
    match event {
        MonitorEvent::Link(change) => {
            let is = match (change.gone, change.up) {
                (true, _) => Is::Gone,
                (false, true) => Is::Up,
                (false, false) => Is::Down,
            };
            About::Link(change.nsid, change.index, is)
        }
        MonitorEvent::Inside(change) => About::Inside(*change),
        MonitorEvent::Ways(nsid) => About::Ways(*nsid),
        MonitorEvent::Resync => About::All,
    }
}

#[cfg(test)]
mod tests {
    use vswitch_linux::{Inside, LinkChange};

    use super::*;

    fn take(told: &mut Told, most: usize) -> Vec<MonitorEvent> {
        let events = std::iter::from_fn(|| told.next()).take(most);
        events.map(|(_, event)| event).collect()
    }

    fn link(nsid: Option<i32>, index: u32, mtu: u32) -> LinkChange {
        LinkChange {
            nsid,
            index,
            name: "eth0".into(),
            mtu,
            up: true,
            carrier: true,
            gone: false,
        }
    }

    fn change(nsid: Option<i32>, index: u32, gone: bool, mtu: u32) -> MonitorEvent {
        MonitorEvent::Link(LinkChange {
            gone,
            ..link(nsid, index, mtu)
        })
    }

    #[test]
    fn that_one_was_down_is_told_though_it_is_up_again() {
        let mut told = Told::default();
        let is = |up, mtu| {
            MonitorEvent::Link(LinkChange {
                up,
                ..link(None, 7, mtu)
            })
        };
        for mtu in 0..10 {
            told.add(is(false, mtu));
            told.add(is(true, mtu));
        }
        assert_eq!(take(&mut told, 10), [is(false, 9), is(true, 9)]);
    }

    /// A routing daemon has tens of thousands.
    #[test]
    fn routes_that_change_are_kept_apart_as_long_as_they_are_few() {
        let mut told = Told::default();
        let change = |what: Option<usize>| {
            let route =
                |number: usize| Inside::Route(format!("10.{}.{}.0/24", number / 256, number % 256).parse().unwrap());
            MonitorEvent::Inside(InsideChange {
                nsid: None,
                index: 7,
                lost: true,
                down: false,
                link_local: false,
                what: what.map(route),
            })
        };
        for _ in 0..2 {
            for number in [1, 2, 1] {
                told.add(change(Some(number)));
            }
            assert_eq!(take(&mut told, 10), [change(Some(2)), change(Some(1))]);
        }
        for number in (0..1000).chain(0..1000) {
            told.add(change(Some(number)));
        }
        let all = take(&mut told, 1000);
        assert_eq!((all.len(), all.last()), (APART + 1, Some(&change(None))));
        assert!(told.apart.is_empty() && told.numbers.is_empty());
    }

    #[test]
    fn the_last_word_of_each_interface_stays_in_its_order() {
        let mut told = Told::default();
        for mtu in 0..1000 {
            told.add(change(None, 7, false, mtu));
            told.add(change(Some(1), 7, false, mtu));
        }
        told.add(change(None, 7, true, 0));
        told.add(change(None, 7, false, 1000));
        told.add(MonitorEvent::Resync);
        assert_eq!(take(&mut told, 1), [change(Some(1), 7, false, 999)]);
        told.add(MonitorEvent::Resync);
        told.add(change(None, 7, true, 1));
        let rest = [
            change(None, 7, false, 1000),
            MonitorEvent::Resync,
            change(None, 7, true, 1),
        ];
        assert_eq!(take(&mut told, 10), rest);
        assert!(told.is_empty() && told.next().is_none());
    }
}
