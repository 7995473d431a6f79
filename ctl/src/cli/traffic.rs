//! What ports do to their traffic: impairment, policer, storm control.

use clap::{Args, Subcommand, ValueEnum};
use vswitch_api::{PortName, RateLimit, Share};

use vswitch_api::traffic::quantity;

use super::Trial;
use super::parse;

/// Examples of `impair`.
pub const IMPAIR_EXAMPLES: &str = "\
Examples:
  vswitchctl impair red --delay 20ms --loss 1%
  vswitchctl impair red --delay 40ms --jitter 5ms --distribution normal
  vswitchctl impair red --loss 1% --direction both
  # a slow line with a queue of 100 frames
  vswitchctl impair red --rate 10mbit --limit 100
  vswitchctl impair show
  vswitchctl impair clear red

`impair PORT` is short for `impair set PORT`. Directions are the switch's:
`out` is what the namespace gets, `in` is what it sends. What is given
replaces what the direction had.";

/// Examples of `police`.
pub const POLICE_EXAMPLES: &str = "\
Examples:
  vswitchctl police red --rate 100mbit --burst 64k
  vswitchctl police red --pps 1000
  vswitchctl police show
  vswitchctl police clear red

`police PORT` is short for `police set PORT`. It drops what the namespace
sends above the rate; to slow down what it gets, shape it: `vswitchctl impair
PORT --rate 100mbit`.";

/// Examples of `storm`.
pub const STORM_EXAMPLES: &str = "\
Examples:
  vswitchctl storm red --broadcast 100pps --unknown-unicast 10mbit
  vswitchctl storm show
  vswitchctl storm clear red

`storm PORT` is short for `storm set PORT`. It counts what comes from the port
and would be flooded. A class that is not named stays as it is.";

/// Which way frames go, as seen from the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// Into the switch: what the namespace sends
    In,
    /// Out of the switch: what the namespace gets
    Out,
    /// Both
    Both,
}

impl Direction {
    /// Whether it is or has `one`.
    pub fn has(self, one: Self) -> bool {
        self == one || self == Self::Both
    }
}

/// [`vswitch_api::traffic::Distribution`] with its words and help texts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Distribution {
    /// All delays within the jitter alike
    Uniform,
    /// The normal distribution; the jitter is its standard deviation
    Normal,
    /// Most delays a little shorter, few much longer
    Pareto,
}

impl From<Distribution> for vswitch_api::traffic::Distribution {
    fn from(distribution: Distribution) -> Self {
        match distribution {
            Distribution::Uniform => Self::Uniform,
            Distribution::Normal => Self::Normal,
            Distribution::Pareto => Self::Pareto,
        }
    }
}

/// Arguments of `impair`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ImpairArgs {
    /// What to do, if said by a word.
    #[command(subcommand)]
    pub command: Option<ImpairCommand>,
    /// The short form of `set`.
    #[command(flatten)]
    pub set: Option<ImpairSet>,
}

/// `impair ...`
#[derive(Debug, Subcommand)]
pub enum ImpairCommand {
    /// Impair a direction of a port
    #[command(after_long_help = "\
Examples:
  vswitchctl impair set red --delay 20ms --jitter 2ms
  vswitchctl impair set red --loss 1% --loss-burst 5 --direction in
  # the same chance in each run; said again it begins anew
  vswitchctl impair set red --delay 20ms --seed 1
  vswitchctl impair set red --rate 10mbit --priority

Frames that are lost, doubled, changed, reordered or slowed down are those of
a wire: GSO frames are cut first. Jitter lets frames overtake each other. The
queue takes --limit frames; more are dropped. Frames that wait when settings
change go by the new ones where they arrive earlier so.

With --priority the frame of the highest class that waits is sent next, and of
a full queue the lowest class loses. The class is that of the VLAN tag's
priority with which the frame came by table 8-5 of IEEE 802.1Q (1 is the
lowest, then 0, then 2 to 7); of an IP packet without a tag, or with priority
0, the first three bits of its DSCP stand for it. A port without a rate has no
queue.")]
    Set(Box<ImpairSet>),
    /// Show what is impaired
    #[command(
        alias = "list",
        after_long_help = "\
Examples:
  vswitchctl impair show
  vswitchctl impair show red --json"
    )]
    Show {
        /// The port (default: all that are impaired)
        port: Option<PortName>,
    },
    /// Impair a port no more; frames that wait are dropped
    #[command(after_long_help = "\
Examples:
  vswitchctl impair clear red
  vswitchctl impair clear red --direction in")]
    Clear {
        /// The port
        port: PortName,
        /// Which way
        #[arg(long, value_enum, value_name = "WAY", default_value = "both")]
        direction: Direction,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
}

