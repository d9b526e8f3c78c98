//! Packets in other containers sound the same, to the bit, and truncated files are never accepted as whole.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;
use voicegate_providers::Container;

use crate::formats::framing::{Frames, LONGEST_FRAME, Reframe, frame_samples};
use crate::formats::ogg::Damage;
use crate::formats::opus::{LONGEST_PACKET, OpusDetail, OpusHead, Packet};
use crate::formats::packets::{Item, Placed, Sink};
use crate::formats::{caf_opus, ogg_opus, webm};
use crate::remux::rewrap::{Packets, Wrap, rewrap_file, rewrap_with};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio").join(name)
}

/// Results of a reader: facts about the stream, and its packets.
fn read_all(
    read: impl FnOnce(Sink) -> Result<OpusDetail, Damage>,
) -> Result<(OpusDetail, Vec<Placed>), Damage> {
    let mut packets = Vec::new();
    let detail = read(&mut |item| {
        if let Item::Packet(packet) = item {
            packets.push(packet);
        }
        Ok(())
    })?;
    Ok((detail, packets))
}

fn read_file(path: &Path) -> (OpusDetail, Vec<Placed>) {
    let bytes = std::fs::read(path).unwrap();
    let read = match path.extension().and_then(|end| end.to_str()) {
        Some("ogg") => read_all(|each| ogg_opus::read(&mut &bytes[..], each)),
        Some("caf") => read_all(|each| caf_opus::read(&mut Cursor::new(&bytes), each)),
        _ => read_all(|each| webm::read(&bytes, each)),
    };
    read.unwrap_or_else(|damage| panic!("{}: {}", path.display(), damage.0))
}

/// A little more than a second of speech, as encoders produce it.
fn encoded(folder: &TempDir, name: &str, options: &str) -> PathBuf {
    let path = folder.path().join(name);
    let done = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-i"])
        .arg(fixture("speech.wav"))
        .args(["-t", "1.2345", "-c:a", "libopus", "-b:a", "24k", "-application", "voip"])
        .args(options.split_whitespace())
        .arg(&path)
        .status()
        .unwrap();
    assert!(done.success(), "{name}");
    path
}

/// The decoded samples at 48 kHz. The decoder is libopus, the reference; the result of ffmpeg's own decoder depends a
/// little on the packing.
fn played(path: &Path) -> Vec<i16> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-c:a", "libopus", "-i"])
        .arg(path)
        .args(["-c:a", "pcm_s16le", "-f", "s16le", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])).collect()
}

fn wrap(container: Container, frames_per_packet: Option<u8>) -> Wrap {
    Wrap { container, input_rate: None, frames_per_packet }
}

#[test]
fn ogg_sounds_the_same_in_every_container() {
    let folder = TempDir::new().unwrap();
    for name in ["recorder-wideband", "speech-opus-mono-fullband", "speech-opus-stereo", "speech-opus-60ms"] {
        sounds_the_same(Packets::Ogg, &fixture(&format!("{name}.ogg")));
    }
    for (name, options) in [
        ("24k.ogg", "-ar 24000"),
        ("10ms.ogg", "-ar 16000 -frame_duration 10"),
        ("celt-5ms.ogg", "-ar 48000 -application lowdelay -frame_duration 5"),
    ] {
        sounds_the_same(Packets::Ogg, &encoded(&folder, name, options));
    }
}

#[test]
fn webm_sounds_the_same_in_every_container() {
    let folder = TempDir::new().unwrap();
    for name in ["speech.webm", "speech-wideband.webm", "speech-live.webm"] {
        sounds_the_same(Packets::Webm, &fixture(name));
    }
    sounds_the_same(Packets::Webm, &encoded(&folder, "odd-end.webm", "-ar 48000"));
    sounds_the_same(Packets::Webm, &encoded(&folder, "odd-end.mka", "-ar 16000 -frame_duration 60"));
}

#[test]
fn caf_sounds_the_same_in_every_container() {
    sounds_the_same(Packets::Caf, &fixture("speech-opus.caf"));
}

