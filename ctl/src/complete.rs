//! Completion as it is asked for by the scripts of [`crate::generate`]: this program is run for each TAB, so that it can ask the
//! daemon what there is.

use std::any::TypeId;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::CompleteEnv;
use serde_json::Value;
use vswitch_api::cable::CableSettings;
use vswitch_api::settings::{Assignment, Setting, settings};
use vswitch_api::{CommandName, LabName, MirrorName, NsName, Port, PortName, Switch, SwitchName};
use vswitch_client::Client;

use crate::cli::Cli;
use crate::cli::bridge::Word;
use crate::cli::command::ProcessName;
use crate::cli::mirror::Ports;
use crate::cli::namespace::NsAssignment;
use crate::cli::ping::Target;
use crate::cli::trace::Station;
use crate::generate::COMPLETE;

/// Who waits for a TAB does not wait long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers a shell that asks what could stand at the cursor, and ends; comes back if none has asked.
pub fn answer() {
    CompleteEnv::with_factory(|| with_names(Cli::command(), ""))
        .var(COMPLETE)
        .complete();
}

/// Settings that a command takes by their keys. `above`: the word before its own.
pub fn keys_of(name: &str, above: &str) -> fn() -> Vec<Setting> {
    match (name, above) {
        ("switch", _) | (_, "switch") => settings::<Switch>,
        ("cable", _) | (_, "cable") => settings::<CableSettings>,
        _ => settings::<Port>,
    }
}

/// The command with what can be asked of the daemon: by the type of an argument it is known what it names.
fn with_names(command: Command, above: &str) -> Command {
    let name = command.get_name().to_owned();
    // What is to be added is not there yet.
    let adds = ["add", "add-port"].contains(&name.as_str());
    let keys = keys_of(&name, above);
    let captures = name == "capture";
    // The link that is meant goes by either of its ports.
    let of_link = name == "link" || above == "link" && !adds;
    let command = command.mut_args(|arg| {
        // With --any more ports; a filter is typed all the same.
        if captures && arg.get_id() == "expression" {
            return arg.add(ArgValueCompleter::new(|typed: &OsStr| names("/v1/ports", typed)));
        }
        // By its name, or by its file.
        if name == "down" && arg.get_id() == "lab" {
            return arg.add(ArgValueCompleter::new(|typed: &OsStr| {
                let mut all = labs(typed);
                all.extend(PathCompleter::any().complete(typed));
                all
            }));
        }
        let is_new = adds && ["name", "names"].contains(&arg.get_id().as_str());
        if is_new {
            return arg;
        }
        if of_link && arg.get_value_parser().type_id() == TypeId::of::<PortName>() {
            return arg.add(ArgValueCompleter::new(link_ends));
        }
        // Records of ovs-vsctl are ports or bridges.
        if above == "ovs" && arg.get_id() == "record" {
            return arg.add(ArgValueCompleter::new(words));
        }
        // What a port or a switch has, to be taken away.
        let has = match (above, arg.get_id().as_str()) {
            _ if name != "del" => None,
            ("addr", "address") => Some(addresses as fn(&Value) -> Vec<String>),
            ("route", "to") => Some(destinations as _),
            ("publish", "numbers") => Some(published as _),
            ("fdb", "mac") => {
                return arg.add(ArgValueCompleter::new(|typed: &OsStr| {
                    starting(stations(&ask("/v1/switches/main/fdb")), typed)
                }));
            }
            _ => None,
        };
        if let Some(has) = has {
            return arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
                let port = word_after("del").unwrap_or_default();
                starting(has(&ask(&format!("/v1/ports/{port}"))), typed)
            }));
        }
        with_completer(arg, keys)
    });
    command.mut_subcommands(|below| with_names(below, &name))
}

