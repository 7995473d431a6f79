//! A lab file as a tree that knows where each value stands, so that whatever is wrong with a value can be shown in the file.

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A place in the text, in bytes.
pub type Span = Range<usize>;

/// A value.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Text, a number, true or false.
    Leaf(Value),
    /// The number of a range, which stands alone in a text: a number where one is wanted.
    Counted(i64),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Vec<Member>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub struct Member {
    /// The key.
    pub key: String,
    /// Where it stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Reads TOML. What is wrong with it is added to `wrong`, with its place.
    pub fn parse(text: &str, wrong: &mut Vec<(Span, String)>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        // An error without a place is about the end of the text.
        let place = |span: Option<Span>| span.unwrap_or(text.len()..text.len());
        wrong.extend(errors.iter().map(|e| (place(e.span()), one_line(e.message()))));
        Self {
            span: 0..0,
            kind: table(root.get_ref(), text, wrong),
        }
    }

    /// The value of a key, if this is a table that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.members()
            .iter()
            .find(|member| member.key == key)
            .map(|member| &member.value)
    }

    /// What is in it, if it is a list.
    pub fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// What is in it, if it is a table.
    pub fn members(&self) -> &[Member] {
        match &self.kind {
            Kind::Table(members) => members,
            _ => &[],
        }
    }

    /// It as text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Leaf(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Takes a key out, with its value.
    pub fn take(&mut self, key: &str) -> Option<Member> {
        let Kind::Table(members) = &mut self.kind else {
            return None;
        };
        let at = members.iter().position(|member| member.key == key)?;
        Some(members.remove(at))
    }

    /// The item of a list in it, as `item("ports", 3)`.
    pub fn item(&self, list: &str, index: usize) -> Option<&Self> {
        self.get(list)?.items().get(index)
    }

    /// Where the value of a key stands, or else where this does.
    pub fn span_of(&self, key: &str) -> Span {
        self.get(key).map_or(self.span.clone(), |value| value.span.clone())
    }

    /// It without the places.
    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Leaf(value) => value.clone(),
            Kind::Counted(n) => Value::from(n.to_string()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Table(members) => {
                let member = |member: &Member| (member.key.clone(), member.value.to_json());
                Value::Object(members.iter().map(member).collect())
            }
        }
    }
}

fn table(table: &DeTable<'_>, text: &str, wrong: &mut Vec<(Span, String)>) -> Kind {
    let member = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| Member {
        key: AsRef::<str>::as_ref(key.get_ref()).to_owned(),
        key_span: key.span(),
        value: node(value, text, wrong),
    };
    let mut members: Vec<_> = table.iter().map(member).collect();
    // The reader sorts them by name; people look from top to bottom.
    members.sort_by_key(|member| member.key_span.start);
    Kind::Table(members)
}

fn node(value: &Spanned<DeValue<'_>>, text: &str, wrong: &mut Vec<(Span, String)>) -> Node {
    let span = value.span();
    // TOML has numbers with a sign, and 1400 may be read out of +1400 where 1400 more is meant.
    let is_number = matches!(value.get_ref(), DeValue::Integer(_) | DeValue::Float(_));
    if is_number && text.get(span.clone()).is_some_and(|number| number.starts_with('+')) {
        wrong.push((span.clone(), "a number has no sign".to_owned()));
    }
    let leaf = match value.get_ref() {
        DeValue::String(text) => Ok(Value::from(text.as_ref())),
        DeValue::Boolean(value) => Ok(Value::from(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .map_err(|_| "the number is too large"),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map(Value::from)
            .ok_or("it is no number that can be set"),
        DeValue::Datetime(_) => Err("no setting is a date or a time; did you mean a text in quotes?"),
        DeValue::Array(values) => {
            let items = values.iter().map(|value| node(value, text, wrong)).collect();
            return Node {
                span,
                kind: Kind::List(items),
            };
        }
        DeValue::Table(members) => {
            let kind = table(members, text, wrong);
            return Node { span, kind };
        }
    };
    let leaf = leaf.unwrap_or_else(|cause| {
        wrong.push((span.clone(), cause.to_owned()));
        Value::Null
    });
    Node {
        span,
        kind: Kind::Leaf(leaf),
    }
}

/// The parser's messages may have several.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
