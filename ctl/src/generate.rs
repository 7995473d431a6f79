//! Completions and man pages, made of the command line's own definition; used by the build script and by
//! `vswitchctl completions` and `vswitchctl man`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use vswitch_api::settings::{Setting, settings};
use vswitch_api::{Port, Switch};

use crate::cli::Cli;

/// The completion script of a shell. clap_complete knows nothing of words such as `KEY=VALUE`: what completes those is added.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vswitchctl", &mut script);
    let keys = [("port", settings::<Port>()), ("switch", settings::<Switch>())];
    let keys = keys.map(|(kind, mut all)| {
        all.retain(Setting::takes_values);
        (kind, all)
    });
    match shell {
        Shell::Bash => script.extend(bash_keys(&keys).into_bytes()),
        Shell::Fish => script.extend(fish_keys(&keys).into_bytes()),
        Shell::Zsh => script = zsh_keys(&String::from_utf8_lossy(&script), &keys).into_bytes(),
        _ => {}
    }
    script
}

/// What can be set, and by which keys.
type Keys = [(&'static str, Vec<Setting>); 2];

/// `KEY= KEY=`
fn all_keys(all: &[Setting]) -> String {
    all.iter()
        .map(|setting| format!("{}=", setting.key))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Keys by the values that can be listed for them.
fn by_values(all: &[Setting]) -> BTreeMap<String, Vec<&str>> {
    let mut by_values = BTreeMap::<_, Vec<_>>::new();
    for setting in all.iter().filter(|setting| !setting.values().is_empty()) {
        by_values
            .entry(setting.values().join(" "))
            .or_default()
            .push(setting.key.as_str());
    }
    by_values
}

/// bash parts words at `=`: they are put together again, and of what is offered only the part behind it is given back.
fn bash_keys(keys: &Keys) -> String {
    let (mut lists, mut values) = (String::new(), String::new());
    for (kind, all) in keys {
        let _ = writeln!(lists, "            {kind}) list=\"{}\" ;;", all_keys(all));
        for (words, keys) in by_values(all) {
            let patterns: Vec<_> = keys.iter().map(|key| format!("\"{kind} {key}\"")).collect();
            let _ = writeln!(values, "            {}) list=\"{words}\" ;;", patterns.join("|"));
        }
    }
    format!(
        r#"
_vswitchctl_keys() {{
    local word="${{COMP_LINE:0:COMP_POINT}}" kind="" list="" i
    word="${{word##*[[:space:]]}}"
    for ((i = 1; i + 2 < COMP_CWORD; i++)); do
        if [[ ${{COMP_WORDS[i]}} == set ]]; then
            kind="${{COMP_WORDS[i + 1]}}"
            break
        fi
    done
    if [[ ! $kind =~ ^(port|switch)$ || $word == -* || $3 == -* ]]; then
        _vswitchctl "$@"
        return
    fi
    compopt +o default +o bashdefault 2> /dev/null
    if [[ $word == *=* ]]; then
        case "$kind ${{word%%=*}}" in
{values}        esac
        COMPREPLY=($(compgen -W "$list" -- "${{word#*=}}"))
    else
        case "$kind" in
{lists}        esac
        COMPREPLY=($(compgen -W "$list" -- "$word"))
        compopt -o nospace 2> /dev/null
    fi
}}
complete -F _vswitchctl_keys -o bashdefault -o default vswitchctl
"#
    )
}

fn zsh_keys(script: &str, keys: &Keys) -> String {
    let mut functions = String::new();
    let mut lines: Vec<_> = script.lines().map(str::to_owned).collect();
    for (kind, all) in keys {
        let _ = writeln!(
            functions,
            "(( $+functions[_vswitchctl_keys_{kind}] )) ||\n_vswitchctl_keys_{kind}() {{"
        );
        let _ = writeln!(functions, "    if compset -P '*='; then\n        case $IPREFIX in");
        for (words, keys) in by_values(all) {
            let patterns: Vec<_> = keys.iter().map(|key| format!("{key}=")).collect();
            let _ = writeln!(functions, "            ({}) compadd -- {words} ;;", patterns.join("|"));
        }
        let _ = writeln!(
            functions,
            "        esac\n    else\n        compadd -S '' -- {}\n    fi\n}}\n",
            all_keys(all)
        );
        // The argument of the command of this kind, which stands in the order of `keys`.
        let mut places = lines.iter_mut().filter(|line| line.starts_with("'*::keys -- "));
        if let Some(line) = places.find(|line| line.contains(":_default'")) {
            *line = line.replace(":_default'", &format!(":_vswitchctl_keys_{kind}'"));
        }
    }
    // Before the call at its end.
    let end = lines
        .iter()
        .rposition(|line| line.starts_with("if ["))
        .unwrap_or(lines.len());
    lines.splice(end..end, functions.lines().map(str::to_owned));
    lines.join("\n") + "\n"
}

fn fish_keys(keys: &Keys) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let mut lines = String::new();
    for (kind, all) in keys {
        let here = format!("\"__fish_vswitchctl_using_subcommand set; and __fish_seen_subcommand_from {kind}\"");
        for setting in all {
            let words = setting
                .values()
                .into_iter()
                .map(|value| format!("{}={value}", setting.key));
            let about = quoted(&setting.about);
            for word in words.chain([format!("{}=", setting.key)]) {
                let _ = writeln!(
                    lines,
                    "complete -c vswitchctl -n {here} -f -a {} -d {about}",
                    quoted(&word)
                );
            }
        }
    }
    lines
}

/// The page, in roff, of the command that these words name; of the tool as a whole without any. None: there is no such
/// command.
pub fn page(words: &[String]) -> io::Result<Option<Vec<u8>>> {
    let tool = built();
    let mut command = &tool;
    for word in words {
        match command.find_subcommand(word) {
            Some(below) => command = below,
            None => return Ok(None),
        }
    }
    let mut page = Vec::new();
    render(command, &mut page)?;
    Ok(Some(page))
}

/// Writes the pages of the tool and of every command into a directory.
pub fn all_pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    write_with_those_below(&built(), dir)
}

/// With the names of pages filled in, and without the command `help`, which has none.
fn built() -> Command {
    let mut tool = Cli::command().disable_help_subcommand(true);
    tool.build();
    tool
}

fn write_with_those_below(command: &Command, dir: &Path) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        write_with_those_below(below, dir)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut page = Vec::new();
    render(command, &mut page)?;
    std::fs::write(dir.join(format!("{name}.1")), page)
}

/// One page. The examples stand in it as they are typed: `man` fills no line of them.
fn render(command: &Command, page: &mut dyn Write) -> io::Result<()> {
    let man = Man::new(command.clone());
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    if command.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(page)?;
    }
    if command.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(page)?;
    }
    if let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        extra(&text.to_string()).to_writer(page)?;
    }
    if command.get_version().is_some() {
        man.render_version_section(page)?;
    }
    Ok(())
}

/// What stands behind the options in the help. Lines that are set in are kept as they are, at the left edge, since the
/// longest would not fit behind the margin of a page.
fn extra(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXTRA"]);
    let mut verbatim = false;
    for line in text.lines() {
        if verbatim != line.starts_with("  ") {
            verbatim = !verbatim;
            let (filling, indent): (_, &[&str]) = if verbatim { ("nf", &["0"]) } else { ("fi", &[]) };
            roff.control(filling, []);
            roff.control("in", indent.iter().copied());
        }
        if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line)]);
        }
    }
    if verbatim {
        roff.control("fi", []);
        roff.control("in", []);
    }
    roff
}
