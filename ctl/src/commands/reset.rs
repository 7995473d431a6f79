//! `reset`: by the daemon, or without one by the program that it is.

use std::collections::HashSet;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vswitch_api::request::ChangeOptions;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode};
use vswitch_client::{Method, NO_BODY, with_options};

use super::Session;
use super::lab::confirm;
use crate::cli::lab::ResetArgs;
use crate::failure::{EXIT_UNREACHABLE, Failure};

const DAEMON: &str = "vswitchd";
/// Something is there still.
const EXIT_LEFT: u8 = 1;

impl Session {
    pub(super) async fn reset(&self, args: ResetArgs) -> Result<(), Failure> {
        if args.dry_run {
            let changes = self.reset_or_ask(&args, true).await?;
            return self.out.changes(&changes, true);
        }
        if !args.yes {
            if !io::stdin().is_terminal() {
                return Err(Failure::usage(
                    "reset",
                    "it removes everything that vswitch made, and there is no terminal to ask on",
                    "add --yes, or see with -n what would go",
                ));
            }
            confirm("reset", &self.reset_or_ask(&args, true).await?)?;
        }
        let changes = self.reset_or_ask(&args, false).await?;
        self.out.changes(&changes, false)?;
        let done: HashSet<_> = changes.done.iter().collect();
        match changes.removed.iter().all(|line| done.contains(line)) {
            true => Ok(()),
            // What could not be removed is in the warnings.
            false => Err(Failure::Reported(EXIT_LEFT)),
        }
    }

    async fn reset_or_ask(&self, args: &ResetArgs, dry_run: bool) -> Result<Changes, Failure> {
        if args.offline {
            return offline(args, dry_run);
        }
        let options = ChangeOptions {
            dry_run,
            ..ChangeOptions::default()
        };
        let path = with_options("/v1/reset", options)?;
        let reply = self.client.send(Method::POST, &path, NO_BODY).await;
        reply.map_err(|error| match Failure::from(error) {
            Failure::Error { mut error, exit } if exit == EXIT_UNREACHABLE => {
                let hint = error.hint.take().map_or(String::new(), |hint| format!("{hint}; "));
                let error = error.hint(format!("{hint}without a daemon: `vswitchctl reset --offline`"));
                Failure::Error { error, exit }
            }
            other => other,
        })
    }
}

/// Has the daemon's program do it, which knows what there is and takes the lock. Its log is on standard error.
fn offline(args: &ResetArgs, dry_run: bool) -> Result<Changes, Failure> {
    let program = program();
    let mut command = Command::new(&program);
    command.args(["--reset", "--json", "--log-level", "error"]);
    command.args(dry_run.then_some("--dry-run"));
    for (option, path) in [
        ("--config", &args.config),
        ("--run-dir", &args.run_dir),
        ("--state-dir", &args.state_dir),
    ] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let object = program.display().to_string();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let cause = "it is neither beside vswitchctl nor in PATH";
            ApiError::new(ErrorCode::NotFound, object.clone(), cause)
                .hint("install it, or run `vswitchd --reset` where it is")
        }
        _ => ApiError::new(ErrorCode::Internal, object.clone(), format!("it can't be run: {error}")),
    })?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout).map_err(|error| {
            let cause = format!("it does not say what it did: {error}");
            let error = ApiError::new(ErrorCode::Internal, object, cause);
            error.hint("are vswitchctl and vswitchd of the same version?").into()
        });
    }
    if let Ok(error) = serde_json::from_slice::<ApiError>(&output.stdout) {
        return Err(error.into());
    }
    match output.status.code() {
        // It has said why.
        Some(code) => Err(Failure::Reported(u8::try_from(code).unwrap_or(1))),
        None => {
            let cause = format!("it ended by a signal: {}", output.status);
            let error = ApiError::new(ErrorCode::Internal, object, cause);
            Err(error.hint("do it again: what is left is removed then").into())
        }
    }
}

/// The daemon of this very installation, if there is one.
pub(super) fn program() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|dir| dir.join(DAEMON));
    beside.filter(|path| path.exists()).unwrap_or_else(|| DAEMON.into())
}
