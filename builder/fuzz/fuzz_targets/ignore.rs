#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| builder::testing::ignore(bytes));
