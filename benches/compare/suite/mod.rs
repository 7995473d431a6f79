//! `compare suite`: RFC 2544, RFC 2889 and scaling curves of each peer, by one command.

mod curve;
mod farm;
mod probe;
mod rfc2544;
mod rfc2889;
mod scaling;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

use crate::peers::Peer;
use crate::report::Machine;
use curve::Curve;

/// Without a wish: what has many ports. VDE has not, and Open vSwitch's other ports are in the comparison.
pub const PEERS: [Peer; 5] = [
    Peer::Bridge,
    Peer::VswitchVeth,
    Peer::VswitchVethUser,
    Peer::VswitchTap,
    Peer::Ovs,
];
/// Name of the marks in the document.
pub const SECTION: &str = "suite";
/// A search ends within a hundredth of its range.
const STEPS: u32 = 7;

/// The parts that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Throughput, latency, loss and bursts.
    Rfc2544,
    /// Learning, capacity, head-of-line blocking, broadcasts.
    Rfc2889,
    /// Forwarding to 10 up to 100,000 stations.
    Stations,
    /// More ports and more TCP streams.
    Scaling,
}

/// How long and how exact.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lengths {
    /// Of a trial.
    trial: Duration,
    tcp_seconds: u32,
    /// A trial that loses no more passes: on a machine that also does other things none is without loss for ever.
    loss_percent: f64,
    /// Halvings of a search.
    steps: u32,
    /// Of each curve only both ends, to see that all works.
    quick: bool,
}

impl Lengths {
    /// A measure that can be published, or a look whether all works.
    pub fn new(trial_ms: u64, tcp_seconds: u32, loss_percent: f64, quick: bool) -> Self {
        Self {
            trial: Duration::from_millis(trial_ms),
            tcp_seconds,
            loss_percent,
            steps: if quick { 3 } else { STEPS },
            quick,
        }
    }

    /// The values of a curve that are taken.
    fn some<T: Copy>(&self, values: &[T]) -> Vec<T> {
        match values {
            [first, .., last] if self.quick => vec![*first, *last],
            all => all.to_vec(),
        }
    }
}

/// All of a run, as it is written in JSON.
#[derive(Serialize)]
pub struct Suite {
    machine: Machine,
    rounds: u32,
    lengths: Lengths,
    curves: Vec<Curve>,
    /// Peer and error of measures that broke off.
    failures: Vec<String>,
}

/// Measures the peers one after the other, as often as there are rounds.
///
/// # Errors
/// If the machine can't be read.
pub fn run(peers: &[Peer], parts: &[Part], rounds: u32, lengths: Lengths) -> Result<Suite> {
    let (mut basic, mut many, mut scaling) = (rfc2544::Curves::new(), rfc2889::Curves::new(), scaling::Curves::new());
    let mut failures = Vec::new();
    for (round, peer) in (1..=rounds).flat_map(|round| peers.iter().map(move |peer| (round, *peer))) {
        eprintln!("round {round} of {rounds}: {}", peer.name());
        for part in parts {
            let measured = match part {
                Part::Rfc2544 => basic.measure(peer, &lengths),
                Part::Rfc2889 => many.measure(peer, &lengths),
                Part::Stations => many.many_stations(peer, &lengths),
                Part::Scaling => scaling.measure(peer, &lengths),
            };
            if let Err(error) = measured {
                let failure = format!("{}, {part:?}: {error:#}", peer.name());
                eprintln!("compare: {failure}");
                failures.push(failure);
            }
        }
    }
    let curves = basic.all().into_iter().chain(many.all()).chain(scaling.all());
    Ok(Suite {
        machine: Machine::read()?,
        rounds,
        lengths,
        curves: curves.collect(),
        failures,
    })
}

impl Suite {
    /// The curves drawn.
    pub fn chart(&self) -> String {
        curve::chart(&self.curves)
    }

    /// The tables for a terminal.
    pub fn text(&self) -> String {
        curve::text(&self.curves)
    }

    /// # Errors
    /// If a measure broke off.
    pub fn check(&self) -> Result<()> {
        match self.failures.len() {
            0 => Ok(()),
            count => bail!("{count} measures broke off"),
        }
    }

    /// The tables for a document; `chart`: how to link the chart.
    pub fn section(&self, chart: Option<&str>) -> String {
        let Machine {
            cpu,
            cores,
            kernel,
            date,
            ..
        } = &self.machine;
        let Lengths {
            trial,
            tcp_seconds,
            loss_percent,
            ..
        } = self.lengths;
        let rounds = match self.rounds {
            1 => "One round.".to_owned(),
            rounds => format!("{rounds} rounds over all peers in turn, medians."),
        };
        let mut text = format!(
            "## RFC 2544, RFC 2889 and scaling\n\n{cpu}, {cores} cores, Linux {kernel}, {date}. {rounds} Sizes without frame check \
             sequence; a trial takes {trial:?} and passes with at most {loss_percent} % of loss; TCP {tcp_seconds} s a run. \
             The generator and the receiving ends run on the same cores as the switch.\n\n"
        );
        if let Some(chart) = chart {
            let _ = write!(text, "![Curves of each switch]({chart})\n\n");
        }
        text.push_str(&curve::markdown(&self.curves));
        for failure in &self.failures {
            let _ = write!(text, "Broken off: {failure}\n\n");
        }
        text
    }
}

/// The greatest value up to `most` that passes, by halving; zero if the least that is tried does not.
///
/// # Errors
/// What `passes` says.
fn search(most: f64, steps: u32, mut passes: impl FnMut(f64) -> Result<bool>) -> Result<f64> {
    if passes(most)? {
        return Ok(most);
    }
    let (mut good, mut bad) = (0.0, most);
    for _ in 0..steps {
        let middle = f64::midpoint(good, bad);
        if passes(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::search;

    #[test]
    fn a_search_ends_below_what_fails() {
        let found = search(100.0, 10, |value| Ok(value <= 42.0)).unwrap();
        assert!((41.8..=42.0).contains(&found), "{found}");
        assert_eq!(search(100.0, 10, |_| Ok(true)).unwrap(), 100.0);
        assert_eq!(search(100.0, 3, |_| Ok(false)).unwrap(), 0.0);
    }
}
