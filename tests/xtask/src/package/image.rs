//! The image for containers: one layer with the programs and the libraries that they need, as a tar that is an OCI image layout and
//! has the `manifest.json` of `docker save` besides. It is made by tar and sha256sum, without a registry or a daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::stage::tree;
use super::{VERSION, folder, printed, write};
use crate::shell::{headline, run};

/// Its name.
const NAME: &str = "vswitch";
/// What of the tree is of use in a container.
const FILES: [&str; 5] = [
    "usr/sbin/vswitchd",
    "usr/bin/vswitchctl",
    "usr/share/vswitch/openapi.json",
    "usr/share/vswitch/lab.schema.json",
    "usr/share/doc/vswitch/copyright",
];

/// Makes the image.
pub fn image(epoch: u64) -> Result<PathBuf> {
    headline("Image");
    let (layer, layout) = (folder().join("layer"), folder().join("layout"));
    for folder in [&layer, &layout] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("{} can't be removed", folder.display()))?;
        }
    }
    let programs = &FILES[..2];
    for file in FILES {
        copy(&tree().join(file), &layer.join(file))?;
    }
    for program in programs {
        for library in libraries(&tree().join(program))? {
            copy(&library, &layer.join(library.strip_prefix("/").unwrap_or(&library)))?;
        }
    }
    // Root alone: what is no file is asked of these.
    write(&layer.join("etc/passwd"), "root:x:0:0:root:/root:/usr/sbin/nologin\n")?;
    write(&layer.join("etc/group"), "root:x:0:\n")?;
    for folder in ["run/netns", "var/lib/vswitch", "etc/vswitch"] {
        fs::create_dir_all(layer.join(folder))?;
    }

    let layer_tar = folder().join("layer.tar");
    tar(&layer, &layer_tar, epoch)?;
    let created = printed(Command::new("date").args(["--utc", "--date", &format!("@{epoch}"), "+%Y-%m-%dT%H:%M:%SZ"]))?;
    let layer = blob(
        &layout,
        &fs::read(&layer_tar)?,
        "application/vnd.oci.image.layer.v1.tar",
    )?;
    let config = json!({
        "created": created.trim(),
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/sbin/vswitchd"],
            "Env": ["PATH=/usr/sbin:/usr/bin"],
            "Volumes": { "/var/lib/vswitch": {} },
            "Labels": { "org.opencontainers.image.version": VERSION, "org.opencontainers.image.licenses": "MIT OR Apache-2.0" },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        "history": [{ "created": created.trim(), "created_by": "cargo xtask package" }],
    });
    let config = blob(
        &layout,
        config.to_string().as_bytes(),
        "application/vnd.oci.image.config.v1+json",
    )?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
    });
    let mut manifest = blob(
        &layout,
        manifest.to_string().as_bytes(),
        "application/vnd.oci.image.manifest.v1+json",
    )?;
    manifest["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{NAME}:{VERSION}"),
        "org.opencontainers.image.ref.name": VERSION,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    write(&layout.join("index.json"), index.to_string())?;
    write(
        &layout.join("oci-layout"),
        json!({ "imageLayoutVersion": "1.0.0" }).to_string(),
    )?;
    let place = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        format!("blobs/{}", digest.replace(':', "/"))
    };
    let saved = json!([{
        "Config": place(&config),
        "RepoTags": [format!("{NAME}:{VERSION}")],
        "Layers": [place(&layer)],
    }]);
    write(&layout.join("manifest.json"), saved.to_string())?;
    let file = folder().join(format!("vswitch-{VERSION}.{}.oci.tar", std::env::consts::ARCH));
    tar(&layout, &file, epoch)?;
    fs::remove_file(layer_tar)?;
    Ok(file)
}

/// What Go, and so each container engine, calls this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The shared libraries that a program loads, and what loads them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let printed = printed(Command::new("ldd").arg(program))?;
    // name => /path (address), /path (address), and the kernel's own without a path.
    let paths = printed
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

/// The file itself, not the link that leads to it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(above) = to.parent() {
        fs::create_dir_all(above)?;
    }
    fs::copy(from, to).with_context(|| format!("{} can't be copied to {}", from.display(), to.display()))?;
    Ok(())
}

/// Adds what is named by its hash, and tells of it as OCI's descriptors do.
fn blob(layout: &Path, bytes: &[u8], media_type: &str) -> Result<Value> {
    let file = layout.join("blobs/sha256/new");
    write(&file, bytes)?;
    let printed = printed(Command::new("sha256sum").arg(&file))?;
    let hash = printed.split_whitespace().next().context("sha256sum prints nothing")?;
    fs::rename(&file, file.with_file_name(hash))?;
    Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{hash}"), "size": bytes.len() }))
}

/// A tar of a folder that is the same whenever and by whomever it is made.
fn tar(folder: &Path, file: &Path, epoch: u64) -> Result<()> {
    let mut command = Command::new("tar");
    command
        .args([
            "--create",
            "--format=ustar",
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mode=u+rw,go=rX",
        ])
        .args(["--mtime", &format!("@{epoch}"), "--file"])
        .arg(file)
        .arg("--directory")
        .arg(folder)
        .arg(".");
    run(&mut command)
}