/// Compares the decoded samples bit by bit, in Ogg and in CAF, with frames joined and separated again.
fn sounds_the_same(packets: Packets, source: &Path) {
    let folder = TempDir::new().unwrap();
    let target = |name: &str| folder.path().join(name);
    let case = source.display();
    let before = played(source);
    let (detail, _) = read_file(source);
    let keep = |from: &Path, packets, to: &Path, wrap| {
        rewrap_file(from, to, packets, wrap).unwrap_or_else(|damage| panic!("{case}: {}", damage.0));
        assert_eq!(read_file(to).0.samples, detail.samples, "{case}: {wrap:?}");
    };

    let (kept, three, single) = (target("kept.ogg"), target("three.ogg"), target("single.ogg"));
    keep(source, packets, &kept, wrap(Container::Ogg, None));
    assert!(played(&kept) == before, "{case}: kept packets sound different in Ogg");
    keep(source, packets, &three, wrap(Container::Ogg, Some(3)));
    assert!(played(&three) == before, "{case}: three frames per packet sound different");
    keep(&three, Packets::Ogg, &single, wrap(Container::Ogg, Some(1)));
    assert!(played(&single) == before, "{case}: single frames sound otherwise");
    let framing = |path: &Path| {
        let (detail, _) = read_file(path);
        (detail.frames_per_packet, detail.code)
    };
    assert_eq!(framing(&single), (Some(1), Some(0)), "{case}");
    // A packet holds at most 120 ms.
    let most = if detail.frame_us == Some(60_000) { 2 } else { 3 };
    assert_eq!(framing(&three), (Some(most), Some(3)), "{case}");

    // ffmpeg 5.1 plays the parts that CAF's packet table cuts off at both ends; converted back to Ogg, they are gone.
    let (caf, back) = (target("there.caf"), target("back.ogg"));
    for frames_per_packet in [None, Some(3)] {
        keep(source, packets, &caf, wrap(Container::Caf, frames_per_packet));
        let lead = usize::from(detail.pre_skip) * usize::from(detail.channels);
        assert!(played(&caf)[lead..].starts_with(&before), "{case}: CAF sounds otherwise");
        keep(&caf, Packets::Caf, &back, wrap(Container::Ogg, None));
        assert!(played(&back) == before, "{case}: back from CAF, it sounds otherwise");
    }
}

/// An omitted pause is a packet of one byte, which decoders fill from the sound before it.
#[test]
fn omitted_pauses_sound_the_same() {
    let folder = TempDir::new().unwrap();
    let (detail, mut packets) = read_file(&fixture("recorder-wideband.ogg"));
    for packet in packets.iter_mut().skip(20).step_by(7) {
        packet.data.truncate(1);
        packet.facts = Packet::parse(&packet.data).unwrap();
    }
    let again = |each: Sink| stream(&detail, &packets, each);
    let heard = [None, Some(1), Some(2), Some(3), Some(6)].map(|frames_per_packet| {
        let bytes = rewrap_with(again, Vec::new(), wrap(Container::Ogg, frames_per_packet)).unwrap();
        let path = folder.path().join("paused.ogg");
        std::fs::write(&path, bytes).unwrap();
        played(&path)
    });
    assert!(heard.iter().all(|samples| *samples == heard[0]));
}

fn stream(detail: &OpusDetail, packets: &[Placed], each: Sink) -> Result<OpusDetail, Damage> {
    each(Item::Head(detail.head()))?;
    packets.iter().try_for_each(|packet| each(Item::Packet(packet.clone())))?;
    Ok(detail.clone())
}

