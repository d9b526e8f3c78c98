//! ElevenLabs: <https://elevenlabs.io/docs/api-reference/text-to-speech/convert>

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Audio, BAD_ANSWERS, audio, bad_answer, no_phone, status, tones, tones_of, wav};
use crate::Sandbox;
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;

/// Public on purpose: nothing real answers to it.
const KEY: &str = "sandbox-elevenlabs-key";
const VOICE: &str = "21m00Tcm4TlvDq8ikWAM";
const LONGEST: usize = 5000;

pub(crate) struct ElevenLabs;

impl Emulator for ElevenLabs {
    fn name(&self) -> &'static str {
        "elevenlabs"
    }

    fn look(&self) -> Look {
        no_phone()
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new()
            .route("/v1/text-to-speech/{voice}", post(speak))
            .route("/v1/models", get(models))
            .with_state(sandbox.clone())
    }

    fn classify(&self, _: &Method, path: &str) -> Operation {
        match path {
            path if path.starts_with("v1/text-to-speech/") => Operation::Speech,
            "v1/models" => Operation::Session,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, code: u16, _: Option<u64>) -> Response {
        let (name, message) = match code {
            401 => ("invalid_api_key", "Invalid API key"),
            429 => ("too_many_concurrent_requests", "Too many concurrent requests."),
            500.. => ("system_busy", "The system is experiencing heavy traffic."),
            _ => ("scripted", "voicegate sandbox: scripted"),
        };
        refused(code, name, message)
    }

    fn refusals(&self) -> &'static [&'static str] {
        &BAD_ANSWERS
    }

    fn refusal(&self, name: &str) -> Response {
        bad_answer(name, refused(401, "quota_exceeded", "This request exceeds your quota of 10000."))
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        vec![KEY]
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({ "kind": "elevenlabs", "base_url": base_url, "api_key": KEY, "voice": VOICE })
    }
}

fn refused(code: u16, name: &str, message: impl Into<String>) -> Response {
    (status(code), Json(json!({ "detail": { "status": name, "message": message.into() } }))).into_response()
}

/// A body that breaks a rule of its schema.
fn rule(field: &str, message: &str) -> Response {
    let detail = json!([{ "loc": ["body", field], "msg": message, "type": "value_error" }]);
    (status(422), Json(json!({ "detail": detail }))).into_response()
}

fn authenticate(headers: &HeaderMap) -> Result<(), Response> {
    let given = headers.get("xi-api-key").and_then(|value| value.to_str().ok());
    if given == Some(KEY) { Ok(()) } else { Err(refused(401, "invalid_api_key", "Invalid API key")) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    output_format: Option<String>,
}

async fn speak(
    State(sandbox): State<Sandbox>,
    Path(voice): Path<String>,
    Query(Asked { output_format }): Query<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let format = output_format.unwrap_or_else(|| "mp3_44100_128".to_owned());
    match spoken(&sandbox, &voice, &format, &headers, &body) {
        Ok(spoken) => audio(spoken),
        Err(refused) => refused,
    }
}

fn spoken(
    sandbox: &Sandbox,
    voice: &str,
    format: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Audio, Response> {
    authenticate(headers)?;
    if voice == "nobody" {
        return Err(refused(404, "voice_not_found", "A voice with voice_id nobody was not found."));
    }
    let Ok(Value::Object(asked)) = serde_json::from_slice::<Value>(body) else {
        return Err(rule("", "the body must be a JSON object"));
    };
    if let Some(name) =
        asked.keys().find(|name| !["text", "model_id", "voice_settings"].contains(&name.as_str()))
    {
        return Err(rule(name, "extra fields are not permitted"));
    }
    let text = asked.get("text").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| rule("text", "field required"))?;
    if text.chars().count() > LONGEST {
        return Err(refused(400, "max_character_limit_exceeded", "The text is too long."));
    }
    let speed = asked.get("voice_settings").and_then(|settings| settings.get("speed"));
    let speed = speed.map_or(Some(1.0), Value::as_f64).filter(|speed| (0.7..=1.2).contains(speed));
    let speed =
        speed.ok_or_else(|| refused(400, "invalid_voice_settings", "speed must be from 0.7 to 1.2"))?;
    let tones = tones_of(sandbox, text);
    let rate = |codec: &str| format.strip_prefix(codec)?.parse::<u32>().ok().filter(|rate| *rate <= 48_000);
    if let Some(rate) = rate("pcm_") {
        return Ok(("audio/pcm", wav::bytes(&tones::samples(&tones, rate, speed))));
    }
    if let Some(rate) = rate("ulaw_") {
        return Ok(("audio/basic", wav::mulaw(&tones::samples(&tones, rate, speed))));
    }
    if format.starts_with("mp3_") {
        return Ok(("audio/mpeg", tones::mp3(&tones)));
    }
    Err(refused(400, "invalid_output_format", "this sandbox speaks mp3_, pcm_ and ulaw_ formats"))
}

async fn models(headers: HeaderMap) -> Response {
    if let Err(refused) = authenticate(&headers) {
        return refused;
    }
    Json(json!([{ "model_id": "eleven_multilingual_v2", "can_do_text_to_speech": true }])).into_response()
}
