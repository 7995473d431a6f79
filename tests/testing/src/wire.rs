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
    /// Where each source of sentinels sent from last.
    sources: Vec<String>,
}

/// Numbers of sentinels start here; tests number their probes below.
const FIRST_SENTINEL: u32 = 0xffff_0000;

impl Wire {
    /// Listens at these stations, two at least: that frames of one have all come is seen at another.
    #[track_caller]
    pub fn tap(stations: &[Station]) -> Self {
        assert!(
            stations.len() > 1,
            "a wire is seen at two stations at least, here are {}",
            stations.len()
        );
        let sockets = stations
            .iter()
            .map(|station| (station.port.clone(), station.raw(false)))
            .collect();
        Self {
            sockets,
            sentinels: FIRST_SENTINEL,
            sources: Vec::new(),
        }
    }

    /// The socket behind a port.
    pub fn at(&self, port: &str) -> &RawSocket {
        &self.sockets[port]
    }

    /// Sends `frames` into the switch from behind a port and waits until it is done with them.
    #[track_caller]
    pub fn send(&mut self, from: &str, frames: &[Vec<u8>]) {
        frames.iter().for_each(|frame| self.at(from).send(frame));
        self.rest(from);
    }

    /// Sends `frames` from behind a port; they, or what is `expected` of them, must come out at the ports `at`, unchanged,
    /// and nothing at any other port.
    ///
    /// The order counts only where all are of one flow: a TAP device spreads flows over its queues.
    #[track_caller]
    pub fn check(&mut self, from: &str, frames: &[Vec<u8>], at: &[&str], expected: &[Vec<u8>]) {
        frames.iter().for_each(|frame| self.at(from).send(frame));
        let mut seen: BTreeMap<_, _> = at
            .iter()
            .map(|&port| (port.to_owned(), self.take(port, expected)))
            .collect();
        for (port, more) in self.rest(from) {
            seen.entry(port).or_default().extend(more);
        }
        for (port, mut got) in seen {
            let mut expected = if at.contains(&port.as_str()) {
                expected.to_vec()
            } else {
                Vec::new()
            };
            got.sort();
            expected.sort();
            assert!(
                got == expected,
                "sent by {from}: at {port} the probes {:?} were expected, {:?} were seen (or their bytes differ)",
                numbers(&expected),
                numbers(&got)
            );
        }
    }

    /// Receives at a port until all that is expected has come, or as many other probes.
    #[track_caller]
    fn take(&self, port: &str, expected: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let end = Instant::now() + DEADLINE;
        let mut got = Vec::new();
        while got.len() < expected.len() {
            let Some(frame) = self.at(port).recv(end) else {
                panic!(
                    "of the probes {:?} only {:?} came to {port}",
                    numbers(expected),
                    numbers(&got)
                )
            };
            if probe_id(&frame.bytes).is_some_and(|id| id < FIRST_SENTINEL) {
                got.push(frame.bytes);
            }
        }
        got
    }

    /// Every probe that has come out anywhere and was not taken yet.
    ///
    /// It does not wait for time to pass: a broadcast follows the frames, and where it is seen, what was to come before has
    /// come. For the port itself, which never gets its own broadcast back, one from another port does the same.
    #[track_caller]
    fn rest(&mut self, from: &str) -> BTreeMap<String, Vec<Vec<u8>>> {
        let mut seen = BTreeMap::new();
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

    /// Sends a broadcast from behind a port and gives its number. Its source was seen elsewhere before, if at all: so the daemon
    /// sends it, after all that came to it before, and not the kernel.
    fn sentinel(&mut self, from: &str) -> u32 {
        self.sentinels += 1;
        let elsewhere = self.sources.iter().position(|last| last != from);
        let source = elsewhere.unwrap_or_else(|| {
            self.sources.push(String::new());
            self.sources.len() - 1
        });
        self.sources[source] = from.to_owned();
        let source = Mac([0x0a, 0x5e, 0, 0, 0, 1 + source as u8]);
        self.at(from).send(&probe(Mac::BROADCAST, source, self.sentinels));
        self.sentinels
    }

    #[track_caller]
    fn collect(&self, port: &str, until: u32, seen: &mut BTreeMap<String, Vec<Vec<u8>>>) {
        let end = Instant::now() + DEADLINE;
        loop {
            let Some(frame) = self.at(port).recv(end) else {
                panic!("the broadcast {until:x} never came to {port}")
            };
            match probe_id(&frame.bytes) {
                Some(id) if id == until => return,
                Some(id) if id < FIRST_SENTINEL => seen.entry(port.to_owned()).or_default().push(frame.bytes),
                _ => {}
            }
        }
    }
}

fn numbers(frames: &[Vec<u8>]) -> Vec<Option<u32>> {
    frames.iter().map(|frame| probe_id(frame)).collect()
}
