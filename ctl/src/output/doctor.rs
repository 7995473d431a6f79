//! What is wrong, in words.

use super::Style;
use crate::commands::doctor::{Item, WayReport};

/// The way between two ports.
pub fn way(style: Style, report: &WayReport) -> String {
    let (from, to) = (&report.from, &report.to);
    let Some(finding) = &report.finding else {
        let hidden: Vec<_> = report.out_of_sight.iter().map(ToString::to_string).collect();
        return match hidden.is_empty() {
            true => format!("{from} reaches {to} ({})\n", report.reached.join(", ")),
            false => format!(
                "nothing is wrong with the switch between {from} and {to}; what is behind {} can't be looked into\n",
                hidden.join(" and ")
            ),
        };
    };
    let red = anstyle::AnsiColor::Red.on_default();
    // A doubtful wire may still carry pings.
    let head = match report.reached.is_empty() {
        true => format!("{from} does not reach {to}"),
        false => format!(
            "something is wrong between {from} and {to} (pings are answered by {})",
            report.reached.join(", ")
        ),
    };
    let mut text = format!(
        "{}\n  cause     {}\n  evidence  {}\n",
        style.paint(red, &head),
        finding.cause,
        finding.evidence
    );
    if let Some(mend) = &finding.mend {
        text += &format!("  mend      {}\n", style.bold(mend));
    }
    text
}

/// The installation, a line for each thing, and one more with what mends it.
pub fn items(style: Style, items: &[Item]) -> String {
    let width = items.iter().map(|item| item.what.len()).max().unwrap_or_default();
    let mut text = String::new();
    for item in items {
        let word = match item.ok {
            true => style.paint(anstyle::AnsiColor::Green.on_default(), "OK   "),
            false => style.paint(anstyle::AnsiColor::Red.on_default(), "WRONG"),
        };
        text += &format!("{word}  {:width$}  {}\n", item.what, item.detail);
        if let Some(mend) = &item.mend {
            text += &format!("       {:width$}  mend: {}\n", "", style.bold(mend));
        }
    }
    text
}
