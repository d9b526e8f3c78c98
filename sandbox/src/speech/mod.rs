//! Speech and transcription servers. `/openai` has `POST /v1/audio/speech` and `POST /v1/audio/transcriptions`, `/elevenlabs`
//! has `POST /v1/text-to-speech/{voice}`. They speak in tones (`tones.rs`), so that every text has its own sound, and a
//! transcription finds the text again.

mod elevenlabs;
mod openai;
mod tones;
mod wav;

use std::collections::HashMap;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::Sandbox;
use crate::emulator::Look;

pub(crate) use elevenlabs::ElevenLabs;
pub(crate) use openai::OpenAi;

/// The texts that were spoken, by the characters that have a tone. Tones know no capitals.
#[derive(Default)]
struct Spoken {
    texts: HashMap<String, String>,
}

/// The most texts that are remembered.
const REMEMBERED: usize = 10_000;

/// Answers of a server that does its work badly, which a fault may ask for by name.
const BAD_ANSWERS: [&str; 6] = ["half_file", "half_framed", "web_page", "empty", "json", "quota"];

/// An audio format: its type and the audio.
type Audio = (&'static str, Vec<u8>);

/// Remembers a text, and returns its tones.
fn tones_of(sandbox: &Sandbox, text: &str) -> Vec<usize> {
    let tones = tones::tones(text);
    let mut state = sandbox.inner.lock();
    let texts = &mut state.own::<Spoken>().texts;
    if texts.len() < REMEMBERED {
        texts.insert(tones::text_of(&tones), text.trim().to_owned());
    }
    tones
}

/// The text of a recording, if it is in tones.
fn text_in(sandbox: &Sandbox, file: &[u8]) -> Option<String> {
    let (samples, rate) = wav::read(file)?;
    let plain = tones::text_of(&tones::heard(&samples, rate)?);
    let mut state = sandbox.inner.lock();
    Some(state.own::<Spoken>().texts.get(&plain).cloned().unwrap_or(plain))
}

fn audio((kind, bytes): Audio) -> Response {
    ([(header::CONTENT_TYPE, kind)], bytes).into_response()
}

/// One of [`BAD_ANSWERS`]. `quota` is the server's own refusal.
fn bad_answer(name: &str, quota: Response) -> Response {
    let whole =
        || wav::file(&tones::samples(&tones::tones("half of this is missing"), 24_000, 1.0), 24_000, false);
    match name {
        // The connection breaks before the length that was stated.
        "half_file" => {
            let whole = whole();
            let half = Bytes::copy_from_slice(&whole[..whole.len() / 2]);
            let broken =
                futures_util::stream::iter([Ok(half), Err(std::io::Error::other("scripted: broken off"))]);
            let mut response = Body::from_stream(broken).into_response();
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("audio/wav"));
            headers.insert(header::CONTENT_LENGTH, whole.len().into());
            response
        }
        // The transfer is complete, and the file is not.
        "half_framed" => {
            let whole = whole();
            audio(("audio/wav", whole[..whole.len() / 2].to_vec()))
        }
        "web_page" => {
            let page = "<!doctype html><html><head><title>Sign in</title></head><body>Sign in</body></html>";
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
        }
        "empty" => audio(("audio/wav", Vec::new())),
        "json" => {
            ([(header::CONTENT_TYPE, "application/json")], r#"{"message":"the model is being loaded"}"#)
                .into_response()
        }
        _ => quota,
    }
}

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// These servers have no phone on the page.
fn no_phone() -> Look {
    Look { app: "", through: "", to: "", bubble: "", ink: "" }
}
