//! The content of an audio file, read from its bytes alone. It shares no code with the gateway's prober on purpose.

mod containers;
mod opus;
mod recording;
#[cfg(test)]
mod tests;
mod webm;

use serde::Serialize;

pub(crate) use opus::is_clean_opus;
pub(crate) use recording::in_caf;

/// Facts that were read from the bytes. `null` if the container does not state one.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AudioInfo {
    #[serde(skip)]
    pub(crate) kind: Kind,
    /// `mp3`, `mp4`, `adts`, `ogg`, `wav`, `aiff`, `caf`, `amr`, `flac`, `webm`, `unknown`.
    pub container: &'static str,
    pub codec: Option<String>,
    pub channels: Option<u8>,
    /// Opus: the input rate that the header claims.
    pub sample_rate: Option<u32>,
    pub duration_ms: Option<u64>,
    /// Ogg: the encoder's name in OpusTags.
    pub vendor: Option<String>,
    /// Ogg: user comments in OpusTags.
    pub comments: Option<usize>,
    /// Opus: frames in a packet, the largest number seen.
    pub frames_per_packet: Option<u8>,
    /// Opus: length of one frame.
    pub frame_ms: Option<f32>,
    /// Opus: `narrowband` … `fullband`, the widest seen.
    pub bandwidth: Option<&'static str>,
    /// Opus: `silk`, `hybrid`, `celt`, in that order, those seen.
    pub modes: Vec<&'static str>,
    /// MP4: whether the index stands before the sound, so that playback can begin while loading.
    pub index_first: Option<bool>,
    /// Faults of the file as such, whatever the recipient.
    pub faults: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    Mp3,
    Mp4,
    Adts,
    Ogg,
    Wav,
    Aiff,
    Caf,
    Amr,
    Flac,
    Webm,
    #[default]
    Unknown,
}

impl Kind {
    fn sniff(bytes: &[u8]) -> Self {
        let at =
            |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
        if at(0, b"OggS") {
            Self::Ogg
        } else if at(0, b"RIFF") && at(8, b"WAVE") {
            Self::Wav
        } else if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
            Self::Aiff
        } else if at(0, b"caff") {
            Self::Caf
        } else if at(0, b"#!AMR") {
            Self::Amr
        } else if at(0, b"fLaC") {
            Self::Flac
        } else if at(0, b"\x1a\x45\xdf\xa3") {
            Self::Webm
        } else if at(4, b"ftyp") {
            Self::Mp4
        } else {
            // MP3 and ADTS share a sync word and tell themselves apart by the layer bits (ADTS: 00).
            let start = containers::skip_id3(bytes);
            match bytes.get(start..start + 2) {
                Some([0xff, second]) if second & 0xf6 == 0xf0 => Self::Adts,
                Some([0xff, second]) if second & 0xe0 == 0xe0 && second & 0x06 != 0 => Self::Mp3,
                _ => Self::Unknown,
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Mp3 => "mp3",
            Self::Mp4 => "mp4",
            Self::Adts => "adts",
            Self::Ogg => "ogg",
            Self::Wav => "wav",
            Self::Aiff => "aiff",
            Self::Caf => "caf",
            Self::Amr => "amr",
            Self::Flac => "flac",
            Self::Webm => "webm",
            Self::Unknown => "unknown",
        }
    }

