//! Programs of the system that are needed, and how they get there.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use nix::unistd::Uid;

use crate::shell::{headline, run};

/// A program and the Debian package that has it.
type Tool = (&'static str, &'static str);

/// No program, but found in the same way: what the kernel fast path is compiled with.
const BPF_HEADER: &str = "/usr/include/bpf/bpf_helpers.h";

/// What the demo needs.
pub const FOR_DEMO: &[Tool] = &[
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("clang", "clang"),
    (BPF_HEADER, "libbpf-dev"),
];
/// What the tests need.
pub const FOR_TESTS: &[Tool] = &[
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ping", "iputils-ping"),
    ("ethtool", "ethtool"),
    ("iptables", "iptables"),
    ("tcpdump", "tcpdump"),
    ("ovs-vswitchd", "openvswitch-switch"),
    ("brctl", "bridge-utils"),
    ("clang", "clang"),
    (BPF_HEADER, "libbpf-dev"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// What trying the Debian package needs.
pub const FOR_PACKAGE: &[Tool] = &[
    ("dpkg-deb", "dpkg"),
    ("/lib/systemd/systemd", "systemd"),
    ("lintian", "lintian"),
    ("rpm", "rpm"),
    ("readelf", "binutils"),
    ("man", "man-db"),
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("unshare", "util-linux"),
];

/// What booting another kernel needs beside virtme-ng.
pub const FOR_VM: &[Tool] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    // In the machine's first file system.
    ("busybox", "busybox-static"),
    ("depmod", "kmod"),
    ("file", "file"),
    ("strip", "binutils"),
];

/// Fails unless this is root, saying why root is needed.
pub fn need_root(what: &str) -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("{what} makes network namespaces: run it as root (sudo env \"PATH=$PATH\" cargo xtask ...)");
    }
    Ok(())
}

/// Installs what is not there. Nothing is asked and nothing touched if all is there.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let mut packages: Vec<_> = tools
        .iter()
        .filter(|(tool, _)| !is_there(tool))
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if packages.is_empty() {
        return Ok(());
    }
    if !is_there("apt-get") {
        bail!(
            "not installed: {}; install these packages or what your distribution calls them",
            packages.join(", ")
        );
    }
    headline(&format!("Install {}", packages.join(", ")));
    let apt = |words: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    };
    run(&mut apt(&["update", "-qq"]))?;
    run(apt(&["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

/// Whether the program, or the file of this path, is installed.
pub fn is_there(tool: &str) -> bool {
    let path = env::var("PATH").unwrap_or_default();
    // Debian keeps ip, tc and iptables where a user's PATH may not look.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(tool)).any(|file| Path::is_file(&file))
}
