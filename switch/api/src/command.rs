//! Commands that run in namespaces, as long as the lab is there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::lab::Description;
use crate::name::{CommandName, NsName};
use crate::policy::is_default;

/// Seconds for [`Ready::within_secs`] if nothing else is said.
pub const DEFAULT_READY_SECS: u32 = 30;
/// Seconds for [`Command::stop_secs`] if nothing else is said.
pub const DEFAULT_STOP_SECS: u32 = 5;
/// Longest times that can be waited.
pub const MAX_READY_SECS: u32 = 600;
/// See [`MAX_READY_SECS`].
pub const MAX_STOP_SECS: u32 = 60;
/// Longest argument list and environment, in bytes: well below what the kernel takes.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// A command that the daemon starts, looks after and ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Unique name.
    pub name: CommandName,
    /// What the user says of it: free text, shown and never looked into.
    #[serde(default, skip_serializing_if = "is_default")]
    pub description: Description,
    /// Namespace that it runs in.
    pub namespace: NsName,
    /// A line for `/bin/sh`. The shell gives way to the last program if the line begins with `exec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "exec iperf3 --server")]
    pub run: Option<String>,
    /// In place of `run`: the program and its arguments, without a shell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["iperf3", "--server"]))]
    pub argv: Vec<String>,
    /// Folder that it starts in, by its whole path; none: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Its environment, beside a `PATH` and little else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// When it is started again.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: Restart,
    /// How is told that it is ready; none: it is when it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Ready>,
    /// Seconds that it has to end by itself (SIGTERM) before it is ended (SIGKILL).
    #[serde(default = "default_stop_secs", skip_serializing_if = "is_default_stop_secs")]
    #[schema(maximum = 60)]
    pub stop_secs: u32,
}

impl Command {
    /// A command about which nothing else is said.
    pub fn new(name: CommandName, namespace: NsName, argv: Vec<String>) -> Self {
        Self {
            name,
            description: Description::default(),
            namespace,
            run: None,
            argv,
            dir: None,
            env: BTreeMap::new(),
            restart: Restart::default(),
            ready: None,
            stop_secs: DEFAULT_STOP_SECS,
        }
    }

    /// What is wrong with it, as far as it can be told without looking at anything else.
    pub fn wrong(&self) -> Option<String> {
        if self.run.is_some() != self.argv.is_empty() {
            return Some("it needs either `run` or `argv`".to_owned());
        }
        if self.run.as_deref().is_some_and(|line| line.trim().is_empty())
            || self.argv.first().is_some_and(String::is_empty)
        {
            return Some("it has no program".to_owned());
        }
        let texts = self.argv.iter().chain(&self.run).chain(&self.dir);
        let texts = texts.chain(self.env.iter().flat_map(|(name, value)| [name, value]));
        let checks = self.ready.iter().filter_map(|ready| ready.run.as_ref());
        let (mut bytes, mut nul) = (0, false);
        for text in texts.chain(checks) {
            bytes += text.len() + 1;
            nul |= text.contains('\0');
        }
        if nul {
            return Some("a NUL character can't be in arguments, environment or paths".to_owned());
        }
        if bytes > MAX_COMMAND_BYTES {
            return Some(format!(
                "arguments and environment have {bytes} bytes; at most {MAX_COMMAND_BYTES} are allowed"
            ));
        }
        if let Some(name) = self.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Some(format!("{name:?} is no name of an environment variable"));
        }
        if let Some(dir) = self.dir.as_ref().filter(|dir| !dir.starts_with('/')) {
            return Some(format!("dir {dir:?} is not a whole path; begin it with /"));
        }
        if self.stop_secs > MAX_STOP_SECS {
            return Some(format!("stop_secs {} is above {MAX_STOP_SECS}", self.stop_secs));
        }
        self.ready.as_ref().and_then(Ready::wrong)
    }
}

/// When a command that has ended is started again: at once, and then after pauses that grow up to about a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it has failed: with another exit code than 0, or by a signal.
    OnFailure,
    /// Whenever it has ended.
    Always,
}

/// How is told that a command is ready. One of `run`, `tcp` and `done`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// A line for `/bin/sh` in the same namespace, tried until its exit code is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// A TCP port that takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub tcp: Option<u16>,
    /// The address of that port; none: 127.0.0.1 or ::1, whichever answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "10.0.0.1")]
    pub tcp_addr: Option<IpAddr>,
    /// True: it is ready when it has ended, with exit code 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub done: bool,
    /// Seconds after which it counts as failed.
    #[serde(default = "default_ready_secs", skip_serializing_if = "is_default_ready_secs")]
    #[schema(minimum = 1, maximum = 600)]
    pub within_secs: u32,
}

