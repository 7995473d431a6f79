//! What a port lets in and out beyond plain switching: VLANs, learning, flooding, isolation, pinning.

mod vlan;

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::Mac;

pub use vlan::{PortVlan, TagKind, Trunk, VLAN_MAX, VlanId, VlanSet};

/// Acceptable frame types (IEEE 802.1Q-2022 clause 6.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AcceptFrames {
    /// With and without a VLAN tag.
    #[default]
    All,
    /// Only with a VLAN tag.
    Tagged,
    /// Only without one, or with a tag that carries a priority only.
    Untagged,
}

/// What a port learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Learning {
    /// False: sources are not learned.
    #[serde(skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// True: what is learned here neither moves to another port nor ages.
    #[serde(skip_serializing_if = "is_default")]
    pub sticky: bool,
    /// True: only frames from stations known to be behind this port pass; nothing is learned.
    #[serde(skip_serializing_if = "is_default")]
    pub locked: bool,
    /// Most stations that are learned here; none: as many as the switch takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// What happens to frames from stations beyond the limit.
    #[serde(skip_serializing_if = "is_default")]
    pub beyond: BeyondLimit,
}

impl Default for Learning {
    fn default() -> Self {
        Self {
            enabled: true,
            sticky: false,
            locked: false,
            limit: None,
            beyond: BeyondLimit::Flood,
        }
    }
}

/// What happens to a frame from a station that is one too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BeyondLimit {
    /// It passes; the station is not learned, and frames to it are flooded.
    #[default]
    Flood,
    /// It is dropped.
    Drop,
    /// It is dropped and the port is shut until it is set up again.
    Shut,
}

/// Which frames without one known destination go out of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Flooding {
    /// To stations that are not known.
    #[serde(skip_serializing_if = "is_true")]
    pub unknown_unicast: bool,
    /// To groups.
    #[serde(skip_serializing_if = "is_true")]
    pub multicast: bool,
    /// To all.
    #[serde(skip_serializing_if = "is_true")]
    pub broadcast: bool,
    /// True: frames may go back out of the port that they came in at.
    #[serde(skip_serializing_if = "is_default")]
    pub hairpin: bool,
}

impl Default for Flooding {
    fn default() -> Self {
        Self {
            unknown_unicast: true,
            multicast: true,
            broadcast: true,
            hairpin: false,
        }
    }
}

/// Which other ports a port exchanges frames with (as private VLANs do, RFC 5517).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// With all.
    #[default]
    Promiscuous,
    /// With promiscuous ones only.
    Isolated,
    /// With promiscuous ones and those of the same community.
    Community(u16),
}

/// Source addresses that a port may use; all others are dropped, in ARP and neighbour discovery too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pin {
    /// MAC addresses; none: any. `"own"`, here an empty list, stands for the one that vswitch gave the port.
    #[serde(skip_serializing_if = "Option::is_none", with = "own")]
    #[schema(schema_with = own::macs)]
    pub mac: Option<Vec<Mac>>,
    /// IP addresses or networks; none: any. `"own"`, here an empty list, stands for those that vswitch gave the port,
    /// what it was leased, and what it makes of its MAC address in an IPv6 subnet that its switch advertises (EUI-64).
    /// Besides 0.0.0.0 and :: (a host that asks for an address) and the one IPv6 link-local address that is made from the MAC address
    /// that a frame comes from (EUI-64, RFC 4291) are always allowed. A host that chooses another one (RFC 7217, `addr_gen_mode`)
    /// needs it in the list, or fe80::/10 for any.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "own::serialize",
        deserialize_with = "own::read_networks"
    )]
    #[schema(schema_with = own::networks)]
    pub ip: Option<Vec<IpNet>>,
    /// True: a port with pinned addresses may send router advertisements and redirects, as a router does.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_ra: bool,
}

/// A network, or the one host that an address without a prefix length stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostOrNet(pub IpNet);

impl From<HostOrNet> for IpNet {
    fn from(net: HostOrNet) -> Self {
        net.0
    }
}

impl FromStr for HostOrNet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let host = text.parse::<IpAddr>().map(IpNet::from);
        host.or_else(|_| text.parse())
            .map(Self)
            .map_err(|_| format!("{text:?} is no IP address or network; write it as 192.168.15.1 or 10.0.0.0/8"))
    }
}

