//! What the kernel tells of interfaces, until there is time to look into it.
//!
//! Each is a reason to look, no more. So of all that is told of one interface meanwhile the last word is enough, with word that one
//! of its index is gone: these are as many as there are interfaces, however often they change.

use std::collections::{BTreeMap, HashMap};

use vswitch_linux::MonitorEvent;

/// What an event is about.
#[derive(Debug, PartialEq, Eq, Hash)]
enum About {
    /// An interface that is there, or one that is gone.
    Link(Option<i32>, u32, bool),
    /// The default routes of a namespace.
    Ways(Option<i32>),
    /// All of them.
    All,
}

/// Events that wait.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// By a number that counts up.
    events: BTreeMap<u64, MonitorEvent>,
    /// The number of each.
    numbers: HashMap<About, u64>,
    next: u64,
}

impl Told {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    pub fn add(&mut self, event: MonitorEvent) {
        if let Some(before) = self.numbers.insert(about(&event), self.next) {
            self.events.remove(&before);
        }
        self.events.insert(self.next, event);
        self.next += 1;
    }

    /// Takes the first `most`, or all if they are fewer.
    pub fn take(&mut self, most: usize) -> Vec<MonitorEvent> {
        let first = std::iter::from_fn(|| self.events.pop_first()).take(most);
        let first: Vec<_> = first.map(|(_, event)| event).collect();
        for event in &first {
            self.numbers.remove(&about(event));
        }
        first
    }
}

fn about(event: &MonitorEvent) -> About {
    match event {
        MonitorEvent::Link(change) => About::Link(change.nsid, change.index, change.gone),
        MonitorEvent::Ways(nsid) => About::Ways(*nsid),
        MonitorEvent::Resync => About::All,
    }
}

#[cfg(test)]
mod tests {
    use vswitch_linux::LinkChange;

    use super::*;

    fn change(nsid: Option<i32>, index: u32, gone: bool, mtu: u32) -> MonitorEvent {
        MonitorEvent::Link(LinkChange {
            nsid,
            index,
            name: "eth0".into(),
            mtu,
            up: true,
            carrier: true,
            gone,
        })
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
        assert_eq!(told.take(1), [change(Some(1), 7, false, 999)]);
        told.add(MonitorEvent::Resync);
        told.add(change(None, 7, true, 1));
        let rest = [
            change(None, 7, false, 1000),
            MonitorEvent::Resync,
            change(None, 7, true, 1),
        ];
        assert_eq!(told.take(10), rest);
        assert!(told.is_empty() && told.take(1).is_empty());
    }
}
