//! Mirrors: copies of frames to a port (SPAN). Part of the lab; `GET /v1/mirrors` shows them at work.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::capture::Direction;
use crate::name::{MirrorName, PortName, SwitchName};
use crate::policy::{VlanId, VlanSet};
use crate::strict::Strict;

/// Copies of the frames of some ports of a switch to another port of it (SPAN) or into a VLAN (RSPAN).
///
/// A destination port carries copies only: it is flooded nothing, nothing is learned there, and what comes in from it is
/// dropped (`mirror-port`). A frame is copied once, however many of the ports it passes.
///
/// Copies into a VLAN go out of all ports that a setting has put into it but the one that the frame came from, with its tag in the place of the
/// one that says the frame's own VLAN. This switch and each other on their way must have the VLAN among its
/// [`crate::Switch::rspan_vlans`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Unique name.
    pub name: MirrorName,
    /// Switch whose frames are copied.
    #[serde(default = "crate::lab::default_switch")]
    pub switch: SwitchName,
    /// Ports whose frames are copied; none: all but the destinations of mirrors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortName>,
    /// Only what rules of access lists copy here, and nothing by port; then `ports` is empty.
    #[serde(default, skip_serializing_if = "crate::policy::is_default")]
    pub rules_only: bool,
    /// Which frames of these ports. Those that go out are what the switch has for a port, before the port's own rules, impairment, MTU
    /// and queue.
    #[serde(default)]
    pub direction: Direction,
    /// Only frames of these VLANs: those that the switch put them into, or, where it tells none apart, of their tags. None: of all and of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<VlanSet>,
    /// The port that the copies go to. Either this or `to_vlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<PortName>,
    /// The VLAN that the copies go into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_vlan: Option<VlanId>,
    /// Only frames that this filter wants; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<MirrorFilter>,
}

impl Mirror {
    /// All frames of a switch, both ways, to a port or, once `to_vlan` is set in its place, into a VLAN.
    pub fn new(name: MirrorName, switch: SwitchName, to: Option<PortName>) -> Self {
        Self {
            name,
            switch,
            ports: Vec::new(),
            rules_only: false,
            direction: Direction::default(),
            vlans: None,
            to,
            to_vlan: None,
            filter: None,
        }
    }

    /// Where the copies go, in words: `mon`, `VLAN 999`.
    pub fn destination(&self) -> String {
        match (&self.to, self.to_vlan) {
            (Some(port), _) => port.to_string(),
            (None, Some(vlan)) => format!("VLAN {vlan}"),
            (None, None) => "nowhere".to_owned(),
        }
    }
}

/// A filter of frames. Where it has no program it may be written as its expression alone: `filter = "tcp port 80"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorFilter {
    /// The expression as it was given, in the words of tcpdump.
    pub expression: String,
    /// The classic BPF program that was made of it, as in [`crate::capture::CaptureOptions::filter`]. The daemon wants it:
    /// `vswitchctl apply` makes it where it is missing.
    pub program: Option<String>,
}

/// How a [`MirrorFilter`] with its program is written.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CompiledFilter<'a> {
    /// The expression as it was given, in the words of tcpdump.
    expression: Cow<'a, str>,
    /// The classic BPF program that was made of it, as `GET /v1/ports/{name}/capture` takes it.
    program: Cow<'a, str>,
}

impl Serialize for MirrorFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.program {
            None => serializer.serialize_str(&self.expression),
            Some(program) => CompiledFilter {
                expression: (&self.expression).into(),
                program: program.into(),
            }
            .serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for MirrorFilter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;

        impl<'de> Visitor<'de> for Written {
            type Value = MirrorFilter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a filter expression, or an object with its expression and program")
            }

            fn visit_str<E: serde::de::Error>(self, expression: &str) -> Result<MirrorFilter, E> {
                Ok(MirrorFilter {
                    expression: expression.to_owned(),
                    program: None,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<MirrorFilter, A::Error> {
                let compiled = CompiledFilter::deserialize(Strict(MapAccessDeserializer::new(members)))?;
                Ok(MirrorFilter {
                    expression: compiled.expression.into_owned(),
                    program: Some(compiled.program.into_owned()),
                })
            }
        }

        from.deserialize_any(Written)
    }
}

impl PartialSchema for MirrorFilter {
    fn schema() -> RefOr<Schema> {
        let text = "The expression alone, in the words of tcpdump: `vswitchctl` makes the program of it.";
        let alone = ObjectBuilder::new().schema_type(Type::String).description(Some(text));
        let one = OneOfBuilder::new().item(alone).item(CompiledFilter::schema());
        Schema::OneOf(one.description(Some("A filter of frames.")).build()).into()
    }
}

impl ToSchema for MirrorFilter {}

/// A mirror and what it did. `GET /v1/mirrors`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MirrorView {
    /// Its settings.
    #[serde(flatten, deserialize_with = "crate::reply::flattened")]
    pub mirror: Mirror,
    /// False: the destination is missing, so that nothing is copied.
    pub active: bool,
    /// Frames copied since it was added or the daemon started. What of them did not fit through the destination is
    /// among its `tx_drops`.
    pub frames: u64,
    /// Bytes of those.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filter was its program, so nobody could write one into a lab file.
    #[test]
    fn a_filter_may_be_its_expression_alone() {
        let alone: MirrorFilter = serde_json::from_str("\"tcp port 80\"").unwrap();
        assert_eq!((alone.expression.as_str(), &alone.program), ("tcp port 80", &None));
        assert_eq!(serde_json::to_string(&alone).unwrap(), "\"tcp port 80\"");
        let text = r#"{"expression":"tcp port 80","program":"1,6 0 0 1"}"#;
        let compiled: MirrorFilter = serde_json::from_str(text).unwrap();
        assert_eq!(compiled.program.as_deref(), Some("1,6 0 0 1"));
        assert_eq!(serde_json::to_string(&compiled).unwrap(), text);
        for wrong in ["[\"a\",\"b\"]", "{}", "5", r#"{"expression":"a","program":"b","c":1}"#] {
            assert!(serde_json::from_str::<MirrorFilter>(wrong).is_err(), "{wrong}");
        }
    }
}
