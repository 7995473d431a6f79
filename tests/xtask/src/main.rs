//! The project's own commands: `cargo xtask --help` lists them.

mod check;
mod demo;
mod fuzz;
mod library;
mod longer;
mod outside;
mod package;
mod record;
mod shell;
mod tools;
mod vm;

use std::time::Duration;

use clap::{Parser, Subcommand};

use record::Build;

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
    /// What takes longer than the tests, or needs tools from PyPI and crates.io, as far as it can be had and there is time; needs root
    Longer {
        /// Seconds that there are
        #[arg(long, value_name = "N", default_value_t = 3600)]
        within: u64,
    },
    /// Count the instructions that a frame costs and compare with the counts that are kept; needs root and valgrind
    Instructions {
        /// Keep the new counts
        #[arg(long)]
        write: bool,
    },
    /// Count what is lost while the daemon restarts, at one frame a millisecond; needs root
    Restart,
    /// Broken frames through all features, MAC floods and ARP storms; needs root
    Hostile {
        /// How many frames, half of them with the kernel fast path and half without
        #[arg(long, value_name = "N", default_value_t = 1_000_000)]
        frames: u64,
    },
    /// Traffic, changes and restarts at once: whether each frame is accounted for and nothing grows; needs root
    Soak {
        /// How long, half of it with the kernel fast path and half without
        #[arg(long, value_name = "N", default_value_t = 180)]
        seconds: u32,
        /// All of it one way
        #[arg(long, value_name = "BOOL")]
        fastpath: Option<bool>,
        /// With the programs as the tests have them, not optimised
        #[arg(long)]
        dev: bool,
    },
    /// Check licences and sources of the dependencies; needs cargo-deny
    Deny,
    /// Run the fuzz targets one after the other; needs a nightly compiler and cargo-fuzz, without them by chance alone
    Fuzz {
        /// Targets: pipeline, policy, frame, filter, request, lab_toml; all if none is named
        targets: Vec<String>,
        /// How long each
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
    },
    /// Run tests of the datapath under Miri, which finds undefined behaviour; needs a nightly compiler with miri and rust-src
    Miri {
        /// Part of a test's name; without any those that take minutes
        filter: Vec<String>,
    },
    /// Have promtool check the metrics, the alert rules and their tests, as `test` does where it is installed; needs root
    Monitoring,
    /// Have Redocly check the OpenAPI document, and schemathesis, two generated clients and Ansible use the API for a time
    ///
    /// Needs root, python3 and Node 20; installs what it needs from npm and PyPI.
    ApiCheck {
        /// How long schemathesis asks
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
        /// Leave out what comes from npm: Redocly and the client in JavaScript
        #[arg(long)]
        without_npm: bool,
        /// Only install what comes from PyPI
        #[arg(long)]
        install: bool,
    },
    /// Pack the crates that are for others, and compare what they promise with what they promised; needs cargo-semver-checks
    Semver {
        /// Revision to compare with; the newest tag v* if none is given, and before there is one what Cargo.toml names
        #[arg(long, value_name = "REVISION")]
        since: Option<String>,
    },
    /// Make a Debian package, an RPM and an image for containers, in target/package; needs cargo-deb and cargo-generate-rpm
    Package(package::PackageArgs),
    /// Run a command or black-box tests under another kernel in QEMU, with this machine's files; needs virtme-ng
    ///
    /// For example: cargo xtask vm --package linux-image-amd64 --test vlan --test doctor
    Vm(vm::VmArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Demo => demo::run(),
        Command::Test { filter } => check::test(&filter),
        Command::Longer { within } => longer::longer(Duration::from_secs(within)),
        Command::Instructions { write } => check::instructions(write),
        Command::Restart => record::run_with(Build::Release, &["restart"]),
        Command::Hostile { frames } => record::run_with(Build::Release, &["hostile", &frames.to_string()]),
        Command::Soak { seconds, fastpath, dev } => {
            let build = if dev { Build::Tests } else { Build::Release };
            record::soak(build, seconds, fastpath)
        }
        Command::Deny => check::deny(),
        Command::Fuzz { targets, seconds } => fuzz::fuzz(&targets, seconds),
        Command::Miri { filter } => fuzz::miri(&filter),
        Command::Monitoring => outside::monitoring(),
        Command::ApiCheck { install: true, .. } => outside::python().map(drop),
        Command::ApiCheck {
            seconds, without_npm, ..
        } => outside::api(seconds, !without_npm),
        Command::Semver { since } => library::semver(since),
        Command::Package(args) => package::package(&args),
        Command::Vm(args) => vm::vm(&args),
    }
}
