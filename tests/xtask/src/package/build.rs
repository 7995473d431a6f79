//! Builds the programs, the same wherever it is done, with the list of all that is in them (cargo-auditable: a section `.dep-v0` that
//! scanners read), and finds what their build scripts made.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::folder;
use crate::shell::{cargo, headline, root, text, with_signals};

/// The profile that packages are built with.
pub const PROFILE: &str = "dist";

/// What was built.
#[derive(Default)]
pub struct Built {
    /// The daemon.
    pub vswitchd: PathBuf,
    /// The control tool.
    pub vswitchctl: PathBuf,
    /// Folder with the daemon's manual page and completions.
    pub of_vswitchd: PathBuf,
    /// Folder with those of the control tool, in `man` and `completions`.
    pub of_vswitchctl: PathBuf,
}

/// Builds both programs.
pub fn build(profile: &str) -> Result<Built> {
    headline("Build the programs");
    // With another profile they are for trying out, and not worth a build of their own.
    let auditable = if profile == PROFILE { &["auditable"][..] } else { &[] };
    let mut command = cargo(auditable);
    command.args([
        "build",
        "--locked",
        "--profile",
        profile,
        "--package",
        "vswitch",
        "--package",
        "vswitchctl",
    ]);
    command.args(["--bins", "--message-format", "json-render-diagnostics"]);
    if profile == PROFILE {
        // Paths stand in messages of panics. In a folder of its own, since other flags would have all built anew.
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
        let mut flags = vec![format!("--remap-path-prefix={}=/usr/src/vswitch", root().display())];
        flags.extend(home.map(|home| format!("--remap-path-prefix={}=/usr/src/cargo", home.display())));
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        command.env("CARGO_TARGET_DIR", built_in());
    }
    let line = text(&command);
    let output = with_signals(&mut command)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{line}` can't be run"))?;
    if !output.status.success() {
        bail!("`{line}`: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let mut built = Built::default();
    for message in messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
    {
        let path = |key: &str| message[key].as_str().map(PathBuf::from);
        let is_of = |package: &str| {
            let id = message["package_id"].as_str().unwrap_or_default();
            id.contains(&format!("#{package}@"))
        };
        let place = match message["reason"].as_str() {
            Some("build-script-executed") if is_of("vswitch") => (&mut built.of_vswitchd, path("out_dir")),
            Some("build-script-executed") if is_of("vswitchctl") => (&mut built.of_vswitchctl, path("out_dir")),
            Some("compiler-artifact") if message["target"]["name"] == "vswitchd" => {
                (&mut built.vswitchd, path("executable"))
            }
            Some("compiler-artifact") if message["target"]["name"] == "vswitchctl" => {
                (&mut built.vswitchctl, path("executable"))
            }
            _ => continue,
        };
        if let (place, Some(path)) = place {
            *place = path;
        }
    }
    for path in [
        &built.vswitchd,
        &built.vswitchctl,
        &built.of_vswitchd,
        &built.of_vswitchctl,
    ] {
        if path.as_os_str().is_empty() {
            bail!("cargo did not tell where it has put all that it has built");
        }
    }
    Ok(built)
}

fn built_in() -> PathBuf {
    folder().join("build")
}

/// Has the next build begin anew.
pub fn forget() -> Result<()> {
    let folder = built_in();
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", folder.display()))
        }
        _ => Ok(()),
    }
}
