//! What an edit is about, by its route: what its conditions hold.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::Method;
use axum::http::request::Parts;

use crate::control::{Control, Subject};

/// Lists of which a `POST` adds what has a path of its own.
const LISTS: [&str; 8] = [
    "/v1/cables",
    "/v1/commands",
    "/v1/lab/ports",
    "/v1/links",
    "/v1/mirrors",
    "/v1/namespaces",
    "/v1/ports",
    "/v1/switches",
];

/// Whether what it adds has a path of its own, which is what is not to be there; its path names the list that it comes into.
pub(super) fn adds_one(parts: &Parts) -> bool {
    let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    parts.method == Method::POST && route.is_some_and(|route| LISTS.contains(&route))
}

/// What an edit is about, by its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Port,
    Stations,
    Switch,
    Mirror,
    Command,
    Namespace,
    Cables,
    /// It is no part of the lab, and looks itself.
    Own,
    /// All of it, of which a list of any kind has the tag.
    Lab,
}

impl About {
    fn of(route: &str) -> Self {
        match route.split('/').nth(2) {
            _ if !route.contains('{') && route != "/v1/log" => Self::Lab,
            Some("ports" | "links") => Self::Port,
            Some("switches") if route.ends_with("/fdb") => Self::Stations,
            Some("switches") => Self::Switch,
            Some("mirrors") => Self::Mirror,
            Some("commands") => Self::Command,
            Some("namespaces") => Self::Namespace,
            Some("cables") => Self::Cables,
            Some("log") => Self::Own,
            _ => Self::Lab,
        }
    }
}

/// What the path of an edit names, in words, with its tag; none: it is not there.
pub(super) async fn found(control: &Control, parts: &mut Parts) -> Option<(String, String)> {
    let about = About::of(parts.extensions.get::<MatchedPath>()?.as_str());
    let params = RawPathParams::from_request_parts(parts, &()).await.ok()?;
    let names: Vec<&str> = params.iter().map(|(_, name)| name).collect();
    match (about, &names[..]) {
        (About::Port, [name]) => with_tag(control, Subject::Port(&name.parse().ok()?)).await,
        (About::Stations, [name]) => with_tag(control, Subject::Stations(&name.parse().ok()?, None)).await,
        (About::Switch, [name]) => with_tag(control, Subject::Switch(&name.parse().ok()?)).await,
        (About::Mirror, [name]) => with_tag(control, Subject::Mirror(&name.parse().ok()?)).await,
        (About::Command, [name]) => with_tag(control, Subject::Command(&name.parse().ok()?)).await,
        (About::Namespace, [name]) => with_tag(control, Subject::Namespace(&name.parse().ok()?)).await,
        (About::Cables, [a, b]) => with_tag(control, Subject::Cables(&a.parse().ok()?, &b.parse().ok()?)).await,
        (About::Own, _) => None,
        _ => with_tag(control, Subject::Lab).await,
    }
}

async fn with_tag(control: &Control, subject: Subject<'_>) -> Option<(String, String)> {
    Some((subject.name(), control.tag(subject).await?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::openapi;
    use super::*;

    /// A route that is forgotten here loses its condition without a word.
    #[test]
    fn each_edit_is_about_what_its_path_names() {
        let document = serde_json::to_value(openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut lists = BTreeSet::new();
        let mut edits = 0;
        for (path, operations) in paths {
            if operations["post"]["responses"].get("201").is_some() {
                lists.insert(path.as_str());
            }
            let has_condition = |operation: &Value| {
                let parameters = operation["parameters"].as_array();
                parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "If-None-Match"))
            };
            let operations = operations.as_object().unwrap();
            if path.contains('{') && operations.values().any(has_condition) {
                // A capture is no part of the lab and has no tag of its own.
                let is_of_all = path == "/v1/captures/{id}";
                assert_eq!(About::of(path) == About::Lab, is_of_all, "{path}");
                edits += 1;
            }
        }
        assert_eq!(lists, LISTS.into_iter().collect());
        assert!(edits > 10, "{edits}");
    }
}
