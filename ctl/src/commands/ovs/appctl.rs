//! The forwarding database as ovs-appctl shows and changes it.

use std::fmt::Write as _;

use vswitch_api::policy::VlanId;
use vswitch_api::request::{ChangeOptions, FdbAdd, FdbSelect};
use vswitch_api::view::{Changes, FdbEntry, PortView};
use vswitch_api::{Mac, SwitchName};
use vswitch_client::{Method, NO_BODY, with_options, with_query};

use super::elsewhere;
use crate::cli::ovs::AppctlCommand;
use crate::commands::Session;
use crate::commands::familiar::is_local;
use crate::commands::fdb::table_of;
use crate::failure::Failure;

impl Session {
    pub(super) async fn appctl(&self, command: AppctlCommand) -> Result<(), Failure> {
        match command {
            AppctlCommand::FdbShow { bridge } => {
                let entries: Vec<FdbEntry> = self.client.get(&table_of(bridge.as_str())).await?;
                let ports: Vec<PortView> = self.client.ports().await?;
                self.out.show(&entries, |_| table(&entries, &ports))
            }
            AppctlCommand::FdbFlush { bridge, dry_run } => self.flush(bridge, dry_run).await,
            AppctlCommand::FdbAdd {
                bridge,
                port,
                vlan,
                mac,
                dry_run,
            } => {
                let entry = FdbAdd {
                    mac,
                    vlan: tag(vlan),
                    port,
                };
                let path = with_options(&table_of(bridge.as_str()), trial(dry_run))?;
                let changes: Changes = self.client.send(Method::PUT, &path, Some(&entry)).await?;
                self.quietly(&changes, dry_run)
            }
            AppctlCommand::FdbDel {
                bridge,
                vlan,
                mac,
                dry_run,
            } => {
                let changes = self.forget(&bridge, Some(mac), tag(vlan), dry_run).await?;
                self.quietly(&changes, dry_run)
            }
            AppctlCommand::Other(words) => Err(elsewhere::appctl(&words)),
        }
    }

    async fn flush(&self, bridge: Option<SwitchName>, dry_run: bool) -> Result<(), Failure> {
        let names = match bridge {
            Some(name) => vec![name],
            None => self.switch_names().await?,
        };
        let mut all = Changes {
            dry_run,
            ..Changes::default()
        };
        for name in names {
            let changes = self.forget(&name, None, None, dry_run).await?;
            all.done.extend(changes.done);
            all.changes.extend(changes.changes);
            all.warnings.extend(changes.warnings);
        }
        match dry_run || self.out.is_form() {
            true => self.out.changes(&all, dry_run),
            false => self.out.print("table successfully flushed"),
        }
    }

    async fn forget(
        &self,
        switch: &SwitchName,
        mac: Option<Mac>,
        vlan: Option<VlanId>,
        dry_run: bool,
    ) -> Result<Changes, Failure> {
        let path = with_query(&table_of(switch.as_str()), &FdbSelect { mac, vlan, port: None })?;
        let path = with_options(&path, trial(dry_run))?;
        Ok(self.client.send(Method::DELETE, &path, NO_BODY).await?)
    }
}

fn trial(dry_run: bool) -> ChangeOptions {
    ChangeOptions {
        dry_run,
        ..ChangeOptions::default()
    }
}

/// What is in no VLAN is in VLAN 0 there.
fn tag(vlan: u16) -> Option<VlanId> {
    VlanId::try_from(vlan).ok()
}

/// The table of `fdb/show`.
fn table(entries: &[FdbEntry], ports: &[PortView]) -> String {
    let mut text = String::from(" port  VLAN  MAC                Age\n");
    for entry in entries {
        let local = ports
            .iter()
            .any(|view| view.port.name == entry.port && is_local(&view.port));
        let port = if local { "LOCAL" } else { entry.port.as_str() };
        let vlan = entry.vlan.map_or(0, VlanId::get);
        let age = match entry.age_secs {
            Some(age) => format!("{age:>3}"),
            None => "static".to_owned(),
        };
        let _ = writeln!(text, "{port:>5}  {vlan:>4}  {}  {age}", entry.mac);
    }
    text
}
