//! Any bytes for `hub_hostile_bytes::network::vsphere_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // An error is one of the machine, not of the bytes.
    drop(hub_hostile_bytes::network::vsphere_answer(data));
});
