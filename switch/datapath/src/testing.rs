//! A switch to test with: stations in the hand of the caller, and a time that goes on only as the caller lets it.
//!
//! No root, no threads, no waiting: when a call returns, all frames have gone their way. A line of 200 ms and the five minutes after
//! which a station is forgotten take no real time, and with a `seed` each run is the same as the one before.
//!
//! ```
//! use std::time::Duration;
//! use vswitch_datapath::testing::Switch;
//!
//! let switch = Switch::new()?;
//! let (red, blue) = (switch.add_port()?, switch.add_port()?);
//! // From the switch to blue, each frame takes 40 ms.
//! blue.impair_out(Some("delay=40ms".parse()?));
//!
//! // To all, from 02:00:00:00:00:01, an EtherType for experiments, and what is said.
//! let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], b"hello blue"].concat();
//! red.send(&frame);
//! assert_eq!(blue.receive(), None);
//! switch.advance(Duration::from_millis(40));
//! assert_eq!(blue.receive(), Some(frame));
//!
//! // Stations that are not heard of for five minutes are forgotten.
//! assert_eq!(switch.stations().len(), 1);
//! switch.advance(Duration::from_secs(300));
//! assert_eq!(switch.stations(), []);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What has its own frames, such as a TCP/IP stack, asks [`Switch::next_due`] up to when there is nothing to do: `examples/lossy_wan.rs`
//! runs two stacks over a bad line, `examples/dhcp_client.rs` tries a client of a protocol, `examples/custom_port.rs` brings a port of its own.

use std::fmt;
use std::io;
use std::iter;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vswitch_api::view::PortCounters;
use vswitch_api::{Impairment, Mac, lab};

use crate::clock::VirtualTime;
use crate::frame::{VNET_HDR_LEN, VnetHeader};
use crate::lock;
use crate::memory::{MemoryPort, MemoryStation};
use crate::port::PortIo;
use crate::{
    Datapath, DatapathConfig, FdbRecord, PortId, PortRef, PortSettings, PortSetup, SwitchId, SwitchSettings,
    SwitchSetup, TrafficSetup,
};

/// Most stations that a switch learns.
const FDB_CAPACITY: u32 = 8192;
/// No switch has so many turns one after the other unless it never rests.
const RESTLESS: usize = 100_000;

/// A switch in a time of its own.
#[derive(Clone)]
pub struct Switch(Arc<Inner>);

struct Inner {
    datapath: Datapath,
    time: VirtualTime,
    id: SwitchId,
    /// In seconds; 0: stations are never forgotten.
    ageing: AtomicU32,
}

/// A port of a [`Switch`], and the station behind it.
#[derive(Clone)]
pub struct Port {
    switch: Switch,
    id: PortRef,
    station: MemoryStation,
    traffic: Arc<Mutex<TrafficSetup>>,
}

impl Switch {
    /// A switch without ports, at time 0.
    ///
    /// # Errors
    /// No descriptors are to be had.
    pub fn new() -> io::Result<Self> {
        Self::with(SwitchSettings::default())
    }

    /// The same with settings.
    ///
    /// # Errors
    /// No descriptors are to be had.
    pub fn with(settings: SwitchSettings) -> io::Result<Self> {
        let time = VirtualTime::new();
        let datapath = Datapath::in_virtual_time(&DatapathConfig::default(), &time)?;
        let fdb_capacity = FDB_CAPACITY;
        let id = datapath.add_switch(SwitchSetup { fdb_capacity, settings });
        let ageing = AtomicU32::new(lab::DEFAULT_AGEING_SECS);
        Ok(Self(Arc::new(Inner {
            datapath,
            time,
            id,
            ageing,
        })))
    }

    /// A port with an MTU of 1500 that gets frames as a wire would carry them: cut, and with complete checksums.
    ///
    /// # Errors
    /// No descriptors are to be had.
    pub fn add_port(&self) -> io::Result<Port> {
        self.add_port_with(PortSettings {
            offload: false,
            ..PortSettings::default()
        })
    }

    /// A port with these settings; with `offload` it gets frames with what is left to be done ([`Port::receive_with`]).
    ///
    /// # Errors
    /// No descriptors are to be had.
    pub fn add_port_with(&self, settings: PortSettings) -> io::Result<Port> {
        let (io, station) = MemoryPort::new(settings.offload)?;
        let id = self.add_custom_port(io, settings)?;
        Ok(Port {
            switch: self.clone(),
            id,
            station,
            traffic: Arc::default(),
        })
    }

