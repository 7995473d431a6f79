//! `cargo xtask semver`: whether the crates that are for others can be published, and what they promise still holds.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell::{cargo, headline, root, run};

/// The crates that are for others, each behind those that it depends on.
const CRATES: [&str; 3] = ["vswitch-api", "vswitch-client", "vswitch-datapath"];

/// Packs the crates and builds what was packed, without a registry, and has cargo-semver-checks compare them with a revision.
pub fn semver(since: Option<String>) -> Result<()> {
    headline("Pack the crates and build what was packed");
    let mut package = cargo(&["package", "--offline", "--allow-dirty"]);
    package.args(CRATES.iter().flat_map(|name| ["--package", name]));
    run(&mut package)?;

    let since = match since {
        Some(revision) => revision,
        None => last_release()?,
    };
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
            &since,
        ]))?;
    }
    Ok(())
}

/// The newest tag of a version.
fn last_release() -> Result<String> {
    let mut git = Command::new("git");
    git.args(["tag", "--list", "v*", "--sort=-version:refname"]);
    let output = git.current_dir(root()).stdin(Stdio::null()).output();
    let tags = output.context("`git tag` can't be run")?.stdout;
    match String::from_utf8_lossy(&tags).lines().next() {
        Some(tag) => Ok(tag.to_owned()),
        None => bail!("there is no tag of a release (v*) yet to compare with: name a revision by --since"),
    }
}
