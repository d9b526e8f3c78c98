//! Fuzz targets of this crate's readers: any bytes are a file, and invariants have to hold for the results.

mod decoding;

use std::io::{Cursor, Write};

use tempfile::NamedTempFile;
use voicegate_providers::Container;

use crate::ffmpeg::log::InputLog;
use crate::formats::frames::read as stream_of_frames;
use crate::formats::framing::{Frames, Reframe};
use crate::formats::iff::{self, Sizes};
use crate::formats::mp4::Mp4;
use crate::formats::mp4_timing::timing;
use crate::formats::mpeg::{FrameHeader, id3_length, walk_mp3};
use crate::formats::ogg::Damage;
use crate::formats::opus::{OpusDetail, OpusHead, OpusTags, Packet};
use crate::formats::packets::{Item, Placed, Sink};
use crate::formats::patched::PatchedFile;
use crate::formats::{caf_opus, ogg_opus, tracks, wav, webm};
use crate::profiles::profile::VENDOR;
use crate::reading::examine::examine;
use crate::reading::names::no_samples;
use crate::reading::sniff::{LATE_MP3, refusal, sniff};
use crate::remux::rewrap::{Wrap, rewrap_with};
use crate::source::{Hints, PcmEncoding, PcmFormat};

/// A name, and the function that is run on the bytes.
type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("audio_caf", caf),
    ("audio_decode_aac", decoding::aac),
    ("audio_decode_mp3", decoding::mp3),
    ("audio_decode_opus", decoding::opus),
    ("audio_decode_samples", decoding::samples),
    ("audio_examine", files),
    ("audio_iff", chunks),
    ("audio_mp4", boxes),
    ("audio_mpeg", frames),
    ("audio_ogg", pages),
    ("audio_sniff", beginnings),
    ("audio_webm", blocks),
    ("ffmpeg_log", ffmpeg_log),
    ("opus_packets", opus_packets),
    ("pcm_format", pcm_format),
];

/// Upper limit of a header that we write, in bytes, with the longest format that is kept.
const HEADER: usize = 8 << 10;

/// Size limit of a source, in bytes.
const LARGEST: u64 = 25 << 20;

/// Examines a file completely, as before a run of ffmpeg.
fn files(data: &[u8]) {
    let mut file = NamedTempFile::new().expect("a scratch file");
    file.write_all(data).expect("room for it");
    let format = PcmFormat { encoding: PcmEncoding::S16le, sample_rate: 24_000, channels: 1 };
    let plain = examine(file.path(), &Hints::default(), LARGEST);
    let declared = examine(file.path(), &Hints { format: Some(format), ..Hints::default() }, LARGEST);
    match (&plain, &declared) {
        (Ok(plain), Ok(declared)) => {
            assert_eq!(plain.container, declared.container, "a declared format outranks the bytes");
        }
        (Err(_), Ok(declared)) => assert_eq!(declared.container, Container::Pcm),
        (_, Err(_)) => {}
    }
    for outcome in [plain, declared] {
        match outcome {
            Ok(examined) => {
                assert_eq!(examined.size_bytes, data.len() as u64);
                if let Some(plain) = &examined.detail.patched {
                    assert!(!examined.detail.intact, "a file that decoders misread is sent untouched");
                    is_plain(plain, data, examined.container);
                }
            }
            Err(error) => {
                let path = file.path().to_string_lossy();
                assert!(!error.detail.is_empty() && !error.detail.contains(&*path), "{}", error.detail);
            }
        }
    }
}

/// A patched file has the container of its source, and decoders need no further patch.
fn is_plain(plain: &PatchedFile, data: &[u8], container: Container) {
    let mut written = Vec::new();
    plain.write(&mut Cursor::new(data), &mut written).expect("memory");
    let again = match container {
        Container::Wav => wav::wav(&mut Cursor::new(&written), LARGEST),
        Container::Aiff => iff::aiff(&mut Cursor::new(&written), LARGEST),
        Container::Caf => iff::caf(&mut Cursor::new(&written), LARGEST),
        _ => return,
    };
    let again = again.expect("memory");
    assert!(matches!(again, Sizes::Usable), "{again:?}");
}

