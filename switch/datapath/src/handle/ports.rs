//! Ports: added and removed together, and changed.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};

use super::super::counters::WorkerCounters;
use super::super::fdb::FdbFilter;
use super::super::offload::direct;
use super::super::setup::{PortSettings, PortSetup};
use super::super::snapshot::{PortEntry, PortSet, Snapshot};
use super::super::traffic::TrafficSetup;
use super::super::{PortId, PortRef, lock, mirror, sniffer};
use super::{Datapath, MAX_PORTS, put};

impl Datapath {
    /// Adds a port and begins to receive from it.
    ///
    /// # Errors
    /// There are [`MAX_PORTS`] already, or its descriptors can't be polled; the port is not added then.
    pub fn add_port(&self, setup: PortSetup) -> io::Result<PortRef> {
        // As many come back as go in.
        self.add_ports(vec![setup]).swap_remove(0)
    }

    /// Adds ports, by one snapshot, and begins to receive from them. The results are in the order of the ports.
    ///
    /// # Errors
    /// Those of [`Datapath::add_port`], of each port by itself.
    pub fn add_ports(&self, setups: Vec<PortSetup>) -> Vec<io::Result<PortRef>> {
        self.add_ports_and(setups, |_| ())
    }

    /// The same; `before` is called when they are there and before anything is received from them.
    ///
    /// # Errors
    /// Those of [`Datapath::add_ports`].
    pub fn add_ports_and(
        &self,
        setups: Vec<PortSetup>,
        before: impl FnOnce(&[Option<PortRef>]),
    ) -> Vec<io::Result<PortRef>> {
        let first = {
            let mut added = lock(&self.revision);
            let first = *added + 1;
            *added += setups.len() as u64;
            first
        };
        let ports: Vec<_> = setups
            .into_iter()
            .zip(first..)
            .map(|(setup, serial)| self.entry(setup, serial))
            .collect();
        let add = |snapshot: &mut Snapshot| {
            let switches: BTreeSet<_> = ports.iter().map(|port| port.switch).collect();
            let mut free = 0;
            let added = ports.into_iter().map(|mut port| {
                let taken = snapshot.ports.iter().skip(free).take_while(|port| port.is_some());
                free += taken.count();
                if free >= MAX_PORTS {
                    return Err(io::Error::other(format!("there are {MAX_PORTS} ports already")));
                }
                port.id = PortId(free as u16);
                let port = Arc::new(port);
                put(&mut snapshot.ports, free, port.clone());
                Ok(port)
            });
            let added: Vec<_> = added.collect();
            switches.iter().for_each(|switch| snapshot.recompile(*switch));
            added
        };
        // Before anybody else changes what they may forward.
        let added = self.revise_then(add, |added| {
            let snapshot = self.snapshot();
            for port in added.iter().flatten() {
                if let Some(offload) = port.io.offload() {
                    offload.bind(port.id);
                    offload.set_direct(direct(&snapshot, port));
                }
            }
        });
        let refs = added.iter().map(|port| port.as_ref().ok().map(|port| port.port_ref()));
        before(&refs.collect::<Vec<_>>());
        // After the snapshot: a worker that is told of a port finds it there.
        let polled = |port: Arc<PortEntry>| match self.poll(&port) {
            Ok(()) => Ok(port.port_ref()),
            Err(error) => {
                drop(self.take_out(&[port.port_ref()], |_| ()));
                Err(error)
            }
        };
        added.into_iter().map(|port| port.and_then(polled)).collect()
    }

    fn entry(&self, setup: PortSetup, serial: u64) -> PortEntry {
        let PortSetup {
            switch,
            io,
            settings:
                PortSettings {
                    mtu,
                    up,
                    offload,
                    policy,
                },
        } = setup;
        PortEntry {
            id: PortId(0),
            serial,
            switch,
            offload: offload && io.takes_offloads(),
            io,
            mtu,
            up,
            policy,
            traffic: None,
            mirror_only: false,
            sniffers: None,
            counters: (0..=self.workers()).map(|_| WorkerCounters::default()).collect(),
            carrier: Arc::new(true.into()),
            probe: Arc::default(),
        }
    }

