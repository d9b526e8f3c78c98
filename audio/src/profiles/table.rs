//! The profiles: what each target takes as it is, and what is made for it otherwise.
//!
//! A released profile never changes, because renders and notes name it. A new idea is a new number.

use std::time::Duration;

use voicegate_providers::Container::{Adts, Aiff, Amr, Caf, Mp3, Mp4, Ogg, Wav};

use crate::formats::opus::Bandwidth;
use crate::profiles::profile::{AudioCodec, Bitrate, Form, Keeps, OpusForm, Profile, Rate, Recipe, Tags};

/// What WhatsApp's own apps write, and players on phones were seen to want.
/// <https://github.com/tulir/whatsmeow/issues/517>, <https://github.com/openclaw/openclaw/issues/144502>
const RECORDER: OpusForm = OpusForm {
    bandwidth: Bandwidth::Wide,
    input_rate: Some(16_000),
    frame_ms: Some(20),
    frames_per_packet: Some(1),
    tags: Tags::Bare,
};

/// Three frames a packet: <https://github.com/WhiskeySockets/Baileys/pull/2648>
const RECORDER_BY_THREE: OpusForm = OpusForm { frames_per_packet: Some(3), ..RECORDER };

/// Opus of any kind.
const ANY_OPUS: OpusForm = OpusForm {
    bandwidth: Bandwidth::Full,
    input_rate: None,
    frame_ms: None,
    frames_per_packet: None,
    tags: Tags::Any,
};

/// As a Mac encodes it for a voice message.
const APPLE: OpusForm =
    OpusForm { input_rate: Some(24_000), frame_ms: Some(20), frames_per_packet: Some(1), ..ANY_OPUS };

/// How speech is encoded unless a target asks for something else.
const SPEECH: Recipe = Recipe {
    container: Ogg,
    codec: AudioCodec::Opus,
    rate: Rate::Fixed(48_000),
    input_rate: 48_000,
    bitrate: Bitrate::fixed(32_000),
    frames_per_packet: 1,
};

const OPUS_IN_OGG: Form = Form { opus: Some(ANY_OPUS), channels: 1, ..Form::of(Ogg, AudioCodec::Opus) };

const MINUTE: Duration = Duration::from_secs(60);

