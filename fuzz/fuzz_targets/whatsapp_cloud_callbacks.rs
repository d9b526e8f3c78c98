#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| voicegate::fuzzing::run("whatsapp_cloud_callbacks", data));
