//! RFC 2544 with two ports, one direction, frames of no protocol: throughput, latency, frame loss rate, back-to-back.

use anyhow::{Result, ensure};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::curve::Curve;
use super::farm::{Farm, Table};
use super::probe::probe;
use super::{Lengths, search};
use crate::generator::{gso_frame, plain_frame};
use crate::peers::Peer;
use crate::report::median;

/// Section 9.1, without frame check sequence.
const SIZES: [usize; 7] = [60, 124, 252, 508, 1020, 1276, 1514];
/// Frames that the kernel carries whole, by their length before they are cut up.
const GSO_SIZES: [usize; 3] = [9014, 32_014, 65_014];
/// Share of the throughput at which latency is taken: at all of it a queue is always about to fill up.
const LATENCY_LOAD: f64 = 0.9;
/// Steps of the frame loss rate, in percent of what can be offered.
const LOSS_STEPS: [u64; 5] = [100, 80, 60, 40, 20];
/// More frames in a row than any queue here keeps.
const LONGEST_BURST: f64 = 50_000.0;
/// The longest load before it looks whether it is to end.
const STEP: Duration = Duration::from_millis(20);

pub struct Curves {
    throughput: Curve,
    forwarding: Curve,
    median: Curve,
    worst: Curve,
    loss: Curve,
    burst: Curve,
}

impl Curves {
    pub fn new() -> Self {
        let by_size = |title, source, unit| Curve::new(title, source, "frame bytes", unit);
        let latency = "RFC 2544 section 26.2, but with a load of 90 % of the throughput";
        Self {
            throughput: by_size("Throughput", "RFC 2544 section 26.1", "Mframe/s"),
            forwarding: by_size(
                "Forwarding rate at full load",
                "RFC 2889 section 5.3; above 1514 bytes GSO frames",
                "Mframe/s",
            ),
            median: by_size("Latency, median", latency, "us"),
            worst: by_size("Latency, 99th percentile", latency, "us"),
            loss: Curve::new(
                "Frame loss rate, 60 bytes",
                "RFC 2544 section 26.3",
                "percent of full load",
                "%",
            ),
            burst: by_size("Back-to-back frames", "RFC 2544 section 26.4", "frames"),
        }
    }

    pub fn all(self) -> [Curve; 6] {
        [
            self.throughput,
            self.forwarding,
            self.median,
            self.worst,
            self.loss,
            self.burst,
        ]
    }

    pub fn measure(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        let mut farm = Farm::new(peer, 2, Table::Usual)?;
        for size in lengths.some(&SIZES) {
            let at = size as u64;
            let full = offer(&mut farm, size, u64::MAX, None, lengths.trial)?;
            self.forwarding.add(peer, at, full.received_rate() / 1e6);
            let throughput = search(full.offered_rate(), lengths.steps, |rate| {
                let trial = offer(&mut farm, size, u64::MAX, Some(rate), lengths.trial)?;
                Ok(trial.lost_percent() <= lengths.loss_percent)
            })?;
            self.throughput.add(peer, at, throughput / 1e6);
            if throughput > 0.0 {
                self.latency(peer, &farm, size, throughput * LATENCY_LOAD, lengths)?;
            }
            let longest = search(LONGEST_BURST, lengths.steps, |frames| {
                let trial = offer(&mut farm, size, frames as u64, None, lengths.trial)?;
                Ok(trial.received >= trial.offered)
            })?;
            self.burst.add(peer, at, longest.floor());
            if size == SIZES[0] {
                for percent in LOSS_STEPS {
                    let rate = full.offered_rate() * percent as f64 / 100.0;
                    let trial = offer(&mut farm, size, u64::MAX, Some(rate), lengths.trial)?;
                    self.loss.add(peer, percent, trial.lost_percent());
                }
            }
        }
        if takes_gso(peer) {
            for size in lengths.some(&GSO_SIZES) {
                let full = offer(&mut farm, size, u64::MAX, None, lengths.trial)?;
                self.forwarding.add(peer, size as u64, full.received_rate() / 1e6);
            }
        }
        Ok(())
    }

    fn latency(&mut self, peer: Peer, farm: &Farm, size: usize, rate: f64, lengths: &Lengths) -> Result<()> {
        let [from, to] = &farm.stations[..] else {
            return Ok(());
        };
        let load = from.generator(vec![plain_frame(to.mac, from.mac, size)])?;
        let count = lengths.trial.as_millis() as u32;
        let times = probe(from, to.mac, &[to], count, |done| {
            while !done.load(Ordering::Relaxed) {
                load.send(u64::MAX, Some(rate), STEP)?;
            }
            Ok(())
        })?;
        for mut times in times {
            if let Some(middle) = median(&mut times) {
                self.median.add(peer, size as u64, middle);
                // Sorted by now.
                self.worst.add(peer, size as u64, times[times.len() * 99 / 100]);
            }
        }
        Ok(())
    }
}

/// Open vSwitch without TSO can't do anything with a frame longer than its MTU.
fn takes_gso(peer: Peer) -> bool {
    !matches!(peer, Peer::Ovs | Peer::OvsTap)
}

/// What became of a trial.
pub struct Trial {
    offered: u64,
    received: u64,
    seconds: f64,
}

impl Trial {
    fn lost_percent(&self) -> f64 {
        self.offered.saturating_sub(self.received) as f64 / self.offered.max(1) as f64 * 100.0
    }

    /// Frames a second that came.
    pub fn received_rate(&self) -> f64 {
        self.received as f64 / self.seconds
    }

    fn offered_rate(&self) -> f64 {
        self.offered as f64 / self.seconds
    }
}

/// Sends from the first station to the last.
///
/// # Errors
/// If nothing can be sent.
pub fn offer(farm: &mut Farm, size: usize, count: u64, rate: Option<f64>, limit: Duration) -> Result<Trial> {
    let (sent, came) = farm.watch(|stations| {
        let (from, to) = (&stations[0], &stations[stations.len() - 1]);
        let generator = if size > SIZES[SIZES.len() - 1] {
            from.gso_generator(vec![gso_frame(to.mac, from.mac, size)])?
        } else {
            from.generator(vec![plain_frame(to.mac, from.mac, size)])?
        };
        generator.send(count, rate, limit)
    })?;
    ensure!(sent.sent > 0, "no {size}-byte frame could be sent");
    Ok(Trial {
        offered: sent.offered(),
        received: came.last().copied().unwrap_or(0),
        seconds: sent.seconds,
    })
}
