//! Manual pages of section 5: of the daemon's configuration, from the file that is shipped, and of lab files, from their JSON Schema.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::Value;

use super::VERSION;

/// A page in roff, as far as it is written.
struct Page(String);

impl Page {
    fn new(name: &str, what: &str) -> Self {
        let title = name.to_uppercase();
        let mut page = Self(format!(
            ".TH \"{title}\" 5 \"\" \"vswitch {VERSION}\" \"vswitch manual\"\n"
        ));
        page.section("NAME");
        page.0.push_str(&format!("{} \\- {}\n", escaped(name), escaped(what)));
        page
    }

    fn section(&mut self, title: &str) {
        let _ = writeln!(self.0, ".SH \"{}\"", escaped(title));
    }

    /// Paragraphs, with an empty line between two.
    fn text(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let _ = writeln!(self.0, ".PP\n{}", escaped(paragraph));
        }
    }

    /// A term, with some words beside it that are no part of it, and what it means.
    fn term(&mut self, term: &str, beside: &str, text: &str) {
        let space = if beside.is_empty() { "" } else { " " };
        let _ = writeln!(self.0, ".TP\n\\fB{}\\fR{space}{}", escaped(term), escaped(beside));
        let mut paragraphs = text.split("\n\n");
        let _ = writeln!(self.0, "{}", escaped(paragraphs.next().unwrap_or_default()));
        for paragraph in paragraphs {
            let _ = writeln!(self.0, ".IP\n{}", escaped(paragraph));
        }
    }

    /// Lines as they are.
    fn verbatim(&mut self, text: &str) {
        let _ = writeln!(self.0, ".PP\n.RS 4\n.nf\n{}\n.fi\n.RE", escaped(text.trim_end()));
    }

    fn see_also(mut self, pages: &[&str]) -> String {
        self.section("SEE ALSO");
        let pages: Vec<_> = pages.iter().map(|page| escaped(page)).collect();
        let _ = writeln!(self.0, "{}", pages.join(", "));
        self.0
    }
}

/// Text that roff shows as it is: dashes stay what can be copied, and no line is a request.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = text.lines().map(|line| match line.trim_start() {
        line if line.starts_with(['.', '\'']) => format!("\\&{line}"),
        line => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// That of `vswitchd.toml`: each key with its default and the comment above it.
pub fn of_settings(file: &str) -> String {
    let mut page = Page::new("vswitchd.toml", "configuration of vswitchd");
    let mut comment = Vec::new();
    let mut is_first = true;
    for line in file.lines().chain([""]) {
        let line = line.trim_end();
        let assigned = line.strip_prefix("# ").unwrap_or(line).split_once(" = ");
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if let Some(section) = line.strip_prefix('[') {
            page.section(&format!("[{section}"));
            comment.clear();
        } else if let Some((key, default)) = assigned.filter(|(key, _)| is_key(key)) {
            page.term(key, &format!("= {default}"), &comment.join("\n"));
            comment.clear();
        } else if let Some(text) = line.strip_prefix('#') {
            comment.push(text.strip_prefix(' ').unwrap_or(text));
        } else if line.is_empty() && !comment.is_empty() {
            if is_first {
                page.section("DESCRIPTION");
            }
            is_first = false;
            page.text(&comment.join("\n"));
            comment.clear();
        }
    }
    page.section("FILES");
    page.term(
        "/etc/vswitch/vswitchd.toml",
        "",
        "Where it is looked for without --config.",
    );
    page.see_also(&["vswitchd(8)", "vswitchctl(1)", "vswitch-lab(5)"])
}

