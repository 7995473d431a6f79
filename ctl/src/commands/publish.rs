//! What is published.

use vswitch_api::patch::MergePatch;
use vswitch_api::request::ChangeOptions;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode, PortName, Publish};

use super::Session;
use super::patch::value;
use crate::cli::publish::{PublishAdd, PublishArgs, PublishCommand};
use crate::failure::Failure;
use crate::output::ports::{self, PublishedPort};

impl Session {
    pub(super) async fn publish(&self, args: PublishArgs) -> Result<(), Failure> {
        match (args.command, args.add) {
            (Some(PublishCommand::Add(add)), _) | (None, Some(add)) => self.publish_add(add).await,
            (Some(PublishCommand::Del { port, numbers, removal }), _) => {
                let absent = !removal.if_exists;
                let ended = self.republish(&port, removal.into(), |there| {
                    if let Some(lacking) = numbers.iter().find(|number| absent && !there.contains(number)) {
                        let object = format!("port \"{port}\"");
                        return Err(
                            ApiError::new(ErrorCode::NotFound, object, format!("{lacking} is not published"))
                                .hint("`vswitchctl publish list` shows what is"),
                        );
                    }
                    there.retain(|old| !numbers.contains(old));
                    Ok(())
                });
                match ended.await {
                    // The port itself is not there.
                    Err(Failure::Error { error, .. }) if !absent && error.code == ErrorCode::NotFound => {
                        self.out.changes(&Changes::default(), removal.dry_run)
                    }
                    ended => ended,
                }
            }
            (Some(PublishCommand::List(of)), _) => {
                let views = self.ports_of(&of).await?;
                let rows = views.iter().flat_map(|view| {
                    view.port.publish.iter().map(|publish| PublishedPort {
                        port: &view.port.name,
                        switch: &view.port.switch,
                        outside: publish.outside,
                        inside: publish.inside,
                        protocol: publish.protocol.word(),
                    })
                });
                let rows: Vec<_> = rows.collect();
                self.out.show(&rows, |style| ports::published(style, &rows))
            }
            (None, None) => Err(Failure::usage(
                "publish",
                "no port is named",
                "see `vswitchctl publish --help`",
            )),
        }
    }

    async fn publish_add(&self, add: PublishAdd) -> Result<(), Failure> {
        let PublishAdd { port, numbers, .. } = add;
        let taken = !add.if_not_exists;
        let options = ChangeOptions {
            dry_run: add.dry_run,
            force: add.force,
            ..ChangeOptions::default()
        };
        self.republish(&port, options, |there| {
            for number in &numbers {
                if there.contains(number) {
                    if taken {
                        let object = format!("port \"{port}\"");
                        return Err(ApiError::new(
                            ErrorCode::Conflict,
                            object,
                            format!("{number} is published already"),
                        ));
                    }
                    continue;
                }
                there.push(*number);
            }
            Ok(())
        })
        .await
    }

    /// Changes what is there, whoever else does so at the same time.
    async fn republish(
        &self,
        port: &PortName,
        options: ChangeOptions,
        change: impl Fn(&mut Vec<Publish>) -> Result<(), ApiError>,
    ) -> Result<(), Failure> {
        let path = format!("/v1/ports/{port}");
        self.patch_as_it_is(&path, &path, options, |now| {
            let mut all = now.port.publish.clone();
            change(&mut all)?;
            Ok(MergePatch::default().with("publish", value(&all)))
        })
        .await
    }
}
