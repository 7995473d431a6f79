//! Switches, settings, and the overview of all.

use hyper::Method;
use serde::Serialize;
use vswitch_api::Switch;
use vswitch_api::request::{ChangeOptions, SwitchFilter, SwitchPatch};
use vswitch_api::view::{PortView, SwitchView};

use super::Session;
use crate::cli::OnlySwitch;
use crate::cli::parse::Switched;
use crate::cli::switch::{SetCommand, SwitchCommand};
use crate::client::with_query;
use crate::failure::Failure;
use crate::output::switches;

/// What `show` prints as JSON.
#[derive(Serialize)]
struct Overview {
    switches: Vec<SwitchView>,
    ports: Vec<PortView>,
}

impl Session {
    pub(super) async fn overview(&self, only: OnlySwitch) -> Result<(), Failure> {
        let switches = match &only.switch {
            Some(name) => vec![self.client.get(&format!("/v1/switches/{name}")).await?],
            None => self.client.get("/v1/switches").await?,
        };
        let ports = self
            .client
            .get(&with_query("/v1/ports", &SwitchFilter::from(only))?)
            .await?;
        let overview = Overview { switches, ports };
        self.out.show(&overview, |style| {
            switches::overview(style, &overview.switches, &overview.ports)
        })
    }

    pub(super) async fn switch(&self, command: SwitchCommand) -> Result<(), Failure> {
        match command {
            SwitchCommand::Add {
                name,
                ageing,
                fdb_capacity,
                reserved_multicast,
                addition,
            } => {
                let reserved_multicast = reserved_multicast.into();
                let switch = Switch {
                    ageing_secs: ageing,
                    fdb_capacity,
                    reserved_multicast,
                    ..Switch::new(name)
                };
                self.change(Method::POST, "/v1/switches", addition.into(), Some(&switch))
                    .await
            }
            SwitchCommand::Del { name, removal } => self.remove(&format!("/v1/switches/{name}"), removal.into()).await,
            SwitchCommand::List => {
                let views: Vec<SwitchView> = self.client.get("/v1/switches").await?;
                self.out.show(&views, |style| switches::table(style, &views))
            }
            SwitchCommand::Show { name } => {
                let view: SwitchView = self.client.get(&format!("/v1/switches/{name}")).await?;
                self.out.show(&view, |style| switches::page(style, &view))
            }
        }
    }

    pub(super) async fn set(&self, command: SetCommand) -> Result<(), Failure> {
        match command {
            SetCommand::Port(args) => self.set_port(args).await,
            SetCommand::Switch(args) => {
                let patch = SwitchPatch {
                    ageing_secs: args.ageing,
                    reserved_multicast: args.reserved_multicast.map(Into::into),
                    vlan_limit: args.vlan_limit,
                    rspan_vlans: args.rspan_vlans.map(|list| list.0),
                    loop_guard: args.loop_guard.map(|switched| switched == Switched::On),
                    flap_moves: args.flap_moves,
                    flap_secs: args.flap_secs,
                };
                let path = format!("/v1/switches/{}", args.name);
                self.change(Method::PATCH, &path, ChangeOptions::default(), Some(&patch))
                    .await
            }
        }
    }
}
