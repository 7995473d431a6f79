//! `vswitchctl`, the control tool of vswitchd.
//!
//! [`cli`] is what can be said, [`commands`] what is done, [`output`] what is seen, [`progress`] how far
//! the daemon is meanwhile. The way to the daemon is [`vswitch_client`].

// A closed or full standard error is an error there, and no panic: `output::tell`.
#![deny(clippy::print_stderr)]

mod cli;
mod commands;
mod complete;
mod failure;
mod generate;
mod man;
mod output;
mod progress;
mod usage;
mod vlans;

use std::process::ExitCode;

fn main() -> ExitCode {
    complete::answer();
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => {
            let json = std::env::args_os()
                .take_while(|arg| arg != "--")
                .any(|arg| arg == "--json");
            return usage::report(&error, json);
        }
    };
    let json = cli.global.is_json();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(json),
    }
}
