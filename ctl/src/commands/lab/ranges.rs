//! Ranges in lab files: `name = "h{1..50}"` makes fifty of what it stands in, and `{n}` in its other texts is the number of each.
//! `{n+1}` and `{n-1}` are the next and the one before, `{n:02}` and `{n:02x}` write it with leading zeros and in base 16.
//! `{=1..5}` is the text `{1..5}`.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::node::{Kind, Node, Span};

/// So many things a file may make by ranges: more than a daemon carries.
const MOST: usize = 100_000;

/// Expands all ranges. What is wrong with them is added to `wrong`.
pub fn expand(root: &mut Node, wrong: &mut Vec<(Span, String)>) {
    let mut left = MOST;
    inside(root, &mut left, wrong);
    unescape(root);
}

fn unescape(node: &mut Node) {
    match &mut node.kind {
        Kind::Table(members) => members.iter_mut().for_each(|member| unescape(&mut member.value)),
        Kind::List(items) => items.iter_mut().for_each(unescape),
        Kind::Leaf(Value::String(text)) => {
            *text = with_ranges(text, |range| range.strip_prefix('=').unwrap_or(range).to_owned())
        }
        Kind::Leaf(_) | Kind::Counted(_) => {}
    }
}

/// A text as it has to stand in a file to be read as it is.
pub fn escaped(text: &str) -> String {
    with_ranges(text, |range| format!("={range}"))
}

/// Whether there is a range in a text.
pub fn has_range(text: &str) -> bool {
    pieces(text).iter().any(|piece| matches!(piece, Piece::Range(..)))
}

/// A text with what is in the braces of ranges, and of what stands for their text, by `change`.
fn with_ranges(text: &str, change: impl Fn(&str) -> String) -> String {
    let (mut changed, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('{') {
        changed += before;
        changed.push('{');
        rest = after;
        if let Some((inside, _)) = after.split_once('}')
            && matches!(piece(inside.trim_start_matches('=')), Some(Piece::Range(..)))
        {
            changed += &change(inside);
            rest = &after[inside.len()..];
        }
    }
    changed + rest
}

fn inside(node: &mut Node, left: &mut usize, wrong: &mut Vec<(Span, String)>) {
    match &mut node.kind {
        Kind::Table(members) => members
            .iter_mut()
            .for_each(|member| inside(&mut member.value, left, wrong)),
        Kind::List(items) => {
            let mut all = Vec::with_capacity(items.len());
            for item in std::mem::take(items) {
                let mut found = Vec::new();
                ranges(&item, &mut found);
                match found.as_slice() {
                    [] => all.push(item),
                    [(span, range), others @ ..] => {
                        if let Some((span, _)) = others.iter().find(|(_, other)| other != range) {
                            let cause = "a second range in one entry; write {n} for the number of the first";
                            wrong.push((span.clone(), cause.to_owned()));
                        }
                        let count = range.clone().count();
                        if count == 0 || count > *left {
                            let cause = match count {
                                0 => "the range is empty: its first number is above its last".to_owned(),
                                _ => format!("the ranges of the file make more than {MOST} things"),
                            };
                            wrong.push((span.clone(), cause));
                            continue;
                        }
                        *left -= count;
                        all.extend(range.clone().map(|n| numbered(item.clone(), n)));
                    }
                }
            }
            all.iter_mut().for_each(|item| inside(item, left, wrong));
            *items = all;
        }
        Kind::Leaf(_) | Kind::Counted(_) => {}
    }
}

/// The ranges that are for this item of a list, and not for those of a list in it.
fn ranges(node: &Node, found: &mut Vec<(Span, RangeInclusive<i64>)>) {
    match &node.kind {
        Kind::Table(members) => members.iter().for_each(|member| ranges(&member.value, found)),
        Kind::Leaf(Value::String(text)) => {
            let parts = pieces(text).into_iter();
            found.extend(parts.filter_map(|piece| match piece {
                Piece::Range(range, _) => Some((node.span.clone(), range)),
                _ => None,
            }));
        }
        Kind::Leaf(_) | Kind::Counted(_) | Kind::List(_) => {}
    }
}

fn numbered(mut node: Node, n: i64) -> Node {
    match &mut node.kind {
        Kind::Table(members) => {
            for member in members {
                let value = std::mem::replace(&mut member.value.kind, Kind::List(Vec::new()));
                let span = member.value.span.clone();
                member.value = numbered(Node { span, kind: value }, n);
            }
        }
        Kind::List(items) => {
            *items = std::mem::take(items)
                .into_iter()
                .map(|item| numbered(item, n))
                .collect()
        }
        Kind::Leaf(Value::String(text)) => {
            let parts = pieces(text);
            node.kind = match parts.as_slice() {
                [Piece::Number { plus, form }] if form.is_plain() => Kind::Counted(n.saturating_add(*plus)),
                _ => Kind::Leaf(parts.iter().map(|piece| piece.with(n)).collect::<String>().into()),
            };
        }
        Kind::Leaf(_) | Kind::Counted(_) => {}
    }
    node
}

/// How a number is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Form {
    width: usize,
    hex: bool,
}

impl Form {
    fn is_plain(self) -> bool {
        self == Self::default()
    }

