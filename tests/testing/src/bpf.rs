//! Programs of `tests/testing/bpf` for the interfaces of stations.

use std::path::PathBuf;
use std::process::Command;

use crate::lab::Lab;
use crate::station::Station;

/// Builds a source file of `tests/testing/bpf`.
///
/// # Panics
/// Without clang, which builds the kernel fast path too.
pub fn build(lab: &Lab, name: &str) -> PathBuf {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("bpf").join(name);
    let object = lab.scratch().join(name).with_extension("o");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let built = Command::new(clang)
        .args(["-O2", "-Wall", "-target", "bpf", "-c"])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg(source)
        .arg("-o")
        .arg(&object)
        .status();
    assert!(built.expect("clang").success(), "clang can't build {name}");
    object
}

/// Gives the interface of a station the program `drop` or `pass` of `tests/testing/bpf/xdp.c`, run by its driver, or takes it away again.
pub fn set_xdp(lab: &Lab, station: &Station, program: Option<&str>) {
    let what = match program {
        Some(program) => format!("obj {} sec {program}", build(lab, "xdp.c").display()),
        None => "off".into(),
    };
    let line = format!("ip -force link set dev {} xdpdrv {what}", station.ifname);
    station.place.run_ok(&line);
}