    /// A port of the caller's own make. What comes in at it is taken by [`Switch::run`].
    ///
    /// # Errors
    /// Its descriptors can't be polled.
    pub fn add_custom_port(&self, io: Arc<dyn PortIo>, settings: PortSettings) -> io::Result<PortRef> {
        let switch = self.0.id;
        self.0.datapath.add_port(PortSetup { switch, io, settings })
    }

    /// Lets all frames go their way that wait at ports or are due. Whatever else is called does so by itself. Called by a port's own code
    /// (`PortIo`) it leaves that to whoever has called that.
    ///
    /// # Panics
    /// The switch never rests: its ports are a loop, by a cable outside of it, in which frames go round without taking any time; or a port's
    /// descriptor is readable though nothing is received from it.
    #[track_caller]
    pub fn run(&self) {
        let rests = (0..RESTLESS).any(|_| !self.0.datapath.turn());
        assert!(
            rests,
            "the switch never rests: frames go round in a loop outside of it, or a port's descriptor is readable (as at the end of a \
             stream) though it gives no frames; the time is {:?}",
            self.now()
        );
    }

    /// How long the switch has been there, by its own time.
    pub fn now(&self) -> Duration {
        self.0.time.now()
    }

    /// Lets time go on, which ends after 136 years. Frames on impaired lines arrive one after the other, each at its time, and stations are
    /// forgotten at theirs.
    #[track_caller]
    pub fn advance(&self, by: Duration) {
        let end = self.now().saturating_add(by).min(VirtualTime::END);
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            self.go_to(due);
        }
        self.go_to(end);
    }

    /// When the first of the frames arrives that are on their way; none: none is.
    pub fn next_due(&self) -> Option<Duration> {
        self.0.datapath.next_due()
    }

    #[track_caller]
    fn go_to(&self, now: Duration) {
        let before = self.now();
        self.0.time.set(now);
        // Ages are whole seconds, and the look at all stations takes long.
        if now.as_secs() != before.as_secs() {
            self.0.datapath.age(self.0.id, self.0.ageing.load(Ordering::Relaxed));
        }
        self.run();
    }

    /// After how many seconds a station is forgotten that is not heard of; 0: never. 300 unless it is set. Both times count by the whole
    /// seconds of the switch, so that it may be up to a second less.
    pub fn set_ageing(&self, secs: u32) {
        self.0.ageing.store(secs, Ordering::Relaxed);
    }

    /// The stations that it knows, by their VLANs and addresses.
    pub fn stations(&self) -> Vec<FdbRecord> {
        let mut stations = self.0.datapath.fdb(self.0.id);
        stations.sort_unstable_by_key(|record| (record.vlan, record.mac));
        stations
    }

    /// Behind which port a station is, in the VLAN of frames without one.
    pub fn place(&self, station: Mac) -> Option<PortId> {
        let known = self.stations().into_iter();
        let mut here = known.filter(|record| record.mac == station && record.vlan == 0);
        here.next().map(|record| record.port)
    }

    /// The switch by its number, for what is asked of [`Switch::datapath`].
    pub fn id(&self) -> SwitchId {
        self.0.id
    }

    /// All that a datapath can do: mirrors, traces, static stations, agents.
    pub fn datapath(&self) -> &Datapath {
        &self.0.datapath
    }
}

impl Port {
    /// Sends a frame into the switch, from the destination address on, and lets it go its way.
    #[track_caller]
    pub fn send(&self, frame: &[u8]) {
        self.send_with(&VnetHeader::default(), frame);
    }

    /// The same for a frame of which a checksum or the cutting is left to others.
    #[track_caller]
    pub fn send_with(&self, header: &VnetHeader, frame: &[u8]) {
        if self.station.is_down() {
            return;
        }
        // Nothing waits on this side between two calls, so there is room.
        self.station.send_with(header, frame);
        self.switch.run();
    }

    /// Frames that came out of the switch and were not received yet: 1024 at most, what comes then is dropped (`queue-full`).
    pub fn waiting(&self) -> usize {
        self.station.waiting()
    }

