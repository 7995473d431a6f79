//! What the loop guard ([`crate::agents::loop_guard`]) hears and what is done for it, and other reasons to shut a port.

use std::time::{Duration, Instant};

use vswitch_api::policy::{AcceptFrames, BeyondLimit, PortVlan, VlanId};
use vswitch_api::view::PortState;
use vswitch_api::{EventKind, Lab, Port, PortName, SwitchName};
use vswitch_datapath::{FdbFilter, PortId, PortRef, SwitchId};

use super::Inner;
use super::attach::state_of;
use super::shut::{self, Shut};
use crate::agents::{Action, Input, LoopCause, PortFacts, Surroundings, SwitchFacts};

/// How long after a loop is cut some of what went round may still be under way.
const ASTRAY: Duration = Duration::from_secs(1);

/// A loop for which a port is shut.
struct Loop {
    /// For how long.
    time: Duration,
    /// Where it was found, 0 for none.
    vlan: u16,
    /// The port that leads to the same place.
    other: Option<PortName>,
}

/// A loop that was cut.
#[derive(Debug)]
pub(super) struct Cut {
    at: Instant,
    switch: SwitchName,
    /// The ports that led to the same place, whose sticky stations are forgotten too.
    ends: Vec<PortId>,
}

/// In so many VLANs of a switch a loop is looked for at a time, those with the most stations.
const MOST_VLANS: usize = 16;

impl Surroundings for Inner {
    fn switch(&self, switch: SwitchId) -> Option<SwitchFacts> {
        let name = self.switch_name(switch)?;
        let settings = self
            .store
            .state
            .lab
            .switches
            .iter()
            .find(|switch| switch.name == *name)?;
        Some(SwitchFacts {
            guarded: settings.loop_guard,
            flap_moves: settings.flap_moves,
            flap_secs: settings.flap_secs,
        })
    }

    fn port(&self, port: PortRef) -> Option<PortFacts> {
        let name = self.port_name(port)?;
        let ports = &self.store.state.lab.ports;
        // The younger is shut, as ports stand in the lab in the order in which they were added. But before a device, by which others
        // are reached, the port of a namespace: who is behind one, and hears elsewhere what went out of the other, is to harm
        // himself only.
        let place = ports.iter().position(|port| port.name == name)?;
        Some(PortFacts {
            switch: *self.live.switches.get(&ports[place].switch)?,
            rank: (ports[place].kind.has_stack(), place),
            shut: self.shut.contains(&name),
        })
    }

    fn ports_in_vlans(&self, switch: SwitchId) -> Vec<(PortRef, Vec<u16>)> {
        let Some(name) = self.switch_name(switch) else {
            return Vec::new();
        };
        // Where stations are heard: what goes round has a source.
        let mut heard = self.datapath.fdb_learned_by_vlan(switch);
        heard.sort_by_key(|(_, stations)| std::cmp::Reverse(*stations));
        let heard = heard.into_iter().map(|(vlan, _)| vlan).take(MOST_VLANS);
        let heard: Vec<_> = heard.collect();
        let ports = self.store.state.lab.ports.iter();
        let ports = ports.filter(|port| port.switch == *name && port.up && !self.shut.contains(&port.name));
        let with_vlans = ports.filter_map(|port| {
            let own = some_vlan(&port.vlan);
            let mut vlans = vec![own];
            vlans.extend(heard.iter().filter(|vlan| **vlan != own));
            Some((self.live.ports.get(&port.name)?.id?, vlans))
        });
        with_vlans.collect()
    }

    fn ports_that_may_drop(&self, switch: SwitchId) -> Vec<PortRef> {
        let name = self.switch_name(switch);
        let ports = self.store.state.lab.ports.iter();
        let ruled = ports.filter(|port| name == Some(&port.switch) && may_drop(port));
        ruled.filter_map(|port| self.live.ports.get(&port.name)?.id).collect()
    }
}

