//! `cargo xtask restart`, `soak` and `hostile`: longer runs, whose figures are written down.

use anyhow::Result;

use crate::shell::{build_for_tests, build_programs, cargo, run, target_dir};
use crate::tools;

/// Which programs are run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Figures are of these.
    Release,
    /// As the tests have them: nothing is built if those were run.
    Tests,
}

/// Builds the programs and runs `tests/src/bin/record` with these words.
pub fn run_with(build: Build, words: &[&str]) -> Result<()> {
    tools::need_root("the run")?;
    let (folder, mut command) = match build {
        Build::Release => {
            build_programs(&["--release"])?;
            let words = ["run", "--package", "vswitch-tests", "--bin", "record", "--"];
            (target_dir().join("release"), cargo(&words))
        }
        Build::Tests => {
            build_for_tests(&["vswitchd", "vswitchctl", "record"])?;
            let folder = target_dir().join("debug");
            let record = std::process::Command::new(folder.join("record"));
            (folder, record)
        }
    };
    for name in ["vswitchd", "vswitchctl"] {
        command.env(name.to_uppercase(), folder.join(name));
    }
    run(command.args(words))
}

/// So many seconds, half of them with the kernel fast path and half without, or all of them one way.
pub fn soak(build: Build, seconds: u32, fastpath: Option<bool>) -> Result<()> {
    let ways = match fastpath {
        Some(only) => vec![only],
        None => vec![true, false],
    };
    let each = seconds.div_ceil(ways.len() as u32).to_string();
    for fastpath in ways {
        run_with(build, &["soak", &each, &fastpath.to_string()])?;
    }
    Ok(())
}
