//! Namespaces, what is configured inside them, and cables between them.

use std::ffi::OsString;
use std::net::IpAddr;
use std::str::FromStr;

use clap::{Args, Subcommand};
use vswitch_api::cable::CableSettings;
use vswitch_api::lab_namespace::{EtcPath, SysctlKey, SysctlValue};
use vswitch_api::name::InvalidValue;
use vswitch_api::settings::{Assignment, assignment, is_back};
use vswitch_api::view::Entrance;
use vswitch_api::{IfAddr, IfName, NsName, PortName};

use super::parse::{self, Destination, RouteArg};
use super::switch::with_keys;
use super::{ADD, Addition, DEL, LIST, OnlySwitch, Removal, Trial};

/// `ns ...`
#[derive(Debug, Subcommand)]
pub enum NsCommand {
    /// Make a namespace that stays until `ns del`, with or without ports
    #[command(aliases = ADD, after_long_help = "\
Example:
  vswitchctl ns add red")]
    Add {
        /// Name of the new namespace
        #[arg(value_parser = parse::new_namespace)]
        name: NsName,
        /// How to add it.
        #[command(flatten)]
        addition: Addition,
    },
    /// Remove a namespace that vswitch made
    #[command(aliases = DEL, after_long_help = "\
Example:
  vswitchctl ns del red

A namespace that vswitch did not make is never removed.")]
    Del {
        /// The namespace
        name: NsName,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// Change settings of the kernel in a namespace, and its files in /etc
    #[command(after_long_help = SET_EXAMPLES)]
    Set(NsSet),
    /// List namespaces, whoever made them
    #[command(aliases = LIST, after_long_help = "\
Example:
  vswitchctl ns list")]
    List,
    /// Show links, addresses, routes and neighbours inside a namespace
    #[command(after_long_help = "\
Example:
  vswitchctl ns show red")]
    Show {
        /// The namespace
        name: NsName,
    },
    /// Run a command inside a namespace
    #[command(after_long_help = "\
Examples:
  vswitchctl ns exec red ping -c2 192.168.15.2
  vswitchctl ns exec red -- bash

It works as `ip netns exec` does, also while the daemon is not running: /sys
shows the namespace, files of /etc/netns/NAME take the place of those in /etc.
The exit code is that of the command (126: it can't be run, 127: it is not
found).")]
    Exec {
        /// Its file, as it was found (`INODE,FILE`): for ourselves.
        #[arg(long, hide = true, value_parser = parse::entrance)]
        entrance: Option<Entrance>,
        /// The namespace, or a port in one of a process or container
        name: NsName,
        /// The command and its arguments
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        command: Vec<OsString>,
    },
}

/// Examples of `ns set`.
pub const SET_EXAMPLES: &str = "\
Examples:
  vswitchctl ns set red net.ipv4.ip_forward=1
  vswitchctl ns set red net.ipv4.ip_forward=none   # back to what it was
  vswitchctl ns set red files.hosts='10.0.0.2 blue'

Keys are settings of the kernel below net, as `sysctl` has them, and
files.NAME for a file under /etc/netns, which commands in the namespace see
in /etc. A namespace with settings stays until `ns del`, as after `ns add`.";

/// Arguments of `ns set`.
#[derive(Args, Debug)]
pub struct NsSet {
    /// The namespace
    pub name: NsName,
    /// Settings by their keys; without a value, or with none, one is taken back
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub keys: Vec<NsAssignment>,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}

/// A setting of a namespace with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NsAssignment {
    /// The member of the namespace's document: `sysctls` or `files`.
    pub member: &'static str,
    /// The key in it.
    pub key: String,
    /// What it becomes; none: it is taken back.
    pub value: Option<String>,
}

