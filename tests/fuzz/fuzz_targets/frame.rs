//! A frame with its virtio-net header, as a hostile guest could write it. The test of the same name plays it without a fuzzer.

#![no_main]

#[path = "../../../switch/datapath/tests/bytes/frame.rs"]
mod frame;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    frame::check(data);
});
