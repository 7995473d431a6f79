//! `vswitchctl`, the control tool of vswitchd.
mod cli;
mod generate;
use clap::Parser;
fn main() { let c = cli::Cli::parse(); println!("{c:?}"); }
