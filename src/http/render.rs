//! `POST /render`: the audio that would be sent, as the answer.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::stream;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded;
use utoipa::ToSchema;
use voicegate_providers::Degrade;

use super::{
    App,
    auth::Caller,
    body::{self, Submission},
    openapi::{Bytes as AudioBody, RenderForm, RenderRequestBody},
};
use crate::{
    config::Tenant,
    delivery::render::{Pieces, RenderRequest, RenderTarget, Rendered, render},
    model::{
        code::{Code, Stage},
        note::{ConvertChoice, TextAs},
        problem::Problem,
    },
    view::{
        RenderedAudio, RenderedFacts,
        grammar::Span,
        schema::{ConvertWish, Substitute},
    },
};
use voicegate_audio::profile;

const DURATION: HeaderName = HeaderName::from_static("voicegate-duration-ms");
const WAVEFORM: HeaderName = HeaderName::from_static("voicegate-waveform");
const WORK: HeaderName = HeaderName::from_static("voicegate-work");
const CHECKS: HeaderName = HeaderName::from_static("voicegate-checks");

/// The fields of `POST /voice` besides the recipient and the audio. Those that do not change the audio are checked and
/// have no effect.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RenderFields {
    #[serde(default, deserialize_with = "body::choice")]
    #[schema(value_type = Option<ConvertWish>)]
    convert: Option<ConvertChoice>,
    /// The words of the note as a text, which matter only where a text may take the place of the audio.
    #[schema(examples("Your parcel is here."))]
    text: Option<String>,
    /// As with `POST /voice`.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<TextAs>, default = "fallback")]
    text_as: TextAs,
    /// Forms that may replace a voice bubble that is not possible. Default: what the connection's configuration says.
    #[serde(default, deserialize_with = "body::degrade")]
    #[schema(value_type = Option<Vec<Substitute>>, examples(json!(["audio", "text"])))]
    degrade: Option<Degrade>,
    /// Refuse audio that contradicts itself, or that exceeds what a recipient is shown as a voice note.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<bool>, default = false)]
    strict: bool,
    /// As with `POST /voice`; only the connection that `for` names.
    via: Option<String>,
    /// As with `POST /voice`, without effect on the audio.
    #[expect(dead_code, reason = "judged here, and without effect")]
    reply_to: Option<String>,
    /// As with `POST /voice`, without effect on the audio.
    #[serde(default, deserialize_with = "body::time")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[expect(dead_code, reason = "judged here, and without effect")]
    send_at: Option<Timestamp>,
    /// As with `POST /voice`, without effect on the audio.
    #[serde(default, deserialize_with = "body::span")]
    #[schema(value_type = Option<Span>)]
    #[expect(dead_code, reason = "judged here, and without effect")]
    expires_in: Option<Duration>,
    /// As with `POST /voice`, without effect on the audio.
    #[serde(default, deserialize_with = "body::or_default")]
    #[schema(value_type = Option<Object>, examples(json!({ "order": 7 })))]
    #[expect(dead_code, reason = "judged here, and without effect")]
    metadata: Map<String, Value>,
}

impl body::Fields for RenderFields {}

