//! The command line: what can be said, with its help. No work is done here, so that the build script
//! can make completions and man pages of it.

pub mod acl;
pub mod bridge;
pub mod bugreport;
pub mod capture;
pub mod command;
pub mod daemon;
pub mod doctor;
pub mod lab;
pub mod link;
pub mod mirror;
pub mod namespace;
pub mod ovs;
pub mod parse;
pub mod ping;
pub mod policy;
pub mod port;
pub mod publish;
pub mod service;
mod shared;
pub mod switch;
pub mod top;
pub mod trace;
pub mod traffic;
pub mod vlan;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::Resettable;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use acl::AclCommand;
use bridge::BridgeCommand;
use bugreport::BugreportArgs;
use capture::CaptureArgs;
use command::{CommandCommand, LogsArgs};
use daemon::{EventsArgs, LogLevelArgs, RestartArgs};
use doctor::DoctorArgs;
use lab::{ApplyArgs, CompletionsArgs, ExportArgs, LabCommand, ManArgs, ResetArgs};
use link::LinkCommand;
use mirror::MirrorCommand;
use namespace::{AddrCommand, CableArgs, NsCommand, RouteCommand};
use ovs::OvsArgs;
use ping::{PingArgs, PingallArgs, ShellArgs};
use port::{AddPort, DelPort, PortCommand};
use publish::PublishArgs;
use service::InstallServiceArgs;
pub use shared::{Addition, Form, OnlySwitch, Removal, ShowArgs, Trial};
use switch::{FdbArgs, SetCommand, SwitchCommand};
use top::TopArgs;
use trace::TraceArgs;
use traffic::{ImpairArgs, PoliceArgs, StormArgs};
use vlan::VlanCommand;

/// Other words for `list`, which do without being shown.
pub const LIST: [&str; 1] = ["ls"];
/// Other words for `add`.
pub const ADD: [&str; 2] = ["create", "new"];
/// Other words for `del`.
pub const DEL: [&str; 3] = ["rm", "delete", "remove"];

const AFTER_HELP: &str = "\
Examples:
  # namespace, port and address in one go
  vswitchctl add-port red  --addr 192.168.15.1/24
  vswitchctl add-port blue --addr 192.168.15.2/24
  vswitchctl ns exec red ping -c2 192.168.15.2
  vswitchctl show

Exit codes:
  0  done
  1  the kernel refused a step (what was done before it was undone), or an
     internal error
  2  the command line or a value in it is wrong; nothing was done
  3  the daemon can't be reached
  4  what the command names does not exist
  5  a name, address or device is taken, the state forbids the request, what
     it is about has changed, or a question was not answered with yes;
     nothing was done
  6  not permitted, or the kernel lacks a feature

`ns exec` ends with the exit code of the command that it runs (126: it can't
be run, 127: not found).

Errors are one line on stderr: what it is about, what was wrong, what to do
next; with --json they are JSON objects.";

/// Control the userspace layer-2 switch vswitchd
#[derive(Debug, Parser)]
#[command(
    name = "vswitchctl",
    version,
    max_term_width = 110,
    after_long_help = AFTER_HELP,
    after_help = "`vswitchctl --help` shows examples and the exit codes,\n`vswitchctl COMMAND --help` those of a command."
)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What was typed, and what the environment says: a variable that is empty says nothing.
///
/// # Errors
/// It can't be understood, or help was asked for.
pub fn parse() -> Result<Cli, clap::Error> {
    let mut tool = Cli::command().mut_args(|arg| {
        let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
        match arg.get_env().is_some_and(is_empty) {
            true => arg.env(Resettable::Reset),
            false => arg,
        }
    });
    let matches = tool.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut tool))
}

