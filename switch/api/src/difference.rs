//! What differs between two documents of one type: a line for the user, an event, a plan follow from it, so that a new setting needs
//! none of its own.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A setting that has changed. Of a list of which some elements came or went, an event tells those alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    /// What is in the list no more; the rest of it stays as it was, and `before` and `after` are absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<Element>,
    /// What is new in the list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<Element>,
}

/// An element of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Element {
    /// Its place: the first has 1. Of what was taken the one that it had, of what was given the one that it has.
    pub at: usize,
    /// What it is.
    #[schema(value_type = Value)]
    pub value: Value,
}

/// Lists of which the order matters.
const ORDERED: [&str; 2] = ["acl.in", "acl.out"];
/// Elements of a list that are told by name.
const NAMED: usize = 8;

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
    let change = |(key, before, after)| SettingChange {
        key,
        before,
        after,
        ..SettingChange::default()
    };
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
    /// The same; of a list of which some elements came or went, those alone. One that is in another order is told as a whole.
    #[must_use]
    pub fn by_elements(self) -> Self {
        let (Some(Value::Array(before)), Some(Value::Array(after))) = (&self.before, &self.after) else {
            return self;
        };
        let new: HashSet<_> = after.iter().collect();
        let old: HashSet<_> = before.iter().collect();
        let stay = before.iter().filter(|value| new.contains(value));
        if before.is_empty() || after.is_empty() || !stay.eq(after.iter().filter(|value| old.contains(value))) {
            return self;
        }
        let elements = |list: &[Value], others: &HashSet<&Value>| {
            let all = list.iter().zip(1..).filter(|(value, _)| !others.contains(value));
            all.map(|(value, at)| Element {
                at,
                value: value.clone(),
            })
            .collect()
        };
        let (taken, given) = (elements(before, &new), elements(after, &old));
        Self {
            key: self.key,
            taken,
            given,
            ..Self::default()
        }
    }

    /// What it takes of the memory, roughly.
    pub fn bytes(&self) -> usize {
        let elements = self.taken.iter().chain(&self.given).map(|element| &element.value);
        let values = elements.chain(&self.before).chain(&self.after);
        size_of::<Self>() + self.key.len() + values.map(bytes).sum::<usize>()
    }

    /// The lines that tell of it: `set learning.limit of port red to 5`, or what came into a list and what went.
    pub fn lines(&self, object: &str) -> Vec<String> {
        let Self { key, taken, given, .. } = self;
        if taken.is_empty() && given.is_empty() {
            return vec![self.line(object)];
        }
        let mut lines = Vec::new();
        if !taken.is_empty() {
            lines.push(format!("took from {key} of {object}: {}", self.elements(taken)));
        }
        if !given.is_empty() {
            lines.push(format!("added to {key} of {object}: {}", self.elements(given)));
        }
        lines
    }

    /// The first of some elements of its list, with their places where these matter.
    fn elements(&self, all: &[Element]) -> String {
        let is_ordered = ORDERED.contains(&self.key.as_str());
        let element = |Element { at, value }: &Element| match is_ordered {
            true => format!("{at} {}", words(value)),
            false => words(value),
        };
        first(all, element)
    }

    /// The line that tells of it as a whole.
    fn line(&self, object: &str) -> String {
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

/// `learning.limit 3 -> 5`, `vlan.trunk.allowed + 30`
impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !(self.taken.is_empty() && self.given.is_empty()) {
            let parts = [("-", &self.taken), ("+", &self.given)].into_iter();
            let parts = parts.filter(|(_, elements)| !elements.is_empty());
            let parts: Vec<_> = parts
                .map(|(sign, elements)| format!("{sign} {}", self.elements(elements)))
                .collect();
            return write!(f, "{} {}", self.key, parts.join(" "));
        }
        let (before, after) = self.values();
        let word = |value: Option<String>| value.unwrap_or_else(|| "default".to_owned());
        write!(f, "{} {} -> {}", self.key, word(before), word(after))
    }
}

/// What a value takes of the memory, roughly. The members of an object are in a tree that has room for eleven from the start.
fn bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(list) => list.iter().map(bytes).sum(),
            Value::Object(members) => {
                let of_members = members.iter().map(|(key, value)| key.len() + bytes(value));
                600 + of_members.sum::<usize>()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

/// The first elements in words, and how many more there are.
fn first<T>(all: &[T], words: impl Fn(&T) -> String) -> String {
    let named: Vec<_> = all.iter().take(NAMED).map(words).collect();
    match all.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// A value as people read it: `on`, `10.0.0.1/24, fd00::1/64`; of a long list the first elements.
pub fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => first(list, words),
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
            changes
                .into_iter()
                .flat_map(|change| change.by_elements().lines("port red"))
                .collect()
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
    fn of_a_long_list_what_came_and_went_is_told() {
        let rules = |numbers: &[u16]| {
            let rules = numbers
                .iter()
                .map(|n| format!("deny udp to any port {n}").parse().unwrap());
            let mut port = Port::new("red".parse().unwrap(), "main".parse().unwrap(), PortKind::Tap);
            port.acl.ingress = rules.collect();
            port
        };
        let change = |before: &[u16], after: &[u16]| {
            let mut changes = difference(&rules(before), &rules(after));
            changes.remove(0).by_elements()
        };
        let many: Vec<_> = (1..=1000).collect();
        let mut more = many.clone();
        more.insert(4, 2000);
        let added = change(&many, &more);
        assert_eq!(
            added.lines("port red"),
            ["added to acl.in of port red: 5 deny udp to any port 2000"]
        );
        assert_eq!(added.to_string(), "acl.in + 5 deny udp to any port 2000");
        assert!(added.bytes() < 500, "{}", added.bytes());
        let said = serde_json::to_string(&added).unwrap();
        assert_eq!(
            said,
            r#"{"key":"acl.in","given":[{"at":5,"value":"deny udp to any port 2000"}]}"#
        );
        assert_eq!(serde_json::from_str::<SettingChange>(&said).unwrap(), added);
        assert_eq!(
            change(&more, &many).lines("port red"),
            ["took from acl.in of port red: 5 deny udp to any port 2000"]
        );
        let half = change(&many, &many[500..]).lines("port red").remove(0);
        assert!(half.ends_with("8 deny udp to any port 8 and 492 more"), "{half}");
        // In another order, or none before: as a whole.
        let turned = change(&[1, 2], &[2, 1]);
        assert!(turned.before.is_some() && turned.taken.is_empty(), "{turned:?}");
        assert!(change(&[], &many).lines("port red")[0].ends_with("8 and 992 more"));
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
