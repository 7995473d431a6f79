//! One row a figure, one column a peer: `median (ratio to the bridge)`.

use comfy_table::{CellAlignment, Table, TableStyle, presets};

use super::{Report, three_digits};
use crate::measure::Metric;
use crate::peers::Peer;

/// For a terminal.
pub fn text(report: &Report) -> String {
    render(report, presets::UTF8_HORIZONTAL_ONLY)
}

/// For a document.
pub fn markdown(report: &Report) -> String {
    render(report, presets::ASCII_MARKDOWN)
}

fn render(report: &Report, style: TableStyle) -> String {
    let mut table = Table::new();
    table.load_style(style);
    let peers = report.summary.iter().map(|summary| summary.peer.name());
    table.set_header(["median", "unit"].into_iter().chain(peers));
    for metric in Metric::ALL {
        let cells: Vec<String> = report
            .summary
            .iter()
            .map(|summary| match summary.figures.get(&metric) {
                Some(figure) => match figure.ratio.filter(|_| summary.peer != Peer::Bridge) {
                    Some(ratio) => format!("{} ({ratio:.2})", three_digits(figure.median)),
                    None => three_digits(figure.median),
                },
                None => String::from("-"),
            })
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let names = [metric.label(), metric.unit()].map(str::to_owned);
            table.add_row(names.into_iter().chain(cells));
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}