/// An example that says more than a list of keys.
const EXAMPLE: &str = "[[ports]]
name = \"red\"
addresses = [\"192.168.15.1/24\"]

[[ports]]
name = \"blue\"
addresses = [\"192.168.15.2/24\"]
vlan = { access = 10 }";

/// That of lab files.
pub fn of_labs(schema: &str) -> Result<String> {
    let schema: Value = serde_json::from_str(schema).context("`vswitchctl lab schema` prints no JSON")?;
    let mut page = Page::new("vswitch-lab", "lab files of vswitchctl");
    page.section("DESCRIPTION");
    page.text(
        "A lab file is what a lab is to be: switches, ports with their namespaces and addresses, links and cables. `vswitchctl apply FILE` makes the \
         lab so, and `vswitchctl lab export` writes the one that is there. It is TOML; the same keys are those of the API's JSON.\n\n\
         What is left out has its default. A key that is not known is an error. `vswitchctl lab check FILE` looks without a daemon, and \
         `vswitchctl lab schema` prints the JSON Schema of which this page is made.",
    );
    page.section("EXAMPLE");
    page.verbatim(EXAMPLE);
    for (key, value) in members(&schema) {
        let is_list = value["type"] == "array";
        let one = if is_list { &value["items"] } else { value };
        page.section(&if is_list { format!("[[{key}]]") } else { key.to_owned() });
        page.text(described(value));
        keys(&mut page, &schema, resolved(&schema, one), "", 0);
    }
    page.section("FILES");
    page.term("/usr/share/doc/vswitch/examples", "", "Labs to begin with.");
    page.term(
        "/usr/share/vswitch/lab.schema.json",
        "",
        "The JSON Schema, for editors.",
    );
    Ok(page.see_also(&[
        "vswitchctl(1)",
        "vswitchctl-apply(1)",
        "vswitchctl-lab(1)",
        "vswitchd(8)",
    ]))
}

/// Settings lie at most so deep in others.
const DEEPEST: usize = 3;

/// The keys of an object, those of objects in it behind a dot.
fn keys(page: &mut Page, schema: &Value, object: &Value, prefix: &str, depth: usize) {
    let required: Vec<_> = object["required"].as_array().into_iter().flatten().collect();
    for (key, value) in members(object) {
        let name = format!("{prefix}{key}");
        let is_needed = required.iter().any(|required| *required == key);
        let beside = [kind(schema, value), is_needed.then(|| "needed".to_owned())];
        let beside: Vec<_> = beside.into_iter().flatten().collect();
        let beside = if beside.is_empty() {
            String::new()
        } else {
            format!("({})", beside.join(", "))
        };
        page.term(&name, &beside, described(value));
        let inner = resolved(schema, value);
        if depth < DEEPEST && members(inner).next().is_some() {
            keys(page, schema, inner, &format!("{name}."), depth + 1);
        }
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = object["properties"].as_object();
    members.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn described(value: &Value) -> &str {
    value["description"].as_str().unwrap_or_default()
}

/// What a value is by its reference, or the one alternative that is not null.
fn resolved<'a>(schema: &'a Value, value: &'a Value) -> &'a Value {
    if let Some(target) = value["$ref"].as_str() {
        return schema.pointer(target.trim_start_matches('#')).unwrap_or(value);
    }
    let mut others = ["oneOf", "anyOf"]
        .iter()
        .flat_map(|key| value[*key].as_array().into_iter().flatten());
    let mut others = others.by_ref().filter(|one| one["type"] != "null");
    match (others.next(), others.next()) {
        (Some(only), None) => resolved(schema, only),
        _ => value,
    }
}

/// In a word or two what can stand there.
fn kind(schema: &Value, value: &Value) -> Option<String> {
    let value = resolved(schema, value);
    if let Some(words) = value["enum"].as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        return Some(words.join(" | "));
    }
    let names = match &value["type"] {
        Value::String(name) => vec![name.as_str()],
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .collect(),
        _ => return None,
    };
    Some(names.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_the_configuration_is_there_with_its_default() {
        let page = of_settings("# What it is.\n\n[log]\n# Which lines.\n# level = \"info\"\n\n# .5-x\nother = 1\n");
        assert!(page.contains(".SH \"DESCRIPTION\"\n.PP\nWhat it is.\n"), "{page}");
        assert!(
            page.contains(".SH \"[log]\"\n.TP\n\\fBlevel\\fR = \"info\"\nWhich lines.\n"),
            "{page}"
        );
        assert!(page.contains("\\fBother\\fR = 1\n\\&.5\\-x\n"), "{page}");
    }

    #[test]
    fn the_keys_of_a_lab_are_named_by_their_path() {
        let schema = r##"{"$defs": {
            "Port": {"required": ["name"], "properties": {
                "name": {"type": "string", "description": "Its name."},
                "learning": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/Learning"}], "description": "How it learns."}}},
            "Learning": {"properties": {"mode": {"enum": ["on", "off"]}}}},
            "properties": {"ports": {"type": "array", "items": {"$ref": "#/$defs/Port"}, "description": "Ports."}}}"##;
        let page = of_labs(schema).unwrap();
        for part in [
            ".SH \"[[ports]]\"\n.PP\nPorts.\n",
            "\\fBname\\fR (string, needed)\nIts name.\n",
            "\\fBlearning\\fR\nHow it learns.\n",
            "\\fBlearning.mode\\fR (on | off)\n",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
    }
}
