//! The live view.

use std::time::Duration;

use clap::Args;

use super::{OnlySwitch, parse};

/// Examples of `top`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl top
  vswitchctl top --switch lab --every 0.5

Keys: 1-4 or Tab for ports, stations, events and the doctor; arrows, PgUp and
PgDn to move; s sorts by the next column, r the other way round; / filters by
text, Esc shows all again; Enter has the doctor look again; q or Ctrl-C ends.

It needs a terminal. `vswitchctl show --watch` shows the same as plain text.";

/// Arguments of `top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// Of which switch.
    #[command(flatten)]
    pub only: OnlySwitch,
    /// Seconds from one look at the counters to the next
    #[arg(long, value_name = "SECONDS", value_parser = parse::seconds, default_value = "1")]
    pub every: Duration,
}
