//! The panes: ports with what one of them does, stations, events, the doctor.

use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Sparkline, Table, TableState};
use vswitch_api::view::PortView;

use super::app::App;
use super::draw::{Theme, rate};
use super::rates::History;
use crate::output::table::Tone;
use crate::output::{events as lines, units};

/// Below this there is no column for the switch.
const SWITCH_FROM: u16 = 96;
/// Heights of a graph in one line, the least first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A table with a heading, one line of which is chosen.
fn table(frame: &mut Frame<'_>, theme: Theme, area: Rect, shown: Shown<'_>) {
    let Shown {
        heading,
        widths,
        rows,
        chosen,
        empty,
    } = shown;
    if rows.is_empty() {
        let text = Paragraph::new(vec![Line::from(""), Line::from(Span::styled(empty, theme.faint()))]);
        frame.render_widget(text, area);
        return;
    }
    let table = Table::new(rows, widths)
        .header(Row::new(heading).style(theme.heading()))
        .row_highlight_style(theme.chosen());
    frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(chosen));
}

/// What a table shows.
struct Shown<'a> {
    heading: Vec<Line<'a>>,
    widths: Vec<Constraint>,
    rows: Vec<Row<'a>>,
    chosen: Option<usize>,
    /// Where there is no row.
    empty: String,
}

fn right<'a>(text: impl Into<String>) -> Line<'a> {
    Line::from(text.into()).right_aligned()
}

fn empty(app: &App, what: &str) -> String {
    match app.filter.is_empty() {
        true => format!("  no {what}"),
        false => format!("  no {what} with {:?}; Esc shows all", app.filter),
    }
}

/// All ports, one a line.
pub fn ports(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let views = app.shown_ports();
    let with_switch = area.width >= SWITCH_FROM && app.switches.len() > 1;
    let mut heading = vec![Line::from("PORT"), Line::from("STATE")];
    let mut widths = vec![Constraint::Length(15), Constraint::Length(10)];
    if with_switch {
        heading.insert(1, Line::from("SWITCH"));
        widths.insert(1, Constraint::Length(15));
    }
    heading.extend(["IN bit/s", "frame/s", "OUT bit/s", "frame/s", "DROP/s"].map(right));
    widths.extend([8, 7, 9, 7, 6].map(Constraint::Length));
    heading.push(Line::from("IN+OUT"));
    widths.push(Constraint::Fill(1));
    // What is left of the line, with a gap before each column.
    let others: u16 = if with_switch { 62 + 15 + 8 } else { 62 + 7 };
    let room = usize::from(area.width.saturating_sub(others));
    let [inward, outward] = theme.ways();
    let row = |view: &&PortView| {
        let rates = app.rates(view);
        let number = |of: fn(&super::rates::Rates) -> f64, style: Style| {
            let text = rates.as_ref().map_or_else(|| "-".to_owned(), |rates| rate(of(rates)));
            Cell::from(right(text)).style(style)
        };
        let drops = rates.is_some_and(|rates| rates.drops > 0.0);
        let drops = if drops { theme.tone(Tone::Notice) } else { Style::new() };
        let history = app.histories.of(&view.port.name);
        let mut cells = vec![
            Cell::from(view.port.name.to_string()),
            Cell::from(view.state.as_str()).style(theme.state(view.state)),
        ];
        if with_switch {
            cells.insert(1, Cell::from(view.port.switch.to_string()));
        }
        cells.extend([
            number(|rates| rates.rx_bits, inward),
            number(|rates| rates.rx_frames, Style::new()),
            number(|rates| rates.tx_bits, outward),
            number(|rates| rates.tx_frames, Style::new()),
            number(|rates| rates.drops, drops),
            Cell::from(history.map_or_else(String::new, |history| graph(history, room))),
        ]);
        Row::new(cells)
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    let shown = Shown {
        heading,
        widths,
        chosen: app.selected(rows.len()),
        rows,
        empty: empty(app, "ports"),
    };
    table(frame, theme, area, shown);
}

/// Both ways of a port together in one line, the newest at the right.
fn graph(history: &History, room: usize) -> String {
    let both = history
        .rx
        .iter()
        .zip(&history.tx)
        .map(|(rx, tx)| rx.saturating_add(*tx));
    let skipped = history.rx.len().saturating_sub(room);
    let values: Vec<u64> = both.skip(skipped).collect();
    let most = values.iter().copied().max().unwrap_or_default();
    let bar = |value: &u64| match (value, most) {
        (0, _) | (_, 0) => ' ',
        // At most the last of them.
        (value, most) => BARS[(u128::from(*value) * 7 / u128::from(most)) as usize],
    };
    values.iter().map(bar).collect()
}

/// What is known of the port that is looked at.
pub fn details(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let views = app.shown_ports();
    let Some(view) = app.selected(views.len()).and_then(|at| views.get(at)) else {
        return;
    };
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
    ];
    let [about, inward, outward, drops] = Layout::vertical(rows).areas(area);
    frame.render_widget(self::about(view, theme), about);
    let empty = History::default();
    let history = app.histories.of(&view.port.name).unwrap_or(&empty);
    let [rx, tx] = theme.ways();
    way(frame, inward, "in  ", &history.rx, rx);
    way(frame, outward, "out ", &history.tx, tx);
    frame.render_widget(Paragraph::new(dropped(view, history, theme)), drops);
}

