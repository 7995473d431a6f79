//! A switch, what was done to it, and what has to be so after each thing.

use std::collections::BTreeMap;
use std::sync::Arc;

use vswitch_api::Mac;
use vswitch_api::view::PortCounters;
use vswitch_datapath::fdb::FdbFilter;
use vswitch_datapath::frame::{Checked, Gso, MAX_READ_TAGS, Tag};
use vswitch_datapath::memory::{MemoryPort, MemoryStation};
use vswitch_datapath::mirror::{MirrorCounters, MirrorEntry, MirrorTo};
use vswitch_datapath::punt::{AgentId, Punt, PuntAction};
use vswitch_datapath::snapshot::PortSet;
use vswitch_datapath::sniffer::{Sniffer, SnifferSetup};
use vswitch_datapath::trace::Stage;
use vswitch_datapath::{
    Datapath, DatapathConfig, Direction, DropReason, PortRef, PortSettings, PortSetup, SwitchId, SwitchSetup,
    TrafficSetup, guard,
};

use super::Outcome;
use super::dice::Dice;
use super::frames::{mac, wire};
use super::policies::{COPIES, filter, settings, switch_settings, traffic};

/// Most ports at a time.
const PORTS: usize = 6;
/// What is still in motion after so many turns never comes to rest.
const TURNS: usize = 200_000;

struct Port {
    id: PortRef,
    station: MemoryStation,
    /// Number of the station.
    own: usize,
    settings: PortSettings,
    takes_offloads: bool,
    capture: Option<Arc<Sniffer>>,
    traffic: TrafficSetup,
    /// Its device was deleted.
    failed: bool,
    /// Frames that the station sent, those included that found no room.
    sent: u64,
    /// Frames that came out.
    got: u64,
    /// Frames that may have been cut on the way in, where that is not counted.
    cut_in: bool,
    /// Frames may have been cut on the way out.
    cut_out: bool,
    /// Frames that captures saw come in.
    captured: u64,
}

/// What was given to ports to send, and what became of it.
#[derive(Default)]
struct Sums {
    given: u64,
    accounted: u64,
}

pub struct World {
    datapath: Datapath,
    switch: SwitchId,
    ports: Vec<Port>,
    /// Rates and chance: what becomes of a frame can't be foretold.
    has_rates: bool,
    has_mirrors: bool,
    /// Of ports that were removed.
    gone: Sums,
    outcome: Outcome,
}

impl World {
    pub fn new(dice: &mut Dice<'_>) -> Self {
        let config = DatapathConfig {
            workers: 1 + dice.below(2),
            ..DatapathConfig::default()
        };
        let datapath = Datapath::by_hand(&config).unwrap();
        let probes = guard::punt(AgentId(0));
        let wanted = dice.sometimes(2, |dice| Punt {
            agent: AgentId(1),
            dst: dice.of(&[Mac([1, 0x80, 0xc2, 0, 0, 0x0e]), Mac([0; 6])]),
            mask: dice.of(&[Mac::BROADCAST, Mac([0; 6])]),
            ethertype: None,
            action: dice.of(&[PuntAction::Copy, PuntAction::Take]),
        });
        let punts: Vec<_> = [probes].into_iter().chain(wanted).collect();
        datapath.set_punts(&punts);
        let settings = switch_settings(dice);
        let fdb_capacity = dice.of(&[64, 64, 4]);
        let switch = datapath.add_switch(SwitchSetup { fdb_capacity, settings });
        let mut world = Self {
            datapath,
            switch,
            ports: Vec::new(),
            has_rates: dice.one_in(2),
            has_mirrors: false,
            gone: Sums::default(),
            outcome: Outcome::default(),
        };
        for _ in 0..2 + dice.below(3) {
            world.add_port(dice);
        }
        world
    }

    /// Does one thing, and holds what came of it against what has to be.
    pub fn step(&mut self, dice: &mut Dice<'_>) {
        let Some(at) = (!self.ports.is_empty()).then(|| dice.below(self.ports.len())) else {
            return self.add_port(dice);
        };
        match dice.below(32) {
            0 => self.add_port(dice),
            1 => self.remove_port(at),
            2..5 => self.change(dice, at),
            5..8 => self.set_traffic(dice, at),
            8 => self.set_mirrors(dice, at),
            9 => self.ports[at].station.set_down(dice.one_in(2)),
            10 => self.forget(dice, at),
            11 => {
                let (mac, port) = (mac(dice.below(PORTS)), self.ports[at].id.id);
                let vlan = dice.of(&[0, 10, 20]);
                let _ = self.datapath.fdb_add_static(self.switch, vlan, mac, port);
            }
            12 => self.capture(dice, at),
            13 => {
                self.ports[at].station.go_away();
                self.ports[at].failed = true;
            }
            14 => self.datapath.update_switch(self.switch, switch_settings(dice)),
            15..20 => self.burst(dice, at),
            _ => self.send_traced(dice, at),
        }
        self.settle();
    }

