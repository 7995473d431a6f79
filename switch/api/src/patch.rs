//! JSON merge patches (RFC 7396): what they name is changed, `null` takes away, all else stays.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::cable::CableSettings;
use crate::lab::{Port, Switch};
use crate::lab_namespace::LabNamespace;
use crate::mirror::Mirror;
use crate::strict;
use crate::traffic::to_keys;

/// What stands for a change of something: an object with only what is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct MergePatch(Map<String, Value>);

impl<'de> Deserialize<'de> for MergePatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Self)
    }
}

/// Reads an object in which each member is there once, at any depth. serde_json keeps the last of several, where all else that is read
/// here refuses them: a proxy that keeps the first would have let another change through than is made.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if read.contains_key(&name) {
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
            read.insert(name, members.next_value_seed(Member)?);
        }
        Ok(read)
    }
}

/// Reads any value with [`Members`] in it.
struct Member;

impl<'de> DeserializeSeed<'de> for Member {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(element) = elements.next_element_seed(Self)? {
            read.push(element);
        }
        Ok(read.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Value, A::Error> {
        Members.visit_map(members).map(Value::Object)
    }
}

impl MergePatch {
    /// Says what is to become of the member at this path, such as `learning.limit`.
    #[must_use]
    pub fn with(mut self, path: &str, value: impl Into<Value>) -> Self {
        if let Some((members, name)) = self.place(path) {
            members.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The same, unless something was said of it already, of a part of it or of what it is a part of.
    ///
    /// # Errors
    /// Something was: which of the two is meant can't be told.
    pub fn also(&mut self, path: &str, value: impl Into<Value>) -> Result<(), String> {
        match self.place(path) {
            Some((members, name)) if !members.contains_key(name) => {
                members.insert(name.to_owned(), value.into());
                Ok(())
            }
            _ => Err(format!("{path} is said twice, or as a whole and in part")),
        }
    }

    /// The object at all of the path but its end, made if it is not there, and the name at the end. None: what is there is no object.
    fn place<'a>(&mut self, path: &'a str) -> Option<(&mut Map<String, Value>, &'a str)> {
        let (outer, name) = path.rsplit_once('.').unwrap_or(("", path));
        let mut members = &mut self.0;
        for step in outer.split('.').filter(|step| !step.is_empty()) {
            let inner = members.entry(step).or_insert_with(|| Value::Object(Map::new()));
            members = inner.as_object_mut()?;
        }
        Some((members, name))
    }

    /// Nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is said of a member.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// `before` with the changes. A member that holds one of several alternatives (`one_of`) has only the one that the patch names.
    ///
    /// # Errors
    /// What comes out is no `T`, or the patch takes away what no `T` has.
    pub fn apply<T: Serialize + DeserializeOwned>(&self, before: &T, one_of: &[&str]) -> Result<T, String> {
        let mut after = serde_json::to_value(before).map_err(|error| error.to_string())?;
        for name in one_of {
            if let (Some(Value::Object(said)), Some(Value::Object(there))) = (self.0.get(*name), after.get_mut(*name)) {
                there.retain(|alternative, _| said.contains_key(alternative));
            }
        }
        merge(&mut after, &Value::Object(self.0.clone()));
        let mut taken = Vec::new();
        nulls(&self.0, &mut Vec::new(), &mut taken);
        for path in taken {
            // What is not there can't be taken away, but a name that can't be there is a mistake.
            let mut probe = after.clone();
            put_null(&mut probe, &path);
            if let Err(error) = strict::from_value::<T>(probe).map_err(|error| error.to_string())
                && error.contains("unknown field")
            {
                return Err(error);
            }
        }
        strict::from_value(after).map_err(|error| error.to_string())
    }
}

/// Settings for a patch that are to take the place of those before: what they leave out is taken away.
pub fn in_place<T: Serialize + PartialSchema>(settings: &T) -> Value {
    let mut said = serde_json::to_value(settings).unwrap_or_default();
    if let (Value::Object(said), RefOr::T(Schema::Object(all))) = (&mut said, T::schema()) {
        for name in all.properties.into_keys() {
            said.entry(name).or_insert(Value::Null);
        }
    }
    said
}

/// RFC 7396 section 2.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}

fn nulls<'a>(patch: &'a Map<String, Value>, path: &mut Vec<&'a str>, found: &mut Vec<Vec<&'a str>>) {
    for (name, value) in patch {
        path.push(name);
        match value {
            Value::Null => found.push(path.clone()),
            Value::Object(inner) => nulls(inner, path, found),
            _ => {}
        }
        path.pop();
    }
}

fn put_null(value: &mut Value, path: &[&str]) {
    if let (Value::Object(members), [name, rest @ ..]) = (value, path) {
        if rest.is_empty() {
            members.insert((*name).to_owned(), Value::Null);
        } else if let Some(inner) = members.get_mut(*name) {
            put_null(inner, rest);
        }
    }
}

macro_rules! patch_type {
    ($(#[$doc:meta])* $type:ident, $of:ty, $fixed:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub MergePatch);

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let text = concat!("A JSON merge patch (RFC 7396) of a `", stringify!($of), "`: what is absent stays, `null` takes \
                    away. All that it has may be named, but not its ", $fixed, ".");
                changes_of(<$of>::schema(), $fixed, text)
            }
        }

        impl ToSchema for $type {
            fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
                <$of as ToSchema>::schemas(schemas);
            }
        }
    };
}

