//! Accepting a note: everything that can be judged at once is judged, then one transaction makes it durable.

use std::{io, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    ladder::Wanted,
    read_audio::{self, Unread},
    route::{Target, reply, route, strict_about_form, text},
};
use crate::{
    config::{Connection, Tenant},
    delivery::upload,
    gateway::{Gateway, Live, note_metrics},
    media::{AudioBytes, AudioInput, AudioVariant, SpooledAudio},
    model::{
        code::{Code, Stage},
        id::UploadId,
        note::{ConvertChoice, Metadata, Note, NoteId, Source, TextAs, Warning},
        problem::Problem,
    },
    store::{Acceptance, KeyClaim, KeyHolder, NewNote, StoreError},
    telemetry::request_id,
};
use voicegate_audio::{self as audio, Convert, Hints, Probed};
use voicegate_providers::{Degrade, Form};

/// How long an idempotency key is remembered.
pub(super) const KEY_TTL: Duration = Duration::from_secs(24 * 60 * 60);

const MAX_METADATA: usize = 4 * 1024;

/// Objects and arrays inside each other, the metadata itself included.
const MAX_METADATA_LEVELS: usize = 16;

/// How far ahead a note may be scheduled.
const LATEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// What a bot asks for, in whichever body it came.
#[derive(Debug)]
pub struct VoiceRequest {
    pub to: String,
    pub audio: AudioInput,
    pub hints: Hints,
    pub via: Option<String>,
    pub convert: Option<ConvertChoice>,
    pub reply_to: Option<String>,
    pub text: Option<String>,
    pub text_as: TextAs,
    /// The forms that may replace a voice bubble, instead of what the connection says.
    pub degrade: Option<Degrade>,
    pub strict: bool,
    /// Not before.
    pub send_at: Option<Timestamp>,
    pub expires_in: Option<Duration>,
    pub metadata: Metadata,
    pub idempotency_key: Option<String>,
}

impl VoiceRequest {
    /// What it wants of a connection's forms.
    pub(super) fn wanted<'a>(&'a self, connection: &'a Connection, duration_ms: Option<u64>) -> Wanted<'a> {
        Wanted {
            degrade: self.degrade.as_ref().unwrap_or(&connection.degrade),
            text: self.text.as_deref(),
            text_as: self.text_as,
            duration_ms,
        }
    }
}

/// The answer to a request that was accepted, now or before.
#[derive(Debug)]
pub struct Receipt {
    pub note: Note,
    /// The idempotency key had been used for the same request already.
    pub replayed: bool,
}

/// Accepts `request`. When this returns, the note is on disk.
///
/// # Errors
/// A problem, and nothing is stored.
pub async fn accept(gateway: &Gateway, tenant: &Tenant, request: VoiceRequest) -> Result<Receipt, Problem> {
    let live = gateway.live();
    judge_fields(&request, gateway.clock.now())?;
    let target = Target::parse(&request.to)?;
    // Before anything that depends on today's configuration: a repeated request has been judged already.
    let key = match &request.idempotency_key {
        Some(key) => {
            let (now, fingerprint) = (gateway.clock.now(), fingerprint(&request, &target));
            if let Some(holder) = gateway.store.idempotency(&tenant.name, key, now).await? {
                return replay(gateway, &holder, &fingerprint).await;
            }
            Some(KeyClaim { key: key.clone(), fingerprint, expires_at: now + KEY_TTL })
        }
        None => None,
    };
    let route = route(tenant, &target, request.via.as_deref())?;
    let (reply_to, mut warnings) = reply(gateway, tenant, &route, &request).await?;
    warnings.extend(text(tenant, &route, &request)?);
    let first = &tenant.connections[&route[0].connection];
    strict_about_form(gateway, tenant, &route[0], &request, None).await?;
    let source = match &request.audio {
        AudioInput::Url { url, headers } => Source::Url { url: url.clone(), headers: headers.clone() },
        AudioInput::Bytes(_) | AudioInput::Upload(_) => Source::Stored,
    };
    let (probed, bytes) = examine(gateway, &live, tenant, request.audio, &request.hints).await?;
    if let Some(probed) = &probed {
        warnings.extend(inconsistent(probed, request.strict)?);
    }
    let choice = first.choice(request.convert);
    if let Some(probed) = &probed
        && choice == ConvertChoice::Never
    {
        audio::plan(probed, first.profile_for(Form::Voice, choice), Convert::Never)?;
    }

    let now = gateway.clock.now();
    let due_at = request.send_at.map_or(now, |at| at.max(now));
    // Counted from when it is due.
    let expires_at = due_at + request.expires_in.unwrap_or(live.config.delivery.expires_in.0);
    let note = Note {
        hints: request.hints,
        convert: request.convert,
        reply_to,
        text: request.text,
        text_as: request.text_as,
        degrade: request.degrade,
        metadata: request.metadata,
        send_at: request.send_at,
        request_id: request_id::current(),
        probed,
        warnings,
        next_attempt_at: Some(due_at),
        ..Note::new(tenant.name.clone(), target.to_string(), route, source, now, expires_at)
    };
    make_durable(gateway, &live, note, bytes, key, None).await
}

