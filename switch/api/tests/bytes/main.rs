//! What reads bytes from outside, with the seeds of its fuzz targets, changed and by chance (`tests/fuzz/plain.rs`).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod lab_toml;
#[path = "../../../../tests/fuzz/plain.rs"]
mod plain;
mod request;

#[test]
fn a_body_of_any_bytes_is_refused_or_the_same_when_written_again() {
    plain::play("request", request::check);
}

#[test]
fn a_lab_file_of_any_bytes_is_refused_or_the_same_when_written_again() {
    plain::play("lab_toml", lab_toml::check);
}
