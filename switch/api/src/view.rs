//! What the daemon answers: states, counters and tables.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::acl::AclRule;
use crate::change::Change;
use crate::lab::{Port, Switch};
use crate::mirror::MirrorView;
use crate::name::{IfAddr, Mac, NsName, PortName, SwitchName};
use crate::namespace::Namespace;
use crate::policy::VlanId;
use crate::traffic::ImpairCounters;

/// The daemon itself. `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// [`crate::API_VERSION`] of the daemon.
    pub api_version: u32,
    /// Process id.
    pub pid: u32,
    /// Another one each time that the daemon starts, which may be in the same process; the ids of events begin with it.
    #[serde(default)]
    pub run: String,
    /// Seconds since the daemon started.
    pub uptime_secs: u64,
    /// Number of worker threads.
    pub workers: u32,
    /// What does not work on this machine or for this user, one line each, with the reason.
    pub limits: Vec<String>,
    /// How far the change under way came; none: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the one who asks may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::reply::known")]
    pub role: Option<Role>,
    /// What the daemon took from itself.
    #[serde(default)]
    pub confinement: Confinement,
    /// Directory of the namespaces with names; empty: an older daemon, whose it is `/run/netns` if nothing else was configured.
    #[serde(default)]
    pub netns_dir: String,
}

/// What the daemon took from itself as it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Confinement {
    /// It has only the rights (capabilities) that it needs, and gets none back by running a program.
    pub rights_kept: bool,
    /// System calls by which the whole machine or other processes could be harmed are refused to it and to commands.
    #[serde(default)]
    pub forbidden: bool,
    /// Workers without any right but to write to maps of eBPF.
    pub workers_without_rights: u32,
    /// Workers that can make only the system calls that moving frames takes.
    pub workers_filtered: u32,
}

/// What a client of the API may do. Who has one of these may do what those before may, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// See the lab, its state and its counters; change nothing, and see no frames of others and nothing that commands wrote.
    ReadOnly,
    /// Change the lab, and see frames.
    Admin,
    /// Have commands run with the daemon's rights, and files written that they read.
    Root,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::Admin => "admin",
            Self::Root => "root",
        })
    }
}

/// How far a change came. `GET /v1/status`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What is done.
    pub what: String,
    /// Steps that are done.
    pub done: u32,
    /// All steps.
    pub of: u32,
}

/// A switch and what it does. `GET /v1/switches`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SwitchView {
    /// Its settings.
    #[serde(flatten, deserialize_with = "crate::reply::flattened")]
    pub switch: Switch,
    /// Names of its ports, sorted.
    pub ports: Vec<PortName>,
    /// Entries in the FDB.
    pub fdb_entries: u32,
    /// Source addresses that could not be learned because the FDB was full.
    pub fdb_full: u64,
    /// How often a station was seen on another port than before.
    #[serde(default)]
    pub fdb_moves: u64,
    /// Its mirrors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<MirrorView>,
}

/// Whether a port can carry frames, and if not, why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PortState {
    /// Frames pass.
    Up,
    /// Administratively down.
    Down,
    /// The interface inside the namespace is down.
    NoCarrier,
    /// Shut by the switch itself, which says why.
    Shut,
    /// The interface or its namespace is gone; the port works again when it is back.
    Missing,
    /// The daemon has just started and gets to it soon. What the kernel forwards by itself flows.
    Attaching,
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

impl PortState {
    /// The word shown to people, the same as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::NoCarrier => "no-carrier",
            Self::Shut => "shut",
            Self::Missing => "missing",
            Self::Attaching => "attaching",
            Self::Unknown => "unknown",
        }
    }
}

/// How frames come and go by AF_XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum XdpMode {
    /// The driver reads and writes them where the daemon does.
    ZeroCopy,
    /// The kernel copies them.
    Copy,
}

impl XdpMode {
    /// The word shown to people, the same as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ZeroCopy => "zero-copy",
            Self::Copy => "copy",
        }
    }
}

/// Something that an interface was given and has not any more. Shown as it is told to people: `its address 10.0.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "what", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Lack {
    /// An address.
    Address {
        /// The address.
        address: IfAddr,
    },
    /// A route, or that to the network of one of its addresses, which comes with the address.
    Route {
        /// Where it leads.
        #[schema(value_type = String, example = "10.1.0.0/16")]
        to: IpNet,
    },
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { address } => write!(f, "its address {address}"),
            Self::Route { to } => write!(f, "its route to {to}"),
            Self::Unknown => f.write_str("something that only a newer version knows"),
        }
    }
}

