//! MP3.

use voicegate_providers::Container;

use crate::decoding::NotDecoded;
use crate::decoding::output::Output;
use crate::decoding::symphonia::Decoder;
use crate::formats::frames;
use crate::formats::mpeg::{FrameHeader, id3_length, information};

/// Samples that every decoder adds at the start.
const DECODER_DELAY: u64 = 529;

pub(crate) fn decode(bytes: &[u8], output: &mut Output<'_>) -> Result<(), NotDecoded> {
    let stream = frames::read(bytes, Container::Mp3).ok_or(NotDecoded::Unknown)?;
    let told = bytes.get(id3_length(bytes)..).and_then(information).flatten();
    output.skip(told.map_or(0, |told| told.start + DECODER_DELAY));
    let mut decoder = Decoder::mp3()?;
    for run in stream.runs {
        let mut rest = &bytes[run];
        while let Some(header) = FrameHeader::parse(rest) {
            let Some((frame, after)) = rest.split_at_checked(header.length) else { break };
            decoder.decode(frame, output)?;
            rest = after;
        }
    }
    Ok(())
}
