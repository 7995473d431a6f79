//! Kernels of Debian, unpacked and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell::{headline, run, text};

/// The image of the kernel of a package, which lies unpacked below a folder once it was asked for.
pub fn of_package(package: &str, folder: &Path) -> Result<PathBuf> {
    let there = folder.join(package);
    if let Some(image) = image(&there) {
        return Ok(image);
    }
    headline(&format!("Get {package}"));
    let download = tempfile::tempdir().context("no temporary folder")?;
    let mut deb = get(package, download.path())?;
    // `linux-image-amd64` and the like have nothing in them but the name of the newest.
    let depends = field(&deb, "Depends")?;
    let mut names = depends
        .split([',', '|'])
        .filter_map(|one| one.split_whitespace().next());
    if let Some(kernel) = names.find(|name| name.starts_with("linux-image-")) {
        deb = get(kernel, download.path())?;
    }
    fs::create_dir_all(&there).with_context(|| format!("{} can't be made", there.display()))?;
    run(Command::new("dpkg-deb").arg("-x").args([&deb, &there]))?;
    image(&there).with_context(|| format!("package {package} has no boot/vmlinuz-…"))
}

fn image(folder: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(folder.join("boot")).ok()?.filter_map(Result::ok);
    let image = files.find(|file| file.file_name().to_string_lossy().starts_with("vmlinuz-"))?;
    Some(image.path())
}

/// Downloads a package into a folder.
fn get(package: &str, folder: &Path) -> Result<PathBuf> {
    // apt's own user could not write there.
    let options = ["-qq", "-o", "APT::Sandbox::User=root", "download", package];
    run(Command::new("apt-get").args(options).current_dir(folder)).with_context(|| {
        format!("is {package} a package of a release that /etc/apt names? `apt-cache search linux-image` lists them")
    })?;
    let mut files = fs::read_dir(folder)?.filter_map(Result::ok);
    let start = format!("{package}_");
    let file = files.find(|file| file.file_name().to_string_lossy().starts_with(&start));
    Ok(file
        .with_context(|| format!("apt-get has left no file of {package}"))?
        .path())
}

fn field(deb: &Path, name: &str) -> Result<String> {
    let mut command = Command::new("dpkg-deb");
    command.arg("-f").arg(deb).arg(name);
    let output = command
        .output()
        .with_context(|| format!("`{}` can't be run", text(&command)))?;
    if !output.status.success() {
        bail!("`{}`: {}", text(&command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