/// Tests the format of Apple's voice messages, with the counts of CAF.
#[test]
fn caf_matches_the_format_of_apple_voice_messages() {
    let folder = TempDir::new().unwrap();
    let source = encoded(&folder, "24k.ogg", "-ar 24000");
    let target = folder.path().join("voice.caf");
    let wrap = Wrap { container: Container::Caf, input_rate: Some(24_000), frames_per_packet: None };
    rewrap_file(&source, &target, Packets::EncodedOgg, wrap).unwrap();
    let (before, _) = read_file(&source);
    let (detail, packets) = read_file(&target);
    assert_eq!((detail.input_rate, detail.channels, detail.pre_skip), (24_000, 1, 312));
    assert_eq!((detail.samples, detail.frames_per_packet), (before.samples, Some(1)));
    let bytes = std::fs::read(&target).unwrap();
    let number = |at: usize| u32::from_be_bytes(*bytes[at..].first_chunk().unwrap());
    assert_eq!(&bytes[..16], b"caff\0\x01\0\0desc\0\0\0\0");
    assert_eq!(f64::from_be_bytes(*bytes[20..].first_chunk().unwrap()), 24_000.0);
    assert_eq!(&bytes[28..32], b"opus");
    // Flags, bytes and samples of a packet, channels, bits: 20 ms are 480 samples.
    assert_eq!([32, 36, 40, 44, 48].map(number), [0, 0, 480, 1, 0]);
    assert_eq!(&bytes[52..56], b"chan");
    assert_eq!(number(64), 0x0064_0001);
    assert_eq!(&bytes[76..80], b"pakt");
    // Number of packets, samples played, and samples cut off at the start and at the end.
    assert_eq!(number(92) as usize, packets.len());
    assert_eq!(u64::from(number(100)), before.samples / 2);
    assert_eq!(number(104), 156);
    assert_eq!(number(100) + 156 + number(108), 480 * number(92));

    for refused in [44_100, 0] {
        let wrap = Wrap { input_rate: Some(refused), ..wrap };
        assert!(rewrap_file(&source, &target, Packets::Ogg, wrap).is_err());
    }
}

/// Samples after the end are not played, so whole packets of them are dropped when packets are taken apart.
#[test]
fn packets_after_the_end_are_dropped() {
    let (mut detail, packets) = made(0x48, &[30; 9], 3);
    let end = 960 * 7 - 100;
    let packets: Vec<_> =
        packets.into_iter().map(|packet| Placed { end: packet.end.min(end), ..packet }).collect();
    detail.samples = end - u64::from(detail.pre_skip);
    let counts = [(None, 3), (Some(1), 7), (Some(2), 4), (Some(3), 3)];
    for (frames_per_packet, count) in counts {
        for container in [Container::Ogg, Container::Caf] {
            let again = |each: Sink| stream(&detail, &packets, each);
            let bytes = rewrap_with(again, Vec::new(), wrap(container, frames_per_packet)).unwrap();
            let (kept, found) = match container {
                Container::Ogg => read_all(|each| ogg_opus::read(&mut &bytes[..], each)),
                _ => read_all(|each| caf_opus::read(&mut Cursor::new(&bytes), each)),
            }
            .unwrap();
            assert_eq!((kept.samples, found.len()), (detail.samples, count), "{frames_per_packet:?}");
        }
    }
}

/// A change of mode begins a new packet, and the remainder before it uses code 3 as well.
#[test]
fn frames_of_different_modes_share_no_packet() {
    let mut packets = Vec::new();
    let mut reframe = Reframe::new(3);
    let mut end = 0;
    for toc in [0x48, 0x48, 0x48, 0x48, 0x4c, 0x4c, 0x58, 0x48] {
        let data = vec![toc, 1, 2, 3];
        let facts = Packet::parse(&data).unwrap();
        end += u64::from(facts.samples());
        reframe.push(&Placed { data, facts, end }, &mut keep(&mut packets)).unwrap();
    }
    reframe.finish(&mut keep(&mut packets)).unwrap();
    let found: Vec<_> = packets.iter().map(|packet| (packet.data[0], packet.facts.frames)).collect();
    assert_eq!(found, [(0x4b, 3), (0x4b, 1), (0x4f, 2), (0x5b, 1), (0x4b, 1)]);
    let ends: Vec<_> = packets.iter().map(|packet| packet.end).collect();
    assert_eq!(ends, [2880, 3840, 5760, 8640, 9600]);
}

fn keep(packets: &mut Vec<Placed>) -> impl FnMut(Placed) -> Result<(), Damage> {
    |packet| {
        packets.push(packet);
        Ok(())
    }
}

/// A stream of frames of these lengths, with `per_packet` frames in each packet.
fn made(toc: u8, lengths: &[usize], per_packet: u8) -> (OpusDetail, Vec<Placed>) {
    let mut packets = Vec::new();
    let mut reframe = Reframe::new(per_packet);
    let mut end = 0;
    for (index, &length) in lengths.iter().enumerate() {
        let mut data = vec![index as u8; length + 1];
        data[0] = toc;
        let facts = Packet::parse(&data).unwrap();
        end += u64::from(facts.samples());
        reframe.push(&Placed { data, facts, end }, &mut keep(&mut packets)).unwrap();
    }
    reframe.finish(&mut keep(&mut packets)).unwrap();
    let head = OpusHead { channels: 1, pre_skip: 312, input_rate: 24_000, gain: 0, mapping_family: 0 };
    let mut tally = crate::formats::opus::Tally::new(&head, None);
    packets.iter().for_each(|packet| tally.add(&packet.facts));
    (tally.close(end).unwrap(), packets)
}

