//! Switches, their forwarding database, and settings.

use std::net::IpAddr;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand};
use ipnet::IpNet;
use vswitch_api::lab::Description;
use vswitch_api::name::InvalidValue;
use vswitch_api::policy::VlanId;
use vswitch_api::settings::{Assignment, Settable, assignment, is_back, settings};
use vswitch_api::view::FdbEntry;
use vswitch_api::{Gateway, IfName, Mac, Port, PortName, Switch, SwitchName};

use super::acl::{self, SetAcl};
use super::link::{self, LinkSet};
use super::mirror::{self, MirrorSet};
use super::namespace::{self, CableSet, NsSet};
use super::parse::{self, Reserved, Said, Switched, Toggle, said};
use super::policy::{self, PolicyArgs};
use super::{ADD, Addition, DEL, LIST, Removal, Trial};

/// `switch ...`
#[derive(Debug, Subcommand)]
pub enum SwitchCommand {
    /// Add a switch
    #[command(aliases = ADD, after_long_help = "\
Examples:
  vswitchctl switch add lab
  vswitchctl switch add lab --ageing 60 --fdb-capacity 1024
  vswitchctl switch add lab --description 'second floor'
  # subnets whose gateway is the host; `add-port --addr auto` takes of them
  vswitchctl switch add lab --subnet 10.10.0.0/24 --gateway
  # with a way out, addresses for guests, and names
  vswitchctl switch add lab --subnet 10.10.0.0/24 --gateway --nat --dhcp --dns
  vswitchctl switch add lldp --reserved-multicast lldp")]
    Add {
        /// Name of the new switch
        name: SwitchName,
        /// Seconds after which a learned address is forgotten, 0 = never (default: 300)
        #[arg(long, value_name = "SECONDS", value_parser = parse::ageing)]
        ageing: Option<u32>,
        /// Most entries of the FDB; when it is full, unknown addresses are flooded and counted (default: 65536)
        #[arg(long, value_name = "N", value_parser = parse::fdb_capacity)]
        fdb_capacity: Option<u32>,
        /// Which reserved multicast frames are forwarded (default: never)
        #[arg(long, value_enum, value_name = "WHICH")]
        reserved_multicast: Option<Reserved>,
        /// What is to be said of it: free text of up to 255 characters
        #[arg(long, value_name = "TEXT")]
        description: Option<Description>,
        /// What its ports take addresses of, and how they get out.
        #[command(flatten)]
        way: WayOut,
        /// Also if the host has an address in a subnet by itself, and is cut off from what it reaches by that
        #[arg(long)]
        force: bool,
        /// How to add it.
        #[command(flatten)]
        addition: Addition,
    },
    /// Remove a switch
    #[command(aliases = DEL, after_long_help = "\
Example:
  vswitchctl switch del lab")]
    Del {
        /// The switch
        name: SwitchName,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// List switches
    #[command(aliases = LIST, after_long_help = "\
Example:
  vswitchctl switch list")]
    List,
    /// Show the settings of a switch
    #[command(after_long_help = "\
Example:
  vswitchctl switch show main")]
    Show {
        /// The switch
        #[arg(default_value = vswitch_api::DEFAULT_SWITCH)]
        name: SwitchName,
    },
    /// Change settings of a switch, as `set switch` does
    #[command(override_usage = "vswitchctl switch set [OPTIONS] <NAME> <KEY=VALUE|--SETTING VALUE>...",
              after_long_help = switch_examples().replace("set switch", "switch set"))]
    Set(SetSwitch),
}

