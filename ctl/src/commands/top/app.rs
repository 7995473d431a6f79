//! What is shown, and what keys do to it. Nothing is asked and nothing drawn here.

use std::cmp::Ordering;
use std::collections::VecDeque;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use vswitch_api::Event;
use vswitch_api::view::{FdbEntry, PortView, SwitchView};

use super::feed::News;
use super::rates::{Histories, Rates};
use crate::commands::doctor::Item;
use crate::output::units;

/// So many events are kept.
const EVENTS: usize = 1000;

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pane {
    /// Ports with what they carry.
    Ports,
    /// Stations that are known.
    Stations,
    /// What happened.
    Events,
    /// What is wrong.
    Doctor,
}

impl Pane {
    /// All, in the order of their keys.
    pub const ALL: [Self; 4] = [Self::Ports, Self::Stations, Self::Events, Self::Doctor];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ports => "Ports",
            Self::Stations => "FDB",
            Self::Events => "Events",
            Self::Doctor => "Doctor",
        }
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|pane| *pane == self).unwrap_or_default()
    }

    fn beside(self, steps: usize) -> Self {
        Self::ALL[(self.index() + steps) % Self::ALL.len()]
    }
}

/// By what ports are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By name.
    Name,
    /// By state.
    State,
    /// By what comes in, the most first.
    Rx,
    /// By what goes out.
    Tx,
    /// By what is dropped.
    Drops,
}

impl Sort {
    const ALL: [Self; 5] = [Self::Name, Self::State, Self::Rx, Self::Tx, Self::Drops];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Rx => "rx",
            Self::Tx => "tx",
            Self::Drops => "drops",
        }
    }

    fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or_default();
        Self::ALL[(at + 1) % Self::ALL.len()]
    }
}

/// What has to be asked of the daemon beside the ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Its stations.
    pub stations: bool,
    /// How often the doctor was to look.
    pub doctor: u64,
}

/// The whole.
pub struct App {
    /// Switches, as they were looked at last.
    pub switches: Vec<SwitchView>,
    /// Their ports.
    pub ports: Vec<PortView>,
    /// What the ports carried.
    pub histories: Histories,
    /// Stations, in order.
    pub stations: Vec<FdbEntry>,
    /// What happened, the last first.
    pub events: VecDeque<Event>,
    /// None before the doctor has looked.
    pub doctor: Option<Vec<Item>>,
    /// Why what is shown is not what is.
    pub trouble: Option<String>,
    /// What is looked at.
    pub pane: Pane,
    /// By what ports are sorted.
    pub sort: Sort,
    /// The other way round.
    pub reversed: bool,
    /// What is shown has this in it.
    pub filter: String,
    /// It is being typed.
    pub typing: bool,
    /// The line of each pane that is looked at.
    selected: [usize; Pane::ALL.len()],
    /// So many lines a page has.
    pub page: usize,
    /// What is to be asked of the daemon.
    pub wants: Wants,
    /// The user has seen enough.
    pub over: bool,
}

