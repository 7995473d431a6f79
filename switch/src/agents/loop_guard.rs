//! The loop guard.
//!
//! A station that is seen on one port and another many times a second tells of a loop, or of two stations with one
//! address. The ports that it was seen on then send a probe in its VLAN. One that comes back proves the loop, and the port with the
//! higher rank of the two is shut at once; if the station flaps on though no probe came back, that with the highest rank is shut too.
//! A shut port is opened again after a time that doubles with each try, and is a little different for each port. It sends a probe
//! before, by which a loop is found that is still there, without a frame that goes round; and another one as soon as it is open.
//!
//! A loop may lead through several switches, and each of them finds it. One shut port cuts it, and so what was found out before
//! proves nothing any more: whoever finds a loop still sends another probe.
//!
//! Where a loop has many ways, most frames of its storm are lost, and stations are hardly seen to move. So a port by which others are reached
//! sends a probe as it comes up, before there is a storm, and once more after another was shut.
//!
//! A storm that was there before the guard, or stands in the way of its probes, is seen by how much is flooded from several ports of a switch.
//! It floods nothing for a moment then: what goes round ends there, and the probes that all ports send come through. If it was no loop it costs
//! what was to be flooded in that moment, and is not done again for a time that doubles.
//!
//! A port whose rules drop what comes in by a loop cuts that direction of it. Frames may go round by the other one, so such ports send
//! probes too, whoever flaps.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use vswitch_api::Mac;
use vswitch_datapath::punt::Punt;
use vswitch_datapath::{PortRef, SwitchId, guard};

use super::{Action, Input, LOOP_GUARD, LoopCause, Surroundings, SwitchFacts};

/// The frames that it wants: probes.
pub const PUNTS: [Punt; 1] = [guard::punt(LOOP_GUARD)];

/// How long a port is shut for the first time, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// How long a storm in which no loop was found is left alone for the first time, and at most.
const LEFT_ALONE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// A port that was open for so long without trouble starts anew.
const FORGIVEN: Duration = Duration::from_secs(600);
/// How long a probe may be under way; after half of this time the next one has a nonce of its own. In between it is the same one
/// in several VLANs: a storm may hold it up, and what replaced it could not be told from a forged one.
const PROBE_VALID: Duration = Duration::from_secs(4);
const SECOND: Duration = Duration::from_secs(1);

/// A station: the same address in two VLANs is two of them. VLAN 0 is none.
type Station = (u16, Mac);

/// What the guard remembers.
#[derive(Debug)]
pub struct LoopGuard {
    /// Of this daemon alone.
    salt: u64,
    random: fn() -> io::Result<u64>,
    flaps: HashMap<(SwitchId, Station), Flap>,
    back_offs: HashMap<PortRef, BackOff>,
    /// Probes that may come back, by the port that sent them.
    probes: HashMap<PortRef, Probe>,
    /// When ports with rules sent probes last.
    looked_wide: HashMap<SwitchId, Instant>,
    /// Storms from one port, or from several, that were looked into and in which no port was shut so far.
    storms: HashMap<(SwitchId, bool), BackOff>,
}

/// A probe that is under way.
#[derive(Debug)]
struct Probe {
    nonce: u64,
    /// Of the one that it took the place of; 0: none.
    before: u64,
    since: Instant,
    vlan: u16,
    /// Its port is shut, and whether that may be opened is asked.
    is_trial: bool,
}

#[derive(Debug)]
struct Flap {
    since: Instant,
    moves: u32,
    ports: Vec<PortRef>,
    told: bool,
    strikes: u32,
}

#[derive(Debug)]
struct BackOff {
    time: Duration,
    until: Instant,
}

impl LoopGuard {
    /// `salt`: a number of this daemon's own, by which it waits otherwise than others. `random`: 64 bits that nobody can guess.
    pub fn new(salt: u64, random: fn() -> io::Result<u64>) -> Self {
        Self {
            salt,
            random,
            flaps: HashMap::new(),
            back_offs: HashMap::new(),
            probes: HashMap::new(),
            looked_wide: HashMap::new(),
            storms: HashMap::new(),
        }
    }

    /// What is to be done about something that happened now.
    pub fn take(&mut self, now: Instant, input: Input, around: &impl Surroundings) -> Vec<Action> {
        match input {
            Input::Moved {
                switch,
                vlan,
                mac,
                from,
                to,
            } => self.moved(now, switch, (vlan, mac), [from, to], around),
            Input::ProbeBack {
                sent,
                nonce,
                received,
                vlan,
            } => Vec::from_iter(self.probe_back(now, (sent, nonce), (received, vlan), around)),
            // Found before it carries anything, or much.
            Input::Suspected { port, vlan } => {
                let probe = self.probe(now, port, vlan);
                if let Some(probe) = self.probes.get_mut(&port) {
                    probe.is_trial = around.port(port).is_some_and(|port| port.shut);
                }
                vec![probe]
            }
            Input::Storm { switch, several } if self.is_due(now, switch, several, around) => match several {
                true => vec![Action::Hold { switch }],
                // What goes round one way only leaves room for probes, and much may be flooded from one port without a loop.
                false => self.look_round(now, switch, around),
            },
            Input::Storm { .. } => Vec::new(),
            Input::Still { switch } => self.look_round(now, switch, around),
        }
    }

