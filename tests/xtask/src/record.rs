//! `cargo xtask restart`, `soak` and `hostile`: longer runs with the release build, whose figures are written down.

use anyhow::Result;

use crate::shell::{build_programs, cargo, run, target_dir};
use crate::tools;

/// Builds the programs and runs `tests/src/bin/record` with these words.
pub fn run_with(words: &[&str]) -> Result<()> {
    tools::need_root("the run")?;
    build_programs(&["--release"])?;
    let mut command = cargo(&["run", "--package", "vswitch-tests", "--bin", "record", "--"]);
    for name in ["vswitchd", "vswitchctl"] {
        command.env(name.to_uppercase(), target_dir().join("release").join(name));
    }
    run(command.args(words))
}
