//! Makes the objects of the kernel fast path, of XDP and of the choice of queues from their C sources, into OUT_DIR.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(out) = std::env::var_os("OUT_DIR").map(PathBuf::from) {
        build_programs(&out);
    }
}

/// Compiles the programs for the kernel and says so to the crate by `cfg(fastpath_object)` and so on. Where that
/// can't be done the daemon is built without them.
fn build_programs(out: &Path) {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let objects = [
        ("fastpath", "the kernel fast path"),
        ("xdp", "XDP"),
        ("steer", "a choice of queues"),
    ];
    for (name, what) in objects {
        println!("cargo::rustc-check-cfg=cfg({name}_object)");
        if std::env::var_os("CARGO_FEATURE_FASTPATH").is_none() {
            continue;
        }
        match compile(&format!("bpf/{name}.c"), &out.join(format!("{name}.o"))) {
            Ok(()) => println!("cargo::rustc-cfg={name}_object"),
            Err(cause) => println!("cargo::warning=built without {what}: {cause}"),
        }
    }
}

fn compile(source: &str, object: &Path) -> Result<(), String> {
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    // Debian keeps asm/types.h, which the kernel's headers include, in a folder of the machine's architecture.
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let endian = std::env::var("CARGO_CFG_TARGET_ENDIAN").unwrap_or_default();
    let mut command = Command::new(&clang);
    // -g: the maps are described by BTF, which is to be the same wherever it is built. v3: 32-bit arithmetic, since Linux 5.1.
    command
        .args([
            "-O2",
            "-g",
            "-fdebug-compilation-dir=.",
            "-Wall",
            "-Wextra",
            "-mcpu=v3",
            "-target",
        ])
        .arg(if endian == "big" { "bpfeb" } else { "bpfel" })
        .arg(format!("-I/usr/include/{arch}-linux-gnu"))
        .args(["-c", source, "-o"])
        .arg(object);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let cause = text.lines().find(|line| line.contains("error")).unwrap_or("it failed");
            Err(format!("{clang}: {cause} (libbpf-dev has the headers)"))
        }
        Err(error) => Err(format!("{clang}: {error}")),
    }
}
