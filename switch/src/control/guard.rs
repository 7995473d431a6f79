//! The loop guard, and other reasons to shut a port.
//!
//! A station that is seen on one port and another many times a second tells of a loop, or of two stations with one
//! address. The ports that it was seen on then send a probe in its VLAN. One that comes back proves the loop, and the younger of the
//! two ports (of a namespace's port and a device, the first) is shut at once; if the station flaps on though no probe came back, the youngest port is shut too. A shut port
//! is opened again after a time that doubles with each try, and is a little different for each port; it then sends a probe at once.
//!
//! A loop may lead through several switches, and each of them finds it. One shut port cuts it, and so what was found out before
//! proves nothing any more: whoever finds a loop still sends another probe.
//!
//! A port whose rules drop what comes in by a loop cuts that direction of it. Frames may go round by the other one, so such ports send
//! probes too, whoever flaps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use vswitch_api::policy::{AcceptFrames, BeyondLimit};
use vswitch_api::view::PortState;
use vswitch_api::{EventKind, Mac, Port, PortKind, PortName, SwitchName};

use super::attach::state_of;
use super::{Inner, LivePort, Shut};
use vswitch_datapath::{PortRef, SwitchId};
use vswitch_linux::random::random_u64;

/// How long a port is shut for the first time, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// A port that was open for so long without trouble starts anew.
const FORGIVEN: Duration = Duration::from_secs(600);
/// How long a probe may be under way; after half of this time the next one has a nonce of its own. In between it is the same one
/// in several VLANs: a storm may hold it up, and what replaced it could not be told from a forged one.
const PROBE_VALID: Duration = Duration::from_secs(4);

/// A station: the same address in two VLANs is two of them. VLAN 0 is none.
type Station = (u16, Mac);

/// What the guard remembers.
#[derive(Debug, Default)]
pub(super) struct Guard {
    flaps: HashMap<(SwitchId, Station), Flap>,
    back_offs: HashMap<PortRef, BackOff>,
    /// Probes that may come back, by the port that sent them.
    probes: HashMap<PortRef, Probe>,
    /// When ports with rules sent probes last.
    looked_wide: HashMap<SwitchId, Instant>,
}

/// A probe that is under way.
#[derive(Debug)]
struct Probe {
    nonce: u64,
    since: Instant,
    vlan: u16,
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

impl Guard {
    /// Counts a move. The ports concerned, once in a second in which the station flaps, and for how many seconds it has.
    fn moved(
        &mut self,
        switch: SwitchId,
        station: Station,
        ports: [PortRef; 2],
        flapping: u32,
    ) -> Option<(Vec<PortRef>, u32, u32)> {
        let now = Instant::now();
        let flap = self.flaps.entry((switch, station)).or_insert_with(|| Flap {
            since: now,
            moves: 0,
            ports: Vec::new(),
            told: false,
            strikes: 0,
        });
        let age = now.duration_since(flap.since);
        if age > Duration::from_secs(1) {
            flap.strikes = if flap.told && age < Duration::from_secs(2) {
                flap.strikes
            } else {
                0
            };
            (flap.since, flap.moves, flap.told) = (now, 0, false);
            flap.ports.clear();
        }
        flap.moves += 1;
        for port in ports {
            if !flap.ports.contains(&port) {
                flap.ports.push(port);
            }
        }
        if flap.moves < flapping || flap.told {
            return None;
        }
        flap.told = true;
        flap.strikes += 1;
        Some((flap.ports.clone(), flap.moves, flap.strikes))
    }

    /// Forgets stations that have come to rest.
    fn tidy(&mut self) {
        self.flaps
            .retain(|_, flap| flap.since.elapsed() < Duration::from_secs(3));
        self.back_offs.retain(|_, back_off| back_off.until.elapsed() < FORGIVEN);
        self.probes.retain(|_, probe| probe.since.elapsed() < PROBE_VALID);
        self.looked_wide.retain(|_, at| at.elapsed() < Duration::from_secs(1));
    }

    /// How long a port stays shut: up to half as long again as the time that doubles, so that two ports that were shut at a time
    /// don't open at a time. `salt`: a number of this daemon's own.
    fn back_off(&mut self, port: PortRef, salt: u64) -> Duration {
        let before = self.back_offs.get(&port).map(|back_off| back_off.time);
        let time = before.map_or(BACK_OFF.0, |time| (time * 2).min(BACK_OFF.1));
        // Multiples of the golden ratio: those of any few ports are far from each other (Knuth, TAOCP 3, section 6.4).
        let part = port.serial.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(salt) >> 32;
        let longer = time.mul_f64(1.0 + part as f64 / f64::from(u32::MAX) / 2.0);
        let until = Instant::now() + longer;
        self.back_offs.insert(port, BackOff { time, until });
        longer
    }

