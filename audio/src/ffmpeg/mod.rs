//! Runs of ffmpeg: their arguments, their confinement, and what their end and their output mean.

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
