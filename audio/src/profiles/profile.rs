//! What a profile is made of, and how it judges a source. The profiles themselves are in `profiles.rs`.

use std::time::Duration;

use voicegate_providers::{AudioFacts, Codec, Container};

use crate::formats::frames::LARGEST_TAG;
use crate::formats::opus::{Bandwidth, OpusDetail};
use crate::profiles::plan::Work;
use crate::profiles::table::PROFILES;
use crate::source::{Probed, mime_type};

/// The vendor string of voice notes that WhatsApp's own apps record.
pub(crate) const VENDOR: &str = "Recorder";

/// Of an Ogg page for each second, and of the length of each packet: what a container adds, in bytes a second.
const OGG_OVERHEAD: u64 = 80;
/// A variable bit rate may end up this much above what was asked for.
const HEADROOM: u64 = 10;

/// What a target takes, and what is made for it.
#[derive(Debug)]
pub struct Profile {
    pub name: &'static str,
    /// For people: where it is used.
    pub target: &'static str,
    /// The forms that are sent untouched.
    pub(crate) accepts: &'static [Form],
    /// What may be kept of a source in another form.
    pub(crate) keeps: Keeps,
    pub(crate) makes: Recipe,
    /// Largest file the target takes.
    pub max_bytes: Option<u64>,
    /// Longest audio that can be made to fit.
    pub max_duration: Option<Duration>,
}

/// A form that is sent untouched, always without other streams and with nothing amiss in its structure.
#[derive(Debug)]
pub(crate) struct Form {
    pub container: Container,
    pub codec: AudioCodec,
    /// At most.
    pub channels: u16,
    /// Hz, from and to.
    pub rate: (u32, u32),
    /// What else the packets and headers have to be.
    pub opus: Option<OpusForm>,
}

impl Form {
    /// One or two channels, at most 48 kHz.
    pub const fn of(container: Container, codec: AudioCodec) -> Self {
        Self { container, codec, channels: 2, rate: (0, 48_000), opus: None }
    }

    fn fits(&self, probed: &Probed) -> bool {
        let Probed { facts, detail, .. } = probed;
        let flavour = detail.flavour.as_str();
        facts.container == self.container
            && self.codec.is(&facts.codec)
            && (1..=self.channels).contains(&facts.channels)
            && (self.rate.0..=self.rate.1).contains(&facts.sample_rate)
            // QuickTime is not M4A: services look at the brand. Nor is every WAV what most programs read.
            && (facts.container != Container::Mp4 || flavour != "qt  ")
            && (facts.container != Container::Wav || flavour == "RIFF")
            && self.opus.is_none_or(|form| {
                detail.opus.as_ref().is_some_and(|opus| form.fits_packets(opus) && form.fits_headers(opus))
            })
    }
}

/// Mono Opus of a certain make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpusForm {
    /// At most.
    pub bandwidth: Bandwidth,
    /// What the header names as the rate of the original.
    pub input_rate: Option<u32>,
    pub frame_ms: Option<u32>,
    pub frames_per_packet: Option<u8>,
    pub tags: Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    Any,
    /// No comments, and the vendor that phones write.
    Bare,
}

impl OpusForm {
    /// Whether the frames fit, however they are packed: that can be changed without encoding.
    fn fits_frames(&self, opus: &OpusDetail) -> bool {
        let frame_us = self.frame_ms.map(|ms| ms * 1000);
        opus.channels == 1
            && opus.mono
            && opus.mapping_family == 0
            && opus.max_bandwidth <= self.bandwidth
            && (frame_us.is_none() || opus.frame_us == frame_us)
            // Another gain would change the level where the header is written anew without it.
            && (self.tags == Tags::Any || opus.gain == 0)
    }

    fn fits_packets(&self, opus: &OpusDetail) -> bool {
        self.fits_frames(opus)
            && self.frames_per_packet.is_none_or(|count| {
                opus.frames_per_packet == Some(count) && opus.code == Some(if count == 1 { 0 } else { 3 })
            })
    }

    fn fits_headers(&self, opus: &OpusDetail) -> bool {
        let bare = opus.vendor.as_deref() == Some(VENDOR) && opus.comments == 0 && opus.gain == 0;
        self.input_rate.is_none_or(|rate| opus.input_rate == rate) && (self.tags == Tags::Any || bare)
    }
}

