//! What is measured of a peer in one round.

mod cpu;
mod frames;
mod round_trip;
pub mod tcp;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab::Lab;
use crate::peers::Running;
pub use cpu::Cpu;

/// The groups that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// TCP streams, one and four, each way.
    Tcp,
    /// Short and long frames from the generator.
    Frames,
    /// Round trips.
    Rtt,
}

/// One figure of a peer; [`Metric::label`] says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    TcpOneForth,
    TcpOneBack,
    TcpFourForth,
    TcpFourBack,
    Frames60,
    Frames60Offered,
    Frames60Loss,
    Frames1500,
    Frames1500Offered,
    Frames1500Loss,
    RttTcp,
    RttPing,
    RttPolled,
    SwitchPerGb,
    MachinePerGb,
    SwitchPerMframe,
    MachinePerMframe,
}

impl Metric {
    /// In the order of the reports.
    pub const ALL: [Metric; 17] = [
        Metric::TcpOneForth,
        Metric::TcpOneBack,
        Metric::TcpFourForth,
        Metric::TcpFourBack,
        Metric::Frames60,
        Metric::Frames60Offered,
        Metric::Frames60Loss,
        Metric::Frames1500,
        Metric::Frames1500Offered,
        Metric::Frames1500Loss,
        Metric::RttTcp,
        Metric::RttPing,
        Metric::RttPolled,
        Metric::SwitchPerGb,
        Metric::MachinePerGb,
        Metric::SwitchPerMframe,
        Metric::MachinePerMframe,
    ];

    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Metric::TcpOneForth => "TCP, 1 stream, forth",
            Metric::TcpOneBack => "TCP, 1 stream, back",
            Metric::TcpFourForth => "TCP, 4 streams, forth",
            Metric::TcpFourBack => "TCP, 4 streams, back",
            Metric::Frames60 => "60-byte frames, received",
            Metric::Frames60Offered => "60-byte frames, offered",
            Metric::Frames60Loss => "60-byte frames, lost",
            Metric::Frames1500 => "1500-byte frames, received",
            Metric::Frames1500Offered => "1500-byte frames, offered",
            Metric::Frames1500Loss => "1500-byte frames, lost",
            Metric::RttTcp => "round trip, 1 byte over TCP",
            Metric::RttPing => "one exchange of flood ping",
            Metric::RttPolled => "round trip, echo, asker polls",
            Metric::SwitchPerGb => "processor time of the switch, TCP",
            Metric::MachinePerGb => "processor time of the machine, TCP",
            Metric::SwitchPerMframe => "processor time of the switch, 60-byte frames",
            Metric::MachinePerMframe => "processor time of the machine, 60-byte frames",
        }
    }

    /// Of the figure.
    pub fn unit(self) -> &'static str {
        match self {
            Metric::TcpOneForth | Metric::TcpOneBack | Metric::TcpFourForth | Metric::TcpFourBack => "Gbit/s",
            Metric::Frames60 | Metric::Frames60Offered | Metric::Frames1500 | Metric::Frames1500Offered => "Mframe/s",
            Metric::Frames60Loss | Metric::Frames1500Loss => "%",
            Metric::RttTcp | Metric::RttPing | Metric::RttPolled => "us",
            Metric::SwitchPerGb | Metric::MachinePerGb => "s/GB",
            Metric::SwitchPerMframe | Metric::MachinePerMframe => "s/Mframe",
        }
    }
}

/// The figures of one peer in one round. A figure that does not exist is absent: the kernel's bridge has no process.
pub type Sample = BTreeMap<Metric, f64>;

/// How long each measure takes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Lengths {
    /// Seconds of each TCP run.
    pub tcp: u32,
    /// Seconds of each run of the generator.
    pub frames: u32,
    /// Seconds of each round-trip run.
    pub rtt: u32,
}

/// Measures the peer that joins the ends of `lab`.
///
/// # Errors
/// If a measure fails or the switch has ended meanwhile; `sample` keeps the figures from before.
pub fn measure(lab: &Lab, peer: &mut Running, groups: &[Group], lengths: Lengths, sample: &mut Sample) -> Result<()> {
    let pids = peer.pids();
    for group in groups {
        let measured = match group {
            Group::Tcp => tcp::measure(lab, &pids, lengths.tcp, sample),
            Group::Frames => frames::measure(lab, &pids, Duration::from_secs(lengths.frames.into()), sample),
            Group::Rtt => round_trip::measure(Duration::from_secs(lengths.rtt.into()), sample),
        };
        // A switch that has ended is the better reason.
        peer.check_alive()?;
        measured?;
    }
    Ok(())
}