/// WAV and AIFF.
fn chunks(data: &[u8]) {
    for sizes in [wav::wav, iff::aiff].map(|read| read(&mut Cursor::new(data), LARGEST)) {
        if let Sizes::Rewritten(plain) = sizes.expect("memory") {
            let mut written = Vec::new();
            plain.write(&mut Cursor::new(data), &mut written).expect("memory");
            assert!(written.len() <= data.len() + HEADER, "samples are there twice");
        }
    }
    for big_endian in [false, true] {
        let sound = |bytes: &[u8]| iff::is_sound(&mut Cursor::new(bytes), big_endian).expect("memory");
        if sound(data) {
            // One byte of padding may be present or missing.
            assert!(!sound(&data[..data.len() - 3]), "a cut file has the sizes of a whole one");
        }
    }
}

fn boxes(data: &[u8]) {
    let read = |bytes: &[u8]| Mp4::read(&mut Cursor::new(bytes)).expect("memory");
    let mp4 = read(data);
    for text in
        [&mp4.brand].into_iter().chain(mp4.tracks.iter().flat_map(|track| [&track.handler, &track.format]))
    {
        assert!(
            matches!(text.len(), 0 | 4) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
        );
    }
    if let Some((index, track)) = mp4.audio() {
        assert!(mp4.tracks.iter().filter(|track| track.handler == "soun").nth(index as usize) == Some(track));
    }
    // Free space changes nothing.
    let padded = [b"\0\0\0\x08free", data].concat();
    assert_eq!(read(&padded), mp4);
    let times = |bytes: &[u8]| timing(&mut Cursor::new(bytes), 0).expect("memory");
    assert_eq!(times(&padded), times(data));
}

/// MP3 and its tags.
fn frames(data: &[u8]) {
    if let Some(header) = FrameHeader::parse(data) {
        assert!((24..8192).contains(&header.length) && (8_000..=48_000).contains(&header.sample_rate));
    }
    for container in [Container::Mp3, Container::Adts, Container::Amr] {
        let Some(stream) = stream_of_frames(data, container) else { continue };
        let copy = stream.copy(data);
        let again = stream_of_frames(&copy, container).expect("frames alone");
        assert!(copy.len() <= data.len() && again.bare, "what is no frame was kept");
        assert_eq!(again.samples, stream.samples, "a frame was lost");
        // The frame that differs may have been an information frame.
        assert!(again.alike >= stream.alike, "frames became different");
    }
    let walk = |bytes: &[u8]| walk_mp3(&mut &bytes[..]).expect("memory");
    let Some(mp3) = walk(data) else { return };
    assert!(walk(&data[..data.len() - 1]).is_none(), "the last frame is cut and nobody noticed");
    let audio = &data[id3_length(data)..];
    let twice = walk(&[audio, audio].concat()).expect("frames after frames");
    assert!(twice.duration_ms >= mp3.duration_ms);
}

/// Results of a reader: facts about the stream, and every packet.
type Read = Result<(OpusDetail, Vec<Placed>), Damage>;

fn all_packets(read: impl FnOnce(Sink) -> Result<OpusDetail, Damage>) -> Read {
    let mut heads = Vec::new();
    let mut packets = Vec::new();
    let detail = read(&mut |item| {
        match item {
            Item::Head(head) => heads.push(head),
            Item::Packet(packet) => packets.push(packet),
        }
        Ok(())
    })?;
    assert_eq!(heads, [detail.head()]);
    assert_eq!(detail.packets, packets.len() as u64);
    Ok((detail, packets))
}

/// The audible frames, each with its position. Repacking changes packets, but not frames.
fn frames_heard((detail, packets): &(OpusDetail, Vec<Placed>)) -> Vec<(u8, Vec<u8>, u64)> {
    let end = detail.samples + u64::from(detail.pre_skip);
    let mut position = 0;
    let mut heard = Vec::new();
    for packet in packets {
        let frames = Frames::of(&packet.data).expect("a packet that was read");
        for frame in frames.all() {
            if position < end {
                heard.push((frames.configuration, frame.to_vec(), position));
            }
            position += u64::from(packet.facts.frame_samples);
        }
        assert_eq!(packet.end, position.min(end), "the place of a packet is not that of its frames");
    }
    heard
}

