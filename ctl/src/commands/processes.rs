//! `command` and `logs`: what runs in namespaces for labs.

use std::io::Write;

use http_body_util::BodyExt;
use vswitch_api::ProcessView;
use vswitch_api::request::LogOptions;

use super::Session;
use crate::cli::command::{CommandCommand, LogsArgs};
use crate::client::with_query;
use crate::failure::Failure;
use crate::output::processes;

impl Session {
    pub(super) async fn process(&self, command: CommandCommand) -> Result<(), Failure> {
        match command {
            CommandCommand::List => {
                let views: Vec<ProcessView> = self.client.get("/v1/processes").await?;
                self.out.show(&views, |style| processes::table(style, &views))
            }
            CommandCommand::Show { name } => {
                let view: ProcessView = self.client.get(&format!("/v1/processes/{name}")).await?;
                self.out.show(&view, |style| processes::page(style, &view))
            }
        }
    }

    /// As it was written, byte for byte.
    pub(super) async fn logs(&self, args: LogsArgs) -> Result<(), Failure> {
        let options = LogOptions {
            lines: Some(args.lines),
            follow: args.follow,
        };
        let path = with_query(&format!("/v1/processes/{}/log", args.name), &options)?;
        let mut body = self.client.stream(&path).await?;
        let mut stdout = std::io::stdout().lock();
        while let Some(part) = body.frame().await {
            let part = part.map_err(|e| self.client.broken(&e))?;
            let bytes = part.data_ref().map_or(&[][..], |bytes| bytes);
            stdout
                .write_all(bytes)
                .and_then(|()| stdout.flush())
                .map_err(Failure::Output)?;
        }
        Ok(())
    }
}
