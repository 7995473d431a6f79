//! What the API promises (docs/stability.md), held against the document of its version: `docs/api/vN.json`.

use std::collections::BTreeSet;

use serde_json::Value;

/// What in `new` breaks a client that was written by `old`.
fn broken(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, operations) in members(&old["paths"]) {
        for (method, before) in members(operations) {
            let now = &new["paths"][path][method];
            if now.is_null() {
                found.push(format!("{method} {path} is gone"));
                continue;
            }
            operation(&format!("{method} {path}"), before, now, &mut found);
        }
    }
    let sent = sent(new);
    for (name, before) in members(&old["components"]["schemas"]) {
        match &new["components"]["schemas"][name] {
            Value::Null => found.push(format!("the schema {name} is gone")),
            now => schema(name, before, now, sent.contains(name), &mut found),
        }
    }
    found
}

fn operation(name: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    let id = |parameter: &Value| (parameter["in"].clone(), parameter["name"].clone());
    let (old, new) = (list(&before["parameters"]), list(&now["parameters"]));
    for parameter in old {
        match new.iter().find(|other| id(other) == id(parameter)) {
            None => found.push(format!("{name} takes no {} any more", parameter["name"])),
            Some(other) => schema(
                &format!("{name} {}", parameter["name"]),
                &parameter["schema"],
                &other["schema"],
                true,
                found,
            ),
        }
    }
    for parameter in new.iter().filter(|parameter| parameter["required"] == true) {
        if !old
            .iter()
            .any(|other| id(other) == id(parameter) && other["required"] == true)
        {
            found.push(format!("{name} needs {}", parameter["name"]));
        }
    }
    if now["requestBody"]["required"] == true && before["requestBody"]["required"] != true {
        found.push(format!("{name} needs a body"));
    }
    for part in ["requestBody", "responses"] {
        bodies(name, &before[part], &now[part], found);
    }
}

/// Media types, and what is in them, wherever they stand below.
fn bodies(name: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    for (key, before) in members(before) {
        match &now[key] {
            Value::Null if matches!(key, "description" | "required") => {}
            Value::Null => found.push(format!("{name} has no {key} any more")),
            now if key == "schema" => schema(name, before, now, false, found),
            now => bodies(name, before, now, found),
        }
    }
}

/// `is_sent`: by clients.
fn schema(name: &str, before: &Value, now: &Value, is_sent: bool, found: &mut Vec<String>) {
    if before["$ref"] != now["$ref"] {
        found.push(format!(
            "{name} is another type: {} and now {}",
            before["$ref"], now["$ref"]
        ));
    }
    // What was a type or a word still is one. Where nothing was said all was allowed.
    for key in ["type", "enum"] {
        let (old, new) = (words(&before[key]), words(&now[key]));
        if let Some(gone) = old.iter().find(|word| !new.is_empty() && !new.contains(*word)) {
            found.push(format!("{name} is no {gone} any more"));
        }
        if old.is_empty() && !new.is_empty() && before["$ref"].is_null() && before != &Value::Bool(true) {
            let was_open = ["oneOf", "anyOf", "allOf"].iter().all(|key| before[*key].is_null());
            if was_open {
                found.push(format!("{name} is held to fewer values"));
            }
        }
    }
    for key in ["oneOf", "anyOf", "allOf"] {
        let new = list(&now[key]);
        for (n, alternative) in list(&before[key]).iter().enumerate() {
            let breaks = |now: &Value| {
                let mut found = Vec::new();
                schema(&format!("{name} ({n})"), alternative, now, is_sent, &mut found);
                found
            };
            // Wherever it stands; if nowhere, the one in its place tells most likely what became of it.
            if new.iter().any(|now| breaks(now).is_empty()) {
                continue;
            }
            match new.get(n) {
                None => found.push(format!("{name} lacks an alternative that it had")),
                Some(now) => found.extend(breaks(now)),
            }
        }
    }
    for (key, before) in members(&before["properties"]) {
        match &now["properties"][key] {
            Value::Null => found.push(format!("{name} has no {key} any more")),
            now => schema(&format!("{name}.{key}"), before, now, is_sent, found),
        }
    }
    if !before["items"].is_null() {
        schema(&format!("{name}[]"), &before["items"], &now["items"], is_sent, found);
    }
    let (old, new) = (words(&before["required"]), words(&now["required"]));
    if is_sent {
        for key in new.iter().filter(|key| !old.contains(*key)) {
            found.push(format!("{name} needs {key}"));
        }
    } else {
        for key in old.iter().filter(|key| !new.contains(*key)) {
            found.push(format!("{name} may lack {key}"));
        }
    }
}

