//! A lab file, as `vswitchctl apply` reads it. The test of the same name plays it without a fuzzer.

#![no_main]

#[path = "../../../switch/api/tests/bytes/lab_toml.rs"]
mod lab_toml;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    lab_toml::check(data);
});
