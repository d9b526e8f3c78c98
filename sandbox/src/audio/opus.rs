//! Ogg/Opus, checked down to the packets: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg), RFC 6716 section 3 (packets).
//!
//! Phones are picky and silent about it: a voice note that breaks one of these rules arrives, and then shows as
//! "audio unavailable" or plays with a wrong length, while the sender's API said success.

use std::io::Cursor;

use ogg::reading::PageParsingOptions;
use ogg::{OggReadError, Packet, PacketReader};

use super::recording::{Head, Recording};
use super::{AudioInfo, Kind};

/// The header fields of a page that the packet reader does not show.
struct Page {
    flags: u8,
    serial: u32,
    sequence: u32,
}

const CONTINUED: u8 = 1;
const FIRST: u8 = 2;
const LAST: u8 = 4;
/// "No packet ends on this page."
const NO_GRANULE: u64 = u64::MAX;

/// Whether this is Ogg/Opus that a phone shows and plays as a voice note.
pub(crate) fn is_clean_opus(info: &AudioInfo) -> bool {
    info.kind == Kind::Ogg && info.codec.as_deref() == Some("opus") && info.faults.is_empty()
}

pub(super) fn read(bytes: &[u8], info: &mut AudioInfo) {
    let pages = pages(bytes, &mut info.faults);
    let packets = packets(bytes, &mut info.faults);
    let Some(head) = packets.first() else {
        info.faults.push("The Ogg file holds no packets.".into());
        return;
    };
    if !head.data.starts_with(b"OpusHead") {
        let codec = match head.data.get(..7) {
            Some(b"\x01vorbis") => "vorbis",
            Some(b"\x7fFLAC\x01\x00") => "flac",
            Some(b"Speex  ") => "speex",
            _ => "unknown",
        };
        info.codec = Some(codec.into());
        info.faults.push(format!("The Ogg file holds {codec}, not Opus."));
        return;
    }
    info.codec = Some("opus".into());
    let pre_skip = read_head(head, info);
    match packets.get(1) {
        Some(tags) => read_tags(tags, info),
        None => info.faults.push("OpusTags is missing.".into()),
    }
    let audio = packets.get(2..).unwrap_or_default();
    if audio.is_empty() {
        info.faults.push("There is no sound in it: no packet follows the headers.".into());
        return;
    }
    let samples = read_packets(audio, info);
    let total: u64 = samples.iter().sum();
    check_granules(audio, &samples, info);
    let end = audio.last().map_or(0, Packet::absgp_page);
    // The last page may cut the padding of the last packet; it cannot add sound.
    let played = if end == NO_GRANULE { total } else { end.min(total) }.saturating_sub(pre_skip);
    info.duration_ms = Some(played / 48);
    if played == 0 {
        info.faults.push("The note is empty: it lasts 0 seconds.".into());
    }
    if !pages.iter().any(|page| page.flags & LAST != 0) {
        info.faults.push("No page says that the stream ends (EOS): the file looks cut off.".into());
    }
}

/// The packets of a file with one stream.
pub(super) fn recording(bytes: &[u8]) -> Option<Recording> {
    let mut faults = Vec::new();
    let packets = packets(bytes, &mut faults);
    let (first, audio) = (packets.first()?, packets.get(2..)?);
    let is_one = packets.iter().all(|packet| packet.stream_serial() == first.stream_serial());
    if !faults.is_empty() || !is_one {
        return None;
    }
    let end = audio.last()?.absgp_page();
    let packets = audio.iter().map(|packet| packet.data.clone()).collect();
    Recording::new(Head::read(&first.data)?, packets, |all| if end == NO_GRANULE { all } else { end })
}

/// The samples (at 48 kHz) of a packet, if it is valid.
pub(super) fn samples(packet: &[u8]) -> Option<u32> {
    let toc = Toc::read(packet)?;
    Some(u32::from(toc.frame_samples) * u32::from(toc.frames))
}

fn pages(bytes: &[u8], faults: &mut Vec<String>) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let Some((page, next)) = page(bytes, at) else {
            faults.push(format!("The Ogg pages stop making sense at byte {at}."));
            break;
        };
        pages.push(page);
        at = next;
    }
    let Some(first) = pages.first() else { return pages };
    if first.flags & FIRST == 0 {
        faults.push("The first page is not marked as the beginning (BOS).".into());
    }
    if pages.iter().any(|page| page.serial != first.serial) {
        faults.push("The file holds more than one stream; players expect exactly one.".into());
    } else if pages.windows(2).any(|pair| pair[1].sequence != pair[0].sequence.wrapping_add(1)) {
        faults.push("Page numbers have gaps: something is missing in the middle.".into());
    }
    if pages.iter().rev().skip(1).any(|page| page.flags & LAST != 0) {
        faults.push("More pages follow after the page that ends the stream.".into());
    }
    if pages.len() > 1 && pages[1].flags & CONTINUED != 0 {
        faults.push("OpusHead must have its page for itself.".into());
    }
    pages
}

