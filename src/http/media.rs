//! Downloads of audio: by its owner, and by providers with a signed link. Audio that is kept in the database is answered
//! from memory. For files, and for requests with conditions, tower-http handles ranges, conditions and HEAD.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use jiff::Timestamp;
use mime::Mime;
use serde::Deserialize;
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa::IntoParams;

use super::{auth::Caller, notes::find, query::unfit, received};
use crate::{
    gateway::Gateway,
    media::{AudioFile, AudioVariant, LinkError},
    model::{
        code::Code,
        note::{Note, NoteId},
        problem::Problem,
    },
    store::StoreError,
    view::schema::YesOrNo,
};
use voicegate_audio::Work;
use voicegate_providers::AudioFacts;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Choice {
    /// `1` returns the original instead of the audio that was sent.
    #[param(value_type = Option<YesOrNo>, inline, example = "1")]
    source: Option<String>,
}

/// Download a note's audio
///
/// The audio as it was sent, or the original with `?source=1`. It is kept for `storage.retention` after the note's end.
#[utoipa::path(
    get, path = "/voice/{id}/audio", tag = "Voice notes", operation_id = "downloadVoiceAudio",
    params(("id" = NoteId, Path, description = "The note."), Choice),
    responses((status = 200, description = "The audio.")),
)]
pub async fn of_note(
    State(gateway): State<Arc<Gateway>>,
    Caller(tenant): Caller,
    id: Result<Path<String>, PathRejection>,
    choice: Result<Query<Choice>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(choice) = choice.map_err(|error| unfit(&error.body_text()))?;
    let original = match choice.source.as_deref() {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(_) => return Err(Problem::invalid("source", "write ?source=1 for the original")),
    };
    let note = find(&gateway, &tenant, id).await?;
    let which = if original { AudioVariant::Source } else { as_sent(&note) };
    file(&gateway, &note, which, request).await
}

/// Download audio by a signed link
///
/// For providers, and for bots with a webhook in a dialect: the gateway makes these links, and each gives access to one file for `server.link_ttl`. The name is
/// only shown to the provider; the token alone decides.
#[utoipa::path(
    method(get, head), path = "/m/{token}/{filename}", tag = "Links", operation_id = "downloadByLink",
    params(
        ("token" = String, Path, description = "The signed permission of the link."),
        ("filename" = String, Path, description = "Any name.", example = "voice.ogg"),
    ),
    responses((status = 200, description = "The audio.")),
)]
pub async fn by_link(
    State(gateway): State<Arc<Gateway>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let forged = || Problem::new(Code::NotFound, "there is no such link");
    let Path((token, _filename)) = path.map_err(|_| forged())?;
    let now = gateway.clock.now();
    let refused = |error| match error {
        LinkError::Forged => forged(),
        LinkError::Expired => Problem::new(Code::MediaExpired, "this link has expired"),
    };
    let (id, which) = match gateway.links.open(&token, now) {
        Ok(opened) => opened,
        // It may be a link to received audio.
        Err(LinkError::Forged) => {
            let (tenant, id) = gateway.links.open_received(&token, now).map_err(refused)?;
            return received::by_link(&gateway, &tenant, id, request).await;
        }
        Err(error) => return Err(refused(error)),
    };
    // While the note is being sent, nothing has to be read.
    if is_plain(&request)
        && let Some(sending) = gateway.on_the_way.find(id, which)
    {
        return Ok(from_memory(sending.bytes.clone(), &sending.facts, sending.created_at, request));
    }
    let note = match gateway.store.note(id, None).await {
        Err(StoreError::Corrupt(_)) => None,
        note => note?,
    };
    let note =
        note.ok_or_else(|| Problem::new(Code::MediaExpired, "the audio behind this link is no longer kept"))?;
    file(&gateway, &note, which, request).await
}

fn as_sent(note: &Note) -> AudioVariant {
    match &note.sent {
        Some(sent) if sent.work == Work::None => AudioVariant::Source,
        _ => AudioVariant::Sent,
    }
}

async fn file(
    gateway: &Gateway,
    note: &Note,
    which: AudioVariant,
    request: Request,
) -> Result<Response, Problem> {
    if note.audio_expired {
        let detail = if note.erased {
            "this note was erased"
        } else {
            "the audio was removed after storage.retention"
        };
        return Err(Problem::new(Code::MediaExpired, detail).of_note(note.id));
    }
    let sent = note.sent.as_ref().map(|sent| &sent.facts);
    let facts =
        if which == AudioVariant::Sent { sent } else { note.probed.as_ref().map(|probed| &probed.facts) };
    let absent = || {
        let detail = "there is no such audio yet; read the note's status and try again when it is accepted";
        Problem::new(Code::NotFound, detail).of_note(note.id)
    };
    let facts = facts.ok_or_else(absent)?;
    if is_plain(&request)
        && let Some(bytes) = gateway.small_audio(note.id, which).await?
    {
        return Ok(from_memory(bytes, facts, note.created_at, request));
    }
    let file = gateway.audio(note.id, which).await?.ok_or_else(absent)?;
    from_file(file, facts, note.created_at, request).await
}

