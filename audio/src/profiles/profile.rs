//! The structure of a profile, and its rules for a source. The profiles themselves are in `table.rs`.

use std::time::Duration;

use voicegate_providers::{AudioFacts, Codec, Container};

use crate::formats::frames::LARGEST_TAG;
use crate::formats::opus::{Bandwidth, OpusDetail};
use crate::profiles::plan::Work;
use crate::profiles::table::PROFILES;
use crate::source::{Probed, mime_type};

/// The vendor string of voice notes that WhatsApp's own apps record.
pub(crate) const VENDOR: &str = "Recorder";

/// Bytes per second that a container adds: a header for each Ogg page of a second, and the length of each packet.
const OGG_OVERHEAD: u64 = 80;
/// Percentage by which a variable bit rate may exceed the requested one.
const HEADROOM: u64 = 10;

/// Formats that a target accepts, and the output that is produced for it.
#[derive(Debug)]
pub struct Profile {
    pub name: &'static str,
    /// Services that use the profile, for people.
    pub target: &'static str,
    /// Formats that are sent untouched.
    pub(crate) accepts: &'static [AcceptedFormat],
    /// Packets that are kept from a source in another format.
    pub(crate) keeps: Keeps,
    pub(crate) makes: Recipe,
    /// Size limit of the target, in bytes. With `over_budget` it is a budget.
    pub max_bytes: Option<u64>,
    /// Longest audio for which an encoding fits `max_bytes`.
    pub max_duration: Option<Duration>,
    /// Set if the target takes files larger than `max_bytes` as well, at a price.
    pub over_budget: Option<OverBudget>,
}

/// Files that exceed the budget of a profile. A file is made to fit the budget wherever that is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverBudget {
    /// Size limit of the target, in bytes.
    pub max_bytes: u64,
    /// The loss to the recipient.
    pub loss: Loss,
}

/// The loss to the recipient of a file that exceeds the budget of its profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    PlayIcon,
    Waveform,
}

impl Loss {
    pub fn name(self) -> &'static str {
        match self {
            Self::PlayIcon => "the play button",
            Self::Waveform => "the waveform",
        }
    }

    /// The loss as a sentence for people.
    pub fn detail(self) -> &'static str {
        match self {
            Self::PlayIcon => "the file is too large for a play button, so the recipient downloads it first",
            Self::Waveform => "the file is too large for the provider to draw its waveform",
        }
    }
}

/// A format that is sent untouched, if its structure is intact and it has no other streams.
#[derive(Debug)]
pub(crate) struct AcceptedFormat {
    pub container: Container,
    pub codec: AudioCodec,
    /// Highest number of channels.
    pub channels: u16,
    /// Lowest and highest sample rate, in Hz.
    pub rate: (u32, u32),
    /// Further requirements of Opus packets and headers.
    pub opus: Option<OpusRequirements>,
}

impl AcceptedFormat {
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
            // QuickTime is not M4A, because services look at the brand, and RF64 or big-endian WAV is not what most
            // programs read.
            && (facts.container != Container::Mp4 || flavour != "qt  ")
            && (facts.container != Container::Wav || flavour == "RIFF")
            && self.opus.is_none_or(|form| {
                detail.opus.as_ref().is_some_and(|opus| form.fits_packets(opus) && form.fits_headers(opus))
            })
    }
}

/// Requirements of mono Opus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpusRequirements {
    /// Highest audio bandwidth.
    pub bandwidth: Bandwidth,
    /// Rate of the original that the header must state, in Hz.
    pub input_rate: Option<u32>,
    pub frame_ms: Option<u32>,
    pub frames_per_packet: Option<u8>,
    pub tags: Tags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tags {
    Any,
    /// No comments, and the vendor string that phones write.
    Bare,
}

impl OpusRequirements {
    /// Whether the frames fit, regardless of how they are packed, which can be changed without encoding.
    fn fits_frames(&self, opus: &OpusDetail) -> bool {
        let frame_us = self.frame_ms.map(|ms| ms * 1000);
        opus.channels == 1
            && opus.mono
            && opus.mapping_family == 0
            && opus.max_bandwidth <= self.bandwidth
            && (frame_us.is_none() || opus.frame_us == frame_us)
            // A header written without the gain would change the level.
            && (self.tags == Tags::Any || opus.gain == 0)
    }

