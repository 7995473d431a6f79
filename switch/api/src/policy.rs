//! What a port lets in and out beyond plain switching: VLANs, learning, flooding, isolation, pinning.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::name::{InvalidValue, Mac};
use crate::number::whole;

/// Largest id of a VLAN; 0 and 4095 are none (IEEE 802.1Q-2022 table 9-2).
pub const VLAN_MAX: u16 = 4094;

/// The id of a VLAN, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(into = "u16")]
#[schema(value_type = u16, minimum = 1, maximum = 4094)]
pub struct VlanId(u16);

impl VlanId {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VlanId {
    type Error = InvalidValue;
    fn try_from(id: u16) -> Result<Self, InvalidValue> {
        if (1..=VLAN_MAX).contains(&id) {
            Ok(Self(id))
        } else {
            Err(InvalidValue::new(format!(
                "VLAN id {id} is out of range; choose 1 to {VLAN_MAX}"
            )))
        }
    }
}

impl<'de> Deserialize<'de> for VlanId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id: u16 = crate::number::deserialize(deserializer)?;
        Self::try_from(id).map_err(serde::de::Error::custom)
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.0
    }
}

impl FromStr for VlanId {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let wrong = || InvalidValue::new(format!("VLAN id {text:?} is not a number from 1 to {VLAN_MAX}"));
        Self::try_from(whole::<u16>(text.trim()).ok_or_else(wrong)?)
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A set of VLANs, written `10,20-29`; `all` is 1 to 4094.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "10,20-29")]
pub struct VlanSet(Vec<(VlanId, VlanId)>);

impl VlanSet {
    /// First and last VLAN of each range, lowest first; ranges neither overlap nor touch.
    pub fn ranges(&self) -> &[(VlanId, VlanId)] {
        &self.0
    }

    /// The VLANs of both; none only if both are empty.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        Self(merged(self.0.iter().chain(&others.0).copied().collect()))
    }

    /// The VLANs that are not among `others`; none if there are none.
    pub fn without(&self, others: &Self) -> Option<Self> {
        let left = (1..=VLAN_MAX).map(VlanId);
        let left = left.filter(|id| self.contains(*id) && !others.contains(*id));
        let ranges = merged(left.map(|id| (id, id)).collect());
        (!ranges.is_empty()).then_some(Self(ranges))
    }

    /// Whether the VLAN is in the set.
    pub fn contains(&self, id: VlanId) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }
}

impl FromStr for VlanSet {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "all" {
            return Ok(Self(vec![(VlanId(1), VlanId(VLAN_MAX))]));
        }
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (VlanId, VlanId) = (first.parse()?, last.parse()?);
            if first > last {
                return Err(InvalidValue::new(format!(
                    "VLAN range {part:?} runs backwards; write {last}-{first}"
                )));
            }
            ranges.push((first, last));
        }
        Ok(Self(merged(ranges)))
    }
}

/// Lowest first, and those that overlap or touch made one.
fn merged(mut ranges: Vec<(VlanId, VlanId)>) -> Vec<(VlanId, VlanId)> {
    ranges.sort_unstable();
    let mut merged: Vec<(VlanId, VlanId)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first.0 <= before.1.0 + 1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

impl TryFrom<String> for VlanSet {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<VlanSet> for String {
    fn from(set: VlanSet) -> Self {
        set.to_string()
    }
}

impl fmt::Display for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == [(VlanId(1), VlanId(VLAN_MAX))] {
            return f.write_str("all");
        }
        for (i, (first, last)) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Which VLANs a port belongs to, and how its frames show them (IEEE 802.1Q-2022 clause 6.9).
///
/// While no port of a switch has a setting, tags pass as they are and all frames share one table. As soon as one has,
/// each VLAN is a network of its own; a port without a setting then carries all of them with their tags, and its
/// untagged frames are in none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum PortVlan {
    /// No setting: every VLAN with its tag, and what has no tag.
    #[default]
    All,
    /// One VLAN, without tags.
    Access(VlanId),
    /// Several VLANs with their tags.
    Trunk(Trunk),
    /// One service VLAN: whatever comes in, tagged or not, is carried whole inside of it (IEEE 802.1ad).
    Tunnel(VlanId),
}

impl PortVlan {
    /// VLAN of frames that have no tag at the port; none: they are in no VLAN, or do not pass.
    pub fn untagged(&self) -> Option<VlanId> {
        match self {
            Self::All => None,
            Self::Access(id) | Self::Tunnel(id) => Some(*id),
            Self::Trunk(trunk) => trunk.native,
        }
    }
}

/// A port with several VLANs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Trunk {
    /// VLANs that pass with their tags.
    pub allowed: VlanSet,
    /// VLAN of frames without a tag, both ways; none: they are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<VlanId>,
    /// Which tag shows the VLAN.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tag: TagKind,
}

