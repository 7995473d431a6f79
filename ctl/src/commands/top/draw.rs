//! The screen: a heading, the pane that is open, and what keys there are.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use vswitch_api::view::PortState;

use super::app::{App, Pane};
use super::panes;
use crate::output::ports::tone;
use crate::output::table::Tone;
use crate::output::units;

/// Below this there is no room for what is known of one port.
const DETAILS_FROM: u16 = 18;
/// Lines of what is known of one port.
const DETAILS: u16 = 6;

/// How things look: by the terminal's own colours, or by none.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
    /// With colours.
    pub colour: bool,
}

impl Theme {
    fn paint(self, colour: Color) -> Style {
        match self.colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// By what it means.
    pub fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Good => self.paint(Color::Green),
            Tone::Notice => self.paint(Color::Yellow),
            Tone::Bad => self.paint(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// Of a state.
    pub fn state(self, state: PortState) -> Style {
        self.tone(tone(state))
    }

    /// What comes in, and what goes out.
    pub fn ways(self) -> [Style; 2] {
        [self.paint(Color::Cyan), self.paint(Color::Magenta)]
    }

    /// A heading.
    pub fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is chosen.
    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What is of less weight.
    pub fn faint(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }
}

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, app: &mut App, theme: Theme) {
    let area = frame.area();
    let details = if app.pane == Pane::Ports && area.height >= DETAILS_FROM {
        DETAILS
    } else {
        0
    };
    let rows = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(details),
        Constraint::Length(1),
    ];
    let [heading, tabs, body, below, keys] = Layout::vertical(rows).areas(area);
    frame.render_widget(self::heading(app, theme), heading);
    frame.render_widget(self::tabs(app, theme), tabs);
    // One line of it is the heading of the table.
    app.page = usize::from(body.height.saturating_sub(1)).max(1);
    match app.pane {
        Pane::Ports => {
            panes::ports(frame, app, theme, body);
            if details > 0 {
                panes::details(frame, app, theme, below);
            }
        }
        Pane::Stations => panes::stations(frame, app, theme, body),
        Pane::Events => panes::events(frame, app, theme, body),
        Pane::Doctor => panes::doctor(frame, app, theme, body),
    }
    frame.render_widget(self::keys(app, theme), keys);
    if app.typing {
        let column = u16::try_from(1 + app.filter.chars().count()).unwrap_or(u16::MAX);
        frame.set_cursor_position(Rect { y: keys.y, ..area }.clamped_at(column));
    }
}

/// A place on a line that is no wider than it.
trait ClampedAt {
    fn clamped_at(self, column: u16) -> (u16, u16);
}

impl ClampedAt for Rect {
    fn clamped_at(self, column: u16) -> (u16, u16) {
        let last = self.right().saturating_sub(1);
        (self.x.saturating_add(column).min(last), self.y)
    }
}

/// What all ports carry, or why it is not known.
fn heading(app: &App, theme: Theme) -> Line<'static> {
    if let Some(trouble) = &app.trouble {
        let text = format!("no answer, trying again: {}", units::printable(trouble));
        return Line::from(Span::styled(text, theme.tone(Tone::Bad)));
    }
    let total = app.total();
    let stations: u64 = app.switches.iter().map(|view| u64::from(view.fdb_entries)).sum();
    let what = match &app.switches[..] {
        [one] => format!("switch {}", one.switch.name),
        several => format!("{} switches", several.len()),
    };
    let drops = if total.drops > 0.0 {
        theme.tone(Tone::Notice)
    } else {
        Style::new()
    };
    Line::from(vec![
        Span::styled(what, theme.heading()),
        // Of 80 columns there are some left, with all numbers at their longest.
        Span::raw(format!(
            ", {} ports, {stations} stations  in {}bit/s  out {}bit/s  ",
            app.ports.len(),
            rate(total.rx_bits),
            rate(total.tx_bits)
        )),
        Span::styled(format!("drops {}/s", rate(total.drops)), drops),
    ])
}

fn tabs(app: &App, theme: Theme) -> Line<'static> {
    let mut spans = Vec::new();
    for (number, pane) in (1..).zip(Pane::ALL) {
        let style = if pane == app.pane { theme.chosen() } else { Style::new() };
        spans.push(Span::styled(format!(" {number} {} ", pane.title()), style));
    }
    if app.pane == Pane::Ports {
        let way = if app.reversed { ", reversed" } else { "" };
        spans.push(Span::styled(
            format!("   sorted by {}{way}", app.sort.word()),
            theme.faint(),
        ));
    }
    if !app.filter.is_empty() && !app.typing {
        let text = format!("   with {:?}", app.filter);
        spans.push(Span::styled(text, theme.tone(Tone::Notice)));
    }
    Line::from(spans)
}

fn keys(app: &App, theme: Theme) -> Paragraph<'static> {
    if app.typing {
        return Paragraph::new(format!("/{}", app.filter));
    }
    let own = match app.pane {
        Pane::Ports => "s sort  r reverse  ",
        Pane::Doctor => "Enter look again  ",
        Pane::Stations | Pane::Events => "",
    };
    let text = format!("q quit  Tab next  arrows move  / filter  Esc all  {own}");
    Paragraph::new(Span::styled(text, theme.faint()))
}

/// A rate in three digits with its prefix.
pub fn rate(value: f64) -> String {
    // Rates are finite and not negative; one that is more than nothing is not shown as nothing.
    match value {
        value if value > 0.0 && value < 1.0 => "<1".to_owned(),
        value => units::count(value.round() as u64),
    }
}
