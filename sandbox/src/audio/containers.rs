//! Just enough of each container to say what is in it. Every reader returns `None` when the file ends early.

use super::AudioInfo;

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    be16(bytes, at).map(u16::swap_bytes)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    be32(bytes, at).map(u32::swap_bytes)
}

fn ms(samples: u64, rate: u64) -> Option<u64> {
    samples.checked_mul(1000)?.checked_div(rate)
}

/// Offset of the audio behind an ID3v2 tag (<https://id3.org/id3v2.4.0-structure>); 0 without one.
pub(super) fn skip_id3(bytes: &[u8]) -> usize {
    match bytes {
        [b'I', b'D', b'3', _, _, _, a, b, c, d, ..] => {
            10 + [a, b, c, d].iter().fold(0, |size, byte| size << 7 | usize::from(**byte & 0x7f))
        }
        _ => 0,
    }
}

/// Walks the frames, so that the duration holds for variable bit rates without an index.
pub(super) fn mp3(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    const RATES: [u32; 3] = [44_100, 48_000, 32_000];
    // kbit/s of layer III, MPEG-1 and MPEG-2/2.5.
    const V1: [u32; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const V2: [u32; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let mut at = skip_id3(bytes);
    let (mut frames, mut samples, mut rate) = (0_u64, 0_u64, 0);
    while let Some(header) = be32(bytes, at) {
        if header >> 21 != 0x7ff {
            break;
        }
        let version = header >> 19 & 3;
        let (index, rate_index) = ((header >> 12 & 15) as usize, (header >> 10 & 3) as usize);
        if header >> 17 & 3 != 1 {
            info.codec = Some("mpeg audio, not layer 3".into());
            return Some(());
        }
        let shift = match version {
            3 => 0,
            2 => 1,
            _ => 2,
        };
        rate = RATES.get(rate_index)? >> shift;
        let kbits = *if version == 3 { &V1 } else { &V2 }.get(index)?;
        let per_frame: u32 = if version == 3 { 1152 } else { 576 };
        let size = per_frame / 8 * kbits * 1000 / rate + (header >> 9 & 1);
        if frames == 0 {
            info.codec = Some("mp3".into());
            info.channels = Some(if header >> 6 & 3 == 3 { 1 } else { 2 });
            info.sample_rate = Some(rate);
        }
        // A first frame with a Xing or Info header describes the stream and is silent itself.
        let body = bytes.get(at..at + (size as usize).min(bytes.len() - at))?;
        let describes = frames == 0 && body.windows(4).take(64).any(|tag| tag == b"Xing" || tag == b"Info");
        if !describes {
            samples += u64::from(per_frame);
        }
        frames += 1;
        if kbits == 0 {
            return Some(());
        }
        at += size as usize;
    }
    info.duration_ms = ms(samples, u64::from(rate));
    (frames > 0 && at <= bytes.len()).then_some(())
}

const AAC_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

pub(super) fn adts(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    let mut at = skip_id3(bytes);
    let mut samples = 0_u64;
    info.codec = Some("aac".into());
    while at < bytes.len() {
        let header = be64(bytes, at)?;
        if header >> 52 != 0xfff {
            return None;
        }
        let rate = *AAC_RATES.get((header >> 42 & 15) as usize)?;
        info.sample_rate = Some(rate);
        info.channels = u8::try_from(header >> 38 & 7).ok();
        samples += 1024 * ((header >> 8 & 3) + 1);
        info.duration_ms = ms(samples, u64::from(rate));
        let size = (header >> 21 & 0x1fff) as usize;
        if size < 7 {
            return None;
        }
        at += size;
    }
    (at == bytes.len()).then_some(())
}

/// ISO BMFF boxes. `None` when a box runs past the end.
pub(super) fn mp4(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    let mut at = 0;
    let mut seen_data = false;
    let mut found = None;
    while at < bytes.len() {
        let (kind, body, next) = mp4_box(bytes, at)?;
        match &kind {
            b"moov" => {
                info.index_first = Some(!seen_data);
                found = Some(());
                mp4_moov(body, info, 4);
            }
            b"mdat" => seen_data = true,
            _ => {}
        }
        at = next;
    }
    found
}

fn mp4_box(bytes: &[u8], at: usize) -> Option<([u8; 4], &[u8], usize)> {
    let kind = bytes.get(at + 4..at + 8)?.try_into().ok()?;
    let (header, size) = match be32(bytes, at)? {
        0 => (8, bytes.len() - at),
        1 => (16, usize::try_from(be64(bytes, at + 8)?).ok()?),
        size => (8, size as usize),
    };
    let end = at.checked_add(size)?;
    Some((kind, bytes.get(at + header..end)?, end))
}

fn mp4_children(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (kind, body, next) = mp4_box(bytes, at)?;
        at = next;
        Some((kind, body))
    })
}

