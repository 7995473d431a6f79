//! What differs between two documents of one type: a line for the user, an event, a plan follow from it, so that a new setting needs
//! none of its own.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A setting that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingChange {
    /// Its path in the document, such as `learning.limit`.
    pub key: String,
    /// What it was; absent: it was not said, so that the default held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub before: Option<Value>,
    /// What it is now; absent: it is not said any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    pub after: Option<Value>,
}

/// How the lines of changes begin, and how those of a dry run.
const VERBS: [(&str, &str); 13] = [
    ("restarted", "restart"),
    ("started", "start"),
    ("stopped", "stop"),
    ("wrote", "write"),
    ("added", "add"),
    ("created", "create"),
    ("flushed", "flush"),
    ("gave", "give"),
    ("joined", "join"),
    ("made", "make"),
    ("removed", "remove"),
    ("set", "set"),
    ("took", "take"),
];

/// A line that tells of a change as one that tells what would change: of `took the policer from port red` it makes
/// `would take the policer from port red`.
pub fn would(line: &str) -> String {
    let (word, line) = match line.strip_prefix("repaired: ") {
        Some(line) => ("would repair:", line),
        None => ("would", line),
    };
    let verb = VERBS.into_iter().find_map(|(past, verb)| {
        let rest = line.strip_prefix(past)?;
        rest.starts_with(' ').then(|| format!("{word} {verb}{rest}"))
    });
    verb.unwrap_or_else(|| format!("would: {line}"))
}

/// The settings that differ, by key.
pub fn difference<T: Serialize>(before: &T, after: &T) -> Vec<SettingChange> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    for (document, all) in [(before, &mut old), (after, &mut new)] {
        leaves(String::new(), serde_json::to_value(document).unwrap_or_default(), all);
    }
    let mut changes = Vec::new();
    for (key, value) in &old {
        if new.get(key) != Some(value) {
            changes.push((key.clone(), Some(value.clone()), new.get(key).cloned()));
        }
    }
    let added = new.into_iter().filter(|(key, _)| !old.contains_key(key));
    changes.extend(added.map(|(key, value)| (key, None, Some(value))));
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    let change = |(key, before, after)| SettingChange { key, before, after };
    changes.into_iter().map(change).collect()
}

fn leaves(path: String, value: Value, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() {
                    name
                } else {
                    format!("{path}.{name}")
                };
                leaves(path, value, all);
            }
        }
        // What is not said.
        Value::Null => {}
        value => {
            all.insert(path, value);
        }
    }
}

impl SettingChange {
    /// The line that tells of it: `set learning.limit of port red to 5`.
    pub fn line(&self, object: &str) -> String {
        let Self { key, .. } = self;
        match self.values() {
            (Some(before), Some(after)) => format!("set {key} of {object} to {after} (was {before})"),
            (None, Some(after)) => format!("set {key} of {object} to {after}"),
            (Some(before), None) => format!("took {key} from {object} (was {before})"),
            (None, None) => format!("set {key} of {object}"),
        }
    }

    /// Both values in words. Of what is on or off the default is known by the other value.
    fn values(&self) -> (Option<String>, Option<String>) {
        let other = |value: &Option<Value>| value.as_ref().and_then(Value::as_bool).map(|on| Value::from(!on));
        let before = self.before.clone().or_else(|| other(&self.after));
        let after = self.after.clone().or_else(|| other(&self.before));
        (before.as_ref().map(words), after.as_ref().map(words))
    }
}

/// `learning.limit 3 -> 5`
impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = self.values();
        let word = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
        write!(f, "{} {} -> {}", self.key, word(before), word(after))
    }
}

/// A value as people read it: `on`, `10.0.0.1/24, fd00::1/64`.
pub fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(", "),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Port, PortKind};
    use crate::policy::PortVlan;

    #[test]
    fn what_differs_is_told_by_its_key() {
        let before = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
        let mut after = before.clone();
        assert_eq!(difference(&before, &after), []);
        after.learning.limit = Some(5);
        after.up = false;
        after.vlan = PortVlan::Access(10.try_into().unwrap());
        after.addresses = vec!["10.0.0.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()];
        let lines = |before: &Port, after: &Port| -> Vec<_> {
            let changes = difference(before, after);
            changes.iter().map(|change| change.line("port red")).collect()
        };
        assert_eq!(
            lines(&before, &after),
            [
                "set addresses of port red to 10.0.0.1/24, fd00::1/64",
                "set learning.limit of port red to 5",
                "set up of port red to off (was on)",
                "set vlan.access of port red to 10",
            ]
        );
        let mut last = after.clone();
        last.learning.limit = Some(7);
        last.addresses.clear();
        assert_eq!(
            lines(&after, &last),
            [
                "took addresses from port red (was 10.0.0.1/24, fd00::1/64)",
                "set learning.limit of port red to 7 (was 5)"
            ]
        );
        let back = difference(&after, &before);
        let shown: Vec<_> = back.iter().map(ToString::to_string).collect();
        assert_eq!(shown[1..3], ["learning.limit 5 -> default", "up off -> on"]);
    }

    #[test]
    fn what_would_be_done_is_said_so() {
        for (line, expected) in [
            ("took policer from port red", "would take policer from port red"),
            ("set mtu of port red to 1400", "would set mtu of port red to 1400"),
            (
                "repaired: gave port red back its MTU of 1400",
                "would repair: give port red back its MTU of 1400",
            ),
            ("settled", "would: settled"),
        ] {
            assert_eq!(would(line), expected);
        }
    }
}
