//! The settings of a port or a switch as keys with values, such as `learning.limit=5`: which there are, what they take, and what is
//! said by a text. All of it is read off the schema of the type, so that a new field is a new key by itself.

mod meant;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::lab::{Port, PortKind, Switch, default_switch};
use crate::name::InvalidValue;
use crate::number::{self, whole};
use crate::schema::{self, resolved};
use crate::strict;
use meant::{of_a_part, unknown};

/// What has settings that can be said by keys.
pub trait Settable: ToSchema + Serialize + DeserializeOwned {
    /// Its members that never change.
    const FIXED: &'static [&'static str];
    /// What other tools, and options of ours, call some of its members.
    const ALSO_CALLED: &'static [(&'static str, &'static str)] = &[];

    /// One on which a value can be tried.
    fn sample() -> Self;
}

impl Settable for Port {
    const FIXED: &'static [&'static str] = &["name"];
    const ALSO_CALLED: &'static [(&'static str, &'static str)] = &[
        ("addr", "addresses"),
        ("address", "addresses"),
        ("bridge", "switch"),
        ("gateway", "routes"),
        ("lladdr", "mac"),
        ("netns", "namespace"),
        ("ns", "namespace"),
        ("type", "kind"),
    ];

    fn sample() -> Self {
        #[expect(clippy::unwrap_used, reason = "it is a valid name, as each use in a test shows")]
        Self::new("port".parse().unwrap(), default_switch(), PortKind::default())
    }
}

impl Settable for Switch {
    const FIXED: &'static [&'static str] = &["name"];

    fn sample() -> Self {
        Self::new(default_switch())
    }
}

/// A form that a value takes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// `on` or `off`.
    Switched,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// One word.
    Word(String),
    /// Any text, which is looked at more closely when it is tried.
    Text,
    /// Several of these forms.
    List(Vec<Form>),
    /// JSON: an object with required members.
    Object,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path in the document, with dots.
    pub key: String,
    /// What it is about, in one line.
    pub about: String,
    forms: Vec<Form>,
}

impl Setting {
    /// Values that can be listed, such as `on` and `off`.
    pub fn values(&self) -> Vec<&str> {
        let words = self.forms.iter().flat_map(|form| match form {
            Form::Switched => vec!["on", "off"],
            Form::Word(word) => vec![word.as_str()],
            _ => Vec::new(),
        });
        words.collect()
    }

    /// False: it is only a group of others, which can be taken away at once.
    pub fn takes_values(&self) -> bool {
        !self.forms.is_empty()
    }

    /// What it takes, for people: `on|off`, `N`, `TEXT,...`
    pub fn placeholder(&self) -> String {
        placeholder(&self.forms)
    }

    fn allowed(&self) -> String {
        let mut allowed: Vec<_> = self.forms.iter().filter_map(Form::description).collect();
        let words = self.values();
        if !words.is_empty() {
            allowed.insert(0, words.join(", "));
        }
        allowed.dedup();
        allowed.join(", or ")
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        if text.is_empty() || text == "null" {
            return Ok(Value::Null);
        }
        // Where any text is a value, these words are none, but in what is said of a thing.
        let is_back = is_back(text) && self.key != "description";
        let forms = self.forms.iter().filter(|form| !is_back || !form.is_any_text());
        let value = forms.clone().find_map(|form| form.read(text));
        if value.is_none() && is_back {
            return Ok(Value::Null);
        }
        value.ok_or_else(|| {
            format!(
                "{text:?} is no value for it; give {}, or none to take it back",
                self.allowed()
            )
        })
    }
}

/// Whether a word takes a setting back to what it is if nothing is said.
pub fn is_back(text: &str) -> bool {
    matches!(text, "none" | "default")
}

fn placeholder(forms: &[Form]) -> String {
    let mut words: Vec<_> = forms
        .iter()
        .map(|form| match form {
            Form::Switched => "on|off".to_owned(),
            Form::Whole | Form::Number => "N".to_owned(),
            Form::Word(word) => word.clone(),
            Form::Text => "TEXT".to_owned(),
            Form::List(items) => format!("{},...", placeholder(items)),
            Form::Object => "JSON".to_owned(),
        })
        .collect();
    words.dedup();
    words.join("|")
}