fn with_completer(arg: Arg, keys: fn() -> Vec<Setting>) -> Arg {
    let of = arg.get_value_parser().type_id();
    let lists = [
        (TypeId::of::<PortName>(), "/v1/ports"),
        (TypeId::of::<Target>(), "/v1/ports"),
        (TypeId::of::<Station>(), "/v1/ports"),
        (TypeId::of::<SwitchName>(), "/v1/switches"),
        (TypeId::of::<MirrorName>(), "/v1/mirrors"),
        (TypeId::of::<ProcessName>(), "/v1/processes"),
        (TypeId::of::<CommandName>(), "/v1/commands"),
    ];
    if let Some((_, list)) = lists.into_iter().find(|(id, _)| of == *id) {
        return arg.add(ArgValueCompleter::new(move |typed: &OsStr| names(list, typed)));
    }
    if of == TypeId::of::<Word>() {
        return arg.add(ArgValueCompleter::new(words));
    }
    if of == TypeId::of::<Ports>() {
        return arg.add(ArgValueCompleter::new(|typed: &OsStr| {
            listed(typed, |last| names("/v1/ports", last))
        }));
    }
    if of == TypeId::of::<NsName>() {
        return arg.add(ArgValueCompleter::new(namespaces));
    }
    if of == TypeId::of::<LabName>() {
        return arg.add(ArgValueCompleter::new(labs));
    }
    if of == TypeId::of::<Assignment>() {
        return arg.add(ArgValueCompleter::new(move |typed: &OsStr| assignments(keys(), typed)));
    }
    if of == TypeId::of::<NsAssignment>() {
        return arg.add(ArgValueCompleter::new(sysctls));
    }
    arg
}

/// Settings of the kernel in a namespace, one part of their names after the other, as folders and files are: a namespace has those of the
/// host. And the files that most have.
fn sysctls(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let (folder, _) = typed.rsplit_once('.').unwrap_or(("", &typed));
    let mut words = vec!["files.hosts=".to_owned(), "files.resolv.conf=".to_owned()];
    if folder.is_empty() {
        words.push("net.".to_owned());
    } else if folder == "net" || folder.starts_with("net.") {
        let path = PathBuf::from("/proc/sys").join(folder.replace('.', "/"));
        let entries = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
        words.extend(entries.map(|entry| {
            let end = if entry.path().is_dir() { "." } else { "=" };
            format!("{folder}.{}{end}", entry.file_name().to_string_lossy())
        }));
    }
    words.retain(|word| word.starts_with(&*typed));
    words.sort();
    words.into_iter().map(CompletionCandidate::new).collect()
}

/// Names that begin so. Where the daemon does not answer there are none.
fn names(list: &str, typed: &OsStr) -> Vec<CompletionCandidate> {
    named(&ask(list), typed)
}

/// The last of what has commas between.
fn listed(typed: &OsStr, last: impl Fn(&OsStr) -> Vec<CompletionCandidate>) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let (before, part) = typed
        .rsplit_once(',')
        .map_or(("", &*typed), |(before, part)| (before, part));
    let before = match before {
        "" => String::new(),
        before => format!("{before},"),
    };
    last(OsStr::new(part))
        .into_iter()
        .map(|one| one.add_prefix(&before))
        .collect()
}

/// Namespaces by their names, and those without one by the ports that are in them.
fn namespaces(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut all = names("/v1/namespaces", typed);
    let is_new = |one: &CompletionCandidate| !all.iter().any(|known| known.get_value() == one.get_value());
    // Those in a namespace that has no name stand for it; gateways, link ends and devices of the host are in none.
    let mut ports = ask("/v1/ports");
    if let Some(ports) = ports.as_array_mut() {
        ports.retain(|port| port["namespace"].is_object());
    }
    let ports: Vec<_> = named(&ports, typed).into_iter().filter(is_new).collect();
    all.extend(ports);
    all
}

/// Ports that are ends of links.
fn link_ends(typed: &OsStr) -> Vec<CompletionCandidate> {
    let mut ports = ask("/v1/ports");
    if let Some(ports) = ports.as_array_mut() {
        ports.retain(|port| port["peer"].is_string());
    }
    named(&ports, typed)
}

fn addresses(port: &Value) -> Vec<String> {
    of_list(&port["addresses"], |one| one.as_str().map(str::to_owned))
}

fn destinations(port: &Value) -> Vec<String> {
    of_list(&port["routes"], |one| one["to"].as_str().map(str::to_owned))
}

