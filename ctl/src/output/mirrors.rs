//! Mirrors: the table, the page of one, and its line below a switch.

use vswitch_api::capture::Direction;
use vswitch_api::mirror::MirrorView;

use super::page::Page;
use super::table::{Table, Tone, list, number, word};
use super::{Style, units};

/// The table of mirrors.
pub fn table(style: Style, views: &[MirrorView]) -> String {
    let titles = [
        word("MIRROR"),
        word("SWITCH"),
        list("FROM"),
        word("WAY"),
        word("TO"),
        word("STATE"),
        number("FRAMES"),
        number("BYTES"),
    ];
    let mut table = Table::new(style, &titles);
    for view in views {
        let tone = if view.active { Tone::Good } else { Tone::Bad };
        table.toned_row([
            (view.mirror.name.to_string(), None),
            (view.mirror.switch.to_string(), None),
            (from(view), None),
            (way(view.mirror.direction).to_owned(), None),
            (to(view), None),
            (state(view).to_owned(), Some(tone)),
            (units::count(view.frames), None),
            (units::count(view.bytes), None),
        ]);
    }
    table.render()
}

/// Where the copies go, in one word.
fn to(view: &MirrorView) -> String {
    match (&view.mirror.to, view.mirror.to_vlan) {
        (None, Some(vlan)) => format!("vlan:{vlan}"),
        _ => view.mirror.destination(),
    }
}

/// All about one mirror.
pub fn page(style: Style, view: &MirrorView) -> String {
    let mirror = &view.mirror;
    let mut page = Page::new(style, format!("mirror {} on switch {}", mirror.name, mirror.switch));
    page.line("state", state(view));
    page.line("from", from(view));
    page.line("direction", way(mirror.direction));
    page.line("to", mirror.destination());
    if let Some(vlans) = &mirror.vlans {
        page.line("VLANs", vlans.to_string());
    }
    if let Some(filter) = &mirror.filter {
        page.line("filter", filter.expression.as_str());
    }
    page.line(
        "copied",
        format!(
            "{} frames, {} bytes",
            units::grouped(view.frames),
            units::grouped(view.bytes)
        ),
    );
    page.render()
}

/// What `show` says of a mirror.
pub fn line(view: &MirrorView) -> String {
    let filter = match &view.mirror.filter {
        Some(filter) => format!(" ({})", filter.expression),
        None => String::new(),
    };
    format!(
        "mirror {}: {} {}{filter} to {}, {}, {} frames\n",
        view.mirror.name,
        from(view),
        way(view.mirror.direction),
        view.mirror.destination(),
        state(view),
        units::count(view.frames)
    )
}

/// As it is said on the command line.
fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Rx => "in",
        Direction::Tx => "out",
        Direction::Both => "both",
    }
}

fn from(view: &MirrorView) -> String {
    if view.mirror.rules_only {
        "rules".to_owned()
    } else if view.mirror.ports.is_empty() {
        "all".to_owned()
    } else {
        units::list(&view.mirror.ports)
    }
}

fn state(view: &MirrorView) -> &'static str {
    if view.active { "active" } else { "missing" }
}