    fn add_port(&mut self, dice: &mut Dice<'_>) {
        if self.ports.len() >= PORTS {
            return;
        }
        let own = (0..PORTS)
            .find(|n| self.ports.iter().all(|port| port.own != *n))
            .unwrap_or(0);
        let takes_offloads = !dice.one_in(4);
        let capacity = dice.of(&[1024, 1024, 1024, 3]);
        let (io, station) = MemoryPort::with_capacity(takes_offloads, capacity).unwrap();
        let settings = settings(dice, own, self.has_rates);
        let setup = PortSetup {
            switch: self.switch,
            io,
            settings: settings.clone(),
        };
        let id = self.datapath.add_port(setup).unwrap();
        self.ports.push(Port {
            id,
            station,
            own,
            cut_out: !takes_offloads || !settings.offload,
            settings,
            takes_offloads,
            capture: None,
            traffic: TrafficSetup::default(),
            failed: false,
            sent: 0,
            got: 0,
            cut_in: false,
            captured: 0,
        });
    }

    fn remove_port(&mut self, at: usize) {
        let mut port = self.ports.swap_remove(at);
        let has_vlans = self.has_vlans();
        let last = self.datapath.remove_ports(&[port.id]);
        let [entry] = &last[..] else {
            panic!("{} ports removed", last.len())
        };
        port.drain(has_vlans, 0);
        let mut counters = PortCounters::default();
        entry.counters.iter().for_each(|worker| worker.add_to(&mut counters));
        let overruns = entry.io.overruns();
        counters.rx_frames += overruns;
        *counters.rx_drops.entry("overrun".to_owned()).or_default() += overruns;
        port.check(&counters, &mut self.gone);
        self.outcome.add(&counters);
        self.outcome.captured += port.captured;
        if let Some(capture) = &port.capture {
            assert!(capture.is_closed());
        }
    }

    fn change(&mut self, dice: &mut Dice<'_>, at: usize) {
        let port = &mut self.ports[at];
        port.settings = settings(dice, port.own, self.has_rates);
        port.cut_out |= !port.settings.offload;
        self.datapath.update_port(port.id, port.settings.clone());
    }

    fn set_traffic(&mut self, dice: &mut Dice<'_>, at: usize) {
        if self.has_rates {
            let port = &mut self.ports[at];
            port.traffic = traffic(dice);
            self.datapath.set_traffic(port.id, &port.traffic);
        }
    }

    fn set_mirrors(&mut self, dice: &mut Dice<'_>, at: usize) {
        let mirrors = (0..dice.below(3)).map(|n| MirrorEntry {
            name: format!("m{n}").parse().unwrap(),
            switch: self.switch,
            ports: dice.sometimes(3, |_| {
                let mut ports = PortSet::default();
                ports.set(self.ports[(at + 1) % self.ports.len()].id.id, true);
                ports
            }),
            rx: dice.one_in(2),
            tx: dice.one_in(2),
            vlans: dice.sometimes(4, |dice| dice.of(&["10", "20,30"]).parse().unwrap()),
            to: if dice.one_in(2) {
                MirrorTo::Port(self.ports[at].id.id)
            } else {
                MirrorTo::Vlan(COPIES)
            },
            filter: dice.sometimes(3, filter),
            counters: Arc::new(MirrorCounters::new(2)),
        });
        let mirrors: Vec<_> = mirrors.collect();
        self.has_mirrors |= !mirrors.is_empty();
        self.datapath.set_mirrors(mirrors);
    }

    /// Has the switch forget stations: all, those not seen for a while, or one.
    fn forget(&self, dice: &mut Dice<'_>, at: usize) {
        let (vlan, mac) = (dice.of(&[0, 10, 20]), mac(dice.below(PORTS)));
        match dice.below(4) {
            0 => drop(self.datapath.fdb_flush(self.switch, FdbFilter::default())),
            1 => drop(self.datapath.age(self.switch, 1)),
            2 => drop(self.datapath.fdb_remove(self.switch, vlan, mac)),
            _ => self
                .datapath
                .fdb_remove_static(self.switch, vlan, mac, self.ports[at].id.id),
        }
    }

