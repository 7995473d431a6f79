//! `vswitchctl`, the control tool of vswitchd.
//!
//! [`cli`] is what can be said, [`commands`] what is done, [`client`] the way to the daemon, [`output`] what is seen.

mod cli;
mod client;
mod commands;
mod failure;
mod generate;
mod output;
mod sse;
mod usage;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, std::env::args_os().any(|arg| arg == "--json")),
    };
    let json = cli.global.json;
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}
