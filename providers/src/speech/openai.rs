//! OpenAI's shapes, which most speech servers speak: `POST /v1/audio/speech` and `POST /v1/audio/transcriptions`.
//! <https://platform.openai.com/docs/api-reference/audio>

use std::sync::Arc;

use reqwest::{
    Method, Request,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use serde_json::{Value, json};

use super::{
    Raw, Recording, Speech, Transcript, Transcription, Unfit, Utterance,
    server::{Defaults, Server, ServerSettings},
    transcription,
};
use crate::{ConfigError, wire::Multipart};

pub(super) const NAME: &str = "openai";

const BASE_URL: &str = "https://api.openai.com";

#[derive(Debug)]
struct OpenAi(Server);

fn defaults(model: &'static str) -> Defaults {
    Defaults {
        kind: NAME,
        base_url: BASE_URL,
        model,
        voice: Some("alloy"),
        format: "wav",
        key_header: AUTHORIZATION,
    }
}

pub(super) fn speech(settings: ServerSettings) -> Result<Arc<dyn Speech>, ConfigError> {
    Ok(Arc::new(OpenAi(Server::new(settings, defaults("gpt-4o-mini-tts"))?)))
}

pub(super) fn transcription(settings: ServerSettings) -> Result<Arc<dyn Transcription>, ConfigError> {
    Ok(Arc::new(OpenAi(Server::new(settings, defaults("gpt-4o-mini-transcribe"))?)))
}

impl Speech for OpenAi {
    fn server(&self) -> &Server {
        &self.0
    }

    fn judge(&self, _: &Utterance<'_>) -> Result<(), Unfit> {
        Ok(())
    }

    fn request(&self, utterance: &Utterance<'_>) -> Request {
        let mut body = json!({
            "model": self.0.model,
            "input": utterance.text,
            "voice": self.0.voice_of(utterance.voice),
            "response_format": self.0.format,
        });
        if let Some(instructions) = utterance.instructions {
            body["instructions"] = json!(instructions);
        }
        if let Some(speed) = utterance.unusual_speed() {
            body["speed"] = json!(speed);
        }
        let mut request = self.0.json(Method::POST, self.0.url(&["v1", "audio", "speech"]), Some(&body));
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("audio/*, application/octet-stream"));
        request
    }

    /// 24 kHz, 16 bit, one channel: <https://platform.openai.com/docs/guides/text-to-speech>
    fn raw(&self) -> Option<Raw> {
        (self.0.format == "pcm").then_some(Raw::s16le(24_000))
    }

    fn question(&self) -> Request {
        models(&self.0)
    }
}

impl Transcription for OpenAi {
    fn server(&self) -> &Server {
        &self.0
    }

    fn request(&self, file: &Recording) -> Request {
        let mut form = Multipart::new(&file.id)
            .file("file", &file.filename, &file.mime_type, &file.bytes)
            .text("model", &self.0.model)
            .text("response_format", "json");
        if let Some(language) = &self.0.language {
            form = form.text("language", language);
        }
        self.0.authorized(form.request(Method::POST, self.0.url(&["v1", "audio", "transcriptions"])))
    }

    fn read(&self, answer: &Value) -> Option<Transcript> {
        let text = answer.get("text")?.as_str()?.trim().to_owned();
        let heard = answer.get("language").and_then(transcription::language);
        Some(Transcript { text, language: heard.or_else(|| self.0.language.clone()) })
    }

    fn question(&self) -> Request {
        models(&self.0)
    }
}

fn models(server: &Server) -> Request {
    server.json(Method::GET, server.url(&["v1", "models"]), None)
}
