//! The verbs of brctl(8).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vswitch_api::lab::Switch;
use vswitch_api::patch::MergePatch;
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::{Changes, FdbEntry, PortView, SwitchView};
use vswitch_api::{Lab, PortName, SwitchName};
use vswitch_client::{Method, with_options};

use super::{elsewhere, find, trial};
use crate::cli::bridge::BridgeCommand;
use crate::cli::parse::Switched;
use crate::commands::Session;
use crate::commands::familiar::{
    add_device, add_switch, conflict, is_local, no_port, no_switch, remove_port, remove_switch,
};
use crate::commands::fdb::table_of;
use crate::failure::Failure;

impl Session {
    pub(super) async fn brctl(&self, command: BridgeCommand) -> Result<(), Failure> {
        match command {
            BridgeCommand::Addbr { bridge, trial: t } => {
                self.change_lab(trial(t.dry_run), |lab| add_switch(lab, &bridge)).await
            }
            BridgeCommand::Delbr { bridge, trial: t } => {
                self.change_lab(trial(t.dry_run), |lab| remove_switch(lab, &bridge))
                    .await
            }
            BridgeCommand::Addif {
                bridge,
                ports,
                force,
                trial: t,
            } => {
                let options = ChangeOptions {
                    force,
                    ..trial(t.dry_run)
                };
                let add = |lab: &mut Lab| ports.iter().try_for_each(|port| add_device(lab, &bridge, port));
                self.change_lab(options, add).await
            }
            BridgeCommand::Delif {
                bridge,
                ports,
                trial: t,
            } => {
                let remove = |lab: &mut Lab| ports.iter().try_for_each(|port| leave(lab, &bridge, port));
                self.change_lab(trial(t.dry_run), remove).await
            }
            BridgeCommand::Show { bridges } => self.show_bridges(&bridges).await,
            BridgeCommand::Showmacs { bridge } => self.show_macs(&bridge).await,
            BridgeCommand::Setageing { bridge, seconds, trial } => {
                let patch = MergePatch::default().with("ageing_secs", seconds);
                self.patch_quietly(&format!("/v1/switches/{bridge}"), &patch, trial.dry_run)
                    .await
            }
            BridgeCommand::Hairpin {
                bridge,
                port,
                switched,
                trial,
            } => {
                on_switch(find(&self.ports().await?, &port)?, &bridge)?;
                let patch = MergePatch::default().with("flooding.hairpin", switched == Switched::On);
                self.patch_quietly(&format!("/v1/ports/{port}"), &patch, trial.dry_run)
                    .await
            }
            BridgeCommand::Other(words) if words.first().is_some_and(|verb| verb == "stp") => self.stp(&words).await,
            BridgeCommand::Other(words) => Err(elsewhere(&words)),
            BridgeCommand::Link(_) | BridgeCommand::Fdb(_) | BridgeCommand::Vlan(_) => {
                Err(elsewhere(&["of bridge(8)".to_owned()]))
            }
        }
    }

    async fn change_lab(
        &self,
        options: ChangeOptions,
        edit: impl Fn(&mut Lab) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let ((), changes) = self.edit_lab(options, edit).await?;
        self.quietly(&changes, options.dry_run)
    }

    async fn patch_quietly(&self, path: &str, patch: &MergePatch, dry_run: bool) -> Result<(), Failure> {
        let path = with_options(path, trial(dry_run))?;
        let changes: Changes = self.client.send(Method::PATCH, &path, Some(patch)).await?;
        self.quietly(&changes, dry_run)
    }

    async fn show_bridges(&self, only: &[SwitchName]) -> Result<(), Failure> {
        let mut switches: Vec<SwitchView> = self.client.switches().await?;
        if let Some(missing) = only
            .iter()
            .find(|name| !switches.iter().any(|view| view.switch.name == **name))
        {
            return Err(no_switch(missing));
        }
        switches.retain(|view| only.is_empty() || only.contains(&view.switch.name));
        let ports = self.ports().await?;
        self.out.show(&switches, |_| {
            let heading = String::from("bridge name\tbridge id\t\tSTP enabled\tinterfaces\n");
            let of = |view: &SwitchView| bridge(&view.switch, &ports);
            heading + &switches.iter().map(of).collect::<String>()
        })
    }

    async fn show_macs(&self, switch: &SwitchName) -> Result<(), Failure> {
        let mut entries: Vec<FdbEntry> = self.client.get(&table_of(switch.as_str())).await?;
        entries.sort_by_key(|entry| entry.mac.to_string());
        let ports = self.ports().await?;
        let of_switch = ports.iter().filter(|view| view.port.switch == *switch);
        let of_switch: Vec<_> = of_switch.filter(|view| !is_local(&view.port)).collect();
        let numbers: BTreeMap<&PortName, usize> = of_switch.iter().map(|view| &view.port.name).zip(1..).collect();
        self.out.show(&entries, |_| {
            let mut text = String::from("port no\tmac addr\t\tis local?\tageing timer\n");
            for entry in &entries {
                // The host's own leg is no port of a bridge, and has no number there.
                let number = numbers.get(&entry.port).copied().unwrap_or_default();
                let local = if number == 0 { "yes" } else { "no" };
                let age = entry.age_secs.unwrap_or_default();
                let _ = writeln!(text, "{number:>3}\t{}\t{local}\t\t{age:>4}.00", entry.mac);
            }
            text
        })
    }

    /// `stp BRIDGE off` says what is so; there is nothing to turn on.
    async fn stp(&self, words: &[String]) -> Result<(), Failure> {
        let [_, bridge, off] = words else {
            return Err(elsewhere(words));
        };
        if !["off", "no", "0"].contains(&off.as_str()) {
            return Err(elsewhere(words));
        }
        self.client.get::<SwitchView>(&format!("/v1/switches/{bridge}")).await?;
        Ok(())
    }
}

/// A port leaves the switch that it is on.
fn leave(lab: &mut Lab, switch: &SwitchName, name: &PortName) -> Result<(), Failure> {
    if lab.switch(switch).is_none() {
        return Err(no_switch(switch));
    }
    let port = lab.port(name).ok_or_else(|| no_port(name))?;
    if port.switch != *switch {
        return Err(elsewhere_on(name, &port.switch, switch));
    }
    remove_port(lab, name)
}

fn on_switch(view: &PortView, switch: &SwitchName) -> Result<(), Failure> {
    match view.port.switch == *switch {
        true => Ok(()),
        false => Err(elsewhere_on(&view.port.name, &view.port.switch, switch)),
    }
}

fn elsewhere_on(port: &PortName, is: &SwitchName, said: &SwitchName) -> Failure {
    let cause = format!("it is on switch \"{is}\", not on \"{said}\"");
    conflict(format!("port \"{port}\""), cause, "name the one that it is on")
}

/// A bridge with its ports, as brctl shows it. Its id is the address of the host's leg.
fn bridge(switch: &Switch, ports: &[PortView]) -> String {
    let on_it = || ports.iter().filter(|view| view.port.switch == switch.name);
    let local = on_it().find(|view| is_local(&view.port));
    let mac = local.and_then(|view| view.port.mac).map(|mac| mac.to_string());
    let mac = mac.map_or_else(|| "0".repeat(12), |mac| mac.replace(':', ""));
    let mut text = format!("{}\t\t8000.{mac}\tno\t\t", switch.name);
    let mut others = on_it().filter(|view| !is_local(&view.port)).map(|view| &view.port.name);
    let _ = writeln!(text, "{}", others.next().map_or("", PortName::as_str));
    for name in others {
        let _ = writeln!(text, "\t\t\t\t\t\t\t{name}");
    }
    text
}
