//! The encode profiles: what each target takes as it is, and what is made for it otherwise.
//!
//! A released profile never changes, because renders are cached by its name. A new idea is a new number.

use voicegate_providers::Container;

use super::opus::Bandwidth;
use super::source::Probed;

#[derive(Debug)]
pub struct Profile {
    pub name: &'static str,
    /// For people: what the target needs.
    pub needs: &'static str,
    /// For people: what is made where encoding is needed.
    pub produces: &'static str,
    /// Largest file the target takes.
    pub max_bytes: Option<u64>,
    /// Whether the target takes these bytes untouched.
    accepts: fn(&Probed) -> bool,
    /// Whether the packets may be kept and only their wrapper made anew.
    remuxes: fn(&Probed) -> bool,
    pub(super) wrapper: Wrapper,
    pub(super) recipe: Recipe,
}

/// The container that kept packets are put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapper {
    /// M4A by ffmpeg's stream copy.
    M4a,
    /// Ogg by our own writer. `input_rate` is written into the header where given, else the source's is kept.
    Ogg { input_rate: Option<u32> },
}

/// How to encode; always mono.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recipe {
    /// Ogg, VBR, voip, 20 ms frames, complexity 10.
    Opus {
        sample_rate: u32,
        kbit: u32,
    },
    /// M4A with the index first, AAC-LC.
    Aac {
        kbit: u32,
    },
    Mp3 {
        kbit: u32,
    },
}

/// The vendor string of voice notes that WhatsApp's own apps record.
pub(super) const VENDOR: &str = "Recorder";

pub static PROFILES: &[Profile] = &[
    // Formats: Linq's reference of `voicememo`, which names no Opus outside CAF and refuses Ogg and FLAC.
    Profile {
        name: "linq-1",
        needs: "MP3, AAC (ADTS or M4A), WAV or AIFF with linear PCM, AMR-NB, or Opus or AAC in CAF, \
                with at most 2 channels, 48 kHz and 10,000,000 bytes",
        produces: "M4A, AAC-LC, mono, 64 kbit/s, index first",
        max_bytes: Some(10_000_000),
        accepts: linq_accepts,
        remuxes: aac_fits,
        wrapper: Wrapper::M4a,
        recipe: Recipe::Aac { kbit: 64 },
    },
    // What the phones' own recorder writes: https://github.com/tulir/whatsmeow/issues/517
    Profile {
        name: "whatsapp-1",
        needs: "Ogg/Opus, mono, wideband (16 kHz), one 20 ms frame a packet, vendor `Recorder` and no comments",
        produces: "Ogg/Opus, mono, 16 kHz, 24 kbit/s VBR, 20 ms frames",
        max_bytes: Some(16_000_000),
        accepts: recorder_accepts,
        remuxes: recorder_remuxes,
        wrapper: Wrapper::Ogg { input_rate: Some(16_000) },
        recipe: Recipe::Opus { sample_rate: 16_000, kbit: 24 },
    },
    Profile {
        name: "whatsapp-3",
        needs: "Ogg/Opus, mono",
        produces: "Ogg/Opus, mono, 48 kHz, 32 kbit/s VBR, 20 ms frames",
        max_bytes: Some(16_000_000),
        accepts: mono_opus_accepts,
        remuxes: mono_opus_remuxes,
        wrapper: Wrapper::Ogg { input_rate: None },
        recipe: Recipe::Opus { sample_rate: 48_000, kbit: 32 },
    },
    // For providers that convert by themselves and take whatever is common.
    Profile {
        name: "mp3-1",
        needs: "MP3, AAC (ADTS or M4A) or WAV with linear PCM, with at most 2 channels",
        produces: "MP3, mono, 64 kbit/s",
        max_bytes: None,
        accepts: common_accepts,
        remuxes: aac_fits,
        wrapper: Wrapper::M4a,
        recipe: Recipe::Mp3 { kbit: 64 },
    },
];

/// The profile of that name.
pub fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

impl Profile {
    pub fn accepts(&self, probed: &Probed) -> bool {
        probed.detail.intact
            && probed.detail.other_streams == 0
            && self.max_bytes.is_none_or(|limit| probed.facts.size_bytes <= limit)
            && (self.accepts)(probed)
    }

    pub fn remuxes(&self, probed: &Probed) -> bool {
        (self.remuxes)(probed)
    }
}

impl Recipe {
    /// The rate to encode at: the source's, or the next that the codec has, never above 48 kHz.
    pub(super) fn sample_rate(self, source: u32) -> u32 {
        match self {
            Self::Opus { sample_rate, .. } => sample_rate,
            Self::Aac { .. } | Self::Mp3 { .. } => {
                let rates = [16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
                rates.into_iter().find(|&rate| rate >= source).unwrap_or(48_000)
            }
        }
    }
}

fn linq_accepts(probed: &Probed) -> bool {
    let facts = &probed.facts;
    let known = match facts.container {
        Container::Amr => facts.codec.is("amr_nb"),
        Container::Caf => facts.codec.is("opus") || facts.codec.is("aac"),
        Container::Aiff => facts.codec.is_linear_pcm(),
        _ => is_common(probed),
    };
    known && (1..=2).contains(&facts.channels) && facts.sample_rate <= 48_000
}

fn common_accepts(probed: &Probed) -> bool {
    is_common(probed) && (1..=2).contains(&probed.facts.channels)
}

fn is_common(probed: &Probed) -> bool {
    let facts = &probed.facts;
    match facts.container {
        Container::Mp3 => facts.codec.is("mp3"),
        Container::Adts => facts.codec.is("aac"),
        // QuickTime is not M4A: services look at the brand.
        Container::Mp4 => facts.codec.is("aac") && probed.detail.flavour != "qt  ",
        Container::Wav => facts.codec.is_linear_pcm() && probed.detail.flavour == "RIFF",
        _ => false,
    }
}

/// AAC that only sits in the wrong wrapper, or beside other streams.
fn aac_fits(probed: &Probed) -> bool {
    let facts = &probed.facts;
    let wrapped = matches!(
        facts.container,
        Container::Mp4 | Container::Matroska | Container::Webm | Container::Caf | Container::Wav
    );
    wrapped && facts.codec.is("aac") && (1..=2).contains(&facts.channels) && facts.sample_rate <= 48_000
}

fn mono_opus_accepts(probed: &Probed) -> bool {
    probed.facts.container == Container::Ogg && mono_opus_remuxes(probed)
}

fn mono_opus_remuxes(probed: &Probed) -> bool {
    probed
        .detail
        .opus
        .as_ref()
        .is_some_and(|opus| opus.channels == 1 && opus.mono && opus.mapping_family == 0)
}

fn recorder_accepts(probed: &Probed) -> bool {
    let tags_fit = |vendor: Option<&str>, comments| vendor == Some(VENDOR) && comments == 0;
    probed.facts.container == Container::Ogg
        && recorder_remuxes(probed)
        && probed
            .detail
            .opus
            .as_ref()
            .is_some_and(|opus| opus.input_rate == 16_000 && tags_fit(opus.vendor.as_deref(), opus.comments))
}

fn recorder_remuxes(probed: &Probed) -> bool {
    mono_opus_remuxes(probed)
        && probed.detail.opus.as_ref().is_some_and(|opus| {
            // Another gain would change the level if the header were written anew without it.
            opus.gain == 0
                && opus.max_bandwidth <= Bandwidth::Wide
                && opus.frame_us == Some(20_000)
                && opus.frames_per_packet == Some(1)
                && opus.single_frames
        })
}
