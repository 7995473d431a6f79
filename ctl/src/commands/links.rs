//! Links between two switches.

use vswitch_api::link::LinkView;
use vswitch_api::policy::{PortVlan, TagKind, Trunk};
use vswitch_api::view::{Changes, PortView};
use vswitch_api::{ApiError, ErrorCode, Link, PortName};
use vswitch_client::Method;

use super::Session;
use crate::cli::link::{LinkAdd, LinkCommand, WhichLink};
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
            LinkCommand::Del { which, removal } => match self.link_of(&which).await? {
                Some(port) => self.remove(&format!("/v1/links/{port}"), removal.into()).await,
                None if removal.if_exists => {
                    let dry_run = removal.dry_run;
                    let nothing = Changes {
                        dry_run,
                        ..Changes::default()
                    };
                    self.out.changes(&nothing, dry_run)
                }
                None => Err(no_link(&which)),
            },
            LinkCommand::Set(args) => self.set_both_ends(*args).await,
            LinkCommand::List => {
                let views: Vec<LinkView> = self.client.links().await?;
                self.out.show(&views, |style| links::table(style, &views))
            }
            LinkCommand::Show(which) => {
                let port = self.link_of(&which).await?.ok_or_else(|| no_link(&which))?;
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

    /// A port of the link that is meant; none: no link joins these switches.
    async fn link_of(&self, which: &WhichLink) -> Result<Option<PortName>, Failure> {
        let Some(other) = &which.switch else {
            return Ok(Some(which.end.clone()));
        };
        let mut pair = [which.end.as_str(), other.as_str()];
        pair.sort_unstable();
        let views: Vec<LinkView> = self.client.links().await?;
        let mut between = views.into_iter().filter(|link| {
            let mut ends = [link.a.switch.as_str(), link.b.switch.as_str()];
            ends.sort_unstable();
            ends == pair
        });
        let first = between.next().map(|link| link.a.port);
        let more: Vec<String> = between.map(|link| link.a.port.to_string()).collect();
        match first {
            Some(first) if !more.is_empty() => Err(ApiError::new(
                ErrorCode::Conflict,
                which.to_string(),
                format!("{} links join these switches", more.len() + 1),
            )
            .hint(format!("name one by its port: {first}, {}", more.join(", ")))
            .into()),
            first => Ok(first),
        }
    }
}

fn no_link(which: &WhichLink) -> Failure {
    ApiError::new(ErrorCode::NotFound, which.to_string(), "no link joins these switches")
        .hint("`vswitchctl link list` shows what does")
        .into()
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
