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
    let _ = writeln!(text, "{good} of {} as expected", asked.count());
    text
}

/// Rows send, columns answer.
fn matrix(all: &[Endpoint], report: &TestReport, family: &str) -> String {
    let cells: HashMap<_, _> = report
        .pairs
        .iter()
        .filter(|pair| pair.family == family)
        .map(|pair| ((pair.from.as_str(), pair.to.as_str()), pair))
        .collect();
    let names: Vec<_> = all.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let first = names
        .iter()
        .map(|name| name.len())
        .max()
        .unwrap_or_default()
        .max(family.len());
    let mut text = format!("{family:first$}");
    for name in &names {
        let _ = write!(text, "  {name:>4}");
    }
    text += "\n";
    for from in &names {
        let _ = write!(text, "{from:first$}");
        for to in &names {
            let cell = match cells.get(&(*from, *to)) {
                None => "-",
                Some(Outcome {
                    reached: true,
                    ok: true,
                    ..
                }) => "yes",
                Some(Outcome {
                    reached: false,
                    ok: true,
                    ..
                }) => "no",
                Some(Outcome {
                    reached: true,
                    ok: false,
                    ..
                }) => "YES!",
                Some(Outcome {
                    reached: false,
                    ok: false,
                    ..
                }) => "NO!",
            };
            let width = to.len().max(4);
            let _ = write!(text, "  {cell:>width$}");
        }
        text += "\n";
    }
    text
}

/// Bits per second.
fn speed_matrix(all: &[Endpoint], report: &TestReport) -> String {
    let measured = |pair: &'_ Outcome| Some(((pair.from.clone(), pair.to.clone()), pair.bits_per_second?));
    let cells: HashMap<_, _> = report.pairs.iter().filter_map(measured).collect();
    let names: Vec<_> = all.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let first = names
        .iter()
        .map(|name| name.len())
        .max()
        .unwrap_or_default()
        .max(UNIT.len());
    let mut text = format!("{UNIT:first$}");
    let width = |name: &str| name.len().max(5);
    for name in &names {
        let _ = write!(text, "  {name:>0$}", width(name));
    }
    text += "\n";
    for from in &names {
        let _ = write!(text, "{from:first$}");
        for to in &names {
            let cell = cells.get(&((*from).to_owned(), (*to).to_owned()));
            let cell = cell.map_or_else(|| "-".to_owned(), |bits| units::count(*bits));
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
