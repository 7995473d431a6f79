//! The daemon itself and what it tells.

use http_body_util::BodyExt;
use hyper::Method;
use jiff::tz::TimeZone;
use vswitch_api::event::EventSelect;
use vswitch_api::request::LogLevel;
use vswitch_api::view::Status;
use vswitch_api::{ApiError, ErrorCode, Event};

use super::Session;
use crate::cli::Trial;
use crate::cli::daemon::{EventsArgs, LogLevelArgs};
use crate::client::with_query;
use crate::failure::Failure;
use crate::output::{events, switches};
use crate::sse;

impl Session {
    pub(super) async fn status(&self) -> Result<(), Failure> {
        let status: Status = self.client.get("/v1/status").await?;
        self.out.show(&status, |style| switches::status(style, &status))
    }

    pub(super) async fn log_level(&self, args: LogLevelArgs) -> Result<(), Failure> {
        let Some(level) = args.level else {
            let level: LogLevel = self.client.get("/v1/log").await?;
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
        let mut body = self.client.stream(&with_query("/v1/events", &wanted)?).await?;
        let mut parser = sse::Parser::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.client.broken(&e))?;
            for data in parser.feed(frame.data_ref().map_or(&[], |bytes| bytes)) {
                let event: Event = serde_json::from_str(&data).map_err(|e| {
                    ApiError::new(ErrorCode::Internal, format!("event {data}"), e.to_string())
                        .hint("are vswitchctl and vswitchd of the same version?")
                })?;
                // The daemon's own text: one line of JSON already.
                self.out.print(&if self.out.json() {
                    data
                } else {
                    events::line(&event, &zone)
                })?;
            }
        }
        Err(Failure::unreachable(
            "events",
            "vswitchd ended the stream",
            "did the daemon stop? `vswitchctl status` tells",
        ))
    }
}
