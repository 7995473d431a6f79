//! The everyday verbs of ovs-vsctl and ovs-appctl.

use std::str::FromStr;

use clap::{Args, Subcommand};
use vswitch_api::policy::VlanId;
use vswitch_api::{Mac, PortName, SwitchName};

use super::parse;

/// Examples of `ovs`.
pub const EXAMPLES: &str = "\
Examples:
  vswitchctl ovs add-br br0
  vswitchctl ovs add-port br0 i0 tag=10 -- set interface i0 type=internal
  vswitchctl ovs set port i0 vlan_mode=native-untagged tag=5 trunks=20,30
  vswitchctl ovs show
  vswitchctl ovs appctl fdb/show br0

For hands that know Open vSwitch: a bridge is a switch, and what vswitch has
no word for is refused with the command that does it here. As with ovs-vsctl
an interface that is added has to be there, commands that -- joins are done
all or none, nothing is printed where all is well, and the exit code is 1 if
something is wrong (br-exists: 2 if there is no such bridge; appctl: 2).";

/// Arguments of `ovs`.
#[derive(Args, Debug)]
pub struct OvsArgs {
    /// Options that ovs-vsctl takes before the verb.
    #[command(flatten)]
    pub before: Before,
    /// What to do.
    #[command(subcommand)]
    pub command: OvsCommand,
}

/// What ovs-vsctl takes before the verb; here it stands behind it too.
#[derive(Args, Debug)]
pub struct Before {
    /// As `ovs add-br --may-exist`
    #[arg(long, hide = true)]
    pub may_exist: bool,
    /// As `ovs del-br --if-exists`
    #[arg(long, hide = true)]
    pub if_exists: bool,
    /// vswitchctl always waits until it is done, and ovs-vsctl without this too
    #[arg(long, hide = true)]
    pub no_wait: bool,
}

/// Options of what adds something.
#[derive(Args, Clone, Debug)]
pub struct Adding {
    /// No error if it is there already
    #[arg(long)]
    pub may_exist: bool,
    /// What else is to be done.
    #[command(flatten)]
    pub then: Then,
}

/// Options of what removes something.
#[derive(Args, Clone, Debug)]
pub struct Removing {
    /// No error if it is not there
    #[arg(long)]
    pub if_exists: bool,
    /// What else is to be done.
    #[command(flatten)]
    pub then: Then,
}

/// How it is done, and what is done with it.
#[derive(Args, Clone, Debug)]
pub struct Then {
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// The next command
    #[arg(last = true, value_name = "COMMAND")]
    pub next: Vec<String>,
}

/// What is done next, where nothing is changed.
#[derive(Args, Clone, Debug)]
pub struct Next {
    /// The next command
    #[arg(last = true, value_name = "COMMAND")]
    pub next: Vec<String>,
}

/// `ovs ...`
#[derive(Debug, Subcommand)]
pub enum OvsCommand {
    /// Add a switch, with a leg of the host of the same name
    #[command(after_long_help = "\
Examples:
  vswitchctl ovs add-br br0
  vswitchctl ovs --may-exist add-br br0")]
    AddBr {
        /// Name of the new switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// How to add it.
        #[command(flatten)]
        how: Adding,
    },
    /// Remove a switch with all its ports
    #[command(after_long_help = "\
Examples:
  vswitchctl ovs del-br br0
  vswitchctl ovs --if-exists del-br br0")]
    DelBr {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// How to remove it.
        #[command(flatten)]
        how: Removing,
    },
    /// List switches
    #[command(after_long_help = "\
Example:
  vswitchctl ovs list-br")]
    ListBr {
        /// What else is to be done.
        #[command(flatten)]
        next: Next,
    },
    /// Whether there is a switch, as the exit code: 0 or 2
    #[command(after_long_help = "\
Example:
  vswitchctl ovs br-exists br0")]
    BrExists {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
    },
    /// Take an interface of the host as a port
    #[command(after_long_help = "\
Examples:
  vswitchctl ovs add-port br0 eth1
  vswitchctl ovs --may-exist add-port br0 eth1 tag=10
  vswitchctl ovs add-port br0 i1 -- set interface i1 type=internal

`vswitchctl add-port red` makes an interface, and a namespace for it.")]
    AddPort {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// The interface, which names the port
        port: PortName,
        /// Columns of the port: tag, trunks, vlan_mode
        #[arg(value_name = "COLUMN=VALUE")]
        columns: Vec<ColumnValue>,
        /// Take the interface over though the host has addresses or routes on it
        #[arg(long)]
        force: bool,
        /// How to add it.
        #[command(flatten)]
        how: Adding,
    },
    /// Remove a port
    #[command(after_long_help = "\
Examples:
  vswitchctl ovs del-port eth1
  vswitchctl ovs --if-exists del-port br0 eth1")]
    DelPort {
        /// The port, or its switch and the port
        #[arg(required = true, num_args = 1..=2, value_names = ["BRIDGE", "PORT"])]
        names: Vec<PortName>,
        /// How to remove it.
        #[command(flatten)]
        how: Removing,
    },
    /// List the ports of a switch, one a line
    #[command(
        visible_alias = "list-ifaces",
        after_long_help = "\
Example:
  vswitchctl ovs list-ports br0"
    )]
    ListPorts {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// What else is to be done.
        #[command(flatten)]
        next: Next,
    },
    /// Print the switch that a port is on
    #[command(
        visible_alias = "iface-to-br",
        after_long_help = "\
Example:
  vswitchctl ovs port-to-br eth1"
    )]
    PortToBr {
        /// The port
        port: PortName,
        /// What else is to be done.
        #[command(flatten)]
        next: Next,
    },
    /// Set columns of a port, an interface or a bridge
    #[command(after_long_help = "\
