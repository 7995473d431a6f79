//! Errors of the command line. A wrong value is told in the one-line form of all other errors; for wrong usage
//! clap's own text is kept, which shows how the command is used.

use std::error::Error as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use vswitch_api::{ApiError, ErrorCode};

use crate::failure::Failure;

/// Tells a parse error (or prints the help that was asked for) and gives the exit code.
pub fn report(error: &clap::Error, json: bool) -> ExitCode {
    match told(error, json) {
        Some(api) => return Failure::from(api).report(json),
        // Nothing can be done about a terminal that takes no text.
        None => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What is told in one line; for the rest there is clap's own text.
fn told(error: &clap::Error, json: bool) -> Option<ApiError> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            None
        }
        ErrorKind::ValueValidation => wrong_value(error),
        ErrorKind::InvalidValue => not_one_of(error),
        ErrorKind::MissingRequiredArgument => missing(error),
        _ if json => Some(first_line(error)),
        _ => None,
    }
}

fn wrong_value(error: &clap::Error) -> Option<ApiError> {
    let arg = option_name(&text(error, ContextKind::InvalidArg)?);
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let cause = error.source()?.to_string();
    // The parsers' texts are sentences such as `address 192.168.15.1 has no prefix length`; those of Rust's own name no value.
    // Of KEY=VALUE, the one that names the key says which is meant.
    let named = |part: &str| cause.contains(part);
    let cause = if named(&value) || value.split_once('=').is_some_and(|(key, _)| named(key)) {
        cause
    } else {
        format!("{value:?} is no value for it: {cause}")
    };
    Some(ApiError::new(ErrorCode::Invalid, arg, cause))
}

fn not_one_of(error: &clap::Error) -> Option<ApiError> {
    let arg = option_name(&text(error, ContextKind::InvalidArg)?);
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let valid = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(valid)) if !valid.is_empty() => valid,
        _ if value.is_empty() => return Some(ApiError::new(ErrorCode::Invalid, arg, "it needs a value")),
        _ => return None,
    };
    let cause = if value.is_empty() {
        "it needs a value".to_owned()
    } else {
        format!("there is no {value:?}")
    };
    Some(ApiError::new(ErrorCode::Invalid, arg, cause).hint(format!("choose one of {}", valid.join(", "))))
}