/// Subnets of a switch, and the way out of them.
#[derive(Args, Debug, Default)]
pub struct WayOut {
    /// Subnet of which ports take addresses (`add-port --addr auto`); may be given more than once
    #[arg(long = "subnet", value_name = "NET/LEN", value_parser = parse::subnet)]
    pub subnets: Vec<IpNet>,
    /// Make the host the gateway of the subnets, by a port NAME-gw with the first free address of each, or with these
    #[arg(long, value_name = "ADDR,...", num_args = 0..=1, require_equals = true, default_missing_value = "on", requires = "subnets")]
    pub gateway: Option<Gateway>,
    /// Forward what the subnets send over the gateway, with the address of the host (NAT)
    #[arg(long, requires = "gateway")]
    pub nat: bool,
    /// Interface of the host by which NAT leads out (default: those of its default routes); may be given more than once
    #[arg(long = "uplink", value_name = "IF", requires = "nat")]
    pub uplinks: Vec<IfName>,
    /// Give stations addresses by DHCP and router advertisements (needs dnsmasq)
    #[arg(long, requires = "gateway")]
    pub dhcp: bool,
    /// Answer DNS at the gateway, with the names of ports (needs dnsmasq)
    #[arg(long, requires = "gateway")]
    pub dns: bool,
}

/// Arguments of `fdb`.
#[derive(Args, Debug)]
pub struct FdbArgs {
    /// What to do; to show if nothing is said.
    #[command(subcommand)]
    pub command: Option<FdbCommand>,
    /// The switch (default: all when showing, else that of the port or the entry)
    #[arg(long, value_name = "NAME", global = true)]
    pub switch: Option<SwitchName>,
    /// Which entries, if no verb is said.
    #[command(flatten)]
    pub filter: FdbFilter,
}

/// Which entries are listed.
#[derive(Args, Debug, Default, PartialEq, Eq)]
pub struct FdbFilter {
    /// Only of this port
    #[arg(long, value_name = "NAME")]
    pub port: Option<PortName>,
    /// Only in this VLAN
    #[arg(long, value_name = "VLAN")]
    pub vlan: Option<VlanId>,
    /// Only this address
    #[arg(long, value_name = "MAC")]
    pub mac: Option<Mac>,
}

impl FdbFilter {
    /// Whether an entry is meant.
    pub fn takes(&self, entry: &FdbEntry) -> bool {
        self.port.as_ref().is_none_or(|port| *port == entry.port)
            && self.vlan.is_none_or(|vlan| Some(vlan) == entry.vlan)
            && self.mac.is_none_or(|mac| mac == entry.mac)
    }
}

/// `fdb ...`
#[derive(Debug, Subcommand)]
pub enum FdbCommand {
    /// Show the table: address, port, age
    #[command(visible_alias = "show", aliases = LIST, after_long_help = "\
Examples:
  vswitchctl fdb list
  vswitchctl fdb list --port red --vlan 10
  vswitchctl fdb list --mac 02:00:00:00:00:01
  vswitchctl fdb list --switch lab --json | jq length")]
    List(FdbFilter),
    /// Add a static entry, which neither ages nor moves
    #[command(aliases = ADD, after_long_help = "\
Example:
  vswitchctl fdb add 02:00:00:00:00:01 red")]
    Add {
        /// Address of the station
        #[arg(value_parser = parse::unicast_mac)]
        mac: Mac,
        /// Port behind which it is
        port: PortName,
        /// VLAN that it is known in (default: that of frames without one)
        #[arg(long, value_name = "VLAN")]
        vlan: Option<VlanId>,
        /// How to add it.
        #[command(flatten)]
        addition: Addition,
    },
    /// Remove an entry, learned or static
    #[command(aliases = DEL, after_long_help = "\
Example:
  vswitchctl fdb del 02:00:00:00:00:01")]
    Del {
        /// Address of the station
        #[arg(value_parser = parse::unicast_mac)]
        mac: Mac,
        /// VLAN that it is known in (default: that of frames without one)
        #[arg(long, value_name = "VLAN")]
        vlan: Option<VlanId>,
        /// How to remove it.
        #[command(flatten)]
        removal: Removal,
    },
    /// Forget what was learned; static entries stay
    #[command(
        alias = "clear",
        after_long_help = "\
Examples:
  vswitchctl fdb flush
  vswitchctl fdb flush --port red"
    )]
    Flush {
        /// Only what was learned on this port
        #[arg(long, value_name = "NAME")]
        port: Option<PortName>,
        /// Only what was learned in this VLAN
        #[arg(long, value_name = "VLAN")]
        vlan: Option<VlanId>,
        /// Whether to do it.
        #[command(flatten)]
        trial: Trial,
    },
}

