//! What people see. The functions of the modules turn API types into text and print nothing themselves;
//! [`Out`] prints: that text, or the API's type as JSON.

pub mod events;
pub mod frames;
pub mod mirrors;
pub mod namespaces;
pub mod page;
pub mod ports;
pub mod switches;
pub mod table;
pub mod traces;
pub mod traffic;
pub mod units;
pub mod vlans;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode};

use crate::cli::{Color, Global};
use crate::failure::Failure;

/// How text is to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With colours and bold.
    pub colour: bool,
}

impl Style {
    /// Text in this colour, if colours are on.
    pub fn paint(self, style: anstyle::Style, text: &str) -> String {
        match self.colour {
            true => format!("{style}{text}{style:#}"),
            false => text.to_owned(),
        }
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.paint(anstyle::Style::new().bold(), text)
    }
}

/// Standard output in the form that the user asked for.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// Print the API's types.
    pub json: bool,
    /// How text is to look.
    pub style: Style,
}

impl Out {
    /// By the options, the terminal and NO_COLOR (<https://no-color.org>: set and not empty).
    pub fn new(global: &Global) -> Self {
        let colour = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Self {
            json: global.json,
            style: Style { colour },
        }
    }

    /// Prints a value: as JSON, or as the text that `text` makes.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(Style) -> String) -> Result<(), Failure> {
        if self.json {
            self.print(&json(value)?)
        } else {
            self.print(&text(self.style))
        }
    }

    /// Prints what was done, or in a dry run what would be.
    pub fn changes(&self, changes: &Changes, dry_run: bool) -> Result<(), Failure> {
        if self.json {
            return self.print(&json(changes)?);
        }
        let mark = if dry_run { "would: " } else { "" };
        let text: String = changes.done.iter().map(|line| format!("{mark}{line}\n")).collect();
        for warning in &changes.warnings {
            eprintln!("warning: {warning}");
        }
        self.print(&text)
    }

    /// Prints text as it is and hands it on at once.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        let newline = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        write!(stdout, "{text}{newline}")
            .and_then(|()| stdout.flush())
            .map_err(Failure::Output)
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|e| ApiError::new(ErrorCode::Internal, "JSON output", e.to_string()).into())
}
