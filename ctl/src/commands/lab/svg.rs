//! A graph as a picture: switches on the left, places on the right in columns, a line for each port, arcs for cables and
//! for links between switches.

use std::fmt::Write;

use super::graph::{Edge, Graph, Line, Place};
use super::told::xml;

const MARGIN: usize = 24;
const SWITCH_WIDTH: usize = 150;
const PLACE_WIDTH: usize = 210;
/// Between switches and places, for the lines and their words.
const GAP: usize = 260;
const HEAD: usize = 24;
const LINE: usize = 17;
const SPACE: usize = 14;
/// Beside the places, for the arcs.
const ARCS: usize = 90;
/// So far an arc between switches bends at most, however far apart they are.
const MOST_BEND: usize = 160;
/// Width of a letter of a label, more or less.
const LETTER: usize = 6;

const STYLE: &str = "text{font:13px sans-serif;fill:#1b1f24}.b{font-weight:600}.a{fill:#57606a;font-size:12px}\
.l{fill:#57606a;font-size:11px}.s{fill:#dbe7f6;stroke:#4a7ab5}.n{fill:#fff;stroke:#8c959f}\
.e{fill:none;stroke:#8c959f;stroke-width:1.3}.c{fill:none;stroke:#b35900;stroke-width:2}\
.w{paint-order:stroke;stroke:#fff;stroke-width:4px}";

fn height(place: &Place) -> usize {
    HEAD + place.addresses.len() * LINE + if place.addresses.is_empty() { 4 } else { 0 }
}

/// How far the arc of each link bends: the farther apart its switches are, and each of the same two more than the one
/// before; and the how manieth of these it is.
fn bends(graph: &Graph) -> Vec<(usize, usize)> {
    let bend = |(n, line): (usize, &Line)| {
        let ends = |line: &Line| (line.a.min(line.b), line.a.max(line.b));
        let before = graph.links[..n].iter();
        let twin = before.filter(|other| ends(other) == ends(line)).count();
        let bend = (25 + 35 * line.a.abs_diff(line.b)).min(MOST_BEND);
        (bend + 2 * LINE * twin, twin)
    };
    graph.links.iter().enumerate().map(bend).collect()
}

/// Where a Bezier curve is farthest whose inner points are both so far away.
fn farthest(bend: usize) -> usize {
    bend * 3 / 4
}

/// The picture as SVG.
pub(super) fn draw(graph: &Graph) -> String {
    // Beside their switches, and between two that they join, so that lines cross little; what has none comes last.
    let between = |n: usize| {
        let switches = graph
            .edges
            .iter()
            .filter(|edge| edge.place == n)
            .map(|edge| edge.switch);
        Some(switches.clone().min()? + switches.max()?)
    };
    let mut order: Vec<_> = (0..graph.places.len()).collect();
    order.sort_by_key(|n| between(*n).unwrap_or(usize::MAX));
    let mut tops = vec![0; graph.places.len()];
    let mut bottom = MARGIN;
    for n in order {
        tops[n] = bottom;
        bottom += height(&graph.places[n]) + SPACE;
    }
    let middle = |n: usize| tops[n] + height(&graph.places[n]) / 2;
    let bends = bends(graph);
    let arcs = bends.iter().zip(&graph.links);
    let arcs = arcs.map(|((bend, _), line)| farthest(*bend) + LETTER * line.label.len() + 10);
    let switches_left = MARGIN + arcs.max().unwrap_or_default();
    let left = if graph.switches.is_empty() {
        MARGIN
    } else {
        switches_left + SWITCH_WIDTH + GAP
    };
    let mut switch_tops = Vec::new();
    let mut free = MARGIN;
    for n in 0..graph.switches.len() {
        let places: Vec<_> = graph
            .edges
            .iter()
            .filter(|edge| edge.switch == n)
            .map(|edge| middle(edge.place))
            .collect();
        let mean = places.iter().sum::<usize>().checked_div(places.len()).unwrap_or(free);
        let top = mean.saturating_sub(20).max(free);
        switch_tops.push(top);
        free = top + 40 + SPACE;
    }
    let height_of_all = bottom.max(free) + MARGIN - SPACE;
    let arcs = if graph.cables.is_empty() { 0 } else { ARCS };
    let width = left + PLACE_WIDTH + arcs + MARGIN;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height_of_all}\" \
         viewBox=\"0 0 {width} {height_of_all}\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let mut lines = vec![0; graph.places.len()];
    for Edge { switch, place, label } in &graph.edges {
        let (x, y) = (switches_left + SWITCH_WIDTH, switch_tops[*switch] + 20);
        // Several ports of a place come in one below the other.
        let to = middle(*place) + LINE * lines[*place];
        lines[*place] += 1;
        let (bend, straight) = (x + GAP / 4, x + GAP / 2);
        let _ = writeln!(
            svg,
            "<path class=\"e\" d=\"M{x} {y}C{bend} {y} {bend} {to} {straight} {to}H{left}\"/>"
        );
        if !label.is_empty() {
            let (x, y, label) = (left - 8, to.saturating_sub(4), xml(label));
            let _ = writeln!(
                svg,
                "<text class=\"l\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{label}</text>"
            );
        }
    }
    for (a, b) in &graph.cables {
        let (x, from, to) = (left + PLACE_WIDTH, middle(*a), middle(*b));
        let bend = x + ARCS * 4 / 5;
        let _ = writeln!(
            svg,
            "<path class=\"c\" d=\"M{x} {from}C{bend} {from} {bend} {to} {x} {to}\"/>"
        );
    }
    // Words after all arcs, with white around them, as they stand on those farther out.
    let mut words = String::new();
    for (Line { a, b, label }, (bend, twin)) in graph.links.iter().zip(bends) {
        let [from, to] = [a, b].map(|n| switch_tops[*n] + 20);
        let (x, bend) = (switches_left - farthest(bend) - 5, switches_left.saturating_sub(bend));
        let _ = writeln!(
            svg,
            "<path class=\"c\" d=\"M{switches_left} {from}C{bend} {from} {bend} {to} {switches_left} {to}\"/>"
        );
        let _ = writeln!(
            words,
            "<text class=\"l w\" x=\"{x}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            from.midpoint(to) + 4 + LINE * twin,
            xml(label)
        );
    }
    svg += &words;
    for (name, y) in graph.switches.iter().zip(&switch_tops) {
        let _ = writeln!(
            svg,
            "<rect class=\"s\" x=\"{switches_left}\" y=\"{y}\" width=\"{SWITCH_WIDTH}\" height=\"40\" rx=\"4\"/>\
             <text class=\"l\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">switch</text>\
             <text class=\"b\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            y + 14,
            y + 31,
            xml(name),
            x = switches_left + SWITCH_WIDTH / 2,
        );
    }
    for (place, y) in graph.places.iter().zip(&tops) {
        let _ = writeln!(
            svg,
            "<rect class=\"n\" x=\"{left}\" y=\"{y}\" width=\"{PLACE_WIDTH}\" height=\"{}\" rx=\"8\"/>\
             <text class=\"b\" x=\"{x}\" y=\"{}\">{}</text>",
            height(place),
            y + 18,
            xml(&place.name),
            x = left + 12,
        );
        for (n, address) in place.addresses.iter().enumerate() {
            let y = y + 18 + LINE * (n + 1);
            let _ = writeln!(
                svg,
                "<text class=\"a\" x=\"{}\" y=\"{y}\">{}</text>",
                left + 12,
                xml(address)
            );
        }
    }
    svg + "</svg>\n"
}
