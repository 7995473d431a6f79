//! What control holds of the datapath: it changes switches and ports, and reads tables and counters.

mod ports;

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::affinity::{check_cpus, pin};
use super::clock::{Clock, VirtualTime};
use super::fdb::{Fdb, FdbFilter};
use super::grace::Grace;
use super::guard::Probe;
use super::punt::{PuntQueue, Punted};
use super::setup::{DatapathConfig, DatapathEvent, SenderCore, SwitchSettings, SwitchSetup};
use super::snapshot::{Snapshot, SwitchEntry};
use super::worker::{Worker, WorkerShared};
use super::{PortRef, SwitchId, lock};
use crate::port::{Frames, PortIo, Sent};

/// Events that may wait for control; more are lost, and counted.
const EVENT_QUEUE: usize = 4096;
/// Most ports of all switches together.
pub const MAX_PORTS: usize = 16_384;

/// What control and the workers share.
pub(super) struct Shared {
    pub clock: Clock,
    pub snapshot: ArcSwap<Snapshot>,
    pub grace: Grace,
    pub stop: AtomicBool,
    pub workers: Vec<WorkerShared>,
    events: ArrayQueue<DatapathEvent>,
    lost_events: AtomicU64,
    /// Those of ports that failed. There is one for each worker of a port, and none may be lost: it comes once.
    failed: Mutex<Vec<DatapathEvent>>,
    /// Frames for agents.
    pub punted: PuntQueue,
    /// Since control asked last.
    revised: AtomicBool,
    event_pending: AtomicBool,
    event_fd: EventFd,
}

impl Shared {
    /// Queues an event for control. The system call is made for the first of many only.
    pub fn notify(&self, event: DatapathEvent) {
        // Stations make as many as they like, and leave room for what tells of a loop.
        let room = match event {
            DatapathEvent::Learned { .. } => EVENT_QUEUE / 2,
            DatapathEvent::Moved { .. } => EVENT_QUEUE / 4 * 3,
            _ => EVENT_QUEUE,
        };
        if self.events.len() >= room || self.events.push(event).is_err() {
            self.lost_events.fetch_add(1, Ordering::Relaxed);
        }
        self.call_control();
    }

    /// The same for what must not be lost: that a port failed.
    pub fn notify_failed(&self, event: DatapathEvent) {
        let mut failed = lock(&self.failed);
        // A port that panics does so again and again, as long as control does not take it away.
        if !failed.contains(&event) {
            failed.push(event);
        }
        drop(failed);
        self.call_control();
    }

    pub fn call_control(&self) {
        if !self.event_pending.swap(true, Ordering::AcqRel) {
            let _ = self.event_fd.write(1);
        }
    }

    fn wake_workers(&self) {
        for worker in &self.workers {
            let _ = worker.wake.write(1);
        }
    }
}

/// The datapath: its workers run until it is dropped. Ports and switches are named by index; an index that names
/// nothing is ignored or answered with nothing.
pub struct Datapath {
    pub(super) shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Workers that have no threads: see [`Datapath::by_hand`].
    by_hand: Mutex<Vec<Worker>>,
    /// Which thread has them in the hand, by [`here`]; 0: none.
    turning: AtomicUsize,
    /// Held while a snapshot is made and published; counts the ports that were ever added.
    revision: Mutex<u64>,
    /// Held while a probe is counted.
    probing: Mutex<()>,
    /// Held while ports are removed: an index is that of the same port until then.
    removal: Mutex<()>,
}

impl Datapath {
    /// Starts the workers.
    ///
    /// # Errors
    /// No descriptors or threads to be had, or a core that is not there or not ours.
    pub fn start(config: DatapathConfig) -> io::Result<Self> {
        check_cpus(&config.cpus)?;
        // Made first, so that threads started before one that can't be are stopped when this is dropped.
        let mut datapath = Self::without_threads(&config, Clock::Monotonic)?;
        for (index, worker) in datapath.new_workers(&config).enumerate() {
            let cpu = config.cpus.get(index % config.cpus.len().max(1)).copied();
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            let begin = config.begin.clone();
            datapath.threads.push(thread.spawn(move || {
                if let Some(cpu) = cpu
                    && let Err(error) = pin(cpu)
                {
                    tracing::error!(worker = index, cpu, "can't pin a worker: {error}");
                }
                worker.live(&begin);
            })?);
        }
        Ok(datapath)
    }

