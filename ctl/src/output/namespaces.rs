//! Namespaces and cables.

use vswitch_api::lab::DEFAULT_MTU;
use vswitch_api::view::{NamespaceSummary, NamespaceView, PortState};
use vswitch_api::{Cable, CableEnd, CableView};

use super::ports::short;
use super::table::{Table, Tone, list, number, word};
use super::{Style, units};

/// The table of namespaces.
pub fn table(style: Style, namespaces: &[NamespaceSummary]) -> String {
    let mut table = Table::new(
        style,
        &[word("NAMESPACE"), word("MADE BY"), word("STATE"), list("PORTS")],
    );
    for view in namespaces {
        let (state, tone) = if view.present {
            ("present", None)
        } else {
            ("missing", Some(Tone::Bad))
        };
        table.toned_row([
            (short(&view.name), None),
            (made_by(view), None),
            (state.to_owned(), tone),
            (units::list(&view.ports), None),
        ]);
    }
    table.render()
}

/// Who made it, or whose it is, in one word.
fn made_by(view: &NamespaceSummary) -> String {
    match (&view.owner, view.owned) {
        (_, true) => "vswitch".to_owned(),
        (Some(owner), false) => units::printable(owner).replace(' ', ":"),
        (None, false) => "other".to_owned(),
    }
}

/// A namespace from inside, in the sections that `ip` has: links, addresses, routes, neighbours.
pub fn page(style: Style, view: &NamespaceView) -> String {
    let summary = &view.summary;
    let mut text = style.bold(&format!("namespace {}", summary.name));
    text += if summary.owned {
        "  made by vswitch\n"
    } else {
        "  not made by vswitch\n"
    };
    if !summary.present {
        return text + "missing: its ports work again when it is back\n";
    }

    let mut links = Table::new(
        style,
        &[
            number("#"),
            word("LINK"),
            word("STATE"),
            word("MAC"),
            number("MTU"),
            word("PORT"),
        ],
    );
    let mut addresses = Table::new(style, &[word("ADDRESS"), word("LINK")]);
    for link in &view.links {
        let tone = match link.state.as_str() {
            "up" => Tone::Good,
            _ => Tone::Notice,
        };
        links.toned_row([
            (link.ifindex.to_string(), None),
            (units::printable(&link.name), None),
            (link.state.clone(), Some(tone)),
            (units::or_dash(link.mac.as_ref()), None),
            (link.mtu.to_string(), None),
            (units::or_dash(link.port.as_ref()), None),
        ]);
        for address in &link.addresses {
            addresses.row([address.clone(), units::printable(&link.name)]);
        }
    }
    let mut routes = Table::new(style, &[word("ROUTE"), word("VIA"), word("LINK")]);
    for route in &view.routes {
        routes.row([
            route.to.clone(),
            units::or_dash(route.via.as_ref()),
            units::printable(&route.dev),
        ]);
    }
    let mut neighbours = Table::new(style, &[word("NEIGHBOUR"), word("MAC"), word("LINK"), word("STATE")]);
    for neighbour in &view.neighbours {
        neighbours.row([
            neighbour.ip.clone(),
            units::or_dash(neighbour.mac.as_ref()),
            units::printable(&neighbour.dev),
            neighbour.state.clone(),
        ]);
    }
    for section in [links, addresses, routes, neighbours] {
        text.push('\n');
        text += &section.render();
    }
    text
}

/// The table of cables, and below it why some carry nothing.
pub fn cables(style: Style, views: &[CableView]) -> String {
    let mut table = Table::new(
        style,
        &[
            word("END A"),
            list("ADDRESSES"),
            word("END B"),
            list("ADDRESSES"),
            number("MTU"),
            word("STATE"),
        ],
    );
    let mut reasons = String::new();
    for CableView { cable, state, reason } in views {
        let Cable { a, b, mtu } = cable;
        let tone = match state {
            PortState::Up => Tone::Good,
            _ => Tone::Bad,
        };
        table.toned_row([
            (end(a), None),
            (units::list(&a.addresses), None),
            (end(b), None),
            (units::list(&b.addresses), None),
            (mtu.unwrap_or(DEFAULT_MTU).to_string(), None),
            (state.as_str().to_owned(), Some(tone)),
        ]);
        if let Some(reason) = reason {
            reasons += &format!("{} - {}: {reason}\n", end(a), end(b));
        }
    }
    table.render() + &reasons
}

fn end(end: &CableEnd) -> String {
    match &end.ifname {
        Some(ifname) => format!("{}/{ifname}", end.namespace),
        None => end.namespace.to_string(),
    }
}
