//! The tree of files that all packages have, in `target/package/root`. What becomes of them in each form of package is told by
//! `[package.metadata]` in `switch/Cargo.toml`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::build::Built;
use super::{VERSION, folder, pages, printed, write};
use crate::shell::{root, run};

/// The group that the package makes, and lets control the switch.
const GROUP: &str = "vswitch";

/// Where the tree is.
pub fn tree() -> PathBuf {
    folder().join("root")
}

/// Lays it anew.
pub fn stage(built: &Built, epoch: u64) -> Result<()> {
    let tree = tree();
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("{} can't be removed", tree.display()))?;
    }
    let configs = root().join("configs");
    let to = |path: &str| tree.join(path);
    copy(&built.vswitchd, &to("usr/sbin/vswitchd"), 0o755)?;
    copy(&built.vswitchctl, &to("usr/bin/vswitchctl"), 0o755)?;
    for program in ["usr/sbin/vswitchd", "usr/bin/vswitchctl"] {
        // What the profile of packages has left out already.
        run(Command::new("strip").arg("--strip-all").arg(to(program)))?;
    }
    let plain = [
        ("vswitchd.service", "usr/lib/systemd/system/vswitchd.service"),
        ("package/sysusers.conf", "usr/lib/sysusers.d/vswitch.conf"),
        ("package/tmpfiles.conf", "usr/lib/tmpfiles.d/vswitch.conf"),
        ("package/copyright", "usr/share/doc/vswitch/copyright"),
        ("../docs/openapi.json", "usr/share/vswitch/openapi.json"),
        ("../CHANGELOG.md", "usr/share/doc/vswitch/changelog"),
    ];
    for (from, path) in plain {
        copy(&configs.join(from), &to(path), 0o644)?;
    }
    for file in files(&configs.join("labs"))? {
        copy(&file, &to("usr/share/doc/vswitch/examples").join(name(&file)), 0o644)?;
    }

    for folder in ["integrations", "monitoring"] {
        copy_all(&configs.join(folder), &to("usr/share/vswitch").join(folder))?;
    }

    let settings = fs::read_to_string(configs.join("vswitchd.toml"))?;
    write(&to("etc/vswitch/vswitchd.toml"), with_group(&settings)?)?;
    let unit = fs::read_to_string(configs.join("vswitchd.socket"))?;
    write(&to("usr/lib/systemd/system/vswitchd.socket"), socket_with_group(&unit)?)?;
    write(&to("usr/share/man/man5/vswitchd.toml.5"), pages::of_settings(&settings))?;
    let schema = printed(Command::new(&built.vswitchctl).args(["lab", "schema"]))?;
    write(&to("usr/share/man/man5/vswitch-lab.5"), pages::of_labs(&schema)?)?;
    write(&to("usr/share/vswitch/lab.schema.json"), schema)?;
    copy(
        &built.of_vswitchd.join("vswitchd.8"),
        &to("usr/share/man/man8/vswitchd.8"),
        0o644,
    )?;
    for page in files(&built.of_vswitchctl.join("man"))? {
        copy(&page, &to("usr/share/man/man1").join(name(&page)), 0o644)?;
    }
    // Without name and time in it: the same bytes each time.
    run(Command::new("gzip")
        .args(["--best", "--no-name", "--recursive"])
        .arg(to("usr/share/man")))?;
    for program in ["vswitchd", "vswitchctl"] {
        let made = match program {
            "vswitchd" => built.of_vswitchd.clone(),
            _ => built.of_vswitchctl.join("completions"),
        };
        let completions = [
            (
                format!("{program}.bash"),
                format!("usr/share/bash-completion/completions/{program}"),
            ),
            (
                format!("_{program}"),
                format!("usr/share/zsh/vendor-completions/_{program}"),
            ),
            (
                format!("{program}.fish"),
                format!("usr/share/fish/vendor_completions.d/{program}.fish"),
            ),
        ];
        for (from, path) in completions {
            copy(&made.join(from), &to(&path), 0o644)?;
        }
    }
    let date = printed(Command::new("date").args(["--utc", "--rfc-email", "--date", &format!("@{epoch}")]))?;
    write(&folder().join("changelog.Debian"), changelog(date.trim()))
}

/// The settings as they are shipped: whoever is in the group may control the switch.
fn with_group(settings: &str) -> Result<String> {
    replaced(
        settings,
        "# socket_group = \"\"\n",
        &format!("socket_group = \"{GROUP}\"\n"),
    )
}

/// The same of the unit that makes the socket: they are to reach it while no daemon runs, too.
fn socket_with_group(unit: &str) -> Result<String> {
    replaced(
        unit,
        "SocketMode=0600\n",
        &format!("SocketMode=0660\nSocketGroup={GROUP}\n"),
    )
}

/// The text with the one line replaced by others.
fn replaced(text: &str, line: &str, by: &str) -> Result<String> {
    if text.matches(line).count() != 1 {
        bail!("there is not one line {line:?} to put the group in, in\n{text}");
    }
    Ok(text.replace(line, by))
}

fn changelog(date: &str) -> String {
    format!(
        "vswitch ({VERSION}) unstable; urgency=medium\n\n  * What is new stands in changelog.gz.\n\n -- {}  {date}\n",
        "vswitch maintainers <maintainers@vswitch.example>"
    )
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("{} can't be read", from.display()))?;
    write(to, bytes)?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode)).with_context(|| format!("{}", to.display()))
}

/// What is in a folder, and in those in it; what Python has compiled excepted.
fn copy_all(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        copy(&file, &to.join(name(&file)), 0o644)?;
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name() != "__pycache__" {
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// The files in a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} can't be read", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

fn name(file: &Path) -> &std::ffi::OsStr {
    file.file_name().unwrap_or_default()
}
