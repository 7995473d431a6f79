use std::sync::Barrier;
use std::sync::mpsc::{RecvTimeoutError, channel};

use vswitch_api::ReservedMulticast;
use vswitch_api::view::PortCounters;

use super::*;
use crate::memory::MemoryPort;
use crate::offload::Offload;
use crate::punt::Punt;
use crate::sniffer::{Sniffer, SnifferSetup};
use crate::{PortId, PortSettings, PortSetup};

/// A datapath with so many workers, and a switch of it.
fn start(workers: usize) -> (Datapath, SwitchId) {
    let datapath = Datapath::start(DatapathConfig {
        workers,
        ..DatapathConfig::default()
    })
    .unwrap();
    let switch = datapath.add_switch(SwitchSetup {
        fdb_capacity: 16,
        settings: SwitchSettings::default(),
    });
    (datapath, switch)
}

#[test]
fn no_call_to_a_worker_is_lost() {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let (datapath, switch) = start(2);
        for _ in 0..10_000 {
            datapath.update_switch(
                switch,
                SwitchSettings {
                    reserved: ReservedMulticast::All,
                    ..SwitchSettings::default()
                },
            );
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

/// Each snapshot costs a wait for all workers and one for the kernel: a lab of thousands of ports that is stopped or
/// removed must not pay them for each port.
#[test]
fn many_ports_are_removed_by_as_many_snapshots_as_one() {
    let (datapath, switch) = start(2);
    let ids: Vec<_> = (0..30).map(|_| add(&datapath, switch)).collect();
    let snapshots = || datapath.shared.grace.newest();
    let removing = |ids: &[PortRef]| {
        let before = snapshots();
        assert_eq!(datapath.remove_ports(ids).len(), ids.len());
        snapshots() - before
    };
    let of_one = removing(&ids[..1]);
    assert_eq!(removing(&ids[1..]), of_one);
    assert_eq!(datapath.snapshot().ports().count(), 0);
    assert!(datapath.remove_ports(&ids).is_empty(), "they are gone");
}

#[test]
fn many_ports_are_added_by_one_snapshot_into_the_free_places() {
    let (datapath, switch) = start(1);
    let ids: Vec<_> = (0..5).map(|_| add(&datapath, switch)).collect();
    drop(datapath.remove_ports(&[ids[1], ids[3]]));
    let setup = || {
        let (io, _) = MemoryPort::new(true).unwrap();
        let settings = settings(true);
        PortSetup { switch, io, settings }
    };
    let snapshots = || datapath.shared.grace.newest();
    let before = snapshots();
    let added = datapath.add_ports((0..4).map(|_| setup()).collect());
    assert_eq!(snapshots() - before, 1);
    let added: Vec<_> = added.into_iter().map(Result::unwrap).collect();
    assert_eq!(added.iter().map(|port| port.id.0).collect::<Vec<_>>(), [1, 3, 5, 6]);
    let snapshot = datapath.snapshot();
    let flood = &snapshot.switch(switch).unwrap().flood.broadcast;
    assert!(
        added
            .iter()
            .all(|port| snapshot.find(*port).is_some() && flood.contains(port.id))
    );
    assert!(datapath.add_ports(Vec::new()).is_empty());
}

fn settings(up: bool) -> PortSettings {
    PortSettings {
        mtu: 1500,
        up,
        offload: true,
        policy: None,
    }
}

fn add(datapath: &Datapath, switch: SwitchId) -> PortRef {
    let (io, _) = MemoryPort::new(true).unwrap();
    let settings = settings(true);
    datapath.add_port(PortSetup { switch, io, settings }).unwrap()
}

/// The lowest index that is free is the next port's at once (review B7): who still means the port before does nothing to it.
#[test]
fn a_port_that_has_the_index_of_another_is_not_taken_for_it() {
    let (datapath, switch) = start(1);
    let gone = add(&datapath, switch);
    datapath.remove_port(gone);
    let port = add(&datapath, switch);
    assert_eq!(port.id, gone.id);
    assert_ne!(port, gone);

    let capture = SnifferSetup {
        ingress: true,
        egress: true,
        filter: None,
    };
    let capture = Arc::new(Sniffer::new(capture).unwrap());
    assert!(
        !datapath.add_sniffers(&[(gone, capture.clone())])[0],
        "a capture of another port's frames"
    );
    assert!(datapath.add_sniffers(&[(port, capture.clone())])[0]);
    datapath.remove_sniffers(&[(gone, capture.clone())]);
    datapath.update_port(gone, settings(false));
    datapath.send_probe(gone, 0, 7);
    datapath.remove_port(gone);
    assert!(datapath.io::<MemoryPort>(gone).is_none() && datapath.trace(gone, &[0; 72]).is_none());

    let snapshot = datapath.snapshot();
    let entry = snapshot.find(port).unwrap();
    assert!(entry.up && entry.sniffers.is_some() && snapshot.find(gone).is_none());
    assert_eq!(entry.probe.load(Ordering::Relaxed), 0);
}

/// That a port failed is told once; stations make events at will.
#[test]
fn a_port_that_fails_is_told_of_among_any_number_of_stations() {
    let (datapath, switch) = start(1);
    let port = add(&datapath, switch);
    let mac = vswitch_api::Mac([2, 0, 0, 0, 0, 1]);
    for _ in 0..EVENT_QUEUE + 10 {
        datapath.shared.notify(DatapathEvent::Learned { mac, port });
    }
    let (sent, received) = (port, port);
    let found = DatapathEvent::LoopFound {
        sent,
        nonce: 7,
        received,
        vlan: 0,
    };
    datapath.shared.notify(found.clone());
    let cause = "gone".into();
    let failed = DatapathEvent::PortFailed { port, errno: 5, cause };
    datapath.shared.notify_failed(failed.clone());
    datapath.shared.notify_failed(failed.clone());
    let (events, lost) = datapath.take_events();
    assert!(lost >= 10, "{lost}");
    assert_eq!(events.iter().filter(|event| **event == failed).count(), 1);
    assert!(
        events.contains(&found),
        "there is room for what no station makes at will"
    );
    assert!(!datapath.take_events().0.contains(&failed));
}

/// Lets others run at the same time, again and again.
fn rounds(round: impl Fn()) {
    (0..1000).for_each(|_| round());
}

/// Whoever came second took out what had the index by then.
#[test]
fn a_port_that_is_removed_twice_at_once_takes_no_other_along() {
    let (datapath, switch) = start(1);
    rounds(|| {
        let victim = add(&datapath, switch);
        let barrier = Barrier::new(3);
        let added: Vec<_> = std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    barrier.wait();
                    datapath.remove_port(victim);
                });
            }
            barrier.wait();
            (0..6).map(|_| add(&datapath, switch)).collect()
        });
        let snapshot = datapath.snapshot();
        assert!(snapshot.find(victim).is_none());
        assert!(added.iter().all(|port| snapshot.find(*port).is_some()));
        drop(datapath.remove_ports(&added));
    });
}

