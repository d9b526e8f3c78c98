//! The audio engine: reads what a bot sent, and makes of it what a target shows as a voice note.
//!
//! [`Engine::probe`] finds out what the bytes are, [`plan()`] what has to be done for a [`Profile`], and
//! [`Engine::prepare`] does it, once for all who need the same, and proves the result. ffmpeg decodes and encodes, as a
//! child process; containers are read and written in Rust.

mod caf_opus;
mod clock;
mod confine;
mod consistency;
mod ending;
mod engine;
mod error;
mod examine;
mod ffmpeg;
mod filters;
mod findings;
mod frames;
mod framing;
#[cfg(debug_assertions)]
pub(crate) mod fuzzing;
mod heard;
mod hexadecimal;
mod iff;
mod kept;
mod known;
mod log;
mod measure;
mod mended;
mod mp4;
mod mp4_timing;
mod mpeg;
mod names;
mod ogg;
mod ogg_opus;
mod opus;
mod packets;
mod pass;
mod plain;
mod plan;
mod presets;
mod probe;
mod profile;
mod profiles;
mod proof;
mod render;
mod rewrap;
mod sniff;
mod source;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_verify;
#[cfg(test)]
mod tests_wrapping;
mod tone;
mod tracks;
mod turns;
mod verify;
mod wav;
mod waveform;
mod webm;
mod words;

pub use confine::{Confinement, confinement};
pub use engine::{Engine, EngineOptions, Source};
pub use error::{AudioError, AudioErrorKind};
pub use findings::{Contradiction, Findings};
pub use hexadecimal::HexDigits;
pub use kept::{Ready, ReadyFile};
pub use opus::{Bandwidth, OpusDetail};
pub use plain::Plain;
pub use plan::{Convert, Work, plan};
pub use presets::{Preset, SERVICES, Service, presets};
pub use profile::{Foreseen, Profile, profile};
pub use profiles::PROFILES;
pub use render::Render;
pub use source::{Hints, PcmEncoding, PcmFormat, Probed, SourceDetail};
pub use verify::CHECKS;
