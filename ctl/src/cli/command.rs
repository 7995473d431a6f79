//! Commands that run in namespaces, and what they write.

use std::fmt;
use std::str::FromStr;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vswitch_api::lab::Description;
use vswitch_api::name::InvalidValue;
use vswitch_api::{CommandName, NsName, Ready, Restart};

use super::{ADD, Addition, DEL, LIST, Removal, Trial, parse};

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

/// A command of the lab. What the daemon runs for itself is listed too, and ends with what it is for.
fn of_lab(text: &str) -> Result<CommandName, String> {
    match text.split_once(':') {
        Some((program, switch)) if text.parse::<ProcessName>().is_ok() => Err(format!(
            "{text:?} is vswitchd's own {program}, for DHCP and DNS on switch {switch}; `vswitchctl set switch {switch} dhcp=off dns=off` ends it"
        )),
        _ => text.parse().map_err(|error: InvalidValue| error.to_string()),
    }
}

/// `NAME=VALUE` of an environment.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub value: String,
}

impl FromStr for Variable {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err(format!("variable {text:?} is not NAME=VALUE")),
        }
    }
}

/// How is told that a command is ready, without the time that it has.
fn ready(text: &str) -> Result<Ready, String> {
    let ready = Ready {
        run: None,
        tcp: None,
        tcp_addr: None,
        done: false,
        within_secs: vswitch_api::command::DEFAULT_READY_SECS,
    };
    match text.split_once('=') {
        None if text == "done" => Ok(Ready { done: true, ..ready }),
        Some(("run", line)) if !line.trim().is_empty() => Ok(Ready {
            run: Some(line.to_owned()),
            ..ready
        }),
        Some(("tcp", place)) => {
            let wrong = || format!("{text:?} names no TCP port; write tcp=80, tcp=10.0.0.1:80 or tcp=[fd00::1]:80");
            let number = |text: &str| parse::count(text).ok().filter(|number| *number != 0).ok_or_else(wrong);
            match place.rsplit_once(':') {
                None => Ok(Ready {
                    tcp: Some(number(place)?),
                    ..ready
                }),
                Some((address, port)) => Ok(Ready {
                    tcp: Some(number(port)?),
                    tcp_addr: Some(address.trim_matches(['[', ']']).parse().map_err(|_| wrong())?),
                    ..ready
                }),
            }
        }
        _ => Err(format!(
            "{text:?} is no check; write tcp=80, run='test -e /tmp/up' or done"
        )),
    }
}

/// When a command is started again.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Again {
    /// Never
    No,
    /// When it has failed: another exit code than 0, or a signal
    OnFailure,
    /// Whenever it has ended
    Always,
}

impl From<Again> for Restart {
    fn from(again: Again) -> Self {
        match again {
            Again::No => Self::No,
            Again::OnFailure => Self::OnFailure,
            Again::Always => Self::Always,
        }
    }
}

/// Arguments of `command add`.
#[derive(Args, Debug)]
pub struct CommandAdd {
    /// Its name
    pub name: CommandName,
    /// Namespace that it runs in, made if it is not there
    #[arg(long, visible_alias = "namespace", value_name = "NAMESPACE")]
    pub ns: NsName,
    /// Folder that it starts in (default: /)
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Of its environment, beside a PATH and little else; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<Variable>,
    /// When it is started again (default: no)
    #[arg(long, value_enum, value_name = "WHEN")]
    pub restart: Option<Again>,
    /// What tells that it is ready: tcp=[ADDR:]PORT, run=LINE or done
    #[arg(long, value_name = "CHECK", value_parser = ready)]
    #[allow(rustdoc::broken_intra_doc_links, reason = "`--help` shows it as it stands")]
    pub ready: Option<Ready>,
    /// Seconds that it has to be ready (default: 30)
    #[arg(long, value_name = "SECONDS", requires = "ready", value_parser = parse::ready_secs)]
    pub within: Option<u32>,
    /// Seconds that it has to end by itself before it is killed (default: 5)
    #[arg(long, value_name = "SECONDS", value_parser = parse::stop_secs)]
    pub stop: Option<u32>,
    /// What to say of it
    #[arg(long, value_name = "TEXT")]
    pub description: Option<Description>,
    /// How to add it.
    #[command(flatten)]
    pub addition: Addition,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub argv: Vec<String>,
}

/// Examples of `logs`.
pub const LOGS_EXAMPLES: &str = "\
Examples:
  vswitchctl logs web
  vswitchctl logs web -n 20
  vswitchctl logs web --follow

What it wrote on its standard output and error, as much as is kept: half a
megabyte or more. Lines that begin with --- are the daemon's own. With --json
each line is an object.";

/// `command ...`
#[derive(Debug, Subcommand)]
pub enum CommandCommand {
    /// Run a program in a namespace, as long as it is not removed
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl command add web --ns red -- python3 -m http.server 80
  vswitchctl command add web --ns red --ready tcp=80 -- nginx -g 'daemon off;'
  vswitchctl command add t --ns red --restart always -- sh -c 'date; sleep 9'

It comes back when it is ready; if it fails before, nothing is left of it. The
daemon looks after it from then on, also after a restart of its own, and ends
it with all that descends from it. `vswitchctl export` has it for a lab file.")]
    Add(Box<CommandAdd>),
    /// End commands, each with all that descends from it
    #[command(
        aliases = DEL,
        after_long_help = "\
Examples:
  vswitchctl command del web
  vswitchctl command del web db"
    )]
    Del {
        /// Names of the commands
        #[arg(required = true, value_name = "NAME", value_parser = of_lab)]
        names: Vec<CommandName>,
        /// How to remove them.
        #[command(flatten)]
        removal: Removal,
    },
    /// End a command and start it again; its log goes on
    #[command(after_long_help = "\
Example:
  vswitchctl command restart web")]
    Restart {
        /// Name of the command
        #[arg(value_parser = of_lab)]
        name: CommandName,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// List commands: state, process, restarts, exit code
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
