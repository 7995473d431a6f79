//! How it goes with more ports and more TCP streams, and what a gigabyte costs.

use anyhow::{Context, Result};
use std::time::Instant;

use super::Lengths;
use super::curve::Curve;
use super::farm::{Farm, Table};
use super::rfc2544::offer;
use crate::generator::plain_frame;
use crate::lab::Lab;
use crate::measure::Cpu;
use crate::measure::tcp::{Run, Way};
use crate::peers::Peer;

const PORTS: [usize; 5] = [2, 8, 32, 128, 256];
const STREAMS: [u32; 6] = [1, 2, 4, 8, 16, 32];
/// Broadcasts a second; what comes out is that many for each port.
const BROADCASTS: f64 = 2_000.0;

pub struct Curves {
    set_up: Curve,
    forwarding: Curve,
    flooding: Curve,
    tcp: Curve,
    cost: Curve,
}

impl Curves {
    pub fn new() -> Self {
        let by_ports = |title, source, unit| Curve::new(title, source, "ports", unit);
        let by_streams = |title, source, unit| Curve::new(title, source, "streams", unit);
        Self {
            set_up: by_ports("Time to start with so many ports", "One command a port", "s"),
            forwarding: by_ports(
                "Forwarding rate by ports present, 60 bytes",
                "Full load from the first port to the last",
                "Mframe/s",
            ),
            flooding: by_ports(
                "Broadcast copies that arrive",
                "2,000 broadcasts a second from one port",
                "Mframe/s",
            ),
            tcp: by_streams("TCP", "iperf3, cubic, one direction", "Gbit/s"),
            cost: by_streams(
                "Processor time by gigabyte, whole machine",
                "The runs of TCP, both ends included",
                "s/GB",
            ),
        }
    }

    pub fn all(self) -> [Curve; 5] {
        [self.set_up, self.forwarding, self.flooding, self.tcp, self.cost]
    }

    pub fn measure(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        // First: the kernel works for seconds to take hundreds of namespaces away.
        self.streams(peer, lengths)?;
        for count in lengths.some(&PORTS) {
            let start = Instant::now();
            let mut farm = Farm::new(peer, count, Table::Usual)?;
            self.set_up.add(peer, count as u64, start.elapsed().as_secs_f64());
            let full = offer(&mut farm, 60, u64::MAX, None, lengths.trial)?;
            self.forwarding.add(peer, count as u64, full.received_rate() / 1e6);
            let (sent, came) = farm.watch(|stations| {
                let first = stations.first().context("no station")?;
                let generator = first.generator(vec![plain_frame([0xff; 6], first.mac, 60)])?;
                generator.send(u64::MAX, Some(BROADCASTS), lengths.trial)
            })?;
            let copies: u64 = came.iter().sum();
            self.flooding
                .add(peer, count as u64, copies as f64 / sent.seconds / 1e6);
        }
        Ok(())
    }

    fn streams(&mut self, peer: Peer, lengths: &Lengths) -> Result<()> {
        let lab = Lab::new()?;
        let mut running = peer.set_up(&lab)?;
        lab.wait_connected()?;
        for count in lengths.some(&STREAMS) {
            let before = Cpu::now(&[])?;
            let run = Run::new(&lab, count, Way::Forth, lengths.tcp_seconds)?;
            let used = Cpu::now(&[])?.since(before);
            running.check_alive()?;
            self.tcp.add(peer, count.into(), run.gbits);
            self.cost.add(peer, count.into(), used.machine / run.gigabytes);
        }
        Ok(())
    }
}