patch_type!(
    /// Changes of a port. `PATCH /v1/ports/{name}`
    PortPatch, Port, "name"
);
patch_type!(
    /// Changes of a switch. `PATCH /v1/switches/{name}`
    SwitchPatch, Switch, "name"
);
patch_type!(
    /// Changes of a mirror. `PATCH /v1/mirrors/{name}`
    MirrorPatch, Mirror, "name"
);
patch_type!(
    /// Changes of a namespace. `PATCH /v1/namespaces/{name}`
    NamespacePatch, LabNamespace, "name"
);
patch_type!(
    /// Changes of a cable. `PATCH /v1/cables/{a}/{b}`
    CablePatch, CableSettings, "ends"
);

impl PortPatch {
    /// `before` with the changes. One VLAN setting takes the place of another, and words of the command line that of keys.
    ///
    /// # Errors
    /// Those of [`MergePatch::apply`]; a quantity without its unit.
    pub fn apply(&self, before: &Port) -> Result<Port, String> {
        let mut patch = self.0.clone();
        to_keys(&mut patch.0)?;
        patch.apply(before, &["vlan"])
    }

    /// Whether the port is to be up, whatever it was before.
    pub fn sets_up(&self) -> bool {
        self.0.get("up") == Some(&true.into())
    }
}

/// The schema of an object in which nothing must be there, and anything but `fixed` may be null.
fn changes_of(schema: RefOr<Schema>, fixed: &str, text: &str) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut object)) = schema else {
        return schema;
    };
    object.required.clear();
    object.description = Some(text.to_owned());
    for (name, property) in &mut object.properties {
        if name != fixed {
            let null = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Null)).build();
            let either = OneOfBuilder::new().item(property.clone()).item(Schema::Object(null));
            // With null beside it already, as an optional setting has it.
            if !takes_null(property) {
                *property = Schema::OneOf(either.build()).into();
            }
        }
    }
    RefOr::T(Schema::Object(object))
}

