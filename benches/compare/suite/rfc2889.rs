//! RFC 2889: what a switch does with many stations and with more than two ports.

use anyhow::{Context, Result};
use std::thread;
use std::time::Duration;

use super::curve::Curve;
use super::farm::{Farm, Station, Table};
use super::probe::probe;
use super::{Lengths, search};
use crate::generator::{Range, plain_frame};
use crate::peers::Peer;
use crate::report::median;

/// Addresses of a trial of the learning rate.
const ADDRESSES: u32 = 4_000;
/// Frames a second that all of them take, each to or from another station.
const EASY: f64 = 20_000.0;
/// No table is looked at beyond.
const MOST: f64 = 131_072.0;
/// What is learned faster than this is learned as fast as it can be sent.
const FASTEST: f64 = 2e6;
/// Each address is shown so often, so that a frame that is lost is not taken for a table that is full.
const ROUNDS: u32 = 2;
/// For the same reason one frame in so many may be flooded.
const LOST: u64 = 1_000;
/// Known stations of a curve.
const STATIONS: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];

pub struct Curves {
    learning: Curve,
    capacity: Curve,
    blocking: Curve,
    broadcast: Curve,
    stations: Curve,
}

impl Curves {
    pub fn new() -> Self {
        Self {
            learning: Curve::new("Address learning rate", "RFC 2889 section 5.8", "addresses", "1000/s"),
            capacity: Curve::new(
                "Address caching capacity",
                "RFC 2889 section 5.7, settings as they come; looked at up to 131,072",
                "ports",
                "addresses",
            ),
            blocking: Curve::new(
                "Head-of-line blocking: loss at the free port",
                "RFC 2889 section 5.5; 0 is without the second sender, 1 with it",
                "congestion",
                "%",
            ),
            broadcast: Curve::new("Broadcast latency, median", "RFC 2889 section 5.11", "port", "us"),
            stations: Curve::new(
                "Forwarding rate by known stations, 60 bytes",
                "Full load to all of them in turn; table of 262,144",
                "stations",
                "Mframe/s",
            ),
        }
    }

    pub fn all(self) -> [Curve; 5] {
        [
            self.learning,
            self.capacity,
            self.blocking,
            self.broadcast,
            self.stations,
        ]
    }

    pub fn measure(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        self.learning(peer, lengths)?;
        let capacity = search(MOST, lengths.steps, |count| {
            // A switch of its own for each trial: what the last one left would be in the way.
            let mut farm = Farm::new(peer, 3, Table::Usual)?;
            let (floods, _) = flooded(&mut farm, 0, count as u32, EASY, ROUNDS)?;
            Ok(floods <= count as u64 / LOST)
        })?;
        self.capacity.add(peer, 3, capacity.floor());
        self.blocking(peer, lengths)?;
        self.broadcast(peer, lengths)
    }

    fn learning(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        let mut farm = Farm::new(peer, 3, Table::Large)?;
        let (mut first, mut best) = (0, 0.0f64);
        search(FASTEST, lengths.steps, |rate| {
            first += ADDRESSES;
            let (floods, rate) = flooded(&mut farm, first, ADDRESSES, rate, 1)?;
            if floods == 0 {
                best = best.max(rate);
            }
            Ok(floods == 0)
        })?;
        self.learning.add(peer, ADDRESSES.into(), best / 1e3);
        Ok(())
    }

    /// One sender to a congested and to a free port, another as fast as it can to the congested one.
    fn blocking(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        let mut farm = Farm::new(peer, 4, Table::Usual)?;
        for congestion in [false, true] {
            let (offered, came) = farm.watch(|stations| {
                let [a, b, congested, free] = stations else {
                    return Ok(0);
                };
                let to = |to: &Station| plain_frame(to.mac, a.mac, 60);
                let both = a.generator(vec![to(congested), to(free)])?;
                let flood = b.generator(vec![plain_frame(congested.mac, b.mac, 60)])?;
                thread::scope(|scope| {
                    let rival = congestion.then(|| scope.spawn(|| flood.run(lengths.trial)));
                    let sent = both.send(u64::MAX, Some(EASY), lengths.trial);
                    if let Some(rival) = rival {
                        rival.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
                    }
                    Ok(sent?.offered() / 2)
                })
            })?;
            let lost = offered.saturating_sub(came.last().copied().unwrap_or(0));
            let percent = lost as f64 / offered.max(1) as f64 * 100.0;
            self.blocking.add(peer, congestion.into(), percent);
        }
        Ok(())
    }

    fn broadcast(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        let farm = Farm::new(peer, 4, Table::Usual)?;
        let (from, at) = farm.stations.split_first().context("no station")?;
        let at: Vec<_> = at.iter().collect();
        let times = probe(from, [0xff; 6], &at, lengths.trial.as_millis() as u32, |_| Ok(()))?;
        for (port, mut times) in (1..).zip(times) {
            if let Some(middle) = median(&mut times) {
                self.broadcast.add(peer, port, middle);
            }
        }
        Ok(())
    }

    /// Forwarding to more and more stations that the table has.
    pub fn many_stations(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        let mut farm = Farm::new(peer, 2, Table::Large)?;
        for count in lengths.some(&STATIONS) {
            teach(&mut farm, 0, count, EASY, ROUNDS)?;
            let to_all = to_stations(&farm.stations[0], 0, count);
            let (sent, came) = farm.watch(|stations| stations[0].range_generator(to_all)?.run(lengths.trial))?;
            let received = came.last().copied().unwrap_or(0) as f64;
            self.stations.add(peer, count.into(), received / sent.seconds / 1e6);
        }
        Ok(())
    }
}

/// Teaches the switch `count` stations behind the second port; how many frames to them come out at the third all the same,
/// and the rate that it was taught at.
fn flooded(farm: &mut Farm, first: u32, count: u32, rate: f64, rounds: u32) -> Result<(u64, f64)> {
    let rate = teach(farm, first, count, rate, rounds)?;
    let to_all = to_stations(&farm.stations[0], first, count);
    let (_, came) = farm.watch(|stations| {
        let generator = stations[0].range_generator(to_all)?;
        generator.send(count.into(), Some(EASY), Duration::MAX)
    })?;
    Ok((came.get(2).copied().unwrap_or(0), rate))
}

/// Frames from stations behind the second port to one behind the first, at `rate` a second or as near to it as can be: that
/// is said.
fn teach(farm: &mut Farm, first: u32, count: u32, rate: f64, rounds: u32) -> Result<f64> {
    let to = farm.stations[0].mac;
    let from_all = Range {
        frame: plain_frame(to, [0; 6], 60),
        at: 6,
        first,
        count,
    };
    let send = |stations: &[Station]| {
        let generator = stations[1].range_generator(from_all)?;
        generator.send(u64::from(count * rounds), Some(rate), Duration::MAX)
    };
    let (sent, _) = farm.watch(send)?;
    Ok(sent.offered() as f64 / sent.seconds)
}

/// Frames to such stations.
fn to_stations(from: &Station, first: u32, count: u32) -> Range {
    Range {
        frame: plain_frame([0; 6], from.mac, 60),
        at: 0,
        first,
        count,
    }
}
