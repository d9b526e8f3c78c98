//! OpenAI's audio API: <https://platform.openai.com/docs/api-reference/audio>

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Audio, BAD_ANSWERS, audio, bad_answer, no_phone, status, text_in, tones, tones_of, wav};
use crate::Sandbox;
use crate::emulator::{Emulator, Look};
use crate::faults::Operation;
use crate::form;

/// Public on purpose: nothing real answers to it.
const KEY: &str = "sandbox-openai-key";
const RATE: u32 = 24_000;
const LONGEST: usize = 4096;

pub(crate) struct OpenAi;

impl Emulator for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn look(&self) -> Look {
        no_phone()
    }

    fn router(&self, sandbox: &Sandbox) -> Router {
        Router::new()
            .route("/v1/audio/speech", post(speak))
            .route("/v1/audio/transcriptions", post(transcribe))
            .route("/v1/models", get(models))
            .with_state(sandbox.clone())
    }

    fn classify(&self, _: &Method, path: &str) -> Operation {
        match path {
            "v1/audio/speech" => Operation::Speech,
            "v1/audio/transcriptions" => Operation::Transcription,
            "v1/models" => Operation::Session,
            _ => Operation::Other,
        }
    }

    fn scripted(&self, code: u16, _: Option<u64>) -> Response {
        let (kind, message) = match code {
            401 => ("invalid_request_error", format!("Incorrect API key provided: {KEY}.")),
            429 => ("requests", "Rate limit reached for gpt-4o-mini-tts".to_owned()),
            500.. => ("server_error", "The server had an error while processing your request.".to_owned()),
            _ => ("invalid_request_error", "voicegate sandbox: scripted".to_owned()),
        };
        refused(code, kind, None, message)
    }

    fn refusals(&self) -> &'static [&'static str] {
        &BAD_ANSWERS
    }

    fn refusal(&self, name: &str) -> Response {
        let message = "You exceeded your current quota, please check your plan and billing details.";
        bad_answer(name, refused(429, "insufficient_quota", Some("insufficient_quota"), message))
    }

    fn secrets<'a>(&self, _: &'a Sandbox) -> Vec<&'a str> {
        vec![KEY]
    }

    fn settings(&self, _: &Sandbox, base_url: &str) -> Value {
        json!({ "kind": "openai", "base_url": base_url, "api_key": KEY })
    }
}

fn refused(code: u16, kind: &str, name: Option<&str>, message: impl Into<String>) -> Response {
    let error = json!({ "error": { "message": message.into(), "type": kind, "param": null, "code": name } });
    (status(code), Json(error)).into_response()
}

fn invalid(message: impl Into<String>) -> Response {
    refused(400, "invalid_request_error", None, message)
}

fn authenticate(headers: &HeaderMap) -> Result<(), Response> {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    match given.strip_prefix("Bearer ") {
        Some(KEY) => Ok(()),
        Some(other) => {
            let shown: String = other.chars().take(5).collect();
            let message = format!("Incorrect API key provided: {shown}****************.");
            Err(refused(401, "invalid_request_error", Some("invalid_api_key"), message))
        }
        None => Err(refused(401, "invalid_request_error", None, "You didn't provide an API key.")),
    }
}

async fn speak(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Bytes) -> Response {
    match spoken(&sandbox, &headers, &body) {
        Ok(spoken) => audio(spoken),
        Err(refused) => refused,
    }
}

fn spoken(sandbox: &Sandbox, headers: &HeaderMap, body: &Bytes) -> Result<Audio, Response> {
    authenticate(headers)?;
    let Ok(Value::Object(asked)) = serde_json::from_slice::<Value>(body) else {
        return Err(invalid("the body must be a JSON object"));
    };
    let known = ["model", "input", "voice", "response_format", "speed", "instructions", "stream_format"];
    if let Some(name) = asked.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(invalid(format!("Unrecognized request argument supplied: {name}")));
    }
    let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
    for name in ["model", "input", "voice"] {
        if text(name).trim().is_empty() {
            return Err(invalid(format!("Missing required parameter: '{name}'.")));
        }
    }
    if text("voice") == "nobody" {
        return Err(invalid("Input should be 'alloy', 'ash', 'ballad' or another voice."));
    }
    if text("input").chars().count() > LONGEST {
        return Err(invalid(format!("String should have at most {LONGEST} characters")));
    }
    let speed =
        asked.get("speed").map_or(Some(1.0), Value::as_f64).filter(|speed| (0.25..=4.0).contains(speed));
    let speed = speed.ok_or_else(|| invalid("speed must be from 0.25 to 4.0"))?;
    let tones = tones_of(sandbox, text("input"));
    let samples = || tones::samples(&tones, RATE, speed);
    match asked.get("response_format").and_then(Value::as_str).unwrap_or("mp3") {
        "wav" => Ok(("audio/wav", wav::file(&samples(), RATE, true))),
        "pcm" => Ok(("audio/pcm", wav::bytes(&samples()))),
        "mp3" => Ok(("audio/mpeg", tones::mp3(&tones))),
        other => Err(invalid(format!("this sandbox speaks wav, mp3 and pcm, and not {other}"))),
    }
}

async fn transcribe(State(sandbox): State<Sandbox>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refused) = authenticate(&headers) {
        return refused;
    }
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(parts) = form::parts(kind, body).await else {
        return invalid("the body must be multipart/form-data");
    };
    let part = |name: &str| parts.iter().find(|part| part.name == name);
    let Some(file) = part("file").filter(|part| part.filename.is_some()) else {
        return invalid("Missing required parameter: 'file'.");
    };
    if part("model").is_none_or(|model| model.text().trim().is_empty()) {
        return invalid("Missing required parameter: 'model'.");
    }
    let info = crate::audio::describe(&file.bytes);
    let Some(length) = info.duration_ms else {
        return invalid("The audio file could not be decoded or its format is not supported.");
    };
    let text = text_in(&sandbox, &file.bytes)
        .unwrap_or_else(|| format!("somebody speaks for {:.1} seconds", length as f64 / 1000.0));
    Json(json!({ "text": text })).into_response()
}

async fn models(headers: HeaderMap) -> Response {
    if let Err(refused) = authenticate(&headers) {
        return refused;
    }
    let model = |id: &str| json!({ "id": id, "object": "model", "owned_by": "sandbox" });
    let models = ["gpt-4o-mini-tts", "gpt-4o-mini-transcribe"].map(model);
    (StatusCode::OK, Json(json!({ "object": "list", "data": models }))).into_response()
}
