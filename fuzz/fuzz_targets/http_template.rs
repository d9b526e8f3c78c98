#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| voicegate::fuzzing::run("http_template", data));
