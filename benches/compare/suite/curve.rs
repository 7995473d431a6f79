//! What the suite finds: a line for each peer over one variable, as tables and as a chart.

use comfy_table::{CellAlignment, Table, TableStyle, presets};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::peers::Peer;
use crate::report::{median, three_digits};

/// A measure over a variable.
#[derive(Serialize)]
pub struct Curve {
    /// What it is.
    pub title: &'static str,
    /// Where it is defined, or how it is taken.
    pub source: &'static str,
    /// What is varied.
    pub variable: &'static str,
    /// Of the figures.
    pub unit: &'static str,
    /// Figures by peer and value of the variable; medians if there is more than one round.
    pub series: BTreeMap<Peer, BTreeMap<u64, f64>>,
    /// Those of each round.
    samples: BTreeMap<Peer, BTreeMap<u64, Vec<f64>>>,
}

impl Curve {
    /// One without figures.
    pub fn new(title: &'static str, source: &'static str, variable: &'static str, unit: &'static str) -> Self {
        Self {
            title,
            source,
            variable,
            unit,
            series: BTreeMap::new(),
            samples: BTreeMap::new(),
        }
    }

    /// Notes a figure, and says it.
    pub fn add(&mut self, peer: Peer, at: u64, figure: f64) {
        let (title, variable, unit) = (self.title, self.variable, self.unit);
        eprintln!("  {title}, {variable} {at}: {} {unit}", three_digits(figure));
        let samples = self.samples.entry(peer).or_default().entry(at).or_default();
        samples.push(figure);
        if let Some(middle) = median(&mut samples.clone()) {
            self.series.entry(peer).or_default().insert(at, middle);
        }
    }

    fn values(&self) -> Vec<u64> {
        let mut all: Vec<_> = self.series.values().flat_map(|series| series.keys().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// One row a value, one column a peer.
    fn table(&self, style: TableStyle) -> String {
        let mut table = Table::new();
        table.load_style(style);
        let peers = self.series.keys().map(|peer| peer.name());
        table.set_header([self.variable].into_iter().chain(peers));
        for at in self.values() {
            let cell =
                |series: &BTreeMap<u64, f64>| series.get(&at).map_or("-".to_owned(), |figure| three_digits(*figure));
            table.add_row([at.to_string()].into_iter().chain(self.series.values().map(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

/// For a terminal.
pub fn text(curves: &[Curve]) -> String {
    render(curves, "", presets::UTF8_HORIZONTAL_ONLY)
}

/// For a document.
pub fn markdown(curves: &[Curve]) -> String {
    render(curves, "### ", presets::ASCII_MARKDOWN)
}

fn render(curves: &[Curve], mark: &str, style: TableStyle) -> String {
    let mut text = String::new();
    for curve in curves.iter().filter(|curve| !curve.series.is_empty()) {
        let table = curve.table(style);
        let _ = write!(
            text,
            "{mark}{}, {}\n\n{}.\n\n{table}\n\n",
            curve.title, curve.unit, curve.source
        );
    }
    text
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 230.0;
/// Around the lines: names of values at the left and below.
const LEFT: f64 = 52.0;
const TOP: f64 = 34.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 24.0;
const COLUMNS: usize = 2;
const LEGEND: f64 = 30.0;
/// Told apart also by those who see few colours, on a light and on a dark page (after Okabe and Ito).
const COLOURS: [&str; 8] = [
    "#999999", "#0072b2", "#56b4e9", "#009e73", "#d55e00", "#e69f00", "#cc79a7", "#b2a800",
];
const STYLE: &str = "text{font:12px sans-serif;fill:#24292f}.title{font-weight:600}.axis{stroke:#8c959f;fill:none}\
    polyline{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#e6edf3}}";

/// A panel for each curve that has more than one value, with a line for each peer; the variable's scale is logarithmic.
pub fn chart(curves: &[Curve]) -> String {
    let curves: Vec<_> = curves.iter().filter(|curve| curve.values().len() > 1).collect();
    let mut peers: Vec<_> = curves.iter().flat_map(|curve| curve.series.keys().copied()).collect();
    peers.sort_unstable();
    peers.dedup();
    let colour = |peer: Peer| COLOURS[peers.iter().position(|other| *other == peer).unwrap_or(0) % COLOURS.len()];
    let width = WIDTH * COLUMNS as f64;
    let height = LEGEND + HEIGHT * curves.len().div_ceil(COLUMNS) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Curves of each switch\">\n<style>{STYLE}</style>\n"
    );
    for (n, peer) in peers.iter().enumerate() {
        let x = 8 + n * 130;
        let (colour, name) = (colour(*peer), peer.name());
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"8\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"19\">{name}</text>",
            x + 18
        );
    }
    for (n, curve) in curves.into_iter().enumerate() {
        let x = WIDTH * (n % COLUMNS) as f64;
        let y = LEGEND + HEIGHT * (n / COLUMNS) as f64;
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        panel(&mut svg, curve, colour);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, curve: &Curve, colour: impl Fn(Peer) -> &'static str) {
    let values = curve.values();
    let (Some(&first), Some(&last)) = (values.first(), values.last()) else {
        return;
    };
    let figures = curve.series.values().flat_map(|series| series.values().copied());
    let greatest = figures.fold(f64::MIN_POSITIVE, f64::max);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    // A value may be zero.
    let log = |value: u64| (value as f64 + 1.0).ln();
    let x = |value: u64| LEFT + (right - LEFT) * (log(value) - log(first)) / (log(last) - log(first));
    let y = |figure: f64| bottom - (bottom - TOP) * figure / greatest;
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"8\" y=\"20\">{}, {}, by {}</text><path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>",
        curve.title, curve.unit, curve.variable
    );
    let mut label = |x: f64, y: f64, anchor: &str, text: &str| {
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
    };
    label(LEFT - 6.0, TOP + 8.0, "end", &three_digits(greatest));
    label(LEFT - 6.0, bottom, "end", "0");
    label(LEFT, HEIGHT - 8.0, "start", &first.to_string());
    label(right, HEIGHT - 8.0, "end", &last.to_string());
    for (peer, series) in &curve.series {
        let points = series
            .iter()
            .map(|(at, figure)| format!("{:.1},{:.1}", x(*at), y(*figure)));
        let _ = writeln!(
            svg,
            "<polyline stroke=\"{}\" points=\"{}\"><title>{}</title></polyline>",
            colour(*peer),
            points.collect::<Vec<_>>().join(" "),
            peer.name()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Curve, chart, markdown};
    use crate::peers::Peer;

    #[test]
    fn a_curve_becomes_a_table_and_a_line() {
        let mut curve = Curve::new("Throughput", "RFC 2544", "bytes", "Mframe/s");
        curve.add(Peer::Bridge, 60, 1.5);
        curve.add(Peer::Bridge, 1514, 0.0);
        curve.add(Peer::Ovs, 60, 0.5);
        let curves = [curve, Curve::new("Nothing", "", "", "")];
        let table = markdown(&curves);
        let row = table.lines().find(|line| line.contains("1514")).unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["1514", "0.000", "-"]);
        assert!(!table.contains("Nothing"));
        let svg = chart(&curves);
        assert_eq!(svg.matches("<polyline").count(), 2);
        // From the top at the left to the bottom at the right.
        assert!(svg.contains("52.0,34.0 428.0,206.0"), "{svg}");
    }
}
