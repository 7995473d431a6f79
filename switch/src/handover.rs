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
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use clap::Parser;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use vswitch_api::error::{ApiError, ErrorCode};
use vswitch_linux::inherit;

use crate::args::Args;
use crate::config::{Config, Daemon};
use crate::files::canonical;

/// What systemd calls the descriptors that it keeps for the daemon.
const NAME: &str = "vswitch-queue";
/// How long a program may take to say whether it can start.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const CHECK_TICK: Duration = Duration::from_millis(10);
/// Bytes of an error that are taken.
const SAID: usize = 4096;

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

/// A program that is asked: it ends when nobody waits for its answer any more, so that a daemon that stops need not either.
struct Asked(Child);

impl Drop for Asked {
    fn drop(&mut self) {
        // It has ended, mostly.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end and gives the beginning of what it said of errors.
async fn ask(mut command: Command) -> io::Result<(ExitStatus, String)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut asked = Asked(command.spawn()?);
    let stderr = asked.0.stderr.take().map(OwnedFd::from);
    let mut stderr = stderr.map(pipe::Receiver::from_owned_fd).transpose()?;
    let status = loop {
        if let Some(status) = asked.0.try_wait()? {
            break status;
        }
        sleep(CHECK_TICK).await;
    };
    let mut said = vec![0; SAID];
    let length = match &mut stderr {
        // Another program that it has started may have its end of the pipe still.
        Some(stderr) => timeout(CHECK_TICK, stderr.read(&mut said)).await.unwrap_or(Ok(0))?,
        None => 0,
    };
    Ok((status, String::from_utf8_lossy(&said[..length]).into_owned()))
}

/// By which the daemon is made to begin anew as the program that lies by now where it was started from.
#[derive(Debug)]
pub struct Restart {
    /// Where this program was when it started; an upgrade puts another there.
    program: Option<PathBuf>,
    args: Vec<OsString>,
    /// Where it keeps what the next one goes on with.
    places: Daemon,
    wanted: Notify,
    /// The daemon stops: nothing is asked any more.
    stopping: watch::Sender<bool>,
}

impl Restart {
    /// Of this program, with its arguments and what it was told by its configuration. To be made as it starts.
    pub fn new(places: Daemon) -> Self {
        Self {
            places,
            program: std::env::current_exe().ok(),
            args: std::env::args_os().skip(1).collect(),
            wanted: Notify::new(),
            stopping: watch::Sender::new(false),
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
        command.arg("--check-start").args(&self.args);
        self.check_places()?;
        let mut stopping = self.stopping.subscribe();
        let asked = tokio::select! {
            asked = timeout(CHECK_TIMEOUT, ask(command)) => asked,
            _ = stopping.wait_for(|stopping| *stopping) => return Err(failed("the daemon stops".to_owned())),
        };
        let (status, said) = match asked {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failed(format!("it can't be run: {error}"))),
            Err(_) => {
                return Err(failed(format!(
                    "it does not say within {CHECK_TIMEOUT:?} whether it can start"
                )));
            }
        };
        if status.success() {
            return Ok(());
        }
        let first = said.lines().next().unwrap_or_default();
        Err(failed(format!("it would not start ({status}): {first}")))
    }

    /// Whether the configuration still names the places in which the next daemon would find what this one leaves.
    fn check_places(&self) -> Result<(), ApiError> {
        let args = [OsString::new()].into_iter().chain(self.args.iter().cloned());
        // What is wrong with them the program says itself.
        let Ok(Ok(new)) = Args::try_parse_from(args).map(|args| Config::load(&args)) else {
            return Ok(());
        };
        let (old, new) = (&self.places, &new.daemon);
        let places = [
            ("run_dir", &old.run_dir, &new.run_dir),
            ("state_dir", &old.state_dir, &new.state_dir),
            ("netns_dir", &old.netns_dir, &new.netns_dir),
            ("socket", &old.socket(), &new.socket()),
        ];
        let same = |old: &Path, new: &Path| canonical(old) == canonical(new);
        match places.into_iter().find(|(_, old, new)| !same(old, new)) {
            None => Ok(()),
            Some((key, old, new)) => Err(ApiError::new(
                ErrorCode::Conflict,
                format!("program {}", self.program().display()),
                format!(
                    "{key} was {} and is {} in the configuration by now: what runs would not be found there",
                    old.display(),
                    new.display()
                ),
            )
            .hint("nothing was changed; write the old place again, or stop the daemon and start it in the new one")),
        }
    }

    /// Has the daemon begin anew, as soon as requests under way are answered.
    pub fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Ends the wait of whoever asks whether the program would start.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
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
