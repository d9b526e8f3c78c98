//! The converter that Evolution calls for audio (`API_AUDIO_CONVERTER`).
//! <https://github.com/EvolutionAPI/evolution-audio-converter>

use std::{io, sync::Arc};

use axum::{
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, HeaderName},
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{Order, Shape, look, seconds};
use crate::{
    config::Tenant,
    delivery::render::{Pieces, RenderRequest, RenderTarget, Rendered, render},
    http::{App, auth},
    model::problem::Problem,
};

/// The profile of a WhatsApp voice note.
pub const VOICE: &str = "whatsapp-1";

/// The profile for MP3.
const MP3: &str = "mp3-1";

const AUDIO: Shape = Shape { members: &[&["base64"], &["url"]], texts: &["base64", "url"], files: &["file"] };

/// The tenant of the key in the header `apikey`.
pub struct Caller(Arc<Tenant>);

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let key = parts.headers.get("apikey").and_then(|key| key.to_str().ok()).map(str::trim);
        auth::tenant(app, &parts.extensions, key, "send the header `apikey` with the key of the tenant")
            .await
            .map(Self)
    }
}

/// Audio: one of `file`, `base64` and `url`. Other fields are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `process` reads in the document")]
struct ConverterRequest {
    #[schema(value_type = Option<String>, format = Binary)]
    file: Option<String>,
    /// Base64 or a data URI.
    base64: Option<String>,
    /// An http or https address.
    url: Option<String>,
    /// `ogg` for a WhatsApp voice note, or `mp3`.
    #[schema(default = "ogg", examples("ogg"))]
    format: Option<String>,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `process` writes in the document")]
struct ConverterResult {
    /// Whole seconds, at least 1.
    #[schema(minimum = 1, examples(10))]
    duration: u64,
    #[schema(examples("ogg"))]
    format: String,
    /// Base64.
    audio: String,
}

/// Convert audio
///
/// Nothing is sent or stored.
#[utoipa::path(
    post, path = "/compat/converter/process-audio", tag = "Converter", operation_id = "converterProcessAudio",
    request_body(content(
        (ConverterRequest = "multipart/form-data"),
        (ConverterRequest = "application/x-www-form-urlencoded"),
        (ConverterRequest = "application/json"),
    )),
    responses((status = 200, description = "The converted audio.", body = ConverterResult)),
)]
pub async fn process(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Response, Problem> {
    let order = look(&app, &tenant, request, AUDIO).await?;
    let format = order.fields.text(&["format"]).unwrap_or_else(|| "ogg".to_owned()).to_ascii_lowercase();
    let profile = match format.as_str() {
        "ogg" => VOICE,
        "mp3" => MP3,
        _ => return Err(Problem::invalid("format", "expected ogg or mp3")),
    };
    let rendered = converted(&app, &tenant, order, profile).await?;
    let head =
        format!("{{\"duration\":{},\"format\":\"{format}\",\"audio\":\"", seconds(&rendered.sent.facts));
    Ok(with_base64(head, rendered.pieces().await?, "\"}"))
}

/// Reads a request and converts its audio. Nothing is stored.
///
/// # Errors
/// A problem with the request, its tenant, the audio or the gateway.
pub async fn convert(
    app: &App,
    tenant: &Tenant,
    request: Request,
    shape: Shape,
    profile: &str,
) -> Result<Rendered, Problem> {
    let order = look(app, tenant, request, shape).await?;
    converted(app, tenant, order, profile).await
}

async fn converted(app: &App, tenant: &Tenant, mut order: Order, profile: &str) -> Result<Rendered, Problem> {
    let Some(audio) = order.audio.take() else {
        return Err(Problem::invalid("audio", "there is no audio: send one of file, base64 and url"));
    };
    let profile = voicegate_audio::profile(profile).ok_or_else(Problem::internal)?;
    let request = RenderRequest::new(audio, order.hints(None, None));
    render(&app.gateway, tenant, RenderTarget::Profile(profile), request).await
}

/// Audio as it is, piece by piece.
pub fn plain(pieces: Pieces) -> Body {
    Body::from_stream(stream_of(pieces))
}

/// A JSON object of `head`, audio as base64, and `tail`, so that the audio is never whole in memory.
pub fn with_base64(head: String, pieces: Pieces, tail: &'static str) -> Response {
    // Each piece but the last has a multiple of three bytes, so their texts form one.
    let encoded =
        stream_of(pieces).map(|piece| piece.map(|bytes| Bytes::from(BASE64_STANDARD.encode(bytes))));
    let (head, tail) = (Bytes::from(head), Bytes::from_static(tail.as_bytes()));
    let all = stream::iter([Ok(head)]).chain(encoded).chain(stream::iter([Ok(tail)]));
    let kind: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "application/json")];
    (kind, Body::from_stream(all)).into_response()
}

fn stream_of(pieces: Pieces) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(pieces, |mut pieces| async move {
        let piece = pieces.next().await?;
        Ok(piece.map(|piece| (piece, pieces)))
    })
}

/// A problem as the converter shows it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for what `problem` makes in the document")]
pub struct ConverterProblem {
    #[schema(examples("there is no audio"))]
    error: String,
}

pub fn problem(problem: &Problem) -> (StatusCode, Value) {
    let status = super::status(problem, StatusCode::UNPROCESSABLE_ENTITY);
    (status, json!({ "error": problem.to_string() }))
}
