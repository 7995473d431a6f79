//! Pins and lists against a second opinion: what passes them is what they allow, as the receiver will read it. The test of the same
//! name plays it with numbers of its own.

#![no_main]

#[allow(dead_code, reason = "the counted run of the tests reads more of it")]
#[path = "../../../switch/datapath/tests/second_opinion/opinion/mod.rs"]
mod opinion;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    opinion::check(data);
});
