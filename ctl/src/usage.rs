//! Errors of the command line. A wrong value is told in the one-line form of all other errors; for wrong usage
//! clap's own text is kept, which shows how the command is used.

use std::error::Error as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use vswitch_api::{ApiError, ErrorCode};

use crate::failure::Failure;

/// Tells a parse error (or prints the help that was asked for) and gives the exit code.
pub fn report(error: &clap::Error, json: bool) -> ExitCode {
    let told = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            None
        }
        ErrorKind::ValueValidation => wrong_value(error),
        ErrorKind::InvalidValue => not_one_of(error),
        _ if json => Some(first_line(error)),
        _ => None,
    };
    match told {
        // The parsers' texts are whole sentences that begin with their object: `address 192.168.15.1 has no ...`.
        Some(api) if error.kind() == ErrorKind::ValueValidation && !json => eprintln!("vswitchctl: {}", api.cause),
        Some(api) => return Failure::from(api).report(json),
        // Nothing can be done about a terminal that takes no text.
        None => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn wrong_value(error: &clap::Error) -> Option<ApiError> {
    let arg = option_name(&text(error, ContextKind::InvalidArg)?);
    Some(ApiError::new(ErrorCode::Invalid, arg, error.source()?.to_string()))
}

fn not_one_of(error: &clap::Error) -> Option<ApiError> {
    let arg = option_name(&text(error, ContextKind::InvalidArg)?);
    let Some(ContextValue::Strings(valid)) = error.get(ContextKind::ValidValue) else {
        return None;
    };
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let cause = if value.is_empty() {
        "it needs a value".to_owned()
    } else {
        format!("there is no {value:?}")
    };
    Some(ApiError::new(ErrorCode::Invalid, arg, cause).hint(format!("choose one of {}", valid.join(", "))))
}

/// Wrong usage for a program: the sentence without the usage text.
fn first_line(error: &clap::Error) -> ApiError {
    let text = error.to_string();
    let (sentence, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let cause = sentence
        .trim_start_matches("error: ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    ApiError::new(ErrorCode::Invalid, "command line", cause).hint("see `vswitchctl --help`")
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// `--addr <ADDR/LEN>` without the placeholder.
fn option_name(arg: &str) -> String {
    arg.split(' ')
        .next()
        .unwrap_or(arg)
        .trim_matches(['<', '>', '[', ']', '.'])
        .to_owned()
}