impl FromStr for NsAssignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let told = |error: InvalidValue| error.to_string();
        let Some((key, value)) = text.split_once('=') else {
            return Err(format!("{text:?} has no value; write it as net.ipv4.ip_forward=1"));
        };
        let value = Some(value).filter(|value| !value.is_empty() && !is_back(value));
        let (member, key) = match (key.strip_prefix("files."), key.strip_prefix("sysctls.").unwrap_or(key)) {
            (Some(file), _) => ("files", file.parse::<EtcPath>().map_err(told)?.to_string()),
            (None, key) if key.starts_with("net.") => {
                value.map_or(Ok(()), |value| value.parse::<SysctlValue>().map(drop).map_err(told))?;
                ("sysctls", key.parse::<SysctlKey>().map_err(told)?.to_string())
            }
            (None, key) => {
                return Err(format!(
                    "there is no key {key:?}; a setting of the kernel begins with net, such as net.ipv4.ip_forward, a file with files, such as \
                     files.hosts"
                ));
            }
        };
        Ok(Self {
            member,
            key,
            value: value.map(str::to_owned),
        })
    }
}

/// Of which ports something is listed.
#[derive(Args, Debug)]
pub struct OfPorts {
    /// Only of this port (default: all)
    pub port: Option<PortName>,
    /// Of which switch.
    #[command(flatten)]
    pub only: OnlySwitch,
}

/// `addr ...`
#[derive(Debug, Subcommand)]
pub enum AddrCommand {
    /// Give an address to the interface of a port, and announce it
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl addr add red 192.168.15.1/24
  vswitchctl addr add red fd00:15::1/64")]
    Add {
        /// The port
        port: PortName,
        /// The address with its prefix length
        #[arg(value_name = "ADDR/LEN")]
        address: IfAddr,
        /// Also if it is of a network that the host has by itself
        #[arg(long)]
        force: bool,
        /// How to add it.
        #[command(flatten)]
        addition: Addition,
    },
    /// Take an address away
    #[command(aliases = DEL, after_long_help = "\
Example:
  vswitchctl addr del red 192.168.15.1/24")]
    Del {
        /// The port
        port: PortName,
        /// The address with its prefix length
        #[arg(value_name = "ADDR/LEN")]
        address: IfAddr,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// Take all addresses of a port away
    #[command(
        alias = "clear",
        after_long_help = "\
Example:
  vswitchctl addr flush red"
    )]
    Flush {
        /// The port
        port: PortName,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
    /// List the addresses of all ports, or of one
    #[command(alias = "show", aliases = LIST, after_long_help = "\
Examples:
  vswitchctl addr list
  vswitchctl addr list red
  vswitchctl addr list --switch lab")]
    List(OfPorts),
}

/// `route ...`
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Add a route through the interface of a port
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl route add red default --via 192.168.15.254
  vswitchctl route add red 10.0.0.0/8 --via 192.168.15.254
  # ::/0, as the next hop is IPv6
  vswitchctl route add red default --via fd00:15::fe
  vswitchctl route add red default --via 169.254.1.1 --onlink")]
    Add {
        /// The port
        port: PortName,
        /// Destination: a network, a host, or `default`
        to: Destination,
        /// Next hop (default: the destination is on the link)
        #[arg(long, value_name = "IP", value_parser = parse::next_hop)]
        via: Option<IpAddr>,
        /// The next hop is on the link though no address of the interface tells so
        #[arg(long, requires = "via")]
        onlink: bool,
        /// Of the host's own leg: also if it takes the place of the host's default route
        #[arg(long)]
        force: bool,
        /// How to add it.
        #[command(flatten)]
        addition: Addition,
    },
    /// Remove a route
    #[command(aliases = DEL, after_long_help = "\
Examples:
  vswitchctl route del red 10.0.0.0/8
  vswitchctl route del red default      # that of IPv4; the other is ::/0")]
    Del {
        /// The port
        port: PortName,
        /// Destination: a network, a host, or `default`
        to: Destination,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// List the routes that vswitch set, of all ports or of one
    #[command(alias = "show", aliases = LIST, after_long_help = "\
Examples:
  vswitchctl route list
  vswitchctl route list red
  vswitchctl ns show red                # all routes there, the kernel's too")]
    List(OfPorts),
}

/// Examples of `cable`.
pub const CABLE_EXAMPLES: &str = "\
Examples:
  vswitchctl cable red blue --addr-a 10.1.0.1/30 --addr-b 10.1.0.2/30
  vswitchctl cable list
  vswitchctl cable del red blue

`cable A B` is short for `cable add A B`. Namespaces that are not there are
made.";

/// Arguments of `cable`.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CableArgs {
    /// What to do, if said by a word.
    #[command(subcommand)]
    pub command: Option<CableCommand>,
    /// The short form of `add`.
    #[command(flatten)]
    pub add: Option<CableAdd>,
}

