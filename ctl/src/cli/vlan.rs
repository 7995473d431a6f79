//! VLANs, as the settings of ports make them.

use clap::{Args, Subcommand};
use vswitch_api::policy::VlanId;

use super::{LIST, OnlySwitch};

/// `vlan ...`
#[derive(Debug, Subcommand)]
pub enum VlanCommand {
    /// List the VLANs that ports are set to be in, with the ports and how many stations are known
    #[command(aliases = LIST, after_long_help = "\
Examples:
  vswitchctl vlan list
  vswitchctl vlan list --json | jq '.[] | {first, last, stations}'

A port without a VLAN setting takes frames of every VLAN with their tags. It
stands in no row; below the table the ports are named that are so. VLANs of a
trunk that goes on over many stand as one row where their ports are the same.")]
    List(OnlySwitch),
    /// Show the ports of a VLAN: with a tag or without, and how many stations are known
    #[command(after_long_help = "\
Example:
  vswitchctl vlan show 10")]
    Show(ShowVlan),
}

/// Arguments of `vlan show`.
#[derive(Args, Debug)]
pub struct ShowVlan {
    /// The VLAN
    #[arg(value_name = "VLAN")]
    pub vlan: VlanId,
    /// Of which switch.
    #[command(flatten)]
    pub only: OnlySwitch,
}