/// The schemas that clients send, with all below.
fn sent(document: &Value) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, operations) in members(&document["paths"]) {
        for (_, operation) in members(operations) {
            refer(document, &operation["requestBody"], &mut names);
        }
    }
    names
}

fn refer(document: &Value, value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(name) = members
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|path| path.rsplit('/').next())
                && names.insert(name.to_owned())
            {
                refer(document, &document["components"]["schemas"][name], names);
            }
            members.values().for_each(|value| refer(document, value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| refer(document, value, names)),
        _ => {}
    }
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn words(value: &Value) -> BTreeSet<&str> {
    match value {
        Value::String(word) => BTreeSet::from([word.as_str()]),
        value => list(value).iter().filter_map(Value::as_str).collect(),
    }
}

#[test]
fn no_client_of_this_version_of_the_api_is_broken() {
    let version = vswitch_api::API_VERSION;
    let path = format!("{}/../docs/api/v{version}.json", env!("CARGO_MANIFEST_DIR"));
    let now = serde_json::to_value(super::openapi()).unwrap();
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!("{path}: {error}; a new version begins with a copy of docs/openapi.json there, and so does each release")
    });
    let broken = broken(&serde_json::from_str(&text).unwrap(), &now);
    assert!(
        broken.is_empty(),
        "this breaks clients of version {version}; keep it as it was, or raise API_VERSION (docs/stability.md):\n{}",
        broken.join("\n")
    );
}

#[test]
fn what_breaks_a_client_is_found_and_what_is_new_is_none_of_it() {
    let old = serde_json::json!({
        "paths": {"/p": {"post": {
            "parameters": [{"in": "query", "name": "a", "schema": {"type": "string"}}],
            "requestBody": {"required": true, "content": {"json": {"schema": {"$ref": "#/components/schemas/In"}}}},
            "responses": {"200": {"content": {"json": {"schema": {"$ref": "#/components/schemas/Out"}}}}}}}},
        "components": {"schemas": {
            "In": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}, "kind": {"enum": ["x", "y"]}}},
            "Out": {"type": "object", "required": ["done"], "properties": {"done": {"type": ["integer", "null"]}}}}}});
    let changed = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        broken(&old, &new)
    };
    let schemas = "/components/schemas";
    assert_eq!(broken(&old, &old), [""; 0]);
    // An operation, a property, a word, an alternative more.
    let mut more = old.clone();
    more["paths"]["/q"] = serde_json::json!({"get": {}});
    more["components"]["schemas"]["In"]["properties"]["new"] = serde_json::json!({"type": "string"});
    more["components"]["schemas"]["In"]["properties"]["kind"]["enum"] = serde_json::json!(["x", "y", "z"]);
    assert_eq!(broken(&old, &more), [""; 0]);

    for (pointer, value, said) in [
        ("/paths".to_owned(), serde_json::json!({}), "post /p is gone"),
        (
            "/paths/~1p/post/parameters".into(),
            serde_json::json!([]),
            "takes no \"a\"",
        ),
        ("/paths/~1p/post/responses".into(), serde_json::json!({}), "has no 200"),
        (
            format!("{schemas}/In/required"),
            serde_json::json!(["name", "kind"]),
            "In needs kind",
        ),
        (
            format!("{schemas}/In/properties/kind/enum"),
            serde_json::json!(["x"]),
            "In.kind is no y",
        ),
        (
            format!("{schemas}/In/properties/name"),
            serde_json::json!({"type": "integer"}),
            "In.name is no string",
        ),
        (
            format!("{schemas}/Out/properties"),
            serde_json::json!({}),
            "Out has no done",
        ),
        (
            format!("{schemas}/Out/required"),
            serde_json::json!([]),
            "Out may lack done",
        ),
    ] {
        let found = changed(&pointer, value);
        assert!(found.iter().any(|line| line.contains(said)), "{pointer}: {found:?}");
    }
}
