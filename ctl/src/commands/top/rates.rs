//! What grows how fast: rates of a port from one look at its counters to the next.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use vswitch_api::PortName;
use vswitch_api::view::{PortCounters, PortView};

/// So many rates are kept for the graph of a port.
pub const KEPT: usize = 240;

/// What a port carries a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Bits that come in from it.
    pub rx_bits: f64,
    /// Frames that come in.
    pub rx_frames: f64,
    /// Bits that go out to it.
    pub tx_bits: f64,
    /// Frames that go out.
    pub tx_frames: f64,
    /// Frames that are dropped on either way.
    pub drops: f64,
}

impl Rates {
    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            rx_bits: self.rx_bits + other.rx_bits,
            rx_frames: self.rx_frames + other.rx_frames,
            tx_bits: self.tx_bits + other.tx_bits,
            tx_frames: self.tx_frames + other.tx_frames,
            drops: self.drops + other.drops,
        }
    }
}

/// A port over time.
#[derive(Debug, Default)]
pub struct History {
    /// Bits a second that came in, the oldest first.
    pub rx: VecDeque<u64>,
    /// Those that went out.
    pub tx: VecDeque<u64>,
    /// Now; none before the second look.
    pub rates: Option<Rates>,
    /// Drops a second by reason, `in` and `out`, as far as there are any.
    pub reasons: BTreeMap<(&'static str, String), f64>,
}

/// All ports over time.
#[derive(Debug, Default)]
pub struct Histories {
    last: HashMap<PortName, (Instant, PortCounters)>,
    all: HashMap<PortName, History>,
}

impl Histories {
    /// Notes what the counters say now.
    pub fn note(&mut self, ports: &[PortView], now: Instant) {
        for view in ports {
            let (name, counters) = (&view.port.name, &view.counters);
            let before = self.last.insert(name.clone(), (now, counters.clone()));
            let history = self.all.entry(name.clone()).or_default();
            let Some((then, before)) = before else { continue };
            let secs = now.duration_since(then).as_secs_f64();
            if secs <= 0.0 {
                continue;
            }
            // Counters that are less than they were begin anew, as after a restart of the daemon.
            let rates = rates(&before, counters, secs);
            if let Some(rates) = rates {
                push(&mut history.rx, rates.rx_bits);
                push(&mut history.tx, rates.tx_bits);
                history.reasons = reasons(&before, counters, secs);
            }
            history.rates = rates;
        }
        let there: HashSet<_> = ports.iter().map(|view| &view.port.name).collect();
        self.last.retain(|name, _| there.contains(name));
        self.all.retain(|name, _| there.contains(name));
    }

    /// Nothing is known of what goes on: the next look is the first of new ones.
    pub fn interrupt(&mut self) {
        self.last.clear();
        for history in self.all.values_mut() {
            history.rates = None;
            history.reasons.clear();
        }
    }

    /// A port over time.
    pub fn of(&self, name: &PortName) -> Option<&History> {
        self.all.get(name)
    }

    /// What a port carries now.
    pub fn rates(&self, name: &PortName) -> Option<Rates> {
        self.of(name)?.rates
    }
}

fn push(values: &mut VecDeque<u64>, value: f64) {
    if values.len() == KEPT {
        values.pop_front();
    }
    // Rates are finite and not negative.
    values.push_back(value as u64);
}

fn rates(before: &PortCounters, now: &PortCounters, secs: f64) -> Option<Rates> {
    let each = |before: u64, now: u64| now.checked_sub(before).map(|grown| grown as f64 / secs);
    let drops = |counters: &PortCounters| {
        counters
            .rx_drops
            .values()
            .chain(counters.tx_drops.values())
            .sum::<u64>()
    };
    Some(Rates {
        rx_bits: 8.0 * each(before.rx_bytes, now.rx_bytes)?,
        rx_frames: each(before.rx_frames, now.rx_frames)?,
        tx_bits: 8.0 * each(before.tx_bytes, now.tx_bytes)?,
        tx_frames: each(before.tx_frames, now.tx_frames)?,
        drops: each(drops(before), drops(now))?,
    })
}

fn reasons(before: &PortCounters, now: &PortCounters, secs: f64) -> BTreeMap<(&'static str, String), f64> {
    let ways = [
        ("in", &before.rx_drops, &now.rx_drops),
        ("out", &before.tx_drops, &now.tx_drops),
    ];
    let mut growing = BTreeMap::new();
    for (way, before, now) in ways {
        for (reason, count) in now {
            let grown = count.saturating_sub(before.get(reason).copied().unwrap_or_default());
            growing.insert((way, reason.clone()), grown as f64 / secs);
        }
    }
    growing
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    pub fn port(name: &str, rx_bytes: u64, drops: u64) -> PortView {
        serde_json::from_value(json!({
            "name": name, "state": "up", "state_secs": 1, "queues": 1, "fdb_entries": 0,
            "counters": {
                "rx_frames": rx_bytes / 100, "rx_bytes": rx_bytes, "rx_forwarded": 0, "rx_flooded": 0, "flood_copies": 0,
                "tx_frames": 0, "tx_bytes": 0, "rx_drops": {"acl-in": drops},
            },
        }))
        .unwrap()
    }

    #[test]
    fn rates_are_what_grew_in_the_time() {
        let mut histories = Histories::default();
        let (red, start) = ("red".parse().unwrap(), Instant::now());
        histories.note(&[port("red", 1000, 0)], start);
        assert_eq!(histories.rates(&red), None);
        histories.note(&[port("red", 3000, 4)], start + Duration::from_secs(2));
        let rates = histories.rates(&red).unwrap();
        assert_eq!((rates.rx_bits, rates.rx_frames, rates.drops), (8000.0, 10.0, 2.0));
        let history = histories.of(&red).unwrap();
        assert_eq!(history.reasons[&("in", "acl-in".to_owned())], 2.0);
        assert_eq!(history.rx, [8000]);
        // The daemon has begun anew.
        histories.note(&[port("red", 10, 0)], start + Duration::from_secs(3));
        assert_eq!(histories.rates(&red), None);
        histories.note(&[], start + Duration::from_secs(4));
        assert!(histories.of(&red).is_none());
    }

    #[test]
    fn no_more_is_kept_than_is_shown() {
        let mut histories = Histories::default();
        let start = Instant::now();
        for n in 0..2 * KEPT {
            let secs = Duration::from_secs(n as u64);
            histories.note(&[port("red", 100 * n as u64, 0)], start + secs);
        }
        assert_eq!(histories.of(&"red".parse().unwrap()).unwrap().rx.len(), KEPT);
    }
}
