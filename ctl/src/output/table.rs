//! Tables: a header, columns two spaces apart, no lines. On a terminal cells wrap to its width; elsewhere a row is
//! always one line with a word in every column, so that it can be cut and searched.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, presets};

use super::Style;

/// Meaning of a cell, shown by its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Notice,
    /// Does not work.
    Bad,
}

/// A table under construction.
pub struct Table {
    inner: comfy_table::Table,
    style: Style,
}

impl Table {
    /// An empty table. Columns whose title begins with `>` are aligned to the right.
    pub fn new(style: Style, titles: &[&str]) -> Self {
        let mut inner = comfy_table::Table::new();
        inner
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_delimiter(',');
        if style.colour {
            inner.enforce_styling();
        }
        inner.set_header(titles.iter().map(|title| {
            let cell = Cell::new(title.trim_start_matches('>'));
            if style.colour {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        }));
        for (column, title) in inner.column_iter_mut().zip(titles) {
            column.set_padding((0, 2));
            if title.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { inner, style }
    }

    /// Adds a row of plain cells.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.toned_row(cells.map(|text| (text, None)));
    }

    /// Adds a row of cells of which some have a meaning.
    pub fn toned_row<const N: usize>(&mut self, cells: [(String, Option<Tone>); N]) {
        let colour = self.style.colour;
        self.inner.add_row(cells.into_iter().map(|(text, tone)| {
            let cell = Cell::new(text);
            match tone.filter(|_| colour) {
                Some(Tone::Good) => cell.fg(Color::Green),
                Some(Tone::Notice) => cell.fg(Color::Yellow),
                Some(Tone::Bad) => cell.fg(Color::Red),
                None => cell,
            }
        }));
    }

    /// The text, every line ended.
    pub fn render(&self) -> String {
        self.inner.trim_fmt() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_however_long() {
        let mut table = Table::new(Style::default(), &["PORT", ">BYTES", "ADDRESSES"]);
        let addresses = ["fd00:1234:5678:9abc:def0:1234:5678:9abc/64"; 12].join(",");
        table.row(["red".to_owned(), "7".to_owned(), addresses.clone()]);
        assert_eq!(
            table.render(),
            format!("PORT  BYTES  ADDRESSES\nred       7  {addresses}\n")
        );
    }

    #[test]
    fn colours_come_only_when_asked_for() {
        for colour in [false, true] {
            let mut table = Table::new(Style { colour }, &["STATE"]);
            table.toned_row([("missing".to_owned(), Some(Tone::Bad))]);
            assert_eq!(table.render().contains('\u{1b}'), colour);
        }
    }
}
