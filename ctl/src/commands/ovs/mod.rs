//! The everyday verbs of ovs-vsctl and ovs-appctl. What `--` joins is one edit of the lab, as it is one transaction of Open vSwitch; the FDB is
//! no part of the lab, and asked and changed as `vswitchctl fdb` does.

mod appctl;
mod columns;
mod elsewhere;

use std::fmt::Write as _;

use clap::Parser;
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::{PortState, PortView};
use vswitch_api::{Lab, Port, PortName, SwitchName};

use self::columns::VlanColumns;
use super::Session;
use super::familiar::{
    add_device, add_switch, conflict, exits_as, is_local, no_port, no_switch, port_mut, remove_port, remove_switch,
};
use crate::cli::ovs::{Before, Column, ColumnValue, OvsArgs, OvsCommand, Table};
use crate::failure::Failure;

/// Exit code of ovs-vsctl where something is wrong.
const EXIT_VSCTL: u8 = 1;
/// That of ovs-appctl where the daemon says no, and of `br-exists` where there is none.
const EXIT_NO: u8 = 2;

/// What stands behind `--`.
#[derive(Debug, Parser)]
#[command(name = "ovs", no_binary_name = true, disable_help_flag = true)]
struct Joined {
    #[command(flatten)]
    args: OvsArgs,
}

/// What a call of several commands asks for.
#[derive(Default)]
struct Call {
    commands: Vec<(Before, OvsCommand)>,
    options: ChangeOptions,
}

impl Session {
    pub(super) async fn ovs(&self, args: OvsArgs) -> Result<(), Failure> {
        match args.command {
            OvsCommand::Appctl(command) => exits_as(self.appctl(command).await, EXIT_NO),
            command => {
                let args = OvsArgs { command, ..args };
                exits_as(self.vsctl(args).await, EXIT_VSCTL)
            }
        }
    }

    async fn vsctl(&self, args: OvsArgs) -> Result<(), Failure> {
        let call = call(args)?;
        let shows = call
            .commands
            .iter()
            .any(|(_, command)| matches!(command, OvsCommand::Show { .. }));
        let views: Vec<PortView> = match shows {
            true => self.client.ports().await?,
            false => Vec::new(),
        };
        let edit = |lab: &mut Lab| -> Result<Vec<String>, Failure> {
            let mut lines = Vec::new();
            for (before, command) in &call.commands {
                lines.extend(run(lab, &views, before, command)?);
            }
            Ok(lines)
        };
        let (lines, changes) = self.edit_lab(call.options, edit).await?;
        let asks = call.commands.iter().any(|(_, command)| !changes_something(command));
        if asks {
            self.out
                .show(&lines, |_| lines.iter().map(|line| format!("{line}\n")).collect())?;
        }
        match asks && self.out.is_form() {
            true => Ok(()),
            false => self.quietly(&changes, call.options.dry_run),
        }
    }
}

fn changes_something(command: &OvsCommand) -> bool {
    matches!(
        command,
        OvsCommand::AddBr { .. }
            | OvsCommand::DelBr { .. }
            | OvsCommand::AddPort { .. }
            | OvsCommand::DelPort { .. }
            | OvsCommand::Set { .. }
            | OvsCommand::Clear { .. }
            | OvsCommand::Add { .. }
            | OvsCommand::Remove { .. }
    )
}

