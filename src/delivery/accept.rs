//! Accepts a note: checks everything that can be checked at once, and then stores the note in one transaction.

use std::{io, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    ladder::Wanted,
    read_audio::{self, Unread},
    route::{Target, dropped_text, reply, route, strict_about_form, strict_about_size},
    speak, traced,
};
use crate::{
    config::{Connection, Tenant},
    delivery::upload,
    gateway::{Gateway, Live, changes::Watch, note_metrics},
    media::{AudioBytes, AudioInput, AudioVariant, SpooledAudio},
    model::{
        code::{Code, Stage},
        id::UploadId,
        note::{AudioSource, ConvertChoice, Metadata, Note, NoteId, SpokenText, TextAs, Warning},
        problem::Problem,
    },
    store::{Acceptance, KeyClaim, KeyHolder, NewNote, SmallAudio, StoreError},
    telemetry::request_id,
};
use voicegate_audio::{self as audio, Convert, Hints, Probed};
use voicegate_providers::{Degrade, Form};

/// An idempotency key is remembered for this long.
pub(super) const KEY_TTL: Duration = Duration::from_secs(24 * 60 * 60);

const MAX_METADATA: usize = 4 * 1024;

/// The deepest nesting of objects and arrays, counting the metadata itself.
const MAX_METADATA_LEVELS: usize = 16;

/// The longest time ahead for which a note may be scheduled.
const LATEST: SignedDuration = SignedDuration::from_hours(366 * 24);

/// The request of a bot, independent of the type of its body.
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
    /// The forms that may replace a voice bubble. Overrides the setting of the connection.
    pub degrade: Option<Degrade>,
    pub strict: bool,
    pub send_at: Option<SendTime>,
    pub expires_in: Option<Duration>,
    pub metadata: Metadata,
    pub idempotency_key: Option<String>,
}

/// The earliest time of the first attempt.
#[derive(Clone, Copy, Debug)]
pub enum SendTime {
    At(Timestamp),
    /// Counted from the acceptance of the note. Two requests with the same delay are the same request.
    After(Duration),
}

impl SendTime {
    /// `None` if it is beyond all times.
    fn from(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::After(delay) => now.checked_add(delay).ok(),
        }
    }
}

impl VoiceRequest {
    fn speech(&self) -> Option<&SpokenText> {
        match &self.audio {
            AudioInput::Speech(spoken) => Some(spoken),
            _ => None,
        }
    }

    /// The text of the note. By default it is the text that is spoken.
    pub(super) fn text(&self) -> Option<&str> {
        self.text.as_deref().or_else(|| self.speech().map(|spoken| spoken.text.as_str()))
    }

    /// The wishes of this request for a connection.
    pub(super) fn wanted<'a>(&'a self, connection: &'a Connection, duration_ms: Option<u64>) -> Wanted<'a> {
        Wanted {
            degrade: self.degrade.as_ref().unwrap_or(&connection.degrade),
            text: self.text(),
            text_as: self.text_as,
            duration_ms,
        }
    }
}

/// The result of an accepted request: a new note, or the note of an earlier identical request.
#[derive(Debug)]
pub struct Admission {
    pub note: Note,
    /// The idempotency key was used before for the same request.
    pub replayed: bool,
    /// The changes of a new note since it was accepted.
    pub changes: Option<Watch<NoteId>>,
}