/// A warning for each way in which a source contradicts itself.
///
/// # Errors
/// With `strict`, the first one is a refusal.
fn inconsistent(probed: &Probed, strict: bool) -> Result<Vec<Warning>, Problem> {
    let found = &probed.findings.contradictions;
    match found.first() {
        Some(first) if strict => {
            Err(Problem::new(Code::AudioInconsistent, first.detail()).stage(Stage::Probe))
        }
        _ => Ok(found.iter().copied().map(Warning::from).collect()),
    }
}

/// What can be wrong about fields whatever the configuration says.
pub(super) fn judge_fields(request: &VoiceRequest, now: Timestamp) -> Result<(), Problem> {
    if request.metadata.as_str().len() > MAX_METADATA {
        return Err(Problem::invalid("metadata", "at most 4 KiB as JSON"));
    }
    if request.metadata.levels() > MAX_METADATA_LEVELS {
        let detail = format!("at most {MAX_METADATA_LEVELS} levels of objects and arrays, itself included");
        return Err(Problem::invalid("metadata", detail));
    }
    if request.send_at.is_some_and(|at| at.duration_since(now) > LATEST) {
        return Err(Problem::invalid("send_at", "at most one year ahead"));
    }
    Ok(())
}

/// Where the bytes of a new note are.
pub(super) enum Bytes {
    /// To be downloaded by the worker.
    Later,
    Spooled(AudioBytes),
    Upload(UploadId),
    Note(NoteId),
}

/// Keeps the audio and commits the note. When this returns, both are on disk. `releases`: a note whose lane is let
/// go with it.
pub(super) async fn make_durable(
    gateway: &Gateway,
    live: &Live,
    note: Note,
    audio: Bytes,
    idempotency: Option<KeyClaim>,
    releases: Option<NoteId>,
) -> Result<Receipt, Problem> {
    // Also for a note that brings no audio: enough of them fill a disk, and the downloads follow.
    gateway.media.take_row(row_size(&note, &audio))?;
    let _arriving = gateway.room_for(&note.tenant, note.kept_bytes()).await?;
    // What is small goes with the row; a file goes before it.
    let (mut beside, mut _room) = (None, None);
    let kept = match audio {
        Bytes::Later => Ok(()),
        Bytes::Spooled(AudioBytes::File(file)) => {
            gateway.media.keep(file, note.id, AudioVariant::Source).await.map(drop)
        }
        Bytes::Spooled(AudioBytes::Memory(bytes, room)) => {
            (beside, _room) = (Some(bytes), Some(room));
            Ok(())
        }
        Bytes::Upload(id) => gateway.media.use_upload(id, note.id).await,
        Bytes::Note(original) => {
            beside = gateway.store.source(original).await?;
            if beside.is_some() { Ok(()) } else { gateway.media.use_source(original, note.id).await }
        }
    };
    kept.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => AudioInput::no_such_upload(), // deleted just now
        _ => error.into(),
    })?;
    let is_file = beside.is_none() && note.source == Source::Stored;
    let fingerprint = idempotency.as_ref().map(|claim| claim.fingerprint.clone()).unwrap_or_default();
    let new = NewNote {
        note,
        source: beside,
        idempotency,
        releases,
        max_queue: live.config.delivery.max_queue,
        max_queue_per_tenant: live.config.delivery.max_queue_per_tenant,
        share: live.share_of_queue(),
    };
    let accepted = gateway.store.accept(&new).await;
    // Where it is in doubt whether there is a note, its audio stays; without one it goes with other orphans.
    let is_wanted = match &accepted {
        Ok(acceptance) => *acceptance == Acceptance::Created,
        Err(error) => error.is_in_doubt(),
    };
    if is_file && !is_wanted {
        gateway.media.remove(new.note.id).await?;
    }
    match accepted? {
        Acceptance::Created => {
            let note = new.note;
            tracing::info!(note.id = %note.id, tenant = note.tenant, "note {} accepted", note.id);
            note_metrics::note(&note);
            gateway.wake_worker();
            Ok(Receipt { note, replayed: false })
        }
        // Both requests with this key arrived at once; the other one came first.
        Acceptance::KeyTaken(holder) => replay(gateway, &holder, &fingerprint).await,
        Acceptance::QueueFull if new.is_far() => Err(Problem::overloaded(
            "this tenant has as many notes scheduled as it may; try again when some were sent or cancelled",
        )),
        Acceptance::QueueFull => Err(Problem::overloaded("the queue of notes is full; try again shortly")),
    }
}