    /// The next frame that came out of the switch.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.receive_with().map(|(_, frame)| frame)
    }

    /// The same with what is left to be done with it.
    pub fn receive_with(&self) -> Option<(VnetHeader, Vec<u8>)> {
        let mut wire = self.station.receive()?;
        let header = wire
            .first_chunk::<VNET_HDR_LEN>()
            .and_then(|header| VnetHeader::parse(header).ok());
        wire.drain(..VNET_HDR_LEN.min(wire.len()));
        Some((header.unwrap_or_default(), wire))
    }

    /// All frames that came out of the switch.
    pub fn receive_all(&self) -> Vec<Vec<u8>> {
        iter::from_fn(|| self.receive()).collect()
    }

    /// Makes the line from the port into the switch a bad one, or a good one again. Frames on it are dropped then.
    pub fn impair_in(&self, line: Option<Impairment>) {
        self.change_traffic(|traffic| traffic.impair.inward = line);
    }

    /// The same from the switch to the port.
    pub fn impair_out(&self, line: Option<Impairment>) {
        self.change_traffic(|traffic| traffic.impair.outward = line);
    }

    /// Sets all that the port does to its traffic: both lines, policer and storm control.
    pub fn set_traffic(&self, traffic: TrafficSetup) {
        self.change_traffic(|now| *now = traffic);
    }

    fn change_traffic(&self, change: impl FnOnce(&mut TrafficSetup)) {
        let mut traffic = lock(&self.traffic);
        change(&mut traffic);
        self.switch.datapath().set_traffic(self.id, &traffic);
    }

    /// Changes how the port works.
    pub fn set(&self, settings: PortSettings) {
        self.switch.datapath().update_port(self.id, settings);
    }

    /// Takes the station's link down or up: one that is down carries no frames, in or out.
    pub fn set_down(&self, down: bool) {
        self.station.set_down(down);
    }

    /// What was counted at the port.
    pub fn counters(&self) -> PortCounters {
        self.switch.datapath().counters(self.id)
    }

    /// The port as others speak of it.
    pub fn id(&self) -> PortRef {
        self.id
    }

    /// The switch that it is a port of.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Switch at {:?}", self.now())
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port {} of a {:?}", self.id.id.0, self.switch)
    }
}

#[cfg(test)]
mod tests {
    use vswitch_api::{RateLimit, StormControl};

    use super::*;

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn frame(dst: Mac, src: Mac, mark: u8) -> Vec<u8> {
        [&dst.0[..], &src.0, &[0x88, 0xb5], &[mark; 46]].concat()
    }

    fn marks(port: &Port) -> Vec<u8> {
        port.receive_all().iter().map(|frame| frame[14]).collect()
    }

    #[test]
    fn frames_arrive_in_the_order_of_their_times_over_several_lines() {
        let switch = Switch::new().unwrap();
        let [red, blue, green] = [(); 3].map(|()| switch.add_port().unwrap());
        // 30 ms and then 20 of the way out; green's frame begins later and takes less.
        red.impair_in(Some("delay=30ms".parse().unwrap()));
        blue.impair_out(Some("delay=20ms".parse().unwrap()));
        red.send(&frame(mac(9), mac(1), 1));
        switch.advance(Duration::from_millis(20));
        assert_eq!(switch.next_due(), Some(Duration::from_millis(30)));
        green.send(&frame(mac(9), mac(3), 2));
        switch.advance(Duration::from_millis(19));
        assert_eq!(blue.waiting(), 0);
        switch.advance(Duration::from_millis(11));
        assert_eq!(marks(&blue), [2, 1]);
        assert_eq!(switch.now(), Duration::from_millis(50));
        assert_eq!(switch.next_due(), None);
    }

    #[test]
    fn a_rate_is_kept_to_the_nanosecond() {
        let switch = Switch::new().unwrap();
        let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
        blue.impair_out(Some("rate=1mbit".parse().unwrap()));
        (0..10).for_each(|n| red.send(&frame(Mac::BROADCAST, mac(1), n)));
        // 60 bytes at 1 Mbit/s are 480 us.
        for n in 0..10 {
            switch.advance(Duration::from_micros(479));
            assert_eq!(blue.waiting(), 0);
            switch.advance(Duration::from_micros(1));
            assert_eq!(marks(&blue), [n]);
        }
    }

