//! `cargo xtask longer`: what takes longer than the tests or needs tools from elsewhere, as far as there is time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::record::Build;
use crate::shell::{cargo, headline, run};
use crate::{library, outside, record};

/// Traffic and changes at once.
const SOAK_SECS: u32 = 180;
/// How long schemathesis asks.
const ASK_SECS: u32 = 30;

/// One of them.
struct Part {
    what: &'static str,
    /// With less time left it is not begun.
    takes: Duration,
    /// Gets what it needs from elsewhere. Where that can't be had the part is left out: a registry that is not to be reached is no fault of the switch.
    get: fn() -> Result<()>,
    run: fn() -> Result<()>,
}

const PARTS: [Part; 3] = [
    Part {
        what: "traffic and changes at once",
        takes: Duration::from_secs(SOAK_SECS as u64 + 60),
        get: || Ok(()),
        run: || record::soak(Build::Tests, SOAK_SECS, None),
    },
    Part {
        what: "the API by others' tools",
        takes: Duration::from_secs(ASK_SECS as u64 + 120),
        get: || outside::python().map(drop),
        run: || outside::api(ASK_SECS, false),
    },
    Part {
        what: "what the crates for others promise",
        takes: Duration::from_secs(330),
        get: || {
            library::baseline()?;
            get_semver_checks()
        },
        run: || library::compare(&library::baseline()?),
    },
];

/// Runs one after the other what can be had and fits into so much time.
///
/// # Errors
/// One has found something.
pub fn longer(within: Duration) -> Result<()> {
    let begin = Instant::now();
    for part in PARTS {
        let left = within.saturating_sub(begin.elapsed());
        if left < part.takes {
            eprintln!("\nleft out: {}: no time for it ({} s)", part.what, left.as_secs());
        } else if let Err(error) = (part.get)() {
            eprintln!("\nleft out: {}: {error:#}", part.what);
        } else {
            (part.run)().context(part.what)?;
        }
    }
    Ok(())
}

/// It runs for seconds: to optimise it would take longer.
fn get_semver_checks() -> Result<()> {
    if cargo(&["semver-checks", "--version"]).output()?.status.success() {
        return Ok(());
    }
    headline("Install cargo-semver-checks");
    let mut install = cargo(&["install", "--locked", "--quiet", "cargo-semver-checks"]);
    run(install.envs([
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"),
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ]))
}
