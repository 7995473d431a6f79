//! How a command fails: an error in the API's form, with the exit code of the tool.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use nix::unistd::{Gid, Group};
use serde_json::Value;
use vswitch_api::{ApiError, ErrorCode};
use vswitch_client::Error;

use crate::output::tell;
use crate::output::units::printable;

/// Exit code when the daemon can't be reached, or went away.
pub const EXIT_UNREACHABLE: u8 = 3;

/// Why a command ended without success.
#[derive(Debug)]
pub enum Failure {
    /// Something to tell.
    Error {
        /// What.
        error: ApiError,
        /// Exit code of the tool.
        exit: u8,
    },
    /// Told already, as when one of several ports could not be removed.
    Reported(u8),
    /// Standard output could not be written to.
    Output(io::Error),
}

impl Failure {
    /// The command line asks for something that can't be.
    pub fn usage(object: impl Into<String>, cause: impl Into<String>, hint: impl Into<String>) -> Self {
        ApiError::new(ErrorCode::Invalid, object, cause).hint(hint).into()
    }

    /// The daemon can't be reached, or went away.
    pub fn unreachable(object: impl Into<String>, cause: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error {
            error: ApiError::new(ErrorCode::Internal, object, cause).hint(hint),
            exit: EXIT_UNREACHABLE,
        }
    }

    /// The system refuses something that the tool itself needs.
    pub fn system(object: impl Into<String>, error: &io::Error) -> Self {
        ApiError::new(ErrorCode::Internal, object, error.to_string()).into()
    }

    /// Exit code of the tool.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Error { exit, .. } | Self::Reported(exit) => *exit,
            // The reader of a pipe has seen enough, as in `vswitchctl show | head -3`.
            Self::Output(e) if e.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => 1,
        }
    }

    /// Tells it on standard error: one line, or one JSON object.
    pub fn report(&self, json: bool) -> ExitCode {
        match self {
            Self::Error { error, exit } => report(error, *exit, json),
            Self::Output(e) if e.kind() != io::ErrorKind::BrokenPipe => {
                report(
                    &ApiError::new(ErrorCode::Internal, "standard output", e.to_string()),
                    1,
                    json,
                );
            }
            Self::Output(_) | Self::Reported(_) => {}
        }
        ExitCode::from(self.exit_code())
    }
}

fn report(error: &ApiError, exit: u8, json: bool) {
    if json {
        tell!("{}", to_json(error, exit));
    } else {
        // Part of it may be what a program has written, or somebody has chosen.
        let text = error.to_string();
        let lines: Vec<_> = text.split('\n').map(printable).collect();
        tell!("vswitchctl: {}", lines.join("\n"));
    }
}

/// The API's form. Its codes know nothing of a daemon that does not answer, so that one is added here.
fn to_json(error: &ApiError, exit: u8) -> Value {
    let mut value = serde_json::to_value(error).unwrap_or_default();
    if exit == EXIT_UNREACHABLE {
        value["code"] = Value::from("unreachable");
    }
    value
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let at = |socket: &Path| format!("vswitchd at {}", socket.display());
        match error {
            Error::Daemon(error) => error.into(),
            Error::Connect { socket, cause } => {
                let (cause, hint) = not_connected(&socket, &cause);
                Self::unreachable(at(&socket), cause, hint)
            }
            Error::Silent { socket, waited } => Self::unreachable(
                at(&socket),
                format!("it gave no answer and no sign of life for {waited:?}"),
                "what was asked for may still be done: see its log, and `vswitchctl show`; --timeout has it wait longer",
            ),
            Error::Broken { socket, cause } => Self::unreachable(
                at(&socket),
                format!("the connection broke: {cause}"),
                "did the daemon stop? `vswitchctl show` tells what it had done",
            ),
            Error::Request { path, cause } => {
                ApiError::new(ErrorCode::Invalid, format!("request {path:?}"), cause).into()
            }
            Error::Foreign { path, cause } => foreign(format!("request {path}"), cause),
            other => foreign("request".to_owned(), other.to_string()),
        }
    }
}

/// Something that two programs of the same version never say to each other.
fn foreign(object: String, cause: String) -> Failure {
    ApiError::new(ErrorCode::Internal, object, cause)
        .hint(
            "are vswitchctl and vswitchd of the same version? compare `vswitchctl --version` and `vswitchd --version`",
        )
        .into()
}

/// Why nobody answers at the socket, and what to do.
fn not_connected(socket: &Path, error: &io::Error) -> (String, String) {
    match error.kind() {
        io::ErrorKind::NotFound => (
            "there is no such socket".into(),
            "is vswitchd running? start it with `systemctl start vswitchd` or `vswitchd &`, or name its socket by --socket"
                .into(),
        ),
        io::ErrorKind::ConnectionRefused => (
            "nobody listens on the socket".into(),
            "is vswitchd running? start it with `systemctl start vswitchd` or `vswitchd &`".into(),
        ),
        io::ErrorKind::PermissionDenied => ("permission denied".into(), permission_hint(socket)),
        _ => (error.to_string(), "is this vswitchd's control socket?".into()),
    }
}

fn permission_hint(socket: &Path) -> String {
    // Being in root's group is no way for an ordinary user.
    let group = std::fs::metadata(socket)
        .ok()
        .filter(|meta| meta.gid() != 0)
        .and_then(|meta| Group::from_gid(Gid::from_raw(meta.gid())).ok().flatten());
    match group {
        Some(group) => format!(
            "the socket is for root and group {0}; run it as root, or join with `usermod -aG {0} USER` and log in again",
            group.name
        ),
        None => "run it as root, or set a group for the socket in vswitchd.toml".to_owned(),
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let exit = error.code.exit_code();
        Self::Error { error, exit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_daemon_has_a_code_of_its_own() {
        let Failure::Error { error, exit } = Failure::unreachable("vswitchd", "no answer", "start it") else {
            panic!("an error is expected")
        };
        assert_eq!(exit, 3);
        assert_eq!(to_json(&error, exit)["code"], "unreachable");
        assert_eq!(to_json(&error, 1)["code"], "internal");
    }

    #[test]
    fn a_closed_pipe_is_no_failure_but_a_full_disk_is() {
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).exit_code(), 0);
        assert_eq!(Failure::Output(io::ErrorKind::StorageFull.into()).exit_code(), 1);
    }
}
