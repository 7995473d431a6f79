//! VLANs, and which of them a port belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::is_default;
use crate::name::InvalidValue;
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

    /// Whether ports with these settings have a VLAN in common, or what is in none.
    pub fn shares_one_with(&self, other: &Self) -> bool {
        match (self.members(), other.members()) {
            (Some(own), Some(others)) => {
                let overlap = |a: &(VlanId, VlanId), b: &(VlanId, VlanId)| a.0 <= b.1 && b.0 <= a.1;
                own.iter().any(|a| others.iter().any(|b| overlap(a, b)))
            }
            // One of them has all, and each has one.
            _ => true,
        }
    }

    /// First and last VLAN of each range that it is in. None: it is in all.
    fn members(&self) -> Option<Vec<(VlanId, VlanId)>> {
        let mut ranges = match self {
            Self::All => return None,
            Self::Access(_) | Self::Tunnel(_) => Vec::new(),
            Self::Trunk(trunk) => trunk.allowed.ranges().to_vec(),
        };
        ranges.extend(self.untagged().map(|id| (id, id)));
        Some(ranges)
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

impl Trunk {
    /// These VLANs with customer tags, and nothing without a tag.
    pub fn new(allowed: VlanSet) -> Self {
        Self {
            allowed,
            native: None,
            tag: TagKind::default(),
        }
    }
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
