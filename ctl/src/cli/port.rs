//! Ports.

use std::net::IpAddr;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use vswitch_api::lab::Description;
use vswitch_api::{ContainerName, IfName, Mac, NsName, NsPath, Pid, PortKind, PortName, SwitchName};

use super::parse::{self, Addr};
use super::policy::PolicyArgs;
use super::switch::{SetPort, port_examples};
use super::{ADD, Addition, DEL, LIST, OnlySwitch, Removal};

/// Examples of `add-port`.
pub const ADD_EXAMPLES: &str = "\
Examples:
  vswitchctl add-port red --addr 192.168.15.1/24
  vswitchctl add-port green --addr 192.168.15.3/24 --addr fd00:15::3/64
  # several, each with the next free address
  vswitchctl add-port h1 h2 h3 --subnet 192.168.15.0/24
  vswitchctl add-port h4 --addr auto    # of the subnet that is in use
  vswitchctl add-port vm --type tap --mtu 9000
  vswitchctl add-port web --netns red --name eth1 --addr 10.0.0.2/24
  # into a process's namespace, and into a container
  vswitchctl add-port nginx --pid 4711 --addr 10.0.0.80/24
  vswitchctl add-port db --container db --addr 10.0.0.5/24
  vswitchctl add-port client --addr 10.0.0.3/24 --gateway 10.0.0.1
  # the host itself
  vswitchctl add-port gw --type internal --addr 192.168.15.254/24
  # an existing interface
  vswitchctl add-port uplink --type device --name enp3s0
  vswitchctl add-port web --addr 10.10.0.2/24 --vlan 10  # an access port
  vswitchctl add-port router --trunk 10,20-29 --native 1
  vswitchctl add-port guest --addr 10.0.0.7/24 --pin-mac own --pin-ip own

The interface is `eth0` in the namespace NAME unless --name and --netns say
otherwise. A namespace that is not there is made, and goes with its last port.
One of a process, file or container is somebody else's: it is neither made nor
removed, and where it has interfaces the port takes the next free name.";

/// Arguments of `add-port`.
#[derive(Args, Debug)]
pub struct AddPort {
    /// Names of the ports, and of their namespaces if --netns does not say otherwise; several are added all or none
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<PortName>,
    /// Address of the interface, with its prefix length, or `auto`; may be given more than once
    #[arg(
        long,
        aliases = ["address", "ip"],
        value_name = "ADDR/LEN",
        long_help = "Address of the interface, with its prefix length; may be given more than once. `auto` is the next free address of \
            each subnet of the switch, with a default route over its gateway; where it has none, of the subnets (one of IPv4, one of IPv6) of \
            the ports that it can talk with."
    )]
    pub addr: Vec<Addr>,
    /// Give each port the next free address of this subnet; may be given more than once
    #[arg(long, value_name = "NET/LEN", value_parser = parse::subnet)]
    pub subnet: Vec<IpNet>,
    /// How the port is connected (default: veth)
    #[arg(long = "type", alias = "kind", value_parser = parse::kind(), value_name = "TYPE")]
    pub kind: Option<PortKind>,
    /// Namespace of the interface (veth and tap)
    #[arg(long, aliases = ["namespace", "ns"], value_name = "NS", group = "place")]
    pub netns: Option<NsName>,
    /// Put the interface into the namespace of a process, as long as that lives
    #[arg(long, value_name = "PID", group = "place")]
    pub pid: Option<Pid>,
    /// Put it into the namespace behind a file, such as /proc/4711/ns/net
    #[arg(long, value_name = "FILE", group = "place")]
    pub netns_path: Option<NsPath>,
    /// Put it into a container of Docker or Podman, by name or id, whenever that runs
    #[arg(
        long,
        value_name = "NAME",
        group = "place",
        long_help = "Put it into a container of Docker or Podman, by name or id, whenever that runs: a port comes back with its addresses when \
            its container is started again. `docker:NAME` and `podman:NAME` tell two of one name apart."
    )]
    pub container: Option<ContainerName>,
    /// Name of the interface; with `--type device` the interface to take over
    #[arg(long = "name", aliases = ["ifname", "interface"], value_name = "IF")]
    pub ifname: Option<IfName>,
    /// MAC address of the interface (default: chosen once and kept)
    #[arg(long, value_parser = parse::unicast_mac)]
    pub mac: Option<Mac>,
    /// MTU of both ends, in bytes
    #[arg(long, value_name = "BYTES", value_parser = parse::mtu)]
    pub mtu: Option<u32>,
    /// Next hop of the default route; may be given once for IPv4 and once for IPv6
    #[arg(long, value_name = "IP", value_parser = parse::next_hop)]
    pub gateway: Vec<IpAddr>,
    /// Switch that the port belongs to (default: main)
    #[arg(long, value_name = "NAME")]
    pub switch: Option<SwitchName>,
    /// What is to be said of it: free text of up to 255 characters
    #[arg(long, value_name = "TEXT")]
    pub description: Option<Description>,
    /// Send frames to the port as on a wire: cut to the MTU, with complete checksums
    #[arg(long)]
    pub no_offload: bool,
    /// Move the frames of a device by AF_XDP, if its driver can: many short frames for less, TCP for more
    #[arg(long)]
    pub xdp: bool,
    /// Take what the host uses: a device with addresses or routes, the place of its default route
    #[arg(long)]
    pub force: bool,
    /// What it lets in and out.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How to add it.
    #[command(flatten)]
    pub addition: Addition,
}

/// Examples of `del-port`.
pub const DEL_EXAMPLES: &str = "\
Examples:
  vswitchctl del-port red blue
  vswitchctl del-port -n red            # say what would be removed
  vswitchctl del-port --if-exists red   # for scripts: no error if it is gone";

/// Arguments of `del-port`.
#[derive(Args, Debug)]
pub struct DelPort {
    /// Ports to remove
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<PortName>,
    /// How to remove them.
    #[command(flatten)]
    pub removal: Removal,
}

/// `port ...`
#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Add a port, as `add-port` does
    #[command(aliases = ADD, after_long_help = ADD_EXAMPLES.replace("add-port", "port add"))]
    Add(Box<AddPort>),
    /// Remove ports, as `del-port` does
    #[command(aliases = DEL, after_long_help = DEL_EXAMPLES.replace("del-port", "port del"))]
    Del(DelPort),
    /// Change settings of a port, as `set port` does
    #[command(override_usage = "vswitchctl port set [OPTIONS] <NAME> <KEY=VALUE|--SETTING VALUE>...",
              after_long_help = port_examples().replace("set port", "port set"))]
    Set(Box<SetPort>),
    /// List ports with state, addresses and counters
    #[command(aliases = LIST, after_long_help = "\
Examples:
  vswitchctl port list -o wide
  vswitchctl port list --json | jq -r '.[] | select(.state != \"up\") | .name'")]
    List(OnlySwitch),
    /// Show a port: settings, state, all counters, drops by reason
    #[command(after_long_help = "\
Example:
  vswitchctl port show red")]
    Show {
        /// The port
        name: PortName,
    },
}