/// Why a port is missing, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MissingAs {
    /// There is no namespace where it is to be.
    NoNamespace,
    /// No engine has its container.
    NoContainer,
    /// Its container does not run; Docker has it.
    DockerStopped,
    /// Its container does not run; Podman has it.
    PodmanStopped,
    /// The process that its namespace was given by has ended.
    ProcessEnded,
    /// Another interface has the name of its own.
    NameTaken,
    /// Its interface is gone, or the host has none of that name.
    NoInterface,
    /// Something else, which the reason tells.
    Other,
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

/// A port, its state and counters. `GET /v1/ports`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    /// Its settings; interface name, MAC and MTU are always filled in where they are known.
    #[serde(flatten, deserialize_with = "crate::reply::flattened")]
    pub port: Port,
    /// Whether it carries frames.
    pub state: PortState,
    /// Why it does not, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it is missing, if it is, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_as: Option<MissingAs>,
    /// The MTU that it was set to, where its interface has another by now (which is the one that counts).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_wanted: Option<u32>,
    /// Where its interface is, if somebody has moved it out of the namespace that it was made in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<String>,
    /// What its interface was given and has not any more: somebody took it away inside, or it went with a link that is down.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
    /// By which file the namespace of its interface can be entered now, where that is none with a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrance: Option<Entrance>,
    /// Seconds since the state last changed.
    pub state_secs: u64,
    /// Queues between the kernel and the daemon.
    pub queues: u32,
    /// The kernel forwards known unicast from and to this port by itself, as far as no feature needs the daemon.
    #[serde(default)]
    pub fastpath: bool,
    /// Its interface has TCP frames above 64 KiB over IPv4 (BIG TCP), since the kernel carries all that goes over the switch.
    #[serde(default)]
    pub big_tcp: bool,
    /// How it is connected by AF_XDP, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::reply::known")]
    pub xdp_mode: Option<XdpMode>,
    /// Why it is not, though it was to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xdp_refused: Option<String>,
    /// FDB entries that point to it.
    pub fdb_entries: u32,
    /// Counters since the port was added or the daemon started.
    pub counters: PortCounters,
}

/// The file of a namespace, and what tells it from another that has the file by now: a process's number is used again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Entrance {
    /// The file, such as `/proc/4711/ns/net`.
    pub path: String,
    /// Its inode.
    pub inode: u64,
}

impl PortView {
    /// Where the namespace of its interface can be entered: by name, or by a file. None: it is in that of the host, or nowhere.
    pub fn stack(&self) -> Option<Stack> {
        match (&self.entrance, &self.port.namespace) {
            (Some(entrance), _) => Some(Stack::File(entrance.clone())),
            (None, Some(Namespace::Name(name))) => Some(Stack::Name(name.clone())),
            (None, _) => None,
        }
    }
}

/// By what a namespace can be entered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stack {
    /// Its name.
    Name(NsName),
    /// A file of it.
    File(Entrance),
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::File(entrance) => entrance.path.fmt(f),
        }
    }
}

/// A rule of an access control list and how often it matched. `GET /v1/ports/{name}/acl`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AclRuleView {
    /// The rule.
    #[schema(value_type = String)]
    pub rule: AclRule,
    /// Frames that it matched since it was set.
    pub hits: u64,
}

/// The access control lists of a port. `GET /v1/ports/{name}/acl`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortAclView {
    /// For frames from the port into the switch.
    #[serde(rename = "in")]
    pub ingress: Vec<AclRuleView>,
    /// For frames out of the switch to the port.
    #[serde(rename = "out")]
    pub egress: Vec<AclRuleView>,
}

