//! Longer runs whose figures are written down in `docs/reliability.md`: `cargo xtask restart`, `soak` and `hostile` run this. It needs root; what it makes is in namespaces of its own.

#![allow(clippy::print_stdout, reason = "figures are what it is for")]

mod hostile;
mod restart;
mod soak;
mod storm;
mod sums;

use std::time::Duration;

fn main() {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["restart"] => restart::run(),
        ["soak", seconds, fastpath] => {
            let time = Duration::from_secs(seconds.parse().expect("a number of seconds"));
            soak::run(time, fastpath.parse().expect("true or false"));
        }
        ["hostile", frames] => {
            hostile::run(frames.parse().expect("a number of frames"));
            storm::run();
        }
        _ => panic!("restart, soak SECONDS true|false or hostile FRAMES"),
    }
}
