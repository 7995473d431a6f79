//! Editing TOML so that it says something else and looks as before: values in their place, with the comments beside them.

use serde_json::{Map, Value};
use toml_edit::visit::Visit;
use toml_edit::{Array, ArrayOfTables, Decor, Formatted, InlineTable, Item, Table, TableLike, Value as Toml};
use vswitch_api::traffic::{Bits, Micros};

use super::ranges::{self, escaped};

/// What of a new entry people look for first, in this order.
const FIRST: [&str; 9] = [
    "name",
    "switch",
    "kind",
    "namespace",
    "ifname",
    "mac",
    "mtu",
    "addresses",
    "routes",
];

/// An object.
pub type Object = Map<String, Value>;

/// A list of tables in either of the forms that TOML has for it.
pub enum Rows<'a> {
    /// `[[ports]]`
    Tables(&'a mut ArrayOfTables),
    /// `ports = [{ ... }]`
    Inline(&'a mut Array),
}

impl<'a> Rows<'a> {
    /// Those of a list; none if it is no list.
    pub fn of(item: &'a mut Item) -> Option<Self> {
        match item {
            Item::ArrayOfTables(tables) => Some(Self::Tables(tables)),
            Item::Value(Toml::Array(array)) => Some(Self::Inline(array)),
            _ => None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Tables(tables) => tables.len(),
            Self::Inline(array) => array.len(),
        }
    }

    /// One of them.
    pub fn row(&mut self, n: usize) -> Option<&mut dyn TableLike> {
        match self {
            Self::Tables(tables) => tables.get_mut(n).map(|table| table as &mut dyn TableLike),
            Self::Inline(array) => {
                let table = array.get_mut(n)?.as_inline_table_mut()?;
                Some(table as &mut dyn TableLike)
            }
        }
    }

    /// Takes some out. Gives the comments that stood before one of them and are about more: those with an empty line behind them; they
    /// go to what comes next, and what is given has nothing behind it any more.
    pub fn remove(&mut self, which: &[usize]) -> String {
        let mut kept = String::new();
        match self {
            Self::Inline(array) => which.iter().rev().for_each(|n| take(array, *n)),
            Self::Tables(tables) => {
                let mut left = ArrayOfTables::new();
                for (n, mut table) in std::mem::take(*tables).into_iter().enumerate() {
                    let before = table.decor().prefix().and_then(|prefix| prefix.as_str());
                    let before = before.unwrap_or_default().to_owned();
                    if which.contains(&n) {
                        let about_more = before.rfind("\n\n").map_or("", |end| &before[..end]);
                        if about_more.contains('#') {
                            kept += about_more;
                            kept.push('\n');
                        }
                        continue;
                    }
                    if !kept.is_empty() {
                        let begin = if before.starts_with('\n') { "" } else { "\n" };
                        let prefix = format!("{}{begin}{before}", std::mem::take(&mut kept));
                        table.decor_mut().set_prefix(prefix);
                    }
                    left.push(table);
                }
                **tables = left;
            }
        }
        kept
    }

    /// Puts one behind the others.
    pub fn push(&mut self, row: &Object) {
        let first = FIRST.iter().filter_map(|key| row.get_key_value(*key));
        let rest = row.iter().filter(|(key, _)| !FIRST.contains(&key.as_str()));
        let row: Vec<_> = first.chain(rest).collect();
        match self {
            Self::Inline(array) => {
                let members = row.into_iter().map(|(key, value)| (key.as_str(), toml(value)));
                push(array, members.collect::<InlineTable>().into());
            }
            Self::Tables(tables) => {
                let mut table = Table::new();
                for (key, value) in row {
                    table.insert(key, Item::Value(toml(value)));
                }
                table.decor_mut().set_prefix("\n");
                tables.push(table);
            }
        }
    }
}

/// Whether an entry is as many as a range in it says, be it one. A range in a list of it is for that list.
pub fn has_range(entry: &dyn TableLike) -> bool {
    struct Look(bool);

    impl<'doc> Visit<'doc> for Look {
        fn visit_array(&mut self, _: &'doc Array) {}

        fn visit_array_of_tables(&mut self, _: &'doc ArrayOfTables) {}

        fn visit_string(&mut self, text: &'doc Formatted<String>) {
            self.0 |= ranges::has_range(text.value());
        }
    }

    let mut look = Look(false);
    look.visit_table_like(entry);
    look.0
}

/// Keys of traffic that may be written as words, whose values have units (`vswitch_api::traffic`).
const WORDS: [(&str, &str); 5] = [
    ("delay_us", "delay"),
    ("jitter_us", "jitter"),
    ("rate_bps", "rate"),
    ("rate_pps", "pps"),
    ("burst_bytes", "burst"),
];

/// The word by which a table has a key, if it has it so.
fn word(table: &dyn TableLike, key: &str) -> Option<&'static str> {
    let (_, word) = WORDS.iter().find(|(of, _)| *of == key)?;
    (!table.contains_key(key) && table.contains_key(word)).then_some(*word)
}

/// A value as it is written behind a word.
fn worded(word: &str, value: &Value) -> Value {
    let number = value.as_u64().unwrap_or_default();
    match word {
        "delay" | "jitter" => Micros(u32::try_from(number).unwrap_or(u32::MAX)).to_string().into(),
        "rate" => Bits(number).to_string().into(),
        _ => value.clone(),
    }
}

/// Has a table say `wanted` where it said `said`. What is the same stays as it is written.
pub fn settle(table: &mut dyn TableLike, said: &Object, wanted: &Object) {
    let gone = said.keys().filter(|key| !wanted.contains_key(*key));
    for key in gone {
        table.remove(word(table, key).unwrap_or(key));
    }
    for (key, value) in wanted {
        match word(table, key) {
            _ if said.get(key) == Some(value) => {}
            Some(word) => set(table, word, None, &worded(word, value)),
            None => set(table, key, said.get(key), value),
        }
    }
}

fn set(table: &mut dyn TableLike, key: &str, said: Option<&Value>, wanted: &Value) {
    let item = table.get_mut(key);
    match (item, said, wanted) {
        (Some(item), Some(Value::Object(said)), Value::Object(wanted)) if item.is_table_like() => {
            if let Some(below) = item.as_table_like_mut() {
                settle(below, said, wanted);
            }
        }
        // A table of its own, for which the value is something else.
        (Some(item), ..) if !item.is_value() => *item = Item::Value(toml(wanted)),
        (Some(Item::Value(Toml::Array(array))), Some(Value::Array(said)), Value::Array(wanted))
            if array.len() == said.len() =>
        {
            settle_list(array, said, wanted);
        }
        (Some(Item::Value(old)), ..) => {
            let decor = old.decor().clone();
            *old = toml(wanted);
            *old.decor_mut() = decor;
        }
        _ => drop(table.insert(key, Item::Value(toml(wanted)))),
    }
}

/// Has a list of values say something else.
fn settle_list(array: &mut Array, said: &[Value], wanted: &[Value]) {
    let stays = |value: &&Value| wanted.contains(value);
    let new: Vec<_> = wanted.iter().filter(|value| !said.contains(value)).collect();
    let then: Vec<_> = said.iter().filter(stays).chain(new.iter().copied()).collect();
    if then != wanted.iter().collect::<Vec<_>>() {
        // In another order, or one of them twice.
        let decor = array.decor().clone();
        *array = wanted.iter().map(toml).collect();
        *array.decor_mut() = decor;
        return;
    }
    for n in (0..said.len()).rev() {
        if !wanted.contains(&said[n]) {
            take(array, n);
        }
    }
    for value in new {
        push(array, toml(value));
    }
}

/// Takes one out; that behind it then stands where it stood.
pub fn take(array: &mut Array, n: usize) {
    let gone = array.remove(n);
    if let Some(next) = array.get_mut(n)
        && n == 0
        && let Some(prefix) = gone.decor().prefix()
    {
        next.decor_mut().set_prefix(prefix.clone());
    }
}

/// Puts one behind the others, on a line of its own if they have such.
pub fn push(array: &mut Array, mut value: Toml) {
    let last = array.len().checked_sub(1).and_then(|last| array.get(last));
    let prefix = last
        .and_then(|last| last.decor().prefix())
        .and_then(|prefix| prefix.as_str());
    let indent = prefix.and_then(|prefix| prefix.rfind('\n').map(|at| prefix[at..].to_owned()));
    let between = if array.is_empty() { "" } else { " " };
    *value.decor_mut() = Decor::new(indent.as_deref().unwrap_or(between), "");
    if indent.is_some()
        && let Some(last) = array.len().checked_sub(1).and_then(|last| array.get_mut(last))
    {
        // A comma comes behind it now, not on the next line.
        last.decor_mut().set_suffix("");
    }
    array.push_formatted(value);
}

/// A value of JSON in TOML, which is read as it is: what looks like a range is none.
pub fn toml(value: &Value) -> Toml {
    match value {
        Value::Null => Toml::from(""),
        Value::Bool(value) => Toml::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Toml::from(whole),
            None => Toml::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Toml::from(escaped(text)),
        Value::Array(values) => values.iter().map(toml).collect::<Array>().into(),
        Value::Object(members) => inline(members).into(),
    }
}

fn inline(members: &Object) -> InlineTable {
    members.iter().map(|(key, value)| (key.as_str(), toml(value))).collect()
}
