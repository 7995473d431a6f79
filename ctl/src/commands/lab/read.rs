//! Reading a lab file: its text as a lab, or everything that is wrong with it at once.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use vswitch_api::{ApiError, Lab, LabName, strict};

use super::node::{Kind, Node, Span};
use super::problem::{Problem, Report, unreadable};
use super::reach::{Expectation, expectations};
use super::words::readable;
use super::{check, ranges, rules};
use crate::commands::text;
use crate::failure::Failure;

/// More than anybody reads; and what a file of a thousand ports costs is bounded.
const MOST_PROBLEMS: usize = 200;
/// The keys that a file has and the lab has not.
const FILE_KEYS: &str = ", `name`, `reach`";

/// What a file says.
#[derive(Clone, Debug)]
pub struct LabFile {
    /// How the user called it.
    pub path: String,
    /// Name of the lab, if the file has one.
    pub name: Option<LabName>,
    /// Who is to reach whom.
    pub reach: Vec<Expectation>,
    /// The lab itself.
    pub lab: Lab,
    text: String,
    tree: Node,
}

/// Reads the file or standard input (`-`). What is wrong with what it says is a report; what else stops it is a failure.
pub fn read(file: &Path) -> Result<Result<LabFile, Report>, Failure> {
    let path = text::called(file);
    let text = text::read(file).map_err(|e| unreadable(&path, &e))?;
    let mut wrong = Vec::new();
    let tree = Node::parse(&text, &mut wrong);
    // Also where the command on the other side of the pipe failed: everything would be removed.
    if tree.members().is_empty() && wrong.is_empty() {
        return Err(Failure::usage(
            format!("lab file {path}"),
            "it is empty, so nothing was changed",
            "did the command that writes it fail? A lab without anything is `ports = []`; `vswitchctl reset` removes everything",
        ));
    }
    Ok(understand(path, text, tree, wrong))
}

/// The same of a text; the path is for messages.
pub fn of_text(path: &str, text: &str) -> Result<LabFile, Report> {
    let mut wrong = Vec::new();
    let tree = Node::parse(text, &mut wrong);
    understand(path.to_owned(), text.to_owned(), tree, wrong)
}

fn understand(path: String, text: String, mut tree: Node, mut wrong: Vec<(Span, String)>) -> Result<LabFile, Report> {
    // What was read past an error of syntax is not what is meant.
    if !wrong.is_empty() {
        return Err(report(&path, &text, wrong));
    }
    ranges::expand(&mut tree, &mut wrong);
    let whole = tree.clone();
    let name = own_key(&mut tree, "name", &mut wrong);
    let reach = tree.take("reach");
    let lab: Lab = typed(&mut tree, &mut wrong).unwrap_or_default();
    check::check(&lab, &tree, &whole, &mut wrong);
    let reach = reach.map_or_else(Vec::new, |reach| expectations(&reach.value, &lab, &whole, &mut wrong));
    if !wrong.is_empty() {
        return Err(report(&path, &text, wrong));
    }
    Ok(LabFile {
        path,
        name,
        reach,
        lab,
        text,
        tree,
    })
}

fn report(path: &str, text: &str, wrong: Vec<(Span, String)>) -> Report {
    let problem = |(span, message): (Span, String)| Problem::at(text, &span, message);
    Report::new(path, wrong.into_iter().map(problem).collect())
}

