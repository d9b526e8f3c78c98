//! Opus packets between a reader and a writer.

use crate::formats::ogg::Damage;
use crate::formats::opus::{OpusHead, Packet};

/// Output of a reader: the header, then every audio packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Head(OpusHead),
    Packet(Placed),
}

/// An audio packet with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub data: Vec<u8>,
    pub facts: Packet,
    /// Samples at 48 kHz from the start of the stream to the end of this packet, with pre-skip and without end trim. A
    /// stream may start its count anywhere (RFC 7845 section 4.1); here it starts at 0, because some players take
    /// another start for silence.
    pub end: u64,
}

/// Receives the output of a reader.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(Item) -> Result<(), Damage>;
