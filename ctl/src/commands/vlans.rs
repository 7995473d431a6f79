//! VLANs.

use vswitch_api::request::SwitchFilter;
use vswitch_api::view::{FdbEntry, PortView};
use vswitch_api::{ApiError, ErrorCode};
use vswitch_client::with_query;

use super::Session;
use crate::cli::OnlySwitch;
use crate::cli::vlan::VlanCommand;
use crate::failure::Failure;
use crate::output::vlans;
use crate::vlans::{of_vlan, rows, unset};

impl Session {
    pub(super) async fn vlan(&self, command: VlanCommand) -> Result<(), Failure> {
        match command {
            VlanCommand::List(only) => {
                let (ports, stations) = self.read_vlans(&only).await?;
                let rows = rows(&ports, &stations);
                self.out.show(&rows, |style| vlans::table(style, &rows, &unset(&ports)))
            }
            VlanCommand::Show(args) => {
                let (ports, stations) = self.read_vlans(&args.only).await?;
                let rows = of_vlan(args.vlan, &ports, &stations);
                if rows.is_empty() {
                    let cause = "no port is in it, and no station is known there";
                    return Err(ApiError::new(ErrorCode::NotFound, format!("VLAN {}", args.vlan), cause)
                        .hint(format!(
                            "`vswitchctl set port NAME --vlan {}` puts one into it",
                            args.vlan
                        ))
                        .into());
                }
                self.out.show(&rows, |style| vlans::page(style, &rows))
            }
        }
    }

    /// The ports, and the stations that are known in a VLAN.
    async fn read_vlans(&self, only: &OnlySwitch) -> Result<(Vec<PortView>, Vec<FdbEntry>), Failure> {
        let ports = self
            .client
            .get(&with_query("/v1/ports", &SwitchFilter::from(only))?)
            .await?;
        let tables = self.tables(only.switch.clone()).await?;
        let entries = tables.into_iter().flat_map(|(_, entries)| entries);
        Ok((ports, entries.filter(|entry| entry.vlan.is_some()).collect()))
    }
}
