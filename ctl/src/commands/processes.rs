//! `command` and `logs`: what runs in namespaces for labs.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::json;
use vswitch_api::command::Restart;
use vswitch_api::patch::MergePatch;
use vswitch_api::request::LogOptions;
use vswitch_api::{ErrorCode, ProcessView};
use vswitch_client::{Error, Method, NO_BODY};

use super::Session;
use super::patch::{value, with_said};
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

    /// As it was written, byte for byte; for programs an object for each line, whose text is UTF-8.
    pub(super) async fn logs(&self, args: LogsArgs) -> Result<(), Failure> {
        self.out.refuse_for_stream()?;
        let options = LogOptions {
            lines: Some(args.lines),
            follow: args.follow,
        };
        let mut log = self.client.log(&args.name.to_string(), &options).await?;
        if self.out.json() {
            let mut lines = Lines::default();
            while let Some(bytes) = log.next().await {
                for line in lines.of(&bytes?) {
                    self.out.print(&json!({ "line": line }).to_string())?;
                }
            }
            if let Some(line) = lines.rest() {
                self.out.print(&json!({ "line": line }).to_string())?;
            }
            return self.log_ended(&args).await;
        }
        let mut stdout = std::io::stdout().lock();
        while let Some(bytes) = log.next().await {
            stdout
                .write_all(&bytes?)
                .and_then(|()| stdout.flush())
                .map_err(Failure::Output)?;
        }
        drop(stdout);
        self.log_ended(&args).await
    }

    /// A log that is followed ends with its command, or with the daemon, which is told.
    async fn log_ended(&self, args: &LogsArgs) -> Result<(), Failure> {
        let name = &args.name;
        match self.client.process(&name.to_string()).await {
            _ if !args.follow => Ok(()),
            Err(Error::Daemon(error)) if error.code == ErrorCode::NotFound => Ok(()),
            _ => Err(Failure::unreachable(
                format!("log of command \"{name}\""),
                "vswitchd ended it",
                "did the daemon stop or restart? The command goes on, and a daemon that is back has its log",
            )),
        }
    }
}

/// Bytes after which a line that has no end is told as one, lest all of it is kept.
const LONGEST_LINE: usize = 64 * 1024;

/// Lines out of what comes in parts.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// Those that end in this part.
    fn of(&mut self, part: &[u8]) -> Vec<String> {
        // What is here already has no end.
        let end = part.iter().rposition(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.0.len() + end) else {
            self.0.extend_from_slice(part);
            return match self.0.len() < LONGEST_LINE {
                true => Vec::new(),
                false => std::mem::take(self).rest().into_iter().collect(),
            };
        };
        self.0.extend_from_slice(part);
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        let lines = whole[..end].split(|byte| *byte == b'\n');
        lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
    }

    /// What comes last, without an end.
    fn rest(self) -> Option<String> {
        (!self.0.is_empty()).then(|| String::from_utf8_lossy(&self.0).into_owned())
    }
}

/// What is asked for, with a folder as it is seen from here.
fn asked(add: CommandAdd) -> Result<MergePatch, Failure> {
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
    let env: BTreeMap<_, _> = add.env.into_iter().map(|one| (one.name, one.value)).collect();
    let said = [
        ("name", Some(value(add.name))),
        ("description", add.description.map(value)),
        ("namespace", Some(value(add.ns))),
        ("argv", Some(value(add.argv))),
        ("dir", dir.map(value)),
        ("env", (!env.is_empty()).then(|| value(env))),
        ("restart", add.restart.map(|again| value(Restart::from(again)))),
        ("ready", add.ready.map(value)),
        ("stop_secs", add.stop.map(value)),
    ];
    let patch = with_said(MergePatch::default(), said);
    Ok(match add.within {
        Some(within) => patch.with("ready.within_secs", within),
        None => patch,
    })
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_LINE, Lines};

    #[test]
    fn lines_come_whole() {
        let mut lines = Lines::default();
        assert!(lines.of(b"on").is_empty());
        assert_eq!(lines.of(b"e\n\ntwo\nthr\xff"), ["one", "", "two"]);
        assert_eq!(lines.rest().unwrap(), "thr\u{fffd}");
        assert_eq!(Lines::default().rest(), None);

        let mut lines = Lines::default();
        let dots = vec![b'.'; LONGEST_LINE - 1];
        assert!(lines.of(&dots).is_empty());
        assert_eq!(lines.of(b".").len(), 1, "not kept for ever");
        assert_eq!(lines.of(b"new\n"), ["new"]);
    }
}