/// Kind of tag (IEEE 802.1Q-2022 table 9-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TagKind {
    /// Customer VLAN tag, TPID 0x8100.
    #[default]
    Customer,
    /// Service VLAN tag, TPID 0x88A8; customer tags are payload then.
    Service,
}

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
    #[serde(skip_serializing_if = "Option::is_none", with = "own")]
    #[schema(schema_with = own::networks)]
    pub ip: Option<Vec<IpNet>>,
    /// True: a port with pinned addresses may send router advertisements and redirects, as a router does.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_ra: bool,
}

/// How pinned addresses are written: a list, or the word `own` for what vswitch gave the port.
mod own {
    use std::fmt;
    use std::marker::PhantomData;

    use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
    use serde::ser::{Serialize, Serializer};
    use utoipa::PartialSchema;
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

    pub fn macs() -> RefOr<Schema> {
        list_or_own(
            Ref::from_schema_name("Mac").into(),
            "MAC addresses; none: any. `own`, or an empty list, stands for the one that vswitch gave the port.",
        )
    }

    pub fn networks() -> RefOr<Schema> {
        list_or_own(
            String::schema(),
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

    #[test]
    fn a_set_of_vlans_is_written_in_one_way() {
        for (text, shown) in [
            ("10,20-29", "10,20-29"),
            ("20-29,10", "10,20-29"),
            ("1-5,4-9,10", "1-10"),
            ("all", "all"),
            ("1-4094", "all"),
        ] {
            assert_eq!(text.parse::<VlanSet>().unwrap().to_string(), shown);
        }
        for wrong in ["", "0", "4095", "9-3", "x", "1,,2", "-3", "99999"] {
            assert!(wrong.parse::<VlanSet>().is_err(), "{wrong}");
        }
    }

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
    }

    #[test]
    fn vlans_are_added_to_a_set_and_taken_out_of_it() {
        let set = |text: &str| text.parse::<VlanSet>().unwrap();
        assert_eq!(set("10,20").with(&set("30,15-21")).to_string(), "10,15-21,30");
        assert_eq!(set("10-20").without(&set("15,20")).unwrap().to_string(), "10-14,16-19");
        assert_eq!(set("10").without(&set("all")), None);
    }

    #[test]
    fn the_forms_of_a_vlan_setting() {
        let forms = [
            ("\"all\"", PortVlan::All),
            ("{\"access\":10}", PortVlan::Access(VlanId(10))),
            ("{\"tunnel\":100}", PortVlan::Tunnel(VlanId(100))),
            (
                "{\"trunk\":{\"allowed\":\"10,20-29\",\"native\":1}}",
                PortVlan::Trunk(Trunk {
                    allowed: "10,20-29".parse().unwrap(),
                    native: Some(VlanId(1)),
                    tag: TagKind::Customer,
                }),
            ),
        ];
        for (text, value) in forms {
            assert_eq!(serde_json::from_str::<PortVlan>(text).unwrap(), value);
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
        }
        assert!(serde_json::from_str::<PortVlan>("{\"access\":0}").is_err());
    }
}
