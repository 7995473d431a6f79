//! Processes that the daemon looks after: the lab's commands, and what the daemon itself needs beside it.
//!
//! Each has a folder in the run directory, made before the process is and removed after it, and a supervisor
//! ([`crate::supervisor`]) that outlives the daemon. So a daemon that starts finds all that there is: it takes over what is to run as it
//! does, and ends the rest. What the supervisors tell is read from their notes, without the lock of an edit.

mod ended;
mod live;
mod log;
mod look;
mod restart;
mod start;
mod stop;

use std::collections::BTreeMap;
use std::path::PathBuf;

use vswitch_api::command::DEFAULT_STOP_SECS;
use vswitch_api::{Command, NsName, Ready, Restart};

pub(super) use live::Processes;
pub use log::LogReader;

/// Something that is to run as long as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Unique. Those of the lab's commands have no `:`, all others do (`dnsmasq:main`); none has a `/`.
    pub name: String,
    /// Namespace that it runs in, with its files over those of /etc; none: the host's, as it is.
    pub namespace: Option<NsName>,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Folder that it starts in.
    pub dir: PathBuf,
    /// Beside a `PATH` and little else.
    pub env: BTreeMap<String, String>,
    pub restart: Restart,
    pub ready: Option<Ready>,
    /// Seconds between SIGTERM and SIGKILL.
    pub stop_secs: u32,
}

impl Process {
    /// One that is started again whenever it ends.
    pub fn new(name: impl Into<String>, namespace: Option<NsName>, argv: Vec<String>) -> Self {
        Self {
            name: name.into(),
            namespace,
            argv,
            dir: "/".into(),
            env: BTreeMap::new(),
            restart: Restart::Always,
            ready: None,
            stop_secs: DEFAULT_STOP_SECS,
        }
    }
}

impl From<&Command> for Process {
    fn from(command: &Command) -> Self {
        let argv = match &command.run {
            Some(line) => ["/bin/sh", "-c", line].map(str::to_owned).into(),
            None => command.argv.clone(),
        };
        let mut process = Self::new(command.name.to_string(), Some(command.namespace.clone()), argv);
        if let Some(dir) = &command.dir {
            process.dir = dir.into();
        }
        process.env = command.env.clone();
        process.restart = command.restart;
        process.ready = command.ready.clone();
        process.stop_secs = command.stop_secs;
        process
    }
}

fn object(name: &str) -> String {
    match name.split_once(':') {
        None => format!("command \"{name}\""),
        Some((program, of)) => format!("{program} of \"{of}\""),
    }
}
