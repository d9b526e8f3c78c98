//! Parsers on arbitrary and mutated bytes, the round trip of the Ogg writer, and planning by table.

use std::io::Cursor;

use proptest::prelude::*;
use voicegate_providers::{AudioFacts, Codec, Container};

use crate::ffmpeg::log::InputLog;
use crate::ffmpeg::waveform::Waveform;
use crate::formats::mp4::{Aac, Mp4};
use crate::formats::mpeg::{FrameHeader, walk_mp3};
use crate::formats::ogg::Damage;
use crate::formats::ogg_opus::{self, Writer};
use crate::formats::opus::{Bandwidth, OpusDetail, OpusHead, OpusTags, Packet};
use crate::formats::packets::{Item, Placed};
use crate::formats::{caf_opus, iff, ogg, tracks, wav, webm};
use crate::profiles::plan::{Convert, Work, expect, keep_budget, plan};
use crate::profiles::profile::{Loss, VENDOR, profile};
use crate::profiles::table::PROFILES;
use crate::reading::sniff::{refusal, sniff};
use crate::source::findings::Findings;
use crate::source::{Hints, Probed, SourceDetail};

fn fixture(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio");
    std::fs::read(folder.join(name)).unwrap()
}

/// Passes the bytes to every reader of foreign files.
fn read_with_everything(bytes: &[u8]) {
    let found = sniff(&mut Cursor::new(bytes)).unwrap();
    if let (None, head) = found {
        refusal(&head, &Hints::default());
    }
    let _ = ogg_opus::read(&mut Cursor::new(bytes), &mut |_| Ok(()));
    let _ = webm::read(bytes, &mut |_| Ok(()));
    let _ = Mp4::read(&mut Cursor::new(bytes)).unwrap();
    let _ = walk_mp3(&mut Cursor::new(bytes)).unwrap();
    for big_endian in [true, false] {
        let _ = iff::is_sound(&mut Cursor::new(bytes), big_endian).unwrap();
    }
    if bytes.len() >= 12 {
        let _ = (
            wav::wav(&mut Cursor::new(bytes), 1 << 20).unwrap(),
            iff::aiff(&mut Cursor::new(bytes), 1 << 20).unwrap(),
        );
    }
    let _ = iff::caf(&mut Cursor::new(bytes), 1 << 20).unwrap();
    let _ = (tracks::in_matroska(bytes), ogg::lacks_checksums(&mut Cursor::new(bytes)).unwrap());
    let _ = caf_opus::read(&mut Cursor::new(bytes), &mut |_| Ok(()));
    let _ = (ogg::links(&mut Cursor::new(bytes)).unwrap(), webm::begins_again(bytes));
    let _ = (OpusHead::parse(bytes), OpusTags::parse(bytes), Packet::parse(bytes));
    let _ = (FrameHeader::run(bytes, 4), InputLog::read(bytes, 0));
}

const SEEDS: &[&str] = &[
    "speech-24k.mp3",
    "speech-cover.mp3",
    "speech-moov-first.m4a",
    "speech-fragmented.mp4",
    "speech-video.mp4",
    "speech-wideband.webm",
    "speech-live.webm",
    "speech-opus.caf",
    "speech-opus-60ms.ogg",
    "recorder-wideband.ogg",
    "speech.aac",
    "zero-rate.wav",
];