/// Accepts `request`. When this returns, the note is on disk.
///
/// # Errors
/// A problem, and nothing is stored.
pub async fn accept(
    gateway: &Gateway,
    tenant: &Tenant,
    mut request: VoiceRequest,
) -> Result<Admission, Problem> {
    let live = gateway.live();
    judge_fields(&request, gateway.clock.now())?;
    let target = Target::parse(&request.to)?;
    // This comes before the checks that depend on the configuration, because a repeated request has passed them
    // already.
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
    if let AudioInput::Speech(spoken) = &mut request.audio {
        speak::settle(tenant, spoken)?;
    }
    let route = route(tenant, &target, request.via.as_deref())?;
    let (reply_to, mut warnings) = reply(gateway, tenant, &route, &request).await?;
    warnings.extend(dropped_text(tenant, &route, &request)?);
    let first = &tenant.connections[&route[0].connection];
    strict_about_form(gateway, tenant, &route[0], &request, None).await?;
    let source = match &request.audio {
        AudioInput::Url { url, headers } => {
            AudioSource::Url { url: url.clone(), headers: headers.clone(), is_whole: true }
        }
        AudioInput::Bytes(_) | AudioInput::Upload(_) => AudioSource::Stored,
        AudioInput::Speech(_) => AudioSource::Speech,
    };
    let (text, speech) = (request.text().map(str::to_owned), request.speech().cloned());
    let (probed, bytes) = examine(gateway, &live, tenant, request.audio, &request.hints).await?;
    if let Some(probed) = &probed {
        warnings.extend(inconsistent(probed, request.strict)?);
    }
    let choice = first.choice(request.convert);
    if let Some(probed) = &probed {
        if choice == ConvertChoice::Never {
            audio::plan(probed, first.profile_for(Form::Voice, choice), Convert::Never)?;
        }
        if request.strict {
            strict_about_size(first, probed, request.convert)?;
        }
    }

    let now = gateway.clock.now();
    let send_at = request.send_at.and_then(|time| time.from(now));
    let due_at = send_at.map_or(now, |at| at.max(now));
    // The expiry is counted from the time at which the note is due.
    let expires_at = due_at + request.expires_in.unwrap_or(live.config.delivery.expires_in.0);
    let note = Note {
        speech,
        hints: request.hints,
        convert: request.convert,
        reply_to,
        text,
        text_as: request.text_as,
        degrade: request.degrade,
        metadata: request.metadata,
        send_at,
        request_id: request_id::current(),
        probed,
        warnings,
        next_attempt_at: Some(due_at),
        ..Note::new(tenant.name.clone(), target.to_string(), route, source, now, expires_at)
    };
    make_durable(gateway, &live, note, bytes, key, None, QueuePart::Whole).await
}

/// Returns a warning for each contradiction inside the source.
///
/// # Errors
/// With `strict`, the first contradiction is an error.
pub(super) fn inconsistent(probed: &Probed, strict: bool) -> Result<Vec<Warning>, Problem> {
    let found = &probed.findings.contradictions;
    match found.first() {
        Some(first) if strict => {
            Err(Problem::new(Code::AudioInconsistent, first.detail()).stage(Stage::Probe))
        }
        _ => Ok(found.iter().copied().map(Warning::from).collect()),
    }
}

/// Checks the fields that do not depend on the configuration.
pub(super) fn judge_fields(request: &VoiceRequest, now: Timestamp) -> Result<(), Problem> {
    if request.metadata.as_str().len() > MAX_METADATA {
        return Err(Problem::invalid("metadata", "at most 4 KiB as JSON"));
    }
    if request.metadata.levels() > MAX_METADATA_LEVELS {
        let detail = format!("at most {MAX_METADATA_LEVELS} levels of objects and arrays, itself included");
        return Err(Problem::invalid("metadata", detail));
    }
    if let Some(time) = request.send_at
        && time.from(now).is_none_or(|at| at.duration_since(now) > LATEST)
    {
        let field = if matches!(time, SendTime::At(_)) { "send_at" } else { "delay" };
        return Err(Problem::invalid(field, "at most one year ahead"));
    }
    Ok(())
}

/// The origin of the audio of a new note.
pub(super) enum AudioOrigin {
    /// The worker downloads it, or lets a server speak it.
    Download,
    Spooled(AudioBytes),
    Upload(UploadId),
    Note(NoteId),
}

/// The part of the queue that a note may fill.
#[derive(Clone, Copy, Debug)]
pub(super) enum QueuePart {
    Whole,
    /// For work that nobody waits for. The rest stays free for new notes.
    MostOfIt,
}