/// Repacked packets, as in a remux, contain the same frames at the same positions.
fn wrapped_anew(read: &(OpusDetail, Vec<Placed>)) {
    let (detail, packets) = read;
    let again = |each: Sink| {
        each(Item::Head(detail.head()))?;
        packets.iter().try_for_each(|packet| each(Item::Packet(packet.clone())))?;
        Ok(detail.clone())
    };
    for frames_per_packet in [None, Some(1), Some(3), Some(48)] {
        let wrap = Wrap { container: Container::Ogg, input_rate: None, frames_per_packet };
        let file = rewrap_with(again, Vec::new(), wrap).expect("memory");
        let kept = all_packets(|each| ogg_opus::read(&mut &file[..], each)).expect("our own file");
        let same = OpusDetail {
            vendor: Some(VENDOR.to_owned()),
            comments: 0,
            packets: kept.0.packets,
            frames_per_packet: kept.0.frames_per_packet,
            code: kept.0.code,
            mono: kept.0.mono,
            max_bandwidth: kept.0.max_bandwidth,
            frame_us: kept.0.frame_us,
            ..detail.clone()
        };
        assert_eq!(kept.0, same);
        assert_eq!(frames_heard(&kept), frames_heard(read), "{frames_per_packet:?}");

        let wrap = Wrap { container: Container::Caf, ..wrap };
        let Ok(file) = rewrap_with(again, Vec::new(), wrap) else {
            assert!(detail.gain != 0, "CAF has a place for this");
            continue;
        };
        let caf = all_packets(|each| caf_opus::read(&mut Cursor::new(&file), each)).expect("our own file");
        assert_eq!((caf.0.samples, caf.0.pre_skip), (detail.samples, detail.pre_skip));
        assert_eq!(frames_heard(&caf), frames_heard(read), "{frames_per_packet:?} in CAF");
    }
}

/// Ogg with Opus.
fn pages(data: &[u8]) {
    stream(data);
    // A fuzzer does not guess checksums, and a page with a wrong one is not read further.
    stream(&with_true_checksums(data));
}

