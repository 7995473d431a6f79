//! What ports have counted before they came into the datapath: an edit, another interface or a restart is no reason to begin anew.

use std::sync::{Arc, OnceLock};

use vswitch_api::traffic::{ClassCounters, ImpairCounters};
use vswitch_api::view::PortCounters;
use vswitch_datapath::snapshot::PortEntry;
use vswitch_datapath::{Datapath, PortRef};

/// What a port had counted before it came into the datapath, as itself or with another interface.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    counters: PortCounters,
    /// All of it, from when it leaves the datapath: whoever looks by a picture of before finds nothing there any more.
    as_it_left: OnceLock<PortCounters>,
}

impl Earlier {
    pub fn new(counters: PortCounters) -> Arc<Self> {
        Arc::new(Self {
            counters,
            as_it_left: OnceLock::new(),
        })
    }

    /// What it was when the port came.
    pub fn counters(&self) -> &PortCounters {
        &self.counters
    }

    /// Adds that to what was counted since.
    pub fn add_to(&self, since: &mut PortCounters) {
        add(since, &self.counters);
    }

    /// All that a port has counted. `id`: its place in the datapath, if it is there.
    pub fn and_now(&self, datapath: &Datapath, id: Option<PortRef>) -> PortCounters {
        let now = id.and_then(|id| datapath.snapshot().find(id).map(|port| port.counted()));
        match (now, self.as_it_left.get()) {
            (Some(mut now), _) => {
                add(&mut now, &self.counters);
                now
            }
            (None, Some(all)) => all.clone(),
            (None, None) => self.counters.clone(),
        }
    }

    /// Takes ports out of the datapath: what each of them had counted before it comes back, and what closes its descriptors as it is
    /// dropped.
    pub fn take_out(datapath: &Datapath, ports: &[(PortRef, Arc<Self>)]) -> (Vec<Arc<Self>>, Vec<Arc<PortEntry>>) {
        // What classes of traffic have counted goes with what delays the frames, which ends first.
        let so_far = ports.iter().map(|(id, before)| {
            let so_far = before.and_now(datapath, Some(*id));
            let _ = before.as_it_left.set(so_far);
            datapath.counters(*id).impair
        });
        let classes: Vec<_> = so_far.collect();
        let ids: Vec<_> = ports.iter().map(|(id, _)| *id).collect();
        let removed = datapath.remove_ports(&ids);
        let all = ports.iter().zip(classes).map(|((id, before), impair)| {
            let entry = removed.iter().find(|entry| entry.port_ref() == *id);
            let mut all = entry.map(|entry| entry.counted()).unwrap_or_default();
            (all.impair.rx_classes, all.impair.tx_classes) = (impair.rx_classes, impair.tx_classes);
            add(&mut all, &before.counters);
            Self::new(all)
        });
        (all.collect(), removed)
    }
}

/// Adds what was counted earlier. What waits is not counted but told as it is.
fn add(total: &mut PortCounters, before: &PortCounters) {
    // All by name, so that none is forgotten.
    let PortCounters {
        rx_frames,
        rx_bytes,
        rx_forwarded,
        rx_fastpath,
        rx_flooded,
        flood_copies,
        mirror_copies,
        probes,
        tx_frames,
        tx_bytes,
        rx_drops,
        tx_drops,
        impair,
    } = before;
    let ImpairCounters {
        rx_waiting: _,
        tx_waiting: _,
        rx_duplicates,
        tx_duplicates,
        tx_segments,
        rx_corrupted,
        tx_corrupted,
        rx_reordered,
        tx_reordered,
        rx_classes,
        tx_classes,
    } = impair;
    for (sum, more) in [
        (&mut total.rx_frames, rx_frames),
        (&mut total.rx_bytes, rx_bytes),
        (&mut total.rx_forwarded, rx_forwarded),
        (&mut total.rx_fastpath, rx_fastpath),
        (&mut total.rx_flooded, rx_flooded),
        (&mut total.flood_copies, flood_copies),
        (&mut total.mirror_copies, mirror_copies),
        (&mut total.probes, probes),
        (&mut total.tx_frames, tx_frames),
        (&mut total.tx_bytes, tx_bytes),
        (&mut total.impair.rx_duplicates, rx_duplicates),
        (&mut total.impair.tx_duplicates, tx_duplicates),
        (&mut total.impair.tx_segments, tx_segments),
        (&mut total.impair.rx_corrupted, rx_corrupted),
        (&mut total.impair.tx_corrupted, tx_corrupted),
        (&mut total.impair.rx_reordered, rx_reordered),
        (&mut total.impair.tx_reordered, tx_reordered),
    ] {
        *sum = sum.saturating_add(*more);
    }
    for (sums, drops) in [(&mut total.rx_drops, rx_drops), (&mut total.tx_drops, tx_drops)] {
        for (reason, frames) in drops {
            let sum = sums.entry(reason.clone()).or_default();
            *sum = sum.saturating_add(*frames);
        }
    }
    for (sums, classes) in [
        (&mut total.impair.rx_classes, rx_classes),
        (&mut total.impair.tx_classes, tx_classes),
    ] {
        for (
            sum,
            ClassCounters {
                waiting: _,
                sent,
                dropped,
            },
        ) in sums.iter_mut().flatten().zip(classes.iter().flatten())
        {
            sum.sent = sum.sent.saturating_add(*sent);
            sum.dropped = sum.dropped.saturating_add(*dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_adds_up_and_what_waits_does_not() {
        let mut before = PortCounters {
            rx_frames: 5,
            rx_drops: [("runt".to_owned(), 2)].into(),
            ..PortCounters::default()
        };
        (before.impair.tx_waiting, before.impair.tx_segments) = (9, 1);
        before.impair.tx_classes = Some(
            [ClassCounters {
                waiting: 1,
                sent: 2,
                dropped: 3,
            }; 8],
        );
        let mut total = before.clone();
        (total.impair.tx_waiting, total.tx_drops) = (1, [("mtu".to_owned(), 1)].into());
        add(&mut total, &before);
        assert_eq!(
            (total.rx_frames, total.impair.tx_waiting, total.impair.tx_segments),
            (10, 1, 2)
        );
        assert_eq!((&total.rx_drops["runt"], &total.tx_drops["mtu"]), (&4, &1));
        let class = total.impair.tx_classes.unwrap()[0];
        assert_eq!((class.waiting, class.sent, class.dropped), (1, 4, 6));
    }
}
