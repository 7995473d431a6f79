//! The daemon itself and what it tells.

use jiff::tz::TimeZone;
use vswitch_api::event::EventSelect;
use vswitch_api::request::LogLevel;
use vswitch_api::view::Status;
use vswitch_client::Method;

use super::Session;
use crate::cli::Trial;
use crate::cli::daemon::{EventsArgs, LogLevelArgs};
use crate::failure::Failure;
use crate::output::{events, switches};

impl Session {
    pub(super) async fn status(&self) -> Result<(), Failure> {
        let status: Status = self.client.status().await?;
        self.out.show(&status, |style| switches::status(style, &status))
    }

    pub(super) async fn log_level(&self, args: LogLevelArgs) -> Result<(), Failure> {
        let Some(level) = args.level else {
            let level: LogLevel = self.client.log_level().await?;
            return self.out.show(&level, |_| level.level.clone());
        };
        let trial = Trial { dry_run: args.dry_run };
        self.change(Method::PUT, "/v1/log", trial.into(), Some(&LogLevel { level }))
            .await
    }

    /// Runs until the daemon stops, or the reader of the output has gone.
    pub(super) async fn events(&self, args: EventsArgs) -> Result<(), Failure> {
        let zone = TimeZone::system();
        let kinds = args.kind.join(",");
        let wanted = EventSelect {
            // The parser of arguments has let no other word through.
            kind: (!kinds.is_empty()).then(|| kinds.parse().ok()).flatten(),
            port: args.port,
            switch: args.only.switch,
            since: args.since,
        };
        let mut happened = self.client.events(&wanted).await?;
        if self.out.json() {
            // The daemon's own text: one line of JSON already.
            while let Some(text) = happened.next_text().await {
                self.out.print(&text?)?;
            }
        } else {
            while let Some(event) = happened.next().await {
                self.out.print(&events::line(&event?, &zone))?;
            }
        }
        Err(Failure::unreachable(
            "events",
            "vswitchd ended the stream",
            "did the daemon stop? `vswitchctl status` tells",
        ))
    }
}