    /// The nonce for a probe of a port that goes out now.
    ///
    /// # Errors
    /// The kernel has no random number.
    fn nonce(&mut self, port: PortRef, vlan: u16) -> std::io::Result<u64> {
        let now = Instant::now();
        if let Some(probe) = self.probes.get_mut(&port)
            && now.duration_since(probe.since) < PROBE_VALID / 2
        {
            probe.vlan = vlan;
            return Ok(probe.nonce);
        }
        // 0 is none.
        let nonce = random_u64()?.max(1);
        let since = now;
        self.probes.insert(port, Probe { nonce, since, vlan });
        Ok(nonce)
    }

    /// The VLAN of the probe that proves a loop, which it does once and for a short time.
    fn proven(&mut self, sent: PortRef, nonce: u64) -> Option<u16> {
        let is_it = |probe: &Probe| probe.nonce == nonce && probe.since.elapsed() < PROBE_VALID;
        self.probes.get(&sent).filter(|probe| is_it(probe))?;
        self.probes.remove(&sent).map(|probe| probe.vlan)
    }

    /// A port was shut, and there may be no loop any more.
    fn begin_anew(&mut self) {
        self.flaps.clear();
        self.probes.clear();
    }
}

impl Inner {
    /// A station was seen on another port than before.
    pub(super) async fn station_moved(&mut self, name: &SwitchName, station: Station, from: PortRef, to: PortRef) {
        let Some(&switch) = self.switches.get(name) else { return };
        let Some(settings) = self.state.lab.switches.iter().find(|switch| switch.name == *name) else {
            return;
        };
        let (flapping, enough) = (settings.flap_moves, settings.flap_secs);
        let Some((ports, moves, strikes)) = self.guard.moved(switch, station, [from, to], flapping) else {
            return;
        };
        let (vlan, mac) = station;
        let mut seen: Vec<_> = ports
            .iter()
            .filter_map(|id| Some((self.port_name(*id)?, *id)))
            .collect();
        seen.sort_by_key(|(name, _)| self.rank(name));
        let names: Vec<_> = seen.iter().map(|(name, _)| name.clone()).collect();
        tracing::warn!(switch = %name, %mac, ports = ?names, moves, "switch {name}: station {mac} goes to and fro between ports");
        self.emit(EventKind::FdbFlapping {
            switch: name.clone(),
            mac,
            ports: names.clone(),
            moves,
        });
        if !self.guards(name) {
            return;
        }
        if strikes >= enough
            && let [(eldest, _), .., (youngest, id)] = &seen[..]
        {
            let reason = format!("station {mac} flaps between it and port \"{eldest}\"");
            self.shut_for_a_time(youngest, *id, reason, vlan).await;
            return;
        }
        for (_, port) in &seen {
            self.probe(*port, vlan);
        }
        self.look_wide(switch, name, vlan);
    }

    /// Ports that drop what comes in by a loop: they never flap, but what goes out of them may come back elsewhere.
    fn look_wide(&mut self, switch: SwitchId, name: &SwitchName, vlan: u16) {
        let now = Instant::now();
        let before = self.guard.looked_wide.get(&switch);
        if before.is_some_and(|at| now.duration_since(*at) < Duration::from_secs(1)) {
            return;
        }
        self.guard.looked_wide.insert(switch, now);
        let ports = self.state.lab.ports.iter();
        let ruled = ports.filter(|port| port.switch == *name && may_drop(port));
        let ids: Vec<_> = ruled.filter_map(|port| self.ports.get(&port.name)?.id).collect();
        for port in ids {
            self.probe(port, vlan);
        }
    }

    /// Sends a probe out of a port.
    fn probe(&mut self, port: PortRef, vlan: u16) {
        match self.guard.nonce(port, vlan) {
            Ok(nonce) => self.datapath.send_probe(port, vlan, nonce),
            Err(error) => tracing::error!("loops can't be looked for: no random number: {error}"),
        }
    }