impl LabFile {
    /// The name of the lab: its own, or else that of the file without its ending.
    pub fn lab_name(&self) -> Result<LabName, Failure> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let stem = Path::new(&self.path).file_stem().and_then(|stem| stem.to_str());
        // What a path may have and a name may not.
        let allowed = |c: char| {
            if c.is_ascii_alphanumeric() || "-_.@+".contains(c) {
                c
            } else {
                '-'
            }
        };
        let stem: String = stem.unwrap_or_default().chars().map(allowed).collect();
        stem.trim_start_matches(['.', '-']).parse().map_err(|e| {
            Failure::usage(
                format!("lab file {}", self.path),
                format!("its name is none for a lab: {e}"),
                "write `name = \"...\"` as its first line",
            )
        })
    }

    /// What is written in the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Which items of a list each entry of the file makes: one, or with a range many.
    pub fn groups(&self, list: &str) -> Vec<Range<usize>> {
        let items = self.tree.get(list).map(Node::items).unwrap_or_default();
        let mut groups: Vec<Range<usize>> = Vec::new();
        for (n, item) in items.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if items[group.start].span == item.span => group.end = n + 1,
                _ => groups.push(n..n + 1),
            }
        }
        groups
    }

    /// An error of the daemon with the place of what it is about, such as `port "red"`.
    pub fn place(&self, error: &ApiError) -> Option<Problem> {
        let (kind, name) = error.object.split_once(' ')?;
        let list = match kind {
            "port" => "ports",
            "switch" => "switches",
            "mirror" => "mirrors",
            "command" => "commands",
            _ => return None,
        };
        let name: String = serde_json::from_str(name).ok()?;
        let items = self.tree.get(list).map(Node::items).unwrap_or_default();
        let item = items
            .iter()
            .find(|item| item.get("name").and_then(Node::text) == Some(&name));
        let span = match item {
            Some(item) => item.span_of("name"),
            None if list == "ports" => self.place_of_end(&name)?,
            None => return None,
        };
        Some(Problem::at(&self.text, &span, error.to_string()))
    }

    /// Where the link stands that has a port of this name, said or made.
    fn place_of_end(&self, name: &str) -> Option<Span> {
        let mut laid = self.lab.clone();
        laid.lay_links();
        let ends = laid.ports.get(self.lab.ports.len()..)?;
        let at = ends.iter().position(|end| end.name.as_str() == name)?;
        let key = if at % 2 == 0 { "name_a" } else { "name_b" };
        Some(self.tree.item("links", at / 2)?.span_of(key))
    }

    /// What is wrong beyond what keeps the file from being read.
    pub fn more(&self) -> Option<Report> {
        let wrong = rules::filters(&self.lab, &self.tree);
        (!wrong.is_empty()).then(|| report(&self.path, &self.text, wrong))
    }

    /// The report with this problem alone.
    pub fn report(&self, problem: Problem) -> Report {
        Report::new(&self.path, vec![problem])
    }
}

/// A key that is of the file alone.
fn own_key<T: DeserializeOwned>(tree: &mut Node, key: &str, wrong: &mut Vec<(Span, String)>) -> Option<T> {
    let mut member = tree.take(key)?;
    typed(&mut member.value, wrong)
}

