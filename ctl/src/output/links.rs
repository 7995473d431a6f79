//! Links between two switches.

use vswitch_api::link::{LinkEnd, LinkView};

use super::table::{Table, word};
use super::{Style, ports};

/// The table of links.
pub fn table(style: Style, links: &[LinkView]) -> String {
    let titles = ["SWITCH", "PORT", "STATE", "SWITCH", "PORT", "STATE"].map(word);
    let mut table = Table::new(style, &titles);
    let mut reasons = String::new();
    for LinkView { a, b } in links {
        table.toned_row([a, b].into_iter().flat_map(cells));
        for end in [a, b] {
            if let Some(reason) = &end.reason {
                reasons += &format!("{}: {reason}\n", end.port);
            }
        }
    }
    table.render() + &reasons
}

fn cells(end: &LinkEnd) -> [(String, Option<super::table::Tone>); 3] {
    [
        (end.switch.to_string(), None),
        (end.port.to_string(), None),
        (end.state.as_str().to_owned(), Some(ports::tone(end.state))),
    ]
}