    fn fits_packets(&self, opus: &OpusDetail) -> bool {
        self.fits_frames(opus)
            && self.frames_per_packet.is_none_or(|count| {
                // The last packet has the frames that are left. In a short sound it is the only one.
                let is_rest = count > 1
                    && opus.packets == 1
                    && opus.frames_per_packet.is_some_and(|frames| frames < count);
                let is_whole = opus.frames_per_packet == Some(count)
                    && opus.code == Some(if count == 1 { 0 } else { 3 });
                is_rest || is_whole
            })
    }

    fn fits_headers(&self, opus: &OpusDetail) -> bool {
        let bare = opus.vendor.as_deref() == Some(VENDOR) && opus.comments == 0 && opus.gain == 0;
        self.input_rate.is_none_or(|rate| opus.input_rate == rate) && (self.tags == Tags::Any || bare)
    }
}

/// Packets that may be kept from a source whose format is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    Nothing,
    /// Opus frames that meet these requirements, packed and wrapped anew.
    Opus(OpusRequirements),
    /// AAC in one or two channels, wrapped as M4A.
    Aac {
        max_rate: u32,
    },
}

/// Parameters of the encoding, which is always mono. Ogg and CAF contain Opus: VBR, voip, 20 ms frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    pub container: Container,
    pub codec: AudioCodec,
    pub rate: Rate,
    /// Rate of the original that the Opus header states, in Hz.
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
    /// Integer or float samples of any width.
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

/// Sample rate of the encoder's input, in Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    Fixed(u32),
    /// The rate of the source, or the next higher one of the codec. More would cost time and add nothing.
    Own {
        least: u32,
        most: u32,
    },
}

/// Bit rate in bits per second: as high as the size limit permits, between these two.
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
    /// Sample rate for the encoder, in Hz.
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

    /// Sample rate that the produced file states, in Hz.
    pub fn stated_rate(&self, source: u32) -> u32 {
        if self.codec == AudioCodec::Opus { self.input_rate } else { self.sample_rate(source) }
    }
}

impl Profile {
    /// Size limit of the target in bytes, for a file within the budget or for one that exceeds it.
    pub(crate) fn limit(&self, over_budget: bool) -> Option<u64> {
        self.over_budget.filter(|_| over_budget).map(|over| over.max_bytes).or(self.max_bytes)
    }

    /// The loss to the recipient of a file of this size; `None` if it is within the budget.
    pub fn loss(&self, size_bytes: u64) -> Option<Loss> {
        let over = self.over_budget?;
        self.max_bytes.is_some_and(|budget| size_bytes > budget).then_some(over.loss)
    }

    /// Whether an encoding of this length fits `max_bytes`.
    pub(crate) fn is_short(&self, duration_ms: u64) -> bool {
        self.max_duration.is_none_or(|longest| u128::from(duration_ms) <= longest.as_millis())
    }

    /// Whether the target accepts the source untouched, if it takes files of this size in bytes.
    pub(crate) fn accepts(&self, probed: &Probed, limit: Option<u64>) -> bool {
        probed.detail.intact
            && probed.detail.other_streams == 0
            && probed.detail.tag_bytes <= LARGEST_TAG
            && limit.is_none_or(|limit| probed.facts.size_bytes <= limit)
            && self.accepts.iter().any(|form| form.fits(probed))
    }

