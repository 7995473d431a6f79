//! What a machine may lack. A test that needs it then has nothing to try, and says so; in a run that demands everything it fails.

use std::fmt::Display;

/// Names what every test has to find: `all`. Unset: what is missing is left out.
const REQUIRE: &str = "VSWITCH_REQUIRE";

/// Says that there is nothing to test without `what`, which is not here because of `why`.
///
/// # Panics
/// If the run demands everything (`VSWITCH_REQUIRE=all`).
pub fn missing(what: &str, why: impl Display) {
    let demanded = std::env::var(REQUIRE).is_ok_and(|demanded| demanded == "all");
    assert!(!demanded, "{what} is missing, and {REQUIRE}=all demands it: {why}");
    nothing_without(what, why);
}

/// Says the same where the machine's kernel was built without `what`: nothing that could be installed, so that nobody demands it. `cargo xtask vm`
/// has kernels with all of it.
pub fn kernel_lacks(what: &str, why: impl Display) {
    nothing_without(what, why);
}

/// `cargo xtask vm` counts these lines.
fn nothing_without(what: &str, why: impl Display) {
    eprintln!("nothing to test without {what}: {why}");
}
