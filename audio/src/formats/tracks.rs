//! Selects the sound track to play in a container with several.
//!
//! ffmpeg selects the first one, and fails if it has no decoder for it: phones write tracks of new codecs in front of
//! one that every player supports. So the track is selected here, by the container's description and one list, and is
//! the same for every version of ffmpeg.

use crate::formats::mp4::Track;
use crate::formats::webm::vint;

/// Facts about a sound track before decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    /// Every supported ffmpeg decodes its codec, and it is not empty.
    decodes: bool,
    /// Players skip a track that is not enabled, such as another language.
    is_enabled: bool,
}

/// Index of the first playable track. A disabled track is selected only if no other decodes, and one that does not
/// decode only if there is no other.
fn first(candidates: &[Candidate]) -> usize {
    let wanted: [fn(&Candidate) -> bool; 2] =
        [|track| track.decodes && track.is_enabled, |track| track.decodes];
    wanted.into_iter().find_map(|is_wanted| candidates.iter().position(is_wanted)).unwrap_or(0)
}

/// Sample formats of MP4 and QuickTime that can be decoded. `mp4a` may contain others as well.
const MP4: [&str; 24] = [
    "mp4a", "alac", "Opus", "fLaC", ".mp3", "mp3 ", "ms.U", "samr", "sawb", "ulaw", "alaw", "ima4", "agsm",
    "sowt", "twos", "lpcm", "raw ", "NONE", "in24", "in32", "fl32", "fl64", "ipcm", "fpcm",
];

/// Index of the selected track among the sound tracks of an MP4 file.
pub(crate) fn in_mp4(tracks: &[Track], fragmented: bool) -> usize {
    let sound = tracks.iter().filter(|track| track.handler == "soun");
    let candidates: Vec<Candidate> = sound
        .map(|track| Candidate {
            // The samples of a fragmented file are counted in its fragments.
            decodes: MP4.contains(&track.format.as_str())
                && track.mpeg4_decodes
                && (fragmented || track.samples != Some(0)),
            is_enabled: track.is_enabled,
        })
        .collect();
    first(&candidates)
}

/// Whether every supported ffmpeg decodes AAC of this audio object type: Main, LC, LTP, with SBR or PS, and the
/// low-delay types. USAC (42), for example, is not decoded.
/// <https://en.wikipedia.org/wiki/MPEG-4_Part_3#MPEG-4_Audio_Object_Types>
pub(crate) fn aac_decodes(object: u8) -> bool {
    matches!(object, 1 | 2 | 4 | 5 | 17 | 23 | 29 | 39)
}

/// Whether `mp4a` of this object type indication can be decoded: MPEG-2 AAC, MP3, and Vorbis. MPEG-4 AAC (0x40) has an
/// object type of its own.
pub(crate) fn mpeg4_decodes(indication: u8) -> bool {
    matches!(indication, 0x40 | 0x66..=0x69 | 0x6b | 0xdd)
}

/// Index of the selected track among the sound tracks of a WebM or Matroska file.
/// <https://www.matroska.org/technical/codec_specs.html>
pub(crate) fn in_matroska(bytes: &[u8]) -> usize {
    const DECODED: [&str; 12] = [
        "A_OPUS",
        "A_VORBIS",
        "A_AAC",
        "A_FLAC",
        "A_ALAC",
        "A_MPEG/L1",
        "A_MPEG/L2",
        "A_MPEG/L3",
        "A_PCM/INT/LIT",
        "A_PCM/INT/BIG",
        "A_PCM/FLOAT/IEEE",
        "A_MS/ACM",
    ];
    const SOUND: u64 = 2;
    const TYPE: u64 = 0x83;
    const CODEC: u64 = 0x86;
    const ENABLED: u64 = 0xb9;
    let number = |value: &[u8]| value.iter().take(8).fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let entries = entries(bytes);
    let candidates: Vec<Candidate> = entries
        .iter()
        .filter(|entry| child(entry, TYPE).map(number) == Some(SOUND))
        // ffmpeg ignores a track that names no codec.
        .filter_map(|entry| {
            let codec = child(entry, CODEC)?;
            let codec = std::str::from_utf8(codec).unwrap_or_default().trim_end_matches('\0');
            let decodes = DECODED.iter().any(|known| {
                codec.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            Some(Candidate { decodes, is_enabled: child(entry, ENABLED).map(number) != Some(0) })
        })
        .collect();
    first(&candidates)
}

/// The elements of each track's description.
fn entries(bytes: &[u8]) -> Vec<&[u8]> {
    const SEGMENT: u64 = 0x1853_8067;
    const TRACKS: u64 = 0x1654_ae6b;
    const CLUSTER: u64 = 0x1f43_b675;
    const ENTRY: u64 = 0xae;
    let mut rest = bytes;
    while let Some((id, content, next)) = element(rest) {
        match id {
            // The size of a segment may be unknown, so its content is read as what follows.
            SEGMENT => rest = content,
            TRACKS => {
                return elements(content)
                    .filter(|(id, _)| *id == ENTRY)
                    .map(|(_, content)| content)
                    .collect();
            }
            // Tracks precede their sound.
            CLUSTER => break,
            _ => rest = next,
        }
    }
    Vec::new()
}

fn child(content: &[u8], wanted: u64) -> Option<&[u8]> {
    elements(content).find(|(id, _)| *id == wanted).map(|(_, content)| content)
}

fn elements(mut bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        let (id, content, next) = element(bytes)?;
        bytes = next;
        Some((id, content))
    })
}