/// Reads the tree as a `T`. Each part that can't be read is told and taken out, and the rest is tried again.
fn typed<T: DeserializeOwned>(tree: &mut Node, wrong: &mut Vec<(Span, String)>) -> Option<T> {
    // Tables that lack what was taken out of them.
    let mut hurt = HashSet::new();
    let mut left = MOST_PROBLEMS;
    while left > 0 {
        let error = match strict::from_value(tree.to_json()) {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let segments: Vec<_> = error.path().iter().cloned().collect();
        let mut message = error.into_inner().to_string();
        let mut way = locate(tree, &segments);
        if message.starts_with("invalid type: string")
            && let Some(span) = counted(at(tree, &way))
        {
            count(tree, &span);
            continue;
        }
        if let Some(key) = quoted(&message, "unknown field ")
            && let Some(n) = at(tree, &way).members().iter().position(|member| member.key == key)
        {
            way.push(n);
        }
        left -= 1;
        if message.starts_with("unknown field") && way.len() == 1 {
            message += FILE_KEYS;
        }
        let (span, table) = (place(tree, &way, &message), at(tree, &way).span.clone());
        let lacks_what_was_told = !message.starts_with("unknown") && hurt.contains(&table);
        if !lacks_what_was_told {
            wrong.push((span, readable(&message)));
        }
        let last = way.pop()?;
        hurt.insert(at(tree, &way).span.clone());
        match &mut at_mut(tree, &way).kind {
            Kind::List(items) => drop(items.remove(last)),
            Kind::Table(members) => drop(members.remove(last)),
            Kind::Leaf(_) | Kind::Counted(_) => return None,
        }
    }
    None
}

/// The key if what is wrong is the key, or else the value.
fn place(tree: &Node, way: &[usize], message: &str) -> Span {
    if message.starts_with("unknown field")
        && let Some((last, table)) = way.split_last()
        && let Some(member) = at(tree, table).members().get(*last)
    {
        return member.key_span.clone();
    }
    at(tree, way).span.clone()
}

/// The way to what a path names, as far as it is there.
fn locate(tree: &Node, path: &[Segment]) -> Vec<usize> {
    let (mut way, mut node) = (Vec::new(), tree);
    for segment in path {
        let next = match (segment, &node.kind) {
            (Segment::Seq { index }, Kind::List(items)) => items.get(*index).map(|item| (*index, item)),
            (Segment::Map { key } | Segment::Enum { variant: key }, Kind::Table(members)) => {
                let n = members.iter().position(|member| member.key == *key);
                n.map(|n| (n, &members[n].value))
            }
            _ => None,
        };
        let Some((n, below)) = next else { break };
        way.push(n);
        node = below;
    }
    way
}

fn at<'a>(mut node: &'a Node, way: &[usize]) -> &'a Node {
    for n in way {
        node = match &node.kind {
            Kind::List(items) => &items[*n],
            Kind::Table(members) => &members[*n].value,
            Kind::Leaf(_) | Kind::Counted(_) => node,
        };
    }
    node
}

fn at_mut<'a>(node: &'a mut Node, way: &[usize]) -> &'a mut Node {
    let Some((n, rest)) = way.split_first() else {
        return node;
    };
    match &mut node.kind {
        Kind::List(items) => at_mut(&mut items[*n], rest),
        Kind::Table(members) => at_mut(&mut members[*n].value, rest),
        Kind::Leaf(_) | Kind::Counted(_) => unreachable!("a way goes through lists and tables"),
    }
}

/// Where a number of a range stands that was read as text.
fn counted(node: &Node) -> Option<Span> {
    match &node.kind {
        Kind::Counted(_) => Some(node.span.clone()),
        Kind::List(items) => items.iter().find_map(counted),
        Kind::Table(members) => members.iter().find_map(|member| counted(&member.value)),
        Kind::Leaf(_) => None,
    }
}

/// Has the numbers that a range made of this place be numbers.
fn count(node: &mut Node, place: &Span) {
    match &mut node.kind {
        Kind::Counted(n) if node.span == *place => node.kind = Kind::Leaf(Value::from(*n)),
        Kind::List(items) => items.iter_mut().for_each(|item| count(item, place)),
        Kind::Table(members) => members.iter_mut().for_each(|member| count(&mut member.value, place)),
        Kind::Leaf(_) | Kind::Counted(_) => {}
    }
}

