//! What requests carry beyond the types of [`crate::lab`]. Routes are listed in the daemon's OpenAPI document.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::acl::PortAcl;
use crate::lab::ReservedMulticast;
use crate::name::{IfAddr, Mac, NsName, PortName, SwitchName};
use crate::policy::{AcceptFrames, Flooding, Isolation, Learning, Pin, PortVlan, VlanId, is_default};
use crate::traffic::{Impairments, RateLimit, StormControl};

/// Changes of a port; what is absent stays as it is. `PATCH /v1/ports/{name}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortPatch {
    /// New MTU, set on both ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Administratively up or down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<bool>,
    /// Offloads towards the port on or off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offload: Option<bool>,
    /// Which VLANs it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<PortVlan>,
    /// Which frames come in, by their tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept: Option<AcceptFrames>,
    /// What is learned on it, as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning: Option<Learning>,
    /// Which frames without one known destination go out, as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flooding: Option<Flooding>,
    /// Which other ports it exchanges frames with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Source addresses that it may use, as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// Access control lists, both as a whole: replaced at one instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acl: Option<PortAcl>,
    /// New impairment of a direction, in place of the one before; `{}` takes it away, and a direction that is absent stays.
    #[serde(skip_serializing_if = "Impairments::is_none")]
    pub impair: Impairments,
    /// New policer, in place of the one before; `{}` takes it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub police: Option<RateLimit>,
    /// New storm control of all classes, in place of the one before; `{}` takes it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storm: Option<StormControl>,
}

/// Changes of a switch; what is absent stays as it is. `PATCH /v1/switches/{name}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchPatch {
    /// Seconds after which a learned address is forgotten; 0 = never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ageing_secs: Option<u32>,
    /// What happens to reserved multicast.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_multicast: Option<ReservedMulticast>,
    /// Most stations that are learned in each VLAN; 0 = no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_limit: Option<u32>,
    /// VLANs that carry copies of mirrors; an empty list: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rspan_vlans: Option<Vec<VlanId>>,
    /// Loop guard on or off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_guard: Option<bool>,
    /// Moves within a second by which a station flaps.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 2)]
    pub flap_moves: Option<u32>,
    /// Seconds of flapping after which a port is shut.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub flap_secs: Option<u32>,
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

/// Which FDB entries a `DELETE /v1/switches/{name}/fdb` removes; without any, all that were learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
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

/// Options of requests that change things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct ChangeOptions {
    /// Say what would be done, do nothing.
    pub dry_run: bool,
    /// Adding what is there already with the same settings, or removing what is not there, is no error.
    pub idempotent: bool,
    /// Take over an interface of the host though it has addresses or routes there.
    #[serde(skip_serializing_if = "is_default")]
    pub force: bool,
}

/// A namespace to add. `POST /v1/namespaces`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceAdd {
    /// Its name.
    pub name: NsName,
}

/// Narrows a list to one switch. `GET /v1/ports`, `GET /v1/addresses`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct SwitchFilter {
    /// Only this switch; none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<SwitchName>,
}

/// Which addresses to remove. `DELETE /v1/ports/{name}/addresses`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct AddressSelect {
    /// Only this one; none: all addresses of the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IfAddr>,
}

/// Which route to remove. `DELETE /v1/ports/{name}/routes`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RouteSelect {
    /// Destination of the route; `0.0.0.0/0` or `::/0` is the default route.
    #[schema(value_type = String, example = "0.0.0.0/0")]
    #[param(value_type = String, example = "0.0.0.0/0")]
    pub to: IpNet,
}