pub static PROFILES: &[Profile] = &[
    // Formats: Linq's reference of `voicememo`, which names no Opus outside CAF and refuses Ogg and FLAC.
    Profile {
        name: "linq-1",
        target: "Linq, which makes an iMessage voice memo of it",
        accepts: &[
            Form::of(Mp3, AudioCodec::Mp3),
            Form::of(Adts, AudioCodec::Aac),
            Form::of(Mp4, AudioCodec::Aac),
            Form::of(Wav, AudioCodec::LinearPcm),
            Form::of(Aiff, AudioCodec::LinearPcm),
            Form::of(Amr, AudioCodec::AmrNb),
            Form::of(Caf, AudioCodec::Opus),
            Form::of(Caf, AudioCodec::Aac),
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
    },
    Profile {
        name: "whatsapp-1",
        target: "WhatsApp by its own protocol: as phones record it, one frame a packet",
        accepts: &[Form { opus: Some(RECORDER), ..OPUS_IN_OGG }],
        keeps: Keeps::Opus(RECORDER),
        makes: Recipe {
            rate: Rate::Fixed(16_000),
            input_rate: 16_000,
            bitrate: Bitrate::fixed(24_000),
            ..SPEECH
        },
        max_bytes: Some(16_000_000),
        max_duration: None,
    },
    Profile {
        name: "whatsapp-2",
        target: "WhatsApp by its own protocol: as phones record it, three frames a packet",
        accepts: &[Form { opus: Some(RECORDER_BY_THREE), ..OPUS_IN_OGG }],
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
    },
    Profile {
        name: "whatsapp-3",
        target: "WhatsApp by its own protocol, where any Opus plays",
        accepts: &[OPUS_IN_OGG],
        keeps: Keeps::Opus(ANY_OPUS),
        makes: SPEECH,
        max_bytes: Some(16_000_000),
        max_duration: None,
    },
    // Above 512 KB a download arrow takes the place of the play icon.
    // <https://developers.facebook.com/documentation/business-messaging/whatsapp/messages/audio-messages/>
    Profile {
        name: "meta-1",
        target: "WhatsApp by Meta's Cloud API: small enough to keep its play icon",
        accepts: &[OPUS_IN_OGG],
        keeps: Keeps::Opus(ANY_OPUS),
        makes: Recipe { bitrate: Bitrate { most: 32_000, least: 6_000 }, ..SPEECH },
        max_bytes: Some(512_000),
        max_duration: Some(Duration::from_secs(9 * MINUTE.as_secs())),
    },
    // Above 1 MB the server draws no waveform: <https://github.com/tdlib/telegram-bot-api/issues/354>
    Profile {
        name: "telegram-1",
        target: "Telegram: small enough for a waveform",
        accepts: &[OPUS_IN_OGG],
        keeps: Keeps::Opus(ANY_OPUS),
        makes: Recipe {
            rate: Rate::Own { least: 8_000, most: 48_000 },
            bitrate: Bitrate { most: 32_000, least: 6_000 },
            ..SPEECH
        },
        max_bytes: Some(1_000_000),
        max_duration: Some(Duration::from_secs(18 * MINUTE.as_secs())),
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
    },
    // AAC or PCM in CAF comes out as a file, or as a bubble of no length:
    // <https://github.com/BlueBubblesApp/bluebubbles-server/issues/799>
    Profile {
        name: "imessage-caf-1",
        target: "iMessage by a Mac of one's own",
        accepts: &[Form { opus: Some(APPLE), channels: 1, ..Form::of(Caf, AudioCodec::Opus) }],
        keeps: Keeps::Opus(APPLE),
        makes: Recipe { container: Caf, rate: Rate::Fixed(24_000), input_rate: 24_000, ..SPEECH },
        max_bytes: Some(100_000_000),
        max_duration: None,
    },
    Profile {
        name: "wav16k-1",
        target: "speech recognition",
        accepts: &[Form { channels: 1, rate: (16_000, 16_000), ..Form::of(Wav, AudioCodec::PcmS16) }],
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
    },
    // For providers that convert by themselves and take whatever is common.
    Profile {
        name: "mp3-1",
        target: "services that take what is common and convert it themselves",
        accepts: &[
            Form { rate: ANY_RATE, ..Form::of(Mp3, AudioCodec::Mp3) },
            Form { rate: ANY_RATE, ..Form::of(Adts, AudioCodec::Aac) },
            Form { rate: ANY_RATE, ..Form::of(Mp4, AudioCodec::Aac) },
            Form { rate: ANY_RATE, ..Form::of(Wav, AudioCodec::LinearPcm) },
        ],
        keeps: Keeps::Aac { max_rate: 48_000 },
        makes: Recipe {
            container: Mp3,
            codec: AudioCodec::Mp3,
            // With fewer, the same bits sound worse: PESQ 4.07 at 16 kHz, 4.52 at 24.
            rate: Rate::Own { least: 24_000, most: 48_000 },
            bitrate: Bitrate::fixed(64_000),
            ..SPEECH
        },
        max_bytes: None,
        max_duration: None,
    },
    // For players that are no voice bubble: Telegram's `sendAudio` takes M4A and MP3.
    // <https://core.telegram.org/bots/api#sendaudio>
    Profile {
        name: "m4a-1",
        target: "players of audio files, where no voice note is taken",
        accepts: &[Form::of(Mp4, AudioCodec::Aac)],
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
    },
];

const ANY_RATE: (u32, u32) = (0, u32::MAX);
