//! A worker: waits, takes batches, runs them to completion.

use std::any::Any;
use std::io;
use std::iter::Peekable;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::vec::Drain;

use arc_swap::ArcSwap;
use nix::sched::CpuSet;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use super::PortId;
use super::affinity;
use super::blame;
use super::clock::Clock;
use super::egress::Egress;
use super::handle::Shared;
use super::lists::OutputLists;
use super::live::Live;
use super::load::Load;
use super::nearness::{Move, Nearness};
use super::patience::Patience;
use super::pipeline;
use super::setup::{Begin, DatapathEvent, SenderCore};
use super::snapshot::{PortEntry, Snapshot};
use super::traffic::{Held, Loader, Schedule};
use crate::batch::Batch;

/// Token of the descriptor by which control wakes a worker.
pub(super) const WAKE: u64 = u64::MAX;
/// Token of the timer of a worker's schedule.
const TIMER: u64 = u64::MAX - 1;
/// Most held frames that are sent on before other frames have their turn.
const DUE: usize = 256;
/// Events taken from the poller at once.
const EVENTS: usize = 64;

/// What control and one worker share.
pub(super) struct WorkerShared {
    pub epoll: Epoll,
    pub wake: EventFd,
    /// Frames that this worker holds back; all workers put some in.
    pub schedule: Schedule,
    /// What came to it.
    pub load: Load,
}

impl WorkerShared {
    pub fn new(clock: &Clock) -> nix::Result<Self> {
        let epoll = Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake =
            EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_CLOEXEC | nix::sys::eventfd::EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        let schedule = Schedule::new(clock.clone())?;
        epoll.add(schedule.timer(), EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok(Self {
            epoll,
            wake,
            schedule,
            load: Load::new(),
        })
    }
}

pub(super) struct Worker {
    index: usize,
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    generation: u64,
    batch: Batch,
    lists: OutputLists,
    egress: Egress,
    loader: Loader,
    /// Held frames that are due, and the batch that they become.
    due: Vec<Held>,
    released: Batch,
    patience: Patience,
    nearness: Nearness,
    /// Frames that came in this turn.
    came: usize,
    events: Box<[EpollEvent]>,
    /// Held frames can go on at once.
    due_soon: bool,
}

impl Worker {
    pub fn new(index: usize, shared: Arc<Shared>, spin: Duration, sender_core: SenderCore) -> Self {
        Self {
            index,
            snapshot: ArcSwap::load_full(&shared.snapshot),
            shared,
            generation: 0,
            batch: Batch::new(),
            lists: OutputLists::default(),
            egress: Egress::new(),
            loader: Loader::default(),
            due: Vec::new(),
            released: Batch::new(),
            patience: Patience::new(spin),
            nearness: Nearness::new(index, sender_core),
            came: 0,
            events: [EpollEvent::empty(); EVENTS].into(),
            due_soon: false,
        }
    }

    /// The whole life of a worker's thread. If a port's own code panics, that port fails and the others go on; of any other panic the
    /// worker ends, and nobody waits for it.
    pub fn live(mut self, begin: &Begin) {
        let (shared, index) = (self.shared.clone(), self.index);
        let lived = catch_unwind(AssertUnwindSafe(move || {
            begin.run();
            while let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
                self.recover(&*panic).unwrap_or_else(|| resume_unwind(panic));
            }
        }));
        if let Err(panic) = lived {
            shared.grace.acknowledge(index, u64::MAX);
            shared.notify_failed(DatapathEvent::WorkerFailed {
                worker: index,
                cause: blame::said(&*panic).into(),
            });
        }
    }

    /// Runs until control says stop.
    fn run(&mut self) {
        let cores = affinity::own();
        let go = |to: Option<Move>| {
            if let (Some(to), Ok(cores)) = (to, &cores)
                && let Err(error) = run_on(to, cores)
            {
                tracing::debug!("a worker can't choose its core: {error}");
            }
        };
        while !self.shared.stop.load(Ordering::Acquire) {
            let now = Instant::now();
            let looks = self.patience.looks(now);
            if self.patience.is_crowded(now) {
                go(self.nearness.kept_waiting(now));
            }
            let timeout = if looks || self.due_soon {
                EpollTimeout::ZERO
            } else {
                EpollTimeout::NONE
            };
            if !looks {
                go(self.nearness.sleeps());
            }
            if !self.turn(timeout) {
                // Whoever wants the core meanwhile has it: it may be the station that is to answer.
                self.patience.looked_in_vain(now);
                self.nearness.looked_in_vain();
                std::thread::yield_now();
            } else if self.came > 0 {
                go(self.nearness.took(self.came, now));
            }
        }
    }

    /// A turn in the thread of the caller, to whom a panic goes on; the worker can be used after it.
    pub fn turn_by_hand(&mut self) -> bool {
        let turn = catch_unwind(AssertUnwindSafe(|| self.turn(EpollTimeout::ZERO)));
        turn.unwrap_or_else(|panic| {
            self.recover(&*panic);
            resume_unwind(panic)
        })
    }

    /// Forgets what it was doing when it panicked. If that was in a port's own code the port fails, else there is none to blame.
    fn recover(&mut self, panic: &(dyn Any + Send)) -> Option<()> {
        self.batch.clear();
        self.released.clear();
        self.lists = OutputLists::default();
        self.lists.resize(self.snapshot.ports.len());
        self.egress = Egress::new();
        self.loader = Loader::default();
        self.events = [EpollEvent::empty(); EVENTS].into();
        // Those may be due that it was to look at.
        self.due_soon = true;
        let port = blame::panicked()?;
        if let Some(port) = self.snapshot.find(port) {
            let cause = format!("its code panicked: {}", blame::said(panic));
            fail(&self.shared, self.index, port, 0, &cause);
        }
        Some(())
    }