/// What stands in backticks after these words.
fn quoted<'a>(message: &'a str, words: &str) -> Option<&'a str> {
    let rest = message.strip_prefix(words)?.strip_prefix('`')?;
    rest.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(text: &str) -> Result<Lab, Vec<String>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let read = read(file.path()).unwrap();
        read.map(|file| file.lab)
            .map_err(|report| report.problems.iter().map(|problem| problem.headline("F")).collect())
    }

    #[test]
    fn what_is_exported_can_be_applied() {
        let mut wanted: Lab = serde_json::from_value(serde_json::json!({
            "switches": [{"name": "main"}, {"name": "lab", "reserved_multicast": "all"}],
            "namespaces": ["red", "blue"],
            "ports": [{
                "name": "red", "kind": "tap", "mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1/24", "fd00::1/64"],
                "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.254"}, {"to": "10.1.0.0/16"}], "offload": false
            }],
            "cables": [{
                "a": {"namespace": "red", "routes": [{"to": "10.2.0.0/16"}]},
                "b": {"namespace": "blue", "ifname": "x"},
                "mtu": 9000
            }],
            "labs": [{"name": "one", "ports": ["red"]}]
        }))
        .unwrap();
        assert_eq!(lab(&toml::to_string_pretty(&wanted).unwrap()), Ok(wanted.clone()));
        wanted = Lab::default();
        assert_eq!(lab(&toml::to_string_pretty(&wanted).unwrap()), Ok(wanted));
    }

    /// `mtu = +1400` is a number to TOML (faults A6).
    #[test]
    fn a_number_in_a_file_has_no_sign() {
        for (text, place) in [
            ("ports = [{ name = \"red\", mtu = +1400 }]", "1:32"),
            ("[[ports]]\nname = \"red\"\nvlan = { access = +10 }", "3:19"),
            ("[[ports]]\nname = \"red\"\n[ports.impair.out]\nloss = +0.01", "4:8"),
            ("[[switches]]\nname = \"main\"\nrspan_vlans = [\n998,\n+999]", "5:1"),
        ] {
            assert_eq!(
                lab(text).unwrap_err(),
                [format!("F:{place}: a number has no sign")],
                "{text}"
            );
        }
        assert!(lab("[[ports]]\nname = \"a+5\"").is_ok());
    }

    /// serde takes an array for a struct, so `["red"]` was a port of this name.
    #[test]
    fn a_list_is_no_port() {
        let errors = lab("ports = [[\"red\"]]\n").unwrap_err();
        assert!(
            errors[0].starts_with("F:1:10: ") && errors[0].contains("object"),
            "{errors:?}"
        );
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_with_its_place() {
        let text = r#"
adresses = 1
namespaces = ["red", "re d"]

[[switches]]
name = "lab"
ageing_sec = 5

[[ports]]
name = "red"
kind = "vethh"
vlan_id = 3
addresses = ["10.0.0.1", "10.0.0.2/24"]

[[ports]]
nam = "blue"

[[ports]]
name = "green"
switch = "lbb"
mtu = "big"
vlan = { access = 5000 }
"#;
        let errors = lab(text).unwrap_err();
        let expected = [
            ("2:1", "unknown key `adresses`"),
            ("3:22", "\"re d\""),
            ("7:1", "did you mean `ageing_secs`?"),
            ("11:8", "did you mean `veth`?"),
            ("12:1", "unknown key `vlan_id`"),
            ("13:14", "address 10.0.0.1 has no prefix length"),
            ("16:1", "did you mean `name`?"),
            ("20:10", "did you mean \"lab\"?"),
            ("21:7", "\"big\""),
            ("22:19", "5000"),
        ];
        for (error, (place, words)) in errors.iter().zip(expected) {
            assert!(
                error.starts_with(&format!("F:{place}: ")) && error.contains(words),
                "{place} {words}: {errors:#?}"
            );
        }
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    }

    #[test]
    fn syntax_is_told_with_its_place_too() {
        let errors = lab("[[ports]]\nname = red\nmtu = = 5\n").unwrap_err();
        assert!(errors.len() >= 2 && errors[0].starts_with("F:2:8: "), "{errors:?}");
    }

    #[test]
    fn a_number_of_a_range_is_a_number_where_one_is_wanted() {
        let lab = lab("[[ports]]\nname = \"{1..3}\"\nvlan = { access = \"{n}\" }\nmtu = \"{n+1500}\"").unwrap();
        let names: Vec<_> = lab.ports.iter().map(|port| port.name.as_str()).collect();
        assert_eq!(names, ["1", "2", "3"]);
        assert_eq!(lab.ports[2].mtu, Some(1503));
        assert_eq!(
            serde_json::to_value(&lab.ports[2].vlan).unwrap(),
            serde_json::json!({"access": 3})
        );
    }

    #[test]
    fn what_a_range_makes_is_wrong_in_one_place() {
        let errors = lab("[[ports]]\nname = \"h{1..50}\"\nmut = 1500\n").unwrap_err();
        assert_eq!(errors, ["F:3:1: unknown key `mut`; did you mean `mtu`?"]);
    }
}
