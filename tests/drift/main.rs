//! What is only called otherwise, or lies elsewhere, is followed, and what was taken away or changed behind the daemon's back is told of
//! and made again: interfaces that are renamed, moved, deleted or set otherwise.

mod cables;
mod devices;
mod inside;
mod interfaces;
mod repair;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use vswitch_testing::netns::Place;

/// `ip` with words that are no text.
#[track_caller]
fn ip(place: &Place, words: &[&[u8]]) {
    let status = place.run(|| {
        Command::new("ip")
            .args(words.iter().map(|word| OsStr::from_bytes(word)))
            .status()
    });
    assert!(status.unwrap().success(), "{words:?}");
}
