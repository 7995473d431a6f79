//! Ports of others' making: what they do wrong is theirs, and the switch goes on.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vswitch_api::Mac;
use vswitch_datapath::batch::Batch;
use vswitch_datapath::frame::VNET_HDR_LEN;
use vswitch_datapath::memory::{MemoryPort, MemoryStation};
use vswitch_datapath::port::{Frames, PortIo, Sent};
use vswitch_datapath::testing::{self, Switch};
use vswitch_datapath::{
    Begin, Datapath, DatapathConfig, DatapathEvent, PortRef, PortSettings, PortSetup, SwitchId, SwitchSettings,
    SwitchSetup,
};

use super::lab::{frame, mac};

/// What takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(20);

type Receive = Box<dyn Fn(&mut Batch) -> io::Result<()> + Send + Sync>;
type Hear = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A port that has a frame for whoever calls `receive` when a datagram was sent to it, and is told of each that goes out.
struct Custom {
    bell: UnixDatagram,
    receive: Receive,
    send: Hear,
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
    }
}

impl PortIo for Custom {
    fn receive_fds(&self, worker: usize, workers: usize, port: usize) -> Vec<BorrowedFd<'_>> {
        Vec::from_iter((port % workers == worker).then(|| self.bell.as_fd()))
    }

    fn receive(&self, _worker: usize, batch: &mut Batch) -> io::Result<()> {
        self.bell.recv(&mut [0; 8])?;
        (self.receive)(batch)
    }

    fn send(&self, _worker: usize, frames: Frames<'_>, sent: &mut Sent) {
        for wire in frames.iter() {
            (self.send)(&wire[VNET_HDR_LEN..]);
            sent.note(wire, Ok(()));
        }
    }
}

/// A port, and what rings for it.
fn custom(
    receive: impl Fn(&mut Batch) -> io::Result<()> + Send + Sync + 'static,
    send: impl Fn(&[u8]) + Send + Sync + 'static,
) -> (Arc<Custom>, UnixDatagram) {
    let (bell, ring) = UnixDatagram::pair().unwrap();
    bell.set_nonblocking(true).unwrap();
    let (receive, send) = (Box::new(receive), Box::new(send));
    (Arc::new(Custom { bell, receive, send }), ring)
}

fn nothing(_: &mut Batch) -> io::Result<()> {
    Ok(())
}

/// A frame for a station that nobody knows.
fn stray(from: u8) -> Vec<u8> {
    frame(mac(9), mac(from), from)
}

fn put(batch: &mut Batch, frame: &[u8]) {
    batch.tail()[VNET_HDR_LEN..][..frame.len()].copy_from_slice(frame);
    batch.push(VNET_HDR_LEN + frame.len());
}

/// What a panic says.
fn panics(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it goes on");
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap()
}

/// What the ports that failed said.
fn failures(datapath: &Datapath) -> Vec<(PortRef, i32, String)> {
    let (events, _) = datapath.take_events();
    let failed = events.into_iter().filter_map(|event| match event {
        DatapathEvent::PortFailed { port, errno, cause } => Some((port, errno, cause.to_string())),
        _ => None,
    });
    failed.collect()
}

/// A switch with a worker that is a thread.
fn with_thread(begin: Begin) -> (Datapath, SwitchId) {
    let config = DatapathConfig {
        begin,
        ..DatapathConfig::default()
    };
    let datapath = Datapath::start(config).unwrap();
    let switch = datapath.add_switch(SwitchSetup {
        fdb_capacity: 16,
        settings: SwitchSettings::default(),
    });
    (datapath, switch)
}

fn add(datapath: &Datapath, switch: SwitchId, io: Arc<dyn PortIo>) -> PortRef {
    let settings = PortSettings::default();
    datapath.add_port(PortSetup { switch, io, settings }).unwrap()
}

fn add_memory(datapath: &Datapath, switch: SwitchId) -> (PortRef, MemoryStation) {
    let (io, station) = MemoryPort::new(true).unwrap();
    (add(datapath, switch, io), station)
}

