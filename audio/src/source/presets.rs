//! Names for the headerless samples that text-to-speech services return, so that a bot need not know their numbers.

use crate::source::PcmEncoding::{self, Alaw, F32le, Mulaw, S16le};
use crate::source::PcmFormat;

/// One service's raw output. `format: "NAME"` is equivalent to the format written out.
#[derive(Debug)]
pub struct Preset {
    pub name: &'static str,
    pub format: PcmFormat,
    /// The setting with which the caller requests this output from the service.
    pub asked_for: &'static str,
}

/// A service, with the page that documents its samples.
#[derive(Debug)]
pub struct Service {
    pub name: &'static str,
    pub source: &'static str,
    pub presets: &'static [Preset],
}

const fn preset(
    name: &'static str,
    asked_for: &'static str,
    encoding: PcmEncoding,
    sample_rate: u32,
) -> Preset {
    Preset { name, asked_for, format: PcmFormat { encoding, sample_rate, channels: 1 } }
}

/// Every service, in the order of the documentation. All of them return one channel.
pub const SERVICES: &[Service] = &[
    Service {
        name: "OpenAI",
        source: "https://platform.openai.com/docs/guides/text-to-speech",
        presets: &[preset("openai-pcm", "response_format: pcm", S16le, 24_000)],
    },
    Service {
        name: "ElevenLabs",
        source: "https://elevenlabs.io/docs/api-reference/text-to-speech/convert",
        presets: &[
            preset("elevenlabs-pcm-8000", "output_format: pcm_8000", S16le, 8_000),
            preset("elevenlabs-pcm-16000", "output_format: pcm_16000", S16le, 16_000),
            preset("elevenlabs-pcm-22050", "output_format: pcm_22050", S16le, 22_050),
            preset("elevenlabs-pcm-24000", "output_format: pcm_24000", S16le, 24_000),
            preset("elevenlabs-pcm-32000", "output_format: pcm_32000", S16le, 32_000),
            preset("elevenlabs-pcm-44100", "output_format: pcm_44100", S16le, 44_100),
            preset("elevenlabs-pcm-48000", "output_format: pcm_48000", S16le, 48_000),
            preset("elevenlabs-ulaw-8000", "output_format: ulaw_8000", Mulaw, 8_000),
            preset("elevenlabs-alaw-8000", "output_format: alaw_8000", Alaw, 8_000),
        ],
    },
    Service {
        name: "Azure AI Speech",
        source: "https://learn.microsoft.com/azure/ai-services/speech-service/rest-text-to-speech#audio-outputs",
        presets: &[
            preset("azure-raw-8khz", "raw-8khz-16bit-mono-pcm", S16le, 8_000),
            preset("azure-raw-16khz", "raw-16khz-16bit-mono-pcm", S16le, 16_000),
            preset("azure-raw-22050hz", "raw-22050hz-16bit-mono-pcm", S16le, 22_050),
            preset("azure-raw-24khz", "raw-24khz-16bit-mono-pcm", S16le, 24_000),
            preset("azure-raw-44100hz", "raw-44100hz-16bit-mono-pcm", S16le, 44_100),
            preset("azure-raw-48khz", "raw-48khz-16bit-mono-pcm", S16le, 48_000),
            preset("azure-raw-8khz-mulaw", "raw-8khz-8bit-mono-mulaw", Mulaw, 8_000),
            preset("azure-raw-8khz-alaw", "raw-8khz-8bit-mono-alaw", Alaw, 8_000),
        ],
    },
    Service {
        name: "Google Gemini",
        source: "https://ai.google.dev/gemini-api/docs/speech-generation",
        presets: &[preset("gemini-pcm", "audio/L16;codec=pcm;rate=24000", S16le, 24_000)],
    },
    Service {
        name: "Amazon Polly",
        source: "https://docs.aws.amazon.com/polly/latest/dg/API_SynthesizeSpeech.html",
        presets: &[
            preset("polly-pcm-8000", "OutputFormat: pcm, SampleRate: 8000", S16le, 8_000),
            preset("polly-pcm-16000", "OutputFormat: pcm (the default rate)", S16le, 16_000),
        ],
    },
    Service {
        name: "Deepgram",
        source: "https://developers.deepgram.com/docs/tts-media-output-settings",
        presets: &[
            preset(
                "deepgram-linear16-8000",
                "encoding=linear16&container=none&sample_rate=8000",
                S16le,
                8_000,
            ),
            preset(
                "deepgram-linear16-16000",
                "encoding=linear16&container=none&sample_rate=16000",
                S16le,
                16_000,
            ),
            preset(
                "deepgram-linear16-24000",
                "encoding=linear16&container=none (the default rate)",
                S16le,
                24_000,
            ),
            preset(
                "deepgram-linear16-32000",
                "encoding=linear16&container=none&sample_rate=32000",
                S16le,
                32_000,
            ),
            preset(
                "deepgram-linear16-48000",
                "encoding=linear16&container=none&sample_rate=48000",
                S16le,
                48_000,
            ),
            preset("deepgram-mulaw-8000", "encoding=mulaw&container=none&sample_rate=8000", Mulaw, 8_000),
            preset("deepgram-alaw-8000", "encoding=alaw&container=none&sample_rate=8000", Alaw, 8_000),
        ],
    },
    Service {
        name: "Cartesia",
        source: "https://docs.cartesia.ai/build-with-cartesia/capability-guides/tts-output-audio-format",
        presets: &[
            preset("cartesia-s16le-16000", "container: raw, encoding: pcm_s16le, 16000", S16le, 16_000),
            preset("cartesia-s16le-24000", "container: raw, encoding: pcm_s16le, 24000", S16le, 24_000),
            preset("cartesia-s16le-44100", "container: raw, encoding: pcm_s16le, 44100", S16le, 44_100),
            preset("cartesia-f32le-44100", "container: raw, encoding: pcm_f32le, 44100", F32le, 44_100),
            preset("cartesia-f32le-48000", "container: raw, encoding: pcm_f32le, 48000", F32le, 48_000),
            preset("cartesia-mulaw-8000", "container: raw, encoding: pcm_mulaw, 8000", Mulaw, 8_000),
            preset("cartesia-alaw-8000", "container: raw, encoding: pcm_alaw, 8000", Alaw, 8_000),
        ],
    },
];

/// Every preset of every service.
pub fn presets() -> impl Iterator<Item = &'static Preset> {
    SERVICES.iter().flat_map(|service| service.presets)
}

/// The format for a preset's name.
///
/// # Errors
/// A sentence that says where the names are listed.
pub fn named(name: &str) -> Result<PcmFormat, String> {
    presets().find(|preset| preset.name == name).map(|preset| preset.format).ok_or_else(|| {
        "there is no preset of this name; /docs/http lists them, such as \"openai-pcm\"".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preset_names_are_unique_and_descriptive() {
        let mut names: Vec<&str> = presets().map(|preset| preset.name).collect();
        assert_eq!(named("azure-raw-24khz").expect("a preset").sample_rate, 24_000);
        assert!(named("azure-raw-25khz").is_err());
        for preset in presets() {
            preset.format.checked().unwrap_or_else(|why| panic!("{}: {why}", preset.name));
            let rate = preset.format.sample_rate;
            let digits: String = preset.name.chars().filter(char::is_ascii_digit).collect();
            assert!(
                digits.is_empty()
                    || digits.ends_with(&rate.to_string())
                    || digits == (rate / 1000).to_string(),
                "{}",
                preset.name
            );
        }
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