fn takes_null(property: &RefOr<Schema>) -> bool {
    let null = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == SchemaType::Type(Type::Null));
    match property {
        RefOr::T(Schema::OneOf(one)) => one.items.iter().any(null),
        RefOr::T(Schema::Object(object)) => {
            matches!(&object.schema_type, SchemaType::Array(types) if types.contains(&Type::Null))
        }
        RefOr::T(Schema::Array(array)) => {
            matches!(&array.schema_type, SchemaType::Array(types) if types.contains(&Type::Null))
        }
        RefOr::T(_) | RefOr::Ref(Ref { .. }) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::PortKind;
    use crate::policy::{PortVlan, VlanId};

    fn patch(text: &str) -> MergePatch {
        serde_json::from_str(text).unwrap()
    }

    /// The examples of RFC 7396 appendix A that have objects on both sides.
    #[test]
    fn it_is_the_merge_of_the_rfc() {
        for (before, patch, after) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let mut value: Value = serde_json::from_str(before).unwrap();
            merge(&mut value, &serde_json::from_str(patch).unwrap());
            assert_eq!(value, serde_json::from_str::<Value>(after).unwrap(), "{before} {patch}");
        }
    }

    /// The last one was made, where `POST` refuses it.
    #[test]
    fn a_member_is_there_once() {
        for twice in [
            r#"{"mtu":1400,"mtu":9000}"#,
            r#"{"mtu":null,"mtu":null}"#,
            r#"{"learning":{"limit":1,"limit":2}}"#,
            r#"{"routes":[{"to":"10.0.0.0/8","to":"10.1.0.0/16"}]}"#,
        ] {
            let error = strict::from_json::<PortPatch>(twice.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("duplicate field"), "{twice}: {error}");
        }
        let once = r#"{"a":[1,-1,1.5,"x",true,null,{"b":{}}],"b":{"b":18446744073709551615}}"#;
        let read: PortPatch = strict::from_json(once.as_bytes()).unwrap();
        let value: Value = serde_json::from_str(once).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), value);
        assert!(strict::from_json::<PortPatch>(b"[]").is_err());
    }

    #[test]
    fn what_a_patch_does_not_name_stays() {
        let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
        port.learning.sticky = true;
        let after = patch(r#"{"learning":{"locked":true},"mtu":1400}"#)
            .apply(&port, &[])
            .unwrap();
        assert!(after.learning.sticky && after.learning.locked && after.mtu == Some(1400));
        let after = patch(r#"{"learning":{"sticky":null},"mtu":null}"#)
            .apply(&after, &[])
            .unwrap();
        assert!(!after.learning.sticky && after.learning.locked && after.mtu.is_none());
    }

    #[test]
    fn a_path_is_said_once() {
        let mut said = MergePatch::default().with("learning.limit", 5).with("mtu", 1400);
        assert_eq!(said, patch(r#"{"learning":{"limit":5},"mtu":1400}"#));
        for twice in ["mtu", "learning.limit", "learning", "mtu.x", "learning.limit.x"] {
            assert!(said.also(twice, 7).is_err(), "{twice}");
        }
        said.also("learning.sticky", true).unwrap();
        said.also("vlan.trunk.native", 7).unwrap();
        let all = r#"{"learning":{"limit":5,"sticky":true},"mtu":1400,"vlan":{"trunk":{"native":7}}}"#;
        assert_eq!(said, patch(all));
    }

    #[test]
    fn settings_can_take_the_place_of_all_those_before() {
        use crate::traffic::RateLimit;
        let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
        port.police = Some(RateLimit {
            rate_pps: Some(5),
            burst_frames: Some(50),
            ..RateLimit::default()
        });
        let limit = RateLimit {
            rate_bps: Some(1_000_000),
            ..RateLimit::default()
        };
        let patch = MergePatch::default().with("police", in_place(&limit));
        assert_eq!(patch.apply(&port, &[]).unwrap().police, Some(limit));
    }

    /// The lab has keys such as `delay_us`, so a patch by words said the same twice.
    #[test]
    fn words_change_what_keys_said() {
        let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
        for (text, settings) in [
            (
                r#"{"impair":{"out":{"delay_us":5,"loss":"1%"}}}"#,
                r#"{"impair":{"out":{"delay_us":5,"loss":0.01}}}"#,
            ),
            (
                r#"{"impair":{"out":{"delay":"20ms","rate":"10mbit"}}}"#,
                r#"{"impair":{"out":{"delay_us":20000,"loss":0.01,"rate_bps":10000000}}}"#,
            ),
            (
                r#"{"impair":{"out":{"delay":null,"jitter":null,"burst":"64k"}}}"#,
                r#"{"impair":{"out":{"loss":0.01,"rate_bps":10000000,"burst_bytes":65536}}}"#,
            ),
            (
                r#"{"impair":null,"police":{"rate":"1mbit"},"storm":{"broadcast":"100pps"}}"#,
                r#"{"police":{"rate_bps":1000000},"storm":{"broadcast":{"rate_pps":100}}}"#,
            ),
            (
                r#"{"police":{"pps":7},"storm":{"broadcast":{"rate":"1mbit"},"multicast":"10mbit burst 64k"}}"#,
                r#"{"police":{"rate_bps":1000000,"rate_pps":7},"storm":{"broadcast":{"rate_bps":1000000,"rate_pps":100},
                    "multicast":{"rate_bps":10000000,"burst_bytes":65536}}}"#,
            ),
            (
                r#"{"police":"100pps","storm":{"broadcast":null,"multicast":"1pps"}}"#,
                r#"{"police":{"rate_pps":100},"storm":{"multicast":{"rate_pps":1}}}"#,
            ),
        ] {
            port = PortPatch(patch(text)).apply(&port).unwrap();
            let mut value = serde_json::to_value(&port).unwrap();
            value
                .as_object_mut()
                .unwrap()
                .retain(|name, _| ["impair", "police", "storm"].contains(&name.as_str()));
            assert_eq!(value, serde_json::from_str::<Value>(settings).unwrap(), "{text}");
        }
        for (wrong, part) in [
            (r#"{"impair":{"out":{"delay":20}}}"#, "\"20ms\""),
            (r#"{"impair":{"in":{"delay":"1ms","delay_us":1}}}"#, "impair.in.delay"),
            (r#"{"impair":{"out":{"dealy":"1ms"}}}"#, "unknown field"),
            (r#"{"impair":{"out":{"dealy":null}}}"#, "unknown field"),
            (r#"{"police":{"rate":100}}"#, "police.rate"),
            (r#"{"storm":{"broadcast":{"rate":"100"}}}"#, "100mbit"),
            (r#"{"police":[5]}"#, "expected an object"),
        ] {
            let error = PortPatch(patch(wrong)).apply(&port).expect_err(wrong);
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }

    #[test]
    fn another_alternative_takes_the_place_of_the_one_before() {
        let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
        for (text, vlan) in [
            (
                r#"{"vlan":{"trunk":{"allowed":"10,20"}}}"#,
                r#"{"trunk":{"allowed":"10,20"}}"#,
            ),
            (
                r#"{"vlan":{"trunk":{"native":7}}}"#,
                r#"{"trunk":{"allowed":"10,20","native":7}}"#,
            ),
            (r#"{"vlan":{"access":10}}"#, r#"{"access":10}"#),
            (r#"{"vlan":null}"#, "\"all\""),
            (r#"{"vlan":{"tunnel":5}}"#, r#"{"tunnel":5}"#),
            (r#"{"vlan":"all"}"#, "\"all\""),
        ] {
            port = patch(text).apply(&port, &["vlan"]).unwrap();
            assert_eq!(serde_json::to_string(&port.vlan).unwrap(), vlan, "{text}");
        }
        assert_eq!(port.vlan, PortVlan::All);
        assert!(VlanId::try_from(7).is_ok());
    }

    #[test]
    fn what_there_can_not_be_is_refused_also_to_be_taken_away() {
        let port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
        for wrong in [
            r#"{"colour":1}"#,
            r#"{"colour":null}"#,
            r#"{"learning":{"colour":null}}"#,
            r#"{"mtu":[1400]}"#,
            r#"{"mtu":"x"}"#,
            r#"{"learning":[true]}"#,
            r#"{"name":null}"#,
        ] {
            assert!(patch(wrong).apply(&port, &[]).is_err(), "{wrong}");
        }
        assert_eq!(
            patch(r#"{"police":null,"learning":{"limit":null}}"#).apply(&port, &[]),
            Ok(port)
        );
    }
}
