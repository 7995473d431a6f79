//! Calls of the control tool and what it answered.

use std::collections::BTreeSet;
use std::fmt;
use std::process::{Command, Output};

use serde::de::DeserializeOwned;
use vswitch_api::ApiError;

use crate::daemon::{command, program};
use crate::lab::Lab;

/// The control tool, to be started otherwise than [`Lab::ctl`] does.
pub fn tool() -> Command {
    command(program("vswitchctl"))
}

/// Commands below `path`, as its help lists them.
fn commands_below(path: &str) -> Vec<String> {
    let help = Lab::call(&format!("{path} --help")).ok().stdout;
    let lines = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let names = lines
        .take_while(|line| !line.trim().is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

/// All commands with all that is below them, such as `fdb` and `fdb add`.
pub fn all_commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = commands_below("");
    while let Some(path) = open.pop() {
        open.extend(commands_below(&path).into_iter().map(|name| format!("{path} {name}")));
        found.insert(path);
    }
    found
}

/// What one call of `vswitchctl` gave.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The call, for messages.
    pub line: String,
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Reply {
    /// What a call gave, of the control tool or of a program that it is compared with.
    pub fn new(line: &str, output: Output) -> Self {
        Self {
            line: line.to_owned(),
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self}");
        self
    }

    /// It failed with this exit code and one line on standard error that contains all of `words`.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self}");
        assert_eq!(
            self.stdout, "",
            "a failing command writes to standard error only: {self}"
        );
        assert_eq!(self.stderr.lines().count(), 1, "an error is one line: {self}");
        assert!(self.stderr.starts_with("vswitchctl: "), "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "the error does not name {word:?}: {self}");
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not the expected JSON: {e}: {self}"))
    }

    /// Standard error as the JSON error of `--json`.
    #[track_caller]
    pub fn json_error(&self) -> ApiError {
        serde_json::from_str(&self.stderr).unwrap_or_else(|e| panic!("not a JSON error: {e}: {self}"))
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`vswitchctl {}` gave {}\n{}{}",
            self.line, self.code, self.stdout, self.stderr
        )
    }
}
