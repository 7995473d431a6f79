//! The everyday verbs of bridge(8) and brctl(8).

use std::convert::Infallible;
use std::str::FromStr;

use clap::{Args, Subcommand};
use vswitch_api::{PortName, SwitchName};

use super::parse::{self, Switched};
use super::{LIST, Trial};

/// Examples of `bridge`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl bridge addbr br0
  vswitchctl bridge addif br0 eth1
  vswitchctl bridge vlan add dev eth1 vid 10 pvid untagged
  vswitchctl bridge fdb show br br0

For hands that know bridge(8) and brctl(8), whose verbs are side by side here:
a bridge is a switch, and what vswitch has no word for is refused with the
command that does it here. The exit code is theirs where something is wrong:
255 of link, fdb and vlan, 1 of addbr and the others.";

/// `bridge ...`
#[derive(Debug, Subcommand)]
pub enum BridgeCommand {
    /// Ports of all switches, or settings of one
    #[command(after_long_help = "\
Examples:
  vswitchctl bridge link
  vswitchctl bridge link show dev eth1
  vswitchctl bridge link set dev eth1 isolated on learning off")]
    Link(LinkArgs),
    /// The forwarding database
    #[command(after_long_help = "\
Examples:
  vswitchctl bridge fdb
  vswitchctl bridge fdb show brport eth1
  vswitchctl bridge fdb add 02:00:00:00:00:01 dev eth1 master static")]
    Fdb(FdbArgs),
    /// VLANs of ports
    #[command(after_long_help = "\
Examples:
  vswitchctl bridge vlan
  vswitchctl bridge vlan add dev eth1 vid 10 pvid untagged")]
    Vlan(VlanArgs),
    /// Add a switch, with a leg of the host of the same name
    #[command(after_long_help = "\
Example:
  vswitchctl bridge addbr br0")]
    Addbr {
        /// Name of the new switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// Remove a switch with all its ports
    #[command(after_long_help = "\
Example:
  vswitchctl bridge delbr br0")]
    Delbr {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// Take interfaces of the host as ports
    #[command(after_long_help = "\
Example:
  vswitchctl bridge addif br0 eth1 eth2

`vswitchctl add-port red` makes an interface, and a namespace for it.")]
    Addif {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// The interfaces, which name the ports
        #[arg(required = true, value_name = "DEVICE")]
        ports: Vec<PortName>,
        /// Take an interface over though the host has addresses or routes on it
        #[arg(long)]
        force: bool,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// Remove ports of a switch
    #[command(after_long_help = "\
Example:
  vswitchctl bridge delif br0 eth1 eth2")]
    Delif {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// The ports
        #[arg(required = true, value_name = "DEVICE")]
        ports: Vec<PortName>,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// Show switches with their ports
    #[command(after_long_help = "\
Examples:
  vswitchctl bridge show
  vswitchctl bridge show br0")]
    Show {
        /// Only these
        #[arg(value_name = "BRIDGE")]
        bridges: Vec<SwitchName>,
    },
    /// Show the stations of a switch
    #[command(after_long_help = "\
Example:
  vswitchctl bridge showmacs br0")]
    Showmacs {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
    },
    /// Set the time after which a station is forgotten
    #[command(after_long_help = "\
Example:
  vswitchctl bridge setageing br0 60")]
    Setageing {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// Seconds, 0 = never
        #[arg(value_name = "SECONDS", value_parser = parse::ageing)]
        seconds: u32,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// Let frames go back out of the port that they came in at, or not
    #[command(after_long_help = "\
Example:
  vswitchctl bridge hairpin br0 eth1 on")]
    Hairpin {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// The port
        #[arg(value_name = "DEVICE")]
        port: PortName,
        /// on or off
        #[arg(value_enum, value_name = "ON|OFF")]
        switched: Switched,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// What bridge and brctl have and this has not.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Arguments of `bridge link`.
#[derive(Args, Debug)]
pub struct LinkArgs {
    /// What to do; to show if nothing is said.
    #[command(subcommand)]
    pub command: Option<LinkVerb>,
}

/// `bridge link ...`
#[derive(Debug, Subcommand)]
pub enum LinkVerb {
    /// Show ports: `dev PORT` for one, `master SWITCH` for those of one
    #[command(aliases = LIST, after_long_help = "\
Examples:
  vswitchctl bridge link show
  vswitchctl bridge link show dev eth1")]
    Show(Words),
    /// Change settings: learning, flood, mcast_flood, bcast_flood, hairpin, isolated, locked, each on or off
    #[command(after_long_help = "\
Example:
  vswitchctl bridge link set dev eth1 flood off bcast_flood off")]
    Set(ChangeWords),
    /// What bridge has and this has not.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Arguments of `bridge fdb`.
#[derive(Args, Debug)]
pub struct FdbArgs {
    /// What to do; to show if nothing is said.
    #[command(subcommand)]
    pub command: Option<FdbVerb>,
}

/// `bridge fdb ...`
#[derive(Debug, Subcommand)]
pub enum FdbVerb {
    /// Show entries: `br SWITCH`, `brport PORT`, `vlan N` for some
    #[command(aliases = LIST, after_long_help = "\
Examples:
  vswitchctl bridge fdb show
  vswitchctl bridge fdb show br br0 vlan 10")]
    Show(Words),
    /// Add a static entry: MAC dev PORT, and `vlan N`
    #[command(after_long_help = "\
Example:
  vswitchctl bridge fdb add 02:00:00:00:00:01 dev eth1 master static vlan 10")]
    Add(ChangeWords),
    /// The same, in the place of an entry that is there
    #[command(after_long_help = "\
Example:
  vswitchctl bridge fdb replace 02:00:00:00:00:01 dev eth1 master static")]
    Replace(ChangeWords),
    /// Remove an entry: MAC dev PORT, and `vlan N`
    #[command(
        visible_alias = "delete",
        after_long_help = "\
Example:
  vswitchctl bridge fdb del 02:00:00:00:00:01 dev eth1 master"
    )]
    Del(ChangeWords),
    /// What bridge has and this has not.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Arguments of `bridge vlan`.
#[derive(Args, Debug)]
pub struct VlanArgs {
    /// What to do; to show if nothing is said.
    #[command(subcommand)]
    pub command: Option<VlanVerb>,
}

/// `bridge vlan ...`
#[derive(Debug, Subcommand)]
pub enum VlanVerb {
    /// Show the VLANs of ports: `dev PORT` for one
    #[command(aliases = LIST, after_long_help = "\
Examples:
  vswitchctl bridge vlan show
  vswitchctl bridge vlan show dev eth1

A port without a VLAN setting is in all of them, with tags. VLANs in a row are
shown as one line, as with `bridge -compressvlans`.")]
    Show(Words),
    /// Put a port into VLANs: dev PORT vid N, and `pvid`, `untagged`
    #[command(after_long_help = "\
Examples:
  vswitchctl bridge vlan add dev eth1 vid 10 pvid untagged
  vswitchctl bridge vlan add dev eth1 vid 20-29

The first VLAN takes a port that was in all of them out of all others. A port
has one VLAN without tags: a new one takes the old one's place.")]
    Add(ChangeWords),
    /// Take a port out of VLANs: dev PORT vid N
    #[command(
        visible_alias = "delete",
        after_long_help = "\
Example:
  vswitchctl bridge vlan del dev eth1 vid 20-29

A port is never left in no VLAN: before it leaves the last, put it into
another, or `vswitchctl set port eth1 --vlan all`."
    )]
    Del(ChangeWords),
    /// What bridge has and this has not.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Keywords with their values, in the order of bridge(8).
#[derive(Args, Clone, Debug, Default)]
pub struct Words {
    /// Keywords with their values, as bridge(8) has them
    #[arg(value_name = "WORD")]
    pub words: Vec<Word>,
}

/// The same for something that changes.
#[derive(Args, Clone, Debug)]
pub struct ChangeWords {
    /// Keywords with their values, as bridge(8) has them
    #[arg(required = true, value_name = "WORD")]
    pub words: Vec<Word>,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}

/// One word; a type of its own, so that the names of ports are offered for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub String);

impl FromStr for Word {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}
