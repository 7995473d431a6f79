//! `cargo xtask semver`: whether the crates that are for others can be published, and what they promise still holds.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, headline, root, run};

/// The crates that are for others, each behind those that it depends on.
const CRATES: [&str; 3] = ["vswitch-api", "vswitch-client", "vswitch-datapath"];

/// What the crates promise until there is a release, since somebody last broke it: who does so again names the new revision here.
const PROMISED: &str = "7c38069";

/// Packs the crates and builds what was packed, without a registry, and has cargo-semver-checks compare them with a revision.
pub fn semver(since: Option<String>) -> Result<()> {
    headline("Pack the crates and build what was packed");
    let mut package = cargo(&["package", "--offline", "--allow-dirty"]);
    package.args(CRATES.iter().flat_map(|name| ["--package", name]));
    run(&mut package)?;

    compare(&since.map_or_else(baseline, Ok)?)
}

/// Has cargo-semver-checks compare the crates with a revision.
pub fn compare(since: &str) -> Result<()> {
    headline(&format!("Compare with {since}"));
    if !cargo(&["semver-checks", "--version"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        bail!("cargo-semver-checks is not installed: cargo install --locked cargo-semver-checks");
    }
    for name in CRATES {
        run(&mut cargo(&[
            "semver-checks",
            "--package",
            name,
            "--baseline-rev",
            since,
        ]))?;
    }
    Ok(())
}

/// The newest tag of a version, or [`PROMISED`].
pub fn baseline() -> Result<String> {
    let git = |words: &[&str]| {
        let mut git = Command::new("git");
        let git = git.args(words).current_dir(root()).stdin(Stdio::null()).output();
        git.context("`git` can't be run")
    };
    let tags = git(&["tag", "--list", "v*", "--sort=-version:refname"])?.stdout;
    if let Some(tag) = String::from_utf8_lossy(&tags).lines().next() {
        return Ok(tag.to_owned());
    }
    let there = git(&["cat-file", "-e", &format!("{PROMISED}^{{commit}}")])?;
    if !there.status.success() {
        bail!("this clone has no revision {PROMISED} to compare with: name one by --since");
    }
    Ok(PROMISED.to_owned())
}