/// Options of every command.
#[derive(Args, Debug)]
pub struct Global {
    /// Control socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "VSWITCH_SOCKET",
          default_value = vswitch_api::DEFAULT_SOCKET, help_heading = "Global options")]
    pub socket: PathBuf,
    /// Give up when the daemon has not answered for so long and gives no sign of life; a long `apply` is waited for
    #[arg(long, global = true, value_name = "SECONDS", env = "VSWITCH_TIMEOUT", value_parser = parse::seconds,
          default_value = "10", help_heading = "Global options")]
    pub timeout: Duration,
    /// Print the daemon's reply as JSON; errors are JSON on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Form of what is printed: wide (more columns), json, yaml, or name (names alone, one a line)
    #[arg(
        short = 'o',
        long,
        global = true,
        value_enum,
        value_name = "FORM",
        conflicts_with = "json",
        hide_possible_values = true,
        help_heading = "Global options"
    )]
    pub output: Option<Form>,
    /// When to use colours
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Global options",
        long_help = "When to use colours: auto (on a terminal, unless NO_COLOR is set), always or never"
    )]
    pub color: Color,
}

impl Global {
    /// Whether everything is JSON, errors too.
    pub fn is_json(&self) -> bool {
        self.json || self.output == Some(Form::Json)
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add a port, with its namespace, interface and addresses
    #[command(after_long_help = port::ADD_EXAMPLES)]
    AddPort(Box<AddPort>),
    /// Remove ports, and the namespaces that were made for them
    #[command(after_long_help = port::DEL_EXAMPLES)]
    DelPort(DelPort),
    /// Show switches and ports: state, addresses, counters
    #[command(after_long_help = "\
Examples:
  vswitchctl show
  vswitchctl show --switch lab
  vswitchctl show -o wide
  vswitchctl show --watch
  vswitchctl show -o name               # names of ports, for scripts
  vswitchctl show --json | jq '.ports[] | {name, state}'

RX and TX are frames/bytes as the switch sees them: RX came in from the port.
DROPS is the sum of both ways; `vswitchctl port show NAME` tells the reasons.
A narrow terminal gets no columns MAC and MTU, a very narrow one none of TYPE
and NAMESPACE either.")]
    Show(ShowArgs),
    /// Add, remove, change or list ports, or show all about one
    #[command(
        subcommand,
        alias = "ports",
        after_long_help = "\
Examples:
  vswitchctl port list
  vswitchctl port show red
  vswitchctl port set red --mtu 9000

`port add`, `port del` and `port set` are `add-port`, `del-port` and
`set port`."
    )]
    Port(PortCommand),
    /// Show or edit the forwarding database (FDB)
    #[command(
        alias = "fdbs",
        after_long_help = "\
Examples:
  vswitchctl fdb                                 # the tables of all switches
  vswitchctl fdb add 02:00:00:00:00:01 red       # a static entry
  vswitchctl fdb flush --port red  # forget what was learned on a port"
    )]
    Fdb(FdbArgs),
    /// Access control lists of ports
    #[command(subcommand, alias = "acls")]
    Acl(AclCommand),
    /// Add, remove, change or show switches
    #[command(
        subcommand,
        aliases = ["switches", "sw"],
        after_long_help = "\
Examples:
  vswitchctl switch add lab --ageing 60
  vswitchctl add-port red --switch lab"
    )]
    Switch(SwitchCommand),
    /// Change settings of a port or a switch
    #[command(
        subcommand,
        after_long_help = "\
Examples:
  vswitchctl set port red --mtu 9000
  vswitchctl set port red mtu=9000 learning.limit=5
  vswitchctl set switch main --ageing 60"
    )]
    Set(SetCommand),
    /// Delay, lose, double, reorder, corrupt or slow down frames of a port
    #[command(after_long_help = traffic::IMPAIR_EXAMPLES)]
    Impair(Box<ImpairArgs>),
    /// Drop what comes from a port above a rate
    #[command(after_long_help = traffic::POLICE_EXAMPLES)]
    Police(PoliceArgs),
    /// Drop what would be flooded from a port above a rate, by class
    #[command(after_long_help = traffic::STORM_EXAMPLES)]
    Storm(StormArgs),
    /// Make, remove, look into or enter network namespaces
    #[command(
        subcommand,
        visible_alias = "netns",
        aliases = ["namespace", "namespaces"],
        after_long_help = "\
Examples:
  vswitchctl ns show red
  vswitchctl ns exec red ping -c2 192.168.15.2"
    )]
    Ns(NsCommand),
    /// Add, remove or list addresses
    #[command(
        subcommand,
        aliases = ["addrs", "address", "addresses", "ip"],
        after_long_help = "\
Examples:
  vswitchctl addr add red 192.168.15.1/24
  vswitchctl addr list"
    )]
    Addr(AddrCommand),
    /// Add, remove or list routes
    #[command(
        subcommand,
        alias = "routes",
        after_long_help = "\
Examples:
  vswitchctl route add red default --via 192.168.15.254
  vswitchctl route list
  vswitchctl route del red default"
    )]
    Route(RouteCommand),
    /// Let port numbers of the host lead to a port
    #[command(alias = "publishes", after_long_help = publish::EXAMPLES)]
    Publish(PublishArgs),
    /// Join two switches, or show how they are joined
    #[command(
        subcommand,
        alias = "links",
        after_long_help = "\
Examples:
  vswitchctl link add main sw2
  vswitchctl link list"
    )]
    Link(LinkCommand),
    /// Which ports are in which VLAN
    #[command(
        subcommand,
        alias = "vlans",
        after_long_help = "\
Examples:
  vswitchctl vlan list
  vswitchctl vlan show 10
  vswitchctl set port red --vlan 10     # what puts a port into one"
    )]
    Vlan(VlanCommand),
    /// Join two namespaces directly, without a switch
    #[command(alias = "cables", after_long_help = namespace::CABLE_EXAMPLES)]
    Cable(Box<CableArgs>),
    /// Commands that run in namespaces and are looked after
    #[command(
        name = "command",
        subcommand,
        aliases = ["commands", "process", "processes"],
        after_long_help = "\
Examples:
  vswitchctl command add web --ns red -- python3 -m http.server 80
  vswitchctl command list
  vswitchctl command restart web

