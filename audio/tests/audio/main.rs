//! Runs the audio engine on the fixtures, and judges its results with other tools: `ffprobe`, `opusinfo`, and ffmpeg's
//! own decoders. The tables are in `tests/fixtures/audio/matrix.toml`.

mod caf;
mod companions;
#[cfg(target_os = "linux")]
mod confined;
mod corpus;
mod hostile;
mod load;
mod matrix;
mod mixes;
mod patched;
mod proof;
mod quality;
#[expect(dead_code, reason = "shared with the tests of the whole gateway")]
#[path = "../../../tests/support/rows.rs"]
mod rows;
mod shortest;
mod sound;
mod structure;
mod table;
mod time;
mod tones;
#[path = "../../../tests/support/audio_tools.rs"]
mod tools;
mod ways;