    /// Has workers told of what comes from a port: by all of its descriptors, or by none.
    fn poll(&self, port: &PortEntry) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, port.id.0.into());
        let mut polled: Vec<(&Epoll, BorrowedFd<'_>)> = Vec::new();
        for (epoll, fd) in self.receive_fds(port) {
            if let Err(error) = epoll.add(fd, event) {
                for (epoll, fd) in polled {
                    let _ = epoll.delete(fd);
                }
                return Err(match error {
                    Errno::EEXIST => io::Error::new(io::ErrorKind::AlreadyExists, "another port has its descriptor"),
                    error => error.into(),
                });
            }
            polled.push((epoll, fd));
        }
        Ok(())
    }

    fn stop_polling(&self, port: &PortEntry) {
        for (epoll, fd) in self.receive_fds(port) {
            // Not there if a worker took it out because the device failed.
            let _ = epoll.delete(fd);
        }
    }

    /// The descriptors of a port, with the pollers of those workers that wait for them.
    fn receive_fds<'a>(&'a self, port: &'a PortEntry) -> impl Iterator<Item = (&'a Epoll, BorrowedFd<'a>)> {
        let workers = self.shared.workers.iter().enumerate();
        workers.flat_map(|(index, worker)| {
            let fds = port.io.receive_fds(index, self.workers(), port.id.index());
            fds.into_iter().map(|fd| (&worker.epoll, fd))
        })
    }

    /// Changes the settings of a port. The learned entries of one that goes down, or changes its VLANs or whether stations are bound to it, are gone.
    pub fn update_port(&self, port: PortRef, settings: PortSettings) {
        let PortSettings {
            mtu,
            up,
            offload,
            policy,
        } = settings;
        let change = |snapshot: &mut Snapshot| {
            let before = snapshot.find(port)?.clone();
            snapshot.change_port(port, |port| {
                port.mtu = mtu;
                port.up = up;
                port.offload = offload && port.io.takes_offloads();
                port.policy = policy;
            });
            snapshot.recompile(before.switch);
            Some((before, snapshot.find(port)?.clone()))
        };
        self.revise_then(change, |changed| {
            let Some((before, after)) = changed else { return };
            let (was, is) = (before.policy(), after.policy());
            // What is bound to a port stays while it is down, but not where it could not have come to be.
            let sticky = was.vlan != is.vlan || was.learning.sticky != is.learning.sticky;
            if sticky || !after.up {
                // A worker may still be learning from it by the old snapshot; and the kernel would go by what it learned.
                self.quiesce();
                let of_port = FdbFilter::of_port(port.id);
                self.fdb_flush(after.switch, FdbFilter { sticky, ..of_port });
            }
        });
    }

    /// Says whether frames that are sent to a port get to its station: without a carrier, or while its interface is down, they count as dropped
    /// (`link-down`). They are sent all the same, since the station may be there again before this is said.
    pub fn set_carrier(&self, port: PortRef, carrier: bool) {
        if let Some(port) = self.snapshot().find(port)
            && port.carrier.swap(carrier, Ordering::Relaxed) != carrier
            && let Some(offload) = port.io.offload()
        {
            offload.set_carrier(carrier);
        }
    }

    /// Removes a port. When it returns no worker uses the port any more, its entries in the FDB are gone and, once the
    /// caller has dropped what it holds, its descriptors are closed.
    pub fn remove_port(&self, id: PortRef) {
        drop(self.remove_ports(&[id]));
    }

    /// Removes ports, all in the time that one takes: two snapshots, and two waits for the workers. What comes back closes their
    /// descriptors as it is dropped.
    #[must_use = "the descriptors are closed as it is dropped"]
    pub fn remove_ports(&self, ids: &[PortRef]) -> Vec<Arc<PortEntry>> {
        self.take_out(ids, |port| self.stop_polling(port))
    }

    /// The same; `deafen` makes the workers receive no more from a port.
    fn take_out(&self, ids: &[PortRef], deafen: impl Fn(&PortEntry)) -> Vec<Arc<PortEntry>> {
        self.must_not_be_inside();
        // Who removes the same ports at the same time finds them gone, and not others that have their indices by then.
        let _alone = lock(&self.removal);
        let before = self.snapshot();
        let ports: Vec<_> = ids.iter().filter_map(|id| before.find(*id).cloned()).collect();
        drop(before);
        if ports.is_empty() {
            return Vec::new();
        }
        for port in &ports {
            // Frames that wait on its lines are dropped as long as they can be counted.
            self.set_traffic(port.port_ref(), &TrafficSetup::default());
            deafen(port);
        }
        let switches: BTreeSet<_> = ports.iter().map(|port| port.switch).collect();
        let mut gone = PortSet::default();
        // Two steps, so that an index is not used again before the last worker has left the port.
        self.revise(|snapshot| {
            for port in &ports {
                gone.set(port.id, true);
                snapshot.change_port(port.port_ref(), |port| port.up = false);
            }
            switches.iter().for_each(|switch| snapshot.recompile(*switch));
        });
        self.quiesce();
        for switch in &switches {
            if let Some(switch) = self.snapshot().switch(*switch) {
                switch.fdb.forget_ports(&gone);
            }
        }
        for port in &ports {
            if let Some(offload) = port.io.offload() {
                offload.unbind(port.id);
            }
        }
        let last: Vec<_> = self.revise(|snapshot| {
            let mut take = |port: &Arc<PortEntry>| {
                mirror::forget_port(snapshot, port.id);
                snapshot.ports.get_mut(port.id.index()).and_then(Option::take)
            };
            let last = ports.iter().filter_map(&mut take).collect();
            switches.iter().for_each(|switch| snapshot.recompile(*switch));
            last
        });
        self.quiesce();
        last.iter().for_each(|port: &Arc<PortEntry>| sniffer::close_all(port));
        last
    }
}
