//! Access control lists.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use vswitch_api::PortName;
use vswitch_api::acl::AclRule;

use super::namespace::OfPorts;
use super::{ADD, Addition, DEL, LIST, Removal, Trial, parse};

/// How rules are written, for the help of all commands.
pub const RULES: &str = "\
A rule is permit, deny, count, mirror NAME or police RATE [burst N], and what
it matches, for example
  deny tcp from any to 10.0.0.0/8 port 22
  permit udp from 10.0.0.1 port 53
  count from 02:00:00:00:00:01 vlan 10
  deny tcp flags syn,!ack
  deny icmp type 8
  permit udp fragment                  (later fragments, which have no ports)
  mirror span tcp to any port 443  (copies to the destination of mirror span)
  police 10mbit burst 64k udp
  permit any
The first that permits or denies a frame decides; what none decides passes.
Those before it count, copy and police. A rule with ports, flags or a type
matches no later fragment. What can't be read as far as the rules look is
dropped.";

/// The same with examples, for the help of `acl` itself.
const ALL_EXAMPLES: &str = "\
Examples:
  vswitchctl acl show red
  vswitchctl acl add red in deny udp to any port 53

A rule is permit, deny, count, mirror NAME or police RATE [burst N], and what
it matches: arp, ipv4, ipv6, tcp, udp, icmp, icmp6, sctp, proto N, ethertype
0xN; from and to an IP address, a network or a MAC address, each with port N
or N-M behind it; vlan N; flags syn,!ack; type N; fragment. The first that
permits or denies a frame decides; what none decides passes. A rule before it
that counts, copies to a mirror (`mirror add span --to probe --rules-only`) or
polices does so; what is dropped uses nothing of a rate.

Only the first fragment of an IP packet has ports, flags and types: a rule
with any of these neither permits nor denies a later one. Rules without do,
and those with the word fragment match nothing else: `permit udp to any port
5000`, `permit udp fragment`, `deny udp`. Fragments made so that the TCP
header can't be seen (RFC 1858), and frames that can't be read as far as the
rules look, are dropped.";

/// `acl ...`
#[derive(Debug, Subcommand)]
#[command(after_long_help = ALL_EXAMPLES)]
pub enum AclCommand {
    /// List the ports that have lists, or one port, with the number of rules
    #[command(aliases = LIST, after_long_help = "\
Examples:
  vswitchctl acl list
  vswitchctl acl list red")]
    List(OfPorts),
    /// Show the lists of a port with the hits of each rule
    #[command(after_long_help = "\
Example:
  vswitchctl acl show red")]
    Show {
        /// The port
        port: PortName,
    },
    /// Replace the lists of a port at one instant; a direction that is not named stays
    #[command(after_help = RULES, after_long_help = SET_EXAMPLES)]
    Set(SetAcl),
    /// Put a rule into a list
    #[command(aliases = ADD, after_help = RULES, after_long_help = "\
Examples:
  vswitchctl acl add red in deny udp to any port 53
  vswitchctl acl add red out --at 1 deny from 10.0.0.9
  vswitchctl acl add red in permit arp -n   # say what would change")]
    Add {
        /// The port
        port: PortName,
        /// The list
        direction: Direction,
        /// Place of the rule, 1 is the first (default: the last)
        #[arg(long, value_name = "N", value_parser = parse::from_one::<usize>)]
        at: Option<usize>,
        /// The rule
        #[arg(required = true)]
        rule: Vec<String>,
        /// How to add it.
        #[command(flatten)]
        addition: Addition,
    },
    /// Take a rule out of a list
    #[command(aliases = DEL, after_long_help = "\
Example:
  vswitchctl acl del red in 1")]
    Del {
        /// The port
        port: PortName,
        /// The list
        direction: Direction,
        /// Place of the rule, 1 is the first
        #[arg(value_parser = parse::from_one::<usize>)]
        at: usize,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// Empty the lists of a port
    #[command(
        alias = "flush",
        after_long_help = "\
Examples:
  vswitchctl acl clear red
  vswitchctl acl clear red out"
    )]
    Clear {
        /// The port
        port: PortName,
        /// The list (default: both)
        direction: Option<Direction>,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
}

/// Examples of `acl set`.
pub const SET_EXAMPLES: &str = "\
Examples:
  # a rule a line, a # begins a comment
  vswitchctl acl set red --in-file rules.txt

Rules can be given one by one too:
--in 'deny tcp to any port 22' --in 'permit any'";

/// Arguments of `acl set`.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = ArgGroup::new("lists").required(true).multiple(true).args(["ingress", "egress", "in_file", "out_file"]))]
pub struct SetAcl {
    /// The port
    pub port: PortName,
    /// Rule for frames into the switch; may be given more than once
    #[arg(long = "in", value_name = "RULE", conflicts_with = "in_file")]
    pub ingress: Option<Vec<AclRule>>,
    /// Rule for frames out of the switch; may be given more than once
    #[arg(long = "out", value_name = "RULE", conflicts_with = "out_file")]
    pub egress: Option<Vec<AclRule>>,
    /// Rules for frames into the switch (-: standard input)
    #[arg(long, value_name = "FILE")]
    pub in_file: Option<PathBuf>,
    /// Rules for frames out of the switch (-: standard input)
    #[arg(long, value_name = "FILE")]
    pub out_file: Option<PathBuf>,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From the port into the switch
    In,
    /// Out of the switch to the port
    Out,
}
