//! Commands that run in namespaces, and what they write.

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};
use vswitch_api::CommandName;

use super::{LIST, parse};

/// A command, or something that the daemon itself runs (`dnsmasq:main`).
#[derive(Clone, Debug)]
pub struct ProcessName(String);

impl FromStr for ProcessName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (program, of) = text
            .split_once(':')
            .map_or((text, None), |(program, of)| (program, Some(of)));
        for part in [Some(program), of].into_iter().flatten() {
            part.parse::<CommandName>()
                .map_err(|error| format!("{text:?} is no name of a command: {error}"))?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Examples of `logs`.
pub const LOGS_EXAMPLES: &str = "\
Examples:
  vswitchctl logs web
  vswitchctl logs web -n 20
  vswitchctl logs web --follow

What it wrote on its standard output and error, as much as is kept: half a
megabyte or more. Lines that begin with --- are the daemon's own.";

/// `command ...`
#[derive(Debug, Subcommand)]
pub enum CommandCommand {
    /// List the commands of labs: state, process, restarts, exit code
    #[command(
        aliases = LIST,
        after_long_help = "\
Examples:
  vswitchctl command list
  vswitchctl command list --json | jq '.[] | select(.state == \"failed\")'"
    )]
    List,
    /// Show all about one
    #[command(after_long_help = "\
Example:
  vswitchctl command show web")]
    Show {
        /// Name of the command
        name: ProcessName,
    },
}

/// Arguments of `logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// Name of the command
    pub name: ProcessName,
    /// Go on with what it writes, until Ctrl-C or until it is removed
    #[arg(short = 'f', long)]
    pub follow: bool,
    /// So many of the last lines
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "100",
          value_parser = parse::count::<u32>)]
    pub lines: u32,
}
