//! What is made of the OpenAPI document, and out of it.

use std::collections::{BTreeMap, HashMap};

use axum::http::Method;
use utoipa::openapi::schema::{AllOf, Object, Schema};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::{OpenApi, RefOr};
use vswitch_api::traffic::with_words;
use vswitch_api::view::Role;

use super::formats;

/// Member of an operation that tells which role it needs, in its declaration where [`default_role`] is not right.
const ROLE: &str = "x-role";

/// What a route takes.
#[derive(Debug)]
pub(super) struct Takes {
    /// Role that it needs.
    pub role: Role,
    /// Parameters in its query.
    pub queries: Vec<String>,
    /// A body.
    pub body: bool,
}

/// What routes take, by method and path.
#[derive(Debug)]
pub(super) struct Known(HashMap<(String, String), Takes>);

impl Known {
    /// That of the document's routes. All others take nothing.
    pub fn new(document: &OpenApi) -> Self {
        let document = serde_json::to_value(document).unwrap_or_default();
        let mut known = HashMap::new();
        for (path, operations) in document["paths"].as_object().into_iter().flatten() {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let queries = parameters.filter(|parameter| parameter["in"] == "query");
                let names = queries.filter_map(|parameter| parameter["name"].as_str().map(str::to_owned));
                // What nobody understands is for those who may do all.
                let role = serde_json::from_value(operation[ROLE].clone()).unwrap_or(Role::Root);
                let takes = Takes {
                    role,
                    queries: names.collect(),
                    body: operation.get("requestBody").is_some(),
                };
                known.insert((method.to_uppercase(), path.clone()), takes);
            }
        }
        Self(known)
    }

    /// That of one route; none: it takes nothing.
    pub fn of(&self, method: &Method, path: &str) -> Option<&Takes> {
        // HEAD is GET without the body.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let route = (method.as_str().to_owned(), path.to_owned());
        self.0.get(&route)
    }

    /// The role that a request needs.
    pub fn role(&self, method: &Method, path: Option<&str>) -> Role {
        let takes = path.and_then(|path| self.of(method, path));
        takes.map_or_else(|| default_role(method), |takes| takes.role)
    }
}

/// Where the API is, and who may use it.
const SOCKET: &str = "The unix socket of the daemon, /run/vswitch/control.sock unless vswitchd.toml has another. Who may open it is decided by its \
    owner, group and mode; the daemon asks the kernel who has connected, so no request carries credentials. What stands in the place of the \
    host's name does not matter.";

/// What only asks is for all that may connect.
fn default_role(method: &Method) -> Role {
    match *method {
        Method::GET | Method::HEAD => Role::ReadOnly,
        _ => Role::Admin,
    }
}

/// Finishes what the declarations say: adds the role that each route needs and the words that stand for keys, and writes objects that have all of others (`allOf`) out as one. Each part of an `allOf` sees all members: one that forbids
/// those that it does not know would refuse whatever the daemon answers.
pub(super) fn finish(document: &mut OpenApi) {
    formats::rename(document);
    for item in document.paths.paths.values_mut() {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                let extensions = operation.extensions.get_or_insert_default();
                let role = || default_role(&method).to_string().into();
                extensions.entry(ROLE.to_owned()).or_insert_with(role);
            }
        }
    }
    let socket = ServerBuilder::new().url("http://localhost").description(Some(SOCKET));
    document.servers = Some(vec![socket.build()]);
    // Said, and not left open: nothing in a request tells who sends it.
    document.security = Some(Vec::new());
    let Some(components) = &mut document.components else {
        return;
    };
    for (name, schema) in &mut components.schemas {
        with_words(name, schema);
    }
    let all = components.schemas.clone();
    for schema in components.schemas.values_mut() {
        if let RefOr::T(Schema::AllOf(parts)) = schema
            && let Some(whole) = one_object(parts, &all)
        {
            *schema = RefOr::T(Schema::Object(whole));
        }
    }
}

