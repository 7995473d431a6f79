//! Running commands: said, checked, and stopped cleanly by Ctrl-C.

use std::io::{IsTerminal, stderr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sys::signal::SigSet;

/// The root of the workspace.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// The folder that cargo builds into.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Says what comes next.
pub fn headline(text: &str) {
    if stderr().is_terminal() {
        eprintln!("\n\x1b[1m== {text}\x1b[0m");
    } else {
        eprintln!("\n== {text}");
    }
}

/// `cargo` with these words, in the root of the workspace.
pub fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.args(words).current_dir(root()).stdin(Stdio::null());
    command
}

/// Builds `vswitchd` and `vswitchctl`, with these options.
pub fn build_programs(options: &[&str]) -> Result<()> {
    let mut command = cargo(&["build", "--package", "vswitch", "--package", "vswitchctl", "--bins"]);
    run(command.args(options))
}

/// Builds these programs as `cargo xtask test` does: of the whole workspace, since for a part of it cargo would choose other features of the
/// dependencies, and build them anew.
pub fn build_for_tests(programs: &[&str]) -> Result<()> {
    let programs = programs.iter().flat_map(|name| ["--bin", name]);
    run(cargo(&["build", "--workspace"]).args(programs))
}

/// Lets the program take signals that this process holds back: the mask is inherited otherwise, and a daemon
/// could not be told to stop.
pub fn with_signals(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only this one system call is made.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) }
}

/// The command as one would type it.
pub fn text(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs the command; it must succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let line = text(command);
    let status = with_signals(command)
        .status()
        .with_context(|| format!("`{line}` can't be run"))?;
    if !status.success() {
        bail!("`{line}`: {status}");
    }
    Ok(())
}
