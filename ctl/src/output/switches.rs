//! Switches, their forwarding databases, and the overview of all.

use vswitch_api::gateway::gateway_name;
use vswitch_api::view::{Confinement, FdbEntry, PortView, Status, SwitchView};
use vswitch_api::{ReservedMulticast, Switch, SwitchName};

use super::page::Page;
use super::table::{Table, Tone, number, word};
use super::{Style, mirrors, ports, units};

/// Every switch with its ports. `wide`: with more of them.
pub fn overview(style: Style, switches: &[SwitchView], all_ports: &[PortView], wide: bool) -> String {
    let mut blocks = Vec::new();
    for view in switches {
        let name = &view.switch.name;
        let mut text = format!(
            "{}  ageing {}  FDB {}/{}",
            style.bold(&format!("switch {name}")),
            units::ageing(view.switch.ageing_secs),
            view.fdb_entries,
            view.switch.fdb_capacity
        );
        if view.fdb_full > 0 {
            text += &format!("  full: {} not learned", units::count(view.fdb_full));
        }
        if view.switch.reserved_multicast != ReservedMulticast::Never {
            text += &format!(
                "  reserved multicast {}",
                units::reserved(view.switch.reserved_multicast)
            );
        }
        if wide && !view.switch.description.is_empty() {
            text += &format!("  {}", view.switch.description);
        }
        text.push('\n');
        let mut own = all_ports.iter().filter(|port| port.port.switch == *name).peekable();
        if own.peek().is_some() {
            text += &ports::table(style, own, false, wide);
        } else {
            text += "no ports; `vswitchctl add-port NAME --addr ADDR/LEN` adds one\n";
        }
        text.extend(view.mirrors.iter().map(mirrors::line));
        blocks.push(text);
    }
    blocks.join("\n")
}

/// The table of switches.
pub fn table(style: Style, switches: &[SwitchView]) -> String {
    let mut table = Table::new(
        style,
        &[
            word("SWITCH"),
            number("PORTS"),
            number("FDB"),
            number("CAPACITY"),
            number("NOT LEARNED"),
            number("AGEING"),
            word("RESERVED MULTICAST"),
        ],
    );
    for view in switches {
        table.toned_row([
            (view.switch.name.to_string(), None),
            (view.ports.len().to_string(), None),
            (view.fdb_entries.to_string(), None),
            (view.switch.fdb_capacity.to_string(), None),
            (units::count(view.fdb_full), (view.fdb_full > 0).then_some(Tone::Notice)),
            (units::ageing(view.switch.ageing_secs), None),
            (units::reserved(view.switch.reserved_multicast).to_owned(), None),
        ]);
    }
    table.render()
}

/// All about one switch.
pub fn page(style: Style, view: &SwitchView) -> String {
    let mut page = Page::new(style, format!("switch {}", view.switch.name));
    if !view.switch.description.is_empty() {
        page.line("description", view.switch.description.to_string());
    }
    page.line("ageing", units::ageing(view.switch.ageing_secs));
    page.line(
        "FDB",
        format!("{} of {} entries", view.fdb_entries, view.switch.fdb_capacity),
    );
    page.part(
        "not learned",
        format!("{} (the FDB was full)", units::grouped(view.fdb_full)),
    );
    page.part("moves", units::grouped(view.fdb_moves));
    if let Some(limit) = view.switch.vlan_limit {
        page.part("limit a VLAN", limit.to_string());
    }
    if !view.switch.rspan_vlans.is_empty() {
        page.line("RSPAN VLANs", units::list(&view.switch.rspan_vlans));
    }
    page.line("loop guard", if view.switch.loop_guard { "on" } else { "off" });
    page.part(
        "flapping",
        format!(
            "{} moves a second, for {} s",
            view.switch.flap_moves, view.switch.flap_secs
        ),
    );
    page.line("reserved multicast", units::reserved(view.switch.reserved_multicast));
    way_out(&mut page, &view.switch);
    page.line(
        "ports",
        match view.ports.len() {
            0 => "none".to_owned(),
            n => format!(
                "{n}: {}",
                view.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
            ),
        },
    );
    page.render()
}

/// Its subnets, and how they get out.
fn way_out(page: &mut Page, switch: &Switch) {
    if !switch.subnets.is_empty() {
        page.line("subnets", units::list(&switch.subnets));
    }
    let Some(name) = gateway_name(&switch.name).filter(|_| switch.gateway.is_on()) else {
        return;
    };
    page.line("gateway", format!("port {name}"));
    for (word, on) in [("NAT", switch.nat), ("DHCP", switch.dhcp), ("DNS", switch.dns)] {
        if on {
            page.part(word, "on");
        }
    }
    if !switch.uplinks.is_empty() {
        page.part("uplinks", units::list(&switch.uplinks));
    }
}

/// The forwarding databases of some switches, with a column for the switch if there are several.
pub fn fdb(style: Style, tables: &[(SwitchName, Vec<FdbEntry>)]) -> String {
    let several = tables.len() > 1;
    let vlans = tables
        .iter()
        .flat_map(|(_, entries)| entries)
        .any(|entry| entry.vlan.is_some());
    let titles = [
        (several, word("SWITCH")),
        (vlans, word("VLAN")),
        (true, word("MAC")),
        (true, word("PORT")),
        (true, number("AGE")),
    ];
    let titles: Vec<_> = titles
        .into_iter()
        .filter(|(shown, _)| *shown)
        .map(|(_, title)| title)
        .collect();
    let mut table = Table::new(style, &titles);
    for (switch, entries) in tables {
        for entry in entries {
            let age = match entry.age_secs {
                Some(_) if entry.sticky => "sticky".to_owned(),
                Some(secs) if !entry.is_static => units::duration(secs.into()),
                _ => "static".to_owned(),
            };
            let cells = [
                (several, switch.to_string()),
                (vlans, units::or_dash(entry.vlan.as_ref())),
                (true, entry.mac.to_string()),
                (true, entry.port.to_string()),
                (true, age),
            ];
            table.toned_row(
                cells
                    .into_iter()
                    .filter(|(shown, _)| *shown)
                    .map(|(_, cell)| (cell, None)),
            );
        }
    }
    table.render()
}

fn confinement(confinement: &Confinement, workers: u32) -> String {
    let rights = match confinement.rights_kept {
        true => "only the rights that it needs",
        false => "all rights",
    };
    let (bare, filtered) = (confinement.workers_without_rights, confinement.workers_filtered);
    let calls = if confinement.forbidden {
        ", no harmful system calls"
    } else {
        ""
    };
    format!("{rights}{calls}; {bare} of {workers} workers without rights, {filtered} held to their system calls")
}

/// The daemon itself.
pub fn status(style: Style, status: &Status) -> String {
    let mut page = Page::new(style, format!("vswitchd {}", status.version));
    page.line("API version", status.api_version.to_string());
    page.line("process", status.pid.to_string());
    page.line("uptime", units::duration(status.uptime_secs));
    page.line("workers", status.workers.to_string());
    // Nothing where it is off, or an older daemon tells nothing of it.
    if status.confinement != Confinement::default() {
        page.line("confinement", confinement(&status.confinement, status.workers));
    }
    if let Some(role) = status.role {
        page.line("your role", role.to_string());
    }
    if let Some(progress) = &status.progress {
        let (what, done, of) = (&progress.what, progress.done, progress.of);
        page.line("under way", format!("{what}: {done} of {of} steps done"));
    }
    page.list("does not work here", &status.limits);
    page.render()
}
