//! What people see. The functions of the modules turn API types into text and print nothing themselves;
//! [`Out`] prints: that text, or the API's type as JSON.

pub mod doctor;
pub mod events;
pub mod frames;
pub mod links;
pub mod mirrors;
pub mod namespaces;
pub mod page;
pub mod ports;
pub mod processes;
pub mod reach;
pub mod switches;
pub mod table;
pub mod traces;
pub mod traffic;
pub mod units;
pub mod vlans;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::Value;
use vswitch_api::difference::would;
use vswitch_api::view::Changes;
use vswitch_api::{ApiError, ErrorCode};

use crate::cli::{Color, Form, Global};
use crate::failure::Failure;
use crate::progress;

/// Writes a line to standard error, as well as that can be: what was asked for does not fail because nobody hears of it.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}
pub(crate) use tell;

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
    form: Option<Form>,
    /// How text is to look.
    pub style: Style,
}

impl Out {
    /// By the options, the terminal (TERM=dumb has none) and NO_COLOR (<https://no-color.org>: set and not empty).
    pub fn new(global: &Global) -> Self {
        let colour = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
                io::stdout().is_terminal() && !progress::is_dumb() && !unwanted
            }
        };
        Self {
            form: if global.json { Some(Form::Json) } else { global.output },
            style: Style { colour },
        }
    }

    /// Prints a value: as JSON, or as the text that `text` makes.
    pub fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(Style) -> String) -> Result<(), Failure> {
        self.print(&self.text(value, text)?)
    }

    /// What [`Self::show`] prints.
    pub fn text<T: Serialize>(&self, value: &T, text: impl FnOnce(Style) -> String) -> Result<String, Failure> {
        match self.form {
            Some(Form::Json) => json(value),
            Some(Form::Yaml) => yaml(value),
            Some(Form::Name) => names(value),
            Some(Form::Wide) | None => Ok(text(self.style)),
        }
    }

    /// Prints the API's types.
    pub fn json(&self) -> bool {
        self.form == Some(Form::Json)
    }

    /// Refuses the forms that what comes bit by bit does not have.
    ///
    /// # Errors
    /// One of them was asked for.
    pub fn refuse_for_stream(&self) -> Result<(), Failure> {
        match self.form {
            Some(Form::Yaml | Form::Name) => Err(Failure::usage(
                "--output",
                "what this command prints comes line by line and has no such form",
                "use json, which is an object for each line",
            )),
            _ => Ok(()),
        }
    }

    /// Whether what is printed is for programs.
    pub fn is_form(&self) -> bool {
        matches!(self.form, Some(Form::Json | Form::Yaml))
    }

    /// With all columns.
    pub fn wide(&self) -> bool {
        self.form == Some(Form::Wide)
    }

    /// Prints text over what was there on a terminal, elsewhere behind it with an empty line between.
    pub fn redraw(&self, text: &str) -> Result<(), Failure> {
        if io::stdout().is_terminal() {
            let lines: String = text.lines().map(|line| format!("{line}\x1b[K\n")).collect();
            self.print(&format!("\x1b[H{lines}\x1b[J"))
        } else {
            self.print(&format!("{}\n\n", text.trim_end()))
        }
    }

    /// Prints what was done, or in a dry run what would be.
    pub fn changes(&self, changes: &Changes, dry_run: bool) -> Result<(), Failure> {
        match self.form {
            Some(Form::Json) => return self.print(&json(changes)?),
            Some(Form::Yaml) => return self.print(&yaml(changes)?),
            _ => {}
        }
        let line = |line: &String| match dry_run {
            true => would(line) + "\n",
            false => format!("{line}\n"),
        };
        let text: String = changes.done.iter().map(line).collect();
        for warning in &changes.warnings {
            tell!("warning: {warning}");
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

fn yaml<T: Serialize>(value: &T) -> Result<String, Failure> {
    // By way of JSON's types, which is how the API's own are meant to be read.
    let value = to_value(value)?;
    serde_saphyr::to_string(&value).map_err(|e| ApiError::new(ErrorCode::Internal, "YAML output", e.to_string()).into())
}

/// What tells one thing of a list from the others, the first of these that it has.
const NAMES: [&str; 5] = ["name", "mac", "address", "to", "port"];

/// The names of what is listed, one a line; of an overview those of its ports.
fn names<T: Serialize>(value: &T) -> Result<String, Failure> {
    let value = to_value(value)?;
    let of_overview = value
        .get("ports")
        .filter(|ports| value.get("switches").is_some() && ports.is_array());
    let list = of_overview.unwrap_or(&value);
    let list = list.as_array().map_or(std::slice::from_ref(list), Vec::as_slice);
    // A namespace without a name has none that commands take.
    let list = list.iter().filter(|one| !one.get("name").is_some_and(Value::is_object));
    let name = |one: &Value| match one {
        Value::Object(fields) => {
            let name = NAMES.iter().find_map(|key| fields.get(*key));
            match name {
                Some(name) => Some(plain(name)),
                None => of_two_ends(one).or_else(|| of_several(one)),
            }
        }
        other => Some(plain(other)),
    };
    let lines: Option<Vec<_>> = list.map(name).collect();
    let lines = lines.ok_or_else(|| {
        Failure::usage(
            "--output",
            "what this command prints has no name",
            "use json, yaml or wide",
        )
    })?;
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

/// What commands take for a link (a port at one of its ends) and for a cable (its namespaces).
fn of_two_ends(one: &Value) -> Option<String> {
    let part = |pointer: &str| one.pointer(pointer).map(plain);
    part("/a/port").or_else(|| Some(format!("{} {}", part("/a/namespace")?, part("/b/namespace")?)))
}

/// VLANs that stand in one row, as options take them: `20`, `20-29`.
fn of_several(one: &Value) -> Option<String> {
    let (first, last) = (one.get("first")?, one.get("last")?);
    Some(match first == last {
        true => plain(first),
        false => format!("{}-{}", plain(first), plain(last)),
    })
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|e| ApiError::new(ErrorCode::Internal, "JSON output", e.to_string()).into())
}

fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map_err(|e| ApiError::new(ErrorCode::Internal, "JSON output", e.to_string()).into())
}