/// Headers of formats that are recognised by more than their first bytes.
const PREFIXES: &[&[u8]] = &[
    b"",
    b"OggS\0",
    b"\x1a\x45\xdf\xa3",
    b"\0\0\0\x18ftypM4A ",
    b"\xff\xfb\x90\xc4",
    b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20\x40\xe7\x70\0\0\0\0\0opus",
    b"ID3\x04\0\0\0\0\0\x01",
];

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(
        prefix in prop::sample::select(PREFIXES),
        bytes in prop::collection::vec(any::<u8>(), 0..4096),
    ) {
        read_with_everything(&[prefix, &bytes].concat());
    }

    #[test]
    fn mutated_files_do_no_harm(
        seed in prop::sample::select(SEEDS),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..24),
        // Structure is at the ends, so most mutations should be there too.
        near_start in any::<bool>(),
        keep in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = fixture(seed);
        let reach = if near_start { bytes.len().min(600) } else { bytes.len() };
        for (at, value) in changes {
            bytes[at.index(reach)] = value;
        }
        if cut {
            bytes.truncate(keep.index(bytes.len()));
        }
        read_with_everything(&bytes);
    }

    #[test]
    fn log_lines_do_no_harm(text in "(\\[info\\]  ( Stream #| Duration: |Input #)?[ -~é\u{1F3A4}]{0,60}\n){0,8}") {
        InputLog::read(text.as_bytes(), 0);
    }

    /// Packets of any length keep their bytes and positions when written and read back.
    #[test]
    fn ogg_keeps_packets_and_granules(
        sizes in prop::collection::vec((1_usize..=1276, 0_u8..4), 1..120),
        trim in 0_u64..480,
        pre_skip in 0_u16..480,
    ) {
        let mut end = 0;
        let mut packets: Vec<Placed> = sizes
            .into_iter()
            .enumerate()
            .map(|(index, (size, config))| {
                let mut data = vec![index as u8; size];
                // Wideband of 10, 20, 40 or 60 ms, one frame.
                data[0] = (8 + config) << 3;
                end += [480, 960, 1920, 2880][usize::from(config)];
                Placed { facts: Packet::parse(&data).unwrap(), data, end }
            })
            .collect();
        end -= trim;
        packets.last_mut().unwrap().end = end;
        let head = OpusHead { channels: 1, pre_skip, input_rate: 16_000, gain: 0, mapping_family: 0 };
        prop_assume!(end > u64::from(pre_skip));

        let mut writer = Writer::new(Vec::new(), &head, VENDOR).unwrap();
        packets.iter().cloned().for_each(|packet| writer.push(packet).unwrap());
        let bytes = writer.finish().unwrap();
        let mut found = Vec::new();
        let read = ogg_opus::read(&mut Cursor::new(&bytes), &mut |item| {
            if let Item::Packet(packet) = item {
                found.push(packet);
            }
            Ok(())
        });
        let detail = read.unwrap();
        prop_assert_eq!(detail.samples, end - u64::from(pre_skip));
        prop_assert_eq!(detail.vendor.as_deref(), Some(VENDOR));
        prop_assert_eq!(detail.head(), head);
        prop_assert_eq!(found, packets);
    }
}

#[test]
fn damaged_ogg_is_detected() {
    let whole = fixture("recorder-wideband.ogg");
    let read =
        |bytes: &[u8]| ogg_opus::read(&mut Cursor::new(bytes), &mut |_| Ok(())).map(|detail| detail.packets);
    assert!(read(&whole).is_ok_and(|packets| packets > 100));
    assert_eq!(read(&whole[..whole.len() / 2]), Err(Damage("the file ends in the middle of a page")));
    assert_eq!(read(&fixture("damaged.ogg")), Err(Damage("the checksum of a page is wrong")));
    assert_eq!(
        read(&[whole.as_slice(), b"junk"].concat()),
        Err(Damage("the file ends in the middle of a page"))
    );
    assert_eq!(
        read(&[whole.clone(), whole].concat()),
        Err(Damage("there are pages after the end of the stream"))
    );
}

/// matroska-demuxer does not report the end trim, without which a note would be longer than the recording.
#[test]
fn webm_keeps_its_end_trim() {
    let samples = |name: &str| webm::read(&fixture(name), &mut |_| Ok(())).unwrap().samples;
    assert_eq!(samples("speech-wideband.webm"), 3 * 48_000);
}

#[test]
fn mp4_structure_is_read() {
    let read = |name: &str| Mp4::read(&mut Cursor::new(fixture(name))).unwrap();
    let first = read("speech-moov-first.m4a");
    let aac = Aac { object: 2, channels: 1, sample_rate: 24_000 };
    assert_eq!((first.brand.as_str(), first.moov_first, first.tracks.len()), ("M4A ", Some(true), 1));
    assert_eq!((first.tracks[0].aac, first.tracks[0].duration_ms), (Some(aac), Some(3_000)));
    assert_eq!(read("speech-moov-last.m4a").moov_first, Some(false));
    assert!(read("speech-fragmented.mp4").fragmented);
    assert_eq!(read("speech-video.mp4").tracks.len(), 2);
    let cut = read("truncated-moov-first.m4a");
    assert!(cut.cut_off && cut.tracks.len() == 1);
    assert_eq!(read("truncated-moov-last.m4a").moov_first, None);
}

