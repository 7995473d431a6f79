//! What a port does to its traffic beyond switching it: impairment of the wire, a policer, storm control.
//!
//! A port without any of these pays one look at a pointer a batch. The frames of an impaired direction leave the
//! run-to-completion way: they are copied onto a [`Line`], which decides by chance and rate what becomes of each and when
//! it arrives, and wait in the [`Schedule`] of the one worker that the line belongs to, whichever worker brought them: so
//! they stay in order. All lines of a worker share its schedule and its one timer. A frame that is due goes on where it
//! left: from an inward line into `forward` as if it had just come in, from an outward line out of the port.
//!
//! With strict priority (`classes`) an outward line lets frames wait by class until the one before has left; a turn in the
//! schedule wakes it for the next.
//!
//! The policer stands behind VLAN, pins and lists, so what these drop costs no rate; storm control where a frame would be flooded.

mod agenda;
mod chance;
mod classes;
mod limiter;
mod line;
mod meter;
mod schedule;

use std::sync::Arc;

use vswitch_api::view::PortCounters;
use vswitch_api::{Impairment, Impairments, Mac, RateLimit, StormControl};

use super::handle::Datapath;
use super::{Direction, PortRef};
pub(super) use limiter::Limiter;
use limiter::Storm;
pub use line::{Line, Loader};
pub use schedule::{Held, Schedule};

/// What a port does to its traffic.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    inward: Option<Arc<Line>>,
    outward: Option<Arc<Line>>,
    policer: Option<Arc<Limiter>>,
    storm: Option<Arc<Storm>>,
}

/// What a port is to do to its traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficSetup {
    /// Its line.
    pub impair: Impairments,
    /// Its policer.
    pub police: Option<RateLimit>,
    /// Its storm control.
    pub storm: StormControl,
}

impl Traffic {
    /// The line of a direction, if that is impaired.
    #[inline]
    pub fn line(&self, direction: Direction) -> Option<&Arc<Line>> {
        match direction {
            Direction::In => self.inward.as_ref(),
            Direction::Out => self.outward.as_ref(),
        }
    }

    /// The rate of what may come in, if it has one.
    #[inline]
    pub(super) fn policer(&self) -> Option<&Limiter> {
        self.policer.as_deref()
    }

    /// The rate of what may be flooded to `dst`, if it has one.
    #[inline]
    pub(super) fn storm(&self, dst: Mac) -> Option<&Limiter> {
        self.storm.as_ref()?.limiter(dst)
    }

    /// Adds the frames that wait to `total`.
    pub fn add_to(&self, total: &mut PortCounters) {
        let waiting = |line: &Option<Arc<Line>>| line.as_ref().map_or(0, |line| line.waiting());
        total.impair.rx_waiting += waiting(&self.inward);
        total.impair.tx_waiting += waiting(&self.outward);
        let classes = |line: &Option<Arc<Line>>| line.as_ref().and_then(|line| line.classes());
        total.impair.rx_classes = classes(&self.inward);
        total.impair.tx_classes = classes(&self.outward);
    }

    fn is_none(&self) -> bool {
        self.inward.is_none() && self.outward.is_none() && self.policer.is_none() && self.storm.is_none()
    }
}

impl Datapath {
    /// Sets what a port does to its traffic. What stays as it is goes on undisturbed; frames on a line that is impaired no
    /// more are dropped.
    pub fn set_traffic(&self, port: PortRef, setup: &TrafficSetup) {
        let plain = *setup == TrafficSetup::default();
        if plain && self.snapshot().find(port).is_none_or(|port| port.traffic.is_none()) {
            return;
        }
        let workers = self.workers();
        self.revise(|snapshot| {
            let Some(port) = snapshot.find(port).cloned() else {
                return;
            };
            let old = port.traffic.as_deref().cloned().unwrap_or_default();
            let line = |direction, old: &Option<Arc<Line>>, settings: &Option<Impairment>| match (old, settings) {
                (Some(line), Some(settings)) => {
                    let schedule = &self.shared.workers[line.owner].schedule;
                    line.configure(settings, self.shared.clock.nanoseconds(), schedule);
                    Some(line.clone())
                }
                (Some(line), None) => {
                    line.close();
                    None
                }
                (None, settings) => settings.as_ref().map(|settings| {
                    let owner = port.id.index() % workers;
                    Arc::new(Line::new(
                        port.port_ref(),
                        direction,
                        owner,
                        port.counters.clone(),
                        settings,
                    ))
                }),
            };
            let traffic = Traffic {
                inward: line(Direction::In, &old.inward, &setup.impair.inward),
                outward: line(Direction::Out, &old.outward, &setup.impair.outward),
                policer: setup.police.map(|limit| match old.policer {
                    Some(policer) if policer.limit == limit => policer,
                    _ => Arc::new(Limiter::new(limit)),
                }),
                storm: (!setup.storm.is_none()).then(|| match old.storm {
                    Some(storm) if storm.control == setup.storm => storm,
                    old => Arc::new(Storm::new(setup.storm, old.as_deref())),
                }),
            };
            let traffic = (!traffic.is_none()).then(|| Arc::new(traffic));
            snapshot.change_port(port.port_ref(), |port| port.traffic = traffic);
        });
    }

    /// Begins the random numbers of an impaired direction anew, from its seed if it has one. Frames on their way arrive as they were to.
    pub fn restart_impairment(&self, port: PortRef, direction: Direction) {
        let snapshot = self.snapshot();
        let traffic = snapshot.find(port).and_then(|port| port.traffic.as_deref());
        if let Some(line) = traffic.and_then(|traffic| traffic.line(direction)) {
            line.restart();
        }
    }
}
