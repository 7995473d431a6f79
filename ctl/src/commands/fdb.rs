//! The forwarding database.

use vswitch_api::policy::VlanId;
use vswitch_api::request::{FdbAdd, FdbSelect};
use vswitch_api::view::{FdbEntry, SwitchView};
use vswitch_api::{DEFAULT_SWITCH, Mac, PortName, SwitchName};
use vswitch_client::{Method, with_query};

use super::Session;
use crate::cli::switch::{FdbArgs, FdbCommand, FdbFilter};
use crate::failure::Failure;
use crate::output::switches;

impl Session {
    pub(super) async fn fdb(&self, args: FdbArgs) -> Result<(), Failure> {
        if args.command.is_some() && args.filter != FdbFilter::default() {
            return Err(Failure::usage(
                "fdb",
                "--port, --vlan and --mac stand behind the verb that they are for",
                "for example `vswitchctl fdb list --port red`",
            ));
        }
        match args.command {
            None => self.show_fdb(args.switch, &args.filter).await,
            Some(FdbCommand::List(filter)) => self.show_fdb(args.switch, &filter).await,
            Some(FdbCommand::Add {
                mac,
                port,
                vlan,
                addition,
            }) => {
                let path = self.table_of_port(args.switch, Some(&port)).await?;
                let entry = FdbAdd { mac, vlan, port };
                self.change(Method::PUT, &path, addition.into(), Some(&entry)).await
            }
            Some(FdbCommand::Del { mac, vlan, removal }) => {
                let path = self.table_with(args.switch, mac, vlan).await?;
                let (mac, port) = (Some(mac), None);
                let path = with_query(&path, &FdbSelect { mac, vlan, port })?;
                self.remove(&path, removal.into()).await
            }
            Some(FdbCommand::Flush { port, vlan, trial }) => {
                let path = self.table_of_port(args.switch, port.as_ref()).await?;
                let path = with_query(&path, &FdbSelect { mac: None, vlan, port })?;
                self.remove(&path, trial.into()).await
            }
        }
    }

    /// The table that is meant: that of the switch of a port, if none is said.
    async fn table_of_port(&self, said: Option<SwitchName>, port: Option<&PortName>) -> Result<String, Failure> {
        Ok(match (said, port) {
            (Some(switch), _) => table_of(switch.as_str()),
            (None, Some(port)) => table_of(self.client.port(port).await?.port.switch.as_str()),
            (None, None) => table_of(DEFAULT_SWITCH),
        })
    }

    /// The table that is meant: the one that has the entry, if none is said.
    async fn table_with(&self, said: Option<SwitchName>, mac: Mac, vlan: Option<VlanId>) -> Result<String, Failure> {
        if let Some(switch) = said {
            return Ok(table_of(switch.as_str()));
        }
        let mut tables = self.tables(None).await?;
        tables.retain(|(_, entries)| {
            entries
                .iter()
                .any(|entry| entry.mac == mac && (vlan.is_none() || entry.vlan == vlan))
        });
        match &tables[..] {
            [] => Ok(table_of(DEFAULT_SWITCH)),
            [(switch, _)] => Ok(table_of(switch.as_str())),
            several => {
                let names: Vec<_> = several.iter().map(|(switch, _)| switch.as_str()).collect();
                let cause = format!("{mac} is in the tables of switches {}", names.join(", "));
                Err(Failure::usage(
                    "fdb",
                    cause,
                    format!("say which with --switch {}", names[0]),
                ))
            }
        }
    }

    async fn show_fdb(&self, only: Option<SwitchName>, filter: &FdbFilter) -> Result<(), Failure> {
        if let Some(port) = &filter.port {
            self.client.port(port).await?;
        }
        let mut tables = self.tables(only).await?;
        for (_, entries) in &mut tables {
            entries.retain(|entry| filter.takes(entry));
        }
        // One list, as each entry tells its switch.
        let all: Vec<&FdbEntry> = tables.iter().flat_map(|(_, entries)| entries).collect();
        self.out.show(&all, |style| switches::fdb(style, &tables))
    }

    /// The names of all switches.
    pub(super) async fn switch_names(&self) -> Result<Vec<SwitchName>, Failure> {
        let views: Vec<SwitchView> = self.client.switches().await?;
        Ok(views.into_iter().map(|view| view.switch.name).collect())
    }

    /// The forwarding databases of one switch or of all.
    pub(super) async fn tables(&self, only: Option<SwitchName>) -> Result<Vec<(SwitchName, Vec<FdbEntry>)>, Failure> {
        let names = match only {
            Some(name) => vec![name],
            None => self.switch_names().await?,
        };
        let mut tables = Vec::new();
        for name in names {
            let entries: Vec<FdbEntry> = self.client.get(&table_of(name.as_str())).await?;
            tables.push((name, entries));
        }
        Ok(tables)
    }
}

pub(super) fn table_of(switch: &str) -> String {
    format!("/v1/switches/{switch}/fdb")
}