impl TryFrom<String> for HostOrNet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How pinned addresses are written: a list, or the word `own` for what vswitch gave the port.
mod own {
    use std::fmt;
    use std::marker::PhantomData;

    use ipnet::IpNet;
    use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::{Serialize, Serializer};
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Schema, Type};
    use utoipa::openapi::{Ref, RefOr};

    const WORD: &str = "own";

    pub fn serialize<T: Serialize, S: Serializer>(list: &Option<Vec<T>>, serializer: S) -> Result<S::Ok, S::Error> {
        match list {
            Some(list) if list.is_empty() => serializer.serialize_str(WORD),
            list => list.serialize(serializer),
        }
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
            type Value = Option<Vec<T>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses, or \"own\"")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
                if word == WORD {
                    Ok(Some(Vec::new()))
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
                }
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = elements.next_element()? {
                    list.push(element);
                }
                Ok(Some(list))
            }
        }

        from.deserialize_any(List(PhantomData))
    }

    pub fn read_networks<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<IpNet>>, D::Error> {
        let list: Option<Vec<super::HostOrNet>> = deserialize(from)?;
        Ok(list.map(|list| list.into_iter().map(IpNet::from).collect()))
    }

    pub fn macs() -> RefOr<Schema> {
        list_or_own(
            Ref::from_schema_name("Mac").into(),
            "MAC addresses; none: any. `own`, or an empty list, stands for the one that vswitch gave the port.",
        )
    }

    pub fn networks() -> RefOr<Schema> {
        list_or_own(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .pattern(Some("^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"))
                .into(),
            "IP addresses or networks; none: any. `own`, or an empty list, stands for those that vswitch gave the port, what it was \
              leased, and what it makes of its MAC address in an IPv6 subnet that its switch advertises. Besides 0.0.0.0 and :: (a host \
              that asks for an address) and the IPv6 link-local address that is made from the MAC address that a \
              frame comes from (EUI-64, RFC 4291) are always allowed. A host that chooses another one (RFC 7217) needs it in the list, \
              or fe80::/10 for any.",
        )
    }

    fn list_or_own(element: RefOr<Schema>, text: &str) -> RefOr<Schema> {
        let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([WORD]));
        let null = ObjectBuilder::new().schema_type(Type::Null);
        let list = ArrayBuilder::new().items(element);
        let one = OneOfBuilder::new().item(word).item(list).item(null);
        Schema::OneOf(one.description(Some(text)).build()).into()
    }
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(crate) fn is_true(value: &bool) -> bool {
    *value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--pin-mac own` was exported as `mac = []`, which reads as "none".
    #[test]
    fn own_addresses_are_pinned_by_a_word() {
        let own = Pin {
            mac: Some(Vec::new()),
            ip: Some(vec!["10.0.0.0/8".parse().unwrap()]),
            ..Pin::default()
        };
        assert_eq!(
            serde_json::to_string(&own).unwrap(),
            r#"{"mac":"own","ip":["10.0.0.0/8"]}"#
        );
        let read = |text: &str| serde_json::from_str::<Pin>(text);
        for text in [
            r#"{"mac":"own","ip":["10.0.0.0/8"]}"#,
            r#"{"mac":[],"ip":["10.0.0.0/8"]}"#,
        ] {
            assert_eq!(read(text).unwrap(), own, "{text}");
        }
        assert_eq!(read("{}").unwrap(), Pin::default());
        assert_eq!(read(r#"{"mac":null}"#).unwrap(), Pin::default());
        assert!(read(r#"{"mac":"all"}"#).unwrap_err().to_string().contains("own"));
        // As on the command line, an address is that of one host.
        let host = read(r#"{"ip":["10.0.0.1","fd00::/64"]}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&host).unwrap(),
            r#"{"ip":["10.0.0.1/32","fd00::/64"]}"#
        );
        let wrong = read(r#"{"ip":["bogus"]}"#).unwrap_err().to_string();
        assert!(wrong.contains(r#""bogus" is no IP address or network"#), "{wrong}");
    }
}