/// All commands of a line, in order.
fn call(args: OvsArgs) -> Result<Call, Failure> {
    let mut call = Call::default();
    let mut open = Some(args);
    while let Some(OvsArgs { before, mut command }) = open.take() {
        let (next, dry_run, force) = match &mut command {
            OvsCommand::AddBr { how, .. } => (&mut how.then.next, how.then.dry_run, false),
            OvsCommand::AddPort { how, force, .. } => (&mut how.then.next, how.then.dry_run, *force),
            OvsCommand::DelBr { how, .. } | OvsCommand::DelPort { how, .. } => {
                (&mut how.then.next, how.then.dry_run, false)
            }
            OvsCommand::Set { then, .. }
            | OvsCommand::Clear { then, .. }
            | OvsCommand::Add { then, .. }
            | OvsCommand::Remove { then, .. } => (&mut then.next, then.dry_run, false),
            OvsCommand::ListBr { next }
            | OvsCommand::ListPorts { next, .. }
            | OvsCommand::PortToBr { next, .. }
            | OvsCommand::Get { next, .. }
            | OvsCommand::Show { next } => (&mut next.next, false, false),
            OvsCommand::BrExists { .. } | OvsCommand::Appctl(_) | OvsCommand::Other(_) => {
                call.commands.push((before, command));
                break;
            }
        };
        call.options.dry_run |= dry_run;
        call.options.force |= force;
        let next = std::mem::take(next);
        call.commands.push((before, command));
        if !next.is_empty() {
            let joined = Joined::try_parse_from(&next);
            open = Some(joined.map_err(|error| wrong(&next, &error))?.args);
        }
    }
    Ok(call)
}

/// What is behind `--` is not understood; none of it was done.
fn wrong(words: &[String], error: &clap::Error) -> Failure {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let cause: Vec<_> = first.trim_start_matches("error: ").split_whitespace().collect();
    let hint = "`vswitchctl ovs --help` shows the verbs; nothing was done";
    Failure::usage(format!("ovs ... -- {}", words.join(" ")), cause.join(" "), hint)
}

/// Does one command to the lab, and gives the lines that it prints.
fn run(lab: &mut Lab, views: &[PortView], before: &Before, command: &OvsCommand) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    if before.if_exists && record_of(command).is_some_and(|(table, record)| !is_there(lab, table, record)) {
        return Ok(lines);
    }
    match command {
        OvsCommand::AddBr { bridge, how } => {
            let is_there = switch(lab, bridge).is_ok();
            if !(is_there && (how.may_exist || before.may_exist)) {
                add_switch(lab, bridge)?;
            }
        }
        OvsCommand::DelBr { bridge, how } => {
            if switch(lab, bridge).is_ok() || !(how.if_exists || before.if_exists) {
                remove_switch(lab, bridge)?;
            }
        }
        OvsCommand::ListBr { .. } => lines.extend(sorted(lab.switches.iter().map(|switch| &switch.name))),
        OvsCommand::BrExists { bridge } => {
            if switch(lab, bridge).is_err() {
                return Err(Failure::Reported(EXIT_NO));
            }
        }
        OvsCommand::AddPort {
            bridge,
            port,
            columns,
            how,
            ..
        } => {
            match lab.port(port) {
                Some(there) if (how.may_exist || before.may_exist) && there.switch == *bridge => {}
                _ => add_device(lab, bridge, port)?,
            }
            set(lab, Table::Port, port, columns)?;
        }
        OvsCommand::DelPort { names, how } => del_port(lab, names, how.if_exists || before.if_exists)?,
        OvsCommand::ListPorts { bridge, .. } => {
            switch(lab, bridge)?;
            let ports = lab
                .ports
                .iter()
                .filter(|port| port.switch == *bridge && !is_local(port));
            lines.extend(sorted(ports.map(|port| &port.name)));
        }
        OvsCommand::PortToBr { port, .. } => {
            let there = lab.port(port).filter(|there| !is_local(there));
            lines.push(there.ok_or_else(|| no_port(port))?.switch.to_string());
        }
        OvsCommand::Set {
            table, record, columns, ..
        } => set(lab, *table, record, columns)?,
        OvsCommand::Get {
            table, record, columns, ..
        } => {
            for Column(column) in columns {
                lines.push(get(lab, *table, record, column)?);
            }
        }
        OvsCommand::Clear {
            table, record, columns, ..
        } => {
            let empty = |column: &Column| ColumnValue {
                column: column.clone(),
                value: String::new(),
            };
            let columns: Vec<_> = columns.iter().map(empty).collect();
            set(lab, *table, record, &columns)?;
        }
        OvsCommand::Add {
            table,
            record,
            column,
            values,
            ..
        }
        | OvsCommand::Remove {
            table,
            record,
            column,
            values,
            ..
        } => {
            if *table != Table::Port {
                let cause = format!("only tag and trunks of a port have several values, not {}", column.0);
                return Err(wrong_column(*table, record, cause));
            }
            let adds = matches!(command, OvsCommand::Add { .. });
            change_vlan(lab, record, |columns| match adds {
                true => columns.add(&column.0, values),
                false => columns.remove(&column.0, values),
            })?;
        }
        OvsCommand::Show { .. } => lines.extend(show(lab, views).lines().map(str::to_owned)),
        OvsCommand::Appctl(_) => {
            let hint = "give it a call of its own";
            return Err(Failure::usage("ovs appctl", "it is no part of what -- joins", hint));
        }
        OvsCommand::Other(words) => return Err(elsewhere::vsctl(words)),
    }
    Ok(lines)
}

