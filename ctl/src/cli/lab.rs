//! Commands about the whole lab, and about the tool itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;
use vswitch_api::LabName;

use super::{DEL, Removal, parse};

/// Arguments of `apply`.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// Lab file (TOML); `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask before ports, namespaces, cables or switches are removed
    #[arg(long, short = 'y', visible_alias = "prune")]
    pub yes: bool,
    /// Take what the host uses: devices with addresses or routes, its own networks
    #[arg(long)]
    pub force: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Arguments of `export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// Write it into this lab file, which keeps its comments and order
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
    /// With --into: print what the file would be, write nothing
    #[arg(long, requires = "into")]
    pub print: bool,
}

/// `lab ...`
#[derive(Debug, Subcommand)]
pub enum LabCommand {
    /// Tell everything that is wrong with a lab file, and where
    #[command(after_long_help = "\
Examples:
  vswitchctl lab check lab.toml
  vswitchctl lab check --json lab.toml | jq '.problems[].message'

Each problem is FILE:LINE:COLUMN: MESSAGE, with the line below. It works
without a daemon; where one runs, it is asked too. Exit code: 0 nothing is
wrong, 1 something is.")]
    Check(LabFileArgs),
    /// Make what a lab file says, beside other labs
    #[command(aliases = ["add", "create"], after_long_help = "\
Examples:
  vswitchctl lab up lab.toml
  vswitchctl lab up -n lab.toml         # say what would change

All of it or nothing; Ctrl-C takes back what was made. A lab is called as its
file says (`name = \"...\"`), or as the file without its ending. It owns what
was made for it: a later `lab up` of the file changes and removes only that,
and `lab down` removes it. Where something would go, or a
command that runs would be stopped, it asks, or needs --yes.

One entry with a range is many: name = \"h{1..50}\" makes 50 ports, and an n in
braces in its other texts is the number of each, here with ten added to it:
addresses = [\"10.0.0.{n+10}/24\"]. There are also {n-1}, {n:02} (leading
zeros) and {n:02x} (base 16).")]
    Up(LabUpArgs),
    /// Remove what a lab owns, and nothing else
    #[command(aliases = DEL, alias = "del", after_long_help = "\
Examples:
  vswitchctl lab down lab               # by its name
  vswitchctl lab down lab.toml          # by its file
  vswitchctl lab down -n lab.toml       # say what would be removed

Of a file that was never brought up by `lab up`, what it names is removed as
far as no lab owns it.")]
    Down(LabDownArgs),
    /// Say what `lab up` of a file would change
    #[command(after_long_help = "\
Example:
  vswitchctl lab diff lab.toml && echo 'all is as the file says'

Exit code as that of diff: 0 nothing would change, 1 something would,
2 trouble.")]
    Diff(LabFileArgs),
    /// List the labs that are up, and what each owns
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  vswitchctl lab list
  vswitchctl lab list --json | jq '.[].ports'"
    )]
    List,
    /// Write a lab file to begin with
    #[command(after_long_help = "\
Example:
  vswitchctl lab new lab.toml

A file that is there is never overwritten.")]
    New(LabFileArgs),
    /// Ping between all ports of a lab, and hold it against what the file expects
    #[command(after_long_help = "\
Examples:
  vswitchctl lab test lab.toml
  vswitchctl lab test --junit report.xml lab.toml
  vswitchctl lab test --speed --svg lab.svg lab.toml

A lab file may say who is to reach whom; the last that is about a pair counts,
and a * at the end of a name stands for all that follows:

  reach = [\"* -> *\", \"!guest* -> server\", \"red <-> blue\"]

Without it all are to reach all. For what is not as expected it says why, as
`vswitchctl doctor` does. Only ports of this lab are looked at, not others of
the same names. It needs root. Exit code: 0 all is as expected, 1 something is
not, others as of every command.")]
    Test(LabTestArgs),
    /// Draw a lab
    #[command(after_long_help = "\
Examples:
  vswitchctl lab graph lab.toml > lab.mmd
  vswitchctl lab graph --format svg lab.toml > lab.svg
  vswitchctl lab graph --live --format dot | dot -Tpng > lab.png")]
    Graph(LabGraphArgs),
    /// Print what a lab is now as a lab file, or write it into its file
    #[command(
        alias = "show",
        after_long_help = "\
Examples:
  vswitchctl lab export lab > copy.toml
  vswitchctl lab export lab --into lab.toml
  vswitchctl lab export lab --into lab.toml --print | diff lab.toml -

With --into the file keeps its comments, order and ranges, as with
`vswitchctl export --into`."
    )]
    Export(LabExportArgs),
    /// Print a lab file that is like a topology of containerlab or Mininet
    #[command(after_long_help = "\
