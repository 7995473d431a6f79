//! Namespaces and cables.

use hyper::Method;
use vswitch_api::request::{ChangeOptions, NamespaceAdd};
use vswitch_api::view::{NamespaceSummary, NamespaceView};
use vswitch_api::{Cable, CableEnd};

use super::Session;
use crate::cli::namespace::{CableAdd, CableArgs, CableCommand, NsCommand};
use crate::failure::Failure;
use crate::output::namespaces;

impl Session {
    pub(super) async fn namespace(&self, command: NsCommand) -> Result<(), Failure> {
        match command {
            NsCommand::Add { name, addition } => {
                self.change(
                    Method::POST,
                    "/v1/namespaces",
                    addition.into(),
                    Some(&NamespaceAdd { name }),
                )
                .await
            }
            NsCommand::Del { name, removal } => self.remove(&format!("/v1/namespaces/{name}"), removal.into()).await,
            NsCommand::List => {
                let views: Vec<NamespaceSummary> = self.client.get("/v1/namespaces").await?;
                self.out.show(&views, |style| namespaces::table(style, &views))
            }
            NsCommand::Show { name } => {
                let view: NamespaceView = self.client.get(&format!("/v1/namespaces/{name}")).await?;
                self.out.show(&view, |style| namespaces::page(style, &view))
            }
            NsCommand::Exec { name, command } => Err(super::exec::run(&name, &command)),
        }
    }

    pub(super) async fn cable(&self, args: CableArgs) -> Result<(), Failure> {
        match (args.command, args.add) {
            (Some(CableCommand::Add(add)), _) | (None, Some(add)) => self.add_cable(add).await,
            (Some(CableCommand::Del { a, b, removal }), _) => {
                self.remove(&format!("/v1/cables/{a}/{b}"), removal.into()).await
            }
            (Some(CableCommand::List), _) => {
                let cables: Vec<Cable> = self.client.get("/v1/cables").await?;
                self.out.show(&cables, |style| namespaces::cables(style, &cables))
            }
            (None, None) => Err(Failure::usage(
                "cable",
                "it has two ends",
                "name the namespaces that it joins",
            )),
        }
    }

    async fn add_cable(&self, add: CableAdd) -> Result<(), Failure> {
        let options = ChangeOptions {
            dry_run: add.dry_run,
            idempotent: add.if_not_exists,
            ..ChangeOptions::default()
        };
        let cable = Cable {
            a: CableEnd {
                namespace: add.a,
                ifname: add.name_a,
                mac: None,
                addresses: add.addr_a,
            },
            b: CableEnd {
                namespace: add.b,
                ifname: add.name_b,
                mac: None,
                addresses: add.addr_b,
            },
        };
        self.change(Method::POST, "/v1/cables", options, Some(&cable)).await
    }
}
