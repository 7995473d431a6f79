//! The whole way of a frame over ports in memory, and a switch that is changed meanwhile: what is counted adds up, no port gets what
//! it can't take, and a trace says what happens. The test of the same property plays it with numbers of its own.

#![no_main]

#[allow(dead_code, reason = "the counted run of the tests reads more of it")]
#[path = "../../../switch/datapath/tests/pipeline/law/mod.rs"]
mod law;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    law::check(data);
});