#[test]
fn mp3_frames_are_read() {
    let walked = walk_mp3(&mut Cursor::new(fixture("speech-24k.mp3"))).unwrap().unwrap();
    assert_eq!((walked.sample_rate, walked.channels, walked.duration_ms), (24_000, 1, 3_000));
    assert_eq!(walk_mp3(&mut Cursor::new([fixture("speech-24k.mp3"), vec![0]].concat())).unwrap(), None);
}

#[test]
fn bars_follow_the_sound() {
    let mut waveform = Waveform::new();
    for index in 0..800_000_i32 {
        waveform.push(if index < 400_000 { 0 } else { -1000 });
    }
    let bars = waveform.bars();
    assert_eq!((bars.len(), bars[0], bars[31], bars[32], bars[63]), (64, 0, 0, 100, 100));
    assert_eq!(waveform.samples(), 800_000);
    let mut short = Waveform::new();
    short.push(i16::MIN);
    assert_eq!(short.bars().iter().filter(|&&bar| bar > 0).count(), 1);
    assert_eq!(Waveform::new().bars(), vec![0; 64]);
}

fn probed(container: Container, codec: &str, sample_rate: u32, channels: u16) -> Probed {
    let facts = AudioFacts {
        container,
        codec: Codec::new(codec),
        mime_type: String::new(),
        duration_ms: 1000,
        size_bytes: 10_000,
        sample_rate,
        channels,
        sha256: String::new(),
    };
    let detail = SourceDetail { flavour: "RIFF".to_owned(), intact: true, ..SourceDetail::default() };
    Probed { facts, waveform: vec![0; 64], detail, findings: Findings::default() }
}

fn opus(container: Container, change: impl FnOnce(&mut OpusDetail)) -> Probed {
    let mut probed = probed(container, "opus", 16_000, 1);
    let mut detail = OpusDetail {
        channels: 1,
        input_rate: 16_000,
        pre_skip: 312,
        gain: 0,
        mapping_family: 0,
        vendor: Some(VENDOR.to_owned()),
        comments: 0,
        packets: 50,
        mono: true,
        max_bandwidth: Bandwidth::Wide,
        frame_us: Some(20_000),
        frames_per_packet: Some(1),
        code: Some(0),
        samples: 48_000,
    };
    change(&mut detail);
    probed.detail.opus = Some(detail);
    probed
}

