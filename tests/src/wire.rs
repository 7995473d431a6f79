//! What passes at every port at once.

use std::collections::BTreeMap;
use std::time::Instant;

use vswitch_api::Mac;

use crate::frame::{probe, probe_id};
use crate::raw::RawSocket;
use crate::station::Station;
use crate::wait::DEADLINE;

/// Raw sockets on a set of stations.
pub struct Wire {
    sockets: BTreeMap<String, RawSocket>,
    sentinels: u32,
}

/// Numbers of sentinels start here; tests number their probes below.
const FIRST_SENTINEL: u32 = 0xffff_0000;

/// Probes that were seen, by the name of the port behind which they were.
pub type Seen = BTreeMap<String, Vec<Vec<u8>>>;

impl Wire {
    /// Listens at these stations.
    pub fn tap(stations: &[Station]) -> Self {
        let sockets = stations
            .iter()
            .map(|station| (station.port.clone(), station.raw(false)))
            .collect();
        Self {
            sockets,
            sentinels: FIRST_SENTINEL,
        }
    }

    /// The socket behind a port.
    pub fn at(&self, port: &str) -> &RawSocket {
        &self.sockets[port]
    }

    /// Sends `frames` into the switch from behind a port and gives every probe that came out anywhere.
    ///
    /// It does not wait for time to pass: a broadcast follows the frames, and frames of one port keep their order,
    /// so where the broadcast is seen, all that was to come has come. For the port itself, which never gets its own
    /// broadcast back, one from another port does the same.
    #[track_caller]
    pub fn send(&mut self, from: &str, frames: &[Vec<u8>]) -> Seen {
        for frame in frames {
            self.at(from).send(frame);
        }
        let mut seen: Seen = self.sockets.keys().map(|port| (port.clone(), Vec::new())).collect();
        let others: Vec<_> = self.sockets.keys().filter(|port| *port != from).cloned().collect();
        let sentinel = self.sentinel(from);
        for port in &others {
            self.collect(port, sentinel, &mut seen);
        }
        let sentinel = self.sentinel(&others[0]);
        for port in self.sockets.keys().filter(|port| **port != others[0]) {
            self.collect(port, sentinel, &mut seen);
        }
        seen
    }

    /// Sends a broadcast from behind a port and gives its number.
    fn sentinel(&mut self, from: &str) -> u32 {
        self.sentinels += 1;
        self.at(from).send(&probe(Mac::BROADCAST, SENTINEL, self.sentinels));
        self.sentinels
    }

    #[track_caller]
    fn collect(&self, port: &str, until: u32, seen: &mut Seen) {
        let end = Instant::now() + DEADLINE;
        loop {
            let Some(frame) = self.at(port).recv(end) else {
                panic!("the broadcast {until:x} never came to {port}")
            };
            match probe_id(&frame.bytes) {
                Some(id) if id == until => return,
                Some(id) if id < FIRST_SENTINEL => seen.get_mut(port).unwrap().push(frame.bytes),
                _ => {}
            }
        }
    }
}

/// Source of the sentinels. Each comes from another port: the one entry of the FDB that they leave moves about.
pub const SENTINEL: Mac = Mac([0x0a, 0x5e, 0, 0, 0, 1]);

/// Asserts where probes were seen: at exactly these ports, the same frames in the same order.
#[track_caller]
pub fn assert_seen_only_at(seen: &Seen, ports: &[&str], frames: &[Vec<u8>]) {
    for (port, got) in seen {
        let expected = if ports.contains(&port.as_str()) { frames } else { &[] };
        let numbers = |frames: &[Vec<u8>]| frames.iter().map(|f| probe_id(f)).collect::<Vec<_>>();
        assert!(
            got == expected,
            "at {port} the probes {:?} were expected, {:?} were seen (or their bytes differ)",
            numbers(expected),
            numbers(got)
        );
    }
}
