#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| voicegate::fuzzing::run("telegram_callbacks", data));