In lab files they are:
  [[commands]]
  name = \"web\"
  namespace = \"red\"
  run = \"exec python3 -m http.server 80\"
  restart = \"on-failure\"
  ready = { tcp = 80 }"
    )]
    Process(CommandCommand),
    /// Print what a command has written
    #[command(alias = "log", after_long_help = command::LOGS_EXAMPLES)]
    Logs(LogsArgs),
    /// Make everything as a lab file says
    #[command(after_long_help = "\
Examples:
  vswitchctl apply lab.toml
  vswitchctl apply -n lab.toml          # say what would change
  vswitchctl apply --yes lab.toml       # for scripts: also if things go away
  vswitchctl export | vswitchctl apply -

What vswitch made and the file does not name is removed. Where ports,
namespaces, cables or switches would go, or commands that run be stopped, it
shows them and asks first; where it can't ask, it needs --yes. An empty file
is refused. A file with a `name` is a lab beside others, as with `lab up`:
only what that lab owns is removed.

Quantities are written as on the command line: loss = \"1%\", delay = \"20ms\",
rate = \"10mbit\", broadcast = \"100pps\".")]
    Apply(ApplyArgs),
    /// Print everything that was asked for as a lab file
    #[command(after_long_help = "\
Examples:
  vswitchctl export > lab.toml  # `vswitchctl apply lab.toml` makes it again
  vswitchctl export --into lab.toml     # into a file that is there
  vswitchctl export --into lab.toml --print | diff lab.toml -

