//! A filter program and a frame, both from outside. The test of the same name plays it without a fuzzer.

#![no_main]

#[path = "../../../switch/datapath/tests/bytes/filter.rs"]
mod filter;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    filter::check(data);
});