/// Parses an element: its id, its content as far as it is present, and the bytes after it.
fn element(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (id, rest) = vint(bytes, false)?;
    let (size, body) = vint(rest, true)?;
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(body.len());
    let (content, next) = body.split_at(size);
    Some((id, content, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(format: &str, is_enabled: bool) -> Track {
        let handler = "soun".to_owned();
        Track { handler, format: format.to_owned(), is_enabled, mpeg4_decodes: true, ..Track::default() }
    }

    #[test]
    fn first_decodable_track_is_selected() {
        let on = |format: &str| track(format, true);
        let off = |format: &str| track(format, false);
        let picture = Track { handler: "vide".to_owned(), ..on("avc1") };
        let empty = Track { samples: Some(0), ..on("mp4a") };
        let usac = Track { mpeg4_decodes: false, ..on("mp4a") };
        for (tracks, expected) in [
            (vec![on("mp4a"), on("alac")], 0),
            (vec![on("apac"), off("mp4a")], 1),
            (vec![picture, on("apac"), on("zzzz"), on("alac")], 2),
            (vec![off("mp4a"), on("alac")], 1),
            (vec![off("mp4a"), off("alac")], 0),
            (vec![empty, on("mp4a")], 1),
            (vec![usac, on("mp4a")], 1),
            (vec![on("zzzz")], 0),
            (vec![], 0),
        ] {
            assert_eq!(in_mp4(&tracks, false), expected, "{tracks:?}");
        }
        assert_eq!(in_mp4(&[Track { samples: Some(0), ..on("mp4a") }, on("alac")], true), 0);
    }

    #[test]
    fn matroska_tracks_follow_the_same_rule() {
        let element = |id: &[u8], content: &[u8]| [id, &[0x80 | content.len() as u8], content].concat();
        let entry = |kind: u8, codec: &str, enabled: u8| {
            let parts =
                [element(&[0x83], &[kind]), element(&[0x86], codec.as_bytes()), element(&[0xb9], &[enabled])];
            element(&[0xae], &parts.concat())
        };
        let file = |entries: &[Vec<u8>]| {
            let tracks = element(&[0x16, 0x54, 0xae, 0x6b], &entries.concat());
            let segment = [&[0x18, 0x53, 0x80, 0x67, 0xff], tracks.as_slice()].concat();
            [element(&[0x1a, 0x45, 0xdf, 0xa3], b"\x42\x82\x84webm"), segment].concat()
        };
        let chosen = |entries: &[Vec<u8>]| in_matroska(&file(entries));
        assert_eq!(chosen(&[entry(2, "A_OPUS", 1), entry(2, "A_AAC/MPEG4/LC", 1)]), 0);
        assert_eq!(chosen(&[entry(1, "V_VP8", 1), entry(2, "A_ZZZZ", 1), entry(2, "A_AAC/MPEG4/LC", 1)]), 1);
        assert_eq!(chosen(&[entry(2, "A_OPUS", 0), entry(2, "A_VORBIS", 1)]), 1);
        assert_eq!(chosen(&[entry(2, "A_OPUSES", 1), entry(2, "A_PCM/INT/LIT", 1)]), 1);
        assert_eq!(chosen(&[entry(2, "A_ZZZZ", 1)]), 0);
        assert_eq!(in_matroska(b"\x1a\x45\xdf\xa3"), 0);
    }
}