/// The event of a kind that comes first.
fn wait_for<T>(datapath: &Datapath, is: impl Fn(&DatapathEvent) -> Option<T>) -> T {
    loop {
        let mut ready = [PollFd::new(datapath.event_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(DEADLINE).unwrap();
        assert_eq!(poll(&mut ready, timeout).unwrap(), 1, "it never came");
        if let Some(found) = datapath.take_events().0.iter().find_map(&is) {
            return found;
        }
    }
}

fn failed(event: &DatapathEvent) -> Option<(PortRef, String)> {
    match event {
        DatapathEvent::PortFailed { port, cause, .. } => Some((*port, cause.to_string())),
        _ => None,
    }
}

#[test]
fn a_panic_comes_to_who_turns_by_hand_and_the_other_ports_go_on() {
    let switch = Switch::new().unwrap();
    let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
    let (io, ring) = custom(|_| panic!("out of luck"), |_| ());
    let port = switch.add_custom_port(io, PortSettings::default()).unwrap();
    ring.send(&[1]).unwrap();
    assert_eq!(panics(|| switch.run()), "out of luck");
    let cause = "its code panicked: out of luck".to_owned();
    assert_eq!(failures(switch.datapath()), [(port, 0, cause)]);
    for n in 1..3 {
        red.send(&stray(n));
        assert_eq!(blue.receive_all(), [stray(n)]);
    }
    // It is not asked again.
    ring.send(&[1]).unwrap();
    switch.run();
}

/// The lists of ports behind it were half sent.
#[test]
fn a_panic_while_frames_are_sent_leaves_nothing_of_them_behind() {
    let switch = Switch::new().unwrap();
    let red = switch.add_port().unwrap();
    let first = AtomicBool::new(true);
    let (io, _ring) = custom(nothing, move |_| assert!(!first.swap(false, Ordering::Relaxed), "once"));
    switch.add_custom_port(io, PortSettings::default()).unwrap();
    let blue = switch.add_port().unwrap();
    blue.impair_out(Some("delay=5ms".parse().unwrap()));
    let green = switch.add_port().unwrap();
    assert!(panics(|| red.send(&stray(1))).contains("once"));
    red.send(&stray(2));
    assert_eq!(green.receive_all(), [stray(2)]);
    switch.advance(Duration::from_millis(5));
    assert_eq!(blue.receive_all(), [stray(2)]);
}

#[test]
fn no_change_waits_for_a_worker_in_which_a_port_panicked() {
    let (datapath, switch) = with_thread(Begin::default());
    let (io, ring) = custom(|_| panic!("out of luck"), |_| ());
    let port = add(&datapath, switch, io);
    let (_, red) = add_memory(&datapath, switch);
    let (blue_port, blue) = add_memory(&datapath, switch);
    ring.send(&[1]).unwrap();
    let (failed, cause) = wait_for(&datapath, failed);
    assert_eq!((failed, &*cause), (port, "its code panicked: out of luck"));
    datapath.remove_port(port);
    red.send(&stray(1));
    assert!(blue.wait(DEADLINE).is_some(), "the worker goes on");
    let settings = PortSettings {
        up: false,
        ..PortSettings::default()
    };
    datapath.update_port(blue_port, settings);
}

#[test]
fn no_change_waits_for_a_worker_that_is_gone() {
    let (datapath, switch) = with_thread(Begin::with(|| panic!("no start")));
    let (port, _station) = add_memory(&datapath, switch);
    let gone = |event: &DatapathEvent| match event {
        DatapathEvent::WorkerFailed { worker, cause } => Some((*worker, cause.to_string())),
        _ => None,
    };
    assert_eq!(wait_for(&datapath, gone), (0, "no start".to_owned()));
    datapath.remove_port(port);
    datapath.quiesce();
}

#[test]
fn frames_before_an_error_go_their_way_and_its_words_are_told() {
    let switch = Switch::new().unwrap();
    let red = switch.add_port().unwrap();
    let (io, ring) = custom(
        |batch| {
            (1..3).for_each(|n| put(batch, &stray(n)));
            Err(io::Error::other("the cable was pulled"))
        },
        |_| (),
    );
    let port = switch.add_custom_port(io, PortSettings::default()).unwrap();
    ring.send(&[1]).unwrap();
    switch.run();
    assert_eq!(red.receive_all(), [stray(1), stray(2)]);
    let cause = "the cable was pulled".to_owned();
    assert_eq!(failures(switch.datapath()), [(port, 0, cause)]);
}

#[test]
fn that_nothing_waits_is_no_failure() {
    let switch = Switch::new().unwrap();
    let red = switch.add_port().unwrap();
    let kinds = Mutex::new(vec![ErrorKind::Interrupted, ErrorKind::WouldBlock]);
    let receive = move |batch: &mut Batch| {
        put(batch, &stray(1));
        kinds.lock().unwrap().pop().map_or(Ok(()), |kind| Err(kind.into()))
    };
    let (io, ring) = custom(receive, |_| ());
    switch.add_custom_port(io, PortSettings::default()).unwrap();
    for _ in 0..3 {
        ring.send(&[1]).unwrap();
    }
    switch.run();
    assert_eq!(red.receive_all(), vec![stray(1); 3]);
    assert_eq!(failures(switch.datapath()), []);
}

/// What the second had not added is not taken from the first.
#[test]
fn a_port_that_can_not_be_added_makes_no_other_deaf() {
    let switch = Switch::new().unwrap();
    let red = switch.add_port().unwrap();
    let (io, station) = MemoryPort::new(true).unwrap();
    switch.add_custom_port(io.clone(), PortSettings::default()).unwrap();
    let refused = switch.add_custom_port(io, PortSettings::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    station.send(&stray(1));
    switch.run();
    assert_eq!(red.receive_all(), [stray(1)]);
}

/// A stack of one's own that answers at once.
#[test]
fn a_port_may_send_a_frame_of_another_station_while_it_is_sent_to() {
    let switch = Switch::new().unwrap();
    let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
    let answer = blue.clone();
    let (io, _ring) = custom(nothing, move |frame| {
        if frame == stray(1) {
            answer.send(&stray(2));
        }
    });
    switch.add_custom_port(io, PortSettings::default()).unwrap();
    red.send(&stray(1));
    assert_eq!(red.receive_all(), [stray(2)]);
    assert_eq!(blue.receive_all(), [stray(1)]);
}

#[test]
fn a_port_in_one_switch_may_lead_to_another_switch_and_back() {
    let (near, far) = (Switch::new().unwrap(), Switch::new().unwrap());
    let red = near.add_port().unwrap();
    let way_back = near.add_port().unwrap();
    let out: Arc<OnceLock<testing::Port>> = Arc::default();
    let to = out.clone();
    let (io, _one) = custom(nothing, move |frame| {
        if let Some(out) = to.get().filter(|_| frame == stray(1)) {
            out.send(&stray(2));
        }
    });
    near.add_custom_port(io, PortSettings::default()).unwrap();
    let back = way_back.clone();
    let (io, _two) = custom(nothing, move |_| back.send(&stray(3)));
    far.add_custom_port(io, PortSettings::default()).unwrap();
    assert!(out.set(far.add_port().unwrap()).is_ok());
    red.send(&stray(1));
    assert_eq!(red.receive_all(), [stray(3)]);
}

#[test]
fn a_port_that_would_wait_for_the_worker_it_runs_in_fails() {
    let (datapath, switch) = with_thread(Begin::default());
    let (red_port, red) = add_memory(&datapath, switch);
    let datapath = Arc::new(datapath);
    let own: Weak<Datapath> = Arc::downgrade(&datapath);
    let (io, _ring) = custom(nothing, move |_| {
        own.upgrade().unwrap().remove_port(red_port);
    });
    let port = add(&datapath, switch, io);
    red.send(&stray(1));
    let (failed, cause) = wait_for(&datapath, failed);
    assert!(
        failed == port && cause.contains("changes of a datapath are another thread's"),
        "{cause}"
    );
    datapath.remove_port(port);
    assert!(datapath.snapshot().find(red_port).is_some());

    let switch = Switch::new().unwrap();
    let red = switch.add_port().unwrap();
    let (of, id) = (switch.clone(), red.id());
    let (io, _ring) = custom(nothing, move |_| of.datapath().remove_port(id));
    switch.add_custom_port(io, PortSettings::default()).unwrap();
    let said = panics(|| red.send(&stray(1)));
    assert!(said.contains("changes of a datapath are another thread's"), "{said}");
}

#[test]
fn a_datapath_ends_even_if_a_port_of_it_was_the_last_to_hold_it() {
    let (datapath, switch) = with_thread(Begin::default());
    let (_, red) = add_memory(&datapath, switch);
    let held: Arc<Mutex<Option<Arc<Datapath>>>> = Arc::default();
    let (of, barrier) = (held.clone(), Arc::new(Barrier::new(2)));
    let dropped = barrier.clone();
    let (io, _ring) = custom(nothing, move |_| {
        // The other one is gone.
        barrier.wait();
        drop(of.lock().unwrap().take());
        barrier.wait();
    });
    add(&datapath, switch, io.clone());
    *held.lock().unwrap() = Some(Arc::new(datapath));
    red.send(&stray(1));
    dropped.wait();
    dropped.wait();
    // The worker lets go of all ports as it ends.
    while Arc::strong_count(&io) > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_switch_that_never_rests_says_so() {
    let loop_outside = || {
        let switch = Switch::new().unwrap();
        let red = switch.add_port().unwrap();
        let far = Arc::new(OnceLock::<MemoryStation>::new());
        let cable = far.clone();
        let (io, _ring) = custom(nothing, move |frame| {
            cable.get().unwrap().send(frame);
        });
        switch.add_custom_port(io, PortSettings::default()).unwrap();
        let (io, station) = MemoryPort::new(false).unwrap();
        switch.add_custom_port(io, PortSettings::default()).unwrap();
        far.set(station).unwrap();
        red.send(&frame(Mac::BROADCAST, mac(1), 1));
    };
    let ended_stream = || {
        let switch = Switch::new().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        switch
            .add_custom_port(Arc::new(Stream(ours)), PortSettings::default())
            .unwrap();
        drop(theirs);
        switch.run();
    };
    for said in [panics(loop_outside), panics(ended_stream)] {
        assert!(said.contains("the switch never rests"), "{said}");
    }
}

/// One that takes the end of its stream for nothing.
#[derive(Debug)]
struct Stream(UnixStream);

impl PortIo for Stream {
    fn receive_fds(&self, worker: usize, _: usize, _: usize) -> Vec<BorrowedFd<'_>> {
        Vec::from_iter((worker == 0).then(|| self.0.as_fd()))
    }

    fn receive(&self, _worker: usize, _batch: &mut Batch) -> io::Result<()> {
        Ok(())
    }

    fn send(&self, _worker: usize, _frames: Frames<'_>, _sent: &mut Sent) {}
}

#[test]
fn a_frame_without_a_header_of_its_own_has_none_of_another_frame() {
    let mut batch = Batch::new();
    batch.push_copy(&[0xff; VNET_HDR_LEN + 60]);
    batch.clear();
    put(&mut batch, &stray(1));
    assert_eq!(batch.wire(0)[..VNET_HDR_LEN], [0; VNET_HDR_LEN]);
    // One that says that it is longer than it can be ends with its room.
    batch.push(usize::MAX / 2);
    assert!(batch.wire(1).len() > 65_535);
}

#[test]
fn a_port_that_does_not_ask_for_room_is_told_so() {
    let switch = Switch::new().unwrap();
    let (io, ring) = custom(
        |batch| {
            (0..100).for_each(|n| put(batch, &stray(n)));
            Ok(())
        },
        |_| (),
    );
    switch.add_custom_port(io, PortSettings::default()).unwrap();
    ring.send(&[1]).unwrap();
    let said = panics(|| switch.run());
    assert!(said.contains("Batch::has_room"), "{said}");
}
