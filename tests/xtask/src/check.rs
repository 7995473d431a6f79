//! `cargo xtask test`, `cargo xtask instructions` and `cargo xtask deny`.

use std::num::NonZero;
use std::thread;

use anyhow::{Context, Result};

use crate::shell::{cargo, headline, run};
use crate::tools;

/// Test programs that are about the way of frames, which differs with and without the kernel fast path.
const FRAMES: [&str; 33] = [
    "acl",
    "addresses",
    "arrive",
    "big_tcp",
    "capture",
    "connectivity",
    "counters",
    "dhcp",
    "differential",
    "drift",
    "fdb",
    "gateway",
    "gone",
    "hostile",
    "impairment",
    "lifecycle",
    "limits",
    "links",
    "loop_guard",
    "loops",
    "matrix",
    "mirror",
    "namespaces",
    "offloads",
    "openvswitch",
    "pains",
    "policy",
    "ports",
    "rspan",
    "switching",
    "trace",
    "vlan",
    "xdp",
];
/// Test programs of the queues of TAP devices, which are read and written by io_uring or by a system call for each frame.
const QUEUES: [&str; 4] = ["connectivity", "counters", "offloads", "switching"];

/// Everything that has to be right before a change goes in; with a filter only the tests that it names.
pub fn test(filter: &[String]) -> Result<()> {
    tools::need_root("the black-box tests")?;
    tools::ensure(tools::FOR_TESTS)?;
    if filter.is_empty() {
        headline("Format");
        run(&mut cargo(&["fmt", "--all", "--check"]))?;
        headline("Lints");
        run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ]))?;
        // As where there is no clang: what stands in for the fast path there is compiled nowhere else.
        headline("Lints without the kernel fast path");
        run(&mut cargo(&[
            "clippy",
            "--package",
            "vswitch",
            "--no-default-features",
            "--",
            "-D",
            "warnings",
        ]))?;
        if cargo(&["deny", "--version"])
            .output()
            .is_ok_and(|output| output.status.success())
        {
            headline("Licences and sources");
            deny()?;
        } else {
            eprintln!("cargo-deny is not installed: licences and sources are not looked at");
        }
        headline("Documentation");
        let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
        run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
        headline("Doc tests");
        run(&mut cargo(&["test", "--workspace", "--doc"]))?;
    }
    // A minute of what each of the fuzz targets plays; a plain run of the tests has a second of each.
    run_tests("Tests", &[], filter, &[("FUZZ_SECONDS", "60")])?;
    // What the black-box tests promise holds either way; the others don't know the difference.
    run_tests(
        "Black-box tests of frames without the kernel fast path",
        &FRAMES,
        filter,
        &[("VSWITCH_TEST_FASTPATH", "off")],
    )?;
    run_tests(
        "Black-box tests of ports with a system call for each frame",
        &QUEUES,
        filter,
        &[("VSWITCH_TEST_FASTPATH", "off"), ("VSWITCH_TEST_ENGINE", "epoll")],
    )?;
    if !filter.is_empty() {
        return Ok(());
    }
    if !tools::is_there("valgrind") {
        eprintln!("valgrind is not installed: the instructions of a frame are not counted");
        return Ok(());
    }
    instructions(false)
}

/// Runs those tests of these programs, or of all, that the filter names. Always of the whole workspace: for a part of it cargo would choose
/// other features of the dependencies, and build them and the daemon anew.
fn run_tests(what: &str, programs: &[&str], filter: &[String], variables: &[(&str, &str)]) -> Result<()> {
    headline(what);
    let has_nextest = cargo(&["nextest", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    let mut command = if has_nextest {
        // A filter may name tests of one of the runs only.
        let mut command = cargo(&["nextest", "run", "--workspace", "--no-tests=pass"]);
        // Most of them wait for the kernel half of their time.
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        command.arg(format!("--test-threads={}", 2 * cores));
        if !programs.is_empty() {
            let binaries: Vec<_> = programs.iter().map(|program| format!("binary(={program})")).collect();
            command.args([
                "--filterset",
                &format!("package(vswitch-tests) & ({})", binaries.join(" | ")),
            ]);
        }
        command.args(filter);
        command
    } else {
        eprintln!("cargo-nextest is not installed (cargo install --locked cargo-nextest); using cargo test");
        // One at a time: the tests that fill the machine must not starve the others.
        let mut command = cargo(&["test", "--workspace"]);
        match programs {
            [] => command.args(["--lib", "--bins", "--tests"]),
            some => command.args(some.iter().flat_map(|program| ["--test", program])),
        };
        command.args(filter).args(["--", "--test-threads=1"]);
        command
    };
    run(command.envs(variables.iter().copied())).with_context(|| format!("failed: {what}"))
}

/// Instructions of a frame by callgrind, of a release build, against those that are kept.
pub fn instructions(write: bool) -> Result<()> {
    headline("Instructions of a frame");
    let mut command = cargo(&["run", "--release", "--package", "vswitch-instructions"]);
    if write {
        command.args(["--", "--write"]);
    }
    run(&mut command)
}

/// Licences, sources and bans of `deny.toml`. Advisories are left out: their database is a git repository
/// that can't be reached from everywhere.
pub fn deny() -> Result<()> {
    run(&mut cargo(&[
        "deny",
        "--workspace",
        "check",
        "bans",
        "licenses",
        "sources",
    ]))
    .context("is cargo-deny installed? cargo install --locked cargo-deny")
}
