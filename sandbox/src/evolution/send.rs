//! `sendWhatsAppAudio`, `sendMedia`, `sendText`, as `whatsapp.baileys.service.ts` has them.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use url::{Host, Url};
use uuid::Uuid;

use super::{App, CLOSED, NAME, Refusal, Registered, read};
use crate::audio::{self, AudioInfo, Kind};
use crate::ledger::{LedgerEntry, redact};
use crate::whatsapp::{MAX_AUDIO, NOBODY, VOICE_MIME, decode, file_hash, raw_id, voice_problems};
use crate::{Sandbox, state};

/// A JSON body has 136 MB at most; the sandbox itself takes less.
const MAX_BYTES: usize = 75_000_000;
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// Fields that every message may have.
const COMMON: [&str; 6] = ["number", "delay", "linkPreview", "mentionsEveryOne", "mentioned", "quoted"];

type Sent = Result<(StatusCode, Json<Value>), Refusal>;

pub(super) async fn voice(
    State(sandbox): App,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Sent {
    let request = read(&headers, &instance, &body, &with(&["audio", "encoding"]))?;
    let encoding = match request.get("encoding") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(encoding)) => *encoding,
        Some(_) => {
            return Err(Refusal::rule(
                "voicegate sandbox: encoding must be a boolean, any text counts as true",
            ));
        }
    };
    let jid = recipient(&instance, &request)?;
    let file = fetch(&sandbox, &text_of(&request, "audio")?.unwrap_or_default(), encoding).await?;
    let info = audio::describe(&file.bytes);
    let mut problems = if encoding { info.faults.clone() } else { voice_problems(&info, VOICE_MIME) };
    if encoding {
        if info.kind == Kind::Unknown {
            return Err(Refusal::new(500, json!(["Failed to convert audio"])));
        }
        if info.kind == Kind::Ogg {
            problems.push(
                "Evolution encodes this note a second time, at 128 kbit/s: send encoding: false.".into(),
            );
        }
    }
    if request.get("quoted").is_some() {
        problems.push("Evolution ignores the quoted message of a voice note.".into());
    }
    let sent = Message {
        jid,
        form: "voice",
        info: Some(info),
        file: Some(file),
        mime_type: Some(VOICE_MIME.to_owned()),
        filename: None,
        text: None,
        problems,
        convert: Some(encoding),
    };
    Ok(deliver(&sandbox, &instance, &request, sent))
}

pub(super) async fn media(
    State(sandbox): App,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Sent {
    let request =
        read(&headers, &instance, &body, &with(&["mediatype", "mimetype", "caption", "media", "fileName"]))?;
    let form = match text_of(&request, "mediatype")?.as_deref() {
        Some("audio") => "audio",
        Some("document") => "file",
        Some(_) => {
            return Err(Refusal::rule("mediatype is not one of enum values: image,document,video,audio"));
        }
        None => return Err(Refusal::rule("requires property \"mediatype\"")),
    };
    let jid = recipient(&instance, &request)?;
    let media = text_of(&request, "media")?.unwrap_or_default();
    let filename = text_of(&request, "fileName")?;
    if form == "file" && filename.is_none() && decode(&media).is_some() {
        return Err(Refusal::new(400, json!(["For base64 the file name must be informed."])));
    }
    let file = fetch(&sandbox, &media, false).await?;
    let info = audio::describe(&file.bytes);
    let mut problems = info.faults.clone();
    // The file's name decides, whatever the request says: prepareMediaMessage.
    if form == "audio"
        && filename.as_deref().and_then(Kind::of_extension).is_some_and(|kind| kind != info.kind)
    {
        problems
            .push(format!("The file's name says something else than its bytes, which are {}.", info.short()));
    }
    let sent = Message {
        jid,
        form,
        info: Some(info),
        file: Some(file),
        mime_type: text_of(&request, "mimetype")?,
        filename,
        text: text_of(&request, "caption")?,
        problems,
        convert: None,
    };
    Ok(deliver(&sandbox, &instance, &request, sent))
}

pub(super) async fn text(
    State(sandbox): App,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Sent {
    let request = read(&headers, &instance, &body, &with(&["text"]))?;
    let text = text_of(&request, "text")?.ok_or_else(|| Refusal::rule("requires property \"text\""))?;
    let jid = recipient(&instance, &request)?;
    let sent = Message {
        jid,
        form: "text",
        info: None,
        file: None,
        mime_type: None,
        filename: None,
        text: Some(text),
        problems: Vec::new(),
        convert: None,
    };
    Ok(deliver(&sandbox, &instance, &request, sent))
}

fn with<'a>(own: &[&'a str]) -> Vec<&'a str> {
    COMMON.iter().chain(own).copied().collect()
}

fn text_of(request: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match request.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::rule(format!("{name} is not of a type(s) string"))),
    }
}

/// The chat that a number means, where the instance is connected and the number is on WhatsApp.
fn recipient(instance: &str, request: &Map<String, Value>) -> Result<String, Refusal> {
    let number = text_of(request, "number")?.ok_or_else(|| Refusal::rule("requires property \"number\""))?;
    let jid = jid(&number)
        .ok_or_else(|| Refusal::rule("voicegate sandbox: this number would reach somebody else"))?;
    if instance == CLOSED {
        return Err(Refusal::new(400, json!(["Error: Connection Closed"])));
    }
    if jid == NOBODY.replace("@c.us", "@s.whatsapp.net") {
        return Err(Refusal::nobody(&number));
    }
    Ok(jid)
}

