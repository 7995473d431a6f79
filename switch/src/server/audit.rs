//! Who asked for what, and what came of it: a line in the log for each change, and for each look at frames or at what commands wrote.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::Method;
use vswitch_api::error::ApiError;
use vswitch_api::view::Changes;

use super::roles::Caller;

/// Lines of what was done that one line of the log has; all are there at level debug.
const LINES: usize = 16;

/// A request, as the log names it. The span of its connection has process and user id.
#[derive(Clone, Debug)]
pub(super) struct Audit {
    caller: Arc<Caller>,
    method: Method,
    path: String,
    program: String,
}

impl Audit {
    /// Of this request, while its client waits for the answer: later nobody could tell what it is.
    pub fn of(caller: &Arc<Caller>, request: &Request) -> Self {
        let program = caller.peer.as_ref().and_then(vswitch_linux::Peer::program);
        Self {
            caller: caller.clone(),
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            program: program.unwrap_or_default(),
        }
    }

    /// Who asks.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// An edit has come to its end. One that was only tried changes nothing, and is told at a lower level.
    pub fn tell(&self, dry_run: bool, result: &Result<Changes, ApiError>) {
        let (result, text) = match result {
            Ok(changes) => ("done", in_short(&changes.done)),
            Err(error) => ("failed", error.to_string()),
        };
        match dry_run {
            true => self.debug(result, &text),
            false => self.info(result, &text),
        }
    }

    /// It was refused for its client's role.
    pub fn tell_refused(&self, refusal: &ApiError) {
        self.info("refused", &refusal.to_string());
    }

    /// Something was shown that is not for all.
    pub fn tell_shown(&self, ok: bool) {
        match ok {
            true => self.info("done", "shown"),
            false => self.info("failed", "not shown"),
        }
    }

    fn info(&self, result: &str, text: &str) {
        let (method, path, user, program) = (&self.method, &self.path, self.caller.user(), &self.program);
        tracing::info!(%method, path, user, program, dry_run = false, result, "{text}");
    }

    fn debug(&self, result: &str, text: &str) {
        let (method, path, user, program) = (&self.method, &self.path, self.caller.user(), &self.program);
        tracing::debug!(%method, path, user, program, dry_run = true, result, "{text}");
    }
}

/// In one line.
fn in_short(done: &[String]) -> String {
    let named = &done[..done.len().min(LINES)];
    match done.len() - named.len() {
        0 if named.is_empty() => "nothing to do".into(),
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_edit_is_told_in_one_line_of_bounded_length() {
        assert_eq!(in_short(&[]), "nothing to do");
        let done: Vec<_> = (0..LINES + 3).map(|n| format!("added port p{n}")).collect();
        assert!(in_short(&done[..2]).ends_with("added port p0; added port p1"));
        let long = in_short(&done);
        assert!(long.ends_with("added port p15; and 3 more"), "{long}");
    }
}