/// Render audio
///
/// Takes the request of `POST /voice` without `to`, and answers with the bytes that would be sent: to the connection that
/// `for` names, or by the profile that `profile` names. Exactly one of the two is given. The rules are those of sending,
/// so the bytes are the same. Nothing is stored or sent.
#[utoipa::path(
    post, path = "/render", tag = "Voice notes", operation_id = "renderAudio",
    params(
        (
            "for" = Option<String>, Query, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_-]+$",
            example = "whatsapp", description = "The connection, in whose best form the audio is made.",
        ),
        (
            "profile" = Option<String>, Query, min_length = 1, max_length = 64, pattern = "^[a-z0-9-]+$",
            example = "whatsapp-1",
            description = "The profile, instead of a connection. `voicegate profiles` and `GET /connections` name them.",
        ),
        (
            "If-None-Match" = Option<String>, Header, example = "\"2c26b46b68ffc68f\"",
            description = "304 without a body if the audio has this `ETag`.",
        ),
    ),
    request_body(
        description = "As with `POST /voice`, without `to`.",
        content(
            (RenderRequestBody = "application/json"),
            (RenderForm = "multipart/form-data"),
            (inline(AudioBody) = "audio/*"),
            (inline(AudioBody) = "video/*"),
            (inline(AudioBody) = "application/ogg"),
            (inline(AudioBody) = "application/octet-stream"),
            (inline(AudioBody) = "binary/octet-stream"),
        ),
    ),
    responses(
        (
            status = 200, description = "The audio; or, with `Accept: application/json`, the same as JSON with its facts.",
            content((inline(AudioBody) = "audio/*"), (RenderedAudio = "application/json")),
        ),
        (status = 304, description = "The audio has one of the tags in `If-None-Match`."),
    ),
)]
pub async fn audio(
    State(app): State<App>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Response, Problem> {
    let gateway = &*app.gateway;
    gateway.accept_gate.pass(&tenant.name).await?;
    let (named, request) = Named::take(request)?;
    let target = named.find(&tenant)?;
    let headers = request.headers().clone();
    let Submission { fields, audio, hints, held, .. } =
        body::read::<RenderFields>(&app, &tenant.name, request).await?;
    if let Some(via) = &fields.via
        && named.connection() != Some(via)
    {
        return Err(Problem::invalid("via", "the connection is named in the query, as in ?for=NAME"));
    }
    let request = RenderRequest {
        audio,
        hints,
        convert: fields.convert,
        text: fields.text,
        text_as: fields.text_as,
        degrade: fields.degrade,
        strict: fields.strict,
    };
    let rendered = render(gateway, &tenant, target, request).await?;
    drop(held);
    answer(rendered, &headers).await
}

/// The query's `for` or `profile`.
enum Named {
    Connection(String),
    Profile(String),
}

impl Named {
    /// Takes the two parameters out of the query. The rest of it has the fields of a raw body.
    fn take(request: Request) -> Result<(Self, Request), Problem> {
        let (mut parts, body) = request.into_parts();
        let (mut connection, mut profile) = (None, None);
        let mut rest = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            let place = match &*name {
                "for" => &mut connection,
                "profile" => &mut profile,
                _ => {
                    rest.append_pair(&name, &value);
                    continue;
                }
            };
            if place.replace(value.into_owned()).is_some() {
                return Err(Problem::invalid(name, "the parameter is given twice"));
            }
        }
        let path = format!("{}?{}", parts.uri.path(), rest.finish());
        // The path was a URI before, and the query is encoded.
        parts.uri = path.parse().map_err(|_| Problem::invalid("query", "this is no valid query"))?;
        let named = match (connection, profile) {
            (Some(connection), None) => Self::Connection(connection),
            (None, Some(profile)) => Self::Profile(profile),
            (Some(_), Some(_)) => {
                return Err(Problem::invalid(
                    "for",
                    "give either ?for=CONNECTION or ?profile=NAME, not both",
                ));
            }
            (None, None) => {
                let detail = "say what the audio is for: ?for=CONNECTION or ?profile=NAME";
                return Err(Problem::invalid("for", detail));
            }
        };
        Ok((named, Request::from_parts(parts, body)))
    }

    fn connection(&self) -> Option<&String> {
        match self {
            Self::Connection(name) => Some(name),
            Self::Profile(_) => None,
        }
    }

    fn find<'a>(&self, tenant: &'a Tenant) -> Result<RenderTarget<'a>, Problem> {
        match self {
            Self::Connection(name) => match tenant.connections.get(name) {
                Some(connection) => Ok(RenderTarget::Connection(connection)),
                None => {
                    let detail = match tenant.routes.get(name) {
                        Some(route) => {
                            format!("this is a route; name one of its connections: {}", route.join(", "))
                        }
                        None => "there is no connection of this name; GET /connections lists them".to_owned(),
                    };
                    Err(Problem::new(Code::UnknownConnection, detail).stage(Stage::Request).field("for"))
                }
            },
            Self::Profile(name) => profile(name).map(RenderTarget::Profile).ok_or_else(|| {
                Problem::invalid(
                    "profile",
                    "there is no profile of this name; `voicegate profiles` lists them",
                )
            }),
        }
    }
}