    /// The same without threads: its workers do something only when [`Datapath::turn`] is called, in the calling thread. So it
    /// is known when all frames have gone their way, which tests, benches and fuzz targets want.
    ///
    /// # Errors
    /// No descriptors to be had.
    pub fn by_hand(config: &DatapathConfig) -> io::Result<Self> {
        Self::by_hand_at(config, Clock::Monotonic)
    }

    /// The same in a time that goes on only as the caller sets it: what waits or has a rate does so by that, and [`Datapath::age`] goes by it, which
    /// is the caller's to call here as ever. Captures bear the time of the wall clock all the same. [`crate::testing`] makes it easy.
    ///
    /// # Errors
    /// No descriptors to be had.
    pub fn in_virtual_time(config: &DatapathConfig, time: &VirtualTime) -> io::Result<Self> {
        Self::by_hand_at(config, Clock::Virtual(time.clone()))
    }

    fn by_hand_at(config: &DatapathConfig, clock: Clock) -> io::Result<Self> {
        let datapath = Self::without_threads(config, clock)?;
        *lock(&datapath.by_hand) = datapath.new_workers(config).collect();
        Ok(datapath)
    }

    /// When the first of the frames is due that impaired ports hold back, by the clock of the datapath; none: none waits.
    pub fn next_due(&self) -> Option<Duration> {
        let first = self
            .shared
            .workers
            .iter()
            .filter_map(|worker| worker.schedule.first_due());
        first.min().map(Duration::from_nanos)
    }

    /// Lets each worker without a thread take one batch from each of its ports; false: none had anything to do. Called by a port's own
    /// code it does nothing: the turn that called that is followed by others. A panic of that code comes out here.
    pub fn turn(&self) -> bool {
        if self.turning.load(Ordering::Relaxed) == here() {
            return false;
        }
        let mut workers = lock(&self.by_hand);
        let _turning = Turning::begin(&self.turning);
        let turns = workers.iter_mut().map(Worker::turn_by_hand);
        turns.fold(false, |any, done| any | done)
    }

    /// Refuses what a port's own code must not ask for: to wait until workers are done, of which it runs in one.
    fn must_not_be_inside(&self) {
        let own = thread::current().id();
        let inside = self.turning.load(Ordering::Relaxed) == here()
            || self.threads.iter().any(|worker| worker.thread().id() == own);
        assert!(
            !inside,
            "a port's own code would wait for ever for the worker that it runs in: changes of a datapath are another thread's"
        );
    }

    fn new_workers(&self, config: &DatapathConfig) -> impl Iterator<Item = Worker> + use<> {
        let (shared, spin) = (self.shared.clone(), Duration::from_micros(config.spin_us.into()));
        // Without looking it would not note that it is kept waiting where it goes.
        let free = config.cpus.is_empty() && config.spin_us > 0;
        let sender_core = if free {
            config.sender_core.clone()
        } else {
            SenderCore::default()
        };
        (0..self.workers()).map(move |index| Worker::new(index, shared.clone(), spin, sender_core.clone()))
    }

