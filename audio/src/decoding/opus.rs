//! Mono Opus that uses linear prediction (SILK) alone, as voice notes of up to 16 kHz do.
//!
//! `opus-decoder` is right only at the rate at which the packets were encoded: what it makes at another rate has the
//! level of the sound, but not its shape. So the sound is decoded at that rate, and converted here.

use std::io::Cursor;

use opus_decoder::OpusDecoder;
use voicegate_providers::Container;

use crate::decoding::NotDecoded;
use crate::decoding::output::Output;
use crate::formats::framing::Frames;
use crate::formats::ogg::Damage;
use crate::formats::opus::Packet;
use crate::formats::packets::{Item, Placed};
use crate::formats::{caf_opus, ogg_opus, webm};

/// Upper limit of the samples in a packet, at the highest rate.
const LONGEST_PACKET: usize = 16_000 * 120 / 1000;
/// Rate of the counts in the container.
const STATED_RATE: u32 = 48_000;
/// Samples at that rate by which other decoders are later than this one.
const EARLY: u64 = 39;

/// The rate at which a packet was encoded, if it uses linear prediction alone (RFC 6716, section 3.1).
fn rate(packet: &Packet) -> Option<u32> {
    match packet.config {
        0..=3 => Some(8_000),
        4..=7 => Some(12_000),
        8..=11 => Some(16_000),
        _ => None,
    }
}

/// Whether the packet contains sound. Each decoder fills pauses in its own way.
fn has_sound(packet: &Placed) -> bool {
    Frames::of(&packet.data).is_some_and(|frames| frames.all().iter().all(|frame| frame.len() > 1))
}

pub(crate) fn decode(bytes: &[u8], container: Container, output: &mut Output<'_>) -> Result<(), NotDecoded> {
    const OTHER: Damage = Damage("not mono Opus of one rate that uses linear prediction alone");
    let mut packets = Vec::new();
    // A packet of two bytes takes more memory than in its file, so their number is limited by their length.
    let mut lasts = 0;
    let mut found = None;
    let mut each = |item| {
        let packet = match item {
            Item::Head(head) if head.gain != 0 => return Err(OTHER),
            Item::Head(_) => return Ok(()),
            Item::Packet(packet) => packet,
        };
        let rate = rate(&packet.facts).filter(|_| !packet.facts.stereo && has_sound(&packet)).ok_or(OTHER)?;
        if *found.get_or_insert(rate) != rate {
            return Err(OTHER);
        }
        lasts += u64::from(packet.facts.samples());
        output.allows(lasts, STATED_RATE).map_err(|_| Damage("the recording is too long"))?;
        packets.push(packet.data);
        Ok(())
    };
    let detail = match container {
        Container::Ogg => ogg_opus::read(&mut &bytes[..], &mut each),
        Container::Caf => caf_opus::read(&mut Cursor::new(bytes), &mut each),
        _ => webm::read(bytes, &mut each),
    };
    let detail = detail.map_err(|_| NotDecoded::Unknown)?;
    let rate = found.ok_or(NotDecoded::Unknown)?;
    output.skip(u64::from(detail.pre_skip).saturating_sub(EARLY) * u64::from(rate) / u64::from(STATED_RATE));
    output.scale_played(rate, STATED_RATE);
    let mut decoder = OpusDecoder::new(rate, 1).map_err(|_| NotDecoded::Unknown)?;
    let mut samples = [0; LONGEST_PACKET];
    let mut sound = Vec::with_capacity(LONGEST_PACKET);
    for packet in packets {
        if output.is_done() {
            break;
        }
        let count = decoder.decode(&packet, &mut samples, false).map_err(|_| NotDecoded::Failed)?;
        sound.clear();
        sound.extend(samples[..count].iter().map(|&sample| f32::from(sample) / 32_768.0));
        output.take(&[&sound], rate)?;
    }
    Ok(())
}
