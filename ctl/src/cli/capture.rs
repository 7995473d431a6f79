//! Seeing frames.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use vswitch_api::PortName;
use vswitch_api::capture::Direction;

use super::parse;

/// Examples of `capture`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl capture red  # a line for each frame, until Ctrl-C
  vswitchctl capture red -c 10 tcp port 80  # a filter as tcpdump takes it
  vswitchctl capture red -w red.pcapng --filter arp     # a file for Wireshark
  vswitchctl capture red | wireshark -k -i -            # live
  vswitchctl capture red | tcpdump -r - -n
  vswitchctl capture red blue --any -w both.pcapng      # of both in one file
  vswitchctl capture --any --filter arp                 # of all ports

Into a file or a pipe it writes pcapng: times in nanoseconds, the way of each
frame (in: from the port into the switch), and how many were lost because the
reader was too slow. Frames look as on a wire: their checksums are complete.
Large TCP frames that the switch does not cut up are whole, with --segment as
a wire would carry them. Filters are compiled by tcpdump, which has to be
installed, and run in the daemon.

With --any all words are ports; of none, all that there are when it begins.
Each has an interface of its own in the file, and the filter stands behind
--filter.";

/// Arguments of `capture`.
#[derive(Args, Debug)]
pub struct CaptureArgs {
    /// The port
    #[arg(required_unless_present = "any")]
    pub port: Option<PortName>,
    /// Several ports, or all of them, in one
    #[arg(long)]
    pub any: bool,
    /// Filter in the syntax of tcpdump, see pcap-filter(7); with --any more ports
    #[arg(value_name = "EXPRESSION")]
    pub expression: Vec<String>,
    /// The same as one word
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Write a pcapng file; `-` is standard output
    #[arg(short = 'w', long = "write", value_name = "FILE", conflicts_with = "text")]
    pub file: Option<PathBuf>,
    /// Print a line for each frame even if standard output is no terminal
    #[arg(long)]
    pub text: bool,
    /// End after so many frames
    #[arg(short = 'c', long, value_name = "N", value_parser = parse::from_one::<u64>)]
    pub count: Option<u64>,
    /// End after this time, such as 10, 1.5 or 0.2 (seconds)
    #[arg(long, value_name = "SECONDS", value_parser = parse::seconds)]
    pub duration: Option<Duration>,
    /// Which way the frames go, as the port sees it
    #[arg(long, value_enum, value_name = "WAY", default_value = "both")]
    pub direction: Way,
    /// Bytes of each frame to keep (default: all)
    #[arg(short = 's', long, value_name = "BYTES", value_parser = parse::snaplen)]
    pub snaplen: Option<u32>,
    /// Cut large TCP and UDP frames up as a wire would carry them
    #[arg(long)]
    pub segment: bool,
}

/// [`Direction`] with its words and help texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// From the port into the switch
    #[value(name = "in", alias = "rx")]
    Rx,
    /// Out of the switch to the port
    #[value(name = "out", alias = "tx")]
    Tx,
    /// Both ways
    Both,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Rx => Self::Rx,
            Way::Tx => Self::Tx,
            Way::Both => Self::Both,
        }
    }
}