impl Form {
    fn description(&self) -> Option<String> {
        Some(match self {
            Self::Switched | Self::Word(_) => return None,
            Self::Whole => "a whole number".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Text => "a text".to_owned(),
            Self::List(items) if items.contains(&Self::Object) => "a JSON list of objects".to_owned(),
            Self::List(_) => "a list with commas, or in JSON".to_owned(),
            Self::Object => "a JSON object".to_owned(),
        })
    }

    /// Any text is a value, or one of a list.
    fn is_any_text(&self) -> bool {
        match self {
            Self::Text => true,
            Self::List(items) => items.iter().any(Self::is_any_text),
            _ => false,
        }
    }

    fn read(&self, text: &str) -> Option<Value> {
        match self {
            Self::Switched => match text {
                "on" | "true" => Some(true.into()),
                "off" | "false" => Some(false.into()),
                _ => None,
            },
            Self::Whole => whole::<u64>(text).map(Value::from),
            Self::Number => serde_json::from_str(text).ok().filter(Value::is_number),
            Self::Word(word) => (word == text).then(|| text.into()),
            Self::Text => Some(text.into()),
            Self::List(_) if text.starts_with('[') => serde_json::from_str(text).ok(),
            Self::List(items) => {
                let item = |text: &str| items.iter().find_map(|form| form.read(text.trim()));
                text.split(',').map(item).collect::<Option<_>>().map(Value::Array)
            }
            Self::Object => serde_json::from_str(text).ok().filter(Value::is_object),
        }
    }
}

/// All settings of a type, by key.
pub fn settings<T: Settable>() -> Vec<Setting> {
    let root = schema::of::<T>();
    let mut all = Vec::new();
    members(&root, &root, &[], T::FIXED, &mut all);
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// Adds the members of an object.
fn members(root: &Value, object: &Value, path: &[&str], fixed: &[&str], all: &mut Vec<Setting>) {
    let properties = object["properties"].as_object();
    for (name, property) in properties.into_iter().flatten() {
        if !fixed.contains(&name.as_str()) {
            let path = [path, &[name]].concat();
            let mut setting = Setting {
                key: path.join("."),
                about: about(root, property),
                forms: Vec::new(),
            };
            forms(root, property, &mut setting.forms, &mut |object| {
                members(root, object, &path, &[], all);
            });
            all.push(setting);
        }
    }
}

/// The first sentence of what is said of a property.
fn about(root: &Value, property: &Value) -> String {
    let alternatives = property["oneOf"].as_array().into_iter().flatten();
    let said = [property]
        .into_iter()
        .chain(alternatives)
        .chain([resolved(root, property)]);
    let text = said.filter_map(|schema| schema["description"].as_str()).next();
    let text = text
        .unwrap_or_default()
        .split("\n\n")
        .next()
        .unwrap_or_default()
        .replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.len());
    text[..end].trim_end_matches('.').to_owned()
}

/// Adds the forms that a schema takes. What is an object is handed to `group`: its members are keys of their own.
fn forms(root: &Value, schema: &Value, found: &mut Vec<Form>, group: &mut dyn FnMut(&Value)) {
    let schema = resolved(root, schema);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        alternatives.iter().for_each(|schema| forms(root, schema, found, group));
        return;
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => Vec::from_iter(one.as_str()),
    };
    for kind in types {
        match (kind, schema["enum"].as_array()) {
            ("string", Some(words)) => found.extend(
                words
                    .iter()
                    .filter_map(Value::as_str)
                    .map(|word| Form::Word(word.into())),
            ),
            ("string", None) => found.push(Form::Text),
            ("boolean", _) => found.push(Form::Switched),
            ("integer", _) => found.push(Form::Whole),
            ("number", _) => found.push(Form::Number),
            ("object", _) => group(schema),
            ("array", _) => {
                let mut items = Vec::new();
                let mut has_objects = false;
                forms(root, &schema["items"], &mut items, &mut |_| has_objects = true);
                if has_objects {
                    items.push(Form::Object);
                }
                found.push(Form::List(items));
            }
            _ => {}
        }
    }
}

