//! Small streams built by hand: nine valid 20 ms wideband packets unless a test breaks one thing.

use ogg::writing::{PacketWriteEndInfo, PacketWriter};

use super::*;

struct Stream {
    channels: u8,
    toc: u8,
    tail: Vec<u8>,
    packets: u64,
    samples: u64,
    granule_offset: u64,
    vendor: &'static str,
    comments: Vec<&'static str>,
    family: u8,
    pre_skip: u16,
    ended: bool,
}

/// SILK wideband 20 ms, mono, one frame.
const WIDEBAND: u8 = 9 << 3;

impl Default for Stream {
    fn default() -> Self {
        Self {
            channels: 1,
            toc: WIDEBAND,
            tail: vec![0x55; 30],
            packets: 9,
            samples: 960,
            granule_offset: 0,
            vendor: "Recorder",
            comments: Vec::new(),
            family: 0,
            pre_skip: 312,
            ended: true,
        }
    }
}

impl Stream {
    fn build(&self) -> Vec<u8> {
        let mut head = b"OpusHead\x01".to_vec();
        head.push(self.channels);
        head.extend(self.pre_skip.to_le_bytes());
        head.extend(16_000_u32.to_le_bytes());
        head.extend([0, 0, self.family]);
        let mut tags = b"OpusTags".to_vec();
        let mut text = |text: &str| {
            tags.extend((text.len() as u32).to_le_bytes());
            tags.extend(text.as_bytes());
        };
        text(self.vendor);
        tags.extend((self.comments.len() as u32).to_le_bytes());
        for comment in &self.comments {
            tags.extend((comment.len() as u32).to_le_bytes());
            tags.extend(comment.as_bytes());
        }
        let mut packet = vec![self.toc];
        packet.extend(&self.tail);

        let mut bytes = Vec::new();
        let mut writer = PacketWriter::new(&mut bytes);
        writer.write_packet(head, 7, PacketWriteEndInfo::EndPage, 0).unwrap();
        writer.write_packet(tags, 7, PacketWriteEndInfo::EndPage, 0).unwrap();
        for n in 1..=self.packets {
            let info = match n {
                n if n == self.packets && self.ended => PacketWriteEndInfo::EndStream,
                n if n % 4 == 0 || n == self.packets => PacketWriteEndInfo::EndPage,
                _ => PacketWriteEndInfo::NormalPacket,
            };
            writer.write_packet(packet.clone(), 7, info, n * self.samples + self.granule_offset).unwrap();
        }
        bytes
    }

    fn faults(&self) -> Vec<String> {
        describe(&self.build()).faults
    }
}

#[track_caller]
fn one_fault(stream: &Stream, part: &str) {
    let faults = stream.faults();
    assert!(faults.len() == 1 && faults[0].contains(part), "{faults:?}");
}

#[test]
fn a_recorders_note_is_clean_and_described() {
    let info = describe(&Stream::default().build());
    assert_eq!(info.faults, Vec::<String>::new());
    assert!(is_clean_opus(&info));
    assert_eq!(info.duration_ms, Some((9 * 960 - 312) / 48));
    assert_eq!((info.channels, info.sample_rate), (Some(1), Some(16_000)));
    assert_eq!((info.vendor.as_deref(), info.comments), (Some("Recorder"), Some(0)));
    assert_eq!((info.frames_per_packet, info.frame_ms), (Some(1), Some(20.0)));
    assert_eq!((info.bandwidth, info.modes), (Some("wideband"), vec!["silk"]));
}

#[test]
fn three_frames_a_packet() {
    // Code 3, VBR, three frames: two listed lengths of 10, the third is the rest.
    let mut tail = vec![0x80 | 3, 10, 10];
    tail.extend([0x55; 30]);
    let info = describe(&Stream { toc: WIDEBAND | 3, tail, samples: 2880, ..Stream::default() }.build());
    assert_eq!(info.faults, Vec::<String>::new());
    assert_eq!(info.frames_per_packet, Some(3));
}