/// Computes checksums bit by bit, unlike the reader.
fn with_true_checksums(data: &[u8]) -> Vec<u8> {
    let mut file = data.to_vec();
    let mut at = 0;
    while file.get(at..at + 27).is_some_and(|header| header.starts_with(b"OggS")) {
        let body = at + 27 + usize::from(file[at + 26]);
        let lacing = file.get(at + 27..body).unwrap_or_default();
        let length: usize = lacing.iter().map(|&length| usize::from(length)).sum();
        let end = (body + length).min(file.len());
        file[at + 22..at + 26].fill(0);
        let sum = file[at..end].iter().fold(0_u32, |sum, &byte| {
            let shift = |sum: u32, _| if sum >> 31 == 1 { (sum << 1) ^ 0x04c1_1db7 } else { sum << 1 };
            (0..8).fold(sum ^ (u32::from(byte) << 24), shift)
        });
        file[at + 22..at + 26].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
    file
}

fn stream(data: &[u8]) {
    let read = all_packets(|each| ogg_opus::read(&mut &data[..], each));
    let recounted = all_packets(|each| ogg_opus::recount(&mut &data[..], each));
    if let Ok(read) = &read {
        assert_eq!(recounted.as_ref(), Ok(read), "what needs no new count is counted differently");
        wrapped_anew(read);
    }
    if let Ok(recounted) = &recounted {
        wrapped_anew(recounted);
    }
}

/// WebM and Matroska with Opus.
fn blocks(data: &[u8]) {
    tracks::in_matroska(data);
    if let Ok(read) = all_packets(|each| webm::read(data, each)) {
        wrapped_anew(&read);
    }
}

/// CAF with Opus.
fn caf(data: &[u8]) {
    let Ok(read) = all_packets(|each| caf_opus::read(&mut Cursor::new(data), each)) else { return };
    wrapped_anew(&read);
    let cut = caf_opus::read(&mut Cursor::new(&data[..data.len() - 1]), &mut |_| Ok(()));
    assert!(cut.is_err(), "the last byte is cut off and nobody noticed");
}

fn beginnings(data: &[u8]) {
    let sniffed = |bytes: &[u8]| sniff(&mut Cursor::new(bytes)).expect("memory");
    let (found, head) = sniffed(data);
    assert!(data.starts_with(&head));
    if no_samples(&head, 1).is_some() {
        assert!(
            no_samples(&head, 2).is_some(),
            "proof against samples of one byte is none against those of two"
        );
    }
    let Some(found) = found else {
        let hints = Hints { mime_type: Some("audio/l16".to_owned()), ..Hints::default() };
        for hints in [Hints::default(), hints] {
            let error = refusal(&head, &hints);
            assert!((1..300).contains(&error.detail.len()), "{}", error.detail);
        }
        return;
    };
    if !data.starts_with(b"ID3") {
        // A tag in front does not change the classification of the following bytes.
        let tagged = [b"ID3\x04\0\0\0\0\0\0", data].concat();
        let again = sniffed(&tagged).0.expect("the same behind a tag");
        let moved = if found.container == Container::Mp3 { 0 } else { 10 };
        assert!(
            found.flavour == LATE_MP3 || again.begins_at == found.begins_at + moved,
            "{found:?}, {again:?}"
        );
        let same = (again.container, &again.flavour) == (found.container, &found.flavour);
        assert!(same || found.flavour == LATE_MP3, "{found:?}, {again:?}");
    }
}

fn ffmpeg_log(data: &[u8]) {
    let read = InputLog::read(data, 0);
    let lines = data.split(|byte| matches!(byte, b'\n' | b'\r')).count();
    assert!(read.other_streams as usize <= lines);

    // A title of the sender's choice changes nothing.
    let one_line: Vec<u8> = data.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r')).collect();
    let log = |title: &[u8]| {
        let before =
            b"[info] Input #0, mp3, from 'file:x':\n[info]   Metadata:\n[info]     title           : ";
        let after = b"\n[info]   Duration: 00:00:03.02, start: 0.046, bitrate: 32 kb/s\n\
            [info]   Stream #0:0: Audio: mp3 (mp3float), 24000 Hz, mono, fltp, 32 kb/s\n";
        InputLog::read(&[before.as_slice(), title, after].concat(), 0)
    };
    let (plain, titled) = (log(b"x"), log(&one_line));
    assert_eq!(InputLog { no_decoder: plain.no_decoder, ..titled }, plain);
}

fn opus_packets(data: &[u8]) {
    if let Some(head) = OpusHead::parse(data) {
        let written = OpusHead::parse(&head.to_bytes());
        assert!(head.mapping_family != 0 || written == Some(head));
    }
    if let Some(tags) = OpusTags::parse(data) {
        let written = OpusTags::parse(&OpusTags::bare(&tags.vendor));
        assert_eq!(written, Some(OpusTags { comments: 0, ..tags }));
    }
    if let Some(packet) = Packet::parse(data) {
        assert!((120..=5760).contains(&packet.samples()));
    }
    frames_and_back(data);
}

/// A packet that is taken apart and reassembled has the same frames.
fn frames_and_back(data: &[u8]) {
    let Some(frames) = Frames::of(data) else { return };
    let facts = Packet::parse(data).expect("a packet with frames");
    assert_eq!(usize::from(facts.frames), frames.all().len());
    let placed = Placed { data: data.to_vec(), facts, end: u64::from(facts.samples()) };
    for per_packet in [1, 2, 3, 48] {
        let mut packets = Vec::new();
        let mut reframe = Reframe::new(per_packet);
        let mut keep = |packet| {
            packets.push(packet);
            Ok(())
        };
        reframe.push(&placed, &mut keep).expect("a packet with frames");
        reframe.finish(&mut keep).expect("a packet with frames");
        let parts: Vec<_> =
            packets.iter().map(|packet: &Placed| Frames::of(&packet.data).expect("our own packet")).collect();
        let again: Vec<_> = parts.iter().flat_map(Frames::all).copied().collect();
        assert_eq!(again, frames.all());
        assert!(parts.iter().all(|part| part.configuration == frames.configuration));
        assert!(packets.iter().all(|packet| packet.facts.frames <= per_packet));
        assert!(packets.iter().all(|packet| packet.facts.code == if per_packet == 1 { 0 } else { 3 }));
        assert_eq!(packets.last().map(|packet| packet.end), Some(placed.end));
    }
}

fn pcm_format(data: &[u8]) {
    let Ok(format) = serde_json::from_slice::<PcmFormat>(data) else { return };
    let written = serde_json::to_vec(&format).expect("JSON");
    assert_eq!(serde_json::from_slice::<PcmFormat>(&written).ok(), Some(format));
    assert_eq!(format.checked(), Ok(format));
}
