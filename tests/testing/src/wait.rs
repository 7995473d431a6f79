//! Waiting without fixed sleeps.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// What takes longer than this hangs. Nothing in the tests is expected to come near it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A value that says whether it is what was waited for: `true`, `Some` or `Ok`.
pub trait Ready {
    /// What [`wait_for`] returns.
    type Value;
    /// The value if it is ready, else what was seen instead.
    fn ready(self) -> Result<Self::Value, String>;
}

impl Ready for bool {
    type Value = ();
    fn ready(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("not yet true".into()) }
    }
}

impl<T> Ready for Option<T> {
    type Value = T;
    fn ready(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".into())
    }
}

impl<T> Ready for Result<T, String> {
    type Value = T;
    fn ready(self) -> Result<T, String> {
        self
    }
}

/// So many times as long does [`wait_for`] wait, by `VSWITCH_TEST_PATIENCE`: on a machine that is emulated all is slow.
fn patience() -> u32 {
    let named = std::env::var("VSWITCH_TEST_PATIENCE").ok();
    named.and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Asks again and again until the answer is there; fails the test after [`DEADLINE`] with what was seen last.
#[track_caller]
pub fn wait_for<R: Ready>(what: &str, mut ask: impl FnMut() -> R) -> R::Value {
    let deadline = DEADLINE * patience();
    let end = Instant::now() + deadline;
    loop {
        match ask().ready() {
            Ok(value) => return value,
            Err(seen) if Instant::now() > end => panic!("waited {deadline:?} for {what}; last seen: {seen}"),
            Err(_) => sleep(Duration::from_millis(10)),
        }
    }
}