fn page(bytes: &[u8], at: usize) -> Option<(Page, usize)> {
    let header = bytes.get(at..at + 27)?;
    if !header.starts_with(b"OggS\0") {
        return None;
    }
    let table = bytes.get(at + 27..at + 27 + usize::from(header[26]))?;
    let next = at + 27 + table.len() + table.iter().map(|size| usize::from(*size)).sum::<usize>();
    let page = Page {
        flags: header[5],
        serial: u32::from_le_bytes(header[14..18].try_into().ok()?),
        sequence: u32::from_le_bytes(header[18..22].try_into().ok()?),
    };
    (next <= bytes.len()).then_some((page, next))
}

/// All packets. After a wrong checksum the file is read again without checking, so that one flipped bit does not
/// hide the rest of the report.
fn packets(bytes: &[u8], faults: &mut Vec<String>) -> Vec<Packet> {
    let mut options = PageParsingOptions::default();
    loop {
        let mut reader = PacketReader::new_with_page_parse_opts(Cursor::new(bytes), options.clone());
        let mut packets = Vec::new();
        let error = loop {
            match reader.read_packet() {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => return packets,
                Err(error) => break error,
            }
        };
        if let OggReadError::HashMismatch(..) = error
            && options.verify_checksum
        {
            faults.push("A page has a wrong checksum (CRC): the file was damaged on its way.".into());
            options.verify_checksum = false;
            continue;
        }
        faults.push(format!("The Ogg file cannot be read to its end: {error}."));
        return packets;
    }
}

/// RFC 7845 section 5.1. Returns the pre-skip.
fn read_head(head: &Packet, info: &mut AudioInfo) -> u64 {
    let data = &head.data;
    let Some([version, channels, skip_low, skip_high, r0, r1, r2, r3, gain_low, gain_high, family]) =
        data.get(8..19).and_then(|fields| <[u8; 11]>::try_from(fields).ok())
    else {
        info.faults.push("OpusHead is too short.".into());
        return 0;
    };
    let pre_skip = u16::from_le_bytes([skip_low, skip_high]);
    info.channels = Some(channels);
    info.sample_rate = Some(u32::from_le_bytes([r0, r1, r2, r3]));
    let mut fault = |text: String| info.faults.push(text);
    if version != 1 {
        fault(format!("OpusHead has version {version}; it must be 1."));
    }
    if channels != 1 {
        fault(format!("It has {channels} channels; phones play a voice note only when it is mono."));
    }
    if family != 0 {
        fault(format!("Channel mapping family is {family}; a voice note must use 0."));
    }
    if pre_skip == 0 {
        fault("Pre-skip is 0, so players do not drop the encoder's start-up noise.".into());
    }
    if [gain_low, gain_high] != [0, 0] {
        let gain = f32::from(i16::from_le_bytes([gain_low, gain_high])) / 256.0;
        fault(format!("The header asks for a gain of {gain:.1} dB, which phones ignore."));
    }
    if !head.last_in_page() {
        fault("OpusHead must have its page for itself.".into());
    }
    u64::from(pre_skip)
}

/// RFC 7845 section 5.2.
fn read_tags(tags: &Packet, info: &mut AudioInfo) {
    let parsed = (|| {
        let data = tags.data.strip_prefix(b"OpusTags")?;
        let (vendor, rest) = lengthy(data)?;
        info.vendor = Some(String::from_utf8_lossy(vendor).into_owned());
        let (count, mut rest) = rest.split_first_chunk::<4>()?;
        let count = u32::from_le_bytes(*count) as usize;
        for _ in 0..count {
            rest = lengthy(rest)?.1;
        }
        info.comments = Some(count);
        Some(())
    })();
    if parsed.is_none() {
        info.faults.push("OpusTags is missing or damaged.".into());
    }
    if !tags.last_in_page() {
        info.faults.push("Sound begins on the page of OpusTags; it must begin on a fresh page.".into());
    }
}

fn lengthy(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = data.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*size) as usize)
}

