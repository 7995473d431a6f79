//! Cables between two namespaces, and what can be set of one that is there.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lab::Route;
use crate::name::{IfAddr, IfName, Mac, NsName};
use crate::settings::Settable;
use crate::view::PortState;

/// A veth pair that joins two namespaces directly, without a switch. Two namespaces may be joined by several: the names of
/// their interfaces tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cable {
    /// One end.
    pub a: CableEnd,
    /// The other end.
    pub b: CableEnd,
    /// MTU of both ends; none: 1500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Cable {
    /// A cable about which nothing else is said.
    pub fn new(a: CableEnd, b: CableEnd) -> Self {
        let mtu = None;
        Self { a, b, mtu }
    }

    /// Whether one of its ends is in this namespace.
    pub fn ends_in(&self, namespace: &NsName) -> bool {
        [&self.a, &self.b].iter().any(|end| end.namespace == *namespace)
    }

    /// Whether it joins these two, in whatever order.
    pub fn joins(&self, a: &NsName, b: &NsName) -> bool {
        let ends = (&self.a.namespace, &self.b.namespace);
        ends == (a, b) || ends == (b, a)
    }
}

/// One end of a [`Cable`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CableEnd {
    /// Namespace of this end.
    pub namespace: NsName,
    /// Interface name; none: the first free one of eth0, eth1, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<IfName>,
    /// MAC address; chosen once and kept if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Addresses of this end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IfAddr>,
    /// Routes through this end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

impl CableEnd {
    /// An end about which nothing else is said.
    pub fn new(namespace: NsName) -> Self {
        Self {
            namespace,
            ifname: None,
            mac: None,
            addresses: Vec::new(),
            routes: Vec::new(),
        }
    }
}

/// A cable and whether it is there. `GET /v1/cables`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CableView {
    /// Its settings; interface names and MAC addresses are always filled in.
    #[serde(flatten, deserialize_with = "crate::reply::flattened")]
    pub cable: Cable,
    /// Whether it carries frames.
    pub state: PortState,
    /// Why it does not, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Settings of a cable; `a` and `b` are its ends in the order in which they were named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CableSettings {
    /// MTU of both ends; none: 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Addresses of the interface in A.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses_a: Vec<IfAddr>,
    /// Addresses of the interface in B.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses_b: Vec<IfAddr>,
    /// Routes through the interface in A.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes_a: Vec<Route>,
    /// Routes through the interface in B.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes_b: Vec<Route>,
}

impl Settable for CableSettings {
    const FIXED: &'static [&'static str] = &[];

    fn sample() -> Self {
        Self::default()
    }
}

impl CableSettings {
    /// Those of a cable whose end A is in this namespace.
    pub fn of(cable: &Cable, a: &NsName) -> Self {
        let (a, b) = cable.ends_from(a);
        Self {
            mtu: cable.mtu,
            addresses_a: a.addresses.clone(),
            addresses_b: b.addresses.clone(),
            routes_a: a.routes.clone(),
            routes_b: b.routes.clone(),
        }
    }

    /// The cable with these settings.
    pub fn give(self, cable: &Cable, a: &NsName) -> Cable {
        let with = |end: &CableEnd, addresses, routes| CableEnd {
            addresses,
            routes,
            ..end.clone()
        };
        let (end_a, end_b) = cable.ends_from(a);
        let end_a = with(end_a, self.addresses_a, self.routes_a);
        let end_b = with(end_b, self.addresses_b, self.routes_b);
        let (a, b) = match end_a.namespace == cable.a.namespace {
            true => (end_a, end_b),
            false => (end_b, end_a),
        };
        Cable { a, b, mtu: self.mtu }
    }
}

impl Cable {
    /// Its ends, that in this namespace first.
    fn ends_from(&self, namespace: &NsName) -> (&CableEnd, &CableEnd) {
        match self.a.namespace == *namespace {
            true => (&self.a, &self.b),
            false => (&self.b, &self.a),
        }
    }

    /// Whether it is the same pair of interfaces, whatever is set of them.
    pub fn is_same_pair(&self, other: &Self) -> bool {
        let same = |a: &CableEnd, b: &CableEnd| (&a.namespace, &a.ifname, a.mac) == (&b.namespace, &b.ifname, b.mac);
        same(&self.a, &other.a) && same(&self.b, &other.b)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_those_of_the_ends_as_they_were_named() {
        let cable: Cable = serde_json::from_value(json!({
            "a": {"namespace": "red", "ifname": "eth0", "addresses": ["10.0.0.1/30"]},
            "b": {"namespace": "blue", "addresses": ["10.0.0.2/30"]}
        }))
        .unwrap();
        for (first, second) in [("red", "blue"), ("blue", "red")] {
            let (a, b) = (first.parse().unwrap(), second.parse::<NsName>().unwrap());
            let mut settings = CableSettings::of(&cable, &a);
            assert_eq!(settings.clone().give(&cable, &a), cable);
            settings.mtu = Some(9000);
            settings.addresses_b.clear();
            let changed = settings.give(&cable, &a);
            assert!(changed.is_same_pair(&cable) && changed.mtu == Some(9000));
            let (one, other) = changed.ends_from(&a);
            assert_eq!((one.addresses.len(), other.addresses.len()), (1, 0));
            assert_eq!(other.namespace, b);
        }
    }
}
