//! Errors of the command line, in the one-line form of all other errors. Clap's own texts are kept for help alone.

use std::error::Error as _;
use std::io::Write as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory};
use vswitch_api::{ApiError, ErrorCode};

use crate::cli::Cli;
use crate::complete::keys_of;
use crate::failure::Failure;

const NO_COMMAND: &str = "it needs a command";

/// Tells a parse error (or prints the help that was asked for) and gives the exit code.
pub fn report(error: &clap::Error, json: bool) -> ExitCode {
    // Help is for people; that no command was named is for programs too.
    let names_none = error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && json;
    match told(error).or_else(|| names_none.then(|| about(error, NO_COMMAND.to_owned(), None))) {
        Some(api) => return Failure::from(api).report(json),
        None => {
            let printed = error.print().and_then(|()| std::io::stdout().flush());
            if let Err(error) = printed {
                return Failure::Output(error).report(json);
            }
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// What is told in one line; none: help was asked for, or a noun stands without its verb.
fn told(error: &clap::Error) -> Option<ApiError> {
    let error_of_kind = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return None;
        }
        ErrorKind::ValueValidation => wrong_value(error),
        ErrorKind::InvalidValue => not_one_of(error),
        ErrorKind::MissingRequiredArgument => missing(error),
        ErrorKind::UnknownArgument => unknown(error),
        ErrorKind::InvalidSubcommand => no_command(error),
        ErrorKind::ArgumentConflict => conflict(error),
        ErrorKind::MissingSubcommand => Some(about(error, NO_COMMAND.to_owned(), None)),
        _ => None,
    };
    Some(error_of_kind.unwrap_or_else(|| first_line(error)))
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
    let one_of = format!("choose one of {}", valid.join(", "));
    let hint = match text(error, ContextKind::SuggestedValue) {
        Some(meant) => format!("did you mean {meant}? {one_of}"),
        None => one_of,
    };
    Some(ApiError::new(ErrorCode::Invalid, arg, cause).hint(hint))
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
    Some(about(error, format!("it needs {needed}"), None))
}

/// `<NAME>...` as NAME, `--to <PORT>` as it stands, `<RULE|--file <FILE>>` as its parts.
fn argument(arg: &str) -> String {
    match arg.starts_with("--") {
        true => arg.replace(['<', '>'], "").trim_end_matches('.').to_owned(),
        false => {
            let bare = arg.replace(['<', '>'], "");
            let parts: Vec<_> = bare.trim_end_matches('.').split('|').collect();
            match parts[..] {
                // Too many for a line: what all of them can be said by, and where they stand.
                [first, _, _, _, _, ..] => format!("{first} or an option"),
                _ => parts.join(" or "),
            }
        }
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

/// An option that there is not, or a word too many.
fn unknown(error: &clap::Error) -> Option<ApiError> {
    let said = text(error, ContextKind::InvalidArg)?;
    let negative = said
        .strip_prefix('-')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let cause = match said.starts_with('-') {
        true if negative => format!("there is no option {said}, and no value that is less than zero"),
        true => format!("there is no option {said}"),
        false => format!("{said:?} is a word too many"),
    };
    let meant = text(error, ContextKind::SuggestedArg).map(|meant| option_name(&meant));
    let meant = meant.or_else(|| {
        let words = command_of(error);
        let command = command_called(&words)?;
        option_of_word(&command, &said)
            .or_else(|| key_of_option(&command, &words, &said))
            .or_else(|| program_of(&command))
    });
    Some(about(error, cause, meant))
}

/// The option that is a word of other tools: `ip route add 10.0.0.0/8 via 10.0.0.1`.
fn option_of_word(command: &Command, word: &str) -> Option<String> {
    let mut options = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let is_option = options.any(|option| option.get_long() == Some(word));
    is_option.then(|| format!("--{word}"))
}

/// What is to be run is not to be mistaken for ours.
fn program_of(command: &Command) -> Option<String> {
    let last = command.get_positionals().find(|arg| arg.is_last_set())?;
    let name = last.get_value_names().and_then(|names| names.first())?;
    Some(format!("-- {name}"))
}

/// The key by which something is set that has no option: `--gateway` of a switch. `words`: the command's.
fn key_of_option(command: &Command, words: &str, option: &str) -> Option<String> {
    let by_keys = |arg: &clap::Arg| arg.get_value_names().is_some_and(|names| names == ["KEY=VALUE"]);
    command.get_positionals().find(|arg| by_keys(arg))?;
    let mut words = words.rsplit(' ');
    let (name, above) = (words.next()?, words.next().unwrap_or_default());
    let key = option.strip_prefix("--")?.replace('-', "_");
    let settings = keys_of(name, above)();
    let setting = settings
        .iter()
        .find(|setting| setting.key == key && setting.takes_values())?;
    Some(format!("{key}={}", setting.placeholder()))
}

/// A verb, or a noun, that there is not.
fn no_command(error: &clap::Error) -> Option<ApiError> {
    let said = text(error, ContextKind::InvalidSubcommand)?;
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(all)) => all.clone(),
        _ => Vec::new(),
    };
    let command = command_called(&command_of(error));
    // Words that are understood too are shown nowhere.
    let shown = |near: &String| {
        let command = command.as_ref()?.find_subcommand(near)?;
        Some(command.get_name().to_owned())
    };
    // Nobody means help by another word, and nobody is led to what removes everything. The one that is most alike comes last.
    let is_meant = |meant: &String| !["help", "reset"].contains(&meant.as_str());
    let meant = near.last().and_then(shown).filter(is_meant);
    let meant = meant.or_else(|| command.as_ref().and_then(|command| verb_of_some(command, &said)));
    let mut error = about(error, format!("there is no command {said:?}"), meant.clone());
    let verbs = || {
        let command = command_called(&error.object)?;
        let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<_> = verbs.map(Command::get_name).filter(|name| *name != "help").collect();
        Some(verbs.join(", "))
    };
    if meant.is_none()
        && error.object != "command line"
        && let Some(verbs) = verbs()
    {
        error.hint = Some(match error.object.as_str() {
            // It is no object of its own.
            "vlan" => {
                format!("ports are put into VLANs by `vswitchctl set port NAME vlan.access=10`; choose one of {verbs}")
            }
            _ => format!("choose one of {verbs}"),
        });
    }
    Some(error)
}

/// The nouns whose verb it is, with it, if these are few: `exec red ls` says none.
fn verb_of_some(command: &Command, verb: &str) -> Option<String> {
    let nouns = command.get_subcommands().filter(|noun| !noun.is_hide_set());
    let have = nouns.filter_map(|noun| {
        Some(format!(
            "{} {}",
            noun.get_name(),
            noun.find_subcommand(verb)?.get_name()
        ))
    });
    let have: Vec<_> = have.collect();
    (1..=3).contains(&have.len()).then(|| have.join(" or "))
}

/// Two options that exclude each other, or one that is said twice.
fn conflict(error: &clap::Error) -> Option<ApiError> {
    // A word where a verb could stand.
    if let Some(word) = text(error, ContextKind::InvalidSubcommand) {
        let meant = word.split_once('=').map(|(key, value)| format!("--{key} {value}"));
        return Some(about(error, format!("{word:?} is a word too many"), meant));
    }
    let said = option_name(&text(error, ContextKind::InvalidArg)?);
    let before = match error.get(ContextKind::PriorArg) {
        Some(ContextValue::String(one)) => vec![option_name(one)],
        Some(ContextValue::Strings(all)) => all.iter().map(|one| option_name(one)).collect(),
        _ => Vec::new(),
    };
    let cause = match before[..] {
        [] => return None,
        [ref before] if *before == said => format!("{said} is said twice"),
        _ => format!("{said} can't be said together with {}", before.join(", ")),
    };
    Some(about(error, cause, None))
}

/// Something about a command as a whole.
fn about(error: &clap::Error, cause: String, meant: Option<String>) -> ApiError {
    let command = command_of(error);
    let see = format!("see `{command} --help`");
    let hint = match meant {
        Some(meant) => format!("did you mean {meant}? {see}"),
        None => see,
    };
    ApiError::new(ErrorCode::Invalid, without_program(&command), cause).hint(hint)
}

fn without_program(command: &str) -> &str {
    command.strip_prefix("vswitchctl ").unwrap_or("command line")
}

/// The definition of the command of these words.
fn command_called(words: &str) -> Option<Command> {
    let mut words = words.split(' ').skip_while(|word| *word == "vswitchctl");
    words.try_fold(Cli::command(), |command, word| command.find_subcommand(word).cloned())
}

/// Anything else: clap's sentence without the usage text.
fn first_line(error: &clap::Error) -> ApiError {
    let text = error.to_string();
    let (sentence, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let words: Vec<_> = sentence.trim_start_matches("error: ").split_whitespace().collect();
    about(error, words.join(" "), None)
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
mod tests;
