//! The project's own commands: `cargo xtask demo` and `cargo xtask test`.

mod check;
mod demo;
mod shell;
mod tools;

use clap::{Parser, Subcommand};

/// The project's own commands
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build, start the daemon, join three namespaces, ping between all, show the tables, and take all away again
    Demo,
    /// Check format and lints, run the doc tests, then all other tests, and count instructions; needs root
    ///
    /// With a filter only the tests are run whose name contains it.
    Test {
        /// Part of a test's name; options of `cargo nextest run` may follow
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        filter: Vec<String>,
    },
    /// Count the instructions that a frame costs and compare with the counts that are kept; needs root and valgrind
    Instructions {
        /// Keep the new counts
        #[arg(long)]
        write: bool,
    },
    /// Check licences and sources of the dependencies; needs cargo-deny
    Deny,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo => demo::run(),
        Command::Test { filter } => check::test(&filter),
        Command::Instructions { write } => check::instructions(write),
        Command::Deny => check::deny(),
    }
}