    /// Waits until something is to be done, `timeout` at most, and does it: a batch of each port that has frames. False: there was
    /// nothing.
    pub fn turn(&mut self, timeout: EpollTimeout) -> bool {
        let shared = self.shared.clone();
        let own = &shared.workers[self.index];
        let mut events = std::mem::take(&mut self.events);
        // The only error that can come here is EINTR: all arguments stay valid.
        let count = own.epoll.wait(&mut events, timeout).unwrap_or(0);
        let ready = &events[..count];
        // Before the look at the snapshot: the call for one that comes later is then still there for the next wait.
        if ready.iter().any(|event| event.data() == WAKE) {
            let _ = own.wake.read();
        }
        if ready.iter().any(|event| event.data() == TIMER) {
            own.schedule.fired();
        }
        self.refresh();
        let now = shared.clock.seconds();
        self.came = 0;
        let mut served = false;
        for event in ready.iter().filter(|event| event.data() < TIMER) {
            self.serve(PortId(event.data() as u16), now);
            served = true;
        }
        if served {
            self.patience.came(Instant::now());
        }
        self.release(&own.schedule, now);
        self.due_soon = own.schedule.arm();
        self.events = events;
        count > 0 || self.due_soon
    }

    /// Takes over the newest snapshot, and tells control so.
    pub fn refresh(&mut self) {
        let generation = self.shared.grace.newest();
        if generation != self.generation {
            self.snapshot = self.shared.snapshot.load_full();
            self.lists.resize(self.snapshot.ports.len());
            self.generation = generation;
            let schedule = &self.shared.workers[self.index].schedule;
            schedule.flush_closed(|held| held.line.flush(self.index, held));
            self.shared.grace.acknowledge(self.index, generation);
        }
    }

    fn serve(&mut self, id: PortId, now: u32) {
        // Not there: it was removed after the poller reported it.
        let Some(port) = self.snapshot.port(id) else { return };
        self.batch.clear();
        let received = blame::inside(port, |io| io.receive(self.index, &mut self.batch));
        // What had come before an error goes its way too.
        if !self.batch.is_empty() {
            self.shared.workers[self.index].load.took(self.batch.len());
            self.came += self.batch.len();
            let mut live = Live {
                index: self.index,
                shared: &self.shared,
                egress: &mut self.egress,
                loader: &mut self.loader,
            };
            pipeline::receive(&mut live, &self.snapshot, port, now, &mut self.batch, &mut self.lists);
        }
        if let Err(error) = received
            && !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        {
            let errno = error.raw_os_error().unwrap_or(0);
            fail(&self.shared, self.index, port, errno, &error.to_string());
        }
    }

    /// Lets held frames that are due go on.
    fn release(&mut self, schedule: &Schedule, now: u32) {
        schedule.take(|| self.shared.clock.nanoseconds(), DUE, &mut self.due);
        let mut due = Due {
            held: self.due.drain(..).peekable(),
            schedule,
        };
        while let Some(first) = due.held.next() {
            let line = first.line.clone();
            if first.is_turn() {
                // The schedule is this worker's own, which is awake.
                line.take_turn(self.shared.clock.nanoseconds(), &mut self.loader, |held| {
                    schedule.hold(held, false)
                });
                continue;
            }
            self.released.clear();
            // It may not have come into this worker's snapshot yet.
            let mut next = Some(first);
            let port = self.snapshot.find(line.port);
            while let Some(held) = next {
                if line.is_closed() || port.is_none() {
                    line.flush(self.index, &held);
                } else {
                    line.arrived(&held);
                    self.released.push_copy(&held.wire);
                }
                let same = |held: &Held| self.released.has_room() && !held.is_turn() && Arc::ptr_eq(&held.line, &line);
                next = due.held.next_if(same);
            }
            let Some(port) = port.filter(|_| !self.released.is_empty()) else {
                continue;
            };
            let mut live = Live {
                index: self.index,
                shared: &self.shared,
                egress: &mut self.egress,
                loader: &mut self.loader,
            };
            let (released, lists) = (&mut self.released, &mut self.lists);
            pipeline::arrive(&mut live, &self.snapshot, &line, port, now, released, lists);
        }
    }
}

/// Held frames that are due. Those that are left after a panic are due again.
struct Due<'a> {
    held: Peekable<Drain<'a, Held>>,
    schedule: &'a Schedule,
}

impl Drop for Due<'_> {
    fn drop(&mut self) {
        if self.held.len() > 0 {
            let mut left = self.held.by_ref().map(|held| (0, held)).collect();
            self.schedule.hold(&mut left, false);
        }
    }
}

/// `cores`: those that it may run on at all.
fn run_on(to: Move, cores: &CpuSet) -> nix::Result<()> {
    match to {
        Move::To(core) if cores.is_set(core)? => affinity::pin(core),
        Move::To(_) => Ok(()),
        Move::Anywhere => affinity::unpin(cores),
    }
}

/// A port that can't be received from is not polled any more, until control opens it anew.
#[cold]
fn fail(shared: &Shared, worker: usize, port: &PortEntry, errno: i32, cause: &str) {
    for fd in port.io.receive_fds(worker, shared.workers.len(), port.id.index()) {
        let _ = shared.workers[worker].epoll.delete(fd);
    }
    shared.notify_failed(DatapathEvent::PortFailed {
        port: port.port_ref(),
        errno,
        cause: cause.into(),
    });
}