    fn without_threads(config: &DatapathConfig, clock: Clock) -> io::Result<Self> {
        let workers = (0..config.workers.max(1))
            .map(|_| WorkerShared::new(&clock))
            .collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(Snapshot {
                clock: clock.clone(),
                ..Snapshot::default()
            }),
            clock,
            grace: Grace::new(workers.len()),
            stop: AtomicBool::new(false),
            workers,
            events: ArrayQueue::new(EVENT_QUEUE),
            lost_events: AtomicU64::new(0),
            failed: Mutex::default(),
            punted: PuntQueue::default(),
            revised: AtomicBool::new(false),
            event_pending: AtomicBool::new(false),
            event_fd: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        });
        Ok(Self {
            shared,
            threads: Vec::new(),
            by_hand: Mutex::default(),
            turning: AtomicUsize::new(0),
            revision: Mutex::new(0),
            probing: Mutex::default(),
            removal: Mutex::default(),
        })
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.shared.workers.len()
    }

    /// For each worker, how many batches of one frame, of two, and so on it has taken from ports.
    pub fn batches(&self) -> Vec<Vec<u64>> {
        self.shared.workers.iter().map(|worker| worker.load.batches()).collect()
    }

    /// Seconds of the clock by which the FDB ages.
    pub(super) fn seconds(&self) -> u32 {
        self.shared.clock.seconds()
    }

    /// What workers read now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// Publishes what `change` makes of the snapshot.
    pub(super) fn revise<T>(&self, change: impl FnOnce(&mut Snapshot) -> T) -> T {
        self.revise_then(change, |_| ())
    }

    /// The same; `then` runs when that is published, and before offloads get ports back.
    fn revise_then<T>(&self, change: impl FnOnce(&mut Snapshot) -> T, then: impl FnOnce(&T)) -> T {
        self.must_not_be_inside();
        let _guard = lock(&self.revision);
        let before = self.snapshot();
        let mut snapshot = Snapshot::clone(&before);
        let result = change(&mut snapshot);
        // An offload lets go of a port before anything else changes, and gets it back last.
        before.take_from_offloads(&snapshot);
        let after = Arc::new(snapshot);
        self.shared.snapshot.store(after.clone());
        self.shared.grace.publish();
        self.shared.wake_workers();
        then(&result);
        before.give_to_offloads(&after);
        self.shared.revised.store(true, Ordering::Release);
        self.shared.call_control();
        result
    }

    /// Shows the snapshot while it can't be replaced.
    pub(super) fn unrevised(&self, show: impl FnOnce(&Snapshot)) {
        let _guard = lock(&self.revision);
        show(&self.snapshot());
    }

    /// Returns when all workers have taken over the newest snapshot, which takes as long as a batch.
    pub fn quiesce(&self) {
        self.must_not_be_inside();
        let generation = self.shared.grace.newest();
        self.shared.wake_workers();
        lock(&self.by_hand).iter_mut().for_each(Worker::refresh);
        self.shared.grace.wait_for(generation);
    }

    /// Adds a switch without ports.
    pub fn add_switch(&self, setup: SwitchSetup) -> SwitchId {
        self.add_switch_with(Fdb::new(setup.fdb_capacity), setup.settings)
    }

    pub(super) fn add_switch_with(&self, fdb: Fdb, settings: SwitchSettings) -> SwitchId {
        let switch = Arc::new(SwitchEntry::new(fdb, settings));
        self.revise(|snapshot| {
            let switches = &mut snapshot.switches;
            let free = switches.iter().position(Option::is_none).unwrap_or(switches.len());
            put(switches, free, switch);
            SwitchId(free as u16)
        })
    }

    /// Changes the settings of a switch. What was learned in a VLAN that carries copies from now on is gone.
    pub fn update_switch(&self, id: SwitchId, settings: SwitchSettings) {
        let change = |snapshot: &mut Snapshot| {
            let mut copies = settings.rspan.to_vec();
            if let Some(Some(switch)) = snapshot.switches.get_mut(id.index()) {
                copies.retain(|vlan| !switch.rspan.contains(vlan));
                *switch = Arc::new(SwitchEntry::clone(switch).with(settings));
            }
            snapshot.recompile(id);
            copies
        };
        self.revise_then(change, |copies| {
            if !copies.is_empty() {
                // A worker may still be learning by the old snapshot.
                self.quiesce();
            }
            for vlan in copies {
                let filter = FdbFilter {
                    port: None,
                    vlan: Some(vlan.get()),
                    sticky: true,
                };
                self.fdb_flush(id, filter);
            }
        });
    }

    /// Removes a switch; its ports must be gone.
    pub fn remove_switch(&self, id: SwitchId) {
        self.revise(|snapshot| {
            if let Some(slot) = snapshot.switches.get_mut(id.index()) {
                *slot = None;
            }
        });
    }

    /// Sends a probe of the loop guard out of a port, also one that is down, in a VLAN (0: in none). From then on, and until it
    /// has come back, this nonce is the port's; one that gets lost is followed by others as long as there is a reason.
    pub fn send_probe(&self, port: PortRef, vlan: u16, nonce: u64) {
        let snapshot = self.snapshot();
        let Some(port) = snapshot.find(port).filter(|port| !port.mirror_only) else {
            return;
        };
        if let Some(switch) = snapshot.switch(port.switch) {
            let policy = &port.policy().vlan;
            if switch.vlan_aware && !policy.is_member(vlan) {
                return;
            }
            let tag = policy.tag_of(vlan).map(|tpid| (tpid, vlan));
            let probe = Probe { port: port.id, nonce }.wire(switch.token, tag);
            port.probe.store(nonce, Ordering::Release);
            let mut sent = Sent::new();
            port.io.send(0, Frames::One(&probe), &mut sent);
            port.correct(&mut sent, 1);
            // Two threads may send at a time, and a counter has one writer.
            let _one = lock(&self.probing);
            let counters = port.counters_of_control();
            counters.probes.add(1);
            counters.sent(&sent, 1);
        }
    }

    /// The back end of a port, if it is one of this type.
    pub fn io<T: PortIo>(&self, port: PortRef) -> Option<Arc<T>> {
        let io: Arc<dyn Any + Send + Sync> = self.snapshot().find(port)?.io.clone();
        io.downcast().ok()
    }

    /// Readable when events wait.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.shared.event_fd.as_fd()
    }

    /// Takes the events that wait, and how many more were lost since the last call.
    pub fn take_events(&self) -> (Vec<DatapathEvent>, u64) {
        let _ = self.shared.event_fd.read();
        // Before the queue is emptied: an event that comes meanwhile is either taken now or signalled again.
        self.shared.event_pending.store(false, Ordering::Release);
        let revised = self.shared.revised.swap(false, Ordering::Acquire);
        let failed = std::mem::take(&mut *lock(&self.shared.failed));
        let events = std::iter::from_fn(|| self.shared.events.pop())
            .take(EVENT_QUEUE)
            .chain(failed)
            .chain(revised.then_some(DatapathEvent::Revised))
            .collect();
        (events, self.shared.lost_events.swap(0, Ordering::Relaxed))
    }

    /// Frames that agents got since the last call, and how many were lost as control was slow. [`Datapath::event_fd`] tells of them too.
    pub fn take_punted(&self) -> (Vec<Punted>, u64) {
        self.shared.punted.take()
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake_workers();
        let own = thread::current().id();
        // A port's own code may have been the last to hold it: its worker ends when that returns.
        for worker in self.threads.drain(..).filter(|worker| worker.thread().id() != own) {
            let _ = worker.join();
        }
    }
}

/// Says which thread has the workers in the hand, until it is dropped.
struct Turning<'a>(&'a AtomicUsize);

impl<'a> Turning<'a> {
    fn begin(turning: &'a AtomicUsize) -> Self {
        turning.store(here(), Ordering::Relaxed);
        Self(turning)
    }
}

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// What tells this thread from others that run.
fn here() -> usize {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// Puts a value into a free place of a table, which may be the one after its end.
fn put<T>(table: &mut Vec<Option<T>>, free: usize, value: T) {
    if free == table.len() {
        table.push(None);
    }
    table[free] = Some(value);
}

#[cfg(test)]
mod tests;