/// Arguments of `impair set`.
#[derive(Args, Debug)]
pub struct ImpairSet {
    /// The port
    pub port: PortName,
    /// Which way, as seen from the switch
    #[arg(long, value_enum, value_name = "WAY", default_value = "out")]
    pub direction: Direction,
    /// Time that each frame is held back
    #[arg(long, value_name = "TIME", value_parser = quantity::micros)]
    pub delay: Option<u32>,
    /// How much the delay varies
    #[arg(long, value_name = "TIME", value_parser = quantity::micros)]
    pub jitter: Option<u32>,
    /// How the delay varies
    #[arg(long, value_enum, value_name = "WHICH", requires = "jitter")]
    pub distribution: Option<Distribution>,
    /// Share of frames lost
    #[arg(long, value_name = "PERCENT", value_parser = quantity::share)]
    pub loss: Option<Share>,
    /// Frames lost in a row, on average (default: each by itself)
    #[arg(long, value_name = "FRAMES", value_parser = parse::from_one::<u32>, requires = "loss")]
    pub loss_burst: Option<u32>,
    /// Share of frames that arrive twice
    #[arg(long, value_name = "PERCENT", value_parser = quantity::share)]
    pub duplicate: Option<Share>,
    /// Share of frames that are not delayed and so overtake others
    #[arg(long, value_name = "PERCENT", value_parser = quantity::share)]
    pub reorder: Option<Share>,
    /// Share of frames with one bit flipped
    #[arg(long, value_name = "PERCENT", value_parser = quantity::share)]
    pub corrupt: Option<Share>,
    /// Bit/s that pass; a frame counts without preamble and FCS
    #[arg(long, value_name = "RATE", value_parser = quantity::bits)]
    pub rate: Option<u64>,
    /// Frames/s that pass
    #[arg(long, value_name = "FRAMES", value_parser = quantity::pps)]
    pub pps: Option<u64>,
    /// Bytes that pass at once after a pause, with --rate (default: none)
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes, requires = "rate")]
    pub burst: Option<u32>,
    /// The highest of eight classes goes first, by PCP or DSCP; needs --rate or --pps
    #[arg(long)]
    pub priority: bool,
    /// Frames that may wait (default: 1000)
    #[arg(long, value_name = "FRAMES", value_parser = quantity::limit)]
    pub limit: Option<u32>,
    /// Start of the random numbers, for runs that are to be the same
    #[arg(long, value_name = "NUMBER", value_parser = parse::count::<u32>)]
    pub seed: Option<u32>,
    // Not a flattened `Trial`: clap finds no argument of a group that is a part of another optional one.
    /// Say what would be changed, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Arguments of `police`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct PoliceArgs {
    /// What to do, if said by a word.
    #[command(subcommand)]
    pub command: Option<PoliceCommand>,
    /// The short form of `set`.
    #[command(flatten)]
    pub set: Option<PoliceSet>,
}

/// `police ...`
#[derive(Debug, Subcommand)]
pub enum PoliceCommand {
    /// Limit what comes from a port
    #[command(after_long_help = "\
Examples:
  vswitchctl police set red --rate 100mbit
  vswitchctl police set red --rate 1gbit --burst 256k
  vswitchctl police set red --pps 100000 --burst-frames 500

A GSO frame counts with all that it takes on a wire; it passes or is dropped
as a whole.")]
    Set(PoliceSet),
    /// Show which ports are limited
    #[command(
        alias = "list",
        after_long_help = "\
Examples:
  vswitchctl police show
  vswitchctl police show red"
    )]
    Show {
        /// The port (default: all that are limited)
        port: Option<PortName>,
    },
    /// Limit a port no more
    #[command(after_long_help = "\
Example:
  vswitchctl police clear red")]
    Clear {
        /// The port
        port: PortName,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
}

/// Arguments of `police set`.
#[derive(Args, Debug)]
pub struct PoliceSet {
    /// The port
    pub port: PortName,
    /// Bit/s that pass; a frame counts without preamble and FCS
    #[arg(long, value_name = "RATE", value_parser = quantity::bits)]
    pub rate: Option<u64>,
    /// Bytes that pass at once after a pause (default: those of 250 ms, at least 1m)
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes, requires = "rate")]
    pub burst: Option<u32>,
    /// Frames/s that pass
    #[arg(long, value_name = "FRAMES", value_parser = quantity::pps)]
    pub pps: Option<u64>,
    /// Frames that pass at once after a pause (default: those of 250 ms, at least 500)
    #[arg(long, value_name = "FRAMES", value_parser = quantity::frames, requires = "pps")]
    pub burst_frames: Option<u32>,
    // Not a flattened `Trial`: clap finds no argument of a group that is a part of another optional one.
    /// Say what would be changed, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Arguments of `storm`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct StormArgs {
    /// What to do, if said by a word.
    #[command(subcommand)]
    pub command: Option<StormCommand>,
    /// The short form of `set`.
    #[command(flatten)]
    pub set: Option<StormSet>,
}

/// `storm ...`
#[derive(Debug, Subcommand)]
pub enum StormCommand {
    /// Limit what is flooded from a port, by class; a class that is not named stays as it is
    #[command(after_long_help = "\
Examples:
  vswitchctl storm set red --broadcast 100pps
  vswitchctl storm set red --unknown-unicast 1mbit")]
    Set(StormSet),
    /// Show which ports are limited
    #[command(
        alias = "list",
        after_long_help = "\
Examples:
  vswitchctl storm show
  vswitchctl storm show red"
    )]
    Show {
        /// The port (default: all that are limited)
        port: Option<PortName>,
    },
    /// Limit a port no more
    #[command(after_long_help = "\
Example:
  vswitchctl storm clear red")]
    Clear {
        /// The port
        port: PortName,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
}

/// Arguments of `storm set`.
#[derive(Args, Debug)]
pub struct StormSet {
    /// The port
    pub port: PortName,
    /// Rate of broadcasts
    #[arg(long, value_name = "RATE", value_parser = quantity::either_rate)]
    pub broadcast: Option<RateLimit>,
    /// Rate of other group addresses
    #[arg(long, value_name = "RATE", value_parser = quantity::either_rate)]
    pub multicast: Option<RateLimit>,
    /// Rate of frames for stations that are not in the FDB
    #[arg(long, value_name = "RATE", value_parser = quantity::either_rate)]
    pub unknown_unicast: Option<RateLimit>,
    // Not a flattened `Trial`: clap finds no argument of a group that is a part of another optional one.
    /// Say what would be changed, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