Examples:
  vswitchctl lab import demo.clab.yml > demo.toml
  vswitchctl lab import topology.mn > topology.toml

Of containerlab (YAML): nodes of kind linux are namespaces, bridge and
ovs-bridge are switches, links are ports, cables, links of switches, or ports
to the host; `ip addr add` and the like in `exec` become addresses and routes.
Of Mininet: what its editor (miniedit) saves.

What can't be expressed is listed on stderr. Exit code: 0 all of it is in the
lab, 1 something was left out, 2 it is no such topology.")]
    Import(LabImportArgs),
    /// Print the JSON Schema of lab files, by which editors complete and check them
    #[command(after_long_help = "\
Example:
  vswitchctl lab schema > lab.schema.json

A lab file that begins with `#:schema ./lab.schema.json` is then completed and
checked by editors that know TOML (taplo, Even Better TOML).")]
    Schema,
}

/// A lab file.
#[derive(Args, Debug)]
pub struct LabFileArgs {
    /// Lab file (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `lab up`.
#[derive(Args, Debug)]
pub struct LabUpArgs {
    /// Lab file (TOML)
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Do not ask before something is removed that the lab owns and the file does not name any more
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Take what the host uses: devices with addresses or routes, its own networks
    #[arg(long)]
    pub force: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Arguments of `lab down`.
#[derive(Args, Debug)]
pub struct LabDownArgs {
    /// Name of a lab that is up, or its file
    #[arg(value_name = "LAB|FILE")]
    pub lab: PathBuf,
    /// How to remove it.
    #[command(flatten)]
    pub removal: Removal,
}

/// Arguments of `lab test`.
#[derive(Args, Debug)]
pub struct LabTestArgs {
    /// Lab file (TOML) of a lab that is up
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Write the outcome as JUnit XML too, for CI
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Draw the outcome as a heat map too
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Seconds that a ping may take
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = parse::from_one::<u32>)]
    pub wait: u32,
    /// Measure how fast TCP is from each to each that it reaches
    #[arg(long)]
    pub speed: bool,
    /// Seconds that all measurements together may take; each takes one at most
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = parse::seconds, requires = "speed")]
    pub speed_time: Duration,
}

/// Arguments of `lab export`.
#[derive(Args, Debug)]
pub struct LabExportArgs {
    /// Name of a lab that is up
    #[arg(value_name = "LAB")]
    pub lab: LabName,
    /// Write it into this lab file, which keeps its comments and order
    #[arg(long, value_name = "FILE")]
    pub into: Option<PathBuf>,
    /// With --into: print what the file would be, write nothing
    #[arg(long, requires = "into")]
    pub print: bool,
}

/// Arguments of `lab import`.
#[derive(Args, Debug)]
pub struct LabImportArgs {
    /// The topology; `-` is standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose it is (default: by its name, or by what is in it)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ImportFormat>,
}

/// Whose topology it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// A topology file of containerlab (YAML)
    Containerlab,
    /// What Mininet's editor saves (.mn, JSON)
    Mininet,
}

/// Arguments of `lab graph`.
#[derive(Args, Debug)]
pub struct LabGraphArgs {
    /// Lab file (TOML)
    #[arg(value_name = "FILE", required_unless_present = "live")]
    pub file: Option<PathBuf>,
    /// Draw what is there instead of a file
    #[arg(long, conflicts_with = "file")]
    pub live: bool,
    /// How to draw it
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "mermaid")]
    pub format: GraphFormat,
}

/// What a graph is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A flowchart that GitHub and many editors show
    Mermaid,
    /// Graphviz
    Dot,
    /// A picture
    Svg,
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
    /// Do it without a daemon, by the program vswitchd; refused while one runs
    #[arg(long)]
    pub offline: bool,
    /// With --offline: configuration file of the daemon
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub config: Option<PathBuf>,
    /// With --offline: run directory of the daemon
    #[arg(long, value_name = "DIR", requires = "offline")]
    pub run_dir: Option<PathBuf>,
    /// With --offline: state directory of the daemon
    #[arg(long, value_name = "DIR", requires = "offline")]
    pub state_dir: Option<PathBuf>,
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
