//! What the user wants: the lab. The daemon keeps one [`Lab`] on disk and makes the kernel match it;
//! `vswitchctl apply FILE` replaces it by the one in a TOML file.

mod kind;
mod rules;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::kind::{OtherKind, PortKind, Stands};
use crate::acl::PortAcl;
use crate::cable::Cable;
use crate::command::Command;
pub use crate::description::{Description, MAX_DESCRIPTION};
use crate::gateway::{Gateway, Publish};
use crate::lab_namespace::LabNamespace;
use crate::link::Link;
use crate::mirror::Mirror;
use crate::name::{IfAddr, IfName, Mac, NsName, PortName, SwitchName};
use crate::namespace::Namespace;
use crate::owned::OwnedByLab;
use crate::policy::{AcceptFrames, Flooding, Isolation, Learning, Pin, PortVlan, VlanId, is_default, is_true};
use crate::said_route::SaidRoute;
use crate::traffic::{Impairments, RateLimit, StormControl};

/// [`Switch::flap_moves`] if nothing else is said: more than an honest station makes.
pub const DEFAULT_FLAP_MOVES: u32 = 500;
/// [`Switch::flap_secs`] if nothing else is said.
pub const DEFAULT_FLAP_SECS: u32 = 3;
/// Default time after which a learned address is forgotten, in seconds (IEEE 802.1Q-2022 table 8-6).
pub const DEFAULT_AGEING_SECS: u32 = 300;
/// Default bound of the forwarding database, in entries.
pub const DEFAULT_FDB_CAPACITY: u32 = 65_536;
/// Name of the interface of a port in a namespace if nothing else is said and nobody has it.
pub const DEFAULT_IFNAME: &str = "eth0";
/// Default MTU of a port, in bytes of layer-3 payload.
pub const DEFAULT_MTU: u32 = 1500;
/// Smallest MTU that can be set (RFC 791: every host takes 68 bytes).
pub const MIN_MTU: u32 = 68;
/// Largest MTU that can be set; what a TAP device takes (65535 less the Ethernet header and the room for a tag).
pub const MAX_MTU: u32 = 65_517;

/// Everything that vswitch keeps up: the desired state as one document.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lab {
    /// Switches; the one named `main` is always there.
    pub switches: Vec<Switch>,
    /// Namespaces asked for by themselves (those that a port or cable names are made as needed).
    #[schema(value_type = Vec<crate::lab_namespace::Form>)]
    pub namespaces: Vec<LabNamespace>,
    /// Ports of all switches.
    pub ports: Vec<Port>,
    /// Direct links between two namespaces, without a switch.
    pub cables: Vec<Cable>,
    /// Links between two switches, in short: what is read is two ports of kind `link` each, and only those are written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
    /// Commands that run in namespaces as long as the lab is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
    /// Copies of frames to a port.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// Which of it was made for which lab, where several are side by side.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labs: Vec<OwnedByLab>,
}

/// One switch and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Unique name.
    pub name: SwitchName,
    /// What the user says of it: free text, shown and never looked into.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Description,
    /// Seconds after which a learned address is forgotten; 0 = never.
    #[serde(default = "default_ageing")]
    pub ageing_secs: u32,
    /// Most entries of the FDB; when it is full, unknown addresses are flooded and counted.
    #[serde(default = "default_fdb_capacity")]
    pub fdb_capacity: u32,
    /// What happens to frames for 01-80-C2-00-00-0x.
    #[serde(default)]
    pub reserved_multicast: ReservedMulticast,
    /// Most stations that are learned in each VLAN; none: as many as the FDB takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan_limit: Option<u32>,
    /// VLANs that carry copies of mirrors ([`Mirror::to_vlan`]), as Cisco's `remote-span`: nothing is learned in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rspan_vlans: Vec<VlanId>,
    /// True: a port behind which the switch finds itself, or a station that flaps, is shut for a while.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub loop_guard: bool,
    /// Moves of a station within a second by which it is told of as flapping, and the loop guard looks for a loop.
    #[serde(default = "default_flap_moves", skip_serializing_if = "is_default_flap_moves")]
    #[schema(minimum = 2)]
    pub flap_moves: u32,
    /// Seconds in a row for which a station must flap until the loop guard shuts a port though no probe came back.
    #[serde(default = "default_flap_secs", skip_serializing_if = "is_default_flap_secs")]
    #[schema(minimum = 1)]
    pub flap_secs: u32,
    /// Subnets of which its ports take addresses, those with `auto_addresses` by themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["10.10.0.0/24", "fd10::/64"]))]
    pub subnets: Vec<IpNet>,
    /// Whether the host has a port on it that is the gateway of its subnets, and its addresses if not the first of each subnet.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gateway: Gateway,
    /// True: the host forwards what the subnets send over the gateway and puts its own address in the place of theirs (NAT).
    #[serde(default, skip_serializing_if = "is_default")]
    pub nat: bool,
    /// Interfaces of the host by which the subnets get out with NAT; none: those of its default routes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uplinks: Vec<IfName>,
    /// True: stations get addresses from the gateway, by DHCPv4 and by IPv6 router advertisements.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dhcp: bool,
    /// True: the gateway answers DNS, with the names of ports and what the host itself resolves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns: bool,
}