/// A key with its value: a part of a merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The key.
    pub key: String,
    /// What it becomes; null: it is taken away.
    pub value: Value,
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// There is no such key, or it does not take the value.
pub fn assignment<T: Settable>(text: &str) -> Result<Assignment, InvalidValue> {
    let all = settings::<T>();
    let Some((key, value)) = text.split_once('=') else {
        if text == "down" && all.iter().any(|setting| setting.key == "up") {
            return Err(InvalidValue::new(
                "\"down\" is no setting; write it as up=off".to_owned(),
            ));
        }
        let key = all.iter().find(|setting| setting.key == text);
        let example = key.map_or_else(
            || "mtu=9000".to_owned(),
            |setting| format!("{text}={}", setting.placeholder()),
        );
        return Err(InvalidValue::new(format!(
            "{text:?} has no value; write it as {example}"
        )));
    };
    let Some(setting) = all.iter().find(|setting| setting.key == key) else {
        return Err(InvalidValue::new(unknown::<T>(key, value, &all)));
    };
    let is_taken_back = matches!(value, "" | "null") || is_back(value);
    let read = match setting.takes_values() || is_taken_back {
        true => setting.read(value),
        false => Err(format!("{value:?} is no value for it")),
    };
    let assignment = match read {
        Ok(value) => Assignment {
            key: key.to_owned(),
            value,
        },
        Err(cause) => {
            let cause = of_a_part::<T>(key, value, &all).unwrap_or(cause);
            return Err(InvalidValue::new(format!("{key}: {cause}")));
        }
    };
    match assignment.refused::<T>() {
        Some(cause) if cause.contains(value) => Err(InvalidValue::new(format!("{key}: {cause}"))),
        Some(cause) => Err(InvalidValue::new(format!(
            "{key}: {value:?} is no value for it: {cause}"
        ))),
        None => Ok(assignment),
    }
}

