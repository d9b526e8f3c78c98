//! The files in `fixtures/<provider>/send/`, `check/`, `register/`, `callback_status/`, `look_up/` and `fetch/`: what the
//! provider answers, and what must come of it.
//!
//! ```text
//! # Where this answer comes from: a link, and when it was read.
//! @to +15550001111
//! @settings {"intake": "url"}
//!
//! ### Anything: a line of three hashes starts an exchange.
//! POST /v3/attachments
//! HTTP/1.1 200 OK
//! X-Trace-ID: 4bf92f3577b34da6
//!
//! {"attachment_id": "..."}
//! ```
//!
//! The file name up to its first dot is the expected end: `ok`, or the name of a `SendErrorKind`. Of the `@` lines,
//! all but `send` know `@settings`, `@expect.retry_after` and, for what is reported, `@expect.report`; `look_up` knows
//! `@to` and `@correlation_id` beside them, and `fetch` `@media` (the value of the reference), `@expect.audio` (if it is not
//! the body of the last answer) and `@expect.mime_type`. A path
//! without `?` leaves the query to the snapshot. `Content-Length` is added. In the whole file `{{size}}` and
//! `{{sha256}}` stand for those of the audio; in answers and in `@media` `{{base}}` for the `base_url` in use and
//! `{{elsewhere}}` for the same server by another name.

use std::{fs, path::PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use voicegate_providers::{Container, Form, Memory, SendErrorKind, SendWarning};

pub const NOTE_ID: &str = "vn_0198c5f2-7c00-7000-8000-000000000001";

#[derive(Clone, Debug)]
pub struct Fixture {
    pub name: String,
    /// `None`: the note is accepted.
    pub expected: Option<SendErrorKind>,
    pub settings: Map<String, Value>,
    pub to: String,
    /// The rung of the ladder that is tried.
    pub form: Form,
    /// The text of a note in the form `text`.
    pub text: String,
    pub caption: Option<String>,
    pub convert: bool,
    pub reply_to: Option<String>,
    /// The names for a look-up.
    pub correlation_ids: Vec<String>,
    /// The audio of the fixture, if it is not that of the connection's default profile.
    pub container: Option<Container>,
    /// Lets upload URLs lead to this machine, for [`Exchange`]s at `{{elsewhere}}`.
    pub allow_loopback: bool,
    pub memory: Memory,
    /// The form that the recipient sees, if it is not the form that was tried.
    pub form_after: Option<Form>,
    pub retry_after: Option<f64>,
    /// The scope of a limit, and the end of an error's finding.
    pub scope: Option<Value>,
    pub until: Option<Value>,
    pub warnings: Vec<SendWarning>,
    /// The limit that a success announces: a time and what it is about, `2026-01-01T00:00:03.5Z recipient`.
    pub not_before: Option<String>,
    /// The stated size of the audio in bytes, if it is not that of the file.
    pub size: Option<u64>,
    /// The message's id, where it does not stand in the answer as it is.
    pub message_id: Option<String>,
    /// By which the provider recognises a repetition.
    pub idempotency_key: Option<String>,
    /// Not looked at where absent; JSON `null` means that nothing may be remembered.
    pub recipient_after: Option<Value>,
    pub note_after: Option<Value>,
    pub media_after: Option<Value>,
    /// The line that a check reports.
    pub report: Option<String>,
    /// The reference to the audio of a received note, as JSON.
    pub media: String,
    /// The audio that is fetched, if it is not the body of the last answer.
    pub audio_after: Option<String>,
    pub mime_type_after: Option<String>,
    pub script: Vec<Exchange>,
}

/// One request that must come, and its answer.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub method: String,
    pub target: String,
    pub answer: Answer,
}

#[derive(Clone, Debug)]
pub enum Answer {
    /// Status line, header lines and body.
    Whole { head: Vec<String>, body: String },
    /// The provider never answers.
    Stall,
    /// The connection is closed without an answer.
    Close,
    /// The answer announces more than it has.
    Broken,
    /// A body without an end.
    Endless,
}

impl Answer {
    pub fn new(status: &str, body: &str) -> Self {
        let head = vec![format!("HTTP/1.1 {status}"), "Content-Type: application/json".to_owned()];
        Self::Whole { head, body: body.to_owned() }
    }

    pub fn body(&self) -> &str {
        if let Self::Whole { body, .. } = self { body } else { "" }
    }
}

pub fn folder(provider: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(provider)
}

pub fn audio_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/audio.bin")
}

pub fn audio() -> Vec<u8> {
    fs::read(audio_path()).expect("fixtures/audio.bin")
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Loads every fixture of a provider in the folder `what`, by name. An adapter without fixtures is untested.
pub fn load_all(provider: &str, what: &str) -> Vec<Fixture> {
    let Ok(entries) = fs::read_dir(folder(provider).join(what)) else { return Vec::new() };
    let mut fixtures: Vec<Fixture> = entries
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "http"))
        .map(|path| {
            let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("a fixture in UTF-8");
            parse(&name, &text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
        })
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    fixtures
}

