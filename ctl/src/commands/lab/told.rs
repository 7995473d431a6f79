//! What `lab test` found, as a matrix and as JUnit XML.

use std::collections::HashMap;
use std::fmt::Write;

use super::reach::Endpoint;
use super::test::{Outcome, TestReport};
use crate::output::{Style, units};

/// A matrix of more is wider than any screen.
const SHOWN: usize = 24;
const UNIT: &str = "bit/s";

impl Outcome {
    fn line(&self) -> String {
        let Self { from, to, family, .. } = self;
        if let Some(why) = &self.untested {
            return format!("{from} -> {to}: {why}");
        }
        let what = match (self.address, self.reached) {
            (None, _) => "they have no address of the same version".to_owned(),
            (Some(address), true) => format!("{address} answers, and was not to be reached"),
            (Some(address), false) => format!("{address} does not answer"),
        };
        format!("{from} -> {to} ({family}): {what}")
    }
}

/// All of it for people.
pub fn text(style: Style, all: &[Endpoint], report: &TestReport) -> String {
    let mut text = String::new();
    if all.len() <= SHOWN {
        for family in ["ipv4", "ipv6"] {
            if report.pairs.iter().any(|pair| pair.family == family) {
                text += &matrix(all, report, family);
                text += "\n";
            }
        }
    }
    let speeds: Vec<_> = report.pairs.iter().filter_map(|pair| pair.bits_per_second).collect();
    if let (Some(least), Some(most)) = (speeds.iter().min(), speeds.iter().max()) {
        if all.len() <= SHOWN {
            text += &speed_matrix(all, report);
            text += "\n";
        }
        let (least, most) = (units::count(*least), units::count(*most));
        let _ = writeln!(text, "TCP from {least} to {most} bit/s, {} pairs\n", speeds.len());
    }
    for pair in report.pairs.iter().filter(|pair| !pair.ok) {
        let _ = writeln!(text, "{}", pair.line());
        if let Some(cause) = &pair.cause {
            let _ = writeln!(text, "  cause     {}\n  evidence  {}", cause.cause, cause.evidence);
            if let Some(mend) = &cause.mend {
                let _ = writeln!(text, "  mend      {}", style.bold(mend));
            }
        }
    }
    let asked = report.pairs.iter().filter(|pair| pair.expected.is_some());
    let good = asked.clone().filter(|pair| pair.ok).count();
    if !report.left_out.is_empty() {
        let _ = writeln!(
            text,
            "left out, as they have no address: {}",
            report.left_out.join(", ")
        );
    }
    let _ = writeln!(text, "{good} of {} as expected", asked.count());
    text
}

fn matrix(all: &[Endpoint], report: &TestReport, family: &str) -> String {
    let of_family = report.pairs.iter().filter(|pair| pair.family == family);
    let cells: HashMap<_, _> = of_family
        .map(|pair| ((pair.from.as_str(), pair.to.as_str()), pair))
        .collect();
    table(all, family, 4, |from, to| {
        let pair = cells.get(&(from, to))?;
        let word = match (pair.reached, pair.ok) {
            (true, true) => "yes",
            (false, true) => "no",
            (true, false) => "YES!",
            (false, false) => "NO!",
        };
        Some(word.to_owned())
    })
}

/// Bits per second.
fn speed_matrix(all: &[Endpoint], report: &TestReport) -> String {
    let measured = |pair: &'_ Outcome| Some(((pair.from.clone(), pair.to.clone()), pair.bits_per_second?));
    let cells: HashMap<_, _> = report.pairs.iter().filter_map(measured).collect();
    table(all, UNIT, 5, |from, to| {
        let bits = cells.get(&(from.to_owned(), to.to_owned()))?;
        Some(units::count(*bits))
    })
}

/// Rows send, columns answer. `least`: width of a column.
fn table(all: &[Endpoint], corner: &str, least: usize, cell: impl Fn(&str, &str) -> Option<String>) -> String {
    let names: Vec<_> = all.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let longest = names.iter().map(|name| name.len()).max().unwrap_or_default();
    let first = longest.max(corner.len());
    let width = |name: &str| name.len().max(least);
    let mut text = format!("{corner:first$}");
    for name in &names {
        let _ = write!(text, "  {name:>0$}", width(name));
    }
    text += "\n";
    for from in &names {
        let _ = write!(text, "{from:first$}");
        for to in &names {
            let cell = cell(from, to).unwrap_or_else(|| "-".to_owned());
            let _ = write!(text, "  {cell:>0$}", width(to));
        }
        text += "\n";
    }
    text
}

/// What CI systems read.
pub fn junit(file: &str, report: &TestReport) -> String {
    let failed = report.pairs.iter().filter(|pair| !pair.ok).count();
    let suite = xml(file);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"{suite}\" tests=\"{}\" failures=\"{failed}\">\n",
        report.pairs.iter().filter(|pair| pair.expected.is_some()).count(),
    );
    for pair in report.pairs.iter().filter(|pair| pair.expected.is_some()) {
        let not = if pair.expected == Some(false) { "!" } else { "" };
        let name = xml(&format!("{not}{} -> {} ({})", pair.from, pair.to, pair.family));
        let _ = write!(text, "  <testcase classname=\"{suite}\" name=\"{name}\"");
        text += &match pair.ok {
            true => "/>\n".to_owned(),
            false => {
                let cause = pair.cause.as_ref().map_or_else(String::new, |cause| {
                    let mend = cause
                        .mend
                        .as_ref()
                        .map_or_else(String::new, |mend| format!("\nmend: {mend}"));
                    format!("cause: {}\nevidence: {}{mend}", cause.cause, cause.evidence)
                });
                let (line, cause) = (xml(&pair.line()), xml(&cause));
                format!("><failure message=\"{line}\">{cause}</failure></testcase>\n")
            }
        };
    }
    text + "</testsuite>\n"
}

/// As the value of an attribute, or as text.
pub fn xml(text: &str) -> String {
    let escape = |c| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c => String::from(c),
    };
    text.chars().map(escape).collect()
}
