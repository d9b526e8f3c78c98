//! The profiles: formats that each target accepts, and the encoding for anything else.
//!
//! The formats of a released profile never change, because renders and notes name it. A change gets a new number. What
//! follows where audio exceeds a budget is no part of that.

use std::time::Duration;

use voicegate_providers::Container::{Adts, Aiff, Amr, Caf, Mp3, Mp4, Ogg, Wav};

use crate::formats::opus::Bandwidth;
use crate::profiles::profile::{
    AcceptedFormat, AudioCodec, Bitrate, Keeps, Loss, OpusRequirements, OverBudget, Profile, Rate, Recipe,
    Tags,
};

/// The format that WhatsApp's own apps write, and that phones were seen to require.
/// <https://github.com/tulir/whatsmeow/issues/517>, <https://github.com/openclaw/openclaw/issues/144502>
const RECORDER: OpusRequirements = OpusRequirements {
    bandwidth: Bandwidth::Wide,
    input_rate: Some(16_000),
    frame_ms: Some(20),
    frames_per_packet: Some(1),
    tags: Tags::Bare,
};

/// Three frames per packet: <https://github.com/WhiskeySockets/Baileys/pull/2648>
const RECORDER_BY_THREE: OpusRequirements = OpusRequirements { frames_per_packet: Some(3), ..RECORDER };

/// Opus of any kind.
const ANY_OPUS: OpusRequirements = OpusRequirements {
    bandwidth: Bandwidth::Full,
    input_rate: None,
    frame_ms: None,
    frames_per_packet: None,
    tags: Tags::Any,
};

/// The format in which a Mac encodes voice messages.
const APPLE: OpusRequirements =
    OpusRequirements { input_rate: Some(24_000), frame_ms: Some(20), frames_per_packet: Some(1), ..ANY_OPUS };

/// Encoding of speech for targets without other requirements.
const SPEECH: Recipe = Recipe {
    container: Ogg,
    codec: AudioCodec::Opus,
    rate: Rate::Fixed(48_000),
    input_rate: 48_000,
    bitrate: Bitrate::fixed(32_000),
    frames_per_packet: 1,
};

const OPUS_IN_OGG: AcceptedFormat =
    AcceptedFormat { opus: Some(ANY_OPUS), channels: 1, ..AcceptedFormat::of(Ogg, AudioCodec::Opus) };

const MINUTE: Duration = Duration::from_secs(60);

