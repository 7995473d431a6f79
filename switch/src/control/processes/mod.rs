//! Processes that the daemon looks after: the lab's commands, and what the daemon itself needs beside it.
//!
//! Each has a folder in the run directory, made before the process is and removed after it, and a supervisor
//! ([`crate::supervisor`]) that outlives the daemon. So a daemon that starts finds all that there is: it takes over what is to run as it
//! does, and ends the rest. What the supervisors tell is read from their notes, without the lock of an edit.

mod ended;
mod live;
mod log;
mod look;
mod ready;
mod restart;
mod start;
mod stop;

use vswitch_api::Command;

pub(super) use crate::supervisor::notes::Process;
pub(super) use live::Processes;
pub use log::LogReader;
pub(super) use ready::Begun;

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
