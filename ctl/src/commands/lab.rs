//! The lab as a whole: `apply`. Below: labs as files.

mod become_lab;
mod check;
mod enter;
mod export;
mod files;
mod graph;
mod heat;
mod import;
mod links;
pub(super) mod meant;
mod merge;
mod node;
mod pings;
mod problem;
mod ranges;
mod reach;
mod read;
mod rows;
mod rules;
mod sides;
mod speed;
mod svg;
mod take_back;
mod test;
mod told;
mod words;

use std::io::{self, BufRead, Write};
use std::path::Path;

use vswitch_api::difference::would;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode};

use self::become_lab::How;
use super::Session;
use crate::cli::lab::ApplyArgs;
use crate::failure::Failure;

/// So many of the things that would go are named in an error.
const NAMED: usize = 20;
/// How a line of a plan begins by which a command ends.
const STOPPED: &str = "stopped command ";

impl Session {
    /// `apply`: the file is all that is there afterwards. One with a name is a lab beside others.
    pub(super) async fn apply(&self, args: ApplyArgs) -> Result<(), Failure> {
        let file = self.read_lab(&args.file)?;
        let how = How {
            dry_run: args.dry_run,
            force: args.force,
            yes: args.yes,
            // What comes from standard input leaves none to answer by.
            can_ask: args.file != Path::new("-"),
            ..How::new("apply", file.name.clone())
        };
        let changes = match file.name.clone() {
            Some(name) => {
                self.become_lab(&how, |there| sides::with(there, &file.lab, &name))
                    .await
            }
            None => self.replace_lab(&how, file.lab.clone()).await,
        };
        self.out
            .changes(&changes.map_err(|e| self.placed(&file, e))?, args.dry_run)
    }
}

/// There is nobody to ask.
fn would_remove(command: &str, removed: &[String]) -> Failure {
    let (stopped, removed): (Vec<_>, Vec<_>) = removed.iter().partition(|line| line.starts_with(STOPPED));
    let mut parts = Vec::new();
    if !removed.is_empty() {
        let what = list(&removed, "removed ");
        parts.push(format!(
            "the file does not name all that is there, and this would be removed: {what}"
        ));
    }
    if !stopped.is_empty() {
        let what = list(&stopped, STOPPED);
        parts.push(format!("this would stop commands that run: {what}"));
    }
    let cause = format!("{}. Nothing was changed", parts.join("; "));
    ApiError::new(ErrorCode::Conflict, command, cause)
        .hint(format!(
            "add --yes if that is meant; `vswitchctl {command} -n` shows the whole plan"
        ))
        .into()
}

/// The first of them, without the word that they begin with.
fn list(lines: &[&String], word: &str) -> String {
    let named = lines.iter().take(NAMED).map(|line| line.trim_start_matches(word));
    let mut named: Vec<_> = named.collect();
    let more = format!("{} more", lines.len().saturating_sub(NAMED));
    if lines.len() > NAMED {
        named.push(&more);
    }
    named.join(", ")
}

/// Asks on standard error, so that the output stays what was done.
pub(super) fn confirm(command: &str, changes: &Changes) -> Result<(), Failure> {
    let mut stderr = io::stderr().lock();
    for line in &changes.done {
        writeln!(stderr, "{}", would(line)).map_err(|e| Failure::system("terminal", &e))?;
    }
    write!(stderr, "Do it? [y/N] ")
        .and_then(|()| stderr.flush())
        .map_err(|e| Failure::system("terminal", &e))?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|e| Failure::system("terminal", &e))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(ApiError::new(ErrorCode::Conflict, command, "not confirmed, nothing was done").into()),
    }
}