/// `createJid`, without its guesses: 18 digits are a group there, whatever stands behind the @.
fn jid(number: &str) -> Option<String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match number.rsplit_once('@') {
        Some((user, "g.us")) => user.split('-').all(digits).then(|| number.to_owned()),
        Some((user, "s.whatsapp.net" | "lid")) => digits(user).then(|| number.to_owned()),
        Some(_) => None,
        None => {
            (digits(number) && (7..=15).contains(&number.len())).then(|| format!("{number}@s.whatsapp.net"))
        }
    }
}

struct File {
    bytes: Bytes,
    by: &'static str,
}

/// A link, or base64: everything else is refused. A file to convert is downloaded by axios, and another one by Baileys
/// while it is sent.
async fn fetch(sandbox: &Sandbox, media: &str, converts: bool) -> Result<File, Refusal> {
    let file = match Url::parse(media).ok().filter(is_url) {
        Some(url) => {
            let fetched = sandbox.inner.fetcher.get(&url, MAX_BYTES, FETCH_TIMEOUT).await;
            let fetched = fetched.map_err(|_| {
                if converts {
                    Refusal::new(500, json!(["Request failed with status code 404"]))
                } else {
                    Refusal::new(400, json!([format!("Error: Failed to fetch stream from {media}")]))
                }
            })?;
            File { bytes: fetched.bytes, by: "with a link that Evolution fetched" }
        }
        None => {
            let bytes = decode(media).ok_or_else(|| {
                Refusal::new(400, json!(["Owned media must be a url, base64, or valid file with buffer"]))
            })?;
            File { bytes: bytes.into(), by: "with the file as base64" }
        }
    };
    if file.bytes.len() > MAX_AUDIO {
        return Err(Refusal::new(400, json!(["Error: Media upload failed on all hosts"])));
    }
    Ok(file)
}

/// `isURL` of class-validator: a name without a dot is none.
fn is_url(url: &Url) -> bool {
    let named = match url.host() {
        Some(Host::Domain(name)) => name.contains('.'),
        Some(_) => true,
        None => false,
    };
    matches!(url.scheme(), "http" | "https") && named
}

struct Message {
    jid: String,
    form: &'static str,
    info: Option<AudioInfo>,
    file: Option<File>,
    mime_type: Option<String>,
    filename: Option<String>,
    text: Option<String>,
    problems: Vec<String>,
    convert: Option<bool>,
}

fn deliver(
    sandbox: &Sandbox,
    instance: &str,
    request: &Map<String, Value>,
    sent: Message,
) -> (StatusCode, Json<Value>) {
    let raw = raw_id();
    let bytes = sent.file.as_ref().map(|file| file.bytes.clone());
    let mut shown = Value::Object(request.clone());
    for field in ["audio", "media"] {
        if let Some(size) = shown[field].as_str().filter(|text| !text.starts_with("http")).map(str::len) {
            shown[field] = json!(format!("({size} characters)"));
        }
    }
    shown["instance"] = json!(instance);
    let entry = LedgerEntry {
        id: Uuid::new_v4(),
        provider: NAME,
        at: state::now(),
        conversation: sent.jid.clone(),
        to: vec![sent.jid.clone()],
        message_id: raw.clone(),
        form: sent.form,
        service: None,
        via: sent.file.as_ref().map_or("as a text", |file| file.by).to_owned(),
        filename: sent.filename.clone(),
        mime_type: sent.mime_type.clone(),
        size_bytes: bytes.as_ref().map_or(0, Bytes::len),
        sha256: bytes.as_ref().map(|bytes| hex::encode(Sha256::digest(bytes))),
        audio: sent.info.clone(),
        text: sent.text.clone(),
        problems: sent.problems.clone(),
        reply_to: None,
        convert: sent.convert,
        request: redact(&shown, &sandbox.secrets()),
        receipts: Vec::new(),
    };
    sandbox.inner.deliver(entry.clone(), bytes.clone());
    let repeats = {
        let mut state = sandbox.inner.lock();
        state.kept::<Registered>().webhooks.get(instance).is_some_and(|hook| hook["webhookBase64"] == true)
    };
    sandbox.follow(&entry, sent.jid.ends_with("@g.us"));
    let repeated = bytes.filter(|_| repeats);
    (StatusCode::CREATED, Json(message(&entry, repeated.as_ref())))
}

/// The message as `prepareMessage` makes it. An instance with `webhookBase64` has the whole file in it.
pub(super) fn message(entry: &LedgerEntry, file: Option<&Bytes>) -> Value {
    let hash = file.map_or_else(
        || {
            entry
                .sha256
                .as_ref()
                .and_then(|hash| hex::decode(hash).ok())
                .map(|hash| BASE64_STANDARD.encode(hash))
        },
        |bytes| Some(file_hash(bytes)),
    );
    let seconds = entry.audio.as_ref().and_then(|audio| audio.duration_ms).map(|ms| ms.div_ceil(1000));
    let mut content = match entry.form {
        "text" => json!({ "conversation": entry.text }),
        "file" => json!({ "documentMessage": {
            "mimetype": entry.mime_type, "fileName": entry.filename, "fileSha256": hash, "caption": entry.text } }),
        form => json!({ "audioMessage": {
            "url": "https://mmg.whatsapp.net/v/sandbox.enc", "mimetype": entry.mime_type, "fileSha256": hash,
            "fileLength": entry.size_bytes.to_string(), "seconds": seconds, "ptt": form == "voice" } }),
    };
    if let Some(bytes) = file {
        content["base64"] = json!(BASE64_STANDARD.encode(bytes));
    }
    json!({
        "key": { "remoteJid": entry.conversation, "fromMe": true, "id": entry.message_id },
        "pushName": "",
        "status": "PENDING",
        "message": content,
        "contextInfo": null,
        "messageType": if entry.form == "text" { "conversation" } else { "audioMessage" },
        "messageTimestamp": state::clock().as_second(),
        "instanceId": "00000000-0000-4000-8000-000000000000",
        "source": "web",
    })
}