impl Inner {
    /// Tells the guard of something, and does what it wants.
    pub(super) fn tell_guard(&mut self, input: Input) {
        tracing::trace!(?input, "the guard is told");
        // Away from where it is asked, so that it can ask about everything.
        let Some(mut guard) = self.guard.take() else { return };
        let actions = guard.take(Instant::now(), input, self);
        self.guard = Some(guard);
        for action in actions {
            match action {
                Action::Probe { port, vlan, nonce } => self.datapath.send_probe(port, vlan, nonce),
                Action::Hold { switch } => self.hold(switch),
                Action::NoRandom(error) => tracing::error!("loops can't be looked for: no random number: {error}"),
                Action::Flapping {
                    switch,
                    mac,
                    ports,
                    moves,
                } => {
                    let Some(name) = self.switch_name(switch).cloned() else {
                        continue;
                    };
                    let names: Vec<_> = ports.iter().filter_map(|port| self.port_name(*port)).collect();
                    tracing::warn!(switch = %name, %mac, ports = ?names, moves, "switch {name}: station {mac} goes to and fro between ports");
                    self.emit(EventKind::FdbFlapping {
                        switch: name,
                        mac,
                        ports: names,
                        moves,
                    });
                }
                Action::Shut {
                    port,
                    cause,
                    time,
                    vlan,
                } => {
                    if let (Some(name), Some(reason)) = (self.port_name(port), self.told(cause)) {
                        let other = cause.other().and_then(|other| self.port_name(other));
                        let found = Loop { time, vlan, other };
                        self.shut(&name, reason, Some(found));
                    }
                }
            }
        }
    }

    /// Has a port send a probe by which others are reached, and that carries by now: it may have closed a loop.
    pub(super) fn look_behind(&mut self, port: &Port) {
        let live = self.live.ports.get(&port.name);
        let id = live.filter(|live| live.state == PortState::Up).and_then(|live| live.id);
        let switch = self.live.switches.get(&port.switch).and_then(|id| self.switch(*id));
        // One that is new is not in the lab yet.
        let is_guarded = switch.is_none_or(|switch| switch.guarded);
        if let Some(id) = id.filter(|_| is_guarded && !port.kind.has_stack()) {
            let vlan = some_vlan(&port.vlan);
            self.tell_guard(Input::Suspected { port: id, vlan });
        }
    }

    /// Has all probe by which others are reached: a port was shut, and what was under way by then was forgotten, of other loops too.
    fn look_everywhere(&mut self) {
        let ports = self.store.state.lab.ports.iter();
        let leading: Vec<_> = ports.filter(|port| !port.kind.has_stack()).cloned().collect();
        for port in &leading {
            self.look_behind(port);
        }
    }

    /// Why a port is shut, for the user; none: the other port has just gone.
    fn told(&self, cause: LoopCause) -> Option<String> {
        Some(match cause {
            LoopCause::Flaps { mac, eldest } => {
                format!(
                    "station {mac} flaps between it and port \"{}\"",
                    self.port_name(eldest)?
                )
            }
            LoopCause::OwnFrames => "a loop: its own frames come back to it".to_owned(),
            LoopCause::SamePlace(other) => {
                format!(
                    "a loop: it leads to the same place as port \"{}\"",
                    self.port_name(other)?
                )
            }
        })
    }

    /// Shuts a port, for the time that a loop has it or until it is set up by hand.
    fn shut(&mut self, name: &PortName, reason: String, found: Option<Loop>) {
        let Some(port) = self.store.port(name).cloned() else {
            return;
        };
        let is_there = self.live.ports.get(name).is_some_and(|live| live.id.is_some());
        if !is_there || self.shut.contains(name) && !self.shut.is_on_trial(name) {
            return;
        }
        let time = found.as_ref().map(|found| found.time);
        let next = match time {
            Some(time) => format!("opens again {} s after it was shut", time.as_secs()),
            None => format!("`vswitchctl set port {name} --up` opens it"),
        };
        let reason = format!("{reason}; {next}");
        let looped_in = found.as_ref().map(|found| found.vlan);
        let other = found.and_then(|found| found.other);
        tracing::warn!(port = %name, "port {}: shut: {reason}", name);
        let shut = Shut {
            reason: reason.clone(),
            until: time.map(|time| shut::now().saturating_add(time)),
            looped_in,
            other: other.clone(),
            tried: None,
        };
        self.shut.insert(name.clone(), shut);
        self.update_in_datapath(&port);
        if let Some(guard) = &mut self.guard {
            guard.begin_anew();
        }
        self.emit(EventKind::PortShut {
            port: name.clone(),
            reason,
            retry_secs: time.map(|time| time.as_secs()),
        });
        self.set_state(name, PortState::Shut, None);
        if time.is_some() {
            let ends = [Some(name), other.as_ref()].into_iter().flatten();
            let cut = Cut {
                at: Instant::now(),
                switch: port.switch,
                ends: ends.filter_map(|end| Some(self.live.ports.get(end)?.id?.id)).collect(),
            };
            self.cuts.push(cut);
        }
        self.look_everywhere();
    }

