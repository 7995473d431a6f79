//! Mirrors.

use clap::{ArgGroup, Args, Subcommand};
use vswitch_api::name::InvalidValue;
use vswitch_api::policy::{VlanId, VlanSet};
use vswitch_api::{MirrorName, PortName, SwitchName};

use super::capture::Way;
use super::parse::{Said, said};
use super::{ADD, Addition, DEL, LIST, Removal, Trial};

/// Ports apart by commas; none: all.
#[derive(Clone, Debug)]
pub struct Ports(pub Vec<PortName>);

fn ports(text: &str) -> Result<Ports, String> {
    match text {
        "all" | "none" | "default" => Ok(Ports(Vec::new())),
        list => {
            let ports = list.split(',').map(str::parse).collect::<Result<_, InvalidValue>>();
            ports.map(Ports).map_err(|error| error.to_string())
        }
    }
}

fn vlans(text: &str) -> Result<VlanSet, String> {
    text.parse().map_err(|error: InvalidValue| error.to_string())
}

/// `mirror ...`
#[derive(Debug, Subcommand)]
pub enum MirrorCommand {
    /// Copy the frames of some ports to another
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl mirror add m --from red,blue --to mon
  vswitchctl mirror add all --to mon  # all ports of switch main
  vswitchctl mirror add arps --from red --direction in --to mon --filter arp
  vswitchctl mirror add v --vlans 10,20-29 --to mon
  # then copies can go into that VLAN:
  vswitchctl set switch main --rspan-vlans 999
  vswitchctl mirror add far --from red --to-vlan 999
  # then: acl add red in mirror span tcp to any port 443
  vswitchctl mirror add span --to mon --rules-only

The destination carries copies only: it takes part in nothing else, and what
comes in from it is dropped and counted (mirror-port). A frame is copied once,
however many of the ports it passes, as it is when it comes in or goes out.
Out is what the switch has for a port: what rules (`acl add red out`), the
impairment, the MTU or the queue of the port drop then is copied all the same;
`capture --direction out` shows what went out. When a port is removed it
leaves its mirrors; a mirror without its destination or its last port goes
with it.")]
    Add {
        /// Name of the new mirror
        name: MirrorName,
        /// Ports whose frames are copied, apart by commas (default: all of the switch)
        #[arg(long, value_name = "PORTS", value_delimiter = ',')]
        from: Vec<PortName>,
        /// Only what rules of access lists copy to it (`acl add red in mirror NAME ...`)
        #[arg(long, conflicts_with_all = ["from", "direction"])]
        rules_only: bool,
        /// The port that the copies go to
        #[arg(
            long,
            value_name = "PORT",
            required_unless_present = "to_vlan",
            conflicts_with = "to_vlan"
        )]
        to: Option<PortName>,
        /// The VLAN that the copies go into, out of all ports that are set to be in it (RSPAN)
        #[arg(long, value_name = "VLAN")]
        to_vlan: Option<VlanId>,
        /// Only frames of these VLANs
        #[arg(long, value_name = "VLANS")]
        vlans: Option<VlanSet>,
        /// Which of their frames, as the ports see them (default: both)
        #[arg(long, value_enum, value_name = "WAY")]
        direction: Option<Way>,
        /// Only frames that this filter in the syntax of tcpdump wants, see pcap-filter(7)
        #[arg(long, value_name = "EXPRESSION")]
        filter: Option<String>,
        /// Switch of the ports (default: main)
        #[arg(long, value_name = "NAME")]
        switch: Option<SwitchName>,
        /// How to add it.
        #[command(flatten)]
        addition: Addition,
    },
    /// Change settings of a mirror
    #[command(after_long_help = SET_EXAMPLES)]
    Set(Box<MirrorSet>),
    /// Remove a mirror
    #[command(aliases = DEL, after_long_help = "\
Example:
  vswitchctl mirror del m")]
    Del {
        /// The mirror
        name: MirrorName,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// List mirrors with what they copied
    #[command(aliases = LIST, after_long_help = "\
Example:
  vswitchctl mirror list")]
    List,
    /// Show a mirror
    #[command(after_long_help = "\
Example:
  vswitchctl mirror show m")]
    Show {
        /// The mirror
        name: MirrorName,
    },
}

/// Examples of `mirror set`.
pub const SET_EXAMPLES: &str = "\
Examples:
  vswitchctl mirror set m --from red,blue --direction in
  vswitchctl mirror set m --from all --filter none
  vswitchctl mirror set m --to mon2";

/// Arguments of `mirror set`.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = ArgGroup::new("settings").required(true).multiple(true)
            .args(["from", "rules_only", "to", "to_vlan", "vlans", "direction", "filter"]))]
pub struct MirrorSet {
    /// The mirror
    pub name: MirrorName,
    /// Ports whose frames are copied, apart by commas, or all
    #[arg(long, value_name = "PORTS", value_parser = ports)]
    pub from: Option<Ports>,
    /// Only what rules of access lists copy to it
    #[arg(long, conflicts_with_all = ["from", "direction"])]
    pub rules_only: bool,
    /// The port that the copies go to
    #[arg(long, value_name = "PORT", conflicts_with = "to_vlan")]
    pub to: Option<PortName>,
    /// The VLAN that the copies go into
    #[arg(long, value_name = "VLAN")]
    pub to_vlan: Option<VlanId>,
    /// Only frames of these VLANs, or none for those of all
    #[arg(long, value_name = "VLANS", value_parser = |text: &str| said(text, vlans))]
    pub vlans: Option<Said<VlanSet>>,
    /// Which of their frames, as the ports see them
    #[arg(long, value_enum, value_name = "WAY")]
    pub direction: Option<Way>,
    /// Only frames that this filter wants, or none for all
    #[arg(long, value_name = "EXPRESSION")]
    pub filter: Option<String>,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}