/// Answers with a file. `at` is the time of a file that was just copied.
pub(super) async fn from_file(
    file: AudioFile,
    facts: &AudioFacts,
    at: Timestamp,
    mut request: Request,
) -> Result<Response, Problem> {
    // The file was copied just now, but the audio has not changed.
    match &file {
        AudioFile::Stored(_) | AudioFile::Cached(..) => {}
        AudioFile::Temporary(file) => file.as_file().set_modified(at.into())?,
        AudioFile::Fetched(file, modified) => file.as_file().set_modified(*modified)?,
    }
    let mime: Mime = facts.mime_type.parse().unwrap_or(mime::APPLICATION_OCTET_STREAM);
    tame_range(request.headers_mut());
    let served: Result<_, Infallible> = ServeFile::new_with_mime(file.path(), &mime).oneshot(request).await;
    drop(file); // it is open now, and its name is no longer needed
    let mut response = served.into_response().map(Body::new);
    insert(response.headers_mut(), header::CONTENT_DISPOSITION, &disposition(facts));
    Ok(response)
}

/// Headers by which a client asks only for what has changed. Such requests are answered from a file.
const CONDITIONS: [HeaderName; 4] =
    [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE, header::IF_NONE_MATCH, header::IF_MATCH];

/// Whether the request can be answered from memory.
pub(super) fn is_plain(request: &Request) -> bool {
    let is_conditional = || CONDITIONS.iter().any(|name| request.headers().contains_key(name));
    request.method() == Method::GET && !is_conditional()
}

/// Answers as tower-http does for a file that was last changed at `at`.
pub(super) fn from_memory(bytes: Bytes, facts: &AudioFacts, at: Timestamp, mut request: Request) -> Response {
    tame_range(request.headers_mut());
    let mut response = part(bytes, request.headers().get(header::RANGE));
    let headers = response.headers_mut();
    insert(headers, header::CONTENT_TYPE, &facts.mime_type);
    insert(headers, header::LAST_MODIFIED, &http_date(at));
    insert(headers, header::ETAG, &etag(at, facts.size_bytes));
    insert(headers, header::CONTENT_DISPOSITION, &disposition(facts));
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn disposition(facts: &AudioFacts) -> String {
    format!("inline; filename=\"voice.{}\"", facts.extension())
}

/// Formats a time for a header (RFC 9110).
fn http_date(at: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

/// The tag that tower-http gives to a file of this time and size, so that a condition with it is understood.
fn etag(at: Timestamp, size: u64) -> String {
    let (seconds, nanos) = (at.as_second(), at.subsec_nanosecond());
    format!("\"{seconds:x}.{nanos:08x}-{size:x}\"")
}

/// Answers with the bytes, or with the part of them that a range names which was checked before.
fn part(bytes: Bytes, range: Option<&HeaderValue>) -> Response {
    let size = bytes.len() as u64;
    let wanted =
        range.and_then(|range| range.to_str().ok()).and_then(|range| range.trim().strip_prefix("bytes="));
    let Some((first, last)) = wanted.and_then(|range| range.trim().split_once('-')) else {
        return (StatusCode::OK, [(header::ACCEPT_RANGES, "bytes")], bytes).into_response();
    };
    let number = |text: &str| text.parse::<u64>().ok();
    // The last byte is counted from the start, or the part from the end.
    let (start, end) = match (number(first), number(last)) {
        (Some(first), last) => (first, last.map_or(size, |last| last.saturating_add(1)).min(size)),
        (None, last) => (size.saturating_sub(last.unwrap_or_default()), size),
    };
    if start >= end {
        let range = format!("bytes */{size}");
        return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, range)]).into_response();
    }
    let shown = format!("bytes {start}-{}/{size}", end - 1);
    let headers = [(header::ACCEPT_RANGES, "bytes".to_owned()), (header::CONTENT_RANGE, shown)];
    // Both fit, because the size does.
    let part = bytes.slice(start as usize..end as usize);
    (StatusCode::PARTIAL_CONTENT, headers, part).into_response()
}

/// Keeps `Range` only if it must be honoured: one range of bytes, without `If-Range`. Any other request gets the whole
/// file, as RFC 9110 sections 13.1.5 and 14.2 require or allow.
pub(super) fn tame_range(headers: &mut HeaderMap) {
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    if headers.contains_key(header::IF_RANGE) || !range.is_some_and(is_one_range) {
        headers.remove(header::RANGE);
    }
    headers.remove(header::IF_RANGE);
}

fn is_one_range(range: &str) -> bool {
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return false;
    };
    match (first, last) {
        ("", last) => number(last).is_some(),
        (first, "") => number(first).is_some(),
        (first, last) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_sound_range_counts() {
        for range in ["bytes=0-0", "bytes=5-", "bytes=-5", "bytes=2-10"] {
            assert!(is_one_range(range), "{range}");
        }
        for range in
            ["", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,4-5", "items=0-1", "bytes=a-b", "bytes=+1-2 "]
        {
            assert!(!is_one_range(range), "{range}");
        }
    }

    #[tokio::test]
    async fn part_of_the_bytes_is_what_the_range_names() {
        let bytes = Bytes::from_static(b"0123456789");
        for (range, expected, shown) in [
            ("bytes=2-4", "234", "bytes 2-4/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=-30", "0123456789", "bytes 0-9/10"),
            ("bytes= 0-99", "0123456789", "bytes 0-9/10"),
        ] {
            let value = HeaderValue::from_static(range);
            let response = part(bytes.clone(), Some(&value));
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
            assert_eq!(response.headers()[header::CONTENT_RANGE], shown, "{range}");
            let body = axum::body::to_bytes(response.into_body(), 100).await.expect("a body");
            assert_eq!(body, expected, "{range}");
        }
        for range in ["bytes=10-", "bytes=-0"] {
            let value = HeaderValue::from_static(range);
            let response = part(bytes.clone(), Some(&value));
            assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
            assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes */10");
        }
        assert_eq!(part(bytes, None).status(), StatusCode::OK);
    }
}
