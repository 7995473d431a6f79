//! JSON Schemas (draft 2020-12) of what the API takes, made of the same declarations as its OpenAPI document: for editors, and for
//! whoever wants to know which settings there are ([`crate::settings`]).

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use crate::lab::Lab;
use crate::traffic::with_words;

/// Where the OpenAPI document has its schemas.
const COMPONENTS: &str = "#/components/schemas/";

/// The schema of a lab file.
pub fn lab() -> Value {
    let mut schema = of::<Lab>();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("vswitch lab");
    schema
}

/// The schema of one type. Those that it refers to are in its `$defs`.
pub fn of<T: ToSchema>() -> Value {
    let mut named: Vec<(String, RefOr<Schema>)> = Vec::new();
    T::schemas(&mut named);
    for (name, schema) in &mut named {
        with_words(name, schema);
    }
    let as_value = |schema: &RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
    let definitions: Map<_, _> = named
        .iter()
        .map(|(name, schema)| (name.clone(), as_value(schema)))
        .collect();
    let mut schema = as_value(&T::schema());
    if let Value::Object(members) = &mut schema {
        members.insert("$defs".to_owned(), Value::Object(definitions));
    }
    to_json_schema(&mut schema);
    schema
}

/// From the dialect of OpenAPI to plain JSON Schema.
fn to_json_schema(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref")
                && let Some(name) = target.strip_prefix(COMPONENTS)
            {
                *target = format!("#/$defs/{name}");
            }
            if let Some(example) = members.remove("example") {
                members.insert("examples".to_owned(), json!([example]));
            }
            // Widths of numbers, which are words of OpenAPI alone.
            if members.get("format").is_some_and(Value::is_string) {
                members.remove("format");
            }
            // No object of a lab takes more than it has, the variants of enumerations included.
            if members.get("properties").is_some_and(Value::is_object) {
                members.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            members.values_mut().for_each(to_json_schema);
        }
        Value::Array(list) => list.iter_mut().for_each(to_json_schema),
        _ => {}
    }
}

/// What a schema refers to in the end, or the schema itself.
pub(crate) fn resolved<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    while let Some(target) = schema.get("$ref").and_then(Value::as_str)
        && let Some(there) = root.pointer(target.trim_start_matches('#'))
    {
        schema = there;
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Port;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| match value.as_str() {
                Some(target) if name == "$ref" => found.push(target.to_owned()),
                _ => references(value, found),
            }),
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_resolves() {
        for schema in [lab(), of::<Port>()] {
            let mut found = Vec::new();
            references(&schema, &mut found);
            assert!(found.len() > 20, "{}", found.len());
            for target in found {
                assert!(schema.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            }
        }
    }

    /// A property may be called as a word of JSON Schema is.
    #[test]
    fn properties_keep_their_names() {
        let schema = of::<crate::mirror::Mirror>();
        assert!(schema["properties"]["filter"].is_object());
        assert!(!schema.to_string().contains("\"example\":"));
    }
}
