//! Commands about the whole lab, and about the tool itself.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

/// Arguments of `apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// Lab file (TOML); `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask before ports, namespaces, cables or switches are removed
    #[arg(long, short = 'y', visible_alias = "prune")]
    pub yes: bool,
    /// Take devices over though the host has addresses or routes on them
    #[arg(long)]
    pub force: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// `lab ...`
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Print the JSON Schema of lab files, by which editors complete and check them
    #[command(after_long_help = "\
Example:
  vswitchctl lab schema > lab.schema.json

A lab file that begins with `#:schema ./lab.schema.json` is then completed and
checked by editors that know TOML (taplo, Even Better TOML).")]
    Schema,
}

/// Arguments of `reset`.
#[derive(Args, Debug)]
pub struct ResetArgs {
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Say what would be removed, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Arguments of `completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Command whose page is printed, or a directory for all pages (default: print the main page)
    #[arg(value_name = "COMMAND|DIR")]
    pub what: Vec<String>,
}
