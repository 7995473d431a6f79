//! A chart of small panels, one a figure, with a bar for each peer.

use std::fmt::Write as _;

use super::{Report, three_digits};
use crate::measure::Metric;

const PANELS: [(Metric, &str); 6] = [
    (Metric::TcpOneForth, "more is better"),
    (Metric::TcpFourForth, "more is better"),
    (Metric::Frames60, "more is better"),
    (Metric::Frames1500, "more is better"),
    (Metric::RttTcp, "less is better"),
    (Metric::RttPolled, "less is better"),
];
const COLUMNS: usize = 2;
const PANEL_WIDTH: usize = 440;
const ROW: usize = 22;
const TITLE: usize = 34;
const NAMES: usize = 100;
/// The longest bar; the rest of the panel is for its value.
const BAR: usize = PANEL_WIDTH - NAMES - 80;
/// Colours for a light and a dark page; our own bars stand out.
const STYLE: &str = "text{font:13px sans-serif;fill:#24292f}.title{font-weight:600}.bar{fill:#8c959f}.own{fill:#0969da}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#6e7681}.own{fill:#4493f8}}";

/// The medians of `report`; figures that were not measured are left out.
pub fn chart(report: &Report) -> String {
    let measured = |metric| {
        report
            .summary
            .iter()
            .any(|summary| summary.figures.contains_key(&metric))
    };
    let panels: Vec<_> = PANELS.into_iter().filter(|(metric, _)| measured(*metric)).collect();
    let panel_height = TITLE + ROW * report.summary.len() + 16;
    let (width, height) = (PANEL_WIDTH * COLUMNS, panel_height * panels.len().div_ceil(COLUMNS));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Medians of each switch\">\n<style>{STYLE}</style>\n"
    );
    for (index, (metric, sense)) in panels.into_iter().enumerate() {
        let (x, y) = (PANEL_WIDTH * (index % COLUMNS), panel_height * (index / COLUMNS));
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        panel(&mut svg, report, metric, sense);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, report: &Report, metric: Metric, sense: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"8\" y=\"20\">{}, {} ({sense})</text>",
        metric.label(),
        metric.unit()
    );
    let medians: Vec<_> = report
        .summary
        .iter()
        .map(|summary| (summary.peer, summary.figures.get(&metric).map(|figure| figure.median)))
        .collect();
    let longest = medians
        .iter()
        .filter_map(|(_, median)| *median)
        .fold(f64::MIN_POSITIVE, f64::max);
    for (row, (peer, median)) in medians.into_iter().enumerate() {
        let top = TITLE + ROW * row;
        let base = top + 13;
        let name = peer.name();
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{name}</text>",
            NAMES - 6
        );
        let Some(median) = median else { continue };
        let class = if name.starts_with("vswitch") { "bar own" } else { "bar" };
        let length = BAR as f64 * median / longest;
        let _ = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{NAMES}\" y=\"{top}\" width=\"{length:.1}\" height=\"17\" rx=\"2\"/>\
             <text x=\"{:.1}\" y=\"{base}\">{}</text>",
            NAMES as f64 + length + 6.0,
            three_digits(median),
        );
    }
}