pub fn parse(name: &str, text: &str) -> Result<Fixture, String> {
    let audio = audio();
    let text = text.replace("{{size}}", &audio.len().to_string()).replace("{{sha256}}", &sha256(&audio));
    let mut parts = text.split("\n###");
    let mut fixture = Fixture {
        name: name.to_owned(),
        expected: expected(name)?,
        settings: Map::new(),
        to: "+15550001111".to_owned(),
        form: Form::Voice,
        text: "Hello, this is what the note says.".to_owned(),
        caption: None,
        convert: false,
        reply_to: None,
        correlation_ids: Vec::new(),
        container: None,
        allow_loopback: false,
        memory: Memory::default(),
        form_after: None,
        retry_after: None,
        scope: None,
        until: None,
        warnings: Vec::new(),
        not_before: None,
        size: None,
        message_id: None,
        idempotency_key: None,
        recipient_after: None,
        note_after: None,
        media_after: None,
        report: None,
        media: "null".to_owned(),
        audio_after: None,
        mime_type_after: None,
        script: Vec::new(),
    };
    let front = parts.next().unwrap_or_default();
    if !front.lines().any(|line| line.starts_with("# ") && line.contains("http")) {
        return Err("the first lines must name the source of the answers, with a link".to_owned());
    }
    for line in front.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        directive(&mut fixture, key, value.trim()).map_err(|why| format!("{line}: {why}"))?;
    }
    fixture.script = parts.map(exchange).collect::<Result<_, _>>()?;
    Ok(fixture)
}

fn expected(name: &str) -> Result<Option<SendErrorKind>, String> {
    let kind = name.split('.').next().unwrap_or_default();
    if kind == "ok" {
        return Ok(None);
    }
    serde_json::from_value(kind.into()).map(Some).map_err(|_| format!("{kind} is no SendErrorKind"))
}

fn directive(fixture: &mut Fixture, key: &str, value: &str) -> Result<(), serde_json::Error> {
    let text = || Value::from(value);
    match key {
        "@settings" => fixture.settings = serde_json::from_str(value)?,
        "@to" => fixture.to = value.to_owned(),
        "@form" => fixture.form = serde_json::from_value(text())?,
        "@text" => fixture.text = value.to_owned(),
        "@caption" => fixture.caption = Some(value.to_owned()),
        "@convert" => fixture.convert = true,
        "@reply_to" => fixture.reply_to = Some(value.to_owned()),
        "@correlation_id" => fixture.correlation_ids.push(value.to_owned()),
        "@audio" => fixture.container = Some(serde_json::from_value(text())?),
        "@allow_loopback" => fixture.allow_loopback = true,
        "@memory.recipient" => fixture.memory.recipient = Some(serde_json::from_str(value)?),
        "@memory.note" => fixture.memory.note = Some(serde_json::from_str(value)?),
        "@memory.media" => fixture.memory.media = Some(serde_json::from_str(value)?),
        "@size" => fixture.size = Some(serde_json::from_str(value)?),
        "@expect.not_before" => fixture.not_before = Some(value.to_owned()),
        "@expect.form" => fixture.form_after = Some(serde_json::from_value(text())?),
        "@expect.scope" => fixture.scope = Some(text()),
        "@expect.until" => fixture.until = Some(text()),
        "@expect.warning" => fixture.warnings.push(serde_json::from_value(text())?),
        "@expect.id" => fixture.message_id = Some(value.to_owned()),
        "@expect.idempotency_key" => fixture.idempotency_key = Some(value.to_owned()),
        "@expect.retry_after" => fixture.retry_after = Some(serde_json::from_str(value)?),
        "@expect.recipient" => fixture.recipient_after = Some(serde_json::from_str(value)?),
        "@expect.note" => fixture.note_after = Some(serde_json::from_str(value)?),
        "@expect.media" => fixture.media_after = Some(serde_json::from_str(value)?),
        "@media" => {
            serde_json::from_str::<Value>(value)?;
            fixture.media = value.to_owned();
        }
        "@expect.audio" => fixture.audio_after = Some(value.to_owned()),
        "@expect.mime_type" => fixture.mime_type_after = Some(value.to_owned()),
        "@expect.report" => fixture.report = Some(value.to_owned()),
        _ => return Err(serde::de::Error::custom("no such directive")),
    }
    Ok(())
}

fn exchange(text: &str) -> Result<Exchange, String> {
    // The rest of the line of hashes is a remark.
    let text = text.split_once('\n').map_or("", |(_, rest)| rest);
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut head = head.lines().map(str::to_owned);
    let request = head.next().unwrap_or_default();
    let (method, target) = request.split_once(' ').ok_or(format!("{request:?} is no METHOD and /path"))?;
    let answer = Answer::Whole { head: head.collect(), body: body.trim_end().to_owned() };
    Ok(Exchange { method: method.to_owned(), target: target.to_owned(), answer })
}