/// What is not there and has to be.
fn missing(error: &clap::Error) -> Option<ApiError> {
    let Some(ContextValue::Strings(all)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let (last, before) = all.split_last()?;
    let last = argument(last);
    let needed = match before {
        [] => last,
        before => {
            let before: Vec<_> = before.iter().map(|arg| argument(arg)).collect();
            format!("{} and {last}", before.join(", "))
        }
    };
    let command = command_of(error);
    let name = command.strip_prefix("vswitchctl ").unwrap_or(&command);
    Some(ApiError::new(ErrorCode::Invalid, name, format!("it needs {needed}")).hint(format!("see `{command} --help`")))
}

/// `<NAME>...` as NAME, `--to <PORT>` as it stands, `<RULE|--file <FILE>>` as its parts.
fn argument(arg: &str) -> String {
    match arg.starts_with("--") {
        true => arg.replace(['<', '>'], "").trim_end_matches('.').to_owned(),
        false => arg.replace(['<', '>'], "").trim_end_matches('.').replace('|', " or "),
    }
}

/// The words of the command that was called, as its usage has them.
fn command_of(error: &clap::Error) -> String {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => String::new(),
    };
    let words = usage.split_whitespace().skip_while(|word| *word != "vswitchctl");
    let words: Vec<_> = words
        .take_while(|word| !word.starts_with(['<', '[', '-', '(']))
        .collect();
    match words.is_empty() {
        true => "vswitchctl".to_owned(),
        false => words.join(" "),
    }
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

/// `--addr <ADDR/LEN>` or `--gateway[=<ADDR>]` without the placeholder.
fn option_name(arg: &str) -> String {
    let arg = match arg.starts_with("--") {
        true => arg.split('[').next().unwrap_or(arg),
        false => arg,
    };
    arg.split(' ')
        .next()
        .unwrap_or(arg)
        .trim_matches(['<', '>', '[', ']', '.'])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{Arg, ArgAction, Command, CommandFactory};

    use super::*;
    use crate::cli::Cli;

    /// No name, number, address, word or rule.
    const BAD: &str = "!?";

    /// What takes any text.
    const FREE: [&str; 46] = [
        "log-level LEVEL",
        "acl add RULE",
        "acl set --in-file",
        "acl set --out-file",
        "add-port --description",
        "apply FILE",
        "bugreport --config",
        "bugreport --log",
        "bugreport FILE",
        "bridge fdb add WORD",
        "bridge fdb del WORD",
        "bridge fdb replace WORD",
        "bridge fdb show WORD",
        "bridge link set WORD",
        "bridge link show WORD",
        "bridge vlan add WORD",
        "bridge vlan del WORD",
        "bridge vlan show WORD",
        "capture --filter",
        "capture --write",
        "capture EXPRESSION",
        "export --into",
        "lab check FILE",
        "lab diff FILE",
        "lab down LAB|FILE",
        "lab export --into",
        "lab graph FILE",
        "lab import FILE",
        "lab new FILE",
        "lab test --junit",
        "lab test --svg",
        "lab test FILE",
        "lab up FILE",
        "link add --description",
        "man COMMAND|DIR",
        "mirror add --filter",
        "ns exec COMMAND",
        "port add --description",
        "reset --config",
        "reset --run-dir",
        "reset --state-dir",
        "shell SHELL",
        "switch add --description",
        "trace --filter",
        "trace --hex",
        "--socket",
    ];

    fn every_command<'a>(command: &'a Command, path: &str, all: &mut Vec<(String, &'a Command)>) {
        all.push((path.to_owned(), command));
        for below in command.get_subcommands() {
            every_command(below, format!("{path} {}", below.get_name()).trim(), all);
        }
    }

    /// The words of a call in which `arg` has a bad value. Values before it are good enough to be read.
    fn call(path: &str, command: &Command, arg: &Arg) -> Vec<String> {
        let mut words = vec!["vswitchctl".to_owned()];
        words.extend(path.split_whitespace().map(str::to_owned));
        match (arg.get_long(), arg.get_index()) {
            (Some(long), _) => words.push(format!("--{long}={BAD}")),
            (None, index) => {
                let before = command.get_positionals().filter(|other| other.get_index() < index);
                // A name, a MAC address and a direction would all do somewhere; each argument takes one of them.
                for other in before {
                    let good = match other.get_id().as_str() {
                        "mac" => "02:00:00:00:00:01",
                        "direction" => "in",
                        "table" => "port",
                        "column" => "tag",
                        "vlan" => "0",
                        "switched" => "on",
                        _ => "red",
                    };
                    words.push(good.to_owned());
                }
                words.push(BAD.to_owned());
            }
        }
        words
    }

    /// Each value that can't be is told in one line with its option and itself (faults C). A new option is among them by itself.
    #[test]
    fn a_bad_value_is_named_with_its_option() {
        let mut tool = Cli::command();
        tool.build();
        let mut all = Vec::new();
        every_command(&tool, "", &mut all);
        let (mut free, mut seen) = (BTreeSet::new(), 0);
        for (path, command) in all
            .iter()
            .filter(|(path, _)| !path.split(' ').any(|word| word == "help"))
        {
            // What stands behind -- is a command of its own.
            let takes_value =
                |arg: &&Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_last_set();
            for arg in command.get_arguments().filter(takes_value) {
                let words = call(path, command, arg);
                let line = words.join(" ");
                let value_name = arg.get_value_names().and_then(|names| names.first());
                let name = match arg.get_long() {
                    Some(long) => format!("--{long}"),
                    None => value_name.map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string),
                };
                let error = Cli::command().try_get_matches_from(&words).err();
                // That another argument is missing says nothing of this one.
                let about = |error: &&clap::Error| error.kind() != ErrorKind::MissingRequiredArgument;
                let told = error.as_ref().filter(about).and_then(|error| told(error, false));
                match told {
                    Some(error) => {
                        let text = error.to_string();
                        assert!(error.object.contains(&name), "{line}: {text} does not name {name}");
                        assert!(text.contains(BAD), "{line}: {text} does not name the value");
                        assert!(!text.contains('\n'), "{line}: {text}");
                        assert!(!text.contains("invalid digit"), "{line}: {text}");
                        seen += 1;
                    }
                    None => {
                        let place = if arg.is_global_set() { "" } else { path };
                        free.insert(format!("{place} {name}").trim().to_owned());
                    }
                }
            }
        }
        let expected: BTreeSet<_> = FREE.iter().map(ToString::to_string).collect();
        assert_eq!(free, expected);
        assert!(seen > 150, "{seen}");
    }

    /// Clap's text of it has five lines.
    #[test]
    fn what_is_missing_is_told_in_one_line() {
        for (line, told_so) in [
            ("add-port", "add-port: it needs NAME; see `vswitchctl add-port --help`"),
            (
                "link add main",
                "link add: it needs B; see `vswitchctl link add --help`",
            ),
            (
                "capture -c 3",
                "capture: it needs PORT; see `vswitchctl capture --help`",
            ),
            (
                "mirror add m",
                "mirror add: it needs --to PORT; see `vswitchctl mirror add --help`",
            ),
        ] {
            let words = format!("vswitchctl {line}");
            let error = Cli::command().try_get_matches_from(words.split(' ')).unwrap_err();
            let told = told(&error, false).unwrap_or_else(|| panic!("{line}: {error}"));
            assert_eq!(told.to_string(), told_so, "{line}: {error}");
        }
    }

    #[test]
    fn an_option_without_its_value_is_named() {
        for (line, name) in [
            ("set switch main --rspan-vlans", "--rspan-vlans"),
            ("set port red --mtu", "--mtu"),
            ("set port red --trunk", "--trunk"),
        ] {
            let words = format!("vswitchctl {line}");
            let error = Cli::command().try_get_matches_from(words.split(' ')).unwrap_err();
            let told = told(&error, false).unwrap_or_else(|| panic!("{line}: {error}"));
            assert_eq!(told.to_string(), format!("{name}: it needs a value"));
        }
    }
}