impl App {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            switches: Vec::new(),
            ports: Vec::new(),
            histories: Histories::default(),
            stations: Vec::new(),
            events: VecDeque::new(),
            doctor: None,
            trouble: None,
            pane: Pane::Ports,
            sort: Sort::Name,
            reversed: false,
            filter: String::new(),
            typing: false,
            selected: [0; Pane::ALL.len()],
            page: 1,
            wants: Wants::default(),
            over: false,
        }
    }

    /// Takes in what is new.
    pub fn learn(&mut self, news: News) {
        match news {
            News::Look(when, switches, ports) => {
                self.histories.note(&ports, when);
                (self.switches, self.ports) = (switches, ports);
                self.trouble = None;
            }
            News::Stations(mut stations) => {
                stations.sort_by_cached_key(|entry| {
                    let vlan = entry.vlan.map_or(0, vswitch_api::policy::VlanId::get);
                    (entry.switch.clone(), vlan, entry.mac.to_string())
                });
                self.stations = stations;
            }
            News::Happened(event) => {
                if self.events.len() == EVENTS {
                    self.events.pop_back();
                }
                self.events.push_front(*event);
                // Who looks at an older one goes on looking at it.
                let at = &mut self.selected[Pane::Events.index()];
                if *at > 0 {
                    *at += 1;
                }
            }
            News::Doctor(items) => self.doctor = Some(items),
            News::Trouble(text) => {
                self.trouble = Some(text);
                self.histories.interrupt();
            }
        }
    }

    /// Does what a key is for.
    pub fn press(&mut self, key: KeyEvent) {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if control => self.over = true,
            _ if self.typing => self.type_filter(key.code),
            KeyCode::Char('q') => self.over = true,
            KeyCode::Char(digit @ '1'..='4') => {
                let index = (digit as usize) - ('1' as usize);
                self.open(Pane::ALL[index]);
            }
            KeyCode::Tab | KeyCode::Right => self.open(self.pane.beside(1)),
            KeyCode::BackTab | KeyCode::Left => self.open(self.pane.beside(Pane::ALL.len() - 1)),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Enter if self.pane == Pane::Doctor => {
                self.doctor = None;
                self.wants.doctor += 1;
            }
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::PageDown => self.step(self.page_step()),
            KeyCode::PageUp => self.step(-self.page_step()),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            _ => {}
        }
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) => self.filter.push(c),
            _ => {}
        }
    }

    fn open(&mut self, pane: Pane) {
        self.pane = pane;
        self.wants.stations = pane == Pane::Stations;
        if pane == Pane::Doctor && self.doctor.is_none() {
            self.wants.doctor += 1;
        }
    }

    fn page_step(&self) -> isize {
        isize::try_from(self.page.max(1)).unwrap_or(1)
    }

    fn step(&mut self, by: isize) {
        let last = self.lines().saturating_sub(1);
        let at = &mut self.selected[self.pane.index()];
        *at = (*at).min(last).saturating_add_signed(by).min(last);
    }

    /// Lines of the pane that is open.
    fn lines(&self) -> usize {
        match self.pane {
            Pane::Ports => self.shown_ports().len(),
            Pane::Stations => self.shown_stations().len(),
            Pane::Events => self.shown_events(|_| String::new()).len(),
            Pane::Doctor => self.doctor.as_ref().map_or(0, Vec::len),
        }
    }

    /// The line that is looked at, of so many.
    pub fn selected(&self, lines: usize) -> Option<usize> {
        lines
            .checked_sub(1)
            .map(|last| self.selected[self.pane.index()].min(last))
    }

    /// Whether a line that has these words is shown.
    pub fn takes(&self, words: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        wanted.is_empty() || words.iter().any(|word| word.to_lowercase().contains(&wanted))
    }

    /// What a port carries now.
    pub fn rates(&self, view: &PortView) -> Option<Rates> {
        self.histories.rates(&view.port.name)
    }

    /// Ports in order.
    pub fn shown_ports(&self) -> Vec<&PortView> {
        let takes = |view: &&PortView| {
            let port = &view.port;
            let addresses = units::list(&port.addresses);
            let mac = units::or_dash(port.mac.as_ref());
            let namespace = units::or_dash(port.namespace.as_ref());
            let words = [port.name.as_str(), port.switch.as_str(), view.state.as_str()];
            self.takes(&words) || self.takes(&[&addresses, &mac, &namespace])
        };
        let mut ports: Vec<_> = self.ports.iter().filter(takes).collect();
        let rate = |view: &PortView, of: fn(&Rates) -> f64| self.rates(view).as_ref().map_or(0.0, of);
        // The most first.
        let most = |a: &PortView, b: &PortView, of: fn(&Rates) -> f64| rate(b, of).total_cmp(&rate(a, of));
        let order = |a: &&PortView, b: &&PortView| -> Ordering {
            let by = match self.sort {
                Sort::Name => Ordering::Equal,
                Sort::State => a.state.as_str().cmp(b.state.as_str()),
                Sort::Rx => most(a, b, |rates| rates.rx_bits),
                Sort::Tx => most(a, b, |rates| rates.tx_bits),
                Sort::Drops => most(a, b, |rates| rates.drops),
            };
            by.then_with(|| a.port.name.cmp(&b.port.name))
        };
        ports.sort_by(|a, b| if self.reversed { order(b, a) } else { order(a, b) });
        ports
    }

    /// Stations that the filter takes.
    pub fn shown_stations(&self) -> Vec<&FdbEntry> {
        let takes = |entry: &&FdbEntry| {
            let vlan = units::or_dash(entry.vlan.as_ref());
            self.takes(&[
                entry.mac.to_string().as_str(),
                entry.port.as_str(),
                entry.switch.as_str(),
                &vlan,
            ])
        };
        self.stations.iter().filter(takes).collect()
    }

    /// Lines of events that the filter takes, the last first.
    pub fn shown_events(&self, line: impl Fn(&Event) -> String) -> Vec<String> {
        let lines = self.events.iter().map(line);
        lines.filter(|line| line.is_empty() || self.takes(&[line])).collect()
    }

    /// What all ports carry.
    pub fn total(&self) -> Rates {
        let rates = self.ports.iter().filter_map(|view| self.rates(view));
        rates.fold(Rates::default(), Rates::with)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(names: &[&str]) -> App {
        let port = |name: &&str| {
            serde_json::from_value(json!({
                "name": name, "state": "up", "state_secs": 1, "queues": 1, "fdb_entries": 0,
                "counters": {
                    "rx_frames": 0, "rx_bytes": 0, "rx_forwarded": 0, "rx_flooded": 0, "flood_copies": 0, "tx_frames": 0, "tx_bytes": 0,
                },
            }))
            .unwrap()
        };
        let mut app = App::new();
        app.learn(News::Look(
            std::time::Instant::now(),
            Vec::new(),
            names.iter().map(port).collect(),
        ));
        app
    }

    fn press(app: &mut App, keys: &str) {
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                '\x1b' => KeyCode::Esc,
                key => KeyCode::Char(key),
            };
            app.press(KeyEvent::new(code, KeyModifiers::NONE));
        }
    }

    fn names(app: &App) -> Vec<&str> {
        app.shown_ports().iter().map(|view| view.port.name.as_str()).collect()
    }

    #[test]
    fn what_is_typed_behind_a_slash_filters() {
        let mut app = app(&["red", "blue", "rover"]);
        press(&mut app, "/Ro\n");
        assert_eq!(names(&app), ["rover"]);
        assert!(!app.typing && !app.over);
        press(&mut app, "\x1b");
        assert_eq!(names(&app), ["blue", "red", "rover"]);
        // While it is typed, keys are letters.
        press(&mut app, "/q");
        assert!(!app.over);
        app.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(app.over);
    }

    #[test]
    fn the_line_that_is_looked_at_is_always_there() {
        let mut app = app(&["x1", "x2", "x3"]);
        press(&mut app, "jjjjj");
        assert_eq!(app.selected(3), Some(2));
        press(&mut app, "/x1\n");
        assert_eq!(app.selected(app.shown_ports().len()), Some(0));
        press(&mut app, "/zz\n");
        assert_eq!(app.selected(app.shown_ports().len()), None);
        press(&mut app, "kg");
        app.press(KeyEvent::new(KeyCode::End, KeyModifiers::NONE));
    }

    #[test]
    fn panes_say_what_has_to_be_asked() {
        let mut app = app(&[]);
        press(&mut app, "2");
        assert!(app.wants.stations);
        press(&mut app, "4");
        assert_eq!(
            app.wants,
            Wants {
                stations: false,
                doctor: 1
            }
        );
        app.learn(News::Doctor(Vec::new()));
        press(&mut app, "\n");
        assert_eq!((app.wants.doctor, app.doctor.is_none()), (2, true));
        press(&mut app, "\t");
        assert_eq!(app.pane, Pane::Ports);
    }

    #[test]
    fn a_reversed_order_is_the_other_way_round() {
        let mut app = app(&["a", "b"]);
        press(&mut app, "r");
        assert_eq!(names(&app), ["b", "a"]);
        press(&mut app, "sssss");
        assert_eq!(app.sort, Sort::Name);
    }
}
