//! Links between two switches.

use vswitch_api::Link;
use vswitch_api::link::LinkView;
use vswitch_api::policy::{PortVlan, TagKind, Trunk};
use vswitch_api::view::PortView;
use vswitch_client::Method;

use super::Session;
use crate::cli::link::{LinkAdd, LinkCommand};
use crate::failure::Failure;
use crate::output::{links, ports};

impl Session {
    pub(super) async fn link(&self, command: LinkCommand) -> Result<(), Failure> {
        match command {
            LinkCommand::Add(add) => {
                let options = add.addition.into();
                self.change(Method::POST, "/v1/links", options, Some(&asked(*add)))
                    .await
            }
            LinkCommand::Del { port, removal } => self.remove(&format!("/v1/links/{port}"), removal.into()).await,
            LinkCommand::Set(args) => self.set_both_ends(*args).await,
            LinkCommand::List => {
                let views: Vec<LinkView> = self.client.links().await?;
                self.out.show(&views, |style| links::table(style, &views))
            }
            LinkCommand::Show { port } => {
                let link: LinkView = self.client.get(&format!("/v1/links/{port}")).await?;
                let mut views: Vec<PortView> = Vec::new();
                for end in [&link.a, &link.b] {
                    views.push(self.client.get(&format!("/v1/ports/{}", end.port)).await?);
                }
                self.out.show(&views, |style| {
                    let pages: Vec<_> = views.iter().map(|view| ports::page(style, view)).collect();
                    pages.join("\n")
                })
            }
        }
    }
}

fn asked(add: LinkAdd) -> Link {
    let vlan = match (add.trunk, add.vlan) {
        (Some(allowed), _) => PortVlan::Trunk(Trunk {
            allowed,
            native: add.native,
            tag: TagKind::default(),
        }),
        (None, Some(vlan)) => PortVlan::Access(vlan),
        (None, None) => PortVlan::All,
    };
    Link {
        name_a: add.name_a,
        name_b: add.name_b,
        description: add.description.unwrap_or_default(),
        mtu: add.mtu,
        vlan,
        impair: add.impair,
        ..Link::new(add.a, add.b)
    }
}
