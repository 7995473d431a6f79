//! Mirrors.

use hyper::Method;
use vswitch_api::mirror::{Mirror, MirrorFilter, MirrorView};

use super::Session;
use super::capture::compile;
use crate::cli::mirror::MirrorCommand;
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
                let filter = filter
                    .map(|expression| {
                        compile(&expression).map(|program| MirrorFilter {
                            expression,
                            program: Some(program),
                        })
                    })
                    .transpose()?;
                let mirror = Mirror {
                    name,
                    switch,
                    ports: from,
                    rules_only,
                    direction: direction.into(),
                    vlans,
                    to,
                    to_vlan,
                    filter,
                };
                self.change(Method::POST, "/v1/mirrors", addition.into(), Some(&mirror))
                    .await
            }
            MirrorCommand::Del { name, removal } => self.remove(&format!("/v1/mirrors/{name}"), removal.into()).await,
            MirrorCommand::List => {
                let views: Vec<MirrorView> = self.client.get("/v1/mirrors").await?;
                self.out.show(&views, |style| mirrors::table(style, &views))
            }
            MirrorCommand::Show { name } => {
                let view: MirrorView = self.client.get(&format!("/v1/mirrors/{name}")).await?;
                self.out.show(&view, |style| mirrors::page(style, &view))
            }
        }
    }
}