/// Reads every packet's first byte and framing. Returns the samples (at 48 kHz) of each packet.
fn read_packets(packets: &[Packet], info: &mut AudioInfo) -> Vec<u64> {
    let (mut bad, mut stereo) = (0, 0);
    let (mut widest, mut modes) = (0, [false; 3]);
    let mut frame_sizes = Vec::new();
    let samples = packets.iter().map(|packet| {
        let Some(toc) = Toc::read(&packet.data) else {
            bad += 1;
            return 0;
        };
        stereo += usize::from(toc.stereo);
        widest = widest.max(toc.bandwidth);
        modes[toc.mode] = true;
        if !frame_sizes.contains(&toc.frame_samples) {
            frame_sizes.push(toc.frame_samples);
        }
        info.frames_per_packet = info.frames_per_packet.max(Some(toc.frames));
        u64::from(toc.frame_samples) * u64::from(toc.frames)
    });
    let samples: Vec<u64> = samples.collect();
    info.frame_ms = frame_sizes.iter().max().map(|size| f32::from(*size) / 48.0);
    const BANDWIDTHS: [&str; 5] = ["narrowband", "mediumband", "wideband", "superwideband", "fullband"];
    info.bandwidth = (bad < packets.len()).then(|| BANDWIDTHS[widest]);
    info.modes = ["silk", "hybrid", "celt"]
        .into_iter()
        .zip(modes)
        .filter(|(_, seen)| *seen)
        .map(|(name, _)| name)
        .collect();
    if bad > 0 {
        info.faults.push(format!("{bad} of {} packets are no valid Opus packets.", packets.len()));
    }
    // Legal in a mono stream (RFC 6716 lets a decoder downmix), but phones' recorders never do it.
    if stereo > 0 && info.channels == Some(1) {
        info.faults
            .push(format!("{stereo} of {} packets are coded as stereo in a mono file.", packets.len()));
    }
    samples
}

struct Toc {
    mode: usize,
    bandwidth: usize,
    stereo: bool,
    frame_samples: u16,
    frames: u8,
}

impl Toc {
    /// `None` for a packet that RFC 6716 section 3.4 calls malformed.
    fn read(packet: &[u8]) -> Option<Self> {
        let (toc, rest) = packet.split_first()?;
        let config = usize::from(toc >> 3);
        let (mode, bandwidth, frame_samples) = match config {
            0..12 => (0, config / 4, [480, 960, 1920, 2880][config % 4]),
            12..16 => (1, 3 + (config - 12) / 2, [480, 960][config % 2]),
            // CELT has no mediumband.
            _ => (2, [0, 2, 3, 4][(config - 16) / 4], [120, 240, 480, 960][config % 4]),
        };
        let frames = match toc & 3 {
            0 => 1,
            1 => (rest.len() % 2 == 0).then_some(2)?,
            2 => {
                let (first, used) = frame_length(rest)?;
                (first + used <= rest.len()).then_some(2)?
            }
            _ => code3(rest)?,
        };
        let too_long = u32::from(frame_samples) * u32::from(frames) > 5760;
        (!too_long).then_some(Self { mode, bandwidth, stereo: toc & 4 != 0, frame_samples, frames })
    }
}

/// One or two bytes of length: (length, bytes used).
fn frame_length(data: &[u8]) -> Option<(usize, usize)> {
    match *data.first()? {
        short @ 0..252 => Some((usize::from(short), 1)),
        long => Some((usize::from(long) + 4 * usize::from(*data.get(1)?), 2)),
    }
}

/// A code 3 packet: a count byte, padding, and then frames of equal (CBR) or listed (VBR) lengths.
fn code3(data: &[u8]) -> Option<u8> {
    let (head, mut rest) = data.split_first()?;
    let frames = head & 0x3f;
    if frames == 0 {
        return None;
    }
    if head & 0x40 != 0 {
        let mut padding = 0;
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            padding += usize::from(*byte).min(254);
            if *byte != 255 {
                break;
            }
        }
        rest = rest.get(..rest.len().checked_sub(padding)?)?;
    }
    if head & 0x80 == 0 {
        return (rest.len() % usize::from(frames) == 0).then_some(frames);
    }
    let mut listed = 0;
    for _ in 1..frames {
        let (length, used) = frame_length(rest)?;
        rest = rest.get(used..)?;
        listed += length;
    }
    (listed <= rest.len()).then_some(frames)
}

/// RFC 7845 section 4: a page's position is the number of samples up to the end of its last packet. Players take
/// the length, and the place to seek to, from it.
fn check_granules(packets: &[Packet], samples: &[u64], info: &mut AudioInfo) {
    let (mut sum, mut wrong, mut first) = (0_u64, 0, true);
    let mut unfinished = 0;
    for (packet, samples) in packets.iter().zip(samples) {
        sum = sum.saturating_add(*samples);
        unfinished += samples;
        if !packet.last_in_page() {
            continue;
        }
        let granule = packet.absgp_page();
        let page_samples = std::mem::take(&mut unfinished);
        // The last page may end early, within its own sound.
        let fits = if packet.last_in_stream() {
            granule <= sum && granule.saturating_add(page_samples) > sum
        } else {
            granule == sum
        };
        if !fits {
            if first && granule != NO_GRANULE && granule > sum {
                info.faults.push(format!("The clock starts at {} ms instead of 0.", (granule - sum) / 48));
                sum = granule;
            } else {
                wrong += 1;
            }
        }
        first = false;
    }
    if wrong > 0 {
        let pages = if wrong == 1 { "page has a" } else { "pages have a" };
        info.faults.push(format!(
            "{wrong} {pages} time stamp that does not fit the sound: the length will be wrong."
        ));
    }
}