    /// The media type that providers state for it.
    pub fn declared_mime(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Mp4 => "audio/x-m4a",
            Self::Adts => "audio/aac",
            Self::Ogg => "audio/ogg; codecs=opus",
            Self::Wav => "audio/x-wav",
            Self::Aiff => "audio/x-aiff",
            Self::Caf => "audio/x-caf",
            Self::Amr => "audio/amr",
            Self::Flac => "audio/flac",
            Self::Webm => "audio/webm",
            Self::Unknown => "application/octet-stream",
        }
    }

    /// By file name; `None` for names that say nothing.
    pub fn of_extension(filename: &str) -> Option<Self> {
        let (_, extension) = filename.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "mp3" => Self::Mp3,
            "m4a" | "mp4" => Self::Mp4,
            "aac" => Self::Adts,
            "ogg" | "opus" | "oga" => Self::Ogg,
            "wav" => Self::Wav,
            "aiff" | "aif" => Self::Aiff,
            "caf" => Self::Caf,
            "amr" => Self::Amr,
            "flac" => Self::Flac,
            "webm" => Self::Webm,
            _ => return None,
        })
    }

    /// By the names that Linq uses.
    pub fn of_mime(mime: &str) -> Option<Self> {
        Some(match mime {
            "audio/mpeg" | "audio/mp3" => Self::Mp3,
            "audio/x-m4a" | "audio/mp4" => Self::Mp4,
            "audio/aac" => Self::Adts,
            "audio/wav" | "audio/x-wav" => Self::Wav,
            "audio/aiff" | "audio/x-aiff" => Self::Aiff,
            "audio/x-caf" => Self::Caf,
            "audio/amr" => Self::Amr,
            _ => return None,
        })
    }

    pub fn linq_mime(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Mp4 => "audio/x-m4a",
            Self::Adts => "audio/aac",
            Self::Wav => "audio/wav",
            Self::Aiff => "audio/x-aiff",
            Self::Caf => "audio/x-caf",
            Self::Amr => "audio/amr",
            _ => self.playback_mime(),
        }
    }

    /// The media type for the page's player.
    pub fn playback_mime(self) -> &'static str {
        match self {
            Self::Mp3 => "audio/mpeg",
            Self::Mp4 => "audio/mp4",
            Self::Adts => "audio/aac",
            Self::Ogg => "audio/ogg",
            Self::Wav => "audio/wav",
            Self::Aiff => "audio/aiff",
            Self::Caf => "audio/x-caf",
            Self::Amr => "audio/amr",
            Self::Flac => "audio/flac",
            Self::Webm => "audio/webm",
            Self::Unknown => "application/octet-stream",
        }
    }

    /// <https://docs.linqapp.com/guides/messaging/voice-memos/>
    pub fn is_linq_voice(self) -> bool {
        matches!(self, Self::Mp3 | Self::Mp4 | Self::Adts | Self::Caf | Self::Wav | Self::Aiff | Self::Amr)
    }
}

pub(crate) fn describe(bytes: &[u8]) -> AudioInfo {
    let kind = Kind::sniff(bytes);
    let mut info = AudioInfo { kind, container: kind.name(), ..AudioInfo::default() };
    // A reader that runs past the end of a damaged file stops there; what it had found by then stays.
    let complete = match kind {
        Kind::Ogg => {
            opus::read(bytes, &mut info);
            Some(())
        }
        Kind::Mp3 => containers::mp3(bytes, &mut info),
        Kind::Adts => containers::adts(bytes, &mut info),
        Kind::Mp4 => containers::mp4(bytes, &mut info),
        Kind::Wav => containers::wav(bytes, &mut info),
        Kind::Aiff => containers::aiff(bytes, &mut info),
        Kind::Caf => containers::caf(bytes, &mut info),
        Kind::Amr => containers::amr(bytes, &mut info),
        Kind::Flac => containers::flac(bytes, &mut info),
        Kind::Webm => webm::describe(bytes, &mut info),
        Kind::Unknown => {
            info.faults.push("These bytes are no audio file that phones know.".into());
            Some(())
        }
    };
    if complete.is_none() {
        info.faults.push(format!("The {} file is damaged or cut off.", info.container));
    }
    info
}

impl AudioInfo {
    /// `Ogg/Opus`, `mp3`.
    pub(crate) fn short(&self) -> String {
        match &self.codec {
            Some(codec) if codec != self.container => format!("{}/{codec}", self.container),
            _ => self.container.to_owned(),
        }
    }

    /// Faults that a Linq recipient would notice.
    pub(crate) fn linq_problems(&self) -> Vec<String> {
        let mut problems = self.faults.clone();
        if self.duration_ms == Some(0) {
            problems.push("The note is empty: it lasts 0 seconds.".into());
        }
        // The format list names MP4 for AAC; iPhones play ALAC and MP3 in it as well, but nothing else.
        if self.kind == Kind::Mp4
            && self.codec.as_deref().is_some_and(|codec| !["aac", "alac", "mp3"].contains(&codec))
        {
            problems.push(format!("An iPhone does not play {} in an M4A file.", self.short()));
        }
        problems
    }
}
