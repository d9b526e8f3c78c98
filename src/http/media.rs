//! Downloads of audio: by its owner, and by providers with a signed link. tower-http handles ranges, conditions and
//! HEAD.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{
        Path, Query, Request, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use mime::Mime;
use serde::Deserialize;
use tower::ServiceExt;
use tower_http::services::ServeFile;
use utoipa::IntoParams;

use super::{auth::Caller, notes::find};
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
    let Query(choice) = choice
        .map_err(|error| Problem::invalid("source", format!("{}; write ?source=1", error.body_text())))?;
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
/// For providers: the gateway makes these links, and each gives access to one file for `server.link_ttl`. The name is
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
    let (id, which) = gateway.links.open(&token, gateway.clock.now()).map_err(|error| match error {
        LinkError::Forged => forged(),
        LinkError::Expired => Problem::new(Code::MediaExpired, "this link has expired"),
    })?;
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
    mut request: Request,
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
    let file = gateway.audio(note.id, which).await?.ok_or_else(absent)?;
    // The file was copied just now, but the audio has not changed.
    match &file {
        AudioFile::Stored(_) => {}
        AudioFile::Temporary(file) => file.as_file().set_modified(note.created_at.into())?,
        AudioFile::Fetched(file, at) => file.as_file().set_modified(*at)?,
    }
    let mime: Mime = facts.mime_type.parse().unwrap_or(mime::APPLICATION_OCTET_STREAM);
    tame_range(request.headers_mut());
    let served: Result<_, Infallible> = ServeFile::new_with_mime(file.path(), &mime).oneshot(request).await;
    drop(file); // it is open now, and its name is no longer needed
    let mut response = served.into_response().map(Body::new);
    let name = format!("inline; filename=\"voice.{}\"", facts.extension());
    if let Ok(value) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
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
    use super::is_one_range;

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
}