#[test]
fn plan_chooses_the_least_conversion() {
    use Container::{Adts, Aiff, Amr, Caf, Flac, Matroska, Mp3, Mp4, Ogg, Wav, Webm};
    const NONE: &[Work] = &[Work::None];
    const REMUX: &[Work] = &[Work::Remuxed, Work::Transcoded];
    const ENCODE: &[Work] = &[Work::Transcoded];

    let change = |mut probed: Probed, change: fn(&mut Probed)| {
        change(&mut probed);
        probed
    };
    let table = [
        ("linq-1", probed(Mp3, "mp3", 44_100, 2), NONE),
        ("linq-1", probed(Mp3, "mp2", 44_100, 2), ENCODE),
        ("linq-1", probed(Mp4, "aac", 48_000, 2), NONE),
        ("linq-1", probed(Mp4, "aac", 96_000, 2), ENCODE),
        ("linq-1", probed(Mp4, "aac", 48_000, 6), ENCODE),
        ("linq-1", probed(Mp4, "alac", 44_100, 2), ENCODE),
        ("linq-1", probed(Adts, "aac", 24_000, 1), NONE),
        ("linq-1", probed(Wav, "pcm_s24le", 48_000, 2), NONE),
        ("linq-1", probed(Wav, "pcm_mulaw", 8_000, 1), ENCODE),
        ("linq-1", probed(Wav, "pcm_s16le", 96_000, 1), ENCODE),
        ("linq-1", probed(Aiff, "pcm_s16be", 44_100, 2), NONE),
        ("linq-1", probed(Amr, "amr_nb", 8_000, 1), NONE),
        ("linq-1", probed(Amr, "amr_wb", 16_000, 1), ENCODE),
        ("linq-1", probed(Caf, "opus", 48_000, 1), NONE),
        ("linq-1", probed(Caf, "aac", 48_000, 1), NONE),
        ("linq-1", probed(Caf, "pcm_s16le", 48_000, 1), ENCODE),
        ("linq-1", probed(Flac, "flac", 48_000, 1), ENCODE),
        ("linq-1", probed(Matroska, "aac", 48_000, 2), REMUX),
        ("linq-1", opus(Ogg, |_| {}), ENCODE),
        ("linq-1", change(probed(Mp3, "mp3", 44_100, 2), |p| p.facts.size_bytes = 10_000_001), ENCODE),
        ("linq-1", change(probed(Mp4, "aac", 44_100, 2), |p| p.detail.other_streams = 1), REMUX),
        ("linq-1", change(probed(Mp4, "aac", 44_100, 2), |p| p.detail.flavour = "qt  ".into()), REMUX),
        ("linq-1", change(probed(Wav, "pcm_s16le", 16_000, 1), |p| p.detail.intact = false), ENCODE),
        ("linq-1", change(probed(Wav, "pcm_s16le", 16_000, 1), |p| p.detail.flavour = "RF64".into()), ENCODE),
        ("mp3-1", probed(Mp3, "mp3", 44_100, 2), NONE),
        ("mp3-1", probed(Aiff, "pcm_s16be", 44_100, 2), ENCODE),
        ("mp3-1", probed(Amr, "amr_nb", 8_000, 1), ENCODE),
        ("whatsapp-1", opus(Ogg, |_| {}), NONE),
        ("whatsapp-1", opus(Ogg, |opus| opus.vendor = Some("Lavf".into())), REMUX),
        ("whatsapp-1", opus(Ogg, |opus| opus.comments = 1), REMUX),
        ("whatsapp-1", opus(Ogg, |opus| opus.input_rate = 48_000), REMUX),
        ("whatsapp-1", opus(Ogg, |opus| opus.max_bandwidth = Bandwidth::Narrow), NONE),
        ("whatsapp-1", opus(Ogg, |opus| opus.max_bandwidth = Bandwidth::Full), ENCODE),
        ("whatsapp-1", opus(Ogg, |opus| opus.frame_us = Some(60_000)), ENCODE),
        ("whatsapp-1", opus(Ogg, |opus| opus.frame_us = None), ENCODE),
        ("whatsapp-1", opus(Ogg, |opus| opus.frames_per_packet = Some(3)), REMUX),
        ("whatsapp-1", opus(Ogg, |opus| opus.code = None), REMUX),
        ("whatsapp-1", opus(Ogg, |opus| opus.mono = false), ENCODE),
        ("whatsapp-1", opus(Ogg, |opus| opus.channels = 2), ENCODE),
        ("whatsapp-1", opus(Ogg, |opus| opus.gain = 256), ENCODE),
        ("whatsapp-1", opus(Webm, |opus| opus.vendor = None), REMUX),
        ("whatsapp-1", probed(Caf, "opus", 16_000, 1), ENCODE),
        ("whatsapp-3", opus(Ogg, |opus| opus.max_bandwidth = Bandwidth::Full), NONE),
        ("whatsapp-3", opus(Ogg, |opus| opus.comments = 7), NONE),
        ("whatsapp-3", opus(Ogg, |opus| opus.channels = 2), ENCODE),
        ("whatsapp-3", opus(Webm, |opus| opus.mono = false), ENCODE),
        ("whatsapp-3", opus(Webm, |opus| opus.frame_us = Some(60_000)), REMUX),
    ];
    for (name, source, expected) in table {
        let profile = profile(name).unwrap();
        let works = |convert| -> Vec<Work> {
            let found = plan(&source, profile, convert).unwrap_or_default().into_iter();
            found.map(|candidate| candidate.work).collect()
        };
        assert_eq!(works(Convert::Auto), expected, "{name}: {source:?}");
        assert_eq!(works(Convert::Always), ENCODE);
        let never: Vec<Work> = expected.iter().copied().filter(|&work| work != Work::Transcoded).collect();
        assert_eq!(works(Convert::Never), never, "{name}: {source:?}");
    }
    assert!(
        PROFILES.iter().all(|listed| profile(listed.name).is_some_and(|found| std::ptr::eq(found, listed)))
    );
}

