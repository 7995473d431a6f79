//! What reads bytes from outside, with the seeds of its fuzz targets, changed and by chance (`tests/fuzz/plain.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod filter;
mod frame;
#[path = "../../../../tests/fuzz/plain.rs"]
mod plain;

#[test]
fn a_frame_of_any_bytes_is_read_cut_and_summed_within_its_bounds() {
    plain::play("frame", frame::check);
}

#[test]
fn a_filter_of_any_bytes_is_refused_or_ends() {
    plain::play("filter", filter::check);
}
