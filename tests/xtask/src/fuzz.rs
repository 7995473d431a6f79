//! `cargo xtask fuzz` and `cargo xtask miri`: what needs a nightly compiler.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, headline, root, run};

/// All fuzz targets, and the test that plays the same without a fuzzer: package, file and part of its name.
const TARGETS: [(&str, [&str; 3]); 6] = [
    ("pipeline", ["vswitch-datapath", "pipeline", "what_is_counted_adds_up"]),
    (
        "policy",
        ["vswitch-datapath", "second_opinion", "what_passes_the_rules"],
    ),
    ("frame", ["vswitch-datapath", "bytes", "a_frame_of_any_bytes"]),
    ("filter", ["vswitch-datapath", "bytes", "a_filter_of_any_bytes"]),
    ("request", ["vswitch-api", "bytes", "a_body_of_any_bytes"]),
    ("lab_toml", ["vswitch-api", "bytes", "a_lab_file_of_any_bytes"]),
];
/// Longest input: what a case of the pipeline reads in all its steps.
const LONGEST: u32 = 2048;
/// A single input that takes longer hangs.
const HANGS_SECS: u32 = 60;
/// Part of the names of tests that Miri can run in minutes: those of what reads bytes or shares memory, without ports, pollers and clocks.
const FOR_MIRI: [&str; 12] = [
    "frame::",
    "fdb::",
    "filter::",
    "acl::",
    "pin::",
    "vlan::",
    "batch::",
    "snapshot::",
    "punt::",
    "lists::",
    "counters::",
    "grace::",
];

/// Runs fuzz targets, one after the other, for so many seconds each; all of them if none is named. What they find lies in
/// `tests/fuzz/artifacts`, what they learned in `tests/fuzz/corpus`, from which the next run begins.
pub fn fuzz(targets: &[String], seconds: u32) -> Result<()> {
    if let Some(unknown) = targets
        .iter()
        .find(|name| TARGETS.iter().all(|(target, _)| target != name))
    {
        let all: Vec<_> = TARGETS.iter().map(|(target, _)| *target).collect();
        bail!("there is no fuzz target {unknown}; there are: {}", all.join(", "));
    }
    let lacking = lacking();
    if let Some(lacking) = &lacking {
        eprintln!("{lacking}: the targets are played without a fuzzer, by their seeds and by chance");
    }
    for (target, test) in TARGETS {
        if !targets.is_empty() && targets.iter().all(|name| name != target) {
            continue;
        }
        headline(&format!("Fuzz {target}"));
        match lacking {
            None => by_fuzzer(target, seconds)?,
            Some(_) => by_test(test)?,
        }
    }
    Ok(())
}

/// What a fuzzer needs and is not there.
fn lacking() -> Option<&'static str> {
    if !is_there("nightly", &["--version"]) {
        return Some("there is no nightly compiler (rustup toolchain install nightly)");
    }
    let has_fuzz = is_there("nightly", &["fuzz", "--version"]);
    (!has_fuzz).then_some("cargo-fuzz is not installed (cargo install --locked cargo-fuzz)")
}

/// Whether cargo of a toolchain knows these words.
fn is_there(toolchain: &str, words: &[&str]) -> bool {
    let output = of_toolchain(toolchain, words).output();
    output.is_ok_and(|output| output.status.success())
}

/// `cargo +TOOLCHAIN`, by rustup.
fn of_toolchain(toolchain: &str, words: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command
        .args(["run", toolchain, "cargo"])
        .args(words)
        .current_dir(root());
    // What the cargo that runs this program has set for its own compiler.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}

fn by_fuzzer(target: &str, seconds: u32) -> Result<()> {
    let folder = root().join("tests/fuzz");
    let corpus = folder.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("{} can't be made", corpus.display()))?;
    let folders: [PathBuf; 2] = [corpus, folder.join("seeds").join(target)];
    // What they call has no unsafe code, and is several times as fast without a sanitizer.
    let words = ["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", target];
    let mut command = of_toolchain("nightly", &words);
    command.args(folders).arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-max_len={LONGEST}"),
        format!("-timeout={HANGS_SECS}"),
        "-print_final_stats=1".to_owned(),
    ]);
    run(&mut command).with_context(|| format!("the fuzz target {target} has found something, or can't be built"))
}

fn by_test([package, file, name]: [&str; 3]) -> Result<()> {
    run(&mut cargo(&["test", "--package", package, "--test", file, name]))
}

/// Runs the tests of the datapath that Miri can run: undefined behaviour in what it does, or in the libraries below, is an error.
pub fn miri(filter: &[String]) -> Result<()> {
    if !is_there("nightly", &["miri", "--version"]) {
        bail!("Miri is not installed: rustup toolchain install nightly --component miri,rust-src");
    }
    headline("Miri");
    let mut command = of_toolchain(
        "nightly",
        &[
            "miri",
            "test",
            "--package",
            "vswitch-datapath",
            "--lib",
            "--test",
            "bytes",
            "--",
        ],
    );
    match filter {
        [] => command.args(FOR_MIRI).arg("of_any_bytes"),
        filter => command.args(filter),
    };
    // The clock and files of seeds are the machine's.
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation");
    // Each instruction takes a thousand times as long.
    command.env("PROPTEST_CASES", "4");
    run(&mut command)
}