    /// A probe came back.
    pub(super) async fn loop_found(&mut self, sent: PortRef, nonce: u64, received: PortRef) {
        let Some(vlan) = self.guard.proven(sent, nonce) else {
            return;
        };
        let (Some(sent_name), Some(received_name)) = (self.port_name(sent), self.port_name(received)) else {
            return;
        };
        let switch = self.switch_of(&received_name);
        let Some(switch) = switch.filter(|switch| self.switch_of(&sent_name).as_ref() == Some(switch)) else {
            return;
        };
        if !self.guards(&switch) {
            return;
        }
        let (younger, id, other) = if self.rank(&sent_name) > self.rank(&received_name) {
            (&sent_name, sent, &received_name)
        } else {
            (&received_name, received, &sent_name)
        };
        let reason = if sent == received {
            "a loop: its own frames come back to it".to_owned()
        } else {
            format!("a loop: it leads to the same place as port \"{other}\"")
        };
        self.shut_for_a_time(younger, id, reason, vlan).await;
    }

    /// Shuts a port for its back-off. `vlan`: where its frames go round.
    async fn shut_for_a_time(&mut self, name: &PortName, id: PortRef, reason: String, vlan: u16) {
        let back_off = self.guard.back_off(id, self.state.salt);
        self.shut(name, reason, Some((back_off, vlan))).await;
    }

    /// Shuts a port, for a time or until it is set up by hand.
    async fn shut(&mut self, name: &PortName, reason: String, back_off: Option<(Duration, u16)>) {
        let Some(port) = self.port_of_lab(name).cloned() else {
            return;
        };
        let Some(live) = self
            .ports
            .get_mut(name)
            .filter(|live| live.shut.is_none() && live.id.is_some())
        else {
            return;
        };
        let next = match back_off {
            Some((time, _)) => format!("opens again {} s after it was shut", time.as_secs()),
            None => format!("`vswitchctl set port {name} --up` opens it"),
        };
        let reason = format!("{reason}; {next}");
        tracing::warn!(port = %name, "port {}: shut: {reason}", name);
        live.shut = Some(Shut {
            reason: reason.clone(),
            until: back_off.map(|(time, _)| Instant::now() + time),
            looped_in: back_off.map(|(_, vlan)| vlan),
        });
        self.update_in_datapath(&port);
        self.guard.begin_anew();
        self.emit(EventKind::PortShut {
            port: name.clone(),
            reason,
            retry_secs: back_off.map(|(time, _)| time.as_secs()),
        });
        self.set_state(name, PortState::Shut, None);
    }

    /// A station beyond the limit was seen on a port that is to be shut then.
    pub(super) async fn port_limit_reached(&mut self, name: &PortName) {
        let port = self.port_of_lab(name);
        // The setting may be another one by now.
        let shuts = port.filter(|port| port.learning.beyond == BeyondLimit::Shut);
        if let Some(port) = shuts {
            let limit = match port.learning.limit {
                Some(limit) => format!("more than {limit} stations behind it"),
                None => "more stations in its VLAN than the switch allows".to_owned(),
            };
            self.shut(name, limit, None).await;
        }
    }

    /// Opens a port that was shut.
    pub(super) async fn open(&mut self, name: &PortName) {
        let Some(port) = self.port_of_lab(name).cloned() else {
            return;
        };
        let Some(live) = self.ports.get_mut(name) else { return };
        let Some(shut) = live.shut.take() else { return };
        let id = live.id;
        self.update_in_datapath(&port);
        if let (Some(id), Some(vlan)) = (id, shut.looped_in) {
            // Found before the loop has carried much.
            self.probe(id, vlan);
        }
        let Some(live) = self.ports.get(name) else { return };
        let carries = self.carries_now(&port, live).await.ok().flatten().unwrap_or(false);
        let (state, reason) = state_of(&port, &live.ifname, carries);
        self.set_state(name, state, reason);
    }

    /// Whether the time of a shut port has come.
    pub(super) fn is_one_due(&mut self) -> bool {
        self.guard.tidy();
        let now = Instant::now();
        let shut = |live: &LivePort| live.shut.as_ref().and_then(|shut| shut.until);
        self.ports.values().filter_map(shut).any(|until| until <= now)
    }

    /// Opens the ports whose time has come.
    pub(super) async fn open_due(&mut self) {
        let now = Instant::now();
        let is_due = |shut: &Shut| shut.until.is_some_and(|until| until <= now);
        let due: Vec<_> = self
            .ports
            .iter()
            .filter(|(_, live)| live.shut.as_ref().is_some_and(is_due))
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            tracing::info!(port = %name, "port {}: opened again", name);
            self.open(&name).await;
        }
    }

