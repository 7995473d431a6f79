//! What requests carry beyond the types of [`crate::lab`]. Routes are listed in the daemon's OpenAPI document, and
//! the daemon holds queries against it: what a route does not know in one is an error.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::acl::AclRule;
use crate::lab::Port;
use crate::name::{IfAddr, IfName, LabName, Mac, NsName, PortName, SwitchName};
use crate::policy::{VlanId, is_default};

pub use crate::patch::{CablePatch, MirrorPatch, NamespacePatch, PortPatch, SwitchPatch};

/// How much the daemon logs. `GET /v1/log`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogLevel {
    /// off, error, warn, info, debug or trace, or a list of such and of parts: `info,vswitch::control=debug`.
    #[schema(example = "info,vswitch::control=debug")]
    pub level: String,
}

impl LogLevel {
    /// This level, such as `info,vswitch::control=debug`.
    pub fn new(level: impl Into<String>) -> Self {
        Self { level: level.into() }
    }
}

/// How much of a log is wanted. `GET /v1/processes/{name}/log`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct LogOptions {
    /// So many of the last lines; none: 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::number::optional")]
    pub lines: Option<u32>,
    /// Go on with what is written.
    #[serde(skip_serializing_if = "is_default")]
    pub follow: bool,
}

/// One of the two access control lists of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AclList {
    /// For frames from the port into the switch.
    In,
    /// For frames out of the switch to the port.
    Out,
}

/// A rule to put into an access control list. `POST /v1/ports/{name}/acl`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AclAdd {
    /// The list.
    pub direction: AclList,
    /// Its place in the list, 1 is the first; none: the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub at: Option<usize>,
    /// The rule.
    #[schema(value_type = String, example = "deny tcp to 10.0.0.0/8 port 22")]
    pub rule: AclRule,
}

impl AclAdd {
    /// A rule at the end of a list.
    pub fn new(direction: AclList, rule: AclRule) -> Self {
        let at = None;
        Self { direction, at, rule }
    }
}

/// Which rules a `DELETE /v1/ports/{name}/acl` takes away; without any, all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AclSelect {
    /// Only of this list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<AclList>,
    /// Only the rule at this place of it, 1 is the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "crate::number::optional")]
    #[param(minimum = 1)]
    pub at: Option<usize>,
}

/// Which of the cables between two namespaces is meant. `DELETE /v1/cables/{a}/{b}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct CableSelect {
    /// The one whose interface in `a` has this name; none: the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifname_a: Option<IfName>,
    /// The one whose interface in `b` has this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifname_b: Option<IfName>,
}

/// A static FDB entry. `PUT /v1/switches/{name}/fdb`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FdbAdd {
    /// Unicast address.
    pub mac: Mac,
    /// VLAN that it is known in; none: that of frames without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    /// Port behind which it is.
    pub port: PortName,
}

impl FdbAdd {
    /// A station behind a port, known by frames without a VLAN.
    pub fn new(mac: Mac, port: PortName) -> Self {
        let vlan = None;
        Self { mac, vlan, port }
    }
}

/// Which FDB entries a `DELETE /v1/switches/{name}/fdb` removes; without any, all that were learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct FdbSelect {
    /// Only this address (learned or static).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Only this VLAN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    /// Only learned entries of this port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortName>,
}

/// An address to add. `POST /v1/ports/{name}/addresses`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressAdd {
    /// The address with its prefix length.
    pub address: IfAddr,
}

impl AddressAdd {
    /// This address.
    pub fn new(address: IfAddr) -> Self {
        Self { address }
    }
}

/// Ports to add, all or none of them. `POST /v1/lab/ports`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortsAdd {
    /// The ports.
    pub ports: Vec<Port>,
    /// Addresses that each of them is given, beside those that it has.
    #[serde(default, skip_serializing_if = "is_default")]
    pub addresses: FreeAddresses,
}

impl PortsAdd {
    /// These ports, with the addresses that they have.
    pub fn new(ports: Vec<Port>) -> Self {
        let addresses = FreeAddresses::default();
        Self { ports, addresses }
    }
}

/// Addresses that are left to the switch to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FreeAddresses {
    /// The next free address of each of these.
    #[schema(value_type = Vec<String>, example = json!(["192.168.15.0/24"]))]
    pub subnets: Vec<IpNet>,
    /// The next free address of the subnets of the ports that it can talk with; an error where there is none, or more than one of an
    /// address family.
    pub auto: bool,
}

/// Options of requests that change things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ChangeOptions {
    /// Say what would be done, do nothing.
    pub dry_run: bool,
    /// Adding what is there already with the same settings, or removing what is not there, is no error.
    pub idempotent: bool,
    /// Take over what the host uses: an interface on which it has addresses or routes, a port number on which a program of its listens,
    /// the place of its default route.
    #[serde(skip_serializing_if = "is_default")]
    pub force: bool,
}

/// Which lab a whole is written for. `PUT /v1/lab`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct LabSelect {
    /// The lab that comes, changes or goes: of what stays, only what this one owns is repaired; none: all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lab: Option<LabName>,
}

/// The condition of a request that changes things.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Condition {
    /// The `ETag` of what is to be changed, or of the whole lab, as it was read: if it is another by now, nothing is changed
    /// and the answer is 412 (`changed`).
    #[param(rename = "If-Match", required = false)]
    pub if_match: Option<String>,
}

/// A namespace to add. `POST /v1/namespaces`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceAdd {
    /// Its name.
    pub name: NsName,
}

impl NamespaceAdd {
    /// A namespace of this name.
    pub fn new(name: NsName) -> Self {
        Self { name }
    }
}

/// Narrows a list to one switch. `GET /v1/ports`, `GET /v1/addresses`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct SwitchFilter {
    /// Only this switch; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
}

/// Which addresses to remove. `DELETE /v1/ports/{name}/addresses`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AddressSelect {
    /// Only this one; none: all addresses of the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IfAddr>,
}

/// Which route to remove. `DELETE /v1/ports/{name}/routes`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RouteSelect {
    /// Destination of the route; `0.0.0.0/0` or `::/0` is the default route.
    #[schema(value_type = String, example = "0.0.0.0/0")]
    #[param(value_type = String, example = "0.0.0.0/0")]
    pub to: IpNet,
}

impl RouteSelect {
    /// The route there.
    pub fn new(to: IpNet) -> Self {
        Self { to }
    }
}
