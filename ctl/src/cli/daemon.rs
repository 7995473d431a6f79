//! What is about the daemon itself: what it tells, and how much of it.

use clap::Args;
use clap::builder::PossibleValuesParser;
use vswitch_api::PortName;
use vswitch_api::event::{EVENT_KINDS, Since};

use super::OnlySwitch;

/// Examples of `events`.
pub const EVENTS_EXAMPLES: &str = "\
Examples:
  vswitchctl events
  vswitchctl events --kind port-state,port-shut
  vswitchctl events --port red
  vswitchctl events --json --since 19a3f2c81b0-42
  vswitchctl events --json | jq -c 'select(.kind == \"fdb-moved\")'

One line for each event, until it is stopped. With --json each line is an
object. Its id is what --since takes to go on behind it: the daemon keeps the
last thousand of stations (fdb-learned, fdb-moved, fdb-aged) and the last
thousand others, and `missed` tells of those that it has not any more.";

/// Examples of `log-level`.
pub const LOG_LEVEL_EXAMPLES: &str = "\
Examples:
  vswitchctl log-level                  # as it is now
  vswitchctl log-level debug
  vswitchctl log-level info,vswitch::control=debug
  vswitchctl log-level -n debug

Levels are off, error, warn, info, debug and trace. [log] in vswitchd.toml has
the one that holds after a restart or `systemctl reload vswitchd`.";

/// Arguments of `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Only of these kinds, with commas between
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = PossibleValuesParser::new(EVENT_KINDS.iter().copied()),
          hide_possible_values = true)]
    pub kind: Vec<String>,
    /// Only what has to do with this port
    #[arg(long, value_name = "NAME")]
    pub port: Option<PortName>,
    /// Only what has to do with this switch
    #[command(flatten)]
    pub only: OnlySwitch,
    /// First what came behind the event of this id, as far as it is kept
    #[arg(long, value_name = "ID")]
    pub since: Option<Since>,
}

/// Examples of `restart`.
pub const RESTART_EXAMPLES: &str = "\
Examples:
  vswitchctl restart -n                 # would it start?
  vswitchctl restart

For a new configuration, or after an upgrade: the daemon becomes the program
that is installed by now, in the same process. Frames wait meanwhile and none
is lost; ports, stations, counters and connections stay. It is refused if the
program would not start. Frames that impairment holds back are dropped and
counted, and AF_XDP is opened anew.

`systemctl restart vswitchd` does the same under systemd 254 and later.";

/// Arguments of `restart`.
#[derive(Args, Debug)]
pub struct RestartArgs {
    /// Say whether it could be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Arguments of `log-level`.
#[derive(Args, Debug)]
pub struct LogLevelArgs {
    /// Level, or levels by part: info,vswitch::control=debug
    #[arg(value_name = "LEVEL")]
    pub level: Option<String>,
    /// Say what would be changed, do nothing
    #[arg(short = 'n', long, requires = "level")]
    pub dry_run: bool,
}
