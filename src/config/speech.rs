//! The speech and transcription servers of tenants.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use voicegate_providers::speech::{Kind, SPEECH, ServerSettings, Speech, TRANSCRIPTION, Transcription};

use super::{build::Build, path::KeyPath, secrets::secret, values::Span24, words::no_such};

/// `[tenants.T.speech.NAME]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSpeech {
    kind: String,
    base_url: Option<String>,
    api_key: Option<Value>,
    model: Option<String>,
    voice: Option<String>,
    format: Option<String>,
    #[serde(default = "default_timeout")]
    timeout: Span24,
}

/// `[tenants.T.transcription.NAME]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTranscription {
    kind: String,
    base_url: Option<String>,
    api_key: Option<Value>,
    model: Option<String>,
    language: Option<String>,
    #[serde(default = "default_timeout")]
    timeout: Span24,
}

fn default_timeout() -> Span24 {
    Span24(Duration::from_secs(60))
}

/// A server that speaks, or one that transcribes.
pub struct AudioServer<T: ?Sized> {
    pub name: String,
    pub adapter: Arc<T>,
    /// The time limit for one answer.
    pub timeout: Duration,
}

impl<T: ?Sized> fmt::Debug for AudioServer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AudioServer").field("name", &self.name).finish_non_exhaustive()
    }
}

pub type SpeechServer = AudioServer<dyn Speech>;

pub type TranscriptionServer = AudioServer<dyn Transcription>;

impl Build<'_> {
    pub(super) fn speech(
        &mut self,
        path: &KeyPath,
        raw: BTreeMap<String, RawSpeech>,
    ) -> BTreeMap<String, SpeechServer> {
        let mut built = BTreeMap::new();
        for (name, raw) in raw {
            let path = path.key(&name);
            let RawSpeech { kind, base_url, api_key, model, voice, format, timeout } = raw;
            let settings = ServerSettings { base_url, model, voice, format, ..ServerSettings::default() };
            let server = Raw { kind, api_key, timeout, settings };
            built.extend(self.server(&path, name.clone(), server, SPEECH).map(|server| (name, server)));
        }
        built
    }

    pub(super) fn transcription(
        &mut self,
        path: &KeyPath,
        raw: BTreeMap<String, RawTranscription>,
    ) -> BTreeMap<String, TranscriptionServer> {
        let mut built = BTreeMap::new();
        for (name, raw) in raw {
            let path = path.key(&name);
            let RawTranscription { kind, base_url, api_key, model, language, timeout } = raw;
            let settings = ServerSettings { base_url, model, language, ..ServerSettings::default() };
            let server = Raw { kind, api_key, timeout, settings };
            built
                .extend(self.server(&path, name.clone(), server, TRANSCRIPTION).map(|server| (name, server)));
        }
        built
    }

    fn server<T: ?Sized>(
        &mut self,
        path: &KeyPath,
        name: String,
        raw: Raw,
        kinds: &[Kind<T>],
    ) -> Option<AudioServer<T>> {
        self.name(path, &name);
        if raw.timeout.0.is_zero() {
            self.found.mistake(&path.key("timeout"), "expected a duration above zero");
        }
        let key = raw.api_key.map(|value| secret(&value, self.surroundings.env)).transpose();
        let api_key = match key {
            Ok(key) => key.map(SecretString::from),
            Err(why) => {
                self.found.mistake(&path.key("api_key"), why);
                None
            }
        };
        let Some(kind) = kinds.iter().find(|kind| kind.name == raw.kind) else {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name).collect();
            self.found.mistake(&path.key("kind"), no_such("kind of server", &raw.kind, &names));
            return None;
        };
        match (kind.build)(ServerSettings { api_key, ..raw.settings }) {
            Ok(adapter) => Some(AudioServer { name, adapter, timeout: raw.timeout.0 }),
            Err(error) => {
                self.found.mistake(&path.key(&error.key), error.message);
                None
            }
        }
    }
}

/// The keys that both kinds of server have, and the others.
struct Raw {
    kind: String,
    api_key: Option<Value>,
    timeout: Span24,
    settings: ServerSettings,
}