fn about(view: &PortView, theme: Theme) -> Line<'static> {
    let port = &view.port;
    let place = match (&port.namespace, &port.ifname) {
        (Some(namespace), Some(ifname)) => format!("{namespace}/{ifname}"),
        (_, ifname) => units::or_dash(ifname.as_ref()),
    };
    let state = match &view.reason {
        Some(reason) => format!("{}: {}", view.state.as_str(), units::printable(reason)),
        None => format!("{} for {}", view.state.as_str(), units::duration(view.state_secs)),
    };
    Line::from(vec![
        Span::styled(port.name.to_string(), theme.heading()),
        Span::raw(format!(" on {}, {} {place}, ", port.switch, port.kind.word())),
        Span::styled(state, theme.state(view.state)),
        Span::raw(format!(
            ", {} stations, {}",
            view.fdb_entries,
            units::list(&port.addresses)
        )),
    ])
}

/// One way of a port as a graph, with what it carries now.
fn way(frame: &mut Frame<'_>, area: Rect, name: &str, values: &std::collections::VecDeque<u64>, style: Style) {
    let columns = [Constraint::Length(15), Constraint::Fill(1)];
    let [label, graph] = Layout::horizontal(columns).areas(area);
    let now = values.back().map_or_else(|| "-".to_owned(), |now| units::count(*now));
    frame.render_widget(Line::from(format!("{name}{now:>5}bit/s")), label);
    let skipped = values.len().saturating_sub(usize::from(graph.width));
    let shown: Vec<u64> = values.iter().skip(skipped).copied().collect();
    frame.render_widget(Sparkline::default().data(shown).style(style), graph);
}

/// Drops by reason, those that grow now first; a reason a line where there is room for that.
fn dropped(view: &PortView, history: &History, theme: Theme) -> Vec<Line<'static>> {
    let counters = &view.counters;
    let ways = [("in", &counters.rx_drops), ("out", &counters.tx_drops)];
    let mut all = Vec::new();
    for (way, reasons) in ways {
        for (reason, count) in reasons {
            let grows = history.reasons.get(&(way, reason.clone())).copied().unwrap_or_default();
            all.push((grows, *count, way, reason));
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
    if all.is_empty() {
        return vec![Line::from(Span::styled("no drops", theme.faint()))];
    }
    let line = |(grows, count, way, reason): &(f64, u64, &str, &String)| {
        let style = if *grows > 0.0 {
            theme.tone(Tone::Notice)
        } else {
            Style::new()
        };
        let text = format!(
            "dropped {way:<3} {reason}: {}/s, {} in all",
            rate(*grows),
            units::grouped(*count)
        );
        Line::from(Span::styled(text, style))
    };
    all.iter().map(line).collect()
}

/// The stations of all switches.
pub fn stations(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let row = |entry: &&vswitch_api::view::FdbEntry| {
        let age = match (entry.age_secs, entry.sticky) {
            (None, _) => "static".to_owned(),
            (Some(_), true) => "sticky".to_owned(),
            (Some(age), false) => units::duration(u64::from(age)),
        };
        Row::new([
            Cell::from(entry.mac.to_string()),
            Cell::from(right(units::or_dash(entry.vlan.as_ref()))),
            Cell::from(entry.port.to_string()),
            Cell::from(entry.switch.to_string()),
            Cell::from(right(age)),
        ])
    };
    let rows: Vec<_> = app.shown_stations().iter().map(row).collect();
    let shown = Shown {
        heading: vec![
            Line::from("STATION"),
            right("VLAN"),
            Line::from("PORT"),
            Line::from("SWITCH"),
            right("SEEN"),
        ],
        widths: [17, 4, 15, 15, 7].map(Constraint::Length).to_vec(),
        chosen: app.selected(rows.len()),
        rows,
        empty: empty(app, "stations"),
    };
    table(frame, theme, area, shown);
}

/// What happened, the last first.
pub fn events(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let zone = TimeZone::system();
    let texts = app.shown_events(|event| units::printable(&lines::line(event, &zone)));
    let rows: Vec<_> = texts.into_iter().map(|text| Row::new([Cell::from(text)])).collect();
    let shown = Shown {
        heading: vec![Line::from("WHEN                     WHAT")],
        widths: vec![Constraint::Fill(1)],
        chosen: app.selected(rows.len()),
        rows,
        empty: empty(app, "events since this began"),
    };
    table(frame, theme, area, shown);
}

/// What is wrong with the installation.
pub fn doctor(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let Some(items) = &app.doctor else {
        frame.render_widget(Paragraph::new("\n  looking ..."), area);
        return;
    };
    // What is wrong comes first.
    let mut items: Vec<_> = items
        .iter()
        .filter(|item| app.takes(&[item.what, &item.detail]))
        .collect();
    items.sort_by_key(|item| item.ok);
    let row = |item: &&crate::commands::doctor::Item| {
        let (word, tone) = if item.ok {
            ("OK", Tone::Good)
        } else {
            ("WRONG", Tone::Bad)
        };
        let mend = item
            .mend
            .as_ref()
            .map_or_else(String::new, |mend| format!("; mend: {mend}"));
        Row::new([
            Cell::from(word).style(theme.tone(tone)),
            Cell::from(item.what),
            Cell::from(units::printable(&format!("{}{mend}", item.detail))),
        ])
    };
    let rows: Vec<_> = items.iter().map(row).collect();
    let shown = Shown {
        heading: ["", "WHAT", "FOUND"].map(Line::from).to_vec(),
        widths: vec![Constraint::Length(5), Constraint::Length(14), Constraint::Fill(1)],
        chosen: app.selected(rows.len()),
        rows,
        empty: empty(app, "findings"),
    };
    table(frame, theme, area, shown);
}