/// `set ...`
#[derive(Debug, Subcommand)]
pub enum SetCommand {
    /// Change settings of a port
    #[command(override_usage = "vswitchctl set port [OPTIONS] <NAME> <KEY=VALUE|--SETTING VALUE>...", after_long_help = port_examples())]
    Port(Box<SetPort>),
    /// Change settings of a switch
    #[command(override_usage = "vswitchctl set switch [OPTIONS] <NAME> <KEY=VALUE|--SETTING VALUE>...", after_long_help = switch_examples())]
    Switch(SetSwitch),
    /// Change settings of both ports of a link, as `link set` does
    #[command(override_usage = "vswitchctl set link [OPTIONS] <PORT> <KEY=VALUE|--SETTING VALUE>...",
              after_long_help = link::SET_EXAMPLES.replace("link set", "set link"))]
    Link(Box<LinkSet>),
    /// Change settings of a namespace, as `ns set` does
    #[command(visible_alias = "netns", alias = "namespace", after_long_help = namespace::SET_EXAMPLES.replace("ns set", "set ns"))]
    Ns(NsSet),
    /// Change settings of a cable, as `cable set` does
    #[command(after_long_help = namespace::cable_examples().replace("cable set", "set cable"))]
    Cable(CableSet),
    /// Change settings of a mirror, as `mirror set` does
    #[command(after_long_help = mirror::SET_EXAMPLES.replace("mirror set", "set mirror"))]
    Mirror(Box<MirrorSet>),
    /// Replace the access lists of a port, as `acl set` does
    #[command(after_help = acl::RULES, after_long_help = acl::SET_EXAMPLES.replace("acl set", "set acl"))]
    Acl(SetAcl),
}

const PORT_EXAMPLES: &str = "\
Examples:
  vswitchctl set port red --mtu 9000
  vswitchctl set port red mtu=9000 learning.limit=5 --down
  vswitchctl set port red learning.limit=   # take the limit away
  vswitchctl set port red -n vlan.access=10 # say what would change
  vswitchctl set port red impair.out.delay=20ms police=10mbit
  vswitchctl set port red --offload off
  vswitchctl set port red --vlan 10
  vswitchctl set port red --trunk +30,-20  # on a trunk: add 30, take 20 away
  vswitchctl set port red --mac-limit 2 --beyond-limit drop
  vswitchctl set port red --flood broadcast,multicast --pin-ip own";

const SWITCH_EXAMPLES: &str = "\
Examples:
  vswitchctl set switch main --ageing 60
  vswitchctl set switch main ageing_secs=60 loop_guard=off
  vswitchctl set switch main subnets=10.10.0.0/24 gateway=on nat=on
  vswitchctl set switch main --reserved-multicast all";

/// Examples of `set port` with all keys.
pub fn port_examples() -> String {
    with_keys::<Port>(PORT_EXAMPLES)
}

/// Examples of `set switch` with all keys.
pub fn switch_examples() -> String {
    with_keys::<Switch>(SWITCH_EXAMPLES)
}

/// Examples, and the keys that can be set with what they take.
pub fn with_keys<T: Settable>(examples: &str) -> String {
    let mut text = format!(
        "{examples}\n\nKeys are those of a lab file. All that is said is done, or nothing of it.\nWithout a value a setting is taken \
         away; lists have commas, or are JSON.\n\nKeys:\n"
    );
    for setting in settings::<T>() {
        text += &format!("  {}={}\n", setting.key, setting.placeholder());
    }
    text.truncate(text.trim_end().len());
    text
}

