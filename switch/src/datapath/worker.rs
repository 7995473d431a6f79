//! A worker: waits, takes batches, runs them to completion.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use super::PortId;
use super::egress::Egress;
use super::forward::{Notice, OutputLists, forward};
use super::handle::{DatapathEvent, Shared, seconds};
use super::mirror;
use super::snapshot::{PortEntry, Snapshot};
use super::tap::{self, Direction};
use crate::port::Batch;

/// Token of the descriptor by which control wakes a worker.
pub(super) const WAKE: u64 = u64::MAX;
/// Events taken from the poller at once.
const EVENTS: usize = 64;

/// What control and one worker share.
pub(super) struct WorkerShared {
    pub epoll: Epoll,
    pub wake: EventFd,
}

impl WorkerShared {
    pub fn new() -> nix::Result<Self> {
        let epoll = Epoll::new(nix::sys::epoll::EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake =
            EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_CLOEXEC | nix::sys::eventfd::EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(Self { epoll, wake })
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
    spin: Duration,
}

impl Worker {
    pub fn new(index: usize, shared: Arc<Shared>, spin: Duration) -> Self {
        Self {
            index,
            snapshot: ArcSwap::load_full(&shared.snapshot),
            shared,
            generation: 0,
            batch: Batch::new(),
            lists: OutputLists::default(),
            egress: Egress::new(),
            spin,
        }
    }

    /// Runs until control says stop.
    pub fn run(mut self) {
        let shared = self.shared.clone();
        let own = &shared.workers[self.index];
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut busy_since: Option<Instant> = None;
        while !shared.stop.load(Ordering::Acquire) {
            // After traffic the next frame is often near: looking for it a while is cheaper than going to sleep.
            let timeout = match busy_since {
                Some(last) if last.elapsed() < self.spin => EpollTimeout::ZERO,
                _ => EpollTimeout::NONE,
            };
            // The only error that can come here is EINTR: all arguments stay valid.
            let ready = own.epoll.wait(&mut events, timeout).unwrap_or(0);
            if ready == 0 {
                // Spinning. Whoever wants the core meanwhile has it: it may be the station that is to answer.
                std::thread::yield_now();
            }
            let ready = &events[..ready];
            // Before the look at the snapshot: the call for one that comes later is then still there for the next wait.
            if ready.iter().any(|event| event.data() == WAKE) {
                let _ = own.wake.read();
            }
            self.refresh();
            let now = seconds();
            let mut served = false;
            for event in ready.iter().filter(|event| event.data() != WAKE) {
                self.serve(PortId(event.data() as u16), now);
                served = true;
            }
            if served && !self.spin.is_zero() {
                busy_since = Some(Instant::now());
            }
        }
    }

    /// Takes over the newest snapshot, and tells control so.
    fn refresh(&mut self) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.snapshot = self.shared.snapshot.load_full();
            self.lists.resize(self.snapshot.ports.len());
            self.generation = generation;
            self.shared.acknowledge(self.index, generation);
        }
    }

    fn serve(&mut self, id: PortId, now: u32) {
        // Not there: it was removed after the poller reported it.
        let Some(port) = self.snapshot.port(id) else { return };
        self.batch.clear();
        if let Err(error) = port.io.receive(self.index, &mut self.batch, &mut self.egress.messages) {
            fail(&self.shared, self.index, port, error.raw_os_error().unwrap_or(0));
            return;
        }
        if self.batch.is_empty() {
            return;
        }
        if let Some(taps) = &port.taps {
            tap::see(taps, Direction::In, (0..self.batch.len()).map(|i| self.batch.wire(i)));
        }
        if port.mirror_only {
            mirror::refuse(&self.batch, port, self.index);
            return;
        }
        forward(
            &self.batch,
            &self.snapshot,
            port,
            self.index,
            now,
            &mut self.lists,
            |notice| {
                self.shared.notify(match notice {
                    Notice::Learned(mac) => DatapathEvent::Learned {
                        switch: port.switch,
                        mac,
                        port: id,
                    },
                    Notice::Moved(mac, from) => DatapathEvent::Moved {
                        switch: port.switch,
                        mac,
                        from,
                        to: id,
                    },
                });
            },
        );
        mirror::mirror(&self.batch, &self.snapshot, port, self.index, &mut self.lists);
        let (snapshot, egress, batch, worker) = (&self.snapshot, &mut self.egress, &mut self.batch, self.index);
        self.lists.drain(|id, list| {
            if let Some(port) = snapshot.port(id) {
                egress.send(port, worker, batch, list);
            }
        });
    }
}

/// A port that can't be received from is not polled any more, until control opens it anew.
fn fail(shared: &Shared, worker: usize, port: &PortEntry, errno: i32) {
    if let Some(fd) = port.io.receive_fd(worker, shared.workers.len(), port.id.index()) {
        let _ = shared.workers[worker].epoll.delete(fd);
    }
    shared.notify(DatapathEvent::PortFailed { port: port.id, errno });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::{Datapath, DatapathConfig, SwitchSetup};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use vswitch_api::ReservedMulticast;

    #[test]
    fn no_call_to_a_worker_is_lost() {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let datapath = Datapath::start(DatapathConfig { workers: 2, spin_us: 0 }).unwrap();
            let switch = datapath.add_switch(SwitchSetup {
                fdb_capacity: 16,
                reserved: ReservedMulticast::Never,
            });
            for _ in 0..10_000 {
                datapath.set_reserved(switch, ReservedMulticast::All);
                datapath.quiesce();
                send.send(()).unwrap();
            }
        });
        let ended = loop {
            if let Err(error) = receive.recv_timeout(Duration::from_secs(10)) {
                break error;
            }
        };
        assert_eq!(
            ended,
            RecvTimeoutError::Disconnected,
            "a worker sleeps though it was called"
        );
    }
}