fn published(port: &Value) -> Vec<String> {
    of_list(&port["publish"], |one| one.as_str().map(str::to_owned))
}

fn stations(fdb: &Value) -> Vec<String> {
    of_list(fdb, |one| one["mac"].as_str().map(str::to_owned))
}

fn of_list(list: &Value, text: impl Fn(&Value) -> Option<String>) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(text).collect()
}

/// Those that begin so.
fn starting(all: Vec<String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let all = all.into_iter().filter(|one| one.starts_with(&*typed));
    all.map(CompletionCandidate::new).collect()
}

/// The words of the line.
fn line() -> Vec<OsString> {
    env::args_os().skip_while(|word| word != "--").skip(1).collect()
}

/// The word of the line behind this one.
fn word_after(word: &str) -> Option<String> {
    let line = line();
    let at = line.iter().position(|other| other == word)?;
    line.get(at + 1)?.to_str().map(str::to_owned)
}

/// What `bridge` and `ovs` name, by the word before it.
fn words(typed: &OsStr) -> Vec<CompletionCandidate> {
    let line = line();
    // Fish says nothing of it: the word at its cursor is the last.
    let index = env::var("_CLAP_COMPLETE_INDEX")
        .ok()
        .and_then(|index| index.parse().ok());
    let at: usize = index.unwrap_or(line.len().saturating_sub(1));
    let before = at.checked_sub(1).and_then(|at| line.get(at)?.to_str());
    match before {
        Some("br" | "bridge" | "Bridge") => names("/v1/switches", typed),
        _ => names("/v1/ports", typed),
    }
}

/// Labs that are up.
fn labs(typed: &OsStr) -> Vec<CompletionCandidate> {
    named(&ask("/v1/lab")["labs"], typed)
}

/// What the daemon says; null if it does not answer.
fn ask(path: &str) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.ok().and_then(|runtime| {
        let client = Client::new(socket()).patience(PATIENCE);
        runtime.block_on(client.get(path)).ok()
    });
    answer.unwrap_or_default()
}

fn named(list: &Value, typed: &OsStr) -> Vec<CompletionCandidate> {
    starting(of_list(list, |one| one["name"].as_str().map(str::to_owned)), typed)
}

/// The socket that the line names, else that of the environment, else the usual one.
fn socket() -> PathBuf {
    let mut words = env::args_os().skip_while(|word| word != "--").skip(1);
    let mut said: Option<OsString> = None;
    while let Some(word) = words.next() {
        if word == "--socket" {
            said = words.next();
        } else if let Some(path) = word.to_str().and_then(|word| word.strip_prefix("--socket=")) {
            said = Some(path.into());
        }
    }
    said.or_else(|| env::var_os("VSWITCH_SOCKET").filter(|path| !path.is_empty()))
        .unwrap_or_else(|| vswitch_api::DEFAULT_SOCKET.into())
        .into()
}

/// `KEY=`, and behind it the values that can be listed.
fn assignments(mut all: Vec<Setting>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    all.retain(Setting::takes_values);
    let words = all.into_iter().flat_map(|setting| {
        let about = setting.about.clone();
        let list = match setting.key.as_str() {
            "switch" => Some("/v1/switches"),
            "peer" => Some("/v1/ports"),
            "namespace" => Some("/v1/namespaces"),
            _ => None,
        };
        let key = format!("{}=", setting.key);
        if let (Some(list), Some(value)) = (list, typed.strip_prefix(&key)) {
            let there = named(&ask(list), OsStr::new(value)).into_iter();
            let there = there.map(|one| format!("{key}{}", one.get_value().to_string_lossy()));
            return there.map(|word| (word, about.clone())).collect::<Vec<_>>();
        }
        let words: Vec<_> = match typed.contains('=') {
            true => setting
                .values()
                .into_iter()
                .map(|value| format!("{}={value}", setting.key))
                .collect(),
            false => vec![key],
        };
        words.into_iter().map(|word| (word, about.clone())).collect()
    });
    words
        .filter(|(word, _)| word.starts_with(&*typed))
        .map(|(word, about)| CompletionCandidate::new(word).help(Some(about.into())))
        .collect()
}