#[test]
fn code_3_padding_and_constant_sizes() {
    // CBR with 300 bytes of padding: 255 means 254 and more to come, so 254 + 46.
    let mut tail = vec![0x40 | 2, 255, 46];
    tail.extend([0x55; 20 + 300]);
    let stream = Stream { toc: WIDEBAND | 3, tail: tail.clone(), samples: 1920, ..Stream::default() };
    assert_eq!(stream.faults(), Vec::<String>::new());
    // Two equal frames cannot share 21 bytes.
    tail.push(0);
    let faults = Stream { toc: WIDEBAND | 3, tail, ..Stream::default() }.faults();
    assert!(faults[0].contains("no valid Opus"), "{faults:?}");
}

#[test]
fn a_flipped_bit_breaks_the_checksum_and_nothing_else() {
    let mut bytes = Stream::default().build();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let info = describe(&bytes);
    assert_eq!(info.faults, ["A page has a wrong checksum (CRC): the file was damaged on its way."]);
    assert_eq!(info.bandwidth, Some("wideband"), "the rest is still described");
}

#[test]
fn each_broken_rule_is_named() {
    one_fault(&Stream { channels: 2, ..Stream::default() }, "2 channels");
    one_fault(&Stream { family: 255, ..Stream::default() }, "mapping family is 255");
    one_fault(&Stream { pre_skip: 0, ..Stream::default() }, "Pre-skip is 0");
    one_fault(&Stream { toc: WIDEBAND | 4, ..Stream::default() }, "coded as stereo");
    one_fault(&Stream { ended: false, ..Stream::default() }, "EOS");
    one_fault(&Stream { granule_offset: 4800, ..Stream::default() }, "clock starts at 100 ms");
    // 10 ms of time for packets that hold 20.
    one_fault(&Stream { samples: 480, ..Stream::default() }, "time stamp");
}

#[test]
fn packets_that_no_decoder_takes() {
    // Code 1 wants two equal halves; code 3 with a count of 0; 7 frames of 20 ms exceed 120 ms.
    for (toc, tail) in [(WIDEBAND | 1, vec![0; 31]), (WIDEBAND | 3, vec![0; 30]), (WIDEBAND | 3, vec![7; 15])]
    {
        let faults = Stream { toc, tail, ..Stream::default() }.faults();
        assert!(faults.iter().any(|fault| fault.contains("9 of 9 packets are no valid")), "{faults:?}");
    }
}

#[test]
fn a_missing_page_a_second_stream_and_a_cut() {
    let bytes = Stream::default().build();
    let starts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"OggS")).collect();
    assert_eq!(starts.len(), 5);

    let gap = [&bytes[..starts[2]], &bytes[starts[3]..]].concat();
    assert!(describe(&gap).faults.iter().any(|fault| fault.contains("gaps")));

    let cut = &bytes[..bytes.len() - 5];
    let faults = describe(cut).faults;
    assert!(faults.iter().any(|fault| fault.contains("EOS")), "{faults:?}");

    let headers_only = &bytes[..starts[2]];
    assert!(describe(headers_only).faults.iter().any(|fault| fault.contains("no sound")));

    let chained = [&bytes[..], &bytes[..]].concat();
    assert!(!describe(&chained).faults.is_empty());
}

#[test]
fn tags_are_counted() {
    let info = describe(
        &Stream { vendor: "Lavf61", comments: vec!["encoder=x", "a=b"], ..Stream::default() }.build(),
    );
    assert_eq!((info.vendor.as_deref(), info.comments), (Some("Lavf61"), Some(2)));
    assert!(info.faults.is_empty(), "tags are a matter of taste");
}

#[test]
fn clock_near_its_end_is_a_fault_and_no_panic() {
    for start in [1 << 63, u64::MAX - 9 * 960 - 1] {
        assert!(!Stream { granule_offset: start, ..Stream::default() }.faults().is_empty(), "{start}");
    }
}

