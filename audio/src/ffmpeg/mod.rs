//! Runs of ffmpeg: arguments, confinement, and interpretation of exit and output.

pub(crate) mod companions;
pub(crate) mod confine;
pub(crate) mod descriptors;
pub(crate) mod ending;
pub(crate) mod filters;
pub(crate) mod job;
pub(crate) mod log;
pub(crate) mod measure;
pub(crate) mod pass;
pub(crate) mod run;
pub(crate) mod waveform;
