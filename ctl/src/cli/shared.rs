//! Arguments that several commands have.

use clap::{Args, ValueEnum};

/// The switch that a listing is about.
#[derive(Args, Debug)]
pub struct OnlySwitch {
    /// Only this switch (default: all)
    #[arg(long, value_name = "NAME")]
    pub switch: Option<vswitch_api::SwitchName>,
}

/// Arguments of `show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    /// Of which switch.
    #[command(flatten)]
    pub only: OnlySwitch,
    /// Show it again each second and whenever something has changed, until Ctrl-C
    #[arg(short = 'w', long)]
    pub watch: bool,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people, with more columns where there are more
    Wide,
    /// As --json
    Json,
    /// The same as YAML
    Yaml,
    /// Names alone, one a line
    Name,
}

/// Options of additions.
#[derive(Args, Clone, Copy, Debug)]
pub struct Addition {
    /// No error if it is there already with the settings that are given
    #[arg(long)]
    pub if_not_exists: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Options of removals.
#[derive(Args, Clone, Copy, Debug)]
pub struct Removal {
    /// No error if it is not there
    #[arg(long)]
    pub if_exists: bool,
    /// Who says what goes is never asked; hands that know `apply --yes` and `reset --yes` say it all the same.
    #[arg(short = 'y', long, hide = true)]
    pub yes: bool,
    /// Say what would be done, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Options of changes.
#[derive(Args, Clone, Copy, Debug)]
pub struct Trial {
    /// Say what would be changed, do nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}
