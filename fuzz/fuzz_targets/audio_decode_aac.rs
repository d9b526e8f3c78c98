#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| voicegate::fuzzing::run("audio_decode_aac", data));