/// What a command about columns is about.
fn record_of(command: &OvsCommand) -> Option<(Table, &PortName)> {
    match command {
        OvsCommand::Set { table, record, .. }
        | OvsCommand::Get { table, record, .. }
        | OvsCommand::Clear { table, record, .. }
        | OvsCommand::Add { table, record, .. }
        | OvsCommand::Remove { table, record, .. } => Some((*table, record)),
        _ => None,
    }
}

fn is_there(lab: &Lab, table: Table, record: &PortName) -> bool {
    match table {
        Table::Bridge => lab
            .switches
            .iter()
            .any(|switch| switch.name.as_str() == record.as_str()),
        _ => lab.port(record).is_some(),
    }
}

fn sorted<T: ToString>(names: impl Iterator<Item = T>) -> Vec<String> {
    let mut names: Vec<_> = names.map(|name| name.to_string()).collect();
    names.sort();
    names
}

fn switch<'a>(lab: &'a Lab, name: &SwitchName) -> Result<&'a vswitch_api::Switch, Failure> {
    lab.switch(name).ok_or_else(|| no_switch(name))
}

/// `del-port [BRIDGE] PORT`.
fn del_port(lab: &mut Lab, names: &[PortName], if_exists: bool) -> Result<(), Failure> {
    let Some((name, bridge)) = names.split_last() else {
        return Ok(());
    };
    let Some(port) = lab.port(name) else {
        return if if_exists { Ok(()) } else { Err(no_port(name)) };
    };
    let object = format!("port \"{name}\"");
    if is_local(port) {
        let cause = format!("it is the host's leg on switch \"{0}\" and goes with it", port.switch);
        let hint = format!(
            "`vswitchctl ovs del-br {0}`, or `vswitchctl del-port {0}` for the leg alone",
            port.switch
        );
        return Err(conflict(object, cause, &hint));
    }
    if let Some(bridge) = bridge.first()
        && bridge.as_str() != port.switch.as_str()
    {
        let cause = format!("it is on switch \"{}\", not on \"{bridge}\"", port.switch);
        return Err(conflict(object, cause, "name the one that it is on, or none"));
    }
    remove_port(lab, name)
}

fn wrong_column(table: Table, record: &PortName, cause: String) -> Failure {
    let object = match table {
        Table::Bridge => format!("switch \"{record}\""),
        Table::Port | Table::Interface => format!("port \"{record}\""),
    };
    Failure::usage(object, cause, "nothing was changed")
}

/// The same name as that of a switch.
fn switch_name(record: &PortName) -> Result<SwitchName, Failure> {
    let name = record.as_str().parse();
    name.map_err(|e| Failure::usage(format!("switch \"{record}\""), format!("{e}"), "nothing was changed"))
}

