//! JSON merge patches (RFC 7396): what they name is changed, `null` takes away, all else stays.

use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
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
        let mut patch = self.0.clone();
        for name in one_of {
            choose(name, &mut patch, &mut after)?;
        }
        merge(&mut after, &Value::Object(patch));
        let mut taken = Vec::new();
        nulls(&self.0, &mut Vec::new(), &mut taken);
        for path in taken {
            // What is not there can't be taken away, but a name that can't be there is a mistake.
            let mut probe = after.clone();
            match path[..] {
                // By itself, as there is one of them only.
                [name, alternative, ..] if one_of.contains(&name) => {
                    probe[name] = json!({ alternative: self.0[name][alternative] });
                }
                _ => put_null(&mut probe, &path),
            }
            if let Err(error) = strict::from_value::<T>(probe).map_err(|error| error.to_string())
                && (error.contains("unknown field") || error.contains("unknown variant"))
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

/// Prepares a member that holds one of several alternatives, and what is said of it: the one that is named takes the place of the one
/// before. Where the one before is only taken away, the member goes with the last of it.
fn choose(name: &str, patch: &mut Map<String, Value>, after: &mut Value) -> Result<(), String> {
    let (Some(Value::Object(said)), Some(after)) = (patch.get(name), after.as_object_mut()) else {
        return Ok(());
    };
    let chosen: Vec<_> = said.iter().filter(|(_, value)| !value.is_null()).collect();
    if let [(first, _), (second, _), ..] = chosen[..] {
        return Err(format!("{name}: it is {first} or {second}, not both; say one of them"));
    }
    let only_takes = takes_only(said);
    let Some(Value::Object(there)) = after.get_mut(name) else {
        // Nothing can be taken of what is not there, or is another word.
        if only_takes {
            patch.remove(name);
        }
        return Ok(());
    };
    if !only_takes {
        there.retain(|alternative, _| said.is_empty() || chosen.iter().any(|(chosen, _)| *chosen == alternative));
        return Ok(());
    }
    // What is taken of another alternative than the one that is there is not there.
    let said = said.iter().filter(|(alternative, _)| there.contains_key(*alternative));
    let said = said.map(|(alternative, value)| (alternative.clone(), value.clone()));
    let mut left = Value::Object(there.clone());
    merge(&mut left, &Value::Object(said.collect()));
    patch.remove(name);
    let is_gone = |alternative: &Value| alternative.as_object().is_some_and(Map::is_empty);
    match left.as_object().is_some_and(|left| left.values().all(is_gone)) {
        true => after.remove(name),
        false => after.insert(name.to_owned(), left),
    };
    Ok(())
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

/// Something is taken away, and nothing else is said.
fn takes_only(patch: &Map<String, Value>) -> bool {
    let takes = |value: &Value| match value {
        Value::Object(inner) => takes_only(inner),
        value => value.is_null(),
    };
    !patch.is_empty() && patch.values().all(takes)
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
        let applied = patch.apply(before, &["vlan", "isolation"]);
        applied.map_err(|cause| match cause.starts_with("vlan.trunk: missing field") {
            true => {
                "vlan.trunk: it has no VLANs that pass; say vlan.trunk.allowed too, or vlan.trunk=none to take back all of it".into()
            }
            false => cause,
        })
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
mod tests;
