//! Accepting a note: everything that can be judged at once is judged, then one transaction makes it durable.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use voicegate_providers::{Recipient, RecipientError, ReplySupport, parse_recipient};

use crate::{
    audio::{self, Convert, Hints, Probed},
    config::{Connection, Tenant},
    gateway::{Gateway, Live},
    media::Which,
    note::{ConvertChoice, Note, NoteId, Source, Status, Stop, Warning},
    problem::Problem,
    store::{Acceptance, KeyClaim, KeyHolder, NewNote, StoreError},
};

/// How long an idempotency key is remembered.
const KEY_TTL: Duration = Duration::from_secs(24 * 60 * 60);

const MAX_METADATA: usize = 4 * 1024;

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
    pub strict: bool,
    pub expires_in: Option<Duration>,
    pub metadata: Map<String, Value>,
    pub idempotency_key: Option<String>,
}

pub enum AudioInput {
    Url {
        url: String,
        headers: BTreeMap<String, String>,
    },
    /// The bytes came along; `sha256` is theirs, in hexadecimal.
    File {
        file: NamedTempFile,
        sha256: String,
    },
}

impl std::fmt::Debug for AudioInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::Url { .. }) { "Url" } else { "File" })
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
    if serde_json::to_vec(&request.metadata).map_or(0, |text| text.len()) > MAX_METADATA {
        return Err(Problem::invalid("metadata", "at most 4 KiB as JSON"));
    }
    let (to, route) = route(tenant, &request)?;
    let first = &tenant.connections[&route[0].connection];
    let fingerprint = fingerprint(&request, &to);
    if let Some(key) = &request.idempotency_key
        && let Some(holder) =
            gateway.store.idempotency(&tenant.name, key, gateway.clock.now()).await.map_err(stored)?
    {
        return replay(gateway, &holder, &fingerprint).await;
    }
    let (reply_to, warnings) = reply(gateway, tenant, first, &request).await?;
    let probed = examine(gateway, &live, first, &request).await?;

    let now = gateway.clock.now();
    let note = Note {
        id: NoteId::new(),
        tenant: tenant.name.clone(),
        status: Status::Queued,
        to,
        route,
        stop: 0,
        source: match &request.audio {
            AudioInput::Url { url, headers } => Source::Url { url: url.clone(), headers: headers.clone() },
            AudioInput::File { .. } => Source::Stored,
        },
        hints: request.hints,
        convert: request.convert,
        reply_to,
        text: request.text,
        metadata: request.metadata,
        expires_at: now + request.expires_in.unwrap_or(live.config.delivery.expires_in.0),
        probed,
        sent: None,
        form: None,
        provider_message_id: None,
        memory: None,
        attempts: Vec::new(),
        warnings,
        error: None,
        next_attempt_at: Some(now),
        created_at: now,
        updated_at: now,
        accepted_at: None,
        audio_expired: false,
    };
    if let AudioInput::File { file, .. } = request.audio {
        gateway.media.keep(file, note.id, Which::Source).await?;
    }
    let new = NewNote {
        idempotency: request.idempotency_key.map(|key| KeyClaim {
            key,
            fingerprint: fingerprint.clone(),
            expires_at: now + KEY_TTL,
        }),
        max_queue: live.config.delivery.max_queue,
        max_queue_per_tenant: live.config.delivery.max_queue_per_tenant,
        note,
    };
    let accepted = gateway.store.accept(&new).await;
    if !matches!(accepted, Ok(Acceptance::Created)) {
        gateway.media.remove(new.note.id).await?;
    }
    match accepted.map_err(stored)? {
        Acceptance::Created => {
            tracing::info!(note.id = %new.note.id, tenant = tenant.name, "note {} accepted", new.note.id);
            gateway.wake_worker();
            Ok(Receipt { note: new.note, replayed: false })
        }
        // Both requests with this key arrived at once; the other one came first.
        Acceptance::KeyTaken(holder) => replay(gateway, &holder, &fingerprint).await,
        Acceptance::QueueFull => Err(Problem::overloaded("the queue of notes is full; try again shortly")),
    }
}

/// A failed write to the database is the gateway's fault; the log gets the reason.
pub fn stored(error: StoreError) -> Problem {
    if matches!(error, StoreError::Full) {
        return Problem::new(
            "storage_full",
            "the gateway's disk is full; try again when its operator made room",
        );
    }
    tracing::error!(%error, "the database failed");
    Problem::internal()
}

async fn replay(gateway: &Gateway, holder: &KeyHolder, fingerprint: &str) -> Result<Receipt, Problem> {
    if holder.fingerprint != fingerprint {
        let detail =
            "this Idempotency-Key was used for a request with other fields or other audio; use a new key";
        return Err(Problem::new("idempotency_key_reused", detail).stage("request").of_note(holder.note));
    }
    let note = gateway.store.note(holder.note).await.map_err(stored)?;
    let gone = || Problem::new("not_found", "the note of this Idempotency-Key is no longer kept");
    Ok(Receipt { note: note.ok_or_else(gone)?, replayed: true })
}

