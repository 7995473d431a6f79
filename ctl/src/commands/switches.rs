//! Switches, settings, and the overview of all.

use std::time::Duration;

use serde::Serialize;
use vswitch_api::ReservedMulticast;
use vswitch_api::event::EventSelect;
use vswitch_api::patch::MergePatch;
use vswitch_api::request::{ChangeOptions, SwitchFilter};
use vswitch_api::view::{PortView, SwitchView};
use vswitch_client::Method;

use super::Session;
use super::patch::{value, with_keys, with_said};
use crate::cli::acl::AclCommand;
use crate::cli::link::LinkCommand;
use crate::cli::mirror::MirrorCommand;
use crate::cli::namespace::NsCommand;
use crate::cli::switch::{SetCommand, SetSwitch, SwitchCommand};
use crate::cli::{OnlySwitch, ShowArgs};
use crate::failure::Failure;
use crate::output::{Style, switches};

/// What `show` prints as JSON.
#[derive(Serialize)]
struct Overview {
    switches: Vec<SwitchView>,
    ports: Vec<PortView>,
}

impl Overview {
    fn text(&self, style: Style, wide: bool) -> String {
        switches::overview(style, &self.switches, &self.ports, wide)
    }
}

/// How often `show --watch` looks though nothing was told.
const EACH: Duration = Duration::from_secs(1);
/// So long it waits for what is told together.
const CROWD: Duration = Duration::from_millis(50);

impl Session {
    pub(super) async fn overview(&self, args: ShowArgs) -> Result<(), Failure> {
        if args.watch {
            return self.watch(&args.only).await;
        }
        let overview = self.read_overview(&args.only).await?;
        self.out.show(&overview, |style| overview.text(style, self.out.wide()))
    }

    async fn read_overview(&self, only: &OnlySwitch) -> Result<Overview, Failure> {
        let switches = match &only.switch {
            Some(name) => vec![self.client.switch(name).await?],
            None => self.client.switches().await?,
        };
        let ports = self.client.ports_of(&SwitchFilter::from(only)).await?;
        Ok(Overview { switches, ports })
    }

    /// Shows it over and over, until the user or the daemon ends it. Events wake it, so that what comes and goes is seen at once;
    /// counters tell nothing of themselves and are looked at each second.
    async fn watch(&self, only: &OnlySwitch) -> Result<(), Failure> {
        let mut events = self.client.events(&EventSelect::default()).await?;
        let mut last = String::new();
        loop {
            let overview = self.read_overview(only).await?;
            let text = self
                .out
                .text(&overview, |style| overview.text(style, self.out.wide()))?;
            if text != last {
                self.out.redraw(&text)?;
                last = text;
            }
            match tokio::time::timeout(EACH, events.next_text()).await {
                // They come in crowds.
                Ok(Some(Ok(_))) => tokio::time::sleep(CROWD).await,
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => {
                    return Err(Failure::unreachable(
                        "show --watch",
                        "vswitchd ended the stream of events",
                        "did the daemon stop? `vswitchctl status` tells",
                    ));
                }
                Err(_) => {}
            }
        }
    }

    pub(super) async fn switch(&self, command: SwitchCommand) -> Result<(), Failure> {
        match command {
            SwitchCommand::Add {
                name,
                ageing,
                fdb_capacity,
                reserved_multicast,
                description,
                way,
                force,
                addition,
            } => {
                let options = ChangeOptions {
                    force,
                    ..addition.into()
                };
                let reserved: Option<ReservedMulticast> = reserved_multicast.map(Into::into);
                let said = [
                    ("name", Some(value(name))),
                    ("description", description.map(value)),
                    ("ageing_secs", ageing.map(value)),
                    ("fdb_capacity", fdb_capacity.map(value)),
                    ("reserved_multicast", reserved.map(value)),
                    ("subnets", (!way.subnets.is_empty()).then(|| value(way.subnets))),
                    ("gateway", way.gateway.map(value)),
                    ("nat", way.nat.then(|| true.into())),
                    ("uplinks", (!way.uplinks.is_empty()).then(|| value(way.uplinks))),
                    ("dhcp", way.dhcp.then(|| true.into())),
                    ("dns", way.dns.then(|| true.into())),
                ];
                let switch = with_said(MergePatch::default(), said);
                self.change(Method::POST, "/v1/switches", options, Some(&switch)).await
            }
            SwitchCommand::Del { name, removal } => self.remove(&format!("/v1/switches/{name}"), removal.into()).await,
            SwitchCommand::List => {
                let views: Vec<SwitchView> = self.client.switches().await?;
                self.out.show(&views, |style| switches::table(style, &views))
            }
            SwitchCommand::Show { name } => {
                let view: SwitchView = self.client.switch(&name).await?;
                self.out.show(&view, |style| switches::page(style, &view))
            }
            SwitchCommand::Set(args) => self.set_switch(args).await,
        }
    }

    pub(super) async fn set(&self, command: SetCommand) -> Result<(), Failure> {
        match command {
            SetCommand::Port(args) => self.set_port(*args).await,
            SetCommand::Switch(args) => self.set_switch(args).await,
            SetCommand::Link(args) => self.link(LinkCommand::Set(args)).await,
            SetCommand::Ns(args) => self.namespace(NsCommand::Set(args)).await,
            SetCommand::Cable(args) => self.set_cable(args).await,
            SetCommand::Mirror(args) => self.mirror(MirrorCommand::Set(args)).await,
            SetCommand::Acl(args) => self.acl(AclCommand::Set(args)).await,
        }
    }

    async fn set_switch(&self, args: SetSwitch) -> Result<(), Failure> {
        let reserved: Option<ReservedMulticast> = args.reserved_multicast.map(Into::into);
        let said = [
            ("ageing_secs", args.ageing.map(|said| value(said.to()))),
            ("reserved_multicast", reserved.map(value)),
            // 0 is no limit.
            (
                "vlan_limit",
                args.vlan_limit
                    .map(|limit| value(Some(limit).filter(|limit| *limit > 0))),
            ),
            ("rspan_vlans", args.rspan_vlans.map(|list| value(list.0))),
            ("loop_guard", args.loop_guard.map(|switched| value(switched.said()))),
            ("flap_moves", args.flap_moves.map(|said| value(said.to()))),
            ("flap_secs", args.flap_secs.map(|said| value(said.to()))),
        ];
        let patch = with_keys(with_said(MergePatch::default(), said), &args.keys)?;
        let path = format!("/v1/switches/{}", args.name);
        let options = ChangeOptions {
            force: args.force,
            ..args.trial.into()
        };
        self.change(Method::PATCH, &path, options, Some(&patch)).await
    }
}
