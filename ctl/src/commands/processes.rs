//! `command` and `logs`: what runs in namespaces for labs.

use std::io::Write;

use vswitch_api::request::LogOptions;
use vswitch_api::{Command, ProcessView};
use vswitch_client::{Method, NO_BODY};

use super::Session;
use crate::cli::command::{CommandAdd, CommandCommand, LogsArgs};
use crate::failure::Failure;
use crate::output::processes;

impl Session {
    pub(super) async fn process(&self, command: CommandCommand) -> Result<(), Failure> {
        match command {
            CommandCommand::Add(add) => {
                let options = add.addition.into();
                self.change(Method::POST, "/v1/commands", options, Some(&asked(*add)?))
                    .await
            }
            CommandCommand::Del { names, removal } => {
                let paths = names.iter().map(|name| format!("/v1/commands/{name}"));
                self.remove_each(paths, removal.into()).await
            }
            CommandCommand::Restart { name, trial } => {
                let path = format!("/v1/commands/{name}/restart");
                self.change(Method::POST, &path, trial.into(), NO_BODY).await
            }
            CommandCommand::List => {
                let views: Vec<ProcessView> = self.client.processes().await?;
                self.out.show(&views, |style| processes::table(style, &views))
            }
            CommandCommand::Show { name } => {
                let view: ProcessView = self.client.process(&name.to_string()).await?;
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
        let mut log = self.client.log(&args.name.to_string(), &options).await?;
        let mut stdout = std::io::stdout().lock();
        while let Some(bytes) = log.next().await {
            stdout
                .write_all(&bytes?)
                .and_then(|()| stdout.flush())
                .map_err(Failure::Output)?;
        }
        Ok(())
    }
}

/// What is asked for, with a folder as it is seen from here.
fn asked(add: CommandAdd) -> Result<Command, Failure> {
    let dir = match add.dir {
        None => None,
        Some(dir) => {
            let whole = std::path::absolute(&dir)
                .ok()
                .and_then(|dir| dir.to_str().map(str::to_owned));
            Some(whole.ok_or_else(|| {
                let cause = format!("{dir:?} is no path that can be told in text");
                Failure::usage("--dir", cause, "write it as a whole path, such as /srv/web")
            })?)
        }
    };
    Ok(Command {
        description: add.description.unwrap_or_default(),
        dir,
        env: add.env.into_iter().map(|one| (one.name, one.value)).collect(),
        restart: add.restart.into(),
        ready: add.ready.map(|ready| vswitch_api::Ready {
            within_secs: add.within,
            ..ready
        }),
        stop_secs: add.stop,
        ..Command::new(add.name, add.ns, add.argv)
    })
}