/// About how many bytes a note takes in the database in the course of its life: it is written several times, and with
/// every event of it.
fn row_size(note: &Note, audio: &Bytes) -> u64 {
    const TIMES: usize = 4;
    const LEAST: usize = 8 * 1024;
    let source = match &note.source {
        Source::Url { url, headers } => {
            url.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }
        Source::Stored => 0,
    };
    let bytes = match audio {
        Bytes::Spooled(AudioBytes::Memory(bytes, _)) => bytes.len(),
        _ => 0,
    };
    let text = note.text.as_ref().map_or(0, String::len);
    (LEAST + TIMES * (text + source) + bytes) as u64
}

pub(super) async fn replay(
    gateway: &Gateway,
    holder: &KeyHolder,
    fingerprint: &str,
) -> Result<Receipt, Problem> {
    if holder.fingerprint != fingerprint {
        let detail =
            "this Idempotency-Key was used for a request with other fields or other audio; use a new key";
        return Err(Problem::new(Code::IdempotencyKeyReused, detail)
            .stage(Stage::Request)
            .of_note(holder.note));
    }
    let note = match gateway.store.note(holder.note, None).await {
        Err(StoreError::Corrupt(_)) => return Err(Problem::unreadable().of_note(holder.note)),
        note => note?,
    };
    let gone = || Problem::new(Code::NotFound, "the note of this Idempotency-Key is no longer kept");
    Ok(Receipt { note: note.ok_or_else(gone)?, replayed: true })
}

/// Looks at the audio as far as that is possible inside the request, and says where its bytes are. A URL is judged by
/// its text. Bytes are read; they are decoded only where their structure does not tell what they are, since that takes
/// a hundred times as long as all the rest, and is done before the first try in any case.
async fn examine(
    gateway: &Gateway,
    live: &Live,
    tenant: &Tenant,
    audio: AudioInput,
    hints: &Hints,
) -> Result<(Option<Probed>, Bytes), Problem> {
    let received = match audio {
        AudioInput::Url { url, .. } => {
            live.fetcher.check(&url)?;
            return Ok((None, Bytes::Later));
        }
        AudioInput::Upload(id) => {
            return Ok((Some(upload::find(gateway, tenant, id).await?.probed), Bytes::Upload(id)));
        }
        AudioInput::Bytes(received) => received,
    };
    match read_audio::identify(gateway, tenant, &received, hints).await {
        Ok(probed) => Ok((Some(probed), Bytes::Spooled(received.bytes))),
        // Nothing in its structure speaks against it. It is judged before the first try, like audio behind a URL.
        Err(Unread::Audio(error)) if error.kind.is_for_now() => {
            tracing::warn!(%error, "audio is accepted before it was decoded");
            Ok((None, Bytes::Spooled(received.bytes)))
        }
        Err(error) => Err(error.into()),
    }
}

/// What makes two requests the same: every field that changes what is sent, in canonical form, and the audio
/// itself. Hints about the audio are left out, since the bytes decide; so are headers for a URL, since a bot may
/// make a fresh token for each of its requests.
fn fingerprint(request: &VoiceRequest, target: &Target) -> String {
    let audio = match &request.audio {
        AudioInput::Url { url, .. } => json!({ "url": url }),
        AudioInput::Bytes(SpooledAudio { sha256, .. }) => json!({ "sha256": sha256 }),
        AudioInput::Upload(id) => json!({ "media_id": id }),
    };
    let fields = (
        target.to_string(),
        &request.via,
        request.convert,
        &request.reply_to,
        &request.text,
        request.strict,
        request.expires_in.map(|span| span.as_millis().to_string()),
        request.send_at.map(|at| at.as_millisecond()),
        request.metadata.canonical().ok(),
        json!(request.hints.format),
        audio,
    );
    // Text that was read from JSON can be written as JSON.
    let text = match (&request.degrade, request.text_as) {
        // Keys that were used before these fields existed are still good.
        (None, TextAs::Fallback) => serde_json::to_vec(&fields),
        (degrade, text_as) => serde_json::to_vec(&(&fields, degrade, text_as)),
    };
    hex::encode(Sha256::digest(text.unwrap_or_default()))
}