/// Sets columns, of which those of VLANs make one setting together.
fn set(lab: &mut Lab, table: Table, record: &PortName, columns: &[ColumnValue]) -> Result<(), Failure> {
    let wrong = |cause| wrong_column(table, record, cause);
    match table {
        Table::Port => change_vlan(lab, record, |vlan| {
            for ColumnValue { column, value } in columns {
                if vlan.get(&column.0).is_none() {
                    return Err(columns::unknown("Port", &column.0));
                }
                vlan.set(&column.0, value)?;
            }
            Ok(())
        }),
        Table::Interface => {
            let port = port_mut(lab, record)?;
            for ColumnValue { column, value } in columns {
                columns::interface_set(port, &column.0, value).map_err(wrong)?;
            }
            Ok(())
        }
        Table::Bridge => {
            let name = switch_name(record)?;
            let switch = lab.switches.iter_mut().find(|switch| switch.name == name);
            let switch = switch.ok_or_else(|| no_switch(&name))?;
            for ColumnValue { column, value } in columns {
                columns::bridge_set(switch, &column.0, value).map_err(wrong)?;
            }
            Ok(())
        }
    }
}

fn change_vlan(
    lab: &mut Lab,
    record: &PortName,
    change: impl FnOnce(&mut VlanColumns) -> Result<(), String>,
) -> Result<(), Failure> {
    let wrong = |cause| wrong_column(Table::Port, record, cause);
    let port = port_mut(lab, record)?;
    let mut columns = VlanColumns::of(&port.vlan);
    let before = columns.clone();
    change(&mut columns).map_err(wrong)?;
    if columns != before {
        port.vlan = columns.setting().map_err(wrong)?;
    }
    Ok(())
}

fn get(lab: &Lab, table: Table, record: &PortName, column: &str) -> Result<String, Failure> {
    let value = match table {
        Table::Bridge => {
            let switch = switch(lab, &switch_name(record)?)?;
            columns::bridge_get(lab, switch, column)
        }
        Table::Port | Table::Interface => {
            let port = lab.port(record).ok_or_else(|| no_port(record))?;
            match (table, column) {
                (Table::Port, "name") => Ok(port.name.to_string()),
                (Table::Port, column) => VlanColumns::of(&port.vlan)
                    .get(column)
                    .ok_or_else(|| columns::unknown(table.as_str(), column)),
                _ => columns::interface_get(port, column),
            }
        }
    };
    value.map_err(|cause| wrong_column(table, record, cause))
}

/// What `ovs-vsctl show` shows, without the identity of a database.
fn show(lab: &Lab, views: &[PortView]) -> String {
    let mut text = String::new();
    let mut switches: Vec<_> = lab.switches.iter().collect();
    switches.sort_by(|a, b| a.name.cmp(&b.name));
    for switch in switches {
        let _ = writeln!(text, "    Bridge {}", switch.name);
        let mut ports: Vec<&Port> = lab.ports.iter().filter(|port| port.switch == switch.name).collect();
        ports.sort_by(|a, b| a.name.cmp(&b.name));
        for port in ports {
            let _ = writeln!(text, "        Port {}", port.name);
            for (column, value) in VlanColumns::of(&port.vlan).shown() {
                let _ = writeln!(text, "            {column}: {value}");
            }
            let _ = writeln!(text, "            Interface {}", port.name);
            let mut line = |key: &str, value: &str| {
                let _ = writeln!(text, "                {key}: {value}");
            };
            match columns::interface_type(port) {
                "" => {}
                word => line("type", word),
            }
            if let Some(peer) = columns::peer(port) {
                line("options", &format!("{{{peer}}}"));
            }
            let view = views.iter().find(|view| view.port.name == port.name);
            if let Some(view) = view.filter(|view| view.state == PortState::Missing) {
                let reason = view.reason.as_deref().unwrap_or("the interface is gone");
                line("error", &format!("{reason:?}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests;
