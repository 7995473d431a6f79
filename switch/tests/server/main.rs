//! The daemon as a process, seen from its control socket: start, requests good and bad, events, signals, stop.
//! Each test has a daemon of its own in network and mount namespaces of its own.
#![expect(
    clippy::unwrap_used,
    reason = "clippy knows only #[test] functions as tests, not their helpers"
)]

mod daemon;
mod lifecycle;
mod requests;
mod start;