Examples:
  vswitchctl ovs set port eth1 tag=10
  vswitchctl ovs set port eth1 trunks=20,30 vlan_mode=native-untagged tag=5
  vswitchctl ovs set interface eth1 mtu_request=9000
  vswitchctl ovs set bridge br0 other_config:mac-aging-time=60

Columns of a port: tag, trunks, vlan_mode. Of an interface: type, mac,
mtu_request, ingress_policing_rate, ingress_policing_burst. Of a bridge:
other_config:mac-aging-time, other_config:forward-bpdu, and what is so anyway:
datapath_type=netdev, fail_mode=standalone, stp_enable=false.
All other settings are those of `vswitchctl set port` and `set switch`.")]
    Set {
        /// port, interface or bridge
        #[arg(value_enum, ignore_case = true)]
        table: Table,
        /// The port or the switch
        #[arg(value_name = "NAME")]
        record: PortName,
        /// What its columns are to be
        #[arg(required = true, value_name = "COLUMN=VALUE")]
        columns: Vec<ColumnValue>,
        /// What else is to be done.
        #[command(flatten)]
        then: Then,
    },
    /// Print columns of a port, an interface or a bridge
    #[command(after_long_help = "\
Example:
  vswitchctl ovs get port eth1 tag")]
    Get {
        /// port, interface or bridge
        #[arg(value_enum, ignore_case = true)]
        table: Table,
        /// The port or the switch
        #[arg(value_name = "NAME")]
        record: PortName,
        /// Its columns
        #[arg(required = true, value_name = "COLUMN")]
        columns: Vec<Column>,
        /// What else is to be done.
        #[command(flatten)]
        next: Next,
    },
    /// Empty columns of a port, an interface or a bridge
    #[command(after_long_help = "\
Example:
  vswitchctl ovs clear port eth1 tag trunks vlan_mode")]
    Clear {
        /// port, interface or bridge
        #[arg(value_enum, ignore_case = true)]
        table: Table,
        /// The port or the switch
        #[arg(value_name = "NAME")]
        record: PortName,
        /// Its columns
        #[arg(required = true, value_name = "COLUMN")]
        columns: Vec<Column>,
        /// What else is to be done.
        #[command(flatten)]
        then: Then,
    },
    /// Put values into a column of a port
    #[command(after_long_help = "\
Example:
  vswitchctl ovs add port eth1 trunks 20")]
    Add {
        /// port, interface or bridge
        #[arg(value_enum, ignore_case = true)]
        table: Table,
        /// The port
        #[arg(value_name = "NAME")]
        record: PortName,
        /// Its column
        column: Column,
        /// What comes into it
        #[arg(required = true, value_name = "VLAN")]
        values: Vec<VlanId>,
        /// What else is to be done.
        #[command(flatten)]
        then: Then,
    },
    /// Take values out of a column of a port
    #[command(after_long_help = "\
Example:
  vswitchctl ovs remove port eth1 trunks 20")]
    Remove {
        /// port, interface or bridge
        #[arg(value_enum, ignore_case = true)]
        table: Table,
        /// The port
        #[arg(value_name = "NAME")]
        record: PortName,
        /// Its column
        column: Column,
        /// What goes out of it
        #[arg(required = true, value_name = "VLAN")]
        values: Vec<VlanId>,
        /// What else is to be done.
        #[command(flatten)]
        then: Then,
    },
    /// Show switches and their ports
    #[command(after_long_help = "\
