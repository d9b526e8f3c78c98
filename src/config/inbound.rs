//! `[tenants.X.inbound]`: the handling of voice notes that people send.

use std::time::Duration;

use serde::Deserialize;

use super::{build::Build, path::KeyPath, tenants::Inbound, values::Span24, words::no_such};
use voicegate_audio::{self as audio, Profile};

/// The section as written in the configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawInbound {
    renders: Vec<String>,
    accept_audio: bool,
    retention: Span24,
    transcribe: Option<String>,
}

impl Default for RawInbound {
    fn default() -> Self {
        Self {
            renders: ["wav16k-1", "mp3-1"].map(str::to_owned).to_vec(),
            accept_audio: false,
            retention: Span24(Duration::from_secs(24 * 60 * 60)),
            transcribe: None,
        }
    }
}

impl Build<'_> {
    pub(super) fn inbound(&mut self, path: &KeyPath, raw: RawInbound, transcription: &[String]) -> Inbound {
        if let Some(name) = raw.transcribe.as_ref().filter(|name| !transcription.contains(*name)) {
            let known: Vec<&str> = transcription.iter().map(String::as_str).collect();
            self.found.mistake(&path.key("transcribe"), no_such("transcription server", name, &known));
        }
        let mut renders: Vec<&'static Profile> = Vec::new();
        for (index, name) in raw.renders.iter().enumerate() {
            let item = path.key("renders").item(index);
            match audio::profile(name) {
                Some(profile) if renders.iter().any(|known| known.name == profile.name) => {
                    self.found.mistake(&item, format!("the profile \"{name}\" is named twice"));
                }
                Some(profile) => renders.push(profile),
                None => {
                    let names: Vec<_> = audio::PROFILES.iter().map(|profile| profile.name).collect();
                    self.found.mistake(&item, no_such("profile", name, &names));
                }
            }
        }
        Inbound {
            renders,
            accept_audio: raw.accept_audio,
            retention: raw.retention.0,
            transcribe: raw.transcribe,
        }
    }
}
