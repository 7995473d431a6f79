//! The daemon itself and what it tells.

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use vswitch_api::event::EventSelect;
use vswitch_api::request::{ChangeOptions, LogLevel};
use vswitch_api::view::Status;
use vswitch_client::Method;

use super::Session;
use crate::cli::Trial;
use crate::cli::daemon::{EventsArgs, LogLevelArgs, RestartArgs};
use crate::failure::Failure;
use crate::output::{events, switches};

/// How long a daemon that restarts may be away.
const BACK_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

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

    /// Restarts the daemon and waits until it has its ports back.
    pub(super) async fn restart(&self, args: RestartArgs) -> Result<(), Failure> {
        let before = self.client.status().await?;
        let options = ChangeOptions::from(Trial { dry_run: args.dry_run });
        let changes = self.client.restart(options).await?;
        if !args.dry_run {
            self.until_back(&before.run).await?;
        }
        self.out.changes(&changes, args.dry_run)
    }

    /// Waits for another run of the daemon than this one. As long as it brings ports back it may take its time.
    async fn until_back(&self, before: &str) -> Result<(), Failure> {
        let mut since = Instant::now();
        loop {
            match self.client.status().await {
                Ok(status) if status.run == before => {}
                Ok(status) if status.progress.is_none() => return Ok(()),
                Ok(_) => since = Instant::now(),
                Err(error) if !error.is_unreachable() => return Err(error.into()),
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
        self.out.refuse_for_stream()?;
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