#[test]
fn truncated_files_are_refused() {
    let (detail, packets) = made(0x48, &[40, 0, 300, 41, 7, 7, 7, 255, 254], 1);
    for frames_per_packet in [None, Some(3)] {
        let written = |container| {
            let again = |each: Sink| stream(&detail, &packets, each);
            rewrap_with(again, Vec::new(), wrap(container, frames_per_packet)).unwrap()
        };
        let (ogg, caf) = (written(Container::Ogg), written(Container::Caf));
        assert!(read_all(|each| ogg_opus::read(&mut &ogg[..], each)).is_ok());
        assert!(read_all(|each| caf_opus::read(&mut Cursor::new(&caf), each)).is_ok());
        for end in 0..ogg.len() {
            assert!(read_all(|each| ogg_opus::read(&mut &ogg[..end], each)).is_err(), "Ogg of {end} bytes");
            assert!(
                read_all(|each| ogg_opus::recount(&mut &ogg[..end], each)).is_err(),
                "Ogg of {end} bytes"
            );
        }
        for end in 0..caf.len() {
            assert!(
                read_all(|each| caf_opus::read(&mut Cursor::new(&caf[..end]), each)).is_err(),
                "CAF of {end}"
            );
        }
    }
    let webm = std::fs::read(fixture("speech-wideband.webm")).unwrap();
    for end in (0..webm.len()).rev().take(600).chain(0..600) {
        assert!(read_all(|each| webm::read(&webm[..end], each)).is_err(), "WebM of {end} bytes");
    }
}

#[test]
fn caf_with_unknown_chunks_is_refused() {
    let whole = std::fs::read(fixture("speech-opus.caf")).unwrap();
    let read = |bytes: &[u8]| caf_opus::read(&mut Cursor::new(bytes), &mut |_| Ok(()));
    let detail = read(&whole).unwrap();
    assert_eq!((detail.input_rate, detail.frame_us, detail.code), (48_000, Some(20_000), Some(0)));
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let table = whole.windows(4).position(|kind| kind == b"pakt").unwrap();
    for (what, bytes) in [
        ("another version", changed(5, 2)),
        ("a rate that Opus has not", changed(21, 0xe5)),
        ("another codec", changed(28, b'a')),
        ("flags", changed(35, 1)),
        ("a size of packets", changed(39, 1)),
        ("packets of another length", changed(43, 0xe0)),
        ("three channels", changed(47, 3)),
        ("bits", changed(51, 16)),
        ("the layout of stereo", changed(64 + 1, 0x65)),
        ("a packet too few", changed(table + 19, whole[table + 19] - 1)),
        ("a packet too many", changed(table + 19, whole[table + 19] + 1)),
        ("more samples than there are", changed(table + 27, whole[table + 27].wrapping_add(1))),
        ("samples before the first", changed(table + 28, 0x80)),
        ("another size of a packet", changed(table + 36, whole[table + 36] + 1)),
        ("a chunk of its own", [whole.as_slice(), b"peak\0\0\0\0\0\0\0\0"].concat()),
        ("a chunk without a length", [whole.as_slice(), b"free\xff\xff\xff\xff\xff\xff\xff\xff"].concat()),
        ("a byte too many", [whole.as_slice(), b"x"].concat()),
    ] {
        assert!(read(&bytes).is_err(), "{what} is not noticed");
    }
    let cookie = [whole.as_slice(), b"kuki\0\0\0\0\0\0\0\x03abcfree\0\0\0\0\0\0\0\0"].concat();
    assert_eq!(read(&cookie), Ok(detail));
}