impl QueuePart {
    fn of(self, notes: u64) -> u64 {
        match self {
            Self::Whole => notes,
            Self::MostOfIt => (notes - notes / 4).max(1),
        }
    }
}

/// Stores the audio and commits the note. When this returns, both are on disk. The lane of the note `releases` is
/// released in the same transaction.
pub(super) async fn make_durable(
    gateway: &Gateway,
    live: &Live,
    note: Note,
    audio: AudioOrigin,
    idempotency: Option<KeyClaim>,
    releases: Option<NoteId>,
    part: QueuePart,
) -> Result<Admission, Problem> {
    let span = traced::accept(gateway, &note);
    let note = Note { traceparent: span.context().map(|context| context.to_string()), ..note };
    // Notes without audio are counted too, since many of them fill a disk, and their downloads follow.
    gateway.media.take_row(row_size(&note, &audio))?;
    let _arriving = gateway.room_for(&note.tenant, note.kept_bytes()).await?;
    // Small audio is stored with the row; a file is stored before it.
    let (mut beside, mut _room) = (None, None);
    let content = |bytes| match &note.probed {
        Some(probed) => SmallAudio { sha256: probed.facts.sha256.clone(), bytes },
        None => SmallAudio::from(bytes),
    };
    let kept = match audio {
        AudioOrigin::Download => Ok(()),
        AudioOrigin::Spooled(AudioBytes::File(file)) => {
            gateway.media.keep(file, note.id, AudioVariant::Source).await.map(drop)
        }
        AudioOrigin::Spooled(AudioBytes::Memory(bytes, room)) => {
            (beside, _room) = (Some(content(bytes)), Some(room));
            Ok(())
        }
        AudioOrigin::Upload(id) => match gateway.media.small_upload(id).await {
            Ok(Some(bytes)) => {
                beside = Some(content(bytes));
                Ok(())
            }
            Ok(None) => gateway.media.use_upload(id, note.id).await,
            Err(error) => Err(error),
        },
        AudioOrigin::Note(original) => {
            beside = gateway.store.source(original).await?.map(content);
            if beside.is_some() { Ok(()) } else { gateway.media.use_source(original, note.id).await }
        }
    };
    kept.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => AudioInput::no_such_upload(), // deleted in the meantime
        _ => error.into(),
    })?;
    let is_file = beside.is_none() && note.source == AudioSource::Stored;
    let fingerprint = idempotency.as_ref().map(|claim| claim.fingerprint.clone()).unwrap_or_default();
    let new = NewNote {
        note,
        source: beside,
        idempotency,
        releases,
        max_queue: part.of(live.config.delivery.max_queue),
        max_queue_per_tenant: part.of(live.config.delivery.max_queue_per_tenant),
        share: part.of(live.share_of_queue()),
    };
    let changes = gateway.changes.of_note(new.note.id);
    let accepted = gateway.store.accept(&new).await;
    // If it is unknown whether the note was committed, its audio stays. Without a note, the sweep removes it later.
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
            span.end(gateway.clock.now());
            Ok(Admission { note, replayed: false, changes: Some(changes) })
        }
        // Two requests with this key arrived at the same time, and the other one was first.
        Acceptance::KeyTaken(holder) => replay(gateway, &holder, &fingerprint).await,
        Acceptance::QueueFull if new.is_far() => Err(Problem::overloaded(
            "this tenant has as many notes scheduled as it may; try again when some were sent or cancelled",
        )),
        Acceptance::QueueFull => Err(Problem::overloaded("the queue of notes is full; try again shortly")),
    }
}