    /// A station beyond the limit was seen on a port that is to be shut then.
    pub(super) fn port_limit_reached(&mut self, name: &PortName) {
        let port = self.store.port(name);
        // The setting may be another one by now.
        let shuts = port.filter(|port| port.learning.beyond == BeyondLimit::Shut);
        if let Some(port) = shuts {
            let limit = match port.learning.limit {
                Some(limit) => format!("more than {limit} stations behind it"),
                None => "more stations in its VLAN than the switch allows".to_owned(),
            };
            self.shut(name, limit, None);
        }
    }

    /// Opens a port that was shut.
    pub(super) async fn open(&mut self, name: &PortName) {
        let Some(port) = self.store.port(name).cloned() else {
            return;
        };
        let Some(shut) = self.shut.remove(name) else {
            return;
        };
        // A missing one is open when it is back.
        let Some(id) = self.live.ports.get(name).and_then(|live| live.id) else {
            return;
        };
        self.update_in_datapath(&port);
        if let Some(vlan) = shut.looped_in {
            self.tell_guard(Input::Suspected { port: id, vlan });
        }
        let Some(live) = self.live.ports.get(name) else { return };
        let carries = self.carries_now(&port, live).await.ok().flatten().unwrap_or(false);
        let (state, reason) = state_of(&port, &live.ifname, carries);
        self.set_state(name, state, reason);
    }

    /// Whether the time of a shut port has come. Those whose time comes soon are put on trial.
    pub(super) fn is_one_due(&mut self) -> bool {
        if let Some(guard) = &mut self.guard {
            guard.tidy(Instant::now());
        }
        for (name, vlan) in self.shut.begin_trials(shut::now()) {
            if let Some(port) = self.live.ports.get(&name).and_then(|live| live.id) {
                self.tell_guard(Input::Suspected { port, vlan });
            }
        }
        self.forget_astray();
        self.shut.due(shut::now()).next().is_some()
    }

    /// Opens the ports whose time has come.
    pub(super) async fn open_due(&mut self) {
        let due: Vec<_> = self.shut.due(shut::now()).cloned().collect();
        for name in due {
            tracing::info!(port = %name, "port {}: opened again", name);
            self.open(&name).await;
        }
    }

    /// What the lab has of its ports by now: those that are gone, or down by hand, which counts more, are not shut any more.
    pub(super) fn settle_shut(&mut self) {
        let store = &self.store;
        self.shut.retain(|name| store.port(name).is_some_and(|port| port.up));
        self.shut.other_way_ended(|other| store.port(other).is_none());
    }

    /// What went round a loop has shown stations where they are not: once it is cut they are forgotten, as bridges do when their tree changes
    /// (IEEE 802.1Q-2022 clause 13.17); twice, as some of it may still be under way. So on switches that links join, too.
    fn forget_astray(&mut self) {
        let flush = |switch: &SwitchName, filter| {
            if let Some(id) = self.live.switches.get(switch) {
                self.datapath.fdb_flush(*id, filter);
            }
        };
        for cut in &self.cuts {
            let near = joined(&self.store.state.lab, &cut.switch);
            near.into_iter().for_each(|switch| flush(switch, FdbFilter::default()));
            for end in &cut.ends {
                let sticky = FdbFilter {
                    sticky: true,
                    ..FdbFilter::of_port(*end)
                };
                flush(&cut.switch, sticky);
            }
        }
        let now = Instant::now();
        self.cuts.retain(|cut| now.duration_since(cut.at) < ASTRAY);
    }
}

/// Switches that can be come to from one over links; itself first.
fn joined<'a>(lab: &'a Lab, switch: &'a SwitchName) -> Vec<&'a SwitchName> {
    let mut found = vec![switch];
    let mut next = 0;
    while let Some(at) = found.get(next).copied() {
        next += 1;
        let peers = lab.ports.iter().filter(|port| port.switch == *at);
        for peer in peers.filter_map(|port| lab.port(port.peer.as_ref()?)) {
            if !found.contains(&&peer.switch) {
                found.push(&peer.switch);
            }
        }
    }
    found
}

/// A VLAN that a port is in, 0 if there are none: of several the first. What joins two switches twice mostly does so in all VLANs.
fn some_vlan(vlan: &PortVlan) -> u16 {
    let tagged = match vlan {
        PortVlan::Trunk(trunk) => trunk.allowed.ranges().first().map(|(first, _)| *first),
        _ => None,
    };
    vlan.untagged().or(tagged).map_or(0, VlanId::get)
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
