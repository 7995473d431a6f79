//! Completions and man pages, made of the command line's own definition; used by the build script and by
//! `vswitchctl completions` and `vswitchctl man`.

use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::cli::Cli;

/// The completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "vswitchctl", &mut script);
    script
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