pub static PROFILES: &[Profile] = &[
    // Formats are those of Linq's reference for `voicememo`, which names Opus only in CAF and refuses Ogg and FLAC.
    Profile {
        name: "linq-1",
        target: "Linq, which shows it as an iMessage voice memo",
        accepts: &[
            AcceptedFormat::of(Mp3, AudioCodec::Mp3),
            AcceptedFormat::of(Adts, AudioCodec::Aac),
            AcceptedFormat::of(Mp4, AudioCodec::Aac),
            AcceptedFormat::of(Wav, AudioCodec::LinearPcm),
            AcceptedFormat::of(Aiff, AudioCodec::LinearPcm),
            AcceptedFormat::of(Amr, AudioCodec::AmrNb),
            AcceptedFormat::of(Caf, AudioCodec::Opus),
            AcceptedFormat::of(Caf, AudioCodec::Aac),
        ],
        keeps: Keeps::Aac { max_rate: 48_000 },
        makes: Recipe {
            container: Mp4,
            codec: AudioCodec::Aac,
            rate: Rate::Own { least: 16_000, most: 48_000 },
            bitrate: Bitrate::fixed(64_000),
            ..SPEECH
        },
        max_bytes: Some(10_000_000),
        max_duration: None,
        over_budget: None,
    },
    Profile {
        name: "whatsapp-1",
        target: "WhatsApp over its own protocol, as phones record it: one frame per packet",
        accepts: &[AcceptedFormat { opus: Some(RECORDER), ..OPUS_IN_OGG }],
        keeps: Keeps::Opus(RECORDER),
        makes: Recipe {
            rate: Rate::Fixed(16_000),
            input_rate: 16_000,
            bitrate: Bitrate::fixed(24_000),
            ..SPEECH
        },
        max_bytes: Some(16_000_000),
        max_duration: None,
        over_budget: None,
    },
    Profile {
        name: "whatsapp-2",
        target: "WhatsApp over its own protocol, as phones record it: three frames per packet",
        accepts: &[AcceptedFormat { opus: Some(RECORDER_BY_THREE), ..OPUS_IN_OGG }],
        keeps: Keeps::Opus(RECORDER_BY_THREE),
        makes: Recipe {
            rate: Rate::Fixed(16_000),
            input_rate: 16_000,
            bitrate: Bitrate::fixed(24_000),
            frames_per_packet: 3,
            ..SPEECH
        },
        max_bytes: Some(16_000_000),
        max_duration: None,
        over_budget: None,
    },
    Profile {
        name: "whatsapp-3",
        target: "WhatsApp over its own protocol, for any mono Opus",
        accepts: &[OPUS_IN_OGG],
        keeps: Keeps::Opus(ANY_OPUS),
        makes: SPEECH,
        max_bytes: Some(16_000_000),
        max_duration: None,
        over_budget: None,
    },
    // Above 512 KB WhatsApp shows a download arrow in place of the play icon.
    // <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/audio-messages/>
    Profile {
        name: "meta-1",
        target: "WhatsApp over Meta's Cloud API, small enough for the play icon",
        accepts: &[OPUS_IN_OGG],
        keeps: Keeps::Opus(ANY_OPUS),
        makes: Recipe { bitrate: Bitrate { most: 32_000, least: 6_000 }, ..SPEECH },
        max_bytes: Some(512_000),
        max_duration: Some(Duration::from_secs(9 * MINUTE.as_secs())),
        over_budget: Some(OverBudget { max_bytes: 16_000_000, loss: Loss::PlayIcon }),
    },
    // Above 1 MB the server draws no waveform: <https://github.com/tdlib/telegram-bot-api/issues/354>
    Profile {
        name: "telegram-1",
        target: "Telegram, small enough for a waveform",
        accepts: &[OPUS_IN_OGG],
        keeps: Keeps::Opus(ANY_OPUS),
        makes: Recipe {
            rate: Rate::Own { least: 8_000, most: 48_000 },
            bitrate: Bitrate { most: 32_000, least: 6_000 },
            ..SPEECH
        },
        max_bytes: Some(1_000_000),
        max_duration: Some(Duration::from_secs(18 * MINUTE.as_secs())),
        over_budget: Some(OverBudget { max_bytes: 50_000_000, loss: Loss::Waveform }),
    },
    // <https://discord.com/developers/docs/resources/message#voice-messages>
    Profile {
        name: "discord-1",
        target: "Discord",
        accepts: &[OPUS_IN_OGG],
        keeps: Keeps::Opus(ANY_OPUS),
        makes: Recipe { rate: Rate::Own { least: 8_000, most: 48_000 }, ..SPEECH },
        max_bytes: Some(10_000_000),
        max_duration: None,
        over_budget: None,
    },
    // AAC or PCM in CAF is shown as a file, or as a bubble of no length:
    // <https://github.com/BlueBubblesApp/bluebubbles-server/issues/799>
    Profile {
        name: "imessage-caf-1",
        target: "iMessage over a Mac of your own",
        accepts: &[AcceptedFormat {
            opus: Some(APPLE),
            channels: 1,
            ..AcceptedFormat::of(Caf, AudioCodec::Opus)
        }],
        keeps: Keeps::Opus(APPLE),
        makes: Recipe { container: Caf, rate: Rate::Fixed(24_000), input_rate: 24_000, ..SPEECH },
        max_bytes: Some(100_000_000),
        max_duration: None,
        over_budget: None,
    },
    Profile {
        name: "wav16k-1",
        target: "speech recognition",
        accepts: &[AcceptedFormat {
            channels: 1,
            rate: (16_000, 16_000),
            ..AcceptedFormat::of(Wav, AudioCodec::PcmS16)
        }],
        keeps: Keeps::Nothing,
        makes: Recipe {
            container: Wav,
            codec: AudioCodec::PcmS16,
            rate: Rate::Fixed(16_000),
            bitrate: Bitrate::fixed(256_000),
            ..SPEECH
        },
        max_bytes: None,
        max_duration: None,
        over_budget: None,
    },
    // For providers that convert audio themselves and accept all common formats.
    Profile {
        name: "mp3-1",
        target: "services that accept common formats and convert them",
        accepts: &[
            AcceptedFormat { rate: ANY_RATE, ..AcceptedFormat::of(Mp3, AudioCodec::Mp3) },
            AcceptedFormat { rate: ANY_RATE, ..AcceptedFormat::of(Adts, AudioCodec::Aac) },
            AcceptedFormat { rate: ANY_RATE, ..AcceptedFormat::of(Mp4, AudioCodec::Aac) },
            AcceptedFormat { rate: ANY_RATE, ..AcceptedFormat::of(Wav, AudioCodec::LinearPcm) },
        ],
        keeps: Keeps::Aac { max_rate: 48_000 },
        makes: Recipe {
            container: Mp3,
            codec: AudioCodec::Mp3,
            // At lower sample rates the same bit rate sounds worse: PESQ 4.07 at 16 kHz, 4.52 at 24 kHz.
            rate: Rate::Own { least: 24_000, most: 48_000 },
            bitrate: Bitrate::fixed(64_000),
            ..SPEECH
        },
        max_bytes: None,
        max_duration: None,
        over_budget: None,
    },
    // For players that are no voice bubble: Telegram's `sendAudio` takes M4A and MP3.
    // <https://core.telegram.org/bots/api#sendaudio>
    Profile {
        name: "m4a-1",
        target: "players of audio files, where no voice note is taken",
        accepts: &[AcceptedFormat::of(Mp4, AudioCodec::Aac)],
        keeps: Keeps::Aac { max_rate: 48_000 },
        makes: Recipe {
            container: Mp4,
            codec: AudioCodec::Aac,
            rate: Rate::Own { least: 16_000, most: 48_000 },
            bitrate: Bitrate::fixed(64_000),
            ..SPEECH
        },
        max_bytes: Some(50_000_000),
        max_duration: None,
        over_budget: None,
    },
];

const ANY_RATE: (u32, u32) = (0, u32::MAX);
