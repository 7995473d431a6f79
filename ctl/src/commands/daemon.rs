//! The daemon itself and what it tells.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Method;
use jiff::tz::TimeZone;
use vswitch_api::event::EventSelect;
use vswitch_api::request::{ChangeOptions, LogLevel};
use vswitch_api::view::{Changes, Status};
use vswitch_api::{ApiError, ErrorCode, Event};

use super::{Session, with_options};
use crate::cli::Trial;
use crate::cli::daemon::{EventsArgs, LogLevelArgs, RestartArgs};
use crate::client::{NO_BODY, with_query};
use crate::failure::{EXIT_UNREACHABLE, Failure};
use crate::output::{events, switches};
use crate::sse;

/// How long a daemon that restarts may be away.
const BACK_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

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

    /// Restarts the daemon and waits until it has its ports back.
    pub(super) async fn restart(&self, args: RestartArgs) -> Result<(), Failure> {
        let before: Status = self.client.get("/v1/status").await?;
        let options = ChangeOptions::from(Trial { dry_run: args.dry_run });
        let path = with_options("/v1/restart", options)?;
        let changes: Changes = self.client.send(Method::POST, &path, NO_BODY).await?;
        if !args.dry_run {
            self.until_back(&before.run).await?;
        }
        self.out.changes(&changes, args.dry_run)
    }

    /// Waits for another run of the daemon than this one. As long as it brings ports back it may take its time.
    async fn until_back(&self, before: &str) -> Result<(), Failure> {
        let mut since = Instant::now();
        loop {
            match self.client.get::<Status>("/v1/status").await {
                Ok(status) if status.run == before => {}
                Ok(status) if status.progress.is_none() => return Ok(()),
                Ok(_) => since = Instant::now(),
                Err(failure) if failure.exit_code() != EXIT_UNREACHABLE => return Err(failure),
                Err(_) => {}
            }
            if since.elapsed() > BACK_WITHIN {
                return Err(Failure::unreachable(
                    "restart",
                    format!("vswitchd is not back after {BACK_WITHIN:?}"),
                    "its log tells why: `journalctl -u vswitchd`",
                ));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
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
