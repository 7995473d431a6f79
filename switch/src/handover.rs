//! A restart that frames don't notice. The daemon that stops leaves its queues ([`crate::control`] has which, and the note beside
//! them), the one that starts takes them: by an exec of this very process (`vswitchctl restart`), so that nobody else ever has
//! the run directory, or by way of systemd (`systemctl restart`, an upgrade of the package).
//!
//! Whether the program can start is asked before anything stops: it is run once with `--check-start`. If the exec fails after that, this
//! one begins anew with what it has left itself.

use std::ffi::OsString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_linux::inherit;

/// What systemd calls the descriptors that it keeps for the daemon.
const NAME: &str = "vswitch-queue";
/// How long a program may take to say whether it can start.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

/// The queues that were left for this process. To be called once.
pub fn take() -> Vec<OwnedFd> {
    let left = inherit::take(NAME).unwrap_or_else(|error| {
        tracing::warn!("what the daemon before has left open can't be taken over: {error}");
        Vec::new()
    });
    // They are ours now: should this daemon be killed, none is to get them that is older.
    if inherit::systemd_keeps()
        && let Err(error) = inherit::take_from_systemd(NAME)
    {
        tracing::warn!("systemd can't be told to let go of the queues that it kept: {error}");
    }
    left
}

/// Numbers of the sockets that systemd made for this service.
pub fn sockets() -> impl Iterator<Item = RawFd> {
    inherit::sockets(NAME).into_iter().map(|(number, _)| number)
}

/// Leaves queues with systemd, if it keeps them for this service: it closes them unless that starts again.
pub fn leave(queues: &[OwnedFd]) {
    if inherit::systemd_keeps()
        && !queues.is_empty()
        && let Err(error) = inherit::leave_with_systemd(NAME, queues)
    {
        tracing::warn!("frames are lost until the next start, systemd can't be given what they wait in: {error}");
    }
}

/// By which the daemon is made to begin anew as the program that lies by now where it was started from.
#[derive(Debug)]
pub struct Restart {
    /// Where this program was when it started; an upgrade puts another there.
    program: Option<PathBuf>,
    args: Vec<OsString>,
    wanted: Notify,
}

impl Default for Restart {
    fn default() -> Self {
        Self::new()
    }
}

impl Restart {
    /// Of this program, with its arguments. To be made as it starts.
    pub fn new() -> Self {
        Self {
            program: std::env::current_exe().ok(),
            args: std::env::args_os().skip(1).collect(),
            wanted: Notify::new(),
        }
    }

    /// The program that is run.
    pub fn program(&self) -> &Path {
        self.program.as_deref().unwrap_or(Path::new("vswitchd"))
    }

    /// Whether the program would start.
    ///
    /// # Errors
    /// It says that it would not, does not say so, or can't be run. Nothing was changed.
    pub async fn check(&self) -> Result<(), ApiError> {
        let object = || format!("program {}", self.program().display());
        let failed = |cause: String| {
            ApiError::new(ErrorCode::Invalid, object(), cause).hint("nothing was changed, the daemon goes on as it was")
        };
        let mut command = Command::new(self.program());
        command.arg("--check-start").args(&self.args).stdin(Stdio::null());
        let output = match timeout(CHECK_TIMEOUT, spawn_blocking(move || command.output())).await {
            Ok(Ok(Ok(output))) => output,
            Ok(Ok(Err(error))) => return Err(failed(format!("it can't be run: {error}"))),
            Ok(Err(error)) => return Err(failed(format!("it could not be waited for: {error}"))),
            Err(_) => {
                return Err(failed(format!(
                    "it does not say within {CHECK_TIMEOUT:?} whether it can start"
                )));
            }
        };
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let first = said.lines().next().unwrap_or_default();
        Err(failed(format!("it would not start ({}): {first}", output.status)))
    }

    /// Has the daemon begin anew, as soon as requests under way are answered.
    pub fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Waits until that is wanted.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Becomes the program. It comes back only if that fails.
    pub fn exec(&self, left: &[OwnedFd]) -> io::Error {
        inherit::exec(self.program().as_os_str(), &self.args, NAME, left)
    }
}
