//! Port numbers of the host that lead to ports.

use clap::{Args, Subcommand};
use vswitch_api::{PortName, Publish};

use super::namespace::OfPorts;
use super::{ADD, DEL, LIST, Removal};

/// Examples of `publish`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl publish red 8080:80        # the host's 8080 leads to 80 of red
  vswitchctl publish red 5353:53/udp 443
  vswitchctl publish list
  vswitchctl publish del red 8080:80

`publish PORT` is short for `publish add PORT`. The switch of the port needs
NAT: `vswitchctl set switch NAME nat=on`. From the host itself it is reached
by an address of the host other than localhost. A number on which a program
of the host listens, such as 22, is refused without --force.";

/// Arguments of `publish`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct PublishArgs {
    /// What to do, if said by a word.
    #[command(subcommand)]
    pub command: Option<PublishCommand>,
    /// The short form of `add`.
    #[command(flatten)]
    pub add: Option<PublishAdd>,
}

/// `publish ...`
#[derive(Debug, Subcommand)]
pub enum PublishCommand {
    /// Let a port number of the host lead to a port
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl publish add red 8080:80
  vswitchctl publish add red 5353:53/udp -n   # say what would change")]
    Add(PublishAdd),
    /// Let it lead there no more
    #[command(aliases = DEL, after_long_help = "\
Example:
  vswitchctl publish del red 8080:80")]
    Del {
        /// The port
        port: PortName,
        /// What is published: OUTSIDE:INSIDE, with /udp if it is UDP
        #[arg(required = true, value_name = "OUTSIDE:INSIDE")]
        numbers: Vec<Publish>,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// List what is published
    #[command(visible_alias = "show", aliases = LIST, after_long_help = "\
Examples:
  vswitchctl publish list
  vswitchctl publish list red")]
    List(OfPorts),
}

/// Arguments of `publish add`.
#[derive(Args, Debug)]
pub struct PublishAdd {
    /// The port
    pub port: PortName,
    /// Number at the host and in the namespace: 8080:80, 5353:53/udp, or 80 for the same
    #[arg(required = true, value_name = "OUTSIDE:INSIDE")]
    pub numbers: Vec<Publish>,
    /// No error if it is published already
    #[arg(long)]
    pub if_not_exists: bool,
    /// Take the number though a program of the host listens on it
    #[arg(long)]
    pub force: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
