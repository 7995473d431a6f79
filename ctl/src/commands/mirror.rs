//! Mirrors.

use vswitch_api::capture::Direction;
use vswitch_api::mirror::{MirrorFilter, MirrorView};
use vswitch_api::patch::MergePatch;
use vswitch_api::settings::is_back;
use vswitch_client::Method;

use super::Session;
use super::capture::compile;
use super::patch::{value, with_said};
use crate::cli::mirror::{MirrorCommand, MirrorSet, Ports};
use crate::failure::Failure;
use crate::output::mirrors;

impl Session {
    pub(super) async fn mirror(&self, command: MirrorCommand) -> Result<(), Failure> {
        match command {
            MirrorCommand::Add {
                name,
                from,
                rules_only,
                to,
                to_vlan,
                vlans,
                direction,
                filter,
                switch,
                addition,
            } => {
                let filter = filter.map(compiled).transpose()?;
                let said = [
                    ("name", Some(value(name))),
                    ("switch", switch.map(value)),
                    ("ports", (!from.is_empty()).then(|| value(from))),
                    ("rules_only", rules_only.then(|| true.into())),
                    ("direction", direction.map(|way| value(Direction::from(way)))),
                    ("vlans", vlans.map(value)),
                    ("to", to.map(value)),
                    ("to_vlan", to_vlan.map(value)),
                    ("filter", filter.map(value)),
                ];
                let mirror = with_said(MergePatch::default(), said);
                self.change(Method::POST, "/v1/mirrors", addition.into(), Some(&mirror))
                    .await
            }
            MirrorCommand::Set(args) => self.set_mirror(*args).await,
            MirrorCommand::Del { name, removal } => self.remove(&format!("/v1/mirrors/{name}"), removal.into()).await,
            MirrorCommand::List => {
                let views: Vec<MirrorView> = self.client.mirrors().await?;
                self.out.show(&views, |style| mirrors::table(style, &views))
            }
            MirrorCommand::Show { name } => {
                let view: MirrorView = self.client.get(&format!("/v1/mirrors/{name}")).await?;
                self.out.show(&view, |style| mirrors::page(style, &view))
            }
        }
    }

    async fn set_mirror(&self, args: MirrorSet) -> Result<(), Failure> {
        let MirrorSet {
            name,
            from,
            rules_only,
            to,
            to_vlan,
            vlans,
            direction,
            filter,
            trial,
        } = args;
        let mut patch = MergePatch::default();
        if let Some(Ports(ports)) = from {
            patch = patch.with("ports", value(ports)).with("rules_only", false);
        }
        if rules_only {
            patch = patch.with("ports", value([""; 0])).with("rules_only", true);
        }
        if to.is_some() || to_vlan.is_some() {
            patch = patch.with("to", value(to)).with("to_vlan", value(to_vlan));
        }
        if let Some(vlans) = vlans {
            patch = patch.with("vlans", value(vlans.to()));
        }
        if let Some(direction) = direction {
            patch = patch.with("direction", value(Direction::from(direction)));
        }
        if let Some(expression) = filter {
            let filter = (!is_back(&expression)).then(|| compiled(expression)).transpose()?;
            patch = patch.with("filter", value(filter));
        }
        let path = format!("/v1/mirrors/{name}");
        self.change(Method::PATCH, &path, trial.into(), Some(&patch)).await
    }
}

/// The daemon wants a filter as a program.
fn compiled(expression: String) -> Result<MirrorFilter, Failure> {
    let program = compile(&expression)?;
    Ok(MirrorFilter {
        expression,
        program: Some(program),
    })
}