/// What may be kept of a source whose form is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Nothing,
    /// Opus frames of this make, packed and wrapped anew.
    Opus(OpusForm),
    /// AAC in one or two channels, wrapped as M4A.
    Aac {
        max_rate: u32,
    },
}

/// How to encode; always mono. Ogg and CAF: Opus, VBR, voip, 20 ms frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub container: Container,
    pub codec: AudioCodec,
    pub rate: Rate,
    /// What an Opus header names as the rate of the original.
    pub input_rate: u32,
    pub bitrate: Bitrate,
    pub frames_per_packet: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudioCodec {
    Opus,
    Aac,
    Mp3,
    AmrNb,
    PcmS16,
    /// Integer or float of any width.
    LinearPcm,
}

impl AudioCodec {
    fn is(self, codec: &Codec) -> bool {
        self == Self::LinearPcm && codec.is_linear_pcm() || codec.is(self.name())
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Aac => "aac",
            Self::Mp3 => "mp3",
            Self::AmrNb => "amr_nb",
            Self::PcmS16 => "pcm_s16le",
            Self::LinearPcm => "pcm",
        }
    }
}

/// Hz of the encoder's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    Fixed(u32),
    /// The source's, or the next that the codec has: encoding at more costs time and adds nothing.
    Own {
        least: u32,
        most: u32,
    },
}

/// Bits a second: as many as fit, between these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bitrate {
    pub most: u32,
    pub least: u32,
}

impl Bitrate {
    pub const fn fixed(bits: u32) -> Self {
        Self { most: bits, least: bits }
    }
}

impl Recipe {
    /// The rate to encode at.
    pub fn sample_rate(&self, source: u32) -> u32 {
        let rates: &[u32] = match self.codec {
            AudioCodec::Opus => &[8_000, 12_000, 16_000, 24_000, 48_000],
            _ => &[16_000, 22_050, 24_000, 32_000, 44_100, 48_000],
        };
        match self.rate {
            Rate::Fixed(rate) => rate,
            Rate::Own { least, most } => {
                let wanted = source.clamp(least, most);
                rates.iter().copied().find(|&rate| rate >= wanted).unwrap_or(most)
            }
        }
    }

    /// The rate that the made file states.
    pub fn stated_rate(&self, source: u32) -> u32 {
        if self.codec == AudioCodec::Opus { self.input_rate } else { self.sample_rate(source) }
    }
}

impl Profile {
    /// Whether the target takes these bytes untouched.
    pub fn accepts(&self, probed: &Probed) -> bool {
        probed.detail.intact
            && probed.detail.other_streams == 0
            && probed.detail.tag_bytes <= LARGEST_TAG
            && self.max_bytes.is_none_or(|limit| probed.facts.size_bytes <= limit)
            && self.accepts.iter().any(|form| form.fits(probed))
    }

    /// Whether the packets may be kept, and only be packed and wrapped anew.
    pub fn remuxes(&self, probed: &Probed) -> bool {
        let Probed { facts, detail, .. } = probed;
        let kept = match self.keeps {
            // Frames that are accepted, but for what stands around them.
            _ if keeps_frames(facts.container) => {
                detail.frames_only && !detail.varies || detail.intact && detail.tag_bytes > LARGEST_TAG
            }
            Keeps::Nothing => false,
            Keeps::Opus(form) => probed.detail.opus.as_ref().is_some_and(|opus| form.fits_frames(opus)),
            // That only sits in the wrong wrapper, or beside other streams.
            Keeps::Aac { max_rate } => {
                use Container::{Caf, Matroska, Mp4, Wav, Webm};
                matches!(facts.container, Mp4 | Matroska | Webm | Caf | Wav)
                    && facts.codec.is("aac")
                    && (1..=2).contains(&facts.channels)
                    && facts.sample_rate <= max_rate
                    // What was cut out of the sound is still among the packets, and a clock that is wrong beside them.
                    && !detail.edited
                    && !detail.counted
            }
        };
        let kept =
            kept && (!keeps_frames(facts.container) || self.accepts.iter().any(|form| form.fits(probed)));
        // What is far too large stays so in another wrapper, but not without a picture.
        let size_bytes = facts.size_bytes.saturating_sub(detail.tag_bytes);
        kept && self.max_bytes.is_none_or(|limit| size_bytes / 4 <= limit)
    }

