//! Ports: the table and the page of one.

use serde::Serialize;
use vswitch_api::policy::{AcceptFrames, BeyondLimit, Flooding, Isolation, PortVlan, TagKind};
use vswitch_api::view::{AddressView, Lack, PortAclView, PortCounters, PortState, PortView};
use vswitch_api::{Namespace, Port, PortName, Route, Stands, SwitchName};

use super::page::Page;
use super::table::{Table, Tone, list, number, word};
use super::{Style, traffic, units};

/// A table of ports, one a line; below it why some do not carry frames. `switch`: with a column for the switch; `wide`: with more.
pub fn table<'a>(style: Style, ports: impl IntoIterator<Item = &'a PortView>, switch: bool, wide: bool) -> String {
    let mut titles = vec![
        word("SWITCH"),
        word("PORT"),
        word("TYPE").left_out(2),
        word("NAMESPACE/IF").left_out(3),
        word("STATE"),
        word("MAC").minor(),
        number("MTU").minor(),
        list("ADDRESSES"),
        number("RX").left_out(4),
        number("TX").left_out(4),
        number("DROPS"),
    ];
    let ports: Vec<_> = ports.into_iter().collect();
    // Where VLANs are in use they decide who talks with whom.
    let vlans = wide || ports.iter().any(|view| view.port.vlan != PortVlan::All);
    if vlans {
        titles.push(list("VLAN"));
    }
    if wide {
        titles.extend([number("STATIONS"), word("DESCRIPTION")]);
    }
    let mut table = Table::new(style, if switch { &titles } else { &titles[1..] });
    let mut reasons = String::new();
    for view in ports {
        let drops = dropped(&view.counters);
        let cells = [
            (view.port.name.to_string(), None),
            (view.port.kind.word().to_owned(), None),
            (place(view), None),
            (view.state.as_str().to_owned(), Some(tone(view.state))),
            (units::or_dash(view.port.mac.as_ref()), None),
            (units::or_dash(view.port.mtu.as_ref()), None),
            (units::list(&view.port.addresses), None),
            (traffic(view.counters.rx_frames, view.counters.rx_bytes), None),
            (traffic(view.counters.tx_frames, view.counters.tx_bytes), None),
            (units::count(drops), (drops > 0).then_some(Tone::Notice)),
        ];
        let switch = switch.then(|| (view.port.switch.to_string(), None));
        let vlan = vlans.then(|| (in_one_word(vlan(&view.port.vlan)), None));
        let more = [
            (view.fdb_entries.to_string(), None),
            (
                units::or_dash(Some(&view.port.description).filter(|text| !text.is_empty())),
                None,
            ),
        ];
        let more = vlan.into_iter().chain(more.into_iter().filter(|_| wide));
        table.toned_row(switch.into_iter().chain(cells).chain(more));
        let notes = view.reason.clone().into_iter().chain(changed(view));
        for note in notes {
            reasons += &format!("{}: {note}\n", view.port.name);
        }
    }
    table.render() + &reasons
}

/// All about one port.
pub fn page(style: Style, view: &PortView) -> String {
    let port = &view.port;
    let mut page = Page::new(style, format!("port {} on switch {}", port.name, port.switch));
    if !port.description.is_empty() {
        page.line("description", port.description.to_string());
    }
    page.line("type", port.kind.word());
    page.line("state", state(style, view));
    page.line("interface", interface(view));
    page.line("MAC", units::or_dash(port.mac.as_ref()));
    page.line(
        "MTU",
        match view.mtu_wanted {
            Some(wanted) => format!("{} (it was set to {wanted})", units::or_dash(port.mtu.as_ref())),
            None => units::or_dash(port.mtu.as_ref()),
        },
    );
    page.list("addresses", &port.addresses);
    page.list("routes", port.routes.iter().map(route));
    if !port.publish.is_empty() {
        page.list("published", port.publish.iter().map(ToString::to_string));
    }
    page.line("offload", offload(view));
    if let Some(mode) = view.xdp_mode {
        page.line("AF_XDP", mode.as_str());
    } else if let Some(reason) = &view.xdp_refused {
        page.line("AF_XDP", format!("none: {reason}"));
    }
    policy(&mut page, port);
    traffic::lines(&mut page, view);
    page.line("queues", view.queues.to_string());
    page.line("FDB entries", view.fdb_entries.to_string());

    let counters = &view.counters;
    page.line("received", frames(counters.rx_frames, counters.rx_bytes));
    page.part("forwarded", units::grouped(counters.rx_forwarded));
    page.part(
        "flooded",
        match counters.rx_flooded {
            0 => "0".to_owned(),
            n => format!(
                "{} (as {} copies)",
                units::grouped(n),
                units::grouped(counters.flood_copies)
            ),
        },
    );
    if view.fastpath {
        page.part("by the kernel", units::grouped(counters.rx_fastpath));
    }
    if counters.mirror_copies > 0 {
        page.part("mirrored", units::grouped(counters.mirror_copies));
    }
    drops(&mut page, &counters.rx_drops);
    traffic::received(&mut page, view);
    page.line("sent", frames(counters.tx_frames, counters.tx_bytes));
    if counters.probes > 0 {
        page.part("of those probes of the loop guard", units::grouped(counters.probes));
    }
    drops(&mut page, &counters.tx_drops);
    traffic::sent(&mut page, view);
    page.render()
}

