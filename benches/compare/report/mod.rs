//! What comes out of a run: medians, ratios to the Linux bridge, and the ways to show them.

mod files;
mod machine;
mod markdown;
mod svg;
mod table;

use serde::Serialize;
use std::collections::BTreeMap;

use crate::measure::{Group, Lengths, Metric, Sample};
use crate::peers::Peer;
pub use files::Files;
pub use machine::Machine;
pub use markdown::{SECTION, section};
pub use svg::chart;
pub use table::text;

/// All of a run, as it is written in JSON.
#[derive(Serialize)]
pub struct Report {
    /// Where and when.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// Medians, in the order of the peers.
    pub summary: Vec<Summary>,
    /// Every figure that was measured.
    pub samples: Vec<PeerSample>,
    /// What went wrong; a peer that failed in a round has only the figures from before.
    pub failures: Vec<Failure>,
}

/// What the run was asked to do, as by the options of the same names.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    pub rounds: u32,
    pub seconds: Lengths,
    pub groups: Vec<Group>,
    pub peers: Vec<Peer>,
    /// Lines in this switch's `[datapath]` besides those of the peer.
    pub datapath: Vec<String>,
    /// Bytes of the longest TCP frames of bridge-big.
    pub big_bytes: u32,
}

/// The figures of a peer in one round.
#[derive(Serialize)]
pub struct PeerSample {
    pub round: u32,
    pub peer: Peer,
    pub figures: Sample,
}

/// A peer that could not be measured in a round.
#[derive(Serialize)]
pub struct Failure {
    pub round: u32,
    pub peer: Peer,
    pub error: String,
}

/// The figures of a peer over all rounds.
#[derive(Serialize)]
pub struct Summary {
    pub peer: Peer,
    pub figures: BTreeMap<Metric, Figure>,
}

/// One figure over all rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The middle of the rounds.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// The median, divided by the bridge's in the same run; absent without a bridge or where that has none or zero.
    pub ratio: Option<f64>,
}

/// Medians of `samples`, peer by peer.
pub fn summarise(peers: &[Peer], samples: &[PeerSample]) -> Vec<Summary> {
    let bridge = medians(Peer::Bridge, samples);
    let summary = |peer: &Peer| {
        let mut figures = medians(*peer, samples);
        for (metric, figure) in &mut figures {
            let base = bridge
                .get(metric)
                .map(|figure| figure.median)
                .filter(|median| *median > 0.0);
            figure.ratio = base.map(|base| figure.median / base);
        }
        Summary { peer: *peer, figures }
    };
    peers
        .iter()
        .map(summary)
        .filter(|summary| !summary.figures.is_empty())
        .collect()
}

fn medians(peer: Peer, samples: &[PeerSample]) -> BTreeMap<Metric, Figure> {
    let of_metric = |metric: Metric| {
        let of_peer = samples.iter().filter(|sample| sample.peer == peer);
        let mut values: Vec<f64> = of_peer
            .filter_map(|sample| sample.figures.get(&metric).copied())
            .collect();
        let median = median(&mut values)?;
        // Sorted by now.
        Some((
            metric,
            Figure {
                median,
                min: *values.first()?,
                max: *values.last()?,
                ratio: None,
            },
        ))
    };
    Metric::ALL.into_iter().filter_map(of_metric).collect()
}

/// The middle value, the mean of the two middle ones of an even number; sorts `values`.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(values[values.len() / 2 - 1], upper))
}

/// Three significant digits, as far as they are behind the point.
pub fn three_digits(value: f64) -> String {
    let digits: usize = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::{PeerSample, median, summarise, three_digits};
    use crate::measure::Metric;
    use crate::peers::Peer;

    #[test]
    fn median_of_odd_even_and_no_values() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn digits_follow_the_size() {
        let shown = [0.1234, 1.234, 12.34, 123.4].map(three_digits);
        assert_eq!(shown, ["0.123", "1.23", "12.3", "123"]);
    }

    #[test]
    fn ratios_are_to_the_bridge_of_the_same_run() {
        let sample = |round, peer, gbits| PeerSample {
            round,
            peer,
            figures: [(Metric::TcpOneForth, gbits)].into(),
        };
        let samples = [
            sample(1, Peer::Vde, 1.0),
            sample(1, Peer::Bridge, 40.0),
            sample(2, Peer::Vde, 3.0),
            sample(2, Peer::Bridge, 60.0),
        ];
        let summary = summarise(&[Peer::Bridge, Peer::Vde, Peer::Ovs], &samples);
        assert_eq!(summary.len(), 2, "a peer without samples is left out");
        let figure = summary[1].figures[&Metric::TcpOneForth];
        assert_eq!(
            (figure.median, figure.min, figure.max, figure.ratio),
            (2.0, 1.0, 3.0, Some(0.04))
        );
    }
}
