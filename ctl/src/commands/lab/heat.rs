//! What `lab test` found as a picture: a square for each pair, who sends on the left, who answers above.

use std::collections::HashMap;
use std::fmt::Write;

use super::reach::Endpoint;
use super::test::{Outcome, TestReport};
use super::told::xml;
use crate::output::units;

const MARGIN: usize = 20;
const TITLE: usize = 26;
const ROW: usize = 22;
/// Width of a square, and of one with a number in it.
const SQUARE: usize = 22;
const NUMBER: usize = 46;
/// Width of a letter of a label, more or less.
const LETTER: usize = 8;

const STYLE: &str = "text{font:13px sans-serif;fill:#1b1f24}.b{font-weight:600}.n{font-size:11px;text-anchor:middle}\
.r{text-anchor:end}.yes{fill:#4ac26b}.no{fill:#d0d7de}.bad{fill:#d1242f}.any{fill:#a5d8b1}.none{fill:#f6f8fa}";

/// What a square shows.
type Show<'a> = &'a dyn Fn(&Outcome) -> Option<Cell>;

struct Cell {
    /// How it is filled: a class of the style, or a colour.
    fill: String,
    text: String,
    about: String,
}

/// The picture as SVG: a matrix for each IP version, and one of the speeds.
pub fn draw(all: &[Endpoint], report: &TestReport) -> String {
    let label = LETTER * all.iter().map(|one| one.name.len()).max().unwrap_or_default();
    let left = MARGIN + label + 8;
    let (mut body, mut top, mut width) = (String::new(), MARGIN, 0);
    let mut add = |title: &str, square: usize, show: Show<'_>| {
        body += &matrix(all, report, title, (left, top, label, square), show);
        top += TITLE + label + ROW * all.len() + MARGIN;
        // Labels above lean to the right.
        width = width.max(left + square * all.len() + label * 2 / 3 + MARGIN);
    };
    for (family, title) in [("ipv4", "IPv4"), ("ipv6", "IPv6")] {
        if report.pairs.iter().any(|pair| pair.family == family) {
            add(title, SQUARE, &|pair| (pair.family == family).then(|| reached(pair)));
        }
    }
    let speeds = || report.pairs.iter().filter_map(|pair| pair.bits_per_second);
    if let (Some(least), Some(most)) = (speeds().min(), speeds().max()) {
        add("TCP, bit/s", NUMBER, &|pair| {
            let bits = pair.bits_per_second?;
            Some(Cell {
                fill: format!("fill=\"{}\"", colour(bits, least, most)),
                text: units::count(bits),
                about: format!("{} -> {}: {} bit/s", pair.from, pair.to, units::grouped(bits)),
            })
        });
    }
    width = width.max(MARGIN * 10);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{top}\" viewBox=\"0 0 {width} {top}\">\n\
         <style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

fn reached(pair: &Outcome) -> Cell {
    let class = match (pair.ok, pair.expected, pair.reached) {
        (false, ..) => "bad",
        (true, None, true) => "any",
        (true, _, true) => "yes",
        (true, _, false) => "no",
    };
    let verb = if pair.reached { "reaches" } else { "does not reach" };
    let but = if pair.ok { "" } else { ", which is not as expected" };
    let cause = pair
        .cause
        .as_ref()
        .map_or_else(String::new, |cause| format!(": {}", cause.cause));
    Cell {
        fill: format!("class=\"{class}\""),
        text: match (pair.ok, pair.reached) {
            (true, _) => String::new(),
            (false, true) => "!".to_owned(),
            (false, false) => "x".to_owned(),
        },
        about: format!("{} {verb} {}{but}{cause}", pair.from, pair.to),
    }
}

/// From pale to strong by orders of magnitude, as speeds differ by these.
fn colour(bits: u64, least: u64, most: u64) -> String {
    let log = |bits: u64| (bits.max(1) as f64).ln();
    let span = log(most) - log(least);
    let part = if span > 0.0 {
        (log(bits) - log(least)) / span
    } else {
        1.0
    };
    let between = |pale: f64, strong: f64| (pale + (strong - pale) * part).round();
    let [r, g, b] = [between(255.0, 74.0), between(241.0, 163.0), between(229.0, 223.0)];
    format!("rgb({r},{g},{b})")
}

/// `place`: left and top, room for names, width of a square.
fn matrix(
    all: &[Endpoint],
    report: &TestReport,
    title: &str,
    place: (usize, usize, usize, usize),
    show: Show<'_>,
) -> String {
    let (left, top, label, square) = place;
    let cells: HashMap<_, _> = report
        .pairs
        .iter()
        .filter_map(|pair| Some(((pair.from.as_str(), pair.to.as_str()), show(pair)?)))
        .collect();
    let mut text = format!("<text class=\"b\" x=\"{MARGIN}\" y=\"{}\">{title}</text>\n", top + 14);
    let first = top + TITLE + label;
    for (n, one) in all.iter().enumerate() {
        let (x, y, name) = (left + square * n + square / 2, first - 6, xml(&one.name));
        let _ = writeln!(
            text,
            "<text x=\"{x}\" y=\"{y}\" transform=\"rotate(-55 {x} {y})\">{name}</text>"
        );
    }
    for (row, from) in all.iter().enumerate() {
        let y = first + ROW * row;
        let name = xml(&from.name);
        let _ = writeln!(
            text,
            "<text class=\"r\" x=\"{}\" y=\"{}\">{name}</text>",
            left - 8,
            y + 15
        );
        for (column, to) in all.iter().enumerate() {
            let x = left + square * column;
            let size = format!("x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\"", square - 2, ROW - 2);
            let Some(cell) = cells.get(&(from.name.as_str(), to.name.as_str())) else {
                let _ = writeln!(text, "<rect class=\"none\" {size}/>");
                continue;
            };
            let (fill, about) = (&cell.fill, xml(&cell.about));
            let _ = writeln!(text, "<rect {fill} {size}><title>{about}</title></rect>");
            if !cell.text.is_empty() {
                let (x, y) = (x + square / 2 - 1, y + 14);
                let _ = writeln!(text, "<text class=\"n\" x=\"{x}\" y=\"{y}\">{}</text>", cell.text);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(from: &str, to: &str, reached: bool, bits: Option<u64>) -> Outcome {
        Outcome {
            from: from.to_owned(),
            to: to.to_owned(),
            family: "ipv4",
            address: None,
            reached,
            expected: Some(true),
            ok: reached,
            untested: None,
            cause: None,
            bits_per_second: bits,
        }
    }

    #[test]
    fn there_is_a_square_for_each_pair_and_wrong_ones_stand_out() {
        let all = ["red", "blue"].map(|name| Endpoint {
            name: name.to_owned(),
            namespace: None,
            addresses: Vec::new(),
        });
        let pairs = vec![
            outcome("red", "blue", true, Some(1_230_000_000)),
            outcome("blue", "red", false, None),
        ];
        let report = TestReport {
            ok: false,
            pairs,
            left_out: Vec::new(),
        };
        let svg = draw(&all, &report);
        for part in [
            "class=\"yes\"",
            "class=\"bad\"",
            "blue does not reach red, which is not as expected",
            ">1.23G</text>",
            "rgb(74,163,223)",
        ] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 1 + 2 * 4);
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }

    #[test]
    fn faster_is_stronger() {
        assert_eq!(colour(10, 10, 1000), "rgb(255,241,229)");
        assert_eq!(colour(100, 10, 1000), "rgb(165,202,226)");
        assert_eq!(colour(0, 0, 0), "rgb(74,163,223)");
    }
}