/// Counters of a port. A GSO frame counts as one frame with all its bytes.
///
/// They add up: `rx_frames` = `rx_forwarded` + `rx_flooded` + all of `rx_drops`, and over a switch
/// the sum of `rx_forwarded` + `flood_copies` + `mirror_copies` + `probes` = the sum of `tx_frames` + all of `tx_drops`. Impairment on the way out
/// makes frames and holds some back, and so adds its `tx_duplicates` + `tx_segments` to the left side of that and its
/// `tx_waiting` to the right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortCounters {
    /// Frames that came in from the port.
    pub rx_frames: u64,
    /// Bytes of those, from the destination address on, without the frame check sequence.
    pub rx_bytes: u64,
    /// Of those, sent to the one port where the destination is.
    pub rx_forwarded: u64,
    /// Of those that came in, the ones that the kernel forwarded or flooded by itself (the fast path).
    #[serde(default)]
    pub rx_fastpath: u64,
    /// Of those that came in, flooded.
    pub rx_flooded: u64,
    /// Copies that the flooded ones were sent as.
    pub flood_copies: u64,
    /// Copies that mirrors made of frames that came in from the port, be it for the way in or the way out.
    #[serde(default)]
    pub mirror_copies: u64,
    /// Probes that the loop guard sent out of the port; those that were sent are among `tx_frames`, the others among `tx_drops`.
    #[serde(default)]
    pub probes: u64,
    /// Frames that went out to the port.
    pub tx_frames: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Frames that came in and were dropped, by reason; only reasons that happened.
    #[serde(default)]
    pub rx_drops: BTreeMap<String, u64>,
    /// Frames that were to go out and were dropped, by reason; only reasons that happened.
    #[serde(default)]
    pub tx_drops: BTreeMap<String, u64>,
    /// What impairment did beyond dropping; absent if nothing.
    #[serde(default, skip_serializing_if = "ImpairCounters::is_none")]
    pub impair: ImpairCounters,
}

/// An FDB entry. `GET /v1/switches/{name}/fdb`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FdbEntry {
    /// Switch that knows it.
    pub switch: SwitchName,
    /// Address of the station.
    pub mac: Mac,
    /// VLAN in which it is known; none: that of frames without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    /// Port behind which it is.
    pub port: PortName,
    /// Seconds since a frame from it was last seen; none for static entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_secs: Option<u32>,
    /// Set by hand: it neither ages nor moves.
    #[serde(rename = "static")]
    pub is_static: bool,
    /// Learned on a sticky port: it neither ages nor moves.
    #[serde(default, skip_serializing_if = "crate::policy::is_default")]
    pub sticky: bool,
}

/// A namespace in the list. `GET /v1/namespaces`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceSummary {
    /// Its name, or where a port has it without one.
    pub name: Namespace,
    /// Made by vswitch (and so removed by it).
    pub owned: bool,
    /// Whose it is, where others made it and that can be told: `docker web`, `pid 4711 nginx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// False: a port or cable names it, but it is not there now.
    pub present: bool,
    /// Ports whose interface is in it.
    pub ports: Vec<PortName>,
}

/// A namespace from inside. `GET /v1/namespaces/{name}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamespaceView {
    /// Name, owner, ports.
    #[serde(flatten, deserialize_with = "crate::reply::flattened")]
    pub summary: NamespaceSummary,
    /// Its interfaces.
    pub links: Vec<LinkView>,
    /// Its routes of the main table, IPv4 first.
    pub routes: Vec<RouteView>,
    /// Its ARP and ND tables.
    pub neighbours: Vec<NeighbourView>,
}

/// An interface inside a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LinkView {
    /// Interface name.
    pub name: String,
    /// Kernel's interface index.
    pub ifindex: u32,
    /// MAC address; none for lo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// `up`, `down` or `no-carrier`.
    pub state: String,
    /// Port of the switch that it is, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
    /// Addresses, IPv4 first. (Text, because the kernel has addresses that [`IfAddr`] refuses, such as 127.0.0.1/8.)
    pub addresses: Vec<String>,
}

/// A route inside a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Destination, `default` for all.
    pub to: String,
    /// Next hop, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// Outgoing interface.
    pub dev: String,
}

/// An entry of an ARP or ND table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NeighbourView {
    /// Address of the neighbour.
    pub ip: String,
    /// Its MAC address, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Interface.
    pub dev: String,
    /// Kernel's word for the state: `reachable`, `stale`, `delay`, `failed`, ...
    pub state: String,
}

/// An address that vswitch gave. `GET /v1/addresses`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddressView {
    /// Port whose interface has it.
    pub port: PortName,
    /// Switch of the port.
    pub switch: SwitchName,
    /// The address.
    pub address: IfAddr,
    /// Seconds for which it is leased by DHCP; absent: it was not leased but given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_secs: Option<u64>,
    /// True: the interface has it no more, as somebody has taken it away inside, or the interface itself.
    #[serde(default, skip_serializing_if = "crate::policy::is_default")]
    pub missing: bool,
}

/// Reply to a request that changed something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Changes {
    /// What was done (or, in a dry run, would be), in order, one line each: `created namespace red`.
    pub done: Vec<String>,
    /// The same for programs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// True: nothing was done, it was only asked what would be.
    #[serde(default, skip_serializing_if = "crate::policy::is_default")]
    pub dry_run: bool,
    /// Those of them by which ports, namespaces, cables or switches go away, or commands are stopped that run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// What the user should know though it is no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}
