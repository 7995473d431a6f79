//! Publication of snapshots and removal of ports: what control frees after a grace period no worker uses any more.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use super::grace::Grace;
use super::sync::Ordering;

/// What control and one worker share. A snapshot is a number here: the port is up in the first, down in the second, gone in the third.
/// It is published with less than the datapath does, so that what holds here rests on [`Grace`] alone.
struct Shared {
    snapshot: AtomicUsize,
    grace: Grace,
    /// The port's memory was given back.
    freed: AtomicBool,
    /// The FDB has a station behind the port.
    learned: AtomicBool,
}

const UP: usize = 0;
const DOWN: usize = 1;
const GONE: usize = 2;

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            snapshot: AtomicUsize::new(UP),
            grace: Grace::new(1),
            freed: AtomicBool::new(false),
            learned: AtomicBool::new(false),
        })
    }

    fn edit(&self, snapshot: usize) {
        self.snapshot.store(snapshot, Ordering::Relaxed);
        self.grace.publish();
    }

    fn quiesce(&self) {
        self.grace.wait_for(self.grace.newest());
    }

    /// A worker that takes batches until it has acknowledged the last of two generations.
    fn work(&self) {
        let (mut generation, mut snapshot) = (0, UP);
        while generation != 2 {
            let newest = self.grace.newest();
            if newest != generation {
                snapshot = self.snapshot.load(Ordering::Relaxed);
                generation = newest;
                self.grace.acknowledge(0, generation);
            }
            if snapshot != GONE {
                assert!(!self.freed.load(Ordering::Relaxed), "a worker uses a port that is gone");
            }
            if snapshot == UP {
                self.learned.store(true, Ordering::Relaxed);
            }
            thread::yield_now();
        }
    }
}

#[test]
fn a_port_is_freed_when_no_worker_has_it_any_more_and_no_station_is_left_behind_it() {
    loom::model(|| {
        let shared = Shared::new();
        let worker = thread::spawn({
            let shared = shared.clone();
            move || shared.work()
        });
        // As `Datapath::remove_ports` does it.
        shared.edit(DOWN);
        shared.quiesce();
        shared.learned.store(false, Ordering::Relaxed);
        shared.edit(GONE);
        shared.quiesce();
        shared.freed.store(true, Ordering::Relaxed);
        worker.join().unwrap();
        assert!(
            !shared.learned.load(Ordering::Relaxed),
            "a station was learned behind a port that was gone"
        );
    });
}

/// Two edits at once are one after the other, as a lock of control's has it; a worker may pass a snapshot over.
#[test]
fn a_worker_that_passes_a_snapshot_over_has_left_the_older_ones_too() {
    loom::model(|| {
        let shared = Shared::new();
        let worker = thread::spawn({
            let shared = shared.clone();
            move || shared.work()
        });
        shared.edit(DOWN);
        shared.edit(GONE);
        shared.quiesce();
        shared.freed.store(true, Ordering::Relaxed);
        worker.join().unwrap();
    });
}