/// `cable ...`
#[derive(Debug, Subcommand)]
pub enum CableCommand {
    /// Join two namespaces by a veth pair
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl cable add red blue
  vswitchctl cable add red blue --addr-a 10.1.0.1/30 --addr-b 10.1.0.2/30
  vswitchctl cable add red blue --name-a wan0 --name-b wan0
  vswitchctl cable add a b --addr-a 10.1.0.1/30 --route-a default,10.1.0.2

Namespaces that are joined already get one more.")]
    Add(CableAdd),
    /// Change settings of a cable
    #[command(after_long_help = cable_examples())]
    Set(CableSet),
    /// Remove a cable between two namespaces
    #[command(aliases = DEL, after_long_help = "\
Examples:
  vswitchctl cable del red blue
  vswitchctl cable del red blue --name-a eth1")]
    Del {
        /// Namespace of one end
        a: NsName,
        /// Namespace of the other end
        b: NsName,
        /// The one whose interface in A has this name, if several join them
        #[arg(long, value_name = "IF")]
        name_a: Option<IfName>,
        /// The one whose interface in B has this name
        #[arg(long, value_name = "IF")]
        name_b: Option<IfName>,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// List cables: all, those of a namespace, or those between two
    #[command(alias = "show", aliases = LIST, after_long_help = "\
Examples:
  vswitchctl cable list
  vswitchctl cable list red
  vswitchctl cable list red blue")]
    List {
        /// Namespace of one end
        a: Option<NsName>,
        /// Namespace of the other end
        b: Option<NsName>,
    },
}

/// Examples of `cable set` with all keys.
pub fn cable_examples() -> String {
    with_keys::<CableSettings>(
        "\
Examples:
  vswitchctl cable set red blue mtu=9000
  vswitchctl cable set red blue addresses_a=10.1.0.1/30,fd10::1/64
  vswitchctl cable set red blue --name-a eth1 addresses_b=none mtu=default",
    )
}

/// Arguments of `cable set`.
#[derive(Args, Debug)]
pub struct CableSet {
    /// Namespace of one end
    pub a: NsName,
    /// Namespace of the other end
    pub b: NsName,
    /// Settings by their keys, such as mtu=9000; without a value one is taken away
    #[arg(required = true, value_name = "KEY=VALUE", value_parser = assignment::<CableSettings>)]
    pub keys: Vec<Assignment>,
    /// The one whose interface in A has this name, if several join them
    #[arg(long, value_name = "IF")]
    pub name_a: Option<IfName>,
    /// The one whose interface in B has this name
    #[arg(long, value_name = "IF")]
    pub name_b: Option<IfName>,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}

/// Arguments of `cable add`.
#[derive(Args, Debug)]
pub struct CableAdd {
    /// Namespace of one end
    pub a: NsName,
    /// Namespace of the other end
    pub b: NsName,
    /// Address of the interface in A; may be given more than once
    #[arg(long, value_name = "ADDR/LEN")]
    pub addr_a: Vec<IfAddr>,
    /// Address of the interface in B; may be given more than once
    #[arg(long, value_name = "ADDR/LEN")]
    pub addr_b: Vec<IfAddr>,
    /// Route of A over the cable: destination, and next hop if it has one; may be given more than once
    #[arg(long, value_name = "DEST[,IP]")]
    pub route_a: Vec<RouteArg>,
    /// Route of B over the cable
    #[arg(long, value_name = "DEST[,IP]")]
    pub route_b: Vec<RouteArg>,
    /// MTU of both ends, in bytes
    #[arg(long, value_name = "BYTES", value_parser = parse::mtu)]
    pub mtu: Option<u32>,
    /// Name of the interface in A (default: the first free one of eth0, eth1, ...)
    #[arg(long, value_name = "IF")]
    pub name_a: Option<IfName>,
    /// Name of the interface in B
    #[arg(long, value_name = "IF")]
    pub name_b: Option<IfName>,
    // Not a flattened `Addition`: clap finds no argument of a group that is a part of another optional one.
    /// No error if it is there already with the settings that are given
    #[arg(long)]
    pub if_not_exists: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
