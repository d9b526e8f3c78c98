#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| voicegate::fuzzing::run("discord_answers", data));