    /// Whether the packets may be kept, and only have to be packed and wrapped anew. The result has to be within the
    /// limit, in bytes.
    pub(crate) fn remuxes(&self, probed: &Probed, limit: Option<u64>) -> bool {
        let Probed { facts, detail, .. } = probed;
        let kept = match self.keeps {
            // The frames are accepted, but the tags and headers around them are not.
            _ if keeps_frames(facts.container) => {
                detail.frames_only && !detail.varies || detail.intact && detail.tag_bytes > LARGEST_TAG
            }
            Keeps::Nothing => false,
            Keeps::Opus(form) => probed.detail.opus.as_ref().is_some_and(|opus| form.fits_frames(opus)),
            // AAC of an accepted kind in another container or beside other streams.
            Keeps::Aac { max_rate } => {
                use Container::{Caf, Matroska, Mp4, Wav, Webm};
                matches!(facts.container, Mp4 | Matroska | Webm | Caf | Wav)
                    && facts.codec.is("aac")
                    && (1..=2).contains(&facts.channels)
                    && facts.sample_rate <= max_rate
                    // Sound that an edit list cuts out is still among the packets, and a wrong clock stays beside them.
                    && !detail.edited
                    && !detail.counted
            }
        };
        let kept =
            kept && (!keeps_frames(facts.container) || self.accepts.iter().any(|form| form.fits(probed)));
        // A file that is far too large stays so in another container, unless pictures make up its size.
        let size_bytes = facts.size_bytes.saturating_sub(detail.tag_bytes);
        // Opus packets make up nearly all of a file without other streams.
        let is_all = matches!(self.keeps, Keeps::Opus(_)) && detail.other_streams == 0;
        let least = if is_all { size_bytes } else { size_bytes / 4 };
        kept && limit.is_none_or(|limit| least <= limit)
    }

    /// Bit rate for audio of this length, in bits per second.
    pub(crate) fn bitrate(&self, duration_ms: u64) -> u32 {
        let Bitrate { most, least } = self.makes.bitrate;
        let limit = self.limit(!self.is_short(duration_ms));
        let (Some(limit), true) = (limit, most > least) else { return most };
        let seconds = duration_ms.div_ceil(1000).max(1);
        let bytes = (limit / seconds).saturating_sub(OGG_OVERHEAD);
        let bits = bytes * 8 * (100 - HEADROOM) / 100;
        u32::try_from(bits).unwrap_or(u32::MAX).clamp(least, most)
    }

    /// A lower bit rate for an encoding that was to keep the budget and has this size; `None` if it is to stay.
    pub(crate) fn lower_bitrate(&self, bits: u32, duration_ms: u64, size_bytes: u64) -> Option<u32> {
        let budget = self.max_bytes.filter(|_| self.is_short(duration_ms))?;
        let least = self.makes.bitrate.least;
        if size_bytes <= budget || bits <= least {
            return None;
        }
        let fitting = u64::from(bits) * budget / size_bytes * (100 - HEADROOM) / 100;
        Some(u32::try_from(fitting).unwrap_or(bits).max(least))
    }

    /// The expected result of a conversion.
    pub fn foresee(&self, probed: &Probed, work: Work) -> Foreseen {
        let AudioFacts { container, duration_ms, size_bytes, sample_rate, channels, .. } = probed.facts;
        let codec = probed.facts.codec.clone();
        let kept = Foreseen { container, codec, duration_ms, size_bytes, sample_rate, channels };
        match (work, self.keeps) {
            (Work::None, _) => kept,
            // Packets make up most of the size.
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

    /// Estimated size of an encoding, in bytes.
    fn encoded_size(&self, duration_ms: u64, source_rate: u32) -> u64 {
        /// Bytes of headers, and of an index if the container has one.
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

    /// Rate to write into the header of kept packets, in Hz; `None` keeps the source's.
    pub(crate) fn kept_input_rate(&self) -> Option<u32> {
        if let Keeps::Opus(form) = self.keeps { form.input_rate } else { None }
    }

    /// Number of frames per packet when packets are kept; `None` leaves them as they are.
    pub(crate) fn kept_frames_per_packet(&self) -> Option<u8> {
        if let Keeps::Opus(form) = self.keeps { form.frames_per_packet } else { None }
    }
}

/// The expected result for a source. The size of an encoding is an estimate, within about ten percent for speech.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreseen {
    pub container: Container,
    pub codec: Codec,
    pub duration_ms: u64,
    pub size_bytes: u64,
    /// Sample rate in Hz.
    pub sample_rate: u32,
    pub channels: u16,
}

impl Foreseen {
    /// The exact media type.
    pub fn mime_type(&self) -> &'static str {
        mime_type(self.container, &self.codec.0)
    }
}

/// Whether a file consists of consecutive frames, which may be kept without the tags and headers around them.
pub(crate) fn keeps_frames(container: Container) -> bool {
    matches!(container, Container::Mp3 | Container::Adts | Container::Amr)
}

/// The profile with this name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}