    fn capture(&mut self, dice: &mut Dice<'_>, at: usize) {
        let port = &mut self.ports[at];
        if let Some(capture) = port.capture.take() {
            return self.datapath.remove_sniffers(&[(port.id, capture)]);
        }
        let setup = SnifferSetup {
            ingress: true,
            egress: true,
            filter: dice.sometimes(3, filter),
        };
        let capture = Arc::new(Sniffer::new(setup).unwrap());
        assert!(self.datapath.add_sniffers(&[(port.id, capture.clone())])[0]);
        port.capture = Some(capture);
    }

    /// Several frames at several ports before the workers have their turn.
    fn burst(&mut self, dice: &mut Dice<'_>, at: usize) {
        for n in 0..1 + dice.below(8) {
            let at = (at + n * dice.below(2)) % self.ports.len();
            let frame = wire(dice, PORTS, self.ports[at].own);
            self.ports[at].send(frame);
        }
    }

    /// One frame; what the trace says of it before is what becomes of it.
    fn send_traced(&mut self, dice: &mut Dice<'_>, at: usize) {
        let frame = wire(dice, PORTS, self.ports[at].own);
        let port = &mut self.ports[at];
        if self.has_rates || port.failed {
            return port.send(frame);
        }
        let steps = self.datapath.trace(port.id, &frame).unwrap();
        let before = self.counters();
        self.ports[at].send(frame);
        self.run();
        let after = self.counters();
        foretold(&steps, self.ports[at].id, &before, &after);
        self.outcome.traced += 1;
    }

    fn counters(&self) -> BTreeMap<u16, PortCounters> {
        let ports = self.ports.iter();
        ports
            .map(|port| (port.id.id.0, self.datapath.counters(port.id)))
            .collect()
    }

    /// Whether each frame shows the VLAN that it was switched in: mirrors copy out of all, and a bit may flip in a tag.
    fn has_vlans(&self) -> bool {
        !self.has_mirrors && !self.has_rates
    }

    fn run(&self) {
        let rests = (0..TURNS).any(|_| !self.datapath.turn());
        assert!(rests, "frames go round for ever");
    }

    /// Lets all frames go their way, and looks.
    fn settle(&mut self) {
        self.run();
        let mut sums = Sums::default();
        let has_vlans = self.has_vlans();
        for port in &mut self.ports {
            let counters = self.datapath.counters(port.id);
            port.drain(has_vlans, counters.rx_frames);
            port.check(&counters, &mut sums);
        }
        let (given, accounted) = (sums.given + self.gone.given, sums.accounted + self.gone.accounted);
        assert_eq!(given, accounted, "given to ports, and sent, dropped or waiting there");
    }

    /// Takes all ports away.
    pub fn close(mut self) -> Outcome {
        while !self.ports.is_empty() {
            self.remove_port(0);
        }
        assert_eq!(self.gone.given, self.gone.accounted, "nothing waits any more");
        assert_eq!(self.datapath.snapshot().ports().count(), 0);
        self.outcome
    }
}

impl Port {
    fn send(&mut self, wire: Vec<u8>) {
        if self.failed {
            return;
        }
        let is_gso = Checked::new(&wire).is_ok_and(|frame| frame.header().gso != Gso::None);
        self.cut_in |= is_gso && self.traffic.impair.inward.is_some();
        self.sent += 1;
        self.station.send_wire(wire);
    }

    /// Takes what came out, and looks whether the port can take it.
    fn drain(&mut self, has_vlans: bool, received: u64) {
        while let Some(wire) = self.station.receive() {
            self.got += 1;
            self.check_out(&wire, has_vlans);
        }
        let Some(capture) = &self.capture else { return };
        let before = self.captured;
        while let Some(seen) = capture.take() {
            self.captured += u64::from(seen.direction == Direction::In);
        }
        let inward = self.captured - before;
        assert!(inward <= self.sent && (received == 0 || inward <= received + self.sent));
    }

    fn check_out(&self, wire: &[u8], has_vlans: bool) {
        let frame = Checked::known(wire).unwrap();
        // With a tag more than came in it may have one too many to be read again.
        if Tag::all(frame.frame()).count() <= MAX_READ_TAGS {
            Checked::new(wire).unwrap_or_else(|error| panic!("{error:?}: {wire:02x?}"));
        }
        let header = frame.header();
        if !self.takes_offloads || !self.settings.offload {
            let plain = header.gso == Gso::None && !header.needs_csum();
            assert!(plain, "a port without offloads got {header:?}");
        }
        let tags = frame.frame()[12..].chunks_exact(4);
        let tags = tags.take_while(|tag| matches!(tag, [0x81, 0, ..] | [0x88, 0xa8, ..]));
        let longest = self.settings.mtu as usize + 14 + 4 * tags.take(2).count();
        assert!(frame.wire_size().largest <= longest, "longer than {longest}");
        if let Some(policy) = &self.settings.policy
            && has_vlans
            && policy.vlan_aware
            && policy.vlan.native().is_none()
        {
            let tag = Tag::nth(frame.frame(), 0);
            let member = tag.is_some_and(|tag| tag.vlan_id() != 0 && policy.vlan.is_member(tag.vlan_id()));
            assert!(member, "a trunk got {tag:?}");
        }
    }

