//! Readers and writers of containers and codec headers. They work on bytes and start no process.

pub(crate) mod caf_bits;
pub(crate) mod caf_opus;
pub(crate) mod clock;
pub(crate) mod frames;
pub(crate) mod framing;
pub(crate) mod iff;
pub(crate) mod mp4;
pub(crate) mod mp4_fragments;
pub(crate) mod mp4_timing;
pub(crate) mod mpeg;
pub(crate) mod ogg;
pub(crate) mod ogg_clock;
pub(crate) mod ogg_opus;
pub(crate) mod opus;
pub(crate) mod packets;
pub(crate) mod patched;
pub(crate) mod tracks;
pub(crate) mod wav;
pub(crate) mod webm;