/// A port that may forward by itself whatever the snapshot says of it.
#[derive(Debug)]
struct Direct {
    io: Arc<MemoryPort>,
    allowed: AtomicBool,
    /// Whether what is flooded may be sent by it.
    floods: AtomicBool,
}

impl Direct {
    fn new() -> Arc<Self> {
        let (io, _) = MemoryPort::new(true).unwrap();
        Arc::new(Self {
            io,
            allowed: AtomicBool::new(false),
            floods: AtomicBool::new(false),
        })
    }

    /// Whether it may forward what is known, and what is flooded.
    fn may(&self) -> (bool, bool) {
        (self.allowed.load(Ordering::SeqCst), self.floods.load(Ordering::SeqCst))
    }
}

impl PortIo for Direct {
    fn receive_fds(&self, worker: usize, workers: usize, port: usize) -> Vec<BorrowedFd<'_>> {
        self.io.receive_fds(worker, workers, port)
    }

    fn receive(&self, worker: usize, batch: &mut crate::batch::Batch) -> io::Result<()> {
        self.io.receive(worker, batch)
    }

    fn send(&self, worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        self.io.send(worker, frames, sent);
    }

    fn offload(&self) -> Option<&dyn Offload> {
        Some(self)
    }
}

impl Offload for Direct {
    fn slot(&self) -> u16 {
        0
    }

    fn bind(&self, _id: PortId) {}

    fn unbind(&self, _id: PortId) {}

    fn set_direct(&self, direct: Option<crate::offload::Direct>) {
        self.allowed.store(direct.is_some(), Ordering::SeqCst);
    }

    fn set_flood(&self, to: Option<&[u16]>) {
        self.floods.store(to.is_some(), Ordering::SeqCst);
    }

    fn leaves(&self, _punt: &Punt) -> bool {
        true
    }

    fn settle(&self) {}

    fn add_to(&self, _total: &mut PortCounters) {}
}

#[test]
fn what_a_port_may_forward_by_itself_follows_what_is_wanted_of_it_and_its_switch() {
    let (datapath, switch) = start(1);
    let io = Direct::new();
    let (settings, other) = (settings(true), io.clone());
    let port = datapath
        .add_port(PortSetup {
            switch,
            io: other,
            settings,
        })
        .unwrap();
    assert_eq!(io.may(), (true, true));
    let capture = Arc::new(Sniffer::new(SnifferSetup::default()).unwrap());
    assert!(datapath.add_sniffers(&[(port, capture.clone())])[0]);
    assert_eq!(io.may(), (false, false));
    datapath.remove_sniffers(&[(port, capture)]);
    assert_eq!(io.may(), (true, true));
    // A port that can't is flooded to by the datapath; the others' known frames stay as they were.
    let plain = add(&datapath, switch);
    assert_eq!(io.may(), (true, false));
    datapath.remove_port(plain);
    assert_eq!(io.may(), (true, true));
}

/// Else a capture that begins just then would see nothing.
#[test]
fn what_a_new_port_may_forward_by_itself_goes_by_the_newest_snapshot() {
    let (datapath, switch) = start(1);
    rounds(|| {
        let io = Direct::new();
        let serial = *lock(&datapath.revision) + 1;
        let port = PortRef { id: PortId(0), serial };
        let capture = Arc::new(Sniffer::new(SnifferSetup::default()).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while datapath.snapshot().find(port).is_none() {
                    std::hint::spin_loop();
                }
                assert!(datapath.add_sniffers(&[(port, capture.clone())])[0]);
            });
            let settings = settings(true);
            let io = io.clone();
            assert_eq!(datapath.add_port(PortSetup { switch, io, settings }).unwrap(), port);
        });
        assert!(!io.allowed.load(Ordering::SeqCst));
        datapath.remove_port(port);
    });
}
