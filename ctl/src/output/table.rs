//! Tables: a header, columns two spaces apart, no lines.
//!
//! Away from a terminal a row is always one line with a word in every column, so that it can be cut and searched.
//! On a terminal that is too narrow for that, lists go one below the other, and if that is not enough, columns are
//! left out that are marked so, those of the lowest rank first. A word is never broken.

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

/// How a column looks.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    right: bool,
    list: bool,
    /// From 1 on: the lower, the sooner it is left out.
    minor: Option<u8>,
}

/// A column of words.
pub const fn word(title: &'static str) -> Column {
    Column {
        title,
        right: false,
        list: false,
        minor: None,
    }
}

/// A column of numbers.
pub const fn number(title: &'static str) -> Column {
    Column {
        right: true,
        ..word(title)
    }
}

/// A column of lists, with commas between.
pub const fn list(title: &'static str) -> Column {
    Column {
        list: true,
        ..word(title)
    }
}

impl Column {
    /// The same, left out where there is no room.
    pub const fn minor(self) -> Self {
        self.left_out(1)
    }

    /// The same, left out where there is still no room without those of lower ranks.
    pub const fn left_out(self, rank: u8) -> Self {
        let minor = Some(rank);
        Self { minor, ..self }
    }
}

/// A table under construction.
pub struct Table {
    style: Style,
    columns: Vec<Column>,
    rows: Vec<Vec<(String, Option<Tone>)>>,
}

/// What is done for a narrow terminal.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Layout {
    Wide,
    StackedLists,
    /// Columns up to this rank.
    LeftOut(u8),
}

impl Table {
    /// An empty table.
    pub fn new(style: Style, columns: &[Column]) -> Self {
        Self {
            style,
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row of plain cells.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|text| (text, None)).to_vec());
    }

    /// Adds a row of cells of which some have a meaning.
    pub fn toned_row(&mut self, cells: impl IntoIterator<Item = (String, Option<Tone>)>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, every line ended; as wide as the terminal, if standard output is one.
    pub fn render(&self) -> String {
        self.render_within(comfy_table::Table::new().width().map(usize::from))
    }

    fn render_within(&self, width: Option<usize>) -> String {
        let fits = |layout| {
            let plain = self.lay_out(layout, false);
            width.is_none_or(|width| plain.lines().all(|line| line.chars().count() <= width))
        };
        let last = self.columns.iter().filter_map(|column| column.minor).max().unwrap_or(0);
        let layout = [Layout::Wide, Layout::StackedLists]
            .into_iter()
            .chain((1..=last).map(Layout::LeftOut))
            .find(|layout| fits(*layout));
        self.lay_out(layout.unwrap_or(Layout::LeftOut(last)), self.style.colour)
    }

    fn lay_out(&self, layout: Layout, colour: bool) -> String {
        let shown = |column: &Column| match layout {
            Layout::LeftOut(rank) => column.minor.is_none_or(|minor| minor > rank),
            Layout::Wide | Layout::StackedLists => true,
        };
        let mut table = comfy_table::Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if colour {
            table.enforce_styling();
        }
        table.set_header(self.columns.iter().filter(|column| shown(column)).map(|column| {
            let cell = Cell::new(column.title);
            if colour {
                cell.add_attribute(Attribute::Bold)
            } else {
                cell
            }
        }));
        for row in &self.rows {
            let cells = self.columns.iter().zip(row).filter(|(column, _)| shown(column));
            table.add_row(cells.map(|(column, (text, tone))| {
                let stacked = column.list && layout >= Layout::StackedLists;
                let cell = if stacked {
                    Cell::new(text.replace(',', "\n"))
                } else {
                    Cell::new(text)
                };
                match tone.filter(|_| colour) {
                    Some(Tone::Good) => cell.fg(Color::DarkGreen),
                    Some(Tone::Notice) => cell.fg(Color::DarkYellow),
                    Some(Tone::Bad) => cell.fg(Color::DarkRed),
                    None => cell,
                }
            }));
        }
        let columns = self.columns.iter().filter(|column| shown(column));
        for (column, of_table) in columns.zip(table.column_iter_mut()) {
            of_table.set_padding((0, 2));
            if column.right {
                of_table.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(style: Style) -> Table {
        let mut table = Table::new(
            style,
            &[
                word("PORT"),
                word("MAC").minor(),
                number("BYTES").left_out(2),
                list("ADDRESSES"),
            ],
        );
        let addresses = "10.0.0.1/24,fd00::1/64".to_owned();
        table.row([
            "red".to_owned(),
            "02:00:00:00:00:01".to_owned(),
            "7".to_owned(),
            addresses,
        ]);
        table
    }

    #[test]
    fn a_row_is_one_line_however_long() {
        let mut table = Table::new(Style::default(), &[word("PORT"), list("ADDRESSES")]);
        let addresses = ["fd00:1234:5678:9abc:def0:1234:5678:9abc/64"; 12].join(",");
        table.row(["red".to_owned(), addresses.clone()]);
        assert_eq!(
            table.render_within(None),
            format!("PORT  ADDRESSES\nred   {addresses}\n")
        );
    }

    #[test]
    fn a_narrow_terminal_stacks_lists_and_then_leaves_out_what_is_minor() {
        let wide = "\
PORT  MAC                BYTES  ADDRESSES
red   02:00:00:00:00:01      7  10.0.0.1/24,fd00::1/64
";
        let stacked = "\
PORT  MAC                BYTES  ADDRESSES
red   02:00:00:00:00:01      7  10.0.0.1/24
                                fd00::1/64
";
        let short = "\
PORT  BYTES  ADDRESSES
red       7  10.0.0.1/24
             fd00::1/64
";
        let shortest = "\
PORT  ADDRESSES
red   10.0.0.1/24
      fd00::1/64
";
        for (width, expected) in [
            (54, wide),
            (53, stacked),
            (43, stacked),
            (42, short),
            (24, short),
            (23, shortest),
            (5, shortest),
        ] {
            assert_eq!(table(Style::default()).render_within(Some(width)), expected, "{width}");
        }
    }

    #[test]
    fn colours_come_only_when_asked_for_and_take_no_room() {
        let plain = table(Style::default()).render_within(Some(54));
        let coloured = table(Style { colour: true }).render_within(Some(54));
        assert!(!plain.contains('\u{1b}') && coloured.contains('\u{1b}'));
        assert_eq!(plain.lines().count(), coloured.lines().count());
    }
}