/// A budget is kept wherever that is possible. Audio that cannot be made to fit is sent larger, with a loss.
#[test]
fn budget_is_kept_where_possible_and_exceeded_where_not() {
    use Convert::{Always, Auto, Never};
    use Work::{None as Untouched, Remuxed, Transcoded};
    const MINUTE: u64 = 60_000;

    let source = |container, minutes: u64, size_bytes| {
        let mut probed = opus(container, |opus| opus.max_bandwidth = Bandwidth::Full);
        (probed.facts.duration_ms, probed.facts.size_bytes) = (minutes * MINUTE, size_bytes);
        probed
    };
    let wav = |minutes: u64| {
        let mut probed = probed(Container::Wav, "pcm_s16le", 16_000, 1);
        (probed.facts.duration_ms, probed.facts.size_bytes) = (minutes * MINUTE, minutes * 1_920_000);
        probed
    };
    let meta = profile("meta-1").unwrap();
    let telegram = profile("telegram-1").unwrap();
    let icon = Some(Loss::PlayIcon);
    let shape = Some(Loss::Waveform);
    let table = [
        (meta, source(Container::Ogg, 3, 500_000), Auto, Some((Untouched, None))),
        // The file can be made smaller.
        (meta, source(Container::Ogg, 3, 700_000), Auto, Some((Transcoded, None))),
        (meta, wav(9), Auto, Some((Transcoded, None))),
        // It cannot, or the caller forbids it.
        (meta, source(Container::Ogg, 3, 700_000), Never, Some((Untouched, icon))),
        (meta, source(Container::Webm, 3, 700_000), Never, Some((Remuxed, icon))),
        (meta, source(Container::Ogg, 12, 1_500_000), Auto, Some((Untouched, icon))),
        (meta, source(Container::Ogg, 12, 1_500_000), Always, Some((Transcoded, icon))),
        (meta, wav(10), Auto, Some((Transcoded, icon))),
        (meta, wav(10), Never, None),
        (meta, source(Container::Ogg, 60, 16_000_001), Never, None),
        // A long file that is small enough anyway.
        (meta, source(Container::Ogg, 12, 500_000), Auto, Some((Untouched, None))),
        (telegram, wav(18), Auto, Some((Transcoded, None))),
        (telegram, wav(19), Auto, Some((Transcoded, shape))),
        (telegram, source(Container::Ogg, 20, 1_000_001), Auto, Some((Untouched, shape))),
        (profile("whatsapp-3").unwrap(), wav(20), Auto, Some((Transcoded, None))),
    ];
    for (profile, source, convert, expected) in table {
        let case = format!("{} {convert:?} {:?}", profile.name, source.facts);
        let found = expect(&source, profile, convert).ok();
        assert_eq!(found.as_ref().map(|found| (found.work, found.loss)), expected, "{case}");
        let within = matches!(expected, Some((_, None)));
        assert_eq!(keep_budget(&source, profile, convert).is_ok(), within, "{case}");
    }
    // Where the budget cannot be kept, the sound is not made worse for it.
    assert_eq!(meta.bitrate(10 * MINUTE), 32_000);
    assert!(meta.bitrate(9 * MINUTE) < 7_000);
    // An encoder that took more than it was asked to is asked for less, once.
    assert_eq!(meta.lower_bitrate(32_000, 2 * MINUTE, 512_000), None);
    assert_eq!(meta.lower_bitrate(32_000, 2 * MINUTE, 1_024_000), Some(14_400));
    assert_eq!(meta.lower_bitrate(8_000, 9 * MINUTE, 1_024_000), Some(6_000));
    assert_eq!(meta.lower_bitrate(6_000, 9 * MINUTE, 600_000), None);
    assert_eq!(meta.lower_bitrate(32_000, 12 * MINUTE, 3_000_000), None);
    let limit = |over| (meta.limit(over), telegram.limit(over));
    assert_eq!(limit(false), (Some(512_000), Some(1_000_000)));
    assert_eq!(limit(true), (Some(16_000_000), Some(50_000_000)));
}