fn offload(view: &PortView) -> &'static str {
    match (view.port.offload, view.big_tcp) {
        (true, true) => "on, TCP frames above 64 KiB",
        (true, false) => "on",
        (false, _) => "off",
    }
}

/// A VLAN setting, if there is one.
fn vlan(vlan: &PortVlan) -> Option<String> {
    match vlan {
        PortVlan::All => None,
        PortVlan::Access(id) => Some(format!("access {id}")),
        PortVlan::Tunnel(id) => Some(format!("tunnel {id}")),
        PortVlan::Trunk(trunk) => {
            let native = trunk.native.map_or_else(String::new, |id| format!(", native {id}"));
            let tag = if trunk.tag == TagKind::Service {
                ", service tags"
            } else {
                ""
            };
            Some(format!("trunk {}{native}{tag}", trunk.allowed))
        }
    }
}

/// `access:10`, so that a row can be cut at blanks.
fn in_one_word(vlan: Option<String>) -> String {
    vlan.map_or_else(|| "-".to_owned(), |vlan| vlan.replace(", ", ",").replace(' ', ":"))
}

/// What the port lets in and out, as far as it is not everything.
fn policy(page: &mut Page, port: &Port) {
    if let Some(vlan) = vlan(&port.vlan) {
        page.line("VLAN", vlan);
    }
    match port.accept {
        AcceptFrames::All => {}
        AcceptFrames::Tagged => page.part("accepts", "tagged frames only"),
        AcceptFrames::Untagged => page.part("accepts", "untagged frames only"),
    }
    let learning = &port.learning;
    let mut words = Vec::new();
    words.extend((!learning.enabled).then(|| "off".to_owned()));
    words.extend(learning.sticky.then(|| "sticky".to_owned()));
    words.extend(learning.locked.then(|| "locked".to_owned()));
    words.extend(learning.limit.map(|limit| {
        let beyond = match learning.beyond {
            BeyondLimit::Flood => "flooded",
            BeyondLimit::Drop => "dropped",
            BeyondLimit::Shut => "a reason to shut the port",
        };
        format!("at most {limit} stations, others are {beyond}")
    }));
    if !words.is_empty() {
        page.line("learning", words.join(", "));
    }
    let flooding = &port.flooding;
    if *flooding != Flooding::default() {
        let classes = [
            ("unknown unicast", flooding.unknown_unicast),
            ("multicast", flooding.multicast),
            ("broadcast", flooding.broadcast),
            ("hairpin", flooding.hairpin),
        ];
        let on: Vec<_> = classes.iter().filter(|(_, on)| *on).map(|(class, _)| *class).collect();
        page.line(
            "flooding",
            if on.is_empty() {
                "nothing".to_owned()
            } else {
                on.join(", ")
            },
        );
    }
    match port.isolation {
        Isolation::Promiscuous => {}
        Isolation::Isolated => page.line("isolation", "isolated"),
        Isolation::Community(number) => page.line("isolation", format!("community {number}")),
    }
    let rules = port.acl.ingress.len() + port.acl.egress.len();
    if rules > 0 {
        page.line(
            "ACL",
            format!("{rules} rules; `vswitchctl acl show {}` shows them", port.name),
        );
    }
    if let Some(macs) = &port.pin.mac {
        page.line(
            "pinned MAC",
            if macs.is_empty() {
                "its own".to_owned()
            } else {
                units::list(macs)
            },
        );
    }
    if let Some(ips) = &port.pin.ip {
        page.line(
            "pinned IP",
            if ips.is_empty() {
                "its own".to_owned()
            } else {
                units::list(ips)
            },
        );
    }
    if port.pin.allow_ra {
        page.line("router", "may send advertisements and redirects");
    }
}