/// `depth` bounds the recursion: trak, mdia, minf, stbl.
fn mp4_moov(moov: &[u8], info: &mut AudioInfo, depth: u8) {
    for (kind, body) in mp4_children(moov) {
        match &kind {
            b"mvhd" => info.duration_ms = mp4_duration(body),
            b"trak" | b"mdia" | b"minf" | b"stbl" if depth > 0 => mp4_moov(body, info, depth - 1),
            b"hdlr" if body.get(8..12) == Some(b"vide") => {
                info.faults.push("The file has a video track; a voice note is sound only.".into());
            }
            b"stsd" if info.codec.is_none() => {
                // One sample entry, AudioSampleEntry fields at fixed places.
                if let Some((entry, body)) = body.get(8..).and_then(|rest| mp4_children(rest).next()) {
                    info.codec = Some(mp4_codec(entry));
                    info.channels = be16(body, 16).and_then(|channels| u8::try_from(channels).ok());
                    info.sample_rate = be16(body, 24).map(u32::from);
                    if let Some(children) = body.get(28..) {
                        mp4_children(children).filter(|(kind, _)| kind == b"esds").for_each(|(_, esds)| {
                            mp4_esds(esds, info);
                        });
                    }
                }
            }
            _ => {}
        }
    }
}

/// ISO 14496-1 descriptors: the decoder's own settings are what counts, since many writers (ffmpeg too) put a
/// fixed channel count of 2 into the sample entry.
fn mp4_esds(esds: &[u8], info: &mut AudioInfo) -> Option<()> {
    let mut at = 4;
    loop {
        let tag = *esds.get(at)?;
        at += 1;
        // A length of up to four bytes, seven bits each.
        while esds.get(at)? & 0x80 != 0 {
            at += 1;
        }
        at += 1;
        match tag {
            // ES descriptor: id and flags (no optional fields in MP4), then the rest.
            3 => at += 3,
            // Decoder configuration: object type first.
            4 => {
                match esds.get(at)? {
                    0x40 | 0x66..=0x68 => {}
                    0x69 | 0x6b => info.codec = Some("mp3".into()),
                    other => info.codec = Some(format!("object type {other:#04x}")),
                }
                at += 13;
            }
            // AudioSpecificConfig: 5 bits object type, 4 bits rate, 4 bits channels.
            5 => {
                let config = be16(esds, at)?;
                info.channels = u8::try_from(config >> 3 & 15).ok();
                if let Some(rate) = AAC_RATES.get(usize::from(config >> 7 & 15)) {
                    info.sample_rate = Some(*rate);
                }
                return Some(());
            }
            _ => return None,
        }
    }
}

fn mp4_codec(entry: [u8; 4]) -> String {
    match &entry {
        b"mp4a" => "aac".into(),
        b"Opus" => "opus".into(),
        b".mp3" => "mp3".into(),
        other => String::from_utf8_lossy(other).trim().to_owned(),
    }
}

fn mp4_duration(mvhd: &[u8]) -> Option<u64> {
    match mvhd.first()? {
        0 => ms(u64::from(be32(mvhd, 16)?), u64::from(be32(mvhd, 12)?)),
        _ => ms(be64(mvhd, 24)?, u64::from(be32(mvhd, 20)?)),
    }
}

pub(super) fn wav(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    let mut at = 12;
    let mut bytes_per_second = 0;
    loop {
        let id = bytes.get(at..at + 4)?;
        let size = le32(bytes, at + 4)? as usize;
        let body = at + 8;
        if id == b"fmt " {
            let bits = le16(bytes, body + 14)?;
            info.codec = Some(match le16(bytes, body)? {
                1 | 0xfffe => format!("pcm, {bits} bit"),
                3 => format!("float pcm, {bits} bit"),
                6 => "a-law".into(),
                7 => "mu-law".into(),
                other => format!("format {other:#06x}"),
            });
            info.channels = u8::try_from(le16(bytes, body + 2)?).ok();
            info.sample_rate = le32(bytes, body + 4);
            bytes_per_second = u64::from(le32(bytes, body + 8)?);
        }
        if id == b"data" {
            let there = bytes.len().saturating_sub(body);
            info.duration_ms = ms(size.min(there) as u64, bytes_per_second);
            // A writer that could not seek back leaves 0 or 0xffffffff here; phones read on or refuse.
            return (size <= there).then_some(());
        }
        at = body.checked_add(size)? + (size & 1);
    }
}

