//! The loop guard, and other reasons to shut a port.
//!
//! A station that is seen on one port and another many times a second tells of a loop, or of two stations with one
//! address. The ports that it was seen on then send a probe in its VLAN. One that comes back proves the loop, and the younger of the
//! two ports is shut at once; if the station flaps on though no probe came back, the youngest port is shut too. A shut port
//! is opened again after a time that doubles with each try.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use vswitch_api::policy::BeyondLimit;
use vswitch_api::view::PortState;
use vswitch_api::{EventKind, Mac, PortName};

use super::attach::state_of;
use super::{Inner, LivePort, Shut};
use crate::datapath::{PortId, SwitchId};

/// How long a port is shut for the first time, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));
/// A port that was open for so long without trouble starts anew.
const FORGIVEN: Duration = Duration::from_secs(600);

/// A station: the same address in two VLANs is two of them. VLAN 0 is none.
type Station = (u16, Mac);

/// What the guard remembers.
#[derive(Debug, Default)]
pub(super) struct Guard {
    flaps: HashMap<(SwitchId, Station), Flap>,
    back_offs: HashMap<PortName, BackOff>,
}

#[derive(Debug)]
struct Flap {
    since: Instant,
    moves: u32,
    ports: Vec<PortId>,
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
        ports: [PortId; 2],
        flapping: u32,
    ) -> Option<(Vec<PortId>, u32, u32)> {
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
    }

    fn back_off(&mut self, port: &PortName) -> Duration {
        let before = self.back_offs.get(port).map(|back_off| back_off.time);
        let time = before.map_or(BACK_OFF.0, |time| (time * 2).min(BACK_OFF.1));
        let until = Instant::now() + time;
        self.back_offs.insert(port.clone(), BackOff { time, until });
        time
    }
}

impl Inner {
    /// A station was seen on another port than before.
    pub(super) async fn station_moved(&mut self, switch: SwitchId, station: Station, from: PortId, to: PortId) {
        let Some(name) = self.switch_name(switch) else { return };
        let Some(settings) = self.state.lab.switches.iter().find(|switch| switch.name == name) else {
            return;
        };
        let (flapping, enough) = (settings.flap_moves, settings.flap_secs);
        let Some((ports, moves, strikes)) = self.guard.moved(switch, station, [from, to], flapping) else {
            return;
        };
        let (vlan, mac) = station;
        let mut names: Vec<_> = ports.iter().filter_map(|id| self.port_name(*id)).collect();
        names.sort_by_key(|name| self.rank(name));
        tracing::warn!(switch = %name, %mac, ports = ?names, moves, "switch {name}: station {mac} goes to and fro between ports");
        self.emit(EventKind::FdbFlapping {
            switch: name.clone(),
            mac,
            ports: names.clone(),
            moves,
        });
        if !self.guards(&name) {
            return;
        }
        if strikes >= enough
            && let [_, .., youngest] = &names[..]
        {
            let reason = format!("station {mac} flaps between it and port \"{}\"", names[0]);
            let back_off = self.guard.back_off(youngest);
            self.shut(&youngest.clone(), reason, Some(back_off)).await;
            return;
        }
        for port in ports {
            self.datapath.send_probe(port, vlan);
        }
    }

    /// A probe came back.
    pub(super) async fn loop_found(&mut self, sent: PortId, received: PortId) {
        let (Some(sent), Some(received)) = (self.port_name(sent), self.port_name(received)) else {
            return;
        };
        if !self
            .port_of_lab(&received)
            .is_some_and(|port| self.guards(&port.switch))
        {
            return;
        }
        let younger = if self.rank(&sent) > self.rank(&received) {
            &sent
        } else {
            &received
        };
        let reason = if sent == received {
            "a loop: its own frames come back to it".to_owned()
        } else {
            let other = if *younger == sent { &received } else { &sent };
            format!("a loop: it leads to the same place as port \"{other}\"")
        };
        let back_off = self.guard.back_off(younger);
        self.shut(&younger.clone(), reason, Some(back_off)).await;
    }

    /// Shuts a port, for a time or until it is set up by hand.
    pub(super) async fn shut(&mut self, name: &PortName, reason: String, back_off: Option<Duration>) {
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
            Some(time) => format!("opens again {} s after it was shut", time.as_secs()),
            None => format!("`vswitchctl set port {name} --up` opens it"),
        };
        let reason = format!("{reason}; {next}");
        tracing::warn!(port = %name, "port {}: shut: {reason}", name);
        live.shut = Some(Shut {
            reason: reason.clone(),
            until: back_off.map(|time| Instant::now() + time),
        });
        self.update_in_datapath(&port);
        self.emit(EventKind::PortShut {
            port: name.clone(),
            reason,
            retry_secs: back_off.map(|time| time.as_secs()),
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
        if live.shut.take().is_none() {
            return;
        }
        self.update_in_datapath(&port);
        let Some(live) = self.ports.get(name) else { return };
        let carries = self.carries_now(&port, live).await.ok().flatten().unwrap_or(false);
        let (state, reason) = state_of(&port, carries);
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

    /// Ports stand in the lab in the order in which they were added.
    fn rank(&self, name: &PortName) -> Option<usize> {
        self.state.lab.ports.iter().position(|port| port.name == *name)
    }

    fn guards(&self, switch: &vswitch_api::SwitchName) -> bool {
        self.state
            .lab
            .switches
            .iter()
            .any(|other| other.name == *switch && other.loop_guard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_api::lab::DEFAULT_FLAP_MOVES;

    #[test]
    fn a_flapping_station_is_told_of_once_a_second() {
        let mut guard = Guard::default();
        let mac = (10, Mac([2, 0, 0, 0, 0, 1]));
        let mut told = Vec::new();
        for _ in 0..DEFAULT_FLAP_MOVES * 3 {
            told.extend(guard.moved(SwitchId(0), mac, [PortId(1), PortId(2)], DEFAULT_FLAP_MOVES));
        }
        assert_eq!(told, [(vec![PortId(1), PortId(2)], DEFAULT_FLAP_MOVES, 1)]);
        assert_eq!(
            guard.moved(SwitchId(1), mac, [PortId(1), PortId(2)], DEFAULT_FLAP_MOVES),
            None
        );
        assert_eq!(
            guard.moved(SwitchId(0), (20, mac.1), [PortId(1), PortId(2)], DEFAULT_FLAP_MOVES),
            None
        );
    }

    #[test]
    fn the_time_doubles_up_to_a_bound() {
        let mut guard = Guard::default();
        let port: PortName = "red".parse().unwrap();
        let times: Vec<_> = (0..7).map(|_| guard.back_off(&port).as_secs()).collect();
        assert_eq!(times, [10, 20, 40, 80, 160, 300, 300]);
    }
}