/// The recipient in its canonical spelling, and the connections of the route that can reach it, in order.
fn route(tenant: &Tenant, request: &VoiceRequest) -> Result<(String, Vec<Stop>), Problem> {
    let unknown = |detail: String| Problem::new("unknown_connection", detail).stage("request").field("via");
    let names: Vec<&String> = match &request.via {
        None if tenant.route.is_empty() => {
            return Err(unknown("this tenant has no default route; name a connection in `via`".to_owned()));
        }
        None => tenant.route.iter().collect(),
        Some(via) => match (tenant.connections.get_key_value(via), tenant.routes.get(via)) {
            (Some((name, _)), _) => vec![name],
            (None, Some(route)) if !route.is_empty() => route.iter().collect(),
            _ => return Err(unknown("there is no connection or route of this name".to_owned())),
        },
    };
    let target = Target::parse(tenant, &request.to)?;
    let mut stops = Vec::new();
    let mut reasons = Vec::new();
    for connection in names.iter().filter_map(|name| tenant.connections.get(*name)) {
        match target.on(connection) {
            Ok((recipient, recipient_key)) => stops.push(Stop {
                connection: connection.name.clone(),
                provider: connection.provider_name.to_owned(),
                to: recipient.to_string(),
                recipient_key,
            }),
            Err(reason) => reasons.push(format!("{}: {reason}", connection.name)),
        }
    }
    if stops.is_empty() {
        let detail = reasons.join("; ");
        return Err(Problem::new("recipient_unsupported", detail).stage("request").field("to"));
    }
    Ok((target.to_string(), stops))
}

/// `to`, before it is known over which connection.
enum Target<'a> {
    Recipient(Recipient),
    Alias { name: String, targets: &'a BTreeMap<String, String> },
}

impl<'a> Target<'a> {
    fn parse(tenant: &'a Tenant, to: &str) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new("recipient_invalid", detail).stage("request").field("to");
        if let Some(name) = to.trim().strip_prefix("alias:") {
            let targets =
                tenant.aliases.get(name).ok_or_else(|| invalid("there is no such alias".to_owned()))?;
            return Ok(Self::Alias { name: name.to_owned(), targets });
        }
        parse_recipient(to).map(Self::Recipient).map_err(|error| invalid(error.to_string()))
    }

    fn on(&self, connection: &Connection) -> Result<(Recipient, String), RecipientError> {
        let recipient = match self {
            Self::Recipient(recipient) => recipient.clone(),
            Self::Alias { targets, .. } => {
                let none = || RecipientError::Unsupported("the alias names nobody here".to_owned());
                parse_recipient(targets.get(&connection.name).ok_or_else(none)?)?
            }
        };
        let key = connection.provider.recipient_key(&recipient)?;
        Ok((recipient, key))
    }
}

impl std::fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Recipient(recipient) => recipient.fmt(f),
            Self::Alias { name, .. } => write!(f, "alias:{name}"),
        }
    }
}

/// The provider's id of the message being answered. Where the provider has no replies, or the id cannot be one of
/// its own, the reply is dropped with a warning; `strict` makes that a refusal.
async fn reply(
    gateway: &Gateway,
    tenant: &Tenant,
    connection: &Connection,
    request: &VoiceRequest,
) -> Result<(Option<String>, Vec<Warning>), Problem> {
    let Some(reply_to) = &request.reply_to else { return Ok((None, Vec::new())) };
    let why = if connection.provider.capabilities().reply == ReplySupport::None {
        "replies are not possible over this connection; the note is sent as a message of its own"
    } else if let Ok(id) = reply_to.parse::<NoteId>() {
        let note = gateway.store.note(id).await.map_err(stored)?.filter(|note| note.tenant == tenant.name);
        let note = note.ok_or_else(|| Problem::invalid("reply_to", "there is no such voice note"))?;
        match note.provider_message_id {
            Some(id) if note.route[note.stop].connection == connection.name => {
                return Ok((Some(id), Vec::new()));
            }
            _ => "the note to reply to has no message at this connection; the note is sent on its own",
        }
    } else {
        return Ok((Some(reply_to.clone()), Vec::new()));
    };
    if request.strict {
        return Err(Problem::new("reply_unsupported", why).stage("request").field("reply_to"));
    }
    Ok((None, vec![Warning { code: "reply_unsupported".to_owned(), detail: why.to_owned() }]))
}

/// Looks at the audio as far as that is possible inside the request: bytes are probed, a URL is judged by its text.
async fn examine(
    gateway: &Gateway,
    live: &Live,
    connection: &Connection,
    request: &VoiceRequest,
) -> Result<Option<Probed>, Problem> {
    match &request.audio {
        AudioInput::Url { url, .. } => {
            live.fetcher.check(url)?;
            Ok(None)
        }
        AudioInput::File { file, .. } => {
            let probed = gateway.engine.probe(file.path(), &request.hints).await?;
            let choice = request.convert.or(connection.convert).unwrap_or_default();
            if choice == ConvertChoice::Never {
                audio::plan(&probed, connection.profile, Convert::Never)?;
            }
            Ok(Some(probed))
        }
    }
}

/// What makes two requests the same: every field that changes what is sent, in canonical form, and the audio
/// itself. Hints about the audio are left out, since the bytes decide.
fn fingerprint(request: &VoiceRequest, to: &str) -> String {
    let audio = match &request.audio {
        AudioInput::Url { url, headers } => json!({ "url": url, "headers": headers }),
        AudioInput::File { sha256, .. } => json!({ "sha256": sha256 }),
    };
    let fields = json!([
        to,
        request.via,
        request.convert,
        request.reply_to,
        request.text,
        request.strict,
        request.expires_in.map(|span| span.as_millis().to_string()),
        sorted(&Value::Object(request.metadata.clone())),
        request.hints.format,
        audio,
    ]);
    hex::encode(Sha256::digest(fields.to_string()))
}

/// The same value with every object's keys in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let ordered: BTreeMap<_, _> = map.iter().map(|(key, value)| (key, sorted(value))).collect();
            Value::Array(ordered.into_iter().map(|(key, value)| json!([key, value])).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}
