//! Files that decoders misread. Each has to sound like the standard file, sample by sample, or be refused by name.

use voicegate_audio::{AudioError, Convert, Hints, Render, profile};

use crate::tools::{Bench, decoded_md5, fixture};

/// Length of the header of `speech.wav`, in bytes.
const HEADER: usize = 78;

fn bytes_of(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

/// 16 kHz, mono, 16 bits.
fn samples() -> Vec<u8> {
    bytes_of("speech.wav").split_off(HEADER)
}

/// Length and digest of the decoded sound of these bytes.
async fn heard(bench: &Bench, name: &str, bytes: &[u8]) -> Result<(u64, String), AudioError> {
    let source = bench.scratch.path().join("source");
    std::fs::write(&source, bytes).unwrap();
    let hints = Hints { filename: Some(name.to_owned()), ..Hints::default() };
    let target = profile("wav16k-1").unwrap();
    let (probed, render) = bench.engine.convert(&source, &hints, target, Convert::Auto).await?;
    let digest = match &render {
        Render::Untouched => decoded_md5(&source),
        Render::Made { file, .. } => decoded_md5(file.path()),
    };
    Ok((probed.facts.duration_ms, digest))
}

/// Checks that every file sounds like `speech.wav`.
async fn all_sound_like_speech(files: Vec<(String, Vec<u8>)>) {
    let bench = Bench::new();
    let speech = (3_000, decoded_md5(&fixture("speech.wav")));
    let mut wrong = Vec::new();
    for (name, bytes) in files {
        let found = heard(&bench, &name, &bytes).await;
        if found.as_ref() != Ok(&speech) {
            wrong.push(format!("{name}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert_eq!(bench.leftovers().len(), 1, "only the source is left");
}

/// Checks that every file is refused with this code and these words.
async fn all_are_refused(code: &str, says: &str, files: Vec<(&str, Vec<u8>)>) {
    let bench = Bench::new();
    for (name, bytes) in files {
        let error = heard(&bench, name, &bytes).await.expect_err(name);
        assert_eq!(error.code(), code, "{name}: {error:?}");
        assert!(error.detail.contains(says), "{name}: {}", error.detail);
    }
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [kind.as_slice(), &(content.len() as u32).to_le_bytes(), content].concat()
}

fn riff(form: &[u8; 4], chunks: &[Vec<u8>]) -> Vec<u8> {
    let chunks = chunks.concat();
    [form.as_slice(), &(chunks.len() as u32 + 4).to_le_bytes(), b"WAVE", &chunks].concat()
}

/// A format of linear samples: channels, bytes per sample, stated bits, and valid bits if the header is the extended
/// one.
fn format(channels: u16, bytes: u16, bits: u16, valid: Option<u16>) -> Vec<u8> {
    let mut format = Vec::new();
    let block = channels * bytes;
    for number in [if valid.is_some() { 0xfffe } else { 1 }, channels] {
        format.extend(number.to_le_bytes());
    }
    format.extend(16_000_u32.to_le_bytes());
    format.extend((16_000 * u32::from(block)).to_le_bytes());
    format.extend([block.to_le_bytes(), bits.to_le_bytes()].concat());
    if let Some(valid) = valid {
        format.extend([22, 0]);
        format.extend(valid.to_le_bytes());
        format.extend([channels as u8 + 2, 0, 0, 0, 1, 0]);
        format.extend(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    }
    format
}

/// Linear samples in one channel at 16 kHz.
fn caf(flags: u32, bytes: u32, bits: u32, samples: &[u8]) -> Vec<u8> {
    let mut file = b"caff\0\x01\0\0desc".to_vec();
    file.extend(32_u64.to_be_bytes());
    file.extend(16_000_f64.to_be_bytes());
    file.extend(b"lpcm");
    file.extend([flags, bytes, 1, 1, bits].map(u32::to_be_bytes).concat());
    file.extend(b"data");
    file.extend((samples.len() as u64 + 4).to_be_bytes());
    file.extend([&[0; 4], samples].concat());
    file
}

fn fmt() -> Vec<u8> {
    chunk(b"fmt ", &format(1, 2, 16, None))
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_size_means_all_present_bytes() {
    let mut files = Vec::new();
    for size in [0x7fff_ff00, 0x8000_0000, 0xffff_ffff, 2_000_000_000, 123_456_789, 1_000_000, 0_u32] {
        let mut wav = bytes_of("speech.wav");
        wav[HEADER - 4..HEADER].copy_from_slice(&size.to_le_bytes());
        wav[4..8].copy_from_slice(&size.wrapping_add(if size == 0 { 0 } else { 36 }).to_le_bytes());
        files.push((format!("{size:#x}.wav"), wav));

        let mut aiff = bytes_of("speech.aiff");
        let ssnd = aiff.windows(4).position(|name| name == b"SSND").unwrap();
        aiff[ssnd + 4..ssnd + 8].copy_from_slice(&size.to_be_bytes());
        aiff[4..8].copy_from_slice(&size.to_be_bytes());
        files.push((format!("{size:#x}.aiff"), aiff));

        let mut caf = bytes_of("speech-pcm.caf");
        let data = caf.windows(4).position(|name| name == b"data").unwrap();
        caf[data + 4..data + 12].copy_from_slice(&u64::from(size).to_be_bytes());
        files.push((format!("{size:#x}.caf"), caf.clone()));
    }
    let mut caf = bytes_of("speech-pcm.caf");
    let data = caf.windows(4).position(|name| name == b"data").unwrap();
    caf[data + 4..data + 12].fill(0xff);
    files.push(("-1.caf".to_owned(), caf));
    let mut aiff = bytes_of("speech.aiff");
    aiff[4..8].fill(0);
    files.push(("0 for the whole alone.aiff".to_owned(), aiff));
    all_sound_like_speech(files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plausible_size_reveals_truncation() {
    let cut = |size: u32| {
        let mut wav = bytes_of("speech.wav");
        wav[4..8].copy_from_slice(&(size + HEADER as u32 - 8).to_le_bytes());
        wav[HEADER - 4..HEADER].copy_from_slice(&size.to_le_bytes());
        wav
    };
    let mut caf = bytes_of("speech-pcm.caf");
    caf.truncate(60_000);
    let mut aiff = bytes_of("speech.aiff");
    aiff.truncate(60_000);
    let files = vec![
        ("a third is missing.wav", cut(144_000)),
        ("far beyond, but not round.wav", cut(960_002)),
        ("cut.caf", caf),
        ("cut.aiff", aiff),
    ];
    all_are_refused("audio_unreadable", "cut off", files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wav_in_several_pieces_is_joined() {
    let samples = samples();
    let (first, rest) = samples.split_at(32_000);
    let (second, third) = rest.split_at(10_000);
    let data = |samples: &[u8]| chunk(b"data", samples);
    let list = chunk(b"LIST", b"INFOIART\x02\0\0\0a\0");
    let streamed = |samples: &[u8], size: u32| {
        [b"RIFF", size.to_le_bytes().as_slice(), b"WAVE", &fmt(), b"data", &size.to_le_bytes(), samples]
            .concat()
    };
    let mut files = vec![
        ("two.wav".to_owned(), riff(b"RIFF", &[fmt(), data(first), data(rest)])),
        (
            "three.wav".to_owned(),
            riff(b"RIFF", &[fmt(), data(first), list.clone(), data(second), data(third)]),
        ),
        (
            "the same format twice.wav".to_owned(),
            riff(b"RIFF", &[fmt(), data(first), fmt(), data(rest), list.clone()]),
        ),
        (
            "a list of pieces.wav".to_owned(),
            riff(b"RIFF", &[fmt(), chunk(b"LIST", &[b"wavl".to_vec(), data(first), data(rest)].concat())]),
        ),
        // A piece ends in the middle of a sample.
        (
            "odd.wav".to_owned(),
            riff(b"RIFF", &[fmt(), [data(&samples[..32_001]), vec![0]].concat(), data(rest)]),
        ),
        (
            "an empty one first.wav".to_owned(),
            riff(b"RIFF", &[fmt(), data(b""), list.clone(), data(&samples)]),
        ),
    ];
    for size in [u32::MAX, 2_000_000_000, 0] {
        let pieces: Vec<u8> = samples.chunks(960).flat_map(|piece| streamed(piece, size)).collect();
        files.push((format!("hundred headers with {size:#x}.wav"), pieces));
        let sized = riff(b"RIFF", &[fmt(), data(second), list.clone()]);
        let mixed = [streamed(first, size), sized, streamed(third, size)].concat();
        files.push((format!("sizes in the middle of {size:#x}.wav"), mixed));
    }
    all_sound_like_speech(files).await;

    let stereo = chunk(b"fmt ", &format(2, 2, 16, None));
    let other = [b"RIFF\xff\xff\xff\xffWAVE", stereo.as_slice(), b"data\xff\xff\xff\xff", &samples].concat();
    let mut aiff = bytes_of("speech.aiff");
    let ssnd = aiff.windows(4).position(|name| name == b"SSND").unwrap();
    aiff[ssnd + 4..ssnd + 8].fill(0xff);
    let mut caf = bytes_of("speech-pcm.caf");
    let place = caf.windows(4).position(|name| name == b"data").unwrap();
    caf[place + 4..place + 12].fill(0xff);
    // One header states one more piece of samples, of which decoders play the last alone.
    let mut two_parts = bytes_of("speech.aiff");
    let part = [b"SSND\0\0\x7d\x08".as_slice(), &[0; 8], first].concat();
    two_parts.extend(&part);
    let whole = (two_parts.len() as u32 - 8).to_be_bytes();
    two_parts[4..8].copy_from_slice(&whole);
    let mut two_pieces = bytes_of("speech-pcm.caf");
    let size = (two_pieces.len() - place - 12) as u64;
    two_pieces[place + 4..place + 12].copy_from_slice(&size.to_be_bytes());
    two_pieces.extend([b"data".as_slice(), &32_004_u64.to_be_bytes(), &[0; 4], first].concat());
    let files = vec![
        ("two parts.aiff", two_parts),
        ("two parts.caf", two_pieces),
        ("another format inside.wav", [streamed(&samples, u32::MAX), other].concat()),
        ("two formats.wav", riff(b"RIFF", &[fmt(), data(first), stereo, data(rest)])),
        ("twice.aiff", [aiff.as_slice(), &aiff].concat()),
        ("twice.caf", [caf.as_slice(), &caf].concat()),
    ];
    all_are_refused("audio_unsupported", "one after another", files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_narrower_than_their_bytes_are_left_aligned() {
    let mut files = Vec::new();
    for (channels, bytes, bits, valid) in [
        (1, 4, 32, Some(24)),
        (2, 4, 32, Some(24)),
        (1, 4, 32, Some(16)),
        (1, 4, 24, Some(24)),
        (2, 3, 24, Some(20)),
        (1, 4, 32, Some(32)),
        (1, 4, 24, None),
    ] {
        let mut data = Vec::new();
        for sample in samples().chunks(2) {
            for _ in 0..channels {
                data.extend(vec![0; usize::from(bytes) - 2]);
                data.extend(sample);
            }
        }
        let format = chunk(b"fmt ", &format(channels, bytes, bits, valid));
        let name = format!("{valid:?} of {bits} bits in {bytes} bytes, {channels} channels.wav");
        files.push((name, riff(b"RIFF", &[format, chunk(b"data", &data)])));
    }
    // CAF with both byte orders.
    for (bytes, bits, flags) in [(4, 24, 2), (4, 24, 0), (4, 20, 2), (3, 20, 2), (3, 24, 0), (4, 32, 2)] {
        let samples = samples();
        let data = samples.chunks(2).flat_map(|sample| {
            let mut word = [vec![0; bytes - 2], sample.to_vec()].concat();
            if flags == 0 {
                word.reverse();
            }
            word
        });
        let name = format!("{bits} bits in {bytes} bytes, flags {flags}.caf");
        files.push((name, caf(flags, bytes as u32, bits, &data.collect::<Vec<u8>>())));
    }
    all_sound_like_speech(files).await;

    // Eight or twelve bits lose some sound, so these are compared with 16-bit samples that have the same loss.
    let bench = Bench::new();
    let coarse =
        |mask: u8| samples().chunks(2).flat_map(|sample| [sample[0] & mask, sample[1]]).collect::<Vec<u8>>();
    for (valid, mask) in [(12, 0xf0), (8, 0)] {
        let data = chunk(b"data", &coarse(mask));
        let few = riff(b"RIFF", &[chunk(b"fmt ", &format(1, 2, 16, Some(valid))), data.clone()]);
        let plain = riff(b"RIFF", &[fmt(), data]);
        let plain = heard(&bench, "plain.wav", &plain).await;
        assert_eq!(heard(&bench, &format!("{valid} bits in 16.wav"), &few).await, plain);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_with_an_extended_header_are_read() {
    let floats: Vec<u8> = samples()
        .chunks(2)
        .flat_map(|sample| (f32::from(i16::from_le_bytes([sample[0], sample[1]])) / 32_768.0).to_le_bytes())
        .collect();
    let mut files = Vec::new();
    for valid in [32, 24] {
        let mut format = format(1, 4, 32, Some(valid));
        format[24] = 3;
        let chunks = [chunk(b"fmt ", &format), chunk(b"data", &floats)];
        files.push((format!("{valid} bits of a float.wav"), riff(b"RIFF", &chunks)));
    }
    all_sound_like_speech(files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rf64_and_bw64_are_read() {
    let samples = samples();
    let sizes = |data: u64| [0, data, data / 2].map(u64::to_le_bytes).concat();
    let open = |samples: &[u8]| [b"data\xff\xff\xff\xff", samples].concat();
    let mut files = Vec::new();
    for form in [b"RF64", b"BW64"] {
        let name = String::from_utf8_lossy(form);
        let ds64 = chunk(b"ds64", &sizes(96_000));
        // A chunk after the samples must not be played as a click.
        let axml = chunk(b"axml", &b"<ebuCoreMain/>".repeat(1_000));
        files.push((format!("{name}.wav"), riff(form, &[ds64.clone(), fmt(), open(&samples)])));
        files.push((format!("more behind {name}.wav"), riff(form, &[ds64, fmt(), open(&samples), axml])));
        let unknown = chunk(b"ds64", &sizes(0));
        files.push((format!("an open {name}.wav"), riff(form, &[unknown, fmt(), open(&samples)])));
    }
    all_sound_like_speech(files).await;
}

/// Bytes that occur in front of containers: two kinds of tags, several tags, zeros, and text that scripts write by
/// mistake.
fn in_front() -> Vec<(&'static str, Vec<u8>)> {
    let id3 = [b"ID3\x04\0\0\0\0\0\x10TIT2\0\0\0\x06\0\0\0Hello".as_slice()].concat();
    let ape = [
        b"APETAGEX\xd0\x07\0\0\x28\0\0\0\x01\0\0\0\0\0\0\xa0".as_slice(),
        &[0; 8],
        b"\0\0\0\0\0\0\0\0",
        &[0; 32],
    ];
    let ape = ape.concat();
    vec![
        ("an ID3 tag", id3.clone()),
        ("two ID3 tags", [id3.clone(), id3.clone()].concat()),
        ("an APE tag", ape.clone()),
        ("both tags", [ape, id3.clone()].concat()),
        ("zeros", vec![0; 512]),
        ("a tag and zeros", [id3, vec![0; 2_000]].concat()),
        ("blank lines", b"\r\n\r\n".to_vec()),
        ("a byte order mark", b"\xef\xbb\xbf\n".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_before_a_container_change_nothing() {
    let bench = Bench::new();
    let leads = in_front();
    // Each container follows two kinds of bytes in turn, so that each kind precedes several containers.
    for (turn, name) in [
        "speech.flac",
        "speech.aac",
        "speech.wav",
        "speech.aiff",
        "speech.amr",
        "speech-pcm.caf",
        "speech-opus.caf",
        "speech-moov-first.m4a",
        "speech-moov-last.m4a",
        "speech-opus-wideband.ogg",
        "speech-vorbis.ogg",
        "speech-wideband.webm",
        "speech-aac.mka",
    ]
    .into_iter()
    .enumerate()
    {
        let bare = bytes_of(name);
        let expected = heard(&bench, name, &bare).await.unwrap();
        for (what, lead) in [&leads[0], &leads[1 + turn % (leads.len() - 1)]] {
            let found = heard(&bench, name, &[lead.as_slice(), &bare].concat()).await;
            assert_eq!(found.as_ref(), Ok(&expected), "{what} in front of {name}");
        }
    }
}

/// An MP3 keeps its one tag. Anything else in front is removed, and such a source is never sent untouched.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_before_an_mp3_are_removed_except_its_tag() {
    let bench = Bench::new();
    // The packet follows the file's own tag.
    let bare = bytes_of("speech-24k.mp3").split_off(45);
    let expected = heard(&bench, "speech.mp3", &bare).await.unwrap();
    assert_eq!(expected.0, 3_000);
    for (what, lead) in in_front() {
        let file = [lead.as_slice(), &bare].concat();
        assert_eq!(heard(&bench, what, &file).await.as_ref(), Ok(&expected), "{what}");
        let source = bench.scratch.path().join("source");
        let linq = profile("linq-1").unwrap();
        let (_, render) =
            bench.engine.convert(&source, &Hints::default(), linq, Convert::Auto).await.unwrap();
        assert_eq!(matches!(render, Render::Untouched), what == "an ID3 tag", "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_packets_are_found_after_a_tag() {
    let bench = Bench::new();
    for name in ["speech-opus-wideband.ogg", "speech-wideband.webm"] {
        let source = bench.scratch.path().join("source");
        std::fs::write(&source, [b"ID3\x04\0\0\0\0\0\0".as_slice(), &bytes_of(name)].concat()).unwrap();
        let whatsapp = profile("whatsapp-1").unwrap();
        let converted = bench.engine.convert(&source, &Hints::default(), whatsapp, Convert::Never).await;
        let (_, Render::Made { file, .. }) = converted.unwrap() else { panic!("{name}") };
        assert_eq!(decoded_md5(file.path()), decoded_md5(&fixture(name)), "{name}");
    }
}
