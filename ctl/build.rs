//! Makes completions and man pages at build time, for packages: OUT_DIR/completions and OUT_DIR/man.

use std::path::PathBuf;
use std::{env, fs, io};

use clap_complete::Shell;

#[expect(
    dead_code,
    reason = "the tool reads the fields, the build script only their description"
)]
#[path = "src/cli/mod.rs"]
mod cli;
#[expect(dead_code, reason = "the build script writes all pages, never a single one")]
#[path = "src/generate.rs"]
mod generate;
#[path = "src/man.rs"]
mod man;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/cli");
    println!("cargo::rerun-if-changed=src/generate.rs");
    println!("cargo::rerun-if-changed=src/man.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);

    let completions = out.join("completions");
    fs::create_dir_all(&completions)?;
    for (shell, file) in [
        (Shell::Bash, "vswitchctl.bash"),
        (Shell::Zsh, "_vswitchctl"),
        (Shell::Fish, "vswitchctl.fish"),
    ] {
        fs::write(completions.join(file), generate::completions(shell))?;
    }
    generate::all_pages(&out.join("man"))
}