/// The access control lists of a port.
pub fn acl(style: Style, view: &PortAclView) -> String {
    let mut table = Table::new(style, &[word("LIST"), number("NO"), word("RULE"), number("HITS")]);
    for (list, rules) in [("in", &view.ingress), ("out", &view.egress)] {
        for (place, rule) in (1..).zip(rules) {
            table.row([
                list.to_owned(),
                format!("{place}"),
                rule.rule.to_string(),
                units::grouped(rule.hits),
            ]);
        }
    }
    table.render()
}

/// Whether the interface of a port has not what it was given.
pub fn lacks(view: &PortView, what: Lack) -> bool {
    view.state == PortState::Missing || view.lacks.contains(&what)
}

fn marked(text: String, missing: bool) -> String {
    match missing {
        true => format!("{text} (missing)"),
        false => text,
    }
}

/// The table of addresses.
pub fn addresses(style: Style, addresses: &[AddressView]) -> String {
    let leased = addresses.iter().any(|one| one.lease_secs.is_some());
    let mut columns = vec![word("SWITCH"), word("PORT"), word("ADDRESS")];
    if leased {
        columns.push(word("LEASED FOR"));
    }
    let mut table = Table::new(style, &columns);
    for view in addresses {
        let lease = view
            .lease_secs
            .map_or_else(|| "-".to_owned(), |secs| format!("{secs}s"));
        let address = marked(view.address.to_string(), view.missing);
        let row = [view.switch.to_string(), view.port.to_string(), address];
        let cells = row.into_iter().chain(leased.then_some(lease));
        table.toned_row(cells.map(|cell| (cell, None)));
    }
    table.render()
}

/// A port number of the host that leads to a port.
#[derive(Serialize)]
pub struct PublishedPort<'a> {
    /// The port.
    pub port: &'a PortName,
    /// Its switch.
    pub switch: &'a SwitchName,
    /// Number at the host.
    pub outside: u16,
    /// Number in the namespace.
    pub inside: u16,
    /// `tcp` or `udp`.
    pub protocol: &'static str,
}

/// The table of what is published.
pub fn published(style: Style, rows: &[PublishedPort<'_>]) -> String {
    let columns = [
        word("SWITCH"),
        word("PORT"),
        word("PROTOCOL"),
        number("OUTSIDE"),
        number("INSIDE"),
    ];
    let mut table = Table::new(style, &columns);
    for row in rows {
        table.row([
            row.switch.to_string(),
            row.port.to_string(),
            row.protocol.to_owned(),
            row.outside.to_string(),
            row.inside.to_string(),
        ]);
    }
    table.render()
}

/// A route that vswitch set.
#[derive(Serialize)]
pub struct PortRoute<'a> {
    /// Port whose interface it goes through.
    pub port: &'a PortName,
    /// Switch of the port.
    pub switch: &'a SwitchName,
    /// The route.
    #[serde(flatten)]
    pub route: &'a Route,
    /// Somebody has taken it away inside.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
}

/// The table of routes.
pub fn routes(style: Style, routes: &[PortRoute<'_>]) -> String {
    let mut table = Table::new(style, &[word("SWITCH"), word("PORT"), word("TO"), word("VIA")]);
    for PortRoute {
        port,
        switch,
        route,
        missing,
    } in routes
    {
        let via = match (route.via, route.onlink) {
            (Some(via), true) => format!("{via},onlink"),
            (Some(via), false) => via.to_string(),
            (None, _) => "-".to_owned(),
        };
        let to = marked(destination(route), *missing);
        table.row([switch.to_string(), port.to_string(), to, via]);
    }
    table.render()
}

/// The ports that have access control lists.
pub fn acls<'a>(style: Style, views: impl IntoIterator<Item = &'a PortView>) -> String {
    let mut table = Table::new(
        style,
        &[word("SWITCH"), word("PORT"), number("IN RULES"), number("OUT RULES")],
    );
    for PortView { port, .. } in views {
        table.row([
            port.switch.to_string(),
            port.name.to_string(),
            port.acl.ingress.len().to_string(),
            port.acl.egress.len().to_string(),
        ]);
    }
    table.render()
}

