//! Opus packets on their way from a reader to a writer.

use crate::formats::ogg::Damage;
use crate::formats::opus::{OpusHead, Packet};

/// What a reader hands on: the header, then every audio packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Head(OpusHead),
    Packet(Placed),
}

/// An audio packet with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub data: Vec<u8>,
    pub facts: Packet,
    /// Samples at 48 kHz from the start of the stream to the end of this packet, pre-skip included and the end trim
    /// taken off. A stream may start its count anywhere (RFC 7845 section 4.1); here it starts at 0, because some
    /// players take another start for silence.
    pub end: u64,
}

/// Takes what a reader finds.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Item) -> Result<(), Damage>;