impl Switch {
    /// A switch with default settings.
    pub fn new(name: SwitchName) -> Self {
        Self {
            name,
            description: Description::default(),
            ageing_secs: DEFAULT_AGEING_SECS,
            fdb_capacity: DEFAULT_FDB_CAPACITY,
            reserved_multicast: ReservedMulticast::default(),
            vlan_limit: None,
            rspan_vlans: Vec::new(),
            loop_guard: true,
            flap_moves: DEFAULT_FLAP_MOVES,
            flap_secs: DEFAULT_FLAP_SECS,
            subnets: Vec::new(),
            gateway: Gateway::Off,
            nat: false,
            uplinks: Vec::new(),
            dhcp: false,
            dns: false,
        }
    }
}

/// What happens to frames for the reserved group addresses 01-80-C2-00-00-00 to -0F
/// (IEEE 802.1Q-2022 table 8-1), which a standard bridge never forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReservedMulticast {
    /// Never forwarded, as the standard says.
    #[default]
    Never,
    /// LLDP (01-80-C2-00-00-0E) is forwarded, the rest is not.
    Lldp,
    /// All are forwarded: STP, LACP, 802.1X, PAUSE and LLDP reach the other ports of the lab.
    All,
}

/// One port: how it is connected and what its interface is to look like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Unique name over all switches.
    pub name: PortName,
    /// Switch that the port belongs to.
    #[serde(default = "default_switch")]
    pub switch: SwitchName,
    /// What the user says of it: free text, shown and never looked into.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Description,
    /// How it is connected.
    #[serde(default)]
    pub kind: PortKind,
    /// The port at the other end (`link`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<PortName>,
    /// Namespace of the interface (`veth`, `tap`), by name, or as that of a process, file or container; none for `device` and `internal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Name of the interface as its user sees it. Default: `eth0` for `veth` and `tap`, the port's
    /// name for `internal` and `device`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<IfName>,
    /// MAC address of the interface; chosen once and kept if not given. Not for `device` and `link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// MTU of the interface in bytes of layer-3 payload. None: 1500, for `device` what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Addresses of the interface. Not for `device` and `link`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IfAddr>,
    /// True: it has an address of each subnet of its switch, the next free one and kept, and a default route over the gateway.
    #[serde(default, skip_serializing_if = "is_default")]
    pub auto_addresses: bool,
    /// Routes through the interface. Not for `device` and `link`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// False: administratively down, nothing goes in or out.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub up: bool,
    /// False: frames go out as on a wire: segmented to the MTU and with complete checksums.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub offload: bool,
    /// True: its frames come and go by AF_XDP, if the device can do that. For `device` only.
    #[serde(default, skip_serializing_if = "is_default")]
    pub xdp: bool,
    /// Which VLANs it belongs to.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vlan: PortVlan,
    /// Which frames come in, by their tag.
    #[serde(default, skip_serializing_if = "is_default")]
    pub accept: AcceptFrames,
    /// What is learned on it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub learning: Learning,
    /// Which frames without one known destination go out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub flooding: Flooding,
    /// Which other ports it exchanges frames with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub isolation: Isolation,
    /// Source addresses that it may use.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pin: Pin,
    /// Access control lists.
    #[serde(default, skip_serializing_if = "is_default")]
    pub acl: PortAcl,
    /// What happens to frames on their way in and out, as on a bad or slow wire.
    #[serde(default, skip_serializing_if = "Impairments::is_none")]
    pub impair: Impairments,
    /// The rate above which frames from the port are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub police: Option<RateLimit>,
    /// The rates above which frames from the port are dropped and not flooded.
    #[serde(default, skip_serializing_if = "StormControl::is_none")]
    pub storm: StormControl,
    /// Stations that are behind the port whatever is learned: static entries of the FDB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stations: Vec<StaticStation>,
    /// Port numbers of the host that lead to it. Its switch needs `nat`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, example = json!(["8080:80", "5353:53/udp"]))]
    pub publish: Vec<Publish>,
}