Example:
  vswitchctl ovs show")]
    Show {
        /// What else is to be done.
        #[command(flatten)]
        next: Next,
    },
    /// Commands of ovs-appctl
    #[command(
        subcommand,
        after_long_help = "\
Example:
  vswitchctl ovs appctl fdb/show br0"
    )]
    Appctl(AppctlCommand),
    /// What ovs-vsctl has and this has not.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// `ovs appctl ...`
#[derive(Debug, Subcommand)]
pub enum AppctlCommand {
    /// Show the forwarding database of a switch
    #[command(
        name = "fdb/show",
        after_long_help = "\
Example:
  vswitchctl ovs appctl fdb/show br0

Ports have no numbers here, so they are shown by their names; LOCAL is the
host's leg of the name of the switch."
    )]
    FdbShow {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
    },
    /// Forget what was learned; static entries stay
    #[command(
        name = "fdb/flush",
        after_long_help = "\
Example:
  vswitchctl ovs appctl fdb/flush br0"
    )]
    FdbFlush {
        /// The switch (default: all)
        #[arg(value_name = "BRIDGE")]
        bridge: Option<SwitchName>,
        /// Say what would be done, do nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Add a static entry
    #[command(
        name = "fdb/add",
        after_long_help = "\
Example:
  vswitchctl ovs appctl fdb/add br0 eth1 0 02:00:00:00:00:01"
    )]
    FdbAdd {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// The port
        port: PortName,
        /// The VLAN, 0 for none
        #[arg(value_parser = parse::tag_id)]
        vlan: u16,
        /// The station
        #[arg(value_parser = parse::unicast_mac)]
        mac: Mac,
        /// Say what would be done, do nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// Remove an entry
    #[command(
        name = "fdb/del",
        after_long_help = "\
Example:
  vswitchctl ovs appctl fdb/del br0 0 02:00:00:00:00:01"
    )]
    FdbDel {
        /// The switch
        #[arg(value_name = "BRIDGE")]
        bridge: SwitchName,
        /// The VLAN, 0 for none
        #[arg(value_parser = parse::tag_id)]
        vlan: u16,
        /// The station
        #[arg(value_parser = parse::unicast_mac)]
        mac: Mac,
        /// Say what would be done, do nothing
        #[arg(short = 'n', long)]
        dry_run: bool,
    },
    /// What ovs-appctl has and this has not.
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// Tables of Open vSwitch's database that something here stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Table {
    /// Ports and their VLANs
    Port,
    /// Interfaces of ports
    #[value(alias = "iface")]
    Interface,
    /// Switches
    #[value(alias = "br")]
    Bridge,
}

impl Table {
    /// Its name in Open vSwitch.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Port => "Port",
            Self::Interface => "Interface",
            Self::Bridge => "Bridge",
        }
    }
}

/// A column, or a key in one: `tag`, `other_config:mac-aging-time`. Hyphens and underscores of its name are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column(pub String);

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, key) = text.split_once(':').unwrap_or((text, ""));
        let is_word =
            |word: &str| word.starts_with(|c: char| c.is_ascii_alphabetic()) && !word.contains(char::is_whitespace);
        if !is_word(name) || (!key.is_empty() && !is_word(key)) {
            return Err(format!(
                "{text:?} is no column such as tag or other_config:mac-aging-time"
            ));
        }
        let name = name.to_lowercase().replace('-', "_");
        Ok(Self(match key {
            "" => name,
            key => format!("{name}:{key}"),
        }))
    }
}

/// A column with a value: `tag=10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnValue {
    /// The column.
    pub column: Column,
    /// What it is to be.
    pub value: String,
}

impl FromStr for ColumnValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is no column with a value, such as tag=10"))?;
        // ovs-vsctl takes `other_config={mac-aging-time=60}` for `other_config:mac-aging-time=60`, and quotes around a value.
        if let Some((key, inner)) = value
            .strip_prefix('{')
            .and_then(|map| map.strip_suffix('}'))
            .and_then(|map| map.split_once('='))
        {
            return Self::from_str(&format!("{column}:{key}={inner}"));
        }
        Ok(Self {
            column: column.parse()?,
            value: value.trim_matches('"').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
