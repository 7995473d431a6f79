//! What a client of the API can send as a body. The test of the same name plays it without a fuzzer.

#![no_main]

#[path = "../../../switch/api/tests/bytes/request.rs"]
mod request;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    request::check(data);
});