#[test]
fn no_prefix_of_a_file_and_no_noise_is_a_panic() {
    let bytes = Stream::default().build();
    for end in 0..bytes.len() {
        describe(&bytes[..end]);
    }
    let magics: [&[u8]; 10] = [
        b"OggS\0\x02",
        b"RIFF\xff\xff\xff\xffWAVEdata",
        b"FORM....AIFFCOMM",
        b"caff\0\x01\0\0desc",
        b"#!AMR\n",
        b"fLaC",
        b"\0\0\0\x08ftyp\0\0\0\x01moov",
        b"\xff\xf1",
        b"\xff\xfb\x90\x00",
        b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
    ];
    for magic in magics {
        for fill in [0_u8, 0x7f, 0xff] {
            for length in 0..100 {
                describe(&[magic, &vec![fill; length]].concat());
            }
        }
    }
}

#[test]
fn caf_and_amr_are_timed_by_their_packets() {
    let mut caf = b"caff\0\x01\0\0desc\0\0\0\0\0\0\0\x20".to_vec();
    caf.extend(8000_f64.to_be_bytes());
    caf.extend(b"lpcm\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\0\0\x10");
    caf.extend(b"data");
    caf.extend((4_u64 + 16_000).to_be_bytes());
    caf.resize(caf.len() + 4 + 16_000, 0);
    let info = describe(&caf);
    assert_eq!((info.container, info.channels, info.sample_rate), ("caf", Some(1), Some(8000)));
    assert_eq!((info.duration_ms, info.faults.len()), (Some(1000), 0));

    // 12.2 kbit/s frames: a header of type 7 and 31 bytes.
    let mut frame = vec![0x3c];
    frame.resize(32, 0);
    let mut amr = b"#!AMR\n".to_vec();
    amr.extend(frame.repeat(50));
    let info = describe(&amr);
    assert_eq!((info.codec.as_deref(), info.duration_ms, info.faults.len()), (Some("amr_nb"), Some(1000), 0));
    amr.pop();
    assert_eq!(describe(&amr).faults.len(), 1);
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio");
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn webm_of_a_browser_is_read_down_to_its_packets() {
    for name in ["speech-live.webm", "speech-wideband.webm", "speech.webm"] {
        let info = describe(&fixture(name));
        assert_eq!(
            (info.container, info.codec.as_deref(), info.channels),
            ("webm", Some("opus"), Some(1)),
            "{name}"
        );
        assert!(info.duration_ms.is_some_and(|ms| ms.abs_diff(3000) <= 20), "{name}: {info:?}");
        assert!(info.faults.is_empty(), "{name}: {info:?}");
    }
    let whole = fixture("speech-live.webm");
    for end in 0..whole.len() {
        describe(&whole[..end]);
        in_caf(&whole[..end]);
    }
    assert_eq!(describe(&whole[..whole.len() - 1]).faults.len(), 1);
}

#[test]
fn recordings_in_opus_are_put_into_caf_without_a_change_of_their_length() {
    let stereo = Stream { channels: 2, toc: WIDEBAND | 4, ..Stream::default() }.build();
    let browser = ["speech-live.webm", "speech-wideband.webm", "recorder-wideband.ogg"].map(fixture);
    for bytes in browser.into_iter().chain([Stream::default().build(), stereo]) {
        let before = describe(&bytes);
        let caf = in_caf(&bytes).unwrap();
        let info = describe(&caf);
        assert_eq!((info.container, info.codec.as_deref()), ("caf", Some("opus")));
        assert_eq!((info.channels, info.sample_rate), (before.channels, Some(48_000)));
        assert_eq!(info.duration_ms, before.duration_ms, "{before:?}");
        assert!(info.faults.is_empty(), "{info:?}");
    }
    for other in ["speech-24k.mp3", "speech-opus.caf", "speech-pcm.caf", "speech-alac.m4a", "speech.wav"] {
        assert_eq!(in_caf(&fixture(other)), None, "{other}");
    }
    assert_eq!(in_caf(&Stream { family: 1, ..Stream::default() }.build()), None, "CAF has no place for it");
}
