//! Makes the man page and the shell completions of `vswitchd` from its command line definition, into OUT_DIR.

#[path = "src/args.rs"]
mod args;

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=src/args.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) else {
        return Ok(());
    };

    let mut command = args::Args::command();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .section("8")
        .manual("vswitch manual")
        .render(&mut page)?;
    std::fs::write(out.join("vswitchd.8"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "vswitchd", &out)?;
    }
    Ok(())
}
