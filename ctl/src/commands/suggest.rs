//! Did you mean: where something is not there, the name of what is there and is spelt nearly so.

use serde_json::Value;
use vswitch_api::{ApiError, ErrorCode};

use super::Session;
use crate::failure::Failure;

/// Kinds of things as errors name them, with the list that they are in.
const LISTS: [(&str, &str); 5] = [
    ("port", "/v1/ports"),
    ("switch", "/v1/switches"),
    ("namespace", "/v1/namespaces"),
    ("mirror", "/v1/mirrors"),
    ("command", "/v1/commands"),
];

impl Session {
    /// The same failure, with the name that was meant if it can be guessed. A daemon that does not answer leaves it as it is.
    pub(super) async fn with_suggestion(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Error { error, exit } if error.code == ErrorCode::NotFound => Failure::Error {
                error: self.suggest(error).await,
                exit,
            },
            other => other,
        }
    }

    async fn suggest(&self, error: ApiError) -> ApiError {
        let Some((kind, name)) = error.object.split_once(' ') else {
            return error;
        };
        let Some((_, list)) = LISTS.iter().find(|(listed, _)| *listed == kind) else {
            return error;
        };
        let there: Vec<Value> = self.client.get(list).await.unwrap_or_default();
        let names = there.iter().filter_map(|one| one["name"].as_str());
        match nearest(name.trim_matches('"'), names) {
            Some(meant) => {
                let hint = format!("did you mean {meant:?}?");
                let hint = error
                    .hint
                    .as_ref()
                    .map_or(hint.clone(), |next| format!("{hint} {next}"));
                error.hint(hint)
            }
            None => error,
        }
    }
}

/// The name that differs least, if it is by a slip or two. None if the very name is there: what is lacking is something else
/// about it.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let slips = match name.chars().count() {
        // Any letter is one slip from any other.
        0 | 1 => 0,
        2 | 3 => 1,
        _ => 2,
    };
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let near = names
        .map(|other| (distance(other), other))
        .filter(|(slipped, _)| *slipped <= slips);
    near.min().map(|(_, other)| other).filter(|other| *other != name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_seen_and_another_word_is_not() {
        let names = ["red", "blue", "green", "server1", "b"];
        for (said, meant) in [
            ("rde", Some("red")),
            ("RED", Some("red")),
            ("bleu", Some("blue")),
            ("server2", Some("server1")),
            ("ret", Some("red")),
            ("host", None),
            ("red", None),
            ("x", None),
            ("B", Some("b")),
        ] {
            assert_eq!(nearest(said, names.into_iter()), meant, "{said}");
        }
    }
}
