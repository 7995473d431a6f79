//! `cargo xtask package`: a Debian package, an RPM and an image for containers, of one tree of files.

mod build;
mod check;
mod image;
mod life_of_rpm;
mod pages;
mod stage;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::shell::{cargo, headline, root, run};

/// What `cargo xtask package` can be told
#[derive(Args)]
pub struct PackageArgs {
    /// What to make; all of it if nothing is named
    #[arg(value_enum)]
    forms: Vec<Form>,
    /// Profile to build with; with another than that of packages they are for trying out, and not the same on each machine
    #[arg(long, value_name = "NAME", default_value = build::PROFILE)]
    profile: String,
    /// Install the Debian package in a machine of its own, use it, upgrade and purge it, and then the RPM if it was made; needs root and systemd
    #[arg(long)]
    check: bool,
    /// Make everything twice, the programs too, and compare
    #[arg(long, conflicts_with = "check")]
    twice: bool,
}

/// A form of the package
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Debian package
    Deb,
    /// RPM
    Rpm,
    /// Image for `docker load` and `podman load`
    Image,
}

const ALL: [Form; 3] = [Form::Deb, Form::Rpm, Form::Image];

/// Where all of it is made.
pub fn folder() -> PathBuf {
    root().join("target/package")
}

/// Version of the packages.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Makes the packages and says where they are.
pub fn package(args: &PackageArgs) -> Result<()> {
    let forms = if args.forms.is_empty() { &ALL[..] } else { &args.forms };
    let made = make(forms, &args.profile)?;
    if args.twice {
        let first: Vec<_> = made.iter().map(fs::read).collect::<Result<_, _>>()?;
        build::forget()?;
        for (file, first) in make(forms, &args.profile)?.iter().zip(first) {
            if fs::read(file)? != first {
                bail!("{} is another one when it is made again", file.display());
            }
        }
        eprintln!("made twice, the same bytes");
    }
    if args.check {
        let rpm = made
            .iter()
            .find(|file| file.extension().is_some_and(|end| end == "rpm"));
        check::check(args.profile == build::PROFILE, rpm)?;
    }
    headline("Packages");
    for file in made {
        eprintln!("{}", file.display());
    }
    Ok(())
}

fn make(forms: &[Form], profile: &str) -> Result<Vec<PathBuf>> {
    let tools = [
        (forms.contains(&Form::Deb), "deb"),
        (forms.contains(&Form::Rpm), "generate-rpm"),
        (profile == build::PROFILE, "auditable"),
    ];
    for (is_needed, word) in tools {
        let is_there = || {
            let said = cargo(&[word, "--version"]).output();
            said.is_ok_and(|output| output.status.success())
        };
        if is_needed && !is_there() {
            bail!("cargo-{word} is not installed: cargo install --locked cargo-{word}");
        }
    }
    let epoch = epoch()?;
    let built = build::build(profile)?;
    stage::stage(&built, epoch)?;
    forms
        .iter()
        .map(|form| match form {
            Form::Deb => debian(VERSION, epoch, &[]),
            Form::Rpm => rpm(epoch),
            Form::Image => image::image(epoch),
        })
        .collect()
}

/// The Debian package, with this version. `words`: for cargo-deb besides.
fn debian(version: &str, epoch: u64, words: &[&str]) -> Result<PathBuf> {
    headline("Debian package");
    let file = folder().join(format!("vswitch_{version}_{}.deb", debian_arch()));
    // Its warnings are about a tree of files that lies where cargo builds.
    let mut command = cargo(&["deb", "--quiet", "--no-build", "--no-strip", "--package", "vswitch"]);
    command
        .args(["--deb-version", version, "--output"])
        .arg(&file)
        .args(words);
    run(command.env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
    Ok(file)
}

fn rpm(epoch: u64) -> Result<PathBuf> {
    headline("RPM");
    let file = folder().join(format!("vswitch-{VERSION}.{}.rpm", std::env::consts::ARCH));
    let mut command = cargo(&["generate-rpm", "--package", "switch", "--auto-req", "builtin"]);
    command
        .args(["--source-date", &epoch.to_string(), "--output"])
        .arg(&file);
    run(command.env("SOURCE_DATE_EPOCH", epoch.to_string()))?;
    Ok(file)
}

/// What Debian calls this machine's architecture.
fn debian_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The time that all files of a package have: that of the last commit, or what `SOURCE_DATE_EPOCH` says
/// (<https://reproducible-builds.org/specs/source-date-epoch/>).
fn epoch() -> Result<u64> {
    if let Ok(text) = std::env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| format!("SOURCE_DATE_EPOCH={text}"));
    }
    let mut command = Command::new("git");
    let output = command.args(["log", "-1", "--format=%ct"]).current_dir(root()).output();
    let last = output
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok());
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    };
    Ok(last.unwrap_or_else(now))
}

/// What a command prints; it must succeed.
fn printed(command: &mut Command) -> Result<String> {
    let line = crate::shell::text(command);
    let output = command.output().with_context(|| format!("`{line}` can't be run"))?;
    if !output.status.success() {
        bail!(
            "`{line}`: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("what `{line}` prints is no UTF-8"))
}

/// Writes a file and the folders above it.
fn write(file: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    if let Some(above) = file.parent() {
        fs::create_dir_all(above).with_context(|| format!("{} can't be made", above.display()))?;
    }
    fs::write(file, bytes).with_context(|| format!("{} can't be written", file.display()))
}