    /// Of two ports in a loop the one with the higher rank is shut: the younger, as ports stand in the lab in the order in which they
    /// were added. But before a device, by which others are reached, the port of a namespace: who is behind one, and hears elsewhere
    /// what went out of the other, is to harm himself only.
    fn rank(&self, name: &PortName) -> Option<(bool, usize)> {
        let mut ports = self.state.lab.ports.iter();
        let place = ports.position(|port| port.name == *name)?;
        Some((self.state.lab.ports[place].kind != PortKind::Device, place))
    }

    fn guards(&self, switch: &vswitch_api::SwitchName) -> bool {
        self.state
            .lab
            .switches
            .iter()
            .any(|other| other.name == *switch && other.loop_guard)
    }
}

/// Whether a port may drop what comes in and would come in from the port's own station.
fn may_drop(port: &Port) -> bool {
    port.pin.mac.is_some()
        || port.pin.ip.is_some()
        || !port.acl.ingress.is_empty()
        || port.learning.locked
        || !port.learning.enabled
        || port.accept != AcceptFrames::All
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::lab::DEFAULT_FLAP_MOVES;
    use vswitch_datapath::PortId;

    fn port(id: u16, serial: u64) -> PortRef {
        let id = PortId(id);
        PortRef { id, serial }
    }

    #[test]
    fn a_flapping_station_is_told_of_once_a_second() {
        let mut guard = Guard::default();
        let mac = (10, Mac([2, 0, 0, 0, 0, 1]));
        let mut told = Vec::new();
        for _ in 0..DEFAULT_FLAP_MOVES * 3 {
            told.extend(guard.moved(SwitchId(0), mac, [port(1, 1), port(2, 2)], DEFAULT_FLAP_MOVES));
        }
        assert_eq!(told, [(vec![port(1, 1), port(2, 2)], DEFAULT_FLAP_MOVES, 1)]);
        assert_eq!(
            guard.moved(SwitchId(1), mac, [port(1, 1), port(2, 2)], DEFAULT_FLAP_MOVES),
            None
        );
        assert_eq!(
            guard.moved(SwitchId(0), (20, mac.1), [port(1, 1), port(2, 2)], DEFAULT_FLAP_MOVES),
            None
        );
    }

    #[test]
    fn the_time_doubles_up_to_a_bound_and_is_no_port_s_like_another_s() {
        let mut guard = Guard::default();
        let mut times = |port| (0..7).map(|_| guard.back_off(port, 99)).collect::<Vec<_>>();
        let [first, second] = [times(port(0, 1)), times(port(0, 2))];
        for (time, least) in first.iter().zip([10, 20, 40, 80, 160, 300, 300]) {
            let least = Duration::from_secs(least);
            assert!(*time >= least && *time <= least * 3 / 2, "{first:?}");
        }
        // By more than what a look at the ports takes (a second) even at the first time.
        for (a, b) in first.iter().zip(&second) {
            assert!(a.abs_diff(*b) > Duration::from_secs(1), "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_probe_proves_a_loop_once_and_for_its_port_alone() {
        let mut guard = Guard::default();
        let nonce = guard.nonce(port(0, 1), 10).unwrap();
        assert_eq!(guard.nonce(port(0, 1), 20).unwrap(), nonce, "the same for a while");
        assert_ne!(guard.nonce(port(1, 2), 10).unwrap(), nonce);
        // Another nonce, another port, the next port of that index.
        for (of, forged) in [
            (port(0, 1), nonce ^ 1),
            (port(1, 2), nonce),
            (port(0, 3), nonce),
            (port(0, 1), 0),
        ] {
            assert_eq!(guard.proven(of, forged), None);
        }
        assert_eq!(guard.proven(port(0, 1), nonce), Some(20));
        assert_eq!(guard.proven(port(0, 1), nonce), None, "replayed");
        assert_ne!(guard.nonce(port(0, 1), 10).unwrap(), nonce);
    }

    #[test]
    fn what_was_under_way_when_a_port_was_shut_or_too_long_proves_nothing() {
        let mut guard = Guard::default();
        let nonce = guard.nonce(port(0, 1), 10).unwrap();
        guard.begin_anew();
        assert_eq!(guard.proven(port(0, 1), nonce), None);
        let nonce = guard.nonce(port(0, 1), 10).unwrap();
        guard.probes.get_mut(&port(0, 1)).unwrap().since -= PROBE_VALID;
        assert_eq!(guard.proven(port(0, 1), nonce), None);
    }
}
