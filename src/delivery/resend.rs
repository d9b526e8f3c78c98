//! Sends a note again that did not arrive, as a new note.

use super::accept::{Admission, AudioOrigin, KEY_TTL, QueuePart, make_durable, replay};
use crate::{
    gateway::Gateway,
    model::{
        code::Code,
        note::{AudioSource, Note, Status},
        problem::Problem,
    },
    store::KeyClaim,
    telemetry::request_id,
};

/// Accepts a new note with the content of `original`. If the outcome of the original is unknown, its lane is released:
/// the caller accepts that the recipient may get the note twice.
///
/// # Errors
/// `wrong_state` unless the original ended without success; `media_expired` if its audio was removed, or is behind a URL
/// that is no longer known whole.
pub async fn resend(gateway: &Gateway, original: Note, key: Option<String>) -> Result<Admission, Problem> {
    let fingerprint = format!("resend {}", original.id);
    let now = gateway.clock.now();
    if let Some(key) = &key
        && let Some(holder) = gateway.store.idempotency(&original.tenant, key, now).await?
    {
        return replay(gateway, &holder, &fingerprint).await;
    }
    let key = key.map(|key| KeyClaim { key, fingerprint, expires_at: now + KEY_TTL });
    again(gateway, original, key, QueuePart::Whole).await
}

/// Checks that a note can be sent again, by what is known about it.
///
/// # Errors
/// As [`resend`].
pub(super) fn judge(original: &Note) -> Result<(), Problem> {
    if !(original.status.is_failure() || original.status == Status::Unknown) {
        let detail = "only a note that failed, expired, was cancelled or is unknown can be sent again";
        return Err(Problem::new(Code::WrongState, detail).of_note(original.id));
    }
    let gone = |detail: &str| Problem::new(Code::MediaExpired, detail).of_note(original.id);
    if original.audio_expired || original.erased {
        return Err(gone("the audio of this note is no longer kept; send the request again"));
    }
    // Speech that was never made can be made now, and audio that was never downloaded can be downloaded.
    if matches!(original.source, AudioSource::Url { is_whole: false, .. }) {
        let detail = "the audio of this note was never downloaded, and the query and headers of its URL are not kept after \
                      a note has ended; send the request again";
        return Err(gone(detail));
    }
    Ok(())
}

/// Accepts a new note with the content of `original`, with this claim on an idempotency key. While notes are being sent,
/// it waits for its turn like the request for a note.
///
/// # Errors
/// As [`resend`], and `overloaded`.
pub(super) async fn again(
    gateway: &Gateway,
    original: Note,
    key: Option<KeyClaim>,
    part: QueuePart,
) -> Result<Admission, Problem> {
    judge(&original)?;
    let now = gateway.clock.now();
    gateway.accept_gate.pass(&original.tenant).await?;
    let live = gateway.live();
    let id = original.id;
    let expires_at = now + live.config.delivery.expires_in.0;
    let Note {
        tenant,
        to,
        route,
        source,
        speech,
        hints,
        convert,
        reply_to,
        text,
        text_as,
        degrade,
        metadata,
        probed,
        warnings,
        ..
    } = original;
    let audio = match source {
        AudioSource::Speech | AudioSource::Url { .. } => AudioOrigin::Download,
        AudioSource::Stored => AudioOrigin::Note(id),
    };
    let note = Note {
        speech,
        hints,
        convert,
        reply_to,
        text,
        text_as,
        degrade,
        metadata,
        request_id: request_id::current(),
        resend_of: Some(id),
        probed,
        warnings,
        ..Note::new(tenant, to, route, source, now, expires_at)
    };
    make_durable(gateway, &live, note, audio, key, Some(id), part).await
}