async fn answer(rendered: Rendered, asked: &HeaderMap) -> Result<Response, Problem> {
    let (facts, as_json) = (&rendered.sent.facts, wants_json(asked));
    // The two representations have different bytes, so they have different tags.
    let etag = if as_json { format!("\"{}-json\"", facts.sha256) } else { format!("\"{}\"", facts.sha256) };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    insert(headers, header::ETAG, &etag);
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    if matches(asked, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    insert(headers, DURATION, &facts.duration_ms.to_string());
    insert(headers, WAVEFORM, &BASE64_STANDARD.encode(&rendered.source.waveform));
    insert(headers, WORK, &rendered.sent.work.to_string());
    insert(headers, CHECKS, &rendered.sent.checks.join(", "));
    let body = if as_json {
        insert(headers, header::CONTENT_TYPE, "application/json");
        let facts = RenderedFacts {
            source: (&rendered.source.facts).into(),
            sent: (&rendered.sent).into(),
            waveform: rendered.source.waveform.clone(),
            checks: rendered.sent.checks.clone(),
        };
        json(&facts, rendered.pieces().await?)?
    } else {
        insert(headers, header::CONTENT_TYPE, &facts.mime_type);
        insert(headers, header::CONTENT_LENGTH, &facts.size_bytes.to_string());
        insert(
            headers,
            header::CONTENT_DISPOSITION,
            &format!("inline; filename=\"voice.{}\"", facts.extension()),
        );
        let pieces = rendered.pieces().await?;
        Body::from_stream(stream::try_unfold(pieces, async |mut pieces| {
            Ok::<_, std::io::Error>(pieces.next().await?.map(|piece| (piece, pieces)))
        }))
    };
    *response.body_mut() = body;
    Ok(response.into_response())
}

/// Writes a [`RenderedAudio`] piece by piece, so that large audio is never whole in memory.
fn json(facts: &RenderedFacts, pieces: Pieces) -> Result<Body, Problem> {
    enum Next {
        Data(Pieces),
        End,
    }
    let facts = serde_json::to_string(facts).map_err(|error| {
        tracing::error!(%error, "facts about audio cannot be written as JSON");
        Problem::internal()
    })?;
    let start = Bytes::from(format!("{{\"audio\":{facts},\"data\":\""));
    let data = stream::try_unfold(Next::Data(pieces), async |next| {
        Ok::<_, std::io::Error>(match next {
            Next::Data(mut pieces) => match pieces.next().await? {
                Some(piece) => Some((Bytes::from(BASE64_STANDARD.encode(piece)), Next::Data(pieces))),
                None => Some((Bytes::from_static(b"\"}"), Next::End)),
            },
            Next::End => None,
        })
    });
    let start = stream::once(async move { Ok::<_, std::io::Error>(start) });
    Ok(Body::from_stream(futures_util::StreamExt::chain(start, data)))
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Whether `If-None-Match` names the tag (RFC 9110, section 13.1.2).
fn matches(headers: &HeaderMap, etag: &str) -> bool {
    let lists = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(|tag| tag.trim())
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Whether the caller asks for JSON: by name, and not less than for audio.
fn wants_json(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let (mut json, mut sound) = (0.0_f32, 0.0_f32);
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';');
        let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let weight = parts
            .filter_map(|parameter| parameter.trim().strip_prefix("q="))
            .find_map(|weight| weight.trim().parse::<f32>().ok())
            .unwrap_or(1.0);
        match kind.as_str() {
            "application/json" => json = json.max(weight),
            kind if kind.starts_with("audio/") => sound = sound.max(weight),
            _ => {}
        }
    }
    json > 0.0 && json >= sound
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))])
    }

    #[test]
    fn json_is_given_to_those_who_name_it() {
        for value in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json, */*",
            "audio/*;q=0.5, application/json",
        ] {
            assert!(wants_json(&accepting(value)), "{value}");
        }
        for value in [
            "",
            "*/*",
            "audio/*",
            "audio/ogg, application/json;q=0.9",
            "application/json;q=0",
            "application/*",
        ] {
            assert!(!wants_json(&accepting(value)), "{value}");
        }
    }

    #[test]
    fn tags_are_compared_whole() {
        let asked = |value: &'static str| {
            HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(value))])
        };
        for value in ["\"a1\"", "*", "\"x\", \"a1\"", "W/\"a1\""] {
            assert!(matches(&asked(value), "\"a1\""), "{value}");
        }
        for value in ["a1", "\"a\"", "\"a1", ""] {
            assert!(!matches(&asked(value), "\"a1\""), "{value}");
        }
    }
}