    /// Bits a second for audio that lasts so long.
    pub(crate) fn bitrate(&self, duration_ms: u64) -> u32 {
        let Bitrate { most, least } = self.makes.bitrate;
        let (Some(limit), true) = (self.max_bytes, most > least) else { return most };
        let seconds = duration_ms.div_ceil(1000).max(1);
        let bytes = (limit / seconds).saturating_sub(OGG_OVERHEAD);
        let bits = bytes * 8 * (100 - HEADROOM) / 100;
        u32::try_from(bits).unwrap_or(u32::MAX).clamp(least, most)
    }

    /// What would come of it.
    pub fn foresee(&self, probed: &Probed, work: Work) -> Foreseen {
        let AudioFacts { container, duration_ms, size_bytes, sample_rate, channels, .. } = probed.facts;
        let codec = probed.facts.codec.clone();
        let kept = Foreseen { container, codec, duration_ms, size_bytes, sample_rate, channels };
        match (work, self.keeps) {
            (Work::None, _) => kept,
            // The packets are most of it.
            (Work::Remuxed, Keeps::Opus(form)) => Foreseen {
                container: self.makes.container,
                sample_rate: form.input_rate.unwrap_or(sample_rate),
                ..kept
            },
            (Work::Remuxed, _) if keeps_frames(container) => {
                Foreseen { size_bytes: size_bytes.saturating_sub(probed.detail.tag_bytes), ..kept }
            }
            (Work::Remuxed, _) => Foreseen { container: Container::Mp4, ..kept },
            (Work::Transcoded, _) => Foreseen {
                container: self.makes.container,
                codec: Codec::new(self.makes.codec.name()),
                size_bytes: self.encoded_size(duration_ms, sample_rate),
                sample_rate: self.makes.stated_rate(sample_rate),
                channels: 1,
                ..kept
            },
        }
    }

    /// Roughly what encoding comes to, in bytes.
    fn encoded_size(&self, duration_ms: u64, source_rate: u32) -> u64 {
        /// Headers, and an index where there is one.
        const AROUND: u64 = 300;
        let audio = |bits: u64| bits * duration_ms / 8000;
        let bits = u64::from(self.bitrate(duration_ms));
        AROUND
            + match self.makes.codec {
                AudioCodec::PcmS16 | AudioCodec::LinearPcm => {
                    return 44 + audio(u64::from(self.makes.sample_rate(source_rate)) * 16);
                }
                AudioCodec::Opus => audio(bits) + OGG_OVERHEAD * duration_ms / 1000,
                _ => audio(bits),
            }
    }

    pub fn max_duration_ms(&self) -> Option<u64> {
        self.max_duration.map(|span| span.as_secs() * 1000)
    }

    /// The rate that is written into the header of kept packets; `None` keeps the source's.
    pub(crate) fn kept_input_rate(&self) -> Option<u32> {
        if let Keeps::Opus(form) = self.keeps { form.input_rate } else { None }
    }

    /// Frames in each packet of kept ones; `None` leaves them as they are packed.
    pub(crate) fn kept_frames_per_packet(&self) -> Option<u8> {
        if let Keeps::Opus(form) = self.keeps { form.frames_per_packet } else { None }
    }
}

/// What a source would become. The size is a guess where it is encoded, within some ten percent for speech.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreseen {
    pub container: Container,
    pub codec: Codec,
    pub duration_ms: u64,
    pub size_bytes: u64,
    /// Hz.
    pub sample_rate: u32,
    pub channels: u16,
}

impl Foreseen {
    /// The exact media type.
    pub fn mime_type(&self) -> &'static str {
        mime_type(self.container, &self.codec.0)
    }
}

/// Whether a file is frames one after another, which may be kept without what stands around them.
pub(crate) fn keeps_frames(container: Container) -> bool {
    matches!(container, Container::Mp3 | Container::Adts | Container::Amr)
}

/// The profile of that name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}