With --into the file keeps its comments, order and ranges: what is there as it
says stays as it is written, what has changed is edited in its place, what is
new comes last, and what is gone is taken out. `vswitchctl lab export` does
that for one of several labs.")]
    Export(ExportArgs),
    /// Labs as files, side by side: check, up, down, diff, test, draw
    #[command(
        subcommand,
        alias = "labs",
        after_long_help = "\
Examples:
  vswitchctl lab new lab.toml           # a file to begin with
  vswitchctl lab check lab.toml         # what is wrong with it, and where
  vswitchctl lab up lab.toml
  vswitchctl lab test lab.toml          # who reaches whom
  vswitchctl lab down lab.toml"
    )]
    Lab(LabCommand),
    /// Watch ports with their rates, stations, events and the doctor, full-screen
    #[command(after_long_help = top::EXAMPLES)]
    Top(TopArgs),
    /// Follow what happens: ports, addresses, learning
    #[command(after_long_help = daemon::EVENTS_EXAMPLES)]
    Events(EventsArgs),
    /// See the frames of a port: as lines, in a file, live in Wireshark
    #[command(after_long_help = capture::EXAMPLES)]
    Capture(Box<CaptureArgs>),
    /// Copy frames of ports to another port (SPAN)
    #[command(
        subcommand,
        alias = "mirrors",
        after_long_help = "\
Examples:
  vswitchctl mirror add m --from red --to mon
  vswitchctl mirror list"
    )]
    Mirror(MirrorCommand),
    /// Tell what the switch would do with a frame, step by step, without sending it
    #[command(after_long_help = trace::EXAMPLES)]
    Trace(Box<TraceArgs>),
    /// Tell what is wrong with the installation, or on the way between two ports, and what mends it
    #[command(after_long_help = doctor::EXAMPLES)]
    Doctor(DoctorArgs),
    /// Collect in one archive what is needed to find out what is wrong, without secrets
    #[command(after_long_help = bugreport::EXAMPLES)]
    Bugreport(BugreportArgs),
    /// Ping a port from another
    #[command(after_long_help = "\
Examples:
  vswitchctl ping red blue
  vswitchctl ping red blue -6 -c 3
  vswitchctl ping red 192.168.15.254

It is ping(8) in the namespace of the one, with an address of the other, and
ends with its exit code. With --json it sends one, or as many as -c says, and
prints whether an answer came.")]
    Ping(PingArgs),
    /// Ping each port from each other, and show who reaches whom
    #[command(after_long_help = "\
Examples:
  vswitchctl pingall
  vswitchctl pingall --switch lab -4
  vswitchctl pingall --json | jq '.[] | select(.ok | not)'

The exit code is 1 if one gets no answer.")]
    Pingall(PingallArgs),
    /// A shell in the namespace of a port
    #[command(after_long_help = "\
Examples:
  vswitchctl shell red
  vswitchctl shell red zsh

Its prompt begins with the name. `exit` leaves it.")]
    Shell(ShellArgs),
    /// The everyday verbs of ovs-vsctl and ovs-appctl
    #[command(after_long_help = ovs::EXAMPLES)]
    Ovs(Box<OvsArgs>),
    /// The everyday verbs of bridge(8) and brctl(8)
    #[command(subcommand, alias = "brctl", after_long_help = bridge::EXAMPLES)]
    Bridge(BridgeCommand),
    /// Show or change how much the daemon logs, until it restarts
    #[command(after_long_help = daemon::LOG_LEVEL_EXAMPLES)]
    LogLevel(LogLevelArgs),
    /// Show the daemon: version, uptime, what does not work here
    #[command(after_long_help = "\
Example:
  vswitchctl status")]
    Status,
    /// Make the daemon a service of systemd, where it was installed without a package
    #[command(after_long_help = service::EXAMPLES)]
    InstallService(InstallServiceArgs),
    /// Restart the daemon, without the loss of a frame
    #[command(after_long_help = daemon::RESTART_EXAMPLES)]
    Restart(RestartArgs),
    /// Remove everything that vswitch made, and nothing else
    #[command(after_long_help = "\
Examples:
  vswitchctl reset -n                   # say what would be removed
  vswitchctl reset --yes
  vswitchctl reset --offline            # after the daemon has gone for good

On a terminal it asks first; elsewhere it needs --yes. With --offline it needs
no daemon: the program vswitchd, beside vswitchctl or in PATH, does it under
the daemon's lock.")]
    Reset(ResetArgs),
    /// Print the completion script of a shell
    #[command(after_long_help = "\
Examples:
  vswitchctl completions bash > /etc/bash_completion.d/vswitchctl
  vswitchctl completions fish > ~/.config/fish/completions/vswitchctl.fish")]
    Completions(CompletionsArgs),
    /// Print the man page, or write those of all commands
    #[command(after_long_help = "\
Examples:
  vswitchctl man | man -l -
  vswitchctl man add-port | man -l -
  vswitchctl man /usr/local/share/man/man1")]
    Man(ManArgs),
}

#[cfg(test)]
mod tests;