/// A packet in any form that RFC 6716 allows.
fn packed(toc: u8, frames: &[Vec<u8>], form: u8, padding: usize) -> Vec<u8> {
    let length = |frame: &Vec<u8>| match frame.len() {
        length @ 0..252 => vec![length as u8],
        length => vec![252 + (length & 3) as u8, ((length - 252 - (length & 3)) / 4) as u8],
    };
    let alike = frames.iter().all(|frame| frame.len() == frames[0].len());
    let content = frames.concat();
    match (frames, form) {
        ([frame], 0) => [&[toc], frame.as_slice()].concat(),
        ([_, _], 1) if alike => [&[toc | 1], content.as_slice()].concat(),
        ([first, _], 0..=2) => [vec![toc | 2], length(first), content].concat(),
        _ => {
            let variable = !alike || form == 4;
            let mut packet = vec![toc | 3, frames.len() as u8 | if variable { 0x80 } else { 0 }];
            if padding > 0 {
                packet[1] |= 0x40;
                packet.extend(std::iter::repeat_n(255, (padding - 1) / 255));
                packet.push(((padding - 1) % 255) as u8);
            }
            if variable {
                frames[..frames.len() - 1].iter().for_each(|frame| packet.extend(length(frame)));
            }
            packet.extend(content);
            // The stated padding includes the bytes that state it.
            packet.extend(std::iter::repeat_n(0, (padding - usize::from(padding > 0)) / 255 * 254));
            packet.extend(std::iter::repeat_n(0, padding.saturating_sub(1) % 255));
            packet
        }
    }
}

fn some_frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let length = prop_oneof![4 => 0..80_usize, 2 => 250..260_usize, 1 => 0..=LONGEST_FRAME];
    let frame = (length, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]);
    let alike = (0..400_usize, 1..6_usize).prop_map(|(length, count)| vec![vec![7; length]; count]);
    prop_oneof![3 => prop::collection::vec(frame, 1..7), 1 => alike]
}

proptest! {
    /// Frames survive any packing, whatever form their packets came in.
    #[test]
    fn frames_survive_repacking(
        sources in prop::collection::vec((any::<u8>(), some_frames(), 0..5_u8, 0..600_usize), 1..8),
        per_packet in 1..7_u8,
    ) {
        let mut frames = Vec::new();
        let mut joined = Vec::new();
        let mut reframe = Reframe::new(per_packet);
        let mut end = 0;
        for (toc, mut all, form, padding) in sources {
            let toc = toc & !3;
            all.truncate((LONGEST_PACKET / frame_samples(toc)) as usize);
            let data = packed(toc, &all, form, padding);
            let found = Frames::of(&data).expect("a sound packet");
            prop_assert_eq!(found.all(), all.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let facts = Packet::parse(&data).expect("a sound packet");
            prop_assert_eq!(u32::from(facts.frames) * frame_samples(toc), facts.samples());
            end += u64::from(facts.samples());
            reframe.push(&Placed { data, facts, end }, &mut keep(&mut joined)).unwrap();
            frames.extend(all.into_iter().map(|frame| (toc, frame)));
        }
        reframe.finish(&mut keep(&mut joined)).unwrap();
        let taken_apart = |packets: &[Placed]| {
            let mut frames = Vec::new();
            let mut position = 0;
            for packet in packets {
                let found = Frames::of(&packet.data).unwrap();
                frames.extend(found.all().iter().map(|frame| (found.configuration, frame.to_vec())));
                position += u64::from(packet.facts.samples());
                assert_eq!(packet.end, position);
            }
            frames
        };
        prop_assert_eq!(&taken_apart(&joined), &frames);
        let mut single = Vec::new();
        let mut apart = Reframe::new(1);
        joined.iter().for_each(|packet| apart.push(packet, &mut keep(&mut single)).unwrap());
        apart.finish(&mut keep(&mut single)).unwrap();
        prop_assert_eq!(single.len(), frames.len());
        prop_assert_eq!(taken_apart(&single), frames);
    }

    /// A truncated packet has other frames or none, and causes no panic.
    #[test]
    fn truncated_packets_are_noticed(all in some_frames(), form in 0..5_u8, padding in 0..300_usize) {
        let data = packed(0x48, &all[..all.len().min(6)], form, padding);
        let whole: usize = Frames::of(&data).unwrap().all().iter().map(|frame| frame.len()).sum();
        for end in 0..data.len() {
            if let Some(cut) = Frames::of(&data[..end]) {
                let left: usize = cut.all().iter().map(|frame| frame.len()).sum();
                prop_assert!(left < whole, "{end} of {} bytes", data.len());
            }
        }
    }
}