    fn write(self, n: i64) -> String {
        let width = self.width;
        match self.hex {
            true => format!("{n:0width$x}"),
            false => format!("{n:0width$}"),
        }
    }

    /// `02x`, `3`
    fn read(text: &str) -> Option<Self> {
        let (digits, hex) = text.strip_suffix('x').map_or((text, false), |digits| (digits, true));
        let width = match digits {
            "" => 0,
            digits => digits.parse().ok().filter(|width| *width <= 16)?,
        };
        Some(Self { width, hex })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Range(RangeInclusive<i64>, Form),
    Number { plus: i64, form: Form },
}

impl Piece<'_> {
    fn with(&self, n: i64) -> String {
        match self {
            Self::Text(text) => (*text).to_owned(),
            Self::Range(_, form) => form.write(n),
            Self::Number { plus, form } => form.write(n.saturating_add(*plus)),
        }
    }
}

/// A text in parts. Braces that hold nothing of ours are text.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(open) = text[at..].find('{').map(|found| at + found) {
        at = open + 1;
        let Some(close) = text[at..].find('}').map(|found| at + found) else {
            break;
        };
        let Some(piece) = piece(&text[at..close]) else { continue };
        if plain < open {
            pieces.push(Piece::Text(&text[plain..open]));
        }
        pieces.push(piece);
        at = close + 1;
        plain = at;
    }
    if plain < text.len() {
        pieces.push(Piece::Text(&text[plain..]));
    }
    pieces
}

fn piece(text: &str) -> Option<Piece<'static>> {
    let (body, form) = match text.split_once(':') {
        Some((body, form)) => (body, Form::read(form)?),
        None => (text, Form::default()),
    };
    if let Some((first, last)) = body.split_once("..") {
        let digits = |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(first) || !digits(last) {
            return None;
        }
        // As in a shell: {01..10}.
        let padded = first.len() > 1 && first.starts_with('0') && form.is_plain();
        let width = if padded { first.len() } else { form.width };
        let range = first.parse().ok()?..=last.parse().ok()?;
        return Some(Piece::Range(range, Form { width, ..form }));
    }
    let plus = match body.strip_prefix('n')? {
        "" => 0,
        more if more.starts_with(['+', '-']) && more.len() <= 10 => more.parse().ok()?,
        _ => return None,
    };
    Some(Piece::Number { plus, form })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn expanded(text: &str) -> (Value, Vec<String>) {
        let mut wrong = Vec::new();
        let mut root = Node::parse(text, &mut wrong);
        expand(&mut root, &mut wrong);
        (root.to_json(), wrong.into_iter().map(|(_, cause)| cause).collect())
    }

    #[test]
    fn a_range_makes_many_of_what_it_stands_in() {
        for (text, value) in [
            (
                "ports = [{ name = \"h{1..2}\", addresses = [\"10.0.0.{n}/24\", \"fd00::{n:x}/64\"] }]",
                json!({"ports": [
                    {"name": "h1", "addresses": ["10.0.0.1/24", "fd00::1/64"]},
                    {"name": "h2", "addresses": ["10.0.0.2/24", "fd00::2/64"]}
                ]}),
            ),
            (
                "namespaces = [\"a\", \"h{09..11}\"]",
                json!({"namespaces": ["a", "h09", "h10", "h11"]}),
            ),
            (
                "ports = [{ mac = \"02::{15..16:02x}\", to = \"{n-1}-{n+1:03}\" }]",
                json!({"ports": [{"mac": "02::0f", "to": "14-016"}, {"mac": "02::10", "to": "15-017"}]}),
            ),
            // Of a list in an entry it is for the list.
            (
                "ports = [{ name = \"a\", addresses = [\"10.0.0.{1..2}/24\"] }]",
                json!({"ports": [{"name": "a", "addresses": ["10.0.0.1/24", "10.0.0.2/24"]}]}),
            ),
            // Not ours.
            (
                "ports = [{ description = \"{x} {} {1..} {n} {\" }]",
                json!({"ports": [{"description": "{x} {} {1..} {n} {"}]}),
            ),
        ] {
            assert_eq!(expanded(text), (value, Vec::new()), "{text}");
        }
    }

    #[test]
    fn a_text_with_braces_is_written_so_that_it_is_read_as_it_is() {
        for text in [
            "{1..5}",
            "for i in {01..10}; do {=2..3} {==4..5}",
            "{n} {x} {",
            "{a {1..2}}",
            "",
        ] {
            let (value, wrong) = expanded(&format!("commands = [{{ argv = [\"{}\"] }}]", escaped(text)));
            assert_eq!(value, json!({"commands": [{"argv": [text]}]}));
            assert!(wrong.is_empty(), "{wrong:?}");
        }
    }

    #[test]
    fn a_range_that_makes_nothing_or_too_much_is_told() {
        for (text, part) in [
            ("ports = [{ name = \"h{5..1}\" }]", "empty"),
            ("ports = [{ name = \"h{1..999999999}\" }]", "more than 100000"),
            (
                "ports = [{ name = \"h{1..2}\", namespace = \"h{1..3}\" }]",
                "second range",
            ),
        ] {
            let (_, wrong) = expanded(text);
            assert!(wrong.len() == 1 && wrong[0].contains(part), "{wrong:?}");
        }
    }
}