fn drops(page: &mut Page, reasons: &std::collections::BTreeMap<String, u64>) {
    page.part("dropped", units::grouped(reasons.values().sum()));
    for (reason, count) in reasons {
        page.part(&format!("  {reason}"), units::grouped(*count));
    }
}

fn dropped(counters: &PortCounters) -> u64 {
    counters.rx_drops.values().chain(counters.tx_drops.values()).sum()
}

fn traffic(frames: u64, bytes: u64) -> String {
    format!("{}/{}", units::count(frames), units::count(bytes))
}

fn frames(frames: u64, bytes: u64) -> String {
    let exact = format!("{} frames, {} bytes", units::grouped(frames), units::grouped(bytes));
    if bytes < 1000 {
        exact
    } else {
        format!("{exact} ({}B)", units::count(bytes))
    }
}

/// `red/eth0`, or the interface alone where it is in the host's namespace.
fn place(view: &PortView) -> String {
    if let Some(peer) = &view.port.peer {
        return format!("to:{peer}");
    }
    match (&view.port.namespace, &view.port.ifname) {
        (Some(namespace), Some(ifname)) => format!("{}/{ifname}", short(namespace)),
        (Some(namespace), None) => short(namespace),
        (None, Some(ifname)) => ifname.to_string(),
        (None, None) => "-".to_owned(),
    }
}

/// A namespace in a table, in one word.
pub fn short(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Container(name) => name.to_string(),
        Namespace::Pid(pid) => format!("pid:{pid}"),
        other => units::printable(&other.to_string()),
    }
}

/// What somebody else has changed of its interface, a sentence each.
fn changed(view: &PortView) -> Vec<String> {
    let name = units::or_dash(view.port.ifname.as_ref());
    let moved = view.moved_to.as_ref();
    let moved = moved.map(|place| format!("interface {name} was moved to {place}"));
    let mtu = view.mtu_wanted.map(|wanted| {
        let mtu = units::or_dash(view.port.mtu.as_ref());
        format!("interface {name} has an MTU of {mtu}, but was set to {wanted}")
    });
    moved.into_iter().chain(mtu).collect()
}

fn interface(view: &PortView) -> String {
    let name = units::or_dash(view.port.ifname.as_ref());
    if let Some(place) = &view.moved_to {
        return format!("{name}, moved to {place}");
    }
    if let Some(peer) = &view.port.peer {
        return format!("the other end is port {peer}");
    }
    match (&view.port.namespace, view.port.kind.stands()) {
        (Some(namespace @ Namespace::Name(_)), _) => format!("{name} in namespace {namespace}"),
        (Some(Namespace::Container(container)), _) => format!("{name} in container {container}"),
        (Some(Namespace::Pid(pid)), _) => format!("{name} in the namespace of process {pid}"),
        (Some(Namespace::Path(path)), _) => format!("{name} in the namespace at {}", units::printable(path.as_str())),
        (None, Stands::OnHost) => format!("{name} of the host"),
        (None, _) => name,
    }
}

fn state(style: Style, view: &PortView) -> String {
    let colour = match tone(view.state) {
        Tone::Good => anstyle::AnsiColor::Green,
        Tone::Notice => anstyle::AnsiColor::Yellow,
        Tone::Bad => anstyle::AnsiColor::Red,
    };
    let word = style.paint(colour.on_default(), view.state.as_str());
    let since = units::duration(view.state_secs);
    match &view.reason {
        Some(reason) => format!("{word} for {since}: {reason}"),
        None => format!("{word} for {since}"),
    }
}

/// How a state is shown.
pub fn tone(state: PortState) -> Tone {
    match state {
        PortState::Up => Tone::Good,
        PortState::Down | PortState::NoCarrier | PortState::Attaching => Tone::Notice,
        PortState::Shut | PortState::Missing => Tone::Bad,
        _ => Tone::Notice,
    }
}

fn destination(route: &Route) -> String {
    if route.to.prefix_len() == 0 {
        "default".to_owned()
    } else {
        route.to.to_string()
    }
}

fn route(route: &Route) -> String {
    let to = destination(route);
    match route.via {
        Some(via) => format!("{to} via {via}"),
        None => to,
    }
}
