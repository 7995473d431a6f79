//! What is wrong, and what mends it.

use clap::Args;
use vswitch_api::PortName;

use super::parse;

/// Seconds that a ping waits if nothing else is said.
pub const WAIT: u32 = 3;

/// Examples of `doctor`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl doctor                     # the installation
  vswitchctl doctor red blue            # the way between two ports
  vswitchctl doctor red blue --json

It looks only. With two ports it goes the way between them and back in order,
inside their namespaces too, names the first thing that is wrong with what
shows it and the command that mends it, and pings as proof.

Exit codes: 0 if all is well, 1 if something is wrong, 3 if the daemon can't
be reached, 4 if there is no such port, 6 if it may not look inside (be root).";

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// The port that sends (default: look at the installation)
    #[arg(value_name = "FROM", requires = "to")]
    pub from: Option<PortName>,
    /// The port that is to be reached
    #[arg(value_name = "TO")]
    pub to: Option<PortName>,
    /// How long a ping waits for its answer
    #[arg(long, value_name = "SECONDS", value_parser = parse::from_one::<u32>, default_value_t = WAIT)]
    pub wait: u32,
}