/// Arguments of `set port`.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = ArgGroup::new("settings").required(true).multiple(true).args(["keys", "mtu", "mac", "ifname", "gateway", "up", "down", "offload"]).args(policy::names()))]
pub struct SetPort {
    /// The port
    pub name: PortName,
    /// Settings by their keys, such as learning.limit=5; without a value one is taken away
    #[arg(value_name = "KEY=VALUE", value_parser = assignment::<Port>)]
    pub keys: Vec<Assignment>,
    /// MTU of both ends, in bytes, or default
    #[arg(long, value_name = "BYTES", value_parser = |text: &str| said(text, parse::mtu))]
    pub mtu: Option<Said<u32>>,
    /// MAC address of the interface, or default for one that is chosen
    #[arg(long, value_name = "MAC", value_parser = |text: &str| said(text, parse::unicast_mac))]
    pub mac: Option<Said<Mac>>,
    /// Name of the interface, or default
    #[arg(long = "name", aliases = ["ifname", "interface"], value_name = "IF",
          value_parser = |text: &str| said(text, parse::ifname))]
    pub ifname: Option<Said<IfName>>,
    /// Next hop of the default route, or none; may be given once for IPv4 and once for IPv6
    #[arg(long, value_name = "IP", value_parser = |text: &str| said(text, parse::next_hop))]
    pub gateway: Vec<Said<IpAddr>>,
    /// Let frames in and out
    #[arg(long, conflicts_with = "down")]
    pub up: bool,
    /// Let no frame in or out
    #[arg(long)]
    pub down: bool,
    /// Offloads towards the port
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub offload: Option<Toggle>,
    /// Take what the host uses: a device with addresses or routes, the place of its default route
    #[arg(long)]
    pub force: bool,
    /// What it lets in and out.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}

/// Arguments of `set switch`.
#[derive(Args, Debug)]
#[group(skip)]
#[command(group = ArgGroup::new("settings").required(true).multiple(true).args(["keys", "ageing", "reserved_multicast", "vlan_limit", "rspan_vlans", "loop_guard", "flap_moves", "flap_secs"]))]
pub struct SetSwitch {
    /// The switch
    pub name: SwitchName,
    /// Settings by their keys, such as ageing_secs=60; without a value one is taken away
    #[arg(value_name = "KEY=VALUE", value_parser = assignment::<Switch>)]
    pub keys: Vec<Assignment>,
    /// Seconds after which a learned address is forgotten, 0 = never
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| said(text, parse::ageing))]
    pub ageing: Option<Said<u32>>,
    /// Which reserved multicast frames are forwarded
    #[arg(long, value_enum, value_name = "WHICH")]
    pub reserved_multicast: Option<Reserved>,
    /// Most stations that are learned in each VLAN, 0 = no limit
    #[arg(long, value_name = "N", value_parser = parse::limit)]
    pub vlan_limit: Option<u32>,
    /// VLANs that carry copies of mirrors, in which nothing is learned: 999 or 998,999; none
    #[arg(long, value_name = "VLANS")]
    pub rspan_vlans: Option<VlanList>,
    /// Shut a port behind which the switch finds itself, or a station that flaps, for a while
    #[arg(long, value_enum, value_name = "on|off")]
    pub loop_guard: Option<Switched>,
    /// Moves within a second by which a station counts as flapping, told by an event (default: 500)
    #[arg(long, value_name = "N", value_parser = |text: &str| said(text, parse::count::<u32>))]
    pub flap_moves: Option<Said<u32>>,
    /// Seconds of flapping after which the loop guard shuts the younger port (default: 3)
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| said(text, parse::flap_secs))]
    pub flap_secs: Option<Said<u32>>,
    /// Also if the host has an address in a subnet by itself, and is cut off from what it reaches by that
    #[arg(long)]
    pub force: bool,
    /// Whether to do it.
    #[command(flatten)]
    pub trial: Trial,
}

/// VLANs one by one, or `none`.
#[derive(Clone, Debug)]
pub struct VlanList(pub Vec<VlanId>);

impl FromStr for VlanList {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            text if is_back(text) => Ok(Self(Vec::new())),
            list => list.split(',').map(str::parse).collect::<Result<_, _>>().map(Self),
        }
    }
}