    /// Guards a line that was dead for as long as what had been put on it by mistake was to wait.
    #[test]
    fn a_line_that_was_much_too_slow_is_quick_when_that_is_mended() {
        let switch = Switch::new().unwrap();
        let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
        for (wrong, right) in [("rate=1kbit", "rate=1mbit"), ("delay=30s", "delay=480us")] {
            blue.impair_out(Some(wrong.parse().unwrap()));
            (0..3).for_each(|n| red.send(&frame(Mac::BROADCAST, mac(1), n)));
            switch.advance(Duration::from_micros(480));
            assert_eq!(blue.waiting(), 0);
            blue.impair_out(Some(right.parse().unwrap()));
            red.send(&frame(Mac::BROADCAST, mac(1), 3));
            switch.advance(Duration::from_millis(2));
            assert_eq!(marks(&blue), [0, 1, 2, 3], "{wrong}");
        }
    }

    #[test]
    fn policers_and_storm_control_go_by_the_same_time() {
        let switch = Switch::new().unwrap();
        let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
        let one_a_second = RateLimit {
            rate_pps: Some(1),
            burst_frames: Some(1),
            ..RateLimit::default()
        };
        let policed = TrafficSetup {
            police: Some(one_a_second),
            ..TrafficSetup::default()
        };
        let stormy = TrafficSetup {
            storm: StormControl {
                broadcast: Some(one_a_second),
                ..StormControl::default()
            },
            ..TrafficSetup::default()
        };
        for traffic in [policed, stormy] {
            red.set_traffic(traffic);
            for _ in 0..2 {
                (0..3).for_each(|n| red.send(&frame(Mac::BROADCAST, mac(1), n)));
                assert_eq!(marks(&blue), [0]);
                switch.advance(Duration::from_secs(1));
            }
        }
    }

    #[test]
    fn stations_are_forgotten_when_they_were_silent_for_long_enough() {
        let switch = Switch::new().unwrap();
        let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
        red.send(&frame(mac(2), mac(1), 0));
        blue.send(&frame(mac(1), mac(2), 0));
        switch.advance(Duration::from_secs(200));
        red.send(&frame(mac(2), mac(1), 0));
        switch.advance(Duration::from_secs(100));
        assert_eq!(switch.place(mac(1)), Some(red.id().id));
        assert_eq!(switch.place(mac(2)), None);
        switch.set_ageing(0);
        switch.advance(Duration::from_secs(100_000));
        assert_eq!(switch.stations().len(), 1, "never");
    }

    #[test]
    fn stations_are_told_in_the_same_order_in_each_run() {
        let switch = Switch::new().unwrap();
        let red = switch.add_port().unwrap();
        (1..40).rev().for_each(|n| red.send(&frame(mac(99), mac(n), 0)));
        let stations: Vec<_> = switch.stations().iter().map(|record| record.mac).collect();
        assert!(stations.into_iter().eq((1..40).map(mac)));
    }

    #[test]
    fn a_link_that_is_down_carries_nothing_either_way() {
        let switch = Switch::new().unwrap();
        let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
        red.set_down(true);
        red.send(&frame(mac(9), mac(1), 1));
        blue.send(&frame(mac(9), mac(2), 2));
        assert_eq!((red.waiting(), blue.waiting()), (0, 0));
        red.set_down(false);
        red.send(&frame(mac(9), mac(1), 3));
        assert_eq!(marks(&blue), [3]);
    }

    #[test]
    fn at_the_end_of_time_lines_still_work() {
        let switch = Switch::new().unwrap();
        let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
        switch.advance(Duration::MAX);
        blue.impair_out(Some("delay=60s".parse().unwrap()));
        red.send(&frame(mac(9), mac(1), 1));
        assert_eq!(switch.next_due(), Some(switch.now() + Duration::from_secs(60)));
        switch.advance(Duration::from_secs(60));
        assert_eq!(blue.waiting(), 0);
    }

    #[test]
    fn a_run_with_a_seed_is_the_same_as_the_one_before() {
        let run = || {
            let switch = Switch::new().unwrap();
            let (red, blue) = (switch.add_port().unwrap(), switch.add_port().unwrap());
            let line = "delay=20ms,jitter=15ms,loss=20%,duplicate=10%,reorder=5%,seed=7";
            blue.impair_out(Some(line.parse().unwrap()));
            for n in 0..100 {
                red.send(&frame(Mac::BROADCAST, mac(1), n));
                switch.advance(Duration::from_millis(1));
            }
            switch.advance(Duration::from_secs(1));
            marks(&blue)
        };
        let first = run();
        assert!(first.len() > 60 && !first.is_sorted(), "{first:?}");
        assert_eq!(run(), first);
    }
}
