#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| storage::testing::decoder(bytes));