/// A station that the user put behind a port: it neither ages nor moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticStation {
    /// Its address, no group's.
    pub mac: Mac,
    /// VLAN in which it is known; none: that of frames without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
}

impl StaticStation {
    /// A station that sends frames without a VLAN.
    pub fn new(mac: Mac) -> Self {
        let vlan = None;
        Self { mac, vlan }
    }
}

impl Port {
    /// A port with default settings.
    pub fn new(name: PortName, switch: SwitchName, kind: PortKind) -> Self {
        Self {
            name,
            switch,
            description: Description::default(),
            kind,
            peer: None,
            namespace: None,
            ifname: None,
            mac: None,
            mtu: None,
            addresses: Vec::new(),
            auto_addresses: false,
            routes: Vec::new(),
            up: true,
            offload: true,
            xdp: false,
            vlan: PortVlan::All,
            accept: AcceptFrames::All,
            learning: Learning::default(),
            flooding: Flooding::default(),
            isolation: Isolation::default(),
            pin: Pin::default(),
            acl: PortAcl::default(),
            impair: Impairments::default(),
            police: None,
            storm: StormControl::default(),
            stations: Vec::new(),
            publish: Vec::new(),
        }
    }
}

impl Port {
    /// The name of the namespace that it was given, if it has one.
    pub fn named_namespace(&self) -> Option<&NsName> {
        self.namespace.as_ref()?.name()
    }

    /// Whether it was given the namespace of this name.
    pub fn is_in(&self, name: &NsName) -> bool {
        self.named_namespace() == Some(name)
    }
}

/// A route through the interface of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(from = "SaidRoute", deny_unknown_fields)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` is the default route, and read from `default` too.
    #[schema(value_type = String, example = "0.0.0.0/0")]
    pub to: IpNet,
    /// Next hop; none: the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "192.168.15.1")]
    pub via: Option<IpAddr>,
    /// True: the next hop is on the link though no address of the interface tells so. Where all addresses of the interface are
    /// of hosts only (/32, /128), it is taken to be.
    #[serde(default, skip_serializing_if = "is_default")]
    pub onlink: bool,
}

impl Route {
    /// A route over a next hop, or to what is on the link.
    pub fn new(to: IpNet, via: Option<IpAddr>) -> Self {
        Self { to, via, onlink: false }
    }
}

fn default_ageing() -> u32 {
    DEFAULT_AGEING_SECS
}

fn default_fdb_capacity() -> u32 {
    DEFAULT_FDB_CAPACITY
}

pub(crate) fn default_switch() -> SwitchName {
    #[expect(clippy::unwrap_used, reason = "the constant is a valid name, as a test shows")]
    crate::DEFAULT_SWITCH.parse().unwrap()
}

fn default_flap_moves() -> u32 {
    DEFAULT_FLAP_MOVES
}

fn is_default_flap_moves(moves: &u32) -> bool {
    *moves == DEFAULT_FLAP_MOVES
}

fn default_flap_secs() -> u32 {
    DEFAULT_FLAP_SECS
}

fn is_default_flap_secs(seconds: &u32) -> bool {
    *seconds == DEFAULT_FLAP_SECS
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests;