impl Assignment {
    /// Why no `T` takes it. That it does not go by itself, or not with what is there, is for the daemon to say.
    fn refused<T: Settable>(&self) -> Option<String> {
        if self.value.is_null() {
            return None;
        }
        let mut document = serde_json::to_value(T::sample()).ok()?;
        let mut place = &mut document;
        for name in self.key.split('.') {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = place.as_object_mut()?.entry(name).or_insert(Value::Null);
        }
        place.clone_from(&self.value);
        let error = strict::from_value::<T>(document).err()?;
        let path = error.path().to_string();
        let inside = path.strip_prefix(&self.key)?;
        (inside.is_empty() || inside.starts_with(['.', '['])).then(|| {
            let message = error.into_inner().to_string();
            number::does_not_fit(&message).unwrap_or(message)
        })
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(text: &str) -> Result<(String, Value), String> {
        let read = assignment::<Port>(text).map_err(|error| error.to_string())?;
        Ok((read.key, read.value))
    }

    #[test]
    fn values_are_taken_as_the_field_says() {
        for (text, value) in [
            ("mtu=9000", json!(9000)),
            ("mtu=", Value::Null),
            ("mtu=null", Value::Null),
            ("up=off", json!(false)),
            ("up=true", json!(true)),
            ("learning=", Value::Null),
            ("learning.limit=5", json!(5)),
            ("learning.beyond=drop", json!("drop")),
            ("vlan=all", json!("all")),
            ("vlan.access=10", json!(10)),
            ("vlan.trunk.allowed=10,20-29", json!("10,20-29")),
            ("vlan.trunk.native=7", json!(7)),
            ("isolation=isolated", json!("isolated")),
            ("isolation.community=7", json!(7)),
            ("addresses=10.0.0.1/24,fd00::1/64", json!(["10.0.0.1/24", "fd00::1/64"])),
            ("pin.mac=own", json!("own")),
            ("pin.mac=02:00:00:00:00:01", json!(["02:00:00:00:00:01"])),
            ("police=10mbit burst 64k", json!("10mbit burst 64k")),
            ("police.pps=100", json!(100)),
            ("impair.out.delay=20ms", json!("20ms")),
            ("impair.out.loss=1%", json!("1%")),
            ("impair.out.loss=0.01", json!(0.01)),
            ("storm.broadcast=100pps", json!("100pps")),
            ("storm.broadcast.rate=1mbit", json!("1mbit")),
            (
                r#"acl.in=["deny tcp flags syn,!ack"]"#,
                json!(["deny tcp flags syn,!ack"]),
            ),
            (
                r#"routes=[{"to":"0.0.0.0/0","via":"10.0.0.9"}]"#,
                json!([{"to": "0.0.0.0/0", "via": "10.0.0.9"}]),
            ),
        ] {
            let key = text.split('=').next().unwrap().to_owned();
            assert_eq!(port(text), Ok((key, value)), "{text}");
        }
        let vlans = assignment::<Switch>("rspan_vlans=998,999").unwrap();
        assert_eq!(vlans.value, json!([998, 999]));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        for (text, parts) in [
            ("mtu", &["mtu", "mtu=N"][..]),
            ("up", &["up=on|off"]),
            ("down", &["write it as up=off"]),
            ("mtu=fast", &["mtu:", "\"fast\"", "a whole number"]),
            ("mtu=-5", &["\"-5\"", "whole number"]),
            ("mtu=99999999999", &["mtu:", "99999999999"]),
            ("up=maybe", &["\"maybe\"", "on, off"]),
            ("learning.beyond=explode", &["flood, drop, shut"]),
            ("learning=5", &["did you mean learning.limit=5?"]),
            ("learning=many", &["its parts", "learning.limit, "]),
            ("vlan=10", &["\"10\"", "did you mean vlan.access=10 or "]),
            ("vlan.trunk=10,20-29", &["did you mean vlan.trunk.allowed=10,20-29?"]),
            (
                "trunk=10,20-29",
                &["no key", "did you mean vlan.trunk.allowed=10,20-29?"],
            ),
            (
                "impair=20ms",
                &["impair.in.delay=20ms or ", " or impair.out.delay=20ms or "],
            ),
            ("impair=fast", &["its parts: impair.in, impair.out"]),
            ("impair.out=20ms", &["did you mean impair.out.delay=20ms or "]),
            ("pin=own", &["did you mean pin.ip=own or pin.mac=own?"]),
            ("storm=100pps", &["storm.broadcast=100pps or "]),
            ("flood=off", &["no key", "flooding.broadcast=off or "]),
            ("learning.limt=5", &["did you mean learning.limit?"]),
            ("limit=5", &["learning.limit"]),
            ("trunk=fast", &["no key", "the help"]),
            ("descr=x", &["did you mean description?"]),
            ("ageing_secs=5", &["no key"]),
            ("name=blue", &["can't be changed"]),
            ("mac=zz", &["mac:", "\"zz\"", "six hex pairs"]),
            ("vlan.access=5000", &["vlan.access", "5000", "1 to 4094"]),
            ("addresses=10.0.0.1", &["addresses", "prefix length"]),
            ("impair.out.delay=20", &["impair.out.delay", "\"20\"", "20ms"]),
            ("impair.out.loss=1", &["impair.out.loss", "1%"]),
            ("acl.in=allow any", &["acl.in", "permit"]),
            ("routes=10.0.0.0/8", &["JSON"]),
        ] {
            let error = port(text).expect_err(text);
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }

    /// What the schema has and the parser has not, or the other way round, shows here.
    #[test]
    fn every_field_is_a_key() {
        let keys: Vec<_> = settings::<Port>().into_iter().map(|setting| setting.key).collect();
        let schema = schema::of::<Port>();
        for name in schema["properties"]
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != "name")
        {
            assert!(keys.contains(name), "{name}");
        }
        for setting in settings::<Port>().iter().chain(&settings::<Switch>()) {
            assert!(!setting.about.is_empty(), "{}", setting.key);
            for value in setting.values() {
                let text = format!("{}={value}", setting.key);
                assert!(port(&text).is_ok() || assignment::<Switch>(&text).is_ok(), "{text}");
            }
        }
        assert!(keys.len() > 70, "{}", keys.len());
    }
}
