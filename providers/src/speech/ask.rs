//! Asks a server once, within its time limit.

use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use reqwest::{Request, Response, StatusCode};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    Raw, Recording, Server, Speech, Transcript, Transcription, Utterance,
    answer::{SERVER, SpeechError, judged, may_be_audio, may_be_json, stated_format},
    transcription::LONGEST_TEXT,
};
use crate::wire::{MAX_ANSWER, in_time, retry_after};

/// The bounds of one question.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The whole exchange, the body included.
    pub timeout: Duration,
    pub max_bytes: u64,
    /// The time on somebody else's clock, against which `Retry-After` is read.
    pub now: Timestamp,
}

/// Audio that a server has spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub size: u64,
    /// The format, if the audio has no header that says so.
    pub raw: Option<Raw>,
}

/// Lets a server speak, and writes the audio to `out`. A body that breaks off, or contradicts the length that was stated
/// for it, is an error.
///
/// # Errors
/// [`SpeechError`]; what was written to `out` until then is worthless.
pub async fn speak(
    speech: &dyn Speech,
    http: &reqwest::Client,
    utterance: &Utterance<'_>,
    limits: Limits,
    out: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<Spoken, SpeechError> {
    let request = speech.request(utterance);
    let spoken = async {
        let mut response = asked(speech.server(), http, request, limits, may_be_audio).await?;
        let raw = speech.raw().map(|raw| stated_format(raw, response.headers()));
        if response.content_length().is_some_and(|length| length > limits.max_bytes) {
            return Err(SpeechError::too_large(limits.max_bytes));
        }
        let mut size = 0_u64;
        while let Some(chunk) = response.chunk().await.map_err(|error| SpeechError::no_answer(&error))? {
            size += chunk.len() as u64;
            if size > limits.max_bytes {
                return Err(SpeechError::too_large(limits.max_bytes));
            }
            out.write_all(&chunk).await?;
        }
        out.flush().await?;
        if size == 0 {
            return Err(SpeechError::unavailable("the speech server answered with an empty body"));
        }
        Ok(Spoken { size, raw })
    };
    in_time(limits.timeout, spoken).await.unwrap_or_else(|| Err(late(limits)))
}

/// Lets a server write down what is spoken in `recording`.
///
/// # Errors
/// [`SpeechError`]
pub async fn transcribe(
    transcription: &dyn Transcription,
    http: &reqwest::Client,
    recording: &Recording,
    limits: Limits,
) -> Result<Transcript, SpeechError> {
    let request = transcription.request(recording);
    let read = async {
        let mut response = asked(transcription.server(), http, request, limits, may_be_json).await?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| SpeechError::no_answer(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(SpeechError::unavailable("the answer of the speech server is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        let answer = serde_json::from_slice(&body).ok();
        let heard = answer.and_then(|answer| transcription.read(&answer)).ok_or_else(|| {
            SpeechError::unavailable(
                "the answer of the speech server holds no text; check base_url and model",
            )
        })?;
        // A part of the words could mean something else than all of them.
        if heard.text.len() > LONGEST_TEXT {
            return Err(SpeechError::too_long());
        }
        Ok(heard)
    };
    in_time(limits.timeout, read).await.unwrap_or_else(|| Err(late(limits)))
}

/// Asks whether address and key are right. Returns a line for people.
///
/// # Errors
/// A line that says what to change.
pub async fn check(
    server: &Server,
    question: Request,
    http: &reqwest::Client,
    timeout: Duration,
) -> Result<String, String> {
    let answered = in_time(timeout, http.execute(question)).await;
    let answered = answered.ok_or_else(|| format!("nothing came within {} s", timeout.as_secs()))?;
    let response = answered.map_err(|error| SpeechError::no_answer(&error).detail)?;
    let (kind, model) = (server.kind, &server.model);
    match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err("refuses the key; check api_key".to_owned()),
        status if status.is_success() => Ok(format!("{kind}, model {model}: answers")),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
            Ok(format!("{kind}, model {model}: answers, but has no list of models to check the key with"))
        }
        status => Err(format!("answers {}; check base_url", status.as_u16())),
    }
}

async fn asked(
    server: &Server,
    http: &reqwest::Client,
    request: Request,
    limits: Limits,
    is_expected: fn(&str) -> bool,
) -> Result<Response, SpeechError> {
    let response = http.execute(request).await.map_err(|error| SpeechError::no_answer(&error))?;
    let wait = retry_after(response.headers(), limits.now);
    judged(server, response, wait, is_expected).await
}

fn late(limits: Limits) -> SpeechError {
    SpeechError::unavailable(format!("{SERVER} was not done within {} s", limits.timeout.as_secs_f64()))
}
