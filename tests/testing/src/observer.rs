//! What comes out at every port of a switch that tells VLANs apart, or keeps ports from each other.
//!
//! Needs [`Lab::with_one_worker`]: then what is sent later comes out later, at every port.

use std::collections::BTreeMap;
use std::time::Instant;

use vswitch_api::Mac;

use crate::frame::{VLAN_ETHERTYPE, mac, probe, probe_id, tagged};
use crate::lab::Lab;
use crate::netns::Place;
use crate::raw::RawSocket;
use crate::wait::{DEADLINE, wait_for};

/// Frames by port; ports where nothing came out are left out.
pub type Seen = BTreeMap<String, Vec<Vec<u8>>>;

/// Numbers of sentinels start here; tests number their probes below.
const FIRST_SENTINEL: u32 = 0xfffe_0000;

/// Raw sockets behind ports, and a port from which every other one can be reached.
pub struct Observer<'a> {
    lab: &'a Lab,
    sockets: BTreeMap<String, RawSocket>,
    /// VLANs of the sentinels; none: without a tag.
    vlans: Vec<Option<u16>>,
    sentinels: u32,
}

/// Name of the port from which the sentinels come. It has no settings.
const MONITOR: &str = "monitor";

impl<'a> Observer<'a> {
    /// Adds veth ports with these options of `add-port`, and one more from which sentinels of these VLANs come.
    pub fn new(lab: &'a Lab, ports: &[(&str, &str)], vlans: &[Option<u16>]) -> Self {
        let mut sockets = BTreeMap::new();
        for (name, options) in ports.iter().chain(&[(MONITOR, "")]) {
            lab.ok(&format!("add-port {name} {options}"));
            let place = Place::named(name);
            place.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap());
            sockets.insert((*name).to_owned(), RawSocket::open(&place, "eth0", false));
        }
        // What the stacks said before they were silenced.
        lab.ok("fdb flush");
        Self {
            lab,
            sockets,
            vlans: vlans.to_vec(),
            sentinels: FIRST_SENTINEL,
        }
    }

    /// Sends frames from behind a port. What came out of every port but the monitor's by the time that the switch was
    /// done with them.
    #[track_caller]
    pub fn send(&mut self, from: &str, frames: &[Vec<u8>]) -> Seen {
        let before = self.lab.port(from).counters.rx_frames;
        for frame in frames {
            self.sockets[from].send(frame);
        }
        wait_for("the switch to take the frames", || {
            self.lab.port(from).counters.rx_frames >= before + frames.len() as u64
        });
        let sentinels: Vec<_> = self.vlans.clone().into_iter().map(|vlan| self.sentinel(vlan)).collect();
        let mut seen = Seen::new();
        for (port, socket) in self.sockets.iter().filter(|(port, _)| *port != MONITOR) {
            let end = Instant::now() + DEADLINE;
            loop {
                let frame = socket.recv(end).unwrap_or_else(|| panic!("no sentinel came to {port}"));
                match probe_id(&frame.bytes) {
                    Some(id) if sentinels.contains(&id) => break,
                    Some(id) if id < FIRST_SENTINEL => seen.entry(port.clone()).or_default().push(frame.bytes),
                    _ => {}
                }
            }
        }
        seen
    }

    /// Sends a frame from behind a port, and no more.
    pub fn shoot(&self, from: &str, frame: &[u8]) {
        self.sockets[from].send(frame);
    }

    /// The same with one frame: the ports where it came out, each with what came.
    #[track_caller]
    pub fn check(&mut self, from: &str, frame: &[u8], expected: &[(&str, Vec<u8>)]) {
        let seen = self.send(from, &[frame.to_vec()]);
        let expected: Seen = expected
            .iter()
            .map(|(port, frame)| ((*port).to_owned(), vec![frame.clone()]))
            .collect();
        assert_eq!(seen, expected, "sent by {from}: {frame:02x?}");
    }

    /// From a source that is not known yet: so the daemon sends it, after all that came to it before, and not the kernel.
    fn sentinel(&mut self, vlan: Option<u16>) -> u32 {
        self.sentinels += 1;
        let frame = probe(Mac::BROADCAST, mac(0xee, self.sentinels), self.sentinels);
        let frame = vlan.map_or(frame.clone(), |vlan| tagged(&frame, VLAN_ETHERTYPE, vlan));
        self.sockets[MONITOR].send(&frame);
        self.sentinels
    }
}