/// All parts in one, if all are objects.
fn one_object(parts: &AllOf, all: &BTreeMap<String, RefOr<Schema>>) -> Option<Object> {
    let mut whole = Object::default();
    for part in &parts.items {
        let part = match part {
            RefOr::T(part) => part,
            RefOr::Ref(to) => match all.get(to.ref_location.rsplit('/').next()?)? {
                RefOr::T(part) => part,
                RefOr::Ref(_) => return None,
            },
        };
        let Schema::Object(part) = part else { return None };
        let properties = part.properties.iter();
        whole
            .properties
            .extend(properties.map(|(name, schema)| (name.clone(), schema.clone())));
        whole.required.extend(part.required.iter().cloned());
    }
    whole.description.clone_from(&parts.description);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::openapi;
    use super::*;

    fn document() -> Value {
        serde_json::to_value(openapi()).unwrap()
    }

    /// All that changes something: not what only asks by POST.
    fn edits(document: &Value) -> Vec<(&str, &str, &Value)> {
        let mut edits = Vec::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                if method != "get" && operation["operationId"] != "trace" {
                    edits.push((method.as_str(), path.as_str(), operation));
                }
            }
        }
        assert!(edits.len() > 20);
        edits
    }

    /// `PATCH /v1/ports/red?dry_run` made the change.
    #[test]
    fn every_edit_can_be_tried_and_made_on_a_condition() {
        let document = document();
        for (method, path, operation) in edits(&document) {
            let has = |place: &str, name: &str| {
                let mut parameters = operation["parameters"].as_array().into_iter().flatten();
                parameters.any(|parameter| parameter["in"] == place && parameter["name"] == name)
            };
            assert!(has("query", "dry_run"), "{method} {path} takes no dry_run");
            // A restart changes nothing that a tag stands for.
            let on_condition = has("header", "If-Match") || operation["operationId"] == "restart";
            assert!(on_condition, "{method} {path} takes no If-Match");
        }
    }

    #[test]
    fn what_a_route_takes_is_known() {
        let known = Known::new(&openapi());
        let list = known.of(&Method::HEAD, "/v1/ports").unwrap();
        assert_eq!((&list.queries[..], list.body), (&["switch".to_owned()][..], false));
        let patch = known.of(&Method::PATCH, "/v1/ports/{name}").unwrap();
        assert!(patch.queries.contains(&"dry_run".to_owned()) && patch.body);
        assert!(!known.of(&Method::POST, "/v1/reset").unwrap().body);
        for (method, path, role) in [
            (Method::GET, "/v1/ports", Role::ReadOnly),
            (Method::HEAD, "/v1/ports", Role::ReadOnly),
            (Method::PATCH, "/v1/ports/{name}", Role::Admin),
            (Method::POST, "/v1/ports/{name}/trace", Role::ReadOnly),
            (Method::GET, "/v1/ports/{name}/trace", Role::Admin),
            (Method::GET, "/v1/ports/{name}/capture", Role::Admin),
            (Method::HEAD, "/v1/ports/{name}/capture", Role::Admin),
            (Method::GET, "/v1/processes/{name}/log", Role::Admin),
            (Method::GET, "/v1/openapi.json", Role::ReadOnly),
            (Method::POST, "/v1/openapi.json", Role::Admin),
        ] {
            assert_eq!(known.role(&method, Some(path)), role, "{method} {path}");
        }
        assert_eq!(known.role(&Method::TRACE, None), Role::Admin);
        assert!(known.of(&Method::GET, "/v1/openapi.json").is_none());
    }

    /// `PortView` was all of `Port`, which forbids what only the view has.
    #[test]
    fn nothing_that_is_all_of_others_is_forbidden_to_be_more() {
        fn forbids(document: &Value, value: &Value, below: bool) -> bool {
            match value {
                Value::Object(members) => {
                    let target = members.get("$ref").and_then(Value::as_str).filter(|_| below);
                    let target = target.and_then(|target| document.pointer(target.trim_start_matches('#')));
                    below && members.get("additionalProperties") == Some(&Value::Bool(false))
                        || target.is_some_and(|target| forbids(document, target, true))
                        || members.iter().any(|(name, value)| match name.as_str() {
                            "allOf" => value
                                .as_array()
                                .unwrap()
                                .iter()
                                .any(|part| forbids(document, part, true)),
                            // Those of a member, not of the object.
                            "properties" => forbids(document, value, false),
                            _ => forbids(document, value, below),
                        })
                }
                Value::Array(list) => list.iter().any(|value| forbids(document, value, below)),
                _ => false,
            }
        }
        let document = document();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            assert!(!forbids(&document, schema, false), "{name}");
        }
        let view = &document["components"]["schemas"]["PortView"];
        assert!(view["properties"]["name"].is_object() && view["properties"]["state"].is_object());
    }
}
