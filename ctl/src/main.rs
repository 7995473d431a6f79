//! `vswitchctl`, the control tool of vswitchd.
//!
//! [`cli`] is what can be said, [`commands`] what is done, [`client`] the way to the daemon, [`output`] what is seen, [`progress`] how far
//! the daemon is meanwhile.

mod cli;
mod client;
mod commands;
mod complete;
mod failure;
mod generate;
mod man;
mod output;
mod pcapng;
mod progress;
mod sse;
mod usage;
mod vlans;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    complete::answer();
    let cli = match cli::Cli::try_parse() {
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