    /// The law of conservation, as far as it is about one port.
    fn check(&self, counters: &PortCounters, sums: &mut Sums) {
        let total = |drops: &BTreeMap<String, u64>| drops.values().sum::<u64>();
        let (impair, dropped) = (&counters.impair, total(&counters.rx_drops));
        assert_eq!(
            counters.rx_frames,
            counters.rx_forwarded + counters.rx_flooded + dropped,
            "received, and forwarded, flooded or dropped: {counters:?}"
        );
        let (sent, seen) = (self.sent + impair.rx_duplicates, counters.rx_frames + impair.rx_waiting);
        if self.cut_in {
            assert!(sent <= seen, "sent {sent}, received {seen}: {counters:?}");
        } else {
            assert_eq!(sent, seen, "sent by the station, and received: {counters:?}");
        }
        if self.cut_out {
            assert!(self.got >= counters.tx_frames, "{} came out: {counters:?}", self.got);
        } else {
            assert_eq!(self.got, counters.tx_frames, "came out, and counted: {counters:?}");
        }
        sums.given += counters.rx_forwarded + counters.flood_copies + counters.mirror_copies + counters.probes;
        sums.given += impair.tx_duplicates + impair.tx_segments;
        sums.accounted += counters.tx_frames + total(&counters.tx_drops) + impair.tx_waiting;
    }
}

impl Outcome {
    fn add(&mut self, counters: &PortCounters) {
        self.received += counters.rx_frames;
        self.sent += counters.tx_frames;
        self.dropped += counters
            .rx_drops
            .values()
            .chain(counters.tx_drops.values())
            .sum::<u64>();
    }
}

/// Whether what became of one frame from `port` is what the trace has said.
fn foretold(steps: &[Stage], port: PortRef, before: &BTreeMap<u16, PortCounters>, after: &BTreeMap<u16, PortCounters>) {
    let mut reason = None;
    let mut out = BTreeMap::<(u16, &str), u64>::new();
    for step in steps {
        match step {
            Stage::Ingress { dropped, .. }
            | Stage::Police { dropped }
            | Stage::Storm { dropped }
            | Stage::Admit { dropped, .. }
            | Stage::Vlan { dropped, .. }
            | Stage::Rules { dropped }
            | Stage::Punt { dropped, .. }
            | Stage::Learn { dropped, .. }
            | Stage::LookUp { dropped, .. } => reason = reason.or(*dropped),
            // Where there are lines, nothing is traced.
            Stage::Impair { .. } | Stage::Mirror { .. } => {}
            Stage::Egress { port, dropped, .. } => {
                let what = dropped.map_or("sent", DropReason::as_str);
                *out.entry((port.0, what)).or_default() += 1;
            }
        }
    }
    let change = |of: fn(&PortCounters) -> &BTreeMap<String, u64>, id: u16| {
        let before = |word: &String| of(&before[&id]).get(word).copied().unwrap_or(0);
        let changed = of(&after[&id]).iter().map(|(word, n)| (word.clone(), n - before(word)));
        changed.filter(|(_, n)| *n > 0).collect::<Vec<_>>()
    };
    let id = port.id.0;
    let expected = Vec::from_iter(reason.map(|reason| (reason.as_str().to_owned(), 1)));
    assert_eq!(change(|counters| &counters.rx_drops, id), expected, "{steps:?}");
    let mut happened = BTreeMap::<(u16, String), u64>::new();
    for id in after.keys() {
        let sent = after[id].tx_frames - before[id].tx_frames;
        let dropped = change(|counters| &counters.tx_drops, *id);
        for (what, n) in dropped.into_iter().chain((sent > 0).then(|| ("sent".to_owned(), sent))) {
            // What only the port itself can say.
            let what = match &*what {
                "queue-full" | "link-down" | "rejected" => "sent".to_owned(),
                _ => what,
            };
            *happened.entry((*id, what)).or_default() += n;
        }
    }
    let out: BTreeMap<_, _> = out
        .into_iter()
        .map(|((id, what), n)| ((id, what.to_owned()), n))
        .collect();
    assert_eq!(happened, out, "{steps:?}");
}
