//! ElevenLabs: `POST /v1/text-to-speech/{voice}`.
//! <https://elevenlabs.io/docs/api-reference/text-to-speech/convert>

use std::sync::Arc;

use reqwest::{
    Method, Request,
    header::{ACCEPT, HeaderName, HeaderValue},
};
use serde_json::json;

use super::{
    Raw, RawEncoding, Speech, Unfit, Utterance,
    server::{Defaults, Server, ServerSettings},
};
use crate::ConfigError;

pub(super) const NAME: &str = "elevenlabs";

#[derive(Debug)]
struct ElevenLabs(Server);

pub(super) fn speech(settings: ServerSettings) -> Result<Arc<dyn Speech>, ConfigError> {
    let defaults = Defaults {
        kind: NAME,
        base_url: "https://api.elevenlabs.io",
        model: "eleven_multilingual_v2",
        voice: None,
        format: "mp3_44100_128",
        key_header: HeaderName::from_static("xi-api-key"),
    };
    Ok(Arc::new(ElevenLabs(Server::new(settings, defaults)?)))
}

impl Speech for ElevenLabs {
    fn server(&self) -> &Server {
        &self.0
    }

    fn judge(&self, utterance: &Utterance<'_>) -> Result<(), Unfit> {
        if self.0.voice_of(utterance.voice).is_none() {
            let why = "no voice is configured for this speech server; give the id of one";
            return Err(Unfit { field: "voice", why });
        }
        if utterance.instructions.is_some() {
            let why = "this kind of speech server takes no instructions; leave them out";
            return Err(Unfit { field: "instructions", why });
        }
        Ok(())
    }

    fn request(&self, utterance: &Utterance<'_>) -> Request {
        let mut body = json!({ "text": utterance.text, "model_id": self.0.model });
        if let Some(speed) = utterance.unusual_speed() {
            body["voice_settings"] = json!({ "speed": speed });
        }
        let voice = self.0.voice_of(utterance.voice).unwrap_or_default();
        let mut url = self.0.url(&["v1", "text-to-speech", voice]);
        url.query_pairs_mut().append_pair("output_format", &self.0.format);
        let mut request = self.0.json(Method::POST, url, Some(&body));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("audio/*, application/octet-stream"));
        request
    }

    /// `CODEC_RATE` without a header: `pcm_16000`, `ulaw_8000`, `alaw_8000`.
    fn raw(&self) -> Option<Raw> {
        let (codec, rate) = self.0.format.split_once('_')?;
        let encoding = match codec {
            "pcm" => RawEncoding::S16le,
            "ulaw" => RawEncoding::Mulaw,
            "alaw" => RawEncoding::Alaw,
            _ => return None,
        };
        Some(Raw { encoding, sample_rate: rate.parse().ok()?, channels: 1 })
    }

    fn question(&self) -> Request {
        self.0.json(Method::GET, self.0.url(&["v1", "models"]), None)
    }
}
