//! The definition as a whole.

use clap::CommandFactory;

use crate::generate;

#[test]
fn the_definition_is_consistent() {
    super::Cli::command().debug_assert();
}

fn every_command(command: &clap::Command, path: &[String], all: &mut Vec<Vec<String>>) {
    all.push(path.to_vec());
    for below in command.get_subcommands() {
        every_command(below, &[path, &[below.get_name().to_owned()]].concat(), all);
    }
}

/// Commands that look at something, run something, or write a file of the user's.
const CHANGE_NOTHING: [&str; 30] = [
    "br-exists",
    "capture",
    "check",
    "completions",
    "diff",
    "doctor",
    "events",
    "exec",
    "export",
    "fdb/show",
    "get",
    "graph",
    "import",
    "list",
    "logs",
    "list-br",
    "list-ports",
    "man",
    "new",
    "ping",
    "pingall",
    "port-to-br",
    "schema",
    "shell",
    "show",
    "showmacs",
    "status",
    "test",
    "top",
    "trace",
];

#[test]
fn what_changes_something_can_be_tried_before() {
    let tool = super::Cli::command();
    let mut all = Vec::new();
    every_command(&tool, &[], &mut all);
    let mut seen = 0;
    for path in all {
        let find = |command, word: &String| clap::Command::find_subcommand(command, word).unwrap();
        let command = path.iter().fold(&tool, find);
        // A noun, for which its verbs stand; some do something by themselves.
        let is_noun = command.has_subcommands() && !command.is_args_conflicts_with_subcommands_set();
        if is_noun || CHANGE_NOTHING.contains(&command.get_name()) {
            continue;
        }
        let mut arguments = command.get_arguments();
        let has = arguments.any(|arg| arg.get_long() == Some("dry-run") && arg.get_short() == Some('n'));
        assert!(
            has,
            "{path:?} has no -n, --dry-run; if it changes nothing, name it above"
        );
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

/// What `man` shows of a line of a page.
fn shown(line: &str) -> String {
    let plain = [("\\-", "-"), ("\\*(Aq", "'"), ("\\&", ""), ("\\e", "\\")];
    plain
        .iter()
        .fold(line.to_owned(), |line, (roff, plain)| line.replace(roff, plain))
}

/// On a terminal of 80 columns and on man pages each example stands as it is typed, so that it can be pasted (faults C).
#[test]
fn examples_are_never_wrapped() {
    let mut tool = super::Cli::command().disable_help_subcommand(true).term_width(80);
    tool.build();
    let mut all = Vec::new();
    every_command(&tool, &[], &mut all);
    let mut seen = 0;
    for path in all {
        let find = |command, word: &String| clap::Command::find_subcommand_mut(command, word).unwrap();
        let command = path.iter().fold(&mut tool, find);
        let text = command
            .get_after_long_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let short = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let help = command.render_long_help().to_string();
        let page = String::from_utf8(generate::page(&path).unwrap().unwrap()).unwrap();
        let kept: Vec<_> = page
            .split("\n.nf\n")
            .skip(1)
            .filter_map(|part| part.split("\n.fi").next())
            .collect();
        let kept: Vec<_> = kept.iter().flat_map(|part| part.lines()).map(shown).collect();
        for line in text.lines().chain(short.lines()) {
            assert!(line.chars().count() <= 78, "{path:?}: too wide: {line}");
        }
        // Not as with `{n}` in it, of which clap makes the end of a line.
        for line in text.lines() {
            assert!(help.contains(line), "{path:?}: {line}\nis not in\n{help}");
        }
        for line in text.lines().filter(|line| line.starts_with("  ")) {
            assert!(
                help.lines().any(|shown| shown == line),
                "{path:?}: {line}\nis not in\n{help}"
            );
            assert!(
                kept.iter().any(|shown| shown == line),
                "{path:?}: {line}\nis not in\n{page}"
            );
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen}");
}
