//! VLANs with their ports.

use std::collections::BTreeSet;

use vswitch_api::PortName;

use super::table::{Table, list, number, word};
use super::{Style, units};
use crate::vlans::{Member, VlanRow};

/// The table of VLANs; below it the ports that are in all of them since nothing is set.
pub fn table(style: Style, rows: &[VlanRow], unset: &BTreeSet<&PortName>) -> String {
    let mut table = Table::new(
        style,
        &[
            word("SWITCH"),
            word("VLAN"),
            list("UNTAGGED"),
            list("TAGGED"),
            number("STATIONS"),
        ],
    );
    for row in rows {
        let ports = |tagged: bool| {
            let of = row.ports.iter().filter(|member| member.tagged == tagged);
            units::list(of.map(name).collect::<Vec<_>>())
        };
        table.row([
            row.switch.to_string(),
            row.vlans(),
            ports(false),
            ports(true),
            row.stations.to_string(),
        ]);
    }
    let mut text = table.render();
    if !unset.is_empty() {
        let names: Vec<_> = unset.iter().map(|name| name.as_str()).collect();
        text += &format!("in every VLAN, as nothing is set: {}\n", names.join(", "));
    }
    text
}

/// One VLAN, with a line for each port.
pub fn page(style: Style, rows: &[VlanRow]) -> String {
    let blocks = rows.iter().map(|row| {
        let heading = style.bold(&format!("VLAN {} on switch {}", row.first, row.switch));
        let stations = match row.stations {
            1 => "1 station".to_owned(),
            n => format!("{n} stations"),
        };
        let mut table = Table::new(style, &[word("PORT"), word("MODE"), word("FRAMES")]);
        for member in &row.ports {
            let frames = match (member.tagged, member.native) {
                (true, _) => "tagged",
                (false, true) => "untagged,native",
                (false, false) => "untagged",
            };
            table.row([
                member.port.to_string(),
                member.mode.as_str().to_owned(),
                frames.to_owned(),
            ]);
        }
        format!("{heading}  {stations}\n{}", table.render())
    });
    blocks.collect::<Vec<_>>().join("\n")
}

fn name(member: &Member) -> String {
    match member.native {
        true => format!("{}(native)", member.port),
        false => member.port.to_string(),
    }
}