pub(super) fn aiff(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    let mut at = 12;
    loop {
        let id = bytes.get(at..at + 4)?;
        let size = be32(bytes, at + 4)? as usize;
        if id == b"COMM" {
            let body = at + 8;
            info.channels = u8::try_from(be16(bytes, body)?).ok();
            info.codec = Some(format!("pcm, {} bit", be16(bytes, body + 6)?));
            // An 80-bit extended float; rates are whole numbers, so mantissa and exponent are enough.
            let exponent = be16(bytes, body + 8)? & 0x7fff;
            let rate = be64(bytes, body + 10)?.checked_shr(16_446_u32.checked_sub(u32::from(exponent))?)?;
            info.sample_rate = u32::try_from(rate).ok();
            info.duration_ms = ms(u64::from(be32(bytes, body + 2)?), rate);
            return Some(());
        }
        at = at.checked_add(8 + size)? + (size & 1);
    }
}

/// <https://developer.apple.com/library/archive/documentation/MusicAudio/Reference/CAFSpec/>
pub(super) fn caf(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    let mut at = 8;
    let (mut rate, mut packet) = (0, (0, 0));
    while at < bytes.len() {
        let id = bytes.get(at..at + 4)?;
        let size = be64(bytes, at + 4)?;
        let body = at + 12;
        if id == b"desc" {
            rate = f64::from_bits(be64(bytes, body)?) as u64;
            info.sample_rate = u32::try_from(rate).ok();
            info.codec = Some(match bytes.get(body + 8..body + 12)? {
                b"lpcm" => "pcm".into(),
                b"aac " => "aac".into(),
                other => String::from_utf8_lossy(other).trim().to_owned(),
            });
            info.channels = be32(bytes, body + 24).and_then(|channels| u8::try_from(channels).ok());
            packet = (u64::from(be32(bytes, body + 16)?), u64::from(be32(bytes, body + 20)?));
        }
        // Packets of one size need no table. The chunk starts with a 4-byte edit count.
        if id == b"data" && packet.0 > 0 {
            let there = bytes.len().saturating_sub(body) as u64;
            info.duration_ms = ms(size.min(there).saturating_sub(4) / packet.0 * packet.1, rate);
        }
        if id == b"pakt" {
            info.duration_ms = ms(be64(bytes, body + 8)?, rate);
        }
        // -1: the data runs to the end of the file.
        if size == u64::MAX {
            break;
        }
        at = body.checked_add(usize::try_from(size).ok()?)?;
    }
    (at <= bytes.len()).then_some(())
}

/// RFC 4867, section 5: a magic line, then frames of 20 ms whose size follows from the type.
pub(super) fn amr(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    const NARROW: [usize; 16] = [12, 13, 15, 17, 19, 20, 26, 31, 5, 0, 0, 0, 0, 0, 0, 0];
    const WIDE: [usize; 16] = [17, 23, 32, 36, 40, 46, 50, 58, 60, 5, 0, 0, 0, 0, 0, 0];
    let wide = bytes.starts_with(b"#!AMR-WB\n");
    let (mut at, sizes, rate) = if wide { (9, WIDE, 16_000) } else { (6, NARROW, 8_000) };
    info.codec = Some(if wide { "amr_wb" } else { "amr_nb" }.into());
    info.channels = Some(1);
    info.sample_rate = Some(rate);
    let mut frames = 0;
    while let Some(header) = bytes.get(at) {
        at += 1 + sizes[usize::from(header >> 3 & 15)];
        frames += 1;
        info.duration_ms = Some(frames * 20);
    }
    (at == bytes.len()).then_some(())
}

pub(super) fn flac(bytes: &[u8], info: &mut AudioInfo) -> Option<()> {
    // STREAMINFO always comes first: 20 bits rate, 3 bits channels - 1, 5 bits depth, 36 bits samples.
    let packed = be64(bytes, 18)?;
    let rate = packed >> 44;
    info.codec = Some("flac".into());
    info.sample_rate = u32::try_from(rate).ok();
    info.channels = u8::try_from((packed >> 41 & 7) + 1).ok();
    info.duration_ms = ms(packed & 0xf_ffff_ffff, rate);
    Some(())
}