    /// Has all ports of a switch probe in their VLANs.
    fn look_round(&mut self, now: Instant, switch: SwitchId, around: &impl Surroundings) -> Vec<Action> {
        let ports = around.ports_in_vlans(switch).into_iter();
        ports
            .flat_map(|(port, vlans)| self.probe_anew(now, port, &vlans))
            .collect()
    }

    fn moved(
        &mut self,
        now: Instant,
        switch: SwitchId,
        station: Station,
        ports: [PortRef; 2],
        around: &impl Surroundings,
    ) -> Vec<Action> {
        let Some(settings) = around.switch(switch) else {
            return Vec::new();
        };
        let Some((ports, moves, strikes)) = self.flaps(now, switch, station, ports, settings) else {
            return Vec::new();
        };
        let (vlan, mac) = station;
        // One that was shut meanwhile has no part in it.
        let ranked = ports.into_iter().filter_map(|port| {
            let facts = around.port(port).filter(|facts| !facts.shut)?;
            Some((facts.rank, port))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let ports: Vec<_> = ranked.into_iter().map(|(_, port)| port).collect();
        if ports.len() < 2 {
            return Vec::new();
        }
        let mut actions = vec![Action::Flapping {
            switch,
            mac,
            ports: ports.clone(),
            moves,
        }];
        if !settings.guarded {
            return actions;
        }
        if strikes >= settings.flap_secs
            && let [eldest, .., youngest] = ports[..]
        {
            actions.push(self.shut(now, youngest, LoopCause::Flaps { mac, eldest }, vlan));
            return actions;
        }
        actions.extend(ports.iter().map(|port| self.probe(now, *port, vlan)));
        if self.may_look_wide(now, switch) {
            let wide = around.ports_that_may_drop(switch);
            actions.extend(wide.into_iter().map(|port| self.probe(now, port, vlan)));
        }
        actions
    }

    /// Counts a move. The ports concerned, once in a second in which the station flaps, the moves, and for how many seconds it has.
    fn flaps(
        &mut self,
        now: Instant,
        switch: SwitchId,
        station: Station,
        ports: [PortRef; 2],
        settings: SwitchFacts,
    ) -> Option<(Vec<PortRef>, u32, u32)> {
        let flap = self.flaps.entry((switch, station)).or_insert_with(|| Flap {
            since: now,
            moves: 0,
            ports: Vec::new(),
            told: false,
            strikes: 0,
        });
        let age = now.duration_since(flap.since);
        if age > SECOND {
            flap.strikes = if flap.told && age < 2 * SECOND { flap.strikes } else { 0 };
            (flap.since, flap.moves, flap.told) = (now, 0, false);
            flap.ports.clear();
        }
        flap.moves += 1;
        for port in ports {
            if !flap.ports.contains(&port) {
                flap.ports.push(port);
            }
        }
        if flap.moves < settings.flap_moves || flap.told {
            return None;
        }
        flap.told = true;
        // Who turns the guard on has it look for the loop first.
        flap.strikes = if settings.guarded { flap.strikes + 1 } else { 0 };
        Some((flap.ports.clone(), flap.moves, flap.strikes))
    }

    /// Whether a storm is to be looked into: not if that was in vain not long ago.
    fn is_due(&mut self, now: Instant, switch: SwitchId, several: bool, around: &impl Surroundings) -> bool {
        if !around.switch(switch).is_some_and(|facts| facts.guarded) {
            return false;
        }
        let before = self.storms.get(&(switch, several));
        if before.is_some_and(|left| now < left.until) {
            return false;
        }
        let first = if several { LEFT_ALONE.0 } else { SECOND };
        let time = before.map_or(first, |left| (left.time * 2).min(LEFT_ALONE.1));
        let until = now + time;
        self.storms.insert((switch, several), BackOff { time, until });
        true
    }

    /// Whether ports that never see a station move are to send probes: they drop what comes in by a loop, but what goes out of them
    /// may come back elsewhere.
    fn may_look_wide(&mut self, now: Instant, switch: SwitchId) -> bool {
        let before = self.looked_wide.get(&switch);
        let may = before.is_none_or(|at| now.duration_since(*at) >= SECOND);
        if may {
            self.looked_wide.insert(switch, now);
        }
        may
    }

    /// A probe that goes out of a port now.
    fn probe(&mut self, now: Instant, port: PortRef, vlan: u16) -> Action {
        if let Some(probe) = self.probes.get_mut(&port)
            && now.duration_since(probe.since) < PROBE_VALID / 2
        {
            probe.vlan = vlan;
            let nonce = probe.nonce;
            return Action::Probe { port, vlan, nonce };
        }
        match (self.random)() {
            Ok(random) => {
                // 0 is none.
                let nonce = random.max(1);
                let probe = Probe {
                    nonce,
                    since: now,
                    before: 0,
                    vlan,
                    is_trial: false,
                };
                self.probes.insert(port, probe);
                Action::Probe { port, vlan, nonce }
            }
            Err(error) => Action::NoRandom(error),
        }
    }

    /// Another probe than the one before, since other switches that are still pass each of them once. What is told of that one may be
    /// under way.
    fn probe_anew(&mut self, now: Instant, port: PortRef, vlans: &[u16]) -> Vec<Action> {
        let before = self.probes.remove(&port).map_or(0, |probe| probe.nonce);
        let probes = vlans.iter().map(|vlan| self.probe(now, port, *vlan)).collect();
        if let Some(probe) = self.probes.get_mut(&port) {
            probe.before = before;
        }
        probes
    }

    /// A probe proves a loop once and for a short time.
    fn probe_back(
        &mut self,
        now: Instant,
        (sent, nonce): (PortRef, u64),
        (received, came_in): (PortRef, u16),
        around: &impl Surroundings,
    ) -> Option<Action> {
        let is_it = |probe: &Probe| {
            [probe.nonce, probe.before].contains(&nonce) && now.duration_since(probe.since) < PROBE_VALID
        };
        self.probes.get(&sent).filter(|probe| is_it(probe))?;
        let Probe { vlan, is_trial, .. } = self.probes.remove(&sent)?;
        let (from, to) = (around.port(sent)?, around.port(received)?);
        if from.switch != to.switch || !around.switch(from.switch)?.guarded {
            return None;
        }
        if (from.shut || to.shut) && !is_trial {
            return None;
        }
        // What joins a VLAN to another is no circle by itself, as a firewall between the two.
        if came_in != vlan && !self.is_in_trouble(now, from.switch) {
            return None;
        }
        // One that is shut already cuts the loop by staying so.
        let (younger, other) = if is_trial || from.rank > to.rank {
            (sent, received)
        } else {
            (received, sent)
        };
        let cause = if sent == received {
            LoopCause::OwnFrames
        } else {
            LoopCause::SamePlace(other)
        };
        Some(self.shut(now, younger, cause, came_in))
    }

    /// Whether stations of a switch flap, or much is flooded there.
    fn is_in_trouble(&self, now: Instant, switch: SwitchId) -> bool {
        let flaps = self
            .flaps
            .iter()
            .any(|((at, _), flap)| *at == switch && (flap.told || flap.strikes > 0));
        let storms = || {
            self.storms
                .iter()
                .any(|((at, _), left)| *at == switch && now < left.until)
        };
        flaps || storms()
    }

    /// Up to half as long again as the time that doubles, so that two ports that were shut at a time don't open at a time.
    fn shut(&mut self, now: Instant, port: PortRef, cause: LoopCause, vlan: u16) -> Action {
        let before = self.back_offs.get(&port).map(|back_off| back_off.time);
        let doubled = before.map_or(BACK_OFF.0, |time| (time * 2).min(BACK_OFF.1));
        // Multiples of the golden ratio: those of any few ports are far from each other (Knuth, TAOCP 3, section 6.4).
        let part = port.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(self.salt) >> 32;
        let time = doubled.mul_f64(1.0 + part as f64 / f64::from(u32::MAX) / 2.0);
        let back_off = BackOff {
            time: doubled,
            until: now + time,
        };
        self.back_offs.insert(port, back_off);
        Action::Shut {
            port,
            cause,
            time,
            vlan,
        }
    }

    /// A port was shut, whoever wanted it: there may be no loop any more. Those on trial are shut themselves.
    pub fn begin_anew(&mut self) {
        self.flaps.clear();
        self.storms.clear();
        self.probes.retain(|_, probe| probe.is_trial);
    }

    /// Forgets what has come to rest; about once a second.
    pub fn tidy(&mut self, now: Instant) {
        self.flaps.retain(|_, flap| now.duration_since(flap.since) < 3 * SECOND);
        self.back_offs
            .retain(|_, back_off| now.duration_since(back_off.until) < FORGIVEN);
        self.storms.retain(|_, left| now.duration_since(left.until) < FORGIVEN);
        self.probes
            .retain(|_, probe| now.duration_since(probe.since) < PROBE_VALID);
        self.looked_wide.retain(|_, at| now.duration_since(*at) < SECOND);
    }
}

#[cfg(test)]
mod tests;