impl Default for Ready {
    /// One of its ways is still to be said.
    fn default() -> Self {
        Self {
            run: None,
            tcp: None,
            tcp_addr: None,
            done: false,
            within_secs: DEFAULT_READY_SECS,
        }
    }
}

impl Ready {
    fn wrong(&self) -> Option<String> {
        let ways = [self.run.is_some(), self.tcp.is_some(), self.done];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Some("ready needs one of `run`, `tcp` and `done`".to_owned());
        }
        if self.tcp == Some(0) {
            return Some("ready.tcp 0 is no port that can be connected to".to_owned());
        }
        if self.tcp_addr.is_some() && self.tcp.is_none() {
            return Some("ready.tcp_addr needs ready.tcp".to_owned());
        }
        if self.run.as_deref().is_some_and(|line| line.trim().is_empty()) {
            return Some("ready.run has no program".to_owned());
        }
        (!(1..=MAX_READY_SECS).contains(&self.within_secs)).then(|| {
            format!(
                "ready.within_secs {} is not from 1 to {MAX_READY_SECS}",
                self.within_secs
            )
        })
    }
}

/// How a process is at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProcessState {
    /// It is about to run, or runs and is not ready yet.
    #[default]
    Starting,
    /// It runs, and is ready.
    Running,
    /// It has ended and will be started again.
    Waiting,
    /// It has ended, and all is well.
    Ended,
    /// It has failed, and will not be started again.
    Failed,
    /// Its namespace is not there.
    Missing,
    /// None that this version knows; the daemon is newer.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for ProcessState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        })
    }
}

/// A process that the daemon looks after: one of the lab's commands, or one of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessView {
    /// Its name; that of the command.
    pub name: String,
    /// Namespace that it runs in; none: the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<NsName>,
    /// How it is.
    pub state: ProcessState,
    /// Why, where there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its process id while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Seconds since its state changed.
    pub since_secs: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// Exit code of the last run that ended; none: by a signal, or none has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What was started.
    pub argv: Vec<String>,
}

fn default_stop_secs() -> u32 {
    DEFAULT_STOP_SECS
}

fn is_default_stop_secs(seconds: &u32) -> bool {
    *seconds == DEFAULT_STOP_SECS
}

fn default_ready_secs() -> u32 {
    DEFAULT_READY_SECS
}

fn is_default_ready_secs(seconds: &u32) -> bool {
    *seconds == DEFAULT_READY_SECS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(value: serde_json::Value) -> Command {
        let mut whole = serde_json::json!({"name": "web", "namespace": "red"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn what_can_not_be_run_is_told() {
        for (value, words) in [
            (serde_json::json!({}), "either `run` or `argv`"),
            (serde_json::json!({"run": "a", "argv": ["b"]}), "either `run` or `argv`"),
            (serde_json::json!({"run": " "}), "no program"),
            (serde_json::json!({"argv": [""]}), "no program"),
            (serde_json::json!({"argv": ["a", "b\u{0}"]}), "NUL"),
            (serde_json::json!({"argv": ["a", "b".repeat(70_000)]}), "at most 65536"),
            (serde_json::json!({"run": "a", "dir": "b"}), "not a whole path"),
            (
                serde_json::json!({"run": "a", "env": {"A=B": "c"}}),
                "no name of an environment variable",
            ),
            (serde_json::json!({"run": "a", "stop_secs": 61}), "above 60"),
            (
                serde_json::json!({"run": "a", "ready": {}}),
                "one of `run`, `tcp` and `done`",
            ),
            (
                serde_json::json!({"run": "a", "ready": {"tcp": 80, "done": true}}),
                "one of `run`, `tcp` and `done`",
            ),
            (serde_json::json!({"run": "a", "ready": {"tcp": 0}}), "no port"),
            (
                serde_json::json!({"run": "a", "ready": {"done": true, "tcp_addr": "::1"}}),
                "needs ready.tcp",
            ),
            (
                serde_json::json!({"run": "a", "ready": {"done": true, "within_secs": 0}}),
                "not from 1 to 600",
            ),
        ] {
            let wrong = command(value.clone()).wrong().unwrap_or_default();
            assert!(wrong.contains(words), "{value}: {wrong:?}");
        }
        for value in [
            serde_json::json!({"run": "exec sleep 1", "dir": "/tmp", "env": {"A": "b=c"}}),
            serde_json::json!({"argv": ["sleep", "1"], "ready": {"tcp": 80, "tcp_addr": "10.0.0.1"}, "restart": "on-failure"}),
        ] {
            let command = command(value);
            assert_eq!(command.wrong(), None);
            let again: Command = serde_json::from_value(serde_json::to_value(&command).unwrap()).unwrap();
            assert_eq!(again, command);
        }
    }
}