/// An estimate of the bytes that a note takes in the database over its life. It is written several times, and with each
/// of its events.
fn row_size(note: &Note, audio: &AudioOrigin) -> u64 {
    const TIMES: usize = 4;
    const LEAST: usize = 8 * 1024;
    let source = match &note.source {
        AudioSource::Url { url, headers, .. } => {
            url.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
        }
        AudioSource::Stored | AudioSource::Speech => 0,
    };
    let speech = note
        .speech
        .as_ref()
        .map_or(0, |spoken| spoken.text.len() + spoken.instructions.as_ref().map_or(0, String::len));
    let bytes = match audio {
        AudioOrigin::Spooled(AudioBytes::Memory(bytes, _)) => bytes.len(),
        _ => 0,
    };
    let text = note.text.as_ref().map_or(0, String::len);
    (LEAST + TIMES * (text + speech + source) + bytes) as u64
}

pub(super) async fn replay(
    gateway: &Gateway,
    holder: &KeyHolder,
    fingerprint: &str,
) -> Result<Admission, Problem> {
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
    Ok(Admission { note: note.ok_or_else(gone)?, replayed: true, changes: None })
}

/// Examines the audio as far as that is possible during the request, and returns its origin. A URL is checked by its
/// text. Bytes are read; they are decoded only if their structure is not sufficient, since decoding takes a hundred
/// times as long as everything else, and happens before the first attempt anyway.
async fn examine(
    gateway: &Gateway,
    live: &Live,
    tenant: &Tenant,
    audio: AudioInput,
    hints: &Hints,
) -> Result<(Option<Probed>, AudioOrigin), Problem> {
    let received = match audio {
        AudioInput::Url { url, .. } => {
            live.fetcher.check(&url)?;
            return Ok((None, AudioOrigin::Download));
        }
        AudioInput::Upload(id) => {
            return Ok((Some(upload::find(gateway, tenant, id).await?.probed), AudioOrigin::Upload(id)));
        }
        AudioInput::Speech(_) => return Ok((None, AudioOrigin::Download)),
        AudioInput::Bytes(received) => received,
    };
    match read_audio::identify(gateway, tenant, &received, hints).await {
        Ok(probed) => Ok((Some(probed), AudioOrigin::Spooled(received.bytes))),
        // Its structure shows no error. It is decoded before the first attempt, like audio behind a URL.
        Err(Unread::Audio(error)) if error.kind.is_for_now() => {
            tracing::warn!(%error, "audio is accepted without being decoded first");
            Ok((None, AudioOrigin::Spooled(received.bytes)))
        }
        Err(error) => Err(error.into()),
    }
}

/// A hash by which two requests count as identical. It covers every field that changes what is sent, in canonical form,
/// and the audio itself. Hints about the audio are left out, since the bytes decide. Headers for a URL are left out as
/// well, since a bot may create a new token for each request.
fn fingerprint(request: &VoiceRequest, target: &Target) -> String {
    let audio = match &request.audio {
        AudioInput::Url { url, .. } => json!({ "url": url }),
        AudioInput::Bytes(SpooledAudio { sha256, .. }) => json!({ "sha256": sha256 }),
        AudioInput::Upload(id) => json!({ "media_id": id }),
        AudioInput::Speech(spoken) => json!({ "speech": spoken }),
    };
    let fields = (
        target.to_string(),
        &request.via,
        request.convert,
        &request.reply_to,
        &request.text,
        request.strict,
        request.expires_in.map(|span| span.as_millis().to_string()),
        request.send_at.map(|time| match time {
            SendTime::At(at) => json!(at.as_millisecond()),
            SendTime::After(delay) => json!({ "after": delay.as_millis().to_string() }),
        }),
        request.metadata.canonical().ok(),
        json!(request.hints.format),
        audio,
    );
    // Text that was read from JSON can be written as JSON.
    let text = match (&request.degrade, request.text_as) {
        // Keys that were used before these fields existed stay valid.
        (None, TextAs::Fallback) => serde_json::to_vec(&fields),
        (degrade, text_as) => serde_json::to_vec(&(&fields, degrade, text_as)),
    };
    hex::encode(Sha256::digest(text.unwrap_or_default()))
}
