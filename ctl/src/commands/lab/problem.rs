//! What is wrong with a lab file, as compilers tell it: `lab.toml:3:8: what`, the line, a caret below.

use std::io::{self, IsTerminal};

use serde::Serialize;
use vswitch_api::{ApiError, ErrorCode};

use super::node::Span;
use crate::failure::Failure;
use crate::output::tell;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub message: String,
    /// The line as it is.
    pub source: String,
    /// How many characters of it are meant.
    #[serde(skip)]
    width: usize,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// True: there is nothing wrong.
    pub ok: bool,
    /// What is wrong, from top to bottom.
    pub problems: Vec<Problem>,
}

/// So many characters of a line are shown before the place of a problem, and from there on.
const BEFORE: usize = 60;
const BEHIND: usize = 60;

impl Problem {
    /// Of a place in the text.
    pub fn at(text: &str, span: &Span, message: String) -> Self {
        let start = (0..=span.start.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at));
        let start = start.unwrap_or_default();
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let source = text[line_start..].lines().next().unwrap_or_default();
        let column = text[line_start..start].chars().count();
        let meant = text.get(start..span.end).unwrap_or_default().lines().next();
        Self {
            line: 1 + text[..line_start].matches('\n').count(),
            column: 1 + column,
            message: message.chars().map(shown).collect(),
            source: source.to_owned(),
            width: meant.map_or(1, |meant| meant.chars().count()).max(1),
        }
    }

    /// The line that tells it.
    pub fn headline(&self, file: &str) -> String {
        format!("{file}:{}:{}: {}", self.line, self.column, self.message)
    }

    /// The line of the file, what is about the place of one that is long, and what of it is meant.
    fn picture(&self) -> String {
        let at = self.column - 1;
        let (from, to) = (at.saturating_sub(BEFORE), at + BEHIND);
        let length = self.source.chars().count();
        let dots = |is_cut| if is_cut { "..." } else { "" };
        let source: String = self.source.chars().skip(from).take(to - from).map(shown).collect();
        // What is a tab above is one below, so that the caret stands where it should at any width of tabs.
        let before = source.chars().take(at - from);
        let indent: String = before.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let (cut, rest) = (dots(from > 0), dots(to < length));
        let (indent, caret) = (" ".repeat(cut.len()) + &indent, "^".repeat(self.width.min(BEHIND)));
        format!("    {cut}{source}{rest}\n    {indent}{caret}")
    }
}

/// A terminal must not be told what to do by a file.
fn shown(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

impl Report {
    /// Of these problems.
    pub fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.line, problem.column));
        // What a range made many of is wrong in one place.
        problems.dedup_by_key(|problem| (problem.line, problem.column, problem.message.clone()));
        Self {
            file: file.to_owned(),
            ok: problems.is_empty(),
            problems,
        }
    }

    /// All of it for people.
    pub fn text(&self) -> String {
        let problem = |problem: &Problem| format!("{}\n{}\n", problem.headline(&self.file), problem.picture());
        self.problems.iter().map(problem).collect()
    }

    /// Why a command that wants the file did nothing. On standard error each is a line, with the picture on a terminal.
    pub fn refuse(&self, json: bool) -> Failure {
        let lines: Vec<_> = self
            .problems
            .iter()
            .map(|problem| problem.headline(&self.file))
            .collect();
        if json {
            return Failure::usage(
                format!("lab file {}", self.file),
                lines.join("; "),
                "`vswitchctl lab check` shows where",
            );
        }
        let pictures = io::stderr().is_terminal();
        for (problem, line) in self.problems.iter().zip(lines) {
            tell!("vswitchctl: {line}");
            if pictures {
                tell!("{}", problem.picture());
            }
        }
        Failure::Reported(ErrorCode::Invalid.exit_code())
    }
}

/// A file that can't be read.
pub fn unreadable(file: &str, error: &io::Error) -> Failure {
    let (code, hint) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorCode::NotFound, "check its name"),
        io::ErrorKind::PermissionDenied => (ErrorCode::NotPermitted, "make it readable, or run as root"),
        io::ErrorKind::FileTooLarge => (ErrorCode::Invalid, "is it the right file?"),
        io::ErrorKind::InvalidData => (ErrorCode::Invalid, "a lab file is text in UTF-8"),
        _ => (ErrorCode::Invalid, "give a readable file"),
    };
    ApiError::new(code, format!("lab file {file}"), error.to_string())
        .hint(hint)
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_and_what_terminals_obey_are_not_shown() {
        let text = format!("{} = {}\u{1b}[2J", "a".repeat(500), "b".repeat(500));
        let problem = Problem::at(&text, &(400..405), "unknown key \u{1b}[31m".to_owned());
        assert_eq!(
            problem.picture(),
            format!("    ...{}...\n    {}^^^^^", "a".repeat(120), " ".repeat(63))
        );
        assert_eq!(problem.headline("f"), "f:1:401: unknown key \u{fffd}[31m");
        let end = text.len() - 4;
        let problem = Problem::at(&text, &(end..end + 4), "no value".to_owned());
        assert_eq!(
            problem.picture(),
            format!("    ...{}\u{fffd}[2J\n    {}^^^^", "b".repeat(60), " ".repeat(63))
        );
        let problem = Problem::at("\tx", &(1..2), String::new());
        assert_eq!(problem.picture(), "    \tx\n    \t^");
    }
}
