//! Links between two switches.

use std::fmt;

use clap::{ArgGroup, Args, Subcommand};
use vswitch_api::policy::{VlanId, VlanSet};
use vswitch_api::settings::{Assignment, assignment};
use vswitch_api::traffic::Impairment;
use vswitch_api::{Port, PortName, SwitchName};

use super::parse::{self, Said, said};
use super::policy::{self, PolicyArgs};
use super::{ADD, Addition, DEL, LIST, Removal, Trial};

/// `link ...`
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// Join two switches
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl link add main sw2
  vswitchctl link add main sw2 --trunk 10,20
  vswitchctl link add main sw2 --name-a up --name-b down
  vswitchctl link add main far --impair delay=20ms,loss=1%

A link has a port on each switch. They have counters and settings as any other
port has: `set port`, `impair`, `capture`, `mirror add` take their names.")]
    Add(Box<LinkAdd>),
    /// Remove a link, with both its ports
    #[command(
        aliases = DEL,
        after_long_help = "\
Examples:
  vswitchctl link del main-sw2          # by a port at one of its ends
  vswitchctl link del main sw2          # by the switches that it joins"
    )]
    Del {
        /// Which link.
        #[command(flatten)]
        which: WhichLink,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// Change settings of both ports of a link
    #[command(override_usage = "vswitchctl link set [OPTIONS] <PORT> <KEY=VALUE|--SETTING VALUE>...", after_long_help = SET_EXAMPLES)]
    Set(Box<LinkSet>),
    /// List links
    #[command(
        aliases = LIST,
        after_long_help = "\
Example:
  vswitchctl link list"
    )]
    List,
    /// Show the ports at both ends of a link
    #[command(after_long_help = "\
Examples:
  vswitchctl link show main-sw2
  vswitchctl link show main sw2")]
    Show(WhichLink),
}

/// A link that is there.
#[derive(Args, Debug)]
pub struct WhichLink {
    /// The port at one of its ends, or one of the switches that it joins
    #[arg(value_name = "PORT|SWITCH")]
    pub end: PortName,
    /// The other switch
    #[arg(value_name = "SWITCH")]
    pub switch: Option<SwitchName>,
}

impl fmt::Display for WhichLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {:?}", self.end.as_str())?;
        match &self.switch {
            Some(switch) => write!(f, " - {:?}", switch.as_str()),
            None => Ok(()),
        }
    }
}

/// Examples of `link set`.
pub const SET_EXAMPLES: &str = "\
Examples:
  vswitchctl link set main-sw2 --trunk 10,20
  vswitchctl link set main-sw2 --trunk +30
  vswitchctl link set main-sw2 --impair delay=20ms,loss=1%
  vswitchctl link set main-sw2 --impair none --mtu 9000
  vswitchctl link set main-sw2 mtu=default description='second floor'

Keys are those of `set port`, which changes one end alone.";

/// Arguments of `link set`.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = ArgGroup::new("settings").required(true).multiple(true).args(["keys", "impair", "mtu", "up", "down"]).args(policy::names()))]
pub struct LinkSet {
    /// The port at one of its ends
    pub port: PortName,
    /// Settings by their keys, such as mtu=9000; without a value one is taken away
    #[arg(value_name = "KEY=VALUE", value_parser = assignment::<Port>)]
    pub keys: Vec<Assignment>,
    /// What happens to frames in each direction, such as delay=20ms,loss=1%, or none
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = |text: &str| said(text, parse::impairment))]
    pub impair: Option<Said<Impairment>>,
    /// MTU of both ends, in bytes, or default
    #[arg(long, value_name = "BYTES", value_parser = |text: &str| said(text, parse::mtu))]
    pub mtu: Option<Said<u32>>,
    /// Let frames pass
    #[arg(long, conflicts_with = "down")]
    pub up: bool,
    /// Let no frame pass
    #[arg(long)]
    pub down: bool,
    /// What its ports let in and out.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}

/// Arguments of `link add`.
#[derive(Args, Debug)]
pub struct LinkAdd {
    /// One switch
    pub a: SwitchName,
    /// The other switch
    pub b: SwitchName,
    /// Name of the port on A (default: A-B)
    #[arg(long, value_name = "PORT")]
    pub name_a: Option<PortName>,
    /// Name of the port on B (default: B-A)
    #[arg(long, value_name = "PORT")]
    pub name_b: Option<PortName>,
    /// VLANs that pass with their tags, such as 10,20-29
    #[arg(long, value_name = "VLANS", conflicts_with = "vlan")]
    pub trunk: Option<VlanSet>,
    /// VLAN of untagged frames on a trunk (default: none, they are dropped)
    #[arg(long, value_name = "VLAN", requires = "trunk", conflicts_with = "vlan")]
    pub native: Option<VlanId>,
    /// The one VLAN that passes, without tags
    #[arg(long, value_name = "VLAN")]
    pub vlan: Option<VlanId>,
    /// What happens to frames in each direction, such as delay=20ms,loss=1%
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub impair: Option<Impairment>,
    /// MTU of both ends, in bytes (default: 1500)
    #[arg(long, value_name = "BYTES", value_parser = parse::mtu)]
    pub mtu: Option<u32>,
    /// What to say of it
    #[arg(long, value_name = "TEXT")]
    pub description: Option<vswitch_api::lab::Description>,
    /// How to add it.
    #[command(flatten)]
    pub addition: Addition,
}
